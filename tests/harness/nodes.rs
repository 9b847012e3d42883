//! Several real nodes, each with a directory and addresses of its own, that are started, killed and
//! started again.
//!
//! A place outlives its node: what a node left in its directory is there for the next one, at the
//! same addresses.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringraft::wire::proto::v1::*;
use tonic::{Code, Status};

use super::caller::{self, Caller, SOON, Session};
use super::{Ended, Heard, Node, data_dir, ports, send};

/// How a node is started, and the node while it runs.
pub struct Place {
    dir: PathBuf,
    pub id: u32,
    flags: Vec<String>,
    pub api: String,
    pub peer: String,
    pub node: Option<Node>,
    /// What the node that runs has said, or the last one that ran.
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
        Nodes::prepared(shards, config, |_| {})
    }

    /// The same, of places that `prepare` has seen to.
    pub fn prepared(shards: &[u16], config: &str, prepare: impl Fn(&Place)) -> Nodes {
        let dir = data_dir();
        let mut places = Vec::new();
        for (shards, id) in shards.iter().zip(1..) {
            let flags = ["--partitions", "0", "--shards", &shards.to_string(), "--trace", "info"];
            let mut place = Place::new(dir.path(), id, &flags);
            place.configure(config);
            prepare(&place);
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

    /// The place of the node with this id.
    pub fn place_mut(&mut self, id: u32) -> &mut Place {
        &mut self.places[id as usize - 1]
    }

    /// How the node with this id is named as a member.
    pub fn member(&self, id: u32, role: member_config::Role) -> MemberConfig {
        MemberConfig { role: role.into(), ..member(id, &self.places[id as usize - 1].peer) }
    }

    /// Asks node `id` something of itself.
    pub async fn ask<I, O>(&self, id: u32, method: &str, request: I) -> Result<O, Status>
    where
        I: prost::Message + 'static,
        O: prost::Message + Default + 'static,
    {
        let path = format!("/atomix.multiraft.v1.Node/{method}");
        let caller = self.caller(id as usize - 1).await;
        caller.unary(path.leak(), request).await.map(tonic::Response::into_inner)
    }

    /// Node `id` joins group 1, and knows only `other` of it.
    pub async fn join(
        &self,
        id: u32,
        other: u32,
        role: member_config::Role,
    ) -> Result<JoinResponse, Status> {
        let other = self.member(other, member_config::Role::Member);
        let group = Some(GroupConfig { group_id: 1, members: vec![other, self.member(id, role)] });
        self.ask(id, "Join", JoinRequest { group }).await
    }

    /// Node `id` leaves group 1.
    pub async fn leave(&self, id: u32) -> Result<LeaveResponse, Status> {
        self.ask(id, "Leave", LeaveRequest { group_id: 1 }).await
    }
}

impl Place {
    /// Under `dir`, at addresses of its own.
    pub fn new(dir: &Path, id: u32, flags: &[&str]) -> Place {
        let dir = dir.join(id.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (api, peer, heard) = (ports::free(id), ports::free(id), Heard::default());
        Place { dir, id, flags, api, peer, node: None, heard }
    }

    /// What its configuration file says from the next start on.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.dir.join("node.toml"), config).unwrap();
    }

    pub fn start(&mut self) {
        self.try_start().unwrap_or_else(|ended| panic!("no node {}: {ended:?}", self.id));
    }

    pub fn try_start(&mut self) -> Result<(), Ended> {
        assert!(self.node.is_none(), "node {} runs", self.id);
        let id = self.id.to_string();
        let mut flags = vec!["--node-id", &id, "--listen", &self.api, "--peer-listen", &self.peer];
        flags.extend(self.flags.iter().map(String::as_str));
        let mut node = Node::try_start(&self.dir, &flags)?;
        self.heard = node.heard();
        self.node = Some(node);
        Ok(())
    }

    pub fn kill(&mut self) {
        self.node.take().expect("it runs").kill();
    }

    /// As an operator stops it.
    pub fn end(&mut self) {
        let (status, took, _) = self.node.take().expect("it runs").end_with("TERM", SOON);
        assert!(status.success(), "node {}: {status} after {took:?}", self.id);
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its data is gone.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.dir.join("data")).unwrap();
    }

    /// A copy of its data as it is now, as a backup of the disk would have it.
    pub fn copy_data(&self) {
        let stands = self.node.is_some();
        if stands {
            send(self.pid(), "STOP");
        }
        copy(&self.dir.join("data"), &self.dir.join("copy"));
        if stands {
            send(self.pid(), "CONT");
        }
    }

    /// The copy takes the place of what there is.
    pub fn put_back(&self) {
        self.wipe();
        std::fs::rename(self.dir.join("copy"), self.dir.join("data")).unwrap();
    }

    /// Asks for a fault (`runtime/faults.rs`), of a node that is started after the first of them.
    pub fn fault(&self, name: &str, text: &str) {
        let faults = self.dir.join("faults");
        std::fs::create_dir_all(&faults).unwrap();
        // Whole or not at all: a node may be reading it.
        std::fs::write(faults.join("new"), text).unwrap();
        std::fs::rename(faults.join("new"), faults.join(name)).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.node.as_ref().expect("it runs").pid()
    }
}

/// Whether this build has the faults that nodes can be asked for.
pub fn has_faults() -> bool {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: a release build has no faults to ask for");
    }
    cfg!(debug_assertions)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
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
    let first = caller::next(&mut stream).await.ok()??;
    let partition_event::Event::ServiceConfigChanged(event) = first.event? else { return None };
    event.config.map(|config| config.leader)
}

/// Whether a call came back without a value that its caller is to send again.
pub fn is_unavailable<T>(answer: &Result<T, Status>) -> bool {
    matches!(answer, Err(status) if status.code() == Code::Unavailable)
}
