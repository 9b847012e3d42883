//! One node of the world: its shards, what has come for them, their disks, its clocks.
//!
//! It does what the wet shell does and nothing cleverer: gather, turn, hand out, wait (design.md
//! 5). Memory and whoever waited are gone when it loses power; disks and clocks stay.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{NodeId, PartitionId, Position, ShardId, Ticket};
use crate::prng::Prng;
use crate::shard::Shard;
use crate::shard::inbox::Inbox;
use crate::shard::outbox::Outbox;
use crate::sim::clock::Clock;
use crate::sim::disk::Disk;
use crate::sim::setup::Setup;
use crate::wire::format::Formats;

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// How often it has started or lost power: what was meant for an earlier life is nobody's.
    pub life: u64,
    /// Whether it runs.
    pub up: bool,
    /// Bits of its disks were turned: it may have partitions that do not start, and says which.
    pub rotten: bool,
    /// Its disks had no room for more segments once.
    pub was_full: bool,
    /// It never starts again.
    pub destroyed: bool,
    /// Drawn when its disks were new: its peers know it by that.
    pub incarnation: u64,
    /// What its program speaks.
    pub formats: Formats,
    /// It was told to end, and whether it led anything then.
    pub drains: Option<bool>,
    /// No turns before this.
    pub paused_until_ns: u64,
    /// Its clocks.
    pub clock: Clock,
    /// Its shards.
    pub cores: Vec<Core>,
    /// Its disks take so many times as long.
    pub slow: u64,
}

/// One shard and what belongs to it.
#[derive(Debug)]
pub struct Core {
    /// Which.
    pub id: ShardId,
    /// The shard, while the node runs.
    pub shard: Option<Shard>,
    /// What has come since its last turn.
    pub inbox: Inbox,
    /// What its last turn wanted; empty between turns.
    pub outbox: Outbox,
    /// Its disk.
    pub disk: Disk,
    /// When its next turn is.
    pub turn_at_ns: Option<u64>,
    /// Its next turn is the first after a pause.
    pub woke: bool,
    /// Not before the last one has ended.
    pub busy_until_ns: u64,
    /// The nodes that its partitions know: bundles go nowhere else.
    pub book: BTreeSet<NodeId>,
    /// How far each replica was when it was last compared with the others.
    pub compared: BTreeMap<PartitionId, Position>,
    /// The last snapshot that came for each replica and was ahead of it.
    pub snapshots: BTreeMap<PartitionId, Position>,
    callers: BTreeMap<Ticket, Caller>,
    tickets: BTreeMap<(u32, u64), Ticket>,
    next_slot: u32,
}

/// Who waits for an answer: which client, and on which of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client's number.
    pub client: u32,
    /// The call's number with that client.
    pub call: u64,
}

impl Node {
    /// A node that has never run, with disks and clocks as the setup has them drawn.
    #[must_use]
    pub fn drawn(id: NodeId, setup: &Setup, prng: &mut Prng) -> Node {
        let clock = if setup.plan.skew_ns > 0 || setup.plan.steps {
            Clock::drawn(prng, setup.plan.skew_ns)
        } else {
            Clock::right()
        };
        let cores = (0..setup.shards)
            .map(|shard| {
                let own = prng.fork(u64::from(shard));
                let disk = Disk::new(own, setup.tuning.segment_bytes, setup.tuning.disk_ns);
                Core::new(ShardId(shard), disk)
            })
            .collect();
        Node {
            id,
            life: 0,
            up: false,
            rotten: false,
            was_full: false,
            destroyed: false,
            incarnation: u64::from(id.0),
            formats: setup.formats_of(id),
            drains: None,
            paused_until_ns: 0,
            clock,
            cores,
            slow: 1,
        }
    }
}

impl Core {
    /// A core without a shard.
    #[must_use]
    pub fn new(id: ShardId, disk: Disk) -> Core {
        Core {
            id,
            shard: None,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            disk,
            turn_at_ns: None,
            woke: false,
            busy_until_ns: 0,
            book: BTreeSet::new(),
            compared: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            callers: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_slot: 0,
        }
    }

    /// A ticket for `caller`.
    pub fn wait(&mut self, caller: Caller, life: u64) -> Ticket {
        let generation = life as u32;
        let ticket = Ticket { shard: self.id, slot: self.next_slot, generation };
        self.next_slot += 1;
        self.callers.insert(ticket, caller);
        self.tickets.insert((caller.client, caller.call), ticket);
        ticket
    }

    /// Who waits with this ticket; forgotten when this was the last word.
    pub fn claim(&mut self, ticket: Ticket, last: bool) -> Option<Caller> {
        let caller = self.callers.get(&ticket).copied()?;
        if last {
            self.callers.remove(&ticket);
            self.tickets.remove(&(caller.client, caller.call));
        }
        Some(caller)
    }

    /// The ticket of a caller who hangs up.
    pub fn hang_up(&mut self, caller: Caller) -> Option<Ticket> {
        let ticket = self.tickets.remove(&(caller.client, caller.call))?;
        self.callers.remove(&ticket);
        Some(ticket)
    }

    /// Its disk is a new one.
    pub fn wipe(&mut self, setup: &Setup, prng: Prng) {
        let torn = self.disk.torn;
        self.disk = Disk::new(prng, setup.tuning.segment_bytes, setup.tuning.disk_ns);
        self.disk.torn = torn;
        self.snapshots.clear();
    }

    /// Everything in memory is gone; who waited here.
    pub fn crash(&mut self, now_ns: u64) -> Vec<Caller> {
        self.shard = None;
        self.inbox = Inbox::default();
        self.outbox = Outbox::default();
        self.turn_at_ns = None;
        self.busy_until_ns = now_ns;
        self.disk.crash(now_ns);
        self.tickets.clear();
        self.compared.clear();
        self.book.clear();
        std::mem::take(&mut self.callers).into_values().collect()
    }
}
