//! Recovery: bytes of segments to what each partition had, and what the next start needs to know.
//!
//! Every block is looked at where it should be and judged by two questions: what is there, and does
//! anything later say it was durable? A later block does when its `durable` reaches the mark, and
//! so does the segment header of a later start that kept it. The answer is the table [`verdict`],
//! which a test prints. A mark nobody vouches for was in flight when the process ended and never
//! reported; a mark somebody vouches for is missed, and the partitions that had records there do
//! not start. They are found by the numbers of records: a gap names its partition, and a partition
//! that shows no record after the damage cannot prove that it lost nothing.
//!
//! Nothing here panics, whatever the bytes. Entries and snapshot slices are slices of what was
//! given, not copies: they keep their segment in memory for as long as they live. Absent on
//! purpose: reading files, mending (nothing is ever written into a segment that was found).

use crate::{
    id::{Mark, PartitionId},
    journal::{
        Resume,
        block::{BLOCK_HEADER_BYTES, BlockHeader},
        record::{RECORD_HEADER_BYTES, RecordHeader},
        replay::{Fault, Replay, Tail},
        segment::{self, HeaderFault, Owner, SegmentHeader},
    },
    limits::SECTOR_BYTES,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

/// One segment as read.
#[derive(Clone, Debug)]
pub struct SegmentBytes {
    /// The sequence in its name.
    pub sequence: u64,
    /// All of it.
    pub bytes: Bytes,
}

/// What a journal held.
#[derive(Debug)]
pub struct Recovered {
    /// The partitions that live here and lost nothing.
    pub partitions: BTreeMap<PartitionId, Tail>,
    /// Those that lost something, with where; they must not start.
    pub faults: BTreeMap<PartitionId, Fault>,
    /// Those that were here and left.
    pub left: Vec<PartitionId>,
    /// Blocks that were durable and are not what they were.
    pub damage: Vec<Damage>,
    /// The place from which on a torn tail was cut off.
    pub cut: Option<Damage>,
    /// False when damage may hide a partition of which nothing else is known: then an unknown
    /// partition must not be founded here under a replica id it may have had before.
    pub roster_whole: bool,
    /// For `Journal::resume`.
    pub resume: Resume,
}

/// Marks that are not where they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment in which the first should begin
    pub segment: u64,
    /// and the offset there.
    pub offset: u64,
    /// The first mark
    pub first: Mark,
    /// and the last.
    pub last: Mark,
    /// What is there instead.
    pub sight: Sight,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { segment, offset, first, last, sight } = self;
        let what = match sight {
            Sight::Broken => "does not match its checksum",
            Sight::Missing => "is not there",
            Sight::Whole => "is whole",
            Sight::Stale => "was written earlier",
        };
        let name = segment::name(*segment);
        if first == last {
            write!(f, "{name}, offset {offset}: block {first} {what}")
        } else {
            write!(f, "{name}, offset {offset}: blocks {first} to {last}: the first {what}")
        }
    }
}

/// Why a journal cannot be read at all. Nothing was touched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A segment belongs to another node or shard: restore the right directory.
    Foreign {
        /// The segment.
        segment: u64,
        /// Whose it is.
        owner: Owner,
    },
    /// A later version of the program wrote it: run that one.
    Newer {
        /// The segment.
        segment: u64,
        /// Its format.
        format: u32,
    },
    /// The header is unreadable and no other segment says which blocks before it count: restore.
    Header {
        /// The segment.
        segment: u64,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Foreign { segment, owner } => write!(
                f,
                "{} belongs to node {}, shard {}",
                segment::name(*segment),
                owner.node,
                owner.shard
            ),
            Refused::Newer { segment, format } => write!(
                f,
                "{} has format {format}; this program knows {}",
                segment::name(*segment),
                segment::FORMAT
            ),
            Refused::Header { segment } => write!(
                f,
                "{}: the header is unreadable and nothing else says what it said",
                segment::name(*segment)
            ),
        }
    }
}

/// What is found where a block should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// The block with the mark that is due, and all its records hold.
    Whole,
    /// The block with the mark that is due, but not all its records hold.
    Broken,
    /// No header with the mark that is due.
    Missing,
    /// A block of an earlier use of the file, or cut off at an earlier start, or seen already.
    Stale,
}

/// What comes after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// No later block.
    Nothing,
    /// Later blocks, of which none says that this one was durable.
    InFlight,
    /// A later block, or a later start of the journal, that says it was durable.
    Vouched,
}

/// What recovery does about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Its records count.
    Take,
    /// It does not exist.
    Skip,
    /// The journal ends here.
    End,
    /// The journal ends here; what is behind was in flight and goes.
    Cut,
    /// Something durable is lost. Its whole records count, and the journal goes on behind it.
    Corrupt,
}

/// The table.
#[must_use]
pub const fn verdict(sight: Sight, after: After) -> Verdict {
    match (sight, after) {
        (Sight::Whole, After::Nothing | After::InFlight | After::Vouched) => Verdict::Take,
        (Sight::Broken, After::Nothing | After::InFlight) => Verdict::Cut,
        (Sight::Missing, After::Nothing) => Verdict::End,
        (Sight::Missing, After::InFlight) => Verdict::Cut,
        (Sight::Broken | Sight::Missing, After::Vouched) => Verdict::Corrupt,
        (Sight::Stale, After::Nothing | After::InFlight | After::Vouched) => Verdict::Skip,
    }
}

/// Reads a journal: all segments there are, in any order.
pub fn recover(owner: Owner, segments: &[SegmentBytes]) -> Result<Recovered, Refused> {
    let survey = Survey::of(owner, segments)?;
    let mut replay = Replay::default();
    let (mut damage, mut cut, mut roster_whole) = (Vec::new(), None, true);
    let mut used = BTreeSet::new();
    let kept = survey.judge(|step| match step.verdict {
        Verdict::Take => {
            used.insert(step.segment);
            // A segment starts with all that is known of everyone, so older damage hides no name.
            roster_whole |= step.offset == SECTOR_BYTES;
            step.records(|record| replay.record(record));
        }
        Verdict::Corrupt => {
            let lost = step.damage();
            roster_whole = false;
            damage.push(lost);
            step.records(|record| replay.record(record));
            replay.damaged(lost);
        }
        Verdict::Cut => cut = Some(step.damage()),
        Verdict::Skip | Verdict::End => {}
    });
    // Starts that wrote nothing leave segments without a block that counts; nobody needs those.
    // With damage about, nothing is thrown away.
    let sequences = survey.segments.iter().map(|segment| segment.sequence);
    let (sequences, blank): (VecDeque<u64>, VecDeque<u64>) =
        sequences.partition(|sequence| used.contains(sequence) || !damage.is_empty());
    let counting = survey.segments.iter().filter(|segment| used.contains(&segment.sequence));
    let headers = counting.filter_map(|segment| segment.header);
    let said: BTreeSet<u64> = headers.map(|header| header.incarnation).collect();
    let is_idle = |sequence: &u64| {
        let segment = survey.segments.iter().find(|segment| segment.sequence == *sequence);
        let header = segment.and_then(|segment| segment.header);
        header.is_some_and(|header| said.contains(&header.incarnation))
    };
    let (idle, blank) = blank.into_iter().partition(is_idle);
    let (partitions, faults, left, standings, retain) = replay.end(sequences);
    let newest = survey.segments.last();
    let resume = Resume {
        sequence: newest.map_or(1, |segment| segment.sequence.saturating_add(1)),
        incarnation: survey.incarnation_max.saturating_add(1),
        kept,
        partitions: standings,
        retain,
        blank,
        idle,
    };
    Ok(Recovered { partitions, faults, left, damage, cut, roster_whole, resume })
}

/// The segments with every block header in them, before anything is judged.
pub(super) struct Survey<'a> {
    pub segments: Vec<Surveyed<'a>>,
    /// For each start of the journal, the last mark it kept of those before it.
    kept: BTreeMap<u64, Mark>,
    incarnation_max: u64,
}

/// One segment of a survey.
pub(super) struct Surveyed<'a> {
    pub sequence: u64,
    pub bytes: &'a Bytes,
    /// `None` when it is unreadable.
    pub header: Option<SegmentHeader>,
    incarnation: u64,
    found: Vec<(usize, BlockHeader)>,
}

/// One place looked at, in the order of marks.
pub(super) struct Step<'a> {
    pub segment: u64,
    pub bytes: &'a Bytes,
    pub offset: usize,
    /// The header found there; `None` when it is the block that is missing.
    pub header: Option<BlockHeader>,
    pub first: Mark,
    pub last: Mark,
    pub sight: Sight,
    pub verdict: Verdict,
}

/// One record that holds.
pub(super) struct RecordAt<'a> {
    pub segment: u64,
    pub offset: usize,
    pub header: RecordHeader,
    /// The segment, of which the body is a slice.
    pub bytes: &'a Bytes,
}

impl<'a> Survey<'a> {
    pub fn of(owner: Owner, segments: &'a [SegmentBytes]) -> Result<Survey<'a>, Refused> {
        let mut sorted: Vec<&SegmentBytes> = segments.iter().collect();
        sorted.sort_by_key(|segment| segment.sequence);
        sorted.dedup_by_key(|segment| segment.sequence);
        let mut survey = Survey {
            segments: Vec::with_capacity(sorted.len()),
            kept: BTreeMap::new(),
            incarnation_max: 0,
        };
        for segment in sorted {
            let surveyed = Surveyed::of(owner, segment)?;
            survey.incarnation_max = survey.incarnation_max.max(surveyed.incarnation);
            if let Some(header) = surveyed.header {
                survey.kept.insert(header.incarnation, header.kept);
            }
            survey.segments.push(surveyed);
        }
        survey.check_headers()?;
        Ok(survey)
    }

    /// Walks the marks in order and says of each what becomes of it. Returns the last mark kept.
    pub fn judge(&self, mut tell: impl FnMut(Step<'a>)) -> Mark {
        let vouched = self.vouched();
        let mut due: Option<Mark> = None;
        let mut place = self.segments.first().map(|segment| (segment, SECTOR_BYTES));
        let mut cut = false;
        let mut blocks = self.blocks().peekable();
        while let Some((segment, offset, header)) = blocks.next() {
            let ceiling = self.ceiling(segment.incarnation);
            let step = |sight, after| segment.step(offset, header, sight, verdict(sight, after));
            if cut || header.mark > ceiling {
                tell(step(Sight::Stale, After::Nothing));
                continue;
            }
            let mut expected = due.unwrap_or_else(|| self.first_mark(offset, header.mark));
            if header.mark < expected {
                tell(step(Sight::Stale, After::InFlight));
                continue;
            }
            if header.mark > expected {
                let (at, offset) = place.unwrap_or((segment, SECTOR_BYTES));
                if expected <= vouched {
                    let last = Mark(vouched.0.min(header.mark.0 - 1));
                    tell(at.missing(offset, expected, last, After::Vouched));
                    expected = Mark(last.0 + 1);
                }
                if header.mark > expected {
                    tell(at.missing(offset, expected, Mark(header.mark.0 - 1), After::InFlight));
                    tell(step(Sight::Stale, After::Nothing));
                    (cut, due) = (true, Some(expected));
                    continue;
                }
            }
            let sight = if segment.holds(offset, &header) { Sight::Whole } else { Sight::Broken };
            let after = match (header.mark <= vouched, blocks.peek()) {
                (true, _) => After::Vouched,
                (false, Some(_)) => After::InFlight,
                (false, None) => After::Nothing,
            };
            let judged = step(sight, after);
            cut = judged.verdict == Verdict::Cut;
            due = Some(if cut { expected } else { Mark(expected.0.saturating_add(1)) });
            place = Some((segment, offset + header.length as usize));
            tell(judged);
        }
        let due = due.unwrap_or(Mark(1));
        if cut {
            return Mark(due.0 - 1);
        }
        if let Some((segment, offset)) = place {
            let after = if due <= vouched { After::Vouched } else { After::Nothing };
            tell(segment.missing(offset, due, due.max(vouched), after));
        }
        Mark(due.0 - 1).max(vouched)
    }

    /// Every block header in the order of places.
    fn blocks(&self) -> impl Iterator<Item = (&Surveyed<'a>, usize, BlockHeader)> {
        self.segments.iter().flat_map(|segment| {
            segment.found.iter().map(move |&(at, header)| (segment, at, header))
        })
    }

    /// The highest mark that something says was durable.
    fn vouched(&self) -> Mark {
        let counts = |segment: &Surveyed<'_>, header: &BlockHeader| {
            header.mark <= self.ceiling(segment.incarnation)
        };
        let blocks = self.blocks().filter(|(segment, _, header)| counts(segment, header));
        let durable = blocks.map(|(_, _, header)| header.durable).max();
        let kept = self.kept.values().copied().max();
        durable.max(kept).unwrap_or(Mark(0))
    }

    /// The highest mark of an incarnation that later ones did not cut off.
    fn ceiling(&self, incarnation: u64) -> Mark {
        let later = self.kept.range(incarnation.saturating_add(1)..);
        later.map(|(_, &kept)| kept).min().unwrap_or(Mark(u64::MAX))
    }

    /// The mark that is due first, seen from the first block there is, `mark` at `offset`.
    fn first_mark(&self, offset: usize, mark: Mark) -> Mark {
        let never_recycled = self.segments.first().is_some_and(|first| first.sequence == 1);
        match (never_recycled, offset == SECTOR_BYTES) {
            (true, _) => Mark(1),
            (false, true) => mark,
            (false, false) => Mark(mark.0.saturating_sub(1).max(1)),
        }
    }

    /// An unreadable header costs nothing as long as another segment of that incarnation has one,
    /// or nothing came before it that could have been cut.
    fn check_headers(&self) -> Result<(), Refused> {
        let Some(first) = self.segments.first() else {
            return Ok(());
        };
        let unknown = |segment: &&Surveyed<'_>| {
            segment.header.is_none()
                && !segment.found.is_empty()
                && segment.incarnation != first.incarnation
                && !self.kept.contains_key(&segment.incarnation)
        };
        match self.segments.iter().find(unknown) {
            Some(segment) => Err(Refused::Header { segment: segment.sequence }),
            None => Ok(()),
        }
    }
}

impl<'a> Surveyed<'a> {
    fn of(owner: Owner, segment: &'a SegmentBytes) -> Result<Surveyed<'a>, Refused> {
        let SegmentBytes { sequence, bytes } = segment;
        let sequence = *sequence;
        let header = match SegmentHeader::decode(bytes) {
            Ok(header) if header.owner != owner => {
                return Err(Refused::Foreign { segment: sequence, owner: header.owner });
            }
            Ok(header) => Some(header).filter(|header| header.sequence == sequence),
            Err(HeaderFault::Newer(format)) => {
                return Err(Refused::Newer { segment: sequence, format });
            }
            Err(HeaderFault::Unreadable) => None,
        };
        let incarnation =
            header.map_or_else(|| first_incarnation(bytes, sequence), |header| header.incarnation);
        let found = find_blocks(bytes, sequence, incarnation);
        Ok(Surveyed { sequence, bytes, header, incarnation, found })
    }

    /// Whether all records of the block there hold, and are as many as its header says.
    fn holds(&self, offset: usize, header: &BlockHeader) -> bool {
        let mut count = 0;
        let end = each_record(self.bytes, offset, header, |_, _| count += 1);
        end == offset + header.used as usize && count == header.records
    }

    fn step(&self, offset: usize, header: BlockHeader, sight: Sight, verdict: Verdict) -> Step<'a> {
        Step {
            segment: self.sequence,
            bytes: self.bytes,
            offset,
            header: Some(header),
            first: header.mark,
            last: header.mark,
            sight,
            verdict,
        }
    }

    fn missing(&self, offset: usize, first: Mark, last: Mark, after: After) -> Step<'a> {
        Step {
            segment: self.sequence,
            bytes: self.bytes,
            offset,
            header: None,
            first,
            last,
            sight: Sight::Missing,
            verdict: verdict(Sight::Missing, after),
        }
    }
}

impl<'a> Step<'a> {
    /// Each record of the block that holds, up to the first that does not.
    pub fn records(&self, mut tell: impl FnMut(&RecordAt<'a>)) {
        let Some(header) = self.header else { return };
        let (segment, bytes) = (self.segment, self.bytes);
        let hashed = self.sight == Sight::Whole;
        let mut tell = |offset, header| tell(&RecordAt { segment, offset, header, bytes });
        if hashed {
            each_header(bytes, self.offset, &header, |offset, record| {
                tell(offset, record);
                true
            });
        } else {
            each_record(bytes, self.offset, &header, tell);
        }
    }

    pub fn damage(&self) -> Damage {
        Damage {
            segment: self.segment,
            offset: self.offset as u64,
            first: self.first,
            last: self.last,
            sight: self.sight,
        }
    }
}

impl RecordAt<'_> {
    /// The body, shared and not copied.
    pub fn body(&self) -> Bytes {
        let start = self.offset + RECORD_HEADER_BYTES;
        self.bytes.slice(start..start + self.header.length)
    }
}

/// Walks the records of a block whose checksums hold; where it came to.
fn each_record(
    bytes: &[u8],
    offset: usize,
    block: &BlockHeader,
    mut tell: impl FnMut(usize, RecordHeader),
) -> usize {
    let seed = block.seed();
    each_header(bytes, offset, block, |at, record| {
        let holds = record.holds(&bytes[at..], seed);
        if holds {
            tell(at, record);
        }
        holds
    })
}

/// Walks the record headers of a block while `tell` says so; where it came to.
fn each_header(
    bytes: &[u8],
    offset: usize,
    block: &BlockHeader,
    mut tell: impl FnMut(usize, RecordHeader) -> bool,
) -> usize {
    let end = offset + block.used as usize;
    let mut at = offset + BLOCK_HEADER_BYTES;
    while let Some(record) = bytes.get(at..end).and_then(RecordHeader::decode) {
        if !tell(at, record) {
            break;
        }
        at += RECORD_HEADER_BYTES + record.length;
    }
    at
}

/// The block headers of this segment and incarnation, by place: each where the one before it ends,
/// or at the next sector that has one.
fn find_blocks(bytes: &[u8], sequence: u64, incarnation: u64) -> Vec<(usize, BlockHeader)> {
    let mut found = Vec::new();
    let mut offset = SECTOR_BYTES;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let header = BlockHeader::decode(rest).filter(|header| {
            header.segment == sequence
                && header.incarnation == incarnation
                && header.length as usize <= rest.len()
        });
        offset += header.map_or(SECTOR_BYTES, |header| {
            found.push((offset, header));
            header.length as usize
        });
    }
    found
}

/// The incarnation of the first block that was written for this segment; 0 when there is none.
fn first_incarnation(bytes: &[u8], sequence: u64) -> u64 {
    let sectors = bytes.chunks(SECTOR_BYTES).skip(1);
    let mut headers = sectors.filter_map(BlockHeader::decode);
    headers.find(|header| header.segment == sequence).map_or(0, |header| header.incarnation)
}
