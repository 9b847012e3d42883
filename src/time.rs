//! Time as numbers handed in. Nothing here, and nothing that uses it below the shells, asks the OS.
//!
//! `Now` is what a turn is told: a monotonic reading for deadlines of this process, and a wall
//! clock reading that only ever becomes log time by way of a leader's stamp. `LogTime` is the
//! replicated clock of one partition: it moves when a stamped entry is applied and never goes back
//! (spec/core.md 7.2).

use std::fmt;

/// A length of time in nanoseconds, never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Span(pub u64);

/// A monotonic instant of this process, in nanoseconds since some start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Instant(pub u64);

/// The replicated clock of a partition: nanoseconds since the Unix epoch, 0 before the first stamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogTime(pub u64);

/// What one turn knows of time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Now {
    /// For deadlines inside this process; never goes back.
    pub monotonic: Instant,
    /// The wall clock in nanoseconds since the Unix epoch; may jump either way.
    pub wall: LogTime,
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// So many nanoseconds.
    #[must_use]
    pub const fn nanos(n: u64) -> Span {
        Span(n)
    }
    /// So many microseconds.
    #[must_use]
    pub const fn micros(n: u64) -> Span {
        Span(n * 1_000)
    }
    /// So many milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Span {
        Span(n * 1_000_000)
    }
    /// So many seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Span {
        Span(n * 1_000_000_000)
    }
    /// Whole microseconds in it.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }
    /// Whole milliseconds in it.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl Instant {
    /// This instant moved on by `span`; the far end of time when that is out of range.
    #[must_use]
    pub const fn after(self, span: Span) -> Instant {
        Instant(self.0.saturating_add(span.0))
    }
    /// The time from `earlier` to this; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Instant) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl LogTime {
    /// This time moved on by `span`; the far end of time when that is out of range.
    #[must_use]
    pub const fn after(self, span: Span) -> LogTime {
        LogTime(self.0.saturating_add(span.0))
    }
    /// The time from `earlier` to this; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: LogTime) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            n if n.is_multiple_of(1_000_000_000) => write!(f, "{}s", n / 1_000_000_000),
            n if n.is_multiple_of(1_000_000) => write!(f, "{}ms", n / 1_000_000),
            n if n.is_multiple_of(1_000) => write!(f, "{}us", n / 1_000),
            n => write!(f, "{n}ns"),
        }
    }
}
