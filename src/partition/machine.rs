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
}

impl Machine {
    /// The state before the first command.
    #[must_use]
    pub fn new(_partition: PartitionId, _bounds: Bounds) -> Machine {
        Machine { index: Index(0), time: LogTime(0) }
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
            if let Some(ticket) = callers.get(number).copied().flatten() {
                replies.refuse(ticket, Refusal::Unimplemented("not yet"));
            }
            number += 1;
        }
    }

    /// Answers a confirmed read.
    pub fn query(&mut self, ticket: Ticket, _body: &[u8], replies: &mut Replies) {
        replies.refuse(ticket, Refusal::Unimplemented("not yet"));
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
        _into: &mut Vec<u8>,
    ) -> Progress {
        Progress::Done
    }

    /// The state that a snapshot holds.
    pub fn restore(
        partition: PartitionId,
        bounds: Bounds,
        _bytes: &[u8],
    ) -> Result<Machine, Broken> {
        Ok(Machine::new(partition, bounds))
    }
}
