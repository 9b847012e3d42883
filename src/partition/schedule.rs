//! Timers in logical time: session expiry, deadlines, TTL, lock timeouts; the same on every
//! replica.
//!
//! Timers run in the order of (due, creation), where creation is the index of the command that
//! armed them and then what they are for. That order follows from the replicated state alone, so a
//! replica that was restored from a snapshot runs them as one that was not. Whoever holds a timer
//! keeps its due time and creation, so cancelling is a removal by key: a cancelled timer is not in
//! the queue and cannot run, not even when the timer just before it cancels it (core.md D29).
//! The timers of a primitive are in a queue of their own, of which only the first stands in the
//! queue of all: a primitive that is cleared of a million entries cancels their timers at once.
//! Absent on purpose: callbacks and clocks.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Index, PrimitiveId, Sequence, SessionId};
use crate::time::LogTime;

/// What a timer is for. At equal due time and creation they run in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// The session falls silent.
    Session(SessionId),
    /// A pending command's deadline passes.
    Deadline(SessionId, Sequence),
    /// Something of a primitive's own, which its token tells apart.
    Primitive(PrimitiveId, u64),
}

/// Every armed timer of a partition. All operations take time logarithmic in their number.
#[derive(Clone, Default, Debug)]
pub struct Schedule {
    /// All timers but those of primitives, and of each primitive the first.
    queue: BTreeSet<(LogTime, Index, Timer)>,
    /// Those of each primitive that has any.
    owned: BTreeMap<PrimitiveId, Owned>,
    count: usize,
}

/// Timers of one primitive, by due time, creation and token.
pub type Owned = BTreeMap<(LogTime, Index, u64), ()>;

impl Schedule {
    /// Arms a timer. `created` is the index of the command that does so.
    pub fn arm(&mut self, due: LogTime, created: Index, timer: Timer) {
        let new = self.try_arm(due, created, timer);
        assert!(new, "{timer:?} is armed twice for {} by command {created}", due.0);
    }

    /// Arms a timer that comes from outside; `false` when there is such a one already.
    pub fn try_arm(&mut self, due: LogTime, created: Index, timer: Timer) -> bool {
        let new = match timer {
            Timer::Session(_) | Timer::Deadline(..) => self.queue.insert((due, created, timer)),
            Timer::Primitive(primitive, token) => {
                let owned = self.owned.entry(primitive).or_default();
                let before = first_of(owned);
                let new = owned.insert((due, created, token), ()).is_none();
                let after = first_of(owned);
                self.stand_in(primitive, before, after);
                new
            }
        };
        self.count += usize::from(new);
        new
    }

    /// Cancels a timer that was armed with exactly these; it is no error when it has run already.
    pub fn disarm(&mut self, due: LogTime, created: Index, timer: Timer) {
        let found = match timer {
            Timer::Session(_) | Timer::Deadline(..) => self.queue.remove(&(due, created, timer)),
            Timer::Primitive(primitive, token) => self.take(primitive, (due, created, token)),
        };
        self.count -= usize::from(found);
    }

    /// Cancels all timers of a primitive. They are handed out because freeing many takes long.
    pub fn disarm_all(&mut self, primitive: PrimitiveId) -> Owned {
        let Some(owned) = self.owned.remove(&primitive) else {
            return Owned::new();
        };
        self.stand_in(primitive, first_of(&owned), None);
        self.count -= owned.len();
        owned
    }

    /// Takes the first timer that is due at `until`, with its due time.
    pub fn pop_due(&mut self, until: LogTime) -> Option<(LogTime, Timer)> {
        let (due, created, timer) = *self.queue.first()?;
        if due > until {
            return None;
        }
        self.disarm(due, created, timer);
        Some((due, timer))
    }

    /// When the first timer is due.
    #[must_use]
    pub fn next(&self) -> Option<LogTime> {
        self.queue.first().map(|(due, _, _)| *due)
    }

    /// How many timers are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn take(&mut self, primitive: PrimitiveId, place: Place) -> bool {
        let Some(owned) = self.owned.get_mut(&primitive) else {
            return false;
        };
        let before = first_of(owned);
        let found = owned.remove(&place).is_some();
        let after = first_of(owned);
        if owned.is_empty() {
            self.owned.remove(&primitive);
        }
        self.stand_in(primitive, before, after);
        found
    }

    /// Another timer, or none any more, is the first of a primitive.
    fn stand_in(&mut self, primitive: PrimitiveId, before: Option<Place>, after: Option<Place>) {
        if before == after {
            return;
        }
        if let Some((due, created, token)) = before {
            let stood = self.queue.remove(&(due, created, Timer::Primitive(primitive, token)));
            assert!(stood, "the first timer of {primitive} did not stand for it");
        }
        if let Some((due, created, token)) = after {
            self.queue.insert((due, created, Timer::Primitive(primitive, token)));
        }
    }
}

type Place = (LogTime, Index, u64);

fn first_of(owned: &Owned) -> Option<Place> {
    owned.first_key_value().map(|(place, ())| *place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    fn ttl(token: u64) -> Timer {
        Timer::Primitive(PrimitiveId(1), token)
    }

    #[test]
    fn timers_run_by_due_time_and_then_by_creation() {
        let mut schedule = Schedule::default();
        schedule.arm(LogTime(5), Index(4), ttl(4));
        schedule.arm(LogTime(9), Index(1), ttl(1));
        schedule.arm(LogTime(5), Index(2), Timer::Session(SessionId(2)));
        schedule.arm(LogTime(3), Index(7), ttl(7));
        let mut order = Vec::new();
        while let Some((due, timer)) = schedule.pop_due(LogTime(5)) {
            order.push((due.0, timer));
        }
        assert_eq!(order, [(3, ttl(7)), (5, Timer::Session(SessionId(2))), (5, ttl(4))]);
        assert_eq!(schedule.next(), Some(LogTime(9)));
    }

    /// Armed by each keep-alive, a session's timer used to stand before all others (primitives.md
    /// C-01).
    #[test]
    fn a_timer_armed_later_does_not_hide_an_earlier_one() {
        let mut schedule = Schedule::default();
        schedule.arm(LogTime(10), Index(1), Timer::Session(SessionId(1)));
        for beat in 2..100 {
            schedule.arm(LogTime(60 + beat), Index(beat), Timer::Session(SessionId(2)));
            schedule.disarm(LogTime(60 + beat), Index(beat), Timer::Session(SessionId(2)));
        }
        assert_eq!(
            schedule.pop_due(LogTime(10)),
            Some((LogTime(10), Timer::Session(SessionId(1)))),
        );
        assert!(schedule.is_empty());
    }

    #[test]
    fn timers_of_many_primitives_run_as_from_one_queue() {
        for seed in 0..20 {
            let mut prng = Prng::new(seed);
            let (mut schedule, mut model) = (Schedule::default(), BTreeSet::new());
            for created in 1..400 {
                let (due, id) = (LogTime(prng.below(40)), prng.between(1, 3));
                let timer = match prng.below(4) {
                    0 => Timer::Session(SessionId(id)),
                    1 => Timer::Deadline(SessionId(id), Sequence(prng.below(3))),
                    _ => Timer::Primitive(PrimitiveId(id), prng.below(3)),
                };
                match prng.below(12) {
                    0..7 => {
                        schedule.arm(due, Index(created), timer);
                        model.insert((due, Index(created), timer));
                    }
                    7..9 => {
                        let at = prng.below(model.len() as u64 + 1) as usize;
                        let known = model.iter().nth(at).copied();
                        let (due, created, timer) = known.unwrap_or((due, Index(created), timer));
                        schedule.disarm(due, created, timer);
                        model.remove(&(due, created, timer));
                    }
                    9 if prng.chance(100) => {
                        let gone = schedule.disarm_all(PrimitiveId(id)).len();
                        let of = |timer| matches!(timer, Timer::Primitive(of, _) if of.0 == id);
                        let before = model.len();
                        model.retain(|(_, _, timer)| !of(*timer));
                        assert_eq!(gone, before - model.len(), "seed {seed}");
                    }
                    _ => {
                        let first = model.first().copied().filter(|first| first.0 <= due);
                        if let Some(first) = first {
                            model.remove(&first);
                        }
                        let first = first.map(|(due, _, timer)| (due, timer));
                        assert_eq!(schedule.pop_due(due), first, "seed {seed}");
                    }
                }
                assert_eq!(schedule.len(), model.len(), "seed {seed}");
                assert_eq!(schedule.next(), model.first().map(|first| first.0), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_timer_cancelled_by_the_one_before_it_does_not_run() {
        let mut schedule = Schedule::default();
        schedule.arm(LogTime(5), Index(1), ttl(1));
        schedule.arm(LogTime(5), Index(2), ttl(2));
        assert_eq!(schedule.pop_due(LogTime(6)), Some((LogTime(5), ttl(1))));
        schedule.disarm(LogTime(5), Index(2), ttl(2));
        schedule.arm(LogTime(5), Index(3), ttl(3));
        assert_eq!(schedule.pop_due(LogTime(6)), Some((LogTime(5), ttl(3))));
        assert_eq!(schedule.pop_due(LogTime(6)), None);
    }
}
