//! The streams of one connection: a slab of slots, and a table from stream ids to slots.
//!
//! A slot is used again, a stream id never; so a [`Key`](super::Key), which is both, finds its
//! stream or nothing. Ids are chosen by the peer, so the table's hash is multiplied by a seeded odd
//! number: without it a client could make all of its streams fall into one place.

use super::Meta;
use crate::wire::grpc::{PREFIX_BYTES, Status};

/// What is true of a stream.
pub mod is {
    #![allow(missing_docs)]
    /// The peer has sent END_STREAM.
    pub const REMOTE_ENDED: u16 = 1;
    /// Our headers are on their way.
    pub const HEADERS_SENT: u16 = 1 << 1;
    /// The application has heard of it, so it must hear of its end.
    pub const DELIVERED: u16 = 1 << 2;
    /// Reset, and the application has not let go of it yet.
    pub const DEAD: u16 = 1 << 3;
    /// In the queue of streams with octets to send.
    pub const QUEUED: u16 = 1 << 4;
    /// Not gRPC: what the peer sends is thrown away, the answer comes when it is done.
    pub const PLAIN: u16 = 1 << 5;
    /// The application has finished; what is held back is the rest.
    pub const FINISHED: u16 = 1 << 6;
    /// The application wants to hear when nothing is held back any more.
    pub const WATCHED: u16 = 1 << 7;
    /// The request is one message, delivered with the end of the stream.
    pub const SINGLE: u16 = 1 << 8;
    /// The answer has no body (HEAD).
    pub const BODILESS: u16 = 1 << 9;
    /// The answer to a plain request is 405, not 415.
    pub const WRONG_VERB: u16 = 1 << 10;
    /// A window update was left out while the connection was paused.
    pub const STARVED: u16 = 1 << 11;
}

/// One stream. `id` 0 is a free slot.
#[derive(Debug)]
pub struct Stream {
    /// The peer's number for it.
    pub id: u32,
    /// Bits of [`is`].
    pub flags: u16,
    /// The status of a finished stream whose octets are held back.
    pub status: Status,
    /// What its request's headers said.
    pub meta: Meta,
    /// `content-length`, `u64::MAX` without one; and the octets of DATA that have come.
    pub content_length: u64,
    /// Octets of DATA so far, without padding.
    pub seen: u64,
    /// What we may send. Below zero after the peer lowered its initial window.
    pub send_window: i64,
    /// What the peer may send.
    pub receive_window: i64,
    /// Octets taken since the last window update.
    pub taken: u32,
    /// Octets of delivered messages that the application has not given back.
    pub unread: u32,
    /// The prefix of the message under way, and how much of it is here.
    pub prefix: [u8; PREFIX_BYTES],
    /// Octets of `prefix` that are here.
    pub prefix_len: u8,
    /// The message under way, as far as it has arrived.
    pub body: Vec<u8>,
    /// Octets held back by windows, from `held_at` on.
    pub held: Vec<u8>,
    /// Octets of `held` that have been sent.
    pub held_at: usize,
    /// The text of `status`.
    pub text: Box<str>,
}

impl Stream {
    fn free() -> Stream {
        Stream {
            id: 0,
            flags: 0,
            status: Status::Ok,
            meta: Meta::NONE,
            content_length: u64::MAX,
            seen: 0,
            send_window: 0,
            receive_window: 0,
            taken: 0,
            unread: 0,
            prefix: [0; PREFIX_BYTES],
            prefix_len: 0,
            body: Vec::new(),
            held: Vec::new(),
            held_at: 0,
            text: Box::default(),
        }
    }

    /// Whether all of `flags` are set.
    #[inline(always)]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Whether any of `flags` is set.
    #[inline(always)]
    pub const fn any(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Octets that wait for windows.
    #[inline(always)]
    pub fn held_len(&self) -> usize {
        self.held.len() - self.held_at
    }

    /// Whether a message has begun and is not whole.
    #[inline(always)]
    pub fn is_inside_message(&self) -> bool {
        self.prefix_len > 0
    }
}

/// All streams of a connection that are not closed.
#[derive(Debug)]
pub struct Streams {
    slots: Vec<Stream>,
    free: Vec<u32>,
    ids: Ids,
    /// The id and slot found last: DATA follows its HEADERS.
    last: (u32, u32),
    live: u32,
}

impl Streams {
    /// No streams, and a table that only holders of `seed` can foresee.
    pub fn new(seed: u64) -> Streams {
        Streams { slots: Vec::new(), free: Vec::new(), ids: Ids::new(seed), last: (0, 0), live: 0 }
    }

    /// A slot for a stream that is not there yet.
    #[inline]
    pub fn open(&mut self, id: u32) -> u32 {
        assert!(id != 0, "stream 0 is the connection");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::free());
            self.slots.len() as u32 - 1
        });
        let stream = &mut self.slots[slot as usize];
        assert!(stream.id == 0, "slot {slot} holds stream {} and is not free", stream.id);
        stream.id = id;
        self.ids.insert(id, slot);
        self.last = (id, slot);
        self.live += 1;
        slot
    }

    /// Frees a slot. Its buffers have been taken out of it.
    #[inline]
    pub fn close(&mut self, slot: u32) {
        let stream = &mut self.slots[slot as usize];
        let id = stream.id;
        assert!(id != 0, "slot {slot} is free already");
        stream.id = 0;
        stream.flags = 0;
        stream.prefix_len = 0;
        if !stream.text.is_empty() {
            stream.text = Box::default();
        }
        debug_assert!(stream.held.capacity() == 0 && stream.body.capacity() == 0);
        self.ids.remove(id);
        if self.last.0 == id {
            self.last = (0, 0);
        }
        self.free.push(slot);
        self.live -= 1;
    }

    /// The slot of a stream that is not closed.
    #[inline(always)]
    pub fn find(&mut self, id: u32) -> Option<u32> {
        if self.last.0 == id {
            return Some(self.last.1);
        }
        let slot = self.ids.find(id)?;
        self.last = (id, slot);
        Some(slot)
    }

    /// Streams that are not closed.
    #[inline(always)]
    pub const fn live(&self) -> u32 {
        self.live
    }

    /// Slots, free ones too.
    pub const fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The stream in a slot.
    #[inline(always)]
    pub fn get(&self, slot: u32) -> Option<&Stream> {
        self.slots.get(slot as usize)
    }

    /// The stream in a slot that is known to be there.
    #[inline(always)]
    pub fn at(&mut self, slot: u32) -> &mut Stream {
        &mut self.slots[slot as usize]
    }

    /// Gives memory back; there are no streams.
    pub fn shrink(&mut self) {
        assert!(self.live == 0, "{} streams are open", self.live);
        self.slots = Vec::new();
        self.free = Vec::new();
        self.ids.shrink();
    }
}

/// Stream id to slot: open addressing, deletion by shifting back. At most half full.
#[derive(Debug)]
pub(super) struct Ids {
    places: Vec<(u32, u32)>,
    len: usize,
    factor: u32,
    shift: u32,
}

const PLACES_MIN: usize = 16;

impl Ids {
    pub(super) fn new(seed: u64) -> Ids {
        Ids {
            places: vec![(0, 0); PLACES_MIN],
            len: 0,
            factor: (crate::prng::mix(seed) as u32) | 1,
            shift: u32::BITS - PLACES_MIN.ilog2(),
        }
    }

    #[inline(always)]
    fn home(&self, id: u32) -> usize {
        // Ids of clients are odd; the lowest bit says nothing.
        ((id >> 1).wrapping_mul(self.factor) >> self.shift) as usize
    }

    #[inline(always)]
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        let mask = self.places.len() - 1;
        let mut at = self.home(id);
        loop {
            match self.places[at & mask] {
                (there, slot) if there == id => return Some(slot),
                (0, _) => return None,
                _ => at += 1,
            }
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, id: u32, slot: u32) {
        if (self.len + 1) * 2 > self.places.len() {
            self.grow();
        }
        let mask = self.places.len() - 1;
        let mut at = self.home(id) & mask;
        while self.places[at].0 != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = (id, slot);
        self.len += 1;
    }

    #[cold]
    fn grow(&mut self) {
        let doubled = vec![(0, 0); self.places.len() * 2];
        let old = std::mem::replace(&mut self.places, doubled);
        self.shift -= 1;
        self.len = 0;
        for (id, slot) in old {
            if id != 0 {
                self.insert(id, slot);
            }
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, id: u32) {
        let mask = self.places.len() - 1;
        let mut hole = self.home(id) & mask;
        while self.places[hole].0 != id {
            assert!(self.places[hole].0 != 0, "stream {id} is not in the table");
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let (there, _) = self.places[at];
            if there == 0 {
                break;
            }
            // What is no further from its home at the hole than it is now may move there.
            let home = self.home(there);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.places[hole] = self.places[at];
                hole = at;
            }
        }
        self.places[hole] = (0, 0);
        self.len -= 1;
    }

    fn shrink(&mut self) {
        assert!(self.len == 0, "{} streams are in the table", self.len);
        if self.places.len() > PLACES_MIN {
            self.places = vec![(0, 0); PLACES_MIN];
            self.shift = u32::BITS - PLACES_MIN.ilog2();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_table_is_a_map() {
        let mut prng = crate::prng::Prng::new(11);
        let (mut ids, mut model) = (Ids::new(5), BTreeMap::new());
        for step in 0..20_000u32 {
            let id = prng.below(400) as u32 * 2 + 1;
            if model.remove(&id).is_some() {
                ids.remove(id);
            } else {
                ids.insert(id, step);
                model.insert(id, step);
            }
            let other = prng.below(400) as u32 * 2 + 1;
            assert_eq!(ids.find(other), model.get(&other).copied());
        }
        assert_eq!(ids.len, model.len());
    }

    #[test]
    fn slots_are_used_again_and_keys_are_not() {
        let mut streams = Streams::new(1);
        let first = streams.open(1);
        streams.close(first);
        let second = streams.open(3);
        assert_eq!(first, second);
        assert_eq!((streams.find(1), streams.find(3)), (None, Some(second)));
        streams.close(second);
        streams.shrink();
        assert_eq!(streams.live(), 0);
    }
}
