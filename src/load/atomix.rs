//! Calls as bytes of the Atomix protocol, documented and released (wire.md).
//!
//! Requests are written where they are sent from and answers are read where they arrived: nothing
//! is allocated for a call. Envelopes are the same for all commands, so they stand here as field
//! numbers; seldom calls use the generated messages. Absent on purpose: the rsm dialect, whose
//! sessions are its proxies' affair.

use prost::Message;

use super::ask::{Ask, Refusal, Reply, Sort, Thing};
use super::content::Content;
use crate::config::Dialect;
use crate::time::Span;
use crate::wire::bloom::Filter;
use crate::wire::field::{
    Broken, Fields, Value, delimited_bytes, put_bytes, put_head, put_message, put_uint, uint_bytes,
};
use crate::wire::grpc::Status;
use crate::wire::proto::v1;
use crate::workload::op::{self, Op};

/// Whom a call is for.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The partition's id.
    pub partition: u32,
    /// The session, 0 before there is one.
    pub session: u64,
    /// The primitive, 0 where none is meant.
    pub primitive: u64,
    /// The command's number; in the released dialect queries have one too.
    pub sequence: u64,
    /// The highest index that this session has seen.
    pub seen: u64,
    /// What is worked on.
    pub thing: Option<&'a Thing>,
    /// How large values are.
    pub value_bytes: usize,
    /// How long a session lives that falls silent.
    pub session_timeout: Span,
}

/// The paths, in the order of `path`.
pub const PATHS: [&str; 14] = [
    "/atomix.multiraft.v1.Partition/OpenSession",
    "/atomix.multiraft.v1.Session/CreatePrimitive",
    "/atomix.multiraft.v1.Partition/KeepAlive",
    "/atomix.multiraft.v1.Partition/CloseSession",
    "/atomix.multiraft.counter.v1.Counter/Increment",
    "/atomix.multiraft.counter.v1.Counter/Get",
    "/atomix.multiraft.map.v1.Map/Put",
    "/atomix.multiraft.map.v1.Map/Get",
    "/atomix.multiraft.map.v1.Map/Clear",
    "/atomix.multiraft.lock.v1.Lock/Acquire",
    "/atomix.multiraft.lock.v1.Lock/Release",
    "/atomix.multiraft.election.v1.LeaderElection/Enter",
    "/atomix.multiraft.election.v1.LeaderElection/Withdraw",
    "/atomix.multiraft.map.v1.Map/Events",
];

/// The place of a call's path in `PATHS`.
#[must_use]
pub const fn path(ask: &Ask) -> usize {
    match ask {
        Ask::Open => 0,
        Ask::Create { .. } => 1,
        Ask::KeepAlive => 2,
        Ask::Close => 3,
        Ask::Increment { .. } => 4,
        Ask::Count { .. } => 5,
        Ask::Put { .. } | Ask::Update { .. } => 6,
        Ask::Get { .. } => 7,
        Ask::Clear { .. } => 8,
        Ask::Acquire { .. } => 9,
        Ask::Release { .. } => 10,
        Ask::Enter { .. } => 11,
        Ask::Withdraw { .. } => 12,
        Ask::Listen { .. } => 13,
    }
}

/// Appends the request of `ask`.
#[inline]
pub fn put(dialect: Dialect, ask: &Ask, envelope: &Envelope<'_>, into: &mut Vec<u8>) {
    match *ask {
        Ask::Open => return put_open(envelope, into),
        Ask::Close => return put_close(envelope, into),
        Ask::KeepAlive => unreachable!("keep-alives are written by `keep_alive`"),
        Ask::Get { .. } | Ask::Count { .. } => put_query_head(dialect, envelope, into),
        _ => put_command_head(envelope, into),
    }
    match *ask {
        Ask::Open | Ask::Close | Ask::KeepAlive => {}
        Ask::Create { .. } => put_message(into, 2, |into| {
            put_message(into, 1, |into| {
                if let Some(thing) = envelope.thing {
                    put_bytes(into, 1, op::service(thing.kind).as_bytes());
                    put_bytes(into, 3, thing.name.as_bytes());
                }
            });
        }),
        Ask::Increment { .. } => into.extend_from_slice(&[0x12, 0x02, 0x08, 0x01]),
        Ask::Count { .. } | Ask::Clear { .. } | Ask::Listen { .. } | Ask::Release { .. } => {
            into.extend_from_slice(&[0x12, 0x00]);
        }
        Ask::Acquire { .. } => into.extend_from_slice(&[0x12, 0x00]),
        Ask::Put { content, .. } => put_put(&content, 0, envelope.value_bytes, into),
        Ask::Update { content, version, .. } => {
            put_put(&content, version, envelope.value_bytes, into);
        }
        Ask::Get { key, .. } => put_message(into, 2, |into| put_key(key, into)),
        Ask::Enter { who, .. } | Ask::Withdraw { who, .. } => put_message(into, 2, |into| {
            put_message(into, 1, |into| put_decimal(who, into));
        }),
    }
}

/// The request that keeps a session alive: all numbers up to `begun` are finished but those in
/// `open`, and of streams so much was received.
#[must_use]
pub fn keep_alive(
    partition: u32,
    session: u64,
    begun: u64,
    open: &[u64],
    received: &[(u64, u64)],
) -> Vec<u8> {
    let input = v1::KeepAliveInput {
        session_id: session,
        input_filter: Filter::of(open).to_json().into(),
        last_input_sequence_num: begun,
        last_output_sequence_nums: received.iter().copied().collect(),
    };
    let headers = Some(v1::PartitionRequestHeaders { partition_id: partition });
    v1::KeepAliveRequest { headers, input: Some(input) }.encode_to_vec()
}

fn put_open(envelope: &Envelope<'_>, into: &mut Vec<u8>) {
    put_message(into, 1, |into| put_uint(into, 1, u64::from(envelope.partition)));
    put_message(into, 2, |into| {
        crate::wire::field::put_duration(into, 1, envelope.session_timeout);
    });
}

fn put_close(envelope: &Envelope<'_>, into: &mut Vec<u8>) {
    put_message(into, 1, |into| put_uint(into, 1, u64::from(envelope.partition)));
    put_message(into, 2, |into| put_uint(into, 1, envelope.session));
}

#[inline]
fn put_command_head(envelope: &Envelope<'_>, into: &mut Vec<u8>) {
    let operation = operation_bytes(envelope);
    let head = delimited_bytes(1, operation) + uint_bytes(2, envelope.sequence);
    put_head(into, 1, head);
    put_operation(envelope, operation, into);
    put_uint(into, 2, envelope.sequence);
}

#[inline]
fn put_query_head(dialect: Dialect, envelope: &Envelope<'_>, into: &mut Vec<u8>) {
    let (second, third) = match dialect {
        Dialect::Documented => (envelope.seen, 0),
        Dialect::Released => (envelope.sequence, envelope.seen),
    };
    let operation = operation_bytes(envelope);
    put_head(into, 1, delimited_bytes(1, operation) + uint_bytes(2, second) + uint_bytes(3, third));
    put_operation(envelope, operation, into);
    put_uint(into, 2, second);
    put_uint(into, 3, third);
}

/// `OperationRequestHeaders {PrimitiveRequestHeaders {SessionRequestHeaders {Partition…}}}`: its
/// bytes, from the inside out.
#[inline]
fn operation_bytes(envelope: &Envelope<'_>) -> usize {
    let session = session_bytes(envelope);
    let primitive = delimited_bytes(1, session) + uint_bytes(2, envelope.primitive);
    delimited_bytes(1, primitive)
}

#[inline]
fn session_bytes(envelope: &Envelope<'_>) -> usize {
    let partition = uint_bytes(1, u64::from(envelope.partition));
    delimited_bytes(1, partition) + uint_bytes(2, envelope.session)
}

#[inline]
fn put_operation(envelope: &Envelope<'_>, bytes: usize, into: &mut Vec<u8>) {
    let session = session_bytes(envelope);
    let primitive = delimited_bytes(1, session) + uint_bytes(2, envelope.primitive);
    put_head(into, 1, bytes);
    put_head(into, 1, primitive);
    put_head(into, 1, session);
    put_head(into, 1, uint_bytes(1, u64::from(envelope.partition)));
    put_uint(into, 1, u64::from(envelope.partition));
    put_uint(into, 2, envelope.session);
    put_uint(into, 2, envelope.primitive);
}

fn put_put(content: &Content, version: u64, value_bytes: usize, into: &mut Vec<u8>) {
    put_message(into, 2, |into| {
        put_key(content.key, into);
        put_head(into, 2, value_bytes);
        content.put(value_bytes, into);
        put_uint(into, 4, version);
    });
}

const KEY_BYTES: usize = 12;

/// Keys have the same length, whatever their number.
fn put_key(key: u64, into: &mut Vec<u8>) {
    put_head(into, 1, KEY_BYTES);
    let mut digits = *b"k00000000000";
    let mut rest = key;
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    into.extend_from_slice(&digits);
}

fn put_decimal(number: u64, into: &mut Vec<u8>) {
    into.extend_from_slice(number.to_string().as_bytes());
}

/// What an answer says; of a stream, what one of its messages does. `index` is raised to what the
/// answer names.
#[inline]
pub fn read(
    dialect: Dialect,
    ask: &Ask,
    message: &[u8],
    index: &mut u64,
) -> Result<Reply, Refusal> {
    let mut answer = Answer::default();
    answer.read(dialect, ask, message).map_err(|Broken| {
        Refusal::new(Sort::Final, format!("the answer to {} is no message", ask.verb().name()))
    })?;
    *index = answer.index.max(*index);
    if !matches!(ask, Ask::Open | Ask::KeepAlive | Ask::Close) && answer.status != OK {
        return Err(refusal(dialect, &answer));
    }
    output(ask, answer.output.unwrap_or_default()).map_err(|Broken| {
        Refusal::new(Sort::Final, format!("the output of {} is no message", ask.verb().name()))
    })
}

/// Statuses by their documented numbers.
const OK: u64 = 1;
const CANCELED: u64 = 3;
const NO: [u64; 4] = [4, 5, 8, 12];
const UNAVAILABLE: u64 = 10;

#[derive(Default)]
struct Answer<'a> {
    index: u64,
    status: u64,
    text: &'a [u8],
    output: Option<&'a [u8]>,
}

impl<'a> Answer<'a> {
    #[inline]
    fn read(&mut self, dialect: Dialect, ask: &Ask, message: &'a [u8]) -> Result<(), Broken> {
        let plain = matches!(ask, Ask::Open | Ask::KeepAlive | Ask::Close);
        // Zero is not on the wire.
        self.status = documented(dialect, 0);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 if plain => self.index = partition_index(value.bytes()?)?,
                1 => self.head(dialect, value.bytes()?)?,
                2 => self.output = Some(value.bytes()?),
                _ => {}
            }
        }
        Ok(())
    }

    #[inline]
    fn head(&mut self, dialect: Dialect, head: &'a [u8]) -> Result<(), Broken> {
        let Some(operation) = first(head)? else { return Ok(()) };
        let mut fields = Fields::new(operation);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => {
                    let partition = first(value.bytes()?)?.map(first).transpose()?.flatten();
                    self.index = partition.map_or(Ok(0), partition_index)?;
                }
                2 => self.status = documented(dialect, value.uint()?),
                3 => self.text = value.bytes()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The contents of field 1.
#[inline]
fn first(message: &[u8]) -> Result<Option<&[u8]>, Broken> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field()? {
        if number == 1 {
            return value.bytes().map(Some);
        }
    }
    Ok(None)
}

fn partition_index(message: &[u8]) -> Result<u64, Broken> {
    number_of(message, 1)
}

/// The number in field `wanted`, 0 when it is not there.
#[inline]
fn number_of(message: &[u8], wanted: u32) -> Result<u64, Broken> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field()? {
        if let (true, Value::Varint(found)) = (number == wanted, value) {
            return Ok(found);
        }
    }
    Ok(0)
}

const fn documented(dialect: Dialect, status: u64) -> u64 {
    match (dialect, status) {
        (Dialect::Released, 0) => 1,
        (Dialect::Released, 1) => 2,
        (Dialect::Released, 2) => 0,
        (_, same) => same,
    }
}

fn refusal(dialect: Dialect, answer: &Answer<'_>) -> Refusal {
    let text = String::from_utf8_lossy(answer.text);
    let (sort, text) = match answer.status {
        UNAVAILABLE | CANCELED => (Sort::Passing, format!("status {} {text}", answer.status)),
        no if NO.contains(&no) => (Sort::No, text.into_owned()),
        0 | 2 if answer.output.is_some() => {
            let other = match dialect {
                Dialect::Documented => "released",
                Dialect::Released => "documented",
            };
            (Sort::Final, format!("its statuses are those of the {other} dialect"))
        }
        status => (Sort::Final, format!("status {status} {text}")),
    };
    Refusal::new(sort, text.trim_end())
}

#[inline]
fn output(ask: &Ask, output: &[u8]) -> Result<Reply, Broken> {
    Ok(match ask {
        Ask::Open | Ask::Create { .. } => Reply::Id(number_of(output, 1)?),
        Ask::KeepAlive | Ask::Close | Ask::Clear { .. } | Ask::Release { .. } => Reply::Nothing,
        Ask::Increment { .. } | Ask::Count { .. } => Reply::Number(number_of(output, 1)? as i64),
        Ask::Put { .. } | Ask::Update { .. } => written(output)?,
        Ask::Get { .. } => {
            let (version, content) = first(output)?.map_or(Ok((0, None)), held)?;
            Reply::Found { version, content }
        }
        Ask::Acquire { .. } => Reply::Token(number_of(output, 1)?),
        Ask::Enter { who, .. } | Ask::Withdraw { who, .. } => term(*who, output)?,
        Ask::Listen { .. } => event(output)?,
    })
}

#[inline]
fn written(output: &[u8]) -> Result<Reply, Broken> {
    let (mut version, mut before) = (0, 0);
    let mut fields = Fields::new(output);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => version = value.uint()?,
            2 => before = number_of(value.bytes()?, 2)?,
            _ => {}
        }
    }
    Ok(Reply::Written { version, before })
}

/// `IndexedValue`.
#[inline]
fn held(message: &[u8]) -> Result<(u64, Option<Content>), Broken> {
    let (mut version, mut content) = (0, None);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => content = Content::read(value.bytes()?),
            2 => version = value.uint()?,
            _ => {}
        }
    }
    Ok((version, content))
}

/// An event of a map. What is neither an insertion nor an update is told as one without content.
fn event(output: &[u8]) -> Result<Reply, Broken> {
    let mut fields = Fields::new(first(output)?.unwrap_or_default());
    while let Some((number, value)) = fields.field()? {
        if number == 2 || number == 3 {
            let value = first(value.bytes()?)?.unwrap_or_default();
            let (version, content) = held(value)?;
            return Ok(Reply::Event { version, content });
        }
    }
    Ok(Reply::Event { version: 0, content: None })
}

/// Candidates are numbers in decimal; another's name leads as nobody.
fn term(who: u64, output: &[u8]) -> Result<Reply, Broken> {
    let (mut number, mut leader, mut inside) = (0, None, false);
    let named = |name: &[u8]| std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    let mut fields = Fields::new(first(output)?.unwrap_or_default());
    while let Some((field, value)) = fields.field()? {
        match field {
            1 => leader = named(value.bytes()?),
            2 => inside |= named(value.bytes()?) == Some(who),
            3 => number = value.uint()?,
            _ => {}
        }
    }
    Ok(Reply::Term { number, leader, inside: inside || leader == Some(who) })
}

/// How a call that ended with `status` is to be taken.
#[must_use]
pub fn ended(status: Status, text: &str) -> Refusal {
    let sort = match status {
        Status::Unavailable
        | Status::ResourceExhausted
        | Status::DeadlineExceeded
        | Status::Aborted
        | Status::Cancelled => Sort::Passing,
        Status::PermissionDenied if text.contains("session") => Sort::Lost,
        _ => Sort::Final,
    };
    Refusal::new(sort, format!("{} {text}", status.name()).trim_end())
}

/// What the model of the workloads calls this, for tests that compare the bytes.
#[must_use]
pub fn as_op(ask: &Ask, value_bytes: usize) -> Option<Op> {
    let text = |key: u64| format!("k{key:011}");
    let value = |content: &Content| {
        let mut octets = Vec::new();
        content.put(value_bytes, &mut octets);
        octets.into()
    };
    Some(match ask {
        Ask::Increment { .. } => Op::CounterIncrement(1),
        Ask::Count { .. } => Op::CounterGet,
        Ask::Put { content, .. } => {
            Op::MapPut { key: text(content.key), value: value(content), ttl: None, prev: 0 }
        }
        Ask::Update { content, version, .. } => {
            let (key, value) = (text(content.key), value(content));
            Op::MapPut { key, value, ttl: None, prev: *version }
        }
        Ask::Get { key, .. } => Op::MapGet { key: text(*key) },
        Ask::Clear { .. } => Op::MapClear,
        Ask::Acquire { .. } => Op::LockAcquire { timeout: None },
        Ask::Release { .. } => Op::LockRelease,
        Ask::Enter { who, .. } => Op::ElectionEnter(who.to_string()),
        Ask::Withdraw { who, .. } => Op::ElectionWithdraw(who.to_string()),
        Ask::Listen { .. } => Op::MapEvents { key: String::new() },
        Ask::Open | Ask::Create { .. } | Ask::KeepAlive | Ask::Close => return None,
    })
}
