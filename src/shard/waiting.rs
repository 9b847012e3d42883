//! Tickets: who waits for an answer, by slot and generation.
//!
//! The shell that holds the connections owns one table; a ticket travels with its request and comes back
//! with each reply. A slot's generation moves on when its waiter is claimed, so a late reply for a caller
//! who has gone is recognised and dropped. Absent on purpose: what a waiter is.

use crate::id::{ShardId, Ticket};

/// The waiting callers of one core.
#[derive(Debug)]
pub struct Waiting<T> {
    shard: ShardId,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    slots_max: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    waiter: Option<T>,
}

impl<T> Waiting<T> {
    /// An empty table of the core `shard` that takes `slots_max` waiters at a time.
    #[must_use]
    pub fn new(shard: ShardId, slots_max: usize) -> Waiting<T> {
        assert!(u32::try_from(slots_max).is_ok(), "{slots_max} slots do not fit a ticket");
        Waiting { shard, slots: Vec::new(), free: Vec::new(), slots_max }
    }

    /// A ticket for `waiter`; `None`, and the waiter dropped, when the table is full.
    #[inline]
    pub fn add(&mut self, waiter: T) -> Option<Ticket> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.slots_max => {
                self.slots.push(Slot { generation: 0, waiter: None });
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let place = &mut self.slots[slot as usize];
        assert!(place.waiter.is_none(), "slot {slot} was free and holds a waiter");
        place.waiter = Some(waiter);
        Some(Ticket { shard: self.shard, slot, generation: place.generation })
    }

    /// The waiter, once. `None` when it is gone and the slot has moved on.
    #[inline]
    pub fn claim(&mut self, ticket: Ticket) -> Option<T> {
        let place = self.place(ticket)?;
        let waiter = place.waiter.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(ticket.slot);
        Some(waiter)
    }

    /// The waiter, who goes on waiting: a stream.
    #[inline]
    pub fn peek(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.place(ticket)?.waiter.as_mut()
    }

    /// All that wait, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Ticket, &T)> {
        self.slots.iter().zip(0..).filter_map(|(place, slot)| {
            let ticket = Ticket { shard: self.shard, slot, generation: place.generation };
            place.waiter.as_ref().map(|waiter| (ticket, waiter))
        })
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn place(&mut self, ticket: Ticket) -> Option<&mut Slot<T>> {
        assert_eq!(ticket.shard, self.shard, "a ticket of another core came here");
        let place = self.slots.get_mut(ticket.slot as usize)?;
        (place.generation == ticket.generation).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_is_claimed_once_and_its_slot_moves_on() {
        let mut waiting = Waiting::new(ShardId(3), 2);
        let first = waiting.add("first").expect("room");
        let second = waiting.add("second").expect("room");
        assert_eq!(waiting.add("third"), None, "the table has two slots");
        assert_eq!(waiting.peek(first).copied(), Some("first"));
        assert_eq!(waiting.claim(first), Some("first"));
        assert_eq!(waiting.claim(first), None);
        let third = waiting.add("third").expect("room");
        assert_eq!(third.slot, first.slot);
        assert_eq!(waiting.peek(first), None, "a late reply finds nobody");
        let all: Vec<_> = waiting.iter().map(|(ticket, waiter)| (ticket, *waiter)).collect();
        assert_eq!(all, [(third, "third"), (second, "second")]);
    }
}
