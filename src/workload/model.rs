//! What each operation should return: one key of one primitive as a sequential machine.
//!
//! A checker walks candidate orders of a history through `State::step`; the load tool may walk the
//! one order that it knows. An outcome that never reached its client is `None`: whatever the state
//! makes of the operation is right. Versions that no answer has shown yet are unknown and become
//! known by the first answer that names them. Behaviour is that of primitives.md 2 with its `[R]`
//! corrections.
//!
//! Absent on purpose: listings, sizes and events, which concern many keys (`sim/check.rs` looks at
//! them).

use std::collections::BTreeSet;

use bytes::Bytes;

use super::answer::{Answer, Held, Outcome, Term};
use super::op::Op;
use crate::id::Kind;
use crate::partition::reply::Status;

/// One key's state, or that of a primitive without keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A counter.
    Number(i64),
    /// One key of a counter map.
    Count(Option<i64>),
    /// One key of a map, or a value.
    Cell(Option<Cell>),
    /// The values of one key of a multimap.
    Many(BTreeSet<String>),
    /// One element of a set, by whom it was added.
    Member(Option<u64>),
    /// A lock: who holds it, and the highest token that is known to have been given out.
    Lock {
        /// The holder's session and its token, as far as known.
        holder: Option<(u64, Option<u64>)>,
        /// No later token is at or below this.
        last: u64,
    },
    /// An indexed map.
    Indexed {
        /// The index of the last entry that was appended.
        last: u64,
        /// By index.
        lines: Vec<Line>,
    },
    /// An election.
    Election {
        /// The term's number.
        term: u64,
        /// Name and session of the leader.
        leader: Option<(String, u64)>,
        /// Name and session of those who wait.
        queue: Vec<(String, u64)>,
    },
}

/// What a key of a map holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The bytes.
    pub value: Bytes,
    /// The index of the command that wrote them; `None` while no answer has shown it.
    pub index: Option<u64>,
    /// The number of the operation that wrote them, in the history.
    pub writer: u64,
}

/// One entry of an indexed map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Its index.
    pub index: u64,
    /// Its key.
    pub key: String,
    /// What it holds, with its version.
    pub cell: Cell,
}

/// Something that happens to a key.
// Nearly all of them are calls.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Event {
    /// A client's operation.
    Call {
        /// Its number in the history.
        number: u64,
        /// Who asked: the session.
        session: u64,
        /// What.
        op: Op,
        /// What came back; `None`: nothing, and nobody knows whether it was done.
        outcome: Option<Outcome>,
    },
    /// What operation `writer` wrote outlived its time.
    Expire {
        /// Its number in the history.
        writer: u64,
    },
    /// A session ended.
    SessionEnd {
        /// Which.
        session: u64,
    },
}

impl State {
    /// The state before anything happened.
    ///
    /// # Panics
    /// When `kind` has no model.
    #[must_use]
    pub fn initial(kind: Kind) -> State {
        match kind {
            Kind::Counter => State::Number(0),
            Kind::CounterMap => State::Count(None),
            Kind::Map | Kind::Value => State::Cell(None),
            Kind::Set => State::Member(None),
            Kind::Lock => State::Lock { holder: None, last: 0 },
            Kind::LeaderElection => State::Election { term: 0, leader: None, queue: Vec::new() },
            Kind::IndexedMap => State::Indexed { last: 0, lines: Vec::new() },
            Kind::MultiMap => State::Many(BTreeSet::new()),
        }
    }

    /// The state after `event`; `None` when it cannot have happened here with this outcome.
    #[must_use]
    pub fn step(&self, event: &Event) -> Option<State> {
        match event {
            Event::Call { number, session, op, outcome } => {
                let outcome = outcome.as_ref();
                match self {
                    State::Number(value) => counter(*value, op, outcome),
                    State::Count(value) => count(*value, op, outcome),
                    State::Many(values) => many(values, op, outcome),
                    State::Cell(cell) => cell_step(cell.as_ref(), *number, op, outcome),
                    State::Member(by) => member(*by, *number, op, outcome),
                    State::Lock { holder, last } => lock(*holder, *last, *session, op, outcome),
                    State::Indexed { last, lines } => indexed(*last, lines, *number, op, outcome),
                    State::Election { .. } => self.election(*session, op, outcome),
                }
            }
            Event::Expire { writer } => self.expire(*writer),
            Event::SessionEnd { session } => Some(self.session_end(*session)),
        }
    }

    fn expire(&self, writer: u64) -> Option<State> {
        match self {
            State::Cell(Some(cell)) if cell.writer == writer => Some(State::Cell(None)),
            State::Member(Some(by)) if *by == writer => Some(State::Member(None)),
            State::Indexed { last, lines } => {
                let place = lines.iter().position(|line| line.cell.writer == writer)?;
                let mut lines = lines.clone();
                lines.remove(place);
                Some(State::Indexed { last: *last, lines })
            }
            _ => None,
        }
    }

    fn session_end(&self, session: u64) -> State {
        match self {
            State::Lock { holder: Some((by, _)), last } if *by == session => {
                State::Lock { holder: None, last: *last }
            }
            State::Election { term, leader, queue } => {
                let mut queue = queue.clone();
                queue.retain(|(_, by)| *by != session);
                if leader.as_ref().is_some_and(|(_, by)| *by == session) {
                    succeed(*term, queue)
                } else {
                    State::Election { term: *term, leader: leader.clone(), queue }
                }
            }
            other => other.clone(),
        }
    }

    fn election(&self, session: u64, op: &Op, outcome: Option<&Outcome>) -> Option<State> {
        let State::Election { term, leader, queue } = self else { return None };
        let after = elect(*term, leader.as_ref(), queue, session, op);
        let State::Election { term, leader, queue } = &after else { return None };
        let seen = Term {
            leader: leader.as_ref().map(|(name, _)| name.clone()).unwrap_or_default(),
            candidates: queue.iter().map(|(name, _)| name.clone()).collect(),
            index: *term,
        };
        says(outcome, &Answer::Term(seen)).then_some(after)
    }
}

/// Whether the client heard nothing or exactly this.
fn says(outcome: Option<&Outcome>, answer: &Answer) -> bool {
    match outcome {
        None => true,
        Some(Ok(heard)) => heard == answer,
        Some(Err(_)) => false,
    }
}

fn fails(outcome: Option<&Outcome>, status: Status) -> bool {
    match outcome {
        None => true,
        Some(Ok(_)) => false,
        Some(Err((heard, _))) => *heard == status,
    }
}

fn counter(value: i64, op: &Op, outcome: Option<&Outcome>) -> Option<State> {
    let after = match *op {
        Op::CounterSet(to) => to,
        Op::CounterIncrement(delta) => match value.checked_add(delta) {
            Some(sum) => sum,
            None => return fails(outcome, Status::Invalid).then_some(State::Number(value)),
        },
        Op::CounterDecrement(delta) => match value.checked_sub(delta) {
            Some(rest) => rest,
            None => return fails(outcome, Status::Invalid).then_some(State::Number(value)),
        },
        Op::CounterUpdate { compare, update } if compare == value => update,
        Op::CounterUpdate { .. } => {
            return fails(outcome, Status::Conflict).then_some(State::Number(value));
        }
        _ => value,
    };
    says(outcome, &Answer::Number(after)).then_some(State::Number(after))
}

fn count(value: Option<i64>, op: &Op, outcome: Option<&Outcome>) -> Option<State> {
    let old = value.unwrap_or(0);
    let one = |delta: i64| if delta == 0 { 1 } else { delta };
    let refused = |status| fails(outcome, status).then_some(State::Count(value));
    let (answer, after) = match *op {
        Op::CounterMapSet { value: to, .. } => (Answer::Number(old), Some(to)),
        Op::CounterMapIncrement { delta, .. } => match old.checked_add(one(delta)) {
            Some(sum) => (Answer::Number(old), Some(sum)),
            None => return refused(Status::Invalid),
        },
        Op::CounterMapDecrement { delta, .. } => match old.checked_sub(one(delta)) {
            Some(rest) => (Answer::Number(old), Some(rest)),
            None => return refused(Status::Invalid),
        },
        Op::CounterMapInsert { .. } if value.is_some() => return refused(Status::AlreadyExists),
        Op::CounterMapInsert { value: to, .. } => (Answer::Nothing, Some(to)),
        Op::CounterMapClear => (Answer::Nothing, None),
        _ if value.is_none() => return refused(Status::NotFound),
        Op::CounterMapUpdate { prev, .. } | Op::CounterMapRemove { prev, .. } if prev != old => {
            return refused(Status::Conflict);
        }
        Op::CounterMapUpdate { value: to, .. } => (Answer::Number(old), Some(to)),
        Op::CounterMapRemove { .. } => (Answer::Number(old), None),
        _ => (Answer::Number(old), value),
    };
    says(outcome, &answer).then_some(State::Count(after))
}

fn member(by: Option<u64>, number: u64, op: &Op, outcome: Option<&Outcome>) -> Option<State> {
    let refused = |status| fails(outcome, status).then_some(State::Member(by));
    let (answer, after) = match op {
        Op::SetAdd { .. } if by.is_some() => return refused(Status::AlreadyExists),
        Op::SetAdd { .. } => (Answer::Nothing, Some(number)),
        Op::SetRemove { .. } if by.is_none() => return refused(Status::NotFound),
        Op::SetRemove { .. } | Op::SetClear => (Answer::Nothing, None),
        _ => (Answer::Flag(by.is_some()), by),
    };
    says(outcome, &answer).then_some(State::Member(after))
}

fn many(values: &BTreeSet<String>, op: &Op, outcome: Option<&Outcome>) -> Option<State> {
    let refused = |status| fails(outcome, status).then(|| State::Many(values.clone()));
    let list = |values: &BTreeSet<String>| Answer::Values(values.iter().cloned().collect());
    let mut after = values.clone();
    let answer = match op {
        Op::MultiMapPut { value, .. } if values.contains(value) => {
            return refused(Status::AlreadyExists);
        }
        Op::MultiMapPut { value, .. } => {
            after.insert(value.clone());
            Answer::Nothing
        }
        Op::MultiMapRemove { value, .. } if !values.contains(value) => {
            return refused(Status::NotFound);
        }
        Op::MultiMapRemove { value, .. } => {
            after.remove(value);
            Answer::Values(vec![value.clone()])
        }
        Op::MultiMapRemoveAll { .. } if values.is_empty() => return refused(Status::NotFound),
        Op::MultiMapRemoveAll { values: gone, .. } => {
            after.retain(|value| !gone.contains(value));
            Answer::Flag(after != *values)
        }
        Op::MultiMapPutAll { values: more, .. } => {
            after.extend(more.iter().cloned());
            Answer::Flag(after != *values)
        }
        Op::MultiMapReplace { values: new, .. } => {
            after = new.iter().cloned().collect();
            list(values)
        }
        Op::MultiMapPutEntries { entries } => {
            after.extend(entries.iter().flat_map(|(_, more)| more.iter().cloned()));
            return part(values, after, outcome);
        }
        Op::MultiMapRemoveEntries { entries } => {
            after.retain(|value| !entries.iter().any(|(_, gone)| gone.contains(value)));
            return part(values, after, outcome);
        }
        Op::MultiMapClear => {
            after.clear();
            Answer::Nothing
        }
        Op::MultiMapContains { value, .. } => Answer::Flag(values.contains(value)),
        _ => list(values),
    };
    says(outcome, &answer).then_some(State::Many(after))
}

/// What an operation on several keys did to one of them. That something changed may be said of
/// another key; that nothing did is said of all.
fn part(
    before: &BTreeSet<String>,
    after: BTreeSet<String>,
    outcome: Option<&Outcome>,
) -> Option<State> {
    let fits = match outcome {
        None | Some(Ok(Answer::Flag(true))) => true,
        Some(Ok(Answer::Flag(false))) => after == *before,
        Some(_) => false,
    };
    fits.then_some(State::Many(after))
}

fn lock(
    holder: Option<(u64, Option<u64>)>,
    last: u64,
    session: u64,
    op: &Op,
    outcome: Option<&Outcome>,
) -> Option<State> {
    let same = State::Lock { holder, last };
    match (op, outcome) {
        (Op::LockAcquire { .. }, Some(Ok(Answer::Token(token)))) => (holder.is_none()
            && *token > last)
            .then_some(State::Lock { holder: Some((session, Some(*token))), last: *token }),
        (Op::LockAcquire { .. }, None) => {
            holder.is_none().then_some(State::Lock { holder: Some((session, None)), last })
        }
        (Op::LockAcquire { .. }, Some(Err((status, _)))) => {
            (holder.is_some() && *status == Status::Conflict).then_some(same)
        }
        (Op::LockRelease, outcome) => match holder {
            Some((by, _)) if by == session => {
                says(outcome, &Answer::Nothing).then_some(State::Lock { holder: None, last })
            }
            _ => fails(outcome, Status::Conflict).then_some(same),
        },
        (_, Some(Ok(Answer::Token(token)))) => match holder {
            Some((_, Some(known))) => (known == *token).then_some(same),
            Some((by, None)) => (*token > last)
                .then_some(State::Lock { holder: Some((by, Some(*token))), last: *token }),
            None => None,
        },
        (_, outcome) => (holder.is_none() && fails(outcome, Status::NotFound)).then_some(same),
    }
}

fn cell_step(
    cell: Option<&Cell>,
    number: u64,
    op: &Op,
    outcome: Option<&Outcome>,
) -> Option<State> {
    match op {
        Op::MapPut { value, prev, .. } => put(cell, number, value, *prev, outcome),
        Op::ValueSet { value, .. } => write(cell, number, value, outcome),
        Op::MapInsert { value, .. } | Op::ValueInsert { value, .. } => match cell {
            Some(_) => stays(cell, outcome, Status::AlreadyExists),
            None => write(None, number, value, outcome),
        },
        Op::MapUpdate { value, prev, .. } | Op::ValueUpdate { value, prev, .. } => match cell {
            None => stays(cell, outcome, Status::NotFound),
            Some(held) => match matches(held, *prev, outcome) {
                Check::Same => write(cell, number, value, outcome),
                Check::Other => stays(cell, outcome, Status::Conflict),
                Check::Never => None,
            },
        },
        Op::MapRemove { prev, .. } | Op::ValueDelete { prev } => match cell {
            None => stays(cell, outcome, Status::NotFound),
            Some(held) => match matches(held, *prev, outcome) {
                Check::Same => found(held, outcome).map(|_| State::Cell(None)),
                Check::Other => stays(cell, outcome, Status::Conflict),
                Check::Never => None,
            },
        },
        Op::MapClear => says(outcome, &Answer::Nothing).then_some(State::Cell(None)),
        _ => match cell {
            None => stays(cell, outcome, Status::NotFound),
            Some(held) => found(held, outcome).map(|held| State::Cell(Some(held))),
        },
    }
}

fn put(
    cell: Option<&Cell>,
    number: u64,
    value: &Bytes,
    prev: u64,
    outcome: Option<&Outcome>,
) -> Option<State> {
    let check = match cell {
        _ if prev == 0 => Check::Same,
        None => Check::Other,
        Some(held) => matches(held, prev, outcome),
    };
    match (check, cell) {
        (Check::Never, _) => None,
        (Check::Other, _) => stays(cell, outcome, Status::Conflict),
        (Check::Same, Some(held)) if held.value == value => {
            let known = match outcome {
                Some(Ok(Answer::Written { index, before: None })) => Some(*index),
                Some(_) => return None,
                None => held.index,
            };
            learn(held, known).map(|held| State::Cell(Some(held)))
        }
        (Check::Same, _) => write(cell, number, value, outcome),
    }
}

enum Check {
    Same,
    Other,
    Never,
}

/// Whether `prev` names the stored version. Where that is not known yet, the outcome decides; where
/// it is silent too, the write is taken not to have happened.
fn matches(held: &Cell, prev: u64, outcome: Option<&Outcome>) -> Check {
    match (prev, held.index, outcome) {
        (0, _, _) => Check::Same,
        (prev, Some(index), _) if prev == index => Check::Same,
        (_, Some(_), _) => Check::Other,
        (_, None, Some(Ok(_))) => Check::Same,
        (_, None, Some(Err(_))) => Check::Other,
        (_, None, None) => Check::Never,
    }
}

fn stays(cell: Option<&Cell>, outcome: Option<&Outcome>, status: Status) -> Option<State> {
    fails(outcome, status).then(|| State::Cell(cell.cloned()))
}

fn write(
    cell: Option<&Cell>,
    number: u64,
    value: &Bytes,
    outcome: Option<&Outcome>,
) -> Option<State> {
    let index = match outcome {
        None => None,
        Some(Ok(Answer::Written { index, before })) => {
            match (cell, before) {
                (None, None) => {}
                (Some(held), Some(before)) if agrees(held, before) => {}
                _ => return None,
            }
            Some(*index)
        }
        Some(_) => return None,
    };
    Some(State::Cell(Some(Cell { value: value.clone(), index, writer: number })))
}

fn found(held: &Cell, outcome: Option<&Outcome>) -> Option<Cell> {
    match outcome {
        None => Some(held.clone()),
        Some(Ok(Answer::Found(seen))) if agrees(held, seen) => learn(held, Some(seen.index)),
        Some(_) => None,
    }
}

fn agrees(held: &Cell, seen: &Held) -> bool {
    held.value == seen.value && held.index.is_none_or(|index| index == seen.index)
}

fn learn(held: &Cell, index: Option<u64>) -> Option<Cell> {
    if held.index.is_some() && held.index != index {
        return None;
    }
    Some(Cell { index, ..held.clone() })
}

fn indexed(
    last: u64,
    lines: &[Line],
    number: u64,
    op: &Op,
    outcome: Option<&Outcome>,
) -> Option<State> {
    let refused =
        |status| fails(outcome, status).then(|| State::Indexed { last, lines: lines.to_vec() });
    let cell = |value: &Bytes| Cell { value: value.clone(), index: None, writer: number };
    let mut after = lines.to_vec();
    match op {
        Op::IndexedAppend { key, .. } if lines.iter().any(|line| line.key == *key) => {
            return refused(Status::AlreadyExists);
        }
        Op::IndexedAppend { key, value, .. } => {
            let line = Line { index: last + 1, key: key.clone(), cell: cell(value) };
            after.push(shown(line, outcome)?);
            return Some(State::Indexed { last: last + 1, lines: after });
        }
        Op::IndexedClear => {
            let cleared = State::Indexed { last, lines: Vec::new() };
            return says(outcome, &Answer::Nothing).then_some(cleared);
        }
        Op::IndexedSize => {
            let same = State::Indexed { last, lines: after };
            return says(outcome, &Answer::Size(lines.len() as u32)).then_some(same);
        }
        _ => {}
    }
    let place = match place_of(lines, op) {
        Ok(place) => place,
        Err(status) => return refused(status),
    };
    if let Op::IndexedUpdate { prev, .. } | Op::IndexedRemove { prev, .. } = op {
        match matches(&lines[place].cell, *prev, outcome) {
            Check::Same => {}
            Check::Other => return refused(Status::Conflict),
            Check::Never => return None,
        }
    }
    if let Op::IndexedUpdate { value, .. } = op
        && lines[place].cell.value != value
    {
        after[place].cell = cell(value);
    }
    let line = shown(after.remove(place), outcome)?;
    if !matches!(op, Op::IndexedRemove { .. }) {
        after.insert(place, line);
    }
    Some(State::Indexed { last, lines: after })
}

/// Which entry an operation is about, or how it fails without one.
fn place_of(lines: &[Line], op: &Op) -> Result<usize, Status> {
    let at = |index: u64| lines.iter().position(|line| line.index == index);
    let of = |key: &str| lines.iter().position(|line| line.key == key);
    let place = match op {
        Op::IndexedUpdate { key, index: 0, .. } if key.is_empty() => return Err(Status::Invalid),
        Op::IndexedUpdate { key, index, .. } if *index > 0 && !key.is_empty() => match at(*index) {
            Some(place) if lines[place].key != *key => return Err(Status::Fault),
            place => place,
        },
        Op::IndexedUpdate { key, index, .. }
        | Op::IndexedRemove { key, index, .. }
        | Op::IndexedGet { key, index } => {
            if *index > 0 {
                at(*index)
            } else {
                of(key)
            }
        }
        Op::IndexedNext(index) => lines.iter().position(|line| line.index > *index),
        Op::IndexedPrev(index) => lines.iter().rposition(|line| line.index < *index),
        Op::IndexedLast => lines.len().checked_sub(1),
        _ => (!lines.is_empty()).then_some(0),
    };
    place.ok_or(Status::NotFound)
}

/// The line with what the outcome says of it; `None` when it says something else.
fn shown(line: Line, outcome: Option<&Outcome>) -> Option<Line> {
    match outcome {
        None => Some(line),
        Some(Ok(Answer::Entry { key, at, value: Some(seen) })) => {
            let same = *key == line.key && *at == line.index && agrees(&line.cell, seen);
            let cell = same.then(|| learn(&line.cell, Some(seen.index)))??;
            Some(Line { cell, ..line })
        }
        Some(_) => None,
    }
}

fn succeed(term: u64, mut queue: Vec<(String, u64)>) -> State {
    if queue.is_empty() {
        return State::Election { term, leader: None, queue };
    }
    let leader = Some(queue.remove(0));
    State::Election { term: term + 1, leader, queue }
}

fn elect(
    term: u64,
    leader: Option<&(String, u64)>,
    queue: &[(String, u64)],
    session: u64,
    op: &Op,
) -> State {
    let same = || State::Election { term, leader: leader.cloned(), queue: queue.to_vec() };
    let at = |name: &str| queue.iter().position(|(queued, _)| queued == name);
    let leads = |name: &str| leader.is_some_and(|(leading, _)| leading == name);
    let mut rest = queue.to_vec();
    match op {
        Op::ElectionEnter(name) if leader.is_none() => {
            let leader = Some((name.clone(), session));
            State::Election { term: term + 1, leader, queue: rest }
        }
        Op::ElectionEnter(name) if !leads(name) && at(name).is_none() => {
            rest.push((name.clone(), session));
            State::Election { term, leader: leader.cloned(), queue: rest }
        }
        Op::ElectionWithdraw(name)
            if leader.is_some_and(|(_, by)| *by == session) && (name.is_empty() || leads(name)) =>
        {
            succeed(term, rest)
        }
        Op::ElectionWithdraw(name) => match at(name) {
            Some(place) if queue[place].1 == session => {
                rest.remove(place);
                State::Election { term, leader: leader.cloned(), queue: rest }
            }
            _ => same(),
        },
        Op::ElectionEvict(name) if leads(name) => succeed(term, rest),
        Op::ElectionEvict(name) => match at(name) {
            Some(place) if leader.is_some() => {
                rest.remove(place);
                State::Election { term, leader: leader.cloned(), queue: rest }
            }
            _ => same(),
        },
        Op::ElectionAnoint(name) => match (at(name), leader) {
            (Some(place), Some(old)) => swap_in(term, old, rest, place),
            _ => same(),
        },
        Op::ElectionPromote(name) => match (at(name), leader) {
            (Some(0), Some(old)) => swap_in(term, old, rest, 0),
            (Some(place), Some(_)) => {
                rest.swap(place - 1, place);
                State::Election { term, leader: leader.cloned(), queue: rest }
            }
            _ => same(),
        },
        Op::ElectionDemote(name) => match (at(name), leader) {
            (None, Some(old)) if old.0 == *name && !rest.is_empty() => swap_in(term, old, rest, 0),
            (Some(place), Some(_)) if place + 1 < rest.len() => {
                rest.swap(place, place + 1);
                State::Election { term, leader: leader.cloned(), queue: rest }
            }
            _ => same(),
        },
        _ => same(),
    }
}

/// The one at `place` leads, the old leader goes to the head of the queue.
fn swap_in(term: u64, old: &(String, u64), mut queue: Vec<(String, u64)>, place: usize) -> State {
    let leader = Some(queue.remove(place));
    queue.insert(0, old.clone());
    State::Election { term: term + 1, leader, queue }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, key: &str, value: &'static str, version: u64) -> Outcome {
        let held = Held { value: value.into(), index: version };
        Ok(Answer::Entry { key: key.to_owned(), at: index, value: Some(held) })
    }

    fn append(key: &str, value: &'static str) -> Op {
        Op::IndexedAppend { key: key.to_owned(), value: value.into(), ttl: None }
    }

    fn after(state: &State, number: u64, op: Op, outcome: Option<Outcome>) -> Option<State> {
        state.step(&Event::Call { number, session: 1, op, outcome })
    }

    #[test]
    fn an_indexed_map_counts_its_appends_and_learns_versions() {
        let state = State::initial(Kind::IndexedMap);
        assert_eq!(after(&state, 1, append("a", "v"), Some(entry(2, "a", "v", 3))), None);
        let state =
            after(&state, 1, append("a", "v"), Some(entry(1, "a", "v", 3))).expect("it can be");
        // Nobody heard of the second.
        let state = after(&state, 2, append("b", "w"), None).expect("it can be");
        let refused = Err((Status::AlreadyExists, String::new()));
        assert_eq!(after(&state, 3, append("b", "x"), Some(refused)).as_ref(), Some(&state));
        assert_eq!(after(&state, 3, Op::IndexedNext(1), Some(entry(1, "a", "v", 3))), None);
        let seen =
            after(&state, 3, Op::IndexedNext(1), Some(entry(2, "b", "w", 4))).expect("it can be");
        assert_eq!(after(&seen, 4, Op::IndexedLast, Some(entry(2, "b", "w", 5))), None);
        let remove = Op::IndexedRemove { key: "b".to_owned(), index: 1, prev: 0 };
        let rest = after(&seen, 5, remove, Some(entry(1, "a", "v", 3))).expect("it can be");
        assert_eq!(after(&rest, 6, Op::IndexedFirst, Some(entry(1, "a", "v", 3))), None);
        assert!(after(&rest, 6, Op::IndexedSize, Some(Ok(Answer::Size(1)))).is_some());
        let expired = rest.step(&Event::Expire { writer: 2 }).expect("it can be");
        assert!(after(&expired, 7, append("b", "w"), Some(entry(3, "b", "w", 9))).is_some());
    }
}
