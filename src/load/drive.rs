//! One thread of the generator: its connections, its sessions, and every call under way on them.
//!
//! ```text
//!   prepare: open, create, first values ──► run: begin what is due, send, wait, take what came
//!                                            ──► drain ──► settle: last reads ──► close
//! ```
//!
//! No task and no allocation per call: a call is a slot of a slab, named by its token in the
//! connection's events. All that arrived in one read is taken together, at one reading of the
//! clock; what it lets begin leaves in one write. A call that a server refuses for a moment, or
//! that a broken connection took along, is asked again with its number, and its latency counts from
//! when it was due. Beside this file: `keep.rs` keeps sessions alive and looks for calls that
//! nobody answers; `course.rs` is the order of the phases.
//!
//! # Contract
//!
//! Times are nanoseconds since the start of the run. In an open loop a call's latency begins when
//! it was due, whatever kept it; how late calls began that had a session and a connection free is
//! measured apart, for that is this program's own doing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::arrival::{Arrivals, Pace};
use super::ask::{Ask, Refusal, Reply, Sort, Verb};
use super::atomix::Envelope;
use super::course::{Ending, Race};
use super::line::{Line, READ_BYTES};
use super::measure::Meter;
use super::plan::{Plan, Role};
use super::work::{Done, Then, Turn, Work};
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::http2::caller::Event;

/// One thread's part of a run.
pub struct Drive {
    pub(super) race: Arc<Race>,
    pub(super) thread: usize,
    pub(super) work: Box<dyn Work>,
    pub(super) meter: Meter,
    pub(super) prng: Prng,
    pub(super) epoll: OwnedFd,
    pub(super) seats: Vec<Seat>,
    pub(super) lanes: Vec<Lane>,
    pub(super) flights: Vec<Flight>,
    pub(super) free: Vec<u32>,
    /// Calls to be asked again, by when.
    pub(super) again: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// What sessions do once all that arrived was looked at.
    pub(super) holds: Vec<(u32, Ask)>,
    /// Sessions that may begin something, in turn.
    pub(super) idle: VecDeque<u32>,
    /// By thing: its id.
    pub(super) primitives: Vec<u64>,
    pub(super) arrivals: Option<Arrivals>,
    /// Since when nothing but this program delays a call.
    pub(super) clear_ns: u64,
    pub(super) phase: Phase,
    /// What sessions have begun and not finished; of `Phase::Prepare` what was asked.
    pub(super) under_way: usize,
    pub(super) buffer: Vec<u8>,
    pub(super) began: Instant,
    pub(super) looked_ns: u64,
}

/// A connection, or its absence.
pub(super) struct Seat {
    pub line: Option<Line>,
    /// Of its present line; calls on an earlier one are lost.
    pub generation: u32,
    pub address: usize,
    pub dial_ns: u64,
    pub is_dirty: bool,
}

/// A session.
pub(super) struct Lane {
    /// Its place in the plan.
    pub place: usize,
    pub seat: usize,
    pub part: usize,
    pub partition: u32,
    pub role: Role,
    pub session: u64,
    pub sequence: u64,
    pub seen: u64,
    /// When the server last took a sign of life, and whether one is under way.
    pub alive_ns: u64,
    pub is_telling: bool,
    /// Octets of answers since then, which the server keeps.
    pub kept: usize,
    /// Of a listener: its stream's number, and how many of its outputs came.
    pub stream: (u64, u64),
}

/// A call under way.
pub(super) struct Flight {
    pub lane: u32,
    pub generation: u32,
    pub ask: Ask,
    pub sequence: u64,
    pub due_ns: u64,
    pub asked_ns: u64,
    pub floor: u64,
    pub tries: u32,
    /// Of its seat, when it was sent; and its number there, 0 while it is not.
    pub line: (u32, u32),
    pub answer: Option<Result<Reply, Refusal>>,
    /// The message of a keep-alive.
    pub message: Box<[u8]>,
    pub is_open: bool,
}

/// What a drive is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Answers go to `Work::noted`.
    Prepare,
    /// Sessions begin what is due.
    Run,
    /// They finish what they have begun.
    Drain,
}

impl Drive {
    pub(super) fn plan(&self) -> &Plan {
        &self.race.common.plan
    }

    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// One turn: waits for at most `wait_ns`, takes what came, begins what is due.
    pub(super) fn turn(&mut self, wait_ns: u64) -> Result<(), Ending> {
        let now = self.now();
        self.begin_due(now)?;
        self.ask_again(now)?;
        self.look_after(now)?;
        self.flush()?;
        self.wait(wait_ns)?;
        for (lane, ask) in std::mem::take(&mut self.holds) {
            let now = self.now();
            self.begin(lane, ask, now)?;
        }
        Ok(())
    }

    /// Begins calls of an open loop whose time has come, as far as there is room.
    fn begin_due(&mut self, now: u64) -> Result<(), Ending> {
        if self.phase != Phase::Run {
            return Ok(());
        }
        loop {
            let Some(arrivals) = &self.arrivals else { return Ok(()) };
            let due = arrivals.due_ns();
            if due > now || due >= self.race.end_ns {
                return Ok(());
            }
            let Some(lane) = self.take_idle() else {
                self.clear_ns = now;
                return Ok(());
            };
            if due >= self.clear_ns && due >= self.race.warm_ns {
                self.meter.late.saturating_record(now - due);
            }
            if let Some(arrivals) = &mut self.arrivals {
                arrivals.advance();
            }
            self.begin_unit(lane, due)?;
        }
    }

    /// A session that may begin something now. One that does one thing at a time comes back when
    /// it is done.
    fn take_idle(&mut self) -> Option<u32> {
        for _ in 0..self.idle.len() {
            let lane = self.idle.pop_front()?;
            if self.has_room(lane) {
                if !self.plan().workload.is_exclusive() {
                    self.idle.push_back(lane);
                }
                return Some(lane);
            }
            self.idle.push_back(lane);
        }
        None
    }

    fn has_room(&self, lane: u32) -> bool {
        let seat = &self.seats[self.lanes[lane as usize].seat];
        seat.line.as_ref().is_some_and(|line| line.caller.can_begin() && !line.is_clogged())
    }

    /// A session begins what its workload does next.
    pub(super) fn begin_unit(&mut self, lane: u32, due_ns: u64) -> Result<(), Ending> {
        let Lane { place, part, .. } = self.lanes[lane as usize];
        let mut turn = Turn { lane: place, part, prng: &mut self.prng, due: due_ns };
        let ask = self.work.next(&mut turn);
        self.under_way += 1;
        self.begin(lane, ask, due_ns)
    }

    /// Begins one call.
    #[inline]
    pub(super) fn begin(&mut self, lane: u32, ask: Ask, due_ns: u64) -> Result<(), Ending> {
        let floor = self.work.begins(&ask);
        let asked_ns = if self.arrivals.is_some() { self.now() } else { due_ns };
        let numbers = self.plan().speech.numbers(&ask);
        let of = &mut self.lanes[lane as usize];
        of.sequence += u64::from(numbers);
        let sequence = if numbers { of.sequence } else { 0 };
        let slot = self.free.pop().unwrap_or(self.flights.len() as u32);
        let generation = self.flights.get(slot as usize).map_or(0, |old| old.generation + 1);
        let flight = Flight {
            lane,
            generation,
            ask,
            sequence,
            due_ns,
            asked_ns,
            floor,
            tries: 0,
            line: (0, 0),
            answer: None,
            message: Box::default(),
            is_open: true,
        };
        match self.flights.get_mut(slot as usize) {
            Some(place) => *place = flight,
            None => self.flights.push(flight),
        }
        if matches!(ask, Ask::Listen { .. }) {
            self.lanes[lane as usize].stream = (sequence, 0);
        }
        if ask == Ask::KeepAlive {
            self.flights[slot as usize].message = self.sign_of_life(lane);
        }
        self.send(slot);
        Ok(())
    }

    /// Puts a call on its connection; when that does not take it now, it is asked a little later.
    #[inline]
    pub(super) fn send(&mut self, slot: u32) {
        let flight = &mut self.flights[slot as usize];
        let lane = &self.lanes[flight.lane as usize];
        let seat = &mut self.seats[lane.seat];
        let plan = &self.race.common.plan;
        let Some(line) = seat.line.as_mut().filter(|line| line.caller.can_begin()) else {
            let at = self.began.elapsed().as_nanos() as u64 + ROOM_NS;
            self.again.push(Reverse((at, slot, flight.generation)));
            return;
        };
        let thing = flight.ask.thing();
        let envelope = Envelope {
            partition: lane.partition,
            session: lane.session,
            primitive: thing.map_or(0, |thing| self.primitives[thing as usize]),
            sequence: flight.sequence,
            seen: lane.seen,
            thing: thing.map(|thing| &plan.things[thing as usize]),
            value_bytes: plan.value_bytes,
            session_timeout: Span(plan.session_timeout.as_nanos() as u64),
        };
        let path = line.paths[plan.speech.path(&flight.ask)];
        let token = u64::from(flight.generation) << 32 | u64::from(slot);
        let stream = line.caller.begin(path, token, |into| {
            if flight.ask == Ask::KeepAlive {
                into.extend_from_slice(&flight.message);
            } else {
                plan.speech.put(&flight.ask, &envelope, into);
            }
        });
        flight.line = (seat.generation, stream);
        seat.is_dirty = true;
    }

    /// Writes what the turn put on connections.
    fn flush(&mut self) -> Result<(), Ending> {
        for at in 0..self.seats.len() {
            let seat = &mut self.seats[at];
            if !std::mem::take(&mut seat.is_dirty) {
                continue;
            }
            if let Some(line) = &mut seat.line
                && let Err(error) = line.flush(&self.epoll, at as u64)
            {
                self.break_off(at, &error.to_string())?;
            }
        }
        Ok(())
    }

    /// Waits for octets and takes them.
    fn wait(&mut self, wait_ns: u64) -> Result<(), Ending> {
        let wait_ns = self.again.peek().map_or(wait_ns, |Reverse((at, ..))| {
            wait_ns.min(at.saturating_sub(self.began.elapsed().as_nanos() as u64))
        });
        let wait_ns = if self.holds.is_empty() { wait_ns } else { 0 };
        let wait = rustix::time::Timespec {
            tv_sec: (wait_ns / 1_000_000_000) as i64,
            tv_nsec: (wait_ns % 1_000_000_000) as i64,
        };
        let mut ready = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; 64];
        let many = match epoll::wait(&self.epoll, &mut ready[..], Some(&wait)) {
            Ok(many) => many,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(Ending::Broken(format!("epoll: {error}"))),
        };
        for event in &ready[..many] {
            self.take(event.data.u64() as usize, event.flags)?;
        }
        Ok(())
    }

    /// Takes what has arrived on one connection.
    fn take(&mut self, at: usize, flags: epoll::EventFlags) -> Result<(), Ending> {
        let seat = &mut self.seats[at];
        seat.is_dirty = true;
        if !flags
            .intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
        {
            return Ok(());
        }
        let Some(line) = &mut seat.line else { return Ok(()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = match line.read(&mut buffer) {
            Ok(input) => self.events(at, input),
            Err(error) => self.break_off(at, &error.to_string()),
        };
        self.buffer = buffer;
        outcome
    }

    fn events(&mut self, at: usize, input: &[u8]) -> Result<(), Ending> {
        let now = self.now();
        let mut used = 0;
        loop {
            let Some(line) = &mut self.seats[at].line else { return Ok(()) };
            match line.caller.poll(input, &mut used) {
                Ok(Some(Event::Message { token, message })) => {
                    self.message(token, message.octets(input), now)?;
                }
                Ok(Some(Event::End { token, status, text })) => {
                    let ended = (status != crate::wire::grpc::Status::Ok)
                        .then(|| self.plan().speech.ended(status, &text));
                    self.ended(token, ended, now)?;
                }
                Ok(Some(Event::Away(text))) => return self.break_off(at, &text),
                Ok(None) => {
                    line.keep(&input[used..]);
                    return Ok(());
                }
                Err(code) => return self.break_off(at, &format!("broken HTTP/2: {code:?}")),
            }
        }
    }

    fn flight(&mut self, token: u64) -> Option<(u32, &mut Flight)> {
        let (slot, generation) = (token as u32, (token >> 32) as u32);
        let flight = self.flights.get_mut(slot as usize)?;
        (flight.is_open && flight.generation == generation).then_some((slot, flight))
    }

    #[inline]
    fn message(&mut self, token: u64, message: &[u8], now: u64) -> Result<(), Ending> {
        let speech = self.plan().speech;
        let Some((slot, flight)) = self.flight(token) else { return Ok(()) };
        let (ask, at) = (flight.ask, flight.lane as usize);
        let lane = &mut self.lanes[at];
        lane.kept += message.len();
        let reply = speech.read(&ask, message, &mut lane.seen);
        let Ask::Listen { who, .. } = ask else {
            self.flights[slot as usize].answer = Some(reply);
            return Ok(());
        };
        let event = match reply {
            Ok(event) => event,
            Err(refusal) => {
                self.flights[slot as usize].answer = Some(Err(refusal));
                return Ok(());
            }
        };
        lane.stream.1 += 1;
        match self.work.event(who, &event) {
            Ok(Some(since)) if since >= self.race.warm_ns => {
                let slice = self.race.slice(now);
                self.meter.took(Verb::Event, now.saturating_sub(since), slice);
            }
            Ok(_) => {}
            Err(wrong) => self.race.wrong(wrong),
        }
        Ok(())
    }

    #[inline]
    fn ended(&mut self, token: u64, ended: Option<Refusal>, now: u64) -> Result<(), Ending> {
        let Some((slot, flight)) = self.flight(token) else { return Ok(()) };
        let answer = match (flight.answer.take(), ended) {
            (Some(answer), None) => answer,
            (_, Some(refusal)) => Err(refusal),
            (None, None) => Err(Refusal::new(Sort::Final, "an answer without a message")),
        };
        self.settle(slot, answer, now)
    }

    /// A call has its answer, or is asked again.
    pub(super) fn settle(
        &mut self,
        slot: u32,
        answer: Result<Reply, Refusal>,
        now: u64,
    ) -> Result<(), Ending> {
        let patience = self.plan().patience.as_nanos() as u64;
        let flight = &mut self.flights[slot as usize];
        flight.line = (0, 0);
        let answer = match answer {
            Err(refusal) if refusal.sort == Sort::Passing => {
                if flight.ask.waits() || now.saturating_sub(flight.asked_ns) < patience {
                    flight.tries += 1;
                    self.meter.counts.retried += 1;
                    self.race.troubled(&refusal.text);
                    let at = now + pause_ns(flight.tries, flight.sequence);
                    self.again.push(Reverse((at, slot, flight.generation)));
                    if let Ask::Listen { who, .. } = flight.ask {
                        self.work.resumes(who);
                    }
                    return Ok(());
                }
                Err(Refusal { sort: Sort::Unknown, ..refusal })
            }
            settled => settled,
        };
        flight.is_open = false;
        self.free.push(slot);
        let (lane, ask, due, floor) = (flight.lane, flight.ask, flight.due_ns, flight.floor);
        let asked = flight.asked_ns;
        self.note(lane, &ask, &answer, asked);
        if let Err(refusal) = &answer {
            match refusal.sort {
                Sort::Lost => return Err(Ending::Lost(refusal.text.to_string())),
                Sort::Final => {
                    return Err(Ending::Refused(ask.verb().name(), refusal.text.to_string()));
                }
                Sort::Passing | Sort::No | Sort::Unknown => {}
            }
        }
        match ask {
            Ask::KeepAlive | Ask::Listen { .. } => Ok(()),
            _ if self.phase == Phase::Prepare => self.noted(&ask, &answer),
            _ => self.done(lane, ask, floor, due, &answer, now),
        }
    }

    /// What a session learns from an answer, whatever the workload makes of it.
    fn note(&mut self, lane: u32, ask: &Ask, answer: &Result<Reply, Refusal>, asked_ns: u64) {
        let at = &mut self.lanes[lane as usize];
        match (ask, answer) {
            (Ask::Open, Ok(Reply::Id(id))) => {
                (at.session, at.sequence, at.seen) = (*id, 0, *id);
                (at.alive_ns, at.kept) = (asked_ns, 0);
            }
            (Ask::Create { thing }, Ok(Reply::Id(id))) => {
                self.primitives[*thing as usize] = *id;
            }
            (Ask::KeepAlive, answer) => {
                at.is_telling = false;
                if answer.is_ok() {
                    at.alive_ns = asked_ns;
                }
            }
            (Ask::Close, _) => at.session = 0,
            _ => {}
        }
    }

    fn noted(&mut self, ask: &Ask, answer: &Result<Reply, Refusal>) -> Result<(), Ending> {
        self.under_way -= 1;
        if let Err(refusal) = answer
            && refusal.sort == Sort::Unknown
        {
            return Err(Ending::Silent(refusal.text.to_string()));
        }
        if matches!(ask, Ask::Open | Ask::Create { .. } | Ask::Close | Ask::Clear { .. }) {
            return match answer {
                Err(refusal) => Err(Ending::Refused(ask.verb().name(), refusal.text.to_string())),
                Ok(_) => Ok(()),
            };
        }
        if let Err(wrong) = self.work.noted(ask, answer.as_ref().copied()) {
            self.race.wrong(wrong);
        }
        Ok(())
    }

    #[inline]
    fn done(
        &mut self,
        lane: u32,
        ask: Ask,
        floor: u64,
        due: u64,
        answer: &Result<Reply, Refusal>,
        now: u64,
    ) -> Result<(), Ending> {
        match answer {
            Ok(_) if due >= self.race.warm_ns => {
                let slice = self.race.slice(now);
                self.meter.took(ask.verb(), now.saturating_sub(due), slice);
            }
            Ok(_) => {}
            Err(refusal) if refusal.sort == Sort::Unknown => {
                self.meter.counts.unanswered += 1;
                self.race.troubled(&refusal.text);
            }
            Err(_) => self.meter.counts.refused += 1,
        }
        let place = self.lanes[lane as usize].place;
        let reply = answer.as_ref().copied();
        let done = Done { lane: place, ask, floor, reply, prng: &mut self.prng };
        let then = self.work.done(done).unwrap_or_else(|wrong| {
            self.race.wrong(wrong);
            Then::Over
        });
        match then {
            Then::Next(ask) => self.begin(lane, ask, now),
            Then::Hold(ask) => {
                self.holds.push((lane, ask));
                Ok(())
            }
            Then::Over => self.over(lane, now),
        }
    }

    /// A session has finished what it had begun.
    fn over(&mut self, lane: u32, now: u64) -> Result<(), Ending> {
        self.under_way -= 1;
        let is_closed = matches!(self.plan().pace, Pace::Closed { .. });
        if self.phase == Phase::Run && is_closed && !self.race.is_over(now) {
            return self.begin_unit(lane, now);
        }
        if self.plan().workload.is_exclusive() {
            self.idle.push_back(lane);
        }
        Ok(())
    }

    /// Asks again what is due for it.
    fn ask_again(&mut self, now: u64) -> Result<(), Ending> {
        while let Some(&Reverse((at, slot, generation))) = self.again.peek() {
            if at > now {
                break;
            }
            self.again.pop();
            let flight = &self.flights[slot as usize];
            if !flight.is_open || flight.generation != generation || flight.line.1 != 0 {
                continue;
            }
            let waited = now.saturating_sub(flight.asked_ns);
            if waited >= self.plan().patience.as_nanos() as u64 && !flight.ask.waits() {
                let refusal = Refusal::new(Sort::Unknown, "no connection takes it");
                self.settle(slot, Err(refusal), now)?;
                continue;
            }
            self.send(slot);
        }
        Ok(())
    }
}

/// Calls that find no room on their connection are tried again after this.
const ROOM_NS: u64 = 500_000;

/// How long before a call is asked again: 1 ms, twice as long each time, at most 200 ms, less up to
/// a half.
fn pause_ns(tries: u32, salt: u64) -> u64 {
    let full = (1_000_000u64 << tries.min(8)).min(200_000_000);
    full - crate::prng::mix(salt ^ u64::from(tries)) % (full / 2)
}

/// A buffer for one read of any connection.
pub(super) fn buffer() -> Vec<u8> {
    vec![0; READ_BYTES]
}
