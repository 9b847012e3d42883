//! A map from text to bytes, with versions, TTL, events and listings (primitives.md 2.7).
//!
//! Entries are ordered by key, so listings, clearing and snapshots go the same way on every
//! replica. An entry's version is the index of the command that wrote it. A transaction writes many
//! entries with one version; where an entry stands in it tells their TTL timers apart. Put checks
//! `prev_index` before it looks whether the bytes are equal (M-01). Watchers see a removal as an
//! entry without value (M-03). Absent on purpose: Lock and Unlock, which the API declares and
//! nothing implements. Next: `map/transactions.rs`.

use std::fmt;
use std::sync::Arc;

use crate::id::{Index, SessionId};
use crate::limits::TRANSACTION_OPERATIONS_MAX;
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
use crate::wire::field::{self, Fields, put_bytes, put_message, put_text, put_timestamp, put_uint};

mod transactions;

use transactions::Transactions;

/// The state of a map.
#[derive(Clone, Default, Debug)]
pub struct Map {
    entries: Sorted<Arc<str>, Entry>,
    /// Keys of entries with a TTL, by the token of their timer.
    expiring: Sorted<u64, Arc<str>>,
    listeners: Listeners,
    transactions: Transactions,
    /// Memory that entries hold.
    entries_bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Arc<[u8]>,
    index: Index,
    expire: Option<LogTime>,
    /// Which operation of the command wrote it: 0, but in a transaction.
    place: u16,
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
const PREPARE: u32 = 12;
const COMMIT: u32 = 13;
const ABORT: u32 = 14;
const APPLY: u32 = 15;

/// Snapshot records: `MapListener` with 100 session and 101 sequence number; `MapEntry`, in its
/// value 100 the place; those of transactions.
const LISTENER: u8 = 19;
const ENTRY: u8 = 20;

/// What an entry costs beside key and value: itself, its key's place, a third as much for leaves
/// that are not full, and what the allocations of key and value take for themselves.
const ENTRY_BYTES: usize = size_of::<Entry>() + 88;

impl Shape for Map {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            PUT | INSERT | UPDATE | REMOVE | CLEAR => Some(Mode::Command),
            PREPARE | COMMIT | ABORT | APPLY => Some(Mode::Command),
            EVENTS => Some(Mode::Stream),
            SIZE | GET => Some(Mode::Query),
            ENTRIES => Some(Mode::Watch),
            _ => None,
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer {
        if matches!(tag, PREPARE | COMMIT | ABORT | APPLY) {
            return self.transact(cx, call, tag, input);
        }
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
            PUT | INSERT | UPDATE | REMOVE => {
                let step = Step { tag, key, input };
                if let Err(objection) = self.check(&step) {
                    return objection.answer(cx, &step);
                }
                let done = self.perform(cx, (call.index, 0), &step);
                done.put(cx.out, tag);
                Answer::Done(Status::Ok)
            }
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
        if let Some(key) = self.expiring.remove(&token)
            && let Some(entry) = self.entries.remove(&key)
        {
            assert!(!self.transactions.holds(&key), "a locked entry expires");
            self.grow(0, entry_bytes(&key, &entry));
            self.removed(cx, &key, &entry, true);
        }
    }

    fn cancelled(&mut self, _cx: &mut Context<'_>, call: CallId) {
        self.listeners.unlisten(call.index);
    }

    fn left(&mut self, cx: &mut Context<'_>, session: SessionId) {
        self.abort_all(cx, session);
    }

    fn list(&self, after: Option<&str>, out: &mut Vec<u8>) -> Option<Box<str>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let (key, entry) = self.entries.range::<str, _>((from, Unbounded)).next()?;
        put_message(out, 1, |out| put_entry(out, key, Some((&entry.value, entry.index))));
        Some((**key).into())
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        use std::ops::Bound::{Excluded, Unbounded};
        if self.listeners.record(place, into) {
            return Some(LISTENER);
        }
        if place.step == 1 {
            let from = place.key.as_deref().map_or(Unbounded, Excluded);
            if let Some((key, entry)) = self.entries.range::<str, _>((from, Unbounded)).next() {
                put_text(into, 1, key.as_bytes());
                put_message(into, 2, |into| {
                    put_text(into, 1, &entry.value);
                    put_uint(into, 2, entry.index.0);
                    if let Some(expire) = entry.expire {
                        put_timestamp(into, 3, expire);
                    }
                    put_uint(into, 100, u64::from(entry.place));
                });
                place.key = Some((**key).into());
                return Some(ENTRY);
            }
            *place = Place { step: 2, ..Place::default() };
        }
        self.transactions.record(place, into)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        match kind {
            LISTENER => self.listeners.restore(cx, record),
            ENTRY => self.restore_entry(cx, record),
            kind => self.restore_transaction(cx, kind, record),
        }
    }

    fn bury(self, rubble: &mut Rubble) {
        rubble.take(self.entries, 0);
        rubble.take(self.expiring, 0);
        self.listeners.bury(rubble);
        self.transactions.bury(rubble);
    }

    fn bytes(&self) -> usize {
        self.entries_bytes + self.listeners.bytes() + self.transactions.bytes()
    }
}

impl Map {
    /// Whether nothing stands against an operation.
    fn check(&self, step: &Step<'_>) -> Result<(), Objection> {
        if self.transactions.holds(step.key) {
            return Err(Objection::Locked);
        }
        let found = self.entries.get(step.key).map(|entry| entry.index);
        match (step.tag, found) {
            (INSERT, Some(_)) => return Err(Objection::Present),
            (UPDATE | REMOVE, None) => return Err(Objection::Absent),
            _ => {}
        }
        let (wanted, found) = (step.input.prev_index, found.unwrap_or_default());
        if wanted > 0 && wanted != found.0 {
            return Err(Objection::Differs(found));
        }
        Ok(())
    }

    /// Does what `check` found nothing against; `at` is the command and the place in it.
    fn perform(&mut self, cx: &mut Context<'_>, at: (Index, u16), step: &Step<'_>) -> Done {
        let key = step.key;
        match (step.tag, self.entries.get(key)) {
            (REMOVE, _) => {
                let entry = self.entries.remove(key).expect("it was found to be there");
                self.grow(0, entry_bytes(key, &entry));
                self.stop_timer(cx, &entry);
                self.removed(cx, key, &entry, false);
                Done::Removed(entry)
            }
            (PUT, Some(entry)) if *entry.value == *step.input.value => Done::Same(entry.index),
            _ => Done::Written(at.0, self.write(cx, at, key, &step.input)),
        }
    }

    fn clear(&mut self, cx: &mut Context<'_>) -> Answer {
        let locked = self.transactions.locked();
        if locked > 0 {
            let text = format_args!("{locked} keys are locked by other transaction(s)");
            return cx.fail(Status::Conflict, text);
        }
        let entries = std::mem::take(&mut self.entries);
        cx.disarm_all();
        let bytes = std::mem::take(&mut self.entries_bytes);
        if self.listeners.brace(cx, entries.len()) | cx.brace(entries.len()) {
            for (key, entry) in entries.iter() {
                self.removed(cx, key, entry, false);
            }
        } else {
            for key in self.listeners.heeded() {
                if let Some(entry) = entries.get(&*key) {
                    self.removed(cx, &key, entry, false);
                }
            }
        }
        // Freeing a large map takes longer than a turn may. Its memory is counted as one.
        cx.ledger.rubble.take(std::mem::take(&mut self.expiring), 0);
        cx.ledger.rubble.take(entries, bytes);
        Answer::Done(Status::Ok)
    }

    /// Stores an entry, replaces its TTL, tells listeners and watchers. Returns what was there.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        (index, place): (Index, u16),
        key: &str,
        input: &Input<'_>,
    ) -> Option<Entry> {
        let expire = input.ttl.map(|ttl| expiry(cx.time(), ttl));
        let new = Entry { value: input.value.into(), index, expire, place };
        let token = new.token();
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
            cx.arm(due, index, token);
            self.expiring.insert(token, key.into());
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
            cx.disarm(due, entry.index, entry.token());
            self.expiring.remove(&entry.token());
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
        let mut entry = Entry { value: Arc::default(), index: Index(0), expire: None, place: 0 };
        let mut fields = Fields::new(stored);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => entry.value = value.bytes()?.into(),
                2 => entry.index = cx.past(Index(value.uint()?))?,
                3 => entry.expire = Some(field::timestamp(value.bytes()?)?),
                100 => entry.place = place(value.uint()?)?,
                _ => {}
            }
        }
        if let Some(due) = entry.expire {
            cx.arm(due, entry.index, entry.token())?;
            let old = self.expiring.insert(entry.token(), key.into());
            if old.is_some() || entry.index.0 >> (64 - PLACE_BITS) > 0 {
                return Err(Broken::Malformed("two entries of a map have one timer"));
            }
        }
        self.grow(entry_bytes(key, &entry), 0);
        if self.entries.insert(key.into(), entry).is_some() {
            return Err(Broken::Malformed("two entries of a map have one key"));
        }
        Ok(())
    }
}

impl Entry {
    /// What its timer is known by: its version and its place.
    fn token(&self) -> u64 {
        self.index.0 << PLACE_BITS | u64::from(self.place)
    }
}

/// Leaves versions of 54 bits: 500 years at a million commands a second.
const PLACE_BITS: u32 = 10;
const _: () = assert!(TRANSACTION_OPERATIONS_MAX <= 1 << PLACE_BITS);

fn place(number: u64) -> Result<u16, Broken> {
    let place = u16::try_from(number).ok().filter(|place| place >> PLACE_BITS == 0);
    place.ok_or(Broken::Malformed("no transaction is as long"))
}

/// An operation on one key, as a command of its own or in a transaction.
struct Step<'a> {
    tag: u32,
    key: &'a str,
    input: Input<'a>,
}

/// Why an operation is not done.
#[derive(PartialEq, Eq, Debug)]
enum Objection {
    /// A transaction holds the key.
    Locked,
    Absent,
    Present,
    /// The entry has this version, 0 for none.
    Differs(Index),
    /// The transaction has an operation on the key already.
    Twice,
    /// The transaction would answer with more than a client takes.
    Large,
}

impl Objection {
    /// The failed output. The texts are the reference's: the word `remove` of Update is that of
    /// 2022, the word `update` of Put that of 2023, which was the first to compare there.
    fn answer(self, cx: &mut Context<'_>, step: &Step<'_>) -> Answer {
        let (key, wanted) = (step.key, step.input.prev_index);
        let mut fail = |status, text: fmt::Arguments<'_>| cx.fail(status, text);
        match self {
            Objection::Locked => {
                let text = format_args!("key {key} is locked by another transaction");
                fail(Status::Conflict, text)
            }
            Objection::Absent => fail(Status::NotFound, format_args!("key '{key}' not found")),
            Objection::Present => {
                fail(Status::AlreadyExists, format_args!("key '{key}' already exists"))
            }
            Objection::Differs(found) => {
                let word = if step.tag == PUT { "update" } else { "remove" };
                let text = format_args!("entry index {found} does not match {word} index {wanted}");
                fail(Status::Conflict, text)
            }
            Objection::Twice => {
                let text = format_args!("multiple modifications of key {key} in same transaction");
                fail(Status::Conflict, text)
            }
            Objection::Large => {
                let text = format_args!("the values before do not fit one answer");
                fail(Status::Invalid, text)
            }
        }
    }
}

/// What an operation did.
enum Done {
    /// Nothing: the bytes are those of this version.
    Same(Index),
    /// It wrote this version over what was there.
    Written(Index, Option<Entry>),
    Removed(Entry),
}

impl Done {
    /// The output of the operation `tag`.
    fn put(&self, into: &mut Vec<u8>, tag: u32) {
        match self {
            Done::Same(index) => put_uint(into, 1, index.0),
            Done::Written(index, old) => {
                put_uint(into, 1, index.0);
                if let Some(old) = old.as_ref().filter(|_| tag != INSERT) {
                    put_indexed(into, 2, &old.value, old.index);
                }
            }
            Done::Removed(entry) => put_indexed(into, 1, &entry.value, entry.index),
        }
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
    let timer = if entry.expire.is_some() { key.len() + 56 } else { 0 };
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
