//! Connections to nodes, dialled when they are needed: gRPC over the h2 crate.
//!
//! One connection an address, for all partitions. A call is tried once here; who tries again, where
//! and with which number, is the affair of `way.rs`. A connection that failed is dropped and the
//! next call dials anew. Absent on purpose: TLS (the protocol has none), compression, and retries.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method as Verb, Request, StatusCode, header};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Fault;

/// A gRPC method: its path, and what goes in and comes out.
pub struct Method<I, O> {
    /// `/package.Service/Method`.
    pub path: &'static str,
    shapes: PhantomData<fn(I) -> O>,
}

/// The addresses of a cluster and the connections to them; clones share them.
#[derive(Clone)]
pub struct Network {
    nodes: Arc<[Node]>,
}

/// Messages of one call that answers with many. Its end shows at the first `next`, for a node may
/// have nothing to say for as long as nothing happens.
pub struct Stream<O> {
    phase: Phase,
    held: BytesMut,
    shape: PhantomData<fn() -> O>,
}

enum Phase {
    /// The request is on its way.
    Asked(h2::client::ResponseFuture),
    /// Messages come.
    Open(h2::RecvStream),
    /// It said its last.
    Ended,
}

struct Node {
    endpoint: String,
    line: Mutex<Line>,
    // Only one dials at a time, or many calls would open many connections.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Line {
    open: Option<Open>,
    /// Counts connections, so that a call's failure drops the connection it was made on and no
    /// other.
    generation: u64,
}

struct Open {
    sender: SendRequest<Bytes>,
    /// The task that moves its octets; all calls on it fail when it ends.
    task: AbortHandle,
}

impl<I, O> Method<I, O> {
    /// The method at `path`.
    #[must_use]
    pub const fn at(path: &'static str) -> Method<I, O> {
        Method { path, shapes: PhantomData }
    }
}

impl Network {
    /// The nodes at `endpoints`, each `HOST:PORT`; nothing is dialled yet.
    #[must_use]
    pub fn of(endpoints: &[String]) -> Network {
        assert!(!endpoints.is_empty(), "a client has somebody to ask");
        let node = |endpoint: &String| Node {
            endpoint: endpoint.clone(),
            line: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        };
        Network { nodes: endpoints.iter().map(node).collect() }
    }

    /// How many addresses there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// One message to the node `at`, one message back.
    ///
    /// # Errors
    /// Whatever the node or the way to it says; see `Fault::is_passing`.
    pub async fn unary<I: Message, O: Message + Default>(
        &self,
        at: usize,
        method: &Method<I, O>,
        request: &I,
    ) -> Result<O, Fault> {
        let mut stream = self.stream(at, method, request).await?;
        match stream.next().await? {
            Some(reply) => Ok(reply),
            None => Err(Fault::Protocol("an answer without a message")),
        }
    }

    /// One message to the node `at`, many back.
    ///
    /// # Errors
    /// As `unary`.
    pub async fn stream<I: Message, O: Message + Default>(
        &self,
        at: usize,
        method: &Method<I, O>,
        request: &I,
    ) -> Result<Stream<O>, Fault> {
        let node = &self.nodes[at];
        let (sender, generation) = node.connected().await?;
        let opened = open(sender, method.path, request).await;
        if matches!(opened, Err(Fault::Unreachable { .. })) {
            node.hang_up(generation);
        }
        opened
    }

    /// Gives up the connection to the node `at`, which says nothing any more: all calls on it fail,
    /// also those that would wait for ever.
    pub fn give_up(&self, at: usize) {
        let node = &self.nodes[at];
        let generation = node.line().generation;
        node.hang_up(generation);
    }
}

impl Node {
    async fn connected(&self) -> Result<(SendRequest<Bytes>, u64), Fault> {
        let _one = self.dialling.lock().await;
        if let Some(found) = self.current() {
            return Ok(found);
        }
        let (sender, task) = dial(&self.endpoint).await?;
        let mut line = self.line();
        line.generation += 1;
        line.open = Some(Open { sender: sender.clone(), task });
        Ok((sender, line.generation))
    }

    fn current(&self) -> Option<(SendRequest<Bytes>, u64)> {
        let line = self.line();
        line.open.as_ref().map(|open| (open.sender.clone(), line.generation))
    }

    fn hang_up(&self, generation: u64) {
        let mut line = self.line();
        if line.generation == generation
            && let Some(open) = line.open.take()
        {
            open.task.abort();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Message + Default> Stream<O> {
    /// The next message; `None` at the regular end.
    ///
    /// # Errors
    /// How the call ended otherwise.
    pub async fn next(&mut self) -> Result<Option<O>, Fault> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            self.begun().await?;
            match &mut self.phase {
                Phase::Asked(_) | Phase::Ended => return Ok(None),
                Phase::Open(body) => match body.data().await {
                    Some(data) => {
                        let data = data.map_err(|error| broken(&error))?;
                        let room = body.flow_control().release_capacity(data.len());
                        room.map_err(|error| broken(&error))?;
                        self.held.extend_from_slice(&data);
                    }
                    None => {
                        let trailers = body.trailers().await;
                        self.phase = Phase::Ended;
                        let trailers = trailers.map_err(|error| broken(&error))?;
                        let status = status_of(&trailers.ok_or(NO_STATUS)?)?;
                        return status.map_or(Ok(None), Err);
                    }
                },
            }
        }
    }

    /// Waits until the answer begins, if it has not.
    ///
    /// # Errors
    /// How the call ended instead.
    pub async fn begun(&mut self) -> Result<(), Fault> {
        let Phase::Asked(response) = &mut self.phase else { return Ok(()) };
        let answered = response.await;
        self.phase = Phase::Ended;
        let (head, body) = answered.map_err(|error| broken(&error))?.into_parts();
        if head.status != StatusCode::OK {
            return Err(NOT_GRPC);
        }
        // An answer without messages has its status where others have their head.
        match status_of(&head.headers) {
            Ok(Some(fault)) => return Err(fault),
            Ok(None) => {}
            Err(_) => self.phase = Phase::Open(body),
        }
        Ok(())
    }

    fn take_message(&mut self) -> Result<Option<O>, Fault> {
        if self.held.len() < PREFIX_BYTES {
            return Ok(None);
        }
        if self.held[0] != 0 {
            return Err(Fault::Protocol("a compressed message that nobody asked for"));
        }
        let length = (&self.held[1..PREFIX_BYTES]).get_u32() as usize;
        if self.held.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.held.advance(PREFIX_BYTES);
        let message = O::decode(self.held.split_to(length));
        message.map(Some).map_err(|_| Fault::Protocol("a message that cannot be read"))
    }
}

/// Compressed or not, and the length.
const PREFIX_BYTES: usize = 5;
/// A node that does not take a connection in this time is not there.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// Room for what the node sends before we say that we took it.
const WINDOW_BYTES: u32 = 4 << 20;

async fn dial(endpoint: &str) -> Result<(SendRequest<Bytes>, AbortHandle), Fault> {
    let unreachable = |reason: String| Fault::Unreachable { endpoint: endpoint.to_owned(), reason };
    let socket = match timeout(DIAL_MAX, TcpStream::connect(endpoint)).await {
        Ok(connected) => connected.map_err(|error| unreachable(reason_of(&error)))?,
        Err(_) => return Err(unreachable("no answer".to_owned())),
    };
    socket.set_nodelay(true).map_err(|error| unreachable(reason_of(&error)))?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let handshake = timeout(DIAL_MAX, builder.enable_push(false).handshake(socket)).await;
    let (sender, connection) = match handshake {
        Ok(shaken) => shaken.map_err(|error| unreachable(error.to_string()))?,
        Err(_) => return Err(unreachable("it does not speak HTTP/2".to_owned())),
    };
    // The calls on it learn of its end by themselves.
    let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    Ok((sender, task))
}

async fn open<I: Message, O>(
    sender: SendRequest<Bytes>,
    path: &'static str,
    request: &I,
) -> Result<Stream<O>, Fault> {
    let head = Request::builder()
        .method(Verb::POST)
        .uri(format!("http://ringraft{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
        .map_err(|_| Fault::Protocol("a request that HTTP does not allow"))?;
    let mut sender = sender.ready().await.map_err(|error| broken(&error))?;
    let (response, mut body) = sender.send_request(head, false).map_err(|error| broken(&error))?;
    body.send_data(framed(request), true).map_err(|error| broken(&error))?;
    Ok(Stream { phase: Phase::Asked(response), held: BytesMut::new(), shape: PhantomData })
}

const NO_STATUS: Fault = Fault::Protocol("an answer without a status");
const NOT_GRPC: Fault = Fault::Protocol("an answer that is not gRPC: is this a ringraft node?");

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode(&mut bytes).expect("a buffer that grows takes every message");
    bytes.freeze()
}

/// What the trailers say: `Ok(None)` is success, an `Err` means that they say nothing.
fn status_of(trailers: &HeaderMap) -> Result<Option<Fault>, Fault> {
    let text = |name: &str| trailers.get(name).map(|value| value.as_bytes());
    let code = text("grpc-status").ok_or(NO_STATUS)?;
    let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok());
    let code: u32 = code.ok_or(Fault::Protocol("a status that is no number"))?;
    let message = text("grpc-message").map(unescaped).unwrap_or_default();
    Ok((code != 0).then_some(Fault::Status { code, message }))
}

/// Undoes the percent signs of `grpc-message`.
fn unescaped(raw: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let pair = raw.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (raw[at], byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                at += 3;
            }
            (plain, _) => {
                bytes.push(plain);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Anything that HTTP/2 says went wrong with a call; it may have been executed or not, and is asked
/// again with the same number.
fn broken(error: &h2::Error) -> Fault {
    let reason = match error.reason() {
        Some(h2::Reason::NO_ERROR) => "the node closed it".to_owned(),
        _ => error.to_string(),
    };
    Fault::Unreachable { endpoint: String::new(), reason }
}

fn reason_of(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_undone_and_stray_ones_kept() {
        assert_eq!(unescaped(b"key 'a%20b' 100%"), "key 'a b' 100%");
        assert_eq!(unescaped(b"%C3%A9%zz"), "\u{e9}%zz");
    }

    #[test]
    fn trailers_without_a_status_are_no_success() {
        let mut trailers = HeaderMap::new();
        assert!(status_of(&trailers).is_err());
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        assert!(matches!(status_of(&trailers), Ok(None)));
        trailers.insert("grpc-status", "14".parse().expect("a value"));
        assert!(matches!(status_of(&trailers), Ok(Some(Fault::Status { code: 14, .. }))));
    }
}
