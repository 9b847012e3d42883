//! One operation on a primitive as a value, and the payload that carries it.
//!
//! The payload is the documented `<P>Input` message (primitives.md 2): what a client's `input`
//! becomes once the edge has put the tag of its oneof member before it.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use prost_types::Duration;

use crate::id::Kind;
use crate::time::Span;
use crate::wire::field::{put_bytes, put_message, put_uint};
use crate::wire::proto::{
    counter::v1 as counter, countermap::v1 as countermap, election::v1 as election,
    indexedmap::v1 as indexedmap, lock::v1 as lock, map::v1 as map, multimap::v1 as multimap,
    set::v1 as set, value::v1 as value,
};

/// What a client may ask of a primitive. Fields are those of the documented inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    CounterSet(i64),
    CounterUpdate { compare: i64, update: i64 },
    CounterIncrement(i64),
    CounterDecrement(i64),
    CounterGet,
    CounterMapSet { key: String, value: i64 },
    CounterMapInsert { key: String, value: i64 },
    CounterMapUpdate { key: String, value: i64, prev: i64 },
    CounterMapIncrement { key: String, delta: i64 },
    CounterMapDecrement { key: String, delta: i64 },
    CounterMapRemove { key: String, prev: i64 },
    CounterMapClear,
    CounterMapLock,
    CounterMapGet { key: String },
    CounterMapSize,
    CounterMapEntries { watch: bool },
    CounterMapEvents { key: String },
    MapPut { key: String, value: Bytes, ttl: Option<Span>, prev: u64 },
    MapInsert { key: String, value: Bytes, ttl: Option<Span> },
    MapUpdate { key: String, value: Bytes, ttl: Option<Span>, prev: u64 },
    MapRemove { key: String, prev: u64 },
    MapClear,
    MapLock,
    MapPrepare { number: u64, steps: Vec<Op> },
    MapCommit { number: u64 },
    MapAbort { number: u64 },
    MapApply { steps: Vec<Op> },
    MapGet { key: String },
    MapSize,
    MapEntries { watch: bool },
    MapEvents { key: String },
    ValueSet { value: Bytes, ttl: Option<Span> },
    ValueInsert { value: Bytes, ttl: Option<Span> },
    ValueUpdate { value: Bytes, ttl: Option<Span>, prev: u64 },
    ValueDelete { prev: u64 },
    ValueGet,
    ValueWatch,
    ValueEvents,
    SetAdd { element: String, ttl: Option<Span> },
    SetRemove { element: String },
    SetClear,
    SetContains { element: String },
    SetSize,
    SetElements { watch: bool },
    SetEvents,
    LockAcquire { timeout: Option<Span> },
    LockRelease,
    LockGet,
    ElectionEnter(String),
    ElectionWithdraw(String),
    ElectionAnoint(String),
    ElectionPromote(String),
    ElectionDemote(String),
    ElectionEvict(String),
    ElectionGetTerm,
    ElectionWatch,
    MultiMapPut { key: String, value: String },
    MultiMapPutAll { key: String, values: Vec<String> },
    MultiMapReplace { key: String, values: Vec<String> },
    MultiMapRemove { key: String, value: String },
    MultiMapRemoveAll { key: String, values: Vec<String> },
    MultiMapPutEntries { entries: Vec<(String, Vec<String>)> },
    MultiMapRemoveEntries { entries: Vec<(String, Vec<String>)> },
    MultiMapClear,
    MultiMapContains { key: String, value: String },
    MultiMapGet { key: String },
    MultiMapSize,
    MultiMapEntries { watch: bool },
    MultiMapEvents { key: String },
    IndexedAppend { key: String, value: Bytes, ttl: Option<Span> },
    IndexedUpdate { key: String, index: u64, value: Bytes, ttl: Option<Span>, prev: u64 },
    IndexedRemove { key: String, index: u64, prev: u64 },
    IndexedClear,
    IndexedGet { key: String, index: u64 },
    IndexedFirst,
    IndexedLast,
    IndexedNext(u64),
    IndexedPrev(u64),
    IndexedSize,
    IndexedEntries { watch: bool },
    IndexedEvents { key: String },
}

impl Op {
    /// How long what it writes lives, where it says so.
    #[must_use]
    pub fn ttl(&self) -> Option<Span> {
        match self {
            Op::MapPut { ttl, .. }
            | Op::MapInsert { ttl, .. }
            | Op::MapUpdate { ttl, .. }
            | Op::ValueSet { ttl, .. }
            | Op::ValueInsert { ttl, .. }
            | Op::ValueUpdate { ttl, .. }
            | Op::IndexedAppend { ttl, .. }
            | Op::IndexedUpdate { ttl, .. }
            | Op::SetAdd { ttl, .. } => *ttl,
            _ => None,
        }
    }

    /// The kind of primitive it is for.
    // Filled lines: one arm of this would fill a screen.
    #[rustfmt::skip]
    #[must_use]
    pub fn kind(&self) -> Kind {
        use Op::*;
        match self {
            CounterSet(_) | CounterUpdate { .. } | CounterIncrement(_) | CounterDecrement(_)
            | CounterGet => Kind::Counter,
            CounterMapSet { .. } | CounterMapInsert { .. } | CounterMapUpdate { .. }
            | CounterMapIncrement { .. } | CounterMapDecrement { .. } | CounterMapRemove { .. }
            | CounterMapClear | CounterMapLock | CounterMapGet { .. } | CounterMapSize
            | CounterMapEntries { .. } | CounterMapEvents { .. } => Kind::CounterMap,
            MapPut { .. } | MapInsert { .. } | MapUpdate { .. } | MapRemove { .. } | MapClear
            | MapLock | MapPrepare { .. } | MapCommit { .. } | MapAbort { .. } | MapApply { .. }
            | MapGet { .. } | MapSize | MapEntries { .. } | MapEvents { .. } => Kind::Map,
            ValueSet { .. } | ValueInsert { .. } | ValueUpdate { .. } | ValueDelete { .. }
            | ValueGet | ValueWatch | ValueEvents => Kind::Value,
            SetAdd { .. } | SetRemove { .. } | SetClear | SetContains { .. } | SetSize
            | SetElements { .. } | SetEvents => Kind::Set,
            LockAcquire { .. } | LockRelease | LockGet => Kind::Lock,
            ElectionEnter(_) | ElectionWithdraw(_) | ElectionAnoint(_) | ElectionPromote(_)
            | ElectionDemote(_) | ElectionEvict(_) | ElectionGetTerm | ElectionWatch
            => Kind::LeaderElection,
            MultiMapPut { .. } | MultiMapPutAll { .. } | MultiMapReplace { .. }
            | MultiMapRemove { .. } | MultiMapRemoveAll { .. } | MultiMapPutEntries { .. }
            | MultiMapRemoveEntries { .. } | MultiMapClear | MultiMapContains { .. }
            | MultiMapGet { .. } | MultiMapSize | MultiMapEntries { .. }
            | MultiMapEvents { .. } => Kind::MultiMap,
            IndexedAppend { .. } | IndexedUpdate { .. } | IndexedRemove { .. } | IndexedClear
            | IndexedGet { .. } | IndexedFirst | IndexedLast | IndexedNext(_) | IndexedPrev(_)
            | IndexedSize | IndexedEntries { .. } | IndexedEvents { .. } => Kind::IndexedMap,
        }
    }

    /// Whether it is a read, beside the log.
    #[must_use]
    pub fn is_query(&self) -> bool {
        use Op::*;
        matches!(
            self,
            CounterGet
                | CounterMapGet { .. }
                | CounterMapSize
                | CounterMapEntries { .. }
                | MapGet { .. }
                | MapSize
                | MapEntries { .. }
                | ValueGet
                | ValueWatch
                | SetContains { .. }
                | SetSize
                | SetElements { .. }
                | LockGet
                | ElectionGetTerm
                | ElectionWatch
                | MultiMapContains { .. }
                | MultiMapGet { .. }
                | MultiMapSize
                | MultiMapEntries { .. }
                | IndexedGet { .. }
                | IndexedFirst
                | IndexedLast
                | IndexedNext(_)
                | IndexedPrev(_)
                | IndexedSize
                | IndexedEntries { .. }
        )
    }

    /// Whether it may have more than one output.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        use Op::*;
        matches!(
            self,
            CounterMapEntries { .. }
                | CounterMapEvents { .. }
                | MapEntries { .. }
                | MapEvents { .. }
                | ValueWatch
                | ValueEvents
                | SetElements { .. }
                | SetEvents
                | ElectionWatch
                | MultiMapEntries { .. }
                | MultiMapEvents { .. }
                | IndexedEntries { .. }
                | IndexedEvents { .. }
        )
    }

    /// The part of the primitive's state that it concerns alone; `None`: all of it.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        use Op::*;
        match self {
            CounterMapSet { key, .. }
            | CounterMapInsert { key, .. }
            | CounterMapUpdate { key, .. }
            | CounterMapIncrement { key, .. }
            | CounterMapDecrement { key, .. }
            | CounterMapRemove { key, .. }
            | CounterMapGet { key }
            | MapPut { key, .. }
            | MapInsert { key, .. }
            | MapUpdate { key, .. }
            | MapRemove { key, .. }
            | MapGet { key }
            | MultiMapPut { key, .. }
            | MultiMapPutAll { key, .. }
            | MultiMapReplace { key, .. }
            | MultiMapRemove { key, .. }
            | MultiMapRemoveAll { key, .. }
            | MultiMapContains { key, .. }
            | MultiMapGet { key } => Some(key),
            SetAdd { element, .. } | SetRemove { element } | SetContains { element } => {
                Some(element)
            }
            _ => None,
        }
    }

    /// As much of it as concerns this key.
    #[must_use]
    pub fn at(&self, key: &str) -> Op {
        let mut op = self.clone();
        if let Op::MultiMapPutEntries { entries } | Op::MultiMapRemoveEntries { entries } = &mut op
        {
            entries.retain(|(of, _)| of == key);
        }
        op
    }

    /// The serialised `<P>Input`.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        match self.kind() {
            Kind::Counter => self.counter(),
            Kind::CounterMap => self.counter_map(),
            Kind::LeaderElection => self.election(),
            Kind::IndexedMap => self.indexed_map(),
            Kind::Lock => self.lock(),
            Kind::Map => self.map(),
            Kind::MultiMap => self.multi_map(),
            Kind::Set => self.set(),
            Kind::Value => self.value(),
        }
    }

    fn counter(&self) -> Vec<u8> {
        use counter::counter_input::Input;
        let input = match *self {
            Op::CounterSet(value) => Input::Set(counter::SetInput { value }),
            Op::CounterUpdate { compare, update } => {
                Input::Update(counter::UpdateInput { compare, update })
            }
            Op::CounterIncrement(delta) => Input::Increment(counter::IncrementInput { delta }),
            Op::CounterDecrement(delta) => Input::Decrement(counter::DecrementInput { delta }),
            _ => Input::Get(counter::GetInput {}),
        };
        counter::CounterInput { input: Some(input) }.encode_to_vec()
    }

    fn counter_map(&self) -> Vec<u8> {
        use countermap::counter_map_input::Input;
        let input = match self.clone() {
            Op::CounterMapSet { key, value } => Input::Set(countermap::SetInput { key, value }),
            Op::CounterMapInsert { key, value } => {
                Input::Insert(countermap::InsertInput { key, value })
            }
            Op::CounterMapUpdate { key, value, prev } => {
                Input::Update(countermap::UpdateInput { key, value, prev_value: prev })
            }
            Op::CounterMapIncrement { key, delta } => {
                Input::Increment(countermap::IncrementInput { key, delta })
            }
            Op::CounterMapDecrement { key, delta } => {
                Input::Decrement(countermap::DecrementInput { key, delta })
            }
            Op::CounterMapRemove { key, prev } => {
                Input::Remove(countermap::RemoveInput { key, prev_value: prev })
            }
            Op::CounterMapClear => Input::Clear(countermap::ClearInput {}),
            Op::CounterMapLock => Input::Lock(countermap::LockInput::default()),
            Op::CounterMapEntries { watch } => Input::Entries(countermap::EntriesInput { watch }),
            Op::CounterMapGet { key } => Input::Get(countermap::GetInput { key }),
            Op::CounterMapEvents { key } => Input::Events(countermap::EventsInput { key }),
            _ => Input::Size(countermap::SizeInput {}),
        };
        countermap::CounterMapInput { input: Some(input) }.encode_to_vec()
    }

    fn map(&self) -> Vec<u8> {
        use map::map_input::Input;
        // The documented messages have no transactions (primitives.md 7.2).
        let mut payload = Vec::new();
        let all = |into: &mut Vec<u8>, number, steps: &[Op]| {
            steps.iter().for_each(|step| put_bytes(into, number, &step.payload()));
        };
        match self {
            Op::MapPrepare { number, steps } => put_message(&mut payload, 12, |into| {
                put_uint(into, 1, *number);
                all(into, 2, steps);
            }),
            Op::MapCommit { number } => {
                put_message(&mut payload, 13, |it| put_uint(it, 1, *number))
            }
            Op::MapAbort { number } => put_message(&mut payload, 14, |it| put_uint(it, 1, *number)),
            Op::MapApply { steps } => put_message(&mut payload, 15, |it| all(it, 1, steps)),
            _ => {}
        }
        if !payload.is_empty() {
            return payload;
        }
        let input = match self.clone() {
            Op::MapPut { key, value, ttl, prev } => {
                Input::Put(map::PutInput { key, value, ttl: ttl.map(duration), prev_index: prev })
            }
            Op::MapInsert { key, value, ttl } => {
                Input::Insert(map::InsertInput { key, value, ttl: ttl.map(duration) })
            }
            Op::MapUpdate { key, value, ttl, prev } => Input::Update(map::UpdateInput {
                key,
                value,
                ttl: ttl.map(duration),
                prev_index: prev,
            }),
            Op::MapRemove { key, prev } => {
                Input::Remove(map::RemoveInput { key, prev_index: prev })
            }
            Op::MapClear => Input::Clear(map::ClearInput {}),
            Op::MapLock => Input::Lock(map::LockInput::default()),
            Op::MapGet { key } => Input::Get(map::GetInput { key }),
            Op::MapEntries { watch } => Input::Entries(map::EntriesInput { watch }),
            Op::MapEvents { key } => Input::Events(map::EventsInput { key }),
            _ => Input::Size(map::SizeInput {}),
        };
        map::MapInput { input: Some(input) }.encode_to_vec()
    }

    fn value(&self) -> Vec<u8> {
        use value::value_input::Input;
        let input = match self.clone() {
            Op::ValueSet { value, ttl } => {
                Input::Set(value::SetInput { value, ttl: ttl.map(duration) })
            }
            Op::ValueInsert { value, ttl } => {
                Input::Insert(value::InsertInput { value, ttl: ttl.map(duration) })
            }
            Op::ValueUpdate { value, ttl, prev } => Input::Update(value::UpdateInput {
                value,
                prev_index: prev,
                ttl: ttl.map(duration),
            }),
            Op::ValueDelete { prev } => Input::Delete(value::DeleteInput { prev_index: prev }),
            Op::ValueWatch => Input::Watch(value::WatchInput {}),
            Op::ValueEvents => Input::Events(value::EventsInput {}),
            _ => Input::Get(value::GetInput {}),
        };
        value::ValueInput { input: Some(input) }.encode_to_vec()
    }

    fn set(&self) -> Vec<u8> {
        use set::set_input::Input;
        let of = |value: String| Some(set::Element { value });
        let input = match self.clone() {
            Op::SetAdd { element, ttl } => {
                Input::Add(set::AddInput { element: of(element), ttl: ttl.map(duration) })
            }
            Op::SetRemove { element } => Input::Remove(set::RemoveInput { element: of(element) }),
            Op::SetClear => Input::Clear(set::ClearInput {}),
            Op::SetContains { element } => {
                Input::Contains(set::ContainsInput { element: of(element) })
            }
            Op::SetElements { watch } => Input::Elements(set::ElementsInput { watch }),
            Op::SetEvents => Input::Events(set::EventsInput {}),
            _ => Input::Size(set::SizeInput {}),
        };
        set::SetInput { input: Some(input) }.encode_to_vec()
    }

    fn lock(&self) -> Vec<u8> {
        use lock::lock_input::Input;
        let input = match *self {
            Op::LockAcquire { timeout } => {
                Input::Acquire(lock::AcquireInput { timeout: timeout.map(duration) })
            }
            Op::LockRelease => Input::Release(lock::ReleaseInput {}),
            _ => Input::Get(lock::GetInput {}),
        };
        lock::LockInput { input: Some(input) }.encode_to_vec()
    }

    fn election(&self) -> Vec<u8> {
        use election::leader_election_input::Input;
        let input = match self.clone() {
            Op::ElectionEnter(candidate) => Input::Enter(election::EnterInput { candidate }),
            Op::ElectionWithdraw(candidate) => {
                Input::Withdraw(election::WithdrawInput { candidate })
            }
            Op::ElectionAnoint(candidate) => Input::Anoint(election::AnointInput { candidate }),
            Op::ElectionPromote(candidate) => Input::Promote(election::PromoteInput { candidate }),
            Op::ElectionDemote(candidate) => Input::Demote(election::DemoteInput { candidate }),
            Op::ElectionEvict(candidate) => Input::Evict(election::EvictInput { candidate }),
            Op::ElectionWatch => Input::Watch(election::WatchInput {}),
            _ => Input::GetTerm(election::GetTermInput {}),
        };
        election::LeaderElectionInput { input: Some(input) }.encode_to_vec()
    }

    fn multi_map(&self) -> Vec<u8> {
        use multimap::multi_map_input::Input;
        let of = |entries: Vec<(String, Vec<String>)>| {
            entries.into_iter().map(|(key, values)| multimap::Entry { key, values }).collect()
        };
        let input = match self.clone() {
            Op::MultiMapPut { key, value } => Input::Put(multimap::PutInput { key, value }),
            Op::MultiMapPutAll { key, values } => {
                Input::PutAll(multimap::PutAllInput { key, values })
            }
            Op::MultiMapReplace { key, values } => {
                Input::Replace(multimap::ReplaceInput { key, values })
            }
            Op::MultiMapRemove { key, value } => {
                Input::Remove(multimap::RemoveInput { key, value })
            }
            Op::MultiMapRemoveAll { key, values } => {
                Input::RemoveAll(multimap::RemoveAllInput { key, values })
            }
            Op::MultiMapPutEntries { entries } => {
                Input::PutEntries(multimap::PutEntriesInput { entries: of(entries) })
            }
            Op::MultiMapRemoveEntries { entries } => {
                Input::RemoveEntries(multimap::RemoveEntriesInput { entries: of(entries) })
            }
            Op::MultiMapClear => Input::Clear(multimap::ClearInput {}),
            Op::MultiMapContains { key, value } => {
                Input::Contains(multimap::ContainsInput { key, value })
            }
            Op::MultiMapGet { key } => Input::Get(multimap::GetInput { key }),
            Op::MultiMapEntries { watch } => Input::Entries(multimap::EntriesInput { watch }),
            Op::MultiMapEvents { key } => Input::Events(multimap::EventsInput { key }),
            _ => Input::Size(multimap::SizeInput {}),
        };
        multimap::MultiMapInput { input: Some(input) }.encode_to_vec()
    }

    fn indexed_map(&self) -> Vec<u8> {
        use indexedmap::indexed_map_input::Input;
        let input = match self.clone() {
            Op::IndexedAppend { key, value, ttl } => {
                Input::Append(indexedmap::AppendInput { key, value, ttl: ttl.map(duration) })
            }
            Op::IndexedUpdate { key, index, value, ttl, prev } => {
                let prev_version = prev;
                Input::Update(indexedmap::UpdateInput {
                    key,
                    index,
                    value,
                    ttl: ttl.map(duration),
                    prev_version,
                })
            }
            Op::IndexedRemove { key, index, prev } => {
                Input::Remove(indexedmap::RemoveInput { key, index, prev_version: prev })
            }
            Op::IndexedClear => Input::Clear(indexedmap::ClearInput {}),
            Op::IndexedGet { key, index } => Input::Get(indexedmap::GetInput { key, index }),
            Op::IndexedFirst => Input::FirstEntry(indexedmap::FirstEntryInput {}),
            Op::IndexedLast => Input::LastEntry(indexedmap::LastEntryInput {}),
            Op::IndexedNext(index) => Input::NextEntry(indexedmap::NextEntryInput { index }),
            Op::IndexedPrev(index) => Input::PrevEntry(indexedmap::PrevEntryInput { index }),
            Op::IndexedEntries { watch } => Input::Entries(indexedmap::EntriesInput { watch }),
            Op::IndexedEvents { key } => Input::Events(indexedmap::EventsInput { key }),
            _ => Input::Size(indexedmap::SizeInput {}),
        };
        indexedmap::IndexedMapInput { input: Some(input) }.encode_to_vec()
    }
}

/// The name under which `kind` is created (core.md 6.3).
#[must_use]
pub const fn service(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "atomix.runtime.counter.v1.Counter",
        Kind::CounterMap => "atomix.runtime.countermap.v1.CounterMap",
        Kind::LeaderElection => "atomix.runtime.election.v1.LeaderElection",
        Kind::IndexedMap => "atomix.runtime.indexedmap.v1.IndexedMap",
        Kind::Lock => "atomix.runtime.lock.v1.Lock",
        Kind::Map => "atomix.runtime.map.v1.Map",
        Kind::MultiMap => "atomix.runtime.multimap.v1.MultiMap",
        Kind::Set => "atomix.runtime.set.v1.Set",
        Kind::Value => "atomix.runtime.value.v1.Value",
    }
}

/// A span in the protocol's form.
#[must_use]
pub fn duration(span: Span) -> Duration {
    let seconds = i64::try_from(span.0 / 1_000_000_000).unwrap_or(i64::MAX);
    Duration { seconds, nanos: (span.0 % 1_000_000_000) as i32 }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
