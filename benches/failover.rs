//! How long nobody's command succeeds when the process of a leader is killed: three nodes as
//! processes, clients that increment counters of all partitions, and `kill -9`, again and again.
//!
//! `cargo bench --bench failover` kills fifty times and prints each; inside `cargo test` it kills
//! once, to show that it still works. Each kill hits the node that leads most partitions. What is
//! told is the longest time between two successes of any client around the kill, its own pauses and
//! retries included. At the end each counter is compared with what was acknowledged.

use std::path::Path;
use std::time::Instant;

use nodes::{CONFIG, Cluster, Founding, Load, PARTITIONS, WORKERS, leads, share};
use ringraft::client::{Client, Options};

mod nodes;

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
    let mut cluster = Cluster::start(dir, 3, Founding::Configured, CONFIG);
    cluster.whole(PARTITIONS).await;
    let client = Client::connect(Options::to(cluster.endpoints())).await.expect("a client");
    let load = Load::start(client, WORKERS);
    let mut outages = Vec::new();
    for kill in 1..=kills {
        let view = cluster.whole(PARTITIONS).await;
        load.stall(Instant::now()).await;
        let victim = (0..3).max_by_key(|at| leads(&view, *at)).expect("a node");
        let began = Instant::now();
        cluster.kill(victim);
        let outage = load.stall(began).await;
        println!(
            "kill {kill}: node {} of {} leaders, {outage:.1?}",
            victim + 1,
            leads(&view, victim)
        );
        outages.push(outage);
        cluster.run(victim);
    }
    load.end().await;
    outages.sort();
    println!(
        "{} kills: p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, longest {:.1?}; each increment counted once",
        outages.len(),
        share(&outages, 0.5),
        share(&outages, 0.9),
        share(&outages, 0.99),
        share(&outages, 1.0)
    );
}
