//! Named mixes of operations: what clients do, drawn from a seed.
//!
//! Values that are written carry who wrote them, so that a reader's answer names its writer and a
//! checker need not guess. Absent on purpose: pace; who uses a mix says how fast.

use bytes::Bytes;

use super::op::Op;
use crate::id::Kind;
use crate::prng::Prng;
use crate::time::Span;

/// A mix by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Increments, and now and then a look.
    Counters,
    /// Every operation of a counter.
    CounterAll,
    /// Puts and gets, half and half.
    Puts,
    /// Every operation on a few keys of a map, with versions and lifetimes.
    MapAll,
    /// A single value, written and read.
    Values,
    /// Entries appended, changed, removed, looked at from both sides.
    Indexed,
    /// Elements that come and go.
    Sets,
    /// Keys with numbers.
    CounterMaps,
    /// Acquire, release, look.
    Locks,
    /// Keys with many values, of which some come and go together.
    MultiMaps,
    /// Candidates that enter, withdraw, are promoted and evicted.
    Elections,
}

impl Mix {
    /// All of them.
    pub const ALL: [Mix; 11] = [
        Mix::Counters,
        Mix::CounterAll,
        Mix::Puts,
        Mix::MapAll,
        Mix::Values,
        Mix::Indexed,
        Mix::Sets,
        Mix::CounterMaps,
        Mix::Locks,
        Mix::MultiMaps,
        Mix::Elections,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mix::Counters => "counters",
            Mix::CounterAll => "counter-all",
            Mix::Puts => "puts",
            Mix::MapAll => "map-all",
            Mix::Values => "values",
            Mix::Indexed => "indexed",
            Mix::Sets => "sets",
            Mix::CounterMaps => "counter-maps",
            Mix::Locks => "locks",
            Mix::MultiMaps => "multi-maps",
            Mix::Elections => "elections",
        }
    }

    /// The mix of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Mix> {
        Mix::ALL.into_iter().find(|mix| mix.name() == name)
    }

    /// The kind of primitive it works on.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Mix::Counters | Mix::CounterAll => Kind::Counter,
            Mix::Puts | Mix::MapAll => Kind::Map,
            Mix::Values => Kind::Value,
            Mix::Indexed => Kind::IndexedMap,
            Mix::Sets => Kind::Set,
            Mix::CounterMaps => Kind::CounterMap,
            Mix::Locks => Kind::Lock,
            Mix::MultiMaps => Kind::MultiMap,
            Mix::Elections => Kind::LeaderElection,
        }
    }

    /// The next operation of `who`, their `number`th; `seen` is a version they have come across, 0
    /// for none.
    pub fn next(self, prng: &mut Prng, who: &str, number: u64, seen: u64) -> Op {
        let value = Bytes::from(format!("{who}-{number}"));
        let key = KEYS[prng.below(KEYS.len() as u64) as usize].to_owned();
        let roll = prng.below(100);
        match self {
            Mix::Counters if roll < 80 => Op::CounterIncrement(1 + prng.below(3) as i64),
            Mix::Counters => Op::CounterGet,
            Mix::CounterAll => counter(prng, roll),
            Mix::Puts if roll < 50 => Op::MapPut { key, value, ttl: None, prev: 0 },
            Mix::Puts => Op::MapGet { key },
            Mix::MapAll => map(prng, roll, key, value, seen),
            Mix::Values => single(prng, roll, value, seen),
            Mix::Indexed => indexed(prng, roll, key, value, seen),
            Mix::Sets => match roll {
                0..35 => Op::SetAdd { element: key, ttl: lifetime(prng) },
                35..65 => Op::SetRemove { element: key },
                65..68 => Op::SetClear,
                _ => Op::SetContains { element: key },
            },
            Mix::CounterMaps => counter_map(prng, roll, key),
            Mix::Locks => match roll {
                0..45 => Op::LockAcquire { timeout: Some(Span::millis(prng.below(400))) },
                45..85 => Op::LockRelease,
                _ => Op::LockGet,
            },
            Mix::MultiMaps => multi_map(prng, roll, key),
            Mix::Elections => election(prng, roll, who),
        }
    }
}

fn counter(prng: &mut Prng, roll: u64) -> Op {
    let small = prng.below(5) as i64 - 2;
    match roll {
        0..30 => Op::CounterIncrement(small),
        30..45 => Op::CounterDecrement(small),
        45..55 => Op::CounterSet(small),
        55..70 => Op::CounterUpdate { compare: small, update: prng.below(5) as i64 - 2 },
        _ => Op::CounterGet,
    }
}

fn counter_map(prng: &mut Prng, roll: u64, key: String) -> Op {
    let small = prng.below(5) as i64 - 2;
    let prev = prng.below(5) as i64 - 2;
    match roll {
        0..25 => Op::CounterMapIncrement { key, delta: small },
        25..35 => Op::CounterMapDecrement { key, delta: small },
        35..45 => Op::CounterMapSet { key, value: small },
        45..55 => Op::CounterMapInsert { key, value: small },
        55..65 => Op::CounterMapUpdate { key, value: small, prev },
        65..77 => Op::CounterMapRemove { key, prev },
        77..80 => Op::CounterMapClear,
        _ => Op::CounterMapGet { key },
    }
}

fn map(prng: &mut Prng, roll: u64, key: String, value: Bytes, seen: u64) -> Op {
    let prev = if prng.chance(300) { seen } else { 0 };
    let ttl = lifetime(prng);
    match roll {
        0..30 => Op::MapPut { key, value, ttl, prev },
        30..40 => Op::MapInsert { key, value, ttl },
        40..55 => Op::MapUpdate { key, value, ttl, prev },
        55..67 => Op::MapRemove { key, prev },
        67..69 => Op::MapClear,
        69..77 => Op::MapApply { steps: steps(prng, key, &value, ttl, prev) },
        _ => Op::MapGet { key },
    }
}

/// One operation on a key, and often another on the next one.
fn steps(prng: &mut Prng, key: String, value: &Bytes, ttl: Option<Span>, prev: u64) -> Vec<Op> {
    let at = KEYS.iter().position(|known| *known == key).unwrap_or(0);
    let other = KEYS[(at + 1) % KEYS.len()].to_owned();
    let mut step = |key: String, prev: u64| match prng.below(10) {
        0..6 => Op::MapPut { key, value: value.clone(), ttl, prev },
        6 => Op::MapInsert { key, value: value.clone(), ttl },
        7..9 => Op::MapUpdate { key, value: value.clone(), ttl, prev },
        _ => Op::MapRemove { key, prev },
    };
    let mut steps = vec![step(key, prev)];
    let second = step(other, 0);
    if prng.chance(700) {
        steps.push(second);
    }
    steps
}

fn single(prng: &mut Prng, roll: u64, value: Bytes, seen: u64) -> Op {
    let prev = if prng.chance(400) { seen } else { 0 };
    let ttl = lifetime(prng);
    match roll {
        0..25 => Op::ValueSet { value, ttl },
        25..35 => Op::ValueInsert { value, ttl },
        35..50 => Op::ValueUpdate { value, ttl, prev },
        50..60 => Op::ValueDelete { prev },
        _ => Op::ValueGet,
    }
}

fn indexed(prng: &mut Prng, roll: u64, key: String, value: Bytes, seen: u64) -> Op {
    let prev = if prng.chance(300) { seen } else { 0 };
    // As many as a run appends, more or less.
    let any = prng.below(40);
    let (index, ttl) = (if prng.chance(300) { any } else { 0 }, lifetime(prng));
    let named = if index > 0 && prng.chance(500) { String::new() } else { key.clone() };
    match roll {
        0..35 => Op::IndexedAppend { key, value, ttl },
        35..47 => Op::IndexedUpdate { key: named, index, value, ttl, prev },
        47..63 => Op::IndexedRemove { key, index, prev },
        63..65 => Op::IndexedClear,
        65..75 => Op::IndexedGet { key, index },
        75..80 => Op::IndexedFirst,
        80..85 => Op::IndexedLast,
        85..91 => Op::IndexedNext(any),
        91..97 => Op::IndexedPrev(any),
        _ => Op::IndexedSize,
    }
}

fn multi_map(prng: &mut Prng, roll: u64, key: String) -> Op {
    let value = some_value(prng);
    match roll {
        0..15 => Op::MultiMapPut { key, value },
        15..25 => Op::MultiMapPutAll { key, values: some_values(prng) },
        25..32 => Op::MultiMapReplace { key, values: some_values(prng) },
        32..47 => Op::MultiMapRemove { key, value },
        47..55 => Op::MultiMapRemoveAll { key, values: some_values(prng) },
        55..60 => Op::MultiMapPutEntries { entries: some_entries(prng) },
        60..65 => Op::MultiMapRemoveEntries { entries: some_entries(prng) },
        65..67 => Op::MultiMapClear,
        67..75 => Op::MultiMapContains { key, value },
        _ => Op::MultiMapGet { key },
    }
}

fn some_entries(prng: &mut Prng) -> Vec<(String, Vec<String>)> {
    let keys = (0..prng.below(3)).map(|_| (*prng.pick(&KEYS)).to_owned()).collect::<Vec<_>>();
    keys.into_iter().map(|key| (key, some_values(prng))).collect()
}

/// None, one or a few, now and then one twice.
fn some_values(prng: &mut Prng) -> Vec<String> {
    (0..prng.below(4)).map(|_| some_value(prng)).collect()
}

fn some_value(prng: &mut Prng) -> String {
    (*prng.pick(&["one", "two", "three", "four"])).to_owned()
}

fn election(prng: &mut Prng, roll: u64, who: &str) -> Op {
    let own = who.to_owned();
    let any = format!("c{}", prng.below(4));
    match roll {
        0..30 => Op::ElectionEnter(own),
        30..42 => Op::ElectionWithdraw(own),
        42..47 => Op::ElectionAnoint(any),
        47..55 => Op::ElectionPromote(any),
        55..63 => Op::ElectionDemote(any),
        63..68 => Op::ElectionEvict(any),
        _ => Op::ElectionGetTerm,
    }
}

/// What shows the whole of a primitive that mixes have worked on.
#[must_use]
pub fn last_reads(kind: Kind) -> Vec<Op> {
    let keys = || KEYS.map(str::to_owned).into_iter();
    match kind {
        Kind::Counter => vec![Op::CounterGet],
        Kind::CounterMap => keys().map(|key| Op::CounterMapGet { key }).collect(),
        Kind::Map => keys().map(|key| Op::MapGet { key }).collect(),
        Kind::Set => keys().map(|element| Op::SetContains { element }).collect(),
        Kind::Value => vec![Op::ValueGet],
        Kind::Lock => vec![Op::LockGet],
        Kind::LeaderElection => vec![Op::ElectionGetTerm],
        Kind::IndexedMap => {
            let each = keys().map(|key| Op::IndexedGet { key, index: 0 });
            each.chain([Op::IndexedFirst, Op::IndexedLast, Op::IndexedSize]).collect()
        }
        Kind::MultiMap => keys().map(|key| Op::MultiMapGet { key }).collect(),
    }
}

/// What tells all changes of a primitive, if its kind can.
#[must_use]
pub fn all_events(kind: Kind) -> Option<Op> {
    let key = String::new();
    match kind {
        Kind::CounterMap => Some(Op::CounterMapEvents { key }),
        Kind::IndexedMap => Some(Op::IndexedEvents { key }),
        Kind::Map => Some(Op::MapEvents { key }),
        Kind::MultiMap => Some(Op::MultiMapEvents { key }),
        Kind::Set => Some(Op::SetEvents),
        Kind::Value => Some(Op::ValueEvents),
        Kind::Counter | Kind::LeaderElection | Kind::Lock => None,
    }
}

fn lifetime(prng: &mut Prng) -> Option<Span> {
    prng.chance(150).then(|| Span::millis(1 + prng.below(1500)))
}

const KEYS: [&str; 3] = ["ash", "birch", "cedar"];
