//! How a group is, in the words of `ringraft.cluster.v1`.
//!
//! Whoever leads knows how far each member is; other replicas say what they have and whom they take
//! for the leader. Absent on purpose: where clients reach the members, which the shard fills in.

use super::{
    Partition,
    member::{Member, Role},
};
use crate::wire::cluster::{self, DescribePartitionResponse, Part};

impl Partition {
    /// What this replica knows of its group.
    #[must_use]
    pub fn describe(&self) -> DescribePartitionResponse {
        let (term, leader) = self.leadership();
        DescribePartitionResponse {
            partition_id: self.id.0,
            node_id: self.node().0,
            term: term.0,
            leader: leader.map_or(0, |leader| leader.0),
            last: self.replica.last().0,
            committed: self.replica.committed().0,
            applied: self.applied.0,
            changing: self.is_leader() && self.replica.is_changing()
                || !self.conf().voters_outgoing.is_empty(),
            halted: self.halted,
            removed: self.removed,
            members: self.members.iter().map(|member| self.describe_member(member)).collect(),
        }
    }

    fn describe_member(&self, member: &Member) -> cluster::Member {
        let id = u64::from(member.node.0);
        let role = match member.role {
            Role::Member => cluster::Role::Member,
            Role::Observer => cluster::Role::Observer,
            Role::Witness => cluster::Role::Witness,
        };
        let conf = self.conf();
        let part = if conf.voters.contains(&id) {
            Part::Votes
        } else if conf.voters_outgoing.contains(&id) {
            Part::Goes
        } else if conf.learners.contains(&id) {
            Part::Listens
        } else {
            Part::None
        };
        let reach = self.replica.progress(id).filter(|_| self.is_leader());
        cluster::Member {
            node_id: member.node.0,
            host: member.host.clone(),
            port: member.port.into(),
            clients: String::new(),
            role: role.into(),
            part: part.into(),
            heard: reach.and_then(|reach| reach.heard),
            matched: reach.map(|reach| reach.matched.0),
            lag: reach.map(|reach| reach.lag),
            snapshot: reach.is_some_and(|reach| reach.snapshot),
        }
    }
}
