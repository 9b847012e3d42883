//! What an operation came back with, decoded from the bytes of its output.
//!
//! An output's bytes are the member of `<P>Output` that belongs to the operation, without tag and
//! length (`partition/reply.rs`). Bytes that do not decode are the sender's fault and are reported
//! as text.

use std::fmt;

use bytes::Bytes;
use prost::Message;

use super::op::Op;
use crate::partition::reply::Status;
use crate::wire::proto::{
    counter::v1 as counter, countermap::v1 as countermap, election::v1 as election,
    indexedmap::v1 as indexedmap, lock::v1 as lock, map::v1 as map, multimap::v1 as multimap,
    set::v1 as set, value::v1 as value,
};
use crate::wire::rsm::map::v1 as rsm_map;

/// A value with the index of the command that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Held {
    /// What was written.
    pub value: Bytes,
    /// By which command; 0 where the primitive has no versions.
    pub index: u64,
}

/// An election's term as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Term {
    /// The leader's name, empty for none.
    pub leader: String,
    /// Those who wait, in their order.
    pub candidates: Vec<String>,
    /// The term's number.
    pub index: u64,
}

/// What sort of change an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Change {
    Inserted,
    Updated,
    Removed,
    Expired,
}

/// What comes back when all went well.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An empty message.
    Nothing,
    /// A counter's value, before or after as the operation says.
    Number(i64),
    /// Whether it is so, or whether anything changed.
    Flag(bool),
    /// How many.
    Size(u32),
    /// Written by the command `index`, over `before`.
    Written { index: u64, before: Option<Held> },
    /// What is there, or what was removed.
    Found(Held),
    /// The lock's holder, a fencing token.
    Token(u64),
    /// An election's state.
    Term(Term),
    /// One line of a listing; no value: it went away.
    Entry { key: String, at: u64, value: Option<Held> },
    /// What each operation of a transaction brought.
    Many(Vec<Answer>),
    /// Many values of one key.
    Values(Vec<String>),
    /// Something changed.
    Event { key: String, change: Change, value: Held, before: Option<Held> },
}

/// How an operation ended: its answer, or the failure with its text.
pub type Outcome = Result<Answer, (Status, String)>;

impl Answer {
    /// Reads the output of `op`.
    ///
    /// # Errors
    /// The bytes are not the message that `op` answers with.
    pub fn decode(op: &Op, bytes: &[u8]) -> Result<Answer, String> {
        read(op, bytes).map_err(|why| format!("output of {op} does not decode: {why:?}"))
    }
}

/// The outcome that an output's status and bytes stand for; bytes that do not decode are a fault.
pub fn outcome(op: &Op, status: Status, bytes: &[u8]) -> Outcome {
    if status != Status::Ok {
        return Err((status, String::from_utf8_lossy(bytes).into_owned()));
    }
    Answer::decode(op, bytes).map_err(|why| (Status::Fault, why))
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.len() > SHOWN_BYTES_MAX {
            write!(f, "{} bytes", self.value.len())?;
        } else {
            f.write_str(&String::from_utf8_lossy(&self.value))?;
        }
        if self.index > 0 { write!(f, "@{}", self.index) } else { Ok(()) }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Nothing => f.write_str("done"),
            Answer::Number(number) => write!(f, "{number}"),
            Answer::Flag(flag) => write!(f, "{flag}"),
            Answer::Size(size) => write!(f, "{size} in it"),
            Answer::Written { index, before: None } => write!(f, "written @{index}"),
            Answer::Written { index, before: Some(before) } => {
                write!(f, "written @{index} over {before}")
            }
            Answer::Found(held) => write!(f, "{held}"),
            Answer::Token(token) => write!(f, "token {token}"),
            Answer::Term(term) => {
                let leader = if term.leader.is_empty() { "nobody" } else { &term.leader };
                write!(f, "term {}, {leader} leads", term.index)?;
                if term.candidates.is_empty() {
                    Ok(())
                } else {
                    write!(f, ", behind: {}", term.candidates.join(" "))
                }
            }
            Answer::Entry { key, at, value } => {
                if *at > 0 {
                    write!(f, "{at}:")?;
                }
                match value {
                    Some(held) if *held == Held::default() => f.write_str(key),
                    Some(held) => write!(f, "{key} = {held}"),
                    None => write!(f, "{key} is gone"),
                }
            }
            Answer::Many(answers) => {
                let answers: Vec<String> = answers.iter().map(Answer::to_string).collect();
                write!(f, "[{}]", answers.join(", "))
            }
            Answer::Values(values) => write!(f, "[{}]", values.join(" ")),
            Answer::Event { key, change, value, before } => {
                let change = format!("{change:?}").to_lowercase();
                let space = if key.is_empty() { "" } else { " " };
                write!(f, "{change}{space}{key}")?;
                // A set's elements have no value.
                if *value != Held::default() {
                    write!(f, " {value}")?;
                }
                before.as_ref().map_or(Ok(()), |before| write!(f, ", was {before}"))
            }
        }
    }
}

#[derive(Debug)]
enum Unreadable {
    Form(#[allow(dead_code)] prost::DecodeError),
    Empty,
}

impl From<prost::DecodeError> for Unreadable {
    fn from(error: prost::DecodeError) -> Unreadable {
        Unreadable::Form(error)
    }
}

fn read(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    use crate::id::Kind;
    match op.kind() {
        Kind::Counter => read_counter(op, bytes),
        Kind::CounterMap => read_counter_map(op, bytes),
        Kind::LeaderElection => read_election(op, bytes),
        Kind::IndexedMap => read_indexed_map(op, bytes),
        Kind::Lock => read_lock(op, bytes),
        Kind::Map => read_map(op, bytes),
        Kind::MultiMap => read_multi_map(op, bytes),
        Kind::Set => read_set(op, bytes),
        Kind::Value => read_value(op, bytes),
    }
}

fn read_counter(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    Ok(Answer::Number(match op {
        Op::CounterSet(_) => counter::SetOutput::decode(bytes)?.value,
        Op::CounterUpdate { .. } => counter::UpdateOutput::decode(bytes)?.value,
        Op::CounterIncrement(_) => counter::IncrementOutput::decode(bytes)?.value,
        Op::CounterDecrement(_) => counter::DecrementOutput::decode(bytes)?.value,
        _ => counter::GetOutput::decode(bytes)?.value,
    }))
}

fn read_counter_map(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    use countermap::event::Event;
    let held = |number: i64| Held { value: number.to_string().into(), index: 0 };
    Ok(match op {
        Op::CounterMapSet { .. } => {
            Answer::Number(countermap::SetOutput::decode(bytes)?.prev_value)
        }
        Op::CounterMapUpdate { .. } => {
            Answer::Number(countermap::UpdateOutput::decode(bytes)?.prev_value)
        }
        Op::CounterMapIncrement { .. } => {
            Answer::Number(countermap::IncrementOutput::decode(bytes)?.prev_value)
        }
        Op::CounterMapDecrement { .. } => {
            Answer::Number(countermap::DecrementOutput::decode(bytes)?.prev_value)
        }
        Op::CounterMapRemove { .. } => {
            Answer::Number(countermap::RemoveOutput::decode(bytes)?.value)
        }
        Op::CounterMapGet { .. } => Answer::Number(countermap::GetOutput::decode(bytes)?.value),
        Op::CounterMapSize => Answer::Size(countermap::SizeOutput::decode(bytes)?.size),
        Op::CounterMapEntries { .. } => {
            let it = countermap::EntriesOutput::decode(bytes)?.entry.unwrap_or_default();
            Answer::Entry { key: it.key, at: 0, value: Some(held(it.value)) }
        }
        Op::CounterMapEvents { .. } => {
            let event = countermap::EventsOutput::decode(bytes)?.event.unwrap_or_default();
            let (change, value, before) = match event.event {
                Some(Event::Inserted(it)) => (Change::Inserted, held(it.value), None),
                Some(Event::Updated(it)) => {
                    (Change::Updated, held(it.value), Some(held(it.prev_value)))
                }
                Some(Event::Removed(it)) => (Change::Removed, held(it.value), None),
                None => return Err(Unreadable::Empty),
            };
            Answer::Event { key: event.key, change, value, before }
        }
        _ => {
            countermap::InsertOutput::decode(bytes)?;
            Answer::Nothing
        }
    })
}

fn read_map(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    use map::event::Event;
    let held = |it: map::IndexedValue| Held { value: it.value, index: it.index };
    Ok(match op {
        Op::MapPut { .. } => {
            let it = map::PutOutput::decode(bytes)?;
            Answer::Written { index: it.index, before: it.prev_value.map(held) }
        }
        Op::MapInsert { .. } => {
            Answer::Written { index: map::InsertOutput::decode(bytes)?.index, before: None }
        }
        Op::MapUpdate { .. } => {
            let it = map::UpdateOutput::decode(bytes)?;
            Answer::Written { index: it.index, before: it.prev_value.map(held) }
        }
        Op::MapRemove { .. } => {
            Answer::Found(held(map::RemoveOutput::decode(bytes)?.value.unwrap_or_default()))
        }
        Op::MapGet { .. } => {
            Answer::Found(held(map::GetOutput::decode(bytes)?.value.unwrap_or_default()))
        }
        Op::MapCommit { .. } | Op::MapApply { .. } => return read_outputs(bytes),
        Op::MapSize => Answer::Size(map::SizeOutput::decode(bytes)?.size),
        Op::MapEntries { .. } => {
            let it = map::EntriesOutput::decode(bytes)?.entry.unwrap_or_default();
            Answer::Entry { key: it.key, at: 0, value: it.value.map(held) }
        }
        Op::MapEvents { .. } => {
            let event = map::EventsOutput::decode(bytes)?.event.unwrap_or_default();
            let (change, value, before) = match event.event {
                Some(Event::Inserted(it)) => (Change::Inserted, it.value, None),
                Some(Event::Updated(it)) => (Change::Updated, it.value, it.prev_value),
                Some(Event::Removed(it)) => (gone(it.expired), it.value, None),
                None => return Err(Unreadable::Empty),
            };
            let value = held(value.unwrap_or_default());
            Answer::Event { key: event.key, change, value, before: before.map(held) }
        }
        _ => {
            map::ClearOutput::decode(bytes)?;
            Answer::Nothing
        }
    })
}

/// `CommitOutput`, `ApplyOutput` (primitives.md 7.2).
fn read_outputs(bytes: &[u8]) -> Result<Answer, Unreadable> {
    use rsm_map::map_output::Output;
    let held = |it: rsm_map::IndexedValue| Held { value: it.value, index: it.index };
    let answer = |output: rsm_map::MapOutput| {
        Ok(match output.output {
            Some(Output::Put(it)) => {
                Answer::Written { index: it.index, before: it.prev_value.map(held) }
            }
            Some(Output::Insert(it)) => Answer::Written { index: it.index, before: None },
            Some(Output::Update(it)) => {
                Answer::Written { index: it.index, before: it.prev_value.map(held) }
            }
            Some(Output::Remove(it)) => Answer::Found(held(it.value.unwrap_or_default())),
            _ => return Err(Unreadable::Empty),
        })
    };
    let outputs = rsm_map::CommitOutput::decode(bytes)?.outputs.into_iter();
    Ok(Answer::Many(outputs.map(answer).collect::<Result<_, _>>()?))
}

fn read_value(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    use value::event::Event;
    let held = |it: value::IndexedValue| Held { value: it.value, index: it.index };
    Ok(match op {
        Op::ValueSet { .. } => {
            let it = value::SetOutput::decode(bytes)?;
            Answer::Written { index: it.index, before: it.prev_value.map(held) }
        }
        Op::ValueInsert { .. } => {
            Answer::Written { index: value::InsertOutput::decode(bytes)?.index, before: None }
        }
        Op::ValueUpdate { .. } => {
            let it = value::UpdateOutput::decode(bytes)?;
            Answer::Written { index: it.index, before: it.prev_value.map(held) }
        }
        Op::ValueDelete { .. } => {
            Answer::Found(held(value::DeleteOutput::decode(bytes)?.value.unwrap_or_default()))
        }
        Op::ValueWatch => {
            Answer::Found(held(value::WatchOutput::decode(bytes)?.value.unwrap_or_default()))
        }
        Op::ValueEvents => {
            let event = value::EventsOutput::decode(bytes)?.event.unwrap_or_default();
            let (change, value, before) = match event.event {
                Some(Event::Created(it)) => (Change::Inserted, it.value, None),
                Some(Event::Updated(it)) => (Change::Updated, it.value, it.prev_value),
                Some(Event::Deleted(it)) => (gone(it.expired), it.value, None),
                None => return Err(Unreadable::Empty),
            };
            let value = held(value.unwrap_or_default());
            Answer::Event { key: String::new(), change, value, before: before.map(held) }
        }
        _ => Answer::Found(held(value::GetOutput::decode(bytes)?.value.unwrap_or_default())),
    })
}

fn read_set(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    use set::event::Event;
    Ok(match op {
        Op::SetContains { .. } => Answer::Flag(set::ContainsOutput::decode(bytes)?.contains),
        Op::SetSize => Answer::Size(set::SizeOutput::decode(bytes)?.size),
        Op::SetElements { .. } => {
            let key = set::ElementsOutput::decode(bytes)?.element.unwrap_or_default().value;
            Answer::Entry { key, at: 0, value: Some(Held::default()) }
        }
        Op::SetEvents => {
            let event = set::EventsOutput::decode(bytes)?.event.unwrap_or_default();
            let (change, element) = match event.event {
                Some(Event::Added(it)) => (Change::Inserted, it.element),
                Some(Event::Removed(it)) => (gone(it.expired), it.element),
                None => return Err(Unreadable::Empty),
            };
            let key = element.unwrap_or_default().value;
            Answer::Event { key, change, value: Held::default(), before: None }
        }
        _ => {
            set::AddOutput::decode(bytes)?;
            Answer::Nothing
        }
    })
}

fn read_lock(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    Ok(match op {
        Op::LockAcquire { .. } => Answer::Token(lock::AcquireOutput::decode(bytes)?.index),
        Op::LockRelease => {
            lock::ReleaseOutput::decode(bytes)?;
            Answer::Nothing
        }
        _ => Answer::Token(lock::GetOutput::decode(bytes)?.index),
    })
}

fn read_election(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    let term = match op {
        Op::ElectionEnter(_) => election::EnterOutput::decode(bytes)?.term,
        Op::ElectionWithdraw(_) => election::WithdrawOutput::decode(bytes)?.term,
        Op::ElectionAnoint(_) => election::AnointOutput::decode(bytes)?.term,
        Op::ElectionPromote(_) => election::PromoteOutput::decode(bytes)?.term,
        Op::ElectionDemote(_) => election::DemoteOutput::decode(bytes)?.term,
        Op::ElectionEvict(_) => election::EvictOutput::decode(bytes)?.term,
        Op::ElectionWatch => election::WatchOutput::decode(bytes)?.term,
        _ => election::GetTermOutput::decode(bytes)?.term,
    }
    .unwrap_or_default();
    let election::Term { leader, candidates, index } = term;
    Ok(Answer::Term(Term { leader, candidates, index }))
}

fn read_multi_map(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    use multimap::event::Event;
    let text = |value: String| Held { value: value.into(), index: 0 };
    Ok(match op {
        Op::MultiMapPutAll { .. } => Answer::Flag(multimap::PutAllOutput::decode(bytes)?.updated),
        Op::MultiMapRemoveAll { .. } => {
            Answer::Flag(multimap::RemoveAllOutput::decode(bytes)?.updated)
        }
        Op::MultiMapPutEntries { .. } => {
            Answer::Flag(multimap::PutEntriesOutput::decode(bytes)?.updated)
        }
        Op::MultiMapRemoveEntries { .. } => {
            Answer::Flag(multimap::RemoveEntriesOutput::decode(bytes)?.updated)
        }
        Op::MultiMapRemove { .. } => Answer::Values(multimap::RemoveOutput::decode(bytes)?.values),
        Op::MultiMapContains { .. } => {
            Answer::Flag(multimap::ContainsOutput::decode(bytes)?.result)
        }
        Op::MultiMapReplace { .. } => {
            Answer::Values(multimap::ReplaceOutput::decode(bytes)?.prev_values)
        }
        Op::MultiMapGet { .. } => Answer::Values(multimap::GetOutput::decode(bytes)?.values),
        Op::MultiMapSize => Answer::Size(multimap::SizeOutput::decode(bytes)?.size),
        Op::MultiMapEntries { .. } => {
            let it = multimap::EntriesOutput::decode(bytes)?.entry.unwrap_or_default();
            let all = (!it.values.is_empty()).then(|| text(format!("[{}]", it.values.join(" "))));
            Answer::Entry { key: it.key, at: 0, value: all }
        }
        Op::MultiMapEvents { .. } => {
            let event = multimap::EventsOutput::decode(bytes)?.event.unwrap_or_default();
            let (change, value) = match event.event {
                Some(Event::Added(it)) => (Change::Inserted, text(it.value)),
                Some(Event::Removed(it)) => (Change::Removed, text(it.value)),
                None => return Err(Unreadable::Empty),
            };
            Answer::Event { key: event.key, change, value, before: None }
        }
        _ => {
            multimap::PutOutput::decode(bytes)?;
            Answer::Nothing
        }
    })
}

fn read_indexed_map(op: &Op, bytes: &[u8]) -> Result<Answer, Unreadable> {
    use indexedmap::event::Event;
    let held = |it: indexedmap::Value| Held { value: it.value, index: it.version };
    let entry = match op {
        Op::IndexedAppend { .. } => indexedmap::AppendOutput::decode(bytes)?.entry,
        Op::IndexedUpdate { .. } => indexedmap::UpdateOutput::decode(bytes)?.entry,
        Op::IndexedRemove { .. } => indexedmap::RemoveOutput::decode(bytes)?.entry,
        Op::IndexedGet { .. } => indexedmap::GetOutput::decode(bytes)?.entry,
        Op::IndexedFirst => indexedmap::FirstEntryOutput::decode(bytes)?.entry,
        Op::IndexedLast => indexedmap::LastEntryOutput::decode(bytes)?.entry,
        Op::IndexedNext(_) => indexedmap::NextEntryOutput::decode(bytes)?.entry,
        Op::IndexedPrev(_) => indexedmap::PrevEntryOutput::decode(bytes)?.entry,
        Op::IndexedEntries { .. } => indexedmap::EntriesOutput::decode(bytes)?.entry,
        Op::IndexedSize => {
            return Ok(Answer::Size(indexedmap::SizeOutput::decode(bytes)?.size));
        }
        Op::IndexedEvents { .. } => {
            let event = indexedmap::EventsOutput::decode(bytes)?.event.unwrap_or_default();
            let (change, value, before) = match event.event {
                Some(Event::Inserted(it)) => (Change::Inserted, it.value, None),
                Some(Event::Updated(it)) => (Change::Updated, it.value, it.prev_value),
                Some(Event::Removed(it)) => (gone(it.expired), it.value, None),
                None => return Err(Unreadable::Empty),
            };
            let value = held(value.unwrap_or_default());
            let key = format!("{}:{}", event.index, event.key);
            return Ok(Answer::Event { key, change, value, before: before.map(held) });
        }
        _ => {
            indexedmap::ClearOutput::decode(bytes)?;
            return Ok(Answer::Nothing);
        }
    }
    .unwrap_or_default();
    Ok(Answer::Entry { key: entry.key, at: entry.index, value: entry.value.map(held) })
}

/// A longer value is shown by its length.
const SHOWN_BYTES_MAX: usize = 60;

fn gone(expired: bool) -> Change {
    if expired { Change::Expired } else { Change::Removed }
}
