//! Sealing: what partitions want becomes blocks, bundles, letters and replies.
//!
//! The records of all partitions go to the journal in the order in which they were settled and are
//! sealed together; all messages to one peer shard become one bundle. Callers who were promised
//! something durable are answered when the mark that covers it comes back.
//!
//! While the disk has as many blocks as it writes at a time, what is recorded gathers in one: a
//! block more would only queue, and of a follower, to which a bundle comes for each of its leader's
//! turns, thousands would on a disk that is slow. The turn that hears of a write's end seals it.

use super::{Recorded, Shard, ledger, outbox::Outbox, outbox::SnapshotOut, route};
use crate::{
    id::{Mark, NodeId, Position, ShardId},
    journal::Order,
    limits::BUNDLE_BYTES_MAX,
    partition::{
        Partition,
        effects::{Departure, Record},
        member,
        reply::Happening,
    },
    time::Now,
    wire::bundle,
};

impl Shard {
    /// Fills the outbox.
    pub(super) fn seal(&mut self, now: Now, outbox: &mut Outbox) {
        for event in &self.effects.events {
            if let Happening::LeaderUpdated { leader, .. } = event.what {
                self.forward.moved(event.partition, leader, &mut self.effects.replies);
            }
        }
        self.take_changes(now);
        // Some watch from other nodes.
        self.roster.tell(&self.effects.events, &self.settings, &mut self.effects.replies);
        self.forward.take_guests(&mut self.effects.replies);
        self.errands.hear(&mut self.effects.replies);
        self.seal_records(outbox);
        self.seal_messages(now, outbox);
        if self.forward.waits() {
            self.set_tick(now);
        }
        self.seal_snapshots(outbox);
        outbox.book = std::mem::take(&mut self.moved).then(|| self.contacts());
        if outbox.book.is_some() {
            self.tell_cores();
        }
        self.letters.take_foreign(self.settings.shard, &mut self.effects.replies);
        self.letters.seal(&mut outbox.letters);
        std::mem::swap(&mut self.effects.replies, &mut outbox.replies);
        outbox.leads = self.drains && self.partitions().any(Partition::can_hand_over);
        outbox.admission = self.admit.admission();
        let wakes = self.wake.earliest().into_iter().chain(self.next_tick);
        outbox.wake = wakes.chain(self.errands.wake()).chain(self.guest_nodes.earliest()).min();
        // A snapshot that waits for the disk goes on when that reports.
        let eats = !self.hungry.is_empty() && self.snapshot_budget_bytes() > 0;
        if eats || !self.touched.is_empty() {
            outbox.wake = Some(now.monotonic);
        }
    }

    fn seal_records(&mut self, outbox: &mut Outbox) {
        let mut partitions = self.recorded_spare.pop().unwrap_or_default();
        let mut slices = false;
        for (partition, record) in &self.effects.records {
            slices |= matches!(record, Record::SnapshotSlice(_));
            if let Some(place) = ledger::write(&mut self.journal, *partition, record)
                && let Some(living) = self.roster.get_mut(*partition)
            {
                living.partition.placed(place);
            }
            if partitions.last() != Some(partition) {
                partitions.push(*partition);
            }
        }
        self.effects.records.clear();
        let before = outbox.orders.len();
        let mark = if self.is_disk_busy() {
            self.journal.gather(&mut outbox.orders)
        } else {
            self.journal.seal(&mut outbox.orders)
        };
        for order in &outbox.orders[before..] {
            if let Order::Write(block) = order {
                self.stats.blocks += 1;
                self.stats.block_bytes += block.bytes as u64;
            }
        }
        if partitions.is_empty() {
            self.recorded_spare.push(partitions);
        } else if let Some(last) = self.recorded.back_mut().filter(|last| last.mark == mark) {
            last.turn = self.turn;
            last.partitions.append(&mut partitions);
            last.partitions.sort_unstable();
            last.partitions.dedup();
            self.recorded_spare.push(partitions);
        } else {
            self.recorded.push_back(Recorded { mark, turn: self.turn, partitions });
        }
        if slices {
            self.slices_at = mark;
        }
        self.promise(mark);
    }

    /// Callers of this turn are answered when everything recorded so far is durable; at once when
    /// it is.
    fn promise(&mut self, mark: Mark) {
        for ticket in self.asked.drain(..) {
            if mark <= self.journal.durable_mark() {
                self.effects.replies.done(ticket);
            } else {
                self.promised.push_back((mark, ticket));
            }
        }
    }

    fn seal_messages(&mut self, now: Now, outbox: &mut Outbox) {
        let mut peers: Vec<Bundling> = Vec::new();
        for (partition, message) in self.effects.messages.drain(..) {
            let to = NodeId(u32::try_from(message.to).expect("members are nodes"));
            let living = self.roster.get_mut(partition);
            let introduced = living.map_or(&[][..], |living| living.partition.introduces(&message));
            let introduced: Vec<_> = introduced.iter().map(member::written).collect();
            let bytes = bundle::estimate_bytes(&message) + introduced.len() * MEMBER_BYTES;
            let shard = route::owner_at(&self.peer_shards, self.settings.shards, to, partition);
            let place = peers.iter().position(|peer| (peer.to, peer.shard) == (to, shard));
            let place = place.unwrap_or_else(|| {
                let (messages, post) = (Vec::new(), bundle::Post::default());
                peers.push(Bundling { to, shard, bytes: 0, messages, post });
                peers.len() - 1
            });
            let peer = &mut peers[place];
            if peer.bytes + bytes > BUNDLE_BYTES_MAX {
                self.stats.messages_dropped += 1;
                self.dropped.push((partition, to));
                self.touched.extend(self.roster.get_mut(partition).and_then(|living| {
                    (!std::mem::replace(&mut living.touched, true)).then_some(partition)
                }));
                continue;
            }
            peer.bytes += bytes;
            peer.messages.push((partition, message, introduced));
        }
        for ((to, shard), post) in self.forward.take_posts() {
            let same = |peer: &Bundling| (peer.to, peer.shard) == (to, shard);
            match peers.iter().position(|peer| same(peer) && peer.post.is_empty()) {
                Some(place) => peers[place].post = post,
                None => peers.push(Bundling { to, shard, bytes: 0, messages: Vec::new(), post }),
            }
        }
        for mut peer in peers {
            self.forward.label((peer.to, peer.shard), &mut peer.post, now);
            self.rests.say((peer.to, peer.shard), &mut peer.post);
            let format = route::format_to(&self.peer_formats, self.settings.formats, peer.to);
            let bytes = bundle::encode(peer.messages, peer.post, format);
            self.stats.bundles += 1;
            self.stats.bundle_bytes += bytes.len() as u64;
            outbox.bundles.push((peer.to, peer.shard, bytes));
        }
    }

    fn seal_snapshots(&mut self, outbox: &mut Outbox) {
        for departure in self.effects.snapshots.drain(..) {
            let Departure { partition, message, members, places } = departure;
            let to = NodeId(u32::try_from(message.to).expect("members are nodes"));
            let position = Position(message.get_snapshot().get_metadata().index);
            let members = members.iter().map(member::written).collect();
            let format = route::format_to(&self.peer_formats, self.settings.formats, to);
            let head = bundle::encode_snapshot(partition, &message, members, format);
            self.stats.snapshots_sent += 1;
            let shard = route::owner_at(&self.peer_shards, self.settings.shards, to, partition);
            outbox.snapshots.push(SnapshotOut { to, shard, partition, position, head, places });
        }
        let roster = &self.roster;
        outbox.snapshot_bytes_waiting = 0;
        self.arriving.retain(|id| {
            let bytes = roster.get(*id).and_then(|living| living.partition.arriving_bytes());
            outbox.snapshot_bytes_waiting += bytes.unwrap_or(0);
            bytes.is_some()
        });
    }
}

/// What a member takes in a message, with a host name of usual length.
const MEMBER_BYTES: usize = 48;

struct Bundling {
    to: NodeId,
    shard: ShardId,
    bytes: usize,
    messages: bundle::Messages,
    post: bundle::Post,
}
