//! Which segments some partition still needs, and who is in the way of recycling the oldest.
//!
//! A segment is needed for entries after its partition's snapshot, for the chunks of that snapshot,
//! and for those of one being written. Everything else a partition has is repeated in the
//! checkpoint at each segment's start. What makes a segment needless (a snapshot's end, a
//! truncation, a leave, a checkpoint) counts only once its own block is durable; until then it
//! waits here as a release. Segments go in order, oldest first. Absent on purpose: files, and the
//! wish for a snapshot; the shard asks who is holding back and decides.

use crate::id::{Mark, PartitionId, Position};
use std::collections::{BTreeMap, VecDeque};

/// Something that stops mattering once a mark is durable.
#[derive(Debug)]
pub(super) enum Release {
    /// A complete snapshot at this position stands for all before it.
    Snapshot { partition: PartitionId, position: Position, began: u64, voids_before: Option<u64> },
    /// Entries from `first` in segments before `segment` were written anew.
    Truncated { partition: PartitionId, first: Position, segment: u64 },
    /// A partition is gone that needed this.
    Left(Need),
    /// All that is needed of small things stands at the start of this segment.
    Checkpoint(u64),
}

/// What one partition needs.
#[derive(Clone, Default, Debug)]
pub(super) struct Need {
    /// For each segment with entries of it, ascending, the highest position there.
    runs: VecDeque<(u64, Position)>,
    /// Segments in which complete snapshots begin: the durable one, then those not yet known to be.
    snapshots: VecDeque<u64>,
    /// The segment in which the unfinished snapshot begins.
    writing: Option<u64>,
    /// The position of the durable snapshot.
    position: Position,
    /// Everything from this segment on is kept for those who come to look at the damage.
    held: Option<u64>,
}

impl Need {
    /// Holds everything from `segment` on.
    pub fn held(segment: u64) -> Need {
        Need { held: Some(segment), ..Need::default() }
    }

    /// A run of entries was written. True when it superseded entries of an earlier segment.
    pub fn wrote(&mut self, segment: u64, first: Position, last: Position) -> bool {
        assert!(first <= last, "a run from {first} to {last}");
        let newest = self.runs.back_mut().filter(|(newest, _)| *newest == segment);
        match newest {
            Some((_, highest)) => *highest = last,
            None => self.runs.push_back((segment, last)),
        }
        self.runs.iter().any(|&(other, highest)| other < segment && highest >= first)
    }

    /// The superseding run is durable.
    pub fn truncated(&mut self, segment: u64, first: Position) {
        for (other, highest) in &mut self.runs {
            if *other < segment && *highest >= first {
                *highest = Position(first.0 - 1);
            }
        }
        self.prune();
    }

    pub fn snapshot_began(&mut self, segment: u64) {
        self.writing = Some(segment);
    }

    /// Whoever was writing a snapshot is gone.
    pub fn snapshot_abandoned(&mut self) {
        self.writing = None;
    }

    /// The snapshot is complete; where it began.
    pub fn snapshot_ended(&mut self) -> Option<u64> {
        let began = self.writing.take()?;
        self.snapshots.push_back(began);
        Some(began)
    }

    /// The end of the snapshot that began there is durable.
    pub fn snapshot_durable(&mut self, began: u64, position: Position, voids: Option<u64>) {
        while self.snapshots.front().is_some_and(|&front| front < began) {
            self.snapshots.pop_front();
        }
        // Two snapshots may begin in one segment; then the first of them is the one released.
        while self.snapshots.len() > 1 && self.snapshots[1] == began {
            self.snapshots.pop_front();
        }
        if let Some(segment) = voids {
            while self.runs.front().is_some_and(|&(front, _)| front < segment) {
                self.runs.pop_front();
            }
        }
        self.position = position;
        self.prune();
    }

    /// The oldest segment it needs.
    pub fn oldest(&self) -> Option<u64> {
        let run = self.runs.front().map(|&(segment, _)| segment);
        let snapshot = self.snapshots.front().copied();
        [run, snapshot, self.writing, self.held].into_iter().flatten().min()
    }

    fn prune(&mut self) {
        while self.runs.front().is_some_and(|&(_, highest)| highest <= self.position) {
            self.runs.pop_front();
        }
    }
}

/// The segments that exist and what keeps each.
#[derive(Default, Debug)]
pub(super) struct Retain {
    segments: VecDeque<u64>,
    needs: BTreeMap<PartitionId, Need>,
    releases: VecDeque<(Mark, Release)>,
    checkpoint: u64,
}

impl Retain {
    pub fn new(segments: VecDeque<u64>, needs: BTreeMap<PartitionId, Need>) -> Retain {
        Retain { segments, needs, releases: VecDeque::new(), checkpoint: 0 }
    }

    pub fn opened(&mut self, segment: u64) {
        assert!(self.segments.back().is_none_or(|&last| last < segment), "{segment} opened late");
        self.segments.push_back(segment);
    }

    pub fn need(&mut self, partition: PartitionId) -> &mut Need {
        self.needs.entry(partition).or_default()
    }

    /// Something will be needless once `mark` is durable.
    pub fn once(&mut self, mark: Mark, release: Release) {
        assert!(self.releases.back().is_none_or(|(last, _)| *last <= mark), "{mark} goes back");
        self.releases.push_back((mark, release));
    }

    /// The partition is gone once `mark` is durable. It may be founded again before that, so what
    /// it needed and what waited for it part from its name here.
    pub fn left(&mut self, partition: PartitionId, mark: Mark) {
        self.releases.retain(|(_, release)| match release {
            Release::Snapshot { partition: other, .. }
            | Release::Truncated { partition: other, .. } => *other != partition,
            Release::Left(_) | Release::Checkpoint(_) => true,
        });
        let need = self.needs.remove(&partition).unwrap_or_default();
        self.once(mark, Release::Left(need));
    }

    /// The journal is durable up to `mark`: appends the segments nobody needs any more, in order.
    pub fn durable(&mut self, mark: Mark, needless: &mut Vec<u64>) {
        let mut changed = false;
        while self.releases.front().is_some_and(|(at, _)| *at <= mark) {
            if let Some((_, release)) = self.releases.pop_front() {
                self.apply(release);
                changed = true;
            }
        }
        if !changed {
            return;
        }
        let leaving = self.releases.iter().filter_map(|(_, release)| match release {
            Release::Left(need) => Some(need),
            Release::Snapshot { .. } | Release::Truncated { .. } | Release::Checkpoint(_) => None,
        });
        let needed = self.needs.values().chain(leaving).filter_map(Need::oldest).min();
        let floor = needed.unwrap_or(u64::MAX).min(self.checkpoint);
        while self.segments.front().is_some_and(|&oldest| oldest < floor) {
            needless.extend(self.segments.pop_front());
        }
    }

    /// The segments that exist, oldest first.
    pub fn segments(&self) -> &VecDeque<u64> {
        &self.segments
    }

    /// The partitions that need the oldest segment there is.
    pub fn holders(&self) -> impl Iterator<Item = PartitionId> {
        let oldest = self.segments.front().copied().unwrap_or(0);
        let holds = move |need: &Need| need.oldest().is_some_and(|segment| segment <= oldest);
        self.needs.iter().filter(move |(_, need)| holds(need)).map(|(&partition, _)| partition)
    }

    fn apply(&mut self, release: Release) {
        match release {
            Release::Snapshot { partition, position, began, voids_before } => {
                self.need(partition).snapshot_durable(began, position, voids_before);
            }
            Release::Truncated { partition, first, segment } => {
                self.need(partition).truncated(segment, first);
            }
            Release::Left(_) => {}
            Release::Checkpoint(segment) => self.checkpoint = segment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PartitionId = PartitionId(1);
    const TWO: PartitionId = PartitionId(2);

    #[test]
    fn a_segment_goes_when_the_snapshot_and_the_checkpoint_after_it_are_durable() {
        let mut retain = Retain::new(VecDeque::from([1, 2, 3]), BTreeMap::new());
        retain.need(ONE).wrote(1, Position(1), Position(10));
        retain.need(TWO).wrote(1, Position(1), Position(5));
        retain.need(ONE).wrote(2, Position(11), Position(20));
        retain.once(Mark(3), Release::Checkpoint(2));
        assert_eq!(snapshot(&mut retain, ONE, 2, 10, 4), [0u64; 0]);
        assert_eq!(durable(&mut retain, 4), [0u64; 0]);
        assert_eq!(retain.holders().collect::<Vec<_>>(), [TWO]);
        assert_eq!(snapshot(&mut retain, TWO, 2, 5, 5), [0u64; 0]);
        assert_eq!(durable(&mut retain, 5), [1]);
        assert_eq!(retain.holders().collect::<Vec<_>>(), [ONE, TWO]);
    }

    #[test]
    fn superseded_entries_hold_nothing_once_that_is_durable() {
        let mut retain = Retain::new(VecDeque::from([1, 2, 3]), BTreeMap::new());
        retain.need(ONE).wrote(1, Position(1), Position(1000));
        assert!(retain.need(ONE).wrote(2, Position(5), Position(9)));
        retain.once(Mark(2), Release::Truncated { partition: ONE, first: Position(5), segment: 2 });
        retain.once(Mark(2), Release::Checkpoint(2));
        snapshot(&mut retain, ONE, 2, 4, 3);
        assert_eq!(durable(&mut retain, 1), [0u64; 0]);
        assert_eq!(durable(&mut retain, 3), [1]);
    }

    #[test]
    fn an_unfinished_snapshot_and_one_not_durable_hold_their_segments() {
        let mut retain = Retain::new(VecDeque::from([1, 2, 3]), BTreeMap::new());
        snapshot(&mut retain, ONE, 1, 4, 1);
        retain.need(ONE).snapshot_began(2);
        retain.once(Mark(2), Release::Checkpoint(3));
        assert_eq!(durable(&mut retain, 2), [0u64; 0]);
        let began = retain.need(ONE).snapshot_ended().unwrap_or(0);
        retain.need(ONE).snapshot_began(3);
        let position = Position(9);
        let release = Release::Snapshot { partition: ONE, position, began, voids_before: None };
        retain.once(Mark(4), release);
        assert_eq!(durable(&mut retain, 3), [0u64; 0]);
        assert_eq!(durable(&mut retain, 4), [1]);
        assert_eq!(retain.need(ONE).oldest(), Some(2));
    }

    fn snapshot(
        retain: &mut Retain,
        partition: PartitionId,
        segment: u64,
        position: u64,
        mark: u64,
    ) -> Vec<u64> {
        retain.need(partition).snapshot_began(segment);
        let began = retain.need(partition).snapshot_ended().unwrap_or(0);
        let position = Position(position);
        let release = Release::Snapshot { partition, position, began, voids_before: None };
        retain.once(Mark(mark), release);
        durable(retain, mark - 1)
    }

    fn durable(retain: &mut Retain, mark: u64) -> Vec<u64> {
        let mut needless = Vec::new();
        retain.durable(Mark(mark), &mut needless);
        needless
    }
}
