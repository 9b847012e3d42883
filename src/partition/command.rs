//! Commands of a session: executed once, repeated commands answered from what is kept (core.md 4.2;
//! wire.md, decisions 1 to 5).
//!
//! Bodies are documented messages, of which only ids are decoded here. What a command did is kept
//! under its number before anything else is applied, whether its caller is here or not. A stream
//! whose command asks for it begins with an opening event, which tells of nothing and is an output
//! like any other: numbered, kept, acknowledged, in snapshots (primitives.md 7.3).

use std::fmt::{self, Write as _};

use bytes::Bytes;

use crate::id::{Index, Kind, PrimitiveId, SessionId, Ticket};
use crate::limits::NAME_BYTES_MAX;
use crate::partition::kept::{End, Record};
use crate::partition::ledger::{Flow, Why};
use crate::partition::machine::{
    Instance, Machine, OPENED_BYTES, malformed, parse_id, undecodable,
};
use crate::partition::primitive::{
    self, Answer, CallId, Context, Mode, Operation, Primitive, kind_of_service,
};
use crate::partition::reply::{Refusal, Replies, Status};
use crate::partition::session::{Call, Member, Proposal, Seen, Stream, Target};
use crate::partition::watch::deliver;
use crate::wire::field::{self, Fields, put_message, put_text, put_uint};

impl Machine {
    /// A `SessionProposalInput`.
    pub(super) fn proposal(&mut self, input: &[u8], caller: Option<Ticket>, replies: &mut Replies) {
        let proposal = match Proposal::parse(input) {
            Ok(Some(proposal)) => proposal,
            Ok(None) => return refuse(caller, malformed("the command is missing"), replies),
            Err(broken) => return refuse(caller, undecodable(broken), replies),
        };
        let Some(session) = self.ledger.sessions.get(&proposal.session) else {
            return refuse(caller, Refusal::UnknownSession(proposal.session), replies);
        };
        let operation = operation(&proposal.member);
        match session.seen(proposal.sequence) {
            Seen::Fresh => {}
            Seen::Kept(record) => return replay(&record, operation, caller, replies, self.index()),
            Seen::Call => return self.repeat(&proposal, operation, caller, replies),
            Seen::Finished => return self.too_late(operation, caller, replies),
        }
        if session.kept.weight() >= self.ledger.bounds.kept_bytes_max {
            let refusal = Refusal::Full("the session must say with a keep-alive what it has");
            return refuse(caller, refusal, replies);
        }
        self.first_time(&proposal, operation, caller, replies);
    }

    /// A command whose number was never seen.
    fn first_time(
        &mut self,
        proposal: &Proposal<'_>,
        operation: Operation,
        caller: Option<Ticket>,
        replies: &mut Replies,
    ) {
        let Proposal { session, sequence, .. } = *proposal;
        let call = CallId { index: self.ledger.index, session, sequence };
        self.scratch.clear();
        let answer = match proposal.member {
            Member::Primitive(target) => self.operate(call, target, operation, replies),
            Member::Create(input) => self.create_primitive(session, input),
            Member::Close(input) => self.close_primitive(session, input, replies),
        };
        let status = match answer {
            Answer::Done(status) => status,
            Answer::Refused(refusal) => return refuse(caller, refusal, replies),
            Answer::Waits | Answer::Streams => {
                let streams = answer == Answer::Streams;
                return self.attach(proposal, call, operation, streams, caller, replies);
            }
        };
        if let Some(ticket) = caller {
            let number = number_of(operation);
            deliver(replies, ticket, call.index, number, status, &self.scratch, true);
        }
        let (index, end, bytes) = (call.index, End::Output(status), &self.scratch[..]);
        self.ledger.keep(session, sequence, Record { index, operation, end, bytes });
    }

    /// A command waits or streams from now on.
    fn attach(
        &mut self,
        proposal: &Proposal<'_>,
        id: CallId,
        operation: Operation,
        streams: bool,
        caller: Option<Ticket>,
        replies: &mut Replies,
    ) {
        let Member::Primitive(target) = proposal.member else {
            return;
        };
        let primitive = target.primitive;
        let stream = streams.then(Stream::default);
        let deadline = proposal.deadline;
        let call = Call { index: id.index, operation, primitive, deadline, caller, stream };
        self.ledger.attach(id, call);
        if streams && target.opening {
            self.begin(id, target, operation, replies);
        }
        // A command is executed whatever its deadline; only what is pending afterwards ends by it.
        if deadline.is_some_and(|deadline| deadline <= self.ledger.time) {
            self.cancel(id.session, id.sequence, Why::Deadline, replies);
        }
    }

    /// A stream begins with an event that has no member of the oneof, only the key that the stream
    /// is about where its kind has one.
    fn begin(
        &mut self,
        id: CallId,
        target: Target<'_>,
        operation: Operation,
        replies: &mut Replies,
    ) {
        let key = match operation.parts() {
            Some((Some(kind), _)) if primitive::has_keyed_events(kind) => listened_key(target),
            _ => &[],
        };
        self.scratch.clear();
        put_message(&mut self.scratch, 1, |event| put_text(event, 1, key));
        let event = Bytes::copy_from_slice(&self.scratch);
        if self.ledger.emit(id, &event, replies) == Flow::Ended {
            self.told_cancelled(target.primitive, id, replies);
        }
    }

    /// A primitive's command. Which kind the primitive is comes before a byte of the payload
    /// (wire.md, decision 1).
    fn operate(
        &mut self,
        call: CallId,
        target: Target<'_>,
        operation: Operation,
        replies: &mut Replies,
    ) -> Answer {
        let id = target.primitive;
        let Machine { primitives, ledger, scratch: out, .. } = self;
        let found = primitives.get_mut(&id);
        let opened = found.as_ref().is_some_and(|it| it.sessions.contains(&call.session));
        let mut cx = Context { ledger, replies, primitive: id, out };
        let Some(instance) = found else {
            return cx.fail(Status::Forbidden, format_args!("primitive {id} not found"));
        };
        if !opened {
            return cx.fail(Status::Forbidden, format_args!("session not found"));
        }
        if instance.kind as u64 != target.kind {
            let (is, asked) = (instance.kind, Named(target.kind));
            return cx
                .fail(Status::Invalid, format_args!("primitive {id} is a {is}, not a {asked}"));
        }
        let (tag, input) = match primitive::member(target.payload) {
            Ok(Some(member)) => member,
            Ok(None) => return cx.fail(Status::Invalid, format_args!("the input is missing")),
            Err(_) => return primitive::undecodable(&mut cx),
        };
        if !matches!(operation.mode(), Some(Mode::Command | Mode::Stream)) {
            return cx.fail(Status::NotSupported, format_args!("proposal not supported"));
        }
        let before = instance.state.bytes();
        let answer = instance.state.apply(&mut cx, call, tag, input);
        self.primitives_bytes = self.primitives_bytes + instance.state.bytes() - before;
        answer
    }

    /// CreatePrimitive (core.md 6.2).
    fn create_primitive(&mut self, session: SessionId, input: &[u8]) -> Answer {
        let spec = match Spec::parse(input) {
            Ok(spec) => spec,
            Err(text) => return self.fail(Status::Invalid, text),
        };
        let known = self.names.get(spec.namespace).and_then(|names| names.get(spec.name)).copied();
        let kind = kind_of_service(spec.service);
        let id = match known {
            Some(id) => {
                let is = self.primitives.get(&id).map(|it| it.kind);
                if is != kind {
                    let text = if is == primitive::other_version(spec.service) {
                        "cannot create primitive of a different API version with the same type and \
                         name"
                    } else {
                        "cannot create primitive of a different type with the same name"
                    };
                    return self.fail(Status::Forbidden, text);
                }
                id
            }
            None => {
                let Some(kind) = kind else {
                    return self.fail(Status::Forbidden, "unknown primitive type");
                };
                if self.primitives.len() >= self.ledger.bounds.primitives_max {
                    return Answer::Refused(Refusal::Full("the partition has too many primitives"));
                }
                let id = PrimitiveId(self.ledger.index.0);
                let (namespace, name) = (spec.namespace.into(), spec.name.into());
                let sessions = std::collections::BTreeSet::new();
                let state = Primitive::new(kind);
                self.add(id, Instance { kind, namespace, name, sessions, state });
                id
            }
        };
        self.open_for(session, id);
        put_uint(&mut self.scratch, 1, id.0);
        Answer::Done(Status::Ok)
    }

    /// Adds a primitive that is not there yet. `false` when its id or its name is taken.
    pub(super) fn add(&mut self, id: PrimitiveId, instance: Instance) -> bool {
        let names = self.names.entry(instance.namespace.clone()).or_default();
        if names.contains_key(&instance.name) || self.primitives.contains_key(&id) {
            return false;
        }
        names.insert(instance.name.clone(), id);
        self.primitives_bytes += instance.bytes();
        self.primitives.insert(id, instance);
        true
    }

    /// Notes that a session has a primitive open. `false` when one of them is not there.
    pub(super) fn open_for(&mut self, session: SessionId, id: PrimitiveId) -> bool {
        let found = (self.ledger.sessions.get_mut(&session), self.primitives.get_mut(&id));
        let (Some(session_found), Some(instance)) = found else {
            return false;
        };
        if session_found.opened.insert(id) {
            self.ledger.bytes += OPENED_BYTES;
            self.primitives_bytes += OPENED_BYTES;
        }
        instance.sessions.insert(session);
        true
    }

    /// ClosePrimitive (core.md 6.4).
    fn close_primitive(
        &mut self,
        session: SessionId,
        input: &[u8],
        replies: &mut Replies,
    ) -> Answer {
        let Ok(id) = parse_id(input).map(PrimitiveId) else {
            return self.fail(Status::Invalid, "the input cannot be decoded");
        };
        let Some(instance) = self.primitives.get_mut(&id) else {
            // A text never fails to be written to.
            let mut text = String::new();
            let _ = write!(text, "primitive {id} not found");
            return self.fail(Status::Forbidden, &text);
        };
        if !instance.sessions.remove(&session) {
            return self.fail(Status::Forbidden, "session not found");
        }
        let mut pending = Vec::new();
        if let Some(found) = self.ledger.sessions.get_mut(&session) {
            found.opened.remove(&id);
            self.ledger.bytes -= OPENED_BYTES;
            self.primitives_bytes -= OPENED_BYTES;
            let calls = found.calls.iter();
            let of_it = calls.filter(|(_, call)| call.primitive == id && call.is_pending());
            pending.extend(of_it.map(|(sequence, _)| *sequence));
        }
        for sequence in pending {
            self.cancel(session, sequence, Why::Closed, replies);
        }
        self.ledger.watches.end(session, replies, |primitive, _| primitive == id);
        self.with(id, replies, |state, cx| state.left(cx, session));
        Answer::Done(Status::Ok)
    }

    /// A number that a keep-alive has finished: never executed again (wire.md, decision 2).
    fn too_late(&self, operation: Operation, caller: Option<Ticket>, replies: &mut Replies) {
        let Some(ticket) = caller else {
            return;
        };
        if operation.is_stream() {
            return replies.end(ticket);
        }
        let (index, number) = (self.ledger.index, number_of(operation));
        deliver(replies, ticket, index, number, Status::Canceled, TOO_LATE.as_bytes(), true);
    }

    /// A repeat of a command that is pending, or of a stream (wire.md, decisions 3 and 4).
    fn repeat(
        &mut self,
        proposal: &Proposal<'_>,
        operation: Operation,
        caller: Option<Ticket>,
        replies: &mut Replies,
    ) {
        let Proposal { session, sequence, .. } = *proposal;
        let index = self.ledger.index;
        let found = self.ledger.sessions.get(&session).and_then(|it| it.calls.get(&sequence));
        let Some(call) = found else {
            return;
        };
        if call.operation != operation {
            return other_operation(index, operation, caller, replies);
        }
        self.ledger.overtake(session, sequence, replies);
        let found = self.ledger.sessions.get(&session).and_then(|it| it.calls.get(&sequence));
        let (Some(call), Some(ticket)) = (found, caller) else {
            return;
        };
        if let Some(stream) = &call.stream {
            for (number, event) in (stream.first()..).zip(&stream.outputs) {
                let last = event.status != Status::Ok;
                let (index, status) = (event.index, event.status);
                if !deliver(replies, ticket, index, number, status, &event.bytes, last) || last {
                    return;
                }
            }
            if stream.ended {
                return replies.end(ticket);
            }
        }
        self.ledger.adopt(session, sequence, ticket);
    }

    fn fail(&mut self, status: Status, text: &str) -> Answer {
        self.scratch.clear();
        self.scratch.extend_from_slice(text.as_bytes());
        Answer::Done(status)
    }
}

const TOO_LATE: &str = "a keep-alive has finished this sequence number";
const OTHER_OPERATION: &str = "the sequence number belongs to another operation";

/// A repeat of a command whose output is kept: the same output again, with its index.
fn replay(
    record: &Record<'_>,
    operation: Operation,
    caller: Option<Ticket>,
    replies: &mut Replies,
    now: Index,
) {
    if record.operation != operation {
        return other_operation(now, operation, caller, replies);
    }
    let Some(ticket) = caller else {
        return;
    };
    match record.end {
        End::Output(status) => {
            let number = number_of(operation);
            deliver(replies, ticket, record.index, number, status, record.bytes, true);
        }
        End::Cancelled => replies.refuse(ticket, Refusal::Cancelled),
        End::Deadline => replies.refuse(ticket, Refusal::Deadline),
    }
}

fn other_operation(
    index: Index,
    operation: Operation,
    caller: Option<Ticket>,
    replies: &mut Replies,
) {
    if let Some(ticket) = caller {
        let (number, text) = (number_of(operation), OTHER_OPERATION.as_bytes());
        deliver(replies, ticket, index, number, Status::Invalid, text, true);
    }
}

/// Field 1 of an `EventsInput`; its primitive has found it sound.
fn listened_key(target: Target<'_>) -> &[u8] {
    let Ok(Some((_, input))) = primitive::member(target.payload) else {
        return &[];
    };
    let (mut key, mut fields) = (&[][..], Fields::new(input));
    while let Ok(Some((number, value))) = fields.field() {
        if let (1, Ok(bytes)) = (number, value.bytes()) {
            key = bytes;
        }
    }
    key
}

fn refuse(caller: Option<Ticket>, refusal: Refusal, replies: &mut Replies) {
    if let Some(ticket) = caller {
        replies.refuse(ticket, refusal);
    }
}

/// The number of a unary command's one output: 0 for the life of primitives (core.md 6.1).
fn number_of(operation: Operation) -> u64 {
    u64::from(operation.parts().is_some())
}

#[inline]
fn operation(member: &Member<'_>) -> Operation {
    match member {
        Member::Create(_) => Operation::CREATE,
        Member::Close(_) => Operation::CLOSE,
        Member::Primitive(target) => {
            let tag = primitive::member(target.payload).ok().flatten().map_or(0, |(tag, _)| tag);
            Operation::of(target.kind, tag)
        }
    }
}

/// The name of the kind with a number, as the log has it.
pub(super) struct Named(pub(super) u64);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Kind::from_number(self.0) {
            Some(kind) => kind.fmt(f),
            None => f.write_str("primitive without a kind"),
        }
    }
}

/// `PrimitiveSpec`, checked.
struct Spec<'a> {
    service: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Spec<'a> {
    /// Reads a `CreatePrimitiveInput`.
    fn parse(input: &'a [u8]) -> Result<Spec<'a>, &'static str> {
        const BROKEN: &str = "the input cannot be decoded";
        let mut spec = None;
        let mut fields = Fields::new(input);
        while let Some((number, value)) = fields.field().map_err(|_| BROKEN)? {
            if number == 1 {
                spec = Some(value.bytes().map_err(|_| BROKEN)?);
            }
        }
        let mut texts = [""; 3];
        let mut fields = Fields::new(spec.ok_or("the spec is missing")?);
        while let Some((number, value)) = fields.field().map_err(|_| BROKEN)? {
            if let 1..=3 = number {
                let text = value.bytes().and_then(field::text).map_err(|_| BROKEN)?;
                texts[number as usize - 1] = text;
            }
        }
        let [service, namespace, name] = texts;
        if namespace.len() > NAME_BYTES_MAX || name.len() > NAME_BYTES_MAX {
            const { assert!(NAME_BYTES_MAX == 1024) };
            return Err("the name or its namespace is longer than 1024 bytes");
        }
        Ok(Spec { service, namespace, name })
    }
}
