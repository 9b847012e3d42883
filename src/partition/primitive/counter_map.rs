//! A map from text to numbers, with events and listings (primitives.md 2.2).
//!
//! Keys are ordered, so listings, clearing and snapshots go the same way on every replica (C-05). A
//! missing key counts from 0, and a delta of 0 is 1. Arithmetic is checked as a counter's is: what
//! would leave the range of 64 bits is INVALID "counter overflow" and changes nothing. Update and
//! Remove always compare, so that neither has an unconditional form (CM-03). Watchers of Entries
//! see the value that a change leaves behind, never the delta (CM-01), and hear nothing of
//! removals, which that message cannot express (CM-02). Absent on purpose: TTL, versions, and Lock
//! and Unlock, which the API declares and nothing implements.

use std::sync::Arc;

use crate::partition::kept::Rubble;
use crate::partition::primitive::listeners::Listeners;
use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, checked_key, undecodable,
};
use crate::partition::reply::{Refusal, Status};
use crate::partition::snapshot::{Broken, Restoring};
use crate::partition::sorted::Sorted;
use crate::wire::field::{self, Fields, put_message, put_text, put_uint};

/// The state of a counter map.
#[derive(Clone, Default, Debug)]
pub struct CounterMap {
    counts: Sorted<Arc<str>, i64>,
    listeners: Listeners,
    /// Memory that keys and their numbers hold.
    counts_bytes: usize,
}

const SIZE: u32 = 1;
const SET: u32 = 2;
const INSERT: u32 = 3;
const UPDATE: u32 = 4;
const INCREMENT: u32 = 5;
const DECREMENT: u32 = 6;
const GET: u32 = 7;
const REMOVE: u32 = 8;
const CLEAR: u32 = 9;
const ENTRIES: u32 = 12;
const EVENTS: u32 = 13;

/// Snapshot records: `CounterMapListener` with 100 session and 101 sequence number; `Entry`.
const LISTENER: u8 = 22;
const ENTRY: u8 = 23;

/// What a key costs beside its text.
const COUNT_BYTES: usize = size_of::<i64>() + 56;

impl Shape for CounterMap {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            SET | INSERT | UPDATE | INCREMENT | DECREMENT | REMOVE | CLEAR => Some(Mode::Command),
            EVENTS => Some(Mode::Stream),
            SIZE | GET => Some(Mode::Query),
            ENTRIES => Some(Mode::Watch),
            _ => None,
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer {
        let Ok(input) = Input::parse(tag, input) else {
            return undecodable(cx);
        };
        let key = match input.key() {
            Ok(key) => key,
            Err(refusal) => return Answer::Refused(refusal),
        };
        match tag {
            SET | INSERT | UPDATE | INCREMENT | DECREMENT => self.write(cx, tag, key, &input),
            REMOVE => self.remove(cx, key, input.prev),
            CLEAR => self.clear(cx),
            EVENTS => self.listeners.listen(cx, call, key),
            _ => cx.fail(Status::NotSupported, format_args!("proposal not supported")),
        }
    }

    fn query(&self, ask: &mut Ask<'_>, tag: u32, input: &[u8]) -> Asked {
        let Ok(input) = Input::parse(tag, input) else {
            return ask.undecodable();
        };
        match tag {
            SIZE => ask.size(self.counts.len()),
            GET => {
                let key = match input.key() {
                    Ok(key) => key,
                    Err(refusal) => return Asked::Refused(refusal),
                };
                let Some(value) = self.counts.get(key) else {
                    return ask.fail(Status::NotFound, format_args!("key {key} not found"));
                };
                put_number(ask.out, 1, *value);
                Asked::Done(Status::Ok)
            }
            ENTRIES if input.watches => Asked::Watching,
            ENTRIES => Asked::Listing,
            _ => ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
    }

    fn cancelled(&mut self, _cx: &mut Context<'_>, call: CallId) {
        self.listeners.unlisten(call.index);
    }

    fn list(&self, after: Option<&str>, out: &mut Vec<u8>) -> Option<Box<str>> {
        let (key, value) = self.next(after)?;
        put_message(out, 1, |out| put_entry(out, key, value));
        Some(key.into())
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        if self.listeners.record(place, into) {
            return Some(LISTENER);
        }
        let (key, value) = self.next(place.key.as_deref())?;
        put_entry(into, key, value);
        place.key = Some(key.into());
        Some(ENTRY)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        match kind {
            LISTENER => self.listeners.restore(cx, record),
            ENTRY => self.restore_entry(record),
            _ => Err(Broken::Malformed("a counter map has no such record")),
        }
    }

    fn bury(self, rubble: &mut Rubble) {
        rubble.take(self.counts, 0);
        self.listeners.bury(rubble);
    }

    fn bytes(&self) -> usize {
        self.counts_bytes + self.listeners.bytes()
    }
}

impl CounterMap {
    fn write(&mut self, cx: &mut Context<'_>, tag: u32, key: &str, input: &Input<'_>) -> Answer {
        let stored = self.counts.get_mut(key);
        let old = stored.as_deref().copied();
        let new = match value_after(tag, old, input) {
            Ok(new) => new,
            Err(fault) => return fault.answer(cx, key),
        };
        match stored {
            Some(stored) => *stored = new,
            None => {
                self.counts.insert(key.into(), new);
                self.counts_bytes += COUNT_BYTES + key.len();
            }
        }
        self.listeners.publish(cx, key, |out| {
            put_text(out, 1, key.as_bytes());
            match old {
                None => put_message(out, 2, |out| put_number(out, 1, new)),
                Some(old) => put_message(out, 3, |out| {
                    put_number(out, 1, new);
                    put_number(out, 2, old);
                }),
            }
        });
        if cx.watched() {
            let mut entry = Vec::new();
            put_message(&mut entry, 1, |out| put_entry(out, key, new));
            cx.tell(Some(key), &entry);
        }
        if tag != INSERT {
            put_number(cx.out, 1, old.unwrap_or(0));
        }
        Answer::Done(Status::Ok)
    }

    fn remove(&mut self, cx: &mut Context<'_>, key: &str, prev: i64) -> Answer {
        let Some(value) = self.counts.get(key).copied() else {
            return Fault::Missing.answer(cx, key);
        };
        if value != prev {
            let text = format_args!("entry value {value} does not match remove value {prev}");
            return cx.fail(Status::Conflict, text);
        }
        self.counts.remove(key);
        self.counts_bytes -= COUNT_BYTES + key.len();
        self.tell_removed(cx, key, value);
        put_number(cx.out, 1, value);
        Answer::Done(Status::Ok)
    }

    fn clear(&mut self, cx: &mut Context<'_>) -> Answer {
        let counts = std::mem::take(&mut self.counts);
        let bytes = std::mem::take(&mut self.counts_bytes);
        if self.listeners.brace(cx, counts.len()) {
            for (key, value) in counts.iter() {
                self.tell_removed(cx, key, *value);
            }
        } else {
            for key in self.listeners.heeded() {
                if let Some(value) = counts.get(&*key) {
                    self.tell_removed(cx, &key, *value);
                }
            }
        }
        // Freeing a large map takes longer than a turn may.
        cx.ledger.rubble.take(counts, bytes);
        Answer::Done(Status::Ok)
    }

    /// Tells listeners that a key is gone; watchers hear nothing of it (CM-02).
    fn tell_removed(&mut self, cx: &mut Context<'_>, key: &str, value: i64) {
        self.listeners.publish(cx, key, |out| {
            put_text(out, 1, key.as_bytes());
            put_message(out, 4, |out| put_number(out, 1, value));
        });
    }

    /// The first key behind `after`, with its number.
    fn next(&self, after: Option<&str>) -> Option<(&str, i64)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let (key, value) = self.counts.range::<str, _>((from, Unbounded)).next()?;
        Some((key, *value))
    }

    fn restore_entry(&mut self, record: &[u8]) -> Result<(), Broken> {
        let (mut key, mut count) = ("", 0);
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => key = field::text(value.bytes()?)?,
                2 => count = value.uint()? as i64,
                _ => {}
            }
        }
        self.counts_bytes += COUNT_BYTES + key.len();
        if self.counts.insert(key.into(), count).is_some() {
            return Err(Broken::Malformed("two entries of a counter map have one key"));
        }
        Ok(())
    }
}

/// Why a key is not written.
enum Fault {
    Exists,
    Missing,
    Differs,
    Overflow,
}

impl Fault {
    fn answer(self, cx: &mut Context<'_>, key: &str) -> Answer {
        match self {
            Fault::Exists => {
                cx.fail(Status::AlreadyExists, format_args!("key '{key}' already exists"))
            }
            Fault::Missing => cx.fail(Status::NotFound, format_args!("key '{key}' not found")),
            Fault::Differs => cx.fail(Status::Conflict, format_args!("optimistic lock failure")),
            Fault::Overflow => cx.fail(Status::Invalid, format_args!("counter overflow")),
        }
    }
}

/// What the command `tag` makes of a key's number.
fn value_after(tag: u32, old: Option<i64>, input: &Input<'_>) -> Result<i64, Fault> {
    let delta = if input.value == 0 { 1 } else { input.value };
    match (tag, old) {
        (INCREMENT, old) => old.unwrap_or(0).checked_add(delta).ok_or(Fault::Overflow),
        (DECREMENT, old) => old.unwrap_or(0).checked_sub(delta).ok_or(Fault::Overflow),
        (INSERT, Some(_)) => Err(Fault::Exists),
        (UPDATE, None) => Err(Fault::Missing),
        (UPDATE, Some(old)) if old != input.prev => Err(Fault::Differs),
        _ => Ok(input.value),
    }
}

/// The fields of a counter map's inputs; each input has some.
#[derive(Default)]
struct Input<'a> {
    key: &'a [u8],
    /// What is stored, added or subtracted.
    value: i64,
    prev: i64,
    watches: bool,
}

impl<'a> Input<'a> {
    fn parse(tag: u32, input: &'a [u8]) -> Result<Input<'a>, field::Broken> {
        let mut parsed = Input::default();
        let mut fields = Fields::new(input);
        while let Some((number, value)) = fields.field()? {
            match (tag, number) {
                (ENTRIES, 1) => parsed.watches = value.uint()? != 0,
                // The fields of Remove begin at 2.
                (REMOVE, 2) => parsed.key = value.bytes()?,
                (REMOVE, 3) | (UPDATE, 3) => parsed.prev = value.uint()? as i64,
                (SET | INSERT | UPDATE | INCREMENT | DECREMENT | GET | EVENTS, 1) => {
                    parsed.key = value.bytes()?;
                }
                (SET | INSERT | UPDATE | INCREMENT | DECREMENT, 2) => {
                    parsed.value = value.uint()? as i64;
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn key(&self) -> Result<&'a str, Refusal> {
        checked_key(self.key)
    }
}

/// The fields of an `Entry`.
fn put_entry(into: &mut Vec<u8>, key: &str, value: i64) {
    put_text(into, 1, key.as_bytes());
    put_number(into, 2, value);
}

/// An int64, which is its 64 bits as a varint.
fn put_number(into: &mut Vec<u8>, number: u32, value: i64) {
    put_uint(into, number, value as u64);
}

#[cfg(test)]
mod tests;
