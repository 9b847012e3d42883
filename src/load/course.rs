//! The course of a run: what all threads go through together, and how it can end.
//!
//! Threads meet twice: when all are prepared, so that the clock starts for all at once, and when
//! all have finished what they had begun, so that the last reads see everything. A thread that
//! fails still comes to both, and makes the others stop.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::epoll;

use super::arrival::{Arrivals, Pace};
use super::ask::Ask;
use super::drive::{Drive, Lane, Phase, Seat, buffer};
use super::measure::{Latencies, Meter, join, latencies};
use super::plan::Role;
use super::work::{Common, Ledger};
use crate::prng::Prng;

/// What the threads of a run share.
#[derive(Debug)]
pub struct Race {
    /// The plan, and what judges of answers share.
    pub common: Arc<Common>,
    /// Set by whoever wants it to end early.
    pub stop: Arc<AtomicBool>,
    /// When measuring begins and ends, in nanoseconds of the run.
    pub warm_ns: u64,
    /// When nothing is begun any more.
    pub end_ns: u64,
    slice_ns: u64,
    barrier: Barrier,
    failed: AtomicBool,
    board: Mutex<Board>,
}

/// What is known while it runs.
#[derive(Debug)]
pub struct Board {
    /// When the clock was started.
    pub began: Option<Instant>,
    /// By slice of time.
    pub slices: Vec<Latencies>,
    /// Answers that are wrong, the first of them in words.
    pub wrong: Vec<String>,
    /// All wrong answers.
    pub wrongs: u64,
    /// What the last passing trouble was.
    pub trouble: Option<String>,
}

/// Why a run does not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// No connection.
    Unreachable(String),
    /// Something else listens there.
    Strange(String),
    /// The server refuses this call.
    Refused(&'static str, String),
    /// A session died although it was kept alive.
    Lost(String),
    /// Nothing comes back.
    Silent(String),
    /// This side fails.
    Broken(String),
    /// It was interrupted before it could begin.
    Stopped,
}

/// What one thread brings home.
#[derive(Debug)]
pub struct Part {
    /// What it measured.
    pub meter: Meter,
    /// What adds up with the others'.
    pub ledger: Ledger,
    /// Nanoseconds that it ran, and that it wanted to run and did not, from start to drained.
    pub ran_ns: u64,
    /// Nanoseconds that it waited for a core.
    pub waited_ns: u64,
    /// How long that was.
    pub span_ns: u64,
    /// Why it ended early.
    pub ending: Option<Ending>,
}

/// Wrong answers that are kept in words.
const WRONG_MAX: usize = 10;

impl Race {
    /// A race of this plan.
    #[must_use]
    pub fn new(common: Arc<Common>, stop: Arc<AtomicBool>) -> Race {
        let plan = &common.plan;
        let warm_ns = plan.warmup.as_nanos() as u64;
        let board =
            Board { began: None, slices: Vec::new(), wrong: Vec::new(), wrongs: 0, trouble: None };
        Race {
            warm_ns,
            end_ns: warm_ns + plan.duration.as_nanos() as u64,
            slice_ns: plan.slice_ns(),
            barrier: Barrier::new(plan.threads),
            failed: AtomicBool::new(false),
            board: Mutex::new(board),
            stop,
            common,
        }
    }

    /// Whether nothing is to be begun any more.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.end_ns || self.stop.load(Ordering::Relaxed)
    }

    /// In which slice of the measured time `now` lies.
    #[must_use]
    pub fn slice(&self, now: u64) -> usize {
        (now.saturating_sub(self.warm_ns) / self.slice_ns) as usize
    }

    /// An answer is wrong: the run ends.
    pub fn wrong(&self, what: String) {
        if !self.common.plan.is_checked {
            return;
        }
        let mut board = self.board();
        board.wrongs += 1;
        if board.wrong.len() < WRONG_MAX {
            board.wrong.push(what);
        }
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Something went wrong that may pass.
    pub fn troubled(&self, what: &str) {
        let mut board = self.board();
        if board.trouble.as_deref() != Some(what) {
            board.trouble = Some(what.to_owned());
        }
    }

    /// What is known now.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of one thread.
    ///
    /// # Errors
    /// It could not begin.
    pub fn run(self: &Arc<Race>, thread: usize) -> Result<Part, Ending> {
        let prepared = Drive::new(self, thread).and_then(|mut drive| {
            drive.prepare()?;
            Ok(drive)
        });
        if prepared.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        if self.barrier.wait().is_leader() {
            self.board().began = Some(Instant::now());
        }
        self.barrier.wait();
        let began = self.board().began.unwrap_or_else(Instant::now);
        let mut drive = prepared?;
        if self.failed.load(Ordering::Acquire) {
            return Err(Ending::Stopped);
        }
        let (ran, waited) = spent();
        drive.start(began);
        let ran_out = drive.race_on();
        if ran_out.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        let span_ns = drive.now();
        let (ran_ns, waited_ns) = spent();
        self.barrier.wait();
        let ending = ran_out.and_then(|()| drive.finish()).err();
        drive.hand_in_all();
        let (meter, ledger) = (drive.take_meter(), drive.work.ledger());
        let (ran_ns, waited_ns) = (ran_ns - ran, waited_ns - waited);
        Ok(Part { meter, ledger, ran_ns, waited_ns, span_ns, ending })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Unreachable(why) => write!(f, "no connection: {why}"),
            Ending::Strange(why) => write!(f, "what listens there is no gRPC server: {why}"),
            Ending::Refused(verb, why) => write!(f, "{verb} is refused: {why}"),
            Ending::Lost(why) => write!(f, "a session was lost although it was kept alive: {why}"),
            Ending::Silent(why) => write!(f, "the server does not answer: {why}"),
            Ending::Broken(why) => f.write_str(why),
            Ending::Stopped => f.write_str("interrupted before it could begin"),
        }
    }
}

impl Drive {
    fn new(race: &Arc<Race>, thread: usize) -> Result<Drive, Ending> {
        let broken = |error| Ending::Broken(format!("epoll: {error}"));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(broken)?;
        let plan = &race.common.plan;
        // Sleeping to the nanosecond: the kernel's default is 50 µs late.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let lines: Vec<usize> =
            (0..plan.connections).filter(|n| n % plan.threads == thread).collect();
        let seat = |line: &usize| Seat {
            line: None,
            generation: 1,
            address: *line,
            dial_ns: 0,
            is_dirty: false,
        };
        let mine = plan.lanes.iter().enumerate().filter(|(_, lane)| lane.thread == thread);
        let lane = |(place, lane): (usize, &super::plan::Lane)| Lane {
            place,
            seat: lane.line / plan.threads,
            part: lane.part,
            partition: plan.partitions[lane.part],
            role: lane.role,
            session: 0,
            sequence: 0,
            seen: 0,
            alive_ns: 0,
            is_telling: false,
            kept: 0,
            stream: (0, 0),
        };
        Ok(Drive {
            thread,
            work: race.common.work(thread),
            meter: Meter::default(),
            prng: Prng::new(plan.seed).fork(thread as u64),
            epoll,
            seats: lines.iter().map(seat).collect(),
            lanes: mine.map(lane).collect(),
            flights: Vec::new(),
            free: Vec::new(),
            again: Default::default(),
            holds: Vec::new(),
            idle: Default::default(),
            primitives: vec![0; plan.things.len()],
            arrivals: None,
            clear_ns: 0,
            phase: Phase::Prepare,
            under_way: 0,
            buffer: buffer(),
            began: Instant::now(),
            looked_ns: 0,
            race: Arc::clone(race),
        })
    }

    /// Connects, opens, creates, writes what must be there.
    fn prepare(&mut self) -> Result<(), Ending> {
        for at in 0..self.seats.len() {
            self.dial(at, 0);
            if self.seats[at].line.is_none() {
                let trouble = self.race.board().trouble.clone();
                return Err(Ending::Unreachable(trouble.unwrap_or_default()));
            }
        }
        let is_greeted =
            |seat: &Seat| seat.line.as_ref().is_some_and(|line| line.caller.is_ready());
        while !self.seats.iter().all(is_greeted) {
            if self.now() > self.plan().patience.as_nanos() as u64 {
                return Err(Ending::Strange("it does not greet as HTTP/2 does".to_owned()));
            }
            self.step()?;
        }
        let lanes = 0..self.lanes.len() as u32;
        let opened: Vec<u32> =
            lanes.filter(|at| self.lanes[*at as usize].role != Role::Churner).collect();
        self.batch(opened.iter().map(|at| (*at, Ask::Open)).collect())?;
        let things = |at: &u32| {
            let part = self.lanes[*at as usize].part;
            self.plan()
                .things_of(part)
                .map(|thing| (*at, Ask::Create { thing }))
                .collect::<Vec<_>>()
        };
        self.batch(opened.iter().flat_map(things).collect())?;
        let asks = self.work.prepare();
        self.batch(self.spread(asks))?;
        self.listen()
    }

    /// Begins the streams of listeners, and waits until each has been heard to have begun.
    fn listen(&mut self) -> Result<(), Ending> {
        for at in 0..self.lanes.len() as u32 {
            let lane = &self.lanes[at as usize];
            if lane.role == Role::Listener {
                let who = lane.place as u32;
                let now = self.now();
                self.begin(at, Ask::Listen { thing: 0, who }, now)?;
            }
        }
        let began = self.now();
        while let Some(ask) = self.work.missing() {
            self.batch(self.spread(vec![ask]))?;
            self.step()?;
            if self.now() - began > self.plan().patience.as_nanos() as u64 {
                return Err(Ending::Silent("a listener hears nothing".to_owned()));
            }
        }
        Ok(())
    }

    /// One turn before or after the run.
    fn step(&mut self) -> Result<(), Ending> {
        if self.phase == Phase::Prepare && self.race.stop.load(Ordering::Relaxed) {
            return Err(Ending::Stopped);
        }
        self.turn(STEP_NS)
    }

    /// Asks all of these, some at a time, and takes the answers.
    fn batch(&mut self, asks: Vec<(u32, Ask)>) -> Result<(), Ending> {
        let mut asks = asks.into_iter().peekable();
        while asks.peek().is_some() || self.under_way > 0 {
            while self.under_way < BATCH
                && let Some((lane, ask)) = asks.next()
            {
                self.under_way += 1;
                let now = self.now();
                self.begin(lane, ask, now)?;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Gives each question to a session of the partition that it is about, in turn.
    fn spread(&self, asks: Vec<Ask>) -> Vec<(u32, Ask)> {
        let plan = self.plan();
        let mut able: Vec<Vec<u32>> = vec![Vec::new(); plan.partitions.len()];
        for (at, lane) in self.lanes.iter().enumerate() {
            if matches!(lane.role, Role::Worker | Role::Keeper) {
                able[lane.part].push(at as u32);
            }
        }
        let place = |(nth, ask): (usize, Ask)| {
            let part = ask.thing().map_or(0, |thing| plan.things[thing as usize].part);
            let able = &able[part];
            (!able.is_empty()).then(|| (able[nth % able.len()], ask))
        };
        asks.into_iter().enumerate().filter_map(place).collect()
    }

    /// The clock starts.
    fn start(&mut self, began: Instant) {
        self.began = began;
        (self.looked_ns, self.clear_ns) = (0, 0);
        self.lanes.iter_mut().for_each(|lane| lane.alive_ns = 0);
        let waiting = std::mem::take(&mut self.again);
        self.again.extend(waiting.into_iter().map(|mut each| {
            each.0.0 = 0;
            each
        }));
        self.phase = Phase::Run;
        let lanes = 0..self.lanes.len() as u32;
        let works =
            |at: &u32| matches!(self.lanes[*at as usize].role, Role::Worker | Role::Churner);
        self.idle = lanes.filter(works).collect();
        let plan = &self.race.common.plan;
        if let Pace::Open { rate, spread } = plan.pace {
            let (part, parts) = (self.thread, plan.threads);
            self.arrivals = Some(Arrivals::new(rate, spread, part, parts, plan.seed));
        }
    }

    /// Runs until the time is over and everything that was begun has ended.
    fn race_on(&mut self) -> Result<(), Ending> {
        if let Pace::Closed { in_flight } = self.plan().pace {
            let threads = self.plan().threads;
            let mine = in_flight / threads + usize::from(self.thread < in_flight % threads);
            for _ in 0..mine {
                let Some(lane) = self.idle.pop_front() else { break };
                if !self.plan().workload.is_exclusive() {
                    self.idle.push_back(lane);
                }
                self.begin_unit(lane, 0)?;
            }
        }
        loop {
            let now = self.now();
            if self.race.is_over(now) {
                break;
            }
            let due = self.arrivals.as_ref().map_or(u64::MAX, Arrivals::due_ns);
            // What waits for room waits for an answer, not for the clock.
            let due = if due <= now { u64::MAX } else { due };
            let wait = due.min(self.race.end_ns).saturating_sub(now).min(WAIT_NS);
            self.turn(wait)?;
        }
        self.phase = Phase::Drain;
        let patience = self.plan().patience.as_nanos() as u64 + STEP_NS * 10;
        let until = self.now() + patience;
        while self.under_way > 0 && self.now() < until {
            self.turn(STEP_NS)?;
        }
        // What still waits then waits for something that does not come.
        self.meter.counts.unanswered += self.under_way as u64;
        Ok(())
    }

    /// The last reads, and the end of sessions.
    fn finish(&mut self) -> Result<(), Ending> {
        let until = self.now() + self.plan().patience.as_nanos() as u64;
        while !self.work.has_heard_all() && self.now() < until {
            self.turn(STEP_NS)?;
        }
        let stuck = self.under_way;
        (self.phase, self.under_way) = (Phase::Prepare, 0);
        // An early end is over; from here on it is about the truth.
        let stopped = self.race.stop.swap(false, Ordering::Relaxed);
        let mut outcome = Ok(());
        if stuck == 0 {
            let asks = self.work.settle();
            outcome = self.batch(self.spread(asks));
            outcome = outcome.and_then(|()| self.leave());
        }
        self.race.stop.fetch_or(stopped, Ordering::Relaxed);
        outcome
    }

    /// Empties maps and closes sessions, so that the next run finds the server as this one did.
    fn leave(&mut self) -> Result<(), Ending> {
        let plan = self.plan();
        if plan.workload.kind() == crate::id::Kind::Map {
            let parts = 0..plan.partitions.len();
            let mine = parts.filter(|part| plan.owner(*part) == self.thread);
            let things = mine.flat_map(|part| plan.things_of(part));
            let clears = things.map(|thing| Ask::Clear { thing }).collect();
            self.batch(self.spread(clears))?;
        }
        let open = |at: &u32| self.lanes[*at as usize].session != 0;
        let open: Vec<u32> = (0..self.lanes.len() as u32).filter(open).collect();
        self.batch(open.into_iter().map(|at| (at, Ask::Close)).collect())
    }

    /// Slices that ended go to the board.
    pub(super) fn hand_in(&mut self) {
        if self.meter.ended.is_empty() {
            return;
        }
        let mut board = self.race.board();
        for (at, slice) in self.meter.ended.drain(..) {
            while board.slices.len() <= at {
                board.slices.push(latencies(2));
            }
            join(&mut board.slices[at], &slice);
        }
    }

    fn hand_in_all(&mut self) {
        self.meter.roll(usize::MAX);
        self.hand_in();
    }

    fn take_meter(&mut self) -> Meter {
        for line in self.seats.iter().filter_map(|seat| seat.line.as_ref()) {
            self.meter.counts.sent_bytes += line.sent;
            self.meter.counts.received_bytes += line.received;
        }
        std::mem::take(&mut self.meter)
    }
}

/// Questions under way before and after the run.
const BATCH: usize = 256;

/// The longest wait of a turn before and after the run.
const STEP_NS: u64 = 10_000_000;

/// The longest wait of a turn: how soon an interrupt is seen.
const WAIT_NS: u64 = 50_000_000;

/// Nanoseconds that this thread ran, and that it waited for a core.
fn spent() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut numbers = stat.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
