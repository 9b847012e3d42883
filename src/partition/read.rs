//! Queries of one partition: confirmed by one round for all of a turn, answered when what they wait
//! for is applied.
//!
//! ```text
//! taken ──(leads, term committed)──► round n ──(quorum)──► due at position and index ──► run
//!   │                                  │                     │
//!   └──────── deadline, lost leadership, gone: refused ──────┘
//! ```
//!
//! raft-rs drops a read without a word when it does not lead or has not committed in its term, and
//! forgets all of them when it steps down. So a round has our own number and a deadline, nothing is
//! asked before the term's first commit, and losing leadership refuses whatever waits. A single
//! voter needs no round: only it commits. Absent on purpose: lease reads.

use std::{collections::BTreeSet, collections::VecDeque, ops::Range};

use crate::{
    id::{Index, Position, Term, Ticket},
    limits::READ_ROUNDS_MAX,
    partition::{
        replica::Replica,
        reply::{Refusal, Replies},
    },
    time::{Instant, Span},
};

/// The queries of one partition that are not answered yet.
#[derive(Default, Debug)]
pub struct Reads {
    taken: Batch,
    rounds: VecDeque<Round>,
    due: Vec<(Position, Batch)>,
    number: u64,
    waiting: usize,
    earliest: Option<Instant>,
    spare: Batch,
}

/// Queries with their bodies in one buffer.
#[derive(Default, Debug)]
struct Batch {
    list: Vec<Query>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Query {
    ticket: Ticket,
    deadline: Instant,
    at_least: Index,
    body: Range<usize>,
}

#[derive(Debug)]
struct Round {
    number: u64,
    deadline: Instant,
    batch: Batch,
}

impl Reads {
    /// Takes a query, which waits until `deadline` at most.
    pub fn take(&mut self, ticket: Ticket, deadline: Instant, at_least: Index, body: &[u8]) {
        let start = self.taken.bytes.len();
        self.taken.bytes.extend_from_slice(body);
        let body = start..self.taken.bytes.len();
        self.taken.list.push(Query { ticket, deadline, at_least, body });
        self.waiting += 1;
        self.note(deadline);
    }

    /// Asks for whatever can be asked for now; a round that nobody answers ends at `deadline`.
    pub fn ask(&mut self, replica: &mut Replica, deadline: Instant) {
        assert!(replica.is_leader(), "only a leader confirms reads");
        if self.taken.list.is_empty() || !replica.has_committed_in_term() {
            return;
        }
        if replica.is_single_voter() {
            // Nobody else commits, so what is committed now holds all that was ever acknowledged.
            let batch = std::mem::replace(&mut self.taken, std::mem::take(&mut self.spare));
            self.due.push((replica.committed(), batch));
        } else if self.rounds.len() < READ_ROUNDS_MAX {
            self.number += 1;
            replica.read(context(replica.term(), self.number));
            let batch = std::mem::take(&mut self.taken);
            self.rounds.push_back(Round { number: self.number, deadline, batch });
            self.note(deadline);
        }
    }

    /// A quorum heard of the round in `context` after position `at` was committed. It confirms all
    /// rounds before it too: they were asked earlier.
    pub fn confirmed(&mut self, context: &[u8], term: Term, at: Position) {
        let Some(number) = number_of(context, term) else { return };
        while self.rounds.front().is_some_and(|round| round.number <= number) {
            let round = self.rounds.pop_front().expect("there is a first round");
            self.due.push((at, round.batch));
        }
    }

    /// Runs what is due now that everything up to `applied`, and `index` commands, are applied.
    pub fn run(&mut self, applied: Position, index: Index, mut query: impl FnMut(Ticket, &[u8])) {
        let mut kept = 0;
        for place in 0..self.due.len() {
            let (position, batch) = &mut self.due[place];
            if *position <= applied {
                let (before, bytes) = (batch.list.len(), &batch.bytes);
                batch.list.retain(|waiting| {
                    if waiting.at_least > index {
                        return true;
                    }
                    query(waiting.ticket, &bytes[waiting.body.clone()]);
                    false
                });
                self.waiting -= before - batch.list.len();
            }
            if batch.list.is_empty() {
                batch.bytes.clear();
                self.spare = std::mem::take(batch);
            } else {
                self.due.swap(kept, place);
                kept += 1;
            }
        }
        self.due.truncate(kept);
    }

    /// Refuses those whose time has come.
    pub fn expire(&mut self, now: Instant, replies: &mut Replies) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut gone = 0;
        while self.rounds.front().is_some_and(|round| round.deadline <= now) {
            let round = self.rounds.pop_front().expect("there is a first round");
            for query in round.batch.list {
                replies.refuse(query.ticket, Refusal::Unavailable("the read was not confirmed"));
                gone += 1;
            }
        }
        for batch in self.batches() {
            batch.list.retain(|query| {
                let waits = query.deadline > now;
                if !waits {
                    replies.refuse(query.ticket, Refusal::Deadline);
                    gone += 1;
                }
                waits
            });
        }
        self.waiting -= gone;
        self.earliest = None;
        let rounds = self.rounds.iter().map(|round| round.deadline).min();
        let queries = self.batches().flat_map(|batch| &batch.list).map(|query| query.deadline);
        self.earliest = queries.min().into_iter().chain(rounds).min();
    }

    /// Refuses all of them.
    pub fn refuse(&mut self, refusal: &Refusal, replies: &mut Replies) {
        for batch in self.batches() {
            for query in batch.list.drain(..) {
                replies.refuse(query.ticket, refusal.clone());
            }
            batch.bytes.clear();
        }
        self.rounds.clear();
        self.due.clear();
        self.waiting = 0;
        self.earliest = None;
    }

    /// Forgets callers who hung up.
    pub fn gone(&mut self, tickets: &BTreeSet<Ticket>) {
        let mut gone = 0;
        for batch in self.batches() {
            let before = batch.list.len();
            batch.list.retain(|query| !tickets.contains(&query.ticket));
            gone += before - batch.list.len();
        }
        self.waiting -= gone;
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// When the first of them must be refused; may be early, never late.
    #[must_use]
    pub fn earliest(&self) -> Option<Instant> {
        if self.waiting == 0 { None } else { self.earliest }
    }

    fn note(&mut self, deadline: Instant) {
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
    }

    fn batches(&mut self) -> impl Iterator<Item = &mut Batch> {
        let rounds = self.rounds.iter_mut().map(|round| &mut round.batch);
        let due = self.due.iter_mut().map(|(_, batch)| batch);
        std::iter::once(&mut self.taken).chain(rounds).chain(due)
    }
}

/// How long a query without a deadline of its own waits, and a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// A query whose caller named no deadline.
    pub query: Span,
    /// A round that no quorum answers.
    pub round: Span,
}

/// A round's name. The term makes an answer to an earlier leadership of this replica recognisable.
fn context(term: Term, number: u64) -> Vec<u8> {
    let mut context = Vec::with_capacity(16);
    context.extend_from_slice(&term.0.to_be_bytes());
    context.extend_from_slice(&number.to_be_bytes());
    context
}

fn number_of(context: &[u8], term: Term) -> Option<u64> {
    let (of, number) = context.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    (u64::from_be_bytes(*of) == term.0).then_some(number)
}
