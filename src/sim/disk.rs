//! One shard's disk: what is written, what is safe, and what a crash leaves.
//!
//! It carries out the journal's orders as the contract of `journal::Order` says: a segment is
//! there, name and header, before a block of it is written; blocks are written at once and end in
//! any order; `durable` speaks of the highest mark with none missing below. A crash leaves each
//! block in flight whole, absent, or torn by sectors in any pattern, and a segment just given back
//! may still be there under its old name. Rot turns bits of what was safe, which is another fault
//! and has its own call: it must be reported.
//!
//! Absent on purpose: failing writes. They end the process (design.md, decision 8), which is a
//! crash.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::id::Mark;
use crate::journal::{Block, Order, SegmentBytes};
use crate::prng::Prng;

/// One shard's disk.
#[derive(Debug)]
pub struct Disk {
    prng: Prng,
    segment_bytes: usize,
    segments: BTreeMap<u64, Vec<u8>>,
    /// When the name and header of an ordered segment are safe.
    opens_at_ns: BTreeMap<u64, u64>,
    flying: BTreeMap<Mark, Block>,
    spare: Vec<Vec<u8>>,
    given_back: Option<(u64, Vec<u8>)>,
    done: BTreeSet<Mark>,
    durable: Mark,
    /// A write takes this long at least, and up to as much again.
    pub latency_ns: u64,
    /// Blocks that crashes left with some of their sectors.
    pub torn: u64,
}

impl Disk {
    /// An empty disk whose segments have `segment_bytes`.
    #[must_use]
    pub fn new(prng: Prng, segment_bytes: usize, latency_ns: u64) -> Disk {
        Disk {
            prng,
            segment_bytes,
            segments: BTreeMap::new(),
            opens_at_ns: BTreeMap::new(),
            flying: BTreeMap::new(),
            spare: Vec::new(),
            given_back: None,
            done: BTreeSet::new(),
            durable: Mark(0),
            latency_ns,
            torn: 0,
        }
    }

    /// Begins to carry out an order; a write answers with its mark and when it ends.
    pub fn order(&mut self, now_ns: u64, order: Order) -> Option<(u64, Mark)> {
        match order {
            Order::Open { sequence, header } => {
                let mut bytes = self.spare.pop().unwrap_or_else(|| vec![0; self.segment_bytes]);
                let header = header.as_ref();
                bytes[..header.len()].copy_from_slice(header);
                let old = self.segments.insert(sequence, bytes);
                assert!(old.is_none(), "segment {sequence} was opened twice");
                let at_ns = now_ns + self.draw_ns();
                self.opens_at_ns.insert(sequence, at_ns);
                None
            }
            Order::Write(block) => {
                let opened_ns = self.opens_at_ns.get(&block.segment).copied().unwrap_or(0);
                assert!(self.segments.contains_key(&block.segment), "no segment for {block:?}");
                let ends_ns = now_ns.max(opened_ns) + self.draw_ns();
                let mark = block.mark;
                let last = self.flying.keys().next_back().copied().unwrap_or(self.durable);
                assert!(mark > last.min(self.durable), "mark {mark} was written before");
                self.flying.insert(mark, block);
                Some((ends_ns, mark))
            }
            Order::Recycle { sequence } => {
                let bytes = self.segments.remove(&sequence);
                let bytes = bytes.unwrap_or_else(|| panic!("segment {sequence} is not here"));
                if let Some((_, older)) = self.given_back.replace((sequence, bytes)) {
                    self.spare.push(older);
                }
                None
            }
        }
    }

    /// The write of `mark` has ended. Its block, whose memory goes back to the journal, and up to
    /// where everything is safe now.
    pub fn done(&mut self, mark: Mark) -> (Block, Option<Mark>) {
        let block = self.flying.remove(&mark).expect("the write is under way");
        self.write(&block, |_| true);
        self.done.insert(mark);
        let before = self.durable;
        while self.done.remove(&Mark(self.durable.0 + 1)) {
            self.durable = Mark(self.durable.0 + 1);
        }
        let moved = (self.durable > before).then_some(self.durable);
        (block, moved)
    }

    /// The power fails. What is left is what `segments` shows.
    pub fn crash(&mut self, now_ns: u64) {
        for (_, block) in std::mem::take(&mut self.flying) {
            let opened_ns = self.opens_at_ns.get(&block.segment).copied().unwrap_or(0);
            if opened_ns > now_ns {
                continue;
            }
            let mut prng = self.prng.fork(block.mark.0);
            match prng.below(4) {
                0 => {}
                1 => self.write(&block, |_| true),
                2 => {
                    let kept = prng.below(block.bytes as u64 / TORN_BYTES as u64 + 1);
                    self.torn += u64::from(kept > 0 && kept < (block.bytes / TORN_BYTES) as u64);
                    self.write(&block, |place| (place as u64) < kept);
                }
                _ => {
                    self.torn += 1;
                    self.write(&block, |_| prng.chance(500));
                }
            }
        }
        let unopened = self.opens_at_ns.iter().filter(|(_, at_ns)| **at_ns > now_ns);
        for sequence in unopened.map(|(sequence, _)| *sequence).collect::<Vec<_>>() {
            if self.prng.chance(500) {
                self.segments.remove(&sequence);
            }
        }
        self.opens_at_ns.clear();
        if let Some((sequence, bytes)) = self.given_back.take()
            && self.prng.chance(300)
        {
            self.segments.insert(sequence, bytes);
        }
        self.spare.clear();
        self.done.clear();
    }

    /// The process starts: its journal found and kept everything up to `kept`, which is no less
    /// than was safe unless the disk is `rotten`: the last blocks gone bad look as if they had
    /// never ended.
    pub fn resume(&mut self, kept: Mark, rotten: bool) {
        assert!(rotten || kept >= self.durable, "{kept} was kept and {} was safe", self.durable);
        self.durable = kept;
    }

    /// Some bytes of a segment.
    #[must_use]
    pub fn read(&self, segment: u64, offset: u64, bytes: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        Some(self.segments.get(&segment)?.get(start..start + bytes)?.to_vec())
    }

    /// What recovery reads.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentBytes> {
        self.segments
            .iter()
            .map(|(sequence, bytes)| SegmentBytes {
                sequence: *sequence,
                bytes: Bytes::copy_from_slice(bytes),
            })
            .collect()
    }

    /// Turns one bit somewhere in the first `within` bytes of one segment.
    pub fn rot(&mut self, within: usize) -> Option<(u64, usize)> {
        let sequences: Vec<u64> = self.segments.keys().copied().collect();
        if sequences.is_empty() {
            return None;
        }
        let sequence = *self.prng.pick(&sequences);
        let bytes = self.segments.get_mut(&sequence)?;
        let bit = self.prng.below(within.min(bytes.len()) as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        Some((sequence, bit / 8))
    }

    /// How many writes are under way.
    #[must_use]
    pub fn flying(&self) -> usize {
        self.flying.len()
    }

    fn write(&mut self, block: &Block, mut keeps: impl FnMut(usize) -> bool) {
        let segment = self.segments.get_mut(&block.segment).expect("the segment is open");
        let at = block.offset as usize;
        assert!(at + block.bytes <= segment.len(), "{block:?} ends behind its segment");
        for (place, sector) in block.as_bytes().chunks(TORN_BYTES).enumerate() {
            if keeps(place) {
                let at = at + place * TORN_BYTES;
                segment[at..at + sector.len()].copy_from_slice(sector);
            }
        }
    }

    fn draw_ns(&mut self) -> u64 {
        self.latency_ns + self.prng.below(self.latency_ns.max(1))
    }
}

/// The smallest unit that disks write whole, below the sector that we ask of them.
const TORN_BYTES: usize = 512;
/// Rot falls into the beginning of a segment, where runs of the simulator's sizes write.
pub const ROT_WITHIN: usize = 128 << 10;
