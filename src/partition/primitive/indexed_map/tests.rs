//! The indexed map's stories, the reference's slips, and a plain model.

use std::collections::BTreeMap;

use prost::Message;

use super::*;
use crate::id::{Kind, PrimitiveId, SessionId, Ticket};
use crate::limits::{KEY_BYTES_MAX, LISTING_BYTES_MAX, RUBBLE_PARTS_MAX};
use crate::partition::machine::Machine;
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::field::{put_bytes, put_duration};
use crate::wire::proto::indexedmap::v1::{
    self as proto, EntriesOutput, EventsOutput, GetOutput, SizeOutput, event,
};

const HOUR: Span = Span::secs(3600);

struct Store {
    rig: Rig,
    session: SessionId,
    map: PrimitiveId,
    number: u64,
}

impl Store {
    fn new() -> Store {
        let mut rig = Rig::new();
        let session = rig.open(HOUR);
        let map = rig.create(session, 1, Kind::IndexedMap, "things");
        Store { rig, session, map, number: 1 }
    }

    fn send(&mut self, op: &Op) -> Ticket {
        self.number += 1;
        self.rig.send(command(self.session, self.number, self.map, op))
    }

    fn run(&mut self, op: &Op) -> Vec<Said> {
        let ticket = self.send(op);
        self.rig.take(ticket)
    }

    /// A command or a query that succeeds with an entry, in words.
    fn entry(&mut self, op: &Op) -> String {
        let said = match IndexedMap::mode(op.1) {
            Some(Mode::Query) => self.rig.ask(self.session, self.map, op.clone()),
            _ => self.run(op),
        };
        // All outputs with an entry have it at 1.
        shown(GetOutput::decode(ok(&said)).expect("documented").entry)
    }

    fn append(&mut self, key: &str, value: &str) -> String {
        self.entry(&append(key, value, None))
    }

    fn size(&mut self) -> u32 {
        let said = self.rig.ask(self.session, self.map, bare(SIZE));
        SizeOutput::decode(ok(&said)).expect("documented").size
    }

    fn fails(&mut self, op: &Op, status: Status, text: &str) {
        let said = match IndexedMap::mode(op.1) {
            Some(Mode::Query) => self.rig.ask(self.session, self.map, op.clone()),
            _ => self.run(op),
        };
        assert_eq!(failed(&said), (status, text.to_owned()));
    }

    /// Everything, as a listing shows it.
    fn all(&mut self) -> Vec<String> {
        let ticket = self.rig.watch(self.session, self.map, entries(false));
        while self.rig.machine.has_more() {
            self.rig.more();
        }
        let mut said = self.rig.take(ticket);
        assert_eq!(said.pop(), Some(Said::End));
        said.iter().map(item).collect()
    }

    fn heard(&mut self, listener: Ticket) -> Vec<String> {
        self.rig.take(listener).iter().map(told).collect()
    }
}

fn bare(tag: u32) -> Op {
    Op(Kind::IndexedMap, tag, Vec::new())
}

fn append(key: &str, value: &str, ttl: Option<Span>) -> Op {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, key.as_bytes());
    put_bytes(&mut input, 2, value.as_bytes());
    if let Some(ttl) = ttl {
        put_duration(&mut input, 3, ttl);
    }
    Op(Kind::IndexedMap, APPEND, input)
}

fn update(key: &str, index: u64, value: &str, ttl: Option<Span>, prev: u64) -> Op {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, key.as_bytes());
    put_uint(&mut input, 2, index);
    put_bytes(&mut input, 3, value.as_bytes());
    if let Some(ttl) = ttl {
        put_duration(&mut input, 4, ttl);
    }
    put_uint(&mut input, 5, prev);
    Op(Kind::IndexedMap, UPDATE, input)
}

fn remove(key: &str, index: u64, prev: u64) -> Op {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, key.as_bytes());
    put_uint(&mut input, 2, index);
    put_uint(&mut input, 3, prev);
    Op(Kind::IndexedMap, REMOVE, input)
}

fn get(key: &str, index: u64) -> Op {
    Op(Kind::IndexedMap, GET, remove(key, index, 0).2)
}

fn beside(tag: u32, index: u64) -> Op {
    Op(Kind::IndexedMap, tag, number(index))
}

fn events(key: &str) -> Op {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, key.as_bytes());
    Op(Kind::IndexedMap, EVENTS, input)
}

fn entries(watch: bool) -> Op {
    beside(ENTRIES, u64::from(watch))
}

fn shown(entry: Option<proto::Entry>) -> String {
    let entry = entry.expect("always there");
    match entry.value {
        Some(value) => format!("{}:{} {}", entry.index, entry.key, valued(Some(value))),
        None => format!("{}:{} gone", entry.index, entry.key),
    }
}

fn valued(value: Option<proto::Value>) -> String {
    let value = value.expect("always there");
    format!("{}@{}", String::from_utf8(value.value.to_vec()).expect("text"), value.version)
}

/// An event in words.
fn told(said: &Said) -> String {
    let output = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    let event = output.event.expect("always there");
    let place = format!("{}:{}", event.index, event.key);
    match event.event.expect("always one") {
        event::Event::Inserted(it) => format!("+{place} {}", valued(it.value)),
        event::Event::Updated(it) => {
            format!("~{place} {} was {}", valued(it.value), valued(it.prev_value))
        }
        event::Event::Removed(it) => {
            format!("-{place} {}{}", valued(it.value), if it.expired { " expired" } else { "" })
        }
    }
}

/// An item of a listing in words.
fn item(said: &Said) -> String {
    let output = EntriesOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    shown(output.entry)
}

#[test]
fn operations_do_what_the_specification_says() {
    let mut store = Store::new();
    assert_eq!(store.append("a", "v"), "1:a v@3");
    assert_eq!(store.append("b", "v"), "2:b v@4");
    store.fails(&append("a", "w", None), Status::AlreadyExists, "key a already exists at index 1");
    assert_eq!(store.entry(&update("a", 0, "w", None, 3)), "1:a w@6");
    assert_eq!(store.entry(&update("", 1, "x", None, 0)), "1:a x@7");
    assert_eq!(store.entry(&update("a", 1, "y", None, 7)), "1:a y@8");
    // Equal bytes change nothing, not even the version.
    assert_eq!(store.entry(&update("a", 1, "y", None, 8)), "1:a y@8");
    assert_eq!(store.entry(&get("a", 0)), "1:a y@8");
    assert_eq!(store.entry(&get("", 2)), "2:b v@4");
    assert_eq!(store.entry(&get("a", 2)), "2:b v@4", "the index goes first");
    assert_eq!(store.size(), 2);
    assert_eq!(store.entry(&remove("a", 0, 8)), "1:a y@8");
    assert_eq!(store.entry(&remove("", 2, 0)), "2:b v@4");
    assert_eq!(store.append("a", "z"), "3:a z@12");
    assert_eq!(ok(&store.run(&bare(CLEAR))), b"");
    assert_eq!(store.size(), 0);
    assert_eq!(store.append("c", "v"), "4:c v@14", "an index is never given out again");
}

#[test]
fn failures_have_the_texts_of_the_reference_and_change_nothing() {
    let mut store = Store::new();
    store.append("a", "v");
    store.append("b", "w");
    let before = store.all();
    let missing = |store: &mut Store, op: &Op, text: &str| store.fails(op, Status::NotFound, text);
    missing(&mut store, &update("", 7, "x", None, 0), "index 7 not found");
    missing(&mut store, &update("z", 0, "x", None, 0), "key z not found");
    missing(&mut store, &remove("", 7, 0), "no entry found at index 7");
    missing(&mut store, &remove("a", 7, 0), "no entry found at index 7");
    missing(&mut store, &remove("z", 0, 0), "no entry found at key z");
    missing(&mut store, &remove("", 0, 0), "no entry found at key ");
    missing(&mut store, &get("", 7), "no entry found at index 7");
    missing(&mut store, &get("z", 0), "no entry found at key z");
    let text = "key at index 1 does not match proposed Update key b";
    store.fails(&update("b", 1, "x", None, 0), Status::Fault, text);
    let text = "must specify either a key or index to update";
    store.fails(&update("", 0, "x", None, 0), Status::Invalid, text);
    let text = "key a version 3 does not match prev_version 4";
    store.fails(&update("a", 0, "x", None, 4), Status::Conflict, text);
    store.fails(&update("a", 0, "v", None, 4), Status::Conflict, text);
    store.fails(&remove("a", 0, 4), Status::Conflict, text);
    store.fails(&remove("", 1, 4), Status::Conflict, text);
    store.fails(&bare(50), Status::NotSupported, "proposal not supported");
    let broken = Op(Kind::IndexedMap, APPEND, vec![8, 1]);
    store.fails(&broken, Status::Invalid, "the input cannot be decoded");
    assert_eq!(store.all(), before);
}

/// Given an index, Remove does not look at the key (primitives.md 2.4).
#[test]
fn remove_goes_by_the_index_where_there_is_one() {
    let mut store = Store::new();
    store.append("a", "v");
    store.append("b", "w");
    assert_eq!(store.entry(&remove("a", 2, 0)), "2:b w@4");
    assert_eq!(store.all(), ["1:a v@3"]);
}

/// primitives.md I-03, I-04: any of these reads could end the reference's process.
#[test]
fn an_index_that_is_not_there_has_neighbours_too() {
    let mut store = Store::new();
    for op in [bare(FIRST), bare(LAST), beside(NEXT, 0), beside(PREV, 9)] {
        store.fails(&op, Status::NotFound, "map is empty");
    }
    for key in ["a", "b", "c", "d", "e"] {
        store.append(key, "v");
    }
    for index in [1, 3, 4] {
        store.run(&remove("", index, 0));
    }
    assert_eq!(store.all(), ["2:b v@4", "5:e v@7"]);
    let (b, e) = ("2:b v@4", "5:e v@7");
    for (op, found) in [
        (bare(FIRST), b),
        (bare(LAST), e),
        (beside(NEXT, 0), b),
        (beside(NEXT, 1), b),
        (beside(NEXT, 2), e),
        (beside(NEXT, 3), e),
        (beside(PREV, 4), b),
        (beside(PREV, 5), b),
        (beside(PREV, 6), e),
        (beside(PREV, u64::MAX), e),
    ] {
        assert_eq!(store.entry(&op), found, "{op:?}");
    }
    for index in [5, 6, u64::MAX] {
        let text = format!("no entry found after index {index}");
        store.fails(&beside(NEXT, index), Status::NotFound, &text);
    }
    for index in [0, 1, 2] {
        let text = format!("no entry found prior to index {index}");
        store.fails(&beside(PREV, index), Status::NotFound, &text);
    }
}

/// primitives.md I-06: in the reference a removal by index leaves the timer behind.
#[test]
fn entries_expire_in_log_time_and_nothing_expires_in_their_stead() {
    let mut store = Store::new();
    let listener = store.send(&events(""));
    store.run(&append("short", "v", Some(Span::secs(1))));
    store.run(&append("long", "v", Some(Span::secs(9))));
    store.run(&append("kept", "v", Some(Span::secs(1))));
    store.run(&update("kept", 0, "w", None, 0));
    store.run(&append("same", "v", Some(Span::secs(2))));
    store.run(&update("same", 0, "v", None, 0));
    store.run(&append("gone", "v", Some(Span::secs(1))));
    store.run(&remove("", 5, 0));
    store.run(&append("gone", "w", None));
    store.heard(listener);
    assert_eq!(store.size(), 5, "a read expires nothing");
    store.rig.pass(Span::secs(1));
    assert_eq!(store.heard(listener), ["-1:short v@4 expired"]);
    store.rig.pass(Span::secs(1));
    assert_eq!(store.heard(listener), ["-4:same v@8 expired"], "an equal Update keeps the TTL");
    store.run(&append("short", "x", Some(Span::ZERO)));
    store.rig.pass(Span::secs(50));
    let heard = ["+7:short x@13", "-7:short x@13 expired", "-2:long v@5 expired"];
    assert_eq!(store.heard(listener), heard);
    assert_eq!(store.all(), ["3:kept w@7", "6:gone w@12"]);
    assert_eq!(store.rig.machine.ledger.schedule.len(), 1, "the session's own");
}

/// primitives.md I-07: an update says what was there. C-05: clearing goes by index.
#[test]
fn listeners_hear_what_they_asked_for_in_one_order() {
    let mut store = Store::new();
    store.append("z", "0");
    let (all, one) = (store.send(&events("")), store.send(&events("z")));
    store.append("a", "1");
    store.run(&update("z", 0, "2", None, 0));
    store.run(&update("z", 0, "2", None, 0));
    store.run(&remove("", 2, 0));
    store.append("b", "3");
    store.run(&bare(CLEAR));
    let expected =
        ["+2:a 1@6", "~1:z 2@7 was 0@3", "-2:a 1@6", "+3:b 3@10", "-1:z 2@7", "-3:b 3@10"];
    assert_eq!(store.heard(all), expected);
    assert_eq!(store.heard(one), ["~1:z 2@7 was 0@3", "-1:z 2@7"]);
}

/// primitives.md I-05: in the reference a watch ends behind its listing.
#[test]
fn a_listing_ends_and_a_watch_goes_on() {
    let mut store = Store::new();
    for key in ["c", "a", "b"] {
        store.append(key, "v");
    }
    assert_eq!(store.all(), ["1:c v@3", "2:a v@4", "3:b v@5"]);
    let watcher = store.rig.watch(store.session, store.map, entries(true));
    assert_eq!(store.rig.take(watcher).len(), 3);
    store.append("d", "w");
    store.run(&update("", 2, "x", None, 0));
    store.run(&remove("c", 0, 0));
    store.run(&append("e", "y", Some(Span::ZERO)));
    store.rig.pass(Span::secs(1));
    store.run(&bare(CLEAR));
    let items: Vec<String> = store.rig.take(watcher).iter().map(item).collect();
    let expected = [
        "4:d w@6", "2:a x@7", "1:c gone", "5:e y@9", "5:e gone", "2:a gone", "3:b gone", "4:d gone",
    ];
    assert_eq!(items, expected);
}

/// What a client that applies the items to a map of its own holds is the map, whenever the changes
/// came.
#[test]
fn a_listing_in_pieces_loses_and_doubles_nothing() {
    for seed in 0..10 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        store.rig.strict = false;
        let value = "v".repeat(LISTING_BYTES_MAX / 50);
        for n in 0..300 {
            store.append(&format!("{n}"), &value);
        }
        let watcher = store.rig.watch(store.session, store.map, entries(true));
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut pieces, mut last) = (0, 0);
        loop {
            for said in store.rig.take(watcher) {
                let output = EntriesOutput::decode(ok(std::slice::from_ref(&said)));
                let entry = output.expect("documented").entry.expect("always there");
                match entry.value {
                    Some(value) => {
                        let old = seen.insert(entry.index, value.version);
                        assert!(old.is_none_or(|old| old < value.version), "told twice");
                        last = last.max(entry.index);
                    }
                    None => assert!(seen.remove(&entry.index).is_some(), "never told of it"),
                }
            }
            if !store.rig.machine.has_more() {
                break;
            }
            pieces += 1;
            let index = 1 + prng.below(300);
            match prng.below(3) {
                0 => drop(store.run(&update("", index, &format!("{pieces}"), None, 0))),
                1 => drop(store.run(&append(&format!("new {pieces}"), "v", None))),
                _ => drop(store.run(&remove("", index, 0))),
            }
            store.rig.more();
        }
        assert!(pieces > 2, "seed {seed}: {pieces} pieces");
        let ticket = store.rig.watch(store.session, store.map, entries(false));
        while store.rig.machine.has_more() {
            store.rig.more();
        }
        let all = store.rig.take(ticket);
        let now = all[..all.len() - 1].iter().map(|said| {
            let output = EntriesOutput::decode(ok(std::slice::from_ref(said)));
            let entry = output.expect("documented").entry.expect("always there");
            (entry.index, entry.value.expect("listed").version)
        });
        assert_eq!(seen, now.collect(), "seed {seed}");
    }
}

#[test]
fn a_cleared_map_is_freed_in_slices_and_its_timers_are_gone() {
    let mut store = Store::new();
    store.rig.strict = false;
    let keys = 3 * RUBBLE_PARTS_MAX as u64;
    for n in 0..keys {
        let ttl = (n % 2 == 0).then_some(Span::secs(5));
        store.run(&append(&format!("{n}"), "value", ttl));
    }
    store.run(&bare(CLEAR));
    store.rig.compare();
    let held = store.rig.machine.bytes();
    for _ in 0..6 {
        store.rig.pass(Span::ZERO);
    }
    assert!(store.rig.machine.bytes() + keys as usize * 5 < held);
    store.rig.pass(Span::secs(9));
    assert_eq!((store.size(), store.rig.machine.ledger.schedule.len()), (0, 1));
}

#[test]
fn keys_have_a_form_and_a_bound() {
    let mut store = Store::new();
    let mut input = Vec::new();
    put_bytes(&mut input, 1, &[0xff, 0xfe]);
    let long = append(&"k".repeat(KEY_BYTES_MAX + 1), "", None);
    for op in [Op(Kind::IndexedMap, APPEND, input.clone()), long] {
        let said = store.run(&op);
        assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]), "{said:?}");
    }
    let said = store.rig.ask(store.session, store.map, Op(Kind::IndexedMap, GET, input));
    assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]));
}

/// primitives.md I-01, I-02: the reference writes its first entry again and again and cannot read
/// it. An index that a cleared map has given out stays given out.
#[test]
fn a_snapshot_keeps_every_entry_and_the_last_index() {
    let mut store = Store::new();
    store.rig.strict = false;
    for n in 0..100 {
        let ttl = (n % 3 == 0).then_some(Span::secs(5));
        store.run(&append(&format!("{}", (n * 37) % 100), &format!("v{n}"), ttl));
    }
    store.run(&remove("", 100, 0));
    let listener = store.send(&events("0"));
    let (before, snapshot) = (store.all(), snapshot_of(&store.rig.machine, 60));
    let restored = Machine::restore(PARTITION, store.rig.bounds.clone(), &snapshot);
    store.rig.machine = restored.expect("sound");
    assert_eq!(store.all(), before);
    let number = store.number;
    let again = store.rig.send(command(store.session, number, store.map, &events("0")));
    store.rig.pass(Span::secs(6));
    assert_eq!(store.size(), 66);
    assert_eq!(store.rig.take(listener), []);
    assert_eq!(store.heard(again), ["-1:0 v0@3 expired"]);
    assert_eq!(store.append("new", "v").split_once(':').map(|it| it.0), Some("101"));
    store.run(&bare(CLEAR));
    let snapshot = snapshot_of(&store.rig.machine, 60);
    let restored = Machine::restore(PARTITION, store.rig.bounds.clone(), &snapshot);
    store.rig.machine = restored.expect("sound");
    assert_eq!(store.append("new", "v").split_once(':').map(|it| it.0), Some("102"));
}

/// An indexed map in a few lines, the slow way.
#[derive(Default)]
struct Model {
    last: u64,
    /// In the order of appends.
    entries: Vec<Line>,
}

struct Line {
    index: u64,
    key: &'static str,
    value: &'static str,
    version: u64,
    due: Option<LogTime>,
}

/// What was asked, in plain words.
#[derive(Clone, Copy, Debug)]
struct Asking {
    tag: u32,
    key: &'static str,
    index: u64,
    value: &'static str,
    ttl: Option<Span>,
    prev: u64,
}

impl Model {
    fn place(&self, key: &str, index: u64) -> Option<usize> {
        self.entries.iter().position(|it| if index > 0 { it.index == index } else { it.key == key })
    }

    fn lines(&self) -> Vec<String> {
        let shown = |it: &Line| format!("{}:{} {}@{}", it.index, it.key, it.value, it.version);
        self.entries.iter().map(shown).collect()
    }

    /// Command `version` at `now`; whether it succeeds.
    fn step(&mut self, asking: Asking, version: u64, now: LogTime) -> bool {
        self.entries.retain(|it| it.due.is_none_or(|due| due > now));
        let Asking { tag, key, index, value, ttl, prev } = asking;
        let due = ttl.map(|ttl| now.after(ttl));
        let place = self.place(key, index);
        let place = place.filter(|it| prev == 0 || self.entries[*it].version == prev);
        match (tag, place) {
            (APPEND, _) if self.place(key, 0).is_some() => return false,
            (APPEND, _) => {
                self.last += 1;
                self.entries.push(Line { index: self.last, key, value, version, due });
            }
            (CLEAR, _) => self.entries.clear(),
            (UPDATE, Some(place)) => {
                let line = &mut self.entries[place];
                if line.value != value {
                    (line.value, line.version, line.due) = (value, version, due);
                }
            }
            (REMOVE, Some(place)) => drop(self.entries.remove(place)),
            _ => return false,
        }
        true
    }

    fn draw(&self, prng: &mut Prng) -> Asking {
        let tags = [APPEND, APPEND, APPEND, APPEND, UPDATE, UPDATE, UPDATE, REMOVE, REMOVE];
        let tag = if prng.chance(30) { CLEAR } else { *prng.pick(&tags) };
        let key = *prng.pick(&["a", "b", "c", "d", "e"]);
        let some = self.last.saturating_sub(prng.below(5));
        let index = if tag == APPEND { 0 } else { *prng.pick(&[0, some]) };
        let held = self.place(key, index).map_or(3, |place| self.entries[place].version);
        let ttl = *prng.pick(&[None, None, Some(Span::millis(800))]);
        let prev = *prng.pick(&[0, 0, held, 3]);
        let value = *prng.pick(&["x", "y", "z"]);
        Asking { tag, key, index, value, ttl, prev }
    }
}

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        let mut model = Model::default();
        let listener = store.send(&events(""));
        let mut mirror: BTreeMap<(u64, String), String> = BTreeMap::new();
        for _ in 0..80 {
            store.rig.now = store.rig.now.after(Span::millis(prng.below(400)));
            let asking = model.draw(&mut prng);
            let Asking { tag, key, index, value, ttl, prev } = asking;
            let said = store.run(&match tag {
                APPEND => append(key, value, ttl),
                UPDATE => update(if index > 0 { "" } else { key }, index, value, ttl, prev),
                REMOVE => remove(key, index, prev),
                _ => bare(CLEAR),
            });
            let fine = model.step(asking, store.rig.machine.index().0, store.rig.now);
            let succeeded = matches!(said[..], [Said::Out(_, 1, Status::Ok, _)]);
            assert_eq!(succeeded, fine, "seed {seed}: {asking:?}");
            let lines = model.lines();
            assert_eq!(store.all(), lines, "seed {seed}: {asking:?}");
            reflect(&mut mirror, &store.heard(listener));
            let held = mirror.iter().map(|((index, key), value)| format!("{index}:{key} {value}"));
            assert_eq!(held.collect::<Vec<_>>(), lines, "seed {seed}: events tell another story");
            let at = prng.below(model.last + 2);
            let next = model.entries.iter().position(|it| it.index > at);
            let prev = model.entries.iter().rposition(|it| it.index < at);
            for (tag, expected) in [(NEXT, next), (PREV, prev)] {
                let said = store.rig.ask(store.session, store.map, beside(tag, at));
                let found = match &said[..] {
                    [Said::Out(_, 0, Status::Ok, bytes)] => {
                        let output = GetOutput::decode(&bytes[..]).expect("documented");
                        Some(shown(output.entry))
                    }
                    said => {
                        assert_eq!(failed(said).0, Status::NotFound, "seed {seed}");
                        None
                    }
                };
                assert_eq!(found, expected.map(|place| lines[place].clone()), "seed {seed}");
            }
        }
    }
}

/// Applies events in words to a map of them, as a client would.
fn reflect(mirror: &mut BTreeMap<(u64, String), String>, heard: &[String]) {
    for event in heard {
        let (sign, rest) = event.split_at(1);
        let (place, change) = rest.split_once(' ').expect("place and value");
        let (index, key) = place.split_once(':').expect("index and key");
        let place = (index.parse().expect("a number"), key.to_owned());
        match (sign, change.split_once(" was ")) {
            ("+", _) => assert_eq!(mirror.insert(place, change.to_owned()), None),
            ("~", Some((new, old))) => {
                assert_eq!(mirror.insert(place, new.to_owned()).as_deref(), Some(old));
            }
            _ => {
                let old = change.trim_end_matches(" expired");
                assert_eq!(mirror.remove(&place).as_deref(), Some(old));
            }
        }
    }
}
