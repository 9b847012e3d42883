//! A multimap from text to sets of texts, with events and listings (primitives.md 2.8).
//!
//! A key exists while it has values (MM-01); a value is announced once however often a request
//! names it (MM-02); Remove says what it removed (MM-03); a watcher gets one item a key and change,
//! with all values the key has afterwards (MM-04). Keys and values are ordered, so Get, listings,
//! Clear and what Replace takes away come in one order everywhere (C-05); what a request adds or
//! takes away comes in the order of the request (wire.md, decision 10).
//!
//! All values of a key leave in one message: Get's output, Replace's, an item of a listing. So what
//! one key may hold is bounded, by the largest message a client takes and by a count that keeps a
//! turn short (limits.rs). A command past it is refused as a whole. Absent on purpose: versions and
//! TTL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::limits::{CLEAR_EVENTS_MAX, REQUEST_ITEMS_MAX, VALUES_BYTES_MAX, VALUES_MAX};
use crate::partition::kept::{Heap, Rubble};
use crate::partition::primitive::listeners::Listeners;
use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, checked_key, not_utf8, undecodable,
};
use crate::partition::reply::{Refusal, Status};
use crate::partition::snapshot::{Broken, Restoring};
use crate::partition::sorted::Sorted;
use crate::wire::field::{
    self, Fields, delimited_bytes, put_bytes, put_message, put_text, put_uint,
};

/// The state of a multimap.
#[derive(Clone, Default, Debug)]
pub struct MultiMap {
    /// No key is without values.
    keys: Sorted<Arc<str>, Values>,
    listeners: Listeners,
    /// Memory that keys and values hold.
    held_bytes: usize,
}

/// The values of one key.
#[derive(Clone, Default, Debug)]
struct Values {
    set: Sorted<Arc<str>, ()>,
    /// What they take in a message.
    message_bytes: usize,
}

const SIZE: u32 = 1;
const PUT: u32 = 2;
const PUT_ALL: u32 = 3;
const REPLACE: u32 = 4;
const CONTAINS: u32 = 5;
const GET: u32 = 6;
const REMOVE: u32 = 7;
const REMOVE_ALL: u32 = 8;
const CLEAR: u32 = 9;
const ENTRIES: u32 = 10;
const EVENTS: u32 = 11;
const PUT_ENTRIES: u32 = 12;
const REMOVE_ENTRIES: u32 = 13;

/// Snapshot records: `MultiMapListener` with 100 session and 101 sequence number; `MultiMapEntry`,
/// of which a key with many values has several in a row.
const LISTENER: u8 = 26;
const ENTRY: u8 = 27;

/// What a key costs beside its text, with the levels of its set; and a value beside its own.
const KEY_COST_BYTES: usize = size_of::<Values>() + 240;
const VALUE_COST_BYTES: usize = 56;

/// A snapshot record ends with the value that takes it past this.
const RECORD_BYTES: usize = 64 << 10;

impl Shape for MultiMap {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            PUT | PUT_ALL | REPLACE | REMOVE | REMOVE_ALL | CLEAR | PUT_ENTRIES
            | REMOVE_ENTRIES => Some(Mode::Command),
            EVENTS => Some(Mode::Stream),
            SIZE | CONTAINS | GET => Some(Mode::Query),
            ENTRIES => Some(Mode::Watch),
            _ => None,
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer {
        if matches!(tag, PUT_ENTRIES | REMOVE_ENTRIES) {
            return match parse_entries(input) {
                Ok(entries) if tag == PUT_ENTRIES => self.put_all(cx, &entries),
                Ok(entries) => self.remove_entries(cx, &entries),
                Err(fault) => fault.answer(cx),
            };
        }
        let entry = match Entry::parse(input, 2) {
            Ok(entry) => entry,
            Err(fault) => return fault.answer(cx),
        };
        match tag {
            PUT => self.put(cx, &entry),
            PUT_ALL => self.put_all(cx, std::slice::from_ref(&entry)),
            REPLACE => self.replace(cx, &entry),
            REMOVE => self.remove(cx, &entry),
            REMOVE_ALL => self.remove_all(cx, &entry),
            CLEAR => self.clear(cx),
            EVENTS => self.listeners.listen(cx, call, entry.key),
            _ => cx.fail(Status::NotSupported, format_args!("proposal not supported")),
        }
    }

    fn query(&self, ask: &mut Ask<'_>, tag: u32, input: &[u8]) -> Asked {
        match tag {
            SIZE => {
                let keys = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
                put_uint(ask.out, 1, u64::from(keys));
                return Asked::Done(Status::Ok);
            }
            ENTRIES => {
                return match watches(input) {
                    Ok(true) => Asked::Watching,
                    Ok(false) => Asked::Listing,
                    Err(_) => ask.undecodable(),
                };
            }
            _ => {}
        }
        let entry = match Entry::parse(input, 2) {
            Ok(entry) => entry,
            Err(Fault::Undecodable) => return ask.undecodable(),
            Err(Fault::Refused(refusal)) => return Asked::Refused(refusal),
        };
        let values = self.keys.get(entry.key);
        match tag {
            CONTAINS => {
                let found = values.is_some_and(|values| values.set.contains_key(entry.value()));
                put_uint(ask.out, 1, u64::from(found));
            }
            GET => values.into_iter().for_each(|values| values.put(ask.out, 1)),
            _ => return ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
        Asked::Done(Status::Ok)
    }

    fn cancelled(&mut self, _cx: &mut Context<'_>, call: CallId) {
        self.listeners.unlisten(call.index);
    }

    fn list(&self, after: Option<&str>, out: &mut Vec<u8>) -> Option<Box<str>> {
        let (key, values) = self.behind(after)?;
        put_item(out, key, Some(values));
        Some(key.into())
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        use std::ops::Bound::{Excluded, Unbounded};
        if self.listeners.record(place, into) {
            return Some(LISTENER);
        }
        let (key, values) = match (&place.key, &place.part) {
            (Some(key), Some(_)) => {
                (&**key, self.keys.get(&**key).expect("a key stays while it is written"))
            }
            (key, _) => self.behind(key.as_deref())?,
        };
        put_text(into, 1, key.as_bytes());
        let from = place.part.as_deref().map_or(Unbounded, Excluded);
        let mut last = None;
        for (value, ()) in values.set.range::<str, _>((from, Unbounded)) {
            put_bytes(into, 2, value.as_bytes());
            last = Some(value);
            if into.len() >= RECORD_BYTES {
                break;
            }
        }
        let through = last == values.last();
        place.part = last.filter(|_| !through).map(|last| (**last).into());
        place.key = Some(key.into());
        Some(ENTRY)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        match kind {
            LISTENER => self.listeners.restore(cx, record),
            ENTRY => self.restore_entry(record),
            _ => Err(Broken::Malformed("a multimap has no such record")),
        }
    }

    fn bury(self, rubble: &mut Rubble) {
        rubble.take_nested(self.keys, 0);
        self.listeners.bury(rubble);
    }

    fn bytes(&self) -> usize {
        self.held_bytes + self.listeners.bytes()
    }
}

impl MultiMap {
    fn put(&mut self, cx: &mut Context<'_>, entry: &Entry<'_>) -> Answer {
        let (key, value) = (entry.key, entry.value());
        let values = self.keys.get(key);
        if values.is_some_and(|values| values.set.contains_key(value)) {
            return cx.fail(Status::AlreadyExists, format_args!("entry already exists"));
        }
        let (count, bytes) = values.map_or((0, 0), Values::extent);
        if exceeds(count + 1, bytes + message_bytes(value)) {
            return too_many();
        }
        self.add(key, value);
        self.announce(cx, key, ADDED, value);
        self.tell(cx, key);
        Answer::Done(Status::Ok)
    }

    /// Puts all of them or none; `updated` says whether anything is new.
    fn put_all(&mut self, cx: &mut Context<'_>, entries: &[Entry<'_>]) -> Answer {
        if !self.has_room(entries) {
            return too_many();
        }
        let mut updated = false;
        for entry in entries {
            let mut changed = false;
            for value in &entry.values {
                if self.add(entry.key, value) {
                    self.announce(cx, entry.key, ADDED, value);
                    changed = true;
                }
            }
            if changed {
                self.tell(cx, entry.key);
            }
            updated |= changed;
        }
        put_uint(cx.out, 1, u64::from(updated));
        Answer::Done(Status::Ok)
    }

    fn replace(&mut self, cx: &mut Context<'_>, entry: &Entry<'_>) -> Answer {
        let key = entry.key;
        let wanted: BTreeSet<&str> = entry.values.iter().copied().collect();
        if exceeds(wanted.len(), wanted.iter().map(|value| message_bytes(value)).sum()) {
            return too_many();
        }
        let old = match self.keys.remove(key) {
            Some(old) => {
                self.held_bytes -= cost(key, &old);
                old
            }
            None => Values::default(),
        };
        old.put(cx.out, 1);
        let (mut kept, mut added) = (old.set, Vec::new());
        let mut new = Values::default();
        for value in &entry.values {
            match kept.remove_entry(*value) {
                Some((value, ())) => new.insert(value),
                None if new.insert((*value).into()) => {
                    added.push(*value);
                    true
                }
                None => false,
            };
        }
        if !new.set.is_empty() {
            self.held_bytes += cost(key, &new);
            self.keys.insert(key.into(), new);
        }
        for value in &added {
            self.announce(cx, key, ADDED, value);
        }
        for (value, ()) in kept.iter() {
            self.announce(cx, key, REMOVED, value);
        }
        if !added.is_empty() || !kept.is_empty() {
            self.tell(cx, key);
        }
        Answer::Done(Status::Ok)
    }

    fn remove(&mut self, cx: &mut Context<'_>, entry: &Entry<'_>) -> Answer {
        let (key, value) = (entry.key, entry.value());
        if !self.take(key, value) {
            return cx.fail(Status::NotFound, format_args!("entry not found"));
        }
        self.announce(cx, key, REMOVED, value);
        self.tell(cx, key);
        put_bytes(cx.out, 1, value.as_bytes());
        Answer::Done(Status::Ok)
    }

    fn remove_all(&mut self, cx: &mut Context<'_>, entry: &Entry<'_>) -> Answer {
        if !self.keys.contains_key(entry.key) {
            return cx.fail(Status::NotFound, format_args!("entry not found"));
        }
        let updated = self.remove_values(cx, entry);
        put_uint(cx.out, 2, u64::from(updated));
        Answer::Done(Status::Ok)
    }

    fn remove_entries(&mut self, cx: &mut Context<'_>, entries: &[Entry<'_>]) -> Answer {
        let mut updated = false;
        for entry in entries {
            updated |= self.remove_values(cx, entry);
        }
        put_uint(cx.out, 1, u64::from(updated));
        Answer::Done(Status::Ok)
    }

    fn remove_values(&mut self, cx: &mut Context<'_>, entry: &Entry<'_>) -> bool {
        let mut changed = false;
        for value in &entry.values {
            if self.take(entry.key, value) {
                self.announce(cx, entry.key, REMOVED, value);
                changed = true;
            }
        }
        if changed {
            self.tell(cx, entry.key);
        }
        changed
    }

    fn clear(&mut self, cx: &mut Context<'_>) -> Answer {
        let keys = std::mem::take(&mut self.keys);
        let bytes = std::mem::take(&mut self.held_bytes);
        let values = match keys.len() {
            // No key is without values.
            many if many > CLEAR_EVENTS_MAX || self.listeners.is_empty() => many,
            _ => keys.iter().map(|(_, values)| values.set.len()).sum(),
        };
        if self.listeners.brace(cx, values) | cx.brace(keys.len()) {
            for (key, values) in keys.iter() {
                self.cleared(cx, key, values);
            }
        } else {
            for key in self.listeners.heeded() {
                if let Some(values) = keys.get(&*key) {
                    self.cleared(cx, &key, values);
                }
            }
        }
        // Freeing a large multimap takes longer than a turn may.
        cx.ledger.rubble.take_nested(keys, bytes);
        Answer::Done(Status::Ok)
    }

    fn cleared(&mut self, cx: &mut Context<'_>, key: &str, values: &Values) {
        for (value, ()) in values.set.iter() {
            self.announce(cx, key, REMOVED, value);
        }
        self.tell(cx, key);
    }

    /// Whether every key may have the values that these add to it.
    fn has_room(&self, entries: &[Entry<'_>]) -> bool {
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for entry in entries {
            let held = self.keys.get(entry.key);
            let is_new = |value: &&&str| held.is_none_or(|held| !held.set.contains_key(**value));
            let new = entry.values.iter().filter(is_new).copied();
            keys.entry(entry.key).or_default().extend(new);
        }
        keys.into_iter().all(|(key, new)| {
            let (count, bytes) = self.keys.get(key).map_or((0, 0), Values::extent);
            let new_bytes: usize = new.iter().map(|value| message_bytes(value)).sum();
            !exceeds(count + new.len(), bytes + new_bytes)
        })
    }

    /// Adds a value; `false` when the key has it.
    fn add(&mut self, key: &str, value: &str) -> bool {
        let Some(values) = self.keys.get_mut(key) else {
            let mut values = Values::default();
            values.insert(value.into());
            self.held_bytes += cost(key, &values);
            self.keys.insert(key.into(), values);
            return true;
        };
        // An insert has its text made before it looks; what is put again is not to cost one.
        if values.set.contains_key(value) {
            return false;
        }
        values.insert(value.into());
        self.held_bytes += value_cost(value);
        true
    }

    /// Takes a value away, and its key with the last one; `false` when it is not there.
    fn take(&mut self, key: &str, value: &str) -> bool {
        let Some(values) = self.keys.get_mut(key) else {
            return false;
        };
        if values.set.remove(value).is_none() {
            return false;
        }
        values.message_bytes -= message_bytes(value);
        self.held_bytes -= value_cost(value);
        if values.set.is_empty() {
            let values = self.keys.remove(key).expect("it was there just now");
            self.held_bytes -= cost(key, &values);
        }
        true
    }

    /// Tells listeners of one value that came or went.
    fn announce(&mut self, cx: &mut Context<'_>, key: &str, change: u32, value: &str) {
        self.listeners.publish(cx, key, |out| {
            put_text(out, 1, key.as_bytes());
            put_message(out, change, |out| put_text(out, 1, value.as_bytes()));
        });
    }

    /// Tells watchers what a key has now.
    fn tell(&self, cx: &mut Context<'_>, key: &str) {
        if cx.watched() {
            let mut item = Vec::new();
            put_item(&mut item, key, self.keys.get(key));
            cx.tell(Some(key), &item);
        }
    }

    fn behind(&self, after: Option<&str>) -> Option<(&str, &Values)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.keys.range::<str, _>((from, Unbounded)).next().map(|(key, values)| (&**key, values))
    }

    /// Keys come in ascending order, and so do the values of one.
    fn restore_entry(&mut self, record: &[u8]) -> Result<(), Broken> {
        let (mut key, mut values) = ("", Vec::new());
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => key = field::text(value.bytes()?)?,
                2 => values.push(field::text(value.bytes()?)?),
                _ => {}
            }
        }
        let goes_on = match self.keys.last_key_value() {
            Some((last, held)) if **last == *key => {
                values.first().is_some_and(|first| held.last().is_some_and(|it| **it < **first))
            }
            last => last.is_none_or(|(last, _)| **last < *key),
        };
        if values.is_empty() || !goes_on || !values.is_sorted_by(|a, b| a < b) {
            return Err(Broken::Malformed("a multimap's records are out of order"));
        }
        for value in values {
            self.add(key, value);
        }
        match self.keys.get(key).map(Values::extent) {
            Some((count, bytes)) if !exceeds(count, bytes) => Ok(()),
            _ => Err(Broken::Malformed("a key of a multimap has too many values")),
        }
    }
}

/// The members of an event.
const ADDED: u32 = 2;
const REMOVED: u32 = 3;

impl Values {
    /// Adds one; `false` when it is there.
    fn insert(&mut self, value: Arc<str>) -> bool {
        let bytes = message_bytes(&value);
        let new = self.set.insert(value, ()).is_none();
        self.message_bytes += if new { bytes } else { 0 };
        new
    }

    fn last(&self) -> Option<&Arc<str>> {
        self.set.last_key_value().map(|(value, ())| value)
    }

    /// How many they are, and what they take in a message.
    fn extent(&self) -> (usize, usize) {
        (self.set.len(), self.message_bytes)
    }

    /// Appends them as field `number`, repeated.
    fn put(&self, into: &mut Vec<u8>, number: u32) {
        into.reserve(self.message_bytes);
        for (value, ()) in self.set.iter() {
            put_bytes(into, number, value.as_bytes());
        }
    }
}

impl Heap for Values {
    fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    fn clear_some(&mut self, parts_max: usize) -> usize {
        Heap::clear_some(&mut self.set, parts_max)
    }
}

/// A key with values, as a request names them.
#[derive(Default)]
struct Entry<'a> {
    key: &'a str,
    values: Vec<&'a str>,
}

/// Why a request is not understood.
enum Fault {
    Undecodable,
    Refused(Refusal),
}

impl<'a> Entry<'a> {
    /// Reads a key in field 1 and values in field `number`.
    fn parse(message: &'a [u8], number: u32) -> Result<Entry<'a>, Fault> {
        let mut entry = Entry::default();
        let mut fields = Fields::new(message);
        while let Some((at, value)) = fields.field()? {
            if at == 1 {
                entry.key = checked_key(value.bytes()?).map_err(Fault::Refused)?;
            } else if at == number {
                let value = field::text(value.bytes()?);
                entry.values.push(value.map_err(|_| Fault::Refused(not_utf8()))?);
                if entry.values.len() >= REQUEST_ITEMS_MAX {
                    return Err(Fault::too_many());
                }
            }
        }
        Ok(entry)
    }

    /// The value where there can be one only: the last, as protobuf has it, and empty for none.
    fn value(&self) -> &'a str {
        self.values.last().copied().unwrap_or_default()
    }
}

impl Fault {
    fn too_many() -> Fault {
        let text = format!("the request names more than {REQUEST_ITEMS_MAX} keys and values");
        Fault::Refused(Refusal::Malformed(text))
    }

    fn answer(self, cx: &mut Context<'_>) -> Answer {
        match self {
            Fault::Undecodable => undecodable(cx),
            Fault::Refused(refusal) => Answer::Refused(refusal),
        }
    }
}

impl From<field::Broken> for Fault {
    fn from(_: field::Broken) -> Fault {
        Fault::Undecodable
    }
}

/// `PutEntriesInput`, `RemoveEntriesInput`. Values of an `Entry` have number 3.
fn parse_entries(input: &[u8]) -> Result<Vec<Entry<'_>>, Fault> {
    let (mut entries, mut items) = (Vec::new(), 0);
    let mut fields = Fields::new(input);
    while let Some((number, value)) = fields.field()? {
        if number == 1 {
            let entry = Entry::parse(value.bytes()?, 3)?;
            items += 1 + entry.values.len();
            if items > REQUEST_ITEMS_MAX {
                return Err(Fault::too_many());
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// `EntriesInput`
fn watches(input: &[u8]) -> Result<bool, field::Broken> {
    let mut watch = false;
    let mut fields = Fields::new(input);
    while let Some((number, value)) = fields.field()? {
        if number == 1 {
            watch = value.uint()? != 0;
        }
    }
    Ok(watch)
}

/// An `EntriesOutput`; without values it says that the key is gone.
fn put_item(into: &mut Vec<u8>, key: &str, values: Option<&Values>) {
    put_message(into, 1, |into| {
        put_text(into, 1, key.as_bytes());
        values.into_iter().for_each(|values| values.put(into, 3));
    });
}

fn too_many() -> Answer {
    Answer::Refused(Refusal::Full("the key has too many values"))
}

fn exceeds(count: usize, bytes: usize) -> bool {
    count > VALUES_MAX || bytes > VALUES_BYTES_MAX
}

/// What a value takes in a message, in a field whose number is below 16.
fn message_bytes(value: &str) -> usize {
    delimited_bytes(1, value.len())
}

fn value_cost(value: &str) -> usize {
    VALUE_COST_BYTES + message_bytes(value)
}

fn cost(key: &str, values: &Values) -> usize {
    let (count, bytes) = values.extent();
    KEY_COST_BYTES + key.len() + count * VALUE_COST_BYTES + bytes
}

#[cfg(test)]
mod tests;
