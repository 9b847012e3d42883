//! What a world may be about beside the first troubles there were, each drawn by itself.
//!
//! Topics draw from numbers of their own, so one more changes nothing of what the others drew. A
//! seed that is kept names the topics that it was drawn with: a new one would make another world of
//! it, as a new mix would. Absent on purpose: what comes of what they draw (`world/trouble.rs`).

use crate::id::NodeId;
use crate::prng::{Prng, mix};
use crate::sim::fault::{Fault, LEADER, What};
use crate::sim::setup::Setup;
use crate::sim::tomorrow::{DAY_AFTER, TOMORROW};
use crate::wire::format::{FORMATS, Formats};

/// A topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Nodes are told to end, hand over what they lead, and start again.
    Ends,
    /// Programs that speak different formats, and nodes that are upgraded one after another.
    Formats,
    /// A node that lost everything comes back under its id.
    Wipes,
    /// Calls end by deadlines.
    Deadlines,
    /// Clients fall silent for longer than their sessions last, and go on as if nothing had been.
    Sleeps,
}

impl Topic {
    /// All of them.
    pub const ALL: [Topic; 5] =
        [Topic::Ends, Topic::Formats, Topic::Wipes, Topic::Deadlines, Topic::Sleeps];

    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Topic::Ends => "ends",
            Topic::Formats => "formats",
            Topic::Wipes => "wipes",
            Topic::Deadlines => "deadlines",
            Topic::Sleeps => "sleeps",
        }
    }

    /// The one that people write so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Adds to a world what its seed says of this.
    pub(super) fn draw(self, setup: &mut Setup) {
        let prng = &mut Prng::new(mix(setup.seed ^ mix(APART + self as u64)));
        // A disk that rots is as much as three nodes survive: no other loses what it has not
        // written yet.
        let rots = setup.plan.faults.iter().any(|fault| matches!(fault.what, What::Rot { .. }));
        match self {
            Topic::Ends if !rots && prng.chance(400) => ends(prng, setup),
            Topic::Formats if !rots && prng.chance(400) => formats(prng, setup),
            Topic::Wipes => wipes(prng, setup),
            Topic::Deadlines if prng.chance(400) => {
                for client in &mut setup.clients {
                    client.deadlines = if prng.chance(600) { prng.below(400) } else { 0 };
                }
            }
            Topic::Sleeps if prng.chance(300) => {
                for client in &mut setup.clients {
                    if prng.chance(400) {
                        // Sessions that end soon: the world waits until all have woken.
                        client.timeout_ns = prng.between(800, 1_200) * 1_000_000;
                        let at_ns = prng.between(100_000_000, 1_500_000_000);
                        let for_ns = client.timeout_ns / 2 + prng.below(2 * client.timeout_ns);
                        client.sleeps_ns = at_ns..at_ns + for_ns;
                    }
                }
            }
            Topic::Ends | Topic::Formats | Topic::Deadlines | Topic::Sleeps => {}
        }
        setup.plan.faults.sort_by_key(|fault| fault.at_ns);
    }
}

fn ends(prng: &mut Prng, setup: &mut Setup) {
    for _ in 0..=prng.below(3) {
        let any = NodeId(1 + prng.below(u64::from(setup.nodes)) as u32);
        let node = if prng.chance(600) { LEADER } else { any };
        let at_ns = at(prng, setup);
        restart(prng, setup, at_ns, node, None);
    }
}

fn formats(prng: &mut Prng, setup: &mut Setup) {
    let nodes = setup.nodes + setup.spares;
    if prng.chance(300) {
        let mut either = || if prng.chance(500) { TOMORROW } else { FORMATS };
        setup.formats = (0..nodes).map(|_| either()).collect();
        return;
    }
    let (old, new) = *prng.pick(&[(FORMATS, TOMORROW), (FORMATS, TOMORROW), (TOMORROW, DAY_AFTER)]);
    setup.formats = vec![old; nodes as usize];
    let (first_ns, last_ns) = (at(prng, setup), setup.plan.heals_ns.max(600_000_000));
    let each_ns = last_ns.saturating_sub(first_ns) / u64::from(nodes + 1);
    let mut at_ns = first_ns;
    for node in (1..=nodes).map(NodeId) {
        restart(prng, setup, at_ns, node, Some(new));
        at_ns += each_ns;
        // It was not what was hoped for.
        if prng.chance(100) {
            restart(prng, setup, at_ns, node, Some(old));
        }
    }
}

fn wipes(prng: &mut Prng, setup: &mut Setup) {
    for fault in &mut setup.plan.faults {
        if let What::Destroy { node } = fault.what
            && prng.chance(600)
        {
            let down_ns = prng.between(1, 500) * 1_000_000;
            fault.what = What::Wipe { node, down_ns };
        }
    }
}

fn restart(prng: &mut Prng, setup: &mut Setup, at_ns: u64, node: NodeId, formats: Option<Formats>) {
    let (drains_ns, down_ns) = (prng.between(0, 300) * 1_000_000, prng.between(1, 200) * 1_000_000);
    let what = What::Restart { node, drains_ns, down_ns, formats };
    setup.plan.faults.push(Fault { at_ns, what });
}

fn at(prng: &mut Prng, setup: &Setup) -> u64 {
    prng.between(500_000_000, setup.plan.heals_ns.max(600_000_000))
}

/// Keeps topics apart from what else hangs on the seed.
const APART: u64 = 0x746f_7069_6373;
