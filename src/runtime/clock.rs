//! The one reader of time.
//!
//! Everything below the shells is told the time; this is who tells it. A clock is a plain value
//! that every core of a node copies, so their monotonic readings compare.

use std::time::{self, SystemTime, UNIX_EPOCH};

use crate::time::{Instant, LogTime, Now};

/// Reads both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: time::Instant,
}

impl Clock {
    /// A clock whose monotonic readings count from now.
    #[must_use]
    pub fn start() -> Clock {
        Clock { start: time::Instant::now() }
    }

    /// What a turn is told.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), wall: wall() }
    }

    /// Nanoseconds since the clock was started.
    #[must_use]
    pub fn monotonic(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The same in the form that timers of the executor take.
    #[must_use]
    pub fn until(&self, at: Instant) -> time::Duration {
        time::Duration::from_nanos(at.since(self.monotonic()).0)
    }
}

/// A clock before 1970 reads as 1970; log time never goes back anyway.
fn wall() -> LogTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LogTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
