//! Everything that can be on its way in a world.
//!
//! Each names whom it is for; what was meant for an earlier life of a node names that life. Absent
//! on purpose: what comes of it (`world.rs`).

use bytes::Bytes;

use crate::id::{Mark, NodeId, PartitionId, ShardId};
use crate::shard::inbox::{Ask, Delivery, Letter};
use crate::shard::outbox::SnapshotOut;
use crate::sim::call::{Heard, Parcel};
use crate::sim::node::Caller;
use crate::wire::bundle::Piece;
use crate::wire::format::Formats;

#[derive(Debug)]
pub(super) enum Event {
    Turn {
        node: NodeId,
        shard: ShardId,
    },
    Bundle {
        from: NodeId,
        to: NodeId,
        shard: ShardId,
        bytes: Bytes,
    },
    Snapshot {
        from: NodeId,
        to: NodeId,
        shard: ShardId,
        pieces: Vec<Piece>,
    },
    Lost {
        node: NodeId,
        shard: ShardId,
        peer: NodeId,
    },
    Sent {
        from: NodeId,
        shard: ShardId,
        life: u64,
        snapshot: SnapshotOut,
        delivery: Delivery,
    },
    Letter {
        node: NodeId,
        shard: ShardId,
        life: u64,
        from: ShardId,
        letter: Letter,
    },
    Written {
        node: NodeId,
        shard: ShardId,
        life: u64,
        mark: Mark,
    },
    Request {
        caller: Caller,
        node: NodeId,
        shard: ShardId,
        partition: PartitionId,
        ask: Ask,
        body: Parcel,
    },
    Hangup {
        caller: Caller,
        partition: PartitionId,
    },
    Answer {
        caller: Caller,
        heard: Heard,
    },
    Client {
        place: usize,
    },
    Fault {
        place: usize,
    },
    Boot {
        node: NodeId,
        life: u64,
    },
    /// A node that was told to end does.
    Stop {
        node: NodeId,
        life: u64,
        down_ns: u64,
        formats: Formats,
    },
    /// The links between two nodes are there, if they are.
    Linked {
        node: NodeId,
        peer: NodeId,
    },
    Mend {
        links: Vec<(NodeId, NodeId)>,
    },
    Pace {
        node: NodeId,
    },
    HungUp {
        node: NodeId,
        peer: NodeId,
    },
    Room {
        node: NodeId,
    },
    Heal,
    Operate,
}
