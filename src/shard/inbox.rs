//! Everything that can happen to a shard between two turns. Both shells fill it; a turn empties it.
//!
//! Bytes of requests lie in one buffer per batch, so that taking a request costs no allocation and
//! a batch moves whole from core to core. Every list is bounded by the shell that fills it
//! (limits.rs); admission inside the turn bounds what is taken further.

use std::ops::Range;

use bytes::Bytes;

use crate::id::{Index, Mark, NodeId, PartitionId, ShardId, Ticket};
use crate::journal::Aligned;
pub use crate::partition::member::{Change, Member, Role};
use crate::partition::reply::Replies;
use crate::time::{Instant, Span};
use crate::wire::bundle::Piece;

/// What happened since the last turn.
#[derive(Default, Debug)]
pub struct Inbox {
    /// Calls that arrived on this core's connections, for whichever partition.
    pub requests: Requests,
    /// Callers who are gone: hung up, or reset their stream. Their commands go on (core.md 4.10).
    /// The partition is 0 for a watcher of the node.
    pub gone: Vec<(PartitionId, Ticket)>,
    /// From the node's other cores.
    pub letters: Vec<(ShardId, Letter)>,
    /// From peers: what one shard of another node had to say in one of its turns
    /// (`wire/bundle.rs`).
    pub bundles: Vec<(NodeId, Bytes)>,
    /// Snapshots from peers, each on its own stream: its pieces in order.
    pub snapshots: Vec<(NodeId, Piece)>,
    /// Peers whose link is down or who could not be given something; raft must be told.
    pub lost: Vec<NodeId>,
    /// Peers whose link to here ended, after what it brought: a leader among them is not waited
    /// for.
    pub hung_up: Vec<NodeId>,
    /// What became of links, for routes and watchers.
    pub links: Vec<LinkNews>,
    /// Snapshots given to peers, or not: partition, peer, whether it arrived whole.
    pub sent: Vec<(PartitionId, NodeId, Delivery)>,
    /// Every block up to this is durable.
    pub durable: Option<Mark>,
    /// Buffers of blocks that are written, for the journal to fill again.
    pub spent: Vec<Aligned>,
    /// The node is to end: what is led here is handed over.
    pub drains: bool,
    /// Whether the disk still takes new segments; `None`: as before.
    pub disk: Option<DiskRoom>,
}

/// How the delivery of a snapshot ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Delivery {
    Arrived,
    Failed,
}

/// Where a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Which node.
    pub node: NodeId,
    /// Its host, a name or an address.
    pub host: String,
    /// Its peer port.
    pub port: u16,
}

impl Contact {
    /// As people write it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A link came up or went down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkNews {
    /// To or from which peer.
    pub node: NodeId,
    /// Where it is.
    pub address: String,
    /// Whether it carries a snapshot.
    pub snapshot: bool,
    /// The peer's shards (0: not said), when it came up; `None` when it went down.
    pub up: Option<u16>,
    /// The port of the peer's clients; 0: not said.
    pub api_port: u16,
    /// What the link speaks (`wire/format.rs`); 0: not said.
    pub format: u32,
}

/// Whether the disk has room for the segments to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskRoom {
    /// Yes.
    Enough,
    /// No segment can be prepared: refuse commands that grow the log, keep reading.
    Full,
}

/// A batch of calls.
#[derive(Default, Debug)]
pub struct Requests {
    /// In the order in which they came.
    pub list: Vec<Request>,
    /// The bodies that the list names by range.
    pub bytes: Vec<u8>,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who waits for the answer.
    pub ticket: Ticket,
    /// Which partition it is for; unused (0) for `WatchNode`.
    pub partition: PartitionId,
    /// When the caller stops waiting; `None` for never.
    pub deadline: Option<Instant>,
    /// What is asked.
    pub ask: Ask,
    /// Its bytes in `Requests::bytes`, as `Ask` says.
    pub body: Range<u32>,
}

/// What a call asks. The edge has checked the form of the bytes; nothing has been decoded for its
/// meaning.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A change. The body is a `StateMachineProposalInput` without its timestamp: exactly one
    /// member of the oneof, and inside a primitive's command field 100, its kind.
    Command,
    /// A read. The body is a `SessionQueryInput` with field 100 in its `PrimitiveQueryInput`.
    Query {
        /// Not before this many commands are applied.
        at_least: Index,
    },
    /// `Partition.Watch`.
    WatchPartition,
    /// `Node.Watch`. Comes on the watcher's core, which asks every other shard with the same
    /// ticket.
    WatchNode,
    /// `Node.Bootstrap`: found the group here.
    Bootstrap {
        /// Which of the members this node is.
        local: NodeId,
        /// All of them.
        members: Vec<Member>,
    },
    /// `Node.Join`: start a replica of a group that runs and have its leader admit it.
    Join {
        /// Which of the members this node is.
        local: NodeId,
        /// This node in the part that it is to take, and others who may be asked.
        members: Vec<Member>,
    },
    /// `Node.Leave`.
    Leave,
    /// A change of the group's members or of its leader, by whoever leads; answered when it is so.
    Change {
        /// What.
        change: Change,
        /// It was passed on already, and is refused by whoever does not lead.
        passed: bool,
    },
    /// The same for an operator: the leader is asked, whoever that is by then, until it is so or
    /// this much time has passed.
    Arrange {
        /// What.
        change: Change,
        /// How long.
        patience: Span,
    },
    /// How the group is. The answer is a `DescribePartitionResponse`.
    Describe {
        /// As the replica here sees it; else as the leader does.
        here: bool,
    },
}

/// A value passed core to core; one send a pair and turn.
#[derive(Debug)]
pub enum Letter {
    /// Calls that arrived at the sender and belong to the receiver's partitions.
    Requests(Requests),
    /// Answers to calls that the receiver's connections wait for.
    Replies(Replies),
    /// Callers at the sender who are gone.
    Gone(Vec<(PartitionId, Ticket)>),
    /// Where the nodes are that share a group with the sender.
    Contacts(Vec<Contact>),
}

impl Requests {
    /// Empties the batch and keeps its room.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }

    /// The body of one of its requests.
    #[must_use]
    pub fn body(&self, request: &Request) -> &[u8] {
        &self.bytes[request.body.start as usize..request.body.end as usize]
    }

    /// Adds a call whose body `write` appends.
    pub fn push(
        &mut self,
        ticket: Ticket,
        partition: PartitionId,
        deadline: Option<Instant>,
        ask: Ask,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.place();
        write(&mut self.bytes);
        let body = start..self.place();
        self.list.push(Request { ticket, partition, deadline, ask, body });
    }

    /// Moves a copy of `request`, which stands in `from`, to the end of this batch.
    pub fn copy(&mut self, from: &Requests, request: &Request) {
        let start = self.place();
        self.bytes.extend_from_slice(from.body(request));
        let body = start..self.place();
        self.list.push(Request { body, ..request.clone() });
    }

    fn place(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("a turn's requests stay below 4 GiB")
    }
}
