//! Which numbers of a session are finished, for ever (wire.md, decision 2).
//!
//! A keep-alive with last number L and filter F finishes every number up to L that is not in F,
//! whether it was ever seen or not. What is known:
//!
//! ```text
//! 0 ........ below ........ jobs' ends .......
//!   finished,     undecided: finished      not finished
//!   but for       when some job's filter
//!   `open`        lacks it
//! ```
//!
//! A filter that holds nothing moves `below` at once. Any other becomes a job, and each applied
//! entry sorts a bounded slice of it: numbers with a kept output that the filter lacks lose it,
//! numbers without one that the filter has become `open`. Until then the filter itself is asked, so
//! the answer never depends on how far a job has come. The slices are part of the replicated state:
//! every replica cuts them alike.

use std::collections::{BTreeSet, VecDeque};

use crate::limits::{OPEN_NUMBERS_MAX, SWEEP_RANGE_MAX, SWEEPS_MAX};
use crate::partition::kept::{CHUNK_NUMBERS, Kept, Rubble};
use crate::wire::bloom::Filter;

/// What a session knows of its numbers.
#[derive(Clone, Default, Debug)]
pub struct Finished {
    /// Every number below it is decided: finished unless `open` has it or there is a record of it.
    below: u64,
    /// Numbers below `below` that some keep-alive left open and that no command has used.
    open: BTreeSet<u64>,
    /// Keep-alives that are not yet sorted out, oldest first.
    jobs: VecDeque<Job>,
}

/// A keep-alive that is being sorted out.
#[derive(Clone, Debug)]
pub struct Job {
    /// Numbers below it are what the keep-alive is about.
    pub to: u64,
    /// Numbers below it are sorted out.
    pub cursor: u64,
    /// What the client considers open.
    pub filter: Filter,
    /// The filter as it was sent, for snapshots.
    pub text: Box<[u8]>,
}

/// Too many keep-alives wait to be sorted out.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl Finished {
    /// Whether a command with this number is never to be executed again. The caller has made sure
    /// that no record of it is kept, or asks in order to know whether that record still counts.
    #[must_use]
    pub fn contains(&self, number: u64, recorded: bool) -> bool {
        let lacking = self
            .jobs
            .iter()
            .any(|job| number >= job.cursor && number < job.to && !job.filter.contains(number));
        lacking || !recorded && number < self.below && !self.open.contains(&number)
    }

    /// A command uses the number. Returns the memory that is free by it.
    pub fn used(&mut self, number: u64) -> usize {
        let open = number < self.below && self.open.remove(&number);
        usize::from(open) * OPEN_BYTES
    }

    /// A keep-alive: what is below `to` and not in the filter is finished.
    pub fn keep_alive(
        &mut self,
        to: u64,
        filter: Filter,
        text: &[u8],
        kept: &mut Kept,
        rubble: &mut Rubble,
    ) -> Result<(), Busy> {
        if filter.is_empty() {
            kept.drop_below(to, rubble);
            self.open = self.open.split_off(&to);
            self.below = self.below.max(to);
            self.jobs.retain(|job| job.to > to);
            for job in &mut self.jobs {
                job.cursor = job.cursor.max(to);
            }
            return Ok(());
        }
        if self.jobs.len() >= SWEEPS_MAX {
            return Err(Busy);
        }
        self.below = self.below.max(to.saturating_sub(SWEEP_RANGE_MAX));
        self.jobs.push_back(Job { to, cursor: 0, filter, text: text.into() });
        Ok(())
    }

    /// Sorts out about `budget` numbers and says how many it was. `called` says whether a pending
    /// command or a stream has the number: the keep-alive itself has dealt with those.
    pub fn sweep(&mut self, budget: usize, kept: &mut Kept, called: impl Fn(u64) -> bool) -> usize {
        let mut done = 0;
        while done < budget {
            let Some(job) = self.jobs.front_mut() else {
                break;
            };
            if job.cursor >= job.to {
                self.jobs.pop_front();
                continue;
            }
            let decided = job.to.min(self.below);
            let (chunk, from, end) = if job.cursor < decided {
                let Some(chunk) = next_chunk(job.cursor, decided, kept, &self.open) else {
                    job.cursor = decided;
                    continue;
                };
                let from = job.cursor.max(chunk * CHUNK_NUMBERS);
                (chunk, from, decided.min(end_of(chunk)))
            } else {
                let chunk = job.cursor / CHUNK_NUMBERS;
                (chunk, job.cursor, job.to.min(end_of(chunk)))
            };
            let present = kept.present(chunk);
            let mut lost = 0u64;
            for number in from..end {
                let bit = 1u64 << (number % CHUNK_NUMBERS);
                let fresh = number >= self.below;
                if present & bit == 0 && !fresh && !self.open.contains(&number) {
                    continue;
                }
                done += 1;
                match (job.filter.contains(number), present & bit != 0) {
                    (false, true) => lost |= bit,
                    (false, false) => drop(self.open.remove(&number)),
                    (true, false) if fresh && !called(number) => drop(self.open.insert(number)),
                    (true, _) => {}
                }
            }
            kept.drop_in(chunk, lost);
            job.cursor = end;
            self.below = self.below.max(end);
        }
        while self.open.len() > OPEN_NUMBERS_MAX {
            self.open.pop_first();
        }
        done
    }

    /// Whether a keep-alive is not yet sorted out.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The number below which all is decided.
    #[must_use]
    pub fn below(&self) -> u64 {
        self.below
    }

    /// The open numbers below it, from `from` on.
    pub fn open_from(&self, from: u64) -> impl Iterator<Item = u64> {
        self.open.range(from..).copied()
    }

    /// The keep-alives that are not yet sorted out.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter()
    }

    /// Puts back what a snapshot says.
    pub fn restore_below(&mut self, below: u64) {
        self.below = below;
    }

    /// Puts back an open number; `false` when it cannot be one.
    pub fn restore_open(&mut self, number: u64) -> bool {
        number < self.below && self.open.len() <= OPEN_NUMBERS_MAX && self.open.insert(number)
    }

    /// Puts back a job; `false` when it cannot be one.
    pub fn restore_job(&mut self, job: Job) -> bool {
        let sound = self.jobs.len() < SWEEPS_MAX && !job.filter.is_empty();
        if sound {
            self.jobs.push_back(job);
        }
        sound
    }

    /// Memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let jobs: usize = self.jobs.iter().map(|job| job.filter.bytes() + job.text.len()).sum();
        self.open.len() * OPEN_BYTES + jobs
    }
}

/// Memory of an open number.
const OPEN_BYTES: usize = 16;

/// The number behind the last of a chunk. The very last chunk's end does not fit and stops one
/// short: that number is never finished by a filter that holds something.
fn end_of(chunk: u64) -> u64 {
    chunk.saturating_mul(CHUNK_NUMBERS).saturating_add(CHUNK_NUMBERS)
}

/// The next chunk at `cursor` or behind, and before `decided`, that has a record or an open number.
fn next_chunk(cursor: u64, decided: u64, kept: &Kept, open: &BTreeSet<u64>) -> Option<u64> {
    let record = kept.next_chunk(cursor / CHUNK_NUMBERS);
    let number = open.range(cursor..).next().map(|number| number / CHUNK_NUMBERS);
    let chunk = [record, number].into_iter().flatten().min()?;
    (chunk * CHUNK_NUMBERS < decided).then_some(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Index;
    use crate::partition::kept::{End, Record};
    use crate::partition::primitive::Operation;
    use crate::partition::reply::Status;
    use crate::prng::Prng;
    use crate::wire::bloom::Filter;

    fn record() -> Record<'static> {
        let end = End::Output(Status::Ok);
        Record { index: Index(1), operation: Operation::CREATE, end, bytes: &[] }
    }

    fn filter(numbers: &[u64]) -> (Filter, Vec<u8>) {
        let text = Filter::of(numbers).to_json();
        (Filter::parse(&text).expect("sound"), text)
    }

    /// Whatever the slices, a number is finished exactly when some keep-alive finished it.
    #[test]
    fn the_answer_does_not_depend_on_how_far_the_sorting_came() {
        for seed in 0..60 {
            let mut prng = Prng::new(seed);
            let (mut finished, mut kept) = (Finished::default(), Kept::default());
            let mut rubble = Rubble::default();
            let mut said: Vec<(u64, Filter)> = Vec::new();
            let mut last = 0;
            for _ in 0..60 {
                match prng.below(4) {
                    0 => {
                        let open: Vec<u64> =
                            (0..prng.below(5)).map(|_| prng.below(last + 40)).collect();
                        let to = if prng.chance(200) { prng.below(last + 1) } else { last };
                        let (filter, text) = filter(&open);
                        if finished
                            .keep_alive(to, filter.clone(), &text, &mut kept, &mut rubble)
                            .is_ok()
                        {
                            said.push((to, filter));
                        }
                    }
                    1 => drop(finished.sweep(prng.below(100) as usize, &mut kept, |_| false)),
                    _ => {
                        last += prng.below(60);
                        let number = last.saturating_sub(prng.below(100));
                        let recorded = kept.get(number).is_some();
                        if !recorded && !finished.contains(number, false) {
                            kept.insert(number, record());
                            finished.used(number);
                        }
                    }
                }
                for number in 0..last + 50 {
                    let expected =
                        said.iter().any(|(to, filter)| number < *to && !filter.contains(number));
                    let recorded = kept.get(number).is_some();
                    assert_eq!(
                        finished.contains(number, recorded),
                        expected,
                        "seed {seed} number {number}",
                    );
                }
            }
            while finished.is_busy() {
                finished.sweep(1000, &mut kept, |_| false);
            }
            let mut from = 0;
            while let Some((number, _)) = kept.next_from(from) {
                assert!(!finished.contains(number, true), "seed {seed}: {number} is kept");
                from = number + 1;
            }
        }
    }

    #[test]
    fn a_million_numbers_finish_at_once_or_in_slices() {
        let (mut finished, mut kept) = (Finished::default(), Kept::default());
        let mut rubble = Rubble::default();
        (1..=1_000_000).for_each(|number| kept.insert(number, record()));
        let (one, text) = filter(&[77]);
        finished.keep_alive(500_001, one, &text, &mut kept, &mut rubble).expect("not busy");
        assert!(finished.contains(78, true) && !finished.contains(77, true));
        let slices = std::iter::from_fn(|| {
            finished.is_busy().then(|| finished.sweep(10_000, &mut kept, |_| false))
        });
        assert!(slices.inspect(|done| assert!(*done < 10_100)).count() > 40);
        assert!(kept.get(77).is_some() && kept.len() < 600_000);
        let (none, text) = filter(&[]);
        finished.keep_alive(1_000_001, none, &text, &mut kept, &mut rubble).expect("not busy");
        assert!(kept.is_empty() && finished.contains(77, false));
        assert!(!finished.contains(1_000_001, false));
    }

    /// A client may number as it likes: a leap costs nothing, and what is left far behind is
    /// finished.
    #[test]
    fn a_leap_of_numbers_is_bounded_work() {
        let (mut finished, mut kept) = (Finished::default(), Kept::default());
        let mut rubble = Rubble::default();
        kept.insert(5, record());
        let far = u64::MAX - 100;
        let (some, text) = filter(&[far - 2]);
        finished.keep_alive(far, some.clone(), &text, &mut kept, &mut rubble).expect("not busy");
        assert!(far - finished.below() <= SWEEP_RANGE_MAX);
        let done = finished.sweep(1000, &mut kept, |_| false);
        assert!((1000..1100).contains(&done), "{done}");
        assert!(!finished.contains(far - 2, false) && finished.contains(far - 99, false));
        assert_eq!(kept.get(5).is_some(), some.contains(5));
    }
}
