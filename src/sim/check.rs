//! What must be true of a history, whatever went wrong while it was made.
//!
//! | check | says |
//! |---|---|
//! | linear | each key could have been served one operation at a time, in an order that no client |
//! | | could disprove: nothing acknowledged is lost, no command counts twice |
//! | sums | a counter that only goes up ends between what was acknowledged and what was tried |
//! | locks | never held twice, tokens grow (the model of a lock, with the ends of sessions) |
//! | streams | events arrive 1, 2, 3 …, in the order of their causes, none between is missing, |
//! | | and each follows from those before it |
//! | indexes | no two commands have the same index |
//!
//! Equal replicas, early ends of sessions and progress are watched while the world runs
//! (`world.rs`, `client.rs`). Absent on purpose: any look at a node's inside; only what clients saw
//! counts here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::id::{Kind, PartitionId};
use crate::partition::reply::Status;
use crate::sim::fault::{Plan, What};
use crate::sim::history::{History, Record};
use crate::sim::linear::{Entry, Verdict, search};
use crate::time::Span;
use crate::workload::answer::{Change, Held};
use crate::workload::model::{Event, State};
use crate::workload::{Answer, Op, Outcome};

/// What a history was found to be.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong; empty when all is well.
    pub wrong: Vec<String>,
    /// Keys whose search ended at its bound.
    pub open: usize,
    /// Keys whose order was found.
    pub linear: usize,
}

/// Looks at all of it.
#[must_use]
pub fn check(history: &History, plan: &Plan) -> Findings {
    let mut findings = Findings::default();
    linear(history, plan, &mut findings);
    sums(history, &mut findings.wrong);
    streams(history, &mut findings.wrong);
    indexes(history, &mut findings.wrong);
    findings
}

type Primitive = (PartitionId, Kind, String);

fn linear(history: &History, plan: &Plan, findings: &mut Findings) {
    let mut primitives: BTreeMap<Primitive, Vec<usize>> = BTreeMap::new();
    for (number, record) in history.records.iter().enumerate() {
        let (kind, name) = record.primitive.clone();
        if !record.op.is_stream() {
            primitives.entry((record.partition, kind, name)).or_default().push(number);
        }
    }
    for ((partition, kind, name), numbers) in primitives {
        let keys: BTreeSet<Option<&str>> =
            numbers.iter().map(|number| history.records[*number].op.key()).collect();
        let keyed = keys.iter().any(Option::is_some);
        for key in keys.into_iter().filter(|key| key.is_some() == keyed) {
            let entries = entries(history, plan, &numbers, key);
            match search(State::initial(kind), &entries, STEPS_MAX) {
                Verdict::Linear => findings.linear += 1,
                Verdict::Open => findings.open += 1,
                Verdict::Broken(longest) => {
                    let what = format!("partition {partition}, {kind} {name} {key:?}");
                    findings.wrong.push(disproof(&what, &entries, &longest));
                }
            }
        }
    }
}

/// What happened to one key, and what may have happened to it unseen.
fn entries(history: &History, plan: &Plan, numbers: &[usize], key: Option<&str>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut sessions = BTreeSet::new();
    let pauses = plan.faults.iter().any(|fault| matches!(fault.what, What::Pause { .. }));
    for number in numbers {
        let record = &history.records[*number];
        if record.op.key().is_some() && record.op.key() != key {
            continue;
        }
        if record.op.is_query() && record.outcome.is_none() {
            continue;
        }
        let Some((op, outcome)) = narrowed(record, key) else {
            continue;
        };
        sessions.insert(record.session);
        let (number, session) = (*number as u64, record.session as u64);
        let ttl = op.ttl();
        let event = Event::Call { number, session, op, outcome };
        entries.push(Entry { call: record.call, back: record.back, event });
        if let Some(Span(ttl_ns)) = ttl {
            // Wall clocks that are off move log time when the leader changes; so does what log time
            // lags behind since its leader was paused, longer than it may jump at once.
            let exact = plan.skew_ns == 0 && !plan.steps && !pauses;
            let call = record.call + if exact { ttl_ns * 9 / 10 } else { 0 };
            entries.push(Entry { call, back: None, event: Event::Expire { writer: number } });
        }
    }
    if key.is_none() {
        for place in sessions {
            let session = &history.sessions[place];
            if session.survived {
                continue;
            }
            let call = session.closed.map_or(session.confirmed, |at| at.min(session.confirmed));
            let event = Event::SessionEnd { session: place as u64 };
            entries.push(Entry { call, back: None, event });
        }
    }
    entries
}

/// What an operation and its outcome say of one key. `None`: nothing. Of a transaction that failed
/// nobody knows which of its keys stood against it.
fn narrowed(record: &Record, key: Option<&str>) -> Option<(Op, Option<Outcome>)> {
    let (Some(key), Op::MapApply { steps }) = (key, &record.op) else {
        let op = key.map_or_else(|| record.op.clone(), |key| record.op.at(key));
        return Some((op, record.outcome.clone()));
    };
    let place = steps.iter().position(|step| step.key() == Some(key))?;
    let outcome = match &record.outcome {
        Some(Ok(Answer::Many(answers))) if answers.len() == steps.len() => {
            Some(Ok(answers[place].clone()))
        }
        Some(Err((Status::Conflict | Status::NotFound | Status::AlreadyExists, _))) => return None,
        other => other.clone(),
    };
    Some((steps[place].clone(), outcome))
}

/// The history of a key around the place where every order ends.
fn disproof(what: &str, entries: &[Entry], longest: &[usize]) -> String {
    let mut text = format!("{what}: no order of its operations explains the answers\n");
    let done: BTreeSet<usize> = longest.iter().copied().collect();
    let from = longest.len().saturating_sub(SHOWN_BEFORE);
    let _ = writeln!(text, "  in order, the last {} of {}:", longest.len() - from, longest.len());
    for place in &longest[from..] {
        let _ = writeln!(text, "    {}", shown(&entries[*place]));
    }
    let mut rest: Vec<usize> = (0..entries.len()).filter(|place| !done.contains(place)).collect();
    rest.sort_by_key(|place| entries[*place].call);
    let _ = writeln!(text, "  and then none of:");
    for place in rest.iter().take(SHOWN_AFTER) {
        let _ = writeln!(text, "    {}", shown(&entries[*place]));
    }
    text
}

fn shown(entry: &Entry) -> String {
    let seconds = |ns: u64| format!("{:.6}", ns as f64 / 1e9);
    let back = entry.back.map_or("never".to_owned(), seconds);
    let event = match &entry.event {
        Event::Call { number, session, op, outcome } => {
            format!("#{number} session {session} {op} -> {outcome:?}")
        }
        other => format!("{other:?}"),
    };
    format!("{}..{back} {event}", seconds(entry.call))
}

fn sums(history: &History, wrong: &mut Vec<String>) {
    let mut counters: BTreeMap<Primitive, Vec<&Record>> = BTreeMap::new();
    for record in &history.records {
        if record.primitive.0 == Kind::Counter {
            let (kind, name) = record.primitive.clone();
            counters.entry((record.partition, kind, name)).or_default().push(record);
        }
    }
    for ((partition, _, name), records) in counters {
        let only_up = records.iter().all(|record| match record.op {
            Op::CounterIncrement(delta) => delta >= 0,
            Op::CounterGet => true,
            _ => false,
        });
        let reads = records.iter().filter(|record| record.op == Op::CounterGet);
        let last = reads.filter(|record| record.back.is_some()).max_by_key(|record| record.call);
        let (Some(last), true) = (last, only_up) else { continue };
        let Some(Ok(Answer::Number(value))) = last.outcome else { continue };
        let sum = |counts: &dyn Fn(&Record) -> bool| -> i64 {
            let counted = records.iter().filter(|record| counts(record));
            counted
                .map(|record| match record.op {
                    Op::CounterIncrement(delta) => delta,
                    _ => 0,
                })
                .sum()
        };
        let acknowledged = sum(&|record| record.back.is_some_and(|back| back < last.call));
        let tried = sum(&|record| record.call < last.back.unwrap_or(u64::MAX));
        if !(acknowledged..=tried).contains(&value) {
            wrong.push(format!(
                "partition {partition}, counter {name} is {value}: {acknowledged} were \
                 acknowledged, {tried} tried"
            ));
        }
    }
}

fn streams(history: &History, wrong: &mut Vec<String>) {
    for stream in &history.streams {
        let opened = &history.records[stream.record];
        let who = format!("client {}, stream of {:?}", opened.client, opened.primitive);
        let mut last_index = 0;
        for (number, index, outcome) in &stream.outputs {
            if *index < last_index {
                wrong.push(format!("{who}: output {number} at {index} follows {last_index}"));
            }
            last_index = *index;
            match outcome {
                Ok(Answer::Event { .. }) => {}
                other => wrong.push(format!("{who}: output {number} is {other:?}")),
            }
        }
        if opened.primitive.0 != Kind::MultiMap
            && let Err(why) = chained(&stream.outputs)
        {
            wrong.push(format!("{who}: {why}"));
        }
        let (Some((_, first, _)), Some((_, last, _))) =
            (stream.outputs.first(), stream.outputs.last())
        else {
            continue;
        };
        let heard: BTreeSet<u64> = stream.outputs.iter().map(|(_, index, _)| *index).collect();
        for record in &history.records {
            let same = record.partition == opened.partition
                && record.primitive == opened.primitive
                && changes(record);
            let between = record.index > *first && record.index <= *last;
            if same && between && !heard.contains(&record.index) {
                wrong
                    .push(format!("{who}: nothing was heard of {} at {}", record.op, record.index));
            }
        }
    }
}

/// Whether what was done is certain to have brought an event.
fn changes(record: &Record) -> bool {
    match (&record.op, &record.outcome) {
        (_, Some(Ok(Answer::Written { .. }))) => true,
        (
            Op::IndexedAppend { .. } | Op::IndexedUpdate { .. },
            Some(Ok(Answer::Entry { value: Some(held), .. })),
        ) => held.index == record.index,
        (
            Op::CounterMapSet { .. }
            | Op::CounterMapInsert { .. }
            | Op::CounterMapUpdate { .. }
            | Op::CounterMapIncrement { .. }
            | Op::CounterMapDecrement { .. }
            | Op::CounterMapRemove { .. }
            | Op::MapRemove { .. }
            | Op::SetAdd { .. }
            | Op::SetRemove { .. }
            | Op::ValueDelete { .. },
            outcome,
        ) => matches!(outcome, Some(Ok(_))),
        _ => false,
    }
}

/// Whether each event says of its key what those before it left there.
fn chained(outputs: &[(u64, u64, Outcome)]) -> Result<(), String> {
    let mut known: BTreeMap<&str, Option<&Held>> = BTreeMap::new();
    for (number, _, outcome) in outputs {
        let Ok(event @ Answer::Event { key, change, value, before }) = outcome else { continue };
        let (expected, now) = match change {
            Change::Inserted => (None, Some(value)),
            Change::Updated => (before.as_ref(), Some(value)),
            Change::Removed | Change::Expired => (Some(value), None),
        };
        if let Some(was) = known.insert(key, now)
            && was != expected
        {
            return Err(format!("output {number} is {event}, but {was:?} was there"));
        }
    }
    Ok(())
}

fn indexes(history: &History, wrong: &mut Vec<String>) {
    let mut seen: BTreeMap<(PartitionId, u64), usize> = BTreeMap::new();
    for (number, record) in history.records.iter().enumerate() {
        // A lock that waited is answered at the index of the release.
        let own = !record.op.is_query()
            && !record.op.is_stream()
            && record.primitive.0 != Kind::Lock
            && record.back.is_some();
        if own && let Some(other) = seen.insert((record.partition, record.index), number) {
            wrong.push(format!(
                "{} and {} both have index {} of partition {}",
                history.records[other].op, record.op, record.index, record.partition
            ));
        }
    }
    let mut ids = BTreeSet::new();
    for session in &history.sessions {
        if !ids.insert((session.partition, session.id)) {
            wrong.push(format!(
                "partition {} opened session {} twice",
                session.partition, session.id
            ));
        }
    }
}

/// A key's history of these sizes is decided within a few thousand steps; the rest is left open.
const STEPS_MAX: usize = 60_000;
const SHOWN_BEFORE: usize = 12;
const SHOWN_AFTER: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::history::{Session, Stream};

    #[test]
    fn a_lost_increment_is_found_twice() {
        let mut history = history();
        add(&mut history, Kind::Counter, Op::CounterIncrement(2), 1, Ok(Answer::Number(2)));
        add(&mut history, Kind::Counter, Op::CounterGet, 2, Ok(Answer::Number(2)));
        assert_eq!(wrong(&history), 0);
        add(&mut history, Kind::Counter, Op::CounterIncrement(3), 2, Ok(Answer::Number(5)));
        add(&mut history, Kind::Counter, Op::CounterGet, 3, Ok(Answer::Number(2)));
        assert_eq!(wrong(&history), 2, "the sum and the order");
    }

    #[test]
    fn an_increment_that_counts_twice_is_found() {
        let mut history = history();
        add(&mut history, Kind::Counter, Op::CounterIncrement(1), 1, Ok(Answer::Number(1)));
        history.records[0].back = None;
        history.records[0].outcome = None;
        add(&mut history, Kind::Counter, Op::CounterGet, 2, Ok(Answer::Number(2)));
        assert_eq!(wrong(&history), 2, "the sum and the order");
    }

    #[test]
    fn an_event_between_two_is_missed() {
        let mut history = history();
        let put = |value: &'static str| Op::MapPut {
            key: "k".to_owned(),
            value: value.into(),
            ttl: None,
            prev: 0,
        };
        let written = |index, before: Option<(&'static str, u64)>| {
            let before = before.map(|(value, index)| Held { value: value.into(), index });
            Ok(Answer::Written { index, before })
        };
        let event = |value: &'static str, index, before: &'static str| -> Outcome {
            let value = Held { value: value.into(), index };
            let before = Some(Held { value: before.into(), index: index - 1 });
            Ok(Answer::Event { key: "k".to_owned(), change: Change::Updated, value, before })
        };
        let opening = Op::MapEvents { key: String::new() };
        add(&mut history, Kind::Map, opening, 1, Ok(Answer::Nothing));
        add(&mut history, Kind::Map, put("a"), 2, written(2, None));
        add(&mut history, Kind::Map, put("b"), 3, written(3, Some(("a", 2))));
        add(&mut history, Kind::Map, put("c"), 4, written(4, Some(("b", 3))));
        let outputs =
            vec![(1, 2, event("a", 2, "")), (2, 3, event("b", 3, "a")), (3, 4, event("c", 4, "b"))];
        history.streams.push(Stream { record: 0, outputs, complete: false });
        assert_eq!(wrong(&history), 0);
        let missed = history.streams[0].outputs.remove(1);
        assert_eq!(wrong(&history), 2, "one is missing, and the next does not follow");
        history.streams[0].outputs.insert(1, (2, 3, event("x", 3, "a")));
        assert_eq!(wrong(&history), 1, "the value is another one");
        history.streams[0].outputs[1] = missed;
        assert_eq!(wrong(&history), 0);
    }

    #[test]
    fn a_removal_that_nobody_told_is_missed() {
        let mut history = history();
        let element = || "e".to_owned();
        let event = |change| -> Outcome {
            let (key, value, before) = (element(), Held::default(), None);
            Ok(Answer::Event { key, change, value, before })
        };
        add(&mut history, Kind::Set, Op::SetEvents, 1, Ok(Answer::Nothing));
        let addition = || Op::SetAdd { element: element(), ttl: None };
        add(&mut history, Kind::Set, addition(), 2, Ok(Answer::Nothing));
        let removal = Op::SetRemove { element: element() };
        add(&mut history, Kind::Set, removal, 3, Ok(Answer::Nothing));
        add(&mut history, Kind::Set, addition(), 4, Ok(Answer::Nothing));
        let outputs = vec![
            (1, 2, event(Change::Inserted)),
            (2, 3, event(Change::Removed)),
            (3, 4, event(Change::Inserted)),
        ];
        history.streams.push(Stream { record: 0, outputs, complete: false });
        assert_eq!(wrong(&history), 0);
        let _ = history.streams[0].outputs.remove(1);
        assert_eq!(wrong(&history), 2, "one is missing, and the next does not follow");
    }

    #[test]
    fn one_index_belongs_to_one_command() {
        let mut history = history();
        add(&mut history, Kind::Counter, Op::CounterIncrement(1), 5, Ok(Answer::Number(1)));
        add(&mut history, Kind::Counter, Op::CounterIncrement(1), 5, Ok(Answer::Number(2)));
        assert_eq!(wrong(&history), 1);
    }

    fn wrong(history: &History) -> usize {
        let findings = check(history, &Plan::calm(0));
        assert_eq!(findings.open, 0);
        findings.wrong.len()
    }

    fn history() -> History {
        let mut history = History::default();
        history.sessions.push(Session {
            id: 1,
            partition: PartitionId(1),
            confirmed: 0,
            timeout_ns: 1,
            survived: true,
            closed: None,
        });
        history
    }

    fn add(history: &mut History, kind: Kind, op: Op, index: u64, outcome: Outcome) {
        let call = history.stamp(0);
        let number = history.call(Record {
            client: 0,
            session: 0,
            partition: PartitionId(1),
            primitive: (kind, "p".to_owned()),
            op,
            call,
            back: None,
            outcome: None,
            index: 0,
        });
        history.back(number, 0, index, outcome);
    }
}
