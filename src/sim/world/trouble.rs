//! Faults as they happen to a world, and their end.
//!
//! Absent on purpose: which faults, and when (`fault.rs`).

use super::{Event, World};
use crate::id::{NodeId, PartitionId};
use crate::shard::inbox::DiskRoom;
use crate::sim::disk::ROT_WITHIN;
use crate::sim::fault::What;
use crate::sim::net::Manners;

impl World {
    /// A fault happens now.
    pub fn strike(&mut self, what: What) {
        let what = what.aimed(self.leader(PartitionId(1)).map_or(NodeId(1), |(node, _)| node));
        self.trace.tell(self.now_ns, || format!("{what:?}"));
        match what {
            What::Crash { node, down_ns } => self.crash(node, Some(down_ns)),
            What::Rot { node, down_ns, bits } => {
                self.crash(node, Some(down_ns));
                let known = &mut self.nodes[node.0 as usize - 1];
                known.rotten = true;
                for _ in 0..bits {
                    let place = self.prng.below(known.cores.len() as u64) as usize;
                    known.cores[place].disk.rot(ROT_WITHIN);
                }
            }
            What::Destroy { node } => {
                self.crash(node, None);
                self.nodes[node.0 as usize - 1].destroyed = true;
            }
            What::Blackout { down_ns } => {
                for id in self.ids() {
                    let later_ns = self.prng.below(50_000_000);
                    self.crash(id, Some(down_ns + later_ns));
                }
            }
            What::Pause { node, for_ns } => {
                let until_ns = self.now_ns + for_ns;
                let node = &mut self.nodes[node.0 as usize - 1];
                node.paused_until_ns = node.paused_until_ns.max(until_ns);
            }
            What::Cut { links, for_ns } => {
                for (from, to) in &links {
                    self.net.cut(*from, *to);
                }
                self.queue.push(self.now_ns + for_ns, Event::Mend { links });
            }
            What::Alone { node, hears, speaks, for_ns } => {
                let peers = self.ids().filter(|peer| *peer != node);
                let links: Vec<_> = peers
                    .flat_map(|peer| [(hears, (peer, node)), (speaks, (node, peer))])
                    .filter(|(open, _)| !open)
                    .map(|(_, link)| link)
                    .collect();
                self.strike(What::Cut { links, for_ns });
            }
            What::Step { node, by_ns } => self.nodes[node.0 as usize - 1].clock.step(by_ns),
            What::Slow { node, factor, for_ns } => {
                self.nodes[node.0 as usize - 1].slow = factor;
                self.queue.push(self.now_ns + for_ns, Event::Pace { node });
            }
            What::Full { node, for_ns } => {
                self.tell_room(node, DiskRoom::Full);
                self.queue.push(self.now_ns + for_ns, Event::Room { node });
            }
            What::Rumour { node } => self.hears_of_all(node),
        }
    }

    /// Everything is mended: links carry, disks are quick and have room, clocks run, nodes start.
    pub fn heal(&mut self) {
        self.trace.tell(self.now_ns, || "everything is mended".to_owned());
        self.net.mend();
        self.net.manners = Manners::calm();
        for id in self.ids() {
            let node = &mut self.nodes[id.0 as usize - 1];
            node.paused_until_ns = 0;
            node.slow = 1;
            if !node.up {
                self.boot(id);
            }
            self.tell_room(id, DiskRoom::Enough);
        }
    }
}
