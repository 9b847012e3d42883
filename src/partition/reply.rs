//! What a partition answers to callers: a batch of small values and one buffer of bytes.
//!
//! A reply names its caller by ticket and knows nothing of gRPC, methods or dialects: the edge,
//! which kept the method of each ticket, turns it into a response. Batches move whole between
//! cores, so a turn costs one letter a core however many replies it holds. Every reply stems from
//! applied commands or confirmed reads, so it may leave at once.

use std::ops::Range;

use crate::id::{Index, NodeId, PartitionId, Position, SessionId, Term, Ticket};

/// The replies of one turn. Cleared and used again; the buffers keep their room.
#[derive(Default, Debug)]
pub struct Replies {
    /// In the order in which they are to reach each caller.
    pub list: Vec<Reply>,
    /// The payloads and texts that the list names by range.
    pub bytes: Vec<u8>,
}

/// One answer to one caller.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Who asked.
    pub ticket: Ticket,
    /// What comes back.
    pub body: Body,
    /// Nothing more follows for this ticket: a unary call has its answer, a stream ends after this.
    pub last: bool,
}

/// What one reply says.
#[derive(Debug, Clone)]
pub enum Body {
    /// One output of a command or query; the first, and as a rule the only one, of a unary call.
    Output(Output),
    /// One event for a watcher of a node or of a partition.
    Event(Event),
    /// A watcher of the node has been told all that one shard has; its events from now on happen.
    Replayed,
    /// The stream ends regularly and carries nothing more: gRPC OK on a stream; a unary call that
    /// is ended so before its output gets CANCELLED "stream closed" (primitives.md 1.4).
    End,
    /// The call ends without a value; the edge maps it to a gRPC status.
    Refused(Refusal),
}

/// One output of a command or a query.
#[derive(Debug, Clone)]
pub struct Output {
    /// The count of applied commands when the output was produced (`headers.…partition.index`).
    pub index: Index,
    /// `output_sequence_num`: 1, 2, 3 … per command; 0 where the protocol has none (queries,
    /// sessions, the life of primitives).
    pub number: u64,
    /// How it went.
    pub status: Status,
    /// In `Replies::bytes`. Status OK: the message that stands in the response's field 2 (for a
    /// primitive the member of its output's oneof, without tag and length). Else the text of the
    /// failure.
    pub bytes: Range<u32>,
}

/// How an operation went, by name; the numbers on the wire differ by dialect (core.md, appendix D).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Status {
    Ok,
    Error,
    Unknown,
    Canceled,
    NotFound,
    AlreadyExists,
    Unauthorized,
    Forbidden,
    Conflict,
    Invalid,
    Unavailable,
    NotSupported,
    Timeout,
    Fault,
    Internal,
}

impl Status {
    /// All, in the order of their numbers between nodes.
    pub const ALL: [Status; 15] = [
        Status::Ok,
        Status::Error,
        Status::Unknown,
        Status::Canceled,
        Status::NotFound,
        Status::AlreadyExists,
        Status::Unauthorized,
        Status::Forbidden,
        Status::Conflict,
        Status::Invalid,
        Status::Unavailable,
        Status::NotSupported,
        Status::Timeout,
        Status::Fault,
        Status::Internal,
    ];

    /// Its number between nodes, 0 to 14: its place among `ALL`.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The one of this number between nodes.
    #[must_use]
    pub fn of_number(number: u32) -> Option<Status> {
        Status::ALL.get(number as usize).copied()
    }

    /// Its number in a `Failure` of the documented format, which snapshots have (core.md, appendix
    /// D): UNKNOWN comes before ERROR there, and what succeeded has none.
    #[must_use]
    pub fn failure_number(self) -> u64 {
        match self {
            Status::Ok | Status::Unknown => 0,
            Status::Error => 1,
            later => u64::from(later.number()) - 1,
        }
    }

    /// The one of this number in a `Failure`.
    #[must_use]
    pub fn of_failure(number: u64) -> Option<Status> {
        let mut failures = Status::ALL.into_iter().filter(|status| *status != Status::Ok);
        failures.find(|status| status.failure_number() == number)
    }
}

/// Why a call ends without a value, and what its sender should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This node has no such partition: "unknown partition N", with the code of the dialect
    /// (core.md 4.5).
    UnknownPartition(PartitionId),
    /// Open a session; this one is gone or never was: "session not found", with the code of the
    /// dialect.
    UnknownSession(SessionId),
    /// Send it again, same sequence number, here or elsewhere: UNAVAILABLE with this text.
    Unavailable(&'static str),
    /// Wait, then send it again: RESOURCE_EXHAUSTED with this text.
    Full(&'static str),
    /// Another call with the same number took over; unary ABORTED, stream UNAVAILABLE (wire.md, 3).
    Overtaken,
    /// Cancelled before it had an output: CANCELLED "stream closed".
    Cancelled,
    /// Its deadline passed: DEADLINE_EXCEEDED.
    Deadline,
    /// Fix the program: INVALID_ARGUMENT with this text.
    Malformed(String),
    /// What it names is not here: NOT_FOUND with this text.
    NotFound(String),
    /// Against what is: FAILED_PRECONDITION with this text.
    Precondition(String),
    /// Not built: UNIMPLEMENTED with this text.
    Unimplemented(&'static str),
    /// As another node, to which the call was passed on, says.
    Elsewhere(Elsewhere, String),
}

/// What another node says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// UNAVAILABLE.
    Unavailable,
    /// RESOURCE_EXHAUSTED.
    Full,
}

/// Something that happened to a partition's replica, for `Node.Watch` and `Partition.Watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Wall clock in nanoseconds since the Unix epoch; `None` for what is replayed on subscription,
    /// which carries the zero time (core.md 2.5).
    pub at: Option<u64>,
    /// Of which group.
    pub partition: PartitionId,
    /// The replica to which it happened: this node's, by its name in that group.
    pub local: NodeId,
    /// What.
    pub what: Happening,
}

/// What can happen to a replica. Positions are those of the raft log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Happening {
    MemberReady {
        node: NodeId,
    },
    LeaderUpdated {
        term: Term,
        leader: Option<NodeId>,
    },
    MembershipChanged {
        about: NodeId,
        members: Vec<NodeId>,
    },
    SendSnapshotStarted {
        index: Position,
        to: NodeId,
    },
    SendSnapshotCompleted {
        index: Position,
        to: NodeId,
    },
    SendSnapshotAborted {
        index: Position,
        to: NodeId,
    },
    SnapshotReceived {
        index: Position,
        from: NodeId,
    },
    SnapshotRecovered {
        index: Position,
    },
    SnapshotCreated {
        index: Position,
    },
    SnapshotCompacted {
        index: Position,
    },
    LogCompacted {
        index: Position,
    },
    JournalCompacted {
        index: Position,
    },
    /// A link to a peer, or from it, came up.
    ConnectionEstablished {
        /// Where the peer is.
        address: String,
        /// Whether it carries a snapshot.
        snapshot: bool,
    },
    /// Such a link went down.
    ConnectionFailed {
        /// Where the peer is.
        address: String,
        /// Whether it carried a snapshot.
        snapshot: bool,
    },
    /// `Partition.Watch` only: API addresses `host:port` of leader (empty: unknown) and followers.
    ServiceConfigChanged {
        leader: String,
        followers: Vec<String>,
    },
}

impl Replies {
    /// Empties the batch and keeps its room.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The bytes that an output names.
    #[must_use]
    pub fn bytes_of(&self, output: &Output) -> &[u8] {
        &self.bytes[output.bytes.start as usize..output.bytes.end as usize]
    }

    /// Adds one output; `bytes` as `Output::bytes` says.
    pub fn output(
        &mut self,
        ticket: Ticket,
        index: Index,
        number: u64,
        status: Status,
        bytes: &[u8],
        last: bool,
    ) {
        let start = self.place();
        self.bytes.extend_from_slice(bytes);
        let range = start..self.place();
        let body = Body::Output(Output { index, number, status, bytes: range });
        self.list.push(Reply { ticket, body, last });
    }

    /// Adds the answer of a call that has nothing to give but that it is done.
    pub fn done(&mut self, ticket: Ticket) {
        self.output(ticket, Index(0), 0, Status::Ok, &[], true);
    }

    /// Adds the regular end of a stream.
    pub fn end(&mut self, ticket: Ticket) {
        self.list.push(Reply { ticket, body: Body::End, last: true });
    }

    /// Adds a refusal, which is always the last word.
    pub fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.list.push(Reply { ticket, body: Body::Refused(refusal), last: true });
    }

    /// Adds an event of a watch.
    pub fn event(&mut self, ticket: Ticket, event: Event) {
        self.list.push(Reply { ticket, body: Body::Event(event), last: false });
    }

    /// Adds the mark that what was there at the beginning of a watch has been told.
    pub fn replayed(&mut self, ticket: Ticket) {
        self.list.push(Reply { ticket, body: Body::Replayed, last: false });
    }

    /// Moves a copy of `reply`, which stands in `from`, to the end of this batch.
    pub fn copy(&mut self, from: &Replies, reply: &Reply) {
        let mut reply = reply.clone();
        if let Body::Output(output) = &mut reply.body {
            let start = self.place();
            self.bytes.extend_from_slice(from.bytes_of(output));
            output.bytes = start..self.place();
        }
        self.list.push(reply);
    }

    fn place(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("a turn's replies stay below 4 GiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_statuses_read_back_and_stay() {
        for (place, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status.number() as usize, place);
            assert_eq!(Status::of_number(status.number()), Some(status));
            if status != Status::Ok {
                assert_eq!(Status::of_failure(status.failure_number()), Some(status));
            }
        }
        assert_eq!((Status::of_number(15), Status::of_failure(14)), (None, None));
        assert_eq!(Status::of_failure(0), Some(Status::Unknown));
        assert_eq!(Status::of_failure(2), Some(Status::Canceled));
        assert_eq!(Status::Internal.failure_number(), 13);
    }
}
