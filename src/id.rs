//! Names of things as newtypes, so that none is taken for another.
//!
//! An *index* counts commands applied by the state machine and is what clients see (spec/core.md
//! 7.1); a
//! *position* is a place in the raft log. They never mix, and the types keep it so.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// One process of the cluster; 1 and up.
    NodeId(u32)
);
id!(
    /// One pinned core of a node, from 0.
    ShardId(u16)
);
id!(
    /// One raft group, 1 and up. The API also says group.
    PartitionId(u32)
);
id!(
    /// A client's session: the index of the command that opened it. 0 is none.
    SessionId(u64)
);
id!(
    /// A primitive: the index of the command that first created it. 0 is none.
    PrimitiveId(u64)
);
id!(
    /// The state machine's count of applied commands, from 1; 0 before the first.
    Index(u64)
);
id!(
    /// A place in one partition's raft log, from 1; 0 before the first.
    Position(u64)
);
id!(
    /// A raft term, from 1; 0 before the first.
    Term(u64)
);
id!(
    /// A command's number within its session, chosen by the client.
    Sequence(u64)
);
id!(
    /// How far a shard's journal got: the number of a block, from 1; 0 before the first.
    Mark(u64)
);

impl Index {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl Position {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

/// A waiting client call: the core that holds its connection, the slot there, and the slot's
/// generation, so that an answer for a caller who has gone is recognised and dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket {
    /// The core whose table of waiting calls holds the slot.
    pub shard: ShardId,
    /// The slot in that table.
    pub slot: u32,
    /// The slot's generation when the ticket was given out.
    pub generation: u32,
}

/// What sort of primitive something is. The number stands in the log (field 100 of a primitive's
/// command), so it never changes (spec/wire.md, decision 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Counter = 1,
    CounterMap = 2,
    LeaderElection = 3,
    IndexedMap = 4,
    Lock = 5,
    Map = 6,
    MultiMap = 7,
    Set = 8,
    Value = 9,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Kind; 9] = [
        Kind::Counter,
        Kind::CounterMap,
        Kind::LeaderElection,
        Kind::IndexedMap,
        Kind::Lock,
        Kind::Map,
        Kind::MultiMap,
        Kind::Set,
        Kind::Value,
    ];

    /// The kind that `number` names in the log.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u64 == number)
    }

    /// The name of its gRPC service without the package.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "Counter",
            Kind::CounterMap => "CounterMap",
            Kind::LeaderElection => "LeaderElection",
            Kind::IndexedMap => "IndexedMap",
            Kind::Lock => "Lock",
            Kind::Map => "Map",
            Kind::MultiMap => "MultiMap",
            Kind::Set => "Set",
            Kind::Value => "Value",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
