//! The links between nodes: delay, loss, repetition, reordering, cuts and damaged bytes.
//!
//! A link carries whole bundles and whole snapshots as bytes. What is damaged must be noticed by
//! the shard that receives it; what is lost is lost without a word unless the cut is the kind that
//! a sender notices. Draws come from a generator of the net's own, so that other faults do not
//! shift them.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::id::NodeId;
use crate::prng::Prng;

/// How badly the links behave.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Nanoseconds that everything takes at least.
    pub delay_ns: u64,
    /// Up to so many more; above the pace of turns it reorders.
    pub jitter_ns: u64,
    /// In a thousand: lost.
    pub loss: u64,
    /// In a thousand: arrives again later.
    pub repeat: u64,
    /// In a thousand: takes a hundred times as long.
    pub straggle: u64,
    /// In a thousand: a bit is turned or the end is missing.
    pub damage: u64,
}

/// All links.
#[derive(Debug)]
pub struct Net {
    /// How they behave now.
    pub manners: Manners,
    prng: Prng,
    cuts: BTreeSet<(NodeId, NodeId)>,
}

impl Manners {
    /// A quiet network: half a millisecond, nothing else.
    #[must_use]
    pub fn calm() -> Manners {
        Manners { delay_ns: 200_000, jitter_ns: 0, loss: 0, repeat: 0, straggle: 0, damage: 0 }
    }

    /// Drawn from a seed.
    #[must_use]
    pub fn drawn(prng: &mut Prng) -> Manners {
        let sometimes = |prng: &mut Prng, high: u64| {
            if prng.chance(500) { prng.below(high) } else { 0 }
        };
        Manners {
            delay_ns: 20_000 + prng.below(500_000),
            jitter_ns: prng.below(3_000_000),
            loss: sometimes(prng, 60),
            repeat: sometimes(prng, 60),
            straggle: sometimes(prng, 30),
            damage: sometimes(prng, 20),
        }
    }
}

impl Net {
    /// Links that behave so.
    #[must_use]
    pub fn new(manners: Manners, prng: Prng) -> Net {
        Net { manners, prng, cuts: BTreeSet::new() }
    }

    /// Nothing gets from one to the other any more.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// These links carry again.
    pub fn join(&mut self, links: &[(NodeId, NodeId)]) {
        self.cuts.retain(|cut| !links.contains(cut));
    }

    /// All links carry again.
    pub fn mend(&mut self) {
        self.cuts.clear();
    }

    /// Whether the link carries nothing.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// What becomes of `bytes`: how much later each copy arrives, and as what.
    pub fn carry(&mut self, from: NodeId, to: NodeId, bytes: &Bytes) -> Vec<(u64, Bytes)> {
        let mut copies = Vec::new();
        if self.is_cut(from, to) || self.prng.chance(self.manners.loss) {
            return copies;
        }
        let later_ns = self.delay_ns();
        let carried = self.maybe_damaged(bytes);
        copies.push((later_ns, carried));
        if self.prng.chance(self.manners.repeat) {
            let later_ns = self.delay_ns() * 3;
            copies.push((later_ns, bytes.clone()));
        }
        copies
    }

    /// How long one message takes.
    pub fn delay_ns(&mut self) -> u64 {
        let mut later_ns = self.manners.delay_ns;
        if self.manners.jitter_ns > 0 {
            later_ns += self.prng.below(self.manners.jitter_ns);
        }
        if self.prng.chance(self.manners.straggle) { later_ns * 100 } else { later_ns }
    }

    fn maybe_damaged(&mut self, bytes: &Bytes) -> Bytes {
        if bytes.is_empty() || !self.prng.chance(self.manners.damage) {
            return bytes.clone();
        }
        if self.prng.chance(300) {
            return bytes.slice(..self.prng.below(bytes.len() as u64) as usize);
        }
        let mut damaged = bytes.to_vec();
        let bit = self.prng.below(damaged.len() as u64 * 8) as usize;
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged.into()
    }
}
