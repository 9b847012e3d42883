//! Shell B: a seed instead of sockets, disks and clocks.
//!
//! `run(seed, …)` draws a world (`setup.rs`, `fault.rs`), lets it happen (`world.rs`), mends
//! everything, demands progress, lets every client read everything once more, waits until all
//! replicas are level, and then judges what the clients saw (`check.rs`). The same seed gives the
//! same run, byte for byte: `Report::hash` covers every input and output of every turn.
//!
//! ```text
//! setup ─► world ─┬─ node ─ core ─ Shard::turn      the same verb as the wet shell (design.md 5)
//!                 ├─ net · disk · clock             what goes wrong lives here
//!                 ├─ client ─► history ─► check     what clients saw, and whether it can be so
//!                 ├─ coverage                       what was met on the way, counted
//!                 └─ trace                          one number and, when asked for, a story
//! ```
//!
//! `story.rs` drives the same world by hand, for the golden files. Absent on purpose: any shortcut
//! into a partition; the simulator knows the shard by its one verb and its read-only figures.

pub mod call;
pub mod check;
pub mod client;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod fault;
pub mod habits;
pub mod history;
pub mod linear;
pub mod net;
pub mod node;
pub mod operator;
pub mod queue;
pub mod setup;
pub mod shell;
pub mod speech;
pub mod story;
pub mod tomorrow;
pub mod topic;
pub mod trace;
pub mod verbs;
pub mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use coverage::Coverage;
use setup::Setup;
use topic::Topic;
use world::World;

use crate::workload::Mix;

/// How a run is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep a line for each interesting event.
    pub story: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The mixes it was drawn among, when those are not all: what `--mixes` takes.
    pub among: Option<String>,
    /// The topics it was drawn with, when those are not all: what `--topics` takes.
    pub about: Option<String>,
    /// Everything that the seed drew, as text.
    pub drawn: String,
    /// What is wrong; empty when all is well.
    pub wrong: Vec<String>,
    /// Every input and output in one number.
    pub hash: u64,
    /// Events of the world.
    pub events: u64,
    /// Simulated nanoseconds.
    pub took_ns: u64,
    /// Operations that clients began, and that came back to them.
    pub operations: (usize, usize),
    /// Histories of keys that have an order, and whose search ended at its bound.
    pub keys: (usize, usize),
    /// What was met on the way.
    pub coverage: Coverage,
    /// The story, when it was asked for.
    pub story: Vec<String>,
}

/// Runs the world that `seed` stands for.
#[must_use]
pub fn run(seed: u64, options: Options) -> Report {
    run_setup(Setup::drawn(seed), options)
}

/// Runs a world of this setup. A panic in it is one of the things that are wrong.
#[must_use]
pub fn run_setup(setup: Setup, options: Options) -> Report {
    let (seed, drawn) = (setup.seed, setup.to_string());
    let among = (setup.mixes != Mix::ALL).then(|| {
        let names: Vec<&str> = setup.mixes.iter().map(|mix| mix.name()).collect();
        names.join(",")
    });
    let about = (setup.topics != Topic::ALL).then(|| {
        let names: Vec<&str> = setup.topics.iter().map(|topic| topic.name()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(",") }
    });
    let ran = catch_unwind(AssertUnwindSafe(|| live(setup, options)));
    match ran {
        Ok(report) => Report { among, about, drawn, ..report },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let wrong = vec![format!("panic: {}", text.unwrap_or_default())];
            Report { among, about, drawn, wrong, ..Report::empty(seed) }
        }
    }
}

impl Report {
    /// Whether all is well.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.wrong.is_empty()
    }

    fn empty(seed: u64) -> Report {
        Report {
            seed,
            among: None,
            about: None,
            drawn: String::new(),
            wrong: Vec::new(),
            hash: 0,
            events: 0,
            took_ns: 0,
            operations: (0, 0),
            keys: (0, 0),
            coverage: Coverage::default(),
            story: Vec::new(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{}", self.drawn)?;
        let ((began, answered), (linear, open)) = (self.operations, self.keys);
        writeln!(
            f,
            "{:.3} s, {} events, {began} operations of which {answered} answered, \
             {linear} keys in order, {open} undecided, hash {:016x}",
            self.took_ns as f64 / 1e9,
            self.events,
            self.hash
        )?;
        for what in &self.wrong {
            writeln!(f, "WRONG: {what}")?;
        }
        if !self.is_fine() {
            write!(f, "again: cargo run --release -- sim --seed {} --story", self.seed)?;
            self.among.iter().try_for_each(|mixes| write!(f, " --mixes {mixes}"))?;
            self.about.iter().try_for_each(|topics| write!(f, " --topics {topics}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

fn live(setup: Setup, options: Options) -> Report {
    let heals_ns = setup.plan.heals_ns;
    let mut world = World::new(setup, options.story);
    run_until(&mut world, heals_ns);
    progress(&mut world);
    settle(&mut world);
    let calm_ns = world.now_ns + CALM_NS;
    run_until(&mut world, calm_ns);
    finish(&mut world);
    let done_ns = world.now_ns;
    level(&mut world);
    judge(world, done_ns)
}

fn run_until(world: &mut World, until_ns: u64) {
    while world.wrong.is_empty() && world.next_at_ns().is_some_and(|at_ns| at_ns <= until_ns) {
        step(world);
    }
}

/// After everything is mended each client that lives gets something done.
fn progress(world: &mut World) {
    let since: Vec<u64> = world.clients.iter().map(|client| client.completed).collect();
    let until_ns = world.now_ns + PROGRESS_NS;
    while world.wrong.is_empty() {
        let now_ns = world.now_ns;
        let stuck = world
            .clients
            .iter()
            .zip(&since)
            .find(|(client, before)| !client.is_dead(now_ns) && client.completed <= **before);
        let Some((client, _)) = stuck else { return };
        if now_ns > until_ns {
            let (number, partition) = (client.number, client.partition);
            let state = world.standings();
            world.wrong.push(format!(
                "client {number} got nothing done on partition {partition} in the {} s after \
                 everything was mended\n{state}",
                PROGRESS_NS / 1_000_000_000
            ));
            return;
        }
        step(world);
    }
}

/// After everything is mended the operator gets what was wanted.
fn settle(world: &mut World) {
    let until_ns = world.now_ns + PROGRESS_NS;
    while world.wrong.is_empty() && !world.operator.is_done() {
        if world.now_ns > until_ns {
            let open = world.operator.tasks.iter().filter(|task| !task.done);
            let open: Vec<String> = open.map(|task| task.act.to_string()).collect();
            let (open, state) = (open.join("\n"), world.standings());
            world
                .wrong
                .push(format!("the operator does not get what was wanted:\n{open}\n{state}"));
        }
        step(world);
    }
}

/// Clients let what is under way end and read everything once more.
fn finish(world: &mut World) {
    let until_ns = world.now_ns + FINISH_NS;
    for client in &mut world.clients {
        client.finish();
    }
    world.wake_clients();
    while world.wrong.is_empty() {
        let now_ns = world.now_ns;
        let Some(late) = world.clients.iter().find(|client| !client.is_done(now_ns)) else {
            return;
        };
        if now_ns > until_ns {
            let what = format!("the end of a client did not come: {late:#?}\n");
            let state = world.standings();
            world.wrong.push(what + &state);
            return;
        }
        step(world);
    }
}

/// Every replica of every partition comes to hold the same.
fn level(world: &mut World) {
    let until_ns = world.now_ns + LEVEL_NS;
    while world.wrong.is_empty() && !world.is_level() {
        if world.now_ns > until_ns {
            let state = world.standings();
            world.wrong.push(format!("replicas stay apart:\n{state}"));
        }
        for _ in 0..50 {
            step(world);
        }
    }
}

/// Clients were done at `done_ns`.
fn judge(mut world: World, done_ns: u64) -> Report {
    let now_ns = world.now_ns;
    world.count();
    for client in &world.clients {
        if client.is_dead(now_ns) {
            continue;
        }
        if let Some(place) = client.session() {
            let session = &mut world.history.sessions[place];
            // Who was done before the others kept nothing alive while it waited for them.
            session.survived = done_ns < session.confirmed + session.timeout_ns;
        }
    }
    let findings = check::check(&world.history, &world.setup.plan);
    let mut wrong = std::mem::take(&mut world.wrong);
    for client in &mut world.clients {
        wrong.append(&mut client.complaints);
    }
    wrong.extend(findings.wrong);
    let answered = world.history.records.iter().filter(|record| record.back.is_some()).count();
    Report {
        wrong,
        hash: world.trace.hash(),
        events: world.trace.events(),
        took_ns: now_ns,
        operations: (world.history.records.len(), answered),
        keys: (findings.linear, findings.open),
        coverage: world.history.coverage,
        story: world.trace.take_lines(),
        ..Report::empty(world.setup.seed)
    }
}

fn step(world: &mut World) {
    assert!(world.step(), "nothing is to come, with clocks that tick");
    if world.trace.events() >= EVENTS_MAX && world.wrong.is_empty() {
        let what = format!("{EVENTS_MAX} events, and no end: the world is busy with itself\n");
        let state = world.standings();
        world.wrong.push(what + &state);
    }
}

/// How long after mending each client may need to get something done: an election or two, the end
/// of dead sessions that hold a lock, and its own patience.
const PROGRESS_NS: u64 = 20_000_000_000;

/// How long clients go on after everybody got something done.
const CALM_NS: u64 = 300_000_000;

/// How long clients may need to end what is under way.
const FINISH_NS: u64 = 60_000_000_000;

/// How long replicas may need to come level once nothing is asked of them.
const LEVEL_NS: u64 = 10_000_000_000;

/// Fifty times what a run of these sizes has.
const EVENTS_MAX: u64 = 3_000_000;
