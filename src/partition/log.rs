//! The tail of one partition's log in memory, as raft wants to see it.
//!
//! ```text
//!   compacted      │ retained for followers │ not in any snapshot        │
//!   ……………………………… base ─────────── snapshot ───────────── applied ── last
//! ```
//!
//! Everything after `base` is here, so raft never waits for a disk. Entries before the newest
//! snapshot are kept to a number, for followers a little behind; those further behind get the
//! snapshot. What is on the shelf is only which one there is: its state is in the journal. A
//! witness needs none, and gets one without at once. Absent on purpose: durability. What is here
//! may not be on disk yet; `partition/mod.rs` knows.

use std::{cell::Cell, collections::VecDeque};

use raft::{
    Error, GetEntriesContext, RaftState, Result, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};

use crate::{
    id::{Position, Term},
    partition::witness,
};

/// What is counted for an entry beside its data.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// One partition's log, from `base` on.
#[derive(Debug)]
pub struct Log {
    entries: VecDeque<Entry>,
    bytes: usize,
    base: Position,
    base_term: Term,
    hard: HardState,
    members: ConfState,
    /// Where the newest change of members stands.
    members_at: Position,
    /// Those of them that get snapshots without state.
    witnesses: Vec<u64>,
    /// Up to where everything is applied.
    applied: Position,
    shelf: Option<Snapshot>,
    /// A newer one is being written.
    renewing: bool,
    wanted: Cell<bool>,
}

impl Log {
    /// The empty log of a group that starts with these members.
    #[must_use]
    pub fn new(members: ConfState) -> Log {
        Log {
            entries: VecDeque::new(),
            bytes: 0,
            base: Position(0),
            base_term: Term(0),
            hard: HardState::default(),
            members,
            members_at: Position(0),
            witnesses: Vec::new(),
            applied: Position(0),
            shelf: None,
            renewing: false,
            wanted: Cell::new(false),
        }
    }

    /// The log as it was recovered: entries after `base`, or none.
    ///
    /// The commit is cut to what is there: it may have been recorded before a tail that was torn
    /// off and never acknowledged. A term below the last entry's is raised and the vote void: the
    /// entries are recorded before the term that they came in, and no vote of that term left before
    /// it was durable.
    #[must_use]
    pub fn recovered(
        members: ConfState,
        base: Position,
        base_term: Term,
        entries: Vec<Entry>,
        mut hard: HardState,
    ) -> Log {
        let mut log = Log::new(members);
        (log.base, log.base_term, log.members_at) = (base, base_term, base);
        log.applied = base;
        log.append(&entries);
        hard.commit = hard.commit.clamp(base.0, log.last().0);
        let last_term = log.entries.back().map_or(base_term.0, |entry| entry.term);
        if hard.term < last_term {
            hard.term = last_term;
            hard.vote = 0;
        }
        log.hard = hard;
        log
    }

    /// Adds entries and drops what they supersede.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.base.0 && first.index <= self.last().0 + 1,
            "an entry at {} does not join the log {}..={}",
            first.index,
            self.base,
            self.last()
        );
        while self.last().0 >= first.index {
            let dropped = self.entries.pop_back().expect("the last position is past the base");
            self.bytes -= cost(&dropped);
        }
        for entry in entries {
            assert_eq!(entry.index, self.last().0 + 1, "entries are consecutive");
            self.bytes += cost(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// Drops the entries up to `to`, which stands in a snapshot.
    pub fn compact(&mut self, to: Position) {
        assert!(to <= self.last(), "compacting to {to}, the log ends at {}", self.last());
        while self.base < to {
            let dropped = self.entries.pop_front().expect("the base is before the last position");
            self.bytes -= cost(&dropped);
            (self.base, self.base_term) = (Position(dropped.index), Term(dropped.term));
        }
    }

    /// Starts over after a snapshot that a leader sent.
    pub fn install(&mut self, position: Position, term: Term, members: ConfState) {
        assert!(position > self.base, "a snapshot at {position} is not past {}", self.base);
        self.entries.clear();
        self.bytes = 0;
        (self.base, self.base_term) = (position, term);
        (self.members, self.members_at) = (members, position);
        self.applied = position;
        (self.shelf, self.renewing) = (None, false);
        self.wanted.set(false);
    }

    /// The entry at `position` changed the members to these.
    pub fn set_members(&mut self, members: ConfState, position: Position) {
        (self.members, self.members_at) = (members, position);
    }

    /// Those of the members that hold no state.
    pub fn set_witnesses(&mut self, witnesses: Vec<u64>) {
        self.witnesses = witnesses;
    }

    /// Everything up to `position` is applied.
    pub fn set_applied(&mut self, position: Position) {
        assert!(position >= self.applied, "{position} was applied, as {}", self.applied);
        self.applied = position;
    }

    /// Whether some member holds no state.
    #[must_use]
    pub fn has_witnesses(&self) -> bool {
        !self.witnesses.is_empty()
    }

    /// Whether a member holds no state, and therefore never leads.
    #[must_use]
    pub fn is_witness(&self, id: u64) -> bool {
        self.witnesses.contains(&id)
    }

    /// Where the newest change of members stands, or the snapshot that it is known from.
    #[must_use]
    pub fn members_at(&self) -> Position {
        self.members_at
    }

    /// Term, vote and commit as last remembered.
    #[must_use]
    pub fn hard(&self) -> &HardState {
        &self.hard
    }

    /// Remembers term, vote and commit.
    pub fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
    }

    /// The newest snapshot that is durable here, for followers that ask for one. It has no state.
    pub fn put_on_shelf(&mut self, snapshot: Snapshot) {
        self.wanted.set(false);
        (self.shelf, self.renewing) = (Some(snapshot), false);
    }

    /// A newer one is being written, or was given up. Once that is durable, the slices of the one
    /// on the shelf are freed: who needs one meanwhile waits for the newer.
    pub fn renew_shelf(&mut self, renewing: bool) {
        self.renewing = renewing;
        // Who waited for one that was given up may do with the old one, and asks again if not.
        self.wanted.set(self.wanted.get() && renewing);
    }

    /// It is of no use any more.
    pub fn clear_shelf(&mut self) {
        self.shelf = None;
    }

    /// Whether a follower asked for a snapshot and there was none to give.
    #[must_use]
    pub fn snapshot_wanted(&self) -> bool {
        self.wanted.get()
    }

    /// The position before the first entry here.
    #[must_use]
    pub fn base(&self) -> Position {
        self.base
    }

    /// The last position.
    #[must_use]
    pub fn last(&self) -> Position {
        Position(self.base.0 + self.entries.len() as u64)
    }

    /// The members as last recorded.
    #[must_use]
    pub fn members(&self) -> &ConfState {
        &self.members
    }

    /// Memory held by the entries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The term of the entry at `position`, when that is known.
    #[must_use]
    pub fn term_at(&self, position: Position) -> Option<Term> {
        if position == self.base {
            return Some(self.base_term);
        }
        let offset = position.0.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|entry| Term(entry.term))
    }

    /// The entries from the newest to the oldest.
    pub fn backwards(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev()
    }
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last().0 + 1,
            "asked for {low}..{high}, the log ends at {}",
            self.last()
        );
        let offset = (low - self.base.0 - 1) as usize;
        let room = max_size.into().unwrap_or(u64::MAX);
        // As a rule there is one, the turn's; more are bounded by their bytes.
        let mut taken = Vec::with_capacity((high - low).min(8) as usize);
        let mut bytes = 0;
        for entry in self.entries.range(offset..offset + (high - low) as usize) {
            bytes += cost(entry) as u64;
            if bytes > room && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, position: u64) -> Result<u64> {
        if position < self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.term_at(Position(position)) {
            Some(term) => Ok(term.0),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last().0)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        if self.is_witness(to) {
            return self.stateless_snapshot(request_index, to);
        }
        match &self.shelf {
            // One before the base would leave a gap that no append can fill; one before the newest
            // change of members may be of a group without the one who needs it. While another one
            // waits for a newer, none leaves, so that there is a time for that to be taken.
            Some(snapshot)
                if !self.renewing
                    && !self.wanted.get()
                    && snapshot.get_metadata().index
                        >= request_index.max(self.base.0).max(self.members_at.0) =>
            {
                Ok(snapshot.clone())
            }
            _ => {
                self.wanted.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

impl Log {
    /// The members as of what is applied; not while a change is being applied, which may be the one
    /// that `to` comes with.
    fn stateless_snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        let (position, members) = (self.applied, &self.members);
        let lists = [&members.voters, &members.learners, &members.voters_outgoing];
        let belongs = lists.iter().any(|list| list.contains(&to));
        let enough = self.members_at.0.max(request_index).max(1);
        let term = self.term_at(position).filter(|_| belongs && position.0 >= enough);
        let unavailable = Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        term.map(|term| witness::snapshot(position, term, members.clone())).ok_or(unavailable)
    }
}

/// What an entry counts for, here and in raft's limits.
fn cost(entry: &Entry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(positions: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
        positions
            .map(|index| Entry { index, term, data: vec![7; 10].into(), ..Entry::default() })
            .collect()
    }

    fn read(log: &Log, low: u64, high: u64, room: Option<u64>) -> Vec<u64> {
        let read = log.entries(low, high, room, GetEntriesContext::empty(false));
        read.expect("entries").iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn newer_entries_supersede_older_ones() {
        let mut log = Log::new(ConfState::default());
        log.append(&entries(1..=5, 1));
        log.append(&entries(3..=4, 2));
        assert_eq!(log.last(), Position(4));
        assert_eq!(log.term_at(Position(2)), Some(Term(1)));
        assert_eq!(log.term_at(Position(3)), Some(Term(2)));
        assert_eq!(log.term_at(Position(5)), None);
        assert_eq!(log.bytes(), 4 * (10 + ENTRY_OVERHEAD_BYTES));
    }

    #[test]
    fn compaction_keeps_the_term_of_its_end() {
        let mut log = Log::new(ConfState::default());
        log.append(&entries(1..=5, 1));
        log.compact(Position(3));
        assert_eq!(log.base(), Position(3));
        assert_eq!(log.term(3).expect("the base"), 1);
        assert!(matches!(log.term(2), Err(Error::Store(StorageError::Compacted))));
        assert_eq!(read(&log, 4, 6, None), [4, 5]);
        assert_eq!(log.bytes(), 2 * (10 + ENTRY_OVERHEAD_BYTES));
    }

    #[test]
    fn reading_stops_at_the_room_but_gives_one() {
        let mut log = Log::new(ConfState::default());
        log.append(&entries(1..=5, 1));
        assert_eq!(read(&log, 2, 6, Some(1)), [2]);
        assert_eq!(read(&log, 2, 6, Some(150)), [2, 3]);
    }

    #[test]
    fn recovery_cuts_the_commit_and_raises_the_term() {
        let hard = HardState { term: 1, vote: 3, commit: 9, ..HardState::default() };
        let log =
            Log::recovered(ConfState::default(), Position(2), Term(1), entries(3..=5, 2), hard);
        let state = log.initial_state().expect("a state").hard_state;
        assert_eq!((state.term, state.vote, state.commit), (2, 0, 5));
    }

    #[test]
    fn a_witness_gets_where_and_who_at_once() {
        let mut log = Log::new(crate::partition::member::conf_state(&[1, 2], &[3]));
        log.set_witnesses(vec![2, 4]);
        log.append(&entries(1..=5, 1));
        assert!(log.snapshot(0, 2).is_err(), "nothing is applied");
        log.set_applied(Position(3));
        let snapshot = log.snapshot(0, 2).expect("at once");
        let meta = snapshot.get_metadata();
        assert_eq!((meta.index, meta.term, snapshot.data.len()), (3, 1, 0));
        assert_eq!(meta.get_conf_state().voters, [1, 2]);
        assert!(log.snapshot(4, 2).is_err(), "it asked for more");
        assert!(log.snapshot(0, 4).is_err(), "it does not belong to the group as of there");
        let members = log.members().clone();
        log.set_members(members, Position(5));
        assert!(log.snapshot(0, 2).is_err(), "a change is being applied");
        assert!(!log.snapshot_wanted(), "no state is taken for a witness");
        assert!(log.snapshot(0, 3).is_err() && log.snapshot_wanted(), "others need the state");
    }

    #[test]
    fn a_snapshot_that_is_not_there_is_wanted() {
        let mut log = Log::new(ConfState::default());
        log.append(&entries(1..=5, 1));
        assert!(log.snapshot(0, 2).is_err());
        assert!(log.snapshot_wanted());
        let mut snapshot = Snapshot::default();
        snapshot.mut_metadata().index = 4;
        log.put_on_shelf(snapshot);
        assert!(!log.snapshot_wanted());
        assert!(log.snapshot(0, 2).is_ok());
    }

    #[test]
    fn while_a_newer_one_is_written_nobody_is_given_the_old_one() {
        let mut log = Log::new(ConfState::default());
        log.append(&entries(1..=5, 1));
        log.put_on_shelf(Snapshot::default());
        log.renew_shelf(true);
        assert!(log.snapshot(0, 2).is_err() && log.snapshot_wanted());
        log.renew_shelf(false);
        assert!(log.snapshot(0, 2).is_ok(), "the newer one was given up");
        assert!(log.snapshot(1, 3).is_err() && log.snapshot_wanted(), "it needs more than that");
        assert!(log.snapshot(0, 2).is_err(), "none leaves while one is to be taken");
        log.put_on_shelf(Snapshot::default());
        assert!(log.snapshot(0, 2).is_ok() && !log.snapshot_wanted());
    }
}
