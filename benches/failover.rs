//! How long nobody's command succeeds when the process of a leader is killed: three nodes as
//! processes, clients that increment counters of all partitions, and `kill -9`, again and again.
//!
//! `cargo bench --bench failover` kills fifty times and prints each; inside `cargo test` it kills
//! once, to show that it still works. Each kill hits the node that leads most partitions. What is
//! told is the longest time between two successes of any client around the kill, its own pauses and
//! retries included. At the end each counter is compared with what was acknowledged.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringraft::cli::cluster::look::{View, look};
use ringraft::client::{Client, Options};

/// One client's successes.
#[derive(Default)]
struct Worker {
    ends: Mutex<Vec<Instant>>,
    done: AtomicU64,
    unsure: AtomicU64,
}

struct Place {
    id: usize,
    api: String,
    peer: String,
}

struct Cluster<'a> {
    dir: &'a Path,
    places: Vec<Place>,
    children: Vec<Option<Child>>,
}

impl Cluster<'_> {
    fn start(dir: &Path) -> Cluster<'_> {
        let place = |id: usize| {
            let (api, peer) = (free(id), free(id));
            Place { id, api, peer }
        };
        let places = (1..=3).map(place).collect();
        let mut cluster = Cluster { dir, places, children: vec![None, None, None] };
        (0..3).for_each(|at| cluster.run(at));
        cluster
    }

    fn run(&mut self, at: usize) {
        let place = &self.places[at];
        let config = self.dir.join("node.toml");
        std::fs::write(&config, "[journal]\nsegment_bytes = 33554432\n").expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringraft"));
        command.arg("serve").arg("--config").arg(&config);
        command.arg("--data-dir").arg(self.dir.join(place.id.to_string()));
        command.args(["--node-id", &place.id.to_string(), "--shards", "1", "--trace", "error"]);
        command.args(["--listen", &place.api, "--peer-listen", &place.peer]);
        for place in &self.places {
            command.args(["--cluster-node", &format!("{}={}", place.id, place.peer)]);
        }
        command.stdout(Stdio::null());
        self.children[at] = Some(command.spawn().expect("a node"));
    }

    fn endpoints(&self) -> Vec<String> {
        self.places.iter().map(|place| place.api.clone()).collect()
    }

    /// Waits until every node serves and every partition has all its members and a leader.
    async fn whole(&self) -> View {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let view = look(&self.endpoints(), Duration::from_secs(1)).await;
            let lines = view.lines();
            let whole = view.nodes.values().all(Result::is_ok)
                && lines.len() == PARTITIONS
                && lines.iter().all(|line| line.works());
            if whole {
                return view;
            }
            assert!(Instant::now() < until, "the cluster stays broken:\n{}", view.table());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(&mut self, at: usize) {
        let mut child = self.children[at].take().expect("it runs");
        child.kill().expect("a signal");
        child.wait().expect("an end");
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An address of this host that nobody has.
fn free(id: usize) -> String {
    let socket = TcpListener::bind(format!("127.0.0.{id}:0")).expect("a port");
    socket.local_addr().expect("an address").to_string()
}

fn main() {
    if let Err(check) = ringraft::runtime::checks::needed() {
        println!("skipped: this host cannot run a node: {check}");
        return;
    }
    let kills = if std::env::args().any(|word| word == "--bench") { 50 } else { 1 };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(measure(kills, dir.path()));
}

async fn measure(kills: usize, dir: &Path) {
    let mut cluster = Cluster::start(dir);
    cluster.whole().await;
    let client = Client::connect(Options::to(cluster.endpoints())).await.expect("a client");
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<Arc<Worker>> = (0..WORKERS).map(|_| Arc::default()).collect();
    let tasks: Vec<_> = workers
        .iter()
        .enumerate()
        .map(|(at, worker)| {
            let counter = client.counter(&format!("counter-{at}"));
            let (worker, stop) = (worker.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match counter.increment(1).await {
                        Ok(_) => {
                            worker.done.fetch_add(1, Ordering::Relaxed);
                            worker.ends.lock().expect("no panic").push(Instant::now());
                        }
                        Err(fault) => {
                            println!("a client heard: {fault}");
                            worker.unsure.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        })
        .collect();
    let mut outages = Vec::new();
    for kill in 1..=kills {
        let view = cluster.whole().await;
        progress(&workers, Instant::now()).await;
        let leads = |at: usize| {
            let lines = view.lines();
            lines.iter().filter(|line| line.leader() == at as u64 + 1).count()
        };
        let victim = (0..3).max_by_key(|at| leads(*at)).expect("a node");
        let began = Instant::now();
        cluster.kill(victim);
        let outage = progress(&workers, began).await;
        println!("kill {kill}: node {} of {} leaders, {outage:.1?}", victim + 1, leads(victim));
        outages.push(outage);
        cluster.run(victim);
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no panic");
    }
    for (at, worker) in workers.iter().enumerate() {
        let value = client.counter(&format!("counter-{at}")).get().await.expect("a value") as u64;
        let (done, unsure) =
            (worker.done.load(Ordering::Relaxed), worker.unsure.load(Ordering::Relaxed));
        assert!((done..=done + unsure).contains(&value), "counter {at}: {value}, {done} {unsure}");
    }
    outages.sort();
    let at = |share: f64| outages[((outages.len() as f64 * share).ceil() as usize).max(1) - 1];
    println!(
        "{} kills: p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, longest {:.1?}; each increment counted once",
        outages.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// Waits until each client had some successes after `began`; the longest time between two of one
/// client since just before it.
async fn progress(workers: &[Arc<Worker>], began: Instant) -> Duration {
    let until = Instant::now() + Duration::from_secs(30);
    let mut longest = Duration::ZERO;
    for worker in workers {
        loop {
            let after = {
                let ends = worker.ends.lock().expect("no panic");
                ends.len() - ends.partition_point(|end| *end < began)
            };
            if after >= SUCCESSES {
                break;
            }
            assert!(Instant::now() < until, "a client has no success any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut ends = worker.ends.lock().expect("no panic");
        let first = ends.partition_point(|end| *end < began).saturating_sub(1);
        let gaps = ends[first..].windows(2).map(|pair| pair[1] - pair[0]);
        longest = longest.max(gaps.max().unwrap_or_default());
        ends.drain(..first);
    }
    longest
}

const PARTITIONS: usize = 8;
const WORKERS: usize = 24;
const SUCCESSES: usize = 20;
