//! Crashes of a journal: whatever a disk may have left, recovery finds a state that was.
//!
//! A seeded run of turns is written to files in memory, with up to four blocks in flight. At every
//! point of it the process "ends": each block in flight is lost, whole, or torn at any sector, over
//! whatever the recycled file held before. What is found must hold everything reported durable,
//! nothing invented, in order; and a journal resumed from it must stand the same test again.

#[path = "crash/model.rs"]
mod model;

use bytes::Bytes;
use model::Model;
use ringraft::{
    id::{Mark, NodeId, PartitionId, ShardId},
    journal::{
        Journal, Layout, Order, Owner, Recovered, Resume, SegmentBytes, Tail,
        inspect::{Item, inspect},
        recover,
        recover::{After, Sight, Verdict, verdict},
    },
    prng::Prng,
};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    fs,
};

const SECTOR: usize = 4096;
const OWNER: Owner = Owner { node: NodeId(3), shard: ShardId(1) };
const LAYOUT: Layout = Layout { segment_bytes: 64 << 10, block_bytes_max: 32 << 10 };
const IN_FLIGHT_MAX: usize = 4;

#[test]
fn after_every_turn_the_files_hold_what_was_written() {
    for seed in 0..12 {
        let mut run = Run::new(seed);
        for turn in 0..150 {
            run.turn();
            let found = run.files.recover();
            let context = format!("seed {seed} turn {turn}");
            assert_eq!(found.damage, [], "{context}");
            assert_eq!(found.cut, None, "{context}");
            assert!(found.faults.is_empty(), "{context}: {:?}", found.faults);
            assert!(found.roster_whole, "{context}");
            assert_same(&found.partitions, &run.model.tails(), &context);
            assert_eq!(found.left, run.model.left(), "{context}");
        }
        assert!(run.recycled > 3, "seed {seed} recycled {} segments only", run.recycled);
        assert!(run.files.segments.len() < 40, "seed {seed}: segments pile up");
    }
}

#[test]
fn every_crash_leaves_a_state_that_was() {
    for seed in 100..104 {
        let mut run = Run::new(seed);
        let mut chance = Prng::new(seed);
        for life in 0..4 {
            for turn in 0..25 {
                run.turn();
                for (n, fates) in fates(&run.in_flight, &mut chance).into_iter().enumerate() {
                    let context = format!("seed {seed} life {life} turn {turn} case {n} {fates:?}");
                    run.check_crash(&fates, &context);
                }
            }
            let fates = random_fates(&run.in_flight, &mut chance);
            run.crash(&fates, &format!("seed {seed} life {life} {fates:?}"));
        }
    }
}

#[test]
fn lives_follow_each_other_through_crashes() {
    for seed in 200..230 {
        let mut run = Run::new(seed);
        let mut chance = Prng::new(seed);
        for life in 0..20 {
            for _ in 0..chance.below(12) {
                run.turn();
            }
            let fates = random_fates(&run.in_flight, &mut chance);
            run.crash(&fates, &format!("seed {seed} life {life} {fates:?}"));
        }
    }
}

#[test]
fn damage_in_a_durable_block_is_named_and_never_silent() {
    for seed in 300..312 {
        let mut run = Run::new(seed);
        for _ in 0..60 {
            run.turn();
        }
        run.settle();
        let clean = run.files.recover();
        let mut blocks = Vec::new();
        inspect(None, &run.files.read(), |item| {
            if let Item::Block { segment, offset, header: Some(header), verdict, .. } = item
                && verdict == Verdict::Take
            {
                blocks.push((segment, offset, header));
            }
        })
        .expect("a clean journal");
        let vouched = blocks.iter().map(|(_, _, header)| header.durable).max().expect("blocks");
        let mut chance = Prng::new(seed);
        for &(segment, offset, header) in blocks.iter().filter(|(_, _, h)| h.mark <= vouched) {
            let at = offset + chance.below(u64::from(header.used));
            let context = format!("seed {seed} segment {segment} block {offset} byte {at}");
            let mut files = run.files.clone();
            let bytes = files.segments.get_mut(&segment).expect("the segment");
            bytes[at as usize] ^= 1 << chance.below(8);
            let found = files.recover();
            let damage = found.damage.first().unwrap_or_else(|| panic!("unnoticed: {context}"));
            assert_eq!((damage.segment, damage.offset), (segment, offset), "{context}");
            assert_eq!(found.damage.len(), 1, "{context}: {:?}", found.damage);
            assert_eq!(found.cut, None, "{context}");
            for (partition, tail) in &clean.partitions {
                match (found.partitions.get(partition), found.faults.get(partition)) {
                    (Some(same), None) => assert_eq!(same, tail, "{context} {partition}"),
                    (None, Some(_)) => {}
                    (None, None) if !found.roster_whole => {}
                    other => panic!("{context} {partition}: {other:?}"),
                }
            }
            stays_faulty_until_left(files, &found, &context);
        }
    }
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    for seed in 400..440 {
        let mut chance = Prng::new(seed);
        let mut run = Run::new(seed);
        for _ in 0..30 {
            run.turn();
        }
        for _ in 0..25 {
            let mut files = run.files.clone();
            for _ in 0..chance.between(1, 8) {
                files.mutate(&mut chance);
            }
            let segments = files.read();
            if let Ok(found) = recover(OWNER, &segments) {
                let mut journal = Journal::resume(LAYOUT, OWNER, found.resume);
                journal.seal(&mut Vec::new());
            }
            drop(inspect(None, &segments, |_| {}));
        }
    }
}

#[test]
fn the_table_of_verdicts() {
    let mut table = String::from(
        "What recovery does with the place where a block should be, by what it sees there and\n\
         what comes after it.\n\n",
    );
    for sight in [Sight::Whole, Sight::Broken, Sight::Missing, Sight::Stale] {
        for after in [After::Nothing, After::InFlight, After::Vouched] {
            let (sight_name, after_name) = (format!("{sight:?}"), format!("{after:?}"));
            let becomes = verdict(sight, after);
            writeln!(table, "{sight_name:8} {after_name:9} {becomes:?}").expect("a string");
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/journal/verdict.table");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, &table).expect("the golden file can be written");
    }
    let golden = fs::read_to_string(path).expect("the golden file; UPDATE=1 writes it");
    assert_eq!(golden, table, "UPDATE=1 rewrites {path}");
}

/// A partition found damaged is found damaged again by the next start, until it leaves.
fn stays_faulty_until_left(mut files: Files, found: &Recovered, context: &str) {
    let faulty: Vec<_> = found.faults.keys().copied().collect();
    let mut journal = Journal::resume(LAYOUT, OWNER, files.recover().resume);
    let mut orders = Vec::new();
    for (&partition, tail) in &found.partitions {
        journal.state(partition, tail.hard, None);
    }
    let mark = journal.seal(&mut orders);
    files.obey_all(orders.drain(..));
    journal.durable(mark, &mut orders);
    files.obey_all(orders.drain(..));
    let again = files.recover();
    assert_eq!(again.faults.keys().copied().collect::<Vec<_>>(), faulty, "{context}");
    assert_eq!(again.partitions, found.partitions, "{context}");
    for &partition in &faulty {
        journal.left(partition);
    }
    journal.seal(&mut orders);
    files.obey_all(orders);
    let last = files.recover();
    assert!(last.faults.is_empty(), "{context}: {:?}", last.faults);
    assert_eq!(last.partitions, found.partitions, "{context}");
}

// ---- What may become of blocks in flight ----------------------------------------------------

/// For each block in flight: which of its sectors reached the disk.
type Fates = Vec<Vec<bool>>;

fn fates(in_flight: &VecDeque<Flying>, chance: &mut Prng) -> Vec<Fates> {
    let sectors: Vec<usize> = in_flight.iter().map(|block| block.bytes.len() / SECTOR).collect();
    let all = |whole| sectors.iter().map(|&n| vec![whole; n]).collect::<Fates>();
    let mut cases = vec![all(true)];
    for lost in 0..sectors.len() {
        let mut prefix = all(true);
        prefix[lost..].iter_mut().for_each(|block| block.fill(false));
        cases.push(prefix);
        for cut in 0..=sectors[lost] {
            let (mut head, mut tail) = (all(true), all(true));
            head[lost][cut..].fill(false);
            tail[lost][..cut].fill(false);
            cases.extend([head, tail]);
        }
    }
    cases.extend((0..6).map(|_| random_fates(in_flight, chance)));
    cases
}

fn random_fates(in_flight: &VecDeque<Flying>, chance: &mut Prng) -> Fates {
    let each = in_flight.iter().map(|block| {
        let survive = *chance.pick(&[0, 500, 900, 1000]);
        (0..block.bytes.len() / SECTOR).map(|_| chance.chance(survive)).collect()
    });
    each.collect()
}

// ---- Files in memory ------------------------------------------------------------------------

#[derive(Clone, Default)]
struct Files {
    segments: BTreeMap<u64, Vec<u8>>,
    spares: Vec<Vec<u8>>,
}

/// A block on its way.
struct Flying {
    mark: Mark,
    segment: u64,
    offset: usize,
    bytes: Vec<u8>,
}

impl Files {
    /// Carries an order out at once.
    fn obey(&mut self, order: &Order) {
        match order {
            Order::Open { sequence, header } => {
                let mut bytes = self.spares.pop().unwrap_or_else(|| vec![0; LAYOUT.segment_bytes]);
                bytes[..SECTOR].copy_from_slice(&header.as_ref()[..SECTOR]);
                assert!(self.segments.insert(*sequence, bytes).is_none(), "{sequence} exists");
            }
            Order::Write(block) => {
                let segment = self.segments.get_mut(&block.segment).expect("an open segment");
                let offset = block.offset as usize;
                segment[offset..offset + block.bytes].copy_from_slice(block.as_bytes());
            }
            Order::Recycle { sequence } => {
                self.spares.push(self.segments.remove(sequence).expect("a segment"));
            }
        }
    }

    fn obey_all(&mut self, orders: impl IntoIterator<Item = Order>) {
        orders.into_iter().for_each(|order| self.obey(&order));
    }

    fn read(&self) -> Vec<SegmentBytes> {
        let segments = self.segments.iter();
        segments
            .map(|(&sequence, bytes)| SegmentBytes { sequence, bytes: Bytes::from(bytes.clone()) })
            .collect()
    }

    fn recover(&self) -> Recovered {
        recover(OWNER, &self.read()).expect("segments of this owner")
    }

    fn mutate(&mut self, chance: &mut Prng) {
        let sequences: Vec<u64> = self.segments.keys().copied().collect();
        let sequence = *chance.pick(&sequences);
        let other = self.segments[chance.pick(&sequences)].clone();
        let bytes = self.segments.get_mut(&sequence).expect("a segment");
        if bytes.is_empty() {
            return;
        }
        let at = chance.below(bytes.len() as u64) as usize;
        let near = at / SECTOR * SECTOR + chance.below(200) as usize;
        let length = (chance.below(9000) as usize).min(bytes.len() - at);
        match chance.below(7) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 | 2 => bytes[near.min(at)] = chance.next_u64() as u8,
            3 => bytes[at..at + length].fill(0),
            4 => bytes.truncate(at),
            5 => drop(self.segments.remove(&sequence).filter(|_| sequences.len() == 1)),
            _ => {
                let end = (at + length).min(other.len()).max(at.min(other.len()));
                let start = at.min(other.len());
                bytes[start..end].copy_from_slice(&other[start..end]);
            }
        }
        if self.segments.is_empty() {
            self.segments.insert(sequence, Vec::new());
        }
    }
}

// ---- A run of turns -------------------------------------------------------------------------

/// A journal, the files it is written to, and what they should hold.
struct Run {
    chance: Prng,
    journal: Journal,
    /// All blocks written, those in flight too.
    files: Files,
    /// The files as they were before each block in flight.
    in_flight: VecDeque<Flying>,
    /// What lay under each block in flight before it.
    under: VecDeque<Vec<u8>>,
    model: Model,
    /// What was there at each mark that a crash may end at.
    then: BTreeMap<Mark, BTreeMap<PartitionId, Tail>>,
    recycled: usize,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut run = Run {
            chance: Prng::new(seed),
            journal: Journal::resume(LAYOUT, OWNER, Resume::fresh()),
            files: Files::default(),
            in_flight: VecDeque::new(),
            under: VecDeque::new(),
            model: Model::default(),
            then: BTreeMap::new(),
            recycled: 0,
        };
        run.then.insert(Mark(0), BTreeMap::new());
        run.seal();
        run
    }

    fn turn(&mut self) {
        for _ in 0..self.chance.between(1, 5) {
            self.model.step(&mut self.journal, &mut self.chance);
        }
        self.seal();
        let keep = self.chance.below(IN_FLIGHT_MAX as u64 + 1) as usize;
        self.report(keep);
    }

    /// Everything in flight arrives, and one more block says so.
    fn settle(&mut self) {
        self.report(0);
        let live = self.model.tails().into_iter().next();
        let (partition, tail) = live.expect("a partition");
        self.journal.state(partition, tail.hard, None);
        self.seal();
        self.report(0);
    }

    /// Hands the turn's orders to the files; no more than four blocks stay in flight.
    fn seal(&mut self) {
        let mut orders = Vec::new();
        let mark = self.journal.seal(&mut orders);
        assert_eq!(mark, self.journal.recorded());
        for order in orders {
            if let Order::Write(block) = &order {
                self.report(IN_FLIGHT_MAX - 1);
                let (segment, offset) = (block.segment, block.offset as usize);
                let bytes = block.as_bytes().to_vec();
                let old = &self.files.segments[&segment][offset..offset + bytes.len()];
                self.under.push_back(old.to_vec());
                self.in_flight.push_back(Flying { mark: block.mark, segment, offset, bytes });
            }
            self.files.obey(&order);
            match order {
                Order::Write(block) => {
                    self.then.insert(block.mark, self.files.recover().partitions);
                    self.journal.recycle(block.buffer);
                }
                Order::Open { .. } | Order::Recycle { .. } => {}
            }
        }
    }

    /// All but the last `keep` blocks in flight are reported durable.
    fn report(&mut self, keep: usize) {
        let mut durable = None;
        while self.in_flight.len() > keep {
            durable = self.in_flight.pop_front().map(|block| block.mark);
            self.under.pop_front();
        }
        let Some(mark) = durable else { return };
        let mut orders = Vec::new();
        self.journal.durable(mark, &mut orders);
        self.recycled += orders.len();
        self.files.obey_all(orders);
        self.then.retain(|&at, _| at >= mark);
    }

    /// The files after a crash with these fates.
    fn crashed(&self, fates: &Fates) -> Files {
        let mut files = self.files.clone();
        for ((block, under), fate) in self.in_flight.iter().zip(&self.under).zip(fates) {
            let segment = files.segments.get_mut(&block.segment).expect("not recycled in flight");
            for (n, reached) in fate.iter().enumerate() {
                let from = if *reached { &block.bytes } else { under };
                let (start, end) = (n * SECTOR, (n + 1) * SECTOR);
                segment[block.offset + start..block.offset + end]
                    .copy_from_slice(&from[start..end]);
            }
        }
        files
    }

    fn check_crash(&self, fates: &Fates, context: &str) -> (Files, Recovered) {
        let files = self.crashed(fates);
        let found = files.recover();
        let kept = found.resume.kept();
        assert_eq!(found.damage, [], "{context}");
        assert!(found.faults.is_empty(), "{context}: {:?}", found.faults);
        assert!(kept >= self.journal.durable_mark(), "{context}: {kept} loses durable blocks");
        assert!(kept <= self.journal.recorded(), "{context}: {kept} was never written");
        let whole = fates.iter().take_while(|fate| fate.iter().all(|reached| *reached)).count();
        assert!(kept.0 >= self.journal.durable_mark().0 + whole as u64, "{context}: {kept}");
        let then = self.then.get(&kept).unwrap_or_else(|| panic!("{context}: mark {kept}"));
        assert_same(&found.partitions, then, context);
        (files, found)
    }

    /// The process ends, and starts again from what is left.
    fn crash(&mut self, fates: &Fates, context: &str) {
        let (files, found) = self.check_crash(fates, context);
        self.files = files;
        self.in_flight.clear();
        self.under.clear();
        self.model = Model::from(&found);
        self.then.clear();
        self.then.insert(found.resume.kept(), found.partitions);
        self.journal = Journal::resume(LAYOUT, OWNER, found.resume);
        self.seal();
    }
}

fn assert_same(
    found: &BTreeMap<PartitionId, Tail>,
    wanted: &BTreeMap<PartitionId, Tail>,
    context: &str,
) {
    let keys = |tails: &BTreeMap<PartitionId, Tail>| tails.keys().copied().collect::<Vec<_>>();
    assert_eq!(keys(found), keys(wanted), "{context}");
    for (partition, tail) in wanted {
        let other = &found[partition];
        let brief = |tail: &Tail| {
            let snapshot = tail.snapshot.as_ref().map(|snapshot| snapshot.meta.position);
            (tail.first, tail.entries.len(), tail.hard, snapshot)
        };
        assert_eq!(brief(other), brief(tail), "{context} partition {partition}");
        assert!(other == tail, "{context} partition {partition}: other bytes");
    }
}
