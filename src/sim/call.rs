//! What passes between a client and the world: requests, hanging up, and what is heard.
//!
//! Absent on purpose: delay and loss, which are the world's.

use bytes::Bytes;

use crate::id::NodeId;
use crate::partition::reply::{Event, Refusal, Status};
use crate::shard::inbox::Ask;
use crate::time::Span;

/// Something a client sends.
#[derive(Debug)]
pub struct Send {
    /// By which the client knows the answer.
    pub call: u64,
    /// Where to.
    pub node: NodeId,
    /// What is asked.
    pub ask: Ask,
    /// Its body.
    pub body: Bytes,
    /// After how long it is not to go on; `None`: never.
    pub timeout: Option<Span>,
}

/// What a client does to the world.
#[derive(Debug)]
pub enum Act {
    /// It sends a request.
    Send(Send),
    /// It hangs up on one.
    Hangup(u64),
}

/// What a client hears on a call.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub enum Heard {
    /// An output; nothing follows when `last`.
    Output { index: u64, number: u64, status: Status, bytes: Bytes, last: bool },
    /// Something happened that it watches for.
    Event(Event),
    /// The stream ended regularly.
    End,
    /// The call ended without a value.
    Refused(Refusal),
    /// The connection broke.
    Broken,
}

impl Heard {
    /// Whether nothing follows on the call.
    #[must_use]
    pub fn is_last(&self) -> bool {
        !matches!(self, Heard::Output { last: false, .. } | Heard::Event(_))
    }
}

/// What a request carries: its body, and after how long its caller gives up.
#[derive(Clone, Default, Debug)]
pub struct Parcel {
    /// As `Ask` says.
    pub bytes: Bytes,
    /// `None` for never.
    pub timeout: Option<Span>,
}

impl From<Bytes> for Parcel {
    fn from(bytes: Bytes) -> Parcel {
        Parcel { bytes, timeout: None }
    }
}

impl From<Vec<u8>> for Parcel {
    fn from(bytes: Vec<u8>) -> Parcel {
        Bytes::from(bytes).into()
    }
}
