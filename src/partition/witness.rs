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
//! An entry that only a dead leader and a witness have is as good as acknowledged: the witness will
//! not vote for a member that lacks it, and cannot lead itself. Such a group waits until that
//! leader, or another member with the entry, is back. A witness saves the disk and the memory of a
//! state, not the need for a second member that keeps up.
//!
//! Absent on purpose: a way for a witness to hand the entries that only it has to a member.

use raft::eraftpb::{ConfState, Snapshot};

use super::{
    Partition,
    member::{Member, Role},
    reply::Refusal,
};
use crate::id::{NodeId, Position, Term};

impl Partition {
    /// Whether this replica votes and stores, and holds no state.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.witness
    }
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
