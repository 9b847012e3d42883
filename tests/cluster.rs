//! Several real nodes over loopback: kill -9, pauses, restarts and cut links under load.
//!
//! What the clients saw is judged by the simulator's checker: linearizable, each command once,
//! nothing acknowledged lost, locks never held twice, events 1, 2, 3 and so on without gaps.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringraft::cli::cluster::look::look;
use ringraft::client::Fault;
use ringraft::client::connection::{Method, Network};
use ringraft::wire::proto::v1::*;
use tokio::time::{sleep, timeout};

#[path = "cluster/data.rs"]
mod data;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/proxy.rs"]
mod proxy;
#[path = "cluster/seats.rs"]
mod seats;

mod harness;

use harness::caller::{Caller, SOON};
use harness::{Node, data_dir, ports, possible, send};
use load::{Book, Load, Person};
use proxy::Proxies;
use seats::Cluster;

/// Leaders and followers of three are killed in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_survive_kills() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::of(3).await;
    let load = Load::start(&cluster.apis, 4).await;
    for round in 0..6 {
        load.progress(10).await;
        let leader = cluster.leader().await;
        let victim = if round % 3 == 2 { leader % 3 + 1 } else { leader };
        let began = Instant::now();
        cluster.kill(victim);
        load.healed(5).await;
        eprintln!("node {victim} killed, leader {leader}: on after {:?}", began.elapsed());
        cluster.run(victim);
        cluster.whole().await;
    }
    load.finish().await;
}

/// Two of five are killed at once, or stand still, the leader among them; then each ends in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_survive_two() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::of(5).await;
    let load = Load::start(&cluster.apis, 4).await;
    for round in 0..2 {
        load.progress(5).await;
        let leader = cluster.leader().await;
        let other = (leader + round) % 5 + 1;
        cluster.kill(leader);
        cluster.kill(other);
        load.progress(5).await;
        cluster.run(leader);
        cluster.run(other);
        load.healed(5).await;
        cluster.whole().await;
        let leader = cluster.leader().await;
        let both = [leader, cluster.next(leader)];
        for id in both {
            send(cluster.pid(id), "STOP");
        }
        load.progress(5).await;
        assert!(!both.contains(&cluster.leader().await), "who stands still does not lead");
        for id in both {
            send(cluster.pid(id), "CONT");
        }
        load.healed(5).await;
        cluster.whole().await;
    }
    for id in 1..=5 {
        tokio::task::block_in_place(|| cluster.place_mut(id).end());
        load.healed(3).await;
        cluster.run(id);
    }
    cluster.whole().await;
    load.finish().await;
}

/// A leader and another one of five are cut off: the three go on, and the two follow when they are
/// back. Then one more is cut off from each half, and nobody goes on until that ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_in_two_halves_have_one_leader() {
    if !possible() {
        return;
    }
    let proxies = Proxies::new();
    let cluster = Cluster::behind(&proxies, 5).await;
    let load = Load::start(&cluster.apis, 4).await;
    for _ in 0..2 {
        load.progress(5).await;
        let leader = cluster.leader().await;
        let few = [leader, cluster.next(leader)];
        let many: Vec<u32> = (1..=5).filter(|id| !few.contains(id)).collect();
        let ways = |from: &[u32], to: &[u32]| -> Vec<(u32, u32)> {
            from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))).collect()
        };
        proxies.cut(ways(&few, &many));
        proxies.cut(ways(&many, &few));
        load.progress(5).await;
        // The three are split as well: no majority is left, and nothing is acknowledged.
        proxies.cut(ways(&many[..1], &many[1..]));
        proxies.cut(ways(&many[1..], &many[..1]));
        load.stalls().await;
        proxies.mend();
        load.healed(5).await;
        cluster.whole().await;
    }
    load.finish().await;
}

/// A leader that is stopped for longer than an election is none any more when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_is_replaced_and_answers_nothing_stale() {
    if !possible() {
        return;
    }
    let cluster = Cluster::of(3).await;
    let load = Load::start(&cluster.apis, 4).await;
    for _ in 0..3 {
        load.progress(5).await;
        let leader = cluster.leader().await;
        send(cluster.pid(leader), "STOP");
        let began = Instant::now();
        load.progress(5).await;
        eprintln!("node {leader} stopped: on after {:?}", began.elapsed());
        assert_ne!(cluster.leader().await, leader);
        send(cluster.pid(leader), "CONT");
        load.healed(5).await;
        cluster.whole().await;
    }
    load.finish().await;
}

/// A keep-alive that lay at a paused node while its session expired does not bring it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_keep_alive_wakes_nobody() {
    if !possible() {
        return;
    }
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let book = Book::new();
    let person = Person::open(&book, &cluster.apis, 0, Duration::from_secs(1)).await;
    send(cluster.pid(leader), "STOP");
    let paused = Network::of(&[cluster.apis[leader as usize - 1].clone()]);
    let id = person.session;
    let late = tokio::spawn(async move { keep_alive(&paused, 0, id).await });
    let others: Vec<String> = cluster
        .apis
        .iter()
        .filter(|api| **api != cluster.apis[leader as usize - 1])
        .cloned()
        .collect();
    let others = Network::of(&others);
    let until = Instant::now() + SOON;
    while !expired(&others, id).await {
        assert!(Instant::now() < until, "the session does not expire");
        sleep(Duration::from_millis(50)).await;
    }
    send(cluster.pid(leader), "CONT");
    let heard = timeout(SOON, late).await.expect("an answer").expect("no panic");
    assert!(heard.is_err(), "a session that is over was kept alive");
    assert!(keep_alive(&others, 0, id).await.is_err(), "a session that is over came back");
}

/// One after another is stopped as an operator does it, and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::of(3).await;
    let load = Load::start(&cluster.apis, 4).await;
    for id in [1, 2, 3] {
        load.progress(5).await;
        tokio::task::block_in_place(|| cluster.place_mut(id).end());
        load.progress(5).await;
        cluster.run(id);
        cluster.whole().await;
    }
    load.finish().await;
}

/// The leader hears nobody, then is heard by nobody, then both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_links_lose_nothing() {
    if !possible() {
        return;
    }
    let proxies = Proxies::new();
    let cluster = Cluster::behind(&proxies, 3).await;
    let load = Load::start(&cluster.apis, 4).await;
    for (hears, speaks) in [(false, true), (true, false), (false, false)] {
        load.progress(5).await;
        let leader = cluster.leader().await;
        let others: Vec<u32> = (1..=3).filter(|id| *id != leader).collect();
        if !hears {
            proxies.cut(others.iter().map(|other| (*other, leader)));
        }
        if !speaks {
            proxies.cut(others.iter().map(|other| (leader, *other)));
        }
        let began = Instant::now();
        // The others have another leader as soon as this one is silent or knows that it is deaf.
        load.progress(5).await;
        eprintln!("hears {hears}, speaks {speaks}: on after {:?}", began.elapsed());
        proxies.mend();
        load.healed(5).await;
    }
    cluster.whole().await;
    load.finish().await;
}

/// A node without a replica serves the group like any other, whoever leads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_replica_serves_too() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::with(4, 3).await;
    let stranger = cluster.apis[3].clone();
    let load = Load::start(&[stranger], 4).await;
    for _ in 0..2 {
        load.progress(15).await;
        let leader = cluster.leader().await;
        assert_ne!(leader, 4, "it has no replica");
        cluster.kill(leader);
        load.progress(5).await;
        cluster.run(leader);
        cluster.whole().await;
    }
    load.finish().await;
}

/// The documented way: nodes that have nothing, and `Node.Bootstrap` on each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_founded_by_bootstrap_too() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let start = |id: u32| {
        let (path, id) = (dir.path().join(id.to_string()), id.to_string());
        let listen = format!("127.0.0.{id}:0");
        let flags = ["--node-id", &id, "--listen", &listen, "--peer-listen", &listen];
        Node::start(&path, &[&flags[..], &["--partitions", "0"]].concat())
    };
    let nodes: Vec<Node> = (1..=3).map(start).collect();
    let member = |(node, node_id): (&Node, u32)| {
        let (host, port) = node.peer.rsplit_once(':').unwrap();
        let (host, port) = (host.to_owned(), port.parse::<i32>().unwrap());
        MemberConfig { node_id, host, port, role: member_config::Role::Member.into() }
    };
    let members = nodes.iter().zip(1..).map(member).collect();
    let request = BootstrapRequest { group: Some(GroupConfig { group_id: 1, members }) };
    for node in nodes.iter().chain(&nodes) {
        let path = "/atomix.multiraft.v1.Node/Bootstrap";
        let caller = Caller::to(&node.api).await;
        let _: tonic::Response<BootstrapResponse> =
            caller.unary(path, request.clone()).await.expect("founded, or there already");
    }
    let apis: Vec<String> = nodes.iter().map(|node| node.api.clone()).collect();
    let load = Load::start(&apis, 3).await;
    load.progress(45).await;
    // Each node says where the others' clients come in, though their ports differ.
    let view = look(&apis[..1], SOON).await;
    assert_eq!(view.nodes.keys().cloned().collect::<Vec<_>>(), apis, "{}", view.table());
    load.finish().await;
}

/// What the command line prints, and its exit status.
fn ringraft(words: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(harness::binary()).args(words).output().unwrap();
    let text = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    (done.status.code(), text)
}

#[test]
fn the_command_line_founds_a_cluster() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let start = |id: u32| {
        let (path, id) = (dir.path().join(id.to_string()), id.to_string());
        let listen = format!("127.0.0.{id}:0");
        let flags = ["--node-id", &id, "--listen", &listen, "--peer-listen", &listen];
        Node::start(&path, &[&flags[..], &["--partitions", "0"]].concat())
    };
    let nodes: Vec<Node> = (1..=3).map(start).collect();
    let seat = |(id, node): (u32, &Node)| {
        format!("{id}={}/{}", node.peer, node.api.rsplit_once(':').unwrap().1)
    };
    let seats: Vec<String> = (1..).zip(&nodes).map(seat).collect();
    let seats = seats.join(",");
    for _ in 0..2 {
        let words = ["cluster", "init", "--nodes", &seats, "--partitions", "3", "--replicas", "2"];
        let (status, text) = ringraft(&words);
        assert_eq!(status, Some(0), "{text}");
        assert_eq!(text, "3 partitions, 2 replicas each, on 3 nodes\n");
    }
    let until = Instant::now() + SOON;
    loop {
        let (status, text) =
            ringraft(&["cluster", "status", "--json", "--endpoint", &nodes[1].api]);
        let works = text.matches("\"works\":true").count();
        if (status, works) == (Some(0), 3) {
            break;
        }
        assert!(Instant::now() < until, "{status:?}: {text}");
    }
    let twice = ["cluster", "init", "--nodes", "1=h:1,1=h:2"];
    assert_eq!(ringraft(&twice).0, Some(2));
}

#[test]
fn a_demo_runs_three_nodes_and_ends_cleanly() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let port = ports::spaced("127.0.0.1", &[0, 1, 10, 11, 20, 21]).port().to_string();
    let mut demo = Command::new(harness::binary())
        .args(["demo", "--port", &port, "--partitions", "3", "--data-dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = harness::lines(demo.stdout.take().unwrap());
    let mut works = 0;
    while works < 3 {
        let line = lines.recv_timeout(SOON).expect("three partitions that work");
        works = if line.starts_with("NODE") { 0 } else { works };
        works += usize::from(line.ends_with("works"));
    }
    let endpoint = format!("127.0.0.1:{port}");
    assert_eq!(
        ringraft(&["counter", "incr", "c", "--endpoint", &endpoint]),
        (Some(0), "1\n".into())
    );
    send(demo.id(), "INT");
    assert!(harness::wait(&mut demo, SOON).success());
    let gone = ringraft(&["cluster", "status", "--timeout", "200ms", "--endpoint", &endpoint]);
    assert_eq!(gone.0, Some(9), "{}", gone.1);
}

async fn keep_alive(network: &Network, at: usize, session_id: u64) -> Result<(), Fault> {
    let input = KeepAliveInput { session_id, ..KeepAliveInput::default() };
    let headers = Some(PartitionRequestHeaders { partition_id: 1 });
    let request = KeepAliveRequest { headers, input: Some(input) };
    let how: Method<_, KeepAliveResponse> = Method::at("/atomix.multiraft.v1.Partition/KeepAlive");
    network.unary(at, &how, &request).await.map(drop)
}

/// Whether the session is gone, by a command in it, which keeps nobody alive.
async fn expired(network: &Network, session_id: u64) -> bool {
    let partition = Some(PartitionRequestHeaders { partition_id: 1 });
    let session = Some(SessionRequestHeaders { partition, session_id });
    let head = OperationRequestHeaders {
        session: Some(PrimitiveRequestHeaders { session, primitive_id: 0 }),
    };
    let request = GetRequest {
        headers: Some(QueryRequestHeaders { operation: Some(head), max_received_index: 0 }),
        body: Some(ringraft::wire::proto::counter::v1::GetInput {}),
    };
    let how: Method<_, GetResponse> = Method::at("/atomix.multiraft.counter.v1.Counter/Get");
    for at in 0..network.count() {
        let asked = timeout(Duration::from_millis(500), network.unary(at, &how, &request)).await;
        if let Ok(Err(Fault::Status { code: PERMISSION_DENIED, .. })) = asked {
            return true;
        }
    }
    false
}

type GetRequest = ringraft::client::session::Envelope<
    QueryRequestHeaders,
    ringraft::wire::proto::counter::v1::GetInput,
>;
type GetResponse = ringraft::client::session::Envelope<
    QueryResponseHeaders,
    ringraft::wire::proto::counter::v1::GetOutput,
>;
const PERMISSION_DENIED: u32 = 7;
