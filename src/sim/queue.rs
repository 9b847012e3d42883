//! What is going to happen, in order: by time, then by the number of its entry.
//!
//! The number makes the order total, so that a run is one sequence whatever the heap does with
//! equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Things to come, at nanoseconds of the world's time.
#[derive(Debug)]
pub struct Queue<T> {
    /// By time and number; the last names the slot.
    order: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    next_number: u64,
}

impl<T> Queue<T> {
    /// Nothing to come.
    #[must_use]
    pub fn new() -> Queue<T> {
        Queue { order: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), next_number: 0 }
    }

    /// `what` is to happen at `at_ns`, after everything that was put there for the same time.
    pub fn push(&mut self, at_ns: u64, what: T) {
        let number = self.next_number;
        self.next_number += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            assert!(self.slots.len() < WAITING_MAX, "{WAITING_MAX} events wait: it runs away");
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(what);
        self.order.push(Reverse((at_ns, number, slot)));
    }

    /// The next of them and when it happens.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((at_ns, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        let what = self.slots[slot as usize].take().expect("what is ordered is waiting");
        Some((at_ns, what))
    }

    /// When the next of them happens.
    #[must_use]
    pub fn next_at_ns(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((at_ns, ..))| *at_ns)
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue::new()
    }
}

/// More than any world of these sizes has under way; past it something multiplies.
const WAITING_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_keep_their_order() {
        let mut queue = Queue::new();
        for (at_ns, what) in [(5, "d"), (1, "a"), (3, "b"), (3, "c"), (5, "e")] {
            queue.push(at_ns, what);
        }
        let mut seen = String::new();
        while let Some((_, what)) = queue.pop() {
            seen.push_str(what);
        }
        assert_eq!(seen, "abcde");
    }
}
