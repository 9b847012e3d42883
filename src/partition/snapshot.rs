//! Whole state out and in: versioned, in slices, the same bytes for the same state.
//!
//! ```text
//! snapshot = record*           each: one byte kind, varint length, payload
//!   1 Header       Snapshot          +100 version +101 term +102 partition
//!   2 Session      SessionSnapshot   +100 index it was heard of at +101 first undecided number
//!   3 Call         SessionProposalSnapshot of a pending command or of a stream
//!   4 Kept         SessionProposalSnapshot of a finished unary command
//!   5 Open         open numbers below the undecided (1: packed, each the gap to the one before)
//!   6 Job          a keep-alive that is being sorted out: 1 to, 2 cursor, 3 filter
//!   7 Primitive    PrimitiveSnapshot
//!   8 OpenedBy     sessions that have it open (1: packed, gaps)
//!  16… its own     see each kind
//!   9 End          1 digest of all before, 2 count of records
//! ```
//!
//! Payloads are the documented messages (wire.md), with fields of ours from 100 on. Of a finished
//! command's input only what repeats are compared with is kept: ids, and the empty member of its
//! operation. Sessions, numbers, primitives and keys come in ascending order, so equal states give
//! equal bytes. A cursor names the last thing written, not a place in memory. Reading trusts
//! nothing: a broken, cut or hostile snapshot is refused, and pending commands go to their own
//! session only (core.md D12).

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::id::{Index, PartitionId, PrimitiveId, Sequence, SessionId, Term};
use crate::limits::Bounds;
use crate::partition::finished::Job;
use crate::partition::kept::{End, Record, Rubble};
use crate::partition::ledger::Ledger;
use crate::partition::machine::{Instance, Machine};
use crate::partition::primitive::{
    self, CallId, Operation, Place, Primitive, kind_of_service, service_of,
};
use crate::partition::reply::Status;
use crate::partition::schedule::Timer;
use crate::partition::session::{Call, Event, Session, Stream};
use crate::partition::shared::Shared;
use crate::prng::mix;
use crate::time::{LogTime, Span};
use crate::wire::bloom::Filter;
use crate::wire::field::{
    self, Fields, put_bytes, put_duration, put_fixed, put_message, put_text, put_timestamp,
    put_uint, put_varint, take_varint,
};

mod read;

pub use read::Reading;
pub(super) use read::read;

/// What a machine held at one moment, to be written while it goes on: what has not changed since
/// they share.
#[derive(Debug)]
pub struct Frozen {
    partition: PartitionId,
    index: Index,
    time: LogTime,
    term: Term,
    grace: (LogTime, Index),
    sessions: Shared<SessionId, Session>,
    primitives: Shared<PrimitiveId, Instance>,
}

/// How far a snapshot has been written.
#[derive(Clone, Debug)]
pub struct Cursor {
    step: Step,
    digest: u64,
    records: u64,
}

/// Whether a snapshot goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Call again.
    More,
    /// It is complete.
    Done,
}

/// Why bytes are not a snapshot that can be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// It was written by another version of the program: take one from a replica of this version.
    Version(u64),
    /// The bytes are damaged or foreign: take one from another replica.
    Malformed(&'static str),
}

impl From<field::Broken> for Broken {
    fn from(_: field::Broken) -> Broken {
        Broken::Malformed("a record is not a protobuf message")
    }
}

/// What is written next.
#[derive(Clone, Debug)]
enum Step {
    Header,
    /// The session behind this one.
    Session(Option<SessionId>),
    /// This session's calls from this number on.
    Calls(SessionId, u64),
    /// Its finished commands.
    Kept(SessionId, u64),
    /// Its open numbers.
    Open(SessionId, u64),
    /// Its keep-alives that are being sorted out.
    Jobs(SessionId, usize),
    /// The primitive behind this one.
    Primitive(Option<PrimitiveId>),
    /// The sessions that have it open, behind this one.
    OpenedBy(PrimitiveId, SessionId),
    /// Its own records.
    Own(PrimitiveId, Place),
    End,
    Done,
}

const VERSION: u64 = 1;

/// What a record spends of a slice's budget beside its bytes: a thousand small ones from cold
/// memory take a turn as long as a megabyte takes the disk.
const RECORD_BYTES: usize = 1024;

const HEADER: u8 = 1;
const SESSION: u8 = 2;
const CALL: u8 = 3;
const KEPT: u8 = 4;
const OPEN: u8 = 5;
const JOB: u8 = 6;
const PRIMITIVE: u8 = 7;
const OPENED_BY: u8 = 8;
const END: u8 = 9;

/// `SessionProposalSnapshot.Phase`
const RUNNING: u64 = 1;
const COMPLETE: u64 = 2;
const CANCELED: u64 = 3;

/// How a cancelled command ended, in field 100 of its record.
const BY_CANCEL: u64 = 1;
const BY_DEADLINE: u64 = 2;

/// Numbers in one packed record.
const PACKED_MAX: usize = 1024;

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { step: Step::Header, digest: 0, records: 0 }
    }
}

impl Cursor {
    /// At the beginning.
    #[must_use]
    pub fn new() -> Cursor {
        Cursor::default()
    }

    /// The digest of what is written so far; of the whole state when that is complete.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl Frozen {
    pub(super) fn of(machine: &Machine) -> Frozen {
        let Machine { partition, term, ledger, primitives, .. } = machine;
        Frozen {
            partition: *partition,
            index: ledger.index,
            time: ledger.time,
            term: *term,
            grace: ledger.grace,
            sessions: ledger.sessions.clone(),
            primitives: primitives.clone(),
        }
    }

    /// Writes the next slice of the state: records, at least a step, until `budget_bytes` are
    /// spent. A record spends `RECORD_BYTES` beside its own: small ones take time, a turn waits.
    #[must_use]
    pub fn write(&self, cursor: &mut Cursor, budget_bytes: usize, into: &mut Vec<u8>) -> Progress {
        let (start, before) = (into.len(), cursor.records);
        let mut payload = Vec::new();
        while !matches!(cursor.step, Step::Done) {
            payload.clear();
            if let Some(kind) = step(self, cursor, &mut payload) {
                if kind != END {
                    cursor.digest = digest_record(cursor.digest, kind, &payload);
                }
                cursor.records += 1;
                into.push(kind);
                put_varint(into, payload.len() as u64);
                into.extend_from_slice(&payload);
            }
            let records = usize::try_from(cursor.records - before).expect("a slice is short");
            let spent = into.len() - start + records * RECORD_BYTES;
            if spent >= budget_bytes && !matches!(cursor.step, Step::Done) {
                return Progress::More;
            }
        }
        Progress::Done
    }

    /// Nobody needs it any more: what only it holds is freed a few parts at a time.
    pub(super) fn bury(self, rubble: &mut Rubble) {
        for session in self.sessions.into_own() {
            session.kept.bury(rubble);
        }
        for instance in self.primitives.into_own() {
            instance.state.bury(rubble);
        }
    }
}

/// The digest of the whole replicated state: that of its snapshot's records.
pub(super) fn digest(machine: &Machine) -> u64 {
    let state = Frozen::of(machine);
    let mut cursor = Cursor::new();
    let mut payload = Vec::new();
    while !matches!(cursor.step, Step::End) {
        payload.clear();
        if let Some(kind) = step(&state, &mut cursor, &mut payload) {
            cursor.digest = digest_record(cursor.digest, kind, &payload);
        }
    }
    cursor.digest
}

/// Not against forgery; against damage and difference.
fn digest_record(digest: u64, kind: u8, payload: &[u8]) -> u64 {
    let (words, rest) = payload.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let head = mix(digest ^ u64::from(kind) << 56 ^ payload.len() as u64);
    words
        .iter()
        .chain(std::iter::once(&last))
        .fold(head, |digest, word| mix(digest.rotate_left(5) ^ u64::from_le_bytes(*word)))
}

/// Writes the next record's payload and moves on. `None` when the step had nothing more to write.
fn step(state: &Frozen, cursor: &mut Cursor, into: &mut Vec<u8>) -> Option<u8> {
    let step = std::mem::replace(&mut cursor.step, Step::Done);
    let (kind, next) = match step {
        Step::Header => {
            put_header(state, into);
            (Some(HEADER), Step::Session(None))
        }
        Step::Session(after) => match next_in(&state.sessions, after) {
            Some((id, session)) => {
                put_session(state.grace, *id, session, into);
                (Some(SESSION), Step::Calls(*id, 0))
            }
            None => (None, Step::Primitive(None)),
        },
        Step::Calls(id, _) | Step::Kept(id, _) | Step::Open(id, _) | Step::Jobs(id, _) => {
            match state.sessions.get(&id) {
                Some(session) => session_step(step, session, into),
                None => (None, Step::Session(Some(id))),
            }
        }
        Step::Primitive(after) => match next_in(&state.primitives, after) {
            Some((id, instance)) => {
                put_primitive(*id, instance, into);
                (Some(PRIMITIVE), Step::OpenedBy(*id, SessionId(0)))
            }
            None => (None, Step::End),
        },
        Step::OpenedBy(id, after) => opened_by(&state.primitives[&id], id, after, into),
        Step::Own(id, mut place) => match state.primitives[&id].state.record(&mut place, into) {
            Some(kind) => (Some(kind), Step::Own(id, place)),
            None => (None, Step::Primitive(Some(id))),
        },
        Step::End => {
            put_fixed(into, 1, cursor.digest);
            put_uint(into, 2, cursor.records);
            (Some(END), Step::Done)
        }
        Step::Done => (None, Step::Done),
    };
    cursor.step = next;
    kind
}

fn session_step(step: Step, session: &Session, into: &mut Vec<u8>) -> (Option<u8>, Step) {
    match step {
        Step::Calls(id, from) => match session.calls.range(Sequence(from)..).next() {
            Some((sequence, call)) => {
                put_call(id, *sequence, call, into);
                let next = match sequence.0.checked_add(1) {
                    Some(from) => Step::Calls(id, from),
                    None => Step::Kept(id, 0),
                };
                (Some(CALL), next)
            }
            None => (None, Step::Kept(id, 0)),
        },
        Step::Kept(id, from) => match session.kept.next_from(from) {
            Some((number, record)) => {
                put_kept(id, number, &record, into);
                let next = match number.checked_add(1) {
                    Some(from) => Step::Kept(id, from),
                    None => Step::Open(id, 0),
                };
                (Some(KEPT), next)
            }
            None => (None, Step::Open(id, 0)),
        },
        Step::Open(id, from) => {
            let last = put_packed(session.finished.open_from(from), into);
            match last {
                Some(last) => (Some(OPEN), Step::Open(id, last.saturating_add(1))),
                None => (None, Step::Jobs(id, 0)),
            }
        }
        Step::Jobs(id, at) => match session.finished.jobs().nth(at) {
            Some(job) => {
                put_uint(into, 1, job.to);
                put_uint(into, 2, job.cursor);
                put_bytes(into, 3, &job.text);
                (Some(JOB), Step::Jobs(id, at + 1))
            }
            None => (None, Step::Session(Some(id))),
        },
        other => (None, other),
    }
}

fn opened_by(
    instance: &Instance,
    id: PrimitiveId,
    after: SessionId,
    into: &mut Vec<u8>,
) -> (Option<u8>, Step) {
    let from = SessionId(after.0.saturating_add(1));
    match put_packed(instance.sessions.range(from..).map(|session| session.0), into) {
        Some(last) => (Some(OPENED_BY), Step::OpenedBy(id, SessionId(last))),
        None => (None, Step::Own(id, Place::default())),
    }
}

fn next_in<K: Ord + Copy, V: Clone>(map: &Shared<K, V>, after: Option<K>) -> Option<(&K, &V)> {
    use std::ops::Bound::{Excluded, Unbounded};
    map.range((after.map_or(Unbounded, Excluded), Unbounded)).next()
}

fn put_header(state: &Frozen, into: &mut Vec<u8>) {
    put_uint(into, 1, state.index.0);
    put_timestamp(into, 2, state.time);
    put_uint(into, 100, VERSION);
    put_uint(into, 101, state.term.0);
    put_uint(into, 102, u64::from(state.partition.0));
}

fn put_session(grace: (LogTime, Index), id: SessionId, session: &Session, into: &mut Vec<u8>) {
    let (heard, by) = session.heard(grace);
    put_uint(into, 1, id.0);
    put_uint(into, 2, 1);
    put_duration(into, 3, session.timeout);
    put_timestamp(into, 4, heard);
    put_uint(into, 100, by.0);
    put_uint(into, 101, session.finished.below());
}

fn put_primitive(id: PrimitiveId, instance: &Instance, into: &mut Vec<u8>) {
    put_uint(into, 1, id.0);
    put_message(into, 2, |into| {
        put_text(into, 1, service_of(instance.kind).as_bytes());
        put_text(into, 2, instance.namespace.as_bytes());
        put_text(into, 3, instance.name.as_bytes());
    });
}

/// A `SessionProposalSnapshot` of a finished unary command; 100 says how when it was cancelled.
fn put_kept(session: SessionId, number: u64, record: &Record<'_>, into: &mut Vec<u8>) {
    let phase = if matches!(record.end, End::Output(_)) { COMPLETE } else { CANCELED };
    put_uint(into, 1, record.index.0);
    put_uint(into, 2, phase);
    put_input(session, number, record.operation, PrimitiveId(0), None, into);
    match record.end {
        End::Output(status) => {
            let output = (record.index, status, record.bytes);
            put_output(1, record.operation, output, into);
            put_uint(into, 5, 1);
        }
        End::Cancelled => put_uint(into, 100, BY_CANCEL),
        End::Deadline => put_uint(into, 100, BY_DEADLINE),
    }
}

/// A `SessionProposalSnapshot` of a pending command or a stream; 101 says that it is a stream.
fn put_call(session: SessionId, sequence: Sequence, call: &Call, into: &mut Vec<u8>) {
    put_uint(into, 1, call.index.0);
    put_uint(into, 2, if call.is_pending() { RUNNING } else { CANCELED });
    put_input(session, sequence.0, call.operation, call.primitive, call.deadline, into);
    if let Some(stream) = &call.stream {
        for (number, event) in (stream.first()..).zip(&stream.outputs) {
            let output = (event.index, event.status, &event.bytes[..]);
            put_output(number, call.operation, output, into);
        }
        put_uint(into, 5, stream.last);
        put_uint(into, 101, 1);
    }
}

/// A `SessionProposalInput` with as much of its member as repeats are compared with.
fn put_input(
    session: SessionId,
    number: u64,
    operation: Operation,
    primitive: PrimitiveId,
    deadline: Option<LogTime>,
    into: &mut Vec<u8>,
) {
    put_message(into, 3, |into| {
        put_uint(into, 1, session.0);
        put_uint(into, 2, number);
        if let Some(deadline) = deadline {
            put_timestamp(into, 3, deadline);
        }
        match operation.parts() {
            None if operation == Operation::CREATE => put_bytes(into, 4, &[]),
            None => put_bytes(into, 5, &[]),
            Some((kind, tag)) => put_message(into, 6, |into| {
                put_uint(into, 1, primitive.0);
                if tag > 0 {
                    put_message(into, 2, |into| put_bytes(into, tag, &[]));
                }
                put_uint(into, 100, kind.map_or(0, |kind| kind as u64));
            }),
        }
    });
}

/// A `SessionProposalOutput`; 100 is the count of applied commands that it carries.
fn put_output(
    number: u64,
    operation: Operation,
    (index, status, bytes): (Index, Status, &[u8]),
    into: &mut Vec<u8>,
) {
    put_message(into, 4, |into| {
        put_uint(into, 1, number);
        match (status, operation.parts()) {
            (Status::Ok, None) if operation == Operation::CREATE => put_bytes(into, 3, bytes),
            (Status::Ok, None) => put_bytes(into, 4, bytes),
            (Status::Ok, Some((_, tag))) => put_message(into, 5, |into| {
                put_message(into, 1, |into| put_bytes(into, tag, bytes));
            }),
            (failed, _) => put_message(into, 2, |into| {
                put_uint(into, 1, failed.failure_number());
                put_text(into, 2, bytes);
            }),
        }
        put_uint(into, 100, index.0);
    });
}

/// At most `PACKED_MAX` ascending numbers as gaps in field 1; the last of them.
fn put_packed(numbers: impl Iterator<Item = u64>, into: &mut Vec<u8>) -> Option<u64> {
    let mut last = None;
    let mut numbers = numbers.take(PACKED_MAX).peekable();
    numbers.peek()?;
    put_message(into, 1, |into| {
        for number in numbers {
            put_varint(into, number - last.unwrap_or(0));
            last = Some(number);
        }
    });
    last
}

/// What a primitive may reach while it is restored.
pub struct Restoring<'a> {
    ledger: &'a mut Ledger,
    primitive: PrimitiveId,
    sessions: &'a BTreeSet<SessionId>,
    unclaimed: &'a mut BTreeSet<(SessionId, Sequence)>,
}

impl Restoring<'_> {
    /// A pending command of this primitive, each once and of a session that has it open.
    pub fn claim(&mut self, call: CallId) -> Result<(), Broken> {
        self.member(call.session)?;
        let found = self.ledger.sessions.get(&call.session);
        let found = found.and_then(|session| session.calls.get(&call.sequence));
        let same = found.is_some_and(|it| it.index == call.index && it.primitive == self.primitive);
        if !same || !self.unclaimed.remove(&(call.session, call.sequence)) {
            return Err(Broken::Malformed("a primitive names a command that is not its own"));
        }
        Ok(())
    }

    /// A session that has this primitive open.
    pub fn member(&self, session: SessionId) -> Result<(), Broken> {
        match self.sessions.contains(&session) {
            true => Ok(()),
            false => Err(Broken::Malformed("a primitive names a session that has not opened it")),
        }
    }

    /// An index that has been.
    pub fn past(&self, index: Index) -> Result<Index, Broken> {
        match index <= self.ledger.index {
            true => Ok(index),
            false => Err(Broken::Malformed("a version lies in the future")),
        }
    }

    /// Cancels a timer of this primitive.
    pub fn disarm(&mut self, due: LogTime, created: Index, token: u64) {
        self.ledger.schedule.disarm(due, created, Timer::Primitive(self.primitive, token));
    }

    /// Arms a timer of this primitive, each once.
    pub fn arm(&mut self, due: LogTime, created: Index, token: u64) -> Result<(), Broken> {
        let timer = Timer::Primitive(self.primitive, token);
        match self.ledger.schedule.try_arm(due, created, timer) {
            true => Ok(()),
            false => Err(Broken::Malformed("a timer is armed twice")),
        }
    }
}

#[cfg(test)]
mod tests;
