//! Looking after what a thread has: sessions that must be kept alive, calls that nobody answers,
//! connections that broke.
//!
//! Every so often, not every turn. A keep-alive says which commands are finished, so that the
//! server can forget their outputs, and is sent early when those are many octets.

use std::time::Duration;

use super::ask::{Ask, Refusal, Sort};
use super::atomix;
use super::course::Ending;
use super::drive::{Drive, Phase};
use super::line::Line;

/// How often is looked.
const LOOK_NS: u64 = 50_000_000;

/// Outputs of so many octets are acknowledged at once.
const KEPT_BYTES_MAX: usize = 512 << 10;

/// At least so often a session says that it has its outputs.
const KEEP_ALIVE_NS_MAX: u64 = 2_000_000_000;

/// How long a dial may hold up the other connections of the thread.
const DIAL: Duration = Duration::from_millis(200);

/// How long after a failed dial the next one is.
const DIAL_NS: u64 = 100_000_000;

/// Filters of more numbers than these cost more than they save: then everything below the lowest
/// open number is finished.
const FILTER_NUMBERS_MAX: usize = 64;

impl Drive {
    /// Does what is due.
    pub(super) fn look_after(&mut self, now: u64) -> Result<(), Ending> {
        if now < self.looked_ns + LOOK_NS {
            return Ok(());
        }
        self.looked_ns = now;
        let slice = self.race.slice(now);
        self.meter.roll(slice);
        self.hand_in();
        for at in 0..self.seats.len() {
            if self.seats[at].line.is_none() && self.seats[at].dial_ns <= now {
                self.dial(at, now);
            }
        }
        self.give_up(now)?;
        let timeout = self.plan().session_timeout.as_nanos() as u64;
        let period = (timeout / 4).min(KEEP_ALIVE_NS_MAX);
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if lane.session == 0 || lane.is_telling {
                continue;
            }
            if now.saturating_sub(lane.alive_ns) >= period || lane.kept > KEPT_BYTES_MAX {
                (lane.is_telling, lane.kept) = (true, 0);
                self.begin(at as u32, Ask::KeepAlive, now)?;
            }
        }
        Ok(())
    }

    /// The message of a session's keep-alive.
    pub(super) fn sign_of_life(&self, lane: u32) -> Box<[u8]> {
        let of = &self.lanes[lane as usize];
        let open = self.flights.iter().filter(|flight| flight.is_open && flight.lane == lane);
        let open: Vec<u64> =
            open.map(|flight| flight.sequence).filter(|sequence| *sequence > 0).collect();
        let (begun, open) = if open.len() > FILTER_NUMBERS_MAX {
            (open.iter().min().map_or(of.sequence, |lowest| lowest - 1), Vec::new())
        } else {
            (of.sequence, open)
        };
        let received: &[(u64, u64)] = if of.stream.1 > 0 { &[of.stream] } else { &[] };
        atomix::keep_alive(of.partition, of.session, begun, &open, received).into()
    }

    /// Calls that nobody answers are given up.
    fn give_up(&mut self, now: u64) -> Result<(), Ending> {
        let patience = self.plan().patience.as_nanos() as u64;
        for slot in 0..self.flights.len() as u32 {
            let flight = &self.flights[slot as usize];
            if !flight.is_open
                || flight.line.1 == 0
                || flight.ask.waits()
                || now.saturating_sub(flight.asked_ns) < patience
            {
                continue;
            }
            let seat = self.lanes[flight.lane as usize].seat;
            let (generation, stream) = flight.line;
            let seat = &mut self.seats[seat];
            if let Some(line) = seat.line.as_mut().filter(|_| seat.generation == generation) {
                line.caller.cancel(stream);
                seat.is_dirty = true;
            }
            let why = format!("no answer in {:?}", self.plan().patience);
            self.settle(slot, Err(Refusal::new(Sort::Unknown, why)), now)?;
        }
        Ok(())
    }

    /// A connection is gone. What was under way on it is asked again on the next one.
    pub(super) fn break_off(&mut self, at: usize, why: &str) -> Result<(), Ending> {
        let now = self.now();
        let seat = &mut self.seats[at];
        let Some(line) = seat.line.take() else { return Ok(()) };
        self.meter.counts.sent_bytes += line.sent;
        self.meter.counts.received_bytes += line.received;
        self.meter.counts.broken += 1;
        self.race.troubled(why);
        if !line.caller.is_ready() && self.phase == Phase::Prepare {
            return Err(Ending::Strange(why.to_owned()));
        }
        seat.generation += 1;
        seat.dial_ns = now;
        seat.address += 1;
        for slot in 0..self.flights.len() as u32 {
            let flight = &self.flights[slot as usize];
            let is_on_it = self.lanes[flight.lane as usize].seat == at && flight.line.1 != 0;
            if flight.is_open && is_on_it {
                self.settle(slot, Err(Refusal::new(Sort::Passing, why)), now)?;
            }
        }
        Ok(())
    }

    /// Dials once. Another address is tried the next time.
    pub(super) fn dial(&mut self, at: usize, now: u64) {
        let plan = &self.race.common.plan;
        let address = plan.addresses[self.seats[at].address % plan.addresses.len()];
        let paths = plan.speech.paths();
        let patience = if now == 0 { plan.patience } else { DIAL };
        match Line::dial(address, patience, paths, &self.epoll, at as u64) {
            Ok(line) => {
                self.seats[at].line = Some(line);
                self.seats[at].is_dirty = true;
            }
            Err(error) => {
                self.race.troubled(&format!("{address}: {error}"));
                self.seats[at].address += 1;
                self.seats[at].dial_ns = self.now() + DIAL_NS;
            }
        }
    }
}
