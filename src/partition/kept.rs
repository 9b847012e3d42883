//! The outputs of finished unary commands, kept until the client says it has them.
//!
//! A fast session finishes a million commands between two keep-alives, so a record costs a slot of
//! 24 bytes and its output's bytes, and 64 numbers share one chunk:
//!
//! ```text
//! chunk n   present: bit i = number 64 n + i has a record
//!           slots:   one per set bit, in order        arena: their outputs, one behind the other
//! ```
//!
//! Dropping a range of numbers cuts the tree of chunks in two and hands the dropped half out as
//! rubble, to be freed a few chunks at a time. Absent on purpose: commands that are still pending,
//! and streams; they are few and live in `session.rs`.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::Index;
use crate::partition::primitive::Operation;
use crate::partition::reply::Status;
use crate::partition::shared::Shared;
use crate::partition::sorted::Sorted;

/// The records of one session.
#[derive(Clone, Default, Debug)]
pub struct Kept {
    chunks: Shared<u64, Chunk>,
    /// No number above has a record. Nearly every command looks for its own, which is fresh.
    newest: u64,
    count: usize,
    weight: usize,
    bytes: usize,
}

/// How a unary command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With an output; its bytes are the response's field 2, or the text of a failure.
    Output(Status),
    /// Cancelled before it had one.
    Cancelled,
    /// Its deadline passed before it had one.
    Deadline,
}

/// One finished command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The count of applied commands when it ended.
    pub index: Index,
    /// What it was.
    pub operation: Operation,
    /// How it ended.
    pub end: End,
    /// Its output.
    pub bytes: &'a [u8],
}

/// What holds nothing any more and waits to be freed: local, and no part of the state.
#[derive(Default, Debug)]
pub struct Rubble {
    heaps: Vec<(Box<dyn Heap>, usize)>,
    bytes: usize,
}

/// Something large that is freed a few parts at a time.
pub trait Heap: fmt::Debug {
    /// Whether there is nothing to free.
    fn is_empty(&self) -> bool;

    /// Frees at most so many parts and says how many are left to free of that number.
    fn clear_some(&mut self, parts_max: usize) -> usize;
}

impl<K: Ord + fmt::Debug, V: fmt::Debug> Heap for BTreeMap<K, V> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn clear_some(&mut self, parts_max: usize) -> usize {
        let freed = std::iter::from_fn(|| self.pop_first()).take(parts_max).count();
        parts_max - freed
    }
}

impl<K: fmt::Debug, V: fmt::Debug> Heap for Sorted<K, V> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn clear_some(&mut self, parts_max: usize) -> usize {
        self.clear_some(parts_max, |_, left| left)
    }
}

/// What has many parts in each of its entries.
#[derive(Debug)]
struct Nested<K, H>(Sorted<K, H>);

impl<K: fmt::Debug, H: Heap> Heap for Nested<K, H> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn clear_some(&mut self, parts_max: usize) -> usize {
        self.0.clear_some(parts_max, H::clear_some)
    }
}

#[derive(Default, Debug)]
struct Chunk {
    present: u64,
    slots: Vec<Slot>,
    arena: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    index: Index,
    start: u32,
    length: u32,
    operation: Operation,
    end: End,
}

/// A chunk's share of the tree and its own fields.
const CHUNK_BYTES: usize = 96;
const SLOT_BYTES: usize = size_of::<Slot>();
const _: () = assert!(SLOT_BYTES <= 24);

/// Numbers of one chunk.
pub const CHUNK_NUMBERS: u64 = 64;

impl Kept {
    /// The record of `number`.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Record<'_>> {
        if number > self.newest {
            return None;
        }
        self.chunks.get(&(number / CHUNK_NUMBERS))?.get(number % CHUNK_NUMBERS)
    }

    /// Keeps the record of `number`, which has none.
    pub fn insert(&mut self, number: u64, record: Record<'_>) {
        self.newest = self.newest.max(number);
        let chunk = self.chunk_of(number);
        let before = chunk.bytes();
        chunk.insert(number % CHUNK_NUMBERS, record);
        self.bytes += chunk.bytes() - before;
        self.count += 1;
        self.weight += SLOT_BYTES + record.bytes.len();
    }

    /// The chunk of `number`; as a rule the last one, or one behind it.
    fn chunk_of(&mut self, number: u64) -> &mut Chunk {
        let place = number / CHUNK_NUMBERS;
        let last = self.chunks.last_key_value().map(|(last, chunk)| (*last, chunk));
        if last.is_some_and(|(last, _)| last == place) {
            return self.chunks.last_mut().expect("it was just there");
        }
        if !self.chunks.contains_key(&place) {
            let before = last.filter(|(last, _)| last + 1 == place);
            let fresh = before.map_or_else(Chunk::default, |(_, chunk)| chunk.next());
            self.bytes += CHUNK_BYTES + fresh.bytes();
            self.chunks.insert(place, fresh);
        }
        self.chunks.get_mut(&place).expect("it is there by now")
    }

    /// Drops every record below `number`.
    pub fn drop_below(&mut self, number: u64, rubble: &mut Rubble) {
        let border = number / CHUNK_NUMBERS;
        match self.chunks.last_key_value() {
            None => return,
            Some((last, _)) if *last < border => {
                rubble.take(std::mem::take(&mut self.chunks).into_table(), self.bytes);
                (self.count, self.weight, self.bytes) = (0, 0, 0);
                return;
            }
            Some(_) => {}
        }
        if self.chunks.first_key_value().is_some_and(|(first, _)| *first < border) {
            let stay = self.chunks.split_off(&border);
            let bytes = stay.values().map(|chunk| CHUNK_BYTES + chunk.bytes()).sum();
            self.count = stay.values().map(|chunk| chunk.slots.len()).sum();
            self.weight = stay.values().map(Chunk::weight).sum();
            let gone = std::mem::replace(&mut self.chunks, stay);
            rubble.take(gone.into_table(), self.bytes - bytes);
            self.bytes = bytes;
        }
        self.drop_in(border, !(u64::MAX << (number % CHUNK_NUMBERS)));
    }

    /// Drops the records of chunk `chunk` whose bits are set in `drop`.
    pub fn drop_in(&mut self, chunk: u64, drop: u64) {
        if self.present(chunk) & drop == 0 {
            return;
        }
        let found = self.chunks.get_mut(&chunk).expect("some of it is present");
        let before = found.bytes();
        self.count -= (found.present & drop).count_ones() as usize;
        self.weight -= found.weight();
        found.keep_only(!drop);
        self.weight += found.weight();
        self.bytes -= before;
        if found.present == 0 {
            self.chunks.remove(&chunk);
            self.bytes -= CHUNK_BYTES;
        } else {
            self.bytes += found.bytes();
        }
    }

    /// Gives up everything, to be freed later.
    pub fn abandon(&mut self, rubble: &mut Rubble) {
        rubble.take(std::mem::take(&mut self.chunks).into_table(), self.bytes);
        (self.count, self.weight, self.bytes) = (0, 0, 0);
    }

    /// A copy that is of no use any more, to be freed later. It was never counted: most of it is
    /// the state's.
    pub fn bury(self, rubble: &mut Rubble) {
        rubble.take(self.chunks.into_table(), 0);
    }

    /// Which numbers of chunk `chunk` have records, as bits.
    #[must_use]
    pub fn present(&self, chunk: u64) -> u64 {
        self.chunks.get(&chunk).map_or(0, |chunk| chunk.present)
    }

    /// The first chunk at or behind `chunk` that has records.
    #[must_use]
    pub fn next_chunk(&self, chunk: u64) -> Option<u64> {
        self.chunks.range(chunk..).next().map(|(number, _)| *number)
    }

    /// The first record at or behind `number`.
    #[must_use]
    pub fn next_from(&self, number: u64) -> Option<(u64, Record<'_>)> {
        let (chunk, place) = (number / CHUNK_NUMBERS, number % CHUNK_NUMBERS);
        for (at, found) in self.chunks.range(chunk..).take(2) {
            let from = if *at == chunk { place } else { 0 };
            let bits = found.present & (u64::MAX << from);
            if bits != 0 {
                let place = u64::from(bits.trailing_zeros());
                return found.get(place).map(|record| (at * CHUNK_NUMBERS + place, record));
            }
        }
        None
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What the records weigh: their slots and outputs. The same on every replica, which memory is
    /// not, because how far buffers have grown depends on their past.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Memory held here.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Rubble {
    /// Frees at most so many parts: chunks of outputs, entries of a map.
    pub fn clear_some(&mut self, parts_max: usize) {
        let mut left = parts_max;
        while left > 0
            && let Some((heap, bytes)) = self.heaps.last_mut()
        {
            left = heap.clear_some(left);
            if left > 0 {
                self.bytes -= *bytes;
                self.heaps.pop();
            }
        }
    }

    /// Takes something over that held so many bytes.
    pub fn take(&mut self, heap: impl Heap + 'static, bytes: usize) {
        if !heap.is_empty() {
            self.heaps.push((Box::new(heap), bytes));
            self.bytes += bytes;
        }
    }

    /// Like `take`, of entries that hold many parts each.
    pub fn take_nested<K, H>(&mut self, entries: Sorted<K, H>, bytes: usize)
    where
        K: fmt::Debug + 'static,
        H: Heap + 'static,
    {
        self.take(Nested(entries), bytes);
    }

    /// Memory held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// With the same room: what a chunk counts for is its room.
impl Clone for Chunk {
    fn clone(&self) -> Chunk {
        let mut slots = Vec::with_capacity(self.slots.capacity());
        slots.extend_from_slice(&self.slots);
        let mut arena = Vec::with_capacity(self.arena.capacity());
        arena.extend_from_slice(&self.arena);
        Chunk { present: self.present, slots, arena }
    }
}

impl Chunk {
    /// The one behind this one, empty. A session that filled one fills the next with alike outputs:
    /// it gets the room at once.
    fn next(&self) -> Chunk {
        let full = self.slots.len() as u64 == CHUNK_NUMBERS && self.arena.len() <= SMALL_BYTES;
        if !full {
            return Chunk::default();
        }
        let arena = Vec::with_capacity(self.arena.len());
        Chunk { present: 0, slots: Vec::with_capacity(self.slots.len()), arena }
    }

    fn get(&self, place: u64) -> Option<Record<'_>> {
        let bit = 1u64 << place;
        if self.present & bit == 0 {
            return None;
        }
        let slot = &self.slots[(self.present & (bit - 1)).count_ones() as usize];
        let bytes = &self.arena[slot.start as usize..(slot.start + slot.length) as usize];
        let &Slot { index, operation, end, .. } = slot;
        Some(Record { index, operation, end, bytes })
    }

    fn insert(&mut self, place: u64, record: Record<'_>) {
        let bit = 1u64 << place;
        assert!(self.present & bit == 0, "a number is recorded twice");
        let at = (self.present & (bit - 1)).count_ones() as usize;
        let start = u32::try_from(self.arena.len()).expect("64 outputs stay below 4 GiB");
        if record.bytes.len() > SMALL_BYTES {
            // Large outputs get what they need; doubling would hold as much again for nothing.
            self.arena.reserve_exact(record.bytes.len());
        }
        self.arena.extend_from_slice(record.bytes);
        let length = u32::try_from(record.bytes.len()).expect("an output is below 4 GiB");
        let Record { index, operation, end, .. } = record;
        self.slots.insert(at, Slot { index, start, length, operation, end });
        self.present |= bit;
    }

    /// Drops what is not in `keep`, and gives the room of its outputs back.
    fn keep_only(&mut self, keep: u64) {
        let old = std::mem::take(self);
        let kept = old.present & keep;
        self.slots.reserve_exact(kept.count_ones() as usize);
        self.arena.reserve_exact(
            (0..64).filter(|place| kept >> place & 1 == 1).map(|p| old.length(p)).sum(),
        );
        for place in (0..64).filter(|place| kept >> place & 1 == 1) {
            if let Some(record) = old.get(place) {
                self.insert(place, record);
            }
        }
    }

    fn weight(&self) -> usize {
        let outputs: usize = self.slots.iter().map(|slot| slot.length as usize).sum();
        self.slots.len() * SLOT_BYTES + outputs
    }

    fn length(&self, place: u64) -> usize {
        self.get(place).map_or(0, |record| record.bytes.len())
    }

    fn bytes(&self) -> usize {
        self.slots.capacity() * SLOT_BYTES + self.arena.capacity()
    }
}

/// Outputs above it are given exactly the room they need.
const SMALL_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    fn record(number: u64, bytes: &[u8]) -> Record<'_> {
        let operation = Operation::CREATE;
        Record { index: Index(number), operation, end: End::Output(Status::Ok), bytes }
    }

    #[test]
    fn a_small_output_costs_at_most_48_bytes() {
        let mut kept = Kept::default();
        for number in 0..100_000u64 {
            kept.insert(number, record(number, &[8, 1, 2, 3, 4, 5]));
        }
        assert!(kept.bytes() / 100_000 <= 48, "{} bytes a record", kept.bytes() / 100_000);
    }

    #[test]
    fn it_agrees_with_a_plain_map() {
        for seed in 0..40 {
            let mut prng = Prng::new(seed);
            let (mut kept, mut rubble) = (Kept::default(), Rubble::default());
            let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            let range = *prng.pick(&[200u64, 5_000, u64::MAX - 1]);
            for _ in 0..400 {
                let number = prng.below(range);
                match prng.below(10) {
                    0 => {
                        kept.drop_below(number / 2, &mut rubble);
                        model = model.split_off(&(number / 2));
                    }
                    1 => {
                        let (chunk, mask) = (number / 64, prng.next_u64());
                        kept.drop_in(chunk, mask);
                        model.retain(|n, _| n / 64 != chunk || mask >> (n % 64) & 1 == 0);
                    }
                    _ => {
                        model.entry(number).or_insert_with(|| {
                            let bytes = vec![number as u8; prng.below(9) as usize];
                            kept.insert(number, record(number, &bytes));
                            bytes
                        });
                    }
                }
                rubble.clear_some(1);
                let mut found = Vec::new();
                let mut from = 0;
                while let Some((number, record)) = kept.next_from(from) {
                    found.push((number, record.bytes.to_vec()));
                    from = number + 1;
                }
                assert_eq!(found, model.clone().into_iter().collect::<Vec<_>>(), "seed {seed}");
                assert_eq!(kept.len(), model.len(), "seed {seed}");
                let bytes: usize = kept.chunks.values().map(|c| CHUNK_BYTES + c.bytes()).sum();
                assert_eq!(kept.bytes(), bytes, "seed {seed}");
                let weight: usize = model.values().map(|output| SLOT_BYTES + output.len()).sum();
                assert_eq!(kept.weight(), weight, "seed {seed}");
            }
            kept.abandon(&mut rubble);
            rubble.clear_some(usize::MAX);
            assert_eq!((kept.bytes(), rubble.bytes()), (0, 0), "seed {seed}");
        }
    }
}
