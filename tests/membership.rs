//! Members of a group that come and go, with real nodes over loopback.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ringraft::client::session::Body;
use ringraft::wire::proto::counter;
use ringraft::wire::proto::v1::member_config::Role;
use ringraft::wire::proto::v1::*;
use tonic::{Code, Status};

mod harness;

use harness::caller::{Caller, SOON, Session};
use harness::{Node, binary, data_dir, possible};

/// Nodes 1, 2, … with addresses of their own.
struct Nodes {
    dir: tempfile::TempDir,
    all: Vec<Option<Node>>,
    places: Vec<(String, String)>,
}

impl Nodes {
    /// So many nodes, of which the first three have a group.
    async fn with_three_of(count: u32) -> Nodes {
        Nodes::founded(count, [Role::Member; 3]).await
    }

    /// So many nodes, of which the first three have a group, in these parts.
    async fn founded(count: u32, parts: [Role; 3]) -> Nodes {
        let dir = data_dir();
        let mut nodes = Nodes { dir, all: Vec::new(), places: Vec::new() };
        for id in 1..=count {
            let listen = format!("127.0.0.{id}:0");
            let node = start(nodes.dir.path(), id, &listen, &listen);
            nodes.places.push((node.api.clone(), node.peer.clone()));
            nodes.all.push(Some(node));
        }
        let founders = [1, 2, 3].map(|id| nodes.member(id, parts[id as usize - 1]));
        for id in 1..=3 {
            let group = Some(GroupConfig { group_id: 1, members: founders.to_vec() });
            let request = BootstrapRequest { group };
            let _: BootstrapResponse = nodes.ask(id, "Bootstrap", request).await.expect("founded");
        }
        nodes
    }

    fn member(&self, id: u32, role: Role) -> MemberConfig {
        let (_, peer) = &self.places[id as usize - 1];
        let (host, port) = peer.rsplit_once(':').unwrap();
        let port = port.parse().unwrap();
        MemberConfig { node_id: id, host: host.to_owned(), port, role: role.into() }
    }

    async fn caller(&self, id: u32) -> Caller {
        Caller::to(&self.places[id as usize - 1].0).await
    }

    async fn ask<I, O>(&self, id: u32, method: &str, request: I) -> Result<O, Status>
    where
        I: prost::Message + 'static,
        O: prost::Message + Default + 'static,
    {
        let path = format!("/atomix.multiraft.v1.Node/{method}");
        let path: &'static str = Box::leak(path.into_boxed_str());
        self.caller(id).await.unary(path, request).await.map(tonic::Response::into_inner)
    }

    /// Node `id` joins, and knows only `other` of the group.
    async fn join(&self, id: u32, other: u32, role: Role) -> Result<JoinResponse, Status> {
        let members = vec![self.member(other, Role::Member), self.member(id, role)];
        let group = Some(GroupConfig { group_id: 1, members });
        self.ask(id, "Join", JoinRequest { group }).await
    }

    async fn leave(&self, id: u32) -> Result<LeaveResponse, Status> {
        self.ask(id, "Leave", LeaveRequest { group_id: 1 }).await
    }

    fn kill(&mut self, id: u32) {
        self.all[id as usize - 1].take().expect("it runs").kill();
    }

    fn restart(&mut self, id: u32) {
        let (api, peer) = self.places[id as usize - 1].clone();
        self.all[id as usize - 1] = Some(start(self.dir.path(), id, &api, &peer));
    }

    /// A session through node `id`, as soon as there is a leader.
    async fn session(&self, id: u32) -> Session {
        let caller = self.caller(id).await;
        let until = Instant::now() + SOON;
        loop {
            let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
            let request = OpenSessionRequest {
                headers: Some(PartitionRequestHeaders { partition_id: 1 }),
                input: Some(OpenSessionInput { timeout }),
            };
            let path = "/atomix.multiraft.v1.Partition/OpenSession";
            match caller.unary::<_, OpenSessionResponse>(path, request).await {
                Ok(response) => {
                    let id = response.into_inner().output.expect("an output").session_id;
                    return Session { caller, partition: 1, id, sequence: 0, index: id };
                }
                Err(status) if status.code() == Code::Unavailable && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => panic!("no session through node {id}: {status}"),
            }
        }
    }

    /// Adds one through node `id`, trying again as clients do.
    async fn add(&self, id: u32) -> i64 {
        let mut session = self.session(id).await;
        let (primitive, counter) = (PrimitiveSpec::default(), "atomix.runtime.counter.v1.Counter");
        let spec = PrimitiveSpec { service: counter.to_owned(), name: "c".to_owned(), ..primitive };
        let input = CreatePrimitiveInput { spec: Some(spec) };
        let path = "/atomix.multiraft.v1.Session/CreatePrimitive";
        let created: CreatePrimitiveOutput = command(&mut session, 0, path, input).await;
        let path = "/atomix.multiraft.counter.v1.Counter/Increment";
        let input = counter::v1::IncrementInput { delta: 1 };
        let output: counter::v1::IncrementOutput =
            command(&mut session, created.primitive_id, path, input).await;
        output.value
    }
}

/// A command, with the same number until it has its answer.
async fn command<I: Body + Clone + 'static, O: Body + 'static>(
    session: &mut Session,
    primitive: u64,
    path: &'static str,
    input: I,
) -> O {
    let (number, until) = (session.next(), Instant::now() + SOON);
    loop {
        match session.numbered(primitive, number, path, input.clone()).await {
            Ok(output) => return output.expect("it went well"),
            Err(status) if status.code() == Code::Unavailable && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(status) => panic!("{path}: {status}"),
        }
    }
}

fn start(dir: &Path, id: u32, api: &str, peer: &str) -> Node {
    let (path, id) = (dir.join(id.to_string()), id.to_string());
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("node.toml"), CONFIG).unwrap();
    let flags = ["--node-id", &id, "--listen", api, "--peer-listen", peer, "--partitions", "0"];
    Node::start(&path, &flags)
}

/// Logs are cut soon, and what is cut is not kept for those behind.
const CONFIG: &str =
    "[journal]\nsegment_bytes = 33554432\nsnapshot_entries = 16\nretain_entries = 0\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_and_counts_when_others_are_gone() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::with_three_of(5).await;
    assert_eq!(nodes.add(1).await, 1);
    nodes.join(4, 2, Role::Member).await.expect("admitted");
    nodes.join(4, 2, Role::Member).await.expect("what is so stays so");
    nodes.join(5, 4, Role::Member).await.expect("whoever belongs to the group may be asked");
    // Five vote: without two of the founders the others are a majority, from disk as well.
    nodes.kill(1);
    nodes.kill(2);
    assert_eq!(nodes.add(4).await, 2);
    for id in [3, 4, 5] {
        nodes.kill(id);
    }
    for id in [3, 4, 5] {
        nodes.restart(id);
    }
    assert_eq!(nodes.add(5).await, 3, "members and addresses are read back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_replaced_by_another() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::with_three_of(4).await;
    assert_eq!(nodes.add(1).await, 1);
    nodes.kill(3);
    nodes.join(4, 1, Role::Member).await.expect("a majority admits it");
    nodes.kill(2);
    // Two of four are no majority.
    let refused = nodes.leave(4).await.expect_err("nobody can let it go");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("start its other members"), "{refused}");
    nodes.restart(2);
    // What was asked may still come true, as after every UNAVAILABLE; the group goes on either way.
    assert_eq!(nodes.add(1).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_leave_until_one_is_left() {
    if !possible() {
        return;
    }
    let nodes = Nodes::with_three_of(4).await;
    assert_eq!(nodes.add(1).await, 1);
    nodes.join(4, 1, Role::Observer).await.expect("admitted");
    assert_eq!(nodes.add(4).await, 2, "an observer passes calls on");
    for (gone, value) in [(1, 3), (4, 4), (2, 5)] {
        nodes.leave(gone).await.unwrap_or_else(|status| panic!("node {gone}: {status}"));
        let again = nodes.leave(gone).await.expect_err("it is gone");
        assert_eq!(again.code(), Code::NotFound, "{again}");
        assert_eq!(nodes.add(3).await, value);
    }
    let back = nodes.join(1, 3, Role::Member).await.expect_err("its votes were counted");
    assert_eq!(back.code(), Code::FailedPrecondition, "{back}");
    nodes.leave(3).await.expect("the last one just leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_and_a_witness_outlive_either_member() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::founded(3, [Role::Member, Role::Member, Role::Witness]).await;
    assert_eq!(nodes.add(3).await, 1, "a witness passes calls on");
    // What comes through the other member has come to it as well.
    for value in 2..=4 {
        assert_eq!(nodes.add(2).await, value);
    }
    nodes.kill(1);
    assert_eq!(nodes.add(2).await, 5);
    nodes.kill(3);
    nodes.restart(3);
    for value in 6..=12 {
        assert_eq!(nodes.add(3).await, value, "it votes with what it has on disk");
    }
    nodes.restart(1);
    for value in 13..=15 {
        assert_eq!(nodes.add(1).await, value);
    }
    let node = nodes.all[1].take().expect("it runs");
    let (status, took, _) = node.end_with("TERM", Duration::from_secs(10));
    assert!(status.success(), "{status} after {took:?}");
    assert_eq!(nodes.add(3).await, 16, "the other member leads");
    nodes.kill(3);
    let data = nodes.dir.path().join("3").join("data").display().to_string();
    let dump = Command::new(binary()).args(["log", "dump", &data]).output().unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    assert!(dump.contains("complete") && dump.contains(" 0 slices"), "its log is cut: {dump}");
    assert!(!dump.contains("snapshot slice"), "it has no state: {dump}");
    nodes.restart(3);
    assert_eq!(nodes.add(1).await, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_joins_and_stays_one() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::with_three_of(5).await;
    for value in 1..=8 {
        assert_eq!(nodes.add(1).await, value);
    }
    nodes.join(4, 2, Role::Witness).await.expect("admitted");
    nodes.join(4, 2, Role::Witness).await.expect("what is so stays so");
    for part in [Role::Member, Role::Observer] {
        let other = nodes.join(4, 2, part).await.expect_err("it has no state");
        assert_eq!(other.code(), Code::FailedPrecondition, "{other}");
    }
    nodes.join(5, 4, Role::Observer).await.expect("a witness knows who leads");
    let other = nodes.join(5, 1, Role::Witness).await.expect_err("it has the state");
    assert_eq!(other.code(), Code::FailedPrecondition, "{other}");
    nodes.leave(1).await.expect("let go");
    for (through, value) in [(4, 9), (5, 10), (2, 11), (3, 12)] {
        assert_eq!(nodes.add(through).await, value);
    }
    for id in [4, 5] {
        nodes.kill(id);
        nodes.restart(id);
    }
    nodes.leave(3).await.expect("let go");
    assert_eq!(nodes.add(5).await, 13, "a member and a witness decide");
    let last = nodes.leave(2).await.expect_err("nobody else could lead");
    assert_eq!(last.code(), Code::FailedPrecondition, "{last}");
    nodes.leave(4).await.expect("let go");
    nodes.leave(5).await.expect("let go");
    nodes.leave(2).await.expect("the last one just leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_hands_over_first() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::with_three_of(3).await;
    let mut value = 0;
    for id in 1..=3 {
        value += 1;
        assert_eq!(nodes.add(id).await, value);
        let node = nodes.all[id as usize - 1].take().expect("it runs");
        let ended = node.end_with("TERM", Duration::from_secs(10));
        let began = Instant::now();
        value += 1;
        assert_eq!(nodes.add(id % 3 + 1).await, value);
        let stall = began.elapsed();
        eprintln!("node {id} ended in {:?}; the next command took {stall:?}", ended.1);
        nodes.restart(id);
    }
}
