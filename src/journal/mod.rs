//! The journal: every byte of this program that touches a disk, decided without touching one.
//!
//! A shard has one journal for all its partitions. A turn's records become one block, as a rule; a
//! block is one aligned write; blocks fill segments; segments are files.
//!
//! ```text
//! shard-0/segment-0000000000000007                 fixed size, zeros or old bytes before use
//! ┌────────┬───────────────────────┬──────────────┬───────────┬─ ─ ─
//! │ header │ block, mark 40        │ block 41     │ block 42  │ unused
//! │ 4 KiB  │ checkpoint, records   │ records      │ records   │
//! └────────┴───────────────────────┴──────────────┴───────────┴─ ─ ─
//!            header │ record │ record │ … │ padding to 4 KiB
//!                     header │ body                (partition, kind, number)
//! ```
//!
//! What survives which failure:
//!
//! | failure | what is found |
//! |---|---|
//! | the process or the power ends | every block reported durable; of those in flight a prefix |
//! | a block half written | it and those in flight behind it are cut off: a torn tail |
//! | a recycled file's old bytes | never read: mark, segment, incarnation are in every checksum |
//! | bytes go bad in a durable block | the partitions that had records there do not start |
//! | a segment header goes bad | nothing is lost; its blocks and its neighbours say the same |
//! | the very last blocks go bad | indistinguishable from torn: no later block vouches for them |
//!
//! Several blocks may be in flight and complete in any order; `durable` speaks of the highest mark
//! with none missing below it. Recovery never writes into a segment it found: it opens a fresh one
//! with the next incarnation and the last mark kept, so what was cut off stays cut off.
//!
//! The contract: `founded` comes before anything else of a partition; entries of a turn before the
//! state that speaks of them; a snapshot's end before the state that speaks of it. Records take
//! effect in order, so recovery sees what a crash between any two blocks left.
//!
//! Absent on purpose: files (`runtime/disk.rs` obeys the orders), raft, compression (blocks are
//! small and disks are not the limit), an index (recovery reads everything once; beside it only
//! the slices of a snapshot are read again, whose places are told as they are written). Next:
//! `record.rs` for the bodies, `recover.rs` for the way back.

pub mod aligned;
pub mod block;
pub mod inspect;
pub mod record;
pub mod recover;
mod replay;
mod retain;
pub mod segment;

pub use aligned::Aligned;
pub use block::Block;
pub use record::{ConfState, Entry, Founding, HardState, Member, Origin, SnapshotMeta};
pub use recover::{Recovered, Refused, SegmentBytes, recover};
pub use replay::{Fault, Snapshot, Tail, TailEntry};
pub use segment::{Layout, Owner};

use crate::{
    id::{Mark, PartitionId, Position},
    limits::{JOURNAL_ENTRY_BYTES_MAX, SECTOR_BYTES, SNAPSHOT_CHUNK_BYTES_MAX},
};
use block::{BLOCK_HEADER_BYTES, Filling, Spot};
use record::{ENTRY_HEADER_BYTES, Kind, RECORD_HEADER_BYTES, RUN_HEADER_BYTES};
use retain::{Release, Retain};
use segment::SegmentHeader;
use std::collections::BTreeMap;

/// What the disk is to do. Orders are carried out in this sequence, except that writes may overlap
/// each other and complete in any order.
#[derive(Debug)]
pub enum Order {
    /// Have a segment of `Layout::segment_bytes` under this sequence's name, its first sector being
    /// `header`, the rest zeros or old bytes of a recycled one. It comes long before its first
    /// write, and must be durable, name and header, before that write begins.
    Open {
        /// The segment.
        sequence: u64,
        /// Its first sector.
        header: Aligned,
    },
    /// Write a block.
    Write(Block),
    /// Nobody needs this segment: its file may be used for a later one.
    Recycle {
        /// The segment.
        sequence: u64,
    },
}

/// What recovery hands to the next incarnation of the journal.
#[derive(Debug)]
pub struct Resume {
    sequence: u64,
    incarnation: u64,
    kept: Mark,
    partitions: BTreeMap<PartitionId, Standing>,
    retain: Retain,
    /// Segments found without a block that counts.
    blank: Vec<u64>,
    /// Such segments, of whose headers another segment has the same: they can be used at once.
    idle: Vec<u64>,
}

impl Resume {
    /// The start of a journal that never was.
    #[must_use]
    pub fn fresh() -> Resume {
        Resume {
            sequence: 1,
            incarnation: 1,
            kept: Mark(0),
            partitions: BTreeMap::new(),
            retain: Retain::default(),
            blank: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// The last mark that recovery kept.
    #[must_use]
    pub fn kept(&self) -> Mark {
        self.kept
    }
}

/// The writer of one shard's journal.
///
/// Records are written straight into aligned memory. When a block is full or the turn ends it is
/// sealed; when a segment is full the journal goes on in the next, which was ordered one ahead.
#[derive(Debug)]
pub struct Journal {
    layout: Layout,
    owner: Owner,
    incarnation: u64,
    kept: Mark,
    /// The mark of the block being filled, or of the next one.
    next: Mark,
    durable: Mark,
    segment: u64,
    offset: usize,
    entered: bool,
    block: Option<Filling>,
    orders: Vec<Order>,
    partitions: BTreeMap<PartitionId, Standing>,
    checkpoint_bytes: usize,
    retain: Retain,
    needless: Vec<u64>,
    pool: Vec<Aligned>,
    scratch: Vec<u8>,
}

/// What the journal knows of a partition, enough to repeat it at a segment's start.
#[derive(Clone, Debug)]
struct Standing {
    /// The number of its last record.
    number: u64,
    state: StandingState,
}

#[derive(Clone, Debug)]
enum StandingState {
    Live {
        founding: Vec<u8>,
        hard: HardState,
        conf: Option<ConfState>,
        chunks: Option<u32>,
    },
    Left,
    /// Recovery found damage. Its segments are kept and nothing is written for it but `left`.
    Faulty,
}

impl Journal {
    /// The journal of `owner` from where recovery ended. Orders its first two segments.
    #[must_use]
    pub fn resume(layout: Layout, owner: Owner, resume: Resume) -> Journal {
        layout.check();
        let Resume { sequence, incarnation, kept, partitions, retain, blank, idle } = resume;
        let checkpoint_bytes = partitions.values().map(Standing::checkpoint_bytes).sum();
        assert!(
            checkpoint_bytes <= layout.checkpoint_bytes_max(),
            "segments of {} bytes are too small for the partitions that live here",
            layout.segment_bytes
        );
        let mut journal = Journal {
            layout,
            owner,
            incarnation,
            kept,
            next: Mark(kept.0 + 1),
            durable: kept,
            segment: sequence,
            offset: SECTOR_BYTES,
            entered: false,
            block: None,
            orders: Vec::new(),
            partitions,
            checkpoint_bytes,
            retain,
            needless: Vec::new(),
            pool: Vec::new(),
            scratch: Vec::new(),
        };
        let recycle = |sequence| Order::Recycle { sequence };
        // First, so that a start needs no more space than what ran before has left.
        journal.orders.extend(idle.into_iter().map(recycle));
        journal.open(sequence);
        journal.open(sequence + 1);
        // After the new headers, which say again all that theirs said.
        journal.orders.extend(blank.into_iter().map(recycle));
        journal
    }

    /// A partition was founded here, for the first time or after it had left.
    pub fn founded(&mut self, partition: PartitionId, founding: &Founding) {
        assert!(self.has_room_for(founding), "no room to found {partition}; ask first");
        let mut body = Vec::new();
        record::encode_founding(&mut body, founding);
        // Room first: a checkpoint that the room makes necessary must not know the partition yet.
        self.make_room(RECORD_HEADER_BYTES + body.len());
        let number = match self.partitions.get(&partition) {
            None => 0,
            Some(Standing { number, state: StandingState::Left }) => *number,
            Some(_) => panic!("{partition} is already here"),
        };
        self.checkpoint_bytes += record::checkpoint_bytes(body.len());
        let (hard, conf, chunks) = (HardState::default(), None, None);
        let state = StandingState::Live { founding: body.clone(), hard, conf, chunks };
        self.partitions.insert(partition, Standing { number, state });
        self.record(partition, Kind::Founded, &[&body]);
    }

    /// A run of consecutive entries from `first` on; it supersedes all that was written for this
    /// partition at `first` and after.
    pub fn entries<'a>(
        &mut self,
        partition: PartitionId,
        first: Position,
        entries: impl IntoIterator<Item = Entry<'a>>,
    ) {
        assert!(first > Position(0), "positions count from 1");
        let (mut start, mut next) = (first, first);
        for entry in entries {
            let bytes = entry.data.len();
            assert!(bytes <= JOURNAL_ENTRY_BYTES_MAX, "an entry of {bytes} bytes");
            let bytes = ENTRY_HEADER_BYTES + bytes;
            let open = next > start;
            if open && self.block.as_ref().is_some_and(|block| block.free() < bytes) {
                self.end_run(partition, start, next);
                start = next;
            }
            if next == start {
                self.begin(partition, Kind::Entries, RUN_HEADER_BYTES + bytes);
                self.put(&start.0.to_le_bytes());
            }
            self.put(&record::entry_header(&entry));
            self.put(entry.data);
            next = next.next();
        }
        if next > start {
            self.end_run(partition, start, next);
        }
    }

    /// The partition's hard state, and its configuration when that changed.
    pub fn state(&mut self, partition: PartitionId, state: HardState, changed: Option<&ConfState>) {
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        record::encode_state(&mut body, &state, changed);
        // Room first: a checkpoint that the room makes necessary repeats the state before this one.
        self.make_room(RECORD_HEADER_BYTES + body.len());
        match &mut self.live(partition).state {
            StandingState::Live { hard, conf, .. } => {
                *hard = state;
                if let Some(changed) = changed {
                    *conf = Some(changed.clone());
                }
            }
            StandingState::Left | StandingState::Faulty => unreachable!("`live` has looked"),
        }
        self.record(partition, Kind::State, &[&body]);
        self.scratch = body;
    }

    /// A snapshot at `position` begins; an unfinished one of this partition is void.
    pub fn snapshot_begin(&mut self, partition: PartitionId, position: Position) {
        self.record(partition, Kind::SnapshotBegin, &[&position.0.to_le_bytes()]);
        *self.chunks(partition) = Some(0);
        let segment = self.segment;
        self.retain.need(partition).snapshot_began(segment);
    }

    /// Its next slice, at most `SNAPSHOT_CHUNK_BYTES_MAX`: in which segment its bytes lie, and from
    /// which offset on. They stay there until a newer snapshot of the partition is durable.
    pub fn snapshot_chunk(&mut self, partition: PartitionId, slice: &[u8]) -> (u64, u64) {
        assert!(slice.len() <= SNAPSHOT_CHUNK_BYTES_MAX, "a slice of {} bytes", slice.len());
        let chunks = self.chunks(partition);
        let ordinal = chunks.expect("no snapshot has begun");
        *chunks = Some(ordinal + 1);
        self.record(partition, Kind::SnapshotChunk, &[&ordinal.to_le_bytes(), slice]);
        let end = self.block.as_ref().expect("a record was just written").end_offset();
        (self.segment, end - slice.len() as u64)
    }

    /// It is complete. Once durable it stands for the log up to its position, and for the whole log
    /// before it when it was installed.
    pub fn snapshot_end(&mut self, partition: PartitionId, meta: &SnapshotMeta) {
        let chunks = self.chunks(partition).take().expect("no snapshot has begun");
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        record::encode_snapshot_end(&mut body, meta, chunks);
        self.record(partition, Kind::SnapshotEnd, &[&body]);
        self.scratch = body;
        let voids_before = match meta.origin {
            Origin::Taken => None,
            Origin::Installed => Some(self.segment),
        };
        let began = self.retain.need(partition).snapshot_ended();
        let began = began.expect("no snapshot has begun");
        let position = meta.position;
        let release = Release::Snapshot { partition, position, began, voids_before };
        self.retain.once(self.next, release);
    }

    /// The partition is given up here; its bytes are needed no longer. The one thing that may be
    /// written of a partition that recovery found damaged.
    pub fn left(&mut self, partition: PartitionId) {
        self.make_room(RECORD_HEADER_BYTES);
        let standing = self.partitions.get_mut(&partition).expect("no such partition");
        let left = matches!(standing.state, StandingState::Left);
        assert!(!left, "{partition} has left already");
        self.checkpoint_bytes -= standing.checkpoint_bytes();
        self.checkpoint_bytes += RECORD_HEADER_BYTES;
        standing.state = StandingState::Left;
        self.record(partition, Kind::Left, &[]);
        self.retain.left(partition, self.next);
    }

    /// Ends the turn: seals what was recorded and appends what the disk is to do. All of it is
    /// covered by the mark returned.
    pub fn seal(&mut self, out: &mut Vec<Order>) -> Mark {
        self.close();
        out.append(&mut self.orders);
        self.sealed()
    }

    /// Ends the turn and seals nothing: the disk has enough to do, and the block being filled waits
    /// for more. Appends what left by itself because blocks were full. All of the turn is covered
    /// by the mark returned.
    pub fn gather(&mut self, out: &mut Vec<Order>) -> Mark {
        out.append(&mut self.orders);
        self.recorded()
    }

    /// Blocks that were sealed and are not known to be on disk.
    #[must_use]
    pub fn blocks_under_way(&self) -> usize {
        (self.sealed().0 - self.durable.0) as usize
    }

    /// Every block up to `mark` is on disk, with none missing; appends segments to recycle.
    pub fn durable(&mut self, mark: Mark, out: &mut Vec<Order>) {
        assert!(mark >= self.durable, "mark {mark} is behind {}", self.durable);
        assert!(mark < self.next, "mark {mark} was never sealed");
        self.durable = mark;
        self.retain.durable(mark, &mut self.needless);
        out.extend(self.needless.drain(..).map(|sequence| Order::Recycle { sequence }));
    }

    /// Takes a written block's memory back for another.
    pub fn recycle(&mut self, buffer: Aligned) {
        let pooled: usize = self.pool.iter().map(Aligned::capacity).sum();
        let room = pooled + buffer.capacity() <= POOL_BYTES_MAX;
        if room && self.pool.len() < POOL_BUFFERS_MAX {
            self.pool.push(buffer);
        }
    }

    /// Whether another partition founded like this fits the checkpoint at a segment's start. When
    /// not, the shard refuses it.
    #[must_use]
    pub fn has_room_for(&self, founding: &Founding) -> bool {
        let mut body = Vec::new();
        record::encode_founding(&mut body, founding);
        let wanted = self.checkpoint_bytes + record::checkpoint_bytes(body.len());
        wanted <= self.layout.checkpoint_bytes_max()
    }

    /// The mark that covers everything recorded so far, sealed or not.
    #[must_use]
    pub fn recorded(&self) -> Mark {
        if self.block.is_some() { self.next } else { self.sealed() }
    }

    /// The highest mark with every block up to it on disk.
    #[must_use]
    pub fn durable_mark(&self) -> Mark {
        self.durable
    }

    /// Bytes left in the segment being written.
    #[must_use]
    pub fn segment_room(&self) -> usize {
        self.layout.segment_bytes - self.offset
    }

    /// How many segments exist, those ordered ahead included.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.retain.segments().len()
    }

    /// The partitions that keep the oldest segment from being recycled: a snapshot of each of them
    /// would set it free.
    pub fn holders(&self) -> impl Iterator<Item = PartitionId> {
        self.retain.holders()
    }

    fn sealed(&self) -> Mark {
        Mark(self.next.0 - 1)
    }

    fn live(&mut self, partition: PartitionId) -> &mut Standing {
        let standing = self.partitions.get_mut(&partition).expect("the partition was founded");
        let live = matches!(standing.state, StandingState::Live { .. });
        assert!(live, "nothing is written for {partition}, which has left or is damaged");
        standing
    }

    fn chunks(&mut self, partition: PartitionId) -> &mut Option<u32> {
        match &mut self.live(partition).state {
            StandingState::Live { chunks, .. } => chunks,
            StandingState::Left | StandingState::Faulty => unreachable!("`live` has looked"),
        }
    }

    /// Writes one whole record.
    fn record(&mut self, partition: PartitionId, kind: Kind, body: &[&[u8]]) {
        let bytes = body.iter().map(|part| part.len()).sum();
        self.begin(partition, kind, bytes);
        for part in body {
            self.put(part);
        }
        self.end();
    }

    /// Opens a record in a block with room for `bytes` of body.
    fn begin(&mut self, partition: PartitionId, kind: Kind, bytes: usize) {
        self.make_room(RECORD_HEADER_BYTES + bytes);
        let standing = self.partitions.get_mut(&partition).expect("the partition was founded");
        assert!(
            matches!(standing.state, StandingState::Live { .. }) || kind == Kind::Left,
            "nothing is written for {partition}, which has left or is damaged"
        );
        standing.number += 1;
        let number = standing.number;
        let block = self.block.as_mut().expect("room was made");
        block.begin(partition, kind, number);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.as_mut().expect("a record is open").put(bytes);
    }

    fn end(&mut self) {
        self.block.as_mut().expect("a record is open").end();
    }

    fn end_run(&mut self, partition: PartitionId, first: Position, next: Position) {
        self.end();
        let segment = self.segment;
        if self.retain.need(partition).wrote(segment, first, Position(next.0 - 1)) {
            self.retain.once(self.next, Release::Truncated { partition, first, segment });
        }
    }

    /// Has a block with `bytes` free: this one, the next, or the first of the next segment.
    fn make_room(&mut self, bytes: usize) {
        let least = BLOCK_HEADER_BYTES + bytes;
        assert!(least <= self.layout.block_bytes_max, "no block holds a record of {bytes} bytes");
        let mut rolled = false;
        loop {
            if self.block.as_ref().is_some_and(|block| block.free() >= bytes) {
                return;
            }
            self.close();
            if !self.entered {
                self.entered = true;
                self.checkpoint();
                continue;
            }
            let left = self.layout.segment_bytes - self.offset;
            let room = left.min(self.layout.block_bytes_max);
            if least > room {
                assert!(!rolled, "a fresh segment has no room for {bytes} bytes");
                rolled = true;
                self.roll();
                continue;
            }
            let buffer = self.pool.pop().unwrap_or_else(|| Aligned::new(POOL_BUFFER_BYTES));
            let spot = Spot {
                mark: self.next,
                segment: self.segment,
                incarnation: self.incarnation,
                offset: self.offset as u64,
                room,
            };
            self.block = Some(Filling::new(buffer, &spot));
        }
    }

    /// Seals the block being filled.
    fn close(&mut self) {
        let Some(block) = self.block.take() else {
            return;
        };
        if block.is_empty() {
            return;
        }
        let block = block.seal(self.durable);
        assert_eq!(block.offset, self.offset as u64, "blocks follow each other");
        self.offset += block.bytes;
        self.next = Mark(self.next.0 + 1);
        self.orders.push(Order::Write(block));
    }

    /// Goes on in the next segment.
    fn roll(&mut self) {
        assert!(self.offset > SECTOR_BYTES, "a segment without a block is not left");
        self.segment += 1;
        self.offset = SECTOR_BYTES;
        self.open(self.segment + 1);
        self.checkpoint();
    }

    /// Repeats what would be lost with the older segments. It fits, because `founded` sees to it.
    fn checkpoint(&mut self) {
        let segment = self.segment;
        let mut partitions = std::mem::take(&mut self.partitions);
        let mut body = Vec::new();
        for (&partition, standing) in &mut partitions {
            match &standing.state {
                StandingState::Live { founding, hard, conf, .. } => {
                    standing.number += 2;
                    self.repeat(partition, Kind::Founded, standing.number - 1, founding);
                    body.clear();
                    record::encode_state(&mut body, hard, conf.as_ref());
                    self.repeat(partition, Kind::State, standing.number, &body);
                }
                StandingState::Left => {
                    standing.number += 1;
                    self.repeat(partition, Kind::Left, standing.number, &[]);
                }
                StandingState::Faulty => {}
            }
        }
        self.partitions = partitions;
        assert_eq!(segment, self.segment, "a checkpoint fits its segment");
        self.retain.once(self.recorded(), Release::Checkpoint(segment));
    }

    fn repeat(&mut self, partition: PartitionId, kind: Kind, number: u64, body: &[u8]) {
        self.make_room(RECORD_HEADER_BYTES + body.len());
        let block = self.block.as_mut().expect("room was made");
        block.begin(partition, kind, number);
        block.put(body);
        block.end();
    }

    fn open(&mut self, sequence: u64) {
        let mut header = Aligned::new(SECTOR_BYTES);
        let (owner, incarnation, kept) = (self.owner, self.incarnation, self.kept);
        SegmentHeader { owner, sequence, incarnation, kept }.encode(&mut header);
        self.retain.opened(sequence);
        self.orders.push(Order::Open { sequence, header });
    }
}

impl Standing {
    fn checkpoint_bytes(&self) -> usize {
        match &self.state {
            StandingState::Live { founding, .. } => record::checkpoint_bytes(founding.len()),
            StandingState::Left => RECORD_HEADER_BYTES,
            StandingState::Faulty => 0,
        }
    }
}

/// What a new block's memory starts with: a busy turn's worth, so that growing is rare.
const POOL_BUFFER_BYTES: usize = 64 << 10;
/// Memory kept for blocks to come; more goes back to the allocator. One of the largest blocks fits:
/// fresh memory for a block of 1.6 MB costs ten times what filling it does.
const POOL_BYTES_MAX: usize = crate::limits::BLOCK_BYTES_MAX;
/// As many blocks as are in flight and being filled, twice.
const POOL_BUFFERS_MAX: usize = 2 * (crate::limits::WRITES_IN_FLIGHT_MAX + 1);

#[cfg(test)]
mod tests;
