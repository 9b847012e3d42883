//! Snapshots of one partition: taken in slices over turns, or received and recorded in slices.
//!
//! ```text
//!  Idle ──take──► Taking ──last slice──► Taken ──durable──► Idle       commands go on meanwhile
//!   └─head comes──► Arriving ──last slice──► Offered ──raft installs──► Received ──durable──► Idle
//!                       │                        └── raft ignores it ──► Idle
//!                       └── broken, or nothing comes for long ──► Idle
//! ```
//!
//! One at a time, so that raft never sees a second snapshot before the first is durable and the
//! journal never sees two interleaved. What is written is a copy of the state that shares with it
//! whatever has not changed since (`shared.rs`, `sorted.rs`): to let commands wait until the last
//! slice was written stopped a state of 1 GiB for 2.2 s, and a busy session's outputs for 90 ms
//! every other second. What comes is read into a state of its own and recorded as it comes; a slice
//! is held only until a turn has bytes for it. What is durable is remembered by its places in the
//! journal, from where it is sent to whoever needs it: no state is ever in memory as bytes. While
//! it is sent, or waited for, no other is begun, whose end would free those places; while one is
//! taken, none is sent. Absent on purpose: formats; the copy writes itself, the journal the record.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use raft::eraftpb::{HardState, Message};

use crate::{
    id::PartitionId,
    id::{NodeId, Position},
    limits::SNAPSHOT_CHUNK_BYTES_MAX,
    partition::{
        Rules,
        effects::{Effects, Place, Record, SnapshotFacts},
        machine::Machine,
        snapshot::{Cursor, Frozen, Progress, Reading},
    },
};

/// Snapshots' worth of log after which a large state is written whatever it weighs.
const LOG_TO_SNAPSHOT_MAX: usize = 8;

/// Ticks after which a snapshot of which nothing more came is given up: the sender is gone, or
/// begins another.
const ARRIVAL_TICKS_MAX: u32 = 1200;

/// Ticks after which a delivery that nobody reported counts as failed: raft would wait for ever.
const DELIVERY_TICKS_MAX: u32 = 6000;

/// Deliveries of one partition at most. A peer has a second one only when this replica led, did
/// not, and leads again while the first is on its way.
const DELIVERIES_MAX: usize = 16;

/// Ticks for which the newest snapshot is kept for a peer that asked while it was taken: it asks
/// again with each heartbeat that it answers.
const PROMISE_TICKS: u32 = 20;

/// What of a snapshot is under way.
#[derive(Debug)]
pub(super) struct Capturing {
    state: State,
    /// Where the newest snapshot here ends.
    at: Position,
    entries: u64,
    bytes: usize,
    wanted: bool,
    /// What comes from a peer. It begins when nothing else is under way.
    arrival: Option<Box<Arrival>>,
    /// Where the slices of the newest snapshot lie that is written or being written.
    places: Vec<Place>,
    /// The newest that is durable.
    shelf: Option<(Position, Arc<[Place]>)>,
    /// Deliveries under way, oldest first.
    sending: Vec<Delivery>,
    /// Peers whose snapshot did not leave, one each: raft sends no other before it hears.
    missed: Vec<NodeId>,
    /// Ticks for which the shelf is kept for who waits for it.
    promised: u32,
    ended: Vec<(NodeId, Position, bool)>,
    finished: Option<(SnapshotFacts, Option<NodeId>)>,
}

#[derive(Debug)]
enum State {
    Idle,
    Taking(Box<Taking>),
    Taken { turn: u64, facts: SnapshotFacts },
    Arriving,
    Offered(Box<Offered>),
    Received { turn: u64, facts: SnapshotFacts, from: NodeId },
}

#[derive(Debug)]
struct Taking {
    facts: SnapshotFacts,
    /// What is written; a witness has nothing.
    state: Option<Frozen>,
    cursor: Cursor,
    begun: bool,
}

/// Which snapshot of whom: the same in its head and in all its slices.
pub(super) type Sender = (NodeId, u32);

/// A snapshot that comes.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Whose.
    pub sender: Sender,
    /// Its message, without state.
    pub message: Message,
    /// What it is of; index and digest are known at its end.
    pub facts: SnapshotFacts,
    /// The state, as far as it has come.
    pub coming: Coming,
    /// The number of the slice that comes next.
    next: u32,
    /// Slices that no turn has had bytes for.
    waiting: VecDeque<Bytes>,
    /// Nothing follows what waits.
    last: bool,
    ticks: u32,
}

/// What there is of a state.
#[derive(Debug)]
pub(super) enum Coming {
    /// What has come of it.
    State(Box<Reading>),
    /// A witness needs none.
    Nothing(Box<Machine>),
}

impl Coming {
    /// Reads a slice; whether it is sound.
    fn take(&mut self, slice: &[u8]) -> bool {
        match self {
            Coming::State(reading) => {
                let taken = catch_unwind(AssertUnwindSafe(|| reading.take(slice)));
                matches!(taken, Ok(Ok(())))
            }
            Coming::Nothing(_) => true,
        }
    }

    /// The state and its digest, when it is whole.
    fn finish(self) -> Option<(Machine, u64)> {
        match self {
            Coming::State(reading) => reading.finish().ok(),
            Coming::Nothing(machine) => Some((*machine, 0)),
        }
    }
}

impl Arrival {
    /// Nothing has come but the head.
    pub fn new(
        sender: Sender,
        message: Message,
        facts: SnapshotFacts,
        coming: Coming,
        last: bool,
    ) -> Arrival {
        let waiting = VecDeque::new();
        Arrival { sender, message, facts, coming, next: 1, waiting, last, ticks: 0 }
    }

    fn has_work(&self) -> bool {
        self.last || !self.waiting.is_empty()
    }
}

#[derive(Debug)]
struct Offered {
    facts: SnapshotFacts,
    machine: Machine,
    from: NodeId,
}

#[derive(Debug)]
struct Delivery {
    to: NodeId,
    position: Position,
    ticks: u32,
}

/// What raft's ready says beside the snapshot that is to be installed.
#[derive(Debug)]
pub(super) struct Installation {
    pub hard: Option<HardState>,
}

impl Capturing {
    pub fn new(at: Position) -> Capturing {
        Capturing {
            state: State::Idle,
            at,
            entries: 0,
            bytes: 0,
            wanted: false,
            arrival: None,
            places: Vec::new(),
            shelf: None,
            sending: Vec::new(),
            missed: Vec::new(),
            promised: 0,
            ended: Vec::new(),
            finished: None,
        }
    }

    /// One more entry is applied.
    pub fn applied(&mut self, bytes: usize) {
        self.entries += 1;
        self.bytes += bytes;
    }

    /// Take one soon, also when nothing changed since the last: the journal wants it elsewhere.
    pub fn want(&mut self) {
        // One that is under way may be what is wanted.
        self.wanted |= self.is_idle();
    }

    /// Whether one is to be taken of the state at `applied`, which takes `state_bytes`.
    ///
    /// What was applied since the last must weigh something against a large state, or that would be
    /// written again and again for little: four times what came in, at the most.
    pub fn is_due(&self, applied: Position, state_bytes: usize, rules: &Rules) -> bool {
        let large = state_bytes > rules.snapshot_bytes;
        let most = rules.snapshot_bytes.saturating_mul(LOG_TO_SNAPSHOT_MAX);
        let enough = if large { (state_bytes / 4).min(most) } else { 0 };
        let grown = self.entries >= rules.snapshot_entries || self.bytes >= rules.snapshot_bytes;
        let grown = grown && self.bytes >= enough && applied > self.at && !self.is_kept();
        self.is_idle() && applied > Position(0) && (self.wanted || grown)
    }

    /// Begins to take one of `state`; a witness has none.
    pub fn take(&mut self, facts: SnapshotFacts, state: Option<Frozen>) {
        assert!(self.is_idle(), "one snapshot at a time");
        let cursor = Cursor::default();
        self.state = State::Taking(Box::new(Taking { facts, state, cursor, begun: false }));
        (self.entries, self.bytes, self.wanted) = (0, 0, false);
    }

    /// Writes slices of what is being taken, as far as the turn's budget goes. The copy that was
    /// written is returned with its last slice.
    pub fn step(&mut self, partition: PartitionId, effects: &mut Effects) -> Option<Frozen> {
        let State::Taking(taking) = &mut self.state else { return None };
        if !std::mem::replace(&mut taking.begun, true) {
            self.places.clear();
            let begin = Record::SnapshotBegin(taking.facts.position);
            effects.records.push((partition, begin));
        }
        let mut progress = if taking.state.is_some() { Progress::More } else { Progress::Done };
        while let Some(state) = &taking.state
            && progress == Progress::More
            && effects.snapshot_budget_bytes > 0
        {
            let mut slice = Vec::new();
            let budget = effects.snapshot_budget_bytes.min(SNAPSHOT_CHUNK_BYTES_MAX);
            progress = state.write(&mut taking.cursor, budget, &mut slice);
            effects.snapshot_budget_bytes -= budget;
            push_slices(partition, &Bytes::from(slice), effects);
        }
        if progress == Progress::More {
            return None;
        }
        effects.snapshot_of = None;
        let state = taking.state.take();
        let facts = SnapshotFacts { digest: taking.cursor.digest(), ..taking.facts.clone() };
        effects.records.push((partition, Record::SnapshotEnd(facts.clone())));
        self.state = State::Taken { turn: effects.turn, facts };
        state
    }

    /// Lets go of the one being taken; another is wanted as soon as it may be. Returns the copy
    /// that was being written.
    pub fn abandon(&mut self) -> Option<Frozen> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Taking(taking) => {
                self.wanted = true;
                taking.state
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The next slice of the snapshot that was recorded last is there.
    pub fn placed(&mut self, place: Place) {
        self.places.push(place);
    }

    /// A peer begins to send one; what came of another before is given up, unless it is the same or
    /// all of it is here: raft may want one again before it is read, and would never have any.
    pub fn arrive(&mut self, arrival: Arrival) {
        let comes = |old: &Arrival| old.last || old.sender == arrival.sender;
        if self.arrival.as_deref().is_some_and(comes) {
            return;
        }
        if matches!(self.state, State::Arriving) {
            self.state = State::Idle;
        }
        self.arrival = Some(Box::new(arrival));
    }

    /// A slice of it; one that does not follow those before is of no use.
    pub fn slice(&mut self, sender: Sender, number: u32, bytes: Bytes, last: bool) {
        if let Some(arrival) = &mut self.arrival
            && arrival.sender == sender
            && arrival.next == number
            && !arrival.last
        {
            (arrival.next, arrival.last, arrival.ticks) = (number + 1, last, 0);
            arrival.waiting.push_back(bytes);
        }
    }

    /// Reads and records slices of what comes, as far as the turn's budget goes. With the last one
    /// it is whole: its message, which is for raft.
    pub fn read(&mut self, partition: PartitionId, effects: &mut Effects) -> Option<Message> {
        let busy = !matches!(self.state, State::Idle | State::Arriving);
        let arrival = self.arrival.as_mut().filter(|arrival| !busy && arrival.has_work())?;
        if effects.snapshot_budget_bytes == 0 {
            return None;
        }
        if matches!(self.state, State::Idle) {
            self.places.clear();
            let begin = Record::SnapshotBegin(arrival.facts.position);
            effects.records.push((partition, begin));
            self.state = State::Arriving;
        }
        while effects.snapshot_budget_bytes > 0
            && let Some(slice) = arrival.waiting.pop_front()
        {
            if !arrival.coming.take(&slice) {
                return self.give_up();
            }
            let budget = effects.snapshot_budget_bytes;
            effects.snapshot_budget_bytes = budget.saturating_sub(slice.len().max(1));
            if matches!(arrival.coming, Coming::State(_)) {
                push_slices(partition, &slice, effects);
            }
        }
        if !arrival.waiting.is_empty() || !arrival.last {
            return None;
        }
        self.state = State::Idle;
        let Arrival { sender, message, mut facts, coming, .. } = *self.arrival.take()?;
        let (machine, digest) = coming.finish()?;
        (facts.index, facts.digest) = (machine.index(), digest);
        self.state = State::Offered(Box::new(Offered { facts, machine, from: sender.0 }));
        Some(message)
    }

    /// What came is of no use. Its slices are void when the next one begins.
    fn give_up<T>(&mut self) -> Option<T> {
        self.arrival = None;
        if matches!(self.state, State::Arriving) {
            self.state = State::Idle;
        }
        None
    }

    /// raft installs what was offered: its state, and where it ends.
    pub fn install(
        &mut self,
        partition: PartitionId,
        installation: Installation,
        effects: &mut Effects,
    ) -> (SnapshotFacts, Machine) {
        let State::Offered(offered) = std::mem::replace(&mut self.state, State::Idle) else {
            panic!("raft installs only what it was offered")
        };
        let Offered { facts, machine, from } = *offered;
        (self.at, self.entries, self.bytes) = (facts.position, 0, 0);
        effects.records.push((partition, Record::SnapshotEnd(facts.clone())));
        effects.records.extend(installation.hard.map(|hard| (partition, Record::State(hard))));
        self.state = State::Received { turn: effects.turn, facts: facts.clone(), from };
        (facts, machine)
    }

    /// Drops an offer that raft did not take.
    pub fn drop_offer(&mut self) {
        if matches!(self.state, State::Offered(_)) {
            self.state = State::Idle;
        }
    }

    /// Everything up to turn `until` is durable; what the snapshot is of that became so.
    pub fn durable(&mut self, until: u64) -> Option<SnapshotFacts> {
        let (facts, from) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Taken { turn, facts } if turn <= until => (facts, None),
            State::Received { turn, facts, from } if turn <= until => (facts, Some(from)),
            other => {
                self.state = other;
                return None;
            }
        };
        self.at = facts.position;
        self.shelf = Some((facts.position, std::mem::take(&mut self.places).into()));
        self.finished = Some((facts.clone(), from));
        Some(facts)
    }

    /// The snapshot that became whole and durable: its facts and who sent it.
    pub fn finished(&mut self) -> Option<(SnapshotFacts, Option<NodeId>)> {
        self.finished.take()
    }

    /// Where the slices of the newest durable snapshot lie, when it is the one at `position`.
    pub fn places_of(&self, position: Position) -> Option<Arc<[Place]>> {
        let shelf = self.shelf.as_ref().filter(|(at, _)| *at == position);
        shelf.map(|(_, places)| places.clone())
    }

    /// What they take.
    pub fn shelf_bytes(&self) -> u64 {
        let places = self.shelf.iter().flat_map(|(_, places)| places.iter());
        places.map(|place| u64::from(place.bytes)).sum()
    }

    /// A peer asked while the newest snapshot was taken: no other is begun before it has a chance
    /// to ask again. A busy partition takes one after another, and would never have one to give.
    pub fn promise(&mut self) {
        self.promised = PROMISE_TICKS;
    }

    /// A snapshot leaves for a peer.
    pub fn sending(&mut self, to: NodeId, position: Position) {
        self.promised = 0;
        if self.sending.len() >= DELIVERIES_MAX {
            self.sending.remove(0);
        }
        self.sending.push(Delivery { to, position, ticks: 0 });
    }

    /// One for this peer does not leave: its slices would be freed on its way.
    pub fn miss(&mut self, to: NodeId) {
        self.missed.push(to);
    }

    /// The delivery to a peer that began first has ended.
    pub fn sent(&mut self, to: NodeId, arrived: bool) {
        if let Some(place) = self.sending.iter().position(|delivery| delivery.to == to) {
            self.end(place, arrived);
        }
    }

    fn end(&mut self, place: usize, arrived: bool) -> NodeId {
        let Delivery { to, position, .. } = self.sending.remove(place);
        self.ended.push((to, position, arrived));
        to
    }

    /// Deliveries that ended since the last call.
    pub fn ended(&mut self) -> impl Iterator<Item = (NodeId, Position, bool)> + '_ {
        self.ended.drain(..)
    }

    pub fn tick(&mut self) {
        self.promised = self.promised.saturating_sub(1);
        for delivery in &mut self.sending {
            delivery.ticks += 1;
        }
        if let Some(arrival) = &mut self.arrival {
            arrival.ticks += 1;
            if arrival.ticks > ARRIVAL_TICKS_MAX {
                self.give_up::<()>();
            }
        }
    }

    /// A peer whose snapshot did not leave, or of whose delivery nobody heard for too long; it
    /// ends so.
    pub fn failed(&mut self) -> Option<NodeId> {
        if let Some(to) = self.missed.pop() {
            return Some(to);
        }
        let late = |delivery: &Delivery| delivery.ticks > DELIVERY_TICKS_MAX;
        let place = self.sending.iter().position(late)?;
        Some(self.end(place, false))
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether one is on its way to a peer.
    pub fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// Whether the newest is being sent, or waited for: the next one would free its slices.
    pub fn is_kept(&self) -> bool {
        self.is_sending() || self.promised > 0
    }

    /// Whether one is being taken, or not yet known to be durable.
    pub fn is_taking(&self) -> bool {
        matches!(self.state, State::Taking(_) | State::Taken { .. })
    }

    /// raft may not be told of applied entries before the snapshot under them is durable.
    pub fn is_undurable(&self) -> bool {
        matches!(self.state, State::Received { .. })
    }

    /// Whether it goes on when a turn has bytes for it.
    pub fn is_busy(&self) -> bool {
        match self.state {
            State::Taking(_) => true,
            State::Idle | State::Arriving => {
                self.arrival.as_ref().is_some_and(|arrival| arrival.has_work())
            }
            State::Taken { .. } | State::Offered(_) | State::Received { .. } => false,
        }
    }

    /// Bytes that came and wait for a turn.
    pub fn waiting_bytes(&self) -> usize {
        self.arrival.iter().flat_map(|arrival| &arrival.waiting).map(Bytes::len).sum()
    }

    /// Whether something comes.
    pub fn is_arriving(&self) -> bool {
        self.arrival.is_some()
    }
}

fn push_slices(partition: PartitionId, bytes: &Bytes, effects: &mut Effects) {
    let mut start = 0;
    while start < bytes.len() {
        let end = bytes.len().min(start + SNAPSHOT_CHUNK_BYTES_MAX);
        effects.records.push((partition, Record::SnapshotSlice(bytes.slice(start..end))));
        start = end;
    }
}
