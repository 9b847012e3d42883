//! The clocks of a node: a monotonic one that starts anew with every process, and a wall clock that
//! is off, drifts, and is stepped.

use crate::prng::Prng;
use crate::time::{Instant, LogTime, Now};

/// One node's clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    started_ns: u64,
    offset_ns: i64,
    drift_ppm: i64,
}

impl Clock {
    /// A clock that is right.
    #[must_use]
    pub fn right() -> Clock {
        Clock { started_ns: 0, offset_ns: 0, drift_ppm: 0 }
    }

    /// Off by up to `skew_ns` either way, gaining or losing up to 200 parts in a million.
    #[must_use]
    pub fn drawn(prng: &mut Prng, skew_ns: u64) -> Clock {
        let offset_ns = prng.between(0, 2 * skew_ns) as i64 - skew_ns as i64;
        let drift_ppm = prng.between(0, 400) as i64 - 200;
        Clock { started_ns: 0, offset_ns, drift_ppm }
    }

    /// The process starts again at `now_ns`: its monotonic clock begins anew.
    pub fn restart(&mut self, now_ns: u64) {
        self.started_ns = now_ns;
    }

    /// The wall clock is set forwards or backwards.
    pub fn step(&mut self, by_ns: i64) {
        self.offset_ns += by_ns;
    }

    /// What a turn is told at `now_ns` of the world.
    #[must_use]
    pub fn read(&self, now_ns: u64) -> Now {
        let drift_ns = now_ns as i128 * i128::from(self.drift_ppm) / 1_000_000;
        let wall =
            i128::from(EPOCH_NS) + i128::from(now_ns) + drift_ns + i128::from(self.offset_ns);
        Now {
            monotonic: Instant(now_ns - self.started_ns + MONOTONIC_START_NS),
            wall: LogTime(wall.max(1) as u64),
        }
    }

    /// When, in the world's time, this process's clock shows `at`; never before the world began.
    #[must_use]
    pub fn world_ns(&self, at: Instant) -> u64 {
        at.0.saturating_sub(MONOTONIC_START_NS).saturating_add(self.started_ns)
    }
}

/// The world begins on 2026-01-01.
const EPOCH_NS: u64 = 1_767_225_600_000_000_000;

/// A monotonic clock has no reason to begin at zero.
const MONOTONIC_START_NS: u64 = 3_600_000_000_000;
