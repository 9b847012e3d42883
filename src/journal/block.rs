//! Blocks: one aligned write each, filled in place.
//!
//! ```text
//! 0       4     8        12        16     24        32            40        48     52      64
//! | magic | crc | length | records | mark | segment | incarnation | durable | used | zero | rec…
//! ```
//!
//! The header's checksum covers the header. Each record's checksum covers that record and starts
//! from a seed made of mark, segment and incarnation, so every byte that counts is hashed once and
//! a record left in the file by an earlier block never passes as part of this one. A block is whole
//! when its header holds, and the records in `used` bytes are as many as it says and all hold.
//! `durable` is the highest mark that was known durable when the block was sealed: it is what lets
//! recovery tell a torn tail from damage.

use crate::{
    id::{Mark, PartitionId},
    journal::{
        aligned::Aligned,
        record::{self, Kind, RECORD_HEADER_BYTES},
        segment::{u32_at, u64_at},
    },
    limits::SECTOR_BYTES,
};

/// Bytes of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 64;

/// A sealed block: what is to be written, and where.
#[derive(Debug)]
pub struct Block {
    /// Its number; marks are consecutive.
    pub mark: Mark,
    /// The sequence of the segment it belongs to.
    pub segment: u64,
    /// Where in that segment, a multiple of the sector.
    pub offset: u64,
    /// How many bytes of the buffer to write, a multiple of the sector.
    pub bytes: usize,
    /// The bytes; hand it back with `Journal::recycle` when they are written.
    pub buffer: Aligned,
}

impl Block {
    /// What is to be written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer.as_ref()[..self.bytes]
    }
}

/// What a block's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHeader {
    /// Bytes of the whole block, a multiple of the sector.
    pub length: u32,
    /// How many records it holds, at least one.
    pub records: u32,
    /// Its number.
    pub mark: Mark,
    /// The segment it was written for.
    pub segment: u64,
    /// The start of the journal that wrote it.
    pub incarnation: u64,
    /// The highest contiguous mark known durable when it was sealed; below `mark`.
    pub durable: Mark,
    /// Bytes of header and records, without padding.
    pub used: u32,
}

impl BlockHeader {
    /// The header at the beginning of `bytes`, if there is one that holds and makes sense. Whether
    /// it belongs to this segment and incarnation is for the caller.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<BlockHeader> {
        let bytes = bytes.get(..BLOCK_HEADER_BYTES)?;
        if bytes[0..4] != MAGIC || crc32c::crc32c(&bytes[8..]) != u32_at(bytes, 4) {
            return None;
        }
        let header = BlockHeader {
            length: u32_at(bytes, 8),
            records: u32_at(bytes, 12),
            mark: Mark(u64_at(bytes, 16)),
            segment: u64_at(bytes, 24),
            incarnation: u64_at(bytes, 32),
            durable: Mark(u64_at(bytes, 40)),
            used: u32_at(bytes, 48),
        };
        let sound = header.length > 0
            && (header.length as usize).is_multiple_of(SECTOR_BYTES)
            && header.used <= header.length
            && header.used as usize >= BLOCK_HEADER_BYTES + RECORD_HEADER_BYTES
            && header.records > 0
            && header.durable < header.mark;
        sound.then_some(header)
    }

    /// Where the checksums of this block's records start from.
    #[must_use]
    pub fn seed(&self) -> u32 {
        seed(self.mark, self.segment, self.incarnation)
    }

    fn encode(&self, into: &mut [u8]) {
        into[..BLOCK_HEADER_BYTES].fill(0);
        into[0..4].copy_from_slice(&MAGIC);
        into[8..12].copy_from_slice(&self.length.to_le_bytes());
        into[12..16].copy_from_slice(&self.records.to_le_bytes());
        into[16..24].copy_from_slice(&self.mark.0.to_le_bytes());
        into[24..32].copy_from_slice(&self.segment.to_le_bytes());
        into[32..40].copy_from_slice(&self.incarnation.to_le_bytes());
        into[40..48].copy_from_slice(&self.durable.0.to_le_bytes());
        into[48..52].copy_from_slice(&self.used.to_le_bytes());
        let crc = crc32c::crc32c(&into[8..BLOCK_HEADER_BYTES]);
        into[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A block being filled. Records are written in place; nothing is copied again before the disk.
#[derive(Debug)]
pub(super) struct Filling {
    buffer: Aligned,
    used: usize,
    room: usize,
    records: u32,
    record: Option<usize>,
    seed: u32,
    mark: Mark,
    segment: u64,
    incarnation: u64,
    offset: u64,
}

/// Where a block will go, and how large it may become.
pub(super) struct Spot {
    pub mark: Mark,
    pub segment: u64,
    pub incarnation: u64,
    pub offset: u64,
    pub room: usize,
}

impl Filling {
    pub fn new(buffer: Aligned, spot: &Spot) -> Filling {
        assert!(spot.room.is_multiple_of(SECTOR_BYTES) && spot.room > 0, "room {}", spot.room);
        Filling {
            buffer,
            used: BLOCK_HEADER_BYTES,
            room: spot.room,
            records: 0,
            record: None,
            seed: seed(spot.mark, spot.segment, spot.incarnation),
            mark: spot.mark,
            segment: spot.segment,
            incarnation: spot.incarnation,
            offset: spot.offset,
        }
    }

    /// Opens a record; `put` fills it and `end` closes it.
    pub fn begin(&mut self, partition: PartitionId, kind: Kind, number: u64) {
        assert!(self.record.is_none(), "a record is open");
        let start = self.used;
        self.put(&[0; RECORD_HEADER_BYTES]);
        let header = &mut self.buffer.as_mut()[start..start + RECORD_HEADER_BYTES];
        record::encode_header(header, partition, kind, number);
        self.record = Some(start);
    }

    /// Appends bytes to the open record; the caller has checked that there is room.
    pub fn put(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        assert!(end <= self.room, "a block of {} cannot hold {end}", self.room);
        self.buffer.grow(end, self.used);
        self.buffer.as_mut()[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }

    /// Closes the open record.
    pub fn end(&mut self) {
        let start = self.record.take().expect("no record is open");
        record::seal(&mut self.buffer.as_mut()[start..self.used], self.seed);
        self.records += 1;
    }

    /// Seals the block: header, padding, done.
    pub fn seal(mut self, durable: Mark) -> Block {
        assert!(self.record.is_none(), "a record is open");
        assert!(self.records > 0, "an empty block says nothing");
        assert!(durable < self.mark, "durable {durable} reaches block {}", self.mark);
        let length = self.used.next_multiple_of(SECTOR_BYTES);
        assert!(length <= self.room, "a block of {length} in room for {}", self.room);
        let header = BlockHeader {
            length: u32::try_from(length).expect("a block's length fits 32 bits"),
            records: self.records,
            mark: self.mark,
            segment: self.segment,
            incarnation: self.incarnation,
            durable,
            used: u32::try_from(self.used).expect("a block's length fits 32 bits"),
        };
        self.buffer.grow(length, self.used);
        let bytes = self.buffer.as_mut();
        bytes[self.used..length].fill(0);
        header.encode(bytes);
        Block {
            mark: self.mark,
            segment: self.segment,
            offset: self.offset,
            bytes: length,
            buffer: self.buffer,
        }
    }

    /// Bytes still free for records, their headers included.
    pub fn free(&self) -> usize {
        self.room - self.used
    }

    /// Where in the segment the last record ends.
    pub fn end_offset(&self) -> u64 {
        self.offset + self.used as u64
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.record.is_none()
    }
}

fn seed(mark: Mark, segment: u64, incarnation: u64) -> u32 {
    let mut bytes = [0; 24];
    bytes[0..8].copy_from_slice(&mark.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&segment.to_le_bytes());
    bytes[16..24].copy_from_slice(&incarnation.to_le_bytes());
    crc32c::crc32c(&bytes)
}

const MAGIC: [u8; 4] = *b"rrbk";
