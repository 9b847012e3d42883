//! Counter maps and sets on a real node, through tonic: every operation once, so that what the edge
//! takes apart and puts together is what an independent client means and understands.
//!
//! What the operations do is tested without sockets (`partition/primitive`). The tests share one
//! node; a host that cannot run one says so and passes (`harness`).
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use harness::caller::{Answer, Caller, Heard, Result_, Said, Session, next, span};
use ringraft::client::session::Body;
use ringraft::wire::proto::countermap::v1 as countermap;
use ringraft::wire::proto::set::v1 as set;

macro_rules! counter_map {
    ($method:literal) => {
        concat!("/atomix.multiraft.countermap.v1.CounterMap/", $method)
    };
}

macro_rules! set {
    ($method:literal) => {
        concat!("/atomix.multiraft.set.v1.Set/", $method)
    };
}

/// A session with partition 1 of the shared node; `None` where no node can run.
async fn session() -> Option<Session> {
    if !harness::possible() {
        return None;
    }
    let caller = Caller::to(harness::shared()).await;
    Some(caller.open(1, Duration::from_secs(60)).await)
}

#[tokio::test]
async fn a_counter_map_is_served() {
    let Some(mut session) = session().await else { return };
    let id = session.create("atomix.runtime.countermap.v1.CounterMap", "counts").await;
    let key = || "k".to_owned();

    let input = countermap::SetInput { key: key(), value: -5 };
    let said = session.command(id, counter_map!("Set"), input).await;
    assert_eq!(said, Ok(countermap::SetOutput { prev_value: 0 }));
    let input = countermap::InsertInput { key: key(), value: 1 };
    let said = session.command::<_, countermap::InsertOutput>(id, counter_map!("Insert"), input);
    assert_eq!(said.await, Err((Said::AlreadyExists, "key 'k' already exists".to_owned())));
    let input = countermap::InsertInput { key: "a".to_owned(), value: i64::MAX };
    let said = session.command(id, counter_map!("Insert"), input).await;
    assert_eq!(said, Ok(countermap::InsertOutput {}));
    let input = countermap::UpdateInput { key: key(), value: 7, prev_value: -5 };
    let said = session.command(id, counter_map!("Update"), input).await;
    assert_eq!(said, Ok(countermap::UpdateOutput { prev_value: -5 }));
    let input = countermap::IncrementInput { key: key(), delta: 0 };
    let said = session.command(id, counter_map!("Increment"), input).await;
    assert_eq!(said, Ok(countermap::IncrementOutput { prev_value: 7 }));
    let input = countermap::DecrementInput { key: key(), delta: 10 };
    let said = session.command(id, counter_map!("Decrement"), input).await;
    assert_eq!(said, Ok(countermap::DecrementOutput { prev_value: 8 }));
    let input = countermap::IncrementInput { key: "a".to_owned(), delta: 1 };
    let path = counter_map!("Increment");
    let said = session.command::<_, countermap::IncrementOutput>(id, path, input).await;
    assert_eq!(said, Err((Said::Invalid, "counter overflow".to_owned())));

    let said = session.query(id, counter_map!("Get"), countermap::GetInput { key: key() }).await;
    assert_eq!(said, Ok(countermap::GetOutput { value: -2 }));
    let said = session.query(id, counter_map!("Size"), countermap::SizeInput {}).await;
    assert_eq!(said, Ok(countermap::SizeOutput { size: 2 }));
    let input = countermap::EntriesInput { watch: false };
    let listed =
        listed::<_, countermap::EntriesOutput>(&session, id, counter_map!("Entries"), input);
    let listed: Vec<_> = listed.await.into_iter().map(|it| it.entry.unwrap()).collect();
    let listed: Vec<_> = listed.iter().map(|it| (&it.key[..], it.value)).collect();
    assert_eq!(listed, [("a", i64::MAX), ("k", -2)]);

    let input = countermap::RemoveInput { key: key(), prev_value: -2 };
    let said = session.command(id, counter_map!("Remove"), input).await;
    assert_eq!(said, Ok(countermap::RemoveOutput { value: -2 }));
    let said = session.command(id, counter_map!("Clear"), countermap::ClearInput {}).await;
    assert_eq!(said, Ok(countermap::ClearOutput {}));
    let not_built = Err((Said::NotSupported, "proposal not supported".to_owned()));
    let timeout = Some(span(Duration::from_secs(1)));
    let input = countermap::LockInput { keys: vec![key(), "a".to_owned()], timeout };
    let said = session.command::<_, countermap::LockOutput>(id, counter_map!("Lock"), input).await;
    assert_eq!(said.map(drop), not_built);
    let input = countermap::UnlockInput { keys: vec![key()] };
    let path = counter_map!("Unlock");
    let said = session.command::<_, countermap::UnlockOutput>(id, path, input).await;
    assert_eq!(said.map(drop), not_built);
}

#[tokio::test]
async fn a_counter_maps_events_and_its_watch_are_served() {
    let Some(mut session) = session().await else { return };
    let id = session.create("atomix.runtime.countermap.v1.CounterMap", "watched counts").await;
    let increment = |delta| countermap::IncrementInput { key: "k".to_owned(), delta };
    let path = counter_map!("Increment");
    session.command::<_, countermap::IncrementOutput>(id, path, increment(0)).await.unwrap();

    // The listing says that the watch is there.
    let question = session.question(id, countermap::EntriesInput { watch: true });
    let mut watch = session.caller.stream(counter_map!("Entries"), question);
    assert_eq!(entry(&mut watch).await, ("k".to_owned(), 1));
    session.command::<_, countermap::IncrementOutput>(id, path, increment(4)).await.unwrap();
    assert_eq!(entry(&mut watch).await, ("k".to_owned(), 5));

    let number = session.next();
    let order = session.order(id, number, countermap::EventsInput { key: "k".to_owned() });
    let mut events: Heard<Result_<countermap::EventsOutput>> =
        session.caller.stream(counter_map!("Events"), order);
    let mut before = 5;
    // Nothing tells when a listener is there, so changes are made until one is heard of.
    let first = loop {
        session.command::<_, countermap::IncrementOutput>(id, path, increment(1)).await.unwrap();
        before += 1;
        assert!(before < 60, "no listener");
        if let Ok(heard) = tokio::time::timeout(SHORT, next(&mut events)).await {
            break heard.expect("no error").expect("an event");
        }
    };
    assert_eq!(first.headers.unwrap().output_sequence_num, 1);
    let event = first.body.unwrap().event.unwrap();
    let Some(countermap::event::Event::Updated(updated)) = event.event else {
        panic!("{event:?}");
    };
    assert_eq!((&event.key[..], updated.value - updated.prev_value), ("k", 1));
}

#[tokio::test]
async fn a_set_is_served() {
    let Some(mut session) = session().await else { return };
    let id = session.create("atomix.runtime.set.v1.Set", "names").await;
    let element = |value: &str| Some(set::Element { value: value.to_owned() });

    for name in ["birch", "ash"] {
        let input = set::AddInput { element: element(name), ttl: None };
        assert_eq!(session.command(id, set!("Add"), input).await, Ok(set::AddOutput {}));
    }
    let input = set::AddInput { element: element("ash"), ttl: Some(span(SHORT)) };
    let said = session.command::<_, set::AddOutput>(id, set!("Add"), input).await;
    assert_eq!(said, Err((Said::AlreadyExists, "value already exists in set".to_owned())));
    for (name, contains) in [("ash", true), ("oak", false)] {
        let input = set::ContainsInput { element: element(name) };
        let said = session.query(id, set!("Contains"), input).await;
        assert_eq!(said, Ok(set::ContainsOutput { contains }));
    }
    let said = session.query(id, set!("Size"), set::SizeInput {}).await;
    assert_eq!(said, Ok(set::SizeOutput { size: 2 }));
    let input = set::ElementsInput { watch: false };
    let listed = listed::<_, set::ElementsOutput>(&session, id, set!("Elements"), input).await;
    let listed: Vec<_> = listed.into_iter().map(|it| it.element.unwrap().value).collect();
    assert_eq!(listed, ["ash", "birch"]);

    let input = set::RemoveInput { element: element("ash") };
    let said = session.command(id, set!("Remove"), input.clone()).await;
    assert_eq!(said, Ok(set::RemoveOutput {}));
    let said = session.command::<_, set::RemoveOutput>(id, set!("Remove"), input).await;
    assert_eq!(said, Err((Said::NotFound, "value not found in set".to_owned())));
    let said = session.command(id, set!("Clear"), set::ClearInput {}).await;
    assert_eq!(said, Ok(set::ClearOutput {}));
    let said = session.query(id, set!("Size"), set::SizeInput {}).await;
    assert_eq!(said, Ok(set::SizeOutput { size: 0 }));
}

#[tokio::test]
async fn a_sets_events_and_its_watch_are_served() {
    let Some(mut session) = session().await else { return };
    let id = session.create("atomix.runtime.set.v1.Set", "watched names").await;
    let add = |value: &str, ttl: Option<Duration>| set::AddInput {
        element: Some(set::Element { value: value.to_owned() }),
        ttl: ttl.map(span),
    };
    session.command::<_, set::AddOutput>(id, set!("Add"), add("ash", None)).await.unwrap();

    // The listing says that the watch is there.
    let question = session.question(id, set::ElementsInput { watch: true });
    let mut watch = session.caller.stream(set!("Elements"), question);
    assert_eq!(watched(&mut watch).await, "ash");
    session.command::<_, set::AddOutput>(id, set!("Add"), add("oak", None)).await.unwrap();
    assert_eq!(watched(&mut watch).await, "oak");

    let number = session.next();
    let order = session.order(id, number, set::EventsInput {});
    let mut events: Heard<Result_<set::EventsOutput>> =
        session.caller.stream(set!("Events"), order);
    session.command::<_, set::AddOutput>(id, set!("Add"), add("brief", Some(SHORT))).await.unwrap();
    // The listener may come after the element; its end is heard of either way.
    loop {
        let heard = next(&mut events).await.expect("no error").expect("an event");
        match heard.body.unwrap().event.unwrap().event.unwrap() {
            set::event::Event::Removed(it) => {
                assert_eq!((&it.element.unwrap().value[..], it.expired), ("brief", true));
                break;
            }
            set::event::Event::Added(it) => assert_eq!(it.element.unwrap().value, "brief"),
        }
    }
}

/// A whole listing, in its order.
async fn listed<I: Body + 'static, O: Body + 'static>(
    session: &Session,
    id: u64,
    path: &'static str,
    input: I,
) -> Vec<O> {
    let question = session.question(id, input);
    let mut stream: Heard<Answer<O>> = session.caller.stream(path, question);
    let mut items = Vec::new();
    while let Some(answer) = next(&mut stream).await.expect("no error") {
        items.push(answer.body.expect("an output"));
    }
    items
}

async fn entry(stream: &mut Heard<Answer<countermap::EntriesOutput>>) -> (String, i64) {
    let answer = next(stream).await.expect("no error").expect("an entry");
    let entry = answer.body.unwrap().entry.unwrap();
    (entry.key, entry.value)
}

async fn watched(stream: &mut Heard<Answer<set::ElementsOutput>>) -> String {
    let answer = next(stream).await.expect("no error").expect("an element");
    answer.body.unwrap().element.unwrap().value
}

const SHORT: Duration = Duration::from_millis(300);
