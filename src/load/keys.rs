//! Which key a call is for: any with the same chance, or a few far more often than the rest.
//!
//! The skewed draw is that of YCSB (Gray et al., "Quickly generating billion-record synthetic
//! databases", 1994) with its exponent of 0.99: rank 0 is the most popular. Pure.

use super::arrival::unit;
use crate::prng::Prng;

/// How keys are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// By rank, as YCSB does.
    Zipf,
}

/// Draws ranks below a count.
#[derive(Clone, Debug)]
pub struct Keys {
    count: u64,
    zipf: Option<Zipf>,
}

#[derive(Clone, Debug)]
struct Zipf {
    alpha: f64,
    zeta: f64,
    eta: f64,
    second: f64,
}

const THETA: f64 = 0.99;

impl Keys {
    /// Ranks below `count`, which is above zero.
    #[must_use]
    pub fn new(count: u64, distribution: Distribution) -> Keys {
        assert!(count > 0, "there is a key");
        let zipf = (distribution == Distribution::Zipf).then(|| {
            let zeta = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
            let all = zeta(count);
            let share = 1.0 - (2.0 / count as f64).powf(1.0 - THETA);
            Zipf {
                alpha: 1.0 / (1.0 - THETA),
                zeta: all,
                eta: share / (1.0 - zeta(2.min(count)) / all),
                second: 1.0 + 0.5f64.powf(THETA),
            }
        });
        Keys { count, zipf }
    }

    /// The next one.
    pub fn draw(&self, prng: &mut Prng) -> u64 {
        let Some(zipf) = &self.zipf else { return prng.below(self.count) };
        let at = unit(prng);
        let scaled = at * zipf.zeta;
        if scaled < 1.0 || self.count == 1 {
            return 0;
        }
        if scaled < zipf.second || self.count == 2 {
            return 1;
        }
        let rank = self.count as f64 * (zipf.eta * (at - 1.0) + 1.0).powf(zipf.alpha);
        (rank as u64).min(self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(count: u64, distribution: Distribution) -> Vec<f64> {
        const DRAWS: usize = 200_000;
        let (keys, mut prng) = (Keys::new(count, distribution), Prng::new(3));
        let mut seen = vec![0usize; count as usize];
        (0..DRAWS).for_each(|_| seen[keys.draw(&mut prng) as usize] += 1);
        seen.into_iter().map(|times| times as f64 / DRAWS as f64).collect()
    }

    #[test]
    fn uniform_keys_have_the_same_chance() {
        for share in shares(10, Distribution::Uniform) {
            assert!((share - 0.1).abs() < 0.005, "{share}");
        }
    }

    #[test]
    fn popular_keys_have_the_chance_of_their_rank() {
        let shares = shares(1000, Distribution::Zipf);
        let zeta: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-THETA)).sum();
        // The two most popular are exact, the others a continuous approximation.
        assert!((shares[0] - 1.0 / zeta).abs() < 0.004, "{}", shares[0]);
        assert!((shares[1] - 2f64.powf(-THETA) / zeta).abs() < 0.004, "{}", shares[1]);
        let (head, tail) = (shares[..100].iter().sum::<f64>(), shares[900..].iter().sum::<f64>());
        let expected: f64 = (1..=100).map(|rank| f64::from(rank).powf(-THETA)).sum::<f64>() / zeta;
        assert!((head - expected).abs() < 0.03, "{head} against {expected}");
        assert!(tail < 0.02 && tail > 0.001, "{tail}");
    }

    #[test]
    fn few_keys_are_all_drawn() {
        for count in 1..5 {
            let shares = shares(count, Distribution::Zipf);
            assert!(shares.iter().all(|share| *share > 0.05), "{count}: {shares:?}");
        }
    }
}
