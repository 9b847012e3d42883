//! Apply: move log time, find the session, call the primitive, collect replies.
//!
//! ```text
//! entry ─► message ─► index + 1 (not for a tick) ─► timers due at its stamp ─► its command
//!                                                        │
//!                  expiry, deadlines, TTL, lock timeouts ◄┘  in due order; time reads as their due
//! ```
//!
//! The machine is a pure function of the entries applied: callers and watchers are told on the way
//! and change nothing. It counts one per command: a tick, which only moves time, does not count, so
//! events that a tick causes carry the index of the last command. An entry runs a bounded number of
//! timers (limits.rs), so that a million lifetimes that end together do not make one long turn:
//! what is left is overdue and runs, in the same order, with the entries that follow, of which the
//! leader sees to it that there are some. Until then commands find what it would have removed.
//! A command that cannot be understood counts and changes nothing. Nothing that an entry holds can
//! make it panic; what it asserts is about itself. Absent on purpose: raft, disks, clocks. Next:
//! `command.rs` for commands of sessions, `query.rs` for reads, `snapshot.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{
    Index, Kind, PartitionId, Position, PrimitiveId, Sequence, SessionId, Term, Ticket,
};
use crate::limits::{Bounds, TIMERS_ENTRY_MAX};
use crate::partition::entry::{self, Input};
use crate::partition::ledger::{Ledger, Why};
use crate::partition::primitive::{CallId, Context, Primitive};
use crate::partition::reply::{Refusal, Replies, Status};
use crate::partition::schedule::Timer;
use crate::partition::session::Session;
use crate::partition::shared::Shared;
use crate::partition::snapshot::{self, Broken, Frozen};
use crate::partition::watch::deliver;
use crate::time::{LogTime, Span};
use crate::wire::bloom::Filter;
use crate::wire::field::{self, Fields, put_uint};

/// The replicated state of one partition, and who waits for it here.
#[derive(Debug)]
pub struct Machine {
    pub(super) partition: PartitionId,
    /// The last position applied here; 0 after a restore.
    position: Position,
    /// The term of the last stamped entry.
    pub(super) term: Term,
    pub(super) ledger: Ledger,
    pub(super) primitives: Shared<PrimitiveId, Instance>,
    /// By namespace and name.
    pub(super) names: BTreeMap<Box<str>, BTreeMap<Box<str>, PrimitiveId>>,
    /// Memory of the primitives.
    pub(super) primitives_bytes: usize,
    /// The output of the command at hand; kept for its room.
    pub(super) scratch: Vec<u8>,
}

/// One primitive: who it is, who has it open, its state.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) kind: Kind,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) sessions: BTreeSet<SessionId>,
    pub(super) state: Primitive,
}

impl Instance {
    /// Memory held, its places in the tables included.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Instance>()
            + 128
            + 2 * (self.namespace.len() + self.name.len())
            + self.sessions.len() * OPENED_BYTES
            + self.state.bytes()
    }
}

impl Machine {
    /// The state before the first command.
    #[must_use]
    pub fn new(partition: PartitionId, bounds: Bounds) -> Machine {
        Machine {
            partition,
            position: Position(0),
            term: Term(0),
            ledger: Ledger::new(bounds),
            primitives: Shared::default(),
            names: BTreeMap::new(),
            primitives_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Applies one committed entry. `callers[i]` is the local caller of its i-th command; an empty
    /// slice says that none is here. When `term` is above that of the last stamped entry, every
    /// session counts as heard of now: no session dies of a change of leader (design.md, decision
    /// 12). The result is what the timers that it ran came to, at most about `TIMERS_ENTRY_MAX`.
    pub fn apply(
        &mut self,
        position: Position,
        term: Term,
        data: &[u8],
        callers: &[Option<Ticket>],
        replies: &mut Replies,
    ) -> usize {
        assert!(position > self.position, "{position} is applied after {}", self.position);
        self.position = position;
        let (mut number, mut timers) = (0, 0);
        for command in entry::commands(data) {
            if command.input != Input::Tick {
                self.ledger.index = self.ledger.index.next();
            }
            if let Some(stamp) = command.stamp {
                timers += self.advance(stamp, term, TIMERS_ENTRY_MAX - timers, replies);
            }
            if command.input != Input::Tick {
                let caller = callers.get(number).copied().flatten();
                self.execute(command.input, caller, replies);
                number += 1;
            }
        }
        for ticket in callers.iter().skip(number).flatten() {
            replies.refuse(*ticket, malformed("the entry is broken"));
        }
        self.ledger.tidy();
        timers
    }

    /// The caller hung up. Its command goes on, its watch ends.
    pub fn gone(&mut self, ticket: Ticket) {
        if !self.ledger.watches.remove(ticket) {
            self.ledger.gone(ticket);
        }
    }

    /// Every attached caller and watcher is refused: this replica will not answer them any more.
    pub fn detach(&mut self, refusal: Refusal, replies: &mut Replies) {
        self.ledger.detach(&refusal, replies);
    }

    /// How many commands were applied.
    #[must_use]
    pub fn index(&self) -> Index {
        self.ledger.index
    }

    /// Log time: the latest stamp applied.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.ledger.time
    }

    /// When the leader should propose a tick if nothing else comes by then: when the first timer is
    /// due, or at once while a keep-alive waits to be sorted out.
    #[must_use]
    pub fn next_timer(&self) -> Option<LogTime> {
        if self.ledger.sweeping.is_empty() {
            // What is overdue, left by an entry that had too many or armed so late, runs at the
            // first later stamp.
            return self.ledger.schedule.next().map(|due| due.max(self.ledger.time.after(Span(1))));
        }
        Some(self.ledger.time)
    }

    /// A digest of the whole replicated state, equal on equal replicas. Walks all of it.
    #[must_use]
    pub fn digest(&self) -> u64 {
        snapshot::digest(self)
    }

    /// Memory held, in bytes, counted as it changes; an estimate where collections round up.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ledger.bytes
            + self.primitives_bytes
            + self.ledger.rubble.bytes()
            + self.ledger.schedule.len() * 64
    }

    /// A copy of the replicated state, to be written as a snapshot while commands go on.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        Frozen::of(self)
    }

    /// The copy is of no use any more. What it alone held is freed a little with each entry.
    pub fn let_go(&mut self, copy: Frozen) {
        copy.bury(&mut self.ledger.rubble);
    }

    /// The state that a whole snapshot holds. It replaces what was: callers and watchers of an
    /// older machine are refused by `detach` first.
    pub fn restore(
        partition: PartitionId,
        bounds: Bounds,
        bytes: &[u8],
    ) -> Result<Machine, Broken> {
        snapshot::read(partition, bounds, bytes)
    }

    /// Moves log time to `stamp` and runs the timers due by then, as long as they come to less than
    /// `most`; the rest are overdue, and first in line at the next stamp. Time never goes back: an
    /// overdue timer runs at the time that it is. Returns what they came to, `most` at the most.
    fn advance(&mut self, stamp: LogTime, term: Term, most: usize, replies: &mut Replies) -> usize {
        if term > self.term {
            self.term = term;
            let now = self.ledger.time.max(stamp);
            // A second term of one moment gives nothing more: who was restored in between does not
            // know the first one's index any more, only the sessions that it kept.
            if now > self.ledger.grace.0 {
                self.ledger.grace = (now, self.ledger.index);
            }
        }
        if stamp <= self.ledger.time {
            return 0;
        }
        self.ledger.work = 0;
        while self.ledger.work < most
            && let Some((due, timer)) = self.ledger.schedule.pop_due(stamp)
        {
            self.ledger.work += 1;
            self.ledger.time = self.ledger.time.max(due);
            self.fire(timer, replies);
        }
        self.ledger.time = stamp;
        self.ledger.work.min(most)
    }

    fn fire(&mut self, timer: Timer, replies: &mut Replies) {
        match timer {
            Timer::Session(session) => {
                if self.ledger.is_silent(session) {
                    self.end_session(session, replies);
                }
            }
            Timer::Deadline(session, sequence) => {
                self.cancel(session, sequence, Why::Deadline, replies);
            }
            Timer::Primitive(primitive, token) => {
                self.with(primitive, replies, |state, cx| state.timer(cx, token));
            }
        }
    }

    fn execute(&mut self, input: Input<'_>, caller: Option<Ticket>, replies: &mut Replies) {
        let done = match input {
            Input::Tick => return,
            Input::Proposal(bytes) => return self.proposal(bytes, caller, replies),
            Input::OpenSession(bytes) => self.open_session(bytes),
            Input::KeepAlive(bytes) => self.keep_alive(bytes, replies),
            Input::CloseSession(bytes) => self.close_session(bytes, replies),
            Input::Malformed => Err(malformed("the command cannot be decoded")),
        };
        let Some(ticket) = caller else {
            return;
        };
        match done {
            Ok(()) => {
                let index = self.ledger.index;
                deliver(replies, ticket, index, 0, Status::Ok, &self.scratch, true);
            }
            Err(refusal) => replies.refuse(ticket, refusal),
        }
    }

    /// OpenSession (core.md 3.2; the timeout as in wire.md, decision 7).
    fn open_session(&mut self, input: &[u8]) -> Result<(), Refusal> {
        let timeout = parse_timeout(input).map_err(undecodable)?;
        let bounds = &self.ledger.bounds;
        if timeout < 0 {
            return Err(malformed("the timeout is negative"));
        }
        let timeout = match u64::try_from(timeout).unwrap_or(u64::MAX) {
            0 => bounds.session_timeout_default,
            nanos => Span(nanos).min(bounds.session_timeout_max),
        };
        if self.ledger.sessions.len() >= bounds.sessions_max {
            return Err(Refusal::Full("the partition has too many sessions"));
        }
        let (time, index) = (self.ledger.time, self.ledger.index);
        self.ledger.open(SessionId(index.0), Session::new(timeout, (time, index)));
        self.scratch.clear();
        put_uint(&mut self.scratch, 1, index.0);
        Ok(())
    }

    /// KeepAlive (core.md 3.3; finished numbers as in wire.md, decision 2).
    fn keep_alive(&mut self, input: &[u8], replies: &mut Replies) -> Result<(), Refusal> {
        let beat = KeepAlive::parse(input).map_err(undecodable)?;
        let Some(session) = self.ledger.sessions.get_mut(&beat.session) else {
            return Err(Refusal::UnknownSession(beat.session));
        };
        let filter = Filter::parse(beat.filter).map_err(|malformed| {
            Refusal::Malformed(format!("invalid request filter: {}", malformed.0))
        })?;
        let before = session.bytes();
        let to = beat.last.saturating_add(1);
        session
            .finished
            .keep_alive(to, filter.clone(), beat.filter, &mut session.kept, &mut self.ledger.rubble)
            .map_err(|_| Refusal::Full("earlier keep-alives are still being sorted out"))?;
        if session.finished.is_busy() {
            self.ledger.sweeping.insert(beat.session);
        }
        let given_up: Vec<Sequence> = session
            .calls
            .range(..=Sequence(beat.last))
            .filter(|(sequence, _)| !filter.contains(sequence.0))
            .map(|(sequence, _)| *sequence)
            .collect();
        for (sequence, number) in beat.acknowledged() {
            if sequence <= beat.last
                && filter.contains(sequence)
                && let Some(call) = session.calls.get_mut(&Sequence(sequence))
                && let Some(stream) = &mut call.stream
            {
                let held = stream.bytes;
                stream.acknowledge(number);
                session.calls_bytes -= held - stream.bytes;
                self.ledger.streams_bytes -= held - stream.bytes;
            }
        }
        self.ledger.bytes = self.ledger.bytes + session.bytes() - before;
        for sequence in given_up {
            self.cancel(beat.session, sequence, Why::Forgotten, replies);
        }
        self.ledger.watches.end(beat.session, replies, |_, sequence| {
            sequence.is_some_and(|number| number <= beat.last && !filter.contains(number))
        });
        self.ledger.refresh(beat.session);
        self.scratch.clear();
        Ok(())
    }

    /// CloseSession (core.md 3.4).
    fn close_session(&mut self, input: &[u8], replies: &mut Replies) -> Result<(), Refusal> {
        let id = parse_id(input).map_err(undecodable)?;
        if !self.ledger.sessions.contains_key(&SessionId(id)) {
            return Err(Refusal::UnknownSession(SessionId(id)));
        }
        self.end_session(SessionId(id), replies);
        self.scratch.clear();
        Ok(())
    }

    /// Closing and expiry alike, in the order of core.md 3.4: pending commands, watches,
    /// primitives.
    fn end_session(&mut self, id: SessionId, replies: &mut Replies) {
        let Some(session) = self.ledger.sessions.get(&id) else {
            return;
        };
        let (due, created) = session.due;
        let calls: Vec<Sequence> = session.calls.keys().copied().collect();
        self.ledger.work += calls.len() + session.opened.len();
        self.ledger.schedule.disarm(due, created, Timer::Session(id));
        for sequence in calls {
            self.cancel(id, sequence, Why::Forgotten, replies);
        }
        self.ledger.watches.end(id, replies, |_, _| true);
        let Some(mut session) = self.ledger.sessions.remove(&id) else {
            return;
        };
        self.ledger.bytes -= session.bytes();
        self.ledger.sweeping.remove(&id);
        session.kept.abandon(&mut self.ledger.rubble);
        for primitive in session.opened {
            if let Some(instance) = self.primitives.get_mut(&primitive) {
                instance.sessions.remove(&id);
                self.primitives_bytes -= OPENED_BYTES;
            }
            self.with(primitive, replies, |state, cx| state.left(cx, id));
        }
    }

    /// Cancels a pending command and lets its primitive hear of it.
    pub(super) fn cancel(
        &mut self,
        session: SessionId,
        sequence: Sequence,
        why: Why,
        replies: &mut Replies,
    ) {
        let cancelled = self.ledger.cancel(session, sequence, why, replies);
        if let Some((primitive, call)) = cancelled {
            self.told_cancelled(primitive, call, replies);
        }
    }

    pub(super) fn told_cancelled(
        &mut self,
        primitive: PrimitiveId,
        call: CallId,
        replies: &mut Replies,
    ) {
        self.with(primitive, replies, |state, cx| state.cancelled(cx, call));
    }

    /// Lets a primitive act outside of a command.
    pub(super) fn with(
        &mut self,
        primitive: PrimitiveId,
        replies: &mut Replies,
        act: impl FnOnce(&mut Primitive, &mut Context<'_>),
    ) {
        let Some(instance) = self.primitives.get_mut(&primitive) else {
            return;
        };
        let before = instance.state.bytes();
        let mut out = Vec::new();
        let ledger = &mut self.ledger;
        act(&mut instance.state, &mut Context { ledger, replies, primitive, out: &mut out });
        self.primitives_bytes = self.primitives_bytes + instance.state.bytes() - before;
    }
}

/// What it costs a primitive that a session has it open.
pub(super) const OPENED_BYTES: usize = 16;

/// `KeepAliveInput`, borrowed.
struct KeepAlive<'a> {
    session: SessionId,
    filter: &'a [u8],
    last: u64,
    input: &'a [u8],
}

impl<'a> KeepAlive<'a> {
    fn parse(input: &'a [u8]) -> Result<KeepAlive<'a>, field::Broken> {
        let mut beat = KeepAlive { session: SessionId(0), filter: &[], last: 0, input };
        let mut fields = Fields::new(input);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => beat.session = SessionId(value.uint()?),
                2 => beat.filter = value.bytes()?,
                3 => beat.last = value.uint()?,
                4 => drop(parse_pair(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(beat)
    }

    /// `last_output_sequence_nums`: which outputs of which command the client has.
    fn acknowledged(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut fields = Fields::new(self.input);
        std::iter::from_fn(move || fields.field().ok().flatten())
            .filter(|(number, _)| *number == 4)
            .filter_map(|(_, value)| parse_pair(value.bytes().ok()?).ok())
    }
}

/// One entry of a `map<uint64, uint64>`.
fn parse_pair(entry: &[u8]) -> Result<(u64, u64), field::Broken> {
    let (mut key, mut value) = (0, 0);
    let mut fields = Fields::new(entry);
    while let Some((number, field)) = fields.field()? {
        match number {
            1 => key = field.uint()?,
            2 => value = field.uint()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Field 1 as a number: `CloseSessionInput`, `ClosePrimitiveInput`.
pub(super) fn parse_id(input: &[u8]) -> Result<u64, field::Broken> {
    Ok(parse_pair(input)?.0)
}

/// `OpenSessionInput`: the timeout in nanoseconds, 0 when it is absent.
fn parse_timeout(input: &[u8]) -> Result<i128, field::Broken> {
    let mut timeout = 0;
    let mut fields = Fields::new(input);
    while let Some((number, value)) = fields.field()? {
        if number == 1 {
            timeout = field::nanos(value.bytes()?)?;
        }
    }
    Ok(timeout)
}

pub(super) fn undecodable(broken: field::Broken) -> Refusal {
    Refusal::Malformed(broken.to_string())
}

pub(super) fn malformed(text: &str) -> Refusal {
    Refusal::Malformed(text.to_owned())
}

#[cfg(test)]
mod tests;
