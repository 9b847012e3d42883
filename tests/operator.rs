//! What an operator does to a cluster of real nodes, with the command line: members that come and
//! go, leaders that move, and what nodes know that have no replica.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ringraft::wire::cluster::{DescribePartitionRequest, DescribePartitionResponse};
use ringraft::wire::proto::v1::{
    self, PartitionEvent, WatchPartitionRequest, partition_event::Event,
};
use tonic::Code;

use harness::caller::{Caller, SOON, next};
use harness::{Node, binary, data_dir, possible};

/// Nodes 1, 2, … that run.
struct Nodes {
    dir: tempfile::TempDir,
    all: Vec<Option<Node>>,
}

impl Nodes {
    fn start(count: u32) -> Nodes {
        let dir = data_dir();
        let all = (1..=count).map(|id| Some(start(dir.path(), id))).collect();
        Nodes { dir, all }
    }

    fn node(&self, id: u32) -> &Node {
        self.all[id as usize - 1].as_ref().expect("it runs")
    }

    fn api(&self, id: u32) -> &str {
        &self.node(id).api
    }

    /// As `cluster` is told where a node is.
    fn place(&self, id: u32) -> String {
        let (_, port) = self.api(id).rsplit_once(':').unwrap();
        format!("{id}={}/{port}", self.node(id).peer)
    }

    fn places(&self, ids: &[u32]) -> String {
        let all: Vec<String> = ids.iter().map(|id| self.place(*id)).collect();
        all.join(",")
    }

    fn kill(&mut self, id: u32) {
        self.all[id as usize - 1].take().expect("it runs").kill();
    }

    /// Types a line at node `id`.
    fn typed(&self, id: u32, line: &str) -> Said {
        let mut command = Command::new(binary());
        command.args(line.split(' ')).env("RINGRAFT_ENDPOINT", self.api(id));
        Said::of(command.stdin(Stdio::null()).output().unwrap())
    }

    /// Types it until it is done; for what waits for a leader or for links.
    fn typed_until(&self, id: u32, line: &str, done: impl Fn(&Said) -> bool) -> Said {
        let until = Instant::now() + SOON;
        loop {
            let said = self.typed(id, line);
            if done(&said) {
                return said;
            }
            assert!(Instant::now() < until, "{said:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// These nodes found a group.
    async fn found(&self, group_id: u32, ids: &[u32]) {
        let member = |id: &u32| {
            let (host, port) = self.node(*id).peer.rsplit_once(':').unwrap();
            let (host, port) = (host.to_owned(), port.parse().unwrap());
            v1::MemberConfig { node_id: *id, host, port, role: 0 }
        };
        let members: Vec<v1::MemberConfig> = ids.iter().map(member).collect();
        for id in ids {
            let group = Some(v1::GroupConfig { group_id, members: members.clone() });
            let path = "/atomix.multiraft.v1.Node/Bootstrap";
            let request = v1::BootstrapRequest { group };
            let caller = Caller::to(self.api(*id)).await;
            let _: v1::BootstrapResponse = caller.unary(path, request).await.unwrap().into_inner();
        }
    }

    async fn described(&self, at: u32, partition_id: u32) -> DescribePartitionResponse {
        let path = "/ringraft.cluster.v1.Cluster/DescribePartition";
        let request = DescribePartitionRequest { partition_id, here: false };
        let caller = Caller::to(self.api(at)).await;
        caller.unary(path, request).await.expect("described").into_inner()
    }

    /// The members of partition 1, as node `at` is told.
    async fn members(&self, at: u32) -> Vec<u32> {
        self.described(at, 1).await.members.iter().map(|member| member.node_id).collect()
    }
}

#[derive(Debug)]
struct Said {
    status: i32,
    out: String,
    error: String,
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            status: output.status.code().unwrap(),
            out: text(&output.stdout),
            error: text(&output.stderr),
        }
    }

    /// It ended so, and said this in its place: on standard error when it failed.
    fn ended(self, status: i32, told: &str) -> Said {
        let place = if status == 0 { &self.out } else { &self.error };
        assert!(self.status == status && place.contains(told), "{status}, {told:?}: {self:?}");
        self
    }
}

fn start(dir: &Path, id: u32) -> Node {
    let (path, listen) = (dir.join(id.to_string()), format!("127.0.0.{id}:0"));
    let id = id.to_string();
    let flags =
        ["--node-id", &id, "--listen", &listen, "--peer-listen", &listen, "--partitions", "0"];
    Node::start(&path, &flags)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_added_removed_and_replaced() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::start(5);
    let init = format!("cluster init --nodes {} --partitions 2", nodes.places(&[1, 2, 3]));
    nodes.typed(1, &init).ended(0, "2 partitions, 3 replicas each, on 3 nodes");
    nodes.typed_until(1, "cluster status", |said| said.status == 0);
    nodes.typed(1, "counter incr c").ended(0, "1\n");

    let add = format!("cluster add {}", nodes.place(4));
    let added = nodes.typed(1, &add).ended(0, "partition 1: node 4 joined as member\n");
    assert!(added.out.ends_with("partition 2: node 4 joined as member\n"), "{added:?}");
    assert!(added.error.contains("cluster balance"), "what is to be done next: {added:?}");
    nodes.typed(4, &add).ended(0, "partition 2: node 4 is member already\n");
    nodes.typed(2, "cluster add 4").ended(0, "partition 1: node 4 is member already\n");
    nodes.typed(2, "cluster add 9").ended(8, "no partition has a member 9");

    // A node that is lost is removed by the others.
    nodes.kill(3);
    nodes.typed(1, "cluster status").ended(0, "1 of 4 missing");
    let removed = nodes.typed(1, "cluster remove 3").ended(0, "partition 1: node 3 was removed\n");
    assert!(removed.error.contains("node 3 does not answer"), "{removed:?}");
    nodes.typed(4, "cluster remove 3").ended(0, "node 3 belongs to none of these partitions\n");
    assert_eq!(nodes.members(4).await, [1, 2, 4]);
    let refused = nodes.typed(1, "cluster remove 4 --json").ended(10, "stands still when another");
    assert!(refused.error.contains("cluster replace 4 NEW"), "{refused:?}");

    // One that runs is replaced, and keeps nothing.
    let replace = format!("cluster replace 1 {}", nodes.place(5));
    let replaced = nodes.typed(2, &replace).ended(0, "partition 1: node 5 joined as member\n");
    assert!(replaced.out.contains("partition 2: node 1 was removed\n"), "{replaced:?}");
    nodes.typed(2, &replace).ended(0, "node 1 belongs to none of these partitions\n");
    assert_eq!(nodes.members(5).await, [2, 4, 5]);
    nodes.typed(5, "counter incr c").ended(0, "2\n");
    let status = nodes.typed(5, "cluster status --json").ended(0, "\"partition\":1");
    for line in status.out.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let members = line["members"].as_array().unwrap();
        let nodes: Vec<u64> = members.iter().map(|it| it["node"].as_u64().unwrap()).collect();
        assert_eq!((nodes, &line["works"]), (vec![2, 4, 5], &true.into()), "{line}");
        assert!(members.iter().all(|member| member["lag"].is_u64()), "{line}");
        assert!(members.iter().all(|member| member["role"] == "member"), "{line}");
    }

    nodes.typed(5, "cluster remove 4 --force").ended(0, "partition 2: node 4 was removed\n");
    nodes.kill(2);
    let needed = nodes.typed(5, "cluster remove 5 --force").ended(10, "would stand still without");
    assert!(needed.error.contains("start them first"), "{needed:?}");
    drop(nodes.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_moved_and_spread() {
    if !possible() {
        return;
    }
    let mut nodes = Nodes::start(3);
    let init = format!("cluster init --nodes {} --partitions 4", nodes.places(&[1, 2, 3]));
    nodes.typed(1, &init).ended(0, "4 partitions");
    nodes.typed_until(2, "cluster status", |said| said.status == 0);
    for partition in 1..=4 {
        let line = format!("cluster move-leader {partition} 2");
        nodes.typed(partition % 3 + 1, &line).ended(0, &format!("partition {partition}: node 2"));
        assert_eq!(nodes.described(3, partition).await.leader, 2);
    }
    nodes.typed(1, "cluster move-leader 1 2").ended(0, "node 2 leads already\n");
    nodes.typed(1, "cluster move-leader 9 2").ended(8, "no node knows a partition 9");
    nodes.typed(1, "cluster move-leader 1 7").ended(10, "node 7 does not vote");
    let plan = nodes.typed(1, "cluster balance --dry-run").ended(0, "would go from node 2 to ");
    assert_eq!(plan.out.lines().count(), 2, "{plan:?}");
    let done = nodes.typed(1, "cluster balance").ended(0, " leads\n");
    assert_eq!(done.out.lines().count(), 2, "{done:?}");
    let even = nodes.typed(1, "cluster balance").ended(0, "");
    assert_eq!(even.out, "", "{even:?}");
    assert!(even.error.contains("node 1 leads 1, node 2 leads 2, node 3 leads 1"), "{even:?}");

    // Nobody waits for a node that is not there, and whoever leads leads on.
    let led = nodes.described(1, 1).await.leader;
    let lost = led % 3 + 1;
    nodes.kill(lost);
    let asks = led % 3 + 2;
    let asks = if asks > 3 { 1 } else { asks };
    let line = format!("cluster move-leader 1 {lost} --timeout 1s");
    nodes.typed(asks, &line).ended(9, "did not take over in time");
    let after = nodes.described(asks, 1).await;
    assert_eq!(after.leader, led, "{after:?}");
    drop(nodes.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_replica_serves_watches_and_describes() {
    if !possible() {
        return;
    }
    let nodes = Nodes::start(4);
    // Node 4 shares partition 2 with node 3, and so learns of partition 1.
    nodes.found(1, &[1, 2, 3]).await;
    nodes.found(2, &[3, 4]).await;
    let caller = Caller::to(nodes.api(4)).await;
    let until = Instant::now() + SOON;
    let path = "/ringraft.cluster.v1.Cluster/DescribePartition";
    loop {
        let request = DescribePartitionRequest { partition_id: 1, here: false };
        match caller.unary::<_, DescribePartitionResponse>(path, request).await {
            Ok(told) if told.get_ref().leader > 0 => break,
            Ok(_) => {}
            Err(status) => {
                let known = [Code::NotFound, Code::Unavailable].contains(&status.code());
                assert!(known && Instant::now() < until, "{status}");
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let request = DescribePartitionRequest { partition_id: 1, here: true };
    let here = caller.unary::<_, DescribePartitionResponse>(path, request).await;
    assert_eq!(here.expect_err("it has none").code(), Code::NotFound);
    let mut all: Vec<u32> = nodes.members(4).await;
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);

    let path = "/atomix.multiraft.v1.Partition/Watch";
    let mut events = caller.stream(path, WatchPartitionRequest { partition_id: 1 });
    let event: PartitionEvent = next(&mut events).await.unwrap().expect("an event");
    let Some(Event::ServiceConfigChanged(change)) = event.event else {
        panic!("where to send requests comes first: {event:?}")
    };
    let config = change.config.expect("a configuration");
    let mut told = config.followers;
    told.push(config.leader);
    told.sort();
    let mut apis = [1, 2, 3].map(|id| nodes.api(id).to_owned());
    apis.sort();
    assert_eq!(told, apis);
    let leader = nodes.described(1, 1).await.leader;
    let to = leader % 3 + 1;
    nodes.typed(4, &format!("cluster move-leader 1 {to}")).ended(0, &format!("node {to} leads\n"));
    let began = Instant::now();
    loop {
        let event = next(&mut events).await.unwrap().expect("an event");
        if matches!(event.event, Some(Event::LeaderUpdated(it)) if it.leader == u64::from(to)) {
            break;
        }
        assert!(began.elapsed() < SOON);
    }
    // Keys are spread over both partitions, whichever node is asked.
    for (id, value) in [(4, 1), (1, 2), (4, 3)] {
        nodes.typed(id, "counter incr c").ended(0, &format!("{value}\n"));
    }
    drop(nodes.dir);
}
