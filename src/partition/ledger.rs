//! The ledger of a partition: time, sessions, pending commands, timers, watchers. What a primitive
//! reaches through its context, and what the machine keeps straight around it.
//!
//! A pending command ends in one of four ways, each of them here: with its output (`complete`),
//! with its stream's failure (`emit`, when the client does not keep up), or cancelled by a
//! keep-alive, a deadline or the end of a session (`cancel`). Whichever it is, its caller is
//! answered and its timer disarmed in the same breath. Absent on purpose: the primitives
//! themselves; the machine tells them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::id::{Index, PrimitiveId, Sequence, SessionId, Ticket};
use crate::limits::{Bounds, RUBBLE_PARTS_MAX, SWEEP_NUMBERS_MAX};
use crate::partition::kept::{End, Record, Rubble};
use crate::partition::primitive::{CallId, Operation};
use crate::partition::reply::{Refusal, Replies, Status};
use crate::partition::schedule::{Schedule, Timer};
use crate::partition::session::{CALL_BYTES, Call, EVENT_BYTES, Event, Session, Stream};
use crate::partition::shared::Shared;
use crate::partition::watch::{Watches, deliver};
use crate::time::LogTime;

/// See the header.
#[derive(Debug)]
pub struct Ledger {
    /// The count of applied commands.
    pub index: Index,
    /// Log time; the due time while a timer runs.
    pub time: LogTime,
    /// What it may hold.
    pub bounds: Bounds,
    /// When the present term's first stamped entry was applied, and at which index: sessions count
    /// as heard of then. Of several terms that began at one moment, the first one's.
    pub grace: (LogTime, Index),
    /// The open sessions.
    pub sessions: Shared<SessionId, Session>,
    /// Sessions with keep-alives to be sorted out.
    pub sweeping: BTreeSet<SessionId>,
    /// The armed timers.
    pub schedule: Schedule,
    /// Reads that go on; local.
    pub watches: Watches,
    /// Which pending command a caller waits for; local.
    pub callers: BTreeMap<Ticket, (SessionId, Sequence)>,
    /// What waits to be freed; local.
    pub rubble: Rubble,
    /// Memory of sessions here.
    pub bytes: usize,
    /// Bytes of events that streams keep; the same on every replica.
    pub streams_bytes: usize,
    /// What the entry at hand has done beside its commands' own work: timers run, events sent,
    /// commands and primitives that ended sessions let go of. The same on every replica.
    pub work: usize,
}

/// Whether a listener goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It does.
    Open,
    /// It does not: the primitive is to forget it.
    Ended,
}

/// Why a pending command is cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its number is finished, or its session ends: nothing is kept of it.
    Forgotten,
    /// Its session closes the primitive: that it was cancelled is kept.
    Closed,
    /// Its deadline passed: that is kept.
    Deadline,
}

/// The text of a stream's last output when its client does not acknowledge.
pub const OVERFLOW: &str = "the stream ended: too many events are not acknowledged";

impl Ledger {
    /// Before the first command.
    #[must_use]
    pub fn new(bounds: Bounds) -> Ledger {
        Ledger {
            index: Index(0),
            time: LogTime(0),
            bounds,
            grace: (LogTime(0), Index(0)),
            sessions: Shared::default(),
            sweeping: BTreeSet::new(),
            schedule: Schedule::default(),
            watches: Watches::default(),
            callers: BTreeMap::new(),
            rubble: Rubble::default(),
            bytes: 0,
            streams_bytes: 0,
            work: 0,
        }
    }

    /// Adds a session and arms its expiry.
    pub fn open(&mut self, id: SessionId, session: Session) {
        self.schedule.arm(session.due.0, session.due.1, Timer::Session(id));
        self.bytes += session.bytes();
        let old = self.sessions.insert(id, session);
        assert!(old.is_none(), "session {id} is opened twice");
    }

    /// The session is heard of now.
    pub fn refresh(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        self.schedule.disarm(session.due.0, session.due.1, Timer::Session(id));
        session.updated = (self.time, self.index);
        session.due = session.expires(self.grace);
        self.schedule.arm(session.due.0, session.due.1, Timer::Session(id));
    }

    /// Whether a session whose timer fired has really been silent. If not, because a new term gave
    /// it time, its timer is armed again.
    pub fn is_silent(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let due = session.expires(self.grace);
        if due.0 <= session.due.0 {
            return true;
        }
        session.due = due;
        self.schedule.arm(due.0, due.1, Timer::Session(id));
        false
    }

    /// Whether the session may have one more pending command.
    #[must_use]
    pub fn may_wait(&self, session: SessionId) -> bool {
        let session = self.sessions.get(&session);
        session.is_some_and(|session| session.calls.len() < self.bounds.calls_max)
    }

    /// Keeps the output of a command that is done.
    pub fn keep(&mut self, session: SessionId, sequence: Sequence, record: Record<'_>) {
        if let Some(session) = self.sessions.get_mut(&session) {
            let before = session.kept.bytes();
            session.kept.insert(sequence.0, record);
            self.bytes += session.kept.bytes() - before;
            self.bytes -= session.finished.used(sequence.0);
        }
    }

    /// Notes a command that waits or streams, and what ends it.
    pub fn attach(&mut self, id: CallId, call: Call) {
        let Some(session) = self.sessions.get_mut(&id.session) else {
            return;
        };
        if let Some(due) = call.deadline {
            self.schedule.arm(due, call.index, Timer::Deadline(id.session, id.sequence));
        }
        if let Some(ticket) = call.caller {
            self.callers.insert(ticket, (id.session, id.sequence));
        }
        let bytes = call.bytes();
        session.calls_bytes += bytes;
        self.bytes += bytes;
        self.streams_bytes += bytes - CALL_BYTES;
        self.bytes -= session.finished.used(id.sequence.0);
        session.calls.insert(id.sequence, call);
    }

    /// Sends an event to a listener and keeps it until it is acknowledged.
    pub fn emit(&mut self, to: CallId, event: &Bytes, replies: &mut Replies) -> Flow {
        self.put(to, Some(event), replies)
    }

    /// Ends the stream of a listener that would be sent too much.
    pub fn overflow(&mut self, to: CallId, replies: &mut Replies) {
        self.put(to, None, replies);
    }

    fn put(&mut self, to: CallId, event: Option<&Bytes>, replies: &mut Replies) -> Flow {
        self.work += 1;
        let (index, bounds) = (self.index, &self.bounds);
        let cost = EVENT_BYTES + event.map_or(0, Bytes::len);
        let room = self.streams_bytes + cost <= bounds.streams_bytes_max;
        let Some((session, call)) = call_mut(&mut self.sessions, to.session, to.sequence) else {
            return Flow::Ended;
        };
        let Some(stream) = call.stream.as_mut().filter(|stream| !stream.ended) else {
            return Flow::Ended;
        };
        let before = stream.bytes;
        let short = stream.bytes + cost <= bounds.stream_bytes_max;
        let event = event.filter(|_| room && (short || stream.outputs.is_empty()));
        let fits = event.is_some();
        let (status, bytes) = match event {
            Some(event) => (Status::Ok, event.clone()),
            None => (Status::Unavailable, Bytes::from_static(OVERFLOW.as_bytes())),
        };
        let number = stream.push(Event { index, status, bytes: bytes.clone() });
        stream.ended = !fits;
        let grown = stream.bytes - before;
        *session += grown;
        self.bytes += grown;
        self.streams_bytes += grown;
        if let Some(ticket) = call.caller
            && (!deliver(replies, ticket, index, number, status, &bytes, !fits) || !fits)
        {
            call.caller = None;
            self.callers.remove(&ticket);
        }
        if fits {
            return Flow::Open;
        }
        let (deadline, created) = (call.deadline.take(), call.index);
        if let Some(due) = deadline {
            self.schedule.disarm(due, created, Timer::Deadline(to.session, to.sequence));
        }
        Flow::Ended
    }

    /// Gives a waiting command its output.
    pub fn complete(&mut self, id: CallId, status: Status, output: &[u8], replies: &mut Replies) {
        let index = self.index;
        let Some(call) = self.take(id.session, id.sequence) else {
            return;
        };
        assert!(call.stream.is_none(), "a stream is completed like a unary command");
        if let Some(ticket) = call.caller {
            deliver(replies, ticket, index, 1, status, output, true);
        }
        let end = End::Output(status);
        let record = Record { index, operation: call.operation, end, bytes: output };
        self.keep(id.session, id.sequence, record);
    }

    /// Ends a command that is pending and answers its caller. Returns it, for its primitive to hear
    /// of it; `None` when nothing was pending.
    pub fn cancel(
        &mut self,
        session: SessionId,
        sequence: Sequence,
        why: Why,
        replies: &mut Replies,
    ) -> Option<(PrimitiveId, CallId)> {
        let call = self.take(session, sequence)?;
        let id = call.id(session, sequence);
        let pending = call.is_pending();
        if let Some(ticket) = call.caller {
            match (why, &call.stream) {
                (Why::Deadline, _) => replies.refuse(ticket, Refusal::Deadline),
                (_, Some(_)) => replies.end(ticket),
                (_, None) => replies.refuse(ticket, Refusal::Cancelled),
            }
        }
        let (index, operation, primitive) = (self.index, call.operation, call.primitive);
        match (why, call.stream) {
            (Why::Forgotten, _) => {}
            (_, Some(stream)) => {
                let stream = Some(Stream { ended: true, ..stream });
                self.attach(id, Call { deadline: None, caller: None, stream, ..call });
            }
            (Why::Deadline, None) => {
                self.keep(session, sequence, ended(index, operation, End::Deadline));
            }
            (Why::Closed, None) => {
                self.keep(session, sequence, ended(index, operation, End::Cancelled));
            }
        }
        pending.then_some((primitive, id))
    }

    /// Whoever waits for this command hears that another call took over.
    pub fn overtake(&mut self, session: SessionId, sequence: Sequence, replies: &mut Replies) {
        if let Some((_, call)) = call_mut(&mut self.sessions, session, sequence)
            && let Some(ticket) = call.caller.take()
        {
            self.callers.remove(&ticket);
            replies.refuse(ticket, Refusal::Overtaken);
        }
    }

    /// From now on `ticket` gets the outputs of this command.
    pub fn adopt(&mut self, session: SessionId, sequence: Sequence, ticket: Ticket) {
        if let Some((_, call)) = call_mut(&mut self.sessions, session, sequence) {
            call.caller = Some(ticket);
            self.callers.insert(ticket, (session, sequence));
        }
    }

    /// The caller is gone; its command goes on.
    pub fn gone(&mut self, ticket: Ticket) {
        if let Some((session, sequence)) = self.callers.remove(&ticket)
            && let Some((_, call)) = call_mut(&mut self.sessions, session, sequence)
            && call.caller == Some(ticket)
        {
            call.caller = None;
        }
    }

    /// Every caller and every watcher is refused.
    pub fn detach(&mut self, refusal: &Refusal, replies: &mut Replies) {
        for (ticket, (session, sequence)) in std::mem::take(&mut self.callers) {
            if let Some((_, call)) = call_mut(&mut self.sessions, session, sequence) {
                call.caller = None;
            }
            replies.refuse(ticket, refusal.clone());
        }
        self.watches.detach(refusal, replies);
    }

    /// Sorts out a bounded slice of keep-alives and frees a bounded part of what they gave up.
    pub fn tidy(&mut self) {
        let mut left = SWEEP_NUMBERS_MAX;
        while left > 0
            && let Some(id) = self.sweeping.first().copied()
        {
            let Some(session) = self.sessions.get_mut(&id) else {
                self.sweeping.remove(&id);
                continue;
            };
            let before = session.bytes();
            let Session { finished, kept, calls, .. } = session;
            let done = finished.sweep(left, kept, |number| calls.contains_key(&Sequence(number)));
            left = left.saturating_sub(done);
            self.bytes = self.bytes + session.bytes() - before;
            if !session.finished.is_busy() {
                self.sweeping.remove(&id);
            }
        }
        self.rubble.clear_some(RUBBLE_PARTS_MAX);
    }

    /// Takes a call out of its session, with its timer and its caller's name.
    fn take(&mut self, id: SessionId, sequence: Sequence) -> Option<Call> {
        let session = self.sessions.get_mut(&id)?;
        let call = session.calls.remove(&sequence)?;
        session.calls_bytes -= call.bytes();
        self.bytes -= call.bytes();
        self.streams_bytes -= call.bytes() - CALL_BYTES;
        if let Some(due) = call.deadline {
            self.schedule.disarm(due, call.index, Timer::Deadline(id, sequence));
        }
        if let Some(ticket) = call.caller {
            self.callers.remove(&ticket);
        }
        Some(call)
    }
}

fn ended(index: Index, operation: Operation, end: End) -> Record<'static> {
    Record { index, operation, end, bytes: &[] }
}

/// A call, and the count of its session's bytes.
fn call_mut(
    sessions: &mut Shared<SessionId, Session>,
    session: SessionId,
    sequence: Sequence,
) -> Option<(&mut usize, &mut Call)> {
    let session = sessions.get_mut(&session)?;
    let call = session.calls.get_mut(&sequence)?;
    Some((&mut session.calls_bytes, call))
}

const _: () = assert!(CALL_BYTES < 512);
