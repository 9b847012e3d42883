//! What nodes notice of each other's links beside what these carry: that they ended.
//!
//! A process that ends is noticed, a host that loses power is not: each happens. Absent on purpose:
//! links that come back, which shards notice by what they carry.

use super::{Event, World};
use crate::id::NodeId;
use crate::prng::mix;

impl World {
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

/// The end of a link is noticed within this time.
const LINK_ENDS_NS: u64 = 20_000_000;
