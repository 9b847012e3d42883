//! Quiet groups rest: raft's clock stands still for them, and nothing is said.
//!
//! ```text
//!           calm for long, every member has everything ── the leader's word ──►
//!   awake                                                                        resting
//!           ◄── a command, a read, a wish, a message; a member is not heard ────
//! ```
//!
//! A group is calm when nothing is under way in it: every entry is committed and applied, every
//! member is known to have all of it, nobody waits. Its leader then says so to each member and
//! stops; a follower that finds it so stops too. What raft's heartbeats were for is done for all
//! resting groups of two shards at once (`shard/rest.rs`), which wakes them when it fails.
//!
//! No promise of raft's rests on its clock: it decides when somebody stands, and votes and commits
//! are counted as ever. A resting leader that is asked to read asks its followers first, as every
//! leader does. So resting can only ever cost time, and whoever has the least doubt wakes: one
//! message of raft's wakes its receiver, and a follower that others speak to wakes its leader.
//! Absent on purpose: who is heard, and when to rest; the shard knows.

use raft::eraftpb::{Message, MessageType};

use super::{Partition, replica::ROUSES};
use crate::id::{NodeId, Position, Term};

/// Whether a replica rests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// It does not; calm for so many ticks.
    Awake {
        /// Ticks at whose end nothing was under way.
        calm_ticks: usize,
    },
    /// It does.
    Resting,
}

/// What a leader says of its group: who has the log up to here, in this term, may rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// The leader's term.
    pub term: Term,
    /// Where the log ends, for the leader and everybody else.
    pub position: Position,
}

impl Default for Rest {
    fn default() -> Rest {
        Rest::Awake { calm_ticks: 0 }
    }
}

impl Partition {
    /// Whether it rests.
    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.rest == Rest::Resting
    }

    /// What this leader can tell its members after so many calm ticks; `None`: they are not over,
    /// or it does not lead.
    #[must_use]
    pub fn may_rest(&self, after_ticks: usize) -> Option<Word> {
        let Rest::Awake { calm_ticks } = self.rest else { return None };
        let long = calm_ticks >= after_ticks && self.is_leader();
        let rests = long && self.replica.hears_all() && self.is_calm();
        rests.then(|| Word { term: self.replica.term(), position: self.replica.last() })
    }

    /// This leader rests: it told everybody.
    pub fn rest(&mut self) {
        assert!(self.is_leader() && self.is_calm(), "partition {} has work to do", self.id);
        self.rest = Rest::Resting;
    }

    /// The word of a leader: the replica rests, or the leader is told to go on.
    pub fn rest_under(&mut self, leader: NodeId, word: Word) {
        if self.halted {
            return;
        }
        let same = self.replica.follows() == Some(leader) && self.replica.term() == word.term;
        if same && self.replica.last() == word.position && self.is_calm() {
            self.rest = Rest::Resting;
        } else {
            self.rest = Rest::default();
            self.released.push(self.replica.rouses(leader));
        }
    }

    /// Wakes it. It was silent for so many ticks where its leader would have been heard: raft's
    /// clock is late by as much.
    pub fn wake(&mut self, silent_ticks: usize) {
        if self.is_resting() {
            self.rest = Rest::default();
            self.replica.waited(silent_ticks);
        }
    }

    /// Wakes it and its leader, if that is another one.
    pub fn rouse(&mut self) {
        if !self.is_resting() {
            return;
        }
        self.wake(0);
        if let Some(leader) = self.replica.follows() {
            self.released.push(self.replica.rouses(leader));
        }
    }

    /// A message came: a resting replica wakes, and wakes its leader when it came from others. The
    /// answer to a leader's last heartbeat is nothing new.
    pub(super) fn stir(&mut self, message: &Message) {
        if !self.is_resting() {
            return;
        }
        let answers = message.get_msg_type() == MessageType::MsgHeartbeatResponse;
        match self.replica.follows() {
            Some(leader) if u64::from(leader.0) != message.from => self.rouse(),
            None if answers && message.context != ROUSES => {}
            _ => self.wake(0),
        }
    }

    /// At the end of a settlement: a leader that has something to do does not rest. A follower has
    /// nothing to do of its own but a snapshot, for which it needs no clock.
    pub(super) fn look_at_rest(&mut self) {
        let follows = self.replica.follows().is_some() && !self.removed && !self.halted;
        if self.is_resting() && !follows && !self.is_calm() {
            self.rest = Rest::default();
        }
    }

    /// At a tick.
    pub(super) fn count_calm(&mut self) {
        if let Rest::Awake { calm_ticks } = self.rest {
            let calm = self.replica.is_leader() && self.is_calm();
            let calm_ticks = if calm { calm_ticks + 1 } else { 0 };
            self.rest = Rest::Awake { calm_ticks };
        }
    }

    /// Whether nothing is under way, as far as this replica knows.
    fn is_calm(&self) -> bool {
        let waits = self.fresh.is_some()
            || !self.proposed.is_empty()
            || !self.committed.is_empty()
            || !self.waiting.is_empty()
            || !self.released.is_empty()
            || self.defers()
            || self.reads.waiting() > 0
            || self.committing.is_some();
        let captures = !self.capturing.is_idle() || self.capturing.is_arriving();
        let changes = self.removed || self.greet || self.hungry || captures;
        let wishes = !self.wishes.is_empty() || self.machine.has_more();
        if self.halted || waits || changes || wishes || self.lost.is_some() {
            return false;
        }
        self.applied == self.replica.last() && self.replica.is_level()
    }
}
