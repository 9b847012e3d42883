//! The clock that a leader stamps its entries with.
//!
//! Within a term log time follows the monotonic clock, so a step of the wall clock does nothing. At
//! the start of a term it goes to the wall clock, but never back and never further than a bound
//! past the newest stamp in the log: one machine with a wrong clock must not expire what lives for
//! hours (design.md, decision 12).

use crate::{
    id::Term,
    time::{Instant, LogTime, Now, Span},
};

/// One term's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    term: Term,
    base: LogTime,
    at: Instant,
}

impl Clock {
    /// The clock of `term`, which starts now; `last` is the newest stamp in the log, applied or
    /// not.
    #[must_use]
    pub fn start(term: Term, last: LogTime, now: Now, jump: Span) -> Clock {
        let base = if last == LogTime(0) {
            // The first stamp of a partition: nothing hangs on the time before it.
            now.wall
        } else {
            now.wall.clamp(last, last.after(jump))
        };
        Clock { term, base, at: now.monotonic }
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Shows its start until now. The leader holds its clock while the state has not come to the
    /// term yet: a session has its whole timeout from the first stamp of a term on, and must not
    /// spend it waiting for a long log to be applied.
    pub fn hold(&mut self, now: Now) {
        self.at = now.monotonic;
    }

    /// What it shows: the stamp of an entry that is proposed now.
    #[must_use]
    pub fn read(&self, now: Now) -> LogTime {
        self.time_at(now.monotonic)
    }

    /// What it will show at `instant`. So a deadline is as far away in the log as it is here,
    /// however far the log is from the wall.
    #[must_use]
    pub fn time_at(&self, instant: Instant) -> LogTime {
        self.base.after(instant.since(self.at))
    }

    /// When it will show `time`; its start if that was earlier.
    #[must_use]
    pub fn instant_of(&self, time: LogTime) -> Instant {
        self.at.after(time.since(self.base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(monotonic: u64, wall: u64) -> Now {
        Now { monotonic: Instant(monotonic), wall: LogTime(wall) }
    }

    #[test]
    fn within_a_term_the_wall_does_nothing() {
        let clock = Clock::start(Term(1), LogTime(0), now(100, 5_000), Span(10));
        assert_eq!(clock.read(now(150, 9_000_000)), LogTime(5_050));
        assert_eq!(clock.read(now(160, 0)), LogTime(5_060));
        assert_eq!(clock.instant_of(LogTime(5_060)), Instant(160));
    }

    #[test]
    fn a_clock_that_is_held_stands() {
        let mut clock = Clock::start(Term(1), LogTime(0), now(100, 5_000), Span(10));
        clock.hold(now(900, 0));
        assert_eq!(clock.read(now(900, 0)), LogTime(5_000));
        assert_eq!(clock.read(now(907, 0)), LogTime(5_007));
    }

    #[test]
    fn a_new_term_never_goes_back_nor_too_far() {
        let last = LogTime(5_000);
        assert_eq!(Clock::start(Term(2), last, now(0, 10), Span(100)).read(now(0, 0)), last);
        let far = Clock::start(Term(2), last, now(0, 1 << 60), Span(100));
        assert_eq!(far.read(now(0, 0)), LogTime(5_100));
        let near = Clock::start(Term(2), last, now(0, 5_040), Span(100));
        assert_eq!(near.read(now(7, 0)), LogTime(5_047));
    }
}
