//! Reads: one answer, or a listing, or a watch.
//!
//! The caller of `query` has confirmed that this replica may answer, and that the state is recent
//! enough. A read changes no replicated state and expires nothing. Long listings leave in pieces
//! (`watch.rs`).

use crate::id::{SessionId, Ticket};
use crate::limits::LISTING_BYTES_MAX;
use crate::partition::command::Named;
use crate::partition::machine::{Machine, malformed, undecodable};
use crate::partition::primitive::{self, Ask, Asked, Mode, Operation};
use crate::partition::reply::{Refusal, Replies, Status};
use crate::partition::session::Target;
use crate::partition::watch::{Name, Place, Watch, deliver};
use crate::wire::field::{self, Fields};

impl Machine {
    /// Answers a `SessionQueryInput`, confirmed and due. A listing or watch stays attached by its
    /// ticket.
    pub fn query(&mut self, ticket: Ticket, body: &[u8], replies: &mut Replies) {
        let query = match Query::parse(body) {
            Ok(query) => query,
            Err(broken) => return replies.refuse(ticket, undecodable(broken)),
        };
        let (session, sequence) = (query.session, query.sequence);
        let Some(target) = query.target else {
            return replies.refuse(ticket, malformed("the query is missing"));
        };
        if !self.ledger.sessions.contains_key(&session) {
            return replies.refuse(ticket, Refusal::UnknownSession(session));
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let asked = self.ask(session, &target, &mut out);
        let (index, primitive) = (self.ledger.index, target.primitive);
        match asked {
            Asked::Done(status) => {
                deliver(replies, ticket, index, 0, status, &out, true);
            }
            Asked::Refused(refusal) => replies.refuse(ticket, refusal),
            Asked::Following => {
                let first =
                    out.is_empty() || deliver(replies, ticket, index, 0, Status::Ok, &out, false);
                if first {
                    let place = Place::Live;
                    let watch = Watch { ticket, session, sequence, stays: true, place };
                    self.ledger.watches.add(primitive, watch);
                }
            }
            Asked::Listing | Asked::Watching => {
                let (stays, place) = (asked == Asked::Watching, Place::Listing(None));
                let watch = Watch { ticket, session, sequence, stays, place };
                let name = self.ledger.watches.add(primitive, watch);
                let allowance_bytes = self.ledger.watches.allowance_bytes();
                let spent = self.list(name, &mut out, allowance_bytes, replies);
                self.ledger.watches.handed_out(spent);
            }
        }
        self.scratch = out;
    }

    /// Whether listings go on with the next `more`.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.ledger.watches.is_listing()
    }

    /// Hands out the next pieces of listings, in turn: what those that began since the last call
    /// have left of a bounded number of bytes.
    pub fn more(&mut self, replies: &mut Replies) {
        let mut out = std::mem::take(&mut self.scratch);
        loop {
            let left = self.ledger.watches.allowance_bytes();
            if left == 0 {
                break;
            }
            let Some(name) = self.ledger.watches.next_listing() else { break };
            let spent = self.list(name, &mut out, left.min(LISTING_BYTES_MAX / 8), replies);
            self.ledger.watches.handed_out(spent);
        }
        self.ledger.watches.replenish();
        self.scratch = out;
    }

    fn ask(&self, session: SessionId, target: &Target<'_>, out: &mut Vec<u8>) -> Asked {
        let id = target.primitive;
        let mut ask = Ask { out, bounds: &self.ledger.bounds, watches: self.ledger.watches.len() };
        let Some(instance) = self.primitives.get(&id) else {
            return ask.fail(Status::Forbidden, format_args!("primitive {id} not found"));
        };
        if !instance.sessions.contains(&session) {
            return ask.fail(Status::Forbidden, format_args!("session not found"));
        }
        if instance.kind as u64 != target.kind {
            let (is, asked) = (instance.kind, Named(target.kind));
            let text = format_args!("primitive {id} is a {is}, not a {asked}");
            return ask.fail(Status::Invalid, text);
        }
        let (tag, input) = match primitive::member(target.payload) {
            Ok(Some(member)) => member,
            Ok(None) => return ask.fail(Status::Invalid, format_args!("the input is missing")),
            Err(_) => return ask.undecodable(),
        };
        match Operation::of(target.kind, tag).mode() {
            Some(Mode::Watch) if ask.watches >= ask.bounds.watches_max => {
                Asked::Refused(Refusal::Full("the partition has too many watches"))
            }
            Some(Mode::Query | Mode::Watch) => instance.state.query(&mut ask, tag, input),
            _ => ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
    }

    /// One piece of a listing; what it took.
    fn list(
        &mut self,
        name: Name,
        out: &mut Vec<u8>,
        budget_bytes: usize,
        replies: &mut Replies,
    ) -> usize {
        let index = self.ledger.index;
        let (Some(watch), Some(instance)) =
            (self.ledger.watches.get_mut(name), self.primitives.get(&name.0))
        else {
            return 0;
        };
        let Place::Listing(at) = &mut watch.place else {
            return 0;
        };
        let ticket = watch.ticket;
        let mut spent = ITEM_BYTES;
        while spent < budget_bytes {
            out.clear();
            let Some(key) = instance.state.list(at.as_deref(), out) else {
                watch.place = Place::Live;
                if !watch.stays {
                    self.ledger.watches.forget(name);
                    replies.end(ticket);
                }
                return spent;
            };
            if !deliver(replies, ticket, index, 0, Status::Ok, out, false) {
                self.ledger.watches.forget(name);
                return spent;
            }
            spent += out.len() + ITEM_BYTES;
            *at = Some(key);
        }
        self.ledger.watches.again(name);
        spent
    }
}

/// What an item costs beside its bytes, so that a listing of empty ones is bounded too.
const ITEM_BYTES: usize = 64;

/// `SessionQueryInput`. Its deadline is the shell's matter: a parked query is refused there. Field
/// 101 is ours: the sequence number that queries of the released dialect have, by which a
/// keep-alive ends them (core.md 3.3, step 5).
#[derive(Default)]
struct Query<'a> {
    session: SessionId,
    sequence: Option<u64>,
    target: Option<Target<'a>>,
}

impl<'a> Query<'a> {
    fn parse(body: &'a [u8]) -> Result<Query<'a>, field::Broken> {
        let mut query = Query::default();
        let mut fields = Fields::new(body);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => query.session = SessionId(value.uint()?),
                3 => query.target = Some(Target::parse(value.bytes()?)?),
                101 => query.sequence = Some(value.uint()?),
                _ => {}
            }
        }
        Ok(query)
    }
}
