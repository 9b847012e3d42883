//! Several real nodes over loopback: groups with members on all of them, and nodes that end.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringraft::wire::proto::v1::*;
use tonic::Code;

mod harness;

use harness::caller::{Caller, SOON, Session};
use harness::{Node, data_dir, possible};

/// Three nodes with one group, of three members.
struct Cluster {
    _dir: tempfile::TempDir,
    nodes: Vec<Option<Node>>,
    places: Vec<Place>,
}

#[derive(Clone)]
struct Place {
    dir: PathBuf,
    api: String,
    peer: String,
}

impl Cluster {
    async fn of_three() -> Cluster {
        let dir = data_dir();
        let (mut nodes, mut places) = (Vec::new(), Vec::new());
        for id in 1..=3 {
            let path = dir.path().join(id.to_string());
            let listen = format!("127.0.0.{id}:0");
            let node = start(&path, id, &listen, &listen);
            places.push(Place { dir: path, api: node.api.clone(), peer: node.peer.clone() });
            nodes.push(Some(node));
        }
        let cluster = Cluster { _dir: dir, nodes, places };
        for place in &cluster.places {
            let request = BootstrapRequest { group: Some(cluster.group()) };
            let caller = Caller::to(&place.api).await;
            let path = "/atomix.multiraft.v1.Node/Bootstrap";
            let _: tonic::Response<BootstrapResponse> =
                caller.unary(path, request).await.expect("founded");
        }
        cluster
    }

    fn group(&self) -> GroupConfig {
        let member = |(place, node_id): (&Place, u32)| {
            let (host, port) = place.peer.rsplit_once(':').unwrap();
            MemberConfig {
                node_id,
                host: host.to_owned(),
                port: port.parse::<i32>().unwrap(),
                role: member_config::Role::Member.into(),
            }
        };
        let members = self.places.iter().zip(1..).map(member).collect();
        GroupConfig { group_id: 1, members }
    }

    fn kill(&mut self, at: usize) {
        self.nodes[at].take().expect("it runs").kill();
    }

    fn restart(&mut self, at: usize) {
        let place = &self.places[at];
        let id = at as u32 + 1;
        self.nodes[at] = Some(start(&place.dir, id, &place.api, &place.peer));
    }

    /// The node that leads, by asking each for a session until one opens it.
    async fn leader(&self) -> (usize, Session) {
        let until = Instant::now() + SOON;
        loop {
            for (at, _) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_some()) {
                let caller = Caller::to(&self.places[at].api).await;
                if let Some(session) = try_open(&caller).await {
                    return (at, session);
                }
            }
            assert!(Instant::now() < until, "no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn start(dir: &std::path::Path, id: u32, api: &str, peer: &str) -> Node {
    let id = id.to_string();
    Node::start(
        dir,
        &["--node-id", &id, "--listen", api, "--peer-listen", peer, "--partitions", "0"],
    )
}

async fn try_open(caller: &Caller) -> Option<Session> {
    let timeout = prost_types::Duration { seconds: 60, nanos: 0 };
    let request = OpenSessionRequest {
        headers: Some(PartitionRequestHeaders { partition_id: 1 }),
        input: Some(OpenSessionInput { timeout: Some(timeout) }),
    };
    let path = "/atomix.multiraft.v1.Partition/OpenSession";
    match caller.unary::<_, OpenSessionResponse>(path, request).await {
        Ok(response) => {
            let id = response.into_inner().output.expect("an output").session_id;
            Some(Session { caller: caller.clone(), partition: 1, id, sequence: 0, index: id })
        }
        Err(status) if status.code() == Code::Unavailable => None,
        Err(status) => panic!("no session: {status}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_survives_its_leader() {
    if !possible() {
        return;
    }
    let mut cluster = Cluster::of_three().await;
    for round in 1..=3 {
        let (leader, mut session) = cluster.leader().await;
        let counter = session.create("atomix.runtime.counter.v1.Counter", "c").await;
        let value = harness::calls::add(&mut session, counter, 1).await.expect("added");
        assert_eq!(value, round, "what was acknowledged before the leader ended is there");
        cluster.kill(leader);
        let began = Instant::now();
        let (next, _) = cluster.leader().await;
        eprintln!("round {round}: node {} leads after {:?}", next + 1, began.elapsed());
        assert_ne!(next, leader);
        cluster.restart(leader);
    }
}
