//! gRPC for clients: the edge of one core.
//!
//! ```text
//!   accept ─► connection (one task a socket) ─► tickets, requests ─► the core's inbox
//!   replies of a turn ─► waiting callers ─► connections ─► one write each
//! ```
//!
//! A `Front` lives as long as its core and is shared by the core's tasks through one `RefCell` that
//! no await ever spans. It knows sockets, gRPC and dialects, and nothing of sessions or raft. What
//! callers do to it is bounded: connections, waiting calls, bytes taken in a turn, bytes a slow
//! reader holds.
//!
//! Deadlines are looked at when the earliest is due, over all that wait: calls that are answered in
//! time, which is nearly all, pay one comparison. Absent on purpose: a task, channel or future per
//! call.

pub mod connection;
pub mod pin;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::{Rc, Weak};
use std::task::Waker;

use glommio::net::TcpListener;

use crate::edge::dialect::Dialect;
use crate::edge::health::Standing;
use crate::edge::method::{Method, Node, What};
use crate::edge::request::Rules;
use crate::edge::response::{self, Failure};
use crate::id::{PartitionId, ShardId, Ticket};
use crate::limits;
use crate::mesh::Parcel;
use crate::partition::reply::{Body, Event as Happened, Refusal, Replies, Reply};
use crate::prng::Prng;
use crate::runtime::clock::Clock;
use crate::runtime::tcp::Socket;
use crate::shard::inbox::Requests;
use crate::shard::outbox::Admission;
use crate::shard::waiting::Waiting;
use crate::time::{Instant, Now, Span};
use crate::wire::grpc::Status;
use crate::wire::http2::{Key, Limits};
use connection::Link;

/// The edge of one core.
#[derive(Debug)]
pub struct Front {
    settings: Settings,
    clock: Clock,
    /// As read last; each batch of octets and each advance reads it anew.
    now: Now,
    prng: Prng,
    waiting: Waiting<Caller>,
    peers: Vec<Option<Peer>>,
    free: Vec<u32>,
    /// Calls taken since the last turn.
    requests: Requests,
    /// Callers who went since the last turn.
    gone: Vec<(PartitionId, Ticket)>,
    /// Watchers of the node that not every shard has told yet what it has.
    replays: Vec<Replay>,
    /// Watchers of the health of what is served.
    health_watchers: BTreeSet<Ticket>,
    /// Connections that leave for another core.
    leaving: Vec<(ShardId, Parcel)>,
    /// Peers with octets to write.
    dirty: Vec<Peer>,
    /// Peers that do not read until the turn has taken what is here.
    stalled: Vec<Peer>,
    /// Ends of streams that are held back for a moment, by time.
    late: VecDeque<Late>,
    /// No caller's deadline is before this; `None` while no caller has one.
    earliest: Option<Instant>,
    swept: Instant,
    paused: bool,
    standing: Standing,
    bell: Option<Waker>,
}

/// What a front is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This core.
    pub shard: ShardId,
    /// The node's cores.
    pub shards: u16,
    /// What operators decide about requests.
    pub rules: Rules,
    /// Bounds of a connection.
    pub http2: Limits,
    /// Connections of this core at a time.
    pub connections_max: usize,
}

/// A connection and the task that reads it.
pub type Peer = Rc<RefCell<Link>>;

/// A front as its core's tasks share it.
pub type Shared = Rc<RefCell<Front>>;

/// Who waits behind a ticket.
#[derive(Clone, Copy, Debug)]
struct Caller {
    peer: u32,
    key: Key,
    method: &'static Method,
    dialect: Dialect,
    partition: PartitionId,
    deadline: Option<Instant>,
}

/// What the shards have told a watcher of the node so far. Its answer begins when all of them have:
/// a client that hears the answer begin hears of every partition in the same breath, and need not
/// guess whether a shard was slow.
#[derive(Debug)]
struct Replay {
    ticket: Ticket,
    shards: u16,
    events: Vec<Happened>,
}

/// The end of a stream that comes a little later, or a published driver would try again at the
/// speed of the round trip (core.md 8.4).
#[derive(Debug)]
struct Late {
    at: Instant,
    peer: Weak<RefCell<Link>>,
    key: Key,
    failure: Failure,
}

impl Front {
    /// A front without connections.
    #[must_use]
    pub fn new(settings: Settings, clock: Clock, prng: Prng) -> Front {
        let waiting = Waiting::new(settings.shard, limits::WAITING_CALLS_MAX);
        Front {
            settings,
            clock,
            now: clock.now(),
            prng,
            waiting,
            peers: Vec::new(),
            free: Vec::new(),
            requests: Requests::default(),
            gone: Vec::new(),
            replays: Vec::new(),
            health_watchers: BTreeSet::new(),
            leaving: Vec::new(),
            dirty: Vec::new(),
            stalled: Vec::new(),
            late: VecDeque::new(),
            earliest: None,
            swept: Instant::default(),
            paused: false,
            standing: Standing::Loading,
            bell: None,
        }
    }

    /// Whom to wake when there is something for a turn or to write.
    pub fn hang_bell(&mut self, waker: Option<Waker>) {
        self.bell = waker;
    }

    /// All cores of the node know their partitions.
    pub fn serve(&mut self) {
        assert_eq!(self.standing, Standing::Loading, "a node is loaded once");
        assert!(self.is_empty(), "connections come once the node is loaded");
        self.standing = Standing::Serving;
    }

    /// Whether there are calls for a turn.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        !self.requests.list.is_empty()
    }

    /// The connection of a caller who waits, for as long as both are here.
    pub fn connection_of(&mut self, ticket: Ticket) -> Option<u32> {
        self.waiting.peek(ticket).map(|caller| caller.peer)
    }

    /// Whether there is something else for a turn, or for the mesh.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !(self.gone.is_empty() && self.leaving.is_empty())
    }

    /// Moves what came since the last turn into its inbox; connections that waited for that read
    /// on.
    pub fn gather(&mut self, requests: &mut Requests, gone: &mut Vec<(PartitionId, Ticket)>) {
        if requests.list.is_empty() {
            std::mem::swap(requests, &mut self.requests);
        } else {
            for request in &self.requests.list {
                requests.copy(&self.requests, request);
            }
        }
        self.requests.clear();
        gone.append(&mut self.gone);
        for peer in self.stalled.drain(..) {
            peer.borrow_mut().wake();
        }
    }

    /// Connections that leave for another core, with the core.
    pub fn leaving(&mut self) -> impl Iterator<Item = (ShardId, Parcel)> {
        self.leaving.drain(..)
    }

    /// Gives each reply to its caller's connection. Writing is `flush`.
    pub fn hand_out(&mut self, replies: &Replies) {
        for reply in &replies.list {
            self.reply(replies, reply);
        }
    }

    /// Opens windows or stops doing so.
    pub fn admit(&mut self, admission: Admission) {
        let paused = admission == Admission::Full;
        if paused == self.paused {
            return;
        }
        self.paused = paused;
        for at in 0..self.peers.len() {
            let Some(peer) = self.peers[at].clone() else { continue };
            peer.borrow_mut().pause(paused);
            self.touch(&peer);
        }
    }

    /// Writes what connections have to say, once each.
    pub fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for peer in dirty.drain(..) {
            peer.borrow_mut().write(self);
        }
        // Writing makes room, and room makes events; what they add is for the next time.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Does what is due: callers whose deadline passed, ends that were held back, timers of
    /// connections.
    pub fn advance(&mut self) {
        self.now = self.clock.now();
        let now = self.now;
        self.expire(now.monotonic);
        while self.late.front().is_some_and(|late| late.at <= now.monotonic) {
            let Some(late) = self.late.pop_front() else { break };
            let Some(peer) = late.peer.upgrade() else { continue };
            peer.borrow_mut().finish(late.key, Some(&late.failure));
            self.touch(&peer);
        }
        if self.sweep_at().is_some_and(|at| at <= now.monotonic) {
            self.swept = now.monotonic;
            for at in 0..self.peers.len() {
                let Some(peer) = self.peers[at].clone() else { continue };
                if peer.borrow_mut().tick(self) {
                    self.touch(&peer);
                }
            }
        }
    }

    /// When `advance` wants to be called next.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        let late = self.late.front().map(|late| late.at);
        [self.earliest, late, self.sweep_at()].into_iter().flatten().min()
    }

    /// Begins the graceful end of every connection. Streams have no end to wait for: their callers
    /// are told to go on elsewhere.
    pub fn drain(&mut self) {
        self.standing = Standing::Draining;
        for ticket in std::mem::take(&mut self.health_watchers) {
            let Some(caller) = self.waiting.peek(ticket).copied() else { continue };
            let Some(peer) = self.peers[caller.peer as usize].clone() else { continue };
            peer.borrow_mut().tell_health(caller.key, self.standing);
        }
        let streams = self.waiting.iter().filter(|(_, caller)| caller.method.streaming);
        let streams: Vec<_> = streams.map(|(ticket, caller)| (ticket, *caller)).collect();
        for (ticket, caller) in streams {
            self.dismiss(ticket, caller, &Refusal::Unavailable("the node stops"));
        }
        for at in 0..self.peers.len() {
            let Some(peer) = self.peers[at].clone() else { continue };
            peer.borrow_mut().shutdown(self);
            self.touch(&peer);
        }
    }

    /// Tells all who still wait to go on elsewhere: the core ends.
    pub fn end(&mut self) {
        let refusal = Refusal::Unavailable("the node stops");
        let waiting: Vec<_> = self.waiting.iter().map(|(ticket, _)| ticket).collect();
        for ticket in waiting {
            let Some(caller) = self.waiting.claim(ticket) else { continue };
            let Some(peer) = self.peers[caller.peer as usize].clone() else { continue };
            let failure = response::refusal(caller.method, caller.dialect, &refusal);
            peer.borrow_mut().finish(caller.key, failure.as_ref());
            self.touch(&peer);
        }
        self.flush();
    }

    /// Whether no connection is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.len() == self.free.len()
    }

    fn is_draining(&self) -> bool {
        self.standing == Standing::Draining
    }

    /// Milliseconds as connections count them.
    fn now_ms(&self) -> u64 {
        self.now.monotonic.0 / 1_000_000
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.wake_by_ref();
        }
    }

    /// Has `peer` written in this turn.
    fn touch(&mut self, peer: &Peer) {
        let mut link = peer.borrow_mut();
        if !std::mem::replace(&mut link.dirty, true) {
            drop(link);
            self.dirty.push(peer.clone());
            self.ring();
        }
    }

    /// Whether connections have to wait for the turn to take what is here.
    fn is_full(&self) -> bool {
        self.requests.bytes.len() >= limits::TURN_REQUEST_BYTES_MAX
    }

    fn join(&mut self, peer: &Peer) -> u32 {
        let mut link = peer.borrow_mut();
        link.pause(self.paused);
        if self.is_draining() {
            link.shutdown(self);
        }
        drop(link);
        match self.free.pop() {
            Some(at) => {
                self.peers[at as usize] = Some(peer.clone());
                at
            }
            None => {
                self.peers.push(Some(peer.clone()));
                self.peers.len() as u32 - 1
            }
        }
    }

    fn part(&mut self, at: u32) {
        let peer = self.peers[at as usize].take();
        assert!(peer.is_some(), "connection {at} has gone before");
        self.free.push(at);
    }

    /// A place for a caller, whose deadline is watched from now on.
    fn wait(&mut self, caller: Caller) -> Option<Ticket> {
        let ticket = self.waiting.wait(caller).ok()?;
        if caller.method.what == What::Node(Node::Watch) {
            self.replays.push(Replay { ticket, shards: 0, events: Vec::new() });
        }
        if let Some(deadline) = caller.deadline {
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
        Some(ticket)
    }

    /// The caller has gone; the core hears of it, its command goes on (core.md 4.10).
    fn abandon(&mut self, ticket: Ticket) {
        self.replays.retain(|replay| replay.ticket != ticket);
        let Some(caller) = self.waiting.claim(ticket) else { return };
        if let What::Edge(_) = caller.method.what {
            self.health_watchers.remove(&ticket);
            return;
        }
        self.gone.push((caller.partition, ticket));
        self.ring();
    }

    fn reply(&mut self, replies: &Replies, reply: &Reply) {
        let ticket = reply.ticket;
        let Some(caller) = self.waiting.peek(ticket).copied() else { return };
        let last = reply.last || !caller.method.streaming;
        let Some(peer) = self.peers[caller.peer as usize].clone() else {
            unreachable!("a connection that ends takes its callers with it")
        };
        let mut link = peer.borrow_mut();
        let mut end = last;
        match &reply.body {
            Body::Output(output) => {
                let bytes = replies.bytes_of(output);
                match response::failure(caller.method, output, bytes) {
                    Some(failure) => link.finish(caller.key, Some(&failure)),
                    None => end |= link.output(&caller, output, bytes, last),
                }
            }
            Body::Event(event) => {
                match self.replays.iter_mut().find(|told| told.ticket == ticket) {
                    Some(replay) => replay.events.push(event.clone()),
                    None => end |= link.event(&caller, event),
                }
            }
            Body::Replayed => {
                let Some(events) = self.replayed(ticket) else { return };
                link.begin(caller.key);
                for event in &events {
                    end |= link.event(&caller, event);
                }
            }
            Body::End => link.finish(caller.key, response::end(caller.method).as_ref()),
            Body::Refused(refusal) => match self.refusal(&caller, refusal) {
                Ending::Now(failure) => link.finish(caller.key, failure.as_ref()),
                Ending::Later(failure) => {
                    let at = self.now.monotonic.after(STREAM_UNAVAILABLE_DELAY);
                    let peer = Rc::downgrade(&peer);
                    self.late.push_back(Late { at, peer, key: caller.key, failure });
                }
            },
        }
        if end {
            link.forget(caller.key);
            self.waiting.claim(ticket);
            self.replays.retain(|replay| replay.ticket != ticket);
            if !last {
                self.gone.push((caller.partition, ticket));
            }
        }
        drop(link);
        self.touch(&peer);
    }

    /// Another shard has told a watcher all that it has; all events, when it was the last.
    fn replayed(&mut self, ticket: Ticket) -> Option<Vec<Happened>> {
        let at = self.replays.iter().position(|replay| replay.ticket == ticket)?;
        self.replays[at].shards += 1;
        let whole = self.replays[at].shards == self.settings.shards;
        whole.then(|| self.replays.swap_remove(at).events)
    }

    fn refusal(&self, caller: &Caller, refusal: &Refusal) -> Ending {
        match response::refusal(caller.method, caller.dialect, refusal) {
            Some(failure)
                if caller.method.streaming
                    && failure.status == Status::Unavailable
                    && !self.is_draining() =>
            {
                Ending::Later(failure)
            }
            other => Ending::Now(other),
        }
    }

    /// Ends calls whose deadline has passed. Looks at all that wait, but only when one is due.
    fn expire(&mut self, now: Instant) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        let mut due = Vec::new();
        for (ticket, caller) in self.waiting.iter() {
            match caller.deadline {
                Some(deadline) if deadline <= now => due.push((ticket, *caller)),
                Some(deadline) => next = Some(next.map_or(deadline, |next| next.min(deadline))),
                None => {}
            }
        }
        // Many deadlines close together are looked at together.
        self.earliest = next.map(|next| next.max(now.after(EXPIRY_GRAIN)));
        for (ticket, caller) in due {
            self.dismiss(ticket, caller, &Refusal::Deadline);
        }
    }

    /// Ends a call that still waits.
    fn dismiss(&mut self, ticket: Ticket, caller: Caller, refusal: &Refusal) {
        let failure = response::refusal(caller.method, caller.dialect, refusal);
        if let Some(peer) = self.peers[caller.peer as usize].clone() {
            let mut link = peer.borrow_mut();
            link.finish(caller.key, failure.as_ref());
            link.forget(caller.key);
            drop(link);
            self.touch(&peer);
        }
        self.abandon(ticket);
    }

    fn sweep_at(&self) -> Option<Instant> {
        let period = if self.is_draining() { SWEEP_DRAINING } else { SWEEP };
        (!self.is_empty()).then(|| self.swept.after(period))
    }

    /// Whose connection a request of this sort makes it.
    fn owner(&self, partition: Option<PartitionId>) -> ShardId {
        partition.map_or(self.settings.shard, |partition| {
            ShardId((partition.0 % u32::from(self.settings.shards)) as u16)
        })
    }
}

enum Ending {
    Now(Option<Failure>),
    Later(Failure),
}

/// Within core.md 8.4's advice of 100 ms to 1 s.
const STREAM_UNAVAILABLE_DELAY: Span = Span::millis(150);

/// Deadlines closer together than this are one look at the waiting callers. Callers count for
/// themselves; theirs is the deadline that is kept exactly.
const EXPIRY_GRAIN: Span = Span::millis(5);

/// How often timers of connections are looked at; they are seconds long.
const SWEEP: Span = Span::secs(1);
const SWEEP_DRAINING: Span = Span::millis(50);

/// Accepts connections of one listener until the task is dropped.
pub async fn accept(front: Shared, listener: TcpListener, dialect: Dialect) {
    let mut is_told = false;
    loop {
        match listener.accept().await {
            Ok(stream) => {
                is_told = false;
                let socket = Socket::accepted(stream);
                let is_room = {
                    let front = front.borrow();
                    let live = front.peers.len() - front.free.len();
                    live < front.settings.connections_max
                };
                if is_room {
                    connection::start(&front, socket, dialect);
                } else {
                    tracing::warn!("a connection more than connections_max was closed");
                }
            }
            Err(error) => {
                // Out of descriptors, as a rule: whoever ends gives one back. Told once a shortage.
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(%error, "nobody can be accepted; is `ulimit -n` too low?");
                }
                glommio::timer::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
