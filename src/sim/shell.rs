//! Where the simulator touches a shard: settings, start, figures, and what goes into the running
//! number.
//!
//! One file, so that a change of the shard's door is a change here and nowhere else in the
//! simulator.

use std::collections::BTreeSet;
use std::fmt;

use crate::id::{Index, NodeId, PartitionId, Position, ShardId, Term};
use crate::journal::{self, Layout, Order, Owner, Refused};
use crate::partition::member::everyone;
use crate::partition::reply::{Body, Replies};
use crate::shard::inbox::{Inbox, Letter};
use crate::shard::outbox::Outbox;
use crate::shard::{Peers, Settings, Shard};
use crate::sim::disk::Disk;
use crate::sim::setup::Setup;
use crate::sim::trace::Trace;
use crate::time::{Now, Span};

/// How far one replica is.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Of which partition.
    pub partition: PartitionId,
    /// Up to where its log is applied.
    pub applied: Position,
    /// Commands applied.
    pub index: Index,
    /// Of its whole state.
    pub digest: u64,
    /// Its term.
    pub term: Term,
    /// Whether it leads.
    pub leads: bool,
    /// Whether a panic halted it.
    pub halted: bool,
    /// Where its log begins: the snapshot that it would start from.
    pub base: Position,
    /// Whether it holds no state.
    pub witness: bool,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Standing { partition, applied, index, digest, term, leads, halted, base, witness } =
            self;
        write!(f, "partition {partition}: term {term}, log after {base}, applied {applied}, ")?;
        write!(f, "index {index}, digest {digest:016x}")?;
        write!(
            f,
            "{}{}",
            if *leads { ", leads" } else { "" },
            if *halted { ", halted" } else { "" }
        )?;
        write!(f, "{}", if *witness { ", witness" } else { "" })
    }
}

/// The replicas of a shard.
#[must_use]
pub fn standings(shard: &Shard) -> Vec<Standing> {
    shard
        .partitions()
        .map(|partition| Standing {
            partition: partition.id(),
            applied: partition.applied(),
            index: partition.machine().index(),
            digest: partition.machine().digest(),
            term: partition.leadership().0,
            leads: partition.is_leader(),
            halted: partition.is_halted(),
            base: partition.log_base(),
            witness: partition.is_witness(),
        })
        .collect()
}

/// How far each replica of a shard is, which costs nothing.
pub fn positions(shard: &Shard) -> impl Iterator<Item = (PartitionId, Position)> {
    shard.partitions().map(|partition| (partition.id(), partition.applied()))
}

/// The term in which a shard's replica of a partition leads.
#[must_use]
pub fn leads(shard: &Shard, of: PartitionId) -> Option<Term> {
    let mut all = shard.partitions().filter(|it| it.id() == of && it.is_leader());
    all.next().map(|partition| partition.leadership().0)
}

/// Everyone who belongs to a partition, as a shard's replica has it.
#[must_use]
pub fn members(shard: &Shard, of: PartitionId) -> BTreeSet<NodeId> {
    let mut all = shard.partitions().filter(|partition| partition.id() == of);
    let conf = all.next().map(|partition| everyone(partition.conf())).unwrap_or_default();
    conf.into_iter().filter_map(|id| u32::try_from(id).ok().map(NodeId)).collect()
}

/// Replicas that a panic stopped.
pub fn halted(shard: &Shard) -> impl Iterator<Item = PartitionId> {
    let halted = shard.partitions().filter(|partition| partition.is_halted());
    halted.map(|partition| partition.id())
}

/// The digest of one replica's state; a witness has none.
#[must_use]
pub fn digest(shard: &Shard, of: PartitionId) -> Option<u64> {
    let mut all = shard.partitions().filter(|it| it.id() == of && !it.is_witness());
    all.next().map(|partition| partition.machine().digest())
}

/// A shard from what its disk holds.
///
/// # Errors
/// The journal cannot be read; or says that safe bytes are damaged, on a disk that is not `rotten`.
pub fn start(settings: Settings, now: Now, disk: &mut Disk, rotten: bool) -> Result<Shard, String> {
    let segments = disk.segments();
    let owner = Owner { node: settings.node, shard: settings.shard };
    let recovered =
        journal::recover(owner, &segments).map_err(|refused: Refused| refused.to_string())?;
    if let Some((partition, fault)) = recovered.faults.first_key_value()
        && !rotten
    {
        return Err(format!("partition {partition} is damaged: {fault}"));
    }
    if let Some(damage) = recovered.damage.first()
        && !rotten
    {
        return Err(format!("damage: {damage}"));
    }
    disk.resume(recovered.resume.kept(), rotten);
    Ok(Shard::new(settings, recovered, now))
}

/// What a shard of this world is told when it starts.
#[must_use]
pub fn settings(setup: &Setup, node: NodeId, shard: ShardId) -> Settings {
    let tuning = &setup.tuning;
    Settings {
        node,
        shard,
        shards: setup.shards,
        seed: setup.seed,
        peers: Peers::Allowed,
        api_address: format!("node-{node}:5678"),
        tick: Span::nanos(tuning.tick_ns),
        election_ticks: 10,
        heartbeat_ticks: 2,
        rest_ticks: tuning.rest_ticks,
        snapshot_entries: tuning.snapshot_entries,
        snapshot_bytes: tuning.snapshot_bytes,
        snapshot_turn_bytes: tuning.snapshot_turn_bytes,
        retain_entries: tuning.retain_entries,
        segments_soft: 3,
        writes_in_flight: tuning.writes_in_flight,
        commands_max: tuning.commands_max * 2,
        partition_commands_max: tuning.commands_max,
        query_patience: Span::secs(2),
        round_patience: Span::millis(500),
        log_jump: Span::secs(3600),
        layout: Layout {
            segment_bytes: tuning.segment_bytes,
            block_bytes_max: tuning.block_bytes_max,
        },
        ..Settings::default()
    }
}

/// A turn's inputs into the running number.
pub fn note_inputs(trace: &mut Trace, node: NodeId, shard: ShardId, inbox: &Inbox) {
    trace.note(u64::from(node.0) << 32 | u64::from(shard.0));
    trace.bytes(&inbox.requests.bytes);
    for request in &inbox.requests.list {
        trace.note(u64::from(request.partition.0) << 32 | u64::from(request.body.end));
    }
    let pieces = inbox.snapshots.iter().map(|(from, piece)| (from, &piece.bytes));
    for (from, bytes) in inbox.bundles.iter().map(|(from, bytes)| (from, bytes)).chain(pieces) {
        trace.note(u64::from(from.0));
        trace.bytes(bytes);
    }
    for (from, letter) in &inbox.letters {
        trace.note(u64::from(from.0));
        note_letter(trace, letter);
    }
    trace.note(inbox.durable.map_or(0, |mark| mark.0));
}

/// A turn's outputs into the running number.
pub fn note_outputs(trace: &mut Trace, outbox: &Outbox) {
    for order in &outbox.orders {
        match order {
            Order::Open { sequence, header } => {
                trace.note(*sequence);
                trace.bytes(header.as_ref());
            }
            Order::Write(block) => trace.bytes(block.as_bytes()),
            Order::Recycle { sequence } => trace.note(*sequence),
        }
    }
    for (to, shard, bytes) in &outbox.bundles {
        trace.note(u64::from(to.0) << 32 | u64::from(shard.0));
        trace.bytes(bytes);
    }
    for snapshot in &outbox.snapshots {
        trace.note(u64::from(snapshot.to.0));
        trace.bytes(&snapshot.head);
        trace.note(u64::from(snapshot.tag()));
    }
    for (to, letter) in &outbox.letters {
        trace.note(u64::from(to.0));
        note_letter(trace, letter);
    }
    note_replies(trace, &outbox.replies);
    trace.note(outbox.wake.map_or(0, |at| at.0));
}

/// Empties what was handed out.
pub fn clear(outbox: &mut Outbox) {
    outbox.orders.clear();
    outbox.bundles.clear();
    outbox.snapshots.clear();
    outbox.letters.clear();
    outbox.replies.clear();
    outbox.wake = None;
}

fn note_letter(trace: &mut Trace, letter: &Letter) {
    match letter {
        Letter::Requests(requests) => trace.bytes(&requests.bytes),
        Letter::Replies(replies) => note_replies(trace, replies),
        Letter::Gone(gone) => trace.note(gone.len() as u64),
        Letter::Contacts(contacts) => trace.note(contacts.len() as u64),
    }
}

fn note_replies(trace: &mut Trace, replies: &Replies) {
    trace.bytes(&replies.bytes);
    for reply in &replies.list {
        trace.note(u64::from(reply.ticket.slot) << 1 | u64::from(reply.last));
        match &reply.body {
            Body::Output(output) => trace.note(output.index.0 << 8 | output.status as u64),
            Body::Event(_) => trace.note(1),
            Body::Replayed => trace.note(3),
            Body::End => trace.note(2),
            Body::Refused(_) => trace.note(3),
        }
    }
}
