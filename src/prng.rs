//! One small seeded generator (SplitMix64) for the simulator, election timeouts and seeded tests.
//!
//! The same seed gives the same numbers for ever: kept seeds depend on it. Not for secrets.

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// The stream that `seed` names.
    #[must_use]
    pub const fn new(seed: u64) -> Prng {
        Prng(seed)
    }

    /// A stream of its own for `part`, so that one part's draws do not shift another's.
    #[must_use]
    pub fn fork(&mut self, part: u64) -> Prng {
        Prng(mix(self.next_u64() ^ mix(part)))
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is above zero. The bias is below 2^-32 for bounds that fit 32
    /// bits.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "{low} is above {high}");
        low + self.below((high - low).saturating_add(1).max(1))
    }

    /// Whether an event of so many in a thousand happens.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of these, which are not empty.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Scatters the bits of `x`: a fixed permutation of all 64-bit numbers.
#[must_use]
pub const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
