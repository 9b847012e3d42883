//! Sockets: one read buffer a core, one write a connection and turn.
//!
//! Reads go through the executor's readiness; a write is tried at once with plain `send`, and only
//! what the kernel did not take waits for readiness. A socket can leave its core: its descriptor is
//! duplicated, the executor's side of it dropped, and another executor takes it up. Absent on
//! purpose: protocols.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use rustix::net::{self, AddressFamily, SendFlags, SocketType, sockopt};

/// A connected socket on its core.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Takes up a socket on this core's executor.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Socket {
        // SAFETY: the descriptor is owned and handed over whole; the stream closes it.
        #[allow(unsafe_code)]
        let stream = unsafe { TcpStream::from_raw_fd(fd.into_raw_fd()) };
        Socket { stream }
    }

    /// A socket that the executor has accepted.
    #[must_use]
    pub fn accepted(stream: TcpStream) -> Socket {
        // Answers are written whole and at once; Nagle would hold the second of two small ones
        // back. A peer that is gone already shows at the first read.
        let _ = stream.set_nodelay(true);
        Socket { stream }
    }

    /// A connection with a peer. What is not acknowledged for some seconds breaks it, and so does
    /// silence of the kernel there while nothing is said, so that a host that vanished does not
    /// look like one that is slow, to either side.
    #[must_use]
    pub fn linked(stream: TcpStream) -> Socket {
        let socket = Socket::accepted(stream);
        let fd = socket.fd();
        let _ = sockopt::set_tcp_user_timeout(fd, PEER_SILENCE_MS);
        let _ = sockopt::set_socket_keepalive(fd, true);
        let _ = sockopt::set_tcp_keepidle(fd, PEER_PROBE);
        let _ = sockopt::set_tcp_keepintvl(fd, PEER_PROBE);
        socket
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        let address = net::getpeername(self.fd()).ok()??;
        SocketAddr::try_from(address).ok()
    }

    /// Gives the socket up so that another core can adopt it.
    pub fn release(self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.fd(), 0)?)
    }

    /// Reads what there is.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }

    /// Writes, and wakes the task when the kernel takes more.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// Writes what the kernel takes now.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match net::send(self.fd(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(written) => Ok(written),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Says that nothing more will be written. The peer still may write, and is read, or the kernel
    /// would answer its octets with a reset that destroys what it has not read yet.
    pub fn finish(&self) {
        let _ = net::shutdown(self.fd(), net::Shutdown::Write);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor and outlives the borrow.
        #[allow(unsafe_code)]
        unsafe {
            BorrowedFd::borrow_raw(self.stream.as_raw_fd())
        }
    }
}

/// An address taken, not yet listening; several of one address share it when `shared`.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = net::SocketFlags::CLOEXEC;
    let fd = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if shared {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    if address.is_ipv6() && address.ip().is_unspecified() {
        // All interfaces means both families, whatever the host's default is.
        sockopt::set_ipv6_v6only(&fd, false)?;
    }
    net::bind(&fd, &address)?;
    Ok(fd)
}

/// The address that a socket has.
pub fn local_address(fd: &OwnedFd) -> io::Result<SocketAddr> {
    let address = net::getsockname(fd)?;
    SocketAddr::try_from(address).map_err(io::Error::from)
}

/// From now on the kernel completes connections to an address that was taken.
pub fn listen(fd: &OwnedFd) -> io::Result<()> {
    Ok(net::listen(fd, BACKLOG)?)
}

/// A listening socket on this core's executor.
pub fn listener(fd: OwnedFd) -> TcpListener {
    // SAFETY: the descriptor is owned and handed over whole; the listener closes it.
    #[allow(unsafe_code)]
    unsafe {
        TcpListener::from_raw_fd(fd.into_raw_fd())
    }
}

/// How long a peer may leave what was sent unacknowledged.
const PEER_SILENCE_MS: u32 = 5000;

/// Between questions of the kernel whether the peer's is there, while nothing is said.
const PEER_PROBE: std::time::Duration = std::time::Duration::from_secs(1);

/// Connections that the kernel completes before they are accepted. A fleet that reconnects at once
/// finds room; the kernel cuts it to its own bound.
const BACKLOG: i32 = 4096;
