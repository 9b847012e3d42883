//! Why a call has no result, and what its caller should do.
//!
//! One enum for the whole library: a primitive's answer, a refusal before it, a lost session, a
//! way that broke. Which of them pass by themselves is decided here, once.

use std::fmt;

pub use crate::wire::proto::v1::operation_response_headers::Status;

/// Why a call has no result, and what its caller should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No node there, or the connection broke: look after the node, or ask another.
    #[allow(missing_docs)]
    Unreachable { endpoint: String, reason: String },
    /// The node there has no partitions: found some (Bootstrap).
    NoPartitions,
    /// The time for the call ended: the command may have been executed, or still be.
    Timeout,
    /// The session is over, and with it all that it held: locks, candidacies, event streams. Nobody
    /// can know whether the command was executed. The next call opens a new session.
    SessionLost,
    /// A streaming query broke off, and what it would have told is not kept anywhere: open it again
    /// and begin with what it then lists.
    #[allow(missing_docs)]
    Interrupted { reason: String },
    /// The node has no more of a stream's events than those after a gap: read the whole anew.
    Gap,
    /// The call was refused before it reached the primitive; `code` is gRPC's.
    #[allow(missing_docs)]
    Status { code: u32, message: String },
    /// The primitive's answer: not found, conflict and the like.
    #[allow(missing_docs)]
    Refused { status: Status, message: String },
    /// The other side does not keep to the protocol: is it a ringraft node, and in this dialect?
    Protocol(&'static str),
    /// The client was closed.
    Closed,
}

impl Fault {
    /// Whether the same call, with the same number, may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Fault::Unreachable { .. } => true,
            Fault::Status { code, .. } => matches!(*code, UNAVAILABLE | ABORTED),
            Fault::NoPartitions
            | Fault::Timeout
            | Fault::SessionLost
            | Fault::Interrupted { .. }
            | Fault::Gap
            | Fault::Refused { .. }
            | Fault::Protocol(_)
            | Fault::Closed => false,
        }
    }

    /// Whether the primitive refused with this status.
    #[must_use]
    pub fn is(&self, wanted: Status) -> bool {
        matches!(self, Fault::Refused { status, .. } if *status == wanted)
    }

    /// Whether another node might serve what this one cannot.
    pub(super) fn is_of_the_node(&self) -> bool {
        matches!(self, Fault::Unreachable { .. } | Fault::Status { code: UNAVAILABLE, .. })
    }

    /// Whether the node may have said that the session is no more; only the answer to a keep-alive
    /// says it without doubt.
    pub(super) fn is_unknown_session(&self) -> bool {
        matches!(self, Fault::Status { code: PERMISSION_DENIED | DATA_LOSS, .. })
    }

    /// Whether it may be how the end of the session shows: a keep-alive tells.
    pub(super) fn may_be_the_session(&self) -> bool {
        self.is_unknown_session() || matches!(self, Fault::Status { code: CANCELLED, .. })
    }

    /// The same for the reader of a streaming query, which cannot go on where it was.
    pub(super) fn interrupted(self) -> Fault {
        if self.is_passing() { Fault::Interrupted { reason: self.to_string() } } else { self }
    }
}

/// gRPC's numbers.
const CANCELLED: u32 = 1;
const PERMISSION_DENIED: u32 = 7;
const ABORTED: u32 = 10;
const UNAVAILABLE: u32 = 14;
const DATA_LOSS: u32 = 15;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreachable { endpoint, reason } if endpoint.is_empty() => {
                write!(f, "the connection broke: {reason}")
            }
            Fault::Unreachable { endpoint, reason } => {
                write!(f, "no node answers at {endpoint}: {reason}")
            }
            Fault::NoPartitions => f.write_str("the node has no partitions"),
            Fault::Timeout => f.write_str("no answer in time; the command may still be executed"),
            Fault::SessionLost => f.write_str("the session is lost, and all that it held"),
            Fault::Interrupted { reason } => write!(f, "the stream broke off: {reason}"),
            Fault::Gap => f.write_str("events of the stream are lost"),
            Fault::Status { message, .. } if !message.is_empty() => f.write_str(message),
            Fault::Status { code, .. } => write!(f, "refused with gRPC status {code}"),
            Fault::Refused { message, .. } if !message.is_empty() => f.write_str(message),
            Fault::Refused { status, .. } => f.write_str(status.as_str_name()),
            Fault::Protocol(what) => f.write_str(what),
            Fault::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for Fault {}
