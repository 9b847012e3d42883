//! The counter map's stories, the reference's slips, and a plain model.

use std::collections::BTreeMap;

use prost::Message;

use super::*;
use crate::id::{Kind, PrimitiveId, SessionId, Ticket};
use crate::limits::{KEY_BYTES_MAX, RUBBLE_PARTS_MAX};
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::proto::countermap::v1::{
    EntriesOutput, Entry, EventsOutput, GetOutput, RemoveOutput, SizeOutput, UpdateOutput, event,
};

struct Store {
    rig: Rig,
    session: SessionId,
    map: PrimitiveId,
    number: u64,
}

impl Store {
    fn new() -> Store {
        let mut rig = Rig::new();
        let session = rig.open(Span::secs(3600));
        let map = rig.create(session, 1, Kind::CounterMap, "counts");
        Store { rig, session, map, number: 1 }
    }

    fn run(&mut self, op: &Op) -> Vec<Said> {
        self.number += 1;
        self.rig.run(command(self.session, self.number, self.map, op))
    }

    /// Runs what answers with the value before, or the one removed.
    fn prev(&mut self, op: &Op) -> i64 {
        let said = self.run(op);
        UpdateOutput::decode(ok(&said)).expect("documented").prev_value
    }

    fn fails(&mut self, op: &Op, status: Status, text: &str) {
        let said = self.run(op);
        assert_eq!(failed(&said), (status, text.to_owned()));
    }

    fn get(&mut self, key: &str) -> Option<i64> {
        let said = self.rig.ask(self.session, self.map, op(GET, key, 0, 0));
        match &said[..] {
            [Said::Out(_, 0, Status::Ok, bytes)] => {
                Some(GetOutput::decode(&bytes[..]).expect("documented").value)
            }
            said => {
                assert_eq!(failed(said), (Status::NotFound, format!("key {key} not found")));
                None
            }
        }
    }

    fn size(&mut self) -> u32 {
        let said = self.rig.ask(self.session, self.map, clear(SIZE));
        SizeOutput::decode(ok(&said)).expect("documented").size
    }

    fn listen(&mut self, key: &str) -> Ticket {
        self.number += 1;
        self.rig.send(command(self.session, self.number, self.map, &op(EVENTS, key, 0, 0)))
    }

    fn heard(&mut self, ticket: Ticket) -> Vec<String> {
        self.rig.take(ticket).iter().map(told).collect()
    }
}

fn op(tag: u32, key: &str, value: i64, prev: i64) -> Op {
    let mut input = Vec::new();
    let first = if tag == REMOVE { 2 } else { 1 };
    put_text(&mut input, first, key.as_bytes());
    if tag != REMOVE {
        put_number(&mut input, 2, value);
    }
    put_number(&mut input, 3, prev);
    Op(Kind::CounterMap, tag, input)
}

/// An operation without input, such as Clear.
fn clear(tag: u32) -> Op {
    Op(Kind::CounterMap, tag, Vec::new())
}

fn entries(watch: bool) -> Op {
    Op(Kind::CounterMap, ENTRIES, number(u64::from(watch)))
}

/// An event in words.
fn told(said: &Said) -> String {
    let event = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    let event = event.event.expect("always there");
    let key = event.key;
    match event.event.expect("always one") {
        event::Event::Inserted(it) => format!("+{key} {}", it.value),
        event::Event::Updated(it) => format!("~{key} {} was {}", it.value, it.prev_value),
        event::Event::Removed(it) => format!("-{key} {}", it.value),
    }
}

fn entry(said: &Said) -> Entry {
    let output = EntriesOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    output.entry.expect("always there")
}

/// An item of a listing in words.
fn item(said: &Said) -> String {
    let Entry { key, value } = entry(said);
    format!("{key} {value}")
}

#[test]
fn operations_do_what_the_specification_says() {
    let mut store = Store::new();
    assert_eq!(store.prev(&op(SET, "k", 5, 0)), 0);
    assert_eq!(store.prev(&op(SET, "k", 6, 0)), 5);
    store.fails(&op(INSERT, "k", 1, 0), Status::AlreadyExists, "key 'k' already exists");
    assert_eq!(ok(&store.run(&op(INSERT, "l", -7, 0))), b"");
    store.fails(&op(UPDATE, "z", 1, 0), Status::NotFound, "key 'z' not found");
    store.fails(&op(UPDATE, "k", 1, 5), Status::Conflict, "optimistic lock failure");
    store.fails(&op(UPDATE, "k", 1, 0), Status::Conflict, "optimistic lock failure");
    assert_eq!(store.prev(&op(UPDATE, "k", 0, 6)), 6);
    assert_eq!((store.get("k"), store.get("l"), store.get("z")), (Some(0), Some(-7), None));
    assert_eq!(store.size(), 2);
    assert_eq!(ok(&store.run(&clear(CLEAR))), b"");
    assert_eq!((store.size(), store.get("k")), (0, None));
    for tag in [10, 11] {
        store.fails(&clear(tag), Status::NotSupported, "proposal not supported");
    }
}

#[test]
fn a_key_counts_from_nothing_and_a_delta_of_0_is_1() {
    let mut store = Store::new();
    assert_eq!(store.prev(&op(INCREMENT, "up", 0, 0)), 0);
    assert_eq!(store.prev(&op(INCREMENT, "up", 5, 0)), 1);
    assert_eq!(store.prev(&op(INCREMENT, "up", -2, 0)), 6);
    assert_eq!(store.prev(&op(DECREMENT, "down", 0, 0)), 0);
    assert_eq!(store.prev(&op(DECREMENT, "down", -4, 0)), -1);
    assert_eq!((store.get("up"), store.get("down")), (Some(4), Some(3)));
}

#[test]
fn an_overflow_changes_nothing_and_nobody_hears_of_it() {
    let mut store = Store::new();
    store.run(&op(SET, "high", i64::MAX, 0));
    store.run(&op(SET, "low", i64::MIN, 0));
    let (listener, watcher) =
        (store.listen(""), store.rig.watch(store.session, store.map, entries(true)));
    store.rig.take(watcher);
    let overflows = [
        op(INCREMENT, "high", 0, 0),
        op(DECREMENT, "high", -1, 0),
        op(INCREMENT, "low", -1, 0),
        op(DECREMENT, "low", 0, 0),
        op(DECREMENT, "new", i64::MIN, 0),
    ];
    for op in &overflows {
        store.fails(op, Status::Invalid, "counter overflow");
    }
    assert_eq!((store.get("high"), store.get("low")), (Some(i64::MAX), Some(i64::MIN)));
    assert_eq!((store.get("new"), store.size()), (None, 2));
    assert!(store.rig.take(listener).is_empty() && store.rig.take(watcher).is_empty());
}

/// primitives.md CM-03: as specified, there is no unconditional removal.
#[test]
fn remove_always_compares() {
    let mut store = Store::new();
    store.fails(&op(REMOVE, "k", 0, 0), Status::NotFound, "key 'k' not found");
    store.run(&op(SET, "k", 7, 0));
    let text = "entry value 7 does not match remove value 0";
    store.fails(&op(REMOVE, "k", 0, 0), Status::Conflict, text);
    let text = "entry value 7 does not match remove value -7";
    store.fails(&op(REMOVE, "k", 0, -7), Status::Conflict, text);
    let said = store.run(&op(REMOVE, "k", 0, 7));
    assert_eq!(RemoveOutput::decode(ok(&said)).expect("documented").value, 7);
    store.run(&op(SET, "k", 0, 0));
    assert_eq!(ok(&store.run(&op(REMOVE, "k", 0, 0))), b"");
    assert_eq!(store.size(), 0);
}

#[test]
fn listeners_hear_what_they_asked_for_in_one_order() {
    let mut store = Store::new();
    store.run(&op(SET, "b", 2, 0));
    let (all, one) = (store.listen(""), store.listen("b"));
    store.run(&op(INCREMENT, "a", 0, 0));
    store.run(&op(DECREMENT, "b", 5, 0));
    store.run(&op(SET, "b", -3, 0));
    store.run(&op(REMOVE, "a", 0, 1));
    store.run(&op(INSERT, "c", 0, 0));
    store.run(&clear(CLEAR));
    let expected = ["+a 1", "~b -3 was 2", "~b -3 was -3", "-a 1", "+c 0", "-b -3", "-c 0"];
    assert_eq!(store.heard(all), expected);
    assert_eq!(store.heard(one), ["~b -3 was 2", "~b -3 was -3", "-b -3"]);
}

/// primitives.md CM-01 and CM-02: the value that a change leaves, and nothing of removals.
#[test]
fn watchers_see_values_and_no_removals() {
    let mut store = Store::new();
    for (key, value) in [("b", 2), ("a", 1), ("c", 3)] {
        store.run(&op(SET, key, value, 0));
    }
    let said = store.rig.ask(store.session, store.map, entries(false));
    assert_eq!(said.last(), Some(&Said::End));
    let items: Vec<String> = said[..3].iter().map(item).collect();
    assert_eq!(items, ["a 1", "b 2", "c 3"]);
    let watcher = store.rig.watch(store.session, store.map, entries(true));
    assert_eq!(store.rig.take(watcher).len(), 3);
    store.run(&op(INCREMENT, "a", 9, 0));
    store.run(&op(DECREMENT, "a", 4, 0));
    store.run(&op(INCREMENT, "d", 0, 0));
    store.run(&op(REMOVE, "b", 0, 2));
    store.run(&op(INSERT, "b", 8, 0));
    store.run(&op(UPDATE, "b", 0, 8));
    store.run(&clear(CLEAR));
    let items: Vec<String> = store.rig.take(watcher).iter().map(item).collect();
    assert_eq!(items, ["a 10", "a 6", "d 1", "b 8", "b 0"]);
}

/// What a client that keeps the last item of each key holds is right for every key that is there.
#[test]
fn a_listing_in_pieces_misses_no_change() {
    for seed in 0..4 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        store.rig.strict = false;
        let key = |n: u64| format!("{n:04}{}", "k".repeat(KEY_BYTES_MAX / 4));
        for n in 0..300 {
            store.run(&op(SET, &key(n), n as i64, 0));
        }
        let watcher = store.rig.watch(store.session, store.map, entries(true));
        let mut seen: BTreeMap<String, i64> = BTreeMap::new();
        let mut pieces = 0;
        loop {
            for said in store.rig.take(watcher) {
                let Said::Out(_, 0, Status::Ok, bytes) = &said else {
                    panic!("{said:?}");
                };
                let output = EntriesOutput::decode(&bytes[..]).expect("documented");
                let entry = output.entry.expect("always there");
                seen.insert(entry.key, entry.value);
            }
            if !store.rig.machine.has_more() {
                break;
            }
            pieces += 1;
            store.run(&op(INCREMENT, &key(prng.below(320)), 1000, 0));
            store.rig.more();
        }
        assert!(pieces > 2, "seed {seed}: {pieces} pieces");
        let said = store.rig.watch(store.session, store.map, entries(false));
        while store.rig.machine.has_more() {
            store.rig.more();
        }
        let all = store.rig.take(said);
        let now: BTreeMap<String, i64> =
            all[..all.len() - 1].iter().map(entry).map(|it| (it.key, it.value)).collect();
        assert_eq!(seen, now, "seed {seed}");
    }
}

#[test]
fn a_cleared_map_is_freed_in_slices() {
    let mut store = Store::new();
    store.rig.strict = false;
    let keys = 3 * RUBBLE_PARTS_MAX as u64;
    for n in 0..keys {
        store.run(&op(INCREMENT, &format!("{n}"), 0, 0));
    }
    store.run(&clear(CLEAR));
    store.rig.compare();
    let held = store.rig.machine.bytes();
    for _ in 0..3 {
        store.rig.pass(Span::ZERO);
    }
    assert!(store.rig.machine.bytes() + keys as usize * COUNT_BYTES <= held);
}

#[test]
fn keys_have_a_form_and_a_bound() {
    let mut store = Store::new();
    let long = "k".repeat(KEY_BYTES_MAX);
    assert_eq!(store.prev(&op(INCREMENT, &long, 0, 0)), 0);
    assert_eq!(store.prev(&op(INCREMENT, "", 3, 0)), 0);
    assert_eq!((store.get(&long), store.get("")), (Some(1), Some(3)));
    let mut broken = Vec::new();
    field::put_bytes(&mut broken, 1, &[0xff, 0xfe]);
    let broken = Op(Kind::CounterMap, SET, broken);
    for op in [&broken, &op(SET, &(long + "k"), 1, 0)] {
        let said = store.run(op);
        assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]), "{said:?}");
    }
    let said = store.rig.ask(store.session, store.map, Op(Kind::CounterMap, GET, broken.2));
    assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]), "{said:?}");
    let odd = Op(Kind::CounterMap, SET, vec![8, 1]);
    store.fails(&odd, Status::Invalid, "the input cannot be decoded");
    assert_eq!(store.size(), 2);
}

#[test]
fn listeners_go_with_their_session_and_with_their_command() {
    let mut store = Store::new();
    let other = store.rig.open(Span::secs(3600));
    store.rig.create(other, 1, Kind::CounterMap, "counts");
    let body = command(other, 2, store.map, &op(EVENTS, "", 0, 0));
    let (mine, theirs) = (store.listen("k"), store.rig.send(body));
    let empty = store.rig.machine.primitives_bytes;
    store.run(&op(INCREMENT, "k", 0, 0));
    store.rig.run(close_session(other));
    store.rig.run(keep_alive(store.session, store.number, &[], &[]));
    store.run(&op(INCREMENT, "k", 0, 0));
    let (mine, theirs) = (store.rig.take(mine), store.rig.take(theirs));
    assert_eq!((mine.len(), theirs.len()), (2, 2));
    assert_eq!((mine.last(), theirs.last()), (Some(&Said::End), Some(&Said::End)));
    store.run(&op(REMOVE, "k", 0, 2));
    assert!(store.rig.machine.primitives_bytes < empty, "listeners are still held");
}

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        let mut model: BTreeMap<String, i64> = BTreeMap::new();
        let mut mirror: BTreeMap<String, i64> = BTreeMap::new();
        let mut done: Vec<(u64, Op, Vec<Said>)> = Vec::new();
        let listener = store.listen("");
        for _ in 0..100 {
            if prng.chance(120)
                && let Some((number, op, said)) = done.last()
            {
                let again = store.rig.run(command(store.session, *number, store.map, op));
                assert_eq!(again, *said, "seed {seed}: a repeat differs");
                continue;
            }
            let key = *prng.pick(&["", "a", "b", "c"]);
            let old = model.get(key).copied();
            let small = prng.below(5) as i64 - 2;
            let value = *prng.pick(&[small, small, small, i64::MAX, i64::MIN]);
            let prev = *prng.pick(&[old.unwrap_or(0), old.unwrap_or(0), small]);
            let commands = [SET, INSERT, UPDATE, INCREMENT, INCREMENT, DECREMENT, REMOVE, CLEAR];
            let tag = *prng.pick(&commands);
            let op = if tag == CLEAR { clear(CLEAR) } else { op(tag, key, value, prev) };
            let said = store.run(&op);
            match expected(&mut model, tag, key, value, prev) {
                Ok(answer) => assert_eq!(ok(&said), number(answer as u64), "seed {seed}: {op:?}"),
                Err(status) => assert_eq!(failed(&said).0, status, "seed {seed}: {op:?}"),
            }
            done.push((store.number, op, said));
            reflect(&mut mirror, &store.rig.take(listener));
            assert_eq!(mirror, model, "seed {seed}: events tell another story");
            let listed = store.rig.ask(store.session, store.map, entries(false));
            let listed: BTreeMap<String, i64> =
                listed[..listed.len() - 1].iter().map(entry).map(|it| (it.key, it.value)).collect();
            assert_eq!(listed, model, "seed {seed}");
            assert_eq!(store.size() as usize, model.len(), "seed {seed}");
        }
    }
}

/// What the command answers, in a map of the standard library.
fn expected(
    model: &mut BTreeMap<String, i64>,
    tag: u32,
    key: &str,
    value: i64,
    prev: i64,
) -> Result<i64, Status> {
    let old = model.get(key).copied();
    let delta = i128::from(if value == 0 { 1 } else { value });
    let was = i128::from(old.unwrap_or(0));
    let new = match (tag, old) {
        (CLEAR, _) => {
            model.clear();
            return Ok(0);
        }
        (INSERT, Some(_)) => return Err(Status::AlreadyExists),
        (UPDATE | REMOVE, None) => return Err(Status::NotFound),
        (UPDATE | REMOVE, Some(old)) if old != prev => return Err(Status::Conflict),
        (REMOVE, _) => return Ok(model.remove(key).expect("it is there")),
        (INCREMENT, _) => was + delta,
        (DECREMENT, _) => was - delta,
        _ => i128::from(value),
    };
    model.insert(key.to_owned(), i64::try_from(new).map_err(|_| Status::Invalid)?);
    Ok(old.unwrap_or(0))
}

/// Applies events to a map, as a client would.
fn reflect(mirror: &mut BTreeMap<String, i64>, heard: &[Said]) {
    for said in heard {
        let output = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
        let event = output.event.expect("always there");
        let key = event.key;
        match event.event.expect("always one") {
            event::Event::Inserted(it) => assert_eq!(mirror.insert(key, it.value), None),
            event::Event::Updated(it) => {
                assert_eq!(mirror.insert(key, it.value), Some(it.prev_value));
            }
            event::Event::Removed(it) => assert_eq!(mirror.remove(&key), Some(it.value)),
        }
    }
}
