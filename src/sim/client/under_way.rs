//! What a client has under way: its session, what runs in it, what is finished and kept to be sent
//! again, and the calls that are out. Absent on purpose: what comes of it (`client.rs`).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::NodeId;
use crate::partition::reply::Status;
use crate::workload::Op;

/// Whether a client still begins things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Working,
    /// It lets what is under way come to its end.
    Draining,
    /// It reads everything once more.
    Reading,
    Done,
}

#[derive(Debug)]
pub(super) struct Live {
    pub id: u64,
    pub place: usize,
    pub primitives: Vec<Option<u64>>,
    pub next_sequence: u64,
    pub runs: BTreeMap<u64, Run>,
    pub next_run: u64,
    pub finished: Vec<Finished>,
    pub keep_alive_ns: u64,
    pub max_index: u64,
    pub seen: u64,
    pub listening: bool,
    pub to_read: Vec<(usize, Op)>,
}

/// Something under way in a session.
#[derive(Debug)]
pub(super) struct Run {
    pub sequence: Option<u64>,
    pub primitive: usize,
    /// The operation and its record; `None` opens the primitive.
    pub op: Option<(Op, usize)>,
    pub body: Bytes,
    pub retry_ns: Option<u64>,
    pub gives_up_ns: u64,
    /// The stream's place in the history and the last output's number.
    pub stream: Option<(usize, u64)>,
    /// The call on which that came.
    pub heard_on: Option<u64>,
}

/// A command that has its answer, kept to be sent again.
#[derive(Debug)]
pub(super) struct Finished {
    pub sequence: u64,
    pub body: Bytes,
    pub index: u64,
    pub status: Status,
    pub output: Bytes,
    pub again_ns: u64,
    /// A keep-alive was answered that named it finished, without a false positive.
    pub told: bool,
}

#[derive(Debug)]
pub(super) struct Call {
    pub what: What,
    pub node: NodeId,
    pub ends_ns: u64,
}

#[derive(Debug)]
pub(super) enum What {
    Open { stamp: u64 },
    KeepAlive { session: u64, stamp: u64, open: Vec<u64>, last: u64 },
    Run { session: u64, run: u64 },
    Late { told: bool, index: u64, status: Status, output: Bytes },
}
