//! Whether a history could have happened one operation at a time: the search of Wing and Gong with
//! Lowe's memory of what was tried.
//!
//! Entries that came back must all take effect between call and return; entries that never came
//! back may take effect at any time after their call, or never. The search is exact within its
//! bound of steps; past it the verdict is open, which is counted and not hidden.

use std::collections::BTreeSet;

use crate::workload::model::{Event, State};

/// One thing that happened to the key under search.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Not before this.
    pub call: u64,
    /// Not after this; `None`: whenever, or never.
    pub back: Option<u64>,
    /// What.
    pub event: Event,
}

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linear,
    /// There is none. The longest order that was found, as places in the entries.
    Broken(Vec<usize>),
    /// The bound was reached first.
    Open,
}

/// Looks for an order of `entries` that `initial` can follow.
#[must_use]
pub fn search(initial: State, entries: &[Entry], steps_max: usize) -> Verdict {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|place| entries[*place].call);
    let mut search = Search {
        entries,
        order,
        done: vec![0; entries.len().div_ceil(64)],
        tried: BTreeSet::new(),
        path: Vec::new(),
        longest: Vec::new(),
        to_do: entries.iter().filter(|entry| entry.back.is_some()).count(),
    };
    search.run(initial, steps_max)
}

struct Search<'a> {
    entries: &'a [Entry],
    order: Vec<usize>,
    done: Vec<u64>,
    tried: BTreeSet<(Vec<u64>, State)>,
    path: Vec<usize>,
    longest: Vec<usize>,
    to_do: usize,
}

struct Level {
    choices: Vec<(usize, State)>,
    next: usize,
}

impl Search<'_> {
    fn run(&mut self, initial: State, steps_max: usize) -> Verdict {
        if self.to_do == 0 {
            return Verdict::Linear;
        }
        let mut levels = vec![self.level(&initial)];
        for _ in 0..steps_max {
            let Some(level) = levels.last_mut() else {
                return Verdict::Broken(std::mem::take(&mut self.longest));
            };
            let Some((place, state)) = level.choices.get(level.next).cloned() else {
                levels.pop();
                if let Some(place) = self.path.pop() {
                    self.put(place, false);
                }
                continue;
            };
            level.next += 1;
            self.put(place, true);
            self.path.push(place);
            if self.to_do == 0 {
                return Verdict::Linear;
            }
            if self.path.len() > self.longest.len() {
                self.longest.clone_from(&self.path);
            }
            if self.tried.insert((self.done.clone(), state.clone())) {
                levels.push(self.level(&state));
            } else {
                self.path.pop();
                self.put(place, false);
            }
        }
        Verdict::Open
    }

    /// What may come next: everything that was called before the first of the rest returned. Those
    /// that returned come first, the earliest before the others, since an order nearly always is
    /// that one.
    fn level(&self, state: &State) -> Level {
        let open = || self.order.iter().copied().filter(|place| !self.is_done(*place));
        let first_back = open().filter_map(|place| self.entries[place].back).min();
        let mut ready: Vec<usize> = open()
            .take_while(|place| first_back.is_none_or(|back| self.entries[*place].call < back))
            .collect();
        ready.sort_by_key(|place| self.entries[*place].back.unwrap_or(u64::MAX));
        let choices = ready
            .into_iter()
            .filter_map(|place| Some((place, state.step(&self.entries[place].event)?)))
            .filter(|(place, after)| self.entries[*place].back.is_some() || after != state)
            .collect();
        Level { choices, next: 0 }
    }

    fn is_done(&self, place: usize) -> bool {
        self.done[place / 64] >> (place % 64) & 1 == 1
    }

    fn put(&mut self, place: usize, done: bool) {
        let bit = 1 << (place % 64);
        let returned = usize::from(self.entries[place].back.is_some());
        if done {
            self.done[place / 64] |= bit;
            self.to_do -= returned;
        } else {
            self.done[place / 64] &= !bit;
            self.to_do += returned;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Kind;
    use crate::partition::reply::Status;
    use crate::workload::{Answer, Op, Outcome};

    #[test]
    fn an_overlapping_read_may_see_either_side() {
        let history = |seen| {
            [
                entry(1, Some(10), 1, Op::CounterIncrement(1), Ok(Answer::Number(1))),
                entry(2, Some(3), 2, Op::CounterGet, Ok(Answer::Number(seen))),
            ]
        };
        assert_eq!(counter(&history(0)), Verdict::Linear);
        assert_eq!(counter(&history(1)), Verdict::Linear);
        assert!(matches!(counter(&history(2)), Verdict::Broken(_)));
    }

    #[test]
    fn a_read_after_the_answer_sees_the_write() {
        let history = |seen| {
            [
                entry(1, Some(2), 1, Op::CounterIncrement(1), Ok(Answer::Number(1))),
                entry(3, Some(4), 2, Op::CounterGet, Ok(Answer::Number(seen))),
            ]
        };
        assert_eq!(counter(&history(1)), Verdict::Linear);
        assert_eq!(counter(&history(0)), Verdict::Broken(vec![0]));
    }

    #[test]
    fn what_never_came_back_may_be_done_late_or_never_but_once() {
        let lost = Entry { back: None, ..call(1, 1, Op::CounterIncrement(5), None) };
        let read = |from: u64, seen| {
            entry(from, Some(from + 1), 2, Op::CounterGet, Ok(Answer::Number(seen)))
        };
        for (seen, fine) in [([0, 0], true), ([0, 5], true), ([5, 5], true), ([5, 10], false)] {
            let history = [lost.clone(), read(10, seen[0]), read(20, seen[1])];
            assert_eq!(counter(&history) == Verdict::Linear, fine, "{seen:?}");
        }
    }

    #[test]
    fn two_holders_of_one_lock_need_an_end_of_a_session_between_them() {
        let acquire = |at: u64, session, token| {
            let op = Op::LockAcquire { timeout: None };
            entry(at, Some(at + 1), session, op, Ok(Answer::Token(token)))
        };
        let held = [acquire(1, 1, 7), acquire(5, 2, 9)];
        assert!(matches!(lock(&held), Verdict::Broken(_)));
        let end = Entry { call: 2, back: None, event: Event::SessionEnd { session: 1 } };
        let with_end = [held[0].clone(), held[1].clone(), end.clone()];
        assert_eq!(lock(&with_end), Verdict::Linear);
        let backwards = [held[1].clone(), acquire(8, 3, 7), Entry { call: 6, ..end }];
        assert!(matches!(lock(&backwards), Verdict::Broken(_)));
    }

    #[test]
    fn a_key_may_outlive_its_time_but_not_come_back() {
        let put = entry(
            1,
            Some(2),
            1,
            Op::MapPut { key: "k".into(), value: "v".into(), ttl: None, prev: 0 },
            Ok(Answer::Written { index: 4, before: None }),
        );
        let gone = |at: u64| {
            let none = Err((Status::NotFound, String::new()));
            entry(at, Some(at + 1), 2, Op::MapGet { key: "k".into() }, none)
        };
        let expire = Entry { call: 3, back: None, event: Event::Expire { writer: 1 } };
        let map = |entries: &[Entry]| search(State::initial(Kind::Map), entries, 1000);
        assert!(matches!(map(&[put.clone(), gone(5)]), Verdict::Broken(_)));
        assert_eq!(map(&[put.clone(), gone(5), expire.clone()]), Verdict::Linear);
    }

    #[test]
    fn the_bound_leaves_the_verdict_open() {
        let mut entries: Vec<Entry> = (1..20)
            .map(|delta| Entry {
                back: None,
                ..call(delta, 1, Op::CounterIncrement(1 << delta), None)
            })
            .collect();
        entries.push(entry(50, Some(51), 2, Op::CounterGet, Ok(Answer::Number(1))));
        assert_eq!(search(State::initial(Kind::Counter), &entries, 100), Verdict::Open);
    }

    fn counter(entries: &[Entry]) -> Verdict {
        search(State::initial(Kind::Counter), entries, 10_000)
    }

    fn lock(entries: &[Entry]) -> Verdict {
        search(State::initial(Kind::Lock), entries, 10_000)
    }

    fn entry(call_at: u64, back: Option<u64>, session: u64, op: Op, outcome: Outcome) -> Entry {
        Entry { back, ..call(call_at, session, op, Some(outcome)) }
    }

    fn call(at: u64, session: u64, op: Op, outcome: Option<Outcome>) -> Entry {
        Entry { call: at, back: None, event: Event::Call { number: at, session, op, outcome } }
    }
}
