//! Kept seeds, each with what it was or what it would show, fresh ones, and worlds that press on
//! one promise (style.md R14).
//!
//! `SIM_SEEDS` says how many fresh ones: 2,000, and a slice of them where the build has the shells
//! that touch the world, which differ in nothing here. `SIM_BASE` says where they begin. Without it
//! they are always the same, so that a red run is the fault of a change and never luck; new ground
//! is for nights: `SIM_SEEDS=20000 SIM_BASE=$RANDOM`. A seed that fails prints everything it drew
//! and the line that repeats it. What so many worlds must have met is `MET`.

#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use ringraft::id::{NodeId, PartitionId};
use ringraft::shard::inbox::Role;
use ringraft::sim::coverage::{Coverage, Seen};
use ringraft::sim::fault::{Fault, LEADER, Plan, What};
use ringraft::sim::habits::Habits;
use ringraft::sim::operator::{Act, Wish};
use ringraft::sim::setup::Setup;
use ringraft::sim::tomorrow::{DAY_AFTER, TOMORROW};
use ringraft::sim::topic::Topic;
use ringraft::sim::{Options, Report, run, run_setup};
use ringraft::wire::format::FORMATS;
use ringraft::workload::Mix;

/// Seeds that found something, or that walk where few do, each with the mixes and topics it was
/// drawn among.
const KEPT: &[(u64, &[Mix], &[Topic], &str)] = &[
    (1, &FIRST, &[], "the first world there was"),
    (
        27,
        &FIRST,
        &[],
        "a follower behind the log waited for ever: its snapshot was off the shelf at once",
    ),
    (5144, &Mix::ALL, &[], "who was being removed was elected, and led without belonging"),
    (
        7003,
        &Mix::ALL,
        &[],
        "a learner of a quiet group was never made a voter after a snapshot twice",
    ),
    (
        70318,
        &Mix::ALL,
        &[],
        "a leader lost with its power what its witness had, and never led again",
    ),
    (
        12_131_014_244_209,
        &Mix::ALL,
        &FIRST_TOPICS,
        "two terms of one stamp gave sessions another index on who was restored in between",
    ),
    (
        12_131_014_245_374,
        &Mix::ALL,
        &FIRST_TOPICS,
        "a leader that left had committed with witnesses alone, and nobody could follow it",
    ),
    (
        12_131_014_243_289,
        &Mix::ALL,
        &FIRST_TOPICS,
        "a snapshot that was sent once more before it was recorded began anew each time",
    ),
    (
        13_734_580_537_333,
        &Mix::ALL,
        &FIRST_TOPICS,
        "who was removed heard its leader late, and asked that one to leave after it had left",
    ),
    (
        13_734_580_540_978,
        &Mix::ALL,
        &FIRST_TOPICS,
        "a learner followed a leader that had left, and asked nobody else to let it go",
    ),
    (
        13_734_580_536_819,
        &Mix::ALL,
        &FIRST_TOPICS,
        "who was removed, and whose vote the one who stays needed, had no clock to give it",
    ),
    (
        12_131_014_243_314,
        &Mix::ALL,
        &FIRST_TOPICS,
        "a busy partition took one snapshot after another, and a learner was never read one",
    ),
    (
        12_131_014_243_529,
        &Mix::ALL,
        &FIRST_TOPICS,
        "a snapshot was sent while a newer one was taken, whose end freed its place on the disk",
    ),
    (
        777_000_392,
        &Mix::ALL,
        &FIRST_TOPICS,
        "a snapshot that was sent twice was forgotten when the first of the two arrived",
    ),
    (
        777_000_536,
        &Mix::ALL,
        &FIRST_TOPICS,
        "a newer snapshot was begun before who had waited for the last could ask for it",
    ),
    (67, &FIRST, &[], "shows a leader that answers reads without asking a quorum"),
    (178, &FIRST, &[], "shows a leader that answers reads without asking a quorum"),
    (227, &FIRST, &[], "shows a leader that answers reads without asking a quorum"),
    (236, &FIRST, &[], "shows answers that leave before they are durable"),
    (290, &FIRST, &[], "shows answers that leave before they are durable"),
    (320, &FIRST, &[], "shows answers that leave before they are durable"),
];

/// The mixes of the first kinds.
const FIRST: [Mix; 6] =
    [Mix::Counters, Mix::CounterAll, Mix::Puts, Mix::MapAll, Mix::Locks, Mix::Elections];

/// The first topics.
const FIRST_TOPICS: [Topic; 5] =
    [Topic::Ends, Topic::Formats, Topic::Wipes, Topic::Deadlines, Topic::Sleeps];

#[test]
fn kept_seeds() {
    let kept = KEPT.iter().map(|(seed, mixes, topics, _)| Setup::drawn_among(*seed, mixes, topics));
    all(&kept.collect::<Vec<_>>());
}

#[test]
fn fresh_seeds() {
    let usual = if cfg!(feature = "io") { 100 } else { 2_000 };
    let count = number("SIM_SEEDS").unwrap_or(usual);
    let base = number("SIM_BASE").unwrap_or(BASE);
    println!("fresh seeds: SIM_BASE={base} SIM_SEEDS={count}");
    let met = all(&(base..base + count).map(Setup::drawn).collect::<Vec<_>>());
    println!("{met}");
    if count < WORLDS_THAT_TELL {
        return;
    }
    assert!(MET.iter().map(|(what, _)| *what).eq(Seen::ALL), "each once, in its order");
    let rare = |(what, floor): &&(Seen, u64)| met.worlds(*what) * 1000 < floor * count;
    let rare: Vec<_> = MET.iter().filter(rare).collect();
    assert!(rare.is_empty(), "met in too few of {count} worlds (of a thousand): {rare:?}");
}

/// In how many of a thousand worlds each must be met: half of what was counted, so that who makes a
/// case rare or loses it hears of it.
const MET: [(Seen, u64); Seen::ALL.len()] = [
    (Seen::Forwarded, 430),
    (Seen::Rested, 390),
    (Seen::BundleLost, 360),
    (Seen::PostMissed, 420),
    (Seen::Joined, 190),
    (Seen::Left, 170),
    (Seen::WitnessJoined, 30),
    (Seen::Transferred, 160),
    (Seen::HandedOver, 120),
    (Seen::Destroyed, 15),
    (Seen::Wiped, 15),
    (Seen::Replaced, 30),
    (Seen::Recovered, 390),
    (Seen::Torn, 100),
    (Seen::Snapshot, 290),
    (Seen::SnapshotAgain, 60),
    (Seen::OlderFormat, 110),
    (Seen::UnknownField, 85),
    (Seen::Upgraded, 115),
    (Seen::LinkRefused, 12),
    (Seen::Resumed, 220),
    (Seen::SessionExpired, 55),
    (Seen::EntryExpired, 50),
    (Seen::Deadline, 50),
    (Seen::DiskFull, 70),
    (Seen::NoRoom, 145),
    (Seen::ClockStep, 40),
];

/// Where the usual worlds begin. Of the first 2,000 from here nine broke a promise when they were
/// walked first.
const BASE: u64 = 12_131_014_243_165;

/// Fewer say nothing about what is rare.
const WORLDS_THAT_TELL: u64 = 1_000;

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 100..106 {
        let (first, second) = (run(seed, Options::default()), run(seed, Options { story: true }));
        assert_eq!(first.events, second.events, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}

/// One writes, three read, and the leader is cut off once a second: who reads from a leader that
/// does not know yet that it is none must not see the past.
#[test]
fn cut_leaders_answer_nothing_stale() {
    for seed in 0..4 {
        let alone = What::Alone { node: LEADER, hears: false, speaks: false, for_ns: 500_000_000 };
        let habits = |reads| Habits { reads, ..eager(Mix::Counters) };
        let clients = vec![habits(false), habits(true), habits(true), habits(true)];
        let _ = must_hold(repeated(seed, clients, &alone, 800_000_000));
    }
}

/// All nodes lose power together, again and again: whatever was acknowledged is there afterwards.
#[test]
fn blackouts_lose_nothing() {
    for seed in 0..4 {
        let blackout = What::Blackout { down_ns: 30_000_000 };
        let clients = vec![eager(Mix::Counters), eager(Mix::MapAll), eager(Mix::Puts)];
        let _ = must_hold(repeated(seed, clients, &blackout, 400_000_000));
    }
}

/// Somebody skips a program: node 3 speaks nothing that the others do, is refused, and is in again
/// once they are upgraded, one after another.
#[test]
fn who_has_no_format_in_common_waits_for_the_others() {
    let restart = |at_ms: u64, node, formats| {
        let (drains_ns, down_ns, formats) = (50_000_000, 20_000_000, Some(formats));
        let what = What::Restart { node: NodeId(node), drains_ns, down_ns, formats };
        Fault { at_ns: at_ms * 1_000_000, what }
    };
    for seed in 0..4 {
        let calm = What::Rumour { node: LEADER };
        let mut setup = repeated(seed, vec![eager(Mix::Counters)], &calm, 1_000_000_000);
        setup.formats = vec![FORMATS; 3];
        let upgrades = [restart(1500, 1, TOMORROW), restart(2200, 2, TOMORROW)];
        setup.plan.faults = vec![restart(500, 3, DAY_AFTER)];
        setup.plan.faults.extend(upgrades);
        let met = must_hold(setup);
        assert_eq!(met.times(Seen::Upgraded), 3);
        assert!(met.times(Seen::LinkRefused) > 0, "node 3 was refused for a second");
    }
}

/// A node that comes back with nothing is nobody's peer any more; another takes its place.
#[test]
fn who_comes_back_with_nothing_is_replaced() {
    for seed in 0..4 {
        let wipe = What::Wipe { node: NodeId(2), down_ns: 100_000_000 };
        let mut setup = repeated(seed, vec![eager(Mix::Puts)], &wipe, 2_000_000_000);
        setup.spares = 1;
        let (partition, at_ns) = (PartitionId(1), 2_200_000_000);
        let wishes = [Wish::Join(NodeId(4), Role::Member), Wish::Dismiss(NodeId(2))];
        setup.acts = wishes.map(|what| Act { at_ns, partition, what }).into();
        let met = must_hold(setup);
        assert!(met.times(Seen::LinkRefused) > 0, "node 2 was refused");
        assert_eq!((met.times(Seen::Wiped), met.times(Seen::Replaced)), (1, 1));
    }
}

/// The leader of two members and a witness is lost for good, while links lose much: the other
/// member leads on, as the witness has nothing that it lacks.
#[test]
fn a_member_and_a_witness_are_enough() {
    for seed in 0..8 {
        let destroy = What::Destroy { node: LEADER };
        let clients = vec![eager(Mix::Counters), eager(Mix::Puts)];
        let mut setup = repeated(seed, clients, &destroy, 1_600_000_000);
        setup.witness = Some(NodeId(2 + seed as u32 % 2));
        setup.plan.manners.loss = 100;
        must_hold(setup);
    }
}

/// Three quiet nodes and one fault, over and over.
fn repeated(seed: u64, clients: Vec<Habits>, what: &What, each_ns: u64) -> Setup {
    let mut setup = Setup::calm(3, 1, 1);
    setup.seed = seed;
    setup.tuning.tick_ns = 10_000_000;
    setup.clients = clients;
    setup.plan = Plan::calm(3_000_000_000);
    let times = (1..).map(|number| number * each_ns).take_while(|at_ns| *at_ns < 3_000_000_000);
    setup.plan.faults = times.map(|at_ns| Fault { at_ns, what: what.clone() }).collect();
    setup
}

/// A client that never tires and is soon impatient.
fn eager(mix: Mix) -> Habits {
    Habits {
        partition: PartitionId(1),
        mixes: vec![(mix, mix.name().to_owned())],
        at_once: 1,
        think_ns: 6_000_000,
        patience_ns: 60_000_000,
        timeout_ns: 4_000_000_000,
        doubles: 50,
        repeats: 50,
        gives_up: 0,
        deadlines: 0,
        reads: false,
        roams: 0,
        listens: true,
        sleeps_ns: 0..0,
        dies_ns: u64::MAX,
    }
}

fn must_hold(setup: Setup) -> Coverage {
    let report = run_setup(setup, Options::default());
    assert!(report.is_fine(), "{report}");
    assert!(report.operations.1 > 100, "too little was done: {report}");
    report.coverage
}

/// Runs them on all cores: worlds share nothing. What they met.
fn all(setups: &[Setup]) -> Coverage {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let met = Mutex::new(Coverage::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let (events, began) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(setup) = setups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = run_setup(setup.clone(), Options::default());
                    events.fetch_add(report.events, Ordering::Relaxed);
                    met.lock().unwrap().gather(&report.coverage);
                    if !report.is_fine() {
                        failed.lock().unwrap().push(report);
                    }
                }
            });
        }
    });
    let events = events.into_inner();
    println!("{} seeds, {events} events, {:.1} s", setups.len(), began.elapsed().as_secs_f64());
    let mut failed: Vec<Report> = failed.into_inner().unwrap();
    failed.sort_by_key(|report| report.seed);
    for report in &failed {
        println!("{report}");
    }
    let which: Vec<u64> = failed.iter().map(|report| report.seed).collect();
    assert!(which.is_empty(), "seeds that failed: {which:?}");
    met.into_inner().unwrap()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
