//! Which partition a thing lives in, as the published Go driver chooses it (core.md 8.2): any two
//! clients that know the same partitions agree.

use std::collections::BTreeSet;

/// The partitions of a cluster, by ascending id; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout(Vec<u32>);

impl Layout {
    /// The layout of these partitions; `None` when there are none.
    #[must_use]
    pub fn of(ids: &BTreeSet<u32>) -> Option<Layout> {
        (!ids.is_empty()).then(|| Layout(ids.iter().copied().collect()))
    }

    /// Where `key` lives, as a place in `all`: an entry's key for a map, a set's element, the
    /// primitive's name for the others.
    #[must_use]
    pub fn place_of(&self, key: &str) -> usize {
        fnv1a(key.as_bytes()) as usize % self.0.len()
    }

    /// Every partition, ascending.
    #[must_use]
    pub fn all(&self) -> &[u32] {
        &self.0
    }
}

/// FNV-1a, 32 bits.
fn fnv1a(key: &[u8]) -> u32 {
    key.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_drivers() {
        let vectors = [
            ("", 0x811C_9DC5),
            ("a", 0xE40C_292C),
            ("foo", 0xA9F3_7ED7),
            ("foobar", 0xBF9C_F968),
            ("my-counter", 0x2B7A_548A),
        ];
        for (key, hash) in vectors {
            assert_eq!(fnv1a(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn partitions_count_by_their_order_and_not_by_their_ids() {
        let layout = Layout::of(&BTreeSet::from([40, 10, 20])).expect("three partitions");
        assert_eq!(layout.all()[layout.place_of("foo")], [10, 20, 40][0xA9F3_7ED7 % 3]);
        assert_eq!(Layout::of(&BTreeSet::new()), None);
    }
}
