//! Nodes with groups on all of them, whose links may lead through proxies.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringraft::wire::proto::v1::*;
use tonic::Code;

use crate::harness::caller::{Caller, SOON, Session};
use crate::harness::{Heard, Node, data_dir};

/// How a node is started, and the node while it runs.
pub struct Place {
    dir: PathBuf,
    pub id: u32,
    shards: u16,
    pub api: String,
    pub peer: String,
    pub node: Option<Node>,
    pub heard: Heard,
}

pub struct Nodes {
    _dir: tempfile::TempDir,
    pub places: Vec<Place>,
}

/// What a node of these tests is told beside its addresses.
pub const CONFIG: &str = "[journal]\nsegment_bytes = 33554432\n";

impl Nodes {
    /// Nodes 1, 2, … with so many shards each and no groups.
    pub fn start(shards: &[u16]) -> Nodes {
        Nodes::start_with(shards, CONFIG)
    }

    pub fn start_with(shards: &[u16], config: &str) -> Nodes {
        let dir = data_dir();
        let mut places = Vec::new();
        for (shards, id) in shards.iter().zip(1..) {
            let path = dir.path().join(id.to_string());
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("node.toml"), config).unwrap();
            let listen = format!("127.0.0.{id}:0");
            let (api, peer) = (listen.clone(), listen);
            let (node, heard) = (None, Heard::default());
            let mut place = Place { dir: path, id, shards: *shards, api, peer, node, heard };
            place.start();
            places.push(place);
        }
        Nodes { _dir: dir, places }
    }

    /// Founds groups 1 to `groups` on all nodes; `at` says where one node reaches another.
    pub async fn found(&self, groups: u32, at: impl Fn(&Place, &Place) -> String) {
        for group_id in 1..=groups {
            for place in &self.places {
                let members = self.places.iter().map(|other| member(other.id, &at(place, other)));
                found(&place.api, GroupConfig { group_id, members: members.collect() }).await;
            }
        }
    }

    /// The node that leads a partition, as it says itself.
    pub async fn leader(&self, partition: u32) -> usize {
        let deadline = Instant::now() + SOON;
        loop {
            for place in self.places.iter().filter(|place| place.node.is_some()) {
                if leader_at(&place.api, partition).await.as_ref() == Some(&place.api) {
                    return place.id as usize - 1;
                }
            }
            assert!(Instant::now() < deadline, "no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn caller(&self, at: usize) -> Caller {
        Caller::to(&self.places[at].api).await
    }

    pub async fn session(&self, at: usize, partition: u32) -> Session {
        self.caller(at).await.open(partition, Duration::from_secs(60)).await
    }
}

impl Place {
    pub fn start(&mut self) {
        let (id, shards) = (self.id.to_string(), self.shards.to_string());
        let mut flags = vec!["--node-id", &id, "--listen", &self.api, "--peer-listen", &self.peer];
        flags.extend(["--partitions", "0", "--shards", &shards, "--trace", "info"]);
        let mut node = Node::start(&self.dir, &flags);
        self.heard = node.heard();
        (self.api, self.peer) = (node.api.clone(), node.peer.clone());
        self.node = Some(node);
    }

    pub fn kill(&mut self) {
        self.node.take().expect("it runs").kill();
    }

    /// Its data is gone.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.dir.join("data")).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.node.as_ref().expect("it runs").pid()
    }
}

pub fn member(node_id: u32, peer: &str) -> MemberConfig {
    let (host, port) = peer.rsplit_once(':').unwrap();
    let role = member_config::Role::Member.into();
    MemberConfig { node_id, host: host.to_owned(), port: port.parse().unwrap(), role }
}

pub async fn found(api: &str, group: GroupConfig) {
    let caller = Caller::to(api).await;
    let request = BootstrapRequest { group: Some(group) };
    let path = "/atomix.multiraft.v1.Node/Bootstrap";
    let _: tonic::Response<BootstrapResponse> = caller.unary(path, request).await.expect("founded");
}

/// Who leads, by its API address, as one node knows it.
async fn leader_at(api: &str, partition: u32) -> Option<String> {
    let caller = Caller::to(api).await;
    let request = WatchPartitionRequest { partition_id: partition };
    let path = "/atomix.multiraft.v1.Partition/Watch";
    let mut stream = caller.stream::<_, PartitionEvent>(path, request);
    let first = crate::harness::caller::next(&mut stream).await.ok()??;
    let partition_event::Event::ServiceConfigChanged(event) = first.event? else { return None };
    event.config.map(|config| config.leader)
}

/// Whether a call came back without a value that its caller is to send again.
pub fn is_unavailable<T>(answer: &Result<T, tonic::Status>) -> bool {
    matches!(answer, Err(status) if status.code() == Code::Unavailable)
}
