//! From the bytes of a request to a command or query in a shard's inbox, without decoding it.
//!
//! The ids are sliced out of the nested headers, the form of the input is checked (`shape.rs`), and
//! its bytes are wrapped as they are into what stands in the log (design.md, decision 6;
//! shard/inbox.rs). A field that comes twice is merged as protobuf says: numbers by the last,
//! messages by joining their bytes. What is wrong is refused with the name of the part, and nothing
//! has been written then. Absent on purpose: sessions, primitives and whether any of the ids
//! exists.

mod operator;

use std::borrow::Cow;

use prost::Message;

use crate::edge::dialect::{self, Dialect};
use crate::edge::method::{Absent, Life, Method, Node, Operation, Session, What};
use crate::id::{Index, NodeId, PartitionId, Ticket};
use crate::limits::REPLICAS_MAX;
use crate::partition::reply::Refusal;
use crate::shard::inbox::{Ask, Change, Member, Requests, Role};
use crate::time::{Instant, Span};
use crate::wire::bloom::Filter;
use crate::wire::field::{
    Broken, Fields, Value, delimited_bytes, put_bytes, put_head, put_uint, put_varint, uint_bytes,
    varint_bytes,
};
use crate::wire::shape::{self, Fault};
use crate::wire::{proto, released, rsm};

/// A request whose form is right.
#[derive(Debug)]
pub struct Call<'a> {
    partition: PartitionId,
    form: Form<'a>,
}

/// What the operator decides about requests.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The timeout of a session that asks for none (wire.md, decision 7).
    pub session_timeout_default: Span,
    /// A longer one is cut to this.
    pub session_timeout_max: Span,
    /// Who this node is.
    pub node: NodeId,
    /// By what name groups of the released dialect know it.
    pub naming: Naming,
}

/// By what name a group of the released dialect knows this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// By its id: the member that the group calls local must be it.
    ByNode,
    /// By the one that the group calls local, whatever the others call it. Who names members so
    /// keeps two nodes from taking themselves for one.
    ByGroup,
}

/// Reads a request of `method`, a call in `dialect`.
#[inline]
pub fn read<'a>(
    method: &Method,
    message: &'a [u8],
    dialect: Dialect,
    rules: &Rules,
) -> Result<Call<'a>, Refusal> {
    match method.what {
        What::Command(operation) => {
            let (mut ids, input) = enveloped(message, 2, Header::Operation)?;
            input.check(method)?;
            ids.opening = method.streaming && dialect.opens_events();
            Ok(ids.call(Form::Command { operation, ids, input }))
        }
        What::Query(operation) => {
            let index_field = dialect.max_received_index_field();
            let (mut ids, input) = enveloped(message, index_field, Header::Operation)?;
            input.check(method)?;
            if dialect.numbers_queries() {
                // One that is left out is 0, as every reader of the released message has it.
                ids.query.get_or_insert(0);
            }
            Ok(ids.call(Form::Query { operation, ids, input }))
        }
        What::Life(life) => {
            let (ids, input) = enveloped(message, 2, Header::Operation)?;
            input.check_present(method)?;
            if (life, dialect) == (Life::CreatePrimitive, Dialect::Rsm) {
                let create = documented_create(&input)?;
                return Ok(ids.call(Form::Create { ids, create }));
            }
            Ok(ids.call(Form::Life { life, ids, input }))
        }
        What::Session(session) => {
            let (ids, input) = enveloped(message, 2, Header::Partition)?;
            input.check_present(method)?;
            Ok(ids.call(session_form(session, input, rules)?))
        }
        What::WatchPartition => {
            if !dialect.watches_partitions() {
                return Err(Refusal::Unimplemented("this dialect has no Partition.Watch"));
            }
            let request = decode::<proto::v1::WatchPartitionRequest>(message)?;
            Ok(Call { partition: PartitionId(request.partition_id), form: Form::WatchPartition })
        }
        What::Node(node) => node_call(node, message, dialect, rules),
        What::Cluster(call) => operator::read(call, message),
        What::Edge(_) => Err(Refusal::Unimplemented("the edge of a node answers this")),
    }
}

impl Call<'_> {
    /// The partition it is for; `None` when it concerns the whole node.
    #[must_use]
    pub fn partition(&self) -> Option<PartitionId> {
        match self.form {
            Form::WatchNode => None,
            _ => Some(self.partition),
        }
    }

    /// Puts it into an inbox, to be answered to `ticket` before `deadline`. What the deadline is in
    /// log time is the leader's to say (`Partition::propose`).
    #[inline]
    pub fn write(self, ticket: Ticket, deadline: Option<Instant>, into: &mut Requests) {
        let partition = self.partition;
        let mut push = |ask, write: &dyn Fn(&mut Vec<u8>)| {
            into.push(ticket, partition, deadline, ask, |bytes| write(bytes));
        };
        match self.form {
            Form::Command { operation, ids, input } => push(Ask::Command, &|bytes| {
                put_command(bytes, operation, &ids, &input);
            }),
            Form::Query { operation, ids, input } => {
                push(Ask::Query { at_least: Index(ids.number) }, &|bytes| {
                    put_query(bytes, operation, &ids, &input);
                });
            }
            Form::Life { life, ids, input } => {
                push(Ask::Command, &|bytes| put_life(bytes, life, &ids, &input));
            }
            Form::Create { ids, create } => push(Ask::Command, &|bytes| {
                put_session_proposal(bytes, &ids, delimited_bytes(CREATE_PRIMITIVE, create.len()));
                put_bytes(bytes, CREATE_PRIMITIVE, &create);
            }),
            Form::Open { timeout } => push(Ask::Command, &|bytes| put_open(bytes, timeout)),
            Form::KeepAlive { input } => push(Ask::Command, &|bytes| {
                put_head(bytes, KEEP_ALIVE, input.length);
                input.put(bytes);
            }),
            Form::Close { input } => push(Ask::Command, &|bytes| {
                put_head(bytes, CLOSE_SESSION, input.length);
                input.put(bytes);
            }),
            Form::WatchPartition => push(Ask::WatchPartition, &|_| {}),
            Form::WatchNode => push(Ask::WatchNode, &|_| {}),
            Form::Bootstrap(local, members) => {
                push(Ask::Bootstrap { local, members }, &|_| {});
            }
            Form::Join(local, members) => push(Ask::Join { local, members }, &|_| {}),
            Form::Leave => push(Ask::Leave, &|_| {}),
            Form::Describe { here } => push(Ask::Describe { here }, &|_| {}),
            Form::Arrange { change, patience } => push(Ask::Arrange { change, patience }, &|_| {}),
        }
    }
}

#[derive(Debug)]
enum Form<'a> {
    Command {
        operation: Operation,
        ids: Ids,
        input: Input<'a>,
    },
    Query {
        operation: Operation,
        ids: Ids,
        input: Input<'a>,
    },
    Life {
        life: Life,
        ids: Ids,
        input: Input<'a>,
    },
    /// CreatePrimitive, its input rewritten to the documented one.
    Create {
        ids: Ids,
        create: Vec<u8>,
    },
    Open {
        timeout: Span,
    },
    KeepAlive {
        input: Input<'a>,
    },
    Close {
        input: Input<'a>,
    },
    WatchPartition,
    WatchNode,
    Bootstrap(NodeId, Vec<Member>),
    Join(NodeId, Vec<Member>),
    Leave,
    Describe {
        here: bool,
    },
    Arrange {
        change: Change,
        patience: Span,
    },
}

/// What the headers of a request say.
#[derive(Clone, Copy, Default, Debug)]
struct Ids {
    partition: u32,
    session: u64,
    primitive: u64,
    /// A command's sequence number, or a query's `max_received_index`.
    number: u64,
    /// A query's own sequence number, in the dialect whose queries have one.
    query: Option<u64>,
    /// Whether the stream is to begin with an event that tells of nothing.
    opening: bool,
}

impl Ids {
    fn call(self, form: Form<'_>) -> Call<'_> {
        Call { partition: PartitionId(self.partition), form }
    }
}

/// The `input` of a request: its pieces, as a rule one, in `message`.
#[derive(Clone, Copy, Debug)]
struct Input<'a> {
    message: &'a [u8],
    last: &'a [u8],
    length: usize,
    pieces: usize,
}

impl<'a> Input<'a> {
    #[inline]
    fn check(&self, method: &Method) -> Result<(), Refusal> {
        self.each(|piece| shape::check(piece, method.shape)).map_err(|fault| {
            Refusal::Malformed(match fault {
                Fault::Malformed => "malformed input".to_owned(),
                Fault::Text => "a string of the input is not UTF-8".to_owned(),
                Fault::Range => "a duration of the input is out of range".to_owned(),
            })
        })
    }

    fn check_present(&self, method: &Method) -> Result<(), Refusal> {
        if self.pieces == 0 {
            return Err(Refusal::Malformed("the request has no input".to_owned()));
        }
        self.check(method)
    }

    #[inline]
    fn each<E>(&self, mut with: impl FnMut(&'a [u8]) -> Result<(), E>) -> Result<(), E> {
        if self.pieces == 1 {
            return with(self.last);
        }
        let mut fields = Fields::new(self.message);
        while let Ok(Some((number, value))) = fields.field() {
            if let (2, Value::Bytes(piece)) = (number, value) {
                with(piece)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn put(&self, into: &mut Vec<u8>) {
        let before = into.len();
        let written = self.each(|piece| {
            into.extend_from_slice(piece);
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = written;
        assert_eq!(into.len() - before, self.length, "the pieces are those that were counted");
    }

    /// The pieces in one: joined bytes of messages are the merged message.
    fn joined(&self) -> Cow<'a, [u8]> {
        if self.pieces == 1 {
            return Cow::Borrowed(self.last);
        }
        let mut bytes = Vec::with_capacity(self.length);
        self.put(&mut bytes);
        Cow::Owned(bytes)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    Operation,
    Partition,
}

/// Cuts `{1 headers, 2 input}`. `number_field` is where the headers hold `Ids::number`.
#[inline]
fn enveloped(
    message: &[u8],
    number_field: u32,
    header: Header,
) -> Result<(Ids, Input<'_>), Refusal> {
    let malformed = |_: Broken| Refusal::Malformed("malformed request".to_owned());
    let mut ids = Ids::default();
    let mut input = Input { message, last: &[], length: 0, pieces: 0 };
    let mut headed = false;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field().map_err(malformed)? {
        match number {
            1 => {
                let bytes = value.bytes().map_err(malformed)?;
                let read = match header {
                    Header::Operation => operation_header(bytes, number_field, &mut ids),
                    Header::Partition => partition_header(bytes, &mut ids),
                };
                read.map_err(|_| Refusal::Malformed("malformed headers".to_owned()))?;
                headed = true;
            }
            2 => {
                input.last = value.bytes().map_err(malformed)?;
                input.length += input.last.len();
                input.pieces += 1;
            }
            _ => {}
        }
    }
    if headed {
        Ok((ids, input))
    } else {
        Err(Refusal::Malformed("the request has no headers".to_owned()))
    }
}

/// `CommandRequestHeaders` and `QueryRequestHeaders` (core.md 4.1): all nesting is by field 1.
#[inline]
fn operation_header(bytes: &[u8], number_field: u32, ids: &mut Ids) -> Result<(), Broken> {
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.field()? {
        if number == 1 {
            let mut operation = Fields::new(value.bytes()?);
            while let Some((number, value)) = operation.field()? {
                if number == 1 {
                    primitive_header(value.bytes()?, ids)?;
                }
            }
        } else if number == number_field {
            ids.number = value.uint()?;
        } else if number == 2 {
            ids.query = Some(value.uint()?);
        }
    }
    Ok(())
}

#[inline]
fn primitive_header(bytes: &[u8], ids: &mut Ids) -> Result<(), Broken> {
    let mut primitive = Fields::new(bytes);
    while let Some((number, value)) = primitive.field()? {
        match number {
            1 => {
                let mut session = Fields::new(value.bytes()?);
                while let Some((number, value)) = session.field()? {
                    match number {
                        1 => partition_header(value.bytes()?, ids)?,
                        2 => ids.session = value.uint()?,
                        _ => {}
                    }
                }
            }
            2 => ids.primitive = value.uint()?,
            _ => {}
        }
    }
    Ok(())
}

#[inline]
fn partition_header(bytes: &[u8], ids: &mut Ids) -> Result<(), Broken> {
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.field()? {
        if number == 1 {
            // A uint32 keeps its low half, as every protobuf reader does.
            ids.partition = value.uint()? as u32;
        }
    }
    Ok(())
}

// Members of the oneof in `StateMachineProposalInput`.
const OPEN_SESSION: u32 = 2;
const KEEP_ALIVE: u32 = 3;
const CLOSE_SESSION: u32 = 4;
const SESSION_PROPOSAL: u32 = 5;

// `SessionProposalInput` and `SessionQueryInput`.
const CREATE_PRIMITIVE: u32 = 4;
const CLOSE_PRIMITIVE: u32 = 5;
const PRIMITIVE_PROPOSAL: u32 = 6;
const PRIMITIVE_QUERY: u32 = 3;
/// Ours: by it a keep-alive ends a query of the released dialect (partition/query.rs).
const QUERY_SEQUENCE: u32 = 101;

// `PrimitiveProposalInput` and `PrimitiveQueryInput`; the kind is ours (wire.md, decision 1), and
// so is the wish for an opening event, which stands in the log because the event is an output with
// a number (partition/command.rs).
const PAYLOAD: u32 = 2;
const KIND: u32 = 100;
const OPENING: u32 = 102;

#[inline]
fn put_command(into: &mut Vec<u8>, operation: Operation, ids: &Ids, input: &Input<'_>) {
    let primitive = primitive_bytes(operation, ids, input);
    put_session_proposal(into, ids, delimited_bytes(PRIMITIVE_PROPOSAL, primitive));
    put_head(into, PRIMITIVE_PROPOSAL, primitive);
    put_primitive(into, operation, ids, input);
}

fn put_life(into: &mut Vec<u8>, life: Life, ids: &Ids, input: &Input<'_>) {
    let member = match life {
        Life::CreatePrimitive => CREATE_PRIMITIVE,
        Life::ClosePrimitive => CLOSE_PRIMITIVE,
    };
    put_session_proposal(into, ids, delimited_bytes(member, input.length));
    put_head(into, member, input.length);
    input.put(into);
}

/// The frame of a `SessionProposalInput` whose oneof member, `rest` bytes in all, follows.
#[inline]
fn put_session_proposal(into: &mut Vec<u8>, ids: &Ids, rest: usize) {
    let proposal = uint_bytes(1, ids.session) + uint_bytes(2, ids.number) + rest;
    into.reserve(delimited_bytes(SESSION_PROPOSAL, proposal));
    put_head(into, SESSION_PROPOSAL, proposal);
    put_uint(into, 1, ids.session);
    put_uint(into, 2, ids.number);
}

#[inline]
fn put_query(into: &mut Vec<u8>, operation: Operation, ids: &Ids, input: &Input<'_>) {
    let primitive = primitive_bytes(operation, ids, input);
    put_uint(into, 1, ids.session);
    put_head(into, PRIMITIVE_QUERY, primitive);
    put_primitive(into, operation, ids, input);
    if let Some(number) = ids.query {
        put_varint(into, u64::from(QUERY_SEQUENCE) << 3);
        put_varint(into, number);
    }
}

#[inline]
fn primitive_bytes(operation: Operation, ids: &Ids, input: &Input<'_>) -> usize {
    let payload = payload_bytes(operation, input);
    let payload = if payload == 0 { 0 } else { delimited_bytes(PAYLOAD, payload) };
    let opening = uint_bytes(OPENING, u64::from(ids.opening));
    uint_bytes(1, ids.primitive) + payload + uint_bytes(KIND, operation.kind as u64) + opening
}

#[inline]
fn put_primitive(into: &mut Vec<u8>, operation: Operation, ids: &Ids, input: &Input<'_>) {
    put_uint(into, 1, ids.primitive);
    let payload = payload_bytes(operation, input);
    if payload > 0 {
        put_head(into, PAYLOAD, payload);
        put_head(into, u32::from(operation.tag), input.length);
        input.put(into);
    }
    put_uint(into, KIND, operation.kind as u64);
    put_uint(into, OPENING, u64::from(ids.opening));
}

/// The length of `<P>Input`; 0 when there is no input and none can be thought of.
#[inline]
fn payload_bytes(operation: Operation, input: &Input<'_>) -> usize {
    match operation.absent {
        Absent::Invalid if input.pieces == 0 => 0,
        Absent::Empty | Absent::Invalid => delimited_bytes(u32::from(operation.tag), input.length),
    }
}

/// A `CreatePrimitiveInput` of the rsm dialect as the documented one; without spec when it has
/// none. A type that does not exist becomes one without a name, which the state machine refuses.
fn documented_create(input: &Input<'_>) -> Result<Vec<u8>, Refusal> {
    let asked = decode::<rsm::v1::CreatePrimitiveInput>(&input.joined())?;
    let spec = asked.spec.map(|spec| {
        let (kind, called) = (spec.r#type.unwrap_or_default(), spec.name.unwrap_or_default());
        proto::v1::PrimitiveSpec {
            service: dialect::service_of(&kind.name, &kind.api_version),
            namespace: called.namespace,
            name: called.name,
        }
    });
    Ok(proto::v1::CreatePrimitiveInput { spec }.encode_to_vec())
}

const SECOND: u64 = 1_000_000_000;

fn put_open(into: &mut Vec<u8>, timeout: Span) {
    let (seconds, nanos) = (timeout.0 / SECOND, timeout.0 % SECOND);
    let duration = uint_bytes(1, seconds) + uint_bytes(2, nanos);
    put_head(
        into,
        OPEN_SESSION,
        varint_bytes(1 << 3 | 2) + varint_bytes(duration as u64) + duration,
    );
    put_head(into, 1, duration);
    put_uint(into, 1, seconds);
    put_uint(into, 2, nanos);
}

fn session_form<'a>(
    session: Session,
    input: Input<'a>,
    rules: &Rules,
) -> Result<Form<'a>, Refusal> {
    match session {
        Session::Open => {
            let open = decode::<proto::v1::OpenSessionInput>(&input.joined())?;
            Ok(Form::Open { timeout: session_timeout(open.timeout.as_ref(), rules)? })
        }
        Session::KeepAlive => {
            check_filter(&input)?;
            Ok(Form::KeepAlive { input })
        }
        Session::Close => Ok(Form::Close { input }),
    }
}

/// Wire.md, decision 7; that it is within the range of a duration has been checked.
fn session_timeout(asked: Option<&prost_types::Duration>, rules: &Rules) -> Result<Span, Refusal> {
    let refused = |text: &str| Err(Refusal::Malformed(format!("session timeout {text}")));
    let Some(asked) = asked else { return Ok(rules.session_timeout_default) };
    let (seconds, nanos) = (asked.seconds, i64::from(asked.nanos));
    if seconds < 0 || nanos < 0 {
        return refused("is negative");
    }
    if seconds == 0 && nanos == 0 {
        return Ok(rules.session_timeout_default);
    }
    let timeout = (seconds as u64).saturating_mul(SECOND).saturating_add(nanos as u64);
    Ok(Span(timeout.min(rules.session_timeout_max.0)))
}

/// Wire.md, decision 8: a filter that could not be applied is refused before anything is proposed.
fn check_filter(input: &Input<'_>) -> Result<(), Refusal> {
    let mut filter: &[u8] = &[];
    let found = input.each(|piece| {
        let mut fields = Fields::new(piece);
        while let Some((number, value)) = fields.field()? {
            if number == 2 {
                filter = value.bytes()?;
            }
        }
        Ok::<(), Broken>(())
    });
    found.map_err(|_| Refusal::Malformed("malformed input".to_owned()))?;
    let parsed = Filter::parse(filter);
    parsed.map(drop).map_err(|why| Refusal::Malformed(format!("invalid request filter: {}", why.0)))
}

fn node_call(
    node: Node,
    message: &[u8],
    dialect: Dialect,
    rules: &Rules,
) -> Result<Call<'static>, Refusal> {
    match node {
        // Both requests have the same octets.
        Node::Bootstrap | Node::Join => {
            let (group, local, members) = match dialect {
                Dialect::Documented => documented_group(message, rules.node)?,
                Dialect::Released | Dialect::Rsm => released_group(message, rules)?,
            };
            check_group(group, &members)?;
            let founds = matches!(node, Node::Bootstrap);
            let is_here = |member: &&Member| member.node == local;
            let role = members.iter().find(is_here).map(|member| member.role);
            if founds && dialect != Dialect::Documented && role == Some(Role::Witness) {
                return Err(Refusal::Malformed(UNHEARD.to_owned()));
            }
            let form = if founds { Form::Bootstrap } else { Form::Join };
            Ok(Call { partition: PartitionId(group), form: form(local, members) })
        }
        Node::Leave => {
            let request = decode::<proto::v1::LeaveRequest>(message)?;
            Ok(Call { partition: PartitionId(request.group_id), form: Form::Leave })
        }
        Node::Watch => {
            decode::<proto::v1::WatchRequest>(message)?;
            Ok(Call { partition: PartitionId(0), form: Form::WatchNode })
        }
    }
}

/// A group's id, which of its members is here, and all of them.
type Group = (u32, NodeId, Vec<Member>);

fn documented_group(message: &[u8], here: NodeId) -> Result<Group, Refusal> {
    use proto::v1::member_config::Role as Wire;
    let group = decode::<proto::v1::BootstrapRequest>(message)?.group.ok_or_else(no_group)?;
    let members = group.members.into_iter().map(|member| {
        let role = match Wire::try_from(member.role) {
            Ok(Wire::Unknown | Wire::Member) => Role::Member,
            Ok(Wire::Observer) => Role::Observer,
            Ok(Wire::Witness) => Role::Witness,
            Err(_) => return Err(unknown_role(member.role)),
        };
        let node = NodeId(member.node_id);
        Ok(Member { node, host: member.host, port: port(member.port)?, role })
    });
    Ok((group.group_id, here, members.collect::<Result<_, _>>()?))
}

/// The released dialect gives one role, that of the member it calls local. Where nodes have names
/// of their own it must be this one's, or two nodes could take themselves for one member.
fn released_group(message: &[u8], rules: &Rules) -> Result<Group, Refusal> {
    use released::atomix::multiraft::v1 as wire;
    let group = decode::<wire::BootstrapRequest>(message)?.group.ok_or_else(no_group)?;
    if group.member_id == 0 {
        return Err(Refusal::Malformed("member_id 0 names nobody".to_owned()));
    }
    let here = rules.node;
    if rules.naming == Naming::ByNode && group.member_id != here.0 {
        let text = format!("member_id {} is not this node's, which is {here}", group.member_id);
        return Err(Refusal::Malformed(text));
    }
    let local = match wire::MemberRole::try_from(group.role) {
        Ok(wire::MemberRole::Unknown | wire::MemberRole::Member) => Role::Member,
        Ok(wire::MemberRole::Observer) => Role::Observer,
        Ok(wire::MemberRole::Witness) => Role::Witness,
        Err(_) => return Err(unknown_role(group.role)),
    };
    let members = group.members.into_iter().map(|member| {
        let role = if member.member_id == group.member_id { local } else { Role::Member };
        let node = NodeId(member.member_id);
        Ok(Member { node, host: member.host, port: port(member.port)?, role })
    });
    let local = NodeId(group.member_id);
    Ok((group.group_id, local, members.collect::<Result<_, _>>()?))
}

/// Others would hand leadership to it, which it cannot take.
const UNHEARD: &str = "a Bootstrap of this dialect does not tell the other members of a witness: \
                       found the group without it and let it join";

/// What would take the process of the reference down is refused (core.md 2.2).
fn check_group(group: u32, members: &[Member]) -> Result<(), Refusal> {
    let refused = |text: String| Err(Refusal::Malformed(text));
    if group == 0 {
        return refused("group_id 0 names no group".to_owned());
    }
    if members.len() > REPLICAS_MAX {
        return refused(format!("{} members, at most {REPLICAS_MAX}", members.len()));
    }
    for (at, member) in members.iter().enumerate() {
        if member.node.0 == 0 {
            return refused("a member's id is 0".to_owned());
        }
        let odd = |c: char| c == ':' || c.is_whitespace() || c.is_control();
        if member.host.is_empty() || member.host.contains(odd) {
            return refused(format!("host {:?} is neither a name nor an address", member.host));
        }
        for other in &members[..at] {
            if other.node == member.node {
                return refused(format!("member {} stands there twice", member.node));
            }
            if (&other.host, other.port) == (&member.host, member.port) {
                return refused(format!("two members at {}:{}", member.host, member.port));
            }
        }
    }
    Ok(())
}

fn port(port: i32) -> Result<u16, Refusal> {
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(Refusal::Malformed(format!("port {port} is not in 1 to 65535"))),
    }
}

fn no_group() -> Refusal {
    Refusal::Malformed("the request has no group".to_owned())
}

fn unknown_role(role: i32) -> Refusal {
    Refusal::Malformed(format!("no role has the number {role}"))
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Refusal> {
    M::decode(bytes).map_err(|error| Refusal::Malformed(format!("malformed request: {error}")))
}

#[cfg(test)]
mod tests;
