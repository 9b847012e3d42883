//! The edge without sockets: bytes of a request → command in an inbox → bytes of a reply.
//!
//! `cargo bench --bench frontend`. The figures are for a counter's Increment, the smallest command
//! there is, so they are what every call pays at least.

use divan::{Bencher, black_box};
use prost::Message;

use ringraft::edge::dialect::Dialect;
use ringraft::edge::request::{Naming, Rules};
use ringraft::edge::{method, request, response};
use ringraft::id::{Index, NodeId, ShardId, Ticket};
use ringraft::partition::reply::{Output, Status};
use ringraft::shard::inbox::Requests;
use ringraft::time::{Instant, Span};
use ringraft::wire::http2::{Connection, Event, Limits, Route};
use ringraft::wire::proto::{counter, v1};

fn main() {
    divan::main();
}

const PATH: &str = "/atomix.multiraft.counter.v1.Counter/Increment";
const RULES: Rules = Rules {
    session_timeout_default: Span::secs(30),
    session_timeout_max: Span::secs(86_400),
    node: NodeId(1),
    naming: Naming::ByNode,
};
const TICKET: Ticket = Ticket { shard: ShardId(0), slot: 1, generation: 1 };
const BATCH: usize = 64;

/// A request's bytes into an inbox.
#[divan::bench(args = [false, true])]
fn read(bencher: Bencher, deadline: bool) {
    let increment = method::get(method::find(PATH.as_bytes()).expect("served"));
    let message = message();
    let deadline = deadline.then_some(Instant(20_000_000_000));
    let mut requests = Requests::default();
    bencher.counter(divan::counter::ItemsCount::new(BATCH)).bench_local(|| {
        requests.clear();
        for _ in 0..BATCH {
            let bytes = black_box(&message);
            let call = request::read(increment, bytes, Dialect::Documented, &RULES).expect("good");
            call.write(TICKET, deadline, &mut requests);
        }
        requests.bytes.len()
    });
}

/// A reply into a response's bytes.
#[divan::bench]
fn compose(bencher: Bencher) {
    let increment = method::get(method::find(PATH.as_bytes()).expect("served"));
    let output = Output { index: Index(1 << 40), number: 1, status: Status::Ok, bytes: 0..0 };
    let mut into = Vec::new();
    bencher.counter(divan::counter::ItemsCount::new(BATCH)).bench_local(|| {
        into.clear();
        for _ in 0..BATCH {
            let bytes = black_box(&[0x08, 0x80, 0x01][..]);
            response::compose(increment, Dialect::Documented, &output, bytes, &mut into);
        }
        into.len()
    });
}

/// A batch of calls of one connection: frames in, commands, replies, frames out.
#[divan::bench]
fn whole(bencher: Bencher) {
    let router: fn(&[u8]) -> Option<Route> =
        |path| method::find(path).map(|method| Route { method, single: true });
    let mut connection = Connection::new(router, Limits::default(), 7, 0);
    let mut taken = 0;
    let opening = opening();
    assert!(connection.poll(&opening, &mut taken).is_none());
    let sent = connection.output().len();
    connection.wrote(sent);

    let message = message();
    let output = Output { index: Index(1 << 40), number: 1, status: Status::Ok, bytes: 0..0 };
    let mut requests = Requests::default();
    let (mut input, mut keys) = (Vec::new(), Vec::new());
    let mut stream = 1;
    bencher.counter(divan::counter::ItemsCount::new(BATCH)).bench_local(|| {
        input.clear();
        for _ in 0..BATCH {
            put_call(&mut input, stream, &message);
            stream += 2;
        }
        let mut taken = 0;
        while let Some(event) = connection.poll(&input, &mut taken) {
            let Event::Message { key, meta, message, .. } = event else { panic!("{event:?}") };
            let (called, bytes) = (method::get(meta.method), message.octets(&input));
            let call = request::read(called, bytes, Dialect::Documented, &RULES).expect("good");
            let deadline = meta.timeout().map(|timeout| Instant(0).after(timeout));
            call.write(TICKET, deadline, &mut requests);
            connection.recycle(key, message);
            keys.push((key, called));
        }
        for (key, called) in keys.drain(..) {
            connection.unary_with(key, |into| {
                response::compose(called, Dialect::Documented, &output, &[0x08, 0x01], into);
            });
        }
        requests.clear();
        let octets = connection.output().len();
        connection.wrote(octets);
        octets
    });
}

fn message() -> Vec<u8> {
    let partition = Some(v1::PartitionRequestHeaders { partition_id: 7 });
    let session = Some(v1::SessionRequestHeaders { partition, session_id: 123_456 });
    let session = Some(v1::PrimitiveRequestHeaders { session, primitive_id: 123_457 });
    let operation = Some(v1::OperationRequestHeaders { session });
    let headers = v1::CommandRequestHeaders { operation, sequence_num: 1_000_000 };
    let input = Some(counter::v1::IncrementInput { delta: 1 });
    counter::v1::IncrementRequest { headers: Some(headers), input }.encode_to_vec()
}

/// The client's preface and settings, and windows that never close.
fn opening() -> Vec<u8> {
    let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    put_head(&mut octets, 0, 4, 0, 0);
    put_head(&mut octets, 4, 8, 0, 0);
    octets.extend_from_slice(&0x7000_0000_u32.to_be_bytes());
    octets
}

/// HEADERS and DATA of one call. The fields are literals without indexing, so that calls are alike;
/// the path is looked up each time.
fn put_call(octets: &mut Vec<u8>, stream: u32, message: &[u8]) {
    let mut block = vec![0x83, 0x86, 0x04, PATH.len() as u8];
    block.extend_from_slice(PATH.as_bytes());
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        block.extend_from_slice(&[0, name.len() as u8]);
        block.extend_from_slice(name.as_bytes());
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    put_head(octets, block.len(), 1, 4, stream);
    octets.extend_from_slice(&block);
    put_head(octets, message.len() + 5, 0, 1, stream);
    octets.push(0);
    octets.extend_from_slice(&(message.len() as u32).to_be_bytes());
    octets.extend_from_slice(message);
}

fn put_head(octets: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    octets.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    octets.extend_from_slice(&[kind, flags]);
    octets.extend_from_slice(&stream.to_be_bytes());
}
