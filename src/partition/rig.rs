//! What tests of the machine share: a leader's replica with callers, and two followers without, of
//! which one is restored from a snapshot again and again. After every entry all three must be
//! equal.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::id::{
    Kind, PartitionId, Position, PrimitiveId, Sequence, SessionId, ShardId, Term, Ticket,
};
use crate::limits::Bounds;
use crate::partition::entry::EntryBuilder;
use crate::partition::machine::Machine;
use crate::partition::reply::{Body, Refusal, Replies, Status};
use crate::partition::snapshot::{Cursor, Frozen, Progress};
use crate::time::{LogTime, Span};
use crate::wire::bloom::Filter;
use crate::wire::field::{put_bytes, put_duration, put_message, put_timestamp, put_uint};

/// One thing that a caller heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// An output: index, number, status, bytes.
    Out(u64, u64, Status, Vec<u8>),
    /// The regular end.
    End,
    /// A refusal.
    Refused(Refusal),
}

/// Three replicas and what their callers heard.
pub struct Rig {
    pub machine: Machine,
    pub follower: Machine,
    pub restored: Machine,
    pub bounds: Bounds,
    pub now: LogTime,
    pub term: Term,
    /// Compare and restore after every entry.
    pub strict: bool,
    /// A copy of the state at the last comparison, and what its snapshot was then.
    copy: Option<(Frozen, Vec<u8>)>,
    position: u64,
    tickets: u32,
    heard: BTreeMap<Ticket, Vec<Said>>,
    pub replies: Replies,
}

pub const PARTITION: PartitionId = PartitionId(1);

impl Rig {
    pub fn new() -> Rig {
        Rig::with(Bounds::default())
    }

    pub fn with(bounds: Bounds) -> Rig {
        let machine = || Machine::new(PARTITION, bounds.clone());
        Rig {
            machine: machine(),
            follower: machine(),
            restored: machine(),
            bounds: bounds.clone(),
            now: LogTime(1_700_000_000_000_000_000),
            term: Term(1),
            strict: true,
            copy: None,
            position: 0,
            tickets: 0,
            heard: BTreeMap::new(),
            replies: Replies::default(),
        }
    }

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket { shard: ShardId(0), slot: self.tickets, generation: 0 }
    }

    /// Applies one entry with these commands everywhere; a caller for each.
    pub fn entry(&mut self, bodies: &[Vec<u8>]) -> Vec<Ticket> {
        let mut builder = EntryBuilder::new();
        builder.stamp(self.now);
        bodies.iter().for_each(|body| builder.push(body));
        let data = builder.finish();
        let tickets: Vec<Ticket> = bodies.iter().map(|_| self.ticket()).collect();
        let callers: Vec<Option<Ticket>> = tickets.iter().copied().map(Some).collect();
        self.apply(&data, &callers);
        tickets
    }

    pub fn apply(&mut self, data: &Bytes, callers: &[Option<Ticket>]) {
        self.position += 1;
        let (position, term) = (Position(self.position), self.term);
        self.machine.apply(position, term, data, callers, &mut self.replies);
        self.hear();
        let mut none = Replies::default();
        self.follower.apply(position, term, data, &[], &mut none);
        self.restored.apply(position, term, data, &[], &mut none);
        assert!(none.is_empty(), "a replica without callers speaks");
        if self.strict {
            self.compare();
        }
    }

    /// All replicas are equal, and one of them is restored from another's snapshot. A copy taken
    /// the last time is still what it was.
    pub fn compare(&mut self) {
        for machine in [&self.machine, &self.follower, &self.restored] {
            let counted: usize = machine.ledger.sessions.values().map(|it| it.bytes()).sum();
            assert_eq!(machine.ledger.bytes, counted, "the memory of sessions is miscounted");
            let states: usize = machine.primitives.values().map(|it| it.bytes()).sum();
            assert_eq!(machine.primitives_bytes, states, "that of primitives is miscounted");
        }
        assert_eq!(self.machine.ledger.streams_bytes, self.restored.ledger.streams_bytes);
        if let Some((copy, then)) = self.copy.take() {
            assert_eq!(written(&copy, 1 << 20), then, "a copy of the state has changed with it");
            self.machine.let_go(copy);
        }
        let snapshot = snapshot_of(&self.machine, 100);
        self.copy = Some((self.machine.freeze(), snapshot.clone()));
        assert_eq!(snapshot, snapshot_of(&self.follower, 1 << 30), "replicas differ");
        assert_eq!(snapshot, snapshot_of(&self.restored, 7), "a restored replica differs");
        assert_eq!(self.machine.digest(), self.follower.digest());
        self.restored = Machine::restore(PARTITION, self.bounds.clone(), &snapshot).expect("sound");
        assert_eq!(self.machine.digest(), self.restored.digest());
        assert_eq!(snapshot, snapshot_of(&self.restored, 64));
    }

    /// Time passes and nothing else.
    pub fn pass(&mut self, span: Span) {
        self.now = self.now.after(span);
        self.entry(&[]);
    }

    /// One command and what its caller heard at once.
    pub fn run(&mut self, body: Vec<u8>) -> Vec<Said> {
        let ticket = self.entry(&[body])[0];
        self.take(ticket)
    }

    /// One command; the caller's ticket.
    pub fn send(&mut self, body: Vec<u8>) -> Ticket {
        self.entry(&[body])[0]
    }

    /// What a caller heard since it was asked last.
    pub fn take(&mut self, ticket: Ticket) -> Vec<Said> {
        self.heard.remove(&ticket).unwrap_or_default()
    }

    pub fn open(&mut self, timeout: Span) -> SessionId {
        let said = self.run(open_session(timeout));
        match &said[..] {
            [Said::Out(index, 0, Status::Ok, _)] => SessionId(*index),
            other => panic!("{other:?}"),
        }
    }

    /// Creates a primitive with sequence number `number`.
    pub fn create(
        &mut self,
        session: SessionId,
        number: u64,
        kind: Kind,
        name: &str,
    ) -> PrimitiveId {
        let said = self.run(create(session, number, kind, name));
        match &said[..] {
            [Said::Out(_, 0, Status::Ok, bytes)] => {
                PrimitiveId(crate::partition::machine::parse_id(bytes).expect("an id"))
            }
            other => panic!("{other:?}"),
        }
    }

    /// A query and what was heard at once.
    pub fn ask(&mut self, session: SessionId, primitive: PrimitiveId, op: Op) -> Vec<Said> {
        let ticket = self.watch(session, primitive, op);
        self.take(ticket)
    }

    /// A query whose caller stays.
    pub fn watch(&mut self, session: SessionId, primitive: PrimitiveId, op: Op) -> Ticket {
        self.watch_as(session, 0, primitive, op)
    }

    /// A query of the released dialect, with a number of its own; 0 for none.
    pub fn watch_as(
        &mut self,
        session: SessionId,
        number: u64,
        primitive: PrimitiveId,
        op: Op,
    ) -> Ticket {
        let ticket = self.ticket();
        let mut body = Vec::new();
        put_uint(&mut body, 1, session.0);
        put_message(&mut body, 3, |into| op.put(primitive, into));
        put_uint(&mut body, 101, number);
        let digest = self.machine.digest();
        self.machine.query(ticket, &body, &mut self.replies);
        assert_eq!(digest, self.machine.digest(), "a query changes the state");
        self.hear();
        ticket
    }

    pub fn more(&mut self) {
        self.machine.more(&mut self.replies);
        self.hear();
    }

    pub fn hear(&mut self) {
        for reply in &self.replies.list {
            let heard = self.heard.entry(reply.ticket).or_default();
            heard.push(match &reply.body {
                Body::Output(output) => Said::Out(
                    output.index.0,
                    output.number,
                    output.status,
                    self.replies.bytes_of(output).to_vec(),
                ),
                Body::End => Said::End,
                Body::Refused(refusal) => Said::Refused(refusal.clone()),
                Body::Event(_) | Body::Replayed => panic!("a machine tells no events of replicas"),
            });
        }
        self.replies.clear();
    }
}

/// An operation of a primitive: kind, member, input.
#[derive(Clone, Debug)]
pub struct Op(pub Kind, pub u32, pub Vec<u8>);

impl Op {
    fn put(&self, primitive: PrimitiveId, into: &mut Vec<u8>) {
        put_uint(into, 1, primitive.0);
        put_message(into, 2, |into| put_bytes(into, self.1, &self.2));
        put_uint(into, 100, self.0 as u64);
    }
}

pub fn snapshot_of(machine: &Machine, budget_bytes: usize) -> Vec<u8> {
    written(&machine.freeze(), budget_bytes)
}

fn written(state: &Frozen, budget_bytes: usize) -> Vec<u8> {
    let (mut cursor, mut bytes) = (Cursor::new(), Vec::new());
    while state.write(&mut cursor, budget_bytes, &mut bytes) == Progress::More {}
    bytes
}

pub fn open_session(timeout: Span) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 2, |into| put_duration(into, 1, timeout));
    body
}

pub fn close_session(session: SessionId) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 4, |into| put_uint(into, 1, session.0));
    body
}

/// A keep-alive: the last number begun, those still open, outputs that have arrived.
pub fn keep_alive(session: SessionId, last: u64, open: &[u64], outputs: &[(u64, u64)]) -> Vec<u8> {
    keep_alive_with(session, last, &Filter::of(open).to_json(), outputs)
}

pub fn keep_alive_with(
    session: SessionId,
    last: u64,
    filter: &[u8],
    outputs: &[(u64, u64)],
) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 3, |into| {
        put_uint(into, 1, session.0);
        put_bytes(into, 2, filter);
        put_uint(into, 3, last);
        for (number, output) in outputs {
            put_message(into, 4, |into| {
                put_uint(into, 1, *number);
                put_uint(into, 2, *output);
            });
        }
    });
    body
}

pub fn create(session: SessionId, number: u64, kind: Kind, name: &str) -> Vec<u8> {
    create_named(session, number, &crate::partition::primitive::service_of(kind), name)
}

pub fn create_named(session: SessionId, number: u64, service: &str, name: &str) -> Vec<u8> {
    proposal(session, number, None, |into| {
        put_message(into, 4, |into| {
            put_message(into, 1, |into| {
                put_bytes(into, 1, service.as_bytes());
                put_bytes(into, 2, b"space");
                put_bytes(into, 3, name.as_bytes());
            });
        });
    })
}

pub fn close_primitive(session: SessionId, number: u64, primitive: PrimitiveId) -> Vec<u8> {
    proposal(session, number, None, |into| {
        put_message(into, 5, |into| put_uint(into, 1, primitive.0));
    })
}

pub fn command(session: SessionId, number: u64, primitive: PrimitiveId, op: &Op) -> Vec<u8> {
    proposal(session, number, None, |into| put_message(into, 6, |into| op.put(primitive, into)))
}

/// A command whose stream is to begin with an event that tells of nothing.
pub fn command_opening(
    session: SessionId,
    number: u64,
    primitive: PrimitiveId,
    op: &Op,
) -> Vec<u8> {
    proposal(session, number, None, |into| opening(into, primitive, op))
}

/// The `PrimitiveProposalInput` of such a command.
pub fn opening(into: &mut Vec<u8>, primitive: PrimitiveId, op: &Op) {
    put_message(into, 6, |into| {
        op.put(primitive, into);
        put_uint(into, 102, 1);
    });
}

pub fn command_until(
    session: SessionId,
    number: u64,
    primitive: PrimitiveId,
    op: &Op,
    deadline: LogTime,
) -> Vec<u8> {
    proposal(session, number, Some(deadline), |into| {
        put_message(into, 6, |into| op.put(primitive, into));
    })
}

pub fn proposal(
    session: SessionId,
    number: u64,
    deadline: Option<LogTime>,
    member: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut body = Vec::new();
    put_message(&mut body, 5, |into| {
        put_uint(into, 1, session.0);
        put_uint(into, 2, Sequence(number).0);
        if let Some(deadline) = deadline {
            put_timestamp(into, 3, deadline);
        }
        member(into);
    });
    body
}

pub fn increment(delta: i64) -> Op {
    let mut input = Vec::new();
    put_uint(&mut input, 1, delta as u64);
    Op(Kind::Counter, 1, input)
}

pub fn acquire(timeout: Option<Span>) -> Op {
    let mut input = Vec::new();
    if let Some(timeout) = timeout {
        put_duration(&mut input, 1, timeout);
    }
    Op(Kind::Lock, 1, input)
}

pub fn release() -> Op {
    Op(Kind::Lock, 2, Vec::new())
}

pub fn put(key: &str, value: &[u8], ttl: Option<Span>, prev_index: u64) -> Op {
    Op(Kind::Map, 2, map_input(key, value, ttl, prev_index))
}

pub fn map_input(key: &str, value: &[u8], ttl: Option<Span>, prev_index: u64) -> Vec<u8> {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, key.as_bytes());
    put_bytes(&mut input, 2, value);
    if let Some(ttl) = ttl {
        put_duration(&mut input, 3, ttl);
    }
    put_uint(&mut input, 4, prev_index);
    input
}

pub fn remove(key: &str, prev_index: u64) -> Op {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, key.as_bytes());
    put_uint(&mut input, 2, prev_index);
    Op(Kind::Map, 6, input)
}

pub fn events(key: &str) -> Op {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, key.as_bytes());
    Op(Kind::Map, 11, input)
}

pub fn entries(watch: bool) -> Op {
    let mut input = Vec::new();
    put_uint(&mut input, 1, u64::from(watch));
    Op(Kind::Map, 10, input)
}

/// An election's operation on a candidate.
pub fn elect(tag: u32, name: &str) -> Op {
    let mut input = Vec::new();
    put_bytes(&mut input, if matches!(tag, 4 | 8) { 2 } else { 1 }, name.as_bytes());
    Op(Kind::LeaderElection, tag, input)
}

/// A message with field 1 a number.
pub fn number(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_uint(&mut bytes, 1, value);
    bytes
}

/// A failed output's text.
pub fn failed(said: &[Said]) -> (Status, String) {
    match said {
        [Said::Out(_, _, status, text)] if *status != Status::Ok => {
            (*status, String::from_utf8(text.clone()).expect("texts are UTF-8"))
        }
        other => panic!("{other:?}"),
    }
}

/// The bytes of one OK output.
pub fn ok(said: &[Said]) -> &[u8] {
    match said {
        [Said::Out(_, _, Status::Ok, bytes)] => bytes,
        other => panic!("{other:?}"),
    }
}
