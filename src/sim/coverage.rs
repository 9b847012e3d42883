//! What happened in a run, counted: a simulator that never meets a case says nothing about it.
//!
//! The world and its clients count where it happens; `tests/sim.rs` demands of so many seeds that
//! every line of the table is met in so many of their worlds. Absent on purpose: whether what
//! happened was right; that is `check.rs`.

use std::fmt;

/// What a run is for. Each is counted where a node or a client meets it, not where it is planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A call went on to the node that leads.
    Forwarded,
    /// A bundle was lost between nodes, with whatever calls and answers were in it.
    BundleLost,
    /// A shard noticed that some earlier post of a peer had not come.
    PostMissed,
    /// A node became a member.
    Joined,
    /// A node left, or was dismissed.
    Left,
    /// A witness became a member.
    WitnessJoined,
    /// A leader went where the operator wanted.
    Transferred,
    /// A node told to end handed over what it led before it ended.
    HandedOver,
    /// A node lost everything on its disks.
    Destroyed,
    /// A node lost everything on its disks and came back under its id; its peers refuse it.
    Wiped,
    /// A node that lost everything was replaced by another.
    Replaced,
    /// A shard started from records on its disk.
    Recovered,
    /// A crash tore a block: some of its sectors are written.
    Torn,
    /// A snapshot arrived.
    Snapshot,
    /// A snapshot arrived where nothing was applied since the one before it.
    SnapshotAgain,
    /// Bundles of a format older than the sender's newest were read.
    OlderFormat,
    /// Bundles with fields that their reader does not know were read.
    UnknownField,
    /// A node started with other formats than before.
    Upgraded,
    /// A link was refused: no format in common, or a node with other data.
    LinkRefused,
    /// An event stream went on on another call than before.
    Resumed,
    /// A session ended because its client fell silent.
    SessionExpired,
    /// An entry ended because its time was over.
    EntryExpired,
    /// A call ended by its deadline.
    Deadline,
    /// A disk had no room for more segments.
    DiskFull,
    /// A client was told that there is no room.
    NoRoom,
    /// A wall clock was set.
    ClockStep,
}

impl Seen {
    /// All of them, in their order.
    pub const ALL: [Seen; 26] = [
        Seen::Forwarded,
        Seen::BundleLost,
        Seen::PostMissed,
        Seen::Joined,
        Seen::Left,
        Seen::WitnessJoined,
        Seen::Transferred,
        Seen::HandedOver,
        Seen::Destroyed,
        Seen::Wiped,
        Seen::Replaced,
        Seen::Recovered,
        Seen::Torn,
        Seen::Snapshot,
        Seen::SnapshotAgain,
        Seen::OlderFormat,
        Seen::UnknownField,
        Seen::Upgraded,
        Seen::LinkRefused,
        Seen::Resumed,
        Seen::SessionExpired,
        Seen::EntryExpired,
        Seen::Deadline,
        Seen::DiskFull,
        Seen::NoRoom,
        Seen::ClockStep,
    ];
}

/// How often each was met, in one run or in many.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Coverage {
    times: [u64; Seen::ALL.len()],
    worlds: [u64; Seen::ALL.len()],
}

impl Coverage {
    /// It happened once more.
    pub fn note(&mut self, what: Seen) {
        self.add(what, 1);
    }

    /// It happened so many times more.
    pub fn add(&mut self, what: Seen, times: u64) {
        self.times[what as usize] += times;
    }

    /// Adds what another world met.
    pub fn gather(&mut self, world: &Coverage) {
        for place in 0..Seen::ALL.len() {
            self.times[place] += world.times[place];
            self.worlds[place] += u64::from(world.times[place] > 0);
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn times(&self, what: Seen) -> u64 {
        self.times[what as usize]
    }

    /// In how many of the worlds that were gathered it happened.
    #[must_use]
    pub fn worlds(&self, what: Seen) -> u64 {
        self.worlds[what as usize]
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in Seen::ALL {
            let (times, worlds) = (self.times(what), self.worlds(what));
            writeln!(f, "  {times:>9} in {worlds:>6} worlds: {what:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_and_worlds_are_counted_once() {
        for (place, what) in Seen::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, place, "{what:?}");
        }
        let (mut world, mut all) = (Coverage::default(), Coverage::default());
        world.add(Seen::Torn, 3);
        all.gather(&world);
        all.gather(&world);
        assert_eq!((all.times(Seen::Torn), all.worlds(Seen::Torn)), (6, 2));
        assert_eq!((all.times(Seen::Joined), all.worlds(Seen::Joined)), (0, 0));
    }
}
