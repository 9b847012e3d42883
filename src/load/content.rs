//! What is written into maps: bytes that say who wrote them, so that a reader's answer can be
//! checked without asking anybody.
//!
//! ```text
//!   key (8) │ writer's number (8) │ round (8) │ a pattern that only these three give, to the end
//! ```
//!
//! A value that a server mixes up, cuts, or gives out under another key does not read back. Pure.

use crate::prng::mix;

/// Who wrote a value, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    /// The key it was written under.
    pub key: u64,
    /// The number of the write, of which there is no other in a run.
    pub writer: u64,
    /// Whatever the workload counts or times with it.
    pub round: u64,
}

/// The smallest value.
pub const CONTENT_BYTES_MIN: usize = 24;

impl Content {
    /// Appends `bytes` octets.
    #[inline]
    pub fn put(&self, bytes: usize, into: &mut Vec<u8>) {
        assert!(bytes >= CONTENT_BYTES_MIN, "{bytes} octets cannot say who wrote them");
        let end = into.len() + bytes;
        for word in [self.key, self.writer, self.round] {
            into.extend_from_slice(&word.to_le_bytes());
        }
        let mut word = self.seed();
        while into.len() + 8 <= end {
            into.extend_from_slice(&word.to_le_bytes());
            word = step(word);
        }
        let rest = end - into.len();
        into.extend_from_slice(&word.to_le_bytes()[..rest]);
    }

    /// What these octets say, if they are what `put` makes.
    #[inline]
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Content> {
        let (head, rest) = octets.split_first_chunk::<CONTENT_BYTES_MIN>()?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| head[at + n]));
        let content = Content { key: word(0), writer: word(8), round: word(16) };
        let mut expected = content.seed();
        let (whole, end) = rest.as_chunks::<8>();
        for chunk in whole {
            if u64::from_le_bytes(*chunk) != expected {
                return None;
            }
            expected = step(expected);
        }
        (expected.to_le_bytes()[..end.len()] == *end).then_some(content)
    }

    fn seed(&self) -> u64 {
        mix(self.key ^ mix(self.writer ^ mix(self.round)))
    }
}

const fn step(word: u64) -> u64 {
    word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_read_back_and_damage_does_not() {
        let content = Content { key: 7, writer: 1 << 40, round: 3 };
        for bytes in [24, 25, 31, 32, 100, 1000] {
            let mut octets = vec![9];
            content.put(bytes, &mut octets);
            let octets = &mut octets[1..];
            assert_eq!(octets.len(), bytes);
            assert_eq!(Content::read(octets), Some(content));
            for at in (0..bytes).step_by(7).filter(|_| bytes > 40) {
                octets[at] ^= 4;
                assert_ne!(Content::read(octets), Some(content), "octet {at} of {bytes}");
                octets[at] ^= 4;
            }
        }
        assert_eq!(Content::read(&[0; 23]), None);
    }
}
