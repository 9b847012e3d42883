//! How a client behaves: what it works on, how patient it is, and what it does that it should not.
//!
//! Habits are drawn before a run. Absent on purpose: what a client is doing; that is `client.rs`.

use std::ops::Range;

use crate::id::PartitionId;
use crate::prng::Prng;
use crate::workload::Mix;

/// How a client behaves; drawn by the world.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The partition that it works on.
    pub partition: PartitionId,
    /// What it works on, by the primitive's name.
    pub mixes: Vec<(Mix, String)>,
    /// Operations under way at once.
    pub at_once: usize,
    /// Nanoseconds between operations, at most.
    pub think_ns: u64,
    /// How long it waits for one answer, at most.
    pub patience_ns: u64,
    /// Its session's timeout.
    pub timeout_ns: u64,
    /// In a thousand, per operation: sends it twice at once.
    pub doubles: u64,
    /// In a thousand, per finished operation: sends it again much later.
    pub repeats: u64,
    /// In a thousand, per operation: stops wanting it before the answer.
    pub gives_up: u64,
    /// In a thousand, per request: says after how long it is not to go on.
    pub deadlines: u64,
    /// Whether it only reads.
    pub reads: bool,
    /// In a thousand, per request: asks any node instead of the one that answered last.
    pub roams: u64,
    /// Whether it listens to the events of what it works on.
    pub listens: bool,
    /// When it neither speaks nor hears, and then goes on; empty: never.
    pub sleeps_ns: Range<u64>,
    /// When it falls silent for ever, without closing anything.
    pub dies_ns: u64,
}

impl Habits {
    /// Habits of one of the clients that work on `themes` until everything is mended at `heals_ns`.
    #[must_use]
    pub fn drawn(
        prng: &mut Prng,
        partition: PartitionId,
        themes: &[(Mix, String)],
        heals_ns: u64,
    ) -> Habits {
        let mut mixes = vec![prng.pick(themes).clone()];
        let other = prng.pick(themes).clone();
        if other.0.kind() != mixes[0].0.kind() {
            mixes.push(other);
        }
        let sometimes = |prng: &mut Prng, high: u64| {
            if prng.chance(500) { prng.below(high) } else { 0 }
        };
        let dies = prng.chance(150);
        Habits {
            mixes,
            partition,
            at_once: 1 + prng.below(3) as usize,
            think_ns: prng.between(2, 60) * 1_000_000,
            patience_ns: prng.between(60, 2_000) * 1_000_000,
            timeout_ns: prng.between(800, 4_000) * 1_000_000,
            doubles: sometimes(prng, 150),
            repeats: sometimes(prng, 300),
            gives_up: sometimes(prng, 60),
            deadlines: 0,
            reads: prng.chance(300),
            roams: sometimes(prng, 300),
            listens: prng.chance(400),
            sleeps_ns: 0..0,
            dies_ns: if dies {
                prng.between(500_000_000, heals_ns.max(600_000_000))
            } else {
                u64::MAX
            },
        }
    }
}
