//! Everything a turn may want done. The shell hands it out in the order of the fields, then waits
//! until an input comes or `wake` passes.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{NodeId, PartitionId, Position, ShardId};
use crate::journal::Order;
use crate::partition::effects::Place;
use crate::partition::reply::Replies;
use crate::shard::inbox::{Contact, Letter};
use crate::time::Instant;
use crate::wire::bundle::{PIECE_HEAD_BYTES, piece_head};

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
    /// Bytes of `Inbox::snapshots` that no turn has had the means to take: the shell reads no more
    /// than its bound.
    pub snapshot_bytes_waiting: usize,
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
    /// Its first piece (`wire/bundle.rs`).
    pub head: Bytes,
    /// The others, which the shell reads from the journal's segments.
    pub places: Arc<[Place]>,
}

impl SnapshotOut {
    /// What it takes on its way, with what stands before each piece.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let slices: u64 = self.places.iter().map(|place| u64::from(place.bytes)).sum();
        let pieces = 1 + self.places.len();
        (pieces * PIECE_HEAD_BYTES + self.head.len()) as u64 + slices
    }

    /// By what its pieces are known: the same for the same state with the same head.
    #[must_use]
    pub fn tag(&self) -> u32 {
        let head = crc32c::crc32c(&self.head);
        let each = self.places.iter().map(|place| place.checksum.to_le_bytes());
        each.fold(head, |tag, checksum| crc32c::crc32c_append(tag, &checksum))
    }

    /// All of it in one, when `read` finds each slice.
    pub fn whole(&self, mut read: impl FnMut(&Place) -> Option<Vec<u8>>) -> Option<Bytes> {
        let mut whole = Vec::new();
        let bytes = u32::try_from(self.head.len()).ok()?;
        whole.extend_from_slice(&piece_head(bytes, crc32c::crc32c(&self.head)));
        whole.extend_from_slice(&self.head);
        for place in self.places.iter() {
            let slice = read(place).filter(|slice| crc32c::crc32c(slice) == place.checksum)?;
            whole.extend_from_slice(&piece_head(place.bytes, place.checksum));
            whole.extend_from_slice(&slice);
        }
        Some(whole.into())
    }
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
