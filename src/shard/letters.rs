//! What goes to the node's other cores: collected over a turn, at most one letter of each sort a
//! core.

use crate::{
    id::{PartitionId, ShardId, Ticket},
    partition::reply::Replies,
    shard::inbox::{Contact, Letter, Request, Requests},
};

/// The letters of one turn.
#[derive(Debug)]
pub(super) struct Letters {
    to: Vec<Sheet>,
}

#[derive(Default, Debug)]
struct Sheet {
    requests: Requests,
    replies: Replies,
    gone: Vec<(PartitionId, Ticket)>,
    contacts: Option<Vec<Contact>>,
}

impl Letters {
    /// For a node with so many cores.
    pub fn new(shards: u16) -> Letters {
        Letters { to: (0..shards).map(|_| Sheet::default()).collect() }
    }

    /// A call that another core owns.
    pub fn request(&mut self, to: ShardId, from: &Requests, request: &Request) {
        self.to[usize::from(to.0)].requests.copy(from, request);
    }

    /// A caller who is gone.
    pub fn gone(&mut self, to: ShardId, partition: PartitionId, ticket: Ticket) {
        self.to[usize::from(to.0)].gone.push((partition, ticket));
    }

    /// All other cores hear which nodes share a group with this one.
    pub fn contacts(&mut self, here: ShardId, contacts: &[Contact]) {
        for (shard, sheet) in (0..).map(ShardId).zip(&mut self.to) {
            sheet.contacts = (shard != here).then(|| contacts.to_vec());
        }
    }

    /// Moves the replies for callers of other cores out of `replies`.
    pub fn take_foreign(&mut self, here: ShardId, replies: &mut Replies) {
        if replies.list.iter().all(|reply| reply.ticket.shard == here) {
            return;
        }
        let list = std::mem::take(&mut replies.list);
        let (own, foreign): (Vec<_>, Vec<_>) =
            list.into_iter().partition(|reply| reply.ticket.shard == here);
        for reply in &foreign {
            let sheet = &mut self.to[usize::from(reply.ticket.shard.0)];
            sheet.replies.copy(replies, reply);
        }
        // The bytes of what left stay behind until the batch is cleared.
        replies.list = own;
    }

    /// Seals the letters.
    pub fn seal(&mut self, into: &mut Vec<(ShardId, Letter)>) {
        for (shard, sheet) in (0..).map(ShardId).zip(&mut self.to) {
            if !sheet.requests.list.is_empty() {
                into.push((shard, Letter::Requests(std::mem::take(&mut sheet.requests))));
            }
            if !sheet.replies.is_empty() {
                into.push((shard, Letter::Replies(std::mem::take(&mut sheet.replies))));
            }
            if !sheet.gone.is_empty() {
                into.push((shard, Letter::Gone(std::mem::take(&mut sheet.gone))));
            }
            into.extend(sheet.contacts.take().map(|contacts| (shard, Letter::Contacts(contacts))));
        }
    }
}
