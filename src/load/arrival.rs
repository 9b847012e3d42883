//! When calls are due: at a constant rate, as a Poisson process, or as soon as another has ended.
//!
//! An open loop's arrivals are drawn beforehand and never wait for anything: whoever is late with a
//! call still counts its latency from when it was due, so a stall is measured and not skipped. Pure:
//! times are nanoseconds since the start of the run.

use crate::prng::Prng;

/// How the arrivals of an open loop are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spread {
    /// The same gap each time.
    Constant,
    /// Exponential gaps, as of many who do not know of each other.
    Poisson,
}

/// What sets the pace of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// Calls a second, whatever becomes of them.
    Open {
        /// Calls a second, above zero.
        rate: f64,
        /// How they are spread.
        spread: Spread,
    },
    /// So many at a time, each followed by the next.
    Closed {
        /// How many.
        in_flight: usize,
    },
}

/// The due times of an open loop's calls, one after the other.
#[derive(Debug)]
pub struct Arrivals {
    gap_ns: f64,
    spread: Spread,
    prng: Prng,
    /// Constant: of the next call, in gaps. Poisson: nanoseconds.
    at: f64,
}

impl Arrivals {
    /// Part `part` of `parts` that share `rate` calls a second; together they are as evenly spread
    /// as one would be.
    ///
    /// # Panics
    /// When the rate is not above zero.
    #[must_use]
    pub fn new(rate: f64, spread: Spread, part: usize, parts: usize, seed: u64) -> Arrivals {
        assert!(rate > 0.0 && rate.is_finite(), "{rate} calls a second");
        assert!(part < parts, "part {part} of {parts}");
        let gap_ns = 1e9 / rate * parts as f64;
        let mut prng = Prng::new(seed).fork(part as u64);
        let at = match spread {
            Spread::Constant => part as f64 / parts as f64,
            Spread::Poisson => exponential(&mut prng) * gap_ns,
        };
        Arrivals { gap_ns, spread, prng, at }
    }

    /// When the next call is due.
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        match self.spread {
            // Multiplied, not added up: an hour later it is still on the grid.
            Spread::Constant => (self.at * self.gap_ns) as u64,
            Spread::Poisson => self.at as u64,
        }
    }

    /// That call was taken; on to the one after it.
    pub fn advance(&mut self) {
        match self.spread {
            Spread::Constant => self.at += 1.0,
            Spread::Poisson => self.at += exponential(&mut self.prng) * self.gap_ns,
        }
    }
}

/// A number of mean 1.
fn exponential(prng: &mut Prng) -> f64 {
    -(1.0 - unit(prng)).ln()
}

/// A number in [0, 1).
pub fn unit(prng: &mut Prng) -> f64 {
    (prng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrivals: &mut Arrivals, count: usize) -> Vec<u64> {
        let mut next = || {
            let due = arrivals.due_ns();
            arrivals.advance();
            due
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_constant_rate_stays_on_its_grid() {
        let mut arrivals = Arrivals::new(3.0, Spread::Constant, 0, 1, 1);
        assert_eq!(times(&mut arrivals, 4), [0, 333_333_333, 666_666_666, 1_000_000_000]);
        let mut fast = Arrivals::new(700_000.0, Spread::Constant, 0, 1, 1);
        let last = times(&mut fast, 700_001)[700_000];
        assert!(last.abs_diff(1_000_000_000) <= 1, "{last}");
    }

    #[test]
    fn parts_interleave() {
        let part = |part| times(&mut Arrivals::new(1000.0, Spread::Constant, part, 2, 1), 3);
        assert_eq!(part(0), [0, 2_000_000, 4_000_000]);
        assert_eq!(part(1), [1_000_000, 3_000_000, 5_000_000]);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_poisson() {
        let mut arrivals = Arrivals::new(1000.0, Spread::Poisson, 0, 1, 5);
        let times = times(&mut arrivals, 100_001);
        let gaps: Vec<f64> = times.windows(2).map(|two| (two[1] - two[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
        let long = gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / gaps.len() as f64;
        assert!((long - (-1f64).exp()).abs() < 0.01, "{long} are above the mean");
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let run = |seed| times(&mut Arrivals::new(1e5, Spread::Poisson, 1, 3, seed), 100);
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
