//! Who gets the events of a primitive: the open `Events` streams, to everything or to one key.
//!
//! An event is made once and sent to those who listen to everything and then to those who listen to
//! its key, each in the order in which they came (primitives.md 1.7). Maps, sets and values share
//! this; a kind whose events have no key uses the empty one. Absent on purpose: what an event says,
//! and its repeats, which the session keeps.

use std::sync::Arc;

use bytes::Bytes;

use crate::id::{Index, Sequence, SessionId};
use crate::limits::CLEAR_EVENTS_MAX;
use crate::partition::kept::Rubble;
use crate::partition::ledger::Flow;
use crate::partition::primitive::{Answer, CallId, Context, Place};
use crate::partition::snapshot::{Broken, Restoring};
use crate::partition::sorted::Sorted;
use crate::wire::field::{self, Fields, put_message, put_text, put_uint};

/// The listeners of one primitive.
#[derive(Clone, Default, Debug)]
pub struct Listeners {
    /// Those to everything, by the index of their command.
    everywhere: Sorted<Index, CallId>,
    /// Those to one key.
    by_key: Sorted<Arc<str>, Sorted<Index, CallId>>,
    /// What each listens to; empty for everything.
    keys: Sorted<Index, Arc<str>>,
    bytes: usize,
}

const LISTENER_BYTES: usize = 160;

impl Listeners {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one, to events of `key`, or of all keys when it is empty.
    pub fn listen(&mut self, cx: &mut Context<'_>, call: CallId, key: &str) -> Answer {
        let max = cx.ledger.bounds.listeners_max;
        if let Err(answer) = cx.room(call, self.keys.len(), max) {
            return answer;
        }
        self.add(call, key);
        Answer::Streams
    }

    /// Lets go of the one whose command has this index, if there is one.
    pub fn unlisten(&mut self, index: Index) {
        let Some(key) = self.keys.remove(&index) else {
            return;
        };
        self.bytes -= LISTENER_BYTES + 2 * key.len();
        self.everywhere.remove(&index);
        if let Some(here) = self.by_key.get_mut(&key) {
            here.remove(&index);
            if here.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    /// Sends an event about `key`, whose fields `write` appends, to all whom it concerns.
    pub fn publish(&mut self, cx: &mut Context<'_>, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let here = self.by_key.get(key);
        if self.everywhere.is_empty() && here.is_none() {
            return;
        }
        let mut event = Vec::new();
        put_message(&mut event, 1, write);
        let event = Bytes::from(event);
        let listeners = self.everywhere.iter().chain(here.into_iter().flat_map(Sorted::iter));
        let mut lost = Vec::new();
        for (_, listener) in listeners {
            if cx.emit(*listener, &event) == Flow::Ended {
                lost.push(listener.index);
            }
        }
        for index in lost {
            self.unlisten(index);
        }
    }

    /// `count` keys are about to go at once. Whether somebody listens to all of them; where that
    /// would be too much, these streams end.
    pub fn brace(&mut self, cx: &mut Context<'_>, count: usize) -> bool {
        if self.everywhere.len().saturating_mul(count) <= CLEAR_EVENTS_MAX {
            return !self.everywhere.is_empty();
        }
        let flooded: Vec<CallId> = self.everywhere.iter().map(|(_, call)| *call).collect();
        for listener in flooded {
            cx.overflow(listener);
            self.unlisten(listener.index);
        }
        false
    }

    /// The keys that have listeners of their own.
    #[must_use]
    pub fn heeded(&self) -> Vec<Arc<str>> {
        self.by_key.iter().map(|(key, _)| Arc::clone(key)).collect()
    }

    /// Hands over what a copy holds (`Shape::bury`).
    pub fn bury(self, rubble: &mut Rubble) {
        rubble.take(self.everywhere, 0);
        rubble.take_nested(self.by_key, 0);
        rubble.take(self.keys, 0);
    }

    /// Writes the next listener behind `place.index`: the kind's listener message (1 `index`,
    /// 2 `key`) with 100 session and 101 sequence number. They are a kind's first records, at step
    /// 0; `false` when there are no more, and then the place is at the start of a later step.
    pub fn record(&self, place: &mut Place, into: &mut Vec<u8>) -> bool {
        if place.step > 0 {
            return false;
        }
        let Some((index, key)) = self.keys.range(Index(place.index + 1)..).next() else {
            *place = Place { step: 1, ..Place::default() };
            return false;
        };
        place.index = index.0;
        let here = self.by_key.get(key).and_then(|here| here.get(index));
        let call = self.everywhere.get(index).or(here).expect("every listener has its call");
        put_uint(into, 1, index.0);
        put_text(into, 2, key.as_bytes());
        put_uint(into, 100, call.session.0);
        put_uint(into, 101, call.sequence.0);
        true
    }

    /// Puts back what `record` wrote.
    pub fn restore(&mut self, cx: &mut Restoring<'_>, record: &[u8]) -> Result<(), Broken> {
        let (mut index, mut key, mut session, mut sequence) = (0, "", 0, 0);
        let mut fields = Fields::new(record);
        while let Some((number, value)) = fields.field()? {
            match number {
                1 => index = value.uint()?,
                2 => key = field::text(value.bytes()?)?,
                100 => session = value.uint()?,
                101 => sequence = value.uint()?,
                _ => {}
            }
        }
        let (session, sequence) = (SessionId(session), Sequence(sequence));
        let call = CallId { index: Index(index), session, sequence };
        cx.claim(call)?;
        self.add(call, key);
        Ok(())
    }

    fn add(&mut self, call: CallId, key: &str) {
        self.bytes += LISTENER_BYTES + 2 * key.len();
        let name: Arc<str> = key.into();
        self.keys.insert(call.index, Arc::clone(&name));
        if key.is_empty() {
            self.everywhere.insert(call.index, call);
        } else if let Some(here) = self.by_key.get_mut(key) {
            here.insert(call.index, call);
        } else {
            let mut here = Sorted::default();
            here.insert(call.index, call);
            self.by_key.insert(name, here);
        }
    }
}
