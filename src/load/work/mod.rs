//! What the generator's sessions do, and what they should get back.
//!
//! A workload gives the next call of a session, says how low its answer may be (`begins`), and
//! judges the answer (`done`). Sessions of all threads work on the same things, so what the judges
//! share are atomic floors: the highest version, value or token that anybody has been told. An
//! answer to a call that began afterwards must not be behind it; that is what linearizable means to
//! a client. What can only be known at the end is in the `Ledger`, which adds up over threads.
//!
//! Absent on purpose: connections, pace, retries. A call that was asked twice is judged once.

mod churn;
mod counter;
mod election;
mod fanout;
mod lock;
mod map;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ask::{Ask, Refusal, Reply};
use super::plan::{Plan, Workload};
use crate::prng::Prng;

pub use counter::Tally;

/// What all threads of a run share.
#[derive(Debug)]
pub struct Common {
    /// The plan.
    pub plan: Plan,
    /// By key or thing: the highest version, value or token that was told.
    floors: Vec<AtomicU64>,
    /// By lock: whoever believes to hold it, 0 for nobody.
    holders: Vec<AtomicU64>,
    /// Writes that every listener must hear of.
    heard: AtomicU64,
}

/// A session asks what to do next.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The session's place in the plan.
    pub lane: usize,
    /// The place of its partition.
    pub part: usize,
    /// Where draws come from.
    pub prng: &'a mut Prng,
    /// When the call is due, in nanoseconds of the run.
    pub due: u64,
}

/// A call that has ended.
#[derive(Debug)]
pub struct Done<'a> {
    /// The session's place in the plan.
    pub lane: usize,
    /// What was asked.
    pub ask: Ask,
    /// What `begins` said.
    pub floor: u64,
    /// What came back. Refusals are `Sort::No` or `Sort::Unknown`.
    pub reply: Result<Reply, &'a Refusal>,
    /// For another draw.
    pub prng: &'a mut Prng,
}

/// What a session does after a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// What it had begun is finished.
    Over,
    /// The next step of what it had begun.
    Next(Ask),
    /// The same, but only after all that has arrived by now was looked at.
    Hold(Ask),
}

/// What is wrong with an answer, for people.
pub type Wrong = String;

/// One workload, as one thread does it.
pub trait Work: Send {
    /// What a session that is free does next.
    fn next(&mut self, turn: &mut Turn<'_>) -> Ask;

    /// A call begins: what its answer must not be behind.
    fn begins(&mut self, ask: &Ask) -> u64;

    /// Judges an answer.
    ///
    /// # Errors
    /// It is wrong.
    fn done(&mut self, done: Done<'_>) -> Result<Then, Wrong>;

    /// What must be asked before the run.
    fn prepare(&mut self) -> Vec<Ask> {
        Vec::new()
    }

    /// What must be asked after the run to know whether all is well.
    fn settle(&mut self) -> Vec<Ask> {
        Vec::new()
    }

    /// Notes an answer to what `prepare` or `settle` asked.
    ///
    /// # Errors
    /// It is wrong.
    fn noted(&mut self, ask: &Ask, reply: Result<Reply, &Refusal>) -> Result<(), Wrong>;

    /// An event of a stream arrived; since when it was under way, if that is to be measured.
    ///
    /// # Errors
    /// It is wrong.
    fn event(&mut self, _who: u32, _reply: &Reply) -> Result<Option<u64>, Wrong> {
        Ok(None)
    }

    /// The stream of this listener goes on after a break: it may repeat itself.
    fn resumes(&mut self, _who: u32) {}

    /// What must be asked once more until all listeners are there; nothing when they are.
    fn missing(&mut self) -> Option<Ask> {
        None
    }

    /// Whether everything that was to be heard has been.
    fn has_heard_all(&self) -> bool {
        true
    }

    /// What adds up only at the end.
    fn ledger(&mut self) -> Ledger {
        Ledger::default()
    }
}

/// What the threads of a run know together, and only at its end.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ledger {
    /// By counter.
    pub tallies: Vec<Tally>,
    /// By key: the rounds that were acknowledged, of unknown fate, and that the last read showed.
    pub rounds: Vec<Rounds>,
    /// What each listener heard: how many writes, and the sum of their numbers.
    pub heard: Vec<(u64, u64)>,
    /// What was written for them, and how many writes have an unknown fate.
    pub written: (u64, u64, u64),
}

/// Read-modify-writes of one key.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rounds {
    /// Acknowledged.
    pub acknowledged: u64,
    /// Nobody knows.
    pub unknown: u64,
    /// What the key said at the end.
    pub last: Option<u64>,
}

impl Common {
    /// What a run of this plan shares.
    #[must_use]
    pub fn new(plan: Plan) -> Common {
        let many = (plan.keys as usize).max(plan.things.len()).max(plan.partitions.len());
        let zeros = |many: usize| (0..many).map(|_| AtomicU64::new(0)).collect();
        Common {
            floors: zeros(many),
            holders: zeros(plan.things.len()),
            heard: AtomicU64::new(0),
            plan,
        }
    }

    /// The workload of one thread.
    #[must_use]
    pub fn work(self: &Arc<Common>, thread: usize) -> Box<dyn Work> {
        let common = Arc::clone(self);
        match self.plan.workload {
            Workload::Counter => Box::new(counter::Counter::new(common, thread)),
            Workload::MapWrite => Box::new(map::Map::new(common, thread, 0, false)),
            Workload::MapRead => Box::new(map::Map::new(common, thread, 1000, false)),
            Workload::MapMixed(mix) => {
                let modifies = mix == super::plan::Mix::F;
                Box::new(map::Map::new(common, thread, mix.reads_per_mille(), modifies))
            }
            Workload::LockContended | Workload::LockFree => Box::new(lock::Lock::new(common)),
            Workload::ElectionChurn => Box::new(election::Election::new(common)),
            Workload::SessionChurn => Box::new(churn::Churn::new(common, thread)),
            Workload::WatchFanout => Box::new(fanout::Fanout::new(common, thread)),
        }
    }

    #[inline]
    fn floor(&self, at: u64) -> u64 {
        self.floors[at as usize].load(Ordering::Acquire)
    }

    /// Raises a floor, and gives what it was.
    #[inline]
    fn raise(&self, at: u64, to: u64) -> u64 {
        self.floors[at as usize].fetch_max(to, Ordering::AcqRel)
    }

    fn name(&self, thing: u32) -> &str {
        &self.plan.things[thing as usize].name
    }
}

impl Ledger {
    /// Adds what another thread knows.
    pub fn add(&mut self, other: &Ledger) {
        self.tallies.resize(self.tallies.len().max(other.tallies.len()), Tally::default());
        for (mine, theirs) in self.tallies.iter_mut().zip(&other.tallies) {
            mine.add(theirs);
        }
        self.rounds.resize(self.rounds.len().max(other.rounds.len()), Rounds::default());
        for (mine, theirs) in self.rounds.iter_mut().zip(&other.rounds) {
            mine.acknowledged += theirs.acknowledged;
            mine.unknown += theirs.unknown;
            mine.last = mine.last.max(theirs.last);
        }
        self.heard.extend(&other.heard);
        self.written.0 += other.written.0;
        self.written.1 = self.written.1.wrapping_add(other.written.1);
        self.written.2 += other.written.2;
    }

    /// Everything that does not add up.
    #[must_use]
    pub fn check(&self, name: &str) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        for (at, tally) in self.tallies.iter().enumerate() {
            wrong.extend(tally.check().err().map(|why| format!("counter {name}-{at}: {why}")));
        }
        for (key, rounds) in self.rounds.iter().enumerate() {
            let Some(last) = rounds.last else { continue };
            let (least, most) = (rounds.acknowledged, rounds.acknowledged + rounds.unknown);
            if last < least || last > most {
                wrong.push(format!(
                    "key {key}: {least} read-modify-writes were acknowledged, it counts {last}"
                ));
            }
        }
        let (count, sum, unknown) = self.written;
        for (who, heard) in self.heard.iter().enumerate() {
            let fits = if unknown == 0 { *heard == (count, sum) } else { heard.0 >= count };
            if !fits {
                let n = heard.0;
                wrong.push(format!(
                    "listener {who}: heard of {n} writes, {count} were acknowledged"
                ));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_must_add_up() {
        let rounds = |acknowledged, unknown, last| Ledger {
            rounds: vec![Rounds { acknowledged, unknown, last }],
            ..Ledger::default()
        };
        assert_eq!(rounds(3, 0, Some(3)).check("m"), [""; 0]);
        assert_eq!(rounds(3, 2, Some(4)).check("m"), [""; 0]);
        assert_eq!(rounds(3, 0, Some(4)).check("m").len(), 1);
        assert_eq!(rounds(3, 2, Some(2)).check("m").len(), 1);
        let mut both = rounds(3, 0, Some(7));
        both.add(&rounds(4, 0, None));
        assert_eq!(both.check("m"), [""; 0]);
    }

    #[test]
    fn each_listener_must_hear_all() {
        let mut ledger = Ledger { heard: vec![(2, 30)], written: (2, 30, 0), ..Ledger::default() };
        assert_eq!(ledger.check("m"), [""; 0]);
        ledger.heard.push((2, 31));
        ledger.heard.push((1, 10));
        assert_eq!(ledger.check("m").len(), 2);
    }
}
