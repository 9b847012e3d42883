//! A counter: one number (primitives.md 2.1).
//!
//! Arithmetic is checked: a change that leaves the range of 64 bits is INVALID "counter overflow"
//! and changes nothing, where the reference wraps around silently. Absent on purpose: events,
//! watchers, TTL.

use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, undecodable,
};
use crate::partition::reply::Status;
use crate::partition::snapshot::{Broken, Restoring};
use crate::wire::field::{self, Fields, put_uint};

/// The state of a counter.
#[derive(Clone, Default, Debug)]
pub struct Counter {
    value: i64,
}

const INCREMENT: u32 = 1;
const DECREMENT: u32 = 2;
const GET: u32 = 3;
const SET: u32 = 4;
const UPDATE: u32 = 5;

/// Snapshot record: field 1, the value.
const STATE: u8 = 16;

impl Shape for Counter {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            INCREMENT | DECREMENT | SET | UPDATE => Some(Mode::Command),
            GET => Some(Mode::Query),
            _ => None,
        }
    }

    #[inline]
    fn apply(&mut self, cx: &mut Context<'_>, _call: CallId, tag: u32, input: &[u8]) -> Answer {
        let Ok((first, second)) = numbers(input) else {
            return undecodable(cx);
        };
        let value = match tag {
            INCREMENT => self.value.checked_add(first),
            DECREMENT => self.value.checked_sub(first),
            SET => Some(first),
            UPDATE if self.value != first => {
                return cx.fail(Status::Conflict, format_args!("optimistic lock failure"));
            }
            UPDATE => Some(second),
            _ => return cx.fail(Status::NotSupported, format_args!("proposal not supported")),
        };
        let Some(value) = value else {
            return cx.fail(Status::Invalid, format_args!("counter overflow"));
        };
        self.value = value;
        put_uint(cx.out, 1, value as u64);
        Answer::Done(Status::Ok)
    }

    fn query(&self, ask: &mut Ask<'_>, tag: u32, _input: &[u8]) -> Asked {
        if tag != GET {
            return ask.fail(Status::NotSupported, format_args!("query not supported"));
        }
        put_uint(ask.out, 1, self.value as u64);
        Asked::Done(Status::Ok)
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        if place.step > 0 {
            return None;
        }
        place.step = 1;
        put_uint(into, 1, self.value as u64);
        Some(STATE)
    }

    fn restore(&mut self, _cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        if kind != STATE {
            return Err(Broken::Malformed("a counter has no such record"));
        }
        self.value = numbers(record)?.0;
        Ok(())
    }
}

/// Fields 1 and 2 as int64.
fn numbers(message: &[u8]) -> Result<(i64, i64), field::Broken> {
    let (mut first, mut second) = (0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field()? {
        match number {
            1 => first = value.uint()? as i64,
            2 => second = value.uint()? as i64,
            _ => {}
        }
    }
    Ok((first, second))
}

#[cfg(test)]
mod tests;
