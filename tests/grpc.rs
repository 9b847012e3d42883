//! A real node against tonic, a client that is not ours: what it says to every sort of call, right
//! and wrong.
//!
//! The tests share one node, each with sessions and names of its own; those that change the node
//! itself start one. A host that cannot run a node says so and passes (`harness`).
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

#[path = "grpc/entries.rs"]
mod entries;
mod harness;

use std::time::Duration;

use bytes::Bytes;
use harness::caller::{Answer, Caller, Heard, Order, Question, Result_, Said, Session, next, span};
use harness::calls::*;
use ringraft::wire::proto::v1::*;
use ringraft::wire::proto::{counter, election, lock, map};
use tonic::{Code, Status};

const COUNTER: &str = "atomix.runtime.counter.v1.Counter";
const MAP: &str = "atomix.runtime.map.v1.Map";
const LOCK: &str = "atomix.runtime.lock.v1.Lock";
const ELECTION: &str = "atomix.runtime.election.v1.LeaderElection";
const LONG: Duration = Duration::from_secs(60);

/// A session with partition 1 of the shared node; `None` where no node can run.
async fn session() -> Option<Session> {
    if !harness::possible() {
        return None;
    }
    let caller = Caller::to(harness::shared()).await;
    Some(caller.open(1, LONG).await)
}

/// Another session of another connection with the same partition.
async fn another(session: &Session, timeout: Duration) -> Session {
    Caller::to(harness::shared()).await.open(session.partition, timeout).await
}

#[tokio::test]
async fn a_session_opens_lives_and_closes() {
    let Some(mut session) = session().await else { return };
    assert!(session.id > 0);
    session.keep_alive(&[]).await.expect("it lives");
    let counter = session.create(COUNTER, "life").await;
    assert_eq!(add(&mut session, counter, 1).await, Ok(1));
    session.close().await.expect("it closes");
    let unknown = session.keep_alive(&[]).await.expect_err("it is gone");
    assert_eq!((unknown.code(), unknown.message()), (Code::PermissionDenied, "session not found"));
    let order = session.order(counter, 99, counter::v1::IncrementInput { delta: 1 });
    let refused = increment(&session, order).await.expect_err("it is gone");
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "session not found"));
    let again = session.close().await.expect_err("it is gone");
    assert_eq!(again.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_session_that_asks_for_an_impossible_timeout_is_told() {
    let Some(session) = session().await else { return };
    let path = "/atomix.multiraft.v1.Partition/OpenSession";
    let headers = Some(PartitionRequestHeaders { partition_id: 1 });
    let open = |timeout| OpenSessionRequest {
        headers,
        input: Some(OpenSessionInput { timeout: Some(timeout) }),
    };
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let refused: Result<tonic::Response<OpenSessionResponse>, _> =
        session.caller.unary(path, open(negative)).await;
    assert_eq!(refused.expect_err("below zero").code(), Code::InvalidArgument);
    // Zero means the node's default, and too much is cut to the node's bound.
    for timeout in [span(Duration::ZERO), span(Duration::from_secs(1 << 30))] {
        let opened: OpenSessionResponse =
            session.caller.unary(path, open(timeout)).await.expect("a session").into_inner();
        assert!(opened.output.expect("an output").session_id > 0);
    }
}

#[tokio::test]
async fn parts_that_are_missing_are_named() {
    let Some(session) = session().await else { return };
    let caller = &session.caller;
    let no_headers: Result<_, Status> = caller
        .unary::<_, OpenSessionResponse>(
            "/atomix.multiraft.v1.Partition/OpenSession",
            OpenSessionRequest { headers: None, input: Some(OpenSessionInput { timeout: None }) },
        )
        .await;
    let status = no_headers.expect_err("no headers");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("headers"), "{status}");

    let headers = Some(PartitionRequestHeaders { partition_id: 1 });
    let no_input: Result<_, Status> = caller
        .unary::<_, KeepAliveResponse>(
            "/atomix.multiraft.v1.Partition/KeepAlive",
            KeepAliveRequest { headers, input: None },
        )
        .await;
    let status = no_input.expect_err("no input");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("input"), "{status}");

    let order = Order { headers: None, body: Some(counter::v1::IncrementInput { delta: 1 }) };
    let status = increment(&session, order).await.expect_err("no headers");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_counter_counts_each_number_once() {
    let Some(mut session) = session().await else { return };
    let counter = session.create(COUNTER, "once").await;
    assert_eq!(add(&mut session, counter, 5).await, Ok(5));
    assert_eq!(add(&mut session, counter, -7).await, Ok(-2));
    let number = session.next();
    let input = counter::v1::IncrementInput { delta: 100 };
    for _ in 0..3 {
        let path = "/atomix.multiraft.counter.v1.Counter/Increment";
        let said = session.numbered(counter, number, path, input).await.expect("no gRPC error");
        assert_eq!(said.map(|output: counter::v1::IncrementOutput| output.value), Ok(98));
    }
    assert_eq!(get(&mut session, counter).await, 98);

    let wrong = counter::v1::UpdateInput { compare: 1, update: 2 };
    let path = "/atomix.multiraft.counter.v1.Counter/Update";
    let said = session.command::<_, counter::v1::UpdateOutput>(counter, path, wrong).await;
    assert_eq!(said, Err((Said::Conflict, "optimistic lock failure".to_owned())));
    let right = counter::v1::UpdateInput { compare: 98, update: 2 };
    let said = session.command::<_, counter::v1::UpdateOutput>(counter, path, right).await;
    assert_eq!(said.map(|output| output.value), Ok(2));
}

#[tokio::test]
async fn a_primitive_is_shared_by_name_and_not_by_number() {
    let Some(mut alice) = session().await else { return };
    let mut bob = another(&alice, LONG).await;
    let hers = alice.create(COUNTER, "shared").await;
    let theirs = bob.create("atomix.multiraft.counter.v1.Counter", "shared").await;
    assert_eq!(hers, theirs, "either spelling of the type, one primitive");
    add(&mut alice, hers, 3).await.unwrap();
    assert_eq!(get(&mut bob, theirs).await, 3);

    let spec = |service: &str| PrimitiveSpec {
        service: service.to_owned(),
        namespace: String::new(),
        name: "shared".to_owned(),
    };
    let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
    for service in [MAP, "nonsense"] {
        let input = CreatePrimitiveInput { spec: Some(spec(service)) };
        let said = bob.command::<_, CreatePrimitiveOutput>(0, path, input).await;
        assert_eq!(said.expect_err(service).0, Said::Forbidden, "{service}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_in_the_header() {
    let Some(mut alice) = session().await else { return };
    let mut bob = another(&alice, LONG).await;
    let said = add(&mut alice, 999_999, 1).await;
    assert_eq!(said, Err((Said::Forbidden, "primitive 999999 not found".to_owned())));
    let counter = alice.create(COUNTER, "opened by one").await;
    let said = add(&mut bob, counter, 1).await;
    assert_eq!(said, Err((Said::Forbidden, "session not found".to_owned())));
    // A request of another kind than the primitive is.
    let path = "/atomix.multiraft.map.v1.Map/Size";
    let said = alice.query::<_, map::v1::SizeOutput>(counter, path, map::v1::SizeInput {}).await;
    let (status, message) = said.expect_err("a counter has no size");
    assert_eq!(status, Said::Invalid);
    assert!(message.contains("Counter") && message.contains("Map"), "names both: {message}");
    assert_eq!(get(&mut alice, counter).await, 0, "unchanged");
}

#[tokio::test]
async fn unknown_partitions_and_methods_are_told_apart() {
    let Some(session) = session().await else { return };
    let caller = &session.caller;
    let headers = Some(PartitionRequestHeaders { partition_id: 99 });
    let input = Some(OpenSessionInput { timeout: None });
    let open = OpenSessionRequest { headers, input };
    let path = "/atomix.multiraft.v1.Partition/OpenSession";
    let status = caller.unary::<_, OpenSessionResponse>(path, open).await.expect_err("no such");
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "unknown partition 99"));
    let elsewhere = Session { partition: 99, ..session.clone() };
    let events = elsewhere.order(1, 1, map::v1::EventsInput::default());
    let status = stream_end::<_, map::v1::EventsOutput>(
        caller,
        "/atomix.multiraft.map.v1.Map/Events",
        events,
    )
    .await;
    assert_eq!(status.code(), Code::PermissionDenied, "streams too: {status}");

    for path in ["/atomix.multiraft.v1.Partition/Nonsense", "/nonsense.v1.Nonsense/Nonsense", "/x"]
    {
        let status = caller.unary::<_, WatchRequest>(path, WatchRequest {}).await;
        assert_eq!(status.expect_err(path).code(), Code::Unimplemented, "{path}");
    }
    let path = "/atomix.multiraft.list.v1.List/Size";
    let status = caller.unary::<_, WatchRequest>(path, WatchRequest {}).await;
    assert_eq!(status.expect_err(path).code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_map_keeps_versions_and_says_no_in_the_header() {
    let Some(mut session) = session().await else { return };
    let id = session.create(MAP, "versions").await;
    let first = put(&mut session, id, "k", "one", None).await;
    assert!(first > 0);
    let got = map_get(&mut session, id, "k").await.expect("an entry");
    assert_eq!((&got.value[..], got.index), (&b"one"[..], first));
    let said = map_get(&mut session, id, "nothing").await.expect_err("no entry");
    assert_eq!(said, (Said::NotFound, "key nothing not found".to_owned()));

    let insert = map::v1::InsertInput { key: "k".into(), value: "x".into(), ttl: None };
    let path = "/atomix.multiraft.map.v1.Map/Insert";
    let said = session.command::<_, map::v1::InsertOutput>(id, path, insert).await;
    assert_eq!(said, Err((Said::AlreadyExists, "key 'k' already exists".to_owned())));

    let path = "/atomix.multiraft.map.v1.Map/Update";
    let update = |prev_index| map::v1::UpdateInput {
        key: "k".into(),
        value: "two".into(),
        ttl: None,
        prev_index,
    };
    let said = session.command::<_, map::v1::UpdateOutput>(id, path, update(first + 1)).await;
    assert_eq!(said.expect_err("another version").0, Said::Conflict);
    let said = session.command::<_, map::v1::UpdateOutput>(id, path, update(first)).await;
    let output = said.expect("the version it has");
    assert_eq!(output.prev_value.expect("a value").value, "one");

    let path = "/atomix.multiraft.map.v1.Map/Remove";
    let remove = map::v1::RemoveInput { key: "k".into(), prev_index: 0 };
    let said = session.command::<_, map::v1::RemoveOutput>(id, path, remove.clone()).await;
    assert_eq!(said.expect("an entry").value.expect("a value").value, "two");
    let said = session.command::<_, map::v1::RemoveOutput>(id, path, remove).await;
    assert_eq!(said.expect_err("no entry").0, Said::NotFound);

    let path = "/atomix.multiraft.map.v1.Map/Lock";
    let input = map::v1::LockInput::default();
    let said = session.command::<_, map::v1::LockOutput>(id, path, input).await;
    assert_eq!(said.expect_err("never built").0, Said::NotSupported);
}

#[tokio::test]
async fn a_listing_is_whole_and_ends() {
    let Some(mut session) = session().await else { return };
    let id = session.create(MAP, "listing").await;
    for number in 0..200 {
        put(&mut session, id, &format!("key-{number:03}"), "value", None).await;
    }
    let question = session.question(id, map::v1::EntriesInput { watch: false });
    let path = "/atomix.multiraft.map.v1.Map/Entries";
    let mut stream = session.caller.stream(path, question);
    let mut keys = Vec::new();
    while let Some(answer) = next(&mut stream).await.expect("no error") {
        let answer: Answer<map::v1::EntriesOutput> = answer;
        keys.push(answer.body.expect("an output").entry.expect("an entry").key);
    }
    keys.sort();
    assert_eq!(keys.len(), 200);
    assert_eq!((keys[0].as_str(), keys[199].as_str()), ("key-000", "key-199"));
    let path = "/atomix.multiraft.map.v1.Map/Size";
    let size = session.query::<_, map::v1::SizeOutput>(id, path, map::v1::SizeInput {}).await;
    assert_eq!(size.map(|output| output.size), Ok(200));
}

#[tokio::test]
async fn events_are_numbered_and_go_on_after_a_new_connection() {
    let Some(mut session) = session().await else { return };
    let id = session.create(MAP, "events").await;
    let number = session.next();
    let path = "/atomix.multiraft.map.v1.Map/Events";
    let order = session.order(id, number, map::v1::EventsInput::default());
    let mut stream = session.caller.stream(path, order.clone());
    // Nothing tells when a listener is there, so changes are made until one is heard of.
    let first = first_event(&mut session, id, &mut stream).await;
    assert_eq!(first.0, 1);
    for (expected, key) in [(2, "b"), (3, "c")] {
        put(&mut session, id, key, "1", None).await;
        assert_eq!(event(&mut stream).await, (expected, key.to_owned()));
    }
    drop(stream);
    put(&mut session, id, "d", "1", None).await;

    // Another connection, the same number: everything not acknowledged comes again, then what it
    // missed.
    let caller = Caller::to(harness::shared()).await;
    let mut stream = caller.stream(path, order.clone());
    let heard: Vec<_> =
        [event(&mut stream).await, event(&mut stream).await, event(&mut stream).await]
            .into_iter()
            .chain([event(&mut stream).await])
            .collect();
    assert_eq!(heard.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(heard[3].1, "d");
    drop(stream);

    // What was acknowledged does not come again.
    session.keep_alive(&[(number, 3)]).await.expect("it lives");
    let mut stream = caller.stream(path, order.clone());
    assert_eq!(event(&mut stream).await, (4, "d".to_owned()));

    // A number that is not open any more ends its stream in good order.
    session.keep_alive(&[]).await.expect("it lives");
    assert!(next::<Result_<map::v1::EventsOutput>>(&mut stream).await.expect("no error").is_none());
}

#[tokio::test]
async fn entries_expire_and_say_so() {
    let Some(mut session) = session().await else { return };
    let id = session.create(MAP, "expiry").await;
    let number = session.next();
    let path = "/atomix.multiraft.map.v1.Map/Events";
    let order = session.order(id, number, map::v1::EventsInput { key: "brief".into() });
    let mut stream = session.caller.stream(path, order);
    put(&mut session, id, "brief", "x", Some(Duration::from_millis(300))).await;
    // The listener may come after the entry; its end is heard of either way.
    loop {
        let message: Result_<map::v1::EventsOutput> =
            next(&mut stream).await.expect("no error").expect("an event");
        let event = message.body.and_then(|output| output.event).expect("an event");
        match event.event.expect("a member") {
            map::v1::event::Event::Removed(removed) => {
                assert!(removed.expired, "nobody removed it");
                break;
            }
            other => assert!(matches!(other, map::v1::event::Event::Inserted(_)), "{other:?}"),
        }
    }
    assert_eq!(map_get(&mut session, id, "brief").await.expect_err("gone").0, Said::NotFound);
}

#[tokio::test]
async fn a_lock_goes_from_holder_to_waiter() {
    let Some(mut alice) = session().await else { return };
    let mut bob = another(&alice, LONG).await;
    let id = alice.create(LOCK, "door").await;
    bob.create(LOCK, "door").await;
    assert_eq!(holder(&mut bob, id).await.expect_err("free").0, Said::NotFound);
    let token = acquire(&mut alice, id, None).await.expect("a free lock");
    assert_eq!(holder(&mut bob, id).await, Ok(token));
    let refused = release(&mut bob, id).await;
    assert_eq!(refused, Err((Said::Conflict, "lock not held by client".to_owned())));

    // No waiting at all, and waiting in vain.
    for wait in [Duration::ZERO, Duration::from_millis(200)] {
        let said = acquire(&mut bob, id, Some(wait)).await;
        assert_eq!(said, Err((Said::Conflict, "lock already held".to_owned())), "{wait:?}");
    }

    let mut waiter = bob.clone();
    bob.next();
    let waiting = tokio::spawn(async move { acquire(&mut waiter, id, None).await });
    release(&mut alice, id).await.expect("she holds it");
    let second = waiting.await.unwrap().expect("his turn");
    assert!(second > token, "tokens grow: {second} after {token}");
    // A closed session lets go.
    let mut waiter = alice.clone();
    alice.next();
    let waiting = tokio::spawn(async move { acquire(&mut waiter, id, None).await });
    bob.close().await.expect("he goes");
    assert!(waiting.await.unwrap().expect("her turn") > token);
}

#[tokio::test]
async fn a_silent_holder_loses_the_lock_even_when_nothing_else_happens() {
    if !harness::possible() {
        return;
    }
    // A partition that no other test uses, so that only time can move it.
    let caller = Caller::to(harness::shared()).await;
    let mut silent = caller.open(3, Duration::from_secs(1)).await;
    let mut waiter = caller.open(3, LONG).await;
    let id = silent.create(LOCK, "abandoned").await;
    waiter.create(LOCK, "abandoned").await;
    acquire(&mut silent, id, None).await.expect("a free lock");
    acquire(&mut waiter, id, None).await.expect("the silent one is given up");
    let status = silent.keep_alive(&[]).await.expect_err("too late");
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_wait_ends_with_its_deadline_or_its_number() {
    let Some(mut alice) = session().await else { return };
    let mut bob = another(&alice, LONG).await;
    let id = alice.create(LOCK, "deadline").await;
    bob.create(LOCK, "deadline").await;
    acquire(&mut alice, id, None).await.expect("a free lock");

    let number = bob.next();
    let order = bob.order(id, number, lock::v1::AcquireInput { timeout: None });
    let path = "/atomix.multiraft.lock.v1.Lock/Acquire";
    // By hand: tonic watches the deadline too, and would speak first.
    let head = raw(path, &timeout("300m"), framed(&order)).await;
    assert_eq!(head["grpc-status"], "4", "{head:?}");

    // A keep-alive that does not name the number any more ends the wait.
    let mut waiter = bob.clone();
    bob.next();
    let waiting = tokio::spawn(async move {
        let number = waiter.next();
        let input = lock::v1::AcquireInput { timeout: None };
        waiter.numbered::<_, lock::v1::AcquireOutput>(id, number, path, input).await
    });
    let status = loop {
        bob.keep_alive(&[]).await.expect("it lives");
        if waiting.is_finished() {
            break waiting.await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    match status {
        Err(status) => {
            assert_eq!((status.code(), status.message()), (Code::Cancelled, "stream closed"))
        }
        // The keep-alive was first: the number was finished before it was ever executed.
        Ok(said) => assert_eq!(said.expect_err("never executed").0, Said::Canceled),
    }
    release(&mut alice, id).await.expect("she holds it");
    assert_eq!(holder(&mut bob, id).await.expect_err("nobody waits").0, Said::NotFound);
}

#[tokio::test]
async fn a_query_of_the_future_waits_for_its_deadline() {
    let Some(mut session) = session().await else { return };
    let id = session.create(COUNTER, "future").await;
    let mut question = session.question(id, counter::v1::GetInput {});
    question.headers.as_mut().unwrap().max_received_index = u64::MAX / 2;
    let path = "/atomix.multiraft.counter.v1.Counter/Get";
    let head = raw(path, &timeout("300m"), framed(&question)).await;
    assert_eq!(head["grpc-status"], "4", "{head:?}");
    // One that passed on the way is not even asked.
    let order = session.order(id, session.sequence + 1, counter::v1::IncrementInput { delta: 1 });
    let path = "/atomix.multiraft.counter.v1.Counter/Increment";
    let head = raw(path, &timeout("0n"), framed(&order)).await;
    assert_eq!(head["grpc-status"], "4", "{head:?}");
    assert_eq!(get(&mut session, id).await, 0, "never executed");
}

#[tokio::test]
async fn an_election_passes_on() {
    let Some(mut alice) = session().await else { return };
    let mut bob = another(&alice, LONG).await;
    let id = alice.create(ELECTION, "chair").await;
    bob.create(ELECTION, "chair").await;
    let term = enter(&mut alice, id, "alice").await;
    assert_eq!((term.leader.as_str(), term.index), ("alice", 1));
    let term = enter(&mut bob, id, "bob").await;
    assert_eq!((term.leader.as_str(), term.candidates), ("alice", vec!["bob".to_owned()]));

    let path = "/atomix.multiraft.election.v1.LeaderElection/Watch";
    let question = bob.question(id, election::v1::WatchInput {});
    let mut stream = bob.caller.stream(path, question);
    assert_eq!(watched(&mut stream).await.leader, "alice", "the term that is comes first");
    alice.close().await.expect("she goes");
    let term = watched(&mut stream).await;
    assert_eq!((term.leader.as_str(), term.index), ("bob", 2));
    assert!(term.candidates.is_empty());

    let path = "/atomix.multiraft.election.v1.LeaderElection/Withdraw";
    let input = election::v1::WithdrawInput { candidate: "bob".to_owned() };
    let said = bob.command::<_, election::v1::WithdrawOutput>(id, path, input).await;
    let term = said.expect("always").term.expect("a term");
    assert_eq!((term.leader.as_str(), term.index), ("", 2));
}

#[tokio::test]
async fn a_filter_that_makes_no_sense_harms_nothing() {
    let Some(session) = session().await else { return };
    let bad: [&[u8]; 8] = [
        b"",
        b"null",
        b"{}",
        b"not json",
        br#"{"m":0,"k":5,"b":"AAAAAAAAAAA="}"#,
        br#"{"m":7,"k":5}"#,
        br#"{"m":7,"k":5,"b":"AAAAAAAAAAc="}"#,
        br#"{"m":7,"k":65,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}"#,
    ];
    for filter in bad {
        let status = session.keep_alive_with(filter.to_vec(), &[]).await;
        let shown = String::from_utf8_lossy(filter).into_owned();
        let status = status.expect_err(&shown);
        assert_eq!(status.code(), Code::InvalidArgument, "{shown}: {status}");
        assert!(status.message().starts_with("invalid request filter"), "{shown}: {status}");
    }
    session.keep_alive(&[]).await.expect("it still lives");
}

#[tokio::test]
async fn large_values_pass_and_larger_ones_are_refused() {
    let Some(mut session) = session().await else { return };
    let id = session.create(MAP, "large").await;
    let large = "v".repeat(3 << 20);
    put(&mut session, id, "large", &large, None).await;
    assert_eq!(map_get(&mut session, id, "large").await.expect("an entry").value, large);

    let number = session.next();
    let value = Bytes::from(vec![0; (4 << 20) + 1]);
    let input = map::v1::PutInput { key: "k".into(), value, ttl: None, prev_index: 0 };
    let path = "/atomix.multiraft.map.v1.Map/Put";
    let order = session.order(id, number, input);
    let status = session.caller.unary::<_, Result_<map::v1::PutOutput>>(path, order).await;
    assert_eq!(status.expect_err("too large").code(), Code::ResourceExhausted);
    // The connection is none the worse.
    put(&mut session, id, "small", "v", None).await;
}

#[tokio::test]
async fn names_that_are_not_text_are_refused() {
    let Some(mut session) = session().await else { return };
    let id = session.create(MAP, "text").await;
    // A `PutInput` whose key is the byte 0xff, which protobuf does not allow.
    #[derive(Clone, PartialEq, prost::Message)]
    struct RawPut {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
    }
    let number = session.next();
    let order = session.order(id, number, RawPut { key: vec![0xFF] });
    let path = "/atomix.multiraft.map.v1.Map/Put";
    let status = session.caller.unary::<_, Result_<map::v1::PutOutput>>(path, order).await;
    assert_eq!(status.expect_err("not text").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_partitions_watcher_hears_its_leader_first() {
    let Some(session) = session().await else { return };
    let caller = &session.caller;
    let path = "/atomix.multiraft.v1.Partition/Watch";
    let request = WatchPartitionRequest { partition_id: 1 };
    let mut stream = caller.stream(path, request);
    let event: PartitionEvent = next(&mut stream).await.expect("no error").expect("an event");
    assert_eq!(event.partition_id, 1);
    match event.event.expect("a member") {
        partition_event::Event::ServiceConfigChanged(changed) => {
            let config = changed.config.expect("a configuration");
            assert_eq!(config.leader, harness::shared());
            assert!(config.followers.is_empty());
        }
        other => panic!("{other:?} came first"),
    }
    let request = WatchPartitionRequest { partition_id: 99 };
    let status = stream_end::<_, PartitionEvent>(caller, path, request).await;
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn groups_are_founded_watched_and_left() {
    if !harness::possible() {
        return;
    }
    let dir = harness::data_dir();
    let node = harness::Node::start(dir.path(), &["--partitions", "0"]);
    let caller = Caller::to(&node.api).await;
    let path = "/atomix.multiraft.v1.Node/Watch";
    let mut stream = caller.stream(path, WatchRequest {});
    for _ in 0..2 {
        let bootstrap = BootstrapRequest { group: Some(group(7, &[1])) };
        let path = "/atomix.multiraft.v1.Node/Bootstrap";
        let founded = caller.unary::<_, BootstrapResponse>(path, bootstrap).await;
        founded.expect("founded, and founded again");
    }
    let (mut ready, mut led) = (false, false);
    while !(ready && led) {
        let event: Event = next(&mut stream).await.expect("no error").expect("an event");
        match event.event.expect("a member") {
            event::Event::MemberReady(member) => ready |= member.group_id == 7,
            event::Event::LeaderUpdated(leader) => {
                led |= leader.group_id == 7 && leader.leader == 1 && leader.term > 0;
            }
            _ => {}
        }
    }
    // What a late watcher is told carries the zero time (core.md 2.5).
    let mut late = caller.stream(path, WatchRequest {});
    let event: Event = next(&mut late).await.expect("no error").expect("an event");
    assert!(matches!(event.event, Some(event::Event::LeaderUpdated(_))), "the leader first");
    assert_eq!(event.timestamp.expect("a time").seconds, -62_135_596_800);

    let mut session = caller.open(7, LONG).await;
    let counter = session.create(COUNTER, "c").await;
    assert_eq!(add(&mut session, counter, 1).await, Ok(1));

    let bad = [None, Some(group(0, &[1])), Some(group(8, &[])), Some(group(8, &[1, 1]))];
    for group in bad {
        let path = "/atomix.multiraft.v1.Node/Bootstrap";
        let shown = format!("{group:?}");
        let status = caller.unary::<_, BootstrapResponse>(path, BootstrapRequest { group }).await;
        assert_eq!(status.expect_err(&shown).code(), Code::InvalidArgument, "{shown}");
    }
    let leave = |group_id| {
        let path = "/atomix.multiraft.v1.Node/Leave";
        caller.unary::<_, LeaveResponse>(path, LeaveRequest { group_id })
    };
    leave(7).await.expect("it was here");
    assert_eq!(leave(7).await.expect_err("it is gone").code(), Code::NotFound);
    assert_eq!(leave(70).await.expect_err("it never was").code(), Code::NotFound);
}

#[tokio::test]
async fn a_listener_of_the_released_dialect_numbers_results_its_own_way() {
    if !harness::possible() {
        return;
    }
    let dir = harness::data_dir();
    let node = harness::Node::start(dir.path(), &["--dialect", "released"]);
    let mut session = Caller::to(&node.api).await.open(1, LONG).await;
    let spec = PrimitiveSpec {
        service: COUNTER.to_owned(),
        namespace: String::new(),
        name: "c".to_owned(),
    };
    let number = session.next();
    let order = session.order(0, number, CreatePrimitiveInput { spec: Some(spec) });
    let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
    let made: Result_<CreatePrimitiveOutput> =
        session.caller.unary(path, order).await.expect("an answer").into_inner();
    let id = made.body.expect("an output").primitive_id;
    // There OK is 0, which the documented dialect reads as UNKNOWN, and CONFLICT is 8 in both.
    for (compare, status) in [(0, 0), (0, 8)] {
        let number = session.next();
        let order = session.order(id, number, counter::v1::UpdateInput { compare, update: 7 });
        let path = "/atomix.multiraft.counter.v1.Counter/Update";
        let answer: Result_<counter::v1::UpdateOutput> =
            session.caller.unary(path, order).await.expect("an answer").into_inner();
        let head = answer.headers.and_then(|head| head.operation).expect("headers");
        assert_eq!(head.status, status);
        assert_eq!(answer.body.is_some(), status == 0);
    }
}

/// Queries of the released dialect have numbers, by which a keep-alive ends those that the client
/// has given up (core.md 3.3).
#[tokio::test]
async fn a_keep_alive_ends_numbered_queries_of_the_released_dialect() {
    if !harness::possible() {
        return;
    }
    let dir = harness::data_dir();
    let node = harness::Node::start(dir.path(), &["--dialect", "released"]);
    let mut session = Caller::to(&node.api).await.open(1, LONG).await;
    let spec = PrimitiveSpec {
        service: ELECTION.to_owned(),
        namespace: String::new(),
        name: "e".to_owned(),
    };
    let number = session.next();
    let order = session.order(0, number, CreatePrimitiveInput { spec: Some(spec) });
    let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
    let made: Result_<CreatePrimitiveOutput> =
        session.caller.unary(path, order).await.expect("an answer").into_inner();
    let id = made.body.expect("an output").primitive_id;
    let number = session.next();
    let order = session.order(id, number, election::v1::EnterInput { candidate: "a".to_owned() });
    let path = "/atomix.multiraft.election.v1.LeaderElection/Enter";
    let _: Result_<election::v1::EnterOutput> =
        session.caller.unary(path, order).await.expect("an answer").into_inner();

    let watch = |session: &mut Session| {
        // What is `max_received_index` in the documented dialect is the query's number there.
        let number = session.next();
        let operation = Some(session.operation(id));
        let headers = Some(QueryRequestHeaders { operation, max_received_index: number });
        let request = Question { headers, body: Some(election::v1::WatchInput {}) };
        let path = "/atomix.multiraft.election.v1.LeaderElection/Watch";
        let heard: Heard<Answer<election::v1::WatchOutput>> = session.caller.stream(path, request);
        (number, heard)
    };
    let (_, mut given_up) = watch(&mut session);
    let (kept, mut stays) = watch(&mut session);
    for heard in [&mut given_up, &mut stays] {
        assert!(next(heard).await.expect("the present term").is_some());
    }
    session.keep_alive(&[(kept, 0)]).await.expect("a keep-alive");
    assert!(next(&mut given_up).await.expect("no error").is_none(), "it ends regularly");
    session.keep_alive(&[]).await.expect("a keep-alive");
    assert!(next(&mut stays).await.expect("no error").is_none());
}

#[tokio::test]
async fn compression_and_other_contents_are_refused_in_form() {
    if !harness::possible() {
        return;
    }
    let path = "/atomix.multiraft.v1.Partition/OpenSession";
    // One compressed message of one byte.
    let body = Bytes::from_static(&[1, 0, 0, 0, 1, 0]);
    let gzip = [("content-type", "application/grpc"), ("grpc-encoding", "gzip")];
    let head = raw(path, &gzip, body.clone()).await;
    assert_eq!(head["grpc-status"], "12", "{head:?}");
    assert!(head.contains_key("grpc-accept-encoding"), "{head:?}");
    let head = raw(path, &[("content-type", "application/json")], body).await;
    assert_eq!(head[":status"], "415", "{head:?}");
}
