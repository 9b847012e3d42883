//! A leader election: one leader, a queue behind it (primitives.md 2.3, the recommended column).
//!
//! The term grows by one exactly when somebody becomes leader; a term with no leader says that its
//! last leader is gone. The leader is never in the queue. Every session with a candidate counts:
//! when it leaves, all its candidates go (E-03), and only if the leader was among them does the
//! first of the others follow. The state is exactly `LeaderElectionSnapshot`. Absent on purpose:
//! failures; an operation that does not apply changes nothing and answers the present term.

use std::collections::VecDeque;

use crate::id::SessionId;
use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, checked_name, undecodable,
};
use crate::partition::reply::{Refusal, Status};
use crate::partition::snapshot::{Broken, Restoring};
use crate::wire::field::{self, Fields, put_bytes, put_message, put_text, put_uint};

/// The state of an election.
#[derive(Clone, Default, Debug)]
pub struct Election {
    term: u64,
    leader: Option<Candidate>,
    queue: VecDeque<Candidate>,
    bytes: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Candidate {
    name: Box<str>,
    session: SessionId,
}

const ENTER: u32 = 1;
const WITHDRAW: u32 = 2;
const ANOINT: u32 = 3;
const PROMOTE: u32 = 4;
const EVICT: u32 = 5;
const GET_TERM: u32 = 6;
const WATCH: u32 = 7;
const DEMOTE: u32 = 8;

/// Snapshot record: one `LeaderElectionSnapshot`.
const STATE: u8 = 21;

const CANDIDATE_BYTES: usize = size_of::<Candidate>() + 16;

impl Shape for Election {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            ENTER | WITHDRAW | ANOINT | PROMOTE | DEMOTE | EVICT => Some(Mode::Command),
            GET_TERM => Some(Mode::Query),
            WATCH => Some(Mode::Watch),
            _ => None,
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer {
        // Promote and Demote have their candidate at 2, all others at 1.
        let place = if matches!(tag, PROMOTE | DEMOTE) { 2 } else { 1 };
        let Ok(name) = parse_name(input, place) else {
            return undecodable(cx);
        };
        let name = match checked_name(name) {
            Ok(name) => name,
            Err(refusal) => return Answer::Refused(refusal),
        };
        let changed = match tag {
            ENTER if name.is_empty() => {
                return Answer::Refused(Refusal::Malformed("a candidate needs a name".to_owned()));
            }
            ENTER => {
                if self.queue.len() >= cx.ledger.bounds.candidates_max && !self.has(name) {
                    return Answer::Refused(Refusal::Full("the election has too many candidates"));
                }
                self.enter(name, call.session)
            }
            WITHDRAW => self.withdraw(name, call.session),
            ANOINT => self.anoint(name),
            PROMOTE => self.promote(name),
            DEMOTE => self.demote(name),
            EVICT => self.evict(name),
            _ => return cx.fail(Status::NotSupported, format_args!("proposal not supported")),
        };
        self.put_term(cx.out);
        if changed {
            self.notify(cx);
        }
        Answer::Done(Status::Ok)
    }

    fn query(&self, ask: &mut Ask<'_>, tag: u32, _input: &[u8]) -> Asked {
        match tag {
            GET_TERM => {
                self.put_term(ask.out);
                Asked::Done(Status::Ok)
            }
            WATCH => {
                if self.term > 0 {
                    self.put_term(ask.out);
                }
                Asked::Following
            }
            _ => ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
    }

    fn left(&mut self, cx: &mut Context<'_>, session: SessionId) {
        let before = self.queue.len();
        self.queue.retain(|candidate| candidate.session != session);
        let led = self.leader.as_ref().is_some_and(|leader| leader.session == session);
        if led {
            self.succeed();
        }
        if led || self.queue.len() != before {
            self.count();
            self.notify(cx);
        }
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        if place.step > 0 {
            return None;
        }
        place.step = 1;
        put_uint(into, 1, self.term);
        if let Some(leader) = &self.leader {
            put_message(into, 2, |into| leader.put(into));
        }
        for candidate in &self.queue {
            put_message(into, 3, |into| candidate.put(into));
        }
        Some(STATE)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        if kind != STATE {
            return Err(Broken::Malformed("an election has no such record"));
        }
        *self = Election::default();
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => self.term = value.uint()?.min(u64::MAX >> 1),
                2 => self.leader = Some(Candidate::parse(cx, value.bytes()?)?),
                3 => self.queue.push_back(Candidate::parse(cx, value.bytes()?)?),
                _ => {}
            }
        }
        if self.leader.is_none() && !self.queue.is_empty() {
            return Err(Broken::Malformed("candidates queue behind no leader"));
        }
        self.count();
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Election {
    fn enter(&mut self, name: &str, session: SessionId) -> bool {
        if self.has(name) {
            return false;
        }
        self.queue.push_back(Candidate { name: name.into(), session });
        if self.leader.is_none() {
            self.succeed();
        }
        self.count();
        true
    }

    /// By name; without one, the caller's leadership.
    fn withdraw(&mut self, name: &str, session: SessionId) -> bool {
        let mine = |candidate: &Candidate| candidate.session == session;
        if let Some(leader) = &self.leader
            && mine(leader)
            && (name.is_empty() || *leader.name == *name)
        {
            self.succeed();
        } else if let Some(at) = self.queued(name)
            && mine(&self.queue[at])
        {
            self.queue.remove(at);
        } else {
            return false;
        }
        self.count();
        true
    }

    /// The candidate leads; the old leader is the first behind it.
    fn anoint(&mut self, name: &str) -> bool {
        let Some(at) = self.queued(name) else {
            return false;
        };
        let candidate = self.queue.remove(at);
        self.lead(candidate);
        true
    }

    /// One place forward; from the first place, to the lead.
    fn promote(&mut self, name: &str) -> bool {
        match self.queued(name) {
            None => false,
            Some(0) => self.anoint(name),
            Some(at) => {
                self.queue.swap(at, at - 1);
                true
            }
        }
    }

    /// One place back; the leader behind the first candidate.
    fn demote(&mut self, name: &str) -> bool {
        if self.leader.as_ref().is_some_and(|leader| *leader.name == *name) {
            let Some(first) = self.queue.pop_front() else {
                return false;
            };
            self.lead(Some(first));
            return true;
        }
        match self.queued(name) {
            Some(at) if at + 1 < self.queue.len() => {
                self.queue.swap(at, at + 1);
                true
            }
            _ => false,
        }
    }

    fn evict(&mut self, name: &str) -> bool {
        if self.leader.as_ref().is_some_and(|leader| *leader.name == *name) {
            self.succeed();
        } else if let Some(at) = self.queued(name) {
            self.queue.remove(at);
        } else {
            return false;
        }
        self.count();
        true
    }

    /// `next` leads, and who led before is the first behind it.
    fn lead(&mut self, next: Option<Candidate>) {
        assert!(next.is_some(), "nobody is to lead");
        if let Some(old) = std::mem::replace(&mut self.leader, next) {
            self.queue.push_front(old);
        }
        self.term += 1;
    }

    /// The leader is gone; the first of the queue follows, if there is one.
    fn succeed(&mut self) {
        self.leader = self.queue.pop_front();
        self.term += u64::from(self.leader.is_some());
    }

    fn queued(&self, name: &str) -> Option<usize> {
        self.queue.iter().position(|candidate| *candidate.name == *name)
    }

    fn has(&self, name: &str) -> bool {
        self.leader.as_ref().is_some_and(|leader| *leader.name == *name)
            || self.queued(name).is_some()
    }

    fn notify(&self, cx: &mut Context<'_>) {
        if cx.watched() {
            let mut output = Vec::new();
            self.put_term(&mut output);
            cx.tell(None, &output);
        }
    }

    /// A `Term` as field 1, which is what every output is.
    fn put_term(&self, into: &mut Vec<u8>) {
        put_message(into, 1, |into| {
            if let Some(leader) = &self.leader {
                put_text(into, 1, leader.name.as_bytes());
            }
            for candidate in &self.queue {
                put_bytes(into, 2, candidate.name.as_bytes());
            }
            put_uint(into, 3, self.term);
        });
    }

    fn count(&mut self) {
        let all = self.leader.iter().chain(&self.queue);
        self.bytes = all.map(|candidate| CANDIDATE_BYTES + candidate.name.len()).sum();
    }
}

impl Candidate {
    fn put(&self, into: &mut Vec<u8>) {
        put_text(into, 1, self.name.as_bytes());
        put_uint(into, 2, self.session.0);
    }

    fn parse(cx: &mut Restoring<'_>, message: &[u8]) -> Result<Candidate, Broken> {
        let (mut name, mut session) = ("", SessionId(0));
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => name = field::text(value.bytes()?)?,
                2 => session = SessionId(value.uint()?),
                _ => {}
            }
        }
        cx.member(session)?;
        Ok(Candidate { name: name.into(), session })
    }
}

fn parse_name(input: &[u8], place: u32) -> Result<&[u8], field::Broken> {
    let mut name: &[u8] = &[];
    let mut fields = Fields::new(input);
    while let Some((number, value)) = fields.field()? {
        if number == place {
            name = value.bytes()?;
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
