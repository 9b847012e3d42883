//! Calls through a node that does not lead, while ways and nodes fail.

use std::time::{Duration, Instant};

use ringraft::wire::proto::{lock, map};

use crate::group::{Nodes, is_unavailable};
use crate::harness::caller::{Order, Result_, SOON, Session, next};
use crate::harness::calls::{
    EventStream, acquire, add, event, first_event, get, map_get, put, release,
};
use crate::harness::{possible, send};
use crate::proxy::Proxy;

const COUNTER: &str = "atomix.runtime.counter.v1.Counter";
const MAP: &str = "atomix.runtime.map.v1.Map";
const LOCK: &str = "atomix.runtime.lock.v1.Lock";

/// The same session, at another node.
async fn at(nodes: &Nodes, session: &Session, node: usize) -> Session {
    Session { caller: nodes.caller(node).await, ..session.clone() }
}

fn events(session: &Session, id: u64, number: u64) -> EventStream {
    let order = session.order(id, number, map::v1::EventsInput::default());
    session.caller.stream("/atomix.multiraft.map.v1.Map/Events", order)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_any_call_whatever_its_cores() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::start(&[1, 2, 3]);
    nodes.found(4, |_, other| other.peer.clone()).await;
    for partition in 1..=4 {
        let mut session = nodes.session(0, partition).await;
        let counter = session.create(COUNTER, "c").await;
        let table = session.create(MAP, "m").await;
        for node in 0..3 {
            // Until its links are there it says that it is unavailable.
            session.caller = nodes.caller(node).await;
            let input = map::v1::ClearInput {};
            let path = "/atomix.multiraft.map.v1.Map/Clear";
            let _: map::v1::ClearOutput = session.insist(table, path, input).await;
        }
        for round in 1..=6 {
            let caller = nodes.caller(round as usize % 3).await;
            session.caller = caller;
            assert_eq!(add(&mut session, counter, 1).await, Ok(round));
            put(&mut session, table, "k", &round.to_string(), None).await;
            session.caller = nodes.caller((round as usize + 1) % 3).await;
            assert_eq!(get(&mut session, counter).await, round);
            let value = map_get(&mut session, table, "k").await.expect("it was put");
            assert_eq!(value.value, round.to_string());
        }
        // What is refused is refused alike, wherever it is asked.
        let mut strange = session.clone();
        strange.id += 1_000_000;
        let mut answers = Vec::new();
        for node in 0..3 {
            strange.caller = nodes.caller(node).await;
            let input = ringraft::wire::proto::counter::v1::IncrementInput { delta: 1 };
            let order = strange.order(counter, 1, input);
            let status = crate::harness::calls::increment(&strange, order).await;
            let status = status.expect_err("no such session");
            answers.push((status.code(), status.message().to_owned()));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    for place in &nodes.places {
        assert!(place.heard.count(&["no link"]) <= 12, "links that nobody needs do not flap");
    }
    // A follower that ends and comes back is linked again at once, and nobody tells stories.
    let leader = nodes.leader(1).await;
    let follower = (leader + 1) % 3;
    nodes.places[follower].kill();
    let before = nodes.places[leader].heard.count(&["no link"]);
    nodes.places[follower].start();
    let began = Instant::now();
    let mut session = nodes.session(follower, 1).await;
    session.create(COUNTER, "again").await;
    eprintln!("a call through the follower after {:?}", began.elapsed());
    let after = nodes.places[leader].heard.count(&["no link"]);
    assert!(after - before <= 6, "{} lines for one restart", after - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_through_a_follower_ends_with_the_leader_and_goes_on_at_the_next() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::start(&[1, 1, 1]);
    nodes.found(1, |_, other| other.peer.clone()).await;
    let leader = nodes.leader(1).await;
    let follower = (leader + 1) % 3;
    let mut session = nodes.session(follower, 1).await;
    let table = session.create(MAP, "m").await;
    let number = session.next();
    let mut stream = events(&session, table, number);
    let (first, _) = first_event(&mut session, table, &mut stream).await;
    assert_eq!(first, 1);
    for key in ["x", "y", "z"] {
        put(&mut session, table, key, "1", None).await;
    }
    let mut heard = Vec::new();
    while heard.last().is_none_or(|(_, key)| key != "z") {
        heard.push(event(&mut stream).await);
    }
    let held = acquire_pending(&nodes, &mut session, follower).await;
    nodes.places[leader].kill();
    let began = Instant::now();
    let ended = next(&mut stream).await;
    assert!(is_unavailable(&ended), "{ended:?}");
    eprintln!("the stream ended after {:?}", began.elapsed());
    let waited = tokio::time::timeout(SOON, held).await.unwrap().unwrap();
    assert!(is_unavailable(&waited), "{waited:?}");
    let successor = nodes.leader(1).await;
    let via = (0..3).find(|node| *node != leader && *node != successor).unwrap();
    let mut session = at(&nodes, &session, via).await;
    put(&mut session, table, "last", "1", None).await;
    // The same number again: what it missed, and nothing twice that was finished.
    let mut stream = events(&session, table, number);
    let mut again = Vec::new();
    while again.last().is_none_or(|(_, key)| key != "last") {
        again.push(event(&mut stream).await);
    }
    let numbers: Vec<u64> = again.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "none missing or twice");
    assert_eq!(again[1..=heard.len()], heard[..], "what was heard is what is replayed");
}

/// A lock's waiter through a follower: a command that stays pending.
async fn acquire_pending(
    nodes: &Nodes,
    session: &mut Session,
    follower: usize,
) -> tokio::task::JoinHandle<Result<(), tonic::Status>> {
    let id = session.create(LOCK, "l").await;
    acquire(session, id, None).await.expect("it is free");
    let mut second = nodes.session(follower, 1).await;
    let same = second.create(LOCK, "l").await;
    assert_eq!(same, id);
    let number = second.next();
    let order: Order<lock::v1::AcquireInput> =
        second.order(id, number, lock::v1::AcquireInput::default());
    tokio::spawn(async move {
        let path = "/atomix.multiraft.lock.v1.Lock/Acquire";
        let answer = second.caller.unary::<_, Result_<lock::v1::AcquireOutput>>(path, order);
        answer.await.map(drop)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_the_leader_does_not_hear_refuses_in_time() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[1, 1, 1]);
    // What each node sends to each other one goes through a proxy of its own.
    let ways: Vec<Vec<Proxy>> =
        (0..3).map(|_| nodes.places.iter().map(|other| Proxy::to(&other.peer)).collect()).collect();
    let at = |from: u32, to: u32| &ways[from as usize - 1][to as usize - 1];
    nodes.found(1, |place, other| at(place.id, other.id).address.clone()).await;
    let leader = nodes.leader(1).await;
    let follower = (leader + 1) % 3;
    let mut session = nodes.session(follower, 1).await;
    let counter = session.create(COUNTER, "c").await;
    assert_eq!(add(&mut session, counter, 1).await, Ok(1));
    let way = &ways[follower][leader];
    way.hole(true);
    let number = session.next();
    let began = Instant::now();
    let input = ringraft::wire::proto::counter::v1::IncrementInput { delta: 1 };
    let order = session.order(counter, number, input);
    let refused = crate::harness::calls::increment(&session, order.clone()).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    // An election timeout, and what a busy host adds.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(nodes.leader(1).await, leader, "the third node keeps it in office");
    let other = nodes.caller(leader).await;
    let there = Session { caller: other, ..session.clone() };
    let answer = crate::harness::calls::increment(&there, order.clone()).await.expect("it leads");
    assert_eq!(answer.body.expect("an output").value, 2);
    way.hole(false);
    let deadline = Instant::now() + SOON;
    let again = loop {
        let again = crate::harness::calls::increment(&session, order.clone()).await;
        if !is_unavailable(&again) {
            break again.expect("an answer");
        }
        assert!(Instant::now() < deadline, "the way carries again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(again.body.expect("an output").value, 2, "it counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_at_a_follower_reaches_the_leader() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[1, 1, 1]);
    nodes.found(1, |_, other| other.peer.clone()).await;
    let leader = nodes.leader(1).await;
    let mut session = nodes.session((leader + 1) % 3, 1).await;
    let id = session.create(LOCK, "l").await;
    acquire(&mut session, id, None).await.expect("it is free");
    // A deadline goes along: the waiter gives up at the leader, and the lock is not stuck.
    let waited = acquire(&mut session, id, Some(Duration::from_millis(200))).await;
    assert!(waited.is_err(), "{waited:?}");
    release(&mut session, id).await.expect("it was held");
    acquire(&mut session, id, None).await.expect("it is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_follower_costs_the_leader_little_and_comes_back() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(&[1, 1, 1]);
    nodes.found(1, |_, other| other.peer.clone()).await;
    let leader = nodes.leader(1).await;
    let follower = (leader + 1) % 3;
    let mut session = nodes.session(leader, 1).await;
    let table = session.create(MAP, "m").await;
    let pid = nodes.places[leader].pid();
    let value = "v".repeat(256 << 10);
    put(&mut session, table, "k", &value, None).await;
    let before = resident_mib(pid);
    send(nodes.places[follower].pid(), "STOP");
    let until = Instant::now() + Duration::from_secs(8);
    let mut sent = 0;
    while Instant::now() < until {
        put(&mut session, table, "k", &value, None).await;
        sent += 1;
    }
    let during = resident_mib(pid);
    send(nodes.places[follower].pid(), "CONT");
    eprintln!("{sent} values of 256 KiB, {before} MiB before and {during} MiB after");
    assert!(during < before + 1024, "from {before} to {during} MiB");
    let deadline = Instant::now() + SOON;
    let mut through = at(&nodes, &session, follower).await;
    loop {
        let question = through.question(table, map::v1::SizeInput::default());
        let path = "/atomix.multiraft.map.v1.Map/Size";
        type Size = crate::harness::caller::Answer<map::v1::SizeOutput>;
        let asked = through.caller.unary::<_, Size>(path, question).await;
        if asked.is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "it is not back: {asked:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was passed on over a link that ends now is to be sent again.
    let input = map::v1::PutInput { key: "k".to_owned(), ..map::v1::PutInput::default() };
    let _: map::v1::PutOutput =
        through.insist(table, "/atomix.multiraft.map.v1.Map/Put", input).await;
}

fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
