//! Segments: names, headers, and how large things are.
//!
//! A segment is one file of fixed size, written full before its first use and recycled after its
//! last, so that no write ever extends a file or lands in an unwritten extent. Its first sector is
//! this header; blocks follow. The header is durable under the file's name before the first block
//! is written (`Order::Open` comes before, and the disk keeps that order), so an unreadable header
//! is damage and never a crash.
//!
//! ```text
//! 0       4     8        12     16         24            32     40      42        4096
//! | magic | crc | format | node | sequence | incarnation | kept | shard | zero …  |
//! ```
//!
//! `sequence` orders the segments of a shard and is used once. `incarnation` counts the starts of
//! the journal. `kept` is the last mark that start found and kept: blocks of earlier incarnations
//! with higher marks were cut off as a torn tail and are never read again.

use crate::{
    id::{Mark, NodeId, ShardId},
    journal::aligned::Aligned,
    limits::{BLOCK_BYTES_MAX, SECTOR_BYTES, SEGMENT_BYTES},
};

/// The version of everything in this folder's formats.
pub const FORMAT: u32 = 1;

/// Sizes of a shard's journal. The production values are the default; tests and the simulator draw
/// small ones so that rolling happens often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Bytes of one segment file, a multiple of the sector.
    pub segment_bytes: usize,
    /// Bytes of the largest block, a multiple of the sector.
    pub block_bytes_max: usize,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout { segment_bytes: SEGMENT_BYTES, block_bytes_max: BLOCK_BYTES_MAX }
    }
}

impl Layout {
    /// What the checkpoint at a segment's start may take.
    #[must_use]
    pub fn checkpoint_bytes_max(self) -> usize {
        self.segment_bytes / 4
    }

    pub(super) fn check(self) {
        let Layout { segment_bytes, block_bytes_max } = self;
        assert!(segment_bytes.is_multiple_of(SECTOR_BYTES), "segment of {segment_bytes} bytes");
        assert!(block_bytes_max.is_multiple_of(SECTOR_BYTES), "block of {block_bytes_max} bytes");
        assert!(block_bytes_max >= SECTOR_BYTES, "a block is at least a sector");
        assert!(
            2 * SECTOR_BYTES + self.checkpoint_bytes_max() + block_bytes_max <= segment_bytes,
            "a segment of {segment_bytes} is too small for blocks of {block_bytes_max}"
        );
    }
}

/// Whose journal it is; a segment of anyone else is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// The shard of that node.
    pub shard: ShardId,
}

/// What a segment's first sector says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Whose it is.
    pub owner: Owner,
    /// The segment's place in the journal, from 1.
    pub sequence: u64,
    /// Which start of the journal opened it, from 1.
    pub incarnation: u64,
    /// The last mark of earlier incarnations that counts.
    pub kept: Mark,
}

/// Why a segment header cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderFault {
    /// Its checksum does not hold, or it is no header at all.
    Unreadable,
    /// A later version of the program wrote it.
    Newer(u32),
}

impl SegmentHeader {
    /// Writes it into the first sector of `into`.
    pub fn encode(&self, into: &mut Aligned) {
        let sector = &mut into.as_mut()[..SECTOR_BYTES];
        sector.fill(0);
        sector[0..4].copy_from_slice(&MAGIC);
        sector[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        sector[12..16].copy_from_slice(&self.owner.node.0.to_le_bytes());
        sector[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        sector[24..32].copy_from_slice(&self.incarnation.to_le_bytes());
        sector[32..40].copy_from_slice(&self.kept.0.to_le_bytes());
        sector[40..42].copy_from_slice(&self.owner.shard.0.to_le_bytes());
        let crc = crc32c::crc32c(&sector[8..]);
        sector[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads it from the beginning of a segment.
    pub fn decode(segment: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        let sector = segment.get(..SECTOR_BYTES).ok_or(HeaderFault::Unreadable)?;
        if sector[0..4] != MAGIC || crc32c::crc32c(&sector[8..]) != u32_at(sector, 4) {
            return Err(HeaderFault::Unreadable);
        }
        let format = u32_at(sector, 8);
        if format != FORMAT {
            return Err(HeaderFault::Newer(format));
        }
        Ok(SegmentHeader {
            owner: Owner {
                node: NodeId(u32_at(sector, 12)),
                shard: ShardId(u16::from_le_bytes([sector[40], sector[41]])),
            },
            sequence: u64_at(sector, 16),
            incarnation: u64_at(sector, 24),
            kept: Mark(u64_at(sector, 32)),
        })
    }
}

/// The file name of a segment: `segment-` and sixteen hexadecimal digits.
#[must_use]
pub fn name(sequence: u64) -> String {
    format!("{PREFIX}{sequence:016x}")
}

/// The sequence a file name speaks of; `None` when it is no segment's name.
#[must_use]
pub fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    let lower = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (digits.len() == 16 && lower).then(|| u64::from_str_radix(digits, 16).ok())?
}

const PREFIX: &str = "segment-";
const MAGIC: [u8; 4] = *b"rrsg";

/// The little-endian number at `at`, which the caller has checked to be inside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// The little-endian number at `at`, which the caller has checked to be inside.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_way_through_bytes_and_no_flipped_bit() {
        let header = SegmentHeader {
            owner: Owner { node: NodeId(7), shard: ShardId(3) },
            sequence: 0x1_0000_0001,
            incarnation: 9,
            kept: Mark(41),
        };
        let mut sector = Aligned::new(SECTOR_BYTES);
        header.encode(&mut sector);
        assert_eq!(SegmentHeader::decode(sector.as_ref()), Ok(header));
        for bit in 0..SECTOR_BYTES * 8 {
            sector.as_mut()[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(sector.as_ref()), Err(HeaderFault::Unreadable));
            sector.as_mut()[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn names_are_read_back_and_others_are_not_taken_for_them() {
        assert_eq!(name(26), "segment-000000000000001a");
        assert_eq!(sequence_of(&name(26)), Some(26));
        for other in ["segment-1a", "segment-000000000000001A", "spare-000000000000001a", ""] {
            assert_eq!(sequence_of(other), None, "{other}");
        }
    }
}
