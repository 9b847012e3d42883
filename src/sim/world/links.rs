//! What links carry, whom they refuse, and what nodes notice of them beside: that they are there,
//! ended or broke. Who greets whom is decided by the words that real links say (`wire/hello.rs`).
//!
//! A process that ends is noticed, a host that loses power is not: each happens. Absent on purpose:
//! links that come back, which shards notice by what they carry.

use bytes::Bytes;

use super::{Event, World};
use crate::id::{Mark, NodeId, ShardId};
use crate::prng::mix;
use crate::shard::inbox::{Delivery, LinkNews};
use crate::shard::outbox::SnapshotOut;
use crate::sim::coverage::Seen;
use crate::sim::tomorrow::{self, TOMORROW};
use crate::wire::bundle;
use crate::wire::format::{FORMATS, Formats};
use crate::wire::hello::{Cargo, Hello, Speaker};

impl World {
    /// What one shard sends another is carried; or it is lost, and the link with it.
    pub(super) fn send_bundle(
        &mut self,
        (from, shard): (NodeId, ShardId),
        (to, to_shard): (NodeId, ShardId),
        bytes: &Bytes,
    ) {
        if !self.carries(from, to, bytes) {
            return self.reach(from, shard, |core| core.inbox.lost.push(to));
        }
        let bytes = &match self.is_later(from) {
            true => tomorrow::frame(bytes),
            false => bytes.clone(),
        };
        let copies = self.net.carry(from, to, bytes);
        if copies.is_empty() {
            self.history.coverage.note(Seen::BundleLost);
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

    pub(super) fn send_snapshot(
        &mut self,
        from: NodeId,
        shard: ShardId,
        mut snapshot: SnapshotOut,
    ) {
        if self.is_later(from) {
            snapshot.head = tomorrow::frame(&snapshot.head);
        }
        let SnapshotOut { to, partition, position, .. } = snapshot;
        let (tag, length) = (snapshot.tag(), snapshot.bytes());
        let read = self.whole(from, shard, &snapshot);
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
        let read = read.filter(|_| self.carries(from, to, &snapshot.head));
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
        self.queue.push(ends_ns, Event::Sent { from, shard, life, snapshot, delivery });
    }

    /// A delivery ended. A real link reads the slices as they leave: the last one was there till
    /// now, unless the node had no other room.
    pub(super) fn sent(
        &mut self,
        from: NodeId,
        shard: ShardId,
        snapshot: &SnapshotOut,
        delivery: Delivery,
    ) {
        let there = self.whole(from, shard, snapshot).is_some();
        let node = &self.nodes[from.0 as usize - 1];
        let arrived = delivery == Delivery::Arrived;
        assert!(
            there || node.rotten || node.was_full || !arrived,
            "node {from} used the place of a snapshot that was on its way: {snapshot:?}"
        );
        let delivery = if there { delivery } else { Delivery::Failed };
        let sent = (snapshot.partition, snapshot.to, delivery);
        self.reach(from, shard, |core| core.inbox.sent.push(sent));
    }

    /// A snapshot with its slices, when the disk has them all.
    fn whole(&self, from: NodeId, shard: ShardId, snapshot: &SnapshotOut) -> Option<Bytes> {
        let disk = &self.nodes[from.0 as usize - 1].cores[usize::from(shard.0)].disk;
        snapshot.whole(|it| disk.read(it.segment, it.offset, it.bytes as usize))
    }

    /// Whether there is a link from one node to another which takes this frame: neither refuses the
    /// other, and both know its format.
    fn carries(&mut self, from: NodeId, to: NodeId, frame: &[u8]) -> bool {
        let frame = bundle::format_of(frame).expect("nodes send frames");
        if !self.nodes[to.0 as usize - 1].up {
            return true;
        }
        let link = self.greet(from, to);
        if link.is_none() {
            self.history.coverage.note(Seen::LinkRefused);
        }
        link.is_some_and(|link| link.has(frame))
    }

    /// What a link from one node to another carries, if neither refuses the other.
    fn greet(&mut self, from: NodeId, to: NodeId) -> Option<Formats> {
        let (here, there) = (self.speaker(to), self.speaker(from));
        let met = |at: NodeId, other: NodeId| self.met.get(&(at, other)).copied();
        let hello = Hello {
            speaker: there,
            to,
            from_shard: ShardId(0),
            kept: Mark(0),
            to_shard: ShardId(0),
            knows: met(from, to).unwrap_or(0),
            cargo: Cargo::Bundles,
        };
        if let Some(reason) = hello.refusal(&here, met(to, from)) {
            self.trace.tell(self.now_ns, || reason);
            return None;
        }
        self.met.insert((from, to), here.incarnation);
        self.met.insert((to, from), there.incarnation);
        hello.formats(&here)
    }

    /// A node has lost everything, also whom it met.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.met.retain(|(at, _), _| *at != node);
    }

    /// Whether what comes to a node is what its program reads: the link that brought it may have
    /// been one to an earlier life.
    pub(super) fn reads(&mut self, from: NodeId, to: NodeId, frame: &[u8]) -> bool {
        let here = &self.nodes[to.0 as usize - 1];
        // What is damaged has come over the link of today, as far as anybody can tell.
        let format = bundle::format_of(frame).unwrap_or(here.formats.oldest());
        let known = self.met.get(&(from, to)).is_none_or(|met| *met == here.incarnation);
        if !known || !here.formats.has(format) && format <= TOMORROW.newest() {
            return false;
        }
        let older = format < self.nodes[from.0 as usize - 1].formats.newest();
        let news = self.is_later(from) && !self.is_later(to);
        let coverage = &mut self.history.coverage;
        coverage.add(Seen::OlderFormat, u64::from(older));
        coverage.add(Seen::UnknownField, u64::from(news));
        true
    }

    /// A node's program says what today's does not know.
    fn is_later(&self, node: NodeId) -> bool {
        self.nodes[node.0 as usize - 1].formats.newest() > FORMATS.newest()
    }

    fn speaker(&self, node: NodeId) -> Speaker {
        let known = &self.nodes[node.0 as usize - 1];
        Speaker {
            cluster: 0,
            node,
            incarnation: known.incarnation,
            life: known.life,
            shards: self.setup.shards,
            api_port: 0,
            formats: known.formats,
        }
    }

    /// A node has started: it and each other one get a link, both ways, and hear what it speaks.
    /// Nobody need hear that where all speak the same.
    pub(super) fn link_all(&mut self, node: NodeId) {
        if self.setup.formats.is_empty() {
            return;
        }
        for peer in self.ids().filter(|peer| *peer != node) {
            for (node, peer) in [(node, peer), (peer, node)] {
                let lot = mix(self.setup.seed ^ mix(self.now_ns ^ u64::from(node.0 << 8 | peer.0)));
                let at_ns = self.now_ns + lot % LINK_BEGINS_NS;
                self.queue.push(at_ns, Event::Linked { node, peer });
            }
        }
    }

    /// A node hears that the link to a peer is there.
    pub(super) fn linked(&mut self, node: NodeId, peer: NodeId) {
        if !self.nodes[peer.0 as usize - 1].up || !self.nodes[node.0 as usize - 1].up {
            return;
        }
        let Some(format) = self.greet(node, peer).map(Formats::newest) else { return };
        let up = Some(self.setup.shards);
        let address = format!("node-{peer}:5679");
        let news = LinkNews { node: peer, address, snapshot: false, up, api_port: 0, format };
        self.for_each_core(node, |core| core.inbox.links.push(news.clone()));
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

/// A link is there within this time from the start of a node.
const LINK_BEGINS_NS: u64 = 30_000_000;

/// The end of a link is noticed within this time.
const LINK_ENDS_NS: u64 = 20_000_000;
