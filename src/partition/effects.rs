//! What partitions want done after a turn: one collector a shard, lent to each partition in turn.
//!
//! It holds raft's own values and shared bytes, no formats: the shard makes one journal block and
//! one bundle a peer of it. What may leave when is in the fields: `messages` may leave with this
//! turn, whatever waits for the disk stays inside its partition until the disk has it, and
//! `replies` stem only from applied commands and confirmed reads. Absent on purpose: journal and
//! wire types.

use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Message};

use crate::{
    id::{Index, PartitionId, Position, Term},
    partition::{
        member::Member,
        reply::{Event, Replies},
    },
};

/// The settlements of one turn. Cleared and used again.
#[derive(Default, Debug)]
pub struct Effects {
    /// Which turn it is: what is recorded now is named by it when it is durable.
    pub turn: u64,
    /// To the journal, in this order.
    pub records: Vec<(PartitionId, Record)>,
    /// To peers, with this turn's bundles.
    pub messages: Vec<(PartitionId, Message)>,
    /// Snapshots to peers, on their own stream.
    pub snapshots: Vec<Departure>,
    /// Partitions whose members changed, and who belongs to them no more.
    pub changed: Vec<(PartitionId, Vec<Member>)>,
    /// To callers.
    pub replies: Replies,
    /// To watchers of the node and of the partition.
    pub events: Vec<Event>,
    /// Bytes of snapshots that this turn may still write.
    pub snapshot_budget_bytes: usize,
    /// Whose snapshot is being taken. One at a time in a shard: its partition applies nothing
    /// meanwhile, and two at once would both wait twice as long.
    pub snapshot_of: Option<PartitionId>,
}

/// A snapshot that leaves for a peer.
#[derive(Debug)]
pub struct Departure {
    /// Of which partition.
    pub partition: PartitionId,
    /// The `MsgSnapshot`, without its state.
    pub message: Message,
    /// Everyone who belongs to the group there.
    pub members: Vec<Member>,
    /// Where in the journal its slices are.
    pub places: Arc<[Place]>,
}

/// What a partition must find again after a crash.
#[derive(Debug)]
pub enum Record {
    /// Consecutive entries. They supersede whatever the log held from the first one's position on.
    Entries(Vec<Entry>),
    /// Term, vote and commit. The commit never names an entry that is not recorded before.
    State(HardState),
    /// A snapshot begins; an unfinished one is void.
    SnapshotBegin(Position),
    /// The next slice of it.
    SnapshotSlice(Bytes),
    /// It is whole.
    SnapshotEnd(SnapshotFacts),
}

/// Where a slice of a snapshot lies in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// In which segment.
    pub segment: u64,
    /// Where its bytes begin there.
    pub offset: u64,
    /// How many there are.
    pub bytes: u32,
    /// CRC-32C of them: a segment that was used again since says something else.
    pub checksum: u32,
}

/// What a snapshot is of.
#[derive(Clone, Debug)]
pub struct SnapshotFacts {
    /// The last position that it holds.
    pub position: Position,
    /// The term of the entry there.
    pub term: Term,
    /// The machine's index there.
    pub index: Index,
    /// The digest of the state.
    pub digest: u64,
    /// Who voted and listened there.
    pub conf: ConfState,
    /// Everyone who belonged to the group there.
    pub members: Vec<Member>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a snapshot comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Taken from the state here: later entries of the log stay.
    Taken,
    /// Sent by a leader: the whole log before it is void.
    Received,
}

impl Effects {
    /// Empties it for turn `turn` and keeps its room; how much of snapshots may be written is to be
    /// said. The replies are lent by the outbox.
    pub fn begin(&mut self, turn: u64) {
        assert!(turn > self.turn, "turn {turn} does not follow {}", self.turn);
        assert!(self.records.is_empty(), "records of turn {} were never sealed", self.turn);
        self.turn = turn;
        self.messages.clear();
        self.snapshots.clear();
        self.changed.clear();
        self.events.clear();
        self.snapshot_budget_bytes = 0;
    }
}
