//! Entries in the order in which they were appended, found by key or by index (primitives.md 2.4).
//!
//! The index of an entry counts the appends of its map and is never given out again; its version is
//! the index of the command that wrote it. Entries are ordered by index, so first, last and the
//! neighbours of any index, there or not, take logarithmic time (I-03, I-04), and listings,
//! clearing and snapshots go in that order. A TTL timer goes by the entry's index, however the
//! entry ends (I-06). Where an index is given, Remove goes by it alone, and Update refuses a key
//! that is another entry's, with the reference's FAULT (I-08), which clients see. Absent on
//! purpose: moving an entry.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use crate::id::Index;
use crate::partition::kept::Rubble;
use crate::partition::primitive::listeners::Listeners;
use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, checked_key, checked_value, expiry,
    undecodable,
};
use crate::partition::reply::{Refusal, Status};
use crate::partition::snapshot::{Broken, Restoring};
use crate::partition::sorted::Sorted;
use crate::time::LogTime;
use crate::wire::field::{self, Fields, put_message, put_text, put_timestamp, put_uint};

/// The state of an indexed map.
#[derive(Clone, Default, Debug)]
pub struct IndexedMap {
    /// The index of the last entry that was appended.
    last_index: u64,
    /// By index.
    entries: Sorted<u64, Entry>,
    by_key: Sorted<Arc<str>, u64>,
    listeners: Listeners,
    /// Memory that entries hold.
    entries_bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Arc<str>,
    value: Arc<[u8]>,
    version: Index,
    expire: Option<LogTime>,
}

const SIZE: u32 = 1;
const APPEND: u32 = 2;
const UPDATE: u32 = 3;
const GET: u32 = 4;
const FIRST: u32 = 5;
const LAST: u32 = 6;
const NEXT: u32 = 7;
const PREV: u32 = 8;
const REMOVE: u32 = 9;
const CLEAR: u32 = 10;
const ENTRIES: u32 = 11;
const EVENTS: u32 = 12;

/// Snapshot records: a listener as a map has it; 1 the last index; `IndexedMapEntry`.
const LISTENER: u8 = 30;
const STATE: u8 = 31;
const ENTRY: u8 = 32;

/// What an entry costs beside key and value: itself in one tree, its key's place in another.
const ENTRY_BYTES: usize = size_of::<Entry>() + 104;
/// A TTL's share: its timer, and its place among those that have one.
const EXPIRING_BYTES: usize = 56;

impl Shape for IndexedMap {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            APPEND | UPDATE | REMOVE | CLEAR => Some(Mode::Command),
            EVENTS => Some(Mode::Stream),
            SIZE | GET | FIRST | LAST | NEXT | PREV => Some(Mode::Query),
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
        if let Err(refusal) = checked_value(input.value) {
            return Answer::Refused(refusal);
        }
        match tag {
            APPEND => self.append(cx, call.index, key, &input),
            UPDATE => self.update(cx, call.index, key, &input),
            REMOVE => self.remove(cx, key, &input),
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
            SIZE => ask.size(self.entries.len()),
            GET => self.get(ask, &input),
            FIRST | LAST | NEXT | PREV => self.neighbour(ask, tag, input.index),
            ENTRIES if input.watch => Asked::Watching,
            ENTRIES => Asked::Listing,
            _ => ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
    }

    fn timer(&mut self, cx: &mut Context<'_>, token: u64) {
        if let Some(entry) = self.unlink(token) {
            self.removed(cx, token, &entry, true);
        }
    }

    fn cancelled(&mut self, _cx: &mut Context<'_>, call: CallId) {
        self.listeners.unlisten(call.index);
    }

    fn list(&self, after: Option<&str>, out: &mut Vec<u8>) -> Option<Box<str>> {
        let after = after.map_or(0, index_of);
        let (index, entry) = self.behind(after)?;
        entry.put(out, 1, index);
        Some(cursor(index).into())
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        if self.listeners.record(place, into) {
            return Some(LISTENER);
        }
        if place.step == 1 {
            place.step = 2;
            put_uint(into, 1, self.last_index);
            return Some(STATE);
        }
        let (index, entry) = self.behind(place.index)?;
        place.index = index;
        put_text(into, 1, entry.key.as_bytes());
        put_uint(into, 2, index);
        put_message(into, 3, |into| {
            put_text(into, 1, &entry.value);
            put_uint(into, 2, entry.version.0);
            if let Some(expire) = entry.expire {
                put_timestamp(into, 3, expire);
            }
        });
        Some(ENTRY)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        match kind {
            LISTENER => self.listeners.restore(cx, record),
            STATE => self.restore_state(cx, record),
            ENTRY => self.restore_entry(cx, record),
            _ => Err(Broken::Malformed("an indexed map has no such record")),
        }
    }

    fn bury(self, rubble: &mut Rubble) {
        rubble.take(self.entries, 0);
        rubble.take(self.by_key, 0);
        self.listeners.bury(rubble);
    }

    fn bytes(&self) -> usize {
        self.entries_bytes + self.listeners.bytes()
    }
}

impl IndexedMap {
    fn append(
        &mut self,
        cx: &mut Context<'_>,
        version: Index,
        key: &str,
        input: &Input<'_>,
    ) -> Answer {
        if let Some(index) = self.by_key.get(key) {
            let text = format_args!("key {key} already exists at index {index}");
            return cx.fail(Status::AlreadyExists, text);
        }
        self.last_index += 1;
        let index = self.last_index;
        let expire = input.ttl.map(|ttl| expiry(cx.time(), ttl));
        if let Some(due) = expire {
            cx.arm(due, version, index);
        }
        let entry = Entry { key: key.into(), value: input.value.into(), version, expire };
        entry.put(cx.out, 1, index);
        self.listeners.publish(cx, key, |out| {
            put_changed(out, key, index, 3, |out| entry.put_value(out, 1));
        });
        entry.tell(cx, index);
        self.link(index, entry);
        Answer::Done(Status::Ok)
    }

    fn update(
        &mut self,
        cx: &mut Context<'_>,
        version: Index,
        key: &str,
        input: &Input<'_>,
    ) -> Answer {
        let index = match self.place_to_update(cx, key, input.index) {
            Ok(index) => index,
            Err(answer) => return answer,
        };
        let Some(entry) = self.entries.get_mut(&index) else {
            return cx.fail(Status::NotFound, format_args!("index {index} not found"));
        };
        if let Err(answer) = entry.matching(cx, input.prev_version) {
            return answer;
        }
        if *entry.value == *input.value {
            entry.put(cx.out, 1, index);
            return Answer::Done(Status::Ok);
        }
        let before = entry.bytes();
        let expire = input.ttl.map(|ttl| expiry(cx.time(), ttl));
        let key = Arc::clone(&entry.key);
        let new = Entry { key, value: input.value.into(), version, expire };
        let old = std::mem::replace(entry, new);
        self.entries_bytes = self.entries_bytes + entry.bytes() - before;
        if let Some(due) = old.expire {
            cx.disarm(due, old.version, index);
        }
        if let Some(due) = expire {
            cx.arm(due, version, index);
        }
        self.listeners.publish(cx, &entry.key, |out| {
            put_changed(out, &entry.key, index, 4, |out| {
                entry.put_value(out, 1);
                old.put_value(out, 2);
            });
        });
        entry.tell(cx, index);
        entry.put(cx.out, 1, index);
        Answer::Done(Status::Ok)
    }

    /// The index of the entry that an Update names, by index, by key, or by both.
    fn place_to_update(&self, cx: &mut Context<'_>, key: &str, index: u64) -> Result<u64, Answer> {
        if index == 0 {
            if key.is_empty() {
                let text = format_args!("must specify either a key or index to update");
                return Err(cx.fail(Status::Invalid, text));
            }
            let found = self.by_key.get(key).copied();
            let unknown = format_args!("key {key} not found");
            return found.ok_or_else(|| cx.fail(Status::NotFound, unknown));
        }
        match self.entries.get(&index) {
            None => Err(cx.fail(Status::NotFound, format_args!("index {index} not found"))),
            Some(entry) if !key.is_empty() && *entry.key != *key => {
                let text =
                    format_args!("key at index {index} does not match proposed Update key {key}");
                Err(cx.fail(Status::Fault, text))
            }
            Some(_) => Ok(index),
        }
    }

    fn remove(&mut self, cx: &mut Context<'_>, key: &str, input: &Input<'_>) -> Answer {
        let (index, entry) = match self.find(key, input.index) {
            Ok(found) => found,
            Err(unknown) => return cx.fail(Status::NotFound, format_args!("{unknown}")),
        };
        if let Err(answer) = entry.matching(cx, input.prev_version) {
            return answer;
        }
        if let Some(entry) = self.unlink(index) {
            if let Some(due) = entry.expire {
                cx.disarm(due, entry.version, index);
            }
            self.removed(cx, index, &entry, false);
            entry.put(cx.out, 1, index);
        }
        Answer::Done(Status::Ok)
    }

    fn clear(&mut self, cx: &mut Context<'_>) -> Answer {
        let entries = std::mem::take(&mut self.entries);
        let by_key = std::mem::take(&mut self.by_key);
        cx.disarm_all();
        let bytes = std::mem::take(&mut self.entries_bytes);
        if self.listeners.brace(cx, entries.len()) | cx.brace(entries.len()) {
            for (index, entry) in entries.iter() {
                self.removed(cx, *index, entry, false);
            }
        } else {
            for key in self.listeners.heeded() {
                if let Some(index) = by_key.get(&*key)
                    && let Some(entry) = entries.get(index)
                {
                    self.removed(cx, *index, entry, false);
                }
            }
        }
        // Freeing a large map takes longer than a turn may.
        cx.ledger.rubble.take(by_key, 0);
        cx.ledger.rubble.take(entries, bytes);
        Answer::Done(Status::Ok)
    }

    fn get(&self, ask: &mut Ask<'_>, input: &Input<'_>) -> Asked {
        let key = match input.key() {
            Ok(key) => key,
            Err(refusal) => return Asked::Refused(refusal),
        };
        match self.find(key, input.index) {
            Ok((index, entry)) => {
                entry.put(ask.out, 1, index);
                Asked::Done(Status::Ok)
            }
            Err(unknown) => ask.fail(Status::NotFound, format_args!("{unknown}")),
        }
    }

    /// The end of the map, or the nearest entry on one side of `index`.
    fn neighbour(&self, ask: &mut Ask<'_>, tag: u32, index: u64) -> Asked {
        let found = match tag {
            FIRST => self.entries.first_key_value(),
            LAST => self.entries.last_key_value(),
            NEXT => self.entries.range((Excluded(index), Unbounded)).next(),
            _ => self.entries.range(..index).next_back(),
        };
        if let Some((index, entry)) = found {
            entry.put(ask.out, 1, *index);
            return Asked::Done(Status::Ok);
        }
        let side = match tag {
            NEXT if !self.entries.is_empty() => "after",
            PREV if !self.entries.is_empty() => "prior to",
            _ => return ask.fail(Status::NotFound, format_args!("map is empty")),
        };
        ask.fail(Status::NotFound, format_args!("no entry found {side} index {index}"))
    }

    /// The entry of this index or, when that is 0, of this key.
    fn find<'a>(&self, key: &'a str, index: u64) -> Result<(u64, &Entry), Unknown<'a>> {
        let (index, unknown) = match index {
            0 => (self.by_key.get(key).copied().unwrap_or(0), Unknown::Key(key)),
            index => (index, Unknown::Index(index)),
        };
        self.entries.get(&index).map(|entry| (index, entry)).ok_or(unknown)
    }

    /// The first entry with a larger index.
    fn behind(&self, index: u64) -> Option<(u64, &Entry)> {
        let entry = self.entries.range((Excluded(index), Unbounded)).next();
        entry.map(|(index, entry)| (*index, entry))
    }

    fn link(&mut self, index: u64, entry: Entry) {
        self.entries_bytes += entry.bytes();
        self.by_key.insert(Arc::clone(&entry.key), index);
        self.entries.insert(index, entry);
    }

    fn unlink(&mut self, index: u64) -> Option<Entry> {
        let entry = self.entries.remove(&index)?;
        self.entries_bytes -= entry.bytes();
        self.by_key.remove(&entry.key);
        Some(entry)
    }

    /// Tells listeners and watchers that an entry is gone.
    fn removed(&mut self, cx: &mut Context<'_>, index: u64, entry: &Entry, expired: bool) {
        self.listeners.publish(cx, &entry.key, |out| {
            put_changed(out, &entry.key, index, 5, |out| {
                entry.put_value(out, 1);
                put_uint(out, 2, u64::from(expired));
            });
        });
        if cx.watched() {
            let mut gone = Vec::new();
            put_message(&mut gone, 1, |out| {
                put_text(out, 1, entry.key.as_bytes());
                put_uint(out, 2, index);
            });
            cx.tell(Some(&cursor(index)), &gone);
        }
    }

    fn restore_state(&mut self, cx: &Restoring<'_>, record: &[u8]) -> Result<(), Broken> {
        if self.last_index > 0 {
            return Err(Broken::Malformed("an indexed map has two last indexes"));
        }
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            if number == 1 {
                // Each index took a command.
                self.last_index = cx.past(Index(value.uint()?))?.0;
            }
        }
        Ok(())
    }

    fn restore_entry(&mut self, cx: &mut Restoring<'_>, record: &[u8]) -> Result<(), Broken> {
        let (mut key, mut index, mut stored) = ("", 0, &[][..]);
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => key = field::text(value.bytes()?)?,
                2 => index = value.uint()?,
                3 => stored = value.bytes()?,
                _ => {}
            }
        }
        let (mut content, mut version, mut expire) = (&[][..], Index(0), None);
        let mut fields = Fields::new(stored);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => content = value.bytes()?,
                2 => version = cx.past(Index(value.uint()?))?,
                3 => expire = Some(field::timestamp(value.bytes()?)?),
                _ => {}
            }
        }
        let last = self.entries.last_key_value().map_or(0, |(last, _)| *last);
        if index <= last || index > self.last_index || self.by_key.contains_key(key) {
            return Err(Broken::Malformed("the entries of an indexed map are out of order"));
        }
        if let Some(due) = expire {
            cx.arm(due, version, index)?;
        }
        self.link(index, Entry { key: key.into(), value: content.into(), version, expire });
        Ok(())
    }
}

impl Entry {
    /// Memory held, in both trees.
    fn bytes(&self) -> usize {
        let timer = if self.expire.is_some() { EXPIRING_BYTES } else { 0 };
        ENTRY_BYTES + self.key.len() + self.value.len() + timer
    }

    /// Whether `prev_version` is 0 or its version.
    fn matching(&self, cx: &mut Context<'_>, prev_version: u64) -> Result<(), Answer> {
        if prev_version == 0 || prev_version == self.version.0 {
            return Ok(());
        }
        let (key, version) = (&self.key, self.version);
        let text =
            format_args!("key {key} version {version} does not match prev_version {prev_version}");
        Err(cx.fail(Status::Conflict, text))
    }

    /// An `Entry` as field `number`.
    fn put(&self, into: &mut Vec<u8>, number: u32, index: u64) {
        put_message(into, number, |into| {
            put_text(into, 1, self.key.as_bytes());
            put_uint(into, 2, index);
            self.put_value(into, 3);
        });
    }

    /// Its `Value` as field `number`.
    fn put_value(&self, into: &mut Vec<u8>, number: u32) {
        put_message(into, number, |into| {
            put_text(into, 1, &self.value);
            put_uint(into, 2, self.version.0);
        });
    }

    /// Tells watchers what it is now.
    fn tell(&self, cx: &mut Context<'_>, index: u64) {
        if cx.watched() {
            let mut item = Vec::new();
            self.put(&mut item, 1, index);
            cx.tell(Some(&cursor(index)), &item);
        }
    }
}

/// The fields of an `Event`, `write`s being those of the change with the number `change`.
fn put_changed(
    into: &mut Vec<u8>,
    key: &str,
    index: u64,
    change: u32,
    write: impl FnOnce(&mut Vec<u8>),
) {
    put_text(into, 1, key.as_bytes());
    put_uint(into, 2, index);
    put_message(into, change, write);
}

/// What was looked for in vain.
enum Unknown<'a> {
    Key(&'a str),
    Index(u64),
}

impl std::fmt::Display for Unknown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unknown::Key(key) => write!(f, "no entry found at key {key}"),
            Unknown::Index(index) => write!(f, "no entry found at index {index}"),
        }
    }
}

/// An index as the text by which listings compare how far they are: as long for each, so that texts
/// sort like numbers.
fn cursor(index: u64) -> String {
    format!("{index:016x}")
}

fn index_of(cursor: &str) -> u64 {
    u64::from_str_radix(cursor, 16).expect("a cursor is made by the map that it goes over")
}

/// The fields of an indexed map's inputs; each input has some.
#[derive(Default)]
struct Input<'a> {
    key: &'a [u8],
    index: u64,
    value: &'a [u8],
    /// In nanoseconds, of either sign.
    ttl: Option<i128>,
    prev_version: u64,
    watch: bool,
}

impl<'a> Input<'a> {
    fn parse(tag: u32, input: &'a [u8]) -> Result<Input<'a>, field::Broken> {
        let mut parsed = Input::default();
        let mut fields = Fields::new(input);
        while let Some((number, value)) = fields.field()? {
            match (tag, number) {
                (ENTRIES, 1) => parsed.watch = value.uint()? != 0,
                (NEXT | PREV, 1) | (UPDATE | GET | REMOVE, 2) => parsed.index = value.uint()?,
                (APPEND | UPDATE | GET | REMOVE | EVENTS, 1) => parsed.key = value.bytes()?,
                (APPEND, 2) | (UPDATE, 3) => parsed.value = value.bytes()?,
                (APPEND, 3) | (UPDATE, 4) => {
                    parsed.ttl = Some(field::nanos(value.bytes()?)?);
                }
                (UPDATE, 5) | (REMOVE, 3) => parsed.prev_version = value.uint()?,
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn key(&self) -> Result<&'a str, Refusal> {
        checked_key(self.key)
    }
}

#[cfg(test)]
mod tests;
