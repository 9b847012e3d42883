//! How a shard follows and brings about changes of its groups' members: whom it knows, whom it
//! tells that they are none, and the joins and leaves that it was asked for.
//!
//! A node is known when a group here names it, or a change in a group's log that is not applied
//! yet, or when it was introduced lately by a message: a leader may be a member of whom this log
//! does not tell yet. Who was removed stays known for a while, to be told so. Absent on purpose:
//! the links, which follow `Outbox::book`, and the changes themselves (`partition/member.rs`).

use std::collections::BTreeMap;

use super::{
    Shard,
    errand::{Ended, Goal},
    inbox::{Ask, Change, Contact, Member, Request, Requests},
    ledger,
    roster::{self, Founding},
};
use crate::{
    id::{NodeId, PartitionId, Position, Ticket},
    limits::GUEST_NODES_MAX,
    partition::{Partition, member, member::Group, reply::Refusal},
    time::{Instant, Now, Span},
    wire::peer,
};

/// How long a node is known that no group here names.
const REMEMBERED: Span = Span::secs(60);

/// Nodes that are known for a while.
#[derive(Debug, Default)]
pub(super) struct GuestNodes {
    all: BTreeMap<NodeId, (Contact, Instant)>,
}

impl GuestNodes {
    /// Someone was introduced. Whether that is news.
    fn meet(&mut self, contact: Contact, now: Instant) -> bool {
        let node = contact.node;
        if self.all.len() >= GUEST_NODES_MAX && !self.all.contains_key(&node) {
            return false;
        }
        let known = self.all.insert(node, (contact.clone(), now.after(REMEMBERED)));
        known.is_none_or(|(known, _)| known != contact)
    }

    /// Forgets those not heard of for long. Whether there were any.
    fn forget(&mut self, now: Instant) -> bool {
        let before = self.all.len();
        self.all.retain(|_, (_, until)| *until > now);
        self.all.len() < before
    }

    /// When the next one is forgotten.
    pub fn earliest(&self) -> Option<Instant> {
        self.all.values().map(|(_, until)| *until).min()
    }
}

impl Shard {
    /// Where the nodes are that are known here, each once; what a group says counts more than what
    /// was said by the way, and that more than with whom this node was founded.
    pub(super) fn contacts(&self) -> Vec<Contact> {
        let founders = self.settings.placement.nodes().iter().cloned();
        let heard_of = self.news.contacts();
        let mut all: BTreeMap<NodeId, Contact> =
            heard_of.chain(founders).map(|contact| (contact.node, contact)).collect();
        all.extend(
            self.guest_nodes.all.iter().map(|(node, (contact, _))| (*node, contact.clone())),
        );
        all.extend(self.group_contacts().map(|contact| (contact.node, contact)));
        all.into_values().collect()
    }

    /// Where those are that share a group with this core.
    pub(super) fn group_contacts(&self) -> impl Iterator<Item = Contact> + '_ {
        self.roster.iter().flat_map(|living| {
            let newcomers = living.partition.newcomers();
            let members = newcomers.chain(living.partition.members().iter().cloned());
            members.map(|member| contact(&member))
        })
    }

    /// Whether `peer` has a say in a partition here: as its member, or as one who may be.
    pub(super) fn knows(&self, partition: &Partition, peer: NodeId) -> bool {
        partition.members().iter().any(|member| member.node == peer)
            || self.guest_nodes.all.contains_key(&peer)
            || partition.newcomers().any(|member| member.node == peer)
    }

    /// A message introduced members of a partition here.
    pub(super) fn meet(&mut self, members: &[peer::Member], now: Now) {
        for member in members.iter().filter_map(member::read) {
            if member.node != self.settings.node {
                self.moved |= self.guest_nodes.meet(contact(&member), now.monotonic);
            }
        }
    }

    /// What changed in this turn: who went is told so and stays known for a while.
    pub(super) fn take_changes(&mut self, now: Now) {
        if self.effects.changed.is_empty() {
            return;
        }
        for (id, gone) in std::mem::take(&mut self.effects.changed) {
            self.moved = true;
            let Some(living) = self.roster.get_mut(id) else { continue };
            let (leads, at) = (living.partition.is_leader(), living.partition.members_at());
            for member in gone.iter().filter(|member| member.node != self.settings.node) {
                self.guest_nodes.meet(contact(member), now.monotonic);
                if leads {
                    self.forward.dismiss((member.node, self.owner_at(member.node, id)), id, at);
                }
            }
            self.tell_others(id);
        }
        self.set_tick(now);
    }

    /// A member of a partition here says that this node is none any more.
    pub(super) fn take_notice(&mut self, peer: NodeId, notice: &peer::Notice, now: Now) {
        let (id, position) = (PartitionId(notice.partition), Position(notice.position));
        let known = self.roster.get_mut(id).is_some_and(|living| {
            living.partition.members().iter().any(|member| member.node == peer)
        });
        if !known && !self.guest_nodes.all.contains_key(&peer) {
            return;
        }
        if let Some(living) = self.roster.get_mut(id) {
            living.partition.dismissed(position);
            let removed = living.partition.is_removed();
            self.touch(id);
            if removed {
                self.forward.moved(id, None, &mut self.effects.replies);
                self.set_tick(now);
            }
        }
    }

    /// `Node.Join`.
    pub(super) fn join(
        &mut self,
        id: PartitionId,
        local: NodeId,
        members: &[Member],
        caller: (Ticket, Option<Instant>),
        now: Now,
    ) -> Result<(), Refusal> {
        let founding = self.roster.check_join(id, local, members, &self.settings)?;
        let me = members.iter().find(|member| member.node == local);
        let me = me.expect("the check saw this node among the members").clone();
        if self.errands.is_leaving(id) {
            return Err(Refusal::Precondition(format!("this node is leaving group {id}")));
        }
        if founding == Founding::New {
            let members = members.to_vec();
            self.found(&Group { partition: id, local, members, joins: true }, now)?;
        }
        self.errands.begin(id, caller, Goal::Join(me), now)
    }

    /// A replica begins here.
    pub(super) fn found(&mut self, group: &Group, now: Now) -> Result<(), Refusal> {
        let founding = ledger::founding(group);
        if !self.journal.has_room_for(&founding) {
            return Err(Refusal::Full("the journal's segments are too small for another group"));
        }
        self.journal.founded(group.partition, &founding);
        self.news.forget(group.partition);
        let partition = Partition::found(group, &self.rules);
        self.roster.add(partition, group.members.clone());
        self.tell_others(group.partition);
        self.moved = true;
        roster::founded(group, now.wall.0, &mut self.effects.events);
        self.set_tick(now);
        Ok(())
    }

    /// `Node.Leave`: at once when nobody else belongs to the group, else when its leader has let
    /// this node go.
    pub(super) fn leave(
        &mut self,
        id: PartitionId,
        caller: (Ticket, Option<Instant>),
        now: Now,
    ) -> Result<(), Refusal> {
        if self.roster.remove_damaged(id) {
            self.journal.left(id);
            self.asked.push(caller.0);
            return Ok(());
        }
        let Some(living) = self.roster.get_mut(id) else {
            return Err(Refusal::NotFound(format!("group {id} is not here")));
        };
        let free = living.partition.may_go();
        self.forget_joins(id);
        if free {
            self.give_up(id, caller.0, now);
            return Ok(());
        }
        self.errands.begin(id, caller, Goal::Leave(self.settings.node), now)
    }

    /// Whoever asked that this node joins is told that it leaves.
    fn forget_joins(&mut self, id: PartitionId) {
        for (caller, question) in self.errands.forget_joins(id) {
            let refusal = Refusal::Precondition(format!("this node is leaving group {id}"));
            self.effects.replies.refuse(caller, refusal);
            if let Some(question) = question {
                self.hang_up(id, question);
            }
        }
    }

    /// Deletes what is here of a partition; the caller is told when that is durable.
    fn give_up(&mut self, id: PartitionId, ticket: Ticket, now: Now) {
        let Some(mut living) = self.roster.remove(id, &mut self.effects.replies) else {
            // Another caller's leave was faster.
            return self.asked.push(ticket);
        };
        self.moved = true;
        // Who calls for it is passed on to those who stay.
        let (here, at) = (self.settings.node, living.partition.members_at());
        let stay = living.partition.members().iter().filter(|member| member.node != here);
        self.news.hear(id, at, None, stay.cloned().collect());
        self.forward.moved(id, None, &mut self.effects.replies);
        living.partition.leave(&mut self.effects.replies);
        let _ = living.partition.settle(now, &self.rules, &mut self.effects);
        // Its last messages leave; what it would record goes with it.
        self.effects.records.retain(|(partition, _)| *partition != id);
        self.effects.changed.retain(|(partition, _)| *partition != id);
        self.admit.moved(living.load, crate::partition::Load::default());
        self.touched.retain(|touched| *touched != id);
        self.hungry.retain(|hungry| *hungry != id);
        if self.effects.snapshot_of == Some(id) {
            self.effects.snapshot_of = None;
        }
        self.wake.set(id, None);
        self.forget_rest(id, living.resting.take());
        self.journal.left(id);
        self.asked.push(ticket);
        self.set_tick(now);
    }

    /// Errands that came to their end are answered, the others ask on.
    pub(super) fn run_errands(&mut self, now: Now) {
        self.moved |= self.guest_nodes.forget(now.monotonic);
        let roster = &self.roster;
        let led = |id| roster.get(id).is_some_and(|it| it.partition.leadership().1.is_some());
        let (ended, lost) = self.errands.end(now.monotonic, led);
        for (id, ticket) in lost {
            self.hang_up(id, ticket);
        }
        for ended in ended {
            self.end_errand(ended, now);
        }
        for number in self.errands.due(now.monotonic) {
            self.ask_for(number, now);
        }
    }

    fn end_errand(&mut self, ended: Ended, now: Now) {
        let Ended { partition, ticket, goal, result } = ended;
        match (result, goal) {
            (Ok(()), Goal::Join(_) | Goal::Arrange(..)) => self.effects.replies.done(ticket),
            (Ok(()), Goal::Leave(_)) => self.give_up(partition, ticket, now),
            (Err(refusal), _) => {
                self.stats.refused += 1;
                self.effects.replies.refuse(ticket, refusal);
            }
        }
    }

    /// The next question of an errand.
    fn ask_for(&mut self, number: u32, now: Now) {
        let (me, ticket) = (self.settings.node, self.errands.ticket(number));
        let Some(id) = self.errands.get_mut(number).map(|errand| errand.partition) else { return };
        let mut others: Vec<NodeId> = self.members_elsewhere(id).collect();
        others.sort_by_key(|node| self.away.contains(node));
        let Some(errand) = self.errands.get_mut(number) else { return };
        let change = errand.change();
        let arranges = matches!(errand.goal, Goal::Arrange(..));
        let (leads, to) = match self.roster.get(id) {
            Some(living) => {
                let (_, leader) = living.partition.leadership();
                let members = living.partition.members().iter().map(|member| member.node);
                let others: Vec<NodeId> = members.filter(|node| *node != me).collect();
                let to = leader.filter(|leader| *leader != me).or_else(|| errand.whom(&others));
                (living.partition.is_leader(), to)
            }
            None if arranges => (false, errand.whom(&others)),
            None => {
                // It left meanwhile; whoever asked hears that.
                errand.ask(ticket, now.monotonic);
                let gone = Refusal::Precondition(format!("group {id} has left this node"));
                return self.effects.replies.refuse(ticket, gone);
            }
        };
        let until = errand.ask(ticket, now.monotonic);
        let (ask, body) = (Ask::Change { change, passed: false }, 0..0);
        let request = Request { ticket, partition: id, deadline: Some(until), ask, body };
        let none = Requests::default();
        let taken = match to {
            _ if leads => return self.take_own(&none, &request, now),
            Some(to) => self.pass_on(to, &none, &request, now),
            None if arranges && self.roster.is_absent(id) => Err(Refusal::UnknownPartition(id)),
            None => Err(Refusal::Unavailable("the group has no other member")),
        };
        if let Err(refusal) = taken {
            self.effects.replies.refuse(ticket, refusal);
        }
    }

    /// Passes a request on to a node; a wish says who this node is, which may be no member.
    pub(super) fn pass_on(
        &mut self,
        to: NodeId,
        requests: &Requests,
        request: &Request,
        now: Now,
    ) -> Result<(), Refusal> {
        let id = request.partition;
        let place = (to, self.owner_at(to, id));
        let me = self.settings.node;
        let asks = self.roster.get(id).and_then(|living| {
            let members = living.partition.members().iter().chain(&living.members);
            members.into_iter().find(|member| member.node == me)
        });
        self.forward.pass(place, requests, request, asks, now)?;
        self.stats.passed_on += 1;
        Ok(())
    }

    /// What a caller, here or elsewhere, wants of a group's members.
    pub(super) fn take_change(
        &mut self,
        request: &Request,
        change: &Change,
        passed: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        let (id, me) = (request.partition, self.settings.node);
        roster::check_change(change)?;
        let living = self.roster.find(id)?;
        if living.partition.node() != me {
            let local = living.partition.node();
            return Err(Refusal::Precondition(format!(
                "this is node {me} and not {local}, as the group was founded: it stays alone"
            )));
        }
        if living.partition.is_leader() {
            return living.partition.change(request.ticket, change.clone(), request.deadline);
        }
        let (_, leader) = living.partition.leadership();
        let leader = leader.filter(|leader| *leader != me && !passed);
        let Some(leader) = leader else {
            return Err(Refusal::Unavailable("this node does not lead the group"));
        };
        let ask = Ask::Change { change: change.clone(), passed: true };
        let request = Request { ask, body: 0..0, ..request.clone() };
        self.pass_on(leader, &Requests::default(), &request, now)
    }
}

pub(super) fn contact(member: &Member) -> Contact {
    Contact { node: member.node, host: member.host.clone(), port: member.port }
}
