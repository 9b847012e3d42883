//! The writer and recovery without crashes; those are in `tests/crash.rs`.

use super::*;
use crate::{
    id::{Index, NodeId, ShardId, Term},
    journal::{
        inspect::{Item, Says, inspect},
        recover::Verdict,
    },
};
use bytes::Bytes;

const OWNER: Owner = Owner { node: NodeId(1), shard: ShardId(0) };
const ONE: PartitionId = PartitionId(1);
const TWO: PartitionId = PartitionId(2);

#[test]
fn a_turn_is_one_block_and_the_largest_entry_fits_one() {
    let mut log = Log::new(Layout::default());
    let large = vec![7; JOURNAL_ENTRY_BYTES_MAX];
    log.journal.founded(ONE, &Founding::default());
    log.journal.founded(TWO, &Founding::default());
    log.journal.entries(ONE, Position(1), [entry(1, b"a"), entry(1, b"b"), entry(1, &large)]);
    log.journal.state(ONE, hard(1, 0), None);
    log.journal.entries(TWO, Position(1), [entry(1, b"c")]);
    assert_eq!(log.seal(), Mark(1));
    log.journal.durable(Mark(1), &mut Vec::new());
    log.journal.entries(ONE, Position(4), [entry(2, &large), entry(2, &large)]);
    assert_eq!(log.seal(), Mark(3), "two of the largest need two blocks");
    let found = log.recover();
    assert_eq!(found.partitions[&ONE].entries.len(), 5);
    assert_eq!(found.partitions[&ONE].entries[4].data, large);
    assert_eq!(found.partitions[&TWO].entries[0].data, "c");
}

#[test]
fn founding_asks_for_room_in_the_checkpoint() {
    let mut log = Log::new(SMALL);
    let member = Member { id: 1, role: 0, host: "h".repeat(200), port: 1 };
    let founding = Founding { replica: 1, members: vec![member; 8], joins: true };
    let mut founded = 0;
    while log.journal.has_room_for(&founding) {
        founded += 1;
        log.journal.founded(PartitionId(founded), &founding);
    }
    assert!(founded > 2, "room for {founded} partitions only");
    for turn in 1..100 {
        log.journal.state(ONE, hard(turn, 0), None);
        log.journal.snapshot_begin(ONE, Position(0));
        log.journal.snapshot_chunk(ONE, &[0; 20_000]);
        log.seal();
    }
    assert_eq!(log.recover().partitions.len(), founded as usize);
    log.journal.left(ONE);
    assert!(log.journal.has_room_for(&founding));
}

#[test]
fn a_slice_of_a_snapshot_lies_where_it_was_said() {
    let mut log = Log::new(SMALL);
    log.journal.founded(ONE, &Founding::default());
    log.journal.snapshot_begin(ONE, Position(0));
    let mut places = Vec::new();
    for number in 0..60u8 {
        let slice = vec![number + 1; 1000 + 300 * usize::from(number)];
        places.push((log.journal.snapshot_chunk(ONE, &slice), slice));
        if number % 3 == 0 {
            log.seal();
        }
    }
    log.seal();
    let segments = log.read();
    let last = places.last().map(|((segment, _), _)| *segment);
    assert!(last > Some(2), "they fill several segments");
    for ((sequence, offset), slice) in places {
        let segment = segments.iter().find(|segment| segment.sequence == sequence);
        let found = &segment.expect("it was written").bytes[offset as usize..];
        assert_eq!(found[..slice.len()], slice, "segment {sequence}, offset {offset}");
    }
}

#[test]
fn one_who_left_and_came_back_starts_empty() {
    let mut log = Log::new(SMALL);
    log.journal.founded(ONE, &Founding { replica: 1, ..Founding::default() });
    log.journal.entries(ONE, Position(1), [entry(1, b"old")]);
    log.journal.left(ONE);
    let mark = log.seal();
    assert_eq!(log.recover().left, [ONE]);
    log.journal.durable(mark, &mut Vec::new());
    let again = Founding { replica: 2, ..Founding::default() };
    log.journal.founded(ONE, &again);
    log.seal();
    let found = log.recover();
    let empty = Tail { founding: again, first: Position(1), ..Tail::default() };
    assert_eq!(found.partitions[&ONE], empty);
    assert_eq!(found.left, []);
}

#[test]
fn another_owner_and_a_newer_format_are_refused() {
    let mut log = Log::new(SMALL);
    log.seal();
    let other = Owner { node: NodeId(2), ..OWNER };
    let refused = recover(other, &log.read()).expect_err("another's");
    assert_eq!(refused, Refused::Foreign { segment: 1, owner: OWNER });
    assert_eq!(refused.to_string(), "segment-0000000000000001 belongs to node 1, shard 0");
    let header = log.files.get_mut(&2).expect("ordered ahead");
    header[8] = 9;
    let crc = crc32c::crc32c(&header[8..SECTOR_BYTES]);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    let refused = recover(OWNER, &log.read()).expect_err("newer");
    assert_eq!(refused, Refused::Newer { segment: 2, format: 9 });
}

#[test]
fn an_unreadable_segment_header_loses_nothing() {
    let mut log = Log::new(SMALL);
    log.journal.founded(ONE, &Founding::default());
    for position in 1..40 {
        log.journal.entries(ONE, Position(position), [entry(1, &[1; 4000])]);
        log.seal();
    }
    let whole = log.recover();
    for segment in log.files.keys().copied().collect::<Vec<_>>() {
        let header = log.files[&segment][..SECTOR_BYTES].to_vec();
        log.files.get_mut(&segment).expect("it")[20] ^= 1;
        let found = log.recover();
        assert_eq!(found.partitions, whole.partitions, "segment {segment}");
        assert_eq!(found.damage, []);
        log.files.get_mut(&segment).expect("it")[..SECTOR_BYTES].copy_from_slice(&header);
    }
}

#[test]
fn starts_that_write_nothing_pile_up_nothing() {
    let mut log = Log::new(SMALL);
    log.journal.founded(ONE, &Founding::default());
    log.seal();
    for _ in 0..20 {
        let found = log.recover();
        log.journal = Journal::resume(SMALL, OWNER, found.resume);
        log.seal();
        assert!(log.files.len() <= 3, "{:?}", log.files.keys());
    }
    assert_eq!(log.recover().partitions.len(), 1);
}

#[test]
fn everything_written_is_shown() {
    let mut log = Log::new(SMALL);
    let conf = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let (position, term, index) = (Position(2), Term(1), Index(9));
    let meta = SnapshotMeta {
        position,
        term,
        index,
        digest: 5,
        origin: Origin::Taken,
        conf: conf.clone(),
        members: Vec::new(),
    };
    log.journal.founded(ONE, &Founding { replica: 3, ..Founding::default() });
    log.journal.entries(ONE, Position(1), [entry(1, b"a"), entry(1, b"b")]);
    log.journal.state(ONE, hard(1, 2), Some(&conf));
    log.journal.snapshot_begin(ONE, position);
    log.journal.snapshot_chunk(ONE, b"slice");
    log.journal.snapshot_end(ONE, &meta);
    log.journal.left(ONE);
    log.seal();
    let (mut said, mut verdicts) = (Vec::new(), Vec::new());
    inspect(None, &log.read(), |item| match item {
        Item::Record { says, number, .. } => said.push((number, says)),
        Item::Block { verdict, .. } => verdicts.push(verdict),
        Item::Segment { header, .. } => assert!(header.is_some()),
    })
    .expect("ours");
    let entries = ["a", "b"].map(|data| (Term(1), 0, Bytes::from_static(data.as_bytes()))).to_vec();
    let wanted = [
        Says::Founded(Founding { replica: 3, ..Founding::default() }),
        Says::Entries { first: Position(1), entries },
        Says::State(hard(1, 2), Some(conf)),
        Says::SnapshotBegin(position),
        Says::SnapshotChunk(0, 5),
        Says::SnapshotEnd(meta, 1),
        Says::Left,
    ];
    assert_eq!(said, (1..).zip(wanted).collect::<Vec<_>>());
    assert_eq!(verdicts, [Verdict::Take, Verdict::End]);
}

#[test]
#[should_panic(expected = "was never sealed")]
fn nothing_is_durable_before_it_is_sealed() {
    let mut log = Log::new(SMALL);
    log.journal.founded(ONE, &Founding::default());
    log.journal.durable(Mark(1), &mut Vec::new());
}

const SMALL: Layout = Layout { segment_bytes: 128 << 10, block_bytes_max: 64 << 10 };

/// A journal and its files, every order carried out at once.
struct Log {
    journal: Journal,
    layout: Layout,
    files: BTreeMap<u64, Vec<u8>>,
}

impl Log {
    fn new(layout: Layout) -> Log {
        let journal = Journal::resume(layout, OWNER, Resume::fresh());
        Log { journal, layout, files: BTreeMap::new() }
    }

    fn seal(&mut self) -> Mark {
        let mut orders = Vec::new();
        let mark = self.journal.seal(&mut orders);
        for order in orders {
            match order {
                Order::Open { sequence, header } => {
                    let mut bytes = vec![0; self.layout.segment_bytes];
                    bytes[..SECTOR_BYTES].copy_from_slice(header.as_ref());
                    self.files.insert(sequence, bytes);
                }
                Order::Write(block) => {
                    let file = self.files.get_mut(&block.segment).expect("ordered before");
                    let offset = block.offset as usize;
                    file[offset..offset + block.bytes].copy_from_slice(block.as_bytes());
                }
                Order::Recycle { sequence } => drop(self.files.remove(&sequence)),
            }
        }
        mark
    }

    fn read(&self) -> Vec<SegmentBytes> {
        let files = self.files.iter();
        let segment = |(&sequence, bytes): (&u64, &Vec<u8>)| SegmentBytes {
            sequence,
            bytes: Bytes::copy_from_slice(bytes),
        };
        files.map(segment).collect()
    }

    fn recover(&self) -> Recovered {
        let found = recover(OWNER, &self.read()).expect("ours");
        assert!(found.faults.is_empty(), "{:?}", found.faults);
        found
    }
}

fn entry(term: u64, data: &[u8]) -> Entry<'_> {
    Entry { term: Term(term), kind: 0, data }
}

fn hard(term: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: 1, commit: Position(commit) }
}
