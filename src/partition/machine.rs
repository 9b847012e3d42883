//! Apply: the replicated state of one partition.

use crate::id::{Index, PartitionId, Position, Term, Ticket};
use crate::limits::Bounds;
use crate::partition::entry;
use crate::partition::reply::{Refusal, Replies};
use crate::partition::snapshot::{Broken, Cursor, Progress};
use crate::time::LogTime;

/// The replicated state of one partition.
#[derive(Debug)]
pub struct Machine {
    index: Index,
    time: LogTime,
    log: Vec<u8>,
}

impl Machine {
    /// The state before the first command.
    #[must_use]
    pub fn new(_partition: PartitionId, _bounds: Bounds) -> Machine {
        Machine { index: Index(0), time: LogTime(0), log: Vec::new() }
    }

    /// Applies one committed entry.
    pub fn apply(
        &mut self,
        _position: Position,
        _term: Term,
        data: &[u8],
        callers: &[Option<Ticket>],
        replies: &mut Replies,
    ) {
        let mut number = 0;
        for command in entry::commands(data) {
            self.time = self.time.max(command.stamp.unwrap_or_default());
            if command.input == entry::Input::Tick {
                continue;
            }
            self.index = self.index.next();
            self.log.extend_from_slice(&self.index.0.to_be_bytes());
            if let Some(ticket) = callers.get(number).copied().flatten() {
                replies.output(
                    ticket,
                    self.index,
                    1,
                    crate::partition::reply::Status::Ok,
                    b"",
                    true,
                );
            }
            number += 1;
        }
    }

    /// Answers a confirmed read.
    pub fn query(&mut self, ticket: Ticket, _body: &[u8], replies: &mut Replies) {
        replies.output(ticket, self.index, 0, crate::partition::reply::Status::Ok, b"", true);
    }

    /// Whether listings wait for `more`.
    #[must_use]
    pub fn has_more(&self) -> bool {
        false
    }

    /// Hands out the next pieces of listings.
    pub fn more(&mut self, _replies: &mut Replies) {}

    /// The caller hung up.
    pub fn gone(&mut self, _ticket: Ticket) {}

    /// Refuses every attached caller and watcher.
    pub fn detach(&mut self, _refusal: Refusal, _replies: &mut Replies) {}

    /// How many commands were applied.
    #[must_use]
    pub fn index(&self) -> Index {
        self.index
    }

    /// The log time.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// When the leader should propose a tick if nothing else comes.
    #[must_use]
    pub fn next_timer(&self) -> Option<LogTime> {
        None
    }

    /// Equal on equal replicas.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.index.0
    }

    /// Memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        0
    }

    /// Writes the next slice of the state.
    #[must_use]
    pub fn snapshot(
        &self,
        _cursor: &mut Cursor,
        _budget_bytes: usize,
        into: &mut Vec<u8>,
    ) -> Progress {
        into.extend_from_slice(&self.time.0.to_be_bytes());
        into.extend_from_slice(&self.log);
        Progress::Done
    }

    /// The state that a snapshot holds.
    pub fn restore(
        partition: PartitionId,
        bounds: Bounds,
        bytes: &[u8],
    ) -> Result<Machine, Broken> {
        let mut machine = Machine::new(partition, bounds);
        let (time, log) = bytes.split_first_chunk::<8>().ok_or(Broken::Malformed("short"))?;
        machine.time = LogTime(u64::from_be_bytes(*time));
        machine.log = log.to_vec();
        machine.index = Index(log.len() as u64 / 8);
        Ok(machine)
    }
}
