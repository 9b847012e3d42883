//! One core's life: gather, turn, hand out, wait.
//!
//! Adaptive batching falls out of the order of things: a turn takes all that is ready, and what
//! comes while it runs is the next one's. The core waits only when nothing is ready, and its disk
//! never does while there is something to write. Commands alone do not start a turn while the disk
//! has as much in flight as it wants: they gather, and the completion starts the turn that takes
//! them all.
//!
//! While the disk writes for a command that comes alone, as those before it did, the core stays
//! with it instead of sleeping: to park, to be interrupted and to be scheduled takes half as long
//! again as the write. As soon as others call, too, it sleeps: staying, it would not hear them.
//!
//! The task that pumps is the only one that turns the shard and the only one that writes after a
//! turn. Whoever has something for it wakes it; several wakes are one. Absent on purpose: what a
//! turn does.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};

use glommio::timer::Timer;

use super::clock::Clock;
use super::disk::{self, Disk, DiskFault, Harvest};
use super::fatal::{Reason, fatal};
use super::tcp::Socket;
use crate::frontend::{Shared, connection};
use crate::id::ShardId;
use crate::limits::WRITES_IN_FLIGHT_MAX;
use crate::mesh::{Bell, Mesh, Parcel};
use crate::partition::reply::Body;
use crate::peer;
use crate::shard::inbox::{DiskRoom, Inbox, Requests};
use crate::shard::outbox::{Admission, Outbox};
use crate::time::{Instant, Now, Span};

/// The slot of the node's own orders, for whose answers nobody waits.
pub const NOBODY: u32 = u32::MAX;

/// How long a node that ends waits for another one to lead: some round trips, or an election.
const HAND_OVER: Span = Span::secs(1);

/// How long a core that ends waits for its writes.
const LANDING: Span = Span::millis(500);

/// A full lane is drained within a turn of its receiver.
const LANE_RETRY: Span = Span::micros(500);

/// How long a core stays with the disk for a lone call; a disk that takes longer is left alone for
/// `STAYS_AGAIN` of them.
const STAYS: Span = Span::micros(200);
const STAYS_AGAIN: u32 = 32;

/// Turns with one call, all of one connection, after which the next one's is a lone call: eight
/// connections that call at random come to it once in two million calls.
const LONE_TURNS: u32 = 8;

/// What calls a turn took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Calls {
    /// One, of a connection that calls alone.
    Lone,
    /// None, or any others.
    Others,
}

/// What a pump drives: the pure core.
pub type Turn = dyn FnMut(&mut Inbox, Now, &mut Outbox);

/// One core's loop and what it holds.
pub struct Pump {
    shard: ShardId,
    turn: Box<Turn>,
    inbox: Inbox,
    outbox: Outbox,
    front: Shared,
    peers: peer::Shared,
    mesh: Mesh,
    disk: Disk,
    disk_bell: disk::Bell,
    harvest: Harvest,
    clock: Clock,
    stop: Arc<Stop>,
    drained: Option<Sender<ShardId>>,
    listeners: Vec<glommio::Task<()>>,
    timer: Option<(Instant, Timer)>,
    /// Until when the node waits for others to lead what it leads; set when it begins to drain.
    hands_over_until: Option<Instant>,
    /// When to offer again what found a full lane.
    retry: Option<Instant>,
    /// The connection that called last, and how many turns in a row took one call, of this one.
    lone: (Option<u32>, u32),
    /// Lone calls for which the disk is not waited for: it was too slow.
    leaves: u32,
}

/// What a pump is made of.
pub struct Parts {
    /// This core.
    pub shard: ShardId,
    /// The pure core.
    pub turn: Box<Turn>,
    /// Its edge.
    pub front: Shared,
    /// Its links to other nodes.
    pub peers: peer::Shared,
    /// Its ends of the lanes to other cores.
    pub mesh: Mesh,
    /// Its journal's disk.
    pub disk: Disk,
    /// Rings when the disk has something to tell.
    pub disk_bell: disk::Bell,
    /// The node's clock.
    pub clock: Clock,
    /// How far the end has come.
    pub stop: Arc<Stop>,
    /// Told once when the last connection has gone.
    pub drained: Sender<ShardId>,
}

/// How a node is told to end, by its main thread.
#[derive(Debug)]
pub struct Stop {
    phase: AtomicU8,
    bells: Arc<[Bell]>,
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Not at all.
    Run,
    /// No new connections; calls in flight finish; cores go on turning for each other.
    Drain,
    /// The loops end.
    Halt,
}

impl Stop {
    /// Of the cores that these bells wake.
    #[must_use]
    pub fn new(bells: Arc<[Bell]>) -> Stop {
        Stop { phase: AtomicU8::new(Phase::Run as u8), bells }
    }

    /// Goes on to `phase` and wakes all cores.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        for bell in self.bells.iter() {
            bell.ring();
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Run,
            1 => Phase::Drain,
            _ => Phase::Halt,
        }
    }
}

impl Pump {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(parts: Parts) -> Pump {
        let Parts { shard, turn, front, peers, mesh, disk, disk_bell, clock, stop, drained } =
            parts;
        Pump {
            shard,
            turn,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            front,
            peers,
            mesh,
            disk,
            disk_bell,
            harvest: Harvest::default(),
            clock,
            stop,
            drained: Some(drained),
            listeners: Vec::new(),
            timer: None,
            hands_over_until: None,
            retry: None,
            lone: (None, 0),
            leaves: 0,
        }
    }

    /// Takes turns until what was recovered and what `founding` orders is durable and nothing is
    /// left to do: then the shard knows its partitions, and those with one member have their
    /// leader.
    pub async fn start(&mut self, founding: Requests) -> Result<(), DiskFault> {
        // Who comes back to what is there can read and remove with the first segment alone.
        let least = if founding.list.is_empty() { 1 } else { 2 };
        self.inbox.requests = founding;
        loop {
            self.cycle();
            if self.harvest.full {
                // There is somebody to tell now; later there is only refusing.
                self.disk.prepared(&mut self.disk_bell, least).await?;
            }
            let is_due = self.outbox.wake.is_some_and(|due| due <= self.clock.monotonic());
            if !is_due && self.disk.backlog_bytes() == 0 {
                return Ok(());
            }
            poll_fn(|context| self.poll_work(context)).await;
        }
    }

    /// Takes turns until the node is halted. `listeners` end when it is drained.
    pub async fn run(mut self, listeners: Vec<glommio::Task<()>>) {
        self.listeners = listeners;
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        self.front.borrow_mut().hang_bell(Some(waker.clone()));
        self.peers.borrow_mut().hang_bell(Some(waker.clone()));
        self.mesh.bell().hang(Some(waker));
        while self.stop.phase() < Phase::Halt {
            if self.cycle() == Calls::Lone {
                self.stay();
            }
            self.drain();
            poll_fn(|context| self.poll_work(context)).await;
        }
        // What is on its way to the disk lands, and whoever waits for it hears so.
        let until = self.clock.monotonic().after(LANDING);
        while self.disk.backlog_bytes() > 0 && self.clock.monotonic() < until {
            poll_fn(|context| self.poll_work(context)).await;
            self.cycle();
        }
        self.front.borrow_mut().end();
        self.front.borrow_mut().hang_bell(None);
        self.peers.borrow_mut().hang_bell(None);
        self.mesh.bell().hang(None);
    }

    fn cycle(&mut self) -> Calls {
        self.gather();
        let calls = self.count_lone();
        (self.turn)(&mut self.inbox, self.clock.now(), &mut self.outbox);
        self.hand_out();
        calls
    }

    fn count_lone(&mut self) -> Calls {
        let (connection, turns) = match &self.inbox.requests.list[..] {
            [] => return Calls::Others,
            [call] => (self.front.borrow_mut().connection_of(call.ticket), self.lone.1),
            _ => (None, 0),
        };
        let same = connection.is_some() && connection == self.lone.0;
        self.lone = (connection, if same { turns.saturating_add(1) } else { 0 });
        if self.lone.1 >= LONE_TURNS { Calls::Lone } else { Calls::Others }
    }

    /// Stays with the disk while it writes for a lone call, and takes the turn that answers it.
    fn stay(&mut self) {
        if self.disk.in_flight() != 1 || self.front.borrow().has_requests() {
            return;
        }
        if self.leaves > 0 {
            self.leaves -= 1;
            return;
        }
        let until = self.clock.monotonic().after(STAYS);
        while !self.disk.has_landed() {
            if self.clock.monotonic() >= until {
                self.leaves = STAYS_AGAIN;
                return;
            }
            std::hint::spin_loop();
        }
        self.cycle();
    }

    fn gather(&mut self) {
        let (inbox, front, peers) = (&mut self.inbox, &self.front, &self.peers);
        let mut arrived = Vec::new();
        self.mesh.receive(|from, parcel| match parcel {
            Parcel::Letter(letter) => inbox.letters.push((from, letter)),
            Parcel::Connection(passage, fd) => arrived.push((passage, fd)),
            Parcel::Link(hello, fd) => peer::arrive(peers, *hello, fd),
        });
        peers.borrow_mut().gather(inbox);
        for (passage, fd) in arrived {
            connection::arrive(front, *passage, Socket::adopt(fd));
        }
        self.disk.harvest(&mut self.harvest);
        if let Some(mark) = self.harvest.durable.take() {
            inbox.durable = Some(mark);
            peers.borrow_mut().durable(mark);
        }
        let room = if self.harvest.full { DiskRoom::Full } else { DiskRoom::Enough };
        inbox.disk = Some(room);
        inbox.spent.append(&mut self.harvest.buffers);
        let mut front = front.borrow_mut();
        front.advance();
        front.gather(&mut inbox.requests, &mut inbox.gone);
    }

    fn hand_out(&mut self) {
        let outbox = &mut self.outbox;
        // The disk first: everything else can be done while it works.
        self.disk.obey(&mut outbox.orders);
        if let Some(book) = outbox.book.take() {
            peer::meet(&self.peers, book);
        }
        for (to, shard, bundle) in outbox.bundles.drain(..) {
            peer::send(&self.peers, to, shard, bundle);
        }
        self.peers.borrow_mut().tell(self.clock.monotonic());
        for snapshot in outbox.snapshots.drain(..) {
            peer::send_snapshot(&self.peers, snapshot);
        }
        self.peers.borrow_mut().wait_for_snapshots(outbox.snapshot_bytes_waiting);
        for (to, hello, fd) in self.peers.borrow_mut().leaving() {
            self.mesh.send(to, Parcel::Link(hello, fd));
        }
        for (to, letter) in outbox.letters.drain(..) {
            self.mesh.send(to, Parcel::Letter(letter));
        }
        let mut front = self.front.borrow_mut();
        for (to, parcel) in front.leaving() {
            self.mesh.send(to, parcel);
        }
        self.retry = (!self.mesh.flush()).then(|| self.clock.monotonic().after(LANE_RETRY));
        for reply in &outbox.replies.list {
            if let (NOBODY, Body::Refused(refusal)) = (reply.ticket.slot, &reply.body) {
                tracing::error!(?refusal, "a partition could not be founded");
            }
        }
        front.hand_out(&outbox.replies);
        outbox.replies.clear();
        front.admit(std::mem::replace(&mut outbox.admission, Admission::Open));
        front.flush();
    }

    /// The end, as far as it has been ordered.
    fn drain(&mut self) {
        if self.stop.phase() < Phase::Drain || self.drained.is_none() {
            return;
        }
        if !self.listeners.is_empty() {
            // Dropping the tasks closes their listeners.
            self.listeners.clear();
            self.front.borrow_mut().drain();
            self.front.borrow_mut().flush();
            self.hands_over_until = Some(self.clock.monotonic().after(HAND_OVER));
            // Others lead from now on, so that nobody waits for an election when this node is gone.
            self.inbox.drains = true;
            self.cycle();
        }
        if self.front.borrow().is_empty()
            && !self.hands_over()
            && let Some(drained) = self.drained.take()
        {
            // Nobody listens when the node has given up waiting for this.
            let _ = drained.send(self.shard);
        }
    }

    fn hands_over(&self) -> bool {
        let now = self.clock.monotonic();
        self.outbox.leads && self.hands_over_until.is_some_and(|until| now < until)
    }

    fn poll_work(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Draining the bell also asks to be woken by its next ring.
        let mut is_rung = false;
        while let Poll::Ready(rung) = pin!(self.disk_bell.rung()).poll(context) {
            if let Err(error) = rung {
                fatal(Reason::Journal, &format!("the disk is not heard any more: {error}"));
            }
            is_rung = true;
        }
        if is_rung {
            return Poll::Ready(());
        }
        // What only has to be written needs no turn.
        self.front.borrow_mut().flush();
        let front = self.front.borrow();
        let due = [self.outbox.wake, front.wake(), self.retry].into_iter().flatten().min();
        let is_due = due.is_some_and(|due| due <= self.clock.monotonic());
        let is_drained = self.stop.phase() >= Phase::Drain
            && self.listeners.is_empty()
            && self.drained.is_some()
            && !self.hands_over()
            && front.is_empty();
        let is_asked = front.has_requests() || self.mesh.bell().is_rung();
        let is_disk_free = self.disk.in_flight() < WRITES_IN_FLIGHT_MAX;
        let has_news = front.has_news() || self.peers.borrow().has_news();
        if is_due || is_drained || has_news || (is_asked && is_disk_free) {
            return Poll::Ready(());
        }
        drop(front);
        let Some(due) = due else { return Poll::Pending };
        // An armed timer that fires earlier is left alone: one wake too many is cheaper than arming
        // a timer in every turn.
        if self.timer.as_ref().is_none_or(|(at, _)| *at > due) {
            self.timer = Some((due, Timer::new(self.clock.until(due))));
        }
        let Some((_, timer)) = &mut self.timer else { unreachable!("it was armed above") };
        match Pin::new(timer).poll(context) {
            Poll::Ready(_) => {
                self.timer = None;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
