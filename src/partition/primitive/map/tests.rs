//! The map's stories, the reference's slips, and a plain model.

use std::collections::BTreeMap;

use prost::Message;

use super::*;
use crate::id::{Kind, PrimitiveId, SessionId};
use crate::limits::{KEY_BYTES_MAX, LISTING_BYTES_MAX};
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::proto::map::v1::{
    EntriesOutput, EventsOutput, GetOutput, IndexedValue, PutOutput, RemoveOutput, SizeOutput,
    UpdateOutput, event,
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
        let map = rig.create(session, 1, Kind::Map, "things");
        Store { rig, session, map, number: 1 }
    }

    fn run(&mut self, op: &Op) -> Vec<Said> {
        self.number += 1;
        self.rig.run(command(self.session, self.number, self.map, op))
    }

    fn put(&mut self, key: &str, value: &str) -> PutOutput {
        let said = self.run(&put(key, value.as_bytes(), None, 0));
        PutOutput::decode(ok(&said)).expect("documented")
    }

    fn get(&mut self, key: &str) -> Option<(String, u64)> {
        let mut input = Vec::new();
        put_bytes(&mut input, 1, key.as_bytes());
        let said = self.rig.ask(self.session, self.map, Op(Kind::Map, GET, input));
        match &said[..] {
            [Said::Out(_, 0, Status::Ok, bytes)] => {
                let value = GetOutput::decode(&bytes[..]).expect("documented").value;
                Some(shown(&value.expect("always there")))
            }
            said => {
                let text = format!("key {key} not found");
                assert_eq!(failed(said), (Status::NotFound, text));
                None
            }
        }
    }

    fn size(&mut self) -> u32 {
        let said = self.rig.ask(self.session, self.map, Op(Kind::Map, SIZE, vec![]));
        SizeOutput::decode(ok(&said)).expect("documented").size
    }

    fn listen(&mut self, key: &str) -> crate::id::Ticket {
        self.number += 1;
        self.rig.send(command(self.session, self.number, self.map, &events(key)))
    }

    fn fails(&mut self, op: &Op, status: Status, text: &str) {
        let said = self.run(op);
        assert_eq!(failed(&said), (status, text.to_owned()));
    }
}

fn op(tag: u32, key: &str, value: &[u8], prev_index: u64) -> Op {
    Op(Kind::Map, tag, map_input(key, value, None, prev_index))
}

fn shown(value: &IndexedValue) -> (String, u64) {
    (String::from_utf8(value.value.to_vec()).expect("text"), value.index)
}

/// An event in words.
fn told(said: &Said) -> String {
    let event = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    let event = event.event.expect("always there");
    let key = event.key;
    let value = |value: Option<IndexedValue>| {
        let (text, index) = shown(&value.expect("always there"));
        format!("{text}@{index}")
    };
    match event.event.expect("always one") {
        event::Event::Inserted(it) => format!("+{key} {}", value(it.value)),
        event::Event::Updated(it) => {
            format!("~{key} {} was {}", value(it.value), value(it.prev_value))
        }
        event::Event::Removed(it) => {
            format!("-{key} {}{}", value(it.value), if it.expired { " expired" } else { "" })
        }
    }
}

/// An item of a listing in words.
fn item(said: &Said) -> String {
    let entry = EntriesOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    let entry = entry.entry.expect("always there");
    match entry.value {
        Some(value) => format!("{} {}@{}", entry.key, shown(&value).0, value.index),
        None => format!("{} gone", entry.key),
    }
}

#[test]
fn operations_do_what_the_specification_says() {
    let mut store = Store::new();
    let first = store.put("k", "v");
    assert_eq!((first.index, first.prev_value), (3, None));
    // Equal bytes change nothing, not even the version.
    let again = store.put("k", "v");
    assert_eq!((again.index, again.prev_value), (3, None));
    let second = store.put("k", "w");
    assert_eq!((second.index, second.prev_value.map(|it| it.index)), (5, Some(3)));
    store.fails(&op(INSERT, "k", b"x", 0), Status::AlreadyExists, "key 'k' already exists");
    assert_eq!(ok(&store.run(&op(INSERT, "l", b"x", 0))), number(7));
    store.fails(&op(UPDATE, "z", b"x", 0), Status::NotFound, "key 'z' not found");
    let text = "entry index 5 does not match remove index 4";
    store.fails(&op(UPDATE, "k", b"x", 4), Status::Conflict, text);
    // Update stores also what is equal.
    let said = store.run(&op(UPDATE, "k", b"w", 5));
    let updated = UpdateOutput::decode(ok(&said)).expect("documented");
    assert_eq!((updated.index, updated.prev_value.map(|it| it.index)), (10, Some(5)));
    store.fails(&remove("z", 0), Status::NotFound, "key 'z' not found");
    let text = "entry index 10 does not match remove index 5";
    store.fails(&remove("k", 5), Status::Conflict, text);
    let said = store.run(&remove("k", 10));
    let removed = RemoveOutput::decode(ok(&said)).expect("documented");
    assert_eq!(shown(&removed.value.expect("always there")), ("w".to_owned(), 10));
    assert_eq!((store.get("k"), store.get("l")), (None, Some(("x".to_owned(), 7))));
    assert_eq!(store.size(), 1);
    assert_eq!(ok(&store.run(&Op(Kind::Map, CLEAR, vec![]))), b"");
    assert_eq!(store.size(), 0);
    for tag in [8, 9] {
        store.fails(&Op(Kind::Map, tag, vec![]), Status::NotSupported, "proposal not supported");
    }
}

/// primitives.md M-01: the reference loses updates.
#[test]
fn a_buried_copy_is_freed_in_parts_but_for_what_the_map_still_has() {
    let mut map = Map::default();
    let value: Arc<[u8]> = Arc::from(*b"value");
    for number in 0..5_000u64 {
        let entry = Entry { value: Arc::clone(&value), index: Index(1), expire: None, place: 0 };
        map.entries.insert(format!("{number:04}").into(), entry);
        map.expiring.insert(number, "key".into());
    }
    let (copy, mut rubble) = (map.clone(), Rubble::default());
    assert_eq!(Arc::strong_count(&value), 5_001, "a copy shares its values");
    for number in 0..64 {
        map.entries.remove(&*format!("{number:04}"));
    }
    assert_eq!(Arc::strong_count(&value), 5_001);
    copy.bury(&mut rubble);
    rubble.clear_some(1_000);
    assert_eq!(Arc::strong_count(&value), 5_001 - 64, "the map has changed two leaves");
    map.bury(&mut rubble);
    for left in [4_936, 4_436, 3_936] {
        // Keys of entries that expire come first, as they were buried last.
        while Arc::strong_count(&value) > left + 1 {
            let before = Arc::strong_count(&value);
            rubble.clear_some(500);
            assert!(before - Arc::strong_count(&value) <= 500, "too many at once");
        }
        assert_eq!(Arc::strong_count(&value), left + 1);
    }
}

#[test]
fn put_honours_the_version_before_it_compares_bytes() {
    let mut store = Store::new();
    store.put("k", "v");
    let text = "entry index 3 does not match update index 9";
    store.fails(&put("k", b"v", None, 9), Status::Conflict, text);
    let text = "entry index 0 does not match update index 9";
    store.fails(&put("new", b"v", None, 9), Status::Conflict, text);
    assert_eq!(ok(&store.run(&put("k", b"v", None, 3))), number(3));
    assert_eq!(ok(&store.run(&put("k", b"w", None, 3))).len(), 9);
}

#[test]
fn entries_expire_in_log_time() {
    let mut store = Store::new();
    let listener = store.listen("");
    store.run(&put("short", b"v", Some(Span::secs(1)), 0));
    store.run(&put("long", b"v", Some(Span::secs(9)), 0));
    store.run(&put("now", b"v", Some(Span::ZERO), 0));
    store.run(&put("kept", b"v", Some(Span::secs(1)), 0));
    store.run(&put("kept", b"w", None, 0));
    store.rig.take(listener);
    assert_eq!(store.size(), 4, "a read expires nothing");
    store.rig.pass(Span::secs(1));
    let heard: Vec<String> = store.rig.take(listener).iter().map(told).collect();
    assert_eq!(heard, ["-now v@6 expired", "-short v@4 expired"]);
    store.rig.pass(Span::secs(100));
    let heard: Vec<String> = store.rig.take(listener).iter().map(told).collect();
    assert_eq!(heard, ["-long v@5 expired"]);
    assert_eq!(store.get("kept"), Some(("w".to_owned(), 8)));
    // A removed entry's timer does not hit the one that has its key later.
    store.run(&put("k", b"v", Some(Span::secs(1)), 0));
    store.run(&remove("k", 0));
    store.run(&put("k", b"v", None, 0));
    store.rig.pass(Span::secs(5));
    assert_eq!(store.size(), 2);
}

#[test]
fn listeners_hear_what_they_asked_for_in_one_order() {
    let mut store = Store::new();
    store.put("b", "0");
    let (all, one) = (store.listen(""), store.listen("b"));
    store.put("a", "1");
    store.put("b", "2");
    store.run(&op(UPDATE, "b", b"2", 0));
    store.run(&remove("a", 0));
    store.put("c", "3");
    store.run(&Op(Kind::Map, CLEAR, vec![]));
    let heard: Vec<String> = store.rig.take(all).iter().map(told).collect();
    let expected =
        ["+a 1@6", "~b 2@7 was 0@3", "~b 2@8 was 2@7", "-a 1@6", "+c 3@10", "-b 2@8", "-c 3@10"];
    assert_eq!(heard, expected);
    let heard: Vec<String> = store.rig.take(one).iter().map(told).collect();
    assert_eq!(heard, ["~b 2@7 was 0@3", "~b 2@8 was 2@7", "-b 2@8"]);
}

#[test]
fn a_listing_ends_and_a_watch_goes_on() {
    let mut store = Store::new();
    for key in ["b", "a", "c"] {
        store.put(key, "v");
    }
    let said = store.rig.ask(store.session, store.map, entries(false));
    assert_eq!(said.last(), Some(&Said::End));
    let items: Vec<String> = said[..3].iter().map(item).collect();
    assert_eq!(items, ["a v@4", "b v@3", "c v@5"]);
    let watcher = store.rig.watch(store.session, store.map, entries(true));
    assert_eq!(store.rig.take(watcher).len(), 3);
    store.put("d", "w");
    store.run(&remove("a", 0));
    store.run(&put("e", b"x", Some(Span::ZERO), 0));
    store.rig.pass(Span::secs(1));
    let items: Vec<String> = store.rig.take(watcher).iter().map(item).collect();
    assert_eq!(items, ["d w@6", "a gone", "e x@8", "e gone"]);
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
        for n in 0..200 {
            store.put(&format!("{n:03}"), &value);
        }
        let watcher = store.rig.watch(store.session, store.map, entries(true));
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        let mut pieces = 0;
        loop {
            for said in store.rig.take(watcher) {
                let Said::Out(_, 0, Status::Ok, bytes) = &said else {
                    panic!("{said:?}");
                };
                let entry = EntriesOutput::decode(&bytes[..]).expect("documented").entry;
                let entry = entry.expect("always there");
                match entry.value {
                    Some(value) => {
                        let old = seen.insert(entry.key, value.index);
                        assert!(old.is_none_or(|old| old < value.index), "told twice");
                    }
                    None => assert!(seen.remove(&entry.key).is_some(), "never told of it"),
                }
            }
            if !store.rig.machine.has_more() {
                break;
            }
            pieces += 1;
            let key = format!("{:03}", prng.below(220));
            if prng.chance(500) {
                store.put(&key, &format!("{pieces}"));
            } else {
                store.run(&remove(&key, 0));
            }
            store.rig.more();
        }
        assert!(pieces > 2, "seed {seed}: {pieces} pieces");
        let said = store.rig.watch(store.session, store.map, entries(false));
        while store.rig.machine.has_more() {
            store.rig.more();
        }
        let all = store.rig.take(said);
        let now: BTreeMap<String, u64> = all[..all.len() - 1]
            .iter()
            .map(|said| {
                let entry = EntriesOutput::decode(ok(std::slice::from_ref(said)));
                let entry = entry.expect("documented").entry.expect("always there");
                (entry.key, entry.value.expect("listed").index)
            })
            .collect();
        assert_eq!(seen, now, "seed {seed}");
    }
}

#[test]
fn a_cleared_map_is_freed_in_slices_and_its_timers_are_gone() {
    let mut store = Store::new();
    store.rig.strict = false;
    let keys = 3 * crate::limits::RUBBLE_PARTS_MAX as u64;
    for n in 0..keys {
        let ttl = (n % 2 == 0).then_some(Span::secs(5));
        store.run(&put(&format!("{n}"), b"value", ttl, 0));
    }
    store.run(&Op(Kind::Map, CLEAR, vec![]));
    store.rig.compare();
    let held = store.rig.machine.bytes();
    for _ in 0..3 {
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
    for key in [input.clone(), map_input(&"k".repeat(KEY_BYTES_MAX + 1), b"", None, 0)] {
        let said = store.run(&Op(Kind::Map, PUT, key));
        assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]), "{said:?}");
    }
    let said = store.rig.ask(store.session, store.map, Op(Kind::Map, GET, input));
    assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]));
    store.fails(&Op(Kind::Map, PUT, vec![8, 1]), Status::Invalid, "the input cannot be decoded");
}

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..15 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        let mut model: BTreeMap<String, (Vec<u8>, u64, Option<LogTime>)> = BTreeMap::new();
        let listener = store.listen("");
        let mut mirror: BTreeMap<String, u64> = BTreeMap::new();
        let mut done: Vec<(u64, Op, Vec<Said>)> = Vec::new();
        for _ in 0..80 {
            store.rig.now = store.rig.now.after(Span::millis(prng.below(400)));
            let now = store.rig.now;
            let expire = |model: &mut BTreeMap<_, (Vec<u8>, u64, Option<LogTime>)>| {
                model.retain(|_, it| it.2.is_none_or(|due| due > now));
            };
            let key = *prng.pick(&["a", "b", "c", "d"]);
            let value = vec![prng.below(3) as u8];
            let ttl = *prng.pick(&[None, None, Some(Span::millis(500))]);
            let held = model.get(key).map_or(0, |it| it.1);
            let prev = *prng.pick(&[0, 0, held, 3]);
            let tag = *prng.pick(&[PUT, PUT, INSERT, UPDATE, REMOVE, CLEAR, 100]);
            if tag == 100 {
                if let Some((number, op, said)) = done.last() {
                    let body = command(store.session, *number, store.map, op);
                    assert_eq!(store.rig.run(body), *said, "seed {seed}: a repeat differs");
                }
                expire(&mut model);
                continue;
            }
            let op = match tag {
                REMOVE => remove(key, prev),
                CLEAR => Op(Kind::Map, CLEAR, vec![]),
                tag => Op(Kind::Map, tag, map_input(key, &value, ttl, prev)),
            };
            let said = store.run(&op);
            expire(&mut model);
            let index = store.rig.machine.index().0;
            let at = model.get(key).map(|it| it.1);
            let matches = prev == 0 || at == Some(prev);
            let due = ttl.map(|ttl| now.after(ttl));
            let fine = match tag {
                PUT => matches,
                INSERT => at.is_none(),
                UPDATE | REMOVE => at.is_some() && matches,
                _ => true,
            };
            let equal = model.get(key).is_some_and(|it| it.0 == value);
            match (tag, fine) {
                (PUT, true) if equal => {}
                (PUT | INSERT | UPDATE, true) => {
                    model.insert(key.to_owned(), (value, index, due));
                }
                (REMOVE, true) => drop(model.remove(key)),
                (CLEAR, _) => model.clear(),
                _ => {}
            }
            let succeeded = matches!(said[..], [Said::Out(_, 1, Status::Ok, _)]);
            assert_eq!(succeeded, fine, "seed {seed}: {op:?}");
            done.push((store.number, op, said));
            reflect(&mut mirror, &store.rig.take(listener));
            let expected: BTreeMap<String, u64> =
                model.iter().map(|(key, it)| (key.clone(), it.1)).collect();
            assert_eq!(mirror, expected, "seed {seed}: events tell another story");
            for key in ["a", "b", "c", "d"] {
                let found = store.get(key).map(|it| it.1);
                assert_eq!(found, model.get(key).map(|it| it.1), "seed {seed}");
            }
        }
    }
}

/// Applies events to a map of versions, as a client would.
fn reflect(mirror: &mut BTreeMap<String, u64>, heard: &[Said]) {
    let version = |value: Option<IndexedValue>| value.expect("always there").index;
    for said in heard {
        let output = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
        let event = output.event.expect("always there");
        let key = event.key;
        match event.event.expect("always one") {
            event::Event::Inserted(it) => {
                assert_eq!(mirror.insert(key, version(it.value)), None);
            }
            event::Event::Updated(it) => {
                assert_eq!(mirror.insert(key, version(it.value)), Some(version(it.prev_value)));
            }
            event::Event::Removed(it) => {
                assert_eq!(mirror.remove(&key), Some(version(it.value)));
            }
        }
    }
}
