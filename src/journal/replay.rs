//! Replay: the records of a journal, in order, to what each partition had.
//!
//! A partition is followed by the numbers of its records. A gap in them, a run of entries that does
//! not join its log, or a body that cannot be read ends its replay with a fault; the others go on.
//! Absent on purpose: judging blocks, which `recover.rs` has done when a record comes here.

use crate::{
    id::{PartitionId, Position, Term},
    journal::{
        Standing, StandingState,
        record::{
            ConfState, Founding, HardState, Kind, Origin, RECORD_HEADER_BYTES, Reader, SnapshotMeta,
        },
        recover::{Damage, RecordAt},
        retain::{Need, Retain},
        segment,
    },
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

/// What a partition had.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tail {
    /// With whom it was founded here.
    pub founding: Founding,
    /// Term, vote and commit; the commit is never outside snapshot and entries.
    pub hard: HardState,
    /// The newest configuration written with a state, if any was.
    pub conf: Option<ConfState>,
    /// The newest complete snapshot.
    pub snapshot: Option<Snapshot>,
    /// The position of the first entry: right after the snapshot.
    pub first: Position,
    /// The log after the snapshot.
    pub entries: VecDeque<TailEntry>,
}

/// One log entry as found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TailEntry {
    /// The term it was proposed in.
    pub term: Term,
    /// raft's kind of entry.
    pub kind: u8,
    /// Its bytes, a slice of the segment.
    pub data: Bytes,
}

/// A complete snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// What it is of.
    pub meta: SnapshotMeta,
    /// Its slices in order.
    pub chunks: Vec<Bytes>,
}

/// Why a partition must not start, and where to look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The segment
    pub segment: u64,
    /// and the offset there.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, offset {}: {}", segment::name(self.segment), self.offset, self.what)
    }
}

/// All partitions while their records come in.
#[derive(Default)]
pub(super) struct Replay {
    partitions: BTreeMap<PartitionId, Following>,
    damage: Option<Damage>,
}

/// Everything `Replay` comes to: partitions, faults, those that left, and what resuming needs.
pub(super) type Ending = (
    BTreeMap<PartitionId, Tail>,
    BTreeMap<PartitionId, Fault>,
    Vec<PartitionId>,
    BTreeMap<PartitionId, Standing>,
    Retain,
);

/// One partition while its records come in.
#[derive(Default)]
struct Following {
    number: u64,
    founded: Option<Bytes>,
    left: bool,
    tail: Tail,
    writing: Option<(Position, Vec<Bytes>)>,
    /// The position of a snapshot whose beginning is gone, which a later one must stand for.
    beheaded: Position,
    need: Need,
    suspect: Option<Fault>,
    fault: Option<Fault>,
}

impl Replay {
    /// The next record.
    pub fn record(&mut self, record: &RecordAt<'_>) {
        let partition = record.header.partition;
        let known = self.partitions.contains_key(&partition);
        let following = self.partitions.entry(partition).or_default();
        // Nothing is known of a partition that is first seen in the middle: what came before may be
        // recycled, or damaged.
        if !known {
            if let (Some(damage), true) = (self.damage, record.header.number > 1) {
                following.suspect = Some(at_damage(&damage));
            } else {
                following.number = record.header.number.saturating_sub(1);
            }
        }
        following.record(record);
    }

    /// Blocks are lost here; who had records in them is not known yet.
    pub fn damaged(&mut self, damage: Damage) {
        self.damage = Some(damage);
        for following in self.partitions.values_mut().filter(|following| !following.left) {
            following.suspect.get_or_insert_with(|| at_damage(&damage));
        }
    }

    /// No record is left.
    pub fn end(self, segments: VecDeque<u64>) -> Ending {
        let oldest = segments.front().copied().unwrap_or(0);
        let (mut tails, mut faults, mut left) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (mut standings, mut needs) = (BTreeMap::new(), BTreeMap::new());
        for (partition, mut following) in self.partitions {
            following.settle(oldest);
            let number = following.number;
            let state = if let Some(fault) = following.fault {
                faults.insert(partition, fault);
                needs.insert(partition, Need::held(oldest));
                StandingState::Faulty
            } else if following.left {
                left.push(partition);
                StandingState::Left
            } else {
                let (hard, conf) = (following.tail.hard, following.tail.conf.clone());
                let founding = following.founded.map_or_else(Vec::new, Vec::from);
                needs.insert(partition, following.need);
                tails.insert(partition, following.tail);
                StandingState::Live { founding, hard, conf, chunks: None }
            };
            standings.insert(partition, Standing { number, state });
        }
        (tails, faults, left, standings, Retain::new(segments, needs))
    }
}

impl Following {
    fn record(&mut self, record: &RecordAt<'_>) {
        let number = record.header.number;
        if record.header.kind == Kind::Left {
            // Whatever was wrong with it, it is gone.
            *self = Following { number, left: true, ..Following::default() };
            return;
        }
        if self.fault.is_some() {
            self.number = self.number.max(number);
            return;
        }
        let gap = number != self.number.saturating_add(1);
        self.number = number;
        let fault =
            |what| Some(Fault { segment: record.segment, offset: record.offset as u64, what });
        if gap {
            self.fault = self.suspect.take().or_else(|| fault("records before this one are lost"));
            return;
        }
        self.suspect = None;
        if let Err(what) = self.apply(record) {
            self.fault = fault(what);
        }
    }

    fn apply(&mut self, record: &RecordAt<'_>) -> Result<(), &'static str> {
        let body = record.body();
        let mut reader = Reader(&body);
        match record.header.kind {
            Kind::Entries => self.entries(&body, record.segment),
            Kind::State => {
                let (hard, conf) = reader.state().ok_or("an unreadable state")?;
                self.tail.hard = hard;
                if conf.is_some() {
                    self.tail.conf = conf;
                }
                Ok(())
            }
            Kind::Founded => {
                self.tail.founding = reader.founding().ok_or("an unreadable founding")?;
                self.left = false;
                self.founded = Some(body);
                Ok(())
            }
            Kind::SnapshotBegin => {
                let position = reader.u64().ok_or("an unreadable snapshot begin")?;
                self.writing = Some((Position(position), Vec::new()));
                self.need.snapshot_began(record.segment);
                Ok(())
            }
            Kind::SnapshotChunk => {
                let ordinal = reader.u32().ok_or("an unreadable snapshot slice")?;
                // The beginning may be in a segment that is gone since a later snapshot is there.
                if let Some((_, chunks)) = &mut self.writing {
                    if chunks.len() != ordinal as usize {
                        return Err("a slice of the snapshot is missing");
                    }
                    chunks.push(body.slice(4..));
                }
                Ok(())
            }
            Kind::SnapshotEnd => {
                let (meta, count) = reader.snapshot_end().ok_or("an unreadable snapshot end")?;
                self.snapshot(meta, count, record.segment)
            }
            Kind::Left => Ok(()),
        }
    }

    fn entries(&mut self, body: &Bytes, segment: u64) -> Result<(), &'static str> {
        const UNREADABLE: &str = "an unreadable run of entries";
        let mut reader = Reader(body);
        let first = Position(reader.u64().ok_or(UNREADABLE)?);
        if first == Position(0) {
            return Err("a run of entries at position 0");
        }
        self.truncate(first);
        while !reader.0.is_empty() {
            let (term, kind, length) = reader.entry_header().ok_or(UNREADABLE)?;
            let data = body.slice_ref(reader.bytes(length).ok_or(UNREADABLE)?);
            self.tail.entries.push_back(TailEntry { term, kind, data });
        }
        let last = self.next_position()?.0 - 1;
        if last < first.0 {
            return Err("an empty run of entries");
        }
        self.need.wrote(segment, first, Position(last));
        self.need.truncated(segment, first);
        Ok(())
    }

    /// Makes the log end right before `first`. A run that does not join what is there starts the
    /// log anew: what lies between may be gone with an older segment because of a snapshot that is
    /// yet to come. `settle` sees whether one came.
    fn truncate(&mut self, first: Position) {
        let tail = &mut self.tail;
        let kept = first.0.checked_sub(tail.first.0);
        match kept.filter(|&kept| kept <= tail.entries.len() as u64) {
            Some(kept) => tail.entries.truncate(kept as usize),
            None => {
                tail.entries.clear();
                tail.first = first;
            }
        }
    }

    fn snapshot(
        &mut self,
        meta: SnapshotMeta,
        count: u32,
        segment: u64,
    ) -> Result<(), &'static str> {
        let (position, installed) = (meta.position, meta.origin == Origin::Installed);
        if installed {
            self.tail.entries.clear();
        }
        // Without its beginning it is one that a later one must have made needless.
        let Some((begun, chunks)) = self.writing.take() else {
            self.beheaded = position;
            return Ok(());
        };
        if begun != position || chunks.len() != count as usize {
            return Err("a slice of the snapshot is missing");
        }
        if let Some(began) = self.need.snapshot_ended() {
            self.need.snapshot_durable(began, position, installed.then_some(segment));
        }
        self.tail.snapshot = Some(Snapshot { meta, chunks });
        self.drop_covered();
        Ok(())
    }

    /// Drops the entries that the snapshot stands for.
    fn drop_covered(&mut self) {
        let tail = &mut self.tail;
        let Some(snapshot) = &tail.snapshot else {
            return;
        };
        let after = snapshot.meta.position.0.saturating_add(1);
        let covered = after.saturating_sub(tail.first.0).min(tail.entries.len() as u64);
        tail.entries.drain(..covered as usize);
        tail.first = Position(tail.first.0.saturating_add(covered));
    }

    fn next_position(&self) -> Result<Position, &'static str> {
        let count = self.tail.entries.len() as u64;
        self.tail.first.0.checked_add(count).map(Position).ok_or("a position past all numbers")
    }

    /// Nothing comes any more: the last doubts become faults, and the ends are tied.
    fn settle(&mut self, oldest: u64) {
        if self.left || self.fault.is_some() {
            return;
        }
        if let Some(fault) = self.suspect.take() {
            self.fault = Some(fault);
            return;
        }
        self.drop_covered();
        self.need.snapshot_abandoned();
        let tail = &mut self.tail;
        let base = tail.snapshot.as_ref().map_or(Position(0), |snapshot| snapshot.meta.position);
        let joined = tail.entries.is_empty() || tail.first.0 - 1 <= base.0;
        let joined = joined && self.beheaded <= base;
        if self.founded.is_none() || !joined {
            let what = match self.founded {
                None => "the founding of the partition is lost",
                Some(_) => "the entries before the log's first, or their snapshot, are lost",
            };
            let offset = RECORD_HEADER_BYTES as u64;
            self.fault = Some(Fault { segment: oldest, offset, what });
            return;
        }
        if tail.entries.is_empty() {
            tail.first = Position(base.0.saturating_add(1));
        }
        let last = tail.first.0.saturating_add(tail.entries.len() as u64) - 1;
        tail.hard.commit = Position(tail.hard.commit.0.clamp(base.0, last.max(base.0)));
    }
}

fn at_damage(damage: &Damage) -> Fault {
    let Damage { segment, offset, .. } = *damage;
    Fault { segment, offset, what: "a damaged block that may hold records of this partition" }
}
