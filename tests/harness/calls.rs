//! Single calls to each primitive, and calls by hand where tonic would get in the way.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ringraft::client::session::Body;
use ringraft::wire::proto::v1::*;
use ringraft::wire::proto::{counter, election, lock, map};
use tonic::Status;

use super::caller::{
    Answer, Caller, Heard, Order, Result_, SOON, Said, Session, next, outcome, span,
};

pub fn timeout(text: &str) -> [(&str, &str); 2] {
    [("content-type", "application/grpc"), ("grpc-timeout", text)]
}

/// A message as gRPC sends it.
pub fn framed(message: &impl prost::Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut bytes).unwrap();
    bytes.into()
}

/// One call by hand: the head and the trailers of the answer as one table.
pub async fn raw(path: &str, headers: &[(&str, &str)], message: Bytes) -> BTreeMap<String, String> {
    let socket = tokio::net::TcpStream::connect(super::shared()).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method("POST").uri(format!("http://node{path}"));
    for (name, value) in headers.iter().chain([&("te", "trailers")]) {
        request = request.header(*name, *value);
    }
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    // A node that refuses the head need not take the message.
    let _ = body.send_data(message, true);
    let (head, mut body) = tokio::time::timeout(SOON, answer).await.unwrap().unwrap().into_parts();
    let mut table = BTreeMap::new();
    table.insert(":status".to_owned(), head.status.as_str().to_owned());
    while body.data().await.is_some_and(|data| data.is_ok()) {}
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    for (name, value) in head.headers.iter().chain(&trailers) {
        table.insert(name.to_string(), value.to_str().unwrap().to_owned());
    }
    table
}

pub fn group(group_id: u32, nodes: &[u32]) -> GroupConfig {
    let member = |node_id: &u32| MemberConfig {
        node_id: *node_id,
        host: "127.0.0.1".to_owned(),
        port: 5679,
        role: member_config::Role::Member.into(),
    };
    GroupConfig { group_id, members: nodes.iter().map(member).collect() }
}

pub async fn increment(
    session: &Session,
    order: Order<counter::v1::IncrementInput>,
) -> Result<Result_<counter::v1::IncrementOutput>, Status> {
    let path = "/atomix.multiraft.counter.v1.Counter/Increment";
    session.caller.unary(path, order).await.map(tonic::Response::into_inner)
}

pub async fn add(session: &mut Session, counter: u64, delta: i64) -> Result<i64, (Said, String)> {
    let path = "/atomix.multiraft.counter.v1.Counter/Increment";
    let input = counter::v1::IncrementInput { delta };
    let said = session.command::<_, counter::v1::IncrementOutput>(counter, path, input).await;
    said.map(|output| output.value)
}

pub async fn get(session: &mut Session, counter: u64) -> i64 {
    let path = "/atomix.multiraft.counter.v1.Counter/Get";
    let input = counter::v1::GetInput {};
    let said = session.query::<_, counter::v1::GetOutput>(counter, path, input).await;
    said.expect("a counter always has a value").value
}

pub async fn put(
    session: &mut Session,
    id: u64,
    key: &str,
    value: &str,
    ttl: Option<Duration>,
) -> u64 {
    let path = "/atomix.multiraft.map.v1.Map/Put";
    let input = map::v1::PutInput {
        key: key.to_owned(),
        value: Bytes::from(value.to_owned()),
        ttl: ttl.map(span),
        prev_index: 0,
    };
    let said = session.command::<_, map::v1::PutOutput>(id, path, input).await;
    said.expect("a put").index
}

pub async fn map_get(
    session: &mut Session,
    id: u64,
    key: &str,
) -> Result<map::v1::IndexedValue, (Said, String)> {
    let path = "/atomix.multiraft.map.v1.Map/Get";
    let input = map::v1::GetInput { key: key.to_owned() };
    let said = session.query::<_, map::v1::GetOutput>(id, path, input).await;
    said.map(|output| output.value.expect("a value"))
}

pub async fn acquire(
    session: &mut Session,
    id: u64,
    wait: Option<Duration>,
) -> Result<u64, (Said, String)> {
    let path = "/atomix.multiraft.lock.v1.Lock/Acquire";
    let input = lock::v1::AcquireInput { timeout: wait.map(span) };
    let said = session.command::<_, lock::v1::AcquireOutput>(id, path, input).await;
    said.map(|output| output.index)
}

pub async fn release(session: &mut Session, id: u64) -> Result<(), (Said, String)> {
    let path = "/atomix.multiraft.lock.v1.Lock/Release";
    let input = lock::v1::ReleaseInput {};
    session.command::<_, lock::v1::ReleaseOutput>(id, path, input).await.map(drop)
}

pub async fn holder(session: &mut Session, id: u64) -> Result<u64, (Said, String)> {
    let path = "/atomix.multiraft.lock.v1.Lock/Get";
    let said = session.query::<_, lock::v1::GetOutput>(id, path, lock::v1::GetInput {}).await;
    said.map(|output| output.index)
}

pub async fn enter(session: &mut Session, id: u64, candidate: &str) -> election::v1::Term {
    let path = "/atomix.multiraft.election.v1.LeaderElection/Enter";
    let input = election::v1::EnterInput { candidate: candidate.to_owned() };
    let said = session.command::<_, election::v1::EnterOutput>(id, path, input).await;
    said.expect("always").term.expect("a term")
}

pub type Watched = Heard<Answer<election::v1::WatchOutput>>;

pub async fn watched(stream: &mut Watched) -> election::v1::Term {
    let answer = next(stream).await.expect("no error").expect("a term");
    let head = answer.headers.and_then(|head| head.operation).expect("headers");
    outcome(head, answer.body).expect("a term").term.expect("a term")
}

pub type EventStream = Heard<Result_<map::v1::EventsOutput>>;

pub async fn event(stream: &mut EventStream) -> (u64, String) {
    let message = next(stream).await.expect("no error").expect("an event");
    let number = message.headers.expect("headers").output_sequence_num;
    (number, message.body.and_then(|output| output.event).expect("an event").key)
}

/// Changes the map until the listener hears of it.
pub async fn first_event(
    session: &mut Session,
    id: u64,
    stream: &mut EventStream,
) -> (u64, String) {
    for round in 0.. {
        put(session, id, "a", &round.to_string(), None).await;
        let heard = tokio::time::timeout(Duration::from_millis(200), event(stream)).await;
        if let Ok(heard) = heard {
            return heard;
        }
        assert!(round < 50, "no listener");
    }
    unreachable!("the loop ends by itself")
}

/// How a stream that is refused ends.
pub async fn stream_end<I: Body + 'static, O: Body + 'static>(
    caller: &Caller,
    path: &'static str,
    request: I,
) -> Status {
    match next::<O>(&mut caller.stream(path, request)).await {
        Err(status) => status,
        Ok(message) => panic!("{path}: not refused: {message:?}"),
    }
}
