//! What a run is to do, worked out once: who connects to what, which sessions there are, what they
//! work on. Pure values; every thread of the generator reads the same plan.

use std::net::SocketAddr;
use std::time::Duration;

use super::arrival::Pace;
use super::ask::Thing;
use super::keys::Distribution;
use super::speech::Speech;
use crate::id::Kind;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workload {
    /// Increments.
    Counter,
    /// Puts.
    MapWrite,
    /// Gets.
    MapRead,
    /// A mix of YCSB.
    MapMixed(Mix),
    /// Everybody wants the same lock.
    LockContended,
    /// Everybody has a lock of his own.
    LockFree,
    /// Candidates come and go.
    ElectionChurn,
    /// Sessions are opened, used once and closed.
    SessionChurn,
    /// One map, written by some and heard by many.
    WatchFanout,
}

/// The mixes of YCSB's core workloads that a map can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Mix {
    A,
    B,
    C,
    F,
}

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is done.
    pub workload: Workload,
    /// In whose words.
    pub speech: Speech,
    /// Nodes; connections go around them.
    pub addresses: Vec<SocketAddr>,
    /// The ids of the partitions that are used.
    pub partitions: Vec<u32>,
    /// Connections in all.
    pub connections: usize,
    /// Threads that share them.
    pub threads: usize,
    /// What sets the pace.
    pub pace: Pace,
    /// How long is measured.
    pub duration: Duration,
    /// How long before that is not.
    pub warmup: Duration,
    /// How large values are.
    pub value_bytes: usize,
    /// How many keys, counters, locks or elections.
    pub keys: u64,
    /// How keys are drawn.
    pub distribution: Distribution,
    /// Where every draw comes from.
    pub seed: u64,
    /// How long one call is asked again before it counts as unanswered.
    pub patience: Duration,
    /// How long the server keeps what a silent session holds.
    pub session_timeout: Duration,
    /// Whether answers are judged. Those of an echo are not.
    pub is_checked: bool,
    /// What the names of the run's primitives begin with; no other run has it.
    pub name: String,
    /// Who asks, sorted by thread.
    pub lanes: Vec<Lane>,
    /// What is worked on.
    pub things: Vec<Thing>,
}

/// One session, and the connection that it speaks on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lane {
    /// Its thread.
    pub thread: usize,
    /// Its connection, among those of all threads.
    pub line: usize,
    /// The place of its partition in `Plan::partitions`.
    pub part: usize,
    /// What it is for.
    pub role: Role,
}

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It makes the calls that are measured.
    Worker,
    /// It is opened and closed by the workload itself.
    Churner,
    /// It looks at the results of churners.
    Keeper,
    /// It listens.
    Listener,
}

impl Workload {
    /// All of them, with the mixed one as A.
    pub const ALL: [Workload; 9] = [
        Workload::Counter,
        Workload::MapWrite,
        Workload::MapRead,
        Workload::MapMixed(Mix::A),
        Workload::LockContended,
        Workload::LockFree,
        Workload::ElectionChurn,
        Workload::SessionChurn,
        Workload::WatchFanout,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Workload::Counter => "counter",
            Workload::MapWrite => "map-write",
            Workload::MapRead => "map-read",
            Workload::MapMixed(_) => "map-mixed",
            Workload::LockContended => "lock-contended",
            Workload::LockFree => "lock-free",
            Workload::ElectionChurn => "election-churn",
            Workload::SessionChurn => "session-churn",
            Workload::WatchFanout => "watch-fanout",
        }
    }

    /// The kind of primitive it works on.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Workload::Counter | Workload::SessionChurn => Kind::Counter,
            Workload::MapWrite
            | Workload::MapRead
            | Workload::MapMixed(_)
            | Workload::WatchFanout => Kind::Map,
            Workload::LockContended | Workload::LockFree => Kind::Lock,
            Workload::ElectionChurn => Kind::LeaderElection,
        }
    }

    /// Whether a session does one thing at a time.
    #[must_use]
    pub const fn is_exclusive(self) -> bool {
        matches!(
            self,
            Workload::LockContended
                | Workload::LockFree
                | Workload::ElectionChurn
                | Workload::SessionChurn
        )
    }

    /// How many keys there are when nobody says: as many as sessions where each has its own.
    #[must_use]
    pub const fn keys(self, sessions: u64, partitions: u64) -> u64 {
        match self {
            Workload::Counter | Workload::LockFree => sessions,
            Workload::MapWrite | Workload::MapRead | Workload::MapMixed(_) => 10_000,
            Workload::SessionChurn => partitions,
            Workload::LockContended | Workload::ElectionChurn => 1,
            Workload::WatchFanout => 100,
        }
    }
}

impl Mix {
    /// How many of a thousand calls are reads.
    #[must_use]
    pub const fn reads_per_mille(self) -> u64 {
        match self {
            Mix::A => 500,
            Mix::B => 950,
            Mix::C | Mix::F => 1000,
        }
    }

    /// Its letter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mix::A => "a",
            Mix::B => "b",
            Mix::C => "c",
            Mix::F => "f",
        }
    }
}

impl Plan {
    /// Spreads `sessions` over connections and partitions, and makes `things` from `keys`. A
    /// connection keeps to one partition where there are enough of them, so that it lives on that
    /// partition's core.
    pub fn lay_out(&mut self, sessions: usize, listeners: usize) {
        let (parts, lines) = (self.partitions.len(), self.connections);
        let role = match self.workload {
            Workload::SessionChurn => Role::Churner,
            _ => Role::Worker,
        };
        let place = |nth: usize, role| {
            let (line, part) = if lines >= parts {
                (nth % lines, nth % lines % parts)
            } else {
                (nth % parts % lines, nth % parts)
            };
            Lane { thread: line % self.threads, line, part, role }
        };
        let mut lanes: Vec<Lane> = (0..sessions).map(|nth| place(nth, role)).collect();
        if self.workload == Workload::SessionChurn {
            lanes.extend((0..parts).map(|nth| place(nth, Role::Keeper)));
        }
        lanes.extend((0..listeners).map(|nth| place(nth, Role::Listener)));
        lanes.sort_by_key(|lane| lane.thread);
        self.lanes = lanes;
        self.name_things();
    }

    /// Names the things after the run, so that no other run works on them.
    pub fn name_things(&mut self) {
        let (parts, kind) = (self.partitions.len(), self.workload.kind());
        // One map holds all keys of a partition; of the others each key is one.
        let count = if kind == Kind::Map { parts as u64 } else { self.keys };
        self.things = (0..count)
            .map(|nth| Thing {
                kind,
                name: format!("{}-{nth}", self.name),
                part: nth as usize % parts,
            })
            .collect();
    }

    /// The thread that prepares and looks after what is in this partition.
    #[must_use]
    pub fn owner(&self, part: usize) -> usize {
        let of = self.lanes.iter().filter(|lane| lane.part == part);
        of.map(|lane| lane.thread).min().unwrap_or(0)
    }

    /// The things of a partition.
    pub fn things_of(&self, part: usize) -> impl Iterator<Item = u32> {
        let all = self.things.iter().enumerate();
        all.filter(move |(_, thing)| thing.part == part).map(|(at, _)| at as u32)
    }

    /// How many keys the partition at `part` has; the nth of them is `nth * partitions + part`.
    #[must_use]
    pub fn keys_of(&self, part: usize) -> u64 {
        let (parts, part) = (self.partitions.len() as u64, part as u64);
        self.keys / parts + u64::from(part < self.keys % parts)
    }

    /// How long one slice of the reports over time is.
    #[must_use]
    pub fn slice_ns(&self) -> u64 {
        (self.duration.as_nanos() as u64 / 120).clamp(50_000_000, 10_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::super::speech::tests::plan;
    use super::*;

    #[test]
    fn connections_keep_to_one_partition_where_they_can() {
        let mut plan = plan(Workload::Counter);
        (plan.connections, plan.threads, plan.partitions) = (8, 2, vec![1, 2, 3]);
        plan.keys = 10;
        plan.lay_out(32, 0);
        for line in 0..8 {
            let parts: Vec<usize> =
                plan.lanes.iter().filter(|lane| lane.line == line).map(|lane| lane.part).collect();
            assert_eq!(parts, [parts[0]; 4], "line {line}");
        }
        assert!(plan.lanes.is_sorted_by_key(|lane| lane.thread));
        assert_eq!((0..3).map(|part| plan.keys_of(part)).sum::<u64>(), 10);
        assert_eq!(plan.things_of(1).collect::<Vec<_>>(), [1, 4, 7]);
    }

    #[test]
    fn few_connections_reach_all_partitions() {
        let mut plan = plan(Workload::MapWrite);
        (plan.connections, plan.partitions) = (2, vec![4, 5, 6, 7, 8]);
        plan.lay_out(5, 0);
        let mut parts: Vec<usize> = plan.lanes.iter().map(|lane| lane.part).collect();
        parts.sort_unstable();
        assert_eq!(parts, [0, 1, 2, 3, 4]);
        assert!(plan.lanes.iter().all(|lane| lane.line < 2));
    }
}
