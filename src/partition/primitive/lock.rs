//! A lock with a queue: first come, first served (primitives.md 2.6).
//!
//! The index of the Acquire that holds it is a fencing token: it grows along the queue. A session
//! that already holds the lock queues like any other. A waiter's deadline is absolute log time and
//! part of the state, so a restored replica times it out when the others do (L-03). A holder of the
//! past has no say (L-02): what counts is who holds the lock when a session leaves. Absent on
//! purpose: re-entrance, and a token in Release.

use std::collections::BTreeMap;

use crate::id::{Index, Sequence, SessionId};
use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, undecodable,
};
use crate::partition::reply::Status;
use crate::partition::snapshot::{Broken, Restoring};
use crate::time::LogTime;
use crate::wire::field::{self, Fields, put_timestamp, put_uint};

/// The state of a lock.
#[derive(Clone, Default, Debug)]
pub struct Lock {
    holder: Option<CallId>,
    /// By the index of their Acquire, which is the order in which they came.
    queue: BTreeMap<Index, Waiter>,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    session: SessionId,
    sequence: Sequence,
    due: Option<LogTime>,
}

const ACQUIRE: u32 = 1;
const RELEASE: u32 = 2;
const GET: u32 = 3;

/// Snapshot records: 1 index, 2 session, 3 sequence, 4 due.
const HOLDER: u8 = 17;
const WAITER: u8 = 18;

impl Shape for Lock {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            ACQUIRE | RELEASE => Some(Mode::Command),
            GET => Some(Mode::Query),
            _ => None,
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer {
        match tag {
            ACQUIRE => self.acquire(cx, call, input),
            RELEASE => self.release(cx, call.session),
            _ => cx.fail(Status::NotSupported, format_args!("proposal not supported")),
        }
    }

    fn query(&self, ask: &mut Ask<'_>, tag: u32, _input: &[u8]) -> Asked {
        match (tag, self.holder) {
            (GET, Some(holder)) => {
                put_uint(ask.out, 1, holder.index.0);
                Asked::Done(Status::Ok)
            }
            // The misspelling is the reference's; clients see this text.
            (GET, None) => ask.fail(Status::NotFound, format_args!("local not held")),
            _ => ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
    }

    fn timer(&mut self, cx: &mut Context<'_>, token: u64) {
        let index = Index(token);
        if let Some(waiter) = self.queue.remove(&index) {
            cx.complete(waiter.call(index), Status::Conflict, HELD.as_bytes());
        }
    }

    fn cancelled(&mut self, cx: &mut Context<'_>, call: CallId) {
        if let Some(waiter) = self.queue.remove(&call.index)
            && let Some(due) = waiter.due
        {
            cx.disarm(due, call.index, call.index.0);
        }
    }

    fn left(&mut self, cx: &mut Context<'_>, session: SessionId) {
        if self.holder.is_some_and(|holder| holder.session == session) {
            self.pass_on(cx);
        }
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        if place.step == 0 {
            place.step = 1;
            if let Some(holder) = self.holder {
                put_call(into, holder);
                return Some(HOLDER);
            }
        }
        let (index, waiter) = self.queue.range(Index(place.index + 1)..).next()?;
        place.index = index.0;
        put_call(into, waiter.call(*index));
        if let Some(due) = waiter.due {
            put_timestamp(into, 4, due);
        }
        Some(WAITER)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        let (call, due) = parse_record(record)?;
        match kind {
            HOLDER if self.holder.is_none() && self.queue.is_empty() => {
                cx.member(call.session)?;
                self.holder = Some(call);
            }
            WAITER if self.holder.is_some_and(|holder| holder.index < call.index) => {
                cx.claim(call)?;
                if let Some(due) = due {
                    cx.arm(due, call.index, call.index.0)?;
                }
                let CallId { index, session, sequence } = call;
                let waiter = Waiter { session, sequence, due };
                if self.queue.insert(index, waiter).is_some() {
                    return Err(Broken::Malformed("two waiters of a lock are one"));
                }
            }
            _ => return Err(Broken::Malformed("a lock's records are out of order")),
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.queue.len() * 64
    }
}

const HELD: &str = "lock already held";

impl Lock {
    fn acquire(&mut self, cx: &mut Context<'_>, call: CallId, input: &[u8]) -> Answer {
        let Ok(timeout) = timeout(input) else {
            return undecodable(cx);
        };
        if self.holder.is_none() {
            assert!(self.queue.is_empty(), "a free lock has {} waiters", self.queue.len());
            self.holder = Some(call);
            put_uint(cx.out, 1, call.index.0);
            return Answer::Done(Status::Ok);
        }
        // Waiting for no time at all is an attempt (L-04).
        if timeout.is_some_and(|nanos| nanos <= 0) {
            return cx.fail(Status::Conflict, format_args!("{HELD}"));
        }
        if let Err(answer) = cx.room(call, self.queue.len(), cx.ledger.bounds.waiters_max) {
            return answer;
        }
        let due = timeout.map(|nanos| {
            LogTime(cx.time().0.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX)))
        });
        if let Some(due) = due {
            cx.arm(due, call.index, call.index.0);
        }
        let CallId { index, session, sequence } = call;
        self.queue.insert(index, Waiter { session, sequence, due });
        Answer::Waits
    }

    fn release(&mut self, cx: &mut Context<'_>, session: SessionId) -> Answer {
        if self.holder.is_none_or(|holder| holder.session != session) {
            return cx.fail(Status::Conflict, format_args!("lock not held by client"));
        }
        self.pass_on(cx);
        Answer::Done(Status::Ok)
    }

    /// The first waiter holds the lock, or nobody.
    fn pass_on(&mut self, cx: &mut Context<'_>) {
        self.holder = self.queue.pop_first().map(|(index, waiter)| {
            if let Some(due) = waiter.due {
                cx.disarm(due, index, index.0);
            }
            let call = waiter.call(index);
            let mut output = Vec::with_capacity(11);
            put_uint(&mut output, 1, index.0);
            cx.complete(call, Status::Ok, &output);
            call
        });
    }
}

impl Waiter {
    fn call(self, index: Index) -> CallId {
        CallId { index, session: self.session, sequence: self.sequence }
    }
}

/// `AcquireInput`: the timeout in nanoseconds.
fn timeout(input: &[u8]) -> Result<Option<i128>, field::Broken> {
    let mut timeout = None;
    let mut fields = Fields::new(input);
    while let Some((number, value)) = fields.field()? {
        if number == 1 {
            timeout = Some(field::nanos(value.bytes()?)?);
        }
    }
    Ok(timeout)
}

fn put_call(into: &mut Vec<u8>, call: CallId) {
    put_uint(into, 1, call.index.0);
    put_uint(into, 2, call.session.0);
    put_uint(into, 3, call.sequence.0);
}

fn parse_record(record: &[u8]) -> Result<(CallId, Option<LogTime>), field::Broken> {
    let (mut index, mut session, mut sequence, mut due) = (0, 0, 0, None);
    let mut fields = Fields::new(record);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => index = value.uint()?,
            2 => session = value.uint()?,
            3 => sequence = value.uint()?,
            4 => due = Some(field::timestamp(value.bytes()?)?),
            _ => {}
        }
    }
    let call =
        CallId { index: Index(index), session: SessionId(session), sequence: Sequence(sequence) };
    Ok((call, due))
}

#[cfg(test)]
mod tests;
