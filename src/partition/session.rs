//! Sessions: who may speak, and that each of their commands counts once.
//!
//! ```text
//! number ──► pending or streaming: `calls`      attached to at most one caller
//!        ──► finished with an output: `kept`    replayed as it was
//!        ──► finished for ever: `finished`      never executed
//!        ──► none of these                      executed, once
//! ```
//!
//! A session lives in the replicated state, so every replica holds the same ones. Expiry runs in
//! log time, inside apply; no clock is read here. Outputs are kept until the client says it has
//! them. Absent on purpose: connections. A session outlives any number of them; tickets of callers
//! are local to a replica, in no snapshot and in no digest. Next: `ledger.rs` for what happens to
//! calls, `finished.rs` for numbers, `machine.rs` for commands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::id::{Index, PrimitiveId, Sequence, SessionId, Ticket};
use crate::partition::finished::Finished;
use crate::partition::kept::{Kept, Record};
use crate::partition::machine::OPENED_BYTES;
use crate::partition::primitive::{CallId, Operation};
use crate::partition::reply::Status;
use crate::time::{LogTime, Span};
use crate::wire::field::{self, Fields};

/// One open session.
#[derive(Clone, Debug)]
pub struct Session {
    /// How long it may be silent.
    pub timeout: Span,
    /// When it was last heard of, and by which command.
    pub updated: (LogTime, Index),
    /// The key of its expiry timer. A new term moves `Ledger::grace`, not this: an early timer is
    /// armed again when it fires.
    pub due: (LogTime, Index),
    /// Which numbers are never executed again.
    pub finished: Finished,
    /// Outputs of finished unary commands.
    pub kept: Kept,
    /// Pending commands and streams, also ended ones whose outputs are kept.
    pub calls: BTreeMap<Sequence, Call>,
    /// The primitives it has open.
    pub opened: BTreeSet<PrimitiveId>,
    /// Memory of `calls`.
    pub calls_bytes: usize,
}

/// A command that has no final output yet, or a stream.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its id.
    pub index: Index,
    /// What it is.
    pub operation: Operation,
    /// Which primitive it waits for.
    pub primitive: PrimitiveId,
    /// When it is cancelled if it is still pending.
    pub deadline: Option<LogTime>,
    /// Who is to get the outputs; local to this replica.
    pub caller: Option<Ticket>,
    /// The outputs so far; `None` for a unary command, which has none while it is here.
    pub stream: Option<Stream>,
}

/// The outputs of a stream that the client has not acknowledged.
#[derive(Clone, Default, Debug)]
pub struct Stream {
    /// Oldest first; the last one has the number `last`.
    pub outputs: VecDeque<Event>,
    /// The number of the newest output, 0 before the first.
    pub last: u64,
    /// Nothing more will come.
    pub ended: bool,
    /// Memory of `outputs`.
    pub bytes: usize,
}

/// One output of a stream.
#[derive(Clone, Debug)]
pub struct Event {
    /// The count of applied commands that it carries.
    pub index: Index,
    /// How it went; anything but OK is the last.
    pub status: Status,
    /// The response's field 2, shared by all listeners, or the text of a failure.
    pub bytes: Bytes,
}

/// What a session knows of a number.
#[derive(Debug)]
pub enum Seen<'a> {
    /// Never seen: to be executed.
    Fresh,
    /// Pending, or a stream.
    Call,
    /// Finished, and its output is kept.
    Kept(Record<'a>),
    /// Never to be executed again.
    Finished,
}

/// What a call costs beside its outputs.
pub const CALL_BYTES: usize = size_of::<Call>() + 32;

/// What an output of a stream costs beside its bytes.
pub const EVENT_BYTES: usize = size_of::<Event>();

impl Session {
    /// A session that has just been opened and whose expiry is not armed yet.
    #[must_use]
    pub fn new(timeout: Span, updated: (LogTime, Index)) -> Session {
        Session {
            timeout,
            updated,
            due: (updated.0.after(timeout), updated.1),
            finished: Finished::default(),
            kept: Kept::default(),
            calls: BTreeMap::new(),
            opened: BTreeSet::new(),
            calls_bytes: 0,
        }
    }

    /// What is known of `number`.
    #[inline]
    #[must_use]
    pub fn seen(&self, number: Sequence) -> Seen<'_> {
        if self.calls.contains_key(&number) {
            return Seen::Call;
        }
        let record = self.kept.get(number.0);
        if self.finished.contains(number.0, record.is_some()) {
            return Seen::Finished;
        }
        record.map_or(Seen::Fresh, Seen::Kept)
    }

    /// When it was last heard of, a new leader's grace included, and by which command.
    #[must_use]
    pub fn heard(&self, grace: (LogTime, Index)) -> (LogTime, Index) {
        if grace.0 > self.updated.0 { grace } else { self.updated }
    }

    /// When it expires.
    #[must_use]
    pub fn expires(&self, grace: (LogTime, Index)) -> (LogTime, Index) {
        let (heard, by) = self.heard(grace);
        (heard.after(self.timeout), by)
    }

    /// Memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        SESSION_BYTES
            + self.kept.bytes()
            + self.finished.bytes()
            + self.calls_bytes
            + self.opened.len() * OPENED_BYTES
    }
}

/// A session's own fields, its place in the table and its timer.
const SESSION_BYTES: usize = size_of::<Session>() + 96;

impl Call {
    /// Its name.
    #[must_use]
    pub fn id(&self, session: SessionId, sequence: Sequence) -> CallId {
        CallId { index: self.index, session, sequence }
    }

    /// Whether more may come of it.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| !stream.ended)
    }

    /// Memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        CALL_BYTES + self.stream.as_ref().map_or(0, |stream| stream.bytes)
    }
}

impl Stream {
    /// Adds the next output and returns its number.
    pub fn push(&mut self, event: Event) -> u64 {
        self.last += 1;
        self.bytes += EVENT_BYTES + event.bytes.len();
        self.outputs.push_back(event);
        self.last
    }

    /// The number of the oldest output that is kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.last + 1 - self.outputs.len() as u64
    }

    /// The client has every output up to `number`.
    pub fn acknowledge(&mut self, number: u64) {
        while self.first() <= number
            && let Some(event) = self.outputs.pop_front()
        {
            self.bytes -= EVENT_BYTES + event.bytes.len();
        }
    }
}

/// `SessionProposalInput`, decoded as far as apply needs it.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// Field 1.
    pub session: SessionId,
    /// Field 2.
    pub sequence: Sequence,
    /// Field 3.
    pub deadline: Option<LogTime>,
    /// The oneof.
    pub member: Member<'a>,
}

/// What a session's command is about.
#[derive(Clone, Copy, Debug)]
pub enum Member<'a> {
    /// `CreatePrimitiveInput`
    Create(&'a [u8]),
    /// `ClosePrimitiveInput`
    Close(&'a [u8]),
    /// `PrimitiveProposalInput`, decoded.
    Primitive(Target<'a>),
}

/// `PrimitiveProposalInput` and `PrimitiveQueryInput`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Target<'a> {
    /// Field 1.
    pub primitive: PrimitiveId,
    /// Field 2.
    pub payload: &'a [u8],
    /// Field 100: the number of the kind that the method belongs to; 0 for none.
    pub kind: u64,
    /// Field 102: whether a stream begins with an event that tells of nothing.
    pub opening: bool,
}

impl<'a> Proposal<'a> {
    /// Reads one; `None` when it has no member of the oneof.
    #[inline]
    pub fn parse(message: &'a [u8]) -> Result<Option<Proposal<'a>>, field::Broken> {
        let (mut session, mut sequence, mut deadline, mut member) = (0, 0, None, None);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => session = value.uint()?,
                2 => sequence = value.uint()?,
                3 => deadline = Some(field::timestamp(value.bytes()?)?),
                4 => member = Some(Member::Create(value.bytes()?)),
                5 => member = Some(Member::Close(value.bytes()?)),
                6 => member = Some(Member::Primitive(Target::parse(value.bytes()?)?)),
                _ => {}
            }
        }
        let (session, sequence) = (SessionId(session), Sequence(sequence));
        Ok(member.map(|member| Proposal { session, sequence, deadline, member }))
    }
}

impl<'a> Target<'a> {
    /// Reads one.
    #[inline]
    pub fn parse(message: &'a [u8]) -> Result<Target<'a>, field::Broken> {
        let mut target = Target::default();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => target.primitive = PrimitiveId(value.uint()?),
                2 => target.payload = value.bytes()?,
                100 => target.kind = value.uint()?,
                102 => target.opening = value.uint()? != 0,
                _ => {}
            }
        }
        Ok(target)
    }
}
