//! Who belongs to a group, and how that changes while it runs: joint changes through the log,
//! driven to their end by whoever leads.
//!
//! ```text
//!   Admit   ─► learner ─ caught up? ─► joint (a voter more) ─► left
//!   Dismiss ─────────────────────────► joint (a voter less) ─► left
//! ```
//!
//! Every change carries the members after it, with their addresses, so that whoever has the log
//! knows where everybody is. What is still to be done stands in the log too: a member whose part is
//! MEMBER and who only listens is to be made a voter, a joint configuration is to be left. So no
//! leader needs to know what the one before it meant to do. Callers wait here until what they asked
//! for is so. A member whose node says that it has left for good is dismissed unasked: a question
//! that came late made it one. Witnesses take the way of MEMBERs; what is special about them stands
//! in `witness.rs`. Absent on purpose: the ways that such questions take through the cluster
//! (`shard/errand.rs`).

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
};

use crate::{
    id::{NodeId, PartitionId, Ticket},
    limits::{HOST_BYTES_MAX, REPLICAS_MAX, WISHES_MAX},
    partition::{
        replica::Replica,
        reply::{Refusal, Replies},
        witness,
    },
    time::Instant,
    wire::peer,
};

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its node.
    pub node: NodeId,
    /// Where its peers reach it.
    pub host: String,
    /// The port there, 1 to 65535.
    pub port: u16,
    /// What part it takes.
    pub role: Role,
}

/// What part a member takes (design.md 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Votes, leads, applies.
    Member,
    /// Applies, never votes.
    Observer,
    /// Votes and stores, never leads, applies nothing.
    Witness,
}

impl Role {
    /// By its number in logs and on links.
    #[must_use]
    pub fn of(number: u32) -> Option<Role> {
        [Role::Member, Role::Observer, Role::Witness].get(number as usize).copied()
    }

    /// Whether it decides with the others what is committed and who leads.
    #[must_use]
    pub fn votes(self) -> bool {
        match self {
            Role::Member | Role::Witness => true,
            Role::Observer => false,
        }
    }
}

impl Member {
    /// Whether it may lead.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == Role::Member
    }
}

/// A group as it is founded or joined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Which group.
    pub partition: PartitionId,
    /// Which of its members this replica is.
    pub local: NodeId,
    /// Everyone who founded it, or those whom who joins it was told of.
    pub members: Vec<Member>,
    /// This replica joins a group that runs: it starts without votes and without a log.
    pub joins: bool,
}

impl Group {
    /// The group as raft's configuration.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        if self.joins {
            return ConfState::default();
        }
        let leads = self.members.iter().any(|member| member.role == Role::Member);
        assert!(leads, "nobody can lead partition {}", self.partition);
        let with = |votes: bool| {
            let with_part = self.members.iter().filter(move |member| member.role.votes() == votes);
            with_part.map(|member| u64::from(member.node.0)).collect::<Vec<_>>()
        };
        let (voters, learners) = (with(true), with(false));
        conf_state(&voters, &learners)
    }
}

/// What may be asked of a leader about its group's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This member is to belong to it, in this part, at this address.
    Admit(Member),
    /// This node is to belong to it no more.
    Dismiss(NodeId),
    /// This node, or the best one, is to lead.
    Lead(Option<NodeId>),
}

/// A caller who waits until something is so.
#[derive(Debug)]
struct Wish {
    ticket: Ticket,
    change: Change,
    deadline: Option<Instant>,
}

/// What callers want of this leader.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    list: Vec<Wish>,
    /// Nodes that have left for good, and told so.
    left: BTreeSet<NodeId>,
}

/// One entry that changes members.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// For raft.
    pub change: ConfChangeV2,
    /// Everyone after it.
    pub members: Vec<Member>,
}

/// What a leader does next for its group's members.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Propose this.
    Propose(Step),
    /// Hand leadership to this node, or to the best one.
    HandOver(Option<NodeId>),
}

/// How raft's configuration stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    pub conf: &'a ConfState,
    pub members: &'a [Member],
    pub me: NodeId,
    /// A change may be in the log that is not applied.
    pub changing: bool,
}

impl Wishes {
    /// One more waits.
    pub fn add(
        &mut self,
        ticket: Ticket,
        change: Change,
        deadline: Option<Instant>,
    ) -> Result<(), Refusal> {
        if self.list.len() >= WISHES_MAX {
            return Err(Refusal::Full("too many ask for a change of members"));
        }
        self.list.push(Wish { ticket, change, deadline });
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A node says that it will never take part again.
    pub fn has_left(&mut self, node: NodeId) {
        self.left.insert(node);
    }

    /// This replica leads no more. Who wanted just that is told so, who wanted a certain one to
    /// lead waits until it is known who does, and the others ask elsewhere.
    pub fn lead_no_more(
        &mut self,
        leader: Option<NodeId>,
        now: Instant,
        refusal: &Refusal,
        replies: &mut Replies,
    ) {
        self.left.clear();
        self.list.retain(|wish| {
            match (&wish.change, leader) {
                (Change::Lead(None), _) => replies.done(wish.ticket),
                (Change::Lead(to), Some(_)) if *to == leader => replies.done(wish.ticket),
                (Change::Lead(_), None) if wish.deadline.is_none_or(|until| until > now) => {
                    return true;
                }
                (Change::Lead(_) | Change::Admit(_) | Change::Dismiss(_), _) => {
                    replies.refuse(wish.ticket, refusal.clone());
                }
            }
            false
        });
    }

    /// Nothing will come of any of them here.
    pub fn refuse(&mut self, refusal: &Refusal, replies: &mut Replies) {
        self.left.clear();
        for wish in self.list.drain(..) {
            replies.refuse(wish.ticket, refusal.clone());
        }
    }

    /// Answers those whose wish came true or cannot, and whose time is over.
    pub fn answer(&mut self, standing: &Standing<'_>, now: Instant, replies: &mut Replies) {
        self.list.retain(|wish| {
            let gone = matches!(&wish.change, Change::Admit(it) if self.left.contains(&it.node));
            if gone {
                let text = "the node says that it has left the group for good".to_owned();
                replies.refuse(wish.ticket, Refusal::Precondition(text));
            } else if standing.holds(&wish.change) {
                replies.done(wish.ticket);
            } else if let Some(refusal) = standing.forbids(&wish.change) {
                replies.refuse(wish.ticket, refusal);
            } else if wish.deadline.is_some_and(|deadline| deadline <= now) {
                replies.refuse(wish.ticket, Refusal::Deadline);
            } else {
                return true;
            }
            false
        });
        self.left.retain(|node| !standing.holds(&Change::Dismiss(*node)));
    }

    /// Those who hung up wait no more.
    pub fn gone(&mut self, gone: &BTreeSet<Ticket>) {
        self.list.retain(|wish| !gone.contains(&wish.ticket));
    }

    /// What is to be done next; `caught_up` says whether a learner has nearly all of the log, and
    /// `heard` whether a voter was heard of lately.
    pub fn next(
        &self,
        standing: &Standing<'_>,
        caught_up: impl Fn(NodeId) -> bool,
        heard: impl Fn(u64) -> bool,
    ) -> Option<Next> {
        if standing.is_joint() && !standing.votes(standing.me) {
            // It was elected by those before the change, and goes with it.
            return Some(Next::HandOver(None));
        }
        if standing.is_joint() {
            return Some(Next::Propose(standing.leave_joint()));
        }
        // Those who stay decide from then on: without a majority of them nothing would go on.
        let safe = |next: &Next| match next {
            Next::Propose(step) => standing.keeps_majority(step, &heard),
            // Until it has taken over nobody takes commands: who is not there would not for long.
            Next::HandOver(Some(to)) => caught_up(*to),
            Next::HandOver(None) => true,
        };
        let steps = self.list.iter().filter_map(|wish| standing.towards(&wish.change));
        let left = self.left.iter().filter_map(|node| standing.towards(&Change::Dismiss(*node)));
        let wished = steps.chain(left).find(safe);
        wished.or_else(|| standing.promotion(&caught_up).map(Next::Propose))
    }
}

impl Standing<'_> {
    fn is_joint(&self) -> bool {
        !self.conf.voters_outgoing.is_empty()
    }

    fn votes(&self, node: NodeId) -> bool {
        self.conf.voters.contains(&u64::from(node.0))
    }

    fn listens(&self, node: NodeId) -> bool {
        self.conf.learners.contains(&u64::from(node.0))
    }

    fn holds(&self, change: &Change) -> bool {
        // What is under way may still undo it.
        let settled = !self.is_joint() && !self.changing;
        match change {
            Change::Admit(member) => {
                let votes = member.role.votes();
                let placed =
                    if votes { self.votes(member.node) } else { self.listens(member.node) };
                settled && placed && self.members.contains(member)
            }
            Change::Dismiss(node) => settled && !self.votes(*node) && !self.listens(*node),
            Change::Lead(to) => *to == Some(self.me),
        }
    }

    /// Why it can never be so.
    fn forbids(&self, change: &Change) -> Option<Refusal> {
        let leads =
            |id: u64| self.members.iter().any(|it| u64::from(it.node.0) == id && it.leads());
        let me = u64::from(self.me.0);
        let alone = self.conf.voters.iter().all(|id| *id == me || !leads(*id));
        let steps_down = match change {
            Change::Admit(member) => member.node == self.me && member.role == Role::Observer,
            Change::Dismiss(node) => *node == self.me,
            Change::Lead(_) => true,
        };
        if steps_down && alone && !self.is_joint() {
            let node = self.me;
            let witnesses = self.members.iter().any(|member| member.role == Role::Witness);
            let first = if witnesses { ", or have the witnesses leave first" } else { " first" };
            let text =
                format!("node {node} is the only one that can lead: admit another MEMBER{first}");
            return Some(Refusal::Precondition(text));
        }
        match change {
            Change::Lead(Some(to)) if !self.votes(*to) => {
                Some(Refusal::Precondition(format!("node {to} does not vote in this group")))
            }
            Change::Lead(Some(to)) if witness::is_among(self.members, *to) => {
                Some(Refusal::Precondition(format!("node {to} is a witness, which never leads")))
            }
            Change::Admit(member) => {
                let before = self.members.iter().find(|it| it.node == member.node);
                let other = before.and_then(|it| witness::forbids(it.node, it.role, member.role));
                if other.is_some() {
                    return other;
                }
                let others = || self.members.iter().filter(|other| other.node != member.node);
                if others().any(|it| (&it.host, it.port) == (&member.host, member.port)) {
                    let Member { host, port, .. } = member;
                    let text = format!("another member has the address {host}:{port}");
                    return Some(Refusal::Precondition(text));
                }
                let full = others().count() >= REPLICAS_MAX;
                full.then(|| {
                    Refusal::Precondition(format!("the group has {REPLICAS_MAX} members already"))
                })
            }
            Change::Dismiss(_) | Change::Lead(_) => None,
        }
    }

    /// The next step towards a wish; `None` when there is nothing to do but to wait.
    fn towards(&self, change: &Change) -> Option<Next> {
        match change {
            Change::Admit(member) => self.admit(member),
            Change::Dismiss(node) if !self.votes(*node) && !self.listens(*node) => None,
            Change::Dismiss(node) if *node == self.me => Some(Next::HandOver(None)),
            Change::Dismiss(node) => {
                let kind = ConfChangeType::RemoveNode;
                let rest = || self.members.iter().filter(|it| it.node != *node).cloned().collect();
                Some(Next::Propose(if self.votes(*node) {
                    joint(kind, *node, self.members.to_vec())
                } else {
                    simple(kind, *node, rest())
                }))
            }
            Change::Lead(to) if *to == Some(self.me) => None,
            Change::Lead(to) => Some(Next::HandOver(*to)),
        }
    }

    fn admit(&self, member: &Member) -> Option<Next> {
        let node = member.node;
        let mut members: Vec<Member> =
            self.members.iter().filter(|it| it.node != node).cloned().collect();
        members.push(member.clone());
        members.sort_by_key(|it| it.node);
        let demoted = !member.role.votes() && self.votes(node);
        if demoted && node == self.me {
            return Some(Next::HandOver(None));
        }
        if demoted {
            return Some(Next::Propose(joint(ConfChangeType::AddLearnerNode, node, members)));
        }
        let belongs = self.votes(node) || self.listens(node);
        if belongs && self.members.contains(member) {
            // A learner that is to vote is promoted when it has caught up.
            return None;
        }
        // Of a voter only the address changes.
        let votes = self.votes(node);
        let kind = if votes { ConfChangeType::AddNode } else { ConfChangeType::AddLearnerNode };
        Some(Next::Propose(simple(kind, node, members)))
    }

    /// A learner that is to vote, and can.
    fn promotion(&self, caught_up: impl Fn(NodeId) -> bool) -> Option<Step> {
        let due = |member: &&Member| {
            member.role.votes() && self.listens(member.node) && caught_up(member.node)
        };
        let member = self.members.iter().find(due)?;
        Some(joint(ConfChangeType::AddNode, member.node, self.members.to_vec()))
    }

    /// Whether a majority of those who vote after a step was heard of.
    fn keeps_majority(&self, step: &Step, heard: impl Fn(u64) -> bool) -> bool {
        let voters = self.conf.voters.iter().copied();
        let stay: Vec<u64> = voters.filter(|id| !step.takes_vote(*id)).collect();
        let there = stay.iter().filter(|id| **id == u64::from(self.me.0) || heard(**id)).count();
        stay.len() == self.conf.voters.len() || 2 * there > stay.len()
    }

    fn leave_joint(&self) -> Step {
        let stays = |member: &&Member| {
            let id = u64::from(member.node.0);
            let lists = [&self.conf.voters, &self.conf.learners, &self.conf.learners_next];
            lists.iter().any(|list| list.contains(&id))
        };
        let members = self.members.iter().filter(stays).cloned().collect();
        Step { change: ConfChangeV2::default(), members }
    }
}

fn simple(kind: ConfChangeType, node: NodeId, members: Vec<Member>) -> Step {
    step(ConfChangeTransition::Auto, kind, node, members)
}

/// Through a configuration in which both the old and the new voters decide, left by an entry of its
/// own.
fn joint(kind: ConfChangeType, node: NodeId, members: Vec<Member>) -> Step {
    step(ConfChangeTransition::Explicit, kind, node, members)
}

fn step(
    transition: ConfChangeTransition,
    kind: ConfChangeType,
    node: NodeId,
    members: Vec<Member>,
) -> Step {
    let mut single = ConfChangeSingle { node_id: u64::from(node.0), ..ConfChangeSingle::default() };
    single.set_change_type(kind);
    let mut change = ConfChangeV2::default();
    change.set_transition(transition);
    change.set_changes(vec![single].into());
    Step { change, members }
}

impl Step {
    /// The data of its entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let members = self.members.iter().map(written).collect();
        let steps = self.change.changes.iter().map(|single| peer::MemberStep {
            kind: single.get_change_type() as u32,
            node: single.node_id,
        });
        let message = peer::MembersChange {
            transition: self.change.get_transition() as u32,
            steps: steps.collect(),
            context: peer::Members { members }.encode_to_vec().into(),
        };
        message.encode_to_vec().into()
    }

    /// Those whom it gives a part.
    pub fn placed(&self) -> impl Iterator<Item = NodeId> + '_ {
        let placed =
            |single: &&ConfChangeSingle| single.get_change_type() != ConfChangeType::RemoveNode;
        let singles = self.change.changes.iter().filter(placed);
        singles.filter_map(|single| u32::try_from(single.node_id).ok().map(NodeId))
    }

    /// Whether it takes the vote of this one, if that has one.
    #[must_use]
    pub fn takes_vote(&self, id: u64) -> bool {
        let mut singles = self.change.changes.iter();
        singles.any(|it| it.node_id == id && it.get_change_type() != ConfChangeType::AddNode)
    }

    /// Reads it back; `None` when it is nothing that a leader of this version proposes.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Step> {
        let message = peer::MembersChange::decode(data).ok()?;
        if message.steps.len() > REPLICAS_MAX {
            return None;
        }
        let transitions = [
            ConfChangeTransition::Auto,
            ConfChangeTransition::Implicit,
            ConfChangeTransition::Explicit,
        ];
        let kinds =
            [ConfChangeType::AddNode, ConfChangeType::RemoveNode, ConfChangeType::AddLearnerNode];
        let single = |step: &peer::MemberStep| {
            u32::try_from(step.node).ok().filter(|node| *node > 0)?;
            let mut single = ConfChangeSingle { node_id: step.node, ..ConfChangeSingle::default() };
            single.set_change_type(*kinds.get(step.kind as usize)?);
            Some(single)
        };
        let singles: Vec<_> = message.steps.iter().map(single).collect::<Option<_>>()?;
        let mut change = ConfChangeV2::default();
        change.set_transition(*transitions.get(message.transition as usize)?);
        change.set_changes(singles.into());
        let members = peer::Members::decode(&message.context[..]).ok()?.members;
        Some(Step { change, members: read_all(&members)? })
    }
}

/// A member as links and logs have it.
#[must_use]
pub fn written(member: &Member) -> peer::Member {
    let (node, host, port) = (member.node.0, member.host.clone(), member.port.into());
    peer::Member { node, host, port, role: member.role as u32 }
}

/// A member from elsewhere; `None` when it is none.
#[must_use]
pub fn read(member: &peer::Member) -> Option<Member> {
    let fits = member.node > 0 && !member.host.is_empty() && member.host.len() <= HOST_BYTES_MAX;
    let port = u16::try_from(member.port).ok().filter(|port| *port > 0 && fits)?;
    let (node, host) = (NodeId(member.node), member.host.clone());
    Some(Member { node, host, port, role: Role::of(member.role)? })
}

/// Members from elsewhere: not too many, and each once.
#[must_use]
pub fn read_all(members: &[peer::Member]) -> Option<Vec<Member>> {
    let nodes: BTreeSet<u32> = members.iter().map(|member| member.node).collect();
    if members.len() > REPLICAS_MAX || nodes.len() < members.len() {
        return None;
    }
    members.iter().map(read).collect()
}

/// A configuration outside any change.
#[must_use]
pub fn conf_state(voters: &[u64], learners: &[u64]) -> ConfState {
    let mut state = ConfState::default();
    state.set_voters(voters.to_vec());
    state.set_learners(learners.to_vec());
    state
}

/// Everyone in a configuration, also in the one that it leaves.
pub fn everyone(conf: &ConfState) -> BTreeSet<u64> {
    lists(conf).into_iter().flatten().copied().collect()
}

/// Whether `node` is one of them.
#[must_use]
pub fn belongs(conf: &ConfState, node: NodeId) -> bool {
    lists(conf).into_iter().flatten().any(|id| *id == u64::from(node.0))
}

/// The same, where some may stand twice.
pub fn lists(conf: &ConfState) -> [&[u64]; 4] {
    [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next]
}

/// Asks the follower with most of the log to take over at once, so that the group does not wait for
/// an election timeout after its leader has gone. Once a timeout raft forgets who was heard; until
/// it knows again this waits, or it would ask one who is gone, again at each timeout, and meanwhile
/// nobody would take commands.
pub fn hand_over(replica: &mut Replica) {
    if replica.is_leader()
        && let Some(to) = replica.best_follower()
        && replica.hears(to)
    {
        replica.transfer(to);
    }
}

#[cfg(test)]
mod tests;
