//! Memory that starts at a sector boundary, as O_DIRECT wants it, without unsafe code.
//!
//! The vector is one sector longer than asked for and never grows in place: the bytes handed out
//! begin at the first boundary inside it, and moving the `Aligned` does not move them. Growing
//! makes a new vector. Absent on purpose: a length; who fills the buffer knows how far.

use crate::limits::SECTOR_BYTES;

/// A sector-aligned buffer of fixed capacity, a multiple of the sector. New memory is zero.
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// At least `bytes` of capacity, rounded up to whole sectors.
    #[must_use]
    pub fn new(bytes: usize) -> Aligned {
        let capacity = bytes.next_multiple_of(SECTOR_BYTES).max(SECTOR_BYTES);
        let bytes = vec![0; capacity + SECTOR_BYTES];
        let start = bytes.as_ptr().align_offset(SECTOR_BYTES);
        assert!(start <= SECTOR_BYTES, "the allocator cannot align to a sector");
        Aligned { bytes, start }
    }

    /// Makes the capacity at least `bytes`, keeping the first `used`.
    pub fn grow(&mut self, bytes: usize, used: usize) {
        if bytes <= self.capacity() {
            return;
        }
        let mut larger = Aligned::new(bytes.max(self.capacity() * 2));
        larger.as_mut()[..used].copy_from_slice(&self.as_ref()[..used]);
        *self = larger;
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len() - SECTOR_BYTES
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.capacity()]
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        let capacity = self.capacity();
        &mut self.bytes[self.start..self.start + capacity]
    }
}

impl std::fmt::Debug for Aligned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({})", self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_a_sector_and_keeps_its_bytes() {
        let mut buffer = Aligned::new(1);
        assert_eq!(buffer.capacity(), SECTOR_BYTES);
        buffer.as_mut()[..4].copy_from_slice(b"kept");
        for wanted in [1, 5000, 70_000] {
            buffer.grow(wanted, 4);
            assert!(buffer.capacity() >= wanted);
            assert_eq!(buffer.as_ref().as_ptr().addr() % SECTOR_BYTES, 0);
            assert_eq!(&buffer.as_ref()[..4], b"kept");
        }
        let moved = Box::new(buffer);
        assert_eq!(moved.as_ref().as_ref().as_ptr().addr() % SECTOR_BYTES, 0);
    }
}
