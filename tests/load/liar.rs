//! A server of counters that keeps its promises, or breaks one of them.
//!
//! It speaks HTTP/2 through the product's server role and knows just what a run of `counter` asks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use prost::Message;
use ringraft::wire::http2::{Connection, Event, Limits, Route};
use ringraft::wire::proto::{counter::v1 as counter, v1};

/// Which promise is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// None.
    None,
    /// After a while an increment is answered with an old value.
    Twice,
    /// An increment is acknowledged, and the value at the end is without it.
    Lost,
}

pub struct Liar {
    pub address: String,
}

const PATHS: [&str; 6] = [
    "/atomix.multiraft.v1.Partition/OpenSession",
    "/atomix.multiraft.v1.Session/CreatePrimitive",
    "/atomix.multiraft.v1.Partition/KeepAlive",
    "/atomix.multiraft.v1.Partition/CloseSession",
    "/atomix.multiraft.counter.v1.Counter/Increment",
    "/atomix.multiraft.counter.v1.Counter/Get",
];

/// What all its connections share: the next id, and the counters by their ids.
type State = Arc<
    Mutex<(u64, std::collections::BTreeMap<u64, i64>, std::collections::BTreeMap<String, u64>)>,
>;

impl Liar {
    /// Serves until the process ends.
    pub fn start(lie: Lie) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State::default();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(socket, &state, lie));
            }
        });
        Liar { address }
    }
}

fn route(path: &[u8]) -> Option<Route> {
    let at = PATHS.iter().position(|known| known.as_bytes() == path)?;
    Some(Route { method: at as u16, single: true })
}

fn serve(mut socket: TcpStream, state: &State, lie: Lie) {
    let mut http = Connection::new(route as fn(&[u8]) -> Option<Route>, Limits::default(), 1, 0);
    let (mut input, mut buffer) = (Vec::new(), [0; 65536]);
    loop {
        let output = http.output().to_vec();
        if socket.write_all(&output).is_err() {
            return;
        }
        http.wrote(output.len());
        let Ok(read @ 1..) = socket.read(&mut buffer) else { return };
        input.extend_from_slice(&buffer[..read]);
        let mut at = 0;
        while let Some(event) = http.poll(&input, &mut at) {
            if let Event::Message { key, meta, message, .. } = event {
                let answer = answer(meta.method, message.octets(&input), state, lie);
                http.unary(key, &answer);
            }
        }
        input.drain(..at);
    }
}

fn answer(method: u16, request: &[u8], state: &State, lie: Lie) -> Vec<u8> {
    let mut state = state.lock().unwrap();
    let (last, counters, names) = &mut *state;
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
            let headers = Some(v1::QueryResponseHeaders { operation: Some(operation) });
            let output = Some(counter::GetOutput { value });
            counter::GetResponse { headers, output }.encode_to_vec()
        }
    }
}

fn primitive(operation: Option<v1::OperationRequestHeaders>) -> u64 {
    operation.and_then(|operation| operation.session).unwrap().primitive_id
}
