//! Everything a turn may want done. The shell hands it out in the order of the fields, then waits
//! until an input comes or `wake` passes.

use bytes::Bytes;

use crate::id::{NodeId, PartitionId, Position, ShardId};
use crate::journal::Order;
use crate::partition::reply::Replies;
use crate::shard::inbox::{Contact, Letter};
use crate::time::Instant;

/// What a turn wants. Cleared by the shell and used again.
#[derive(Default, Debug)]
pub struct Outbox {
    /// What the disk is to do, in this sequence; writes may overlap. The shell says with
    /// `Inbox::durable` how far it got, and gives written buffers back with `Inbox::spent`.
    pub orders: Vec<Order>,
    /// To each peer shard at most one a turn: all raft messages of all partitions
    /// (`wire/bundle.rs`). More only when calls and answers need several.
    pub bundles: Vec<(NodeId, ShardId, Bytes)>,
    /// Snapshots for peers that are too far behind, on their own stream at a stated rate; the shell
    /// says with `Inbox::sent` how it ended.
    pub snapshots: Vec<SnapshotOut>,
    /// To the node's other cores, at most one of each sort a core and turn.
    pub letters: Vec<(ShardId, Letter)>,
    /// The nodes that the partitions here know, when that has changed: bundles go nowhere else.
    pub book: Option<Vec<Contact>>,
    /// For the callers of this core.
    pub replies: Replies,
    /// The node is to end, and leads here what others can lead.
    pub leads: bool,
    /// Take the next turn at this time even when nothing happens.
    pub wake: Option<Instant>,
    /// Whether requests may come; when `Full`, connections do not reopen their windows.
    pub admission: Admission,
}

/// A snapshot that is to reach a peer.
#[derive(Debug, Clone)]
pub struct SnapshotOut {
    /// To whom.
    pub to: NodeId,
    /// Which shard there owns the partition.
    pub shard: ShardId,
    /// Of which partition.
    pub partition: PartitionId,
    /// Up to which position.
    pub position: Position,
    /// What the peer's `Inbox::snapshots` is to hold.
    pub bytes: Bytes,
}

/// Whether the shard takes more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Admission {
    /// Yes.
    #[default]
    Open,
    /// Not now: commands in flight, or bytes of them, are at their bound.
    Full,
}
