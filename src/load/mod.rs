//! The load generator: drives a server with a named workload, measures, and checks what it gets.
//!
//! ```text
//!   plan.rs    what is to be done            arrival.rs keys.rs content.rs   when, whom, what: pure
//!   course.rs  the phases, all threads       drive.rs keep.rs line.rs        one thread
//!   work/      what sessions do, and what is right       ask.rs speech.rs atomix.rs   calls as bytes
//!   measure.rs report.rs html.rs chart.rs merge.rs sweep.rs     what was measured
//!   ceiling/   echoes and a disk that bound what any server can do
//! ```
//!
//! # Contract
//!
//! * An open loop measures from when a call was due: a stall is measured and not skipped.
//! * A wrong answer ends the run and is told; it is never counted as work done.
//! * The generator says when the limit it found is its own.
//!
//! # Decisions
//!
//! * *Own code on epoll and the client role of `wire/http2`, no tasks*: a call costs a fraction of
//!   a microsecond, so one core of load is enough for one core of server. The client library costs
//!   five times what the server does; measuring through it would measure it.
//! * *What is right is judged without an order*: answers of concurrent calls are checked against
//!   floors and sums (`work/`), in constant memory. The models of `crate::workload` judge histories
//!   of known order, as the simulator's; the operations and their bytes are the same.

pub mod arrival;
pub mod ask;
pub mod atomix;
pub mod ceiling;
pub mod chart;
pub mod content;
pub mod course;
mod drive;
pub mod html;
mod keep;
pub mod keys;
mod line;
pub mod measure;
pub mod merge;
pub mod plan;
pub mod report;
pub mod speech;
pub mod sweep;
pub mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use self::course::{Ending, Part, Race};
use self::measure::{Counts, Latencies, Meter, join, latencies};
use self::plan::Plan;
use self::work::{Common, Ledger};

/// What a run brought.
#[derive(Debug)]
pub struct Outcome {
    /// The plan.
    pub plan: Plan,
    /// What was measured, by verb.
    pub meter: Meter,
    /// Over time.
    pub slices: Vec<Latencies>,
    /// How long one slice is.
    pub slice_ns: u64,
    /// From the beginning of measuring to its end.
    pub measured: Duration,
    /// The share of its time that the busiest thread ran, and that it waited for a core.
    pub ran_share: f64,
    /// The share that it waited for a core.
    pub waited_share: f64,
    /// Nanoseconds that all threads ran.
    pub ran_ns: u64,
    /// Answers that are wrong, the first of them in words.
    pub wrong: Vec<String>,
    /// The last trouble that passed.
    pub trouble: Option<String>,
    /// It was interrupted.
    pub was_stopped: bool,
    /// Why it ended early.
    pub ending: Option<Ending>,
}

/// What is going on, for a line on the terminal.
#[derive(Debug)]
pub struct Progress {
    /// Since the clock started; `None` while it is prepared.
    pub elapsed: Option<Duration>,
    /// What was answered since the last look.
    pub latencies: Latencies,
    /// In which time.
    pub span: Duration,
    /// The last trouble.
    pub trouble: Option<String>,
}

/// Runs a plan to its end, or until `stop` is set; `progress` is told about every second.
///
/// # Errors
/// It could not begin.
pub fn run(
    plan: Plan,
    stop: &Arc<AtomicBool>,
    mut progress: impl FnMut(&Progress),
) -> Result<Outcome, Ending> {
    let threads = plan.threads;
    let common = Arc::new(Common::new(plan));
    let race = Arc::new(Race::new(Arc::clone(&common), Arc::clone(stop)));
    let start = |thread: usize| {
        let race = Arc::clone(&race);
        let named = thread::Builder::new().name(format!("load-{thread}"));
        named.spawn(move || race.run(thread))
    };
    let started: Result<Vec<_>, _> = (0..threads).map(start).collect();
    let started = started.map_err(|error| Ending::Broken(format!("a thread: {error}")))?;
    let mut told = (Instant::now(), 0);
    while !started.iter().all(thread::JoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(20));
        if told.0.elapsed() >= Duration::from_secs(1) {
            progress(&look(&race, &mut told));
        }
    }
    let mut parts = Vec::new();
    let mut failure = None;
    for each in started {
        match each.join().unwrap_or_else(|_| Err(Ending::Broken("a thread died".to_owned()))) {
            Ok(part) => parts.push(part),
            // What others stopped for says more than that they stopped.
            Err(Ending::Stopped) if failure.is_some() => {}
            Err(ending) => failure = Some(ending),
        }
    }
    match failure {
        Some(ending) => Err(ending),
        None => Ok(together(&race, parts)),
    }
}

fn look(race: &Race, told: &mut (Instant, usize)) -> Progress {
    let board = race.board();
    let mut all = latencies(2);
    let from = told.1.min(board.slices.len());
    board.slices[from..].iter().for_each(|slice| join(&mut all, slice));
    let slice = Duration::from_nanos(race.common.plan.slice_ns());
    let span = slice * (board.slices.len() - from) as u32;
    *told = (Instant::now(), board.slices.len());
    let elapsed = board.began.map(|began| began.elapsed());
    Progress { elapsed, latencies: all, span, trouble: board.trouble.clone() }
}

fn together(race: &Race, parts: Vec<Part>) -> Outcome {
    let (mut meter, mut ledger) = (Meter::default(), Ledger::default());
    let (mut ran_share, mut waited_share, mut ran_ns, mut span_ns) = (0f64, 0f64, 0, 0);
    let mut ending = None;
    for part in parts {
        meter.add(&part.meter);
        ledger.add(&part.ledger);
        ran_share = ran_share.max(part.ran_ns as f64 / part.span_ns.max(1) as f64);
        waited_share = waited_share.max(part.waited_ns as f64 / part.span_ns.max(1) as f64);
        ran_ns += part.ran_ns;
        span_ns = span_ns.max(part.span_ns);
        ending = ending.or(part.ending);
    }
    // A write that nobody answered may have been heard of.
    ledger.written.2 += meter.counts.unanswered;
    let plan = race.common.plan.clone();
    let mut board = race.board();
    let mut wrong = std::mem::take(&mut board.wrong);
    // Sums can only be compared when everybody got to the end.
    if ending.is_none() && plan.is_checked {
        wrong.extend(ledger.check(&plan.name).into_iter().take(10));
    }
    let end = race.end_ns.min(span_ns).max(race.warm_ns + 1);
    Outcome {
        slice_ns: plan.slice_ns(),
        meter,
        slices: std::mem::take(&mut board.slices),
        measured: Duration::from_nanos(end - race.warm_ns),
        ran_share,
        waited_share,
        ran_ns,
        wrong,
        trouble: board.trouble.take(),
        was_stopped: span_ns < race.end_ns,
        ending,
        plan,
    }
}

/// What happened besides, of an outcome.
#[must_use]
pub const fn counts(outcome: &Outcome) -> &Counts {
    &outcome.meter.counts
}
