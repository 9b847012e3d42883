//! What a cluster of real processes does: how long nobody's command succeeds when leadership is
//! handed over, what three replicas cost against one, how soon a lost replica of a large state is
//! replaced, and a rolling restart.
//!
//! `cargo bench --bench cluster` measures all four and prints a line a figure;
//! `-- --out DIR` also writes them to `DIR/raw.csv`, `--only NAME` measures one of `transfer`,
//! `replicas`, `replace`, `rolling`, `--mib N` says how large the state is that is brought back,
//! `--node FILE` which build's nodes are measured.
//! Inside `cargo test` each runs for an instant. Every acknowledged increment is counted and
//! compared with the counters, and the replaced replica has to lead and answer.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node::{Caller, Wire, closed_loop};
use nodes::{CONFIG, Cluster, Founding, Load, PARTITIONS, WORKERS, leads, share};
use ringraft::client::{Client, Options};
use ringraft::wire::proto::v1::{
    BootstrapRequest, BootstrapResponse, GroupConfig, JoinRequest, JoinResponse, LeaveRequest,
    LeaveResponse, MemberConfig, member_config::Role,
};
use tokio::task::JoinHandle;

#[allow(dead_code)]
mod node;
mod nodes;

/// What is measured, and how much of it.
struct Plan {
    only: Option<String>,
    out: Option<PathBuf>,
    transfers: usize,
    rounds: usize,
    span: Duration,
    mib: u64,
    value_bytes: usize,
    rollings: usize,
}

impl Plan {
    fn of(arguments: &[String]) -> Plan {
        let after = |word: &str| {
            let place = arguments.iter().position(|argument| argument == word)?;
            arguments.get(place + 1).cloned()
        };
        let measures = arguments.iter().any(|argument| argument == "--bench");
        let number = |word| after(word).map(|text| text.parse().expect("it takes a number"));
        let (transfers, rounds, millis, rollings) =
            if measures { (50, 5, 3000, 5) } else { (1, 1, 50, 1) };
        Plan {
            only: after("--only"),
            out: after("--out").map(PathBuf::from),
            transfers,
            rounds,
            span: Duration::from_millis(millis),
            mib: number("--mib").unwrap_or(if measures { 1024 } else { 2 }),
            value_bytes: number("--value-bytes").unwrap_or(1024) as usize,
            rollings,
        }
    }

    fn has(&self, what: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == what)
    }
}

/// The figures, as they come.
#[derive(Default)]
struct Figures(String);

impl Figures {
    fn add(&mut self, figure: &str, round: usize, what: &str, value: f64, unit: &str) {
        println!("{figure:<10}{round:>4}  {what:<44}{value:>14.3} {unit}");
        let _ = writeln!(self.0, "{figure},{round},{what},{value},{unit}");
    }

    fn millis(&mut self, figure: &str, round: usize, what: &str, span: Duration) {
        self.add(figure, round, what, span.as_secs_f64() * 1e3, "ms");
    }
}

fn main() {
    if let Err(check) = ringraft::runtime::checks::needed() {
        println!("skipped: this host cannot run a node: {check}");
        return;
    }
    let plan = Plan::of(&std::env::args().collect::<Vec<_>>());
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
    let mut figures = Figures("figure,round,what,value,unit\n".to_owned());
    runtime.block_on(async {
        if plan.has("transfer") {
            transfer(&plan, &dir.path().join("transfer"), &mut figures).await;
        }
        if plan.has("rolling") {
            rolling(&plan, &dir.path().join("rolling"), &mut figures).await;
        }
        if plan.has("replicas") {
            replicas(&plan, &dir.path().join("replicas"), &mut figures).await;
        }
        if plan.has("replace") {
            replace(&plan, &dir.path().join("replace"), &mut figures).await;
        }
    });
    if let Some(out) = &plan.out {
        std::fs::create_dir_all(out).expect("a directory");
        std::fs::write(out.join("raw.csv"), figures.0).expect("a file");
    }
}

/// SIGTERM for the node that leads most partitions, until its process has ended.
async fn transfer(plan: &Plan, dir: &Path, figures: &mut Figures) {
    let mut cluster = Cluster::start(dir, 3, Founding::Configured, CONFIG);
    cluster.whole(PARTITIONS).await;
    let client = Client::connect(Options::to(cluster.endpoints())).await.expect("a client");
    let load = Load::start(client, WORKERS);
    let mut outages = Vec::new();
    for round in 1..=plan.transfers {
        let view = cluster.whole(PARTITIONS).await;
        figures.millis("transfer", round, "undisturbed", load.stall(Instant::now()).await);
        let leader = (0..3).max_by_key(|at| leads(&view, *at)).expect("a node");
        let began = Instant::now();
        cluster.end(leader).await;
        figures.millis("transfer", round, "until the process ended", began.elapsed());
        let outage = load.stall(began).await;
        figures.millis("transfer", round, "longest without success", outage);
        outages.push(outage);
        cluster.run(leader);
    }
    load.end().await;
    spread(figures, "transfer", "longest without success", outages);
}

/// Each of three nodes is ended and started again, the next when all is whole.
async fn rolling(plan: &Plan, dir: &Path, figures: &mut Figures) {
    let mut cluster = Cluster::start(dir, 3, Founding::Configured, CONFIG);
    cluster.whole(PARTITIONS).await;
    let client = Client::connect(Options::to(cluster.endpoints())).await.expect("a client");
    let load = Load::start(client, WORKERS);
    let mut stalls = Vec::new();
    for round in 1..=plan.rollings {
        load.stall(Instant::now()).await;
        let began = Instant::now();
        for at in 0..3 {
            cluster.end(at).await;
            cluster.run(at);
            cluster.whole(PARTITIONS).await;
        }
        figures.millis("rolling", round, "all three", began.elapsed());
        let stall = load.stall(began).await;
        figures.millis("rolling", round, "longest without success", stall);
        stalls.push(stall);
    }
    load.end().await;
    spread(figures, "rolling", "longest without success", stalls);
}

fn spread(figures: &mut Figures, figure: &str, what: &str, mut all: Vec<Duration>) {
    all.sort();
    for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("longest", 1.0)] {
        figures.millis(figure, 0, &format!("{what}: {name}"), share(&all, part));
    }
}

/// Increments with 256 in flight of one partition with one replica and of one with three, by turns.
async fn replicas(plan: &Plan, dir: &Path, figures: &mut Figures) {
    let config = format!("{CONFIG}[cluster]\npartitions = 1\n");
    let alone = Cluster::start(&dir.join("one"), 1, Founding::Configured, &config);
    let three = Cluster::start(&dir.join("three"), 3, Founding::Configured, &config);
    alone.whole(1).await;
    three.whole(1).await;
    let mut ratios = Vec::new();
    for round in 1..=plan.rounds {
        let one = saturate(plan, &alone, round, "one", figures).await;
        let many = saturate(plan, &three, round, "three", figures).await;
        figures.add("replicas", round, "three against one", many / one, "");
        ratios.push(many / one);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    figures.add("replicas", 0, "three against one: median", median, "");
}

/// Increments a CPU-second of the leader.
async fn saturate(
    plan: &Plan,
    cluster: &Cluster,
    round: usize,
    name: &str,
    figures: &mut Figures,
) -> f64 {
    let view = cluster.whole(1).await;
    let leader = (0..cluster.places.len()).find(|at| leads(&view, *at) > 0).expect("a leader");
    let address: SocketAddr = cluster.places[leader].api.parse().expect("an address");
    let (pid, span) = (cluster.pid(leader), plan.span);
    let (report, cpu_ns) = tokio::task::spawn_blocking(move || {
        let mut callers: Vec<Caller> =
            (0..8).map(|n| Caller::new(address, 1, &format!("{round}-{n}"))).collect();
        let before = cpu_ns(pid);
        let report = closed_loop(&mut callers, 32, span);
        let cpu_ns = cpu_ns(pid) - before;
        let counted: i64 = callers.iter().map(|caller| caller.value(address)).sum();
        assert_eq!(counted, i64::try_from(report.done).unwrap(), "acknowledged and counted");
        (report, cpu_ns)
    })
    .await
    .expect("no panic");
    let done = report.done as f64;
    let per_cpu = done / (cpu_ns as f64 / 1e9);
    let median = report.micros.get(report.micros.len() / 2).copied().unwrap_or(0);
    figures.add(
        "replicas",
        round,
        &format!("{name}: a second"),
        done / report.took.as_secs_f64(),
        "",
    );
    figures.add("replicas", round, &format!("{name}: a leader's CPU-second"), per_cpu, "");
    figures.add("replicas", round, &format!("{name}: p50"), f64::from(median), "us");
    per_cpu
}

/// Nanoseconds that a process has run.
fn cpu_ns(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let ran = tasks.filter_map(|task| {
        let line = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        line.split(' ').next()?.parse::<u64>().ok()
    });
    ran.sum()
}

/// A replica's node is gone with its data; another node joins in its place while commands go on.
async fn replace(plan: &Plan, dir: &Path, figures: &mut Figures) {
    let config = format!("{CONFIG}[cluster]\npartition_memory_bytes = 4294967296\n");
    let mut cluster = Cluster::start(dir, 3, Founding::Told, &config);
    found(&cluster).await;
    let view = cluster.whole(1).await;
    let leader = (0..3).find(|at| leads(&view, *at) > 0).expect("a leader");
    let options = Options { patience: Duration::from_secs(60), ..Options::to(cluster.endpoints()) };
    let client = Client::connect(options).await.expect("a client");
    let (bytes, entries) = (plan.value_bytes, (plan.mib << 20) / plan.value_bytes as u64);
    let began = Instant::now();
    fill(&client, entries, bytes).await;
    figures.add("replace", 0, "entries", entries as f64, "");
    figures.add("replace", 0, "each value", bytes as f64, "bytes");
    figures.add("replace", 0, "filling", began.elapsed().as_secs_f64(), "s");
    memory(figures, &cluster, leader, "leader, filled");
    let gone = (0..3).find(|at| *at != leader).expect("a follower");
    cluster.kill(gone);
    std::fs::remove_dir_all(cluster.data(gone)).expect("its data");
    cluster.add();
    cluster.run(3);
    look_until_served(&cluster.places[3].api).await;
    forget_peaks(&cluster, &[leader, 3]);
    let probes = Probes::start(&client);
    tokio::time::sleep(plan.span).await;
    probes.tell(figures, "before").await;
    let began = Instant::now();
    let (request, address) = (join(&cluster, leader), cluster.places[3].api.parse().unwrap());
    let _: JoinResponse = blocking(address, "Join", request).await;
    figures.add("replace", 1, "joined and votes", began.elapsed().as_secs_f64(), "s");
    probes.tell(figures, "until it votes").await;
    memory(figures, &cluster, leader, "leader, while it joined");
    memory(figures, &cluster, 3, "newcomer, while it joined");
    tokio::time::sleep(plan.span).await;
    probes.tell(figures, "after").await;
    probes.end().await;
    lead_and_answer(&cluster, (leader, gone), &client, entries, bytes).await;
    figures.add("replace", 1, "the newcomer counts alone with another", 1.0, "");
}

/// Founds partition 1 on the first three.
async fn found(cluster: &Cluster) {
    let members: Vec<MemberConfig> = (0..3).map(|at| member(cluster, at)).collect();
    for at in 0..3 {
        let group = Some(GroupConfig { group_id: 1, members: members.clone() });
        look_until_served(&cluster.places[at].api).await;
        let address = cluster.places[at].api.parse().unwrap();
        let request = BootstrapRequest { group };
        let _: BootstrapResponse = blocking(address, "Bootstrap", request).await;
    }
}

fn join(cluster: &Cluster, other: usize) -> JoinRequest {
    let members = vec![member(cluster, other), member(cluster, 3)];
    JoinRequest { group: Some(GroupConfig { group_id: 1, members }) }
}

fn member(cluster: &Cluster, at: usize) -> MemberConfig {
    let (host, port) = cluster.places[at].peer.rsplit_once(':').expect("an address");
    MemberConfig {
        node_id: at as u32 + 1,
        host: host.to_owned(),
        port: port.parse().expect("a port"),
        role: Role::Member.into(),
    }
}

async fn blocking<I, O>(address: SocketAddr, method: &'static str, request: I) -> O
where
    I: prost::Message + 'static,
    O: prost::Message + Default + 'static,
{
    let asked = tokio::task::spawn_blocking(move || {
        let path = format!("/atomix.multiraft.v1.Node/{method}");
        Wire::connect(address).call(&path, &request)
    });
    asked.await.unwrap_or_else(|_| panic!("{method} was refused"))
}

async fn look_until_served(api: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while tokio::net::TcpStream::connect(api).await.is_err() {
        assert!(Instant::now() < until, "a node does not serve");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn fill(client: &Client, entries: u64, bytes: usize) {
    let next = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..256)
        .map(|_| {
            let (map, next) = (client.map("state"), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= entries {
                        return;
                    }
                    let key = format!("{number:016}");
                    map.put(&key, value(number, bytes)).await.expect("put");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = vec![(number % 251) as u8; bytes];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// Without the other two founders but one, a majority needs the newcomer; all is there.
async fn lead_and_answer(
    cluster: &Cluster,
    (leader, gone): (usize, usize),
    client: &Client,
    entries: u64,
    bytes: usize,
) {
    let address = cluster.places[leader].api.parse().unwrap();
    let _: LeaveResponse = blocking(address, "Leave", LeaveRequest { group_id: 1 }).await;
    let left: Vec<usize> = (0..4).filter(|at| *at != gone && *at != leader).collect();
    assert_eq!(left.len(), 2);
    for number in [0, entries / 2, entries - 1] {
        let found = client.map("state").get(&format!("{number:016}")).await.expect("it was put");
        assert_eq!(found.value[..], value(number, bytes)[..]);
    }
    client.map("state").put("last", "word").await.expect("a majority with the newcomer");
}

/// Clients that put small values into the same partition, 2 ms apart, and how long each took.
struct Probes {
    stop: Arc<AtomicBool>,
    took: Arc<Mutex<Vec<Duration>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Probes {
    fn start(client: &Client) -> Probes {
        let stop = Arc::new(AtomicBool::new(false));
        let took = Arc::new(Mutex::new(Vec::new()));
        let tasks = (0..PROBES)
            .map(|at| {
                let map = client.map("probes");
                let (stop, took) = (stop.clone(), took.clone());
                tokio::spawn(async move {
                    let mut count = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        count += 1;
                        let began = Instant::now();
                        let text = count.to_string();
                        map.put(&at.to_string(), text).await.expect("a put succeeds in the end");
                        took.lock().expect("no panic").push(began.elapsed());
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                })
            })
            .collect();
        Probes { stop, took, tasks }
    }

    /// What came since it was last told, once each client had a success.
    async fn tell(&self, figures: &mut Figures, when: &str) {
        while self.took.lock().expect("no panic").len() < PROBES {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut took = std::mem::take(&mut *self.took.lock().expect("no panic"));
        took.sort();
        figures.add("replace", 1, &format!("commands {when}"), took.len() as f64, "");
        for (name, part) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
            figures.millis("replace", 1, &format!("a command {when}: {name}"), share(&took, part));
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
    }
}

/// Clients that probe.
const PROBES: usize = 8;

/// What a node holds now, and held at most since peaks were forgotten.
fn memory(figures: &mut Figures, cluster: &Cluster, at: usize, who: &str) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(at)));
    let status = status.expect("it runs");
    for (line, what) in [("VmRSS:", "resident"), ("VmHWM:", "resident at most")] {
        let found = status.lines().find_map(|it| it.strip_prefix(line)).expect("Linux");
        let kib: f64 = found.trim().trim_end_matches(" kB").trim().parse().expect("a number");
        figures.add("replace", 1, &format!("{who}: {what}"), kib / 1024.0, "MiB");
    }
}

fn forget_peaks(cluster: &Cluster, nodes: &[usize]) {
    for at in nodes {
        std::fs::write(format!("/proc/{}/clear_refs", cluster.pid(*at)), "5").expect("Linux");
    }
}
