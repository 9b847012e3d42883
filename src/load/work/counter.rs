//! Increments: every acknowledged one counts once.
//!
//! A counter answers an increment with its new value, so the answers to all increments are exactly
//! the numbers between its first value and its last, each once. Their count, sum and sum of squares
//! say so in constant memory, and add up over threads. Besides, an answer is above every value that
//! anybody knew when the increment began.

use std::sync::Arc;

use super::{Common, Done, Ledger, Then, Turn, Work, Wrong};
use crate::load::ask::{Ask, Refusal, Reply};
use crate::load::keys::Keys;

/// What is known of one counter.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Increments that were acknowledged.
    pub count: u64,
    /// The sum of their answers, and of the squares of these; both wrap.
    pub sum: u64,
    /// The sum of the squares.
    pub squares: u64,
    /// Increments of unknown fate.
    pub unknown: u64,
    /// The value before the first.
    pub first: Option<i64>,
    /// The value after the last.
    pub last: Option<i64>,
}

/// The workload.
pub struct Counter {
    common: Arc<Common>,
    thread: usize,
    /// By partition.
    things: Vec<Vec<u32>>,
    keys: Vec<Option<Keys>>,
    tallies: Vec<Tally>,
    settles: bool,
}

impl Counter {
    pub fn new(common: Arc<Common>, thread: usize) -> Counter {
        let plan = &common.plan;
        let parts = 0..plan.partitions.len();
        let things: Vec<Vec<u32>> = parts.map(|part| plan.things_of(part).collect()).collect();
        let keys =
            |of: &Vec<u32>| (!of.is_empty()).then(|| Keys::new(of.len() as u64, plan.distribution));
        let keys = things.iter().map(keys).collect();
        let tallies = vec![Tally::default(); plan.things.len()];
        Counter { thread, things, keys, tallies, settles: false, common }
    }

    fn looks(&self) -> Vec<Ask> {
        let plan = &self.common.plan;
        let mine = |part: &usize| plan.owner(*part) == self.thread;
        let parts = (0..self.things.len()).filter(mine);
        parts.flat_map(|part| &self.things[part]).map(|&thing| Ask::Count { thing }).collect()
    }

    /// A counter of the partition.
    pub fn draw(&self, turn: &mut Turn<'_>) -> u32 {
        let things = &self.things[turn.part];
        match &self.keys[turn.part] {
            // Without a choice each session of the partition takes its own in turn.
            Some(keys) if things.len() > 1 => things[keys.draw(turn.prng) as usize],
            _ => things[0],
        }
    }

    /// Judges the answer to an increment.
    pub fn incremented(&mut self, thing: u32, done: &Done<'_>) -> Result<(), Wrong> {
        match done.reply {
            Ok(Reply::Number(value)) => {
                let tally = &mut self.tallies[thing as usize];
                tally.take(value);
                self.common.raise(u64::from(thing), value as u64);
                if value <= done.floor as i64 {
                    return Err(format!(
                        "counter {}: an increment answered {value}, and {} was known before it \
                         began",
                        self.common.name(thing),
                        done.floor
                    ));
                }
                Ok(())
            }
            Ok(other) => Err(format!("an increment answered {other:?}")),
            Err(_) => {
                self.tallies[thing as usize].unknown += 1;
                Ok(())
            }
        }
    }
}

impl Work for Counter {
    #[inline]
    fn next(&mut self, turn: &mut Turn<'_>) -> Ask {
        Ask::Increment { thing: self.draw(turn) }
    }

    #[inline]
    fn begins(&mut self, ask: &Ask) -> u64 {
        ask.thing().map_or(0, |thing| self.common.floor(u64::from(thing)))
    }

    #[inline]
    fn done(&mut self, done: Done<'_>) -> Result<Then, Wrong> {
        if let Ask::Increment { thing } = done.ask {
            self.incremented(thing, &done)?;
        }
        Ok(Then::Over)
    }

    fn prepare(&mut self) -> Vec<Ask> {
        self.looks()
    }

    fn settle(&mut self) -> Vec<Ask> {
        self.settles = true;
        self.looks()
    }

    fn noted(&mut self, ask: &Ask, reply: Result<Reply, &Refusal>) -> Result<(), Wrong> {
        let (Ask::Count { thing }, Ok(Reply::Number(value))) = (ask, reply) else {
            return Err(format!("{} answered {reply:?}", ask.verb().name()));
        };
        let floor = self.common.raise(u64::from(*thing), value as u64);
        let tally = &mut self.tallies[*thing as usize];
        if self.settles {
            tally.last = Some(value);
        } else {
            tally.first = Some(value);
        }
        if value < floor as i64 {
            let name = self.common.name(*thing);
            return Err(format!("counter {name}: a read shows {value}, {floor} was known before"));
        }
        Ok(())
    }

    fn ledger(&mut self) -> Ledger {
        Ledger { tallies: std::mem::take(&mut self.tallies), ..Ledger::default() }
    }
}

impl Tally {
    /// An increment was answered with `value`.
    #[inline]
    pub fn take(&mut self, value: i64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(value as u64);
        self.squares = self.squares.wrapping_add((value as u64).wrapping_mul(value as u64));
    }

    /// Adds what another thread knows of the same counter.
    pub fn add(&mut self, other: &Tally) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.squares = self.squares.wrapping_add(other.squares);
        self.unknown += other.unknown;
        self.first = self.first.or(other.first);
        self.last = self.last.max(other.last);
    }

    /// Whether all adds up.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), Wrong> {
        let (Some(first), Some(last)) = (self.first, self.last) else { return Ok(()) };
        let grown = last.wrapping_sub(first) as u64;
        if grown < self.count || grown > self.count + self.unknown {
            return Err(format!(
                "{} increments were acknowledged{}, but it went from {first} to {last}",
                self.count,
                if self.unknown > 0 {
                    format!(" and {} have an unknown fate", self.unknown)
                } else {
                    String::new()
                }
            ));
        }
        if self.unknown > 0 {
            return Ok(());
        }
        let (all, before) = (up_to(last), up_to(first));
        let sum = all.0.wrapping_sub(before.0);
        let squares = all.1.wrapping_sub(before.1);
        if (sum, squares) != (self.sum, self.squares) {
            return Err(format!(
                "the answers to {} increments are not the numbers from {} to {last}, each once",
                self.count,
                first + 1
            ));
        }
        Ok(())
    }
}

/// The sums of all numbers up to `n` and of their squares, modulo 2^64. Beyond what a counter
/// reaches by increments there is no second sum, and none is compared.
fn up_to(n: i64) -> (u64, u64) {
    let wide = i128::from(n);
    let squares = if n.abs() < 1 << 40 { wide * (wide + 1) * (2 * wide + 1) / 6 } else { 0 };
    ((wide * (wide + 1) / 2) as u64, squares as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(first: i64, last: i64, values: &[i64]) -> Tally {
        let mut tally = Tally { first: Some(first), last: Some(last), ..Tally::default() };
        values.iter().for_each(|value| tally.take(*value));
        tally
    }

    #[test]
    fn each_number_once_in_any_order() {
        assert_eq!(tally(0, 4, &[2, 1, 4, 3]).check(), Ok(()));
        assert_eq!(tally(1_000_000, 1_000_002, &[1_000_002, 1_000_001]).check(), Ok(()));
        assert_eq!(tally(5, 5, &[]).check(), Ok(()));
        // Twice the same, and a sum that fits by accident.
        assert!(tally(0, 4, &[1, 2, 2, 4]).check().is_err());
        assert!(tally(0, 4, &[1, 1, 4, 4]).check().is_err());
        // Lost, and done twice.
        assert!(tally(0, 3, &[1, 2, 3, 4]).check().is_err());
        assert!(tally(0, 5, &[1, 2, 3, 4]).check().is_err());
    }

    #[test]
    fn an_increment_of_unknown_fate_may_have_counted() {
        let mut tally = tally(0, 3, &[1, 2]);
        tally.unknown = 1;
        assert_eq!(tally.check(), Ok(()));
        tally.last = Some(2);
        assert_eq!(tally.check(), Ok(()));
        tally.last = Some(4);
        assert!(tally.check().is_err());
    }

    #[test]
    fn threads_add_up() {
        let mut all = tally(0, 4, &[1, 3]);
        all.add(&Tally { first: None, last: None, ..tally(0, 0, &[2, 4]) });
        assert_eq!(all.check(), Ok(()));
    }
}
