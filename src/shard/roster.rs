//! Which partitions live here, and who watches them.
//!
//! A group is founded by `Bootstrap` and is known from then on: its founding stands in the journal,
//! so it is here again at the next start before the API answers (wire.md, decision 13).
//! Bootstrapping a known group with the same members changes nothing; a caller can neither crash
//! the node nor replace what is there (core.md, D6). Watchers of the node are told of every
//! partition here, first what is and then what happens; a watcher of a partition also learns where
//! to send requests.
//!
//! # Decisions
//!
//! Which member of a group this node is stands in the group's founding, not in the node's
//! settings. The released dialect says it with each Bootstrap, and the controller that speaks it
//! counts members from 1 in every group: with fewer members than pods, one pod has several names.
//! So a replica's name is its group's, from raft up to the events of a watch. Links between nodes
//! name nodes; until they do otherwise a group of several members must use those names.
//!
//! Absent on purpose: a watcher's buffer: the shell that holds the stream bounds it and ends it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{NodeId, PartitionId, Ticket},
    limits::{HOST_BYTES_MAX, REPLICAS_MAX, WATCHER_TURN_EVENTS_MAX, WATCHERS_MAX},
    partition::{
        Load, Partition,
        member::Group,
        reply::{Event, Happening, Refusal, Replies},
        witness,
    },
    shard::{
        Peers, Settings,
        inbox::{Change, Member, Role},
        rest::Resting,
    },
};

/// The partitions of one shard.
#[derive(Default, Debug)]
pub struct Roster {
    living: BTreeMap<PartitionId, Box<Living>>,
    /// Recovery found damage in them; they do not start.
    damaged: BTreeSet<PartitionId>,
    /// They were here and left.
    left: BTreeSet<PartitionId>,
    /// Damage may hide a partition that nothing else speaks of.
    hides: bool,
    watchers: Vec<Ticket>,
    /// The ports of clients on other nodes, as far as they said.
    api_ports: BTreeMap<NodeId, u16>,
}

/// A partition and what the shard knows of it.
#[derive(Debug)]
pub struct Living {
    /// The partition.
    pub partition: Partition,
    /// With whom it was founded.
    pub members: Vec<Member>,
    /// Whether it settles at the end of this turn.
    pub touched: bool,
    /// What admission counts for it.
    pub load: Load,
    /// How it rests.
    pub resting: Option<Resting>,
    /// Whether raft's clock is for it.
    pub ticks: bool,
    watchers: Vec<Ticket>,
}

impl Living {
    /// Has it settle at the end of this turn; `touched` names all that do, each once.
    pub fn touch(&mut self, touched: &mut Vec<PartitionId>) {
        if !self.touched {
            self.touched = true;
            touched.push(self.partition.id());
        }
    }
}

const LEFT: &str = "the partition has left this node";

/// What a bootstrap comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Founding {
    /// The group is known with these members.
    Known,
    /// It may be founded.
    New,
}

impl Roster {
    /// Adds a partition.
    pub fn add(&mut self, partition: Partition, members: Vec<Member>) {
        let id = partition.id();
        self.left.remove(&id);
        let living = Living {
            partition,
            members,
            touched: false,
            load: Load::default(),
            resting: None,
            ticks: false,
            watchers: Vec::new(),
        };
        let before = self.living.insert(id, Box::new(living));
        assert!(before.is_none(), "partition {id} is here already");
    }

    /// A partition that does not start.
    pub fn add_damaged(&mut self, partition: PartitionId) {
        self.damaged.insert(partition);
    }

    /// Partitions that were here, and whether damage may hide others.
    pub fn remember(&mut self, left: impl IntoIterator<Item = PartitionId>, hides: bool) {
        self.left.extend(left);
        self.hides = hides;
    }

    /// Takes a partition out. Its watchers are told that it is gone.
    pub fn remove(&mut self, id: PartitionId, replies: &mut Replies) -> Option<Box<Living>> {
        let mut living = self.living.remove(&id)?;
        for watcher in living.watchers.drain(..) {
            replies.refuse(watcher, Refusal::Unavailable(LEFT));
        }
        self.left.insert(id);
        Some(living)
    }

    /// Forgets a damaged partition, which has left.
    pub fn remove_damaged(&mut self, id: PartitionId) -> bool {
        self.damaged.remove(&id) && self.left.insert(id)
    }

    /// Where clients come in on another node; 0: it did not say.
    pub fn note_port(&mut self, node: NodeId, port: u16) {
        if port > 0 {
            self.api_ports.insert(node, port);
        }
    }

    /// Whether a partition is not here: it never was, or it left.
    #[must_use]
    pub fn is_absent(&self, id: PartitionId) -> bool {
        !self.living.contains_key(&id) && !self.damaged.contains(&id)
    }

    /// Whether a partition was here and has left for good.
    #[must_use]
    pub fn has_left(&self, id: PartitionId) -> bool {
        self.is_absent(id) && self.left.contains(&id)
    }

    /// Where clients reach a member of a group whose replica here is called `local`.
    #[must_use]
    pub fn clients_of(&self, member: &Member, local: NodeId, settings: &Settings) -> String {
        address(member, local, settings, &self.api_ports)
    }

    /// One of them.
    pub fn get_mut(&mut self, id: PartitionId) -> Option<&mut Living> {
        self.living.get_mut(&id).map(Box::as_mut)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: PartitionId) -> Option<&Living> {
        self.living.get(&id).map(Box::as_ref)
    }

    /// One of them, or what a caller is told.
    pub fn find(&mut self, id: PartitionId) -> Result<&mut Living, Refusal> {
        if self.damaged.contains(&id) {
            return Err(Refusal::Unavailable("the partition is damaged on this node"));
        }
        match self.living.get_mut(&id) {
            Some(living) => Ok(living),
            // Clients try again elsewhere, as they would not for one that never was (core.md 2.4).
            None if self.left.contains(&id) => Err(Refusal::Unavailable(LEFT)),
            None => Err(Refusal::UnknownPartition(id)),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Living> {
        self.living.values().map(Box::as_ref)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Living> {
        self.living.values_mut().map(Box::as_mut)
    }

    /// Whether a group may be founded here with these members.
    pub fn check(
        &self,
        id: PartitionId,
        local: NodeId,
        members: &[Member],
        settings: &Settings,
    ) -> Result<Founding, Refusal> {
        let malformed = |text: String| Err(Refusal::Malformed(text));
        if id.0 == 0 {
            return malformed("group_id is missing".to_owned());
        }
        if let Some(living) = self.living.get(&id) {
            // A restarted controller may ask without members for what is there.
            let known = living.partition.node();
            if local == known && (members.is_empty() || same(members, &living.members)) {
                return Ok(Founding::Known);
            }
            check_members(members, local)?;
            if local != known {
                return Err(Refusal::Precondition(format!(
                    "group {id} is here already, and here is its member {known}, not {local}"
                )));
            }
            return Err(Refusal::Precondition(format!(
                "group {id} is here already with other members"
            )));
        }
        check_members(members, local)?;
        self.check_new(id, local, members, settings)
    }

    /// Whether this node may join a running group with these members, itself among them.
    pub fn check_join(
        &self,
        id: PartitionId,
        local: NodeId,
        members: &[Member],
        settings: &Settings,
    ) -> Result<Founding, Refusal> {
        let malformed = |text: &str| Err(Refusal::Malformed(text.to_owned()));
        if id.0 == 0 {
            return malformed("group_id is missing");
        }
        check_list(members, local)?;
        if members.len() < 2 {
            return malformed("to join a group takes a member of it that can be asked");
        }
        if let Some(living) = self.living.get(&id) {
            let here = living.partition.node();
            let same = here == local;
            let part =
                |members: &[Member]| members.iter().find(|it| it.node == local).map(|it| it.role);
            if let (Some(from), Some(to)) = (part(&living.members), part(members))
                && let Some(refusal) = witness::forbids(local, from, to)
            {
                return Err(refusal);
            }
            let known = format!("group {id} is here already as member {here}");
            return if same { Ok(Founding::Known) } else { Err(Refusal::Precondition(known)) };
        }
        self.check_new(id, local, members, settings)
    }

    /// Whether a replica may begin here.
    fn check_new(
        &self,
        id: PartitionId,
        local: NodeId,
        members: &[Member],
        settings: &Settings,
    ) -> Result<Founding, Refusal> {
        if settings.peers == Peers::Alone && members.len() > 1 {
            return Err(Refusal::Unimplemented(
                "joining other nodes comes with clusters; a group has this node as its one member",
            ));
        }
        if members.len() > 1 && local != settings.node {
            let node = settings.node;
            return Err(Refusal::Precondition(format!(
                "this is node {node} and not {local}: members of a group of several must be named \
                 by their nodes' ids, as links between nodes are"
            )));
        }
        if self.damaged.contains(&id) {
            return Err(Refusal::Precondition(format!(
                "group {id} is damaged on this node; leave it first"
            )));
        }
        if members.len() > 1 && (self.hides || self.left.contains(&id)) {
            // Its votes may have been counted; the same voice without that memory could break a
            // promise.
            return Err(Refusal::Precondition(format!(
                "group {id} was here before and cannot come back under the same node id"
            )));
        }
        if self.living.len() >= settings.partitions_max {
            return Err(Refusal::Full("this node has as many groups as it may"));
        }
        Ok(Founding::New)
    }

    /// A watcher of the node: first what is, then the mark that this was it, then what happens.
    /// `absent` are partitions that other nodes have: they count for whoever spreads keys.
    pub fn watch(
        &mut self,
        ticket: Ticket,
        absent: &[PartitionId],
        settings: &Settings,
        replies: &mut Replies,
    ) {
        if self.watchers.len() >= WATCHERS_MAX {
            replies.refuse(ticket, Refusal::Full("too many watch this node"));
            return;
        }
        for (id, living) in &self.living {
            let (term, leader) = living.partition.leadership();
            let local = living.partition.node();
            let mut tell = |what| {
                replies.event(ticket, Event { at: None, partition: *id, local, what });
            };
            if term.0 > 0 {
                tell(Happening::LeaderUpdated { term, leader });
            }
            tell(Happening::MemberReady { node: local });
        }
        // Clients spread keys by the number of partitions: one that is damaged must still count, or
        // they would look for the others' keys in the wrong places.
        for id in self.damaged.iter().chain(absent) {
            let what = Happening::LeaderUpdated { term: crate::id::Term(0), leader: None };
            let local = settings.node;
            replies.event(ticket, Event { at: None, partition: *id, local, what });
        }
        replies.replayed(ticket);
        self.watchers.push(ticket);
    }

    /// A watcher of one partition: first where to send requests.
    pub fn watch_partition(
        &mut self,
        id: PartitionId,
        ticket: Ticket,
        settings: &Settings,
        replies: &mut Replies,
    ) {
        let Some(living) = self.living.get_mut(&id) else {
            replies.refuse(ticket, Refusal::Unavailable("unknown partition"));
            return;
        };
        if living.watchers.len() >= WATCHERS_MAX {
            replies.refuse(ticket, Refusal::Full("too many watch this partition"));
            return;
        }
        let (_, leader) = living.partition.leadership();
        let local = living.partition.node();
        let what = addresses(living.partition.members(), local, leader, settings, &self.api_ports);
        replies.event(ticket, Event { at: None, partition: id, local, what });
        living.watchers.push(ticket);
    }

    /// A watcher hung up.
    pub fn unwatch(&mut self, id: PartitionId, ticket: Ticket) {
        if let Some(living) = self.living.get_mut(&id) {
            living.watchers.retain(|watcher| *watcher != ticket);
        }
        self.watchers.retain(|watcher| *watcher != ticket);
    }

    /// Tells the watchers what happened in this turn.
    pub fn tell(&mut self, events: &[Event], settings: &Settings, replies: &mut Replies) {
        if events.is_empty() {
            return;
        }
        if events.len() > WATCHER_TURN_EVENTS_MAX {
            for watcher in self.watchers.drain(..) {
                replies.refuse(watcher, Refusal::Unavailable("the watcher fell behind"));
            }
        }
        for event in events {
            for watcher in &self.watchers {
                replies.event(*watcher, event.clone());
            }
            let Some(living) = self.living.get_mut(&event.partition) else { continue };
            for watcher in &living.watchers {
                replies.event(*watcher, event.clone());
                let leader = match event.what {
                    Happening::LeaderUpdated { leader, .. } => Some(leader),
                    Happening::MembershipChanged { .. } => Some(living.partition.leadership().1),
                    _ => None,
                };
                if let Some(leader) = leader {
                    let members = living.partition.members();
                    let what = addresses(members, event.local, leader, settings, &self.api_ports);
                    replies.event(*watcher, Event { what, ..event.clone() });
                }
            }
        }
    }
}

/// What watchers are told of a group that is founded now (core.md 2.5); who joins one hears of its
/// members from its leader.
pub fn founded(group: &Group, at: u64, events: &mut Vec<Event>) {
    let (partition, local) = (group.partition, group.local);
    let mut tell = |what| events.push(Event { at: Some(at), partition, local, what });
    let all: Vec<NodeId> = group.members.iter().map(|member| member.node).collect();
    for member in group.members.iter().filter(|_| !group.joins) {
        tell(Happening::MembershipChanged { about: member.node, members: all.clone() });
    }
    tell(Happening::SnapshotRecovered { index: crate::id::Position(0) });
    tell(Happening::MemberReady { node: local });
}

/// Where clients reach a member: this node's own address, and for others their host with the port
/// that they said, or the same one.
fn address(
    member: &Member,
    local: NodeId,
    settings: &Settings,
    ports: &BTreeMap<NodeId, u16>,
) -> String {
    if member.node == local {
        return settings.api_address.clone();
    }
    let port = ports.get(&member.node).copied().unwrap_or(settings.api_port);
    format!("{}:{port}", member.host)
}

/// Where a client sends requests.
fn addresses(
    members: &[Member],
    local: NodeId,
    leader: Option<NodeId>,
    settings: &Settings,
    ports: &BTreeMap<NodeId, u16>,
) -> Happening {
    let address = |member: &Member| address(member, local, settings, ports);
    let (leads, follow): (Vec<&Member>, Vec<&Member>) =
        members.iter().partition(|member| Some(member.node) == leader);
    Happening::ServiceConfigChanged {
        leader: leads.first().map(|member| address(member)).unwrap_or_default(),
        followers: follow.into_iter().map(address).collect(),
    }
}

/// Whether two lists name the same members in the same parts, in whatever order.
fn same(left: &[Member], right: &[Member]) -> bool {
    let sorted = |members: &[Member]| {
        let mut members = members.to_vec();
        members.sort_by_key(|member| member.node);
        members
    };
    sorted(left) == sorted(right)
}

/// Whether a change can be asked for at all.
pub fn check_change(change: &Change) -> Result<(), Refusal> {
    match change {
        Change::Admit(member) => check_list(std::slice::from_ref(member), member.node),
        Change::Dismiss(NodeId(0)) | Change::Lead(Some(NodeId(0))) => {
            Err(Refusal::Malformed("node_id 0 names nobody".to_owned()))
        }
        Change::Dismiss(_) | Change::Lead(_) => Ok(()),
    }
}

/// Whether a group can be founded by these; each text names what is wrong.
fn check_members(members: &[Member], local: NodeId) -> Result<(), Refusal> {
    check_list(members, local)?;
    if members.iter().any(|member| member.role == Role::Member) {
        return Ok(());
    }
    Err(Refusal::Malformed("a group needs a member with the role MEMBER".to_owned()))
}

/// Whether these can be members of one group, with this node.
fn check_list(members: &[Member], local: NodeId) -> Result<(), Refusal> {
    let malformed = |text: String| Err(Refusal::Malformed(text));
    if members.is_empty() {
        return malformed("a group needs members".to_owned());
    }
    if members.len() > REPLICAS_MAX {
        return malformed(format!("a group has at most {REPLICAS_MAX} members"));
    }
    let (mut nodes, mut places) = (BTreeSet::new(), BTreeSet::new());
    for member in members {
        if member.node.0 == 0 {
            return malformed("node_id 0 names nobody".to_owned());
        }
        if member.host.is_empty() || member.host.len() > HOST_BYTES_MAX {
            return malformed(format!("member {} has no host that can be reached", member.node));
        }
        if member.port == 0 {
            return malformed(format!("member {} has no port", member.node));
        }
        if !nodes.insert(member.node) {
            return malformed(format!("node {} is a member twice", member.node));
        }
        if !places.insert((&member.host, member.port)) {
            let (host, port) = (&member.host, member.port);
            return malformed(format!("two members have the address {host}:{port}"));
        }
    }
    if !nodes.contains(&local) {
        return malformed(format!("this node, {local}, is not among the members"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u32, port: u16, role: Role) -> Member {
        Member { node: NodeId(node), host: "a.example".to_owned(), port, role }
    }

    fn refused(members: &[Member], peers: Peers) -> Refusal {
        let settings = Settings { peers, ..Settings::default() };
        let roster = Roster::default();
        roster
            .check(PartitionId(1), NodeId(1), members, &settings)
            .expect_err("it cannot be founded")
    }

    #[test]
    fn what_cannot_be_a_group_is_named() {
        use Role::{Member as Voter, Observer, Witness};
        let cases: [&[Member]; 9] = [
            &[],
            &[member(0, 5, Voter)],
            &[member(1, 0, Voter)],
            &[member(1, 5, Voter), member(1, 6, Voter)],
            &[member(1, 5, Voter), member(2, 5, Voter)],
            &[member(1, 5, Witness)],
            &[member(1, 5, Observer)],
            &[member(2, 5, Voter)],
            &[Member { host: String::new(), ..member(1, 5, Voter) }],
        ];
        for members in cases {
            let refusal = refused(members, Peers::Allowed);
            assert!(matches!(refusal, Refusal::Malformed(_)), "{members:?}: {refusal:?}");
        }
        let two = [member(1, 5, Voter), member(2, 6, Voter)];
        assert!(matches!(refused(&two, Peers::Alone), Refusal::Unimplemented(_)));
    }

    #[test]
    fn addresses_name_the_leader_and_the_others() {
        let settings = Settings { api_address: "here:5678".to_owned(), ..Settings::default() };
        let members = [member(1, 5, Role::Member), member(2, 6, Role::Member)];
        let other = format!("a.example:{}", settings.api_port);
        assert_eq!(
            addresses(&members, NodeId(1), Some(NodeId(1)), &settings, &BTreeMap::new()),
            Happening::ServiceConfigChanged {
                leader: "here:5678".to_owned(),
                followers: vec![other.clone()],
            }
        );
        assert_eq!(
            addresses(&members, NodeId(1), None, &settings, &BTreeMap::new()),
            Happening::ServiceConfigChanged {
                leader: String::new(),
                followers: vec!["here:5678".to_owned(), other],
            }
        );
        assert_eq!(
            addresses(
                &members,
                NodeId(1),
                Some(NodeId(2)),
                &settings,
                &BTreeMap::from([(NodeId(2), 80)])
            ),
            Happening::ServiceConfigChanged {
                leader: "a.example:80".to_owned(),
                followers: vec!["here:5678".to_owned()],
            }
        );
    }
}
