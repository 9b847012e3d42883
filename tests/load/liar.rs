//! A server of counters that keeps its promises, or breaks one of them. It knows just what a run of
//! `counter` asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prost::Message;
use ringraft::wire::proto::{counter::v1 as counter, v1};

use crate::serve::serve;

/// Which promise is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// None.
    None,
    /// After a while an increment is answered with an old value.
    Twice,
    /// An increment is acknowledged, and the value at the end is without it.
    Lost,
    /// One has counted twice by the end.
    More,
}

const PATHS: &[&str] = &[
    "/atomix.multiraft.v1.Partition/OpenSession",
    "/atomix.multiraft.v1.Session/CreatePrimitive",
    "/atomix.multiraft.v1.Partition/KeepAlive",
    "/atomix.multiraft.v1.Partition/CloseSession",
    "/atomix.multiraft.counter.v1.Counter/Increment",
    "/atomix.multiraft.counter.v1.Counter/Get",
];

/// The last id, the counters by their ids, and their ids by name.
type State = (u64, BTreeMap<u64, i64>, BTreeMap<String, u64>);

/// Serves until the process ends; where.
pub fn start(lie: Lie) -> String {
    let state = Arc::new(Mutex::new(State::default()));
    serve(PATHS, move |method, request| answer(method, request, &mut state.lock().unwrap(), lie))
}

fn answer(method: u16, request: &[u8], state: &mut State, lie: Lie) -> Vec<u8> {
    let (last, counters, names) = state;
    let operation = v1::OperationResponseHeaders { status: 1, ..Default::default() };
    let command = Some(v1::CommandResponseHeaders {
        operation: Some(operation.clone()),
        ..Default::default()
    });
    match method {
        0 => {
            *last += 1;
            let output = Some(v1::OpenSessionOutput { session_id: *last });
            v1::OpenSessionResponse { headers: None, output }.encode_to_vec()
        }
        1 => {
            let ask = v1::CreatePrimitiveRequest::decode(request).unwrap();
            let name = ask.input.unwrap().spec.unwrap().name;
            *last += 1;
            let primitive_id = *names.entry(name).or_insert(*last);
            let output = Some(v1::CreatePrimitiveOutput { primitive_id });
            v1::CreatePrimitiveResponse { headers: command, output }.encode_to_vec()
        }
        2 | 3 => Vec::new(),
        4 => {
            let ask = counter::IncrementRequest::decode(request).unwrap();
            let id = primitive(ask.headers.unwrap().operation);
            let value = counters.entry(id).or_default();
            *value += 1;
            let told = if lie == Lie::Twice && *value > 50 { *value - 30 } else { *value };
            let output = Some(counter::IncrementOutput { value: told });
            counter::IncrementResponse { headers: command, output }.encode_to_vec()
        }
        _ => {
            let ask = counter::GetRequest::decode(request).unwrap();
            let id = primitive(ask.headers.unwrap().operation);
            let mut value = *counters.entry(id).or_default();
            value -= i64::from(lie == Lie::Lost && value > 0);
            value += i64::from(lie == Lie::More && value > 0);
            let headers = Some(v1::QueryResponseHeaders { operation: Some(operation) });
            let output = Some(counter::GetOutput { value });
            counter::GetResponse { headers, output }.encode_to_vec()
        }
    }
}

fn primitive(operation: Option<v1::OperationRequestHeaders>) -> u64 {
    operation.and_then(|operation| operation.session).unwrap().primitive_id
}
