//! Who belongs to the group, as this replica knows, says and is told.
//!
//! Absent on purpose: the changes themselves (`member.rs`), and how they are proposed and applied
//! (`settle.rs`).

use raft::eraftpb::{ConfState, Message, MessageType};

use super::{
    NOT_LEADER, Partition,
    member::{self, Change, Member, Role, Step},
    reply::Refusal,
    settle,
};
use crate::{
    id::{NodeId, Position, Ticket},
    time::Instant,
};

impl Partition {
    /// Wants the group's members to be so, of its leader, and answers when they are: as
    /// `Ask::Change` says.
    pub fn change(
        &mut self,
        ticket: Ticket,
        change: Change,
        deadline: Option<Instant>,
    ) -> Result<(), Refusal> {
        self.must_run()?;
        if !self.replica.is_leader() {
            return Err(Refusal::Unavailable(NOT_LEADER));
        }
        self.wishes.add(ticket, change, deadline)
    }

    /// `node` says that it has left for good: if it belongs to the group, it is to do so no more.
    pub fn left(&mut self, node: NodeId) {
        let belongs = member::belongs(self.conf(), node);
        if !self.halted && self.replica.is_leader() && belongs {
            self.wishes.has_left(node);
        }
    }

    /// Hands leadership over, if another one votes: this node ends soon.
    pub fn hand_over(&mut self) {
        if !self.halted {
            member::hand_over(&mut self.replica);
        }
    }

    /// Whether it leads, and another one could.
    #[must_use]
    pub fn can_hand_over(&self) -> bool {
        self.is_leader() && self.replica.best_follower().is_some()
    }

    /// A member says that the change at `position` removed this replica.
    pub fn dismissed(&mut self, position: Position) {
        let newer = position > self.replica.log().members_at();
        if newer && !self.replica.is_leader() {
            self.removed = true;
        }
    }

    /// Where the change stands that made `peer` a stranger, when its message shows that it does not
    /// know of it: it asks for votes, belongs to no configuration here, and is behind that change
    /// or speaks to the one who leads.
    #[must_use]
    pub fn stranger(&self, peer: NodeId, message: &Message) -> Option<Position> {
        let votes = [MessageType::MsgRequestVote, MessageType::MsgRequestPreVote];
        let log = self.replica.log();
        let known = member::belongs(log.members(), peer);
        if known || self.halted || self.removed || !votes.contains(&message.get_msg_type()) {
            return None;
        }
        let leads = self.replica.is_leader() && self.replica.has_committed_in_term();
        let at = log.members_at();
        (leads || message.index < at.0).then_some(at)
    }

    /// Whom a message must introduce to its receiver, who may not know them yet.
    #[must_use]
    pub fn introduces(&self, message: &Message) -> &[Member] {
        let me = || self.members.iter().position(|member| member.node == self.replica.node());
        match message.get_msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                me().map_or(&[], |place| &self.members[place..=place])
            }
            MessageType::MsgAppend | MessageType::MsgHeartbeat => {
                let behind = self.replica.matched(message.to).unwrap_or_default()
                    < self.replica.log().members_at();
                if behind { &self.members } else { &[] }
            }
            _ => &[],
        }
    }

    /// Everyone who belongs to the group, as far as this replica has applied its log.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether it knows who belongs to the group: a replica that joins one hears of that first.
    #[must_use]
    pub fn has_members(&self) -> bool {
        !self.conf().voters.is_empty()
    }

    /// Those whom changes in the log name that are not applied yet.
    pub fn newcomers(&self) -> impl Iterator<Item = Member> + '_ {
        self.coming_changes().flat_map(|step| step.members)
    }

    /// The changes of members in the log that are not applied yet, the newest first.
    pub(super) fn coming_changes(&self) -> impl Iterator<Item = Step> + '_ {
        let log = self.replica.log();
        let entries = log.backwards().take_while(|entry| entry.index > self.applied.0);
        entries.filter_map(settle::step_of)
    }

    /// Where the newest change of members stands.
    #[must_use]
    pub fn members_at(&self) -> Position {
        self.replica.log().members_at()
    }

    /// Who votes and who listens.
    #[must_use]
    pub fn conf(&self) -> &ConfState {
        self.replica.log().members()
    }

    /// Whether nobody else belongs to the group: it may leave without asking.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let me = u64::from(self.replica.node().0);
        let mut all = member::lists(self.replica.log().members()).into_iter().flatten().peekable();
        all.peek().is_some() && all.all(|id| *id == me)
    }

    /// Who of the members holds no state: raft is told.
    pub(super) fn know_witnesses(&mut self) {
        let witnesses = self.members.iter().filter(|member| member.role == Role::Witness);
        let witnesses = witnesses.map(|member| u64::from(member.node.0)).collect();
        self.replica.log_mut().set_witnesses(witnesses);
    }

    /// Whether this replica may be deleted without asking anybody: it is the group, or belongs to
    /// it no more. Not while a single voter stays: should that one forget over a crash that the
    /// change was committed, it needs this one's vote to find it again. Who has left by its word
    /// is free.
    #[must_use]
    pub fn may_go(&self) -> bool {
        let voters = &self.conf().voters;
        let needed = voters.len() == 1 && !voters.contains(&u64::from(self.node().0));
        self.is_alone() || self.removed && !needed
    }

    /// Whether it belongs to the group no more by what it has applied; a leader that speaks to it
    /// may know better.
    pub(super) fn is_outside(&self) -> bool {
        self.has_members() && !member::belongs(self.conf(), self.node())
    }

    /// Whether this replica belongs to the group no more.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed
    }
}
