//! Watches and listings: reads that go on. They live on the replica that answers them, in no
//! snapshot and in no digest.
//!
//! A long listing leaves in pieces, a key after another, so that a turn stays short. A change to a
//! key that the listing has passed is told to its watcher; a change ahead of it is not, because the
//! listing will come there: so nothing is lost or told twice. What a listing shows is each entry as
//! it is when the listing comes by, not one instant. Absent on purpose: numbers, acknowledgements
//! and repeats; a client that comes again starts anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::{Index, PrimitiveId, SessionId, Ticket};
use crate::limits::{CLEAR_EVENTS_MAX, LISTING_BYTES_MAX, REPLIES_BYTES_MAX, REPLIES_MAX};
use crate::partition::reply::{Refusal, Replies, Status};

/// Everything that watches or lists here.
#[derive(Default, Debug)]
pub struct Watches {
    all: BTreeMap<Name, Watch>,
    by_ticket: BTreeMap<Ticket, Name>,
    by_session: BTreeSet<(SessionId, Name)>,
    /// Those that still list, in the order in which they get their next piece.
    listing: VecDeque<Name>,
    /// Bytes that listings have handed out since the line was served last.
    handed_out_bytes: usize,
    arrivals: u64,
}

/// A watch: what it watches, and its place in the order of arrival.
pub type Name = (PrimitiveId, u64);

/// One of them.
#[derive(Debug)]
pub struct Watch {
    /// Who gets it.
    pub ticket: Ticket,
    /// Whose it is.
    pub session: SessionId,
    /// Its number there; `None` in the dialect whose queries have none.
    pub sequence: Option<u64>,
    /// Whether it stays when the listing is through.
    pub stays: bool,
    /// How far it is.
    pub place: Place,
}

/// How far a watch is.
#[derive(Debug)]
pub enum Place {
    /// The listing has come to this key, or nowhere yet.
    Listing(Option<Box<str>>),
    /// Every change is told.
    Live,
}

impl Watches {
    /// Attaches one. One that lists gets into the line with `again`.
    pub fn add(&mut self, primitive: PrimitiveId, watch: Watch) -> Name {
        self.remove(watch.ticket);
        self.arrivals += 1;
        let name = (primitive, self.arrivals);
        self.by_ticket.insert(watch.ticket, name);
        self.by_session.insert((watch.session, name));
        self.all.insert(name, watch);
        name
    }

    /// Tells a change to every watcher of `primitive`.
    pub fn tell(
        &mut self,
        primitive: PrimitiveId,
        key: Option<&str>,
        index: Index,
        output: &[u8],
        replies: &mut Replies,
    ) {
        let mut flooded = Vec::new();
        for (name, watch) in self.all.range((primitive, 0)..=(primitive, u64::MAX)) {
            let due = match (&watch.place, key) {
                (Place::Live, _) => true,
                (Place::Listing(Some(at)), Some(key)) => watch.stays && key <= &**at,
                (Place::Listing(_), _) => false,
            };
            if due && !deliver(replies, watch.ticket, index, 0, Status::Ok, output, false) {
                flooded.push(*name);
            }
        }
        for name in flooded {
            self.forget(name);
        }
    }

    /// `count` changes of `primitive` come at once. Whether somebody is to be told of each; where
    /// that would be too much, its watchers are refused instead and look anew.
    pub fn brace(&mut self, primitive: PrimitiveId, count: usize, replies: &mut Replies) -> bool {
        let here = self.all.range((primitive, 0)..=(primitive, u64::MAX));
        let here = here.filter(|(_, watch)| watch.stays);
        let names: Vec<Name> = here.map(|(name, _)| *name).collect();
        if names.len().saturating_mul(count) <= CLEAR_EVENTS_MAX {
            return !names.is_empty();
        }
        for name in names {
            if let Some(watch) = self.forget(name) {
                replies.refuse(watch.ticket, Refusal::Unavailable("too many events at once"));
            }
        }
        false
    }

    /// Whether anybody watches `primitive`.
    #[must_use]
    pub fn any(&self, primitive: PrimitiveId) -> bool {
        !self.all.is_empty()
            && self.all.range((primitive, 0)..=(primitive, u64::MAX)).next().is_some()
    }

    /// Ends, regularly, those watches of a session that `which` names by primitive and number.
    pub fn end(
        &mut self,
        session: SessionId,
        replies: &mut Replies,
        which: impl Fn(PrimitiveId, Option<u64>) -> bool,
    ) {
        if self.all.is_empty() {
            return;
        }
        let first = (session, (PrimitiveId(0), 0));
        let last = (session, (PrimitiveId(u64::MAX), u64::MAX));
        let of_session = self.by_session.range(first..=last).map(|(_, name)| *name);
        let ended: Vec<Name> = of_session
            .filter(|name| self.all.get(name).is_some_and(|watch| which(name.0, watch.sequence)))
            .collect();
        for name in ended {
            if let Some(watch) = self.forget(name) {
                replies.end(watch.ticket);
            }
        }
    }

    /// Takes the next one that lists out of the line.
    pub fn next_listing(&mut self) -> Option<Name> {
        while let Some(name) = self.listing.pop_front() {
            if matches!(self.all.get(&name), Some(Watch { place: Place::Listing(_), .. })) {
                return Some(name);
            }
        }
        None
    }

    /// Puts one that still lists at the end of the line.
    pub fn again(&mut self, name: Name) {
        self.listing.push_back(name);
    }

    /// One of them.
    pub fn get_mut(&mut self, name: Name) -> Option<&mut Watch> {
        self.all.get_mut(&name)
    }

    /// Lets go of one.
    pub fn forget(&mut self, name: Name) -> Option<Watch> {
        let watch = self.all.remove(&name)?;
        self.by_ticket.remove(&watch.ticket);
        self.by_session.remove(&(watch.session, name));
        Some(watch)
    }

    /// The caller is gone.
    pub fn remove(&mut self, ticket: Ticket) -> bool {
        let name = self.by_ticket.get(&ticket).copied();
        name.is_some_and(|name| self.forget(name).is_some())
    }

    /// Refuses all of them.
    pub fn detach(&mut self, refusal: &Refusal, replies: &mut Replies) {
        for (_, watch) in std::mem::take(&mut self.all) {
            replies.refuse(watch.ticket, refusal.clone());
        }
        self.by_ticket.clear();
        self.by_session.clear();
        self.listing.clear();
    }

    /// What listings may still hand out before the line is served again.
    #[must_use]
    pub fn allowance_bytes(&self) -> usize {
        LISTING_BYTES_MAX.saturating_sub(self.handed_out_bytes)
    }

    /// A listing has handed out so much.
    pub fn handed_out(&mut self, bytes: usize) {
        self.handed_out_bytes += bytes;
    }

    /// The line is served: what was handed out before is forgotten.
    pub fn replenish(&mut self) {
        self.handed_out_bytes = 0;
    }

    /// Whether one lists.
    #[must_use]
    pub fn is_listing(&self) -> bool {
        !self.listing.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Adds an output to the batch, or, when the batch is as large as it may get, tells the caller to
/// come again: what it misses is kept, or listed anew. `false` in that case.
#[inline]
pub fn deliver(
    replies: &mut Replies,
    ticket: Ticket,
    index: Index,
    number: u64,
    status: Status,
    bytes: &[u8],
    last: bool,
) -> bool {
    if replies.bytes.len() > REPLIES_BYTES_MAX || replies.list.len() > REPLIES_MAX {
        replies.refuse(ticket, Refusal::Unavailable("too many events at once"));
        return false;
    }
    replies.output(ticket, index, number, status, bytes, last);
    true
}
