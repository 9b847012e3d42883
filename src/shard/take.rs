//! Taking the inbox: each fact to the partition it concerns, refusals at once.
//!
//! What the disk and the peers say comes before what callers ask, so that a command of this turn
//! meets the newest leadership. Calls of other shards' partitions leave as letters; a letter is
//! never passed on again.

use bytes::Bytes;
use raft::eraftpb::Message;

use super::{
    Settings, Shard,
    inbox::{Ask, Delivery, Inbox, Letter, LinkNews, Member, Request, Requests},
    outbox::Outbox,
    roster::{self, Founding},
    route,
};
use crate::{
    id::{Index, Mark, NodeId, PartitionId, ShardId, Ticket},
    limits::SNAPSHOT_CHUNK_BYTES_MAX,
    partition::{
        Partition,
        member::{self, Group},
        reply::{Event, Happening, Refusal},
    },
    time::Now,
    wire::bundle::{self, Piece, Post},
};

impl Shard {
    /// Takes everything.
    pub(super) fn take(&mut self, inbox: &mut Inbox, now: Now, outbox: &mut Outbox) {
        self.take_disk(inbox, outbox);
        self.take_peers(inbox, now);
        if std::mem::take(&mut inbox.drains) {
            self.drains = true;
            // At once, not with the next tick.
            for living in self.roster.iter_mut() {
                living.partition.wake(0);
                living.partition.hand_over();
            }
            let all: Vec<PartitionId> = self.partitions().map(Partition::id).collect();
            all.into_iter().for_each(|id| self.touch(id));
        }
        for (from, letter) in inbox.letters.drain(..) {
            self.take_letter(from, letter, now);
        }
        let requests = std::mem::take(&mut inbox.requests);
        for request in &requests.list {
            self.take_call(&requests, request, now);
        }
        inbox.requests = requests;
        inbox.requests.clear();
        for (partition, ticket) in inbox.gone.drain(..) {
            self.take_gone(partition, ticket);
        }
    }

    fn take_disk(&mut self, inbox: &mut Inbox, outbox: &mut Outbox) {
        for buffer in inbox.spent.drain(..) {
            self.journal.recycle(buffer);
        }
        if let Some(room) = inbox.disk.take() {
            let was_full = self.admit.is_disk_full();
            self.admit.disk(room);
            if !was_full && self.admit.is_disk_full() {
                self.disk_is_full();
            }
        }
        if let Some(mark) = inbox.durable.take() {
            self.take_durable(mark, outbox);
        }
    }

    fn take_durable(&mut self, mark: Mark, outbox: &mut Outbox) {
        self.journal.durable(mark, &mut outbox.orders);
        while self.recorded.front().is_some_and(|recorded| recorded.mark <= mark) {
            let mut recorded = self.recorded.pop_front().expect("there is a first one");
            for id in recorded.partitions.drain(..) {
                if let Some(living) = self.roster.get_mut(id) {
                    living.partition.durable(recorded.turn);
                    self.touch(id);
                }
            }
            // The disk bounds how many are needed at once, and those are all there ever are.
            self.recorded_spare.push(recorded.partitions);
        }
        while self.promised.front().is_some_and(|(promised, _)| *promised <= mark) {
            let (_, ticket) = self.promised.pop_front().expect("there is a first one");
            self.effects.replies.done(ticket);
        }
    }

    fn take_peers(&mut self, inbox: &mut Inbox, now: Now) {
        for (partition, peer) in std::mem::take(&mut self.dropped) {
            if let Some(living) = self.roster.get_mut(partition) {
                living.partition.lost(peer);
                self.touch(partition);
            }
        }
        for peer in inbox.lost.drain(..) {
            self.take_lost(peer);
        }
        for news in inbox.links.drain(..) {
            self.take_link(news, now);
        }
        for (partition, peer, delivery) in inbox.sent.drain(..) {
            if let Some(living) = self.roster.get_mut(partition) {
                living.partition.snapshot_sent(peer, delivery == Delivery::Arrived);
                self.touch(partition);
            }
        }
        for (peer, piece) in inbox.snapshots.drain(..) {
            self.take_piece(peer, piece, now);
        }
        for (peer, bytes) in inbox.bundles.drain(..) {
            self.take_bundle(peer, &bytes, now);
        }
        for peer in inbox.hung_up.drain(..) {
            self.take_hung_up(peer);
        }
    }

    fn take_link(&mut self, news: LinkNews, now: Now) {
        let LinkNews { node, address, snapshot, up, api_port, format } = news;
        if format > 0 {
            self.peer_formats.insert(node, format);
        }
        if let Some(shards) = up.filter(|shards| *shards > 0) {
            self.peer_shards.insert(node, shards);
            self.roster.note_port(node, api_port);
            self.away.remove(&node);
            self.tell_node(node);
            self.wake_led_with(node);
        }
        let what = match up {
            Some(_) => Happening::ConnectionEstablished { address, snapshot },
            None => Happening::ConnectionFailed { address, snapshot },
        };
        let (at, partition, local) = (Some(now.wall.0), PartitionId(0), self.settings.node);
        self.effects.events.push(Event { at, partition, local, what });
    }

    /// Callers who came through a peer that is not there for them any more.
    pub(super) fn hang_up_all(&mut self, guests: Vec<(PartitionId, Ticket)>) {
        for (partition, ticket) in guests {
            self.hang_up(partition, ticket);
        }
    }

    /// A link to or from the peer broke, or did not take something. Of snapshots on their way it
    /// says nothing: each has a stream of its own, and how that ended comes in `Inbox::sent`.
    fn take_lost(&mut self, peer: NodeId) {
        let guests = self.forward.lost(peer, &mut self.effects.replies);
        self.hang_up_all(guests);
        self.away.insert(peer);
        self.wake_led_with(peer);
        for living in self.roster.iter_mut() {
            let sends =
                living.partition.is_leader() && member::belongs(living.partition.conf(), peer);
            if !sends {
                continue;
            }
            living.partition.lost(peer);
            living.touch(&mut self.touched);
        }
    }

    fn take_hung_up(&mut self, peer: NodeId) {
        self.wake_with_node(peer);
        for living in self.roster.iter_mut() {
            living.partition.hung_up(peer);
            living.touch(&mut self.touched);
        }
    }

    fn take_bundle(&mut self, peer: NodeId, bytes: &Bytes, now: Now) {
        let Settings { node, formats, .. } = self.settings;
        let Ok((messages, post)) = bundle::decode(bytes, peer, node, formats) else {
            return self.broken_frame(peer);
        };
        for (partition, message, members) in messages {
            if self.roster.get(partition).is_none() {
                self.not_here(partition, peer, &message);
                continue;
            }
            self.meet(&members, now);
            self.take_message(partition, peer, message);
        }
        self.take_rests((peer, post.label.shard), &post);
        self.take_post(peer, post, now);
    }

    fn take_message(&mut self, id: PartitionId, peer: NodeId, message: Message) {
        let Some(living) = self.member_of(id, peer) else { return };
        if let Some(at) = living.partition.stranger(peer, &message) {
            return self.forward.dismiss((peer, self.owner_at(peer, id)), id, at);
        }
        living.partition.receive(message);
        self.touch(id);
    }

    fn broken_frame(&mut self, peer: NodeId) {
        self.stats.frames_broken += 1;
        let broken = self.stats.frames_broken;
        // Whoever sends such things sends many.
        if broken.is_power_of_two() {
            tracing::warn!(node = peer.0, broken, "a peer sent what cannot be read");
        }
    }

    /// Calls that a peer passed on, and answers to those that were passed on to it.
    fn take_post(&mut self, peer: NodeId, post: Post, now: Now) {
        let from = (peer, post.label.shard);
        // A bundle that overtook another, or came twice, is as bad as one that was lost.
        let whole = self.forward.hear(peer, &post, now);
        self.stats.posts_missed += u64::from(!whole);
        if !whole || post.missed {
            let guests = self.forward.missed(from, &mut self.effects.replies);
            self.hang_up_all(guests);
        }
        let Post { calls, answers, gone, notices, news, .. } = post;
        for notice in notices {
            self.take_notice(peer, &notice, now);
        }
        for news in news {
            self.take_news(peer, &news, now);
        }
        for answer in answers {
            self.forward.answered(from, answer, &mut self.effects.replies);
        }
        if !calls.is_empty() {
            let mut requests = Requests::default();
            for call in &calls {
                if let Some(asks) = call.wish.as_ref().and_then(|wish| wish.asks.as_ref()) {
                    self.meet(std::slice::from_ref(asks), now);
                }
                self.forward.arrived(from, call, now, &mut requests);
            }
            for request in &requests.list {
                self.take_own(&requests, request, now);
            }
        }
        // After the calls: one may have come and gone in the same turn.
        for number in gone {
            if let Some((partition, ticket)) = self.forward.left(from, number) {
                self.hang_up(partition, ticket);
            }
        }
    }

    fn take_piece(&mut self, peer: NodeId, piece: Piece, now: Now) {
        let Piece { partition, tag, number, last, bytes } = piece;
        if number == 0 {
            return self.take_head(peer, (partition, tag), &bytes, last, now);
        }
        if bytes.len() > SNAPSHOT_CHUNK_BYTES_MAX {
            return self.broken_frame(peer);
        }
        if let Some(living) = self.member_of(partition, peer) {
            living.partition.receive_slice((peer, tag), number, bytes, last);
            self.touch(partition);
        }
    }

    fn take_head(
        &mut self,
        peer: NodeId,
        (partition, tag): (PartitionId, u32),
        bytes: &Bytes,
        last: bool,
        now: Now,
    ) {
        let Settings { node, formats, .. } = self.settings;
        let read = bundle::decode_snapshot(bytes, peer, node, formats).ok();
        let read = read.filter(|received| received.partition == partition);
        let members = read.as_ref().and_then(|received| member::read_all(&received.members));
        let (Some(received), Some(members)) = (read, members) else {
            return self.broken_frame(peer);
        };
        if self.roster.get(partition).is_none() {
            return;
        }
        self.meet(&received.members, now);
        let rules = self.rules.clone();
        if let Some(living) = self.member_of(partition, peer) {
            living.partition.receive_snapshot(received.message, members, tag, last, &rules);
            self.touch(partition);
            if !self.arriving.contains(&partition) {
                self.arriving.push(partition);
            }
        }
    }

    /// A partition here, when `peer` has a say in it.
    pub(super) fn member_of(
        &mut self,
        partition: PartitionId,
        peer: NodeId,
    ) -> Option<&mut roster::Living> {
        let living = self.roster.get(partition)?;
        let known = self.knows(&living.partition, peer);
        self.roster.get_mut(partition).filter(|_| known)
    }

    fn take_letter(&mut self, from: ShardId, letter: Letter, now: Now) {
        match letter {
            Letter::Requests(requests) => {
                for request in &requests.list {
                    self.take_own(&requests, request, now);
                }
            }
            Letter::Replies(replies) => {
                for reply in &replies.list {
                    self.effects.replies.copy(&replies, reply);
                }
            }
            Letter::Gone(gone) => {
                for (partition, ticket) in gone {
                    self.hang_up(partition, ticket);
                }
            }
            Letter::Contacts(contacts) => self.moved |= self.news.hear_core(from, contacts),
        }
    }

    /// A call from a connection of this core.
    fn take_call(&mut self, requests: &Requests, request: &Request, now: Now) {
        if matches!(request.ask, Ask::WatchNode) {
            for shard in self.other_shards() {
                self.letters.request(shard, requests, request);
            }
            return self.take_own(requests, request, now);
        }
        let owner = route::owner(request.partition, self.settings.shards);
        if owner == self.settings.shard {
            self.take_own(requests, request, now);
        } else {
            self.letters.request(owner, requests, request);
        }
    }

    /// Where a call belongs whose partition is led by another node, as far as the replica here
    /// knows, or which has no replica here: then a member is asked, who knows. What was passed on
    /// once stays, but for a call that a stranger passed on to a member.
    pub(super) fn elsewhere(&mut self, request: &Request) -> Option<NodeId> {
        let living = self.roster.get_mut(request.partition);
        let from = self.forward.guest_of(request.ticket);
        let Some(living) = living else {
            return self.member_elsewhere(request.partition).filter(|_| from.is_none());
        };
        let members = living.partition.members();
        if from.is_some_and(|from| members.iter().any(|member| member.node == from)) {
            return None;
        }
        let (_, leader) = living.partition.leadership();
        // Whoever it came from does not lead, or it would not have passed it on.
        leader.filter(|node| *node != living.partition.node() && Some(*node) != from)
    }

    /// A call for a partition of this shard.
    pub(super) fn take_own(&mut self, requests: &Requests, request: &Request, now: Now) {
        let ticket = request.ticket;
        let taken = match &request.ask {
            _ if request.deadline.is_some_and(|deadline| deadline <= now.monotonic) => {
                Err(Refusal::Deadline)
            }
            Ask::Command => self.take_command(requests, request, now),
            Ask::Query { at_least } => self.take_query(requests, request, *at_least, now),
            Ask::WatchPartition => self.watch_partition(requests, request, now),
            Ask::WatchNode => {
                let absent = self.absent();
                self.roster.watch(ticket, &absent, &self.settings, &mut self.effects.replies);
                return;
            }
            Ask::Bootstrap { local, members } => {
                self.bootstrap(request.partition, *local, members, ticket, now)
            }
            Ask::Join { local, members } => {
                let caller = (ticket, request.deadline);
                self.join(request.partition, *local, members, caller, now)
            }
            Ask::Leave => self.leave(request.partition, (ticket, request.deadline), now),
            Ask::Change { change, passed } => self.take_change(request, change, *passed, now),
            Ask::Arrange { change, patience } => self.arrange(request, change, *patience, now),
            Ask::Describe { here } => self.describe(requests, request, *here, now),
        };
        match taken {
            // What stays here has touched it; what was passed on is not to be settled.
            Ok(()) if matches!(request.ask, Ask::Command | Ask::Query { .. }) => {}
            Ok(()) => self.touch(request.partition),
            Err(refusal) => {
                self.stats.refused += 1;
                self.effects.replies.refuse(ticket, refusal);
            }
        }
    }

    fn take_command(
        &mut self,
        requests: &Requests,
        request: &Request,
        now: Now,
    ) -> Result<(), Refusal> {
        let body = requests.body(request);
        let living = match self.roster.find(request.partition) {
            Ok(living) if living.partition.is_leader() => living,
            _ => match self.elsewhere(request) {
                Some(to) => return self.pass_on(to, requests, request, now),
                None => self.roster.find(request.partition)?,
            },
        };
        let state_bytes = living.partition.state_bytes();
        let quota = self.settings.state_bytes_max;
        let lane = self.admit.check(body, state_bytes, quota)?;
        let caller = (request.ticket, request.deadline);
        living.partition.propose(caller, body, lane, now, &self.rules)?;
        let load = living.partition.load();
        self.admit.moved(living.load, load);
        living.load = load;
        living.touch(&mut self.touched);
        self.stats.commands += 1;
        Ok(())
    }

    fn take_query(
        &mut self,
        requests: &Requests,
        request: &Request,
        at_least: Index,
        now: Now,
    ) -> Result<(), Refusal> {
        let living = match self.roster.find(request.partition) {
            Ok(living) if living.partition.is_leader() => living,
            _ => match self.elsewhere(request) {
                Some(to) => return self.pass_on(to, requests, request, now),
                None => self.roster.find(request.partition)?,
            },
        };
        let (ticket, body, rules) = (request.ticket, requests.body(request), &self.rules);
        living.partition.query(ticket, request.deadline, at_least, body, now, rules)?;
        living.touch(&mut self.touched);
        self.stats.queries += 1;
        Ok(())
    }

    fn bootstrap(
        &mut self,
        id: PartitionId,
        local: NodeId,
        members: &[Member],
        ticket: Ticket,
        now: Now,
    ) -> Result<(), Refusal> {
        if self.roster.check(id, local, members, &self.settings)? == Founding::Known {
            self.asked.push(ticket);
            return Ok(());
        }
        let members = members.to_vec();
        self.found(&Group { partition: id, local, members, joins: false }, now)?;
        self.asked.push(ticket);
        Ok(())
    }

    /// A caller of this core is gone.
    fn take_gone(&mut self, partition: PartitionId, ticket: Ticket) {
        if partition == PartitionId(0) {
            // It watched the node: every shard knows it.
            for shard in self.other_shards() {
                self.letters.gone(shard, partition, ticket);
            }
            return self.roster.unwatch(partition, ticket);
        }
        let owner = route::owner(partition, self.settings.shards);
        if owner == self.settings.shard {
            self.hang_up(partition, ticket);
        } else {
            self.letters.gone(owner, partition, ticket);
        }
    }

    pub(super) fn hang_up(&mut self, partition: PartitionId, ticket: Ticket) {
        if self.forward.gone(ticket) {
            return;
        }
        if let Some((partition, question)) = self.errands.gone(ticket) {
            if let Some(question) = question {
                self.hang_up(partition, question);
            }
            return;
        }
        self.roster.unwatch(partition, ticket);
        if let Some(living) = self.roster.get_mut(partition) {
            living.partition.gone(ticket);
            self.touch(partition);
        }
    }

    fn other_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let here = self.settings.shard;
        (0..self.settings.shards).map(ShardId).filter(move |shard| *shard != here)
    }
}
