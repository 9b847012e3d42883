//! Snapshots of one partition: taken in slices over turns, or received whole and recorded in
//! slices.
//!
//! ```text
//!  Idle ──take──► Taking ──last slice──► Taken ──durable──► Idle      apply waits while Taking
//!   └──receive──► Offered ──raft installs──► Recording ──last slice──► Received ──durable──► Idle
//!                    └── raft ignores it ──► Idle                      deaf while it is received
//! ```
//!
//! One at a time, so that raft never sees a second snapshot before the first is durable and the
//! journal never sees two interleaved. Between the first slice and the last the state does not
//! change, so no copy of it is needed. Absent on purpose: formats; the machine writes the state,
//! the journal the record.

use bytes::Bytes;
use raft::eraftpb::{HardState, Message};

use crate::{
    id::PartitionId,
    id::{NodeId, Position},
    limits::SNAPSHOT_CHUNK_BYTES_MAX,
    partition::{
        Rules,
        effects::{Effects, Record, SnapshotFacts},
        machine::Machine,
        snapshot::{Cursor, Progress},
    },
};

/// Snapshots' worth of log after which a large state is written whatever it weighs.
const LOG_TO_SNAPSHOT_MAX: usize = 8;

/// Ticks that a snapshot on the shelf is kept without a follower that needs it.
const SHELF_TICKS_MAX: u32 = 200;

/// Ticks after which a delivery that nobody reported counts as failed: raft would wait for ever.
const DELIVERY_TICKS_MAX: u32 = 6000;

/// What of a snapshot is under way.
#[derive(Debug)]
pub(super) struct Capturing {
    state: State,
    /// Where the newest snapshot here ends.
    at: Position,
    entries: u64,
    bytes: usize,
    wanted: bool,
    shelf_ticks: u32,
    sending: Vec<Delivery>,
    ended: Vec<(NodeId, Position, bool)>,
    finished: Option<(SnapshotFacts, Option<Bytes>, Option<NodeId>)>,
}

#[derive(Debug)]
enum State {
    Idle,
    Taking(Box<Taking>),
    Taken { turn: u64, facts: SnapshotFacts, kept: Option<Bytes> },
    Offered(Box<Offered>),
    Recording(Box<Recording>),
    Received { turn: u64, facts: SnapshotFacts, from: NodeId },
}

#[derive(Debug)]
struct Taking {
    facts: SnapshotFacts,
    cursor: Cursor,
    /// The slices for the shelf, when the group has others who may need it.
    kept: Option<Vec<u8>>,
    /// Whether it goes to the journal; not when that has one of this position.
    recorded: bool,
    begun: bool,
}

#[derive(Debug)]
struct Offered {
    facts: SnapshotFacts,
    machine: Machine,
    state: Bytes,
    from: NodeId,
}

#[derive(Debug)]
struct Recording {
    facts: SnapshotFacts,
    state: Bytes,
    from: NodeId,
    hard: Option<HardState>,
    number: u64,
    messages: Vec<Message>,
    offset: usize,
}

#[derive(Debug)]
struct Delivery {
    to: NodeId,
    position: Position,
    ticks: u32,
}

/// What is recorded whole, and what waits for it: a ready's number and its messages.
#[derive(Debug)]
pub(super) struct Recorded {
    pub number: u64,
    pub messages: Vec<Message>,
}

/// What raft's ready says beside the snapshot that is to be installed.
#[derive(Debug)]
pub(super) struct Installation {
    pub hard: Option<HardState>,
    pub number: u64,
    pub messages: Vec<Message>,
}

impl Capturing {
    pub fn new(at: Position) -> Capturing {
        Capturing {
            state: State::Idle,
            at,
            entries: 0,
            bytes: 0,
            wanted: false,
            shelf_ticks: 0,
            sending: Vec::new(),
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
        let grown = grown && self.bytes >= enough && applied > self.at;
        self.is_idle() && applied > Position(0) && (self.wanted || grown)
    }

    /// Begins to take one.
    pub fn take(&mut self, facts: SnapshotFacts, keep: bool) {
        assert!(self.is_idle(), "one snapshot at a time");
        let recorded = self.wanted || facts.position > self.at;
        let kept = keep.then(Vec::new);
        let cursor = Cursor::default();
        self.state =
            State::Taking(Box::new(Taking { facts, cursor, kept, recorded, begun: false }));
        (self.entries, self.bytes, self.wanted) = (0, 0, false);
    }

    /// Writes slices of what is being taken, as far as the turn's budget goes. Without a machine
    /// there is no state, and none to write.
    pub fn step(
        &mut self,
        partition: PartitionId,
        machine: Option<&Machine>,
        effects: &mut Effects,
    ) {
        let State::Taking(taking) = &mut self.state else { return };
        if !taking.begun && taking.recorded {
            let begin = Record::SnapshotBegin(taking.facts.position);
            effects.records.push((partition, begin));
        }
        taking.begun = true;
        let mut progress = if machine.is_some() { Progress::More } else { Progress::Done };
        while let Some(machine) = machine
            && progress == Progress::More
            && effects.snapshot_budget_bytes > 0
        {
            let mut slice = Vec::new();
            let budget = effects.snapshot_budget_bytes.min(SNAPSHOT_CHUNK_BYTES_MAX);
            progress = machine.snapshot(&mut taking.cursor, budget, &mut slice);
            let spent = slice.len().max(1);
            effects.snapshot_budget_bytes = effects.snapshot_budget_bytes.saturating_sub(spent);
            if let Some(kept) = &mut taking.kept {
                kept.extend_from_slice(&slice);
            }
            if taking.recorded {
                push_slices(partition, &Bytes::from(slice), effects);
            }
        }
        if progress == Progress::Done {
            effects.snapshot_of = None;
            self.close(partition, effects);
        }
    }

    /// Lets go of the one being taken; another is wanted as soon as it may be.
    pub fn abandon(&mut self) {
        if matches!(self.state, State::Taking(_)) {
            self.state = State::Idle;
            self.wanted = true;
        }
    }

    fn close(&mut self, partition: PartitionId, effects: &mut Effects) {
        let State::Taking(taking) = std::mem::replace(&mut self.state, State::Idle) else {
            unreachable!("only what is being taken is closed")
        };
        let kept = taking.kept.map(Bytes::from);
        let facts = SnapshotFacts { digest: taking.cursor.digest(), ..taking.facts };
        if taking.recorded {
            effects.records.push((partition, Record::SnapshotEnd(facts.clone())));
            self.state = State::Taken { turn: effects.turn, facts, kept };
        } else {
            self.finished = Some((facts, kept, None));
        }
    }

    /// A peer's snapshot, whose state is `machine`.
    pub fn receive(&mut self, facts: SnapshotFacts, machine: Machine, state: Bytes, from: NodeId) {
        assert!(self.is_idle(), "one snapshot at a time");
        self.state = State::Offered(Box::new(Offered { facts, machine, state, from }));
    }

    /// raft installs what was offered: its state, and where it ends.
    pub fn install(&mut self, installation: Installation) -> (SnapshotFacts, Machine) {
        let State::Offered(offered) = std::mem::replace(&mut self.state, State::Idle) else {
            panic!("raft installs only what it was offered")
        };
        let Offered { facts, machine, state, from } = *offered;
        let Installation { hard, number, messages } = installation;
        (self.at, self.entries, self.bytes) = (facts.position, 0, 0);
        let recording =
            Recording { facts: facts.clone(), state, from, hard, number, messages, offset: 0 };
        self.state = State::Recording(Box::new(recording));
        (facts, machine)
    }

    /// Drops an offer that raft did not take.
    pub fn drop_offer(&mut self) {
        if matches!(self.state, State::Offered(_)) {
            self.state = State::Idle;
        }
    }

    /// Records slices of what was received, as far as the turn's budget goes. What waits for the
    /// whole is given back with the last one.
    pub fn record(&mut self, partition: PartitionId, effects: &mut Effects) -> Option<Recorded> {
        let State::Recording(recording) = &mut self.state else { return None };
        if effects.snapshot_budget_bytes == 0 {
            return None;
        }
        if recording.offset == 0 {
            let begin = Record::SnapshotBegin(recording.facts.position);
            effects.records.push((partition, begin));
        }
        let left = recording.state.len() - recording.offset;
        let take = left.min(effects.snapshot_budget_bytes);
        let slice = recording.state.slice(recording.offset..recording.offset + take);
        push_slices(partition, &slice, effects);
        effects.snapshot_budget_bytes -= take;
        recording.offset += take;
        if take < left {
            return None;
        }
        let State::Recording(recording) = std::mem::replace(&mut self.state, State::Idle) else {
            unreachable!("it was being recorded")
        };
        let Recording { facts, from, hard, number, messages, .. } = *recording;
        effects.records.push((partition, Record::SnapshotEnd(facts.clone())));
        effects.records.extend(hard.map(|hard| (partition, Record::State(hard))));
        self.state = State::Received { turn: effects.turn, facts, from };
        Some(Recorded { number, messages })
    }

    /// Everything up to turn `turn` is durable.
    pub fn durable(&mut self, until: u64) {
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Taken { turn, facts, kept } if turn <= until => {
                self.at = facts.position;
                self.finished = Some((facts, kept, None));
                State::Idle
            }
            State::Received { turn, facts, from } if turn <= until => {
                self.finished = Some((facts, None, Some(from)));
                State::Idle
            }
            other => other,
        };
    }

    /// The snapshot that became whole and durable: its facts, its state if it was kept, and who
    /// sent it.
    pub fn finished(&mut self) -> Option<(SnapshotFacts, Option<Bytes>, Option<NodeId>)> {
        self.finished.take()
    }

    /// A snapshot leaves for a peer.
    pub fn sending(&mut self, to: NodeId, position: Position) {
        self.sending.retain(|delivery| delivery.to != to);
        self.sending.push(Delivery { to, position, ticks: 0 });
    }

    /// Its delivery ended.
    pub fn sent(&mut self, to: NodeId, arrived: bool) {
        if let Some(place) = self.sending.iter().position(|delivery| delivery.to == to) {
            let delivery = self.sending.swap_remove(place);
            self.ended.push((to, delivery.position, arrived));
        }
    }

    /// Deliveries that ended since the last call.
    pub fn ended(&mut self) -> impl Iterator<Item = (NodeId, Position, bool)> + '_ {
        self.ended.drain(..)
    }

    pub fn tick(&mut self) {
        self.shelf_ticks += 1;
        for delivery in &mut self.sending {
            delivery.ticks += 1;
        }
    }

    /// A delivery that nobody reported for too long.
    pub fn overdue(&self) -> Option<NodeId> {
        let mut late = self.sending.iter().filter(|delivery| delivery.ticks > DELIVERY_TICKS_MAX);
        late.next().map(|delivery| delivery.to)
    }

    /// A snapshot is on the shelf from now on: raft asks for it again with the next heartbeat.
    pub fn shelved(&mut self) {
        self.shelf_ticks = 0;
    }

    /// Whether a snapshot on the shelf has not been needed for long; `needed` says that it is now.
    pub fn shelf_expires(&mut self, needed: bool) -> bool {
        if needed {
            self.shelf_ticks = 0;
        }
        self.shelf_ticks > SHELF_TICKS_MAX
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// While slices are taken the state must not change.
    pub fn pauses_apply(&self) -> bool {
        matches!(self.state, State::Taking(_))
    }

    /// While one is received nothing else may be recorded, and until it is durable nobody stands
    /// for election: raft would look for changes of members among what it was not told to be
    /// applied, in a log that begins behind that.
    pub fn is_receiving(&self) -> bool {
        matches!(self.state, State::Offered(_) | State::Recording(_) | State::Received { .. })
    }

    /// While what was received is recorded, nothing of raft's may be taken for durable.
    pub fn is_recording(&self) -> bool {
        matches!(self.state, State::Recording(_))
    }

    /// raft may not be told of applied entries before the snapshot under them is durable.
    pub fn is_undurable(&self) -> bool {
        matches!(self.state, State::Recording(_) | State::Received { .. })
    }

    /// Whether it goes on when a turn has bytes for it.
    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::Taking(_) | State::Recording(_))
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
