//! What clients say: the bodies of requests as the edge hands them to a shard (`shard/inbox.rs`,
//! `Ask`).
//!
//! Documented messages, and in a primitive's command or query field 100, which names its kind
//! (spec/wire.md, decision 1), and field 102, by which a stream begins with an opening event. They
//! are written by hand because the documented messages do not have them.

use prost::Message;
use prost::encoding::{encode_key, encode_varint};

use crate::id::Kind;
use crate::time::Span;
use crate::wire::proto::v1::{
    ClosePrimitiveInput, CloseSessionInput, CreatePrimitiveInput, KeepAliveInput, OpenSessionInput,
    PrimitiveProposalInput, PrimitiveQueryInput, PrimitiveSpec, SessionProposalInput,
    SessionQueryInput, StateMachineProposalInput, session_proposal_input,
    state_machine_proposal_input::Input,
};
use crate::workload::op::{duration, service};

/// Opens a session.
#[must_use]
pub fn open_session(timeout: Option<Span>) -> Vec<u8> {
    machine(Input::OpenSession(OpenSessionInput { timeout: timeout.map(duration) }))
}

/// Closes a session.
#[must_use]
pub fn close_session(session_id: u64) -> Vec<u8> {
    machine(Input::CloseSession(CloseSessionInput { session_id }))
}

/// Keeps a session: `filter` holds the open numbers up to `last`, `heard` what streams have
/// delivered.
#[must_use]
pub fn keep_alive(session_id: u64, filter: Vec<u8>, last: u64, heard: &[(u64, u64)]) -> Vec<u8> {
    machine(Input::KeepAlive(KeepAliveInput {
        session_id,
        input_filter: filter.into(),
        last_input_sequence_num: last,
        last_output_sequence_nums: heard.iter().copied().collect(),
    }))
}

/// Opens a primitive for a session, creating it when it is new.
#[must_use]
pub fn create(session_id: u64, sequence_num: u64, kind: Kind, name: &str) -> Vec<u8> {
    let spec = PrimitiveSpec {
        service: service(kind).to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    };
    let input =
        session_proposal_input::Input::CreatePrimitive(CreatePrimitiveInput { spec: Some(spec) });
    proposal(session_id, sequence_num, input)
}

/// Closes a primitive for a session.
#[must_use]
pub fn close_primitive(session_id: u64, sequence_num: u64, primitive_id: u64) -> Vec<u8> {
    let input = session_proposal_input::Input::ClosePrimitive(ClosePrimitiveInput { primitive_id });
    proposal(session_id, sequence_num, input)
}

/// A command on a primitive.
#[must_use]
pub fn command(
    session_id: u64,
    sequence_num: u64,
    primitive_id: u64,
    kind: Kind,
    payload: Vec<u8>,
) -> Vec<u8> {
    command_with(session_id, sequence_num, primitive_id, payload, |inner| {
        put_number(inner, KIND_FIELD, kind as u64);
    })
}

/// A command whose stream begins with an event that tells of nothing.
#[must_use]
pub fn opening_command(
    session_id: u64,
    sequence_num: u64,
    primitive_id: u64,
    kind: Kind,
    payload: Vec<u8>,
) -> Vec<u8> {
    command_with(session_id, sequence_num, primitive_id, payload, |inner| {
        put_number(inner, KIND_FIELD, kind as u64);
        put_number(inner, OPENING_FIELD, 1);
    })
}

/// A query on a primitive.
#[must_use]
pub fn query(session_id: u64, primitive_id: u64, kind: Kind, payload: Vec<u8>) -> Vec<u8> {
    let payload = payload.into();
    let mut inner = PrimitiveQueryInput { primitive_id, payload }.encode_to_vec();
    put_number(&mut inner, KIND_FIELD, kind as u64);
    let session = SessionQueryInput { session_id, ..SessionQueryInput::default() };
    let mut body = session.encode_to_vec();
    put_nested(&mut body, 3, &inner);
    body
}

fn command_with(
    session_id: u64,
    sequence_num: u64,
    primitive_id: u64,
    payload: Vec<u8>,
    ours: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let payload = payload.into();
    let mut inner = PrimitiveProposalInput { primitive_id, payload }.encode_to_vec();
    ours(&mut inner);
    let session =
        SessionProposalInput { session_id, sequence_num, ..SessionProposalInput::default() };
    let mut outer = session.encode_to_vec();
    put_nested(&mut outer, 6, &inner);
    let mut body = Vec::new();
    put_nested(&mut body, 5, &outer);
    body
}

fn machine(input: Input) -> Vec<u8> {
    StateMachineProposalInput { timestamp: None, input: Some(input) }.encode_to_vec()
}

fn proposal(session_id: u64, sequence_num: u64, input: session_proposal_input::Input) -> Vec<u8> {
    machine(Input::Proposal(SessionProposalInput {
        session_id,
        sequence_num,
        input: Some(input),
        ..SessionProposalInput::default()
    }))
}

fn put_number(into: &mut Vec<u8>, field: u32, number: u64) {
    encode_key(field, prost::encoding::WireType::Varint, into);
    encode_varint(number, into);
}

fn put_nested(into: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    encode_key(field, prost::encoding::WireType::LengthDelimited, into);
    encode_varint(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

const KIND_FIELD: u32 = 100;
const OPENING_FIELD: u32 = 102;
