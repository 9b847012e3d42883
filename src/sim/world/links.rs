//! What links carry, and what nodes notice of them beside: that they ended or broke.
//!
//! A process that ends is noticed, a host that loses power is not: each happens. Absent on purpose:
//! links that come back, which shards notice by what they carry.

use bytes::Bytes;

use super::{Event, World};
use crate::id::{NodeId, ShardId};
use crate::prng::mix;
use crate::shard::inbox::Delivery;
use crate::shard::outbox::SnapshotOut;
use crate::wire::bundle;

impl World {
    /// What one shard sends another is carried; or it is lost, and the link with it.
    pub(super) fn send_bundle(
        &mut self,
        (from, shard): (NodeId, ShardId),
        (to, to_shard): (NodeId, ShardId),
        bytes: &Bytes,
    ) {
        let copies = self.net.carry(from, to, bytes);
        if copies.is_empty() {
            self.break_link((from, shard), (to, to_shard));
        }
        for (later_ns, bytes) in copies {
            let event = Event::Bundle { from, to, shard: to_shard, bytes };
            self.queue.push(self.now_ns + later_ns, event);
        }
    }

    /// Real links lose nothing and go on. Whether who sent hears that one broke, who was to hear,
    /// both or nobody, is the world's kind.
    fn break_link(&mut self, sender: (NodeId, ShardId), receiver: (NodeId, ShardId)) {
        let kind = mix(self.setup.seed ^ TOLD) % 4;
        let lot = mix(self.setup.seed ^ mix(self.now_ns ^ u64::from(receiver.0.0)));
        let ends = [(kind & 1, sender, receiver.0), (kind & 2, receiver, sender.0)];
        for (told, (node, shard), peer) in ends {
            if told > 0 {
                let later_ns = mix(lot ^ told) % LINK_ENDS_NS;
                self.queue.push(self.now_ns + later_ns, Event::Lost { node, shard, peer });
            }
        }
    }

    pub(super) fn send_snapshot(&mut self, from: NodeId, shard: ShardId, snapshot: SnapshotOut) {
        let SnapshotOut { to, partition, position, .. } = snapshot;
        let (tag, length) = (snapshot.tag(), snapshot.bytes());
        let disk = &self.nodes[from.0 as usize - 1].cores[usize::from(shard.0)].disk;
        let read = snapshot.whole(|it| disk.read(it.segment, it.offset, it.bytes as usize));
        self.trace.tell(self.now_ns, || {
            format!(
                "node {from} sends node {to} partition {partition} up to {position}, {length} bytes"
            )
        });
        let owner = ShardId((partition.0 % u32::from(self.setup.shards)) as u16);
        let life = self.nodes[from.0 as usize - 1].life;
        let mut ends_ns = self.now_ns + 300_000_000;
        let mut delivery = Delivery::Failed;
        // On a disk that is sound it is found again.
        assert!(read.is_some() || self.nodes[from.0 as usize - 1].rotten, "a slice is gone");
        let copies = read.map(|bytes| self.net.carry(from, to, &bytes));
        for (later_ns, bytes) in copies.unwrap_or_default() {
            let at_ns = self.now_ns + later_ns * 3;
            if self.nodes[to.0 as usize - 1].up {
                delivery = Delivery::Arrived;
                ends_ns = at_ns + self.net.delay_ns();
            }
            // What is damaged is noticed by whoever reads the stream, which ends with it.
            let pieces = bundle::pieces(&bytes, partition, tag).unwrap_or_default();
            self.queue.push(at_ns, Event::Snapshot { from, to, shard: owner, pieces });
        }
        let event = Event::Sent { to: from, shard, life, of: (partition, to, delivery) };
        self.queue.push(ends_ns, event);
    }

    /// A node has lost power, or only its process ended: then the others' links from it end, after
    /// what is on its way.
    pub(super) fn end_links(&mut self, peer: NodeId) {
        // Not drawn from the world's numbers: what else happens stays as it was.
        let lot = mix(self.setup.seed ^ mix(self.now_ns ^ u64::from(peer.0)));
        if lot.is_multiple_of(2) {
            return;
        }
        for id in (1..=self.setup.nodes).filter(|id| *id != peer.0) {
            let later_ns = mix(lot ^ u64::from(id)) % LINK_ENDS_NS;
            self.queue.push(self.now_ns + later_ns, Event::HungUp { node: NodeId(id), peer });
        }
    }

    /// A node notices that the link from a peer has ended.
    pub(super) fn link_ended(&mut self, node: NodeId, peer: NodeId) {
        self.for_each_core(node, |core| core.inbox.hung_up.push(peer));
    }

    /// A node hears that every other one is lost and hung up, whether or not it is so.
    pub(super) fn hears_of_all(&mut self, node: NodeId) {
        let others = (1..=self.setup.nodes).map(NodeId).filter(|peer| *peer != node);
        let peers: Vec<NodeId> = others.collect();
        self.for_each_core(node, |core| {
            core.inbox.lost.extend(&peers);
            core.inbox.hung_up.extend(&peers);
        });
    }
}

/// Keeps this apart from what else hangs on the seed.
const TOLD: u64 = 0x746f_6c64;

/// The end of a link is noticed within this time.
const LINK_ENDS_NS: u64 = 20_000_000;
