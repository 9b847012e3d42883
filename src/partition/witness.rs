//! Witnesses: members that vote and store the log, and hold no state.
//!
//! ```text
//!              votes  acknowledges  campaigns  applies commands  snapshot
//!   MEMBER       x         x            x             x           state
//!   OBSERVER                                          x           state
//!   WITNESS      x         x                                      where, who, nothing else
//! ```
//!
//! raft-rs knows no witnesses: for it they are voters. What makes one a witness stands in the
//! group's members, which every change and every snapshot carries, so whoever leads knows them: it
//! never hands leadership to one, and sends it snapshots without state, made on the spot. The
//! witness itself knows from its founding, which is the first record of it on disk: its election
//! timeout never fires, and it does not stand when a leader asks it to (`replica.rs`). It follows
//! the changes of members in its log and lets the commands pass; a snapshot of its own, of no
//! state, cuts its log when a member's would. Calls of clients it passes on to the leader.
//!
//! # Decisions
//!
//! A witness is one from its founding to its end. To become a MEMBER it would need the state, and
//! until that is there it would count as a replica that is none; a MEMBER that became a witness
//! would throw its state away while others may count on it. So a Join in the other part is refused:
//! the node leaves, and another one joins. (It cannot be the same: its votes were counted.)
//!
//! A group has at least one MEMBER, and the last one cannot leave before the witnesses.
//!
//! # What it costs
//!
//! An entry that only a dead leader and a witness have may be acknowledged: the witness will not
//! vote for a member that lacks it, and cannot lead itself. Such a group waits until that leader,
//! or another member with the entry, is back.
//!
//! So a leader lets another MEMBER have an entry before witnesses, as long as one is heard: what is
//! acknowledged is then on two disks with the state, and either leads when the other is gone. A
//! member that is silent for half an election timeout, or has an entry not within a whole one, is
//! not waited for; from then on the group is without this safety until it has caught up. And
//! nothing goes to a witness before it is on the leader's own disk: a leader that lost its newest
//! entries with its power would not be elected again by a witness that has them, and nobody else.
//! A leader whose own vote goes with a change under way waits for a member that stays however long
//! that is silent: what only it and witnesses have would go with it, and they could elect nobody.
//!
//! Absent on purpose: a way for a witness to hand the entries that only it has to a member.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::eraftpb::{ConfState, Message, MessageType, Snapshot};

use super::{
    Partition,
    member::{Member, Role},
    reply::Refusal,
};
use crate::id::{NodeId, Position, Term};

/// What a leader has for witnesses while its own disk or another member comes first. raft bounds
/// what is under way to each.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// In the order in which they were to leave.
    messages: VecDeque<Message>,
    /// Ticks since one of them left or the first came.
    waits: usize,
    /// Up to where some witness has it, or is to have it whoever else does: while no member has
    /// that, nothing is gained by waiting for one.
    given: u64,
    /// Ticks since others were heard.
    silence: BTreeMap<u64, usize>,
}

impl Partition {
    /// Whether this replica votes and stores, and holds no state.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.witness
    }

    /// Something came from a member.
    pub(super) fn note_heard(&mut self, peer: u64) {
        if self.replica.log().has_witnesses() && self.replica.is_leader() {
            self.deferred.silence.insert(peer, 0);
        }
    }

    /// The link by which a member was heard has ended. That one to it broke says less: it may be
    /// this leader that is failing.
    pub(super) fn note_hung_up(&mut self, peer: NodeId) {
        self.deferred.silence.remove(&u64::from(peer.0));
    }

    /// A tick passes.
    pub(super) fn age_deferred(&mut self) {
        let (silent, patience) = self.replica.silences();
        let deferred = &mut self.deferred;
        deferred.silence.retain(|_, ticks| {
            *ticks += 1;
            *ticks < silent
        });
        if let Some(newest) = deferred.messages.iter().map(end_of).max() {
            deferred.waits += 1;
            if deferred.waits >= patience {
                deferred.given = newest;
            }
        }
    }

    /// Whether something waits for witnesses.
    pub(super) fn defers(&self) -> bool {
        !self.deferred.messages.is_empty()
    }

    /// A message that may leave; otherwise it is kept for later, with all that follow it.
    pub(super) fn or_defer(&mut self, message: Message) -> Option<Message> {
        let appends = message.get_msg_type() == MessageType::MsgAppend;
        if !appends || !self.replica.is_leader() || !self.replica.log().is_witness(message.to) {
            return Some(message);
        }
        let follows = self.deferred.messages.iter().any(|other| other.to == message.to);
        if !follows && self.is_free(self.before_witnesses(), &message) {
            return Some(message);
        }
        if self.deferred.messages.is_empty() {
            self.deferred.waits = 0;
        }
        self.deferred.messages.push_back(message);
        None
    }

    /// Messages that need to wait no longer.
    pub(super) fn take_deferred(&mut self) -> Vec<Message> {
        if self.deferred.messages.is_empty() {
            return Vec::new();
        }
        if !self.replica.is_leader() {
            self.deferred = Deferred::default();
            return Vec::new();
        }
        let before = self.before_witnesses();
        let (mut blocked, mut free) = (BTreeSet::new(), Vec::new());
        for message in std::mem::take(&mut self.deferred.messages) {
            if !blocked.contains(&message.to) && self.is_free(before, &message) {
                free.push(message);
                self.deferred.waits = 0;
            } else {
                blocked.insert(message.to);
                self.deferred.messages.push_back(message);
            }
        }
        free
    }

    /// Whom a witness waits for.
    fn before_witnesses(&self) -> Before {
        let matched = |id| self.replica.matched(id).map(|position| position.0);
        if self.leads_to_leave() {
            let stay = self.conf().voters.iter().filter(|id| self.replica.could_lead(**id));
            return Before::Stayer(stay.filter_map(|id| matched(*id)).max().unwrap_or(0));
        }
        let heard = self.deferred.silence.keys().copied();
        let leads = heard.filter(|id| self.replica.could_lead(*id));
        leads.filter_map(matched).max().map_or(Before::Nobody, Before::Quickest)
    }

    /// Whether a change that is under way takes this replica's vote.
    fn leads_to_leave(&self) -> bool {
        let me = u64::from(self.node().0);
        !self.conf().voters.contains(&me)
            || self.replica.is_changing() && self.coming_changes().any(|step| step.takes_vote(me))
    }

    /// Whether a witness may have this now.
    fn is_free(&mut self, before: Before, message: &Message) -> bool {
        let durable = self.replica.matched(u64::from(self.replica.node().0)).unwrap_or_default();
        let (end, given) = (end_of(message), &mut self.deferred.given);
        let free = durable.0 >= end
            && match before {
                Before::Nobody => true,
                Before::Quickest(has) => has >= end || has < *given,
                Before::Stayer(has) => has >= end,
            };
        if free {
            *given = end.max(*given);
        }
        free
    }
}

/// Whom a witness waits for, and how far that one is.
#[derive(Clone, Copy)]
enum Before {
    /// Nobody who could lead is heard.
    Nobody,
    /// The quickest that could lead and is heard, within reason.
    Quickest(u64),
    /// The quickest that could lead once this leader has left.
    Stayer(u64),
}

/// The last position that a message appends, or follows.
fn end_of(message: &Message) -> u64 {
    message.index + message.entries.len() as u64
}

/// What a witness starts from instead of a state: where, and who belongs to the group there.
#[must_use]
pub fn snapshot(position: Position, term: Term, conf: ConfState) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let meta = snapshot.mut_metadata();
    (meta.index, meta.term) = (position.0, term.0);
    meta.set_conf_state(conf);
    snapshot
}

/// Whether one of these is a witness on `node`.
#[must_use]
pub fn is_among(members: &[Member], node: NodeId) -> bool {
    members.iter().any(|member| member.node == node && member.role == Role::Witness)
}

/// Why `node` cannot change its part from one to the other, if that is so.
#[must_use]
pub fn forbids(node: NodeId, from: Role, to: Role) -> Option<Refusal> {
    let text = match (from, to) {
        (Role::Witness, Role::Member | Role::Observer) => format!(
            "node {node} is a witness of this group, which holds no state, and stays one: have it \
             leave, and another node join"
        ),
        (Role::Member | Role::Observer, Role::Witness) => format!(
            "node {node} holds the state of this group and does not become its witness: have it \
             leave, and another node join as WITNESS"
        ),
        (Role::Witness, Role::Witness)
        | (Role::Member | Role::Observer, Role::Member | Role::Observer) => return None,
    };
    Some(Refusal::Precondition(text))
}
