//! One entry of the log in words, for `ringraft log dump`.
//!
//! Everything is decoded from the documented messages (fsm.proto) and the kind in field 100
//! (wire.md, decision 1). What cannot be understood is said to be so and never ends the dump.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;

use super::say;
use crate::id::{Kind, Term};
use crate::wire::proto::v1::state_machine_proposal_input::Input;
use crate::wire::proto::v1::{
    SessionProposalInput, StateMachineProposalInput, session_proposal_input,
};
use crate::wire::proto::{counter, countermap, election, indexedmap, lock, multimap, set, value};
use crate::wire::rsm;

/// Prints the entry and each command in it.
pub(super) fn tell(position: u64, term: Term, kind: u8, data: &Bytes) {
    if kind != NORMAL {
        say(&format_args!(
            "      {position} term {term}: a change of members, {} bytes",
            data.len()
        ));
        return;
    }
    if data.is_empty() {
        say(&format_args!("      {position} term {term}: a new leader's first entry"));
        return;
    }
    let mut rest = data.clone();
    let mut first = true;
    while !rest.is_empty() {
        let body = prost::decode_length_delimiter(&mut rest).ok();
        let Some(body) = body.filter(|n| *n <= rest.len()).map(|n| rest.split_to(n)) else {
            say(&"        the rest cannot be read");
            return;
        };
        let message = StateMachineProposalInput::decode(body.clone());
        if first {
            let stamp = message.as_ref().ok().and_then(|message| message.timestamp.as_ref());
            let stamp = stamp.map_or("no stamp".to_owned(), prost_types::Timestamp::to_string);
            say(&format_args!("      {position} term {term}, {stamp}"));
        }
        first = false;
        match message {
            Ok(message) => say(&format_args!("        {}", command(message, &body))),
            Err(_) => say(&format_args!("        {} bytes that cannot be read", body.len())),
        }
    }
}

/// raft's number for an entry that is neither of its changes of members.
const NORMAL: u8 = 0;

fn command(message: StateMachineProposalInput, body: &Bytes) -> String {
    match message.input {
        None => "only time passes".to_owned(),
        Some(Input::OpenSession(open)) => {
            let timeout = open.timeout.map_or("default".to_owned(), |timeout| timeout.to_string());
            format!("open a session, timeout {timeout}")
        }
        Some(Input::KeepAlive(alive)) => format!(
            "keep session {} alive: begun to {}, {} streams acknowledged",
            alive.session_id,
            alive.last_input_sequence_num,
            alive.last_output_sequence_nums.len()
        ),
        Some(Input::CloseSession(close)) => format!("close session {}", close.session_id),
        Some(Input::Proposal(proposal)) => session_command(proposal, body),
    }
}

fn session_command(proposal: SessionProposalInput, body: &Bytes) -> String {
    use session_proposal_input::Input as Ask;
    let who = format!("session {} number {}", proposal.session_id, proposal.sequence_num);
    match proposal.input {
        None => format!("{who}: nothing"),
        Some(Ask::CreatePrimitive(create)) => {
            let spec = create.spec.unwrap_or_default();
            format!("{who}: create {} {:?}", spec.service, spec.name)
        }
        Some(Ask::ClosePrimitive(close)) => {
            format!("{who}: close primitive {}", close.primitive_id)
        }
        Some(Ask::Proposal(ask)) => {
            let kind = Kind::from_number(kind_in(body));
            let name = kind.map_or("a primitive of unknown kind", Kind::name);
            let input = kind.map_or("unknown".to_owned(), |kind| operation(kind, ask.payload));
            format!("{who}: {name} {}: {input}", ask.primitive_id)
        }
    }
}

/// The input of an operation, field by field.
fn operation(kind: Kind, payload: Bytes) -> String {
    match kind {
        Kind::Counter => fields(payload, |m: counter::v1::CounterInput| m.input),
        Kind::CounterMap => fields(payload, |m: countermap::v1::CounterMapInput| m.input),
        Kind::LeaderElection => fields(payload, |m: election::v1::LeaderElectionInput| m.input),
        Kind::IndexedMap => fields(payload, |m: indexedmap::v1::IndexedMapInput| m.input),
        Kind::Lock => fields(payload, |m: lock::v1::LockInput| m.input),
        // That of the last generation knows transactions too.
        Kind::Map => fields(payload, |m: rsm::map::v1::MapInput| m.input),
        Kind::MultiMap => fields(payload, |m: multimap::v1::MultiMapInput| m.input),
        Kind::Set => fields(payload, |m: set::v1::SetInput| m.input),
        Kind::Value => fields(payload, |m: value::v1::ValueInput| m.input),
    }
}

fn fields<M: Message + Default, I: Debug>(
    payload: Bytes,
    input: impl FnOnce(M) -> Option<I>,
) -> String {
    match M::decode(payload).map(input) {
        Ok(Some(input)) => format!("{input:?}"),
        Ok(None) => "nothing".to_owned(),
        Err(_) => "cannot be read".to_owned(),
    }
}

/// Field 100 of the `PrimitiveProposalInput`, which the documented messages do not declare.
fn kind_in(body: &Bytes) -> u64 {
    #[derive(Clone, PartialEq, Message)]
    struct Whole {
        #[prost(message, optional, tag = "5")]
        proposal: Option<Session>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Session {
        #[prost(message, optional, tag = "6")]
        proposal: Option<Primitive>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Primitive {
        #[prost(uint64, tag = "100")]
        kind: u64,
    }
    let whole = Whole::decode(body.clone()).unwrap_or_default();
    whole.proposal.and_then(|session| session.proposal).map_or(0, |primitive| primitive.kind)
}
