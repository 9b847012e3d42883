//! One node, two listeners, three dialects: what is written through one is read through the others,
//! and what a driver of the last generation sees that others do not.
//!
//! A host that cannot run a node says so and passes (`harness`).
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use harness::caller::{Caller, Heard, Question, Result_, SOON, Session, next, span};
use harness::calls::{map_get, put};
use prost::Message;
use ringraft::client::session::{Body, Envelope};
use ringraft::edge::method::{SERVICES, What};
use ringraft::wire::proto::{map, set, v1};
use ringraft::wire::rsm;
use ringraft::wire::rsm::map::v1 as rsm_map;
use ringraft::wire::rsm::v1::call_response_headers::Status as Said;
use tonic::{Code, Status};

const LONG: Duration = Duration::from_secs(60);

/// A node whose first listener speaks documented and whose second released.
struct Both {
    node: harness::Node,
    released: String,
    _dir: tempfile::TempDir,
}

fn both() -> Option<Both> {
    if !harness::possible() {
        return None;
    }
    let dir = harness::data_dir();
    let node = harness::Node::start(dir.path(), &["--listen-also", "released=127.0.0.1:0"]);
    let line = node.banner.iter().find_map(|line| line.trim().strip_prefix("and "));
    let address = line.and_then(|line| line.trim().strip_suffix(" (released)"));
    let released = address.expect("the second listener is told").to_owned();
    Some(Both { node, released, _dir: dir })
}

#[tokio::test]
async fn a_value_written_through_one_dialect_is_read_through_the_others() {
    let Some(both) = both() else { return };
    let mut documented = Caller::to(&both.node.api).await.open(1, LONG).await;
    let things = documented.create("atomix.runtime.map.v1.Map", "things").await;

    // Its status 0 is OK, which the documented messages call UNKNOWN.
    let mut released = Caller::to(&both.released).await.open(1, LONG).await;
    let id = create_released(&mut released, "things").await;
    assert_eq!(id, things, "one name, one primitive");

    // The same paths on either listener.
    let mut first = Rsm::open(&both.node.api, 1).await;
    let mut second = Rsm::open(&both.released, 1).await;
    for session in [&mut first, &mut second] {
        assert_eq!(session.create("Map", "v1", "things").await, Ok(things));
    }

    let written = put(&mut documented, things, "k", "documented", None).await;
    assert_eq!(get_released(&mut released, things, "k").await, ("documented".into(), written));
    let seen = first.get(things, "k").await.expect("it is there");
    assert_eq!((&seen.value[..], seen.index), (&b"documented"[..], written));

    let number = released.next();
    let input = map::v1::PutInput { key: "k".into(), value: "released".into(), ..default() };
    let order = released.order(things, number, input);
    let path = "/atomix.multiraft.map.v1.Map/Put";
    let answer: Result_<map::v1::PutOutput> =
        released.caller.unary(path, order).await.expect("an answer").into_inner();
    let written = answer.body.expect("an output").index;
    let seen = map_get(&mut documented, things, "k").await.expect("it is there");
    assert_eq!((&seen.value[..], seen.index), (&b"released"[..], written));

    let written = second.put(things, "k", "rsm").await.expect("a put").index;
    let seen = map_get(&mut documented, things, "k").await.expect("it is there");
    assert_eq!((&seen.value[..], seen.index), (&b"rsm"[..], written));
    assert_eq!(get_released(&mut released, things, "k").await, ("rsm".into(), written));
    assert_eq!(first.get(things, "k").await.expect("it is there").index, written);
}

/// Every operation of every primitive, here on a primitive that does not exist: the header says so
/// in the numbers of the dialect, on streams too.
#[tokio::test]
async fn every_operation_answers_in_every_dialect() {
    let Some(both) = both() else { return };
    let documented = Caller::to(&both.node.api).await.open(1, LONG).await;
    let released = Caller::to(&both.released).await.open(1, LONG).await;
    let mut answered = 0;
    for (at, session) in [documented, released].iter().enumerate() {
        for service in &SERVICES {
            for method in service.methods {
                let (What::Command(_) | What::Query(_)) = method.what else { continue };
                let path = format!("/{}/{}", service.name, method.name);
                // A query's number is the index to wait for in one of the dialects: 0 is none.
                let number = match method.what {
                    What::Command(_) => 1_000 + answered,
                    _ => 0,
                };
                let order = session.order(999_999, number, ());
                let path: &'static str = Box::leak(path.into_boxed_str());
                let answer: Result_<()> = if method.streaming {
                    let mut items = session.caller.stream(path, order);
                    let item = next(&mut items).await.expect(path).expect(path);
                    assert!(next(&mut items).await.expect(path).is_none(), "{path}: one item");
                    item
                } else {
                    session.caller.unary(path, order).await.expect(path).into_inner()
                };
                let head = answer.headers.and_then(|head| head.operation).expect(path);
                assert_eq!((head.status, answer.body), (7, None), "{path} by listener {at}");
                assert_eq!(head.message, "primitive 999999 not found", "{path}");
                answered += 1;
            }
        }
    }
    // 79 operations and 4 of transactions, by two listeners.
    assert_eq!(answered, 2 * (79 + 79 + 4));
}

/// primitives.md 7.3: what is a failure elsewhere is a result here.
#[tokio::test]
async fn a_set_says_in_its_outputs_whether_it_changed() {
    let Some(both) = both() else { return };
    let mut session = Rsm::open(&both.node.api, 1).await;
    let tags = session.create("Set", "v1", "tags").await.expect("a set");
    let mut documented = Caller::to(&both.node.api).await.open(1, LONG).await;
    assert_eq!(documented.create("atomix.runtime.set.v1.Set", "tags").await, tags);
    for changed in [true, false] {
        let added = session.add(tags, "e").await.expect("a result");
        assert_eq!(added.added, changed);
    }
    let input =
        set::v1::AddInput { element: Some(set::v1::Element { value: "e".to_owned() }), ttl: None };
    let path = "/atomix.multiraft.set.v1.Set/Add";
    let said = documented.command::<_, set::v1::AddOutput>(tags, path, input).await;
    assert_eq!(said.expect_err("it is there").0, harness::caller::Said::AlreadyExists);
    for changed in [true, false] {
        let element = Some(rsm::set::v1::Element { value: "e".to_owned() });
        let path = "/atomix.protocols.rsm.set.v1.Set/Remove";
        let input = rsm::set::v1::RemoveInput { element };
        let removed: rsm::set::v1::RemoveOutput =
            session.command(tags, path, input).await.expect("no gRPC error").expect("a result");
        assert_eq!(removed.removed, changed);
    }
    let said = session.add(tags + 999, "e").await.expect_err("no such primitive");
    assert_eq!(said.0, Said::Forbidden);
}

/// primitives.md 7.3: the drivers wait for it. It is numbered, and kept until it is acknowledged.
#[tokio::test]
async fn events_open_with_one_that_tells_of_nothing() {
    let Some(both) = both() else { return };
    let mut session = Rsm::open(&both.node.api, 1).await;
    let things = session.create("Map", "v1", "things").await.expect("a map");
    let number = session.next();
    let (mut all, numbered) = (session.events(things, number, ""), session.next());
    let mut one = session.events(things, numbered, "k");
    assert_eq!(heard(&mut all).await, (1, opening("")));
    assert_eq!(heard(&mut one).await, (1, opening("k")));
    session.put(things, "j", "v").await.expect("a put");
    session.put(things, "k", "v").await.expect("a put");
    let (at, event) = heard(&mut one).await;
    assert_eq!((at, &event.key[..]), (2, "k"));
    assert!(matches!(event.event, Some(rsm_map::event::Event::Inserted(_))), "{event:?}");
    assert_eq!(heard(&mut all).await.0, 2);
    assert_eq!(heard(&mut all).await.0, 3);

    // Who comes again with the number hears all that is not acknowledged, the opening too.
    drop(all);
    let mut all = session.events(things, number, "");
    for at in 1..=3 {
        assert_eq!(heard(&mut all).await.0, at);
    }
    session.keep_alive(&[(number, 1), (numbered, 2)]).await.expect("a keep-alive");
    let mut again = session.events(things, number, "");
    assert_eq!(heard(&mut again).await.0, 2);
    let overtaken = next(&mut all).await.expect_err("another call took over");
    assert_eq!(overtaken.code(), Code::Unavailable);

    // The other dialects have none, also where the same map is listened to.
    let mut documented = Caller::to(&both.node.api).await.open(1, LONG).await;
    let id = documented.create("atomix.runtime.map.v1.Map", "things").await;
    let number = documented.next();
    let order = documented.order(id, number, map::v1::EventsInput::default());
    let path = "/atomix.multiraft.map.v1.Map/Events";
    let mut plain: Heard<Result_<map::v1::EventsOutput>> = documented.caller.stream(path, order);
    // Which of the two calls comes first is not said: put until the listener hears of one.
    let first = loop {
        session.put(things, "k", "v").await.expect("a put");
        session.remove(things, "k").await.expect("a removal");
        let wait = Duration::from_millis(50);
        if let Ok(message) = tokio::time::timeout(wait, next(&mut plain)).await {
            break message.expect("no error").expect("an event");
        }
    };
    assert_eq!(first.headers.expect("always there").output_sequence_num, 1);
    assert!(first.body.expect("an output").event.expect("always there").event.is_some());
}

#[tokio::test]
async fn what_is_unknown_is_told_as_the_last_generation_does() {
    let Some(both) = both() else { return };
    let mut session = Rsm::open(&both.node.api, 1).await;
    let counter = session.create("Counter", "v1", "c").await.expect("a counter");
    for (name, version, called) in
        [("Counter", "v2", "d"), ("Nonsense", "v1", "d"), ("", "", "d"), ("Counter", "v2", "c")]
    {
        let (status, _) = session.create(name, version, called).await.expect_err("no such type");
        assert_eq!(status, Said::Forbidden, "{name} {version}");
    }
    for (name, version) in [("Nonsense", "v1"), ("Counter", "v2")] {
        let said = session.create(name, version, "d").await;
        assert_eq!(said, Err((Said::Forbidden, "unknown primitive type".to_owned())), "{name}");
    }
    for (name, version, text) in [
        (
            "Counter",
            "v2",
            "cannot create primitive of a different API version with the same type and name",
        ),
        ("Lock", "v2", "cannot create primitive of a different type with the same name"),
        ("Counter/v2", "v1", "cannot create primitive of a different type with the same name"),
    ] {
        let said = session.create(name, version, "c").await;
        assert_eq!(said, Err((Said::Forbidden, text.to_owned())), "{name} {version}");
    }
    let said = session.create("Map", "v1", "c").await.expect_err("it is a counter");
    assert_eq!(said.0, Said::Forbidden);

    // A failure of an operation stands in the header, with the numbers of the released dialect.
    let input = rsm::counter::v1::UpdateInput { compare: 5, update: 6 };
    let path = "/atomix.protocols.rsm.counter.v1.Counter/Update";
    let said = session.command::<_, rsm::counter::v1::UpdateOutput>(counter, path, input).await;
    assert_eq!(said.expect("no gRPC error").expect_err("it is 0").0, Said::Conflict);

    // A session that is not there: DATA_LOSS, KeepAlive included.
    let mut gone = Rsm { id: 999_999, ..session.clone() };
    let codes = [
        gone.keep_alive(&[]).await.expect_err("no such session").code(),
        gone.put_status(counter).await.expect_err("no such session").code(),
        gone.query_status(counter).await.expect_err("no such session").code(),
        next(&mut gone.events(counter, 1, "")).await.expect_err("no such session").code(),
    ];
    assert_eq!(codes, [Code::DataLoss; 4]);
    // A partition that is not here: UNAVAILABLE.
    let mut gone = Rsm { partition: 99, ..session.clone() };
    let codes = [
        gone.keep_alive(&[]).await.expect_err("no such partition").code(),
        gone.put_status(counter).await.expect_err("no such partition").code(),
        gone.query_status(counter).await.expect_err("no such partition").code(),
        next(&mut gone.events(counter, 1, "")).await.expect_err("no such partition").code(),
    ];
    assert_eq!(codes, [Code::Unavailable; 4]);

    for path in [
        "/atomix.protocols.rsm.v1.Partition/Watch",
        "/atomix.protocols.rsm.v1.Node/Bootstrap",
        "/atomix.stores.raft.v1.Node/GetConfig",
        "/atomix.protocols.rsm.list.v1.List/Size",
    ] {
        let status = session.caller.unary::<_, v1::WatchRequest>(path, v1::WatchRequest {}).await;
        assert_eq!(status.expect_err(path).code(), Code::Unimplemented, "{path}");
    }
}

/// primitives.md 7.4, as its drivers do it: prepare, then commit or abort; or all in one.
#[tokio::test]
async fn a_map_has_transactions() {
    use rsm_map::{map_input::Input, map_output::Output};
    const PREPARE: &str = "/atomix.protocols.rsm.map.v1.Map/Prepare";
    const COMMIT: &str = "/atomix.protocols.rsm.map.v1.Map/Commit";
    const ABORT: &str = "/atomix.protocols.rsm.map.v1.Map/Abort";
    const APPLY: &str = "/atomix.protocols.rsm.map.v1.Map/Apply";
    let Some(both) = both() else { return };
    let mut session = Rsm::open(&both.node.api, 1).await;
    let things = session.create("Map", "v1", "things").await.expect("a map");
    let before = session.put(things, "k", "v").await.expect("a put").index;
    let of = |input| rsm_map::MapInput { input: Some(input) };
    let update = |key: &str| {
        let (key, value) = (key.to_owned(), "w".into());
        of(Input::Update(rsm_map::UpdateInput { key, value, ..default() }))
    };
    let insert = |key: &str| {
        let (key, value) = (key.to_owned(), "w".into());
        of(Input::Insert(rsm_map::InsertInput { key, value, ..default() }))
    };

    let number = session.sequence + 1;
    let inputs = vec![insert("l"), update("k")];
    let prepare = rsm_map::PrepareInput { sequence_num: number, inputs };
    let said = session.command::<_, rsm_map::PrepareOutput>(things, PREPARE, prepare).await;
    said.expect("no gRPC error").expect("an output");
    let locked = session.put(things, "l", "v").await.expect_err("it is locked");
    let text = "key l is locked by another transaction".to_owned();
    assert_eq!(locked, (Said::Conflict, text));
    let commit = rsm_map::CommitInput { sequence_num: number };
    let said = session.command::<_, rsm_map::CommitOutput>(things, COMMIT, commit).await;
    let outputs = said.expect("no gRPC error").expect("outputs").outputs;
    let [Some(Output::Insert(inserted)), Some(Output::Update(updated))] =
        [0, 1].map(|place: usize| outputs[place].output.clone())
    else {
        panic!("{outputs:?}");
    };
    assert_eq!((inserted.index, updated.prev_value.expect("it").index), (updated.index, before));
    assert_eq!(session.get(things, "l").await.expect("it is there").index, inserted.index);
    let said = session.command::<_, rsm_map::CommitOutput>(things, COMMIT, commit).await;
    let text = format!("transaction {number} not found");
    assert_eq!(said.expect("no gRPC error").expect_err("it is done"), (Said::NotFound, text));

    let number = session.sequence + 1;
    let prepare = rsm_map::PrepareInput { sequence_num: number, inputs: vec![update("k")] };
    let said = session.command::<_, rsm_map::PrepareOutput>(things, PREPARE, prepare).await;
    said.expect("no gRPC error").expect("an output");
    let abort = rsm_map::AbortInput { sequence_num: number };
    let said = session.command::<_, rsm_map::AbortOutput>(things, ABORT, abort).await;
    said.expect("no gRPC error").expect("an output");
    session.put(things, "k", "free").await.expect("a put");

    let apply = rsm_map::ApplyInput { inputs: vec![insert("m"), update("none")] };
    let said = session.command::<_, rsm_map::ApplyOutput>(things, APPLY, apply).await;
    let said = said.expect("no gRPC error").expect_err("one is not there");
    assert_eq!(said, (Said::NotFound, "key 'none' not found".to_owned()));
    let clear = of(Input::Clear(rsm_map::ClearInput {}));
    let apply = rsm_map::ApplyInput { inputs: vec![insert("m"), clear] };
    let said = session.command::<_, rsm_map::ApplyOutput>(things, APPLY, apply).await;
    assert_eq!(said.expect("no gRPC error").expect_err("no such operation").0, Said::Invalid);
    let apply = rsm_map::ApplyInput { inputs: vec![insert("m"), update("l")] };
    let said = session.command::<_, rsm_map::ApplyOutput>(things, APPLY, apply).await;
    assert_eq!(said.expect("no gRPC error").expect("outputs").outputs.len(), 2);
}

/// As those of the released dialect (core.md 3.3).
#[tokio::test]
async fn a_keep_alive_ends_numbered_queries() {
    let Some(both) = both() else { return };
    let mut session = Rsm::open(&both.node.api, 1).await;
    let things = session.create("Map", "v1", "things").await.expect("a map");
    session.put(things, "k", "v").await.expect("a put");
    let number = session.next();
    let question = session.question(things, number, rsm_map::EntriesInput { watch: true });
    let path = "/atomix.protocols.rsm.map.v1.Map/Entries";
    let mut entries: Heard<Answer<rsm_map::EntriesOutput>> = session.caller.stream(path, question);
    let first = next(&mut entries).await.expect("no error").expect("an entry");
    let entry = first.body.and_then(|output| output.entry).expect("always there");
    assert_eq!(entry.key, "k");
    session.keep_alive(&[(number, 0)]).await.expect("a keep-alive");
    session.put(things, "l", "v").await.expect("a put");
    assert!(next(&mut entries).await.expect("it goes on").is_some());
    session.keep_alive(&[]).await.expect("a keep-alive");
    assert!(next(&mut entries).await.expect("no error").is_none(), "it ends regularly");
}

async fn create_released(session: &mut Session, name: &str) -> u64 {
    let spec = v1::PrimitiveSpec {
        service: "atomix.runtime.map.v1.Map".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    };
    let number = session.next();
    let order = session.order(0, number, v1::CreatePrimitiveInput { spec: Some(spec) });
    let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
    let made: Result_<v1::CreatePrimitiveOutput> =
        session.caller.unary(path, order).await.expect("an answer").into_inner();
    made.body.expect("an output").primitive_id
}

async fn get_released(session: &mut Session, id: u64, key: &str) -> (String, u64) {
    // What is `max_received_index` in the documented dialect is the query's number there.
    let headers = v1::QueryRequestHeaders {
        operation: Some(session.operation(id)),
        max_received_index: session.next(),
    };
    let body = Some(map::v1::GetInput { key: key.to_owned() });
    let question = Question { headers: Some(headers), body };
    let path = "/atomix.multiraft.map.v1.Map/Get";
    let answer: Envelope<v1::QueryResponseHeaders, map::v1::GetOutput> =
        session.caller.unary(path, question).await.expect("an answer").into_inner();
    let head = answer.headers.and_then(|head| head.operation).expect("headers");
    assert_eq!(head.status, 0);
    let value = answer.body.and_then(|output| output.value).expect("it is there");
    (String::from_utf8(value.value.to_vec()).unwrap(), value.index)
}

fn opening(key: &str) -> rsm_map::Event {
    rsm_map::Event { key: key.to_owned(), event: None }
}

async fn heard(events: &mut Heard<Result<rsm_map::EventsOutput>>) -> (u64, rsm_map::Event) {
    let message = next(events).await.expect("no error").expect("an event");
    let head = message.headers.expect("always there");
    assert_eq!(head.operation.expect("always there").status, 0);
    let event = message.body.expect("an output").event.expect("always there");
    (head.output_sequence_num, event)
}

fn default<T: Default>() -> T {
    T::default()
}

type Order<I> = Envelope<rsm::v1::ProposalRequestHeaders, I>;
type Result<O> = Envelope<rsm::v1::ProposalResponseHeaders, O>;
type Answer<O> = Envelope<rsm::v1::QueryResponseHeaders, O>;
type Outcome<O> = std::result::Result<O, (Said, String)>;

/// A session as a driver of the last generation keeps it.
#[derive(Clone)]
struct Rsm {
    caller: Caller,
    partition: u32,
    id: u64,
    sequence: u64,
}

impl Rsm {
    async fn open(api: &str, partition: u32) -> Rsm {
        let caller = Caller::to(api).await;
        let headers = Some(rsm::v1::PartitionRequestHeaders { partition_id: partition });
        let input = Some(rsm::v1::OpenSessionInput { timeout: Some(span(LONG)) });
        let request = rsm::v1::OpenSessionRequest { headers, input };
        let path = "/atomix.protocols.rsm.v1.Partition/OpenSession";
        let until = tokio::time::Instant::now() + SOON;
        loop {
            let answer = caller.unary::<_, rsm::v1::OpenSessionResponse>(path, request).await;
            match answer {
                Ok(answer) => {
                    let id = answer.into_inner().output.expect("an output").session_id;
                    return Rsm { caller, partition, id, sequence: 0 };
                }
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status}");
                    assert!(tokio::time::Instant::now() < until, "no leader: {status}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn operation(&self, primitive_id: u64) -> rsm::v1::CallRequestHeaders {
        let partition = Some(rsm::v1::PartitionRequestHeaders { partition_id: self.partition });
        let session = Some(rsm::v1::SessionRequestHeaders { partition, session_id: self.id });
        let primitive = Some(rsm::v1::PrimitiveRequestHeaders { session, primitive_id });
        rsm::v1::CallRequestHeaders { primitive }
    }

    fn order<I: Body>(&self, primitive: u64, number: u64, input: I) -> Order<I> {
        let operation = Some(self.operation(primitive));
        let headers = rsm::v1::ProposalRequestHeaders { operation, sequence_num: number };
        Envelope { headers: Some(headers), body: Some(input) }
    }

    fn question<I: Body>(
        &self,
        primitive: u64,
        number: u64,
        input: I,
    ) -> Envelope<rsm::v1::QueryRequestHeaders, I> {
        let operation = Some(self.operation(primitive));
        let headers =
            rsm::v1::QueryRequestHeaders { operation, sequence_num: number, max_received_index: 0 };
        Envelope { headers: Some(headers), body: Some(input) }
    }

    async fn command<I: Body + 'static, O: Body + 'static>(
        &mut self,
        primitive: u64,
        path: &'static str,
        input: I,
    ) -> std::result::Result<Outcome<O>, Status> {
        let number = self.next();
        let order = self.order(primitive, number, input);
        let answer: Result<O> = self.caller.unary(path, order).await?.into_inner();
        let head = answer.headers.and_then(|head| head.operation).expect("headers");
        Ok(outcome(&head, answer.body))
    }

    async fn create(&mut self, kind: &str, version: &str, name: &str) -> Outcome<u64> {
        let (name_of, api_version) = (kind.to_owned(), version.to_owned());
        let spec = rsm::v1::PrimitiveSpec {
            r#type: Some(rsm::v1::PrimitiveType { name: name_of, api_version }),
            name: Some(rsm::v1::PrimitiveName { namespace: String::new(), name: name.to_owned() }),
        };
        let input = rsm::v1::CreatePrimitiveInput { spec: Some(spec) };
        let path = "/atomix.protocols.rsm.v1.Session/CreatePrimitive";
        let said = self.command::<_, rsm::v1::CreatePrimitiveOutput>(0, path, input).await;
        said.expect("no gRPC error").map(|output| output.primitive_id)
    }

    async fn put(&mut self, id: u64, key: &str, value: &str) -> Outcome<rsm_map::PutOutput> {
        let input =
            rsm_map::PutInput { key: key.to_owned(), value: value.to_owned().into(), ..default() };
        let path = "/atomix.protocols.rsm.map.v1.Map/Put";
        self.command(id, path, input).await.expect("no gRPC error")
    }

    async fn add(&mut self, id: u64, element: &str) -> Outcome<rsm::set::v1::AddOutput> {
        let element = Some(rsm::set::v1::Element { value: element.to_owned() });
        let path = "/atomix.protocols.rsm.set.v1.Set/Add";
        let input = rsm::set::v1::AddInput { element, ttl: None };
        self.command(id, path, input).await.expect("no gRPC error")
    }

    async fn remove(&mut self, id: u64, key: &str) -> Outcome<rsm_map::RemoveOutput> {
        let input = rsm_map::RemoveInput { key: key.to_owned(), prev_index: 0 };
        let path = "/atomix.protocols.rsm.map.v1.Map/Remove";
        self.command(id, path, input).await.expect("no gRPC error")
    }

    async fn get(&mut self, id: u64, key: &str) -> Outcome<rsm_map::IndexedValue> {
        let number = self.next();
        let question = self.question(id, number, rsm_map::GetInput { key: key.to_owned() });
        let path = "/atomix.protocols.rsm.map.v1.Map/Get";
        let answer: Answer<rsm_map::GetOutput> =
            self.caller.unary(path, question).await.expect("no gRPC error").into_inner();
        let head = answer.headers.and_then(|head| head.operation).expect("headers");
        outcome(&head, answer.body).map(|output| output.value.expect("always there"))
    }

    fn events(&self, id: u64, number: u64, key: &str) -> Heard<Result<rsm_map::EventsOutput>> {
        let order = self.order(id, number, rsm_map::EventsInput { key: key.to_owned() });
        self.caller.stream("/atomix.protocols.rsm.map.v1.Map/Events", order)
    }

    async fn put_status(&mut self, id: u64) -> std::result::Result<(), Status> {
        let path = "/atomix.protocols.rsm.counter.v1.Counter/Increment";
        let input = rsm::counter::v1::IncrementInput { delta: 1 };
        let said = self.command::<_, rsm::counter::v1::IncrementOutput>(id, path, input).await;
        said.map(drop)
    }

    async fn query_status(&mut self, id: u64) -> std::result::Result<(), Status> {
        let number = self.next();
        let question = self.question(id, number, rsm::counter::v1::GetInput {});
        let path = "/atomix.protocols.rsm.counter.v1.Counter/Get";
        let said = self.caller.unary::<_, Answer<rsm::counter::v1::GetOutput>>(path, question);
        said.await.map(drop)
    }

    async fn keep_alive(&self, open: &[(u64, u64)]) -> std::result::Result<(), Status> {
        let numbers: Vec<u64> = open.iter().map(|(number, _)| *number).collect();
        let input = rsm::v1::KeepAliveInput {
            session_id: self.id,
            input_filter: ringraft::wire::bloom::Filter::of(&numbers).to_json().into(),
            last_input_sequence_num: self.sequence,
            last_output_sequence_nums: open.iter().copied().filter(|(_, last)| *last > 0).collect(),
        };
        let headers = Some(rsm::v1::PartitionRequestHeaders { partition_id: self.partition });
        let request = rsm::v1::KeepAliveRequest { headers, input: Some(input) };
        let path = "/atomix.protocols.rsm.v1.Partition/KeepAlive";
        self.caller.unary::<_, rsm::v1::KeepAliveResponse>(path, request).await.map(drop)
    }
}

fn outcome<O: Message>(head: &rsm::v1::CallResponseHeaders, body: Option<O>) -> Outcome<O> {
    match head.status() {
        Said::Ok => Ok(body.expect("a success has an output")),
        said => {
            assert!(body.is_none(), "a failure has no output");
            Err((said, head.message.clone()))
        }
    }
}
