//! Deadlines of partitions; quiet ones cost nothing.
//!
//! A partition says after each settlement when it wants a turn although nothing happens. It is
//! visited then, or when something happens. An entry that was overtaken by an earlier wish stays in
//! the heap until its time comes and is then ignored, so moving a deadline costs one push.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use crate::{id::PartitionId, time::Instant};

/// When which partition wants a turn.
#[derive(Default, Debug)]
pub struct Wake {
    heap: BinaryHeap<Reverse<(Instant, PartitionId)>>,
    wanted: BTreeMap<PartitionId, Instant>,
}

impl Wake {
    /// `partition` wants a turn at `at` and not before, or none.
    pub fn set(&mut self, partition: PartitionId, at: Option<Instant>) {
        let Some(at) = at else {
            self.wanted.remove(&partition);
            return;
        };
        if self.wanted.insert(partition, at) != Some(at) {
            self.heap.push(Reverse((at, partition)));
            self.tidy();
        }
    }

    /// The next partition whose time has come.
    pub fn pop(&mut self, now: Instant) -> Option<PartitionId> {
        while let Some(Reverse((at, partition))) = self.heap.peek().copied() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if self.wanted.get(&partition) == Some(&at) {
                self.wanted.remove(&partition);
                return Some(partition);
            }
        }
        None
    }

    /// The first deadline.
    pub fn earliest(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, partition))) = self.heap.peek().copied() {
            if self.wanted.get(&partition) == Some(&at) {
                return Some(at);
            }
            self.heap.pop();
        }
        None
    }

    /// Keeps what was overtaken below what is wanted.
    fn tidy(&mut self) {
        if self.heap.len() > 2 * self.wanted.len() + 64 {
            let wanted = &self.wanted;
            self.heap.retain(|Reverse((at, partition))| wanted.get(partition) == Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_wish_counts() {
        let mut wake = Wake::default();
        wake.set(PartitionId(1), Some(Instant(10)));
        wake.set(PartitionId(1), Some(Instant(30)));
        wake.set(PartitionId(2), Some(Instant(20)));
        wake.set(PartitionId(3), Some(Instant(5)));
        wake.set(PartitionId(3), None);
        assert_eq!(wake.earliest(), Some(Instant(20)));
        assert_eq!(wake.pop(Instant(15)), None);
        assert_eq!(wake.pop(Instant(40)), Some(PartitionId(2)));
        assert_eq!(wake.pop(Instant(40)), Some(PartitionId(1)));
        assert_eq!((wake.pop(Instant(40)), wake.earliest()), (None, None));
    }

    #[test]
    fn moving_a_deadline_does_not_grow_the_heap() {
        let mut wake = Wake::default();
        for at in 0..10_000 {
            wake.set(PartitionId(1), Some(Instant(at)));
        }
        assert!(wake.heap.len() < 100, "{} entries for one deadline", wake.heap.len());
        assert_eq!(wake.earliest(), Some(Instant(9_999)));
    }
}
