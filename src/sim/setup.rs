//! How large a world is and how it is tuned: drawn from the seed, small where edges are.
//!
//! Bounds are drawn near what a run of a few seconds reaches, so that full segments, snapshots
//! every few entries and refused commands are everyday events (style.md R7).

use std::fmt;

use crate::id::{NodeId, PartitionId};
use crate::prng::Prng;
use crate::sim::fault::{Fault, LEADER, Plan, What};
use crate::sim::habits::Habits;
use crate::sim::operator::{Act, Drawn, draw_witnesses};
use crate::sim::topic::Topic;
use crate::wire::format::{FORMATS, Formats};
use crate::workload::Mix;

/// Everything that a run draws before it begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed it was drawn from.
    pub seed: u64,
    /// The mixes it was drawn among, in their order.
    pub mixes: Vec<Mix>,
    /// What else it is about.
    pub topics: Vec<Topic>,
    /// What the programs of its nodes speak at first; none: all what this one does.
    pub formats: Vec<Formats>,
    /// Nodes, 1 to 5; each founds every partition.
    pub nodes: u32,
    /// Nodes beside them, which may join.
    pub spares: u32,
    /// The one of the founders that is a witness.
    pub witness: Option<NodeId>,
    /// What the operator wants beside that.
    pub acts: Vec<Act>,
    /// Shards a node.
    pub shards: u16,
    /// Partitions, from 1.
    pub partitions: u32,
    /// The clients, in their order.
    pub clients: Vec<Habits>,
    /// How shards are tuned.
    pub tuning: Tuning,
    /// What goes wrong.
    pub plan: Plan,
}

/// What the settings of all shards are made from.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Entries applied between snapshots.
    pub snapshot_entries: u64,
    /// Bytes applied between snapshots.
    pub snapshot_bytes: usize,
    /// Entries kept for followers.
    pub retain_entries: u64,
    /// Bytes of a journal's segment.
    pub segment_bytes: usize,
    /// Bytes of a block at most.
    pub block_bytes_max: usize,
    /// Commands of one partition in flight.
    pub commands_max: usize,
    /// Bytes of snapshots that a turn writes.
    pub snapshot_turn_bytes: usize,
    /// Nanoseconds of a unit of raft's clock.
    pub tick_ns: u64,
    /// A disk's write takes this long at least.
    pub disk_ns: u64,
    /// Ticks in which nothing happens in a group before it rests.
    pub rest_ticks: usize,
    /// Blocks that a disk writes at the same time.
    pub writes_in_flight: usize,
}

impl Setup {
    /// What `seed` stands for.
    #[must_use]
    pub fn drawn(seed: u64) -> Setup {
        Setup::drawn_among(seed, &Mix::ALL, &Topic::ALL)
    }

    /// What `seed` stands for among these mixes and topics. A seed that is kept names them: a new
    /// one would make another world of it.
    #[must_use]
    pub fn drawn_among(seed: u64, mixes: &[Mix], topics: &[Topic]) -> Setup {
        let mut prng = Prng::new(seed);
        let nodes: u32 = *prng.pick(&[1, 1, 2, 3, 3, 3, 3, 3, 4, 5]);
        let shards = 1 + prng.below(3) as u16;
        let partitions = 1 + prng.below(3) as u32;
        let heals_ns = prng.between(1_000, 3_500) * 1_000_000;
        let plan = Plan::drawn(&mut prng.fork(1), nodes, heals_ns);
        let tuning = Tuning::drawn(&mut prng.fork(2));
        let mut of_clients = prng.fork(3);
        let themes = themes(&mut of_clients, mixes);
        let crowd = of_clients.chance(700);
        let count = 1 + of_clients.below(5);
        let mut clients = Vec::new();
        for _ in 0..count {
            let partition =
                if crowd { 1 } else { 1 + of_clients.below(u64::from(partitions)) as u32 };
            let partition = PartitionId(partition);
            clients.push(Habits::drawn(&mut of_clients, partition, &themes, heals_ns));
        }
        let mut plan = plan;
        if of_clients.chance(DUELS) {
            duel(&mut of_clients, &mut clients, &mut plan);
        }
        // Somebody must be left to show progress.
        clients[0].dies_ns = u64::MAX;
        let mut setup = Setup { clients, tuning, plan, ..Setup::calm(nodes, shards, partitions) };
        (setup.seed, setup.mixes) = (seed, mixes.to_vec());
        let rots = setup.plan.faults.iter().any(|fault| matches!(fault.what, What::Rot { .. }));
        let mut of_members = prng.fork(4);
        if !rots && of_members.chance(MEMBERS) {
            setup.wants(Drawn::of(&mut of_members, nodes, partitions, heals_ns));
        }
        // With draws of their own: other worlds stay as they were.
        let mut of_witnesses = Prng::new(seed ^ OF_WITNESSES);
        let lost = |fault: &Fault| matches!(fault.what, What::Rot { .. } | What::Destroy { .. });
        let whole = !setup.plan.faults.iter().any(lost);
        if whole && of_witnesses.chance(WITNESSES) {
            setup.witness = draw_witnesses(&mut of_witnesses, nodes, &mut setup.acts);
        }
        setup.topics = topics.to_vec();
        topics.iter().for_each(|topic| topic.draw(&mut setup));
        setup
    }

    /// What the program of a node speaks at first.
    #[must_use]
    pub fn formats_of(&self, node: NodeId) -> Formats {
        self.formats.get(node.0 as usize - 1).copied().unwrap_or(FORMATS)
    }

    fn wants(&mut self, drawn: Drawn) {
        (self.spares, self.acts) = (drawn.spares, drawn.acts);
        let Some((at_ns, node)) = drawn.destroyed else { return };
        self.plan.faults.push(Fault { at_ns, what: What::Destroy { node } });
        self.plan.faults.sort_by_key(|fault| fault.at_ns);
    }

    /// A world for a story: nothing is drawn and nothing goes wrong by itself.
    #[must_use]
    pub fn calm(nodes: u32, shards: u16, partitions: u32) -> Setup {
        let (plan, tuning) = (Plan::calm(0), Tuning::roomy());
        Setup {
            seed: 1,
            mixes: Mix::ALL.to_vec(),
            topics: Topic::ALL.to_vec(),
            formats: Vec::new(),
            nodes,
            spares: 0,
            witness: None,
            acts: Vec::new(),
            shards,
            partitions,
            clients: Vec::new(),
            tuning,
            plan,
        }
    }
}

impl Tuning {
    /// Nothing is near its bound.
    #[must_use]
    pub fn roomy() -> Tuning {
        Tuning {
            snapshot_entries: 10_000,
            snapshot_bytes: 64 << 20,
            retain_entries: 1_000,
            segment_bytes: 512 << 10,
            block_bytes_max: 256 << 10,
            commands_max: 1 << 16,
            snapshot_turn_bytes: 16 << 10,
            tick_ns: 20_000_000,
            disk_ns: 100_000,
            rest_ticks: 20,
            writes_in_flight: 4,
        }
    }

    fn drawn(prng: &mut Prng) -> Tuning {
        let snapshot_entries = *prng.pick(&[3, 10, 30, 100, 10_000]);
        Tuning {
            snapshot_entries,
            snapshot_bytes: *prng.pick(&[2 << 10, 64 << 10, 64 << 20]),
            retain_entries: *prng.pick(&[0, 1, 10, 100]),
            segment_bytes: *prng.pick(&[400 << 10, 512 << 10, 1 << 20]),
            block_bytes_max: *prng.pick(&[128 << 10, 256 << 10]),
            commands_max: *prng.pick(&[2, 8, 1 << 16, 1 << 16]),
            snapshot_turn_bytes: *prng.pick(&[64, 1 << 10, 16 << 10]),
            tick_ns: prng.between(6, 22) * 1_000_000,
            disk_ns: prng.between(20, 3_000) * 1_000,
            // The first few are shorter than a way there and back may take.
            rest_ticks: *prng.pick(&[1, 2, 4, 10, 20]),
            writes_in_flight: *prng.pick(&[1, 2, 4, 4]),
        }
    }
}

/// One writes and loses patience soon, the others read, and the leader is cut off again and again:
/// whoever reads from a leader that does not know yet that it is none would see the past.
fn duel(prng: &mut Prng, clients: &mut Vec<Habits>, plan: &mut Plan) {
    let first = clients[0].clone();
    clients.resize(3, first.clone());
    for (number, client) in clients.iter_mut().enumerate() {
        (client.partition, client.mixes) = (PartitionId(1), first.mixes.clone());
        client.reads = number > 0;
        (client.at_once, client.think_ns) = (1, prng.between(2, 8) * 1_000_000);
        client.patience_ns = prng.between(40, 120) * 1_000_000;
        (client.roams, client.dies_ns) = (0, u64::MAX);
    }
    plan.faults.retain(|fault| matches!(fault.what, What::Rumour { .. } | What::Step { .. }));
    let mut at_ns = 700_000_000;
    while at_ns < plan.heals_ns {
        let for_ns = prng.between(100, 600) * 1_000_000;
        let (hears, speaks) = *prng.pick(&[(false, false), (false, false), (false, true)]);
        let pause = What::Pause { node: LEADER, for_ns };
        let alone = What::Alone { node: LEADER, hears, speaks, for_ns };
        let what = if prng.chance(300) { pause } else { alone };
        plan.faults.push(Fault { at_ns, what });
        at_ns += for_ns + prng.between(100, 500) * 1_000_000;
    }
    plan.faults.sort_by_key(|fault| fault.at_ns);
}

/// In a thousand: worlds whose groups' members change.
const MEMBERS: u64 = 500;

/// In a thousand: worlds with witnesses, as far as nobody loses what was safe.
const WITNESSES: u64 = 300;

/// Keeps their draws apart; none of the seeds that were kept before has one by it.
const OF_WITNESSES: u64 = 0x7769_740b;

/// In a thousand: worlds that are duels.
const DUELS: u64 = 300;

/// What the clients of a world work on, together.
fn themes(prng: &mut Prng, mixes: &[Mix]) -> Vec<(Mix, String)> {
    let count = 1 + prng.below(3);
    (0..count)
        .map(|_| {
            let mix = *prng.pick(mixes);
            (mix, format!("{}-{}", mix.name(), prng.below(2)))
        })
        .collect()
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} nodes and {} more, of {} shards, {} partitions",
            self.seed, self.nodes, self.spares, self.shards, self.partitions
        )?;
        writeln!(f, "  {:?}", self.tuning)?;
        let formats: Vec<String> = self.formats.iter().map(ToString::to_string).collect();
        if !formats.is_empty() {
            writeln!(f, "  nodes speak {}", formats.join(", "))?;
        }
        writeln!(f, "  {:?}, skew {} ns", self.plan.manners, self.plan.skew_ns)?;
        if let Some(witness) = self.witness {
            writeln!(f, "  node {witness} is a witness")?;
        }
        for (number, habits) in self.clients.iter().enumerate() {
            writeln!(f, "  client {number}: {habits:?}")?;
        }
        for fault in &self.plan.faults {
            writeln!(f, "  at {:.3} s: {:?}", fault.at_ns as f64 / 1e9, fault.what)?;
        }
        for act in &self.acts {
            writeln!(f, "  {act}")?;
        }
        write!(f, "  mended at {:.3} s", self.plan.heals_ns as f64 / 1e9)
    }
}
