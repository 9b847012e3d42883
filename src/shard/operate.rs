//! What an operator asks of a group: how it is, that a member goes, that another one leads; and who
//! watches a group that has no replica here.
//!
//! Absent on purpose: doing it. The leader does (`partition/member.rs`), asked again and again by
//! an errand (`errand.rs`) on the node that the operator spoke to.

use prost::Message as _;

use super::{
    Shard,
    errand::Goal,
    inbox::{Change, Request, Requests},
    roster,
};
use crate::{
    id::Index,
    partition::reply::{Refusal, Status},
    time::{Now, Span},
};

impl Shard {
    /// A change that is wanted until it is so.
    pub(super) fn arrange(
        &mut self,
        request: &Request,
        change: &Change,
        patience: Span,
        now: Now,
    ) -> Result<(), Refusal> {
        roster::check_change(change)?;
        let id = request.partition;
        if self.roster.get(id).is_none() && self.members_elsewhere(id).next().is_none() {
            self.roster.find(id)?;
        }
        let caller = (request.ticket, request.deadline);
        self.errands.begin(id, caller, Goal::Arrange(change.clone(), patience), now)
    }

    /// How a partition is, as its leader sees it if there is one, or as the replica here does.
    pub(super) fn describe(
        &mut self,
        requests: &Requests,
        request: &Request,
        here: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        if !here && let Some(to) = self.elsewhere(request) {
            return self.pass_on(to, requests, request, now);
        }
        let partition = &self.roster.find(request.partition)?.partition;
        let (mut described, local) = (partition.describe(), partition.node());
        let members = partition.members().to_vec();
        for (told, member) in described.members.iter_mut().zip(&members) {
            assert_eq!(told.node_id, member.node.0, "members are described in their order");
            told.clients = self.roster.clients_of(member, local, &self.settings);
        }
        let bytes = described.encode_to_vec();
        self.effects.replies.output(request.ticket, Index(0), 0, Status::Ok, &bytes, true);
        Ok(())
    }

    /// A watcher of a partition; of one that is not here it hears through a member.
    pub(super) fn watch_partition(
        &mut self,
        requests: &Requests,
        request: &Request,
        now: Now,
    ) -> Result<(), Refusal> {
        let (id, ticket) = (request.partition, request.ticket);
        if self.roster.get(id).is_none()
            && let Some(to) = self.elsewhere(request)
        {
            return self.pass_on(to, requests, request, now);
        }
        self.roster.watch_partition(id, ticket, &self.settings, &mut self.effects.replies);
        Ok(())
    }
}
