//! A set of texts, with TTL, events and listings (primitives.md 2.9).
//!
//! Elements are ordered, so listings, clearing and snapshots go the same way on every replica
//! (C-05). An element with a TTL remembers the index of the command that added it, which names its
//! timer; adding what is there already is refused and leaves the TTL alone. Snapshots keep the
//! elements' texts, which the reference leaves out (S-01). Watchers of Elements hear of additions
//! only, because that message cannot express a removal (S-02). Absent on purpose: versions, and
//! filters of events.

use std::sync::Arc;

use crate::id::Index;
use crate::partition::kept::Rubble;
use crate::partition::primitive::listeners::Listeners;
use crate::partition::primitive::{
    Answer, Ask, Asked, CallId, Context, Mode, Place, Shape, checked_key, expiry, undecodable,
};
use crate::partition::reply::{Refusal, Status};
use crate::partition::snapshot::{Broken, Restoring};
use crate::partition::sorted::Sorted;
use crate::time::LogTime;
use crate::wire::field::{self, Fields, put_message, put_text, put_timestamp, put_uint};

/// The state of a set.
#[derive(Clone, Default, Debug)]
pub struct Set {
    elements: Sorted<Arc<str>, Option<Lifetime>>,
    /// Elements with a TTL, by the index of the command that added them.
    expiring: Sorted<Index, Arc<str>>,
    listeners: Listeners,
    /// Memory that elements hold.
    elements_bytes: usize,
}

/// How long an element stays.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    due: LogTime,
    /// Which command added it: the order in which timers of one time fire.
    added: Index,
}

const SIZE: u32 = 1;
const CONTAINS: u32 = 2;
const ADD: u32 = 3;
const REMOVE: u32 = 4;
const CLEAR: u32 = 5;
const ELEMENTS: u32 = 6;
const EVENTS: u32 = 7;

/// Snapshot records: a listener as `Listeners` writes it; 1 the element's text, 2 `SetElement` with
/// 100 the index of the command that added it, when it has a TTL.
const LISTENER: u8 = 24;
const ELEMENT: u8 = 25;

/// What an element costs beside its text.
const ELEMENT_BYTES: usize = size_of::<Option<Lifetime>>() + 64;

impl Shape for Set {
    fn mode(tag: u32) -> Option<Mode> {
        match tag {
            ADD | REMOVE | CLEAR => Some(Mode::Command),
            EVENTS => Some(Mode::Stream),
            SIZE | CONTAINS => Some(Mode::Query),
            ELEMENTS => Some(Mode::Watch),
            _ => None,
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>, call: CallId, tag: u32, input: &[u8]) -> Answer {
        let Ok(input) = Input::parse(tag, input) else {
            return undecodable(cx);
        };
        let element = match input.element() {
            Ok(element) => element,
            Err(refusal) => return Answer::Refused(refusal),
        };
        match tag {
            ADD => self.add(cx, call.index, element, input.ttl),
            REMOVE => self.remove(cx, element),
            CLEAR => self.clear(cx),
            EVENTS => self.listeners.listen(cx, call, ""),
            _ => cx.fail(Status::NotSupported, format_args!("proposal not supported")),
        }
    }

    fn query(&self, ask: &mut Ask<'_>, tag: u32, input: &[u8]) -> Asked {
        let Ok(input) = Input::parse(tag, input) else {
            return ask.undecodable();
        };
        match tag {
            SIZE => ask.size(self.elements.len()),
            CONTAINS => {
                let element = match input.element() {
                    Ok(element) => element,
                    Err(refusal) => return Asked::Refused(refusal),
                };
                put_uint(ask.out, 1, u64::from(self.elements.contains_key(element)));
                Asked::Done(Status::Ok)
            }
            ELEMENTS if input.watches => Asked::Watching,
            ELEMENTS => Asked::Listing,
            _ => ask.fail(Status::NotSupported, format_args!("query not supported")),
        }
    }

    fn timer(&mut self, cx: &mut Context<'_>, token: u64) {
        if let Some(element) = self.expiring.remove(&Index(token))
            && let Some(lifetime) = self.elements.remove(&element)
        {
            self.elements_bytes -= element_bytes(&element, lifetime);
            self.tell_removed(cx, &element, true);
        }
    }

    fn cancelled(&mut self, _cx: &mut Context<'_>, call: CallId) {
        self.listeners.unlisten(call.index);
    }

    fn list(&self, after: Option<&str>, out: &mut Vec<u8>) -> Option<Box<str>> {
        let (element, _) = self.next(after)?;
        put_element(out, 1, element);
        Some(element.into())
    }

    fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> Option<u8> {
        if self.listeners.record(place, into) {
            return Some(LISTENER);
        }
        let (element, lifetime) = self.next(place.key.as_deref())?;
        put_text(into, 1, element.as_bytes());
        if let Some(Lifetime { due, added }) = lifetime {
            put_message(into, 2, |into| {
                put_timestamp(into, 1, due);
                put_uint(into, 100, added.0);
            });
        }
        place.key = Some(element.into());
        Some(ELEMENT)
    }

    fn restore(&mut self, cx: &mut Restoring<'_>, kind: u8, record: &[u8]) -> Result<(), Broken> {
        match kind {
            LISTENER => self.listeners.restore(cx, record),
            ELEMENT => self.restore_element(cx, record),
            _ => Err(Broken::Malformed("a set has no such record")),
        }
    }

    fn bury(self, rubble: &mut Rubble) {
        rubble.take(self.elements, 0);
        rubble.take(self.expiring, 0);
        self.listeners.bury(rubble);
    }

    fn bytes(&self) -> usize {
        self.elements_bytes + self.listeners.bytes()
    }
}

impl Set {
    fn add(
        &mut self,
        cx: &mut Context<'_>,
        added: Index,
        element: &str,
        ttl: Option<i128>,
    ) -> Answer {
        if self.elements.contains_key(element) {
            let text = format_args!("value already exists in set");
            return cx.fail(Status::AlreadyExists, text);
        }
        let lifetime = ttl.map(|ttl| Lifetime { due: expiry(cx.time(), ttl), added });
        self.elements.insert(element.into(), lifetime);
        self.elements_bytes += element_bytes(element, lifetime);
        if let Some(Lifetime { due, added }) = lifetime {
            cx.arm(due, added, added.0);
            self.expiring.insert(added, element.into());
        }
        self.listeners.publish(cx, "", |out| {
            put_message(out, 1, |out| put_element(out, 1, element));
        });
        if cx.watched() {
            let mut item = Vec::new();
            put_element(&mut item, 1, element);
            cx.tell(Some(element), &item);
        }
        Answer::Done(Status::Ok)
    }

    fn remove(&mut self, cx: &mut Context<'_>, element: &str) -> Answer {
        let Some(lifetime) = self.elements.remove(element) else {
            return cx.fail(Status::NotFound, format_args!("value not found in set"));
        };
        self.elements_bytes -= element_bytes(element, lifetime);
        if let Some(Lifetime { due, added }) = lifetime {
            cx.disarm(due, added, added.0);
            self.expiring.remove(&added);
        }
        self.tell_removed(cx, element, false);
        Answer::Done(Status::Ok)
    }

    fn clear(&mut self, cx: &mut Context<'_>) -> Answer {
        let elements = std::mem::take(&mut self.elements);
        let bytes = std::mem::take(&mut self.elements_bytes);
        cx.disarm_all();
        if self.listeners.brace(cx, elements.len()) {
            for (element, _) in elements.iter() {
                self.tell_removed(cx, element, false);
            }
        }
        // Freeing a large set takes longer than a turn may. Its memory is counted as one.
        cx.ledger.rubble.take(std::mem::take(&mut self.expiring), 0);
        cx.ledger.rubble.take(elements, bytes);
        Answer::Done(Status::Ok)
    }

    /// Tells listeners that an element is gone; watchers hear nothing of it (S-02).
    fn tell_removed(&mut self, cx: &mut Context<'_>, element: &str, expired: bool) {
        self.listeners.publish(cx, "", |out| {
            put_message(out, 2, |out| {
                put_element(out, 1, element);
                put_uint(out, 2, u64::from(expired));
            });
        });
    }

    /// The first element behind `after`.
    fn next(&self, after: Option<&str>) -> Option<(&str, Option<Lifetime>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let (element, lifetime) = self.elements.range::<str, _>((from, Unbounded)).next()?;
        Some((element, *lifetime))
    }

    fn restore_element(&mut self, cx: &mut Restoring<'_>, record: &[u8]) -> Result<(), Broken> {
        let (mut element, mut stored) = ("", &[][..]);
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => element = field::text(value.bytes()?)?,
                2 => stored = value.bytes()?,
                _ => {}
            }
        }
        let (mut due, mut added) = (None, Index(0));
        let mut fields = Fields::new(stored);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => due = Some(field::timestamp(value.bytes()?)?),
                100 => added = cx.past(Index(value.uint()?))?,
                _ => {}
            }
        }
        let lifetime = due.map(|due| Lifetime { due, added });
        if let Some(Lifetime { due, added }) = lifetime {
            cx.arm(due, added, added.0)?;
            if self.expiring.insert(added, element.into()).is_some() {
                return Err(Broken::Malformed("one command added two elements of a set"));
            }
        }
        self.elements_bytes += element_bytes(element, lifetime);
        if self.elements.insert(element.into(), lifetime).is_some() {
            return Err(Broken::Malformed("an element is twice in a set"));
        }
        Ok(())
    }
}

/// The fields of a set's inputs; each input has some.
#[derive(Default)]
struct Input<'a> {
    element: &'a [u8],
    /// In nanoseconds, of either sign.
    ttl: Option<i128>,
    watches: bool,
}

impl<'a> Input<'a> {
    fn parse(tag: u32, input: &'a [u8]) -> Result<Input<'a>, field::Broken> {
        let mut parsed = Input::default();
        let mut fields = Fields::new(input);
        while let Some((number, value)) = fields.field()? {
            match (tag, number) {
                (ELEMENTS, 1) => parsed.watches = value.uint()? != 0,
                (ADD | REMOVE | CONTAINS, 1) => parsed.element = text_of(value.bytes()?)?,
                (ADD, 2) => parsed.ttl = Some(field::nanos(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn element(&self) -> Result<&'a str, Refusal> {
        checked_key(self.element)
    }
}

/// Field 1 of an `Element`, its value.
fn text_of(element: &[u8]) -> Result<&[u8], field::Broken> {
    let mut text = &[][..];
    let mut fields = Fields::new(element);
    while let Some((number, value)) = fields.field()? {
        if number == 1 {
            text = value.bytes()?;
        }
    }
    Ok(text)
}

fn element_bytes(element: &str, lifetime: Option<Lifetime>) -> usize {
    let timer = if lifetime.is_some() { element.len() + 56 } else { 0 };
    ELEMENT_BYTES + element.len() + timer
}

/// An `Element` as field `number`.
fn put_element(into: &mut Vec<u8>, number: u32, element: &str) {
    put_message(into, number, |into| put_text(into, 1, element.as_bytes()));
}

#[cfg(test)]
mod tests;
