//! Faults as they happen to a world, and their end.
//!
//! Absent on purpose: which faults, and when (`fault.rs`).

use super::{Event, World};
use crate::id::{NodeId, PartitionId};
use crate::prng::{Prng, mix};
use crate::shard::inbox::DiskRoom;
use crate::sim::coverage::Seen;
use crate::sim::disk::ROT_WITHIN;
use crate::sim::fault::What;
use crate::sim::net::Manners;
use crate::wire::format::Formats;

/// Keeps this apart from what else hangs on the seed.
const WIPED: u64 = 0x7769_7065;

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
                self.history.coverage.note(Seen::Destroyed);
                self.crash(node, None);
                self.nodes[node.0 as usize - 1].destroyed = true;
            }
            What::Wipe { node, down_ns } => self.wipe(node, down_ns),
            What::Restart { node, drains_ns, down_ns, formats } => {
                self.end(node, drains_ns, down_ns, formats);
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
            What::Step { node, by_ns } => {
                self.history.coverage.note(Seen::ClockStep);
                self.nodes[node.0 as usize - 1].clock.step(by_ns);
            }
            What::Slow { node, factor, for_ns } => {
                self.nodes[node.0 as usize - 1].slow = factor;
                self.queue.push(self.now_ns + for_ns, Event::Pace { node });
            }
            What::Full { node, for_ns } => {
                self.history.coverage.note(Seen::DiskFull);
                self.tell_room(node, DiskRoom::Full);
                self.queue.push(self.now_ns + for_ns, Event::Room { node });
            }
            What::Rumour { node } => self.hears_of_all(node),
        }
    }

    /// A node loses everything and comes back with nothing.
    fn wipe(&mut self, node: NodeId, down_ns: u64) {
        self.history.coverage.note(Seen::Wiped);
        self.crash(node, Some(down_ns));
        let lot = mix(self.setup.seed ^ mix(self.now_ns ^ WIPED));
        let known = &mut self.nodes[node.0 as usize - 1];
        known.incarnation = lot;
        for core in &mut known.cores {
            core.wipe(&self.setup, Prng::new(lot ^ u64::from(core.id.0)));
        }
        self.forget(node);
    }

    /// A node is told to end: it hands over what it leads, and ends a while later.
    fn end(&mut self, node: NodeId, drains_ns: u64, down_ns: u64, formats: Option<Formats>) {
        let leads = self.leads_anything(node);
        let known = &mut self.nodes[node.0 as usize - 1];
        known.drains = known.up.then_some(leads);
        let (life, formats) = (known.life, formats.unwrap_or(known.formats));
        self.for_each_core(node, |core| core.inbox.drains = true);
        let event = Event::Stop { node, life, down_ns, formats };
        self.queue.push(self.now_ns + drains_ns, event);
    }

    /// It ends, unless it has lost power meanwhile; its program is another one in any case.
    pub(super) fn stop(&mut self, node: NodeId, life: u64, down_ns: u64, formats: Formats) {
        let leads = self.leads_anything(node);
        let known = &mut self.nodes[node.0 as usize - 1];
        let handed_over = known.drains.take() == Some(true) && !leads && known.life == life;
        self.history.coverage.add(Seen::HandedOver, u64::from(handed_over));
        if known.formats != formats {
            self.history.coverage.note(Seen::Upgraded);
        }
        let ends = known.life == life || known.formats != formats;
        known.formats = formats;
        if ends {
            self.crash(node, Some(down_ns));
        }
    }

    fn leads_anything(&self, node: NodeId) -> bool {
        self.replicas(node).iter().any(|replica| replica.leads)
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
