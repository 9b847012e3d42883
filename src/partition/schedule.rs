//! Timers in logical time: session expiry, deadlines, TTL, lock timeouts; the same on every
//! replica.
//!
//! Timers run in the order of (due, creation), where creation is the index of the command that
//! armed them and then what they are for. That order follows from the replicated state alone, so a
//! replica that was restored from a snapshot runs them as one that was not. Whoever holds a timer
//! keeps its due time and creation, so cancelling is a removal by key: a cancelled timer is not in
//! the queue and cannot run, not even when the timer just before it cancels it (core.md D29).
//! Absent on purpose: callbacks and clocks.

use std::collections::BTreeSet;

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
    queue: BTreeSet<(LogTime, Index, Timer)>,
}

impl Schedule {
    /// Arms a timer. `created` is the index of the command that does so.
    pub fn arm(&mut self, due: LogTime, created: Index, timer: Timer) {
        let new = self.try_arm(due, created, timer);
        assert!(new, "{timer:?} is armed twice for {} by command {created}", due.0);
    }

    /// Arms a timer that comes from outside; `false` when there is such a one already.
    pub fn try_arm(&mut self, due: LogTime, created: Index, timer: Timer) -> bool {
        self.queue.insert((due, created, timer))
    }

    /// Cancels a timer that was armed with exactly these; it is no error when it has run already.
    pub fn disarm(&mut self, due: LogTime, created: Index, timer: Timer) {
        self.queue.remove(&(due, created, timer));
    }

    /// Takes the first timer that is due at `until`, with its due time.
    pub fn pop_due(&mut self, until: LogTime) -> Option<(LogTime, Timer)> {
        let (due, _, _) = *self.queue.first()?;
        if due > until {
            return None;
        }
        self.queue.pop_first().map(|(due, _, timer)| (due, timer))
    }

    /// When the first timer is due.
    #[must_use]
    pub fn next(&self) -> Option<LogTime> {
        self.queue.first().map(|(due, _, _)| *due)
    }

    /// How many timers are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
