//! Who belongs to a group, as raft counts them, and how leadership is handed over before leaving.
//!
//! Founding members are fixed when the group is founded. Absent so far: joining and leaving as
//! joint changes driven to their end across leaders; until then no configuration entry is ever
//! proposed, and one that comes from elsewhere is refused where messages are decoded.

use raft::eraftpb::ConfState;

use crate::{
    id::{NodeId, PartitionId},
    partition::replica::Replica,
};

/// A group's members as they are founded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Which group.
    pub partition: PartitionId,
    /// Which of its members this replica is.
    pub local: NodeId,
    /// Those who vote; not empty.
    pub voters: Vec<NodeId>,
    /// Those who only apply.
    pub learners: Vec<NodeId>,
}

impl Group {
    /// The group as raft's configuration.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        assert!(!self.voters.is_empty(), "partition {} has no voters", self.partition);
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| u64::from(node.0)).collect::<Vec<_>>();
        conf_state(&ids(&self.voters), &ids(&self.learners))
    }
}

/// A configuration outside any change.
#[must_use]
pub fn conf_state(voters: &[u64], learners: &[u64]) -> ConfState {
    let mut state = ConfState::default();
    state.set_voters(voters.to_vec());
    state.set_learners(learners.to_vec());
    state
}

/// Asks the follower with most of the log to take over at once, so that the group does not wait for
/// an election timeout after its leader has gone.
pub fn hand_over(replica: &mut Replica) {
    if replica.is_leader()
        && let Some(to) = replica.best_follower()
    {
        replica.transfer(to);
    }
}
