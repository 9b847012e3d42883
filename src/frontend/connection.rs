//! One socket and its HTTP/2: requests to tickets; replies and events out; callers who go.
//!
//! One task a connection reads, and writes only what the kernel would not take at once; the core
//! writes after each turn, so all answers of a turn leave in one call. Neither holds the link
//! across an await.
//!
//! ```text
//!   open ── peer ends, socket breaks ─────────────► gone      callers are reported
//!    │ └── first request belongs elsewhere ───────► passage   nothing is lost, nothing is said
//!    └──── HTTP/2 has ended, all is written ──────► lingering: no more is written, what comes is
//!          read and dropped for a moment, or the kernel's reset would destroy our last words
//! ```

mod local;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::FutureExt;

use crate::edge::dialect::Dialect;
use crate::edge::method::What;
use crate::edge::response::Failure;
use crate::edge::{method, request, response};
use crate::id::{ShardId, Ticket};
use crate::limits;
use crate::mesh::Parcel;
use crate::partition::reply::{Event as Happened, Output, Refusal};
use crate::runtime::tcp::Socket;
use crate::wire::grpc::Status;
use crate::wire::http2::{Event, Key, Message, Meta, Route};

use super::pin::{self, Http, Passage};
use super::{Caller, Front, Peer, Shared};
use local::Asked;

/// A connection's state, shared by its task and its core's front.
#[derive(Debug)]
pub struct Link {
    socket: Option<Socket>,
    http: Http,
    dialect: Dialect,
    /// Octets read and not taken: at most one frame.
    carry: Vec<u8>,
    /// Open calls by slot of their key.
    calls: Vec<Option<(Key, Ticket)>>,
    at: u32,
    /// It is in the list of those to be written.
    pub(super) dirty: bool,
    /// Its task waits until the kernel takes more; nobody else writes then.
    blocked: bool,
    /// Its task does not read until the output has room.
    stalled: bool,
    /// Since when it only waits for its last octets to leave, in milliseconds.
    closing_ms: Option<u64>,
    /// The socket failed or the peer is gone: its task ends it.
    broken: bool,
    /// Its first request has been seen: it stays on this core.
    settled: bool,
    /// Its task, when it waits.
    task: Option<Waker>,
}

/// Starts the task of a connection that was accepted.
pub fn start(front: &Shared, socket: Socket, dialect: Dialect) {
    let peer = {
        let front = &mut front.borrow_mut();
        // The last reading may be as old as the last connection.
        front.now = front.clock.now();
        let seed = front.prng.next_u64();
        let http = Http::new(ROUTER, front.settings.http2.clone(), seed, front.now_ms());
        enter(front, Link::new(socket, http, dialect, Vec::new()))
    };
    begin(front, &peer);
}

/// Goes on with a connection that comes from another core.
pub fn arrive(front: &Shared, passage: Passage, socket: Socket) {
    let peer = {
        let front = &mut front.borrow_mut();
        front.now = front.clock.now();
        let Passage { http, carry, dialect, first } = passage;
        let mut link = Link::new(socket, http, dialect, Vec::new());
        link.settled = true;
        let peer = enter(front, link);
        let (key, meta, message) = first;
        let mut link = peer.borrow_mut();
        link.call(front, key, meta, &message);
        link.http.recycle(key, Message::Owned(message));
        link.take(front, carry);
        drop(link);
        peer
    };
    begin(front, &peer);
}

fn enter(front: &mut Front, link: Link) -> Peer {
    let peer = Rc::new(RefCell::new(link));
    let at = front.join(&peer);
    peer.borrow_mut().at = at;
    front.touch(&peer);
    peer
}

/// The new task runs at once, up to its first wait: nothing may be borrowed here.
fn begin(front: &Shared, peer: &Peer) {
    glommio::spawn_local(run(front.clone(), peer.clone())).detach();
}

const ROUTER: fn(&[u8]) -> Option<Route> = pin::route;

async fn run(front: Shared, peer: Peer) {
    let end = poll_fn(|context| peer.borrow_mut().poll(&front, &peer, context)).await;
    let socket = peer.borrow_mut().socket.take();
    let Some(socket) = socket else { unreachable!("only its own task takes a socket away") };
    match end {
        End::Gone => peer.borrow_mut().leave(&mut front.borrow_mut()),
        End::Said => {
            // It still counts while it lingers, or lingering would have no bound.
            linger(socket).await;
            peer.borrow_mut().leave(&mut front.borrow_mut());
        }
        End::Elsewhere(to, first) => pass(&front, &peer, socket, to, first),
    }
}

/// How a connection's task ends.
enum End {
    Gone,
    Said,
    Elsewhere(ShardId, (Key, Meta, Vec<u8>)),
}

/// Sends a connection to the core it belongs to.
fn pass(front: &Shared, peer: &Peer, socket: Socket, to: ShardId, first: (Key, Meta, Vec<u8>)) {
    let mut link = peer.borrow_mut();
    let front = &mut front.borrow_mut();
    match socket.release() {
        Ok(fd) => {
            let dialect = link.dialect;
            let carry = std::mem::take(&mut link.carry);
            // The link that stays behind is empty and ends here.
            let empty = Http::new(ROUTER, front.settings.http2.clone(), 0, 0);
            let http = std::mem::replace(&mut link.http, empty);
            let passage = Box::new(Passage { http, carry, dialect, first });
            front.leaving.push((to, Parcel::Connection(passage, fd)));
            front.ring();
        }
        Err(error) => tracing::warn!(%error, "a connection could not be passed on"),
    }
    link.leave(front);
}

async fn linger(mut socket: Socket) {
    socket.finish();
    let mut sink = vec![0; 4096];
    let drained = poll_fn(|context| {
        for _ in 0..limits::CONNECTION_READS_MAX {
            match socket.poll_read(context, &mut sink) {
                Poll::Ready(Ok(octets)) if octets > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    drained.or(async { glommio::timer::sleep(LINGER).await }).await;
}

const LINGER: Duration = Duration::from_secs(1);

/// How long a peer may leave our last octets unread.
const CLOSING_MS: u64 = 5_000;

thread_local! {
    /// One read buffer a core: what a connection leaves of it is carried in the link.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::READ_BUFFER_BYTES]);
}

impl Link {
    fn new(socket: Socket, http: Http, dialect: Dialect, carry: Vec<u8>) -> Link {
        Link {
            socket: Some(socket),
            http,
            dialect,
            carry,
            calls: Vec::new(),
            at: u32::MAX,
            dirty: false,
            blocked: false,
            stalled: false,
            closing_ms: None,
            broken: false,
            settled: false,
            task: None,
        }
    }

    /// Wakes the task.
    pub(super) fn wake(&mut self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }

    /// Stops or goes on opening windows.
    pub(super) fn pause(&mut self, paused: bool) {
        if paused { self.http.pause() } else { self.http.resume() }
    }

    /// Begins the graceful end.
    pub(super) fn shutdown(&mut self, front: &mut Front) {
        self.http.set_now(front.now_ms());
        self.http.shutdown();
    }

    /// Does what is due on the connection; whether there is something to write.
    pub(super) fn tick(&mut self, front: &mut Front) -> bool {
        let now_ms = front.now_ms();
        self.http.tick(now_ms);
        self.events(front);
        if self.http.closing() {
            let since_ms = *self.closing_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(since_ms) > CLOSING_MS {
                self.broken = true;
                self.wake();
            }
        }
        !self.http.output().is_empty() || self.http.closing()
    }

    /// Writes what the kernel takes now; the task does the rest.
    pub(super) fn write(&mut self, front: &mut Front) {
        self.dirty = false;
        let Some(socket) = &self.socket else { return };
        if self.blocked || self.broken {
            return;
        }
        while !self.http.output().is_empty() {
            match socket.send(self.http.output()) {
                Ok(0) => {
                    self.blocked = true;
                    break;
                }
                Ok(octets) => self.http.wrote(octets),
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        self.events(front);
        let reads_on = self.stalled && self.http.wants_input();
        if self.blocked || self.broken || self.http.closing() || reads_on {
            self.wake();
        }
    }

    /// One output for a caller. True: the caller reads too slowly and its stream has been ended.
    pub(super) fn output(
        &mut self,
        caller: &Caller,
        output: &Output,
        bytes: &[u8],
        last: bool,
    ) -> bool {
        let encode = |into: &mut Vec<u8>| {
            response::compose(caller.method, caller.dialect, output, bytes, into);
        };
        if !caller.method.streaming {
            self.http.unary_with(caller.key, encode);
            return false;
        }
        let held = self.http.message_with(caller.key, encode);
        if held > limits::STREAM_HELD_BYTES_MAX {
            self.http.fail(caller.key, Status::Unavailable, "the reader is too slow");
            return true;
        }
        if last {
            self.http.finish(caller.key, Status::Ok, "");
        }
        false
    }

    /// One event for a watcher. True as for `output`.
    pub(super) fn event(&mut self, caller: &Caller, event: &Happened) -> bool {
        let mut bytes = Vec::new();
        if !response::event(caller.method, caller.dialect, event, &mut bytes) {
            return false;
        }
        if self.http.message(caller.key, &bytes) > limits::STREAM_HELD_BYTES_MAX {
            self.http.fail(caller.key, Status::Unavailable, "the reader is too slow");
            return true;
        }
        false
    }

    /// The answer has begun, be there events or not.
    pub(super) fn begin(&mut self, key: Key) {
        self.http.head(key);
    }

    /// Ends a call; `None` is gRPC's OK.
    pub(super) fn finish(&mut self, key: Key, failure: Option<&Failure>) {
        match failure {
            Some(failure) => self.http.finish(key, failure.status, &failure.text),
            None => self.http.finish(key, Status::Ok, ""),
        }
    }

    /// The call has ended here.
    pub(super) fn forget(&mut self, key: Key) -> Option<Ticket> {
        let place = self.calls.get_mut(key.slot())?;
        let (_, ticket) = place.take_if(|(known, _)| *known == key)?;
        Some(ticket)
    }

    fn poll(&mut self, front: &Shared, peer: &Peer, context: &mut Context<'_>) -> Poll<End> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            self.task = Some(context.waker().clone());
        }
        for _ in 0..limits::CONNECTION_READS_MAX {
            if self.blocked && !self.broken && self.poll_write(front, context).is_pending() {
                return Poll::Pending;
            }
            if self.broken {
                return Poll::Ready(End::Gone);
            }
            if self.http.is_done() {
                return Poll::Ready(End::Said);
            }
            self.stalled = !self.http.wants_input();
            if self.http.closing() || self.stalled {
                // The core writes, and wakes this task when that made room.
                front.borrow_mut().touch_from(self, peer);
                return Poll::Pending;
            }
            let front = &mut front.borrow_mut();
            if front.is_full() {
                front.stalled.push(peer.clone());
                return Poll::Pending;
            }
            match self.poll_read(front, context) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(end))) => return Poll::Ready(end),
                Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                Poll::Pending => return Poll::Pending,
            }
            if !self.http.output().is_empty() {
                front.touch_from(self, peer);
            }
        }
        // Others are to have their turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes until all has left or the kernel takes no more.
    fn poll_write(&mut self, front: &Shared, context: &mut Context<'_>) -> Poll<()> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(()) };
        while !self.http.output().is_empty() && !self.broken {
            match socket.poll_write(context, self.http.output()) {
                Poll::Ready(Ok(octets)) if octets > 0 => self.http.wrote(octets),
                Poll::Ready(_) => self.broken = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.blocked = false;
        self.events(&mut front.borrow_mut());
        Poll::Ready(())
    }

    /// One read, all that is whole in it.
    fn poll_read(
        &mut self,
        front: &mut Front,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<End>>> {
        BUFFER.with_borrow_mut(|buffer| {
            let kept = self.carry.len();
            buffer[..kept].copy_from_slice(&self.carry);
            let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(Some(End::Gone))) };
            let octets = match socket.poll_read(context, &mut buffer[kept..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Some(End::Gone))),
                Poll::Ready(Ok(octets)) => octets,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            };
            let input = &buffer[..kept + octets];
            let (taken, elsewhere) = self.requests(front, input);
            self.carry.clear();
            self.carry.extend_from_slice(&input[taken..]);
            Poll::Ready(Ok(elsewhere.map(|(to, first)| End::Elsewhere(to, first))))
        })
    }

    /// Takes what another core had read.
    fn take(&mut self, front: &mut Front, input: Vec<u8>) {
        let (taken, elsewhere) = self.requests(front, &input);
        assert!(elsewhere.is_none(), "a settled connection stays");
        self.carry = input;
        self.carry.drain(..taken);
    }

    /// What happened without new octets: windows opened, calls ended.
    fn events(&mut self, front: &mut Front) {
        let (_, elsewhere) = self.requests(front, &[]);
        assert!(elsewhere.is_none(), "no request comes without octets");
    }

    /// All events of `input`: how much of it was taken, and whether the connection belongs
    /// elsewhere.
    #[allow(clippy::type_complexity)]
    fn requests(
        &mut self,
        front: &mut Front,
        input: &[u8],
    ) -> (usize, Option<(ShardId, (Key, Meta, Vec<u8>))>) {
        front.now = front.clock.now();
        self.http.set_now(front.now_ms());
        let mut taken = 0;
        while let Some(event) = self.http.poll(input, &mut taken) {
            match event {
                Event::Message { key, meta, message, end } => {
                    let method = method::get(meta.method);
                    let octets = message.octets(input);
                    if let What::Edge(edge) = method.what {
                        let asked = Asked { key, meta, method, message: octets, end };
                        self.answer(front, edge, &asked);
                        self.http.recycle(key, message);
                        continue;
                    }
                    if !self.settled {
                        let owner = pin::elsewhere(front, self.dialect, meta, octets);
                        if let Some(to) = owner {
                            return (taken, Some((to, (key, meta, octets.to_vec()))));
                        }
                        self.settled = true;
                    }
                    self.call(front, key, meta, octets);
                    self.http.recycle(key, message);
                }
                Event::End { key, .. } => self.asked_all(front, key),
                Event::Reset { key } => {
                    if let Some(ticket) = self.forget(key) {
                        front.abandon(ticket);
                    }
                    self.http.release(key);
                }
                Event::Writable { .. } => {}
                Event::Fatal(code) => {
                    tracing::debug!(?code, "a connection ended");
                    self.abandon_all(front);
                }
            }
        }
        (taken, None)
    }

    fn call(&mut self, front: &mut Front, key: Key, meta: Meta, message: &[u8]) {
        let method = method::get(meta.method);
        let dialect = method::dialect(meta.method, self.dialect);
        let call = match request::read(method, message, dialect, &front.settings.rules) {
            Ok(call) => call,
            Err(refusal) => {
                return self.finish(key, response::refusal(method, dialect, &refusal).as_ref());
            }
        };
        let deadline = meta.timeout().map(|timeout| front.now.monotonic.after(timeout));
        let partition = call.partition().unwrap_or_default();
        let caller = Caller { peer: self.at, key, method, dialect, partition, deadline };
        let Some(ticket) = self.wait(front, caller) else { return };
        call.write(ticket, deadline, &mut front.requests);
        front.ring();
    }

    /// A ticket for a call of this connection; without one it has been refused.
    #[inline]
    fn wait(&mut self, front: &mut Front, caller: Caller) -> Option<Ticket> {
        let key = caller.key;
        let Some(ticket) = front.wait(caller) else {
            let full = Refusal::Full("too many calls wait on this core");
            self.finish(key, response::refusal(caller.method, caller.dialect, &full).as_ref());
            return None;
        };
        if self.calls.len() <= key.slot() {
            self.calls.resize(key.slot() + 1, None);
        }
        let before = self.calls[key.slot()].replace((key, ticket));
        assert!(before.is_none(), "the slot of a call is used once at a time");
        Some(ticket)
    }

    /// Whether a call waits here already.
    fn knows(&self, key: Key) -> bool {
        let place = self.calls.get(key.slot()).copied().flatten();
        place.is_some_and(|(known, _)| known == key)
    }

    fn abandon_all(&mut self, front: &mut Front) {
        for (_, ticket) in self.calls.iter_mut().filter_map(Option::take) {
            front.abandon(ticket);
        }
    }

    fn leave(&mut self, front: &mut Front) {
        self.abandon_all(front);
        self.broken = true;
        front.part(self.at);
        front.ring();
    }
}

impl Front {
    /// As `touch`, for a caller that has the link in hand.
    fn touch_from(&mut self, link: &mut Link, peer: &Peer) {
        if !std::mem::replace(&mut link.dirty, true) {
            self.dirty.push(peer.clone());
            self.ring();
        }
    }
}
