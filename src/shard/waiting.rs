//! Tickets: slot and generation, claimed once.
//!
//! The shell that holds a connection keeps here who waits for what, and gives the ticket to the
//! shard. A slot is used again with the next generation, so the answer for a caller who has gone
//! finds nobody. Absent on purpose: channels and futures; an answer comes back in the outbox.

use crate::id::{ShardId, Ticket};

/// Those who wait on one core.
#[derive(Debug)]
pub struct Waiting<T> {
    shard: ShardId,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    max: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    waiter: Option<T>,
}

impl<T> Waiting<T> {
    /// A table of core `shard` for at most `max` waiters.
    #[must_use]
    pub fn new(shard: ShardId, max: usize) -> Waiting<T> {
        assert!(u32::try_from(max).is_ok(), "a slot is 32 bits, {max} are too many");
        Waiting { shard, slots: Vec::new(), free: Vec::new(), max }
    }

    /// A ticket for `waiter`; gives it back when the table is full.
    pub fn wait(&mut self, waiter: T) -> Result<Ticket, T> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() == self.max => return Err(waiter),
            None => {
                self.slots.push(Slot { generation: 0, waiter: None });
                (self.slots.len() - 1) as u32
            }
        };
        let entry = &mut self.slots[slot as usize];
        assert!(entry.waiter.is_none(), "slot {slot} is free and taken");
        entry.waiter = Some(waiter);
        Ok(Ticket { shard: self.shard, slot, generation: entry.generation })
    }

    /// The waiter, once. `None` when it hung up and the slot has moved on.
    pub fn claim(&mut self, ticket: Ticket) -> Option<T> {
        let slot = self.slot(ticket)?;
        let waiter = slot.waiter.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(ticket.slot);
        Some(waiter)
    }

    /// The waiter, who goes on waiting: a stream gets many answers.
    pub fn peek(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.slot(ticket)?.waiter.as_mut()
    }

    /// All that wait, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Ticket, &T)> {
        self.slots.iter().zip(0..).filter_map(|(entry, slot)| {
            let ticket = Ticket { shard: self.shard, slot, generation: entry.generation };
            entry.waiter.as_ref().map(|waiter| (ticket, waiter))
        })
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot<T>> {
        assert_eq!(ticket.shard, self.shard, "a ticket of another core");
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        (slot.generation == ticket.generation).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_claimed_once_and_its_slot_moves_on() {
        let mut waiting = Waiting::new(ShardId(2), 8);
        let first = waiting.wait("first").expect("room");
        assert_eq!(waiting.peek(first), Some(&mut "first"));
        assert_eq!(waiting.claim(first), Some("first"));
        assert_eq!((waiting.claim(first), waiting.len()), (None, 0));
        let second = waiting.wait("second").expect("room");
        assert_eq!(second.slot, first.slot);
        assert_eq!(waiting.peek(first), None);
        assert_eq!(waiting.claim(second), Some("second"));
    }

    #[test]
    fn a_full_table_gives_the_waiter_back() {
        let mut waiting = Waiting::new(ShardId(0), 1);
        let ticket = waiting.wait(1).expect("room");
        assert_eq!(waiting.wait(2), Err(2));
        assert_eq!(waiting.claim(ticket), Some(1));
        assert!(waiting.wait(3).is_ok());
    }
}
