//! What goes wrong, when: drawn from the seed before the run, so that the story can name it first.
//!
//! Every fault ends by itself or is mended when all are: after `Plan::heals_ns` nodes run, links
//! carry and clocks are right enough, and the world must make progress. Absent on purpose: faults
//! that a design of three replicas does not survive (the loss of safe bytes on a majority); rot is
//! drawn for one node only.

use crate::id::NodeId;
use crate::prng::Prng;
use crate::sim::net::Manners;
use crate::wire::format::Formats;

/// One fault and when it begins.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Nanoseconds of the world's time.
    pub at_ns: u64,
    /// What.
    pub what: What,
}

/// Stands in a fault for whichever node leads the first partition when it begins.
pub const LEADER: NodeId = NodeId(0);

/// What goes wrong.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub enum What {
    /// A node loses power and starts again later.
    Crash { node: NodeId, down_ns: u64 },
    /// A node loses power, and bits of its disks turn while it is down.
    Rot { node: NodeId, down_ns: u64, bits: u32 },
    /// A node loses power and everything on its disks, for ever.
    Destroy { node: NodeId },
    /// A node loses power and everything on its disks, and starts again with nothing.
    Wipe { node: NodeId, down_ns: u64 },
    /// A node is told to end, does so after a while, and starts again, perhaps with a program that
    /// speaks other formats.
    Restart { node: NodeId, drains_ns: u64, down_ns: u64, formats: Option<Formats> },
    /// All nodes lose power at once.
    Blackout { down_ns: u64 },
    /// A node gets no turns while the world goes on.
    Pause { node: NodeId, for_ns: u64 },
    /// These links carry nothing.
    Cut { links: Vec<(NodeId, NodeId)>, for_ns: u64 },
    /// Nothing gets to a node, or from it, or either.
    Alone { node: NodeId, hears: bool, speaks: bool, for_ns: u64 },
    /// A node's wall clock is set.
    Step { node: NodeId, by_ns: i64 },
    /// A node's disks take this many times as long.
    Slow { node: NodeId, factor: u64, for_ns: u64 },
    /// A node's disks have no room for more segments.
    Full { node: NodeId, for_ns: u64 },
    /// A node tells its raft that peers cannot be reached.
    Rumour { node: NodeId },
}

/// All that goes wrong in a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of time.
    pub faults: Vec<Fault>,
    /// How links behave until they are mended.
    pub manners: Manners,
    /// Wall clocks are this far off at most, before they are stepped.
    pub skew_ns: u64,
    /// Whether wall clocks are stepped.
    pub steps: bool,
    /// In a thousand: a turn does not see yet what came from peers.
    pub late: u64,
    /// When everything is mended.
    pub heals_ns: u64,
}

impl Plan {
    /// Nothing goes wrong until `heals_ns`.
    #[must_use]
    pub fn calm(heals_ns: u64) -> Plan {
        let (faults, manners) = (Vec::new(), Manners::calm());
        Plan { faults, manners, skew_ns: 0, steps: false, late: 0, heals_ns }
    }

    /// Drawn for a world of `nodes` whose faults end at `heals_ns`.
    #[must_use]
    pub fn drawn(prng: &mut Prng, nodes: u32, heals_ns: u64) -> Plan {
        let manners = if prng.chance(150) { Manners::calm() } else { Manners::drawn(prng) };
        let steps = prng.chance(200);
        let skew_ns = if prng.chance(500) { prng.below(200_000_000) } else { 0 };
        let wanted = prng.below(12);
        let mut faults = Vec::new();
        for _ in 0..wanted {
            let at_ns = prng.between(500_000_000, heals_ns.max(600_000_000));
            faults.push(Fault { at_ns, what: What::drawn(prng, nodes, steps) });
        }
        if nodes > 2 && prng.chance(ROTS) {
            rot(prng, nodes, &mut faults, heals_ns);
        }
        faults.sort_by_key(|fault| fault.at_ns);
        let late = if prng.chance(500) { prng.below(300) } else { 0 };
        Plan { faults, manners, skew_ns, steps, late, heals_ns }
    }
}

impl What {
    /// The fault with the leader in the place of `LEADER`.
    #[must_use]
    pub fn aimed(mut self, leader: NodeId) -> What {
        match &mut self {
            What::Crash { node, .. }
            | What::Rot { node, .. }
            | What::Destroy { node }
            | What::Wipe { node, .. }
            | What::Restart { node, .. }
            | What::Pause { node, .. }
            | What::Alone { node, .. }
            | What::Step { node, .. }
            | What::Slow { node, .. }
            | What::Full { node, .. }
            | What::Rumour { node } => {
                if *node == LEADER {
                    *node = leader;
                }
            }
            What::Blackout { .. } | What::Cut { .. } => {}
        }
        self
    }

    fn drawn(prng: &mut Prng, nodes: u32, steps: bool) -> What {
        let any = NodeId(1 + prng.below(u64::from(nodes)) as u32);
        let node = if prng.chance(500) { LEADER } else { any };
        let for_ns = prng.between(20, 900) * 1_000_000;
        match prng.below(24) {
            20..24 => {
                let (hears, speaks) = *prng.pick(&[(false, false), (true, false), (false, true)]);
                What::Alone { node, hears, speaks, for_ns }
            }
            0..6 => What::Crash { node, down_ns: for_ns },
            6 => What::Blackout { down_ns: for_ns },
            7..11 => What::Pause { node, for_ns },
            11..15 => What::Cut { links: links(prng, nodes, any), for_ns },
            15 | 16 if steps => {
                let by_ns = prng.below(20_000_000_000) as i64 - 10_000_000_000;
                What::Step { node, by_ns }
            }
            15..18 => What::Slow { node, factor: 2 + prng.below(30), for_ns },
            18 => What::Full { node, for_ns },
            _ => What::Rumour { node },
        }
    }
}

/// One node loses what was safe. That is as much as three survive, so no other loses power.
fn rot(prng: &mut Prng, nodes: u32, faults: &mut Vec<Fault>, heals_ns: u64) {
    faults.retain(|fault| !matches!(fault.what, What::Crash { .. } | What::Blackout { .. }));
    let node = NodeId(1 + prng.below(u64::from(nodes)) as u32);
    let at_ns = prng.between(500_000_000, heals_ns.max(600_000_000));
    let (down_ns, bits) = (prng.between(1, 300) * 1_000_000, 1 + prng.below(20) as u32);
    faults.push(Fault { at_ns, what: What::Rot { node, down_ns, bits } });
}

/// In a thousand: worlds with a disk that rots.
const ROTS: u64 = 60;

/// The links of one kind of partition: two halves, or a bridge between them, either way or one way
/// only.
fn links(prng: &mut Prng, nodes: u32, node: NodeId) -> Vec<(NodeId, NodeId)> {
    let all: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
    let shape = prng.below(4);
    let half = prng.between(1, u64::from(nodes).max(2) - 1) as u32;
    let mut links = Vec::new();
    for from in &all {
        for to in all.iter().filter(|to| *to != from) {
            let crosses = (from.0 <= half) != (to.0 <= half);
            let cut = match shape {
                0 => crosses,
                1 => crosses && from.0 <= half,
                2 => crosses && from.0 > half,
                _ => crosses && *from != node && *to != node,
            };
            if cut {
                links.push((*from, *to));
            }
        }
    }
    links
}
