//! A node started as the Atomix controller starts the reference's: by a JSON file and four flags,
//! probed by TCP, told its groups over the released dialect, and told again after each restart.
//!
//! The messages are those of the released dialect, sent by tonic. A host that cannot run a node
//! says so and passes (`harness`).
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::caller::{Answer, Caller, Heard, Result_, Session, next};
use harness::{Ended, Node};
use ringraft::wire::proto::counter;
use ringraft::wire::proto::v1::{
    BootstrapResponse, CreatePrimitiveInput, CreatePrimitiveOutput, OpenSessionInput,
    OpenSessionRequest, OpenSessionResponse, PartitionRequestHeaders, PrimitiveSpec, WatchRequest,
};
use ringraft::wire::released::atomix::multiraft::v1 as released;
use tonic::Code;

const HOST: &str = "store-0.store-hs.default.svc.cluster.local";

#[tokio::test]
async fn a_controller_starts_it_where_it_started_the_reference() {
    if !harness::possible() {
        return;
    }
    let dir = harness::data_dir();
    let data = write_config(dir.path());
    let node = start(dir.path()).unwrap();
    assert!(data.join("identity").exists(), "the JSON says where the data are");
    let banner = node.banner.join("\n");
    for words in ["node 1 in place of Atomix's", "(released)", HOST, "waiting for Node.Bootstrap"] {
        assert!(banner.contains(words), "no {words:?} in\n{banner}");
    }
    // Probes connect to the raft port while there is no group.
    drop(harness::dial(&local(&node.peer)));
    let caller = Caller::to(&local(&node.api)).await;
    let status = caller.unary::<_, OpenSessionResponse>(OPEN, open(1)).await;
    assert_eq!(status.expect_err("no group yet").code(), Code::PermissionDenied);

    // A store with more pods than members counts members from 1 in each group.
    for (group, member) in GROUPS {
        bootstrap(&caller, group, member, HOST).await.expect("founded");
        bootstrap(&caller, group, member, HOST).await.expect("founded already");
        assert_eq!(increment(&caller, group).await, 5);
    }
    heard_of_leaders(&caller).await;
    let status = bootstrap(&caller, 1, 2, HOST).await.expect_err("another member is here");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = bootstrap(&caller, 1, 1, "elsewhere").await.expect_err("other members");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    node.kill();

    // Other pace, as after a change of the store's resource.
    let file = fs::read_to_string(dir.path().join("raft.json")).unwrap();
    let file = file.replace("\"heartbeat_period\":100000000", "\"heartbeatPeriod\":\"200ms\"");
    fs::write(dir.path().join("raft.json"), file).unwrap();
    let node = start(dir.path()).unwrap();
    let caller = Caller::to(&local(&node.api)).await;
    for (group, member) in GROUPS {
        bootstrap(&caller, group, member, HOST).await.expect("it is here");
        assert_eq!(read(&caller, group).await, 5);
        assert_eq!(increment(&caller, group).await, 10);
    }
    heard_of_leaders(&caller).await;
    let (status, ..) = node.end_with("TERM", Duration::from_secs(20));
    assert!(status.success());
}

/// A store of three pods, each with a member of the one group, as the controller makes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_three_pods_outlives_one_of_them() {
    if !harness::possible() {
        return;
    }
    let dir = harness::data_dir();
    let home = |pod: usize| dir.path().join(pod.to_string());
    let mut pods = Vec::new();
    for pod in 0..3 {
        write_config(&home(pod));
        let node = start_pod(&home(pod), pod, "0", "0").unwrap();
        assert!(node.banner[0].contains(&format!("node {} in", pod + 1)), "{:?}", node.banner);
        pods.push(Some(node));
    }
    let places: Vec<(String, String)> =
        pods.iter().flatten().map(|node| (local(&node.api), local(&node.peer))).collect();
    let members = || {
        let member = |(member_id, (_, peer)): (u32, &(String, String))| {
            let (host, port) = peer.rsplit_once(':').unwrap();
            let (host, port) = (host.to_owned(), port.parse::<i32>().unwrap());
            released::MemberConfig { member_id, host, port }
        };
        (1..).zip(&places).map(member).collect::<Vec<_>>()
    };
    for (member, (api, _)) in (1..).zip(&places) {
        let caller = Caller::to(api).await;
        bootstrap_with(&caller, 1, member, members()).await.expect("founded");
    }
    let first = Caller::to(&places[0].0).await;
    assert_eq!(increment(&first, 1).await, 5);

    // A container that ends is started again in its pod and told of its groups again.
    pods[2].take().unwrap().kill();
    assert_eq!(increment(&first, 1).await, 10);
    let (api, peer) = (port_of(&places[2].0), port_of(&places[2].1));
    pods[2] = Some(start_pod(&home(2), 2, api, peer).unwrap());
    let third = Caller::to(&places[2].0).await;
    bootstrap_with(&third, 1, 3, members()).await.expect("it is here");
    let status = bootstrap_with(&third, 2, 1, members()).await.expect_err("pod 2 is node 3");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    pods[0].take().unwrap().kill();
    assert_eq!(increment(&third, 1).await, 15);
    assert_eq!(read(&third, 1).await, 15);
}

#[test]
fn what_cannot_be_is_said_in_one_line_before_anything_is_touched() {
    let dir = harness::data_dir();
    let file = |text: &str| fs::write(dir.path().join("raft.json"), text).unwrap();
    let ended = |what: &str| {
        let ended = start(dir.path()).err().unwrap_or_else(|| panic!("{what}: it started"));
        let line = ended.stderr.lines().next().unwrap_or_default().to_owned();
        (ended.status, line)
    };
    let (status, line) = ended("no file");
    assert_eq!(status, Some(3), "{line}");
    assert!(line.contains("raft.json: No such file"), "{line}");
    for (text, words) in [
        ("{\n\"datadir\": \"/tmp\"}", "raft.json, line 2: unknown field \"datadir\""),
        ("{\"heartbeat_period\":\"100us\"}", "line 1: heartbeat_period: below 1ms"),
        ("{\"election_timeout\":\"500ms\"}", "line 1: election_timeout: must be at least three"),
        ("heartbeat_period: 1s\n", "line 1: expected value"),
    ] {
        file(text);
        let (status, line) = ended(text);
        assert_eq!(status, Some(3), "{line}");
        assert!(line.starts_with("ringraft: ") && line.contains(words), "{line}");
    }
    assert!(!dir.path().join("data").exists());
}

/// Groups, and which member of each is here.
const GROUPS: [(u32, u32); 2] = [(1, 1), (2, 3)];
const OPEN: &str = "/atomix.multiraft.v1.Partition/OpenSession";

/// As the controller writes it, and where the data are to be.
fn write_config(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    fs::create_dir_all(dir).unwrap();
    let file = format!(
        "{{\"heartbeat_period\":100000000,\"election_timeout\":1000000000,\
         \"snapshot_entry_threshold\":10000,\"compaction_retain_entries\":1000,\
         \"data_dir\":\"{}\"}}",
        data.display()
    );
    fs::write(dir.join("raft.json"), file).unwrap();
    data
}

fn start(dir: &Path) -> Result<Node, Ended> {
    start_pod(dir, 0, "0", "0")
}

fn start_pod(dir: &Path, pod: usize, api: &str, raft: &str) -> Result<Node, Ended> {
    let config = dir.join("raft.json").display().to_string();
    let host = HOST.replace("store-0", &format!("store-{pod}"));
    let place = ["--config", &config, "--api-port", api, "--raft-host", &host, "--raft-port", raft];
    // One core, so that a small disk will do.
    let flags = [&["serve"][..], &place, &["--shards", "1"]].concat();
    Node::run(&flags.into_iter().map(str::to_owned).collect::<Vec<_>>())
}

fn port_of(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

/// Where it can be reached from here: it listens on all interfaces.
fn local(address: &str) -> String {
    let port = port_of(address);
    assert!(["[::]", "0.0.0.0"].iter().any(|all| address.starts_with(all)), "{address}");
    format!("127.0.0.1:{port}")
}

async fn bootstrap(
    caller: &Caller,
    group_id: u32,
    member_id: u32,
    host: &str,
) -> Result<(), tonic::Status> {
    let host = host.to_owned();
    let members = vec![released::MemberConfig { member_id, host, port: 5679 }];
    bootstrap_with(caller, group_id, member_id, members).await
}

async fn bootstrap_with(
    caller: &Caller,
    group_id: u32,
    member_id: u32,
    members: Vec<released::MemberConfig>,
) -> Result<(), tonic::Status> {
    let role = released::MemberRole::Member.into();
    let group = Some(released::GroupConfig { group_id, member_id, role, members });
    let request = released::BootstrapRequest { group };
    let path = "/atomix.multiraft.v1.Node/Bootstrap";
    caller.unary::<_, BootstrapResponse>(path, request).await.map(drop)
}

/// The controller learns from `Node.Watch` who leads and which members are ready.
async fn heard_of_leaders(caller: &Caller) {
    use released::event::Event as On;
    let path = "/atomix.multiraft.v1.Node/Watch";
    let mut heard: Heard<released::Event> = caller.stream(path, WatchRequest {});
    let (mut leaders, mut ready) = (Vec::new(), Vec::new());
    while leaders.len() < GROUPS.len() || ready.len() < GROUPS.len() {
        let event = next(&mut heard).await.expect("no error").expect("it goes on").event;
        match event.expect("an event") {
            On::LeaderUpdated(updated) if updated.leader != 0 => {
                let member = updated.member.expect("whose");
                assert_eq!(member.member_id, updated.leader, "it leads itself");
                leaders.push((member.group_id, member.member_id as u32));
            }
            On::MemberReady(is) => {
                let member = is.member.expect("whose");
                ready.push((member.group_id, member.member_id as u32));
            }
            _ => {}
        }
    }
    leaders.sort_unstable();
    ready.sort_unstable();
    assert_eq!((&leaders[..], &ready[..]), (&GROUPS[..], &GROUPS[..]));
}

fn open(partition_id: u32) -> OpenSessionRequest {
    let headers = Some(PartitionRequestHeaders { partition_id });
    OpenSessionRequest { headers, input: Some(OpenSessionInput::default()) }
}

/// The counter of a group and a session that has it open.
async fn counter_of(caller: &Caller, group: u32) -> (Session, u64) {
    let mut session = caller.open(group, Duration::from_secs(60)).await;
    let (service, name) = ("atomix.runtime.counter.v1.Counter".to_owned(), "visits".to_owned());
    let spec = Some(PrimitiveSpec { service, namespace: "default".to_owned(), name });
    let number = session.next();
    let order = session.order(0, number, CreatePrimitiveInput { spec });
    let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
    let made: Result_<CreatePrimitiveOutput> =
        session.caller.unary(path, order).await.expect("an answer").into_inner();
    let id = made.body.expect("an output").primitive_id;
    (session, id)
}

async fn increment(caller: &Caller, group: u32) -> i64 {
    let (mut session, id) = counter_of(caller, group).await;
    let number = session.next();
    let order = session.order(id, number, counter::v1::IncrementInput { delta: 5 });
    let path = "/atomix.multiraft.counter.v1.Counter/Increment";
    let answer: Result_<counter::v1::IncrementOutput> =
        session.caller.unary(path, order).await.expect("an answer").into_inner();
    let head = answer.headers.and_then(|head| head.operation).expect("headers");
    assert_eq!(head.status, 0, "OK in the released dialect");
    answer.body.expect("an output").value
}

async fn read(caller: &Caller, group: u32) -> i64 {
    let (session, id) = counter_of(caller, group).await;
    let question = session.question(id, counter::v1::GetInput {});
    let path = "/atomix.multiraft.counter.v1.Counter/Get";
    let answer: Answer<counter::v1::GetOutput> =
        session.caller.unary(path, question).await.expect("an answer").into_inner();
    let head = answer.headers.and_then(|head| head.operation).expect("headers");
    assert_eq!(head.status, 0, "OK in the released dialect");
    answer.body.expect("an output").value
}
