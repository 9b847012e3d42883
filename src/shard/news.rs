//! Groups that have no replica here: who belongs to them, so that their calls can be passed on.
//!
//! Every member tells the nodes that it is linked to and that do not belong to the group: when a
//! link comes up and when members change. What each node can work out from the cluster's
//! configuration (`placement.rs`) is not told. So a node learns of the groups of those with whom it
//! shares a group, or whom its configuration names; one that has neither has no links and learns
//! nothing. What was heard is forgotten with the process and told again when links come up.
//!
//! A node that has left a group, and hears from its leader all the same, says so: it was admitted
//! by a question that came late, and is no member that anybody may count on.

use std::collections::BTreeMap;

use raft::eraftpb::{Message, MessageType};

use super::{
    Partition, Shard,
    inbox::{Contact, Member},
    members::contact,
    route,
};
use crate::{
    id::{NodeId, PartitionId, Position, ShardId, Term},
    limits::GROUPS_HEARD_OF_MAX,
    partition::{
        member,
        reply::{Event, Happening},
    },
    time::Now,
    wire::peer,
};

/// Groups that were heard of.
#[derive(Debug, Default)]
pub(super) struct News {
    groups: BTreeMap<PartitionId, Heard>,
    /// Nodes that share a group with another core, and those that others were told of.
    cores: BTreeMap<ShardId, Vec<Contact>>,
    told: Vec<Contact>,
}

#[derive(Debug)]
struct Heard {
    /// Where the change of members stands that made them so.
    at: Position,
    /// Who said so, and is asked first.
    from: Option<NodeId>,
    members: Vec<Member>,
}

impl News {
    /// Someone said who belongs to a group; whether that is news, and whether the group is.
    pub fn hear(
        &mut self,
        id: PartitionId,
        at: Position,
        from: Option<NodeId>,
        members: Vec<Member>,
    ) -> (bool, bool) {
        let before = self.groups.get(&id);
        let full = before.is_none() && self.groups.len() >= GROUPS_HEARD_OF_MAX;
        if members.is_empty() || full || before.is_some_and(|before| before.at > at) {
            return (false, false);
        }
        let changed = before.is_none_or(|before| before.members != members);
        let known = self.groups.insert(id, Heard { at, from, members });
        (changed, known.is_none())
    }

    /// It has a replica here now.
    pub fn forget(&mut self, id: PartitionId) {
        self.groups.remove(&id);
    }

    /// Another core says which nodes share a group with it; whether that is news.
    pub fn hear_core(&mut self, from: ShardId, contacts: Vec<Contact>) -> bool {
        self.cores.insert(from, contacts.clone()).is_none_or(|before| before != contacts)
    }

    /// Where all nodes are that were heard of.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> + '_ {
        let members = self.groups.values().flat_map(|heard| &heard.members);
        members.map(contact).chain(self.cores.values().flatten().cloned())
    }
}

impl Shard {
    /// Partitions of the cluster that would be this shard's, and have no replica on this node.
    pub(super) fn absent(&self) -> Vec<PartitionId> {
        let (here, shards) = (self.settings.shard, self.settings.shards);
        let placed = self.settings.placement.partitions();
        let placed = placed.filter(|id| self.members_elsewhere(*id).next().is_some());
        let mut all: Vec<PartitionId> = placed.chain(self.news.groups.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|id| route::owner(*id, shards) == here && self.roster.is_absent(*id));
        all
    }

    /// A member of a partition that is not here, one that is reached if there is one.
    pub(super) fn member_elsewhere(&self, partition: PartitionId) -> Option<NodeId> {
        if !self.roster.is_absent(partition) {
            return None;
        }
        let others = self.members_elsewhere(partition);
        let mut reached = others.filter(|node| !self.away.contains(node));
        reached.next().or_else(|| self.members_elsewhere(partition).next())
    }

    /// The members of a partition that is not here, as far as is known: as they were heard of, else
    /// those who founded it.
    pub(super) fn members_elsewhere(
        &self,
        partition: PartitionId,
    ) -> impl Iterator<Item = NodeId> + '_ {
        let here = self.settings.node;
        let heard = self.news.groups.get(&partition);
        let first = heard.and_then(|heard| heard.from);
        let told = heard.into_iter().flat_map(|heard| &heard.members).map(|member| member.node);
        let founders = self.settings.placement.members(partition).map(|member| member.node);
        let founders = founders.filter(move |_| heard.is_none());
        let rest = told.filter(move |node| Some(*node) != first);
        first.into_iter().chain(rest).chain(founders).filter(move |node| *node != here)
    }

    /// A leader speaks to this node of a partition that is not here: should it have left, the
    /// leader hears of it.
    pub(super) fn not_here(&mut self, id: PartitionId, peer: NodeId, message: &Message) {
        let leads = [MessageType::MsgAppend, MessageType::MsgHeartbeat];
        if leads.contains(&message.get_msg_type()) && self.roster.has_left(id) {
            let news = peer::GroupNews { partition: id.0, left: true, ..Default::default() };
            self.forward.tell((peer, self.owner_at(peer, id)), news);
        }
    }

    /// A peer says something of a group.
    pub(super) fn take_news(&mut self, peer: NodeId, news: &peer::GroupNews, now: Now) {
        let (id, at) = (PartitionId(news.partition), Position(news.position));
        if news.left {
            if let Some(living) = self.roster.get_mut(id) {
                living.partition.left(peer);
                self.touch(id);
            }
            return;
        }
        let members = member::read_all(&news.members).unwrap_or_default();
        let speaks = members.iter().any(|member| member.node == peer);
        let belongs = members.iter().any(|member| member.node == self.settings.node);
        // Who is to join, or to be told that it is none any more, hears that otherwise.
        if id.0 == 0 || !speaks || belongs || !self.roster.is_absent(id) {
            return;
        }
        let (changed, new) = self.news.hear(id, at, Some(peer), members);
        self.moved |= changed;
        if new && self.settings.placement.members(id).next().is_none() {
            // Clients spread keys by the number of partitions.
            let what = Happening::LeaderUpdated { term: Term(0), leader: None };
            let (at, local) = (Some(now.wall.0), self.settings.node);
            self.effects.events.push(Event { at, partition: id, local, what });
        }
    }

    /// The other cores hear which nodes share a group with this one: they too link to those, to
    /// tell them of their groups and to take what they pass on.
    pub(super) fn tell_cores(&mut self) {
        let here = self.settings.node;
        let own = self.group_contacts().map(|contact| (contact.node, contact));
        let own: BTreeMap<NodeId, Contact> = own.filter(|(node, _)| *node != here).collect();
        let own: Vec<Contact> = own.into_values().collect();
        if self.settings.shards > 1 && own != self.news.told {
            self.letters.contacts(self.settings.shard, &own);
            self.news.told = own;
        }
    }

    /// A node is linked: it is told of the groups here that are not its own.
    pub(super) fn tell_node(&mut self, node: NodeId) {
        let all: Vec<PartitionId> = self.partitions().map(Partition::id).collect();
        for id in all {
            self.tell(id, node);
        }
    }

    /// The nodes that are linked and do not belong to a group hear who does.
    pub(super) fn tell_others(&mut self, id: PartitionId) {
        let linked = self.peer_shards.keys().filter(|node| !self.away.contains(node));
        for node in linked.copied().collect::<Vec<_>>() {
            self.tell(id, node);
        }
    }

    fn tell(&mut self, id: PartitionId, node: NodeId) {
        let Some(living) = self.roster.get(id) else { return };
        let partition = &living.partition;
        let members = partition.members();
        let belongs = |node: NodeId| members.iter().any(|member| member.node == node);
        let placement = &self.settings.placement;
        let mut placed = placement.members(id).map(|contact| contact.node);
        let knows = placement.nodes().iter().any(|contact| contact.node == node)
            && placed.clone().count() == members.len()
            && placed.all(belongs);
        // Who joins does not know who belongs to it yet.
        let sure = partition.has_members() && belongs(partition.node()) && !partition.is_removed();
        if knows || belongs(node) || !sure || partition.node() != self.settings.node {
            return;
        }
        let news = peer::GroupNews {
            partition: id.0,
            position: partition.members_at().0,
            members: members.iter().map(member::written).collect(),
            left: false,
        };
        self.forward.tell((node, self.owner_at(node, id)), news);
    }
}
