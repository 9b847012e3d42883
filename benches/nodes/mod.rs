//! Nodes as processes on this host, clients that increment counters of all their partitions, and
//! how long the clients wait when something happens to a node.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringraft::cli::cluster::look::{View, look};
use ringraft::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

#[path = "../../tests/harness/ports.rs"]
mod ports;

/// Nodes 1, 2, … each on an address of its own.
pub struct Cluster {
    dir: PathBuf,
    /// Where they are.
    pub places: Vec<Place>,
    children: Vec<Option<Child>>,
    founding: Founding,
}

/// One node's id and addresses.
pub struct Place {
    id: usize,
    /// Of its clients.
    pub api: String,
    /// Of other nodes.
    pub peer: String,
}

/// How the nodes come to their partitions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Founding {
    /// Each knows all of them from the start.
    Configured,
    /// Somebody tells them.
    #[allow(dead_code)]
    Told,
}

impl Cluster {
    /// Starts so many; `config` is the file that each reads.
    pub fn start(dir: &Path, count: usize, founding: Founding, config: &str) -> Cluster {
        std::fs::create_dir_all(dir).expect("a directory");
        std::fs::write(dir.join("node.toml"), config).expect("a file");
        let (places, children) = (Vec::new(), Vec::new());
        let mut cluster = Cluster { dir: dir.to_owned(), places, children, founding };
        (0..count).for_each(|_| cluster.add());
        (0..count).for_each(|at| cluster.run(at));
        cluster
    }

    /// One more, which does not run yet.
    pub fn add(&mut self) {
        let id = self.places.len() + 1;
        let (api, peer) = (ports::free(id as u32), ports::free(id as u32));
        self.places.push(Place { id, api, peer });
        self.children.push(None);
    }

    /// Starts a node that does not run.
    pub fn run(&mut self, at: usize) {
        let place = &self.places[at];
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(self.dir.join("node.toml"));
        command.arg("--data-dir").arg(self.data(at));
        command.args(["--node-id", &place.id.to_string(), "--shards", "1", "--trace", "error"]);
        command.args(["--listen", &place.api, "--peer-listen", &place.peer]);
        match self.founding {
            Founding::Configured if self.places.len() > 1 => {
                for place in &self.places {
                    let seat = format!("{}={}", place.id, place.peer);
                    command.args(["--cluster-node", &seat]);
                }
            }
            Founding::Configured => {}
            Founding::Told => drop(command.args(["--partitions", "0"])),
        }
        command.stdout(Stdio::null());
        self.children[at] = Some(command.spawn().expect("a node"));
    }

    /// Where clients find those that run.
    pub fn endpoints(&self) -> Vec<String> {
        let running = self.places.iter().zip(&self.children).filter(|(_, child)| child.is_some());
        running.map(|(place, _)| place.api.clone()).collect()
    }

    /// Waits until every node that runs serves, and every partition has all its members and a
    /// leader.
    pub async fn whole(&self, partitions: usize) -> View {
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let view = look(&self.endpoints(), Duration::from_secs(1)).await;
            let lines = view.lines();
            let whole = view.nodes.values().all(Result::is_ok)
                && lines.len() == partitions
                && lines.iter().all(|line| line.works());
            if whole {
                return view;
            }
            assert!(Instant::now() < until, "the cluster stays broken:\n{}", view.table());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `kill -9`
    #[allow(dead_code)]
    pub fn kill(&mut self, at: usize) {
        let mut child = self.children[at].take().expect("it runs");
        child.kill().expect("a signal");
        child.wait().expect("an end");
    }

    /// SIGTERM, and waits for the end.
    #[allow(dead_code)]
    pub async fn end(&mut self, at: usize) {
        let mut child = self.children[at].take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal");
        let until = Instant::now() + Duration::from_secs(60);
        while child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < until, "node {} does not end", at + 1);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Where its data is.
    pub fn data(&self, at: usize) -> PathBuf {
        self.dir.join(self.places[at].id.to_string())
    }

    /// The process of a node that runs.
    #[allow(dead_code)]
    pub fn pid(&self, at: usize) -> u32 {
        self.children[at].as_ref().expect("it runs").id()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What runs: this build's, or the one that `--node FILE` names.
fn binary() -> String {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--node");
    arguments.nth(1).unwrap_or_else(|| env!("CARGO_BIN_EXE_ringraft").to_owned())
}

/// How many partitions of a view the node at this place leads.
pub fn leads(view: &View, at: usize) -> usize {
    view.lines().iter().filter(|line| line.leader() == at as u64 + 1).count()
}

/// Clients that increment counters, 2 ms apart each.
pub struct Load {
    client: Client,
    workers: Vec<Arc<Worker>>,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// One client's successes.
#[derive(Default)]
struct Worker {
    ends: Mutex<Vec<Instant>>,
    done: AtomicU64,
    unsure: AtomicU64,
}

impl Load {
    /// Begins with one counter for each of so many.
    pub fn start(client: Client, workers: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<Arc<Worker>> = (0..workers).map(|_| Arc::default()).collect();
        let each = workers.iter().enumerate().map(|(at, worker)| {
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
        });
        let tasks = each.collect();
        Load { client, workers, tasks, stop }
    }

    /// Waits until each client had some successes after now; the longest time between two of one
    /// client since just before `began`. What was before is forgotten.
    pub async fn stall(&self, began: Instant) -> Duration {
        let (now, until) = (Instant::now(), Instant::now() + Duration::from_secs(30));
        let mut longest = Duration::ZERO;
        for worker in &self.workers {
            loop {
                let after = {
                    let ends = worker.ends.lock().expect("no panic");
                    ends.len() - ends.partition_point(|end| *end < now)
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

    /// Ends, and compares each counter with what was acknowledged.
    pub async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        for (at, worker) in self.workers.iter().enumerate() {
            let counter = self.client.counter(&format!("counter-{at}"));
            let value = counter.get().await.expect("a value") as u64;
            let (done, unsure) =
                (worker.done.load(Ordering::Relaxed), worker.unsure.load(Ordering::Relaxed));
            let counted = (done..=done + unsure).contains(&value);
            assert!(counted, "counter {at}: {value}, {done} {unsure}");
        }
    }
}

/// What share of the sorted durations is no longer.
pub fn share(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1]
}

/// Small segments, so that a start does not fill the disk with zeros for long.
pub const CONFIG: &str = "[journal]\nsegment_bytes = 33554432\n";
/// Of a cluster whose nodes know each other from the start.
pub const PARTITIONS: usize = 8;
/// Clients that increment counters.
pub const WORKERS: usize = 24;
const SUCCESSES: usize = 20;
