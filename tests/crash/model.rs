//! What a journal's files should hold: random steps of a few partitions, done twice, once to the
//! journal and once here.

use bytes::Bytes;
use ringraft::{
    id::{Index, PartitionId, Position, Term},
    journal::{
        ConfState, Entry, Founding, HardState, Journal, Member, Origin, Recovered, Snapshot,
        SnapshotMeta, Tail, TailEntry,
    },
    prng::Prng,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Model {
    partitions: BTreeMap<PartitionId, Modelled>,
    gone: BTreeSet<PartitionId>,
    draws: u64,
}

#[derive(Default)]
struct Modelled {
    tail: Tail,
    commit: Position,
    writing: Option<(SnapshotMeta, Vec<Bytes>)>,
}

impl Model {
    pub fn from(found: &Recovered) -> Model {
        let modelled =
            |tail: &Tail| Modelled { tail: tail.clone(), commit: tail.hard.commit, writing: None };
        let partitions = found.partitions.iter().map(|(&id, tail)| (id, modelled(tail))).collect();
        Model { partitions, gone: found.left.iter().copied().collect(), draws: 1 << 40 }
    }

    pub fn tails(&self) -> BTreeMap<PartitionId, Tail> {
        let tails = self.partitions.iter().map(|(&id, partition)| (id, partition.tail()));
        tails.collect()
    }

    pub fn left(&self) -> Vec<PartitionId> {
        self.gone.iter().copied().collect()
    }

    /// One random thing, to the journal and to the model.
    pub fn step(&mut self, journal: &mut Journal, chance: &mut Prng) {
        self.draws += 1;
        let id = PartitionId(chance.between(1, 4) as u32);
        let holders: Vec<_> = journal.holders().collect();
        if journal.segments() > 6 && chance.chance(700) && !holders.is_empty() {
            let held = *chance.pick(&holders);
            return self
                .partitions
                .get_mut(&held)
                .expect("it is live")
                .snapshot(held, journal, chance, true);
        }
        let Some(partition) = self.partitions.get_mut(&id) else {
            let founding = founding(self.draws);
            assert!(journal.has_room_for(&founding));
            journal.founded(id, &founding);
            self.gone.remove(&id);
            let tail = Tail { founding, first: Position(1), ..Tail::default() };
            self.partitions.insert(id, Modelled { tail, ..Modelled::default() });
            return;
        };
        match chance.below(100) {
            0..55 => partition.append(id, journal, chance),
            55..75 => partition.state(id, journal, chance, self.draws),
            75..98 => partition.snapshot(id, journal, chance, false),
            _ => {
                journal.left(id);
                self.partitions.remove(&id);
                self.gone.insert(id);
            }
        }
    }
}

impl Modelled {
    fn tail(&self) -> Tail {
        let mut tail = self.tail.clone();
        let last = self.last();
        tail.hard.commit = Position(self.commit.0.clamp(tail.first.0 - 1, last.0));
        tail
    }

    fn last(&self) -> Position {
        Position(self.tail.first.0 + self.tail.entries.len() as u64 - 1)
    }

    fn append(&mut self, id: PartitionId, journal: &mut Journal, chance: &mut Prng) {
        let last = self.last().0 + 1;
        let back = if chance.chance(150) { chance.below(12) } else { 0 };
        // What a snapshot is being taken of is committed, and raft never truncates that.
        let committed = self.writing.as_ref().map_or(0, |(meta, _)| meta.position.0);
        let lowest = self.tail.first.0.max(committed + 1).min(last);
        let first = Position(last.saturating_sub(back).max(lowest));
        let run: Vec<TailEntry> = (0..chance.between(1, 12))
            .map(|_| {
                let bytes = *chance.pick(&[0, 1, 20, 100, 700, 3000, 9000]);
                let fill = chance.next_u64() as u8;
                let kind = chance.below(3) as u8;
                TailEntry { term: Term(chance.below(9)), kind, data: vec![fill; bytes].into() }
            })
            .collect();
        let entry = |e: &'_ TailEntry| (e.term, e.kind, e.data.clone());
        let owned: Vec<_> = run.iter().map(entry).collect();
        let borrowed =
            owned.iter().map(|(term, kind, data)| Entry { term: *term, kind: *kind, data });
        journal.entries(id, first, borrowed);
        self.tail.entries.truncate((first.0 - self.tail.first.0) as usize);
        self.tail.entries.extend(run);
    }

    fn state(&mut self, id: PartitionId, journal: &mut Journal, chance: &mut Prng, draw: u64) {
        let commit = Position(chance.between(self.tail.first.0 - 1, self.last().0));
        let hard = HardState { term: Term(draw), vote: chance.below(4), commit };
        let conf = chance.chance(200).then(|| conf(draw));
        journal.state(id, hard, conf.as_ref());
        self.tail.hard = hard;
        self.commit = commit;
        self.tail.conf = conf.or(self.tail.conf.take());
    }

    /// The next step of a snapshot, or all of one when somebody waits for it.
    fn snapshot(
        &mut self,
        id: PartitionId,
        journal: &mut Journal,
        chance: &mut Prng,
        all_of_it: bool,
    ) {
        loop {
            let Some((meta, chunks)) = &mut self.writing else {
                let meta = self.meta(chance, all_of_it);
                journal.snapshot_begin(id, meta.position);
                self.writing = Some((meta, Vec::new()));
                if all_of_it {
                    continue;
                }
                return;
            };
            if chance.chance(600) {
                let slice = vec![chance.next_u64() as u8; chance.below(9000) as usize];
                journal.snapshot_chunk(id, &slice);
                chunks.push(slice.into());
                if all_of_it {
                    continue;
                }
                return;
            }
            journal.snapshot_end(id, meta);
            if let Some((meta, chunks)) = self.writing.take() {
                self.complete(meta, chunks);
            }
            return;
        }
    }

    fn meta(&self, chance: &mut Prng, all_of_it: bool) -> SnapshotMeta {
        let (floor, last) = (self.tail.first.0 - 1, self.last().0);
        let installed = chance.chance(200);
        let (origin, position) = match installed {
            true => (Origin::Installed, last + chance.below(5)),
            false if all_of_it => (Origin::Taken, last),
            false => (Origin::Taken, chance.between(floor, last)),
        };
        SnapshotMeta {
            position: Position(position),
            term: Term(chance.below(9)),
            index: Index(chance.below(1000)),
            digest: chance.next_u64(),
            origin,
            conf: conf(position),
            members: founding(position).members,
        }
    }

    fn complete(&mut self, meta: SnapshotMeta, chunks: Vec<Bytes>) {
        let tail = &mut self.tail;
        let after = meta.position.0 + 1;
        match meta.origin {
            Origin::Taken => {
                let covered = after.saturating_sub(tail.first.0).min(tail.entries.len() as u64);
                tail.entries.drain(..covered as usize);
            }
            Origin::Installed => tail.entries.clear(),
        }
        tail.first = Position(after);
        tail.snapshot = Some(Snapshot { meta, chunks });
    }
}

fn founding(draw: u64) -> Founding {
    let member = |n: u64| Member {
        id: n,
        role: (draw % 3) as u8,
        host: format!("node-{n}.example"),
        port: 5679,
    };
    Founding { replica: draw, members: (1..=draw % 4).map(member).collect(), joins: draw % 2 == 1 }
}

fn conf(draw: u64) -> ConfState {
    ConfState {
        voters: (1..=draw % 5).collect(),
        learners: vec![draw],
        voters_outgoing: (0..draw % 2).collect(),
        learners_next: Vec::new(),
        auto_leave: draw.is_multiple_of(3),
    }
}
