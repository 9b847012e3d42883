//! A journal laid open: every block and record with its place and what recovery makes of it.
//!
//! For `ringraft log dump` and `verify`. Absent on purpose: text; the command line has its own.

use crate::{
    id::{Mark, PartitionId, Position, Term},
    journal::{
        block::BlockHeader,
        record::{ConfState, Founding, HardState, Kind, Reader, SnapshotMeta},
        recover::{RecordAt, Refused, SegmentBytes, Sight, Survey, Verdict},
        segment::{Owner, SegmentHeader},
    },
};
use bytes::Bytes;

/// One thing in a journal. Segments come first, then the blocks in the order of recovery, each
/// followed by its records.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// A segment.
    Segment {
        /// The sequence in its name.
        sequence: u64,
        /// Its header; `None` when unreadable.
        header: Option<SegmentHeader>,
    },
    /// A block, or the place where one should be.
    Block {
        /// The segment
        segment: u64,
        /// and the offset there.
        offset: u64,
        /// The header; `None` when there is none.
        header: Option<BlockHeader>,
        /// The first mark that is, or should be, there
        first: Mark,
        /// and the last; the same unless several are missing.
        last: Mark,
        /// What is there.
        sight: Sight,
        /// What recovery does about it.
        verdict: Verdict,
    },
    /// A record whose checksum holds.
    Record {
        /// The segment
        segment: u64,
        /// and the offset there.
        offset: u64,
        /// Whose it is.
        partition: PartitionId,
        /// Its number among the records of its partition.
        number: u64,
        /// What it says.
        says: Says,
    },
}

/// What a record says.
#[derive(Clone, PartialEq, Debug)]
pub enum Says {
    /// A run of entries.
    Entries {
        /// The position of the first.
        first: Position,
        /// Term, kind and bytes of each.
        entries: Vec<(Term, u8, Bytes)>,
    },
    /// The state, and the configuration if it came along.
    State(HardState, Option<ConfState>),
    /// The founding.
    Founded(Founding),
    /// A snapshot at this position begins.
    SnapshotBegin(Position),
    /// A slice, by its ordinal and length.
    SnapshotChunk(u32, usize),
    /// A snapshot of so many slices is complete.
    SnapshotEnd(SnapshotMeta, u32),
    /// The partition left.
    Left,
    /// The body cannot be read although its checksum holds.
    Unreadable(Kind),
}

/// Tells of everything in the journal. Its owner is taken from the first readable header when it is
/// not given.
pub fn inspect(
    owner: Option<Owner>,
    segments: &[SegmentBytes],
    mut tell: impl FnMut(Item),
) -> Result<(), Refused> {
    let headers = segments.iter().map(|segment| SegmentHeader::decode(&segment.bytes));
    let first = headers.flatten().map(|header| header.owner).next();
    let Some(owner) = owner.or(first) else {
        for segment in segments {
            tell(Item::Segment { sequence: segment.sequence, header: None });
        }
        return Ok(());
    };
    let survey = Survey::of(owner, segments)?;
    for segment in &survey.segments {
        tell(Item::Segment { sequence: segment.sequence, header: segment.header });
    }
    survey.judge(|step| {
        tell(Item::Block {
            segment: step.segment,
            offset: step.offset as u64,
            header: step.header,
            first: step.first,
            last: step.last,
            sight: step.sight,
            verdict: step.verdict,
        });
        step.records(|record| {
            tell(Item::Record {
                segment: record.segment,
                offset: record.offset as u64,
                partition: record.header.partition,
                number: record.header.number,
                says: says(record),
            });
        });
    });
    Ok(())
}

fn says(record: &RecordAt<'_>) -> Says {
    let body = record.body();
    let mut reader = Reader(&body);
    let kind = record.header.kind;
    let said = match kind {
        Kind::Entries => entries(&body),
        Kind::State => reader.state().map(|(hard, conf)| Says::State(hard, conf)),
        Kind::Founded => reader.founding().map(Says::Founded),
        Kind::SnapshotBegin => reader.u64().map(|at| Says::SnapshotBegin(Position(at))),
        Kind::SnapshotChunk => {
            reader.u32().map(|ordinal| Says::SnapshotChunk(ordinal, reader.0.len()))
        }
        Kind::SnapshotEnd => {
            reader.snapshot_end().map(|(meta, count)| Says::SnapshotEnd(meta, count))
        }
        Kind::Left => Some(Says::Left),
    };
    said.unwrap_or(Says::Unreadable(kind))
}

fn entries(body: &Bytes) -> Option<Says> {
    let mut reader = Reader(body);
    let first = Position(reader.u64()?);
    let mut entries = Vec::new();
    while !reader.0.is_empty() {
        let (term, kind, length) = reader.entry_header()?;
        entries.push((term, kind, body.slice_ref(reader.bytes(length)?)));
    }
    Some(Says::Entries { first, entries })
}
