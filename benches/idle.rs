//! What many quiet partitions cost: three nodes as processes on this machine's loopback, with
//! nobody who asks them for anything.
//!
//! For each layout it tells how long the nodes take from their start until every one of them knows
//! the leader of every partition, when the groups are founded and again when all three were killed
//! and come back from disk; then what a node's threads run on a core while nothing happens, how
//! often they wake, and the memory that it holds. `cargo bench --bench idle` does all layouts and
//! ends with a table; `-- SHARDS PARTITIONS` does one; inside `cargo test` a small one shows that
//! it still works. Time on a core is counted by the scheduler, so that what else the machine does
//! matters little.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringraft::cli::cluster::look::NODE_WATCH;
use ringraft::client::Fault;
use ringraft::client::connection::Network;
use ringraft::wire::proto::v1;

#[path = "../tests/harness/ports.rs"]
mod ports;

struct Cluster {
    dir: PathBuf,
    shards: u32,
    partitions: u32,
    places: Vec<(String, String)>,
    children: Vec<Child>,
}

/// What the threads of a process did so far.
#[derive(Clone, Copy, Default)]
struct Work {
    core: Duration,
    wakes: u64,
}

/// One row: what one node of a layout did.
struct Row {
    shards: u32,
    partitions: u32,
    start: &'static str,
    node: usize,
    led: Duration,
    /// What all of it took on a core.
    led_core: Duration,
    idle: Duration,
    idle_core: Duration,
    idle_wakes: u64,
    memory_bytes: u64,
}

impl Cluster {
    fn new(dir: PathBuf, shards: u32, partitions: u32) -> Cluster {
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join("node.toml"), "[journal]\nsegment_bytes = 33554432\n").expect("a file");
        let places = (1..=u32::from(NODES)).map(|id| (ports::free(id), ports::free(id))).collect();
        Cluster { dir, shards, partitions, places, children: Vec::new() }
    }

    fn start(&mut self) {
        for (at, (api, peer)) in self.places.iter().enumerate() {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ringraft"));
            command.arg("serve").arg("--config").arg(self.dir.join("node.toml"));
            command.arg("--data-dir").arg(self.dir.join((at + 1).to_string()));
            command.args(["--node-id", &(at + 1).to_string(), "--trace", "error"]);
            command.args(["--shards", &self.shards.to_string()]);
            command.args(["--partitions", &self.partitions.to_string()]);
            command.args(["--listen", api, "--peer-listen", peer]);
            for (at, (_, peer)) in self.places.iter().enumerate() {
                command.args(["--cluster-node", &format!("{}={peer}", at + 1)]);
            }
            command.stdout(Stdio::null());
            self.children.push(command.spawn().expect("a node"));
        }
    }

    fn kill(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        for mut child in self.children.drain(..) {
            let _ = child.wait();
        }
    }

    /// Starts all and measures them until `idle` has passed.
    async fn measure(&mut self, start: &'static str, idle: Duration) -> Vec<Row> {
        let began = Instant::now();
        self.start();
        let leaders: Vec<_> = self.places.iter().map(|_| Arc::default()).collect();
        let watching: Vec<_> = self
            .places
            .iter()
            .zip(&leaders)
            .map(|((api, _), leaders)| tokio::spawn(watch(api.clone(), Arc::clone(leaders))))
            .collect();
        while !leaders.iter().all(|leaders| led(leaders) == self.partitions as usize) {
            let led: Vec<usize> = leaders.iter().map(led).collect();
            assert!(began.elapsed() < PATIENCE, "of {} are led: {led:?}", self.partitions);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = began.elapsed();
        watching.iter().for_each(|task| task.abort());
        let started: Vec<Work> = self.children.iter().map(work).collect();
        // What an election leaves behind is over then.
        tokio::time::sleep(SETTLING.min(idle)).await;
        let (from, before) = (Instant::now(), self.children.iter().map(work).collect::<Vec<_>>());
        tokio::time::sleep(idle).await;
        let row = |(at, child): (usize, &Child)| {
            let after = work(child);
            Row {
                shards: self.shards,
                partitions: self.partitions,
                start,
                node: at + 1,
                led: took,
                led_core: started[at].core,
                idle: from.elapsed(),
                idle_core: after.core - before[at].core,
                idle_wakes: after.wakes - before[at].wakes,
                memory_bytes: memory_bytes(child),
            }
        };
        self.children.iter().enumerate().map(row).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Row {
    fn print(&self) {
        println!(
            "{},{},{},{},{:.3},{:.3},{:.2},{:.1},{},{}",
            self.shards,
            self.partitions,
            self.start,
            self.node,
            self.led.as_secs_f64(),
            self.led_core.as_secs_f64(),
            self.idle.as_secs_f64(),
            self.idle_core.as_secs_f64() * 1e3,
            self.idle_wakes,
            self.memory_bytes
        );
    }

    /// Per cent of a core.
    fn core(&self) -> f64 {
        100.0 * self.idle_core.as_secs_f64() / self.idle.as_secs_f64()
    }
}

type Leaders = Arc<Mutex<BTreeMap<u32, u64>>>;

fn led(leaders: &Leaders) -> usize {
    leaders.lock().expect("no panic").values().filter(|leader| **leader != 0).count()
}

/// Keeps `leaders` as the node at this address knows them.
async fn watch(api: String, leaders: Leaders) {
    loop {
        let ended = hear(&api, &leaders).await;
        leaders.lock().expect("no panic").clear();
        if ended.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn hear(api: &str, leaders: &Leaders) -> Result<(), Fault> {
    let network = Network::of(&[api.to_owned()]);
    let mut events = network.stream(0, &NODE_WATCH, &v1::WatchRequest {}).await?;
    while let Some(event) = events.next().await? {
        if let Some(v1::event::Event::LeaderUpdated(news)) = event.event {
            leaders.lock().expect("no panic").insert(news.group_id, news.leader);
        }
    }
    Ok(())
}

fn work(child: &Child) -> Work {
    let mut sum = Work::default();
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
    for task in tasks.flatten() {
        let file = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let ran = file("schedstat").split(' ').next().and_then(|ran| ran.parse().ok());
        sum.core += Duration::from_nanos(ran.unwrap_or(0));
        sum.wakes += number(&file("status"), "voluntary_ctxt_switches:");
    }
    sum
}

/// What belongs to the process alone.
fn memory_bytes(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    number(&status, "RssAnon:") << 10
}

fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn main() {
    if let Err(check) = ringraft::runtime::checks::needed() {
        println!("skipped: this host cannot run a node: {check}");
        return;
    }
    let words: Vec<String> = std::env::args().collect();
    let numbers: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let (layouts, idle) = match (&numbers[..], words.iter().any(|word| word == "--bench")) {
        ([shards, partitions], _) => (vec![(*shards, *partitions)], IDLE),
        (_, true) => (LAYOUTS.to_vec(), IDLE),
        _ => (vec![(2, 12)], Duration::from_millis(50)),
    };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(run(dir.path(), &layouts, idle));
}

async fn run(dir: &Path, layouts: &[(u32, u32)], idle: Duration) {
    println!(
        "shards,partitions,start,node,led_s,led_core_s,idle_s,idle_core_ms,wakes,memory_bytes"
    );
    let mut rows = Vec::new();
    for (shards, partitions) in layouts.iter().copied() {
        let dir = dir.join(format!("{shards}-{partitions}"));
        let mut cluster = Cluster::new(dir.clone(), shards, partitions);
        for start in ["new", "again"] {
            let measured = cluster.measure(start, idle).await;
            cluster.kill();
            measured.iter().for_each(Row::print);
            rows.extend(measured);
        }
        drop(cluster);
        fs::remove_dir_all(&dir).expect("it was made above");
    }
    println!("\n{}", table(&rows));
}

/// A line a layout and start, with the node that did most. The memory is what each partition adds
/// to that of a node with one.
fn table(rows: &[Row]) -> String {
    let mut text = "| shards | partitions | start | all led | idle, of a core | wakes a second \
                    | memory a partition |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    let most = |rows: &[Row], of: fn(&Row) -> f64| rows.iter().map(of).fold(0.0, f64::max);
    let layouts = || rows.chunks(usize::from(NODES));
    for rows in layouts() {
        let row = &rows[0];
        let same = |one: &&[Row]| (one[0].shards, one[0].start) == (row.shards, row.start);
        let one = layouts().find(|one| same(one) && one[0].partitions == 1);
        let memory = one.filter(|_| row.partitions > 1).map_or("-".to_owned(), |one| {
            let more = most(rows, |row| row.memory_bytes as f64)
                - most(one, |row| row.memory_bytes as f64);
            format!("{:.1} KiB", more / f64::from(row.partitions - 1) / 1024.0)
        });
        text += &format!(
            "| {} | {} | {} | {:.2} s | {:.2} % | {:.0} | {} |\n",
            row.shards,
            row.partitions,
            row.start,
            row.led.as_secs_f64(),
            most(rows, Row::core),
            most(rows, |row| row.idle_wakes as f64 / row.idle.as_secs_f64()),
            memory,
        );
    }
    text
}

const NODES: u8 = 3;
/// With segments of this size a journal takes some 3,800 groups.
const LAYOUTS: [(u32, u32); 5] = [(1, 1), (1, 1000), (2, 1), (2, 1000), (1, 3000)];
const IDLE: Duration = Duration::from_secs(20);
const SETTLING: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(120);
