//! A map from text to bytes, with versions, TTL, events and listings (primitives.md 2.7).
//!
//! Entries are ordered by key, so listings, clearing and snapshots go the same way on every
//! replica. An entry's version is the index of the command that wrote it; one command writes one
//! entry, so the version also names the entry's TTL timer. Put checks `prev_index` before it looks
//! whether the bytes are equal (M-01). Watchers see a removal as an entry without value (M-03).
//! Absent on purpose: Lock and Unlock, which the API declares and nothing implements, and
//! transactions.

use std::collections::BTreeMap;

use crate::id::Index;
use crate::partition::primitive::listeners::Listeners;
use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, checked_key, expiry, undecodable,
};
use crate::partition::reply::{Refusal, Status};
use crate::partition::snapshot::{Broken, Restoring};
use crate::time::LogTime;
use crate::wire::field::{self, Fields, put_bytes, put_message, put_text, put_timestamp, put_uint};

/// The state of a map.
#[derive(Default, Debug)]
pub struct Map {
    entries: BTreeMap<Box<str>, Entry>,
    /// Keys of entries with a TTL, by the entry's version.
    expiring: BTreeMap<Index, Box<str>>,
    listeners: Listeners,
    /// Memory that entries hold.
    entries_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    index: Index,
    expire: Option<LogTime>,
}

const SIZE: u32 = 1;
const PUT: u32 = 2;
const INSERT: u32 = 3;
const UPDATE: u32 = 4;
const GET: u32 = 5;
const REMOVE: u32 = 6;
const CLEAR: u32 = 7;
const ENTRIES: u32 = 10;
const EVENTS: u32 = 11;

/// Snapshot records: `MapListener` with 100 session and 101 sequence number; `MapEntry`.
const LISTENER: u8 = 19;
const ENTRY: u8 = 20;

/// What an entry costs beside key and value.
const ENTRY_BYTES: usize = size_of::<Entry>() + 40;

impl Shape for Map {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            PUT | INSERT | UPDATE | REMOVE | CLEAR => Some(Mode::Command),
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
            PUT => self.put(cx, call.index, key, &input),
            INSERT => self.insert(cx, call.index, key, &input),
            UPDATE => self.update(cx, call.index, key, &input),
            REMOVE => self.remove(cx, key, input.prev_index),
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
            SIZE => {
                put_uint(ask.out, 1, u64::from(u32::try_from(self.entries.len()).unwrap_or(!0)));
                Asked::Done(Status::Ok)
            }
            GET => {
                let key = match input.key() {
                    Ok(key) => key,
                    Err(refusal) => return Asked::Refused(refusal),
                };
                let Some(entry) = self.entries.get(key) else {
                    return ask.fail(Status::NotFound, format_args!("key {key} not found"));
                };
                put_indexed(ask.out, 1, &entry.value, entry.index);
                Asked::Done(Status::Ok)
            }
            ENTRIES if input.watches() => Asked::Watching,
            ENTRIES => Asked::Listing,
            _ => ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
    }

    fn timer(&mut self, cx: &mut Context<'_>, token: u64) {
        if let Some(key) = self.expiring.remove(&Index(token))
            && let Some(entry) = self.entries.remove(&key)
        {
            self.grow(0, entry_bytes(&key, &entry));
            self.removed(cx, &key, &entry, true);
        }
    }

    fn cancelled(&mut self, _cx: &mut Context<'_>, call: CallId) {
        self.listeners.unlisten(call.index);
    }

    fn list(&self, after: Option<&str>, out: &mut Vec<u8>) -> Option<Box<str>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let (key, entry) = self.entries.range::<str, _>((from, Unbounded)).next()?;
        put_message(out, 1, |out| put_entry(out, key, Some((&entry.value, entry.index))));
        Some(key.clone())
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        use std::ops::Bound::{Excluded, Unbounded};
        if place.step == 0 {
            if self.listeners.record(place, into) {
                return Some(LISTENER);
            }
            place.step = 1;
        }
        let from = place.key.as_deref().map_or(Unbounded, Excluded);
        let (key, entry) = self.entries.range::<str, _>((from, Unbounded)).next()?;
        put_text(into, 1, key.as_bytes());
        put_message(into, 2, |into| {
            put_text(into, 1, &entry.value);
            put_uint(into, 2, entry.index.0);
            if let Some(expire) = entry.expire {
                put_timestamp(into, 3, expire);
            }
        });
        place.key = Some(key.clone());
        Some(ENTRY)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        match kind {
            LISTENER => self.listeners.restore(cx, record),
            ENTRY => self.restore_entry(cx, record),
            _ => Err(Broken::Malformed("a map has no such record")),
        }
    }

    fn bytes(&self) -> usize {
        self.entries_bytes + self.listeners.bytes()
    }
}

impl Map {
    fn put(&mut self, cx: &mut Context<'_>, index: Index, key: &str, input: &Input<'_>) -> Answer {
        let stored = self.entries.get(key);
        let at = stored.map(|entry| entry.index);
        let (wanted, found) = (input.prev_index, at.unwrap_or_default());
        if wanted > 0 && found.0 != wanted {
            let text = format_args!("entry index {found} does not match put index {wanted}");
            return cx.fail(Status::Conflict, text);
        }
        if let Some(entry) = stored
            && *entry.value == *input.value
        {
            put_uint(cx.out, 1, entry.index.0);
            return Answer::Done(Status::Ok);
        }
        let old = self.write(cx, index, key, input);
        put_uint(cx.out, 1, index.0);
        if let Some(old) = old {
            put_indexed(cx.out, 2, &old.value, old.index);
        }
        Answer::Done(Status::Ok)
    }

    fn insert(
        &mut self,
        cx: &mut Context<'_>,
        index: Index,
        key: &str,
        input: &Input<'_>,
    ) -> Answer {
        if self.entries.contains_key(key) {
            return cx.fail(Status::AlreadyExists, format_args!("key '{key}' already exists"));
        }
        self.write(cx, index, key, input);
        put_uint(cx.out, 1, index.0);
        Answer::Done(Status::Ok)
    }

    fn update(
        &mut self,
        cx: &mut Context<'_>,
        index: Index,
        key: &str,
        input: &Input<'_>,
    ) -> Answer {
        if let Err(answer) = self.matching(cx, key, input.prev_index) {
            return answer;
        }
        let old = self.write(cx, index, key, input);
        put_uint(cx.out, 1, index.0);
        if let Some(old) = old {
            put_indexed(cx.out, 2, &old.value, old.index);
        }
        Answer::Done(Status::Ok)
    }

    fn remove(&mut self, cx: &mut Context<'_>, key: &str, prev_index: u64) -> Answer {
        if let Err(answer) = self.matching(cx, key, prev_index) {
            return answer;
        }
        let Some(entry) = self.entries.remove(key) else {
            return cx.fail(Status::NotFound, format_args!("key '{key}' not found"));
        };
        self.grow(0, entry_bytes(key, &entry));
        self.stop_timer(cx, &entry);
        self.removed(cx, key, &entry, false);
        put_indexed(cx.out, 1, &entry.value, entry.index);
        Answer::Done(Status::Ok)
    }

    fn clear(&mut self, cx: &mut Context<'_>) -> Answer {
        let entries = std::mem::take(&mut self.entries);
        for (index, key) in std::mem::take(&mut self.expiring) {
            if let Some(due) = entries.get(&key).and_then(|entry| entry.expire) {
                cx.disarm(due, index, index.0);
            }
        }
        let bytes = std::mem::take(&mut self.entries_bytes);
        if !self.listeners.is_empty() || cx.watched() {
            for (key, entry) in &entries {
                self.removed(cx, key, entry, false);
            }
        }
        // Freeing a large map takes longer than a turn may.
        cx.ledger.rubble.take(entries, bytes);
        Answer::Done(Status::Ok)
    }

    /// Whether the entry is there and, when `prev_index` is not 0, has that version (the texts are
    /// the reference's, the word `remove` too).
    fn matching(&self, cx: &mut Context<'_>, key: &str, prev_index: u64) -> Result<(), Answer> {
        let Some(entry) = self.entries.get(key) else {
            return Err(cx.fail(Status::NotFound, format_args!("key '{key}' not found")));
        };
        let index = entry.index;
        if prev_index > 0 && prev_index != index.0 {
            let text = format_args!("entry index {index} does not match remove index {prev_index}");
            return Err(cx.fail(Status::Conflict, text));
        }
        Ok(())
    }

    /// Stores an entry, replaces its TTL, tells listeners and watchers. Returns what was there.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        index: Index,
        key: &str,
        input: &Input<'_>,
    ) -> Option<Entry> {
        let expire = input.ttl.map(|ttl| expiry(cx.time(), ttl));
        let new = Entry { value: input.value.into(), index, expire };
        self.grow(entry_bytes(key, &new), 0);
        let old = match self.entries.get_mut(key) {
            Some(entry) => Some(std::mem::replace(entry, new)),
            None => self.entries.insert(key.into(), new),
        };
        if let Some(old) = &old {
            self.grow(0, entry_bytes(key, old));
            self.stop_timer(cx, old);
        }
        if let Some(due) = expire {
            cx.arm(due, index, index.0);
            self.expiring.insert(index, key.into());
        }
        self.listeners.publish(cx, key, |out| {
            put_text(out, 1, key.as_bytes());
            match &old {
                None => put_message(out, 2, |out| put_indexed(out, 1, input.value, index)),
                Some(old) => put_message(out, 3, |out| {
                    put_indexed(out, 1, input.value, index);
                    put_indexed(out, 2, &old.value, old.index);
                }),
            }
        });
        if cx.watched() {
            let mut entry = Vec::new();
            put_message(&mut entry, 1, |out| put_entry(out, key, Some((input.value, index))));
            cx.tell(Some(key), &entry);
        }
        old
    }

    /// Tells listeners and watchers that an entry is gone.
    fn removed(&mut self, cx: &mut Context<'_>, key: &str, entry: &Entry, expired: bool) {
        self.listeners.publish(cx, key, |out| {
            put_text(out, 1, key.as_bytes());
            put_message(out, 4, |out| {
                put_indexed(out, 1, &entry.value, entry.index);
                put_uint(out, 2, u64::from(expired));
            });
        });
        if cx.watched() {
            let mut gone = Vec::new();
            put_message(&mut gone, 1, |out| put_entry(out, key, None));
            cx.tell(Some(key), &gone);
        }
    }

    fn grow(&mut self, more: usize, less: usize) {
        self.entries_bytes = self.entries_bytes + more - less;
    }

    fn stop_timer(&mut self, cx: &mut Context<'_>, entry: &Entry) {
        if let Some(due) = entry.expire {
            cx.disarm(due, entry.index, entry.index.0);
            self.expiring.remove(&entry.index);
        }
    }

    fn restore_entry(&mut self, cx: &mut Restoring<'_>, record: &[u8]) -> Result<(), Broken> {
        let (mut key, mut stored) = ("", &[][..]);
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => key = field::text(value.bytes()?)?,
                2 => stored = value.bytes()?,
                _ => {}
            }
        }
        let mut entry = Entry { value: Box::default(), index: Index(0), expire: None };
        let mut fields = Fields::new(stored);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => entry.value = value.bytes()?.into(),
                2 => entry.index = cx.past(Index(value.uint()?))?,
                3 => entry.expire = Some(field::timestamp(value.bytes()?)?),
                _ => {}
            }
        }
        if let Some(due) = entry.expire {
            cx.arm(due, entry.index, entry.index.0)?;
            self.expiring.insert(entry.index, key.into());
        }
        self.grow(entry_bytes(key, &entry), 0);
        if self.entries.insert(key.into(), entry).is_some() {
            return Err(Broken::Malformed("two entries of a map have one key"));
        }
        Ok(())
    }
}

/// The fields of a map's inputs; each input has some.
#[derive(Default)]
struct Input<'a> {
    key: &'a [u8],
    value: &'a [u8],
    /// In nanoseconds, of either sign.
    ttl: Option<i128>,
    prev_index: u64,
    /// `watch` of Entries.
    flag: u64,
}

impl<'a> Input<'a> {
    fn parse(tag: u32, input: &'a [u8]) -> Result<Input<'a>, field::Broken> {
        let mut parsed = Input::default();
        let mut fields = Fields::new(input);
        while let Some((number, value)) = fields.field()? {
            match (tag, number) {
                (ENTRIES, 1) => parsed.flag = value.uint()?,
                (PUT | INSERT | UPDATE | GET | REMOVE | EVENTS, 1) => parsed.key = value.bytes()?,
                (REMOVE, 2) => parsed.prev_index = value.uint()?,
                (PUT | INSERT | UPDATE, 2) => parsed.value = value.bytes()?,
                (PUT | INSERT | UPDATE, 3) => parsed.ttl = Some(field::nanos(value.bytes()?)?),
                (PUT | UPDATE, 4) => parsed.prev_index = value.uint()?,
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn key(&self) -> Result<&'a str, Refusal> {
        checked_key(self.key)
    }

    fn watches(&self) -> bool {
        self.flag != 0
    }
}

fn entry_bytes(key: &str, entry: &Entry) -> usize {
    let timer = if entry.expire.is_some() { key.len() + 40 } else { 0 };
    ENTRY_BYTES + key.len() + entry.value.len() + timer
}

/// An `IndexedValue` as field `number`.
fn put_indexed(into: &mut Vec<u8>, number: u32, value: &[u8], index: Index) {
    put_message(into, number, |into| {
        put_text(into, 1, value);
        put_uint(into, 2, index.0);
    });
}

/// The fields of an `Entry`; without value it says that the key is gone.
fn put_entry(into: &mut Vec<u8>, key: &str, value: Option<(&[u8], Index)>) {
    put_bytes(into, 1, key.as_bytes());
    if let Some((value, index)) = value {
        put_indexed(into, 2, value, index);
    }
}

#[cfg(test)]
mod tests;
