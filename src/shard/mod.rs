//! One core's worth of partitions, pure: a turn takes what happened and says what is wanted.
//!
//! ```text
//!  Inbox ─► take ─► advance ─► settle ─► seal ─► Outbox
//!           facts    deadlines  each touched   one run of blocks, one bundle a peer shard,
//!           to whom  that       partition,     one letter of a sort a core, replies
//!           they     passed     once
//!           concern
//! ```
//!
//! Both shells do the same with it: gather, turn, hand out, wait until something happens or
//! `Outbox::wake`. A turn never waits and never fails. What depends on the disk leaves after
//! `Inbox::durable` names the mark that covers it; marks are the journal's, and the shard knows
//! which turn's records each covers.
//!
//! Absent on purpose: connections, methods, files, and any other verb: `turn` is the door. Read
//! next: `inbox.rs` and `outbox.rs`, which list all that can happen and all that may be wanted.

pub mod admit;
mod errand;
mod forward;
pub mod inbox;
pub mod ledger;
mod letters;
mod members;
mod news;
mod operate;
pub mod outbox;
pub mod placement;
mod rest;
pub mod roster;
pub mod route;
mod seal;
pub mod settings;
pub mod stats;
mod take;
pub mod waiting;
pub mod wake;
pub mod watched;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use settings::{Peers, Settings};
pub use stats::Stats;

use crate::{
    id::{Mark, NodeId, PartitionId, ShardId, Ticket},
    journal::{self, Journal, Owner},
    partition::{Partition, Rules, effects::Effects},
    shard::{
        admit::Admit, errand::Errands, forward::Forward, inbox::Inbox, letters::Letters,
        members::GuestNodes, news::News, outbox::Outbox, rest::Rests, roster::Roster, wake::Wake,
    },
    time::{Instant, Now},
};

/// One core's worth of partitions.
#[derive(Debug)]
pub struct Shard {
    settings: Settings,
    rules: Rules,
    roster: Roster,
    journal: Journal,
    admit: Admit,
    wake: Wake,
    effects: Effects,
    letters: Letters,
    forward: Forward,
    errands: Errands,
    guest_nodes: GuestNodes,
    news: News,
    turn: u64,
    /// Partitions with facts in this turn.
    touched: Vec<PartitionId>,
    /// What is recorded and not known to be durable, oldest first.
    recorded: VecDeque<Recorded>,
    /// The newest block with a slice of a snapshot.
    slices_at: Mark,
    /// Room for the lists of partitions in it.
    recorded_spare: Vec<Vec<PartitionId>>,
    /// Callers who are told when what they asked for is durable.
    promised: VecDeque<(Mark, Ticket)>,
    /// Callers of this turn whose promise has no mark yet.
    asked: Vec<Ticket>,
    /// Partitions that raft's clock is for: they have other members and do not rest.
    awake: BTreeSet<PartitionId>,
    rests: Rests,
    /// raft's clock goes on at this time, while a group here has other members or a call is out.
    next_tick: Option<Instant>,
    /// Messages that found their bundle full: raft is told in the next turn.
    dropped: Vec<(PartitionId, NodeId)>,
    /// Partitions whose snapshot goes on when a turn has bytes for it.
    hungry: Vec<PartitionId>,
    /// Partitions to which a peer sends a snapshot.
    arriving: Vec<PartitionId>,
    segments_seen: usize,
    /// How many shards each peer has, once it said so.
    peer_shards: BTreeMap<NodeId, u16>,
    /// What the links to peers speak, once that was said.
    peer_formats: BTreeMap<NodeId, u32>,
    /// Peers that could not be reached of late.
    away: BTreeSet<NodeId>,
    /// The node is to end.
    drains: bool,
    /// The nodes that partitions here know have changed.
    moved: bool,
    stats: Stats,
}

/// The records of a turn, or of several that one block holds.
#[derive(Debug)]
struct Recorded {
    mark: Mark,
    /// The last of them.
    turn: u64,
    partitions: Vec<PartitionId>,
}

impl Shard {
    /// The shard as its journal left it: all partitions that lived here are here again, with their
    /// sessions and kept outputs. The first turn is due at once; single voters lead in it.
    #[must_use]
    pub fn new(settings: Settings, recovered: journal::Recovered, now: Now) -> Shard {
        let rules = settings.rules();
        let owner = Owner { node: settings.node, shard: settings.shard };
        let mut roster = Roster::default();
        for (id, fault) in &recovered.faults {
            // Whoever started the shard knows, and tells it better.
            tracing::debug!(partition = id.0, %fault, "damaged: the partition does not start");
            roster.add_damaged(*id);
        }
        roster.remember(recovered.left, !recovered.roster_whole);
        let mut touched = Vec::new();
        for (id, tail) in recovered.partitions {
            match start(&rules, id, tail) {
                Some((partition, members)) => {
                    roster.add(partition, members);
                    touched.push(id);
                }
                None => roster.add_damaged(id),
            }
        }
        for living in roster.iter_mut() {
            living.touched = true;
        }
        let mut shard = Shard {
            admit: Admit::new(settings.load_max()),
            letters: Letters::new(settings.shards),
            forward: Forward::new(settings.seed ^ now.wall.0, settings.shard, settings.election()),
            journal: Journal::resume(settings.layout, owner, recovered.resume),
            errands: Errands::default(),
            guest_nodes: GuestNodes::default(),
            news: News::default(),
            settings,
            rules,
            roster,
            wake: Wake::default(),
            effects: Effects::default(),
            turn: 0,
            touched,
            recorded: VecDeque::new(),
            slices_at: Mark(0),
            recorded_spare: Vec::new(),
            promised: VecDeque::new(),
            asked: Vec::new(),
            awake: BTreeSet::new(),
            rests: Rests::default(),
            next_tick: None,
            dropped: Vec::new(),
            hungry: Vec::new(),
            arriving: Vec::new(),
            segments_seen: 0,
            peer_shards: BTreeMap::new(),
            peer_formats: BTreeMap::new(),
            away: BTreeSet::new(),
            drains: false,
            moved: true,
            stats: Stats::default(),
        };
        shard.set_tick(now);
        shard
    }

    /// One pass: everything in `inbox` is taken, and `outbox`, which is empty, says what is wanted.
    pub fn turn(&mut self, inbox: &mut Inbox, now: Now, outbox: &mut Outbox) {
        self.begin(outbox);
        self.take(inbox, now, outbox);
        self.advance(now);
        self.settle(now);
        self.seal(now, outbox);
    }

    /// What it did so far, and holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let load = self.admit.load();
        let (passed, guests) = self.forward.counts();
        let (resting_now, rests) = self.rests.counts();
        let leaders = self.roster.iter().filter(|living| living.partition.is_leader()).count();
        let state: usize = self.roster.iter().map(|living| living.partition.state_bytes()).sum();
        Stats {
            passed_now: passed as u64,
            guests_now: guests as u64,
            partitions_now: self.roster.iter().count() as u64,
            leaders_now: leaders as u64,
            resting_now,
            rests,
            commands_now: load.commands as u64,
            command_bytes_now: load.bytes as u64,
            state_bytes_now: state as u64,
            segments_now: self.journal.segments() as u64,
            ..self.stats
        }
    }

    /// The partitions here, for digests in the simulator and for metrics.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.roster.iter().map(|living| &living.partition)
    }

    fn begin(&mut self, outbox: &mut Outbox) {
        assert!(outbox.orders.is_empty(), "orders of the last turn were not handed out");
        self.turn += 1;
        self.stats.turns += 1;
        self.effects.begin(self.turn);
        std::mem::swap(&mut self.effects.replies, &mut outbox.replies);
    }

    /// What this turn may write of snapshots: nothing while the disk has blocks enough to write, or
    /// one with a slice: then no more than that is written before the commands of the next turn,
    /// and a snapshot goes no faster than the disk. As fast as memory let it go, it was ahead of
    /// them with four megabytes.
    fn snapshot_budget_bytes(&self) -> usize {
        if self.slices_at > self.journal.durable_mark() {
            return 0;
        }
        let begins = self.effects.snapshot_of.is_none();
        if begins && self.admit.is_disk_full() && !self.snapshots_fit() {
            return 0;
        }
        if self.is_disk_busy() { 0 } else { self.settings.snapshot_turn_bytes }
    }

    /// Whether the disk has as many blocks as it writes at a time.
    fn is_disk_busy(&self) -> bool {
        self.journal.blocks_under_way() >= self.settings.writes_in_flight
    }

    /// Deadlines that passed, and raft's clock.
    fn advance(&mut self, now: Now) {
        self.effects.snapshot_budget_bytes = self.snapshot_budget_bytes();
        self.run_errands(now);
        while let Some(partition) = self.wake.pop(now.monotonic) {
            self.touch(partition);
        }
        if self.effects.snapshot_budget_bytes > 0 {
            self.touch_hungry();
        }
        if self.next_tick.is_some_and(|at| at <= now.monotonic) {
            self.tick();
            let guests = self.forward.look(now, &mut self.effects.replies);
            self.hang_up_all(guests);
            // A turn that comes late ticks once: a pause of this process is no silence of its
            // peers.
            self.next_tick = None;
            self.set_tick(now);
        }
        if self.journal.segments() != self.segments_seen || self.admit.is_disk_full() {
            self.segments_seen = self.journal.segments();
            self.free_oldest_segment();
        }
    }

    /// Who waits for bytes of snapshots settles before all others, and who was given some goes to
    /// the end of the line: a busy partition takes one snapshot after another, and would leave
    /// nothing.
    fn touch_hungry(&mut self) {
        let hungry = std::mem::take(&mut self.hungry);
        if hungry.is_empty() {
            return;
        }
        let mut others = std::mem::take(&mut self.touched);
        let mut sorted = hungry.clone();
        sorted.sort_unstable();
        others.retain(|id| sorted.binary_search(id).is_err());
        for id in hungry {
            if let Some(living) = self.roster.get_mut(id) {
                living.touched = true;
                self.touched.push(id);
            }
        }
        self.touched.append(&mut others);
    }

    /// One unit of raft's clock for all that need it.
    fn tick(&mut self) {
        self.tick_rests();
        let awake = std::mem::take(&mut self.awake);
        for id in &awake {
            let living = self.roster.get_mut(*id).expect("who left is not awake");
            living.partition.tick();
            if self.drains {
                living.partition.hand_over();
            }
            living.touch(&mut self.touched);
            self.rest_if_calm(*id);
        }
        self.awake = awake;
    }

    /// Each touched partition settles, once.
    fn settle(&mut self, now: Now) {
        let mut touched = std::mem::take(&mut self.touched);
        let mut served = Vec::new();
        for id in touched.drain(..) {
            let budget = self.effects.snapshot_budget_bytes;
            let Some(living) = self.roster.get_mut(id) else { continue };
            assert!(std::mem::take(&mut living.touched), "partition {id} is touched once");
            let halted = living.partition.is_halted();
            let wake = living.partition.settle(now, &self.rules, &mut self.effects);
            if living.partition.is_halted() && !halted {
                tracing::error!(partition = id.0, "the partition is halted on this node");
                self.stats.halted += 1;
            }
            let load = living.partition.load();
            self.admit.moved(living.load, load);
            living.load = load;
            let hungry = living.partition.is_hungry();
            self.wake.set(id, wake);
            self.note_rest(id);
            // With bytes to give the line was emptied when the turn began.
            if hungry && self.effects.snapshot_budget_bytes < budget {
                served.push(id);
            } else if hungry && !self.hungry.contains(&id) {
                self.hungry.push(id);
            }
        }
        self.hungry.append(&mut served);
        // Who was touched meanwhile is so in the next turn.
        touched.append(&mut self.touched);
        self.touched = touched;
    }

    /// The shard of a peer that owns a partition.
    fn owner_at(&self, peer: NodeId, partition: PartitionId) -> ShardId {
        route::owner_at(&self.peer_shards, self.settings.shards, peer, partition)
    }

    fn touch(&mut self, id: PartitionId) {
        if let Some(living) = self.roster.get_mut(id) {
            living.touch(&mut self.touched);
        }
    }

    /// The oldest segment is recycled when those who need it have a newer snapshot.
    fn free_oldest_segment(&mut self) {
        // A large snapshot, the next one and the log between them take segments of their own: to
        // take one more because of those would never end.
        let state = self.roster.iter().map(|living| living.partition.snapshot_bytes());
        let needed = 3 * state.sum::<u64>() / self.settings.layout.segment_bytes as u64;
        let soft = self.settings.segments_soft + needed as usize;
        let (segments, must) = (self.journal.segments(), self.could_free_disk());
        if segments <= soft && !must {
            return;
        }
        // What is on its way to a peer would be freed by a newer one, that one by the next, and the
        // peer would never have any: it is waited for until there are twice as many.
        let waits = segments <= 2 * soft && !must;
        let holders: Vec<PartitionId> = self.journal.holders().collect();
        for id in holders {
            let living = self.roster.get_mut(id);
            if let Some(living) = living.filter(|it| !waits || !it.partition.keeps_snapshot()) {
                living.partition.want_snapshot();
                self.touch(id);
            }
        }
    }

    /// The segment being written is all there is. What needs more is given up.
    fn disk_is_full(&mut self) {
        if !self.snapshots_fit()
            && let Some(id) = self.effects.snapshot_of.take()
        {
            let living = self.roster.get_mut(id).expect("who takes a snapshot is here");
            living.partition.abandon_snapshot();
            self.touch(id);
        }
    }

    /// Whether the disk is full, older segments than the one being written are kept, and snapshots
    /// would make room where nothing else does.
    fn could_free_disk(&self) -> bool {
        self.admit.is_disk_full() && self.journal.segments() > 2 && self.snapshots_fit()
    }

    /// Whether the segment being written has room for the state of every partition. On a full disk
    /// it is all there is, and sessions need it to stay alive.
    fn snapshots_fit(&self) -> bool {
        if !self.roster.iter().all(|living| living.partition.is_caught_up()) {
            return false;
        }
        let state: usize = self.roster.iter().map(|living| living.partition.state_bytes()).sum();
        state.saturating_add(state / 4) < self.journal.segment_room()
    }

    /// raft's clock goes as long as some group needs it, or a call waits for another node: who has
    /// no group here would never notice that it is not heard.
    fn set_tick(&mut self, now: Now) {
        let mut living = self.roster.iter();
        if self.forward.waits() || living.any(|living| living.partition.needs_ticks()) {
            self.next_tick.get_or_insert(now.monotonic.after(self.settings.tick));
        } else {
            self.next_tick = None;
        }
    }
}

/// A partition as the journal has it; `None`, and said why, when it cannot start.
fn start(
    rules: &Rules,
    id: PartitionId,
    tail: journal::Tail,
) -> Option<(Partition, Vec<inbox::Member>)> {
    let group = ledger::group(id, &tail.founding);
    let (Some(group), Some(disk)) = (group, ledger::read(tail)) else {
        tracing::error!(partition = id.0, "the partition's records name what is no member");
        return None;
    };
    match Partition::recover(&group, rules, disk) {
        Ok(partition) => Some((partition, group.members)),
        Err(unfit) => {
            tracing::error!(partition = id.0, ?unfit, "the partition cannot be read back");
            None
        }
    }
}

#[cfg(test)]
mod tests;
