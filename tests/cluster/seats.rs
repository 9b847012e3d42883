//! A cluster that founds itself from its configuration, under names that a test may put a proxy
//! before.

use std::time::{Duration, Instant};

use ringraft::cli::cluster::look::look;
use tokio::time::sleep;

use super::harness::caller::SOON;
use super::harness::data_dir;
use super::harness::nodes::Place;
use super::harness::ports::free;
use super::proxy::Proxies;

/// Nodes with one group, each in its place.
pub struct Cluster {
    dir: tempfile::TempDir,
    places: Vec<Place>,
    pub apis: Vec<String>,
    flags: Vec<String>,
}

impl Cluster {
    /// Nodes that found the group by themselves.
    pub async fn of(count: u32) -> Cluster {
        Cluster::with(count, count).await
    }

    /// The same, with so many members.
    pub async fn with(count: u32, replicas: u32) -> Cluster {
        let peers: Vec<String> = (1..=count).map(free).collect();
        Cluster::start(&peers, &peers, replicas, |_| {}).await
    }

    /// The same, with the peer ports behind proxies.
    pub async fn behind(proxies: &Proxies, count: u32) -> Cluster {
        let peers: Vec<String> = (1..=count).map(free).collect();
        let mut shown = Vec::new();
        for (node, peer) in (1..).zip(&peers) {
            shown.push(proxies.before(node, peer.clone()).await);
        }
        Cluster::start(&peers, &shown, count, |_| {}).await
    }

    /// The same, of nodes that can be asked for faults.
    pub async fn that_can_fail(count: u32) -> Cluster {
        let peers: Vec<String> = (1..=count).map(free).collect();
        Cluster::start(&peers, &peers, count, |place| place.fault("disk-ms", "0")).await
    }

    async fn start(
        peers: &[String],
        shown: &[String],
        replicas: u32,
        prepare: impl Fn(&Place),
    ) -> Cluster {
        let seats: Vec<String> =
            (1u32..).zip(shown).map(|(id, peer)| format!("{id}={peer}")).collect();
        let (seats, replicas) = (seats.join(","), replicas.to_string());
        let flags = [
            ["--cluster-node", &seats],
            ["--replicas", &replicas],
            ["--partitions", "1"],
            ["--shards", "1"],
        ];
        let flags = flags.as_flattened().iter().map(|flag| (*flag).to_owned()).collect();
        let (dir, places, apis) = (data_dir(), Vec::new(), Vec::new());
        let mut cluster = Cluster { dir, places, apis, flags };
        for peer in peers {
            let at = cluster.add(peer);
            prepare(&cluster.places[at]);
            cluster.places[at].start();
        }
        cluster
    }

    /// One more place, where nothing runs yet.
    fn add(&mut self, peer: &str) -> usize {
        let id = self.places.len() as u32 + 1;
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let mut place = Place::new(self.dir.path(), id, &flags);
        place.peer = peer.to_owned();
        self.apis.push(place.api.clone());
        self.places.push(place);
        id as usize - 1
    }

    /// One more node, which has no part in the group.
    pub fn run_another(&mut self) -> u32 {
        let peer = free(self.places.len() as u32 + 1);
        let at = self.add(&peer);
        self.places[at].start();
        at as u32 + 1
    }

    pub fn count(&self) -> u32 {
        self.places.len() as u32
    }

    pub fn place(&self, id: u32) -> &Place {
        &self.places[id as usize - 1]
    }

    pub fn place_mut(&mut self, id: u32) -> &mut Place {
        &mut self.places[id as usize - 1]
    }

    pub fn run(&mut self, id: u32) {
        self.place_mut(id).start();
    }

    pub fn kill(&mut self, id: u32) {
        self.place_mut(id).kill();
    }

    pub fn pid(&self, id: u32) -> u32 {
        self.place(id).pid()
    }

    /// The node that leads, as soon as one does that runs.
    pub async fn leader(&self) -> u32 {
        let until = Instant::now() + SOON;
        loop {
            let view = look(&self.apis, Duration::from_millis(300)).await;
            let leader = view.lines().first().map_or(0, |line| line.leader()) as u32;
            let runs = leader > 0 && self.place(leader).node.is_some();
            if runs && view.nodes.get(&self.place(leader).api).is_some_and(Result::is_ok) {
                return leader;
            }
            assert!(Instant::now() < until, "no leader:\n{}", view.table());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Another member than this one.
    pub fn next(&self, id: u32) -> u32 {
        id % self.count() + 1
    }

    /// Waits until all nodes serve and know the leader.
    pub async fn whole(&self) {
        let until = Instant::now() + SOON;
        loop {
            let view = look(&self.apis, Duration::from_millis(500)).await;
            let all = view.nodes.len() == self.apis.len() && view.nodes.values().all(Result::is_ok);
            if all && !view.lines().is_empty() && view.lines().iter().all(|line| line.works()) {
                return;
            }
            assert!(Instant::now() < until, "it stays broken:\n{}", view.table());
            sleep(Duration::from_millis(10)).await;
        }
    }
}
