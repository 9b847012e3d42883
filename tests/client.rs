//! The client library as a program sees it, against a real node: on any executor, over ways that
//! break, and with what it holds when it goes.
//!
//! A host that cannot run a node says so and passes (`harness`).
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

#[path = "client/relay.rs"]
mod relay;
#[path = "client/script.rs"]
mod script;

use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use harness::{Node, data_dir, possible, send, shared};
use relay::Relay;
use ringraft::client::multimap::Pair;
use ringraft::client::set::Member;
use ringraft::client::{Change, Client, Entry, Fault, Options, Status};
use ringraft::wire::bloom::Filter;
use ringraft::wire::proto::counter::v1::{IncrementOutput, IncrementRequest};
use ringraft::wire::proto::set::v1::{Element, Event, EventsOutput, EventsRequest, event};
use ringraft::wire::proto::v1::{KeepAliveRequest, OpenSessionRequest};
use script::{Answer, output};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn one_program_runs_on_every_executor() {
    if !possible() {
        return;
    }
    futures_lite::future::block_on(program("alone")).unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    // Spawned: what is awaited may move between threads.
    tokio.block_on(tokio.spawn(program("tokio"))).unwrap().unwrap();
    glommio::LocalExecutor::default().run(program("glommio")).unwrap();
}

/// Some of everything; the names begin with `who`, for the node is shared.
async fn program(who: &str) -> Result<(), Fault> {
    let client = connect(shared()).await;
    let name = |what: &str| format!("{who}-{what}");

    let counter = client.counter(&name("counter"));
    assert_eq!(counter.set(40).await?, 40);
    let (one, other) = (counter.clone(), counter.clone());
    // Two calls at the same time, without an executor to spawn them on.
    futures_lite::future::try_zip(one.increment(1), other.increment(1)).await?;
    assert_eq!(counter.get().await?, 42);
    assert!(counter.update(0, 1).await.unwrap_err().is(Status::Conflict));

    let map = client.map(&name("map"));
    let mut events = map.events(None).await?;
    let mut versions = Vec::new();
    for key in ["a", "b", "c", "d", "e"] {
        versions.push(map.put(key, format!("value of {key}")).await?.version);
    }
    assert_eq!(map.get("a").await?.version, versions[0]);
    let stale = map.update("a", "x").prev_version(versions[0] + 1_000).await;
    assert!(stale.unwrap_err().is(Status::Conflict));
    assert_eq!(map.remove("a").prev_version(versions[0]).await?.value, "value of a");
    assert!(map.get("a").await.unwrap_err().is(Status::NotFound));
    assert_eq!(map.size().await?, 4);
    let mut keys: Vec<String> = map.list().await?.into_iter().map(|entry| entry.key).collect();
    keys.sort();
    assert_eq!(keys, ["b", "c", "d", "e"]);
    let mut seen = Vec::new();
    for _ in 0..6 {
        // The same as `next`, as a `Stream`.
        seen.push(StreamExt::next(&mut events).await.unwrap()?);
    }
    let inserted = |key: &str| {
        seen.iter().any(|event| event.key == key && matches!(event.change, Change::Inserted(_)))
    };
    assert!(["a", "b", "c", "d", "e"].into_iter().all(inserted), "{seen:?}");
    let gone = |event: &ringraft::client::Event<_>| {
        event.key == "a" && matches!(event.change, Change::Removed { expired: false, .. })
    };
    assert!(seen.iter().any(gone), "{seen:?}");
    let mut watch = map.watch().await?;
    map.clear().await?;
    let mut left = 4;
    while left > 0 {
        let Entry { value, .. } = watch.next().await?.expect("a watch does not end");
        left -= usize::from(value.is_none());
    }

    let held = client.lock(&name("lock")).acquire(None).await?;
    let tried = client.lock(&name("lock")).acquire(Some(Duration::ZERO)).await;
    assert!(tried.err().unwrap().is(Status::Conflict), "not twice by one client");
    assert_eq!(client.lock(&name("lock")).holder().await?, held.token());
    held.release().await?;
    let chair = client.election(&name("chair"));
    let mut terms = chair.watch().await?;
    let me = chair.enter("me").await?;
    assert_eq!(me.term.leader, "me");
    while terms.next().await?.expect("a watch does not end").leader != "me" {}
    assert_eq!(me.withdraw().await?.leader, "");

    client.close().await?;
    assert_eq!(counter.get().await, Err(Fault::Closed));
    // The session was closed, and its streams with it: what was told before is there still.
    while events.next().await?.is_some() {}
    Ok(())
}

#[test]
fn a_counter_map_does_what_its_handle_says() {
    if !possible() {
        return;
    }
    block_on(async {
        let client = connect(shared()).await;
        let stock = client.countermap("stock");
        assert_eq!(stock.set("apples", 5).await?, 0);
        assert_eq!(stock.increment("apples", 2).await?, 7);
        assert_eq!(stock.decrement("pears", 3).await?, -3);
        assert!(stock.insert("apples", 1).await.unwrap_err().is(Status::AlreadyExists));
        assert!(stock.update("apples", 1, 5).await.unwrap_err().is(Status::Conflict));
        stock.update("apples", 1, 7).await?;
        assert_eq!((stock.get("apples").await?, stock.size().await?), (1, 2));
        assert!(stock.lock(&["apples"], None).await.unwrap_err().is(Status::NotSupported));
        assert_eq!(stock.remove("apples", 1).await?, 1);
        stock.clear().await?;
        assert!(stock.list().await?.is_empty());
        Ok(())
    });
}

#[test]
fn a_set_does_what_its_handle_says() {
    if !possible() {
        return;
    }
    block_on(async {
        let client = connect(shared()).await;
        let present = client.set("present");
        let mut members = present.events().await?;
        present.add("ann").await?;
        assert!(present.add("ann").await.unwrap_err().is(Status::AlreadyExists));
        present.add("bob").ttl(Duration::from_secs(60)).await?;
        assert!(present.contains("ann").await? && !present.contains("cid").await?);
        present.remove("ann").await?;
        assert_eq!((present.list().await?, present.size().await?), (vec!["bob".to_owned()], 1));
        for _ in 0..3 {
            assert!(members.next().await?.is_some());
        }
        Ok(())
    });
}

#[test]
fn a_multimap_does_what_its_handle_says() {
    if !possible() {
        return;
    }
    block_on(async {
        let client = connect(shared()).await;
        let tags = client.multimap("tags");
        let mut pairs = tags.events(Some("rose")).await?;
        tags.put("rose", "red").await?;
        assert!(tags.put("rose", "red").await.unwrap_err().is(Status::AlreadyExists));
        assert!(tags.put_all("rose", &["red", "sweet"]).await?);
        assert!(!tags.put_all("rose", &["red"]).await?);
        // Keys of several partitions in one call.
        let many: Vec<(String, [&str; 1])> = (0..9).map(|n| (format!("k{n}"), ["v"])).collect();
        let many: Vec<(&str, &[&str])> = many.iter().map(|(k, v)| (&**k, &v[..])).collect();
        assert!(tags.put_entries(&many).await?);
        assert_eq!((tags.size().await?, tags.get("k7").await?), (10, vec!["v".to_owned()]));
        assert!(tags.remove_entries(&many).await? && !tags.remove_entries(&many).await?);
        assert!(tags.contains("rose", "sweet").await? && !tags.contains("rose", "blue").await?);
        assert_eq!(tags.replace("rose", &["blue"]).await?, ["red", "sweet"]);
        tags.remove("rose", "blue").await?;
        assert!(tags.remove_all("rose", &["blue"]).await.unwrap_err().is(Status::NotFound));
        assert!(tags.list().await?.is_empty());
        for (added, value) in
            [(true, "red"), (true, "sweet"), (true, "blue"), (false, "red"), (false, "sweet")]
        {
            let (key, value) = ("rose".to_owned(), value.to_owned());
            let pair =
                if added { Pair::Added { key, value } } else { Pair::Removed { key, value } };
            assert_eq!(pairs.next().await?, Some(pair));
        }
        Ok(())
    });
}

#[test]
fn an_indexed_map_does_what_its_handle_says() {
    if !possible() {
        return;
    }
    block_on(async {
        let client = connect(shared()).await;
        let queue = client.indexedmap("queue");
        let one = queue.append("job-1", "sweep").await?;
        let two = queue.append("job-2", "wash").ttl(Duration::from_secs(60)).await?;
        assert!(queue.append("job-1", "x").await.unwrap_err().is(Status::AlreadyExists));
        assert_eq!((queue.first().await?, queue.last().await?), (one.clone(), two.clone()));
        assert_eq!(queue.next(one.index).await?, two);
        assert_eq!(queue.prev(two.index).await?, one);
        assert_eq!(queue.get(two.index).await?, queue.get("job-2").await?);
        let version = one.value.unwrap().version;
        let swept = queue.update("job-1", "swept").prev_version(version).await?;
        assert_eq!(swept.value.unwrap().value, "swept");
        assert!(queue.remove(one.index).prev_version(version).await.is_err(), "another version");
        queue.remove("job-1").await?;
        assert_eq!((queue.list().await?, queue.size().await?), (vec![two], 1));
        let mut jobs = queue.watch().await?;
        assert_eq!(jobs.next().await?.unwrap().key, "job-2");
        queue.clear().await?;
        assert_eq!(jobs.next().await?.unwrap().value, None, "it is gone");
        Ok(())
    });
}

#[test]
fn a_value_does_what_its_handle_says() {
    if !possible() {
        return;
    }
    block_on(async {
        let client = connect(shared()).await;
        let config = client.value("config");
        assert!(config.get().await.unwrap_err().is(Status::NotFound));
        let mut changes = config.events().await?;
        let first = config.insert("one").await?;
        let second = config.update("two").prev_version(first.version).await?;
        assert_eq!(second.prev.unwrap().value, "one");
        assert!(config.delete().prev_version(first.version).await.is_err());
        let mut values = config.watch().await?;
        assert_eq!(values.next().await?.unwrap().value, "two");
        assert_eq!(config.set("three").await?.prev.unwrap().version, second.version);
        assert_eq!(values.next().await?.unwrap().value, "three");
        assert_eq!(config.delete().await?.value, "three");
        assert!(matches!(changes.next().await?, Some(Change::Inserted(value))
            if value.value == "one" && value.version == first.version));
        Ok(())
    });
}

#[test]
fn what_a_client_held_is_free_when_it_is_dropped() {
    if !possible() {
        return;
    }
    block_on(async {
        // Longer than the test may take: only closing releases it.
        let options = Options { session_timeout: Duration::from_secs(600), ..options(shared()) };
        let first = Client::connect(options).await?;
        let held = first.lock("dropped").acquire(None).await?;
        let second = connect(shared()).await;
        let lock = second.lock("dropped");
        assert!(lock.acquire(Some(Duration::ZERO)).await.is_err());
        // What is held keeps its client.
        drop(first);
        assert_eq!(lock.holder().await?, held.token());
        drop(held);
        let again = lock.acquire(Some(SOON)).await?;
        // Forgotten instead of dropped it would be held until the client goes.
        std::mem::forget(again);
        drop(lock);
        second.close().await?;
        let third = connect(shared()).await;
        third.lock("dropped").acquire(Some(SOON)).await?.release().await
    });
}

#[test]
fn a_dropped_client_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    let relay = Relay::to(shared());
    block_on(async {
        let client = Client::connect(options(&relay.address())).await?;
        let counter = client.counter("left-behind");
        drop(client);
        counter.increment(1).await?;
        assert!(relay.connections() > 0);
        // The last handle; its thread goes and takes the connection with it.
        drop(counter);
        until(|| relay.connections() == 0);
        Ok(())
    });
}

#[test]
fn a_lock_that_nobody_waits_for_any_more_is_given_on() {
    if !possible() {
        return;
    }
    block_on(async {
        let client = connect(shared()).await;
        let lock = client.lock("given-up");
        let held = lock.acquire(None).await?;
        // In the queue of the node, as far as the holder's next answer can tell; then given up.
        let mut waiting = Box::pin(lock.acquire(None));
        assert!(futures_lite::future::poll_once(&mut waiting).await.is_none());
        assert_eq!(lock.holder().await?, held.token());
        drop(waiting);
        held.release().await?;
        let other = connect(shared()).await;
        other.lock("given-up").acquire(Some(SOON)).await?.release().await
    });
}

#[test]
fn a_lost_session_is_told_and_the_next_call_has_a_new_one() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    block_on(async {
        let options = Options { session_timeout: Duration::from_secs(1), ..options(&node.api) };
        let client = Client::connect(options).await?;
        let counter = client.counter("c");
        counter.increment(1).await?;
        let held = client.lock("l").acquire(None).await?;
        let mut events = client.map("m").events(Some("c")).await?;
        send(node.pid(), "STOP");
        let (lost, event) = futures_lite::future::zip(counter.increment(1), events.next()).await;
        assert_eq!(lost, Err(Fault::SessionLost));
        assert_eq!(event, Err(Fault::SessionLost));
        held.lost().await;
        send(node.pid(), "CONT");
        assert!(matches!(counter.increment(1).await?, 2 | 3), "nobody knows of the second");
        let again = client.lock("l").acquire(Some(SOON)).await?;
        assert!(again.token() > held.token());
        Ok(())
    });
}

#[test]
fn another_address_is_asked_and_streams_go_on_there() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    for way_to_fail in [Relay::cut, Relay::hang] {
        let relay = Relay::to(&node.api);
        block_on(async {
            let direct = connect(&node.api).await;
            let options = Options {
                endpoints: vec![relay.address(), node.api.clone()],
                session_timeout: Duration::from_secs(3),
                ..options(&node.api)
            };
            let client = Client::connect(options).await?;
            let held = direct.lock("l").acquire(None).await?;
            let lock = client.lock("l");
            let mut waiting = Box::pin(lock.acquire(None));
            assert!(futures_lite::future::poll_once(&mut waiting).await.is_none());
            let map = direct.map("m");
            let mut events = client.map("m").events(Some("k")).await?;
            // The second is the first that the client is certain to hear of.
            client.map("m").put("k", "0").await?;
            for round in 1..50 {
                if round == 20 {
                    way_to_fail(&relay);
                }
                map.put("k", round.to_string()).await?;
            }
            held.release().await?;
            for round in 0..50 {
                let event = events.next().await?.expect("it goes on");
                let value = match event.change {
                    Change::Inserted(value) | Change::Updated { value, .. } => value,
                    removed @ Change::Removed { .. } => panic!("{removed:?}"),
                };
                assert_eq!(value.value, round.to_string(), "each once, in order");
            }
            waiting.await?.release().await?;
            map.remove("k").await.map(drop)
        });
    }
}

#[test]
fn an_address_where_nobody_is_does_not_matter_when_another_is_good() {
    if !possible() {
        return;
    }
    block_on(async {
        let endpoints = ["127.0.0.1:1", shared()];
        let client = Client::connect(Options { patience: SOON, ..Options::to(endpoints) }).await?;
        client.counter("second-address").increment(1).await?;
        let nobody = Client::connect(Options::to(["127.0.0.1:1"])).await.err().unwrap();
        assert!(matches!(nobody, Fault::Unreachable { .. }), "{nobody:?}");
        Ok(())
    });
}

#[test]
fn a_call_ends_in_its_time() {
    if !possible() {
        return;
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let api = silent.local_addr().unwrap().to_string();
    block_on(async {
        let client = Client::connect(options(&api)).await?;
        let counter = client.counter("c").timeout(Duration::from_millis(50));
        assert_eq!(counter.get().await, Err(Fault::Timeout));
        Ok(())
    });
}

#[test]
fn both_dialects_are_spoken_to_the_same_data() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &["--dialect", "released"]);
    block_on(async {
        let dialect = ringraft::client::Dialect::Released;
        // Asked for its partitions, in its words.
        let released = Options { dialect, ..Options::to([node.api.clone()]) };
        let client = Client::connect(released).await?;
        assert_eq!(client.layout().all(), [1, 2, 3]);
        assert_eq!(client.counter("c").increment(5).await?, 5);
        assert_eq!(client.counter("c").get().await?, 5);
        let map = client.map("m");
        let mut watch = map.watch().await?;
        map.put("k", "v").await?;
        assert!(map.get("none").await.unwrap_err().is(Status::NotFound));
        assert_eq!(map.list().await?.len(), 1);
        assert_eq!(watch.next().await?.unwrap().key, "k");
        let wrong = Client::connect(options(&node.api)).await?;
        assert!(wrong.counter("c").get().await.is_err(), "another dialect is no success");
        Ok(())
    });
}

#[test]
fn a_command_keeps_its_number_however_often_it_is_asked() {
    let (api, log) = script::node(|_, before| match before {
        0 | 1 => Answer { messages: Vec::new(), end: Some(14) },
        _ => Answer { messages: vec![output(1, IncrementOutput { value: 7 })], end: Some(0) },
    });
    block_on(async {
        let client = Client::connect(alone(&api)).await?;
        assert_eq!(client.counter("c").increment(3).await?, 7);
        let asked = log.of::<IncrementRequest>("Increment");
        let numbers = asked.iter().map(|asked| asked.headers.unwrap().sequence_num);
        // The first number made the counter.
        assert_eq!(numbers.collect::<Vec<_>>(), [2, 2, 2]);
        assert_eq!(log.of::<OpenSessionRequest>("OpenSession").len(), 1);
        Ok(())
    });
}

#[test]
fn keep_alives_say_what_is_open_and_what_has_come() {
    let (api, log) = script::node(|_, _| Answer {
        messages: (1..4).map(|number| output(number, added("x"))).collect(),
        end: None,
    });
    block_on(async {
        let short = Options { session_timeout: Duration::from_millis(300), ..alone(&api) };
        let client = Client::connect(short).await?;
        let mut events = client.set("s").events().await?;
        for _ in 0..3 {
            assert!(events.next().await?.is_some());
        }
        let said = || log.of::<KeepAliveRequest>("KeepAlive").into_iter().filter_map(|k| k.input);
        let number = log.of::<EventsRequest>("Events")[0].headers.unwrap().sequence_num;
        until(|| said().any(|said| said.last_output_sequence_nums.get(&number) == Some(&3)));
        let last = said().last().unwrap();
        let open = Filter::parse(&last.input_filter).unwrap();
        assert!(open.contains(number) && !open.contains(1), "only the stream is open");
        assert_eq!((last.session_id, last.last_input_sequence_num), (1, number));
        // What was acknowledged is not said again, and a stream that nobody reads is not open.
        drop(events);
        until(|| said().any(|said| Filter::parse(&said.input_filter).unwrap().is_empty()));
        assert!(said().last().unwrap().last_output_sequence_nums.is_empty());
        Ok(())
    });
}

#[test]
fn events_come_once_and_in_order_and_a_gap_is_told() {
    let part = |numbers: &[u64], end| Answer {
        messages: numbers.iter().map(|n| output(*n, added(&n.to_string()))).collect(),
        end,
    };
    let (api, log) = script::node(move |_, before| match before {
        // Broken off; with some twice; with one missing, which the next connection has; with one
        // that no connection has.
        0 => part(&[1, 2], Some(14)),
        1 => part(&[1, 2, 3], Some(14)),
        2 => part(&[3, 5], None),
        3 => part(&[4, 5], Some(14)),
        _ => part(&[7], None),
    });
    block_on(async {
        let client = Client::connect(alone(&api)).await?;
        let mut events = client.set("s").events().await?;
        for number in 1..6 {
            let Some(Member::Added(element)) = events.next().await? else { panic!("no event") };
            assert_eq!(element, number.to_string());
        }
        assert_eq!(events.next().await, Err(Fault::Gap));
        assert_eq!(events.next().await, Ok(None));
        let asked = log.of::<EventsRequest>("Events");
        assert_eq!(asked.len(), 6);
        assert!(asked.iter().all(|again| again == &asked[0]), "the same number each time");
        Ok(())
    });
}

fn added(element: &str) -> EventsOutput {
    let element = Some(Element { value: element.to_owned() });
    let event = Some(event::Event::Added(event::Added { element }));
    EventsOutput { event: Some(Event { event }) }
}

fn alone(api: &str) -> Options {
    Options { partitions: [1].into(), ..options(api) }
}

fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {SOON:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn options(api: &str) -> Options {
    Options { patience: SOON, partitions: [1, 2, 3].into(), ..Options::to([api]) }
}

async fn connect(api: &str) -> Client {
    Client::connect(options(api)).await.expect("a client")
}

/// Runs what may fail with no runtime at all.
fn block_on(work: impl Future<Output = Result<(), Fault>>) {
    futures_lite::future::block_on(work).unwrap();
}
