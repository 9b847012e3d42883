//! One shard alone for benches: no disk, no sockets, time as they say.
//!
//! The disk is a drop: orders are thrown away and reported durable in the next turn, so one round
//! is two turns (propose and record; commit, apply and answer), as in production with a group of
//! one. It can keep what it was told to write, for a start from it.

#![allow(dead_code, reason = "each bench that has this as a module uses its part of it")]

use std::collections::BTreeMap;

use bytes::Bytes;
use ringraft::{
    id::{Mark, NodeId, PartitionId, ShardId, Ticket},
    journal::{Order, Owner, Recovered, SegmentBytes, recover},
    shard::{
        Settings, Shard,
        inbox::{Ask, Inbox, Member, Role},
        outbox::Outbox,
    },
    time::{Instant, LogTime, Now, Span},
};

/// What a shard is as a rule, but that it takes no snapshots: its state grows with each session,
/// and they are measured elsewhere.
pub fn without_snapshots() -> Settings {
    Settings { snapshot_entries: u64::MAX, snapshot_bytes: usize::MAX, ..Settings::default() }
}

/// A shard with its partitions, led from here.
pub struct World {
    /// The shard.
    pub shard: Shard,
    inbox: Inbox,
    /// What the last turn wanted; whoever reads the replies clears them.
    pub outbox: Outbox,
    /// Time, which a turn moves by 100 us.
    pub now: Now,
    ticket: u32,
    /// The segments of a disk that keeps what is written, by sequence.
    kept: Option<BTreeMap<u64, Vec<u8>>>,
    segment_bytes: usize,
    /// Octets written so far.
    pub written_bytes: usize,
}

impl World {
    /// A shard of these settings with partitions from 1.
    pub fn new(settings: Settings, partitions: u32) -> World {
        World::founded(settings, partitions, None)
    }

    /// The same with a disk that keeps what is written.
    pub fn keeping(settings: Settings, partitions: u32) -> World {
        World::founded(settings, partitions, Some(BTreeMap::new()))
    }

    /// A shard that starts from what another one had written.
    pub fn again(settings: Settings, recovered: Recovered) -> World {
        World::start(settings, recovered, None)
    }

    fn founded(settings: Settings, partitions: u32, kept: Option<BTreeMap<u64, Vec<u8>>>) -> World {
        let owner = Owner { node: settings.node, shard: settings.shard };
        let recovered = recover(owner, &[]).expect("nothing is there");
        let mut world = World::start(settings, recovered, kept);
        let member = Member { node: NodeId(1), host: "a".to_owned(), port: 1, role: Role::Member };
        for id in 1..=partitions {
            let ask = Ask::Bootstrap { local: NodeId(1), members: vec![member.clone()] };
            world.ask(id, ask, |_| {});
        }
        for _ in 0..4 {
            world.turn();
            world.outbox.replies.clear();
        }
        world
    }

    fn start(
        settings: Settings,
        recovered: Recovered,
        kept: Option<BTreeMap<u64, Vec<u8>>>,
    ) -> World {
        let now = Now { monotonic: Instant(0), wall: LogTime(1) };
        let segment_bytes = settings.layout.segment_bytes;
        let shard = Shard::new(settings, recovered, now);
        let (inbox, outbox) = Default::default();
        World { shard, inbox, outbox, now, ticket: 0, kept, segment_bytes, written_bytes: 0 }
    }

    /// Asks something of a partition in the next turn.
    pub fn ask(&mut self, partition: u32, ask: Ask, body: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        self.ticket = self.ticket.wrapping_add(1);
        let ticket = Ticket { shard: ShardId(0), slot: self.ticket, generation: 0 };
        self.inbox.requests.push(ticket, PartitionId(partition), None, ask, body);
        ticket
    }

    /// One turn.
    pub fn turn(&mut self) {
        self.now.monotonic = self.now.monotonic.after(Span::micros(100));
        self.shard.turn(&mut self.inbox, self.now, &mut self.outbox);
        let mut durable: Option<Mark> = None;
        for order in self.outbox.orders.drain(..) {
            match (order, &mut self.kept) {
                (Order::Write(block), kept) => {
                    if let Some(segments) = kept {
                        let segment = segments.get_mut(&block.segment).expect("ordered before");
                        let at = block.offset as usize;
                        segment[at..at + block.bytes].copy_from_slice(block.as_bytes());
                        self.written_bytes += block.bytes;
                    }
                    durable = Some(block.mark);
                    self.inbox.spent.push(block.buffer);
                }
                (Order::Open { sequence, header }, Some(segments)) => {
                    let mut segment = vec![0; self.segment_bytes];
                    segment[..header.capacity()].copy_from_slice(header.as_ref());
                    segments.insert(sequence, segment);
                }
                (Order::Recycle { sequence }, Some(segments)) => drop(segments.remove(&sequence)),
                (_, None) => {}
            }
        }
        self.inbox.durable = durable;
        self.outbox.letters.clear();
    }

    /// Whether the last turn left nothing to do.
    pub fn is_idle(&self) -> bool {
        self.inbox.durable.is_none() && self.outbox.wake.is_none_or(|at| at > self.now.monotonic)
    }

    /// The segments as a start finds them.
    pub fn segments(self) -> Vec<SegmentBytes> {
        let kept = self.kept.expect("it keeps them").into_iter();
        kept.map(|(sequence, bytes)| SegmentBytes { sequence, bytes: Bytes::from(bytes) }).collect()
    }
}
