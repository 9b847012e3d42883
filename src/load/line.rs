//! One connection of the generator: a socket that never blocks, and the caller that speaks on it.
//!
//! The thread's epoll says when there is something to read; one read takes it, behind what the last
//! one left of a frame. Output is written once a turn. Absent on purpose: dialling again, which is
//! the affair of whoever knows what was under way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::limits::REQUEST_BYTES_MAX;
use crate::wire::http2::Caller;

/// A connection and its place in the thread's epoll.
#[derive(Debug)]
pub struct Line {
    socket: TcpStream,
    /// What speaks on it.
    pub caller: Caller,
    /// What the last read left of a frame.
    tail: Vec<u8>,
    /// The socket took less than there was.
    is_clogged: bool,
    /// Numbers of its paths, in the order in which they were given.
    pub paths: Vec<usize>,
    /// Octets in and out.
    pub sent: u64,
    /// Octets in.
    pub received: u64,
}

/// The octets that one read takes: what a server answers to hundreds of calls.
pub const READ_BYTES: usize = 256 << 10;

/// Answers may be as large as requests, and the envelope comes on top.
const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + 1024;

impl Line {
    /// Connects to `address` and says hello; `number` is what epoll will call it.
    ///
    /// # Errors
    /// What the system says.
    pub fn dial(
        address: SocketAddr,
        patience: Duration,
        paths: &[&str],
        epoll: &OwnedFd,
        number: u64,
    ) -> io::Result<Line> {
        let socket = TcpStream::connect_timeout(&address, patience)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number);
        epoll::add(epoll, &socket, data, epoll::EventFlags::IN)?;
        let mut caller = Caller::new(&address.to_string(), MESSAGE_BYTES_MAX, number);
        let paths = paths.iter().map(|path| caller.path(path)).collect();
        let (tail, is_clogged) = (Vec::new(), false);
        Ok(Line { socket, caller, tail, is_clogged, paths, sent: 0, received: 0 })
    }

    /// Writes what there is, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, epoll: &OwnedFd, number: u64) -> io::Result<()> {
        while !self.caller.output().is_empty() {
            match self.socket.write(self.caller.output()) {
                Ok(octets) => {
                    self.sent += octets as u64;
                    self.caller.wrote(octets);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.clog(true, epoll, number);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.clog(false, epoll, number)
    }

    /// Whether the socket does not keep up, so that beginning more would only fill memory.
    #[must_use]
    pub const fn is_clogged(&self) -> bool {
        self.is_clogged
    }

    /// Reads once into `buffer`, which is given back with what is there to poll; behind what
    /// `keep` is told, nothing is lost.
    ///
    /// # Errors
    /// The connection is broken, or ended by the other side.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let kept = self.tail.len();
        assert!(kept < buffer.len(), "{kept} octets of one frame");
        buffer[..kept].copy_from_slice(&self.tail);
        loop {
            match self.socket.read(&mut buffer[kept..]) {
                Ok(0) => {
                    return Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        "the server closed the connection",
                    ));
                }
                Ok(octets) => {
                    self.received += octets as u64;
                    return Ok(&buffer[..kept + octets]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(&buffer[..kept]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps what `poll` did not take.
    pub fn keep(&mut self, rest: &[u8]) {
        self.tail.clear();
        self.tail.extend_from_slice(rest);
    }

    fn clog(&mut self, clogged: bool, epoll: &OwnedFd, number: u64) -> io::Result<()> {
        if self.is_clogged == clogged {
            return Ok(());
        }
        self.is_clogged = clogged;
        let out = if clogged { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::modify(epoll, &self.socket, data, epoll::EventFlags::IN | out)?)
    }
}
