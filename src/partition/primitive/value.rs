//! One value with a version, a TTL, events and a watch (primitives.md 2.10).
//!
//! The version is the index of the command that wrote it, which also names its TTL timer. Unlike a
//! map, a write of equal bytes is a write. A conflict stops the change (V-01, V-02). Watchers get
//! the value and its successors; a deletion is not told, because published clients take the value
//! of every item for granted (V-03). Absent on purpose: a history.

use std::sync::Arc;

use crate::id::Index;
use crate::partition::kept::Rubble;
use crate::partition::primitive::listeners::Listeners;
use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, checked_value, expiry, undecodable,
};
use crate::partition::reply::Status;
use crate::partition::snapshot::{Broken, Restoring};
use crate::time::LogTime;
use crate::wire::field::{self, Fields, put_message, put_text, put_timestamp, put_uint};

/// The state of a value.
#[derive(Clone, Default, Debug)]
pub struct Value {
    held: Option<Held>,
    listeners: Listeners,
}

#[derive(Clone, Debug)]
struct Held {
    value: Arc<[u8]>,
    index: Index,
    expire: Option<LogTime>,
}

const GET: u32 = 1;
const SET: u32 = 2;
const INSERT: u32 = 3;
const UPDATE: u32 = 4;
const DELETE: u32 = 5;
const WATCH: u32 = 6;
const EVENTS: u32 = 7;

/// Snapshot records: a listener as a map has it, without key; `ValueState`.
const LISTENER: u8 = 28;
const STATE: u8 = 29;

const NOT_SET: &str = "value not set";

impl Shape for Value {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            SET | INSERT | UPDATE | DELETE => Some(Mode::Command),
            EVENTS => Some(Mode::Stream),
            GET => Some(Mode::Query),
            WATCH => Some(Mode::Watch),
            _ => None,
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer {
        let Ok(input) = Input::parse(tag, input) else {
            return undecodable(cx);
        };
        if let Err(refusal) = checked_value(input.value) {
            return Answer::Refused(refusal);
        }
        match tag {
            SET => self.set(cx, call.index, &input),
            INSERT => self.insert(cx, call.index, &input),
            UPDATE => self.update(cx, call.index, &input),
            DELETE => self.delete(cx, input.prev_index),
            EVENTS => self.listeners.listen(cx, call, ""),
            _ => cx.fail(Status::NotSupported, format_args!("proposal not supported")),
        }
    }

    fn query(&self, ask: &mut Ask<'_>, tag: u32, _input: &[u8]) -> Asked {
        match (tag, &self.held) {
            (GET, None) => ask.fail(Status::NotFound, format_args!("{NOT_SET}")),
            (GET, Some(held)) => {
                held.put(ask.out, 1);
                Asked::Done(Status::Ok)
            }
            (WATCH, held) => {
                if let Some(held) = held {
                    held.put(ask.out, 1);
                }
                Asked::Following
            }
            _ => ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
    }

    fn timer(&mut self, cx: &mut Context<'_>, token: u64) {
        if let Some(held) = self.held.take_if(|held| held.index == Index(token)) {
            self.deleted(cx, &held, true);
        }
    }

    fn cancelled(&mut self, _cx: &mut Context<'_>, call: CallId) {
        self.listeners.unlisten(call.index);
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        if self.listeners.record(place, into) {
            return Some(LISTENER);
        }
        let held = self.held.as_ref().filter(|_| place.step == 1)?;
        place.step = 2;
        held.put(into, 1);
        if let Some(expire) = held.expire {
            put_timestamp(into, 2, expire);
        }
        Some(STATE)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        match kind {
            LISTENER => self.listeners.restore(cx, record),
            STATE if self.held.is_none() => {
                let held = Held::restore(cx, record)?;
                if let Some(due) = held.expire {
                    cx.arm(due, held.index, held.index.0)?;
                }
                self.held = Some(held);
                Ok(())
            }
            _ => Err(Broken::Malformed("a value has no such record")),
        }
    }

    fn bury(self, rubble: &mut Rubble) {
        self.listeners.bury(rubble);
    }

    fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.value.len()) + self.listeners.bytes()
    }
}

impl Value {
    fn set(&mut self, cx: &mut Context<'_>, index: Index, input: &Input<'_>) -> Answer {
        let old = self.write(cx, index, input);
        put_uint(cx.out, 1, index.0);
        if let Some(old) = old {
            old.put(cx.out, 2);
        }
        Answer::Done(Status::Ok)
    }

    fn insert(&mut self, cx: &mut Context<'_>, index: Index, input: &Input<'_>) -> Answer {
        if self.held.is_some() {
            return cx.fail(Status::AlreadyExists, format_args!("value already set"));
        }
        self.set(cx, index, input)
    }

    fn update(&mut self, cx: &mut Context<'_>, index: Index, input: &Input<'_>) -> Answer {
        match self.matching(cx, input.prev_index, "update") {
            Ok(()) => self.set(cx, index, input),
            Err(answer) => answer,
        }
    }

    fn delete(&mut self, cx: &mut Context<'_>, prev_index: u64) -> Answer {
        if let Err(answer) = self.matching(cx, prev_index, "delete") {
            return answer;
        }
        if let Some(held) = self.held.take() {
            held.stop_timer(cx);
            self.deleted(cx, &held, false);
            held.put(cx.out, 1);
        }
        Answer::Done(Status::Ok)
    }

    /// Whether it is set and, when `prev_index` is not 0, has that version.
    fn matching(&self, cx: &mut Context<'_>, prev_index: u64, verb: &str) -> Result<(), Answer> {
        let Some(held) = &self.held else {
            return Err(cx.fail(Status::NotFound, format_args!("{NOT_SET}")));
        };
        let index = held.index;
        if prev_index > 0 && prev_index != index.0 {
            let text = format_args!("value index {index} does not match {verb} index {prev_index}");
            return Err(cx.fail(Status::Conflict, text));
        }
        Ok(())
    }

    /// Stores a value, replaces the TTL, tells listeners and watchers. Returns what was there.
    fn write(&mut self, cx: &mut Context<'_>, index: Index, input: &Input<'_>) -> Option<Held> {
        let expire = input.ttl.map(|ttl| expiry(cx.time(), ttl));
        let old = self.held.take();
        if let Some(old) = &old {
            old.stop_timer(cx);
        }
        if let Some(due) = expire {
            cx.arm(due, index, index.0);
        }
        let new = self.held.insert(Held { value: input.value.into(), index, expire });
        self.listeners.publish(cx, "", |out| match &old {
            None => put_message(out, 1, |out| new.put(out, 1)),
            Some(old) => put_message(out, 2, |out| {
                new.put(out, 1);
                old.put(out, 2);
            }),
        });
        if cx.watched() {
            let mut item = Vec::new();
            new.put(&mut item, 1);
            cx.tell(None, &item);
        }
        old
    }

    /// Tells listeners that there is no value any more.
    fn deleted(&mut self, cx: &mut Context<'_>, held: &Held, expired: bool) {
        self.listeners.publish(cx, "", |out| {
            put_message(out, 3, |out| {
                held.put(out, 1);
                put_uint(out, 2, u64::from(expired));
            });
        });
    }
}

impl Held {
    /// An `IndexedValue` as field `number`.
    fn put(&self, into: &mut Vec<u8>, number: u32) {
        put_message(into, number, |into| {
            put_text(into, 1, &self.value);
            put_uint(into, 2, self.index.0);
        });
    }

    fn stop_timer(&self, cx: &mut Context<'_>) {
        if let Some(due) = self.expire {
            cx.disarm(due, self.index, self.index.0);
        }
    }

    fn restore(cx: &Restoring<'_>, record: &[u8]) -> Result<Held, Broken> {
        let mut held = Held { value: Arc::default(), index: Index(0), expire: None };
        let mut stored = &[][..];
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => stored = value.bytes()?,
                2 => held.expire = Some(field::timestamp(value.bytes()?)?),
                _ => {}
            }
        }
        let mut fields = Fields::new(stored);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => held.value = value.bytes()?.into(),
                2 => held.index = cx.past(Index(value.uint()?))?,
                _ => {}
            }
        }
        Ok(held)
    }
}

/// The fields of a value's inputs; each input has some.
#[derive(Default)]
struct Input<'a> {
    value: &'a [u8],
    /// In nanoseconds, of either sign.
    ttl: Option<i128>,
    prev_index: u64,
}

impl<'a> Input<'a> {
    fn parse(tag: u32, input: &'a [u8]) -> Result<Input<'a>, field::Broken> {
        let mut parsed = Input::default();
        let mut fields = Fields::new(input);
        while let Some((number, value)) = fields.field()? {
            match (tag, number) {
                (SET | INSERT | UPDATE, 1) => parsed.value = value.bytes()?,
                (SET | INSERT, 2) | (UPDATE, 3) => parsed.ttl = Some(field::nanos(value.bytes()?)?),
                (UPDATE, 2) | (DELETE, 1) => parsed.prev_index = value.uint()?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests;
