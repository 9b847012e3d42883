//! What clients asked and heard, in an order that no two entries share.
//!
//! A record is opened before the first copy of a request leaves its client and closed by the first
//! answer that arrives. One that stays open may have been done, at any time after it was asked.
//! Stamps are the world's nanoseconds, pushed apart by one where they would be equal.

use crate::id::{Kind, PartitionId};
use crate::sim::coverage::Coverage;
use crate::workload::{Op, Outcome};

/// All that clients saw.
#[derive(Debug, Default)]
pub struct History {
    /// Every operation, by number.
    pub records: Vec<Record>,
    /// Every session, by number.
    pub sessions: Vec<Session>,
    /// Every event that a stream delivered, in the order of its stream.
    pub streams: Vec<Stream>,
    /// What was met on the way, by clients and by the world.
    pub coverage: Coverage,
    last_stamp: u64,
}

/// One operation of one client.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whose.
    pub client: u32,
    /// In which of `History::sessions`.
    pub session: usize,
    /// On which partition.
    pub partition: PartitionId,
    /// On which primitive.
    pub primitive: (Kind, String),
    /// What was asked.
    pub op: Op,
    /// When it was first sent.
    pub call: u64,
    /// When the answer arrived; `None`: never.
    pub back: Option<u64>,
    /// The answer.
    pub outcome: Option<Outcome>,
    /// The count of applied commands that stood in the answer.
    pub index: u64,
}

/// One session of one client.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id in the partition.
    pub id: u64,
    /// On which partition.
    pub partition: PartitionId,
    /// When the last keep-alive was sent that was answered with success (at first: the opening).
    pub confirmed: u64,
    /// Its timeout in nanoseconds.
    pub timeout_ns: u64,
    /// Whether it was certainly open when the run ended.
    pub survived: bool,
    /// Whether the client closed it, and when it first tried.
    pub closed: Option<u64>,
}

/// What one event stream delivered.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The number of the operation that opened it.
    pub record: usize,
    /// Output number, index and answer, in the order of arrival without repeats.
    pub outputs: Vec<(u64, u64, Outcome)>,
    /// Whether it was certainly open to the end and had time to deliver everything.
    pub complete: bool,
}

impl History {
    /// A stamp at `now_ns` or as little later as makes it the last.
    pub fn stamp(&mut self, now_ns: u64) -> u64 {
        self.last_stamp = now_ns.max(self.last_stamp + 1);
        self.last_stamp
    }

    /// Opens a record.
    pub fn call(&mut self, record: Record) -> usize {
        self.records.push(record);
        self.records.len() - 1
    }

    /// Closes a record.
    pub fn back(&mut self, number: usize, now_ns: u64, index: u64, outcome: Outcome) {
        let stamp = self.stamp(now_ns);
        let record = &mut self.records[number];
        assert!(record.back.is_none(), "operation {number} was answered twice");
        record.back = Some(stamp);
        record.outcome = Some(outcome);
        record.index = index;
    }
}
