//! Kept seeds, each with what it was, and fresh ones (style.md R14).
//!
//! `SIM_SEEDS` says how many fresh ones (200), `SIM_BASE` where they begin; without it they begin
//! at a number made from the commit that was built, so that every commit walks new ground and every
//! walk can be repeated: the base is printed. A seed that fails prints everything it drew and the
//! line that repeats it.

#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use ringraft::prng::mix;
use ringraft::sim::{Options, Report, run};

/// Seeds that found something, or that walk where few do.
const KEPT: [(u64, &str); 1] = [(1, "the first world there was")];

#[test]
fn kept_seeds() {
    let seeds: Vec<u64> = KEPT.iter().map(|(seed, _)| *seed).collect();
    all(&seeds);
}

#[test]
fn fresh_seeds() {
    let count = number("SIM_SEEDS").unwrap_or(200);
    let base = number("SIM_BASE").unwrap_or_else(|| {
        let commit = option_env!("RINGRAFT_COMMIT").unwrap_or("unknown");
        mix(commit.bytes().fold(7, |sum, byte| mix(sum ^ u64::from(byte)))) >> 20
    });
    println!("fresh seeds: SIM_BASE={base} SIM_SEEDS={count}");
    let seeds: Vec<u64> = (base..base + count).collect();
    all(&seeds);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 100..106 {
        let (first, second) = (run(seed, Options::default()), run(seed, Options { story: true }));
        assert_eq!(first.events, second.events, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}

/// Runs them on two threads: worlds share nothing.
fn all(seeds: &[u64]) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (events, began) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = run(*seed, Options::default());
                    events.fetch_add(report.events, Ordering::Relaxed);
                    if !report.is_fine() {
                        failed.lock().unwrap().push(report);
                    }
                }
            });
        }
    });
    let events = events.into_inner();
    println!("{} seeds, {events} events, {:.1} s", seeds.len(), began.elapsed().as_secs_f64());
    let mut failed: Vec<Report> = failed.into_inner().unwrap();
    failed.sort_by_key(|report| report.seed);
    for report in &failed {
        println!("{report}");
    }
    let which: Vec<u64> = failed.iter().map(|report| report.seed).collect();
    assert!(which.is_empty(), "seeds that failed: {which:?}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
