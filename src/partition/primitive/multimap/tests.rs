//! The multimap's operations, the reference's slips, its bounds, and a plain model.

use prost::Message;

use super::*;
use crate::id::{Kind, PrimitiveId, SessionId, Ticket};
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::proto::multimap::v1::{
    ContainsOutput, EntriesOutput, EventsOutput, GetOutput, PutAllOutput, PutEntriesOutput,
    RemoveAllOutput, RemoveEntriesOutput, RemoveOutput, ReplaceOutput, SizeOutput, event,
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
        let map = rig.create(session, 1, Kind::MultiMap, "things");
        Store { rig, session, map, number: 1 }
    }

    fn run(&mut self, op: &Op) -> Vec<Said> {
        self.number += 1;
        self.rig.run(command(self.session, self.number, self.map, op))
    }

    fn does(&mut self, tag: u32, key: &str, values: &[&str]) -> Vec<u8> {
        ok(&self.run(&op(tag, key, values))).to_vec()
    }

    fn fails(&mut self, op: &Op, status: Status, text: &str) {
        let said = self.run(op);
        assert_eq!(failed(&said), (status, text.to_owned()));
    }

    fn get(&mut self, key: &str) -> Vec<String> {
        let said = self.rig.ask(self.session, self.map, op(GET, key, &[]));
        GetOutput::decode(ok(&said)).expect("documented").values
    }

    fn contains(&mut self, key: &str, value: &str) -> bool {
        let said = self.rig.ask(self.session, self.map, op(CONTAINS, key, &[value]));
        ContainsOutput::decode(ok(&said)).expect("documented").result
    }

    fn size(&mut self) -> u32 {
        let said = self.rig.ask(self.session, self.map, op(SIZE, "", &[]));
        SizeOutput::decode(ok(&said)).expect("documented").size
    }

    fn listen(&mut self, key: &str) -> Ticket {
        self.number += 1;
        self.rig.send(command(self.session, self.number, self.map, &op(EVENTS, key, &[])))
    }

    fn watch(&mut self) -> Ticket {
        self.rig.watch(self.session, self.map, Op(Kind::MultiMap, ENTRIES, number(1)))
    }

    fn told(&mut self, ticket: Ticket) -> Vec<String> {
        self.rig.take(ticket).iter().map(told).collect()
    }

    fn items(&mut self, ticket: Ticket) -> Vec<String> {
        self.rig.take(ticket).iter().map(item).collect()
    }
}

fn op(tag: u32, key: &str, values: &[&str]) -> Op {
    let mut input = Vec::new();
    put_text(&mut input, 1, key.as_bytes());
    values.iter().for_each(|value| put_bytes(&mut input, 2, value.as_bytes()));
    Op(Kind::MultiMap, tag, input)
}

fn with_entries(tag: u32, entries: &[(&str, &[&str])]) -> Op {
    let mut input = Vec::new();
    for (key, values) in entries {
        put_message(&mut input, 1, |into| {
            put_text(into, 1, key.as_bytes());
            values.iter().for_each(|value| put_bytes(into, 3, value.as_bytes()));
        });
    }
    Op(Kind::MultiMap, tag, input)
}

/// An event in words.
fn told(said: &Said) -> String {
    let event = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    let event = event.event.expect("always there");
    match event.event.expect("always one") {
        event::Event::Added(it) => format!("+{} {}", event.key, it.value),
        event::Event::Removed(it) => format!("-{} {}", event.key, it.value),
    }
}

/// An item of a listing in words.
fn item(said: &Said) -> String {
    let entry = EntriesOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    let entry = entry.entry.expect("always there");
    format!("{} [{}]", entry.key, entry.values.join(" "))
}

#[test]
fn operations_do_what_the_specification_says() {
    let mut store = Store::new();
    assert_eq!(store.does(PUT, "k", &["b"]), b"");
    store.fails(&op(PUT, "k", &["b"]), Status::AlreadyExists, "entry already exists");
    let output = store.does(PUT_ALL, "k", &["a", "b", "c", "a"]);
    assert!(PutAllOutput::decode(&output[..]).expect("documented").updated);
    assert_eq!(store.does(PUT_ALL, "k", &["a", "b"]), b"");
    assert_eq!(store.get("k"), ["a", "b", "c"]);
    assert_eq!(store.get("nothing"), [""; 0]);
    assert!(store.contains("k", "a") && !store.contains("k", "x") && !store.contains("l", "a"));
    let output = store.does(REPLACE, "k", &["d", "c"]);
    let replaced = ReplaceOutput::decode(&output[..]).expect("documented").prev_values;
    assert_eq!(replaced, ["a", "b", "c"]);
    let said = store.run(&with_entries(PUT_ENTRIES, &[("l", &["x", "y"]), ("k", &["d"])]));
    assert!(PutEntriesOutput::decode(ok(&said)).expect("documented").updated);
    let said = store.run(&with_entries(PUT_ENTRIES, &[("l", &["x"]), ("none", &[])]));
    assert!(!PutEntriesOutput::decode(ok(&said)).expect("documented").updated);
    assert_eq!(store.size(), 2);
    let output = store.does(REMOVE_ALL, "k", &["d", "x"]);
    assert!(RemoveAllOutput::decode(&output[..]).expect("documented").updated);
    assert_eq!(store.does(REMOVE_ALL, "k", &["d", "x"]), b"");
    store.fails(&op(REMOVE_ALL, "z", &["d"]), Status::NotFound, "entry not found");
    store.fails(&op(REMOVE, "z", &["d"]), Status::NotFound, "entry not found");
    store.fails(&op(REMOVE, "k", &["d"]), Status::NotFound, "entry not found");
    let said = store.run(&with_entries(REMOVE_ENTRIES, &[("l", &["x", "q"]), ("z", &["d"])]));
    assert!(RemoveEntriesOutput::decode(ok(&said)).expect("documented").updated);
    let said = store.run(&with_entries(REMOVE_ENTRIES, &[("z", &["d"])]));
    assert!(!RemoveEntriesOutput::decode(ok(&said)).expect("documented").updated);
    assert_eq!((store.get("k"), store.get("l")), (vec!["c".to_owned()], vec!["y".to_owned()]));
    assert_eq!(store.does(CLEAR, "", &[]), b"");
    assert_eq!(store.size(), 0);
}

/// primitives.md MM-01 and MM-03.
#[test]
fn a_key_exists_while_it_has_values() {
    let mut store = Store::new();
    store.does(PUT_ALL, "none", &[]);
    store.does(REPLACE, "none", &[]);
    store.run(&with_entries(PUT_ENTRIES, &[("none", &[])]));
    assert_eq!(store.size(), 0);
    store.does(PUT, "k", &[]);
    assert_eq!(store.get("k"), [""], "an empty text is a value");
    let output = store.does(REMOVE, "k", &[""]);
    assert_eq!(RemoveOutput::decode(&output[..]).expect("documented").values, [""]);
    store.does(PUT_ALL, "k", &["a", "b"]);
    store.does(REPLACE, "k", &[]);
    assert_eq!(store.size(), 0);
    store.does(PUT_ALL, "k", &["a", "b"]);
    store.does(REMOVE_ALL, "k", &["a", "b"]);
    assert_eq!(store.size(), 0);
}

/// primitives.md MM-02, C-05; wire.md, decision 10.
#[test]
fn each_value_that_changed_is_told_once_in_one_order() {
    let mut store = Store::new();
    let (all, one) = (store.listen(""), store.listen("k"));
    store.does(PUT, "k", &["b"]);
    store.does(PUT_ALL, "k", &["z", "b", "a", "z"]);
    store.does(REPLACE, "k", &["y", "b", "x", "y"]);
    store.run(&with_entries(PUT_ENTRIES, &[("l", &["2", "1"]), ("k", &["b"]), ("l", &["3", "1"])]));
    store.does(REMOVE_ALL, "k", &["y", "q", "y", "x"]);
    store.does(CLEAR, "", &[]);
    let heard = store.told(all);
    let expected = [
        "+k b", "+k z", "+k a", "+k y", "+k x", "-k a", "-k z", "+l 2", "+l 1", "+l 3", "-k y",
        "-k x", "-k b", "-l 1", "-l 2", "-l 3",
    ];
    assert_eq!(heard, expected);
    let of_k: Vec<&str> = expected.into_iter().filter(|event| &event[1..2] == "k").collect();
    assert_eq!(store.told(one), of_k);
}

/// primitives.md MM-04.
#[test]
fn a_watcher_gets_each_changed_key_once_with_all_it_has() {
    let mut store = Store::new();
    store.does(PUT_ALL, "b", &["2", "1"]);
    store.does(PUT, "a", &["0"]);
    let watcher = store.watch();
    assert_eq!(store.items(watcher), ["a [0]", "b [1 2]"]);
    store.does(PUT_ALL, "c", &["x", "y"]);
    store.does(PUT_ALL, "c", &["x", "y"]);
    store.does(REPLACE, "c", &["y", "x"]);
    store.does(REPLACE, "c", &["y"]);
    store.does(REMOVE_ALL, "b", &["1", "2", "3"]);
    store.run(&with_entries(REMOVE_ENTRIES, &[("c", &["y", "z"]), ("a", &["9"])]));
    store.run(&with_entries(PUT_ENTRIES, &[("d", &["1"]), ("e", &["2", "3"])]));
    store.does(CLEAR, "", &[]);
    let items = store.items(watcher);
    let expected = ["c [x y]", "c [y]", "b []", "c []", "d [1]", "e [2 3]", "a []", "d []", "e []"];
    assert_eq!(items, expected);
    let listing = Op(Kind::MultiMap, ENTRIES, number(0));
    let said = store.rig.ask(store.session, store.map, listing);
    assert_eq!(said, [Said::End]);
}

/// Everything that a key may hold leaves in one message, and no more is taken.
#[test]
fn a_key_is_bounded_by_count_and_by_bytes() {
    let full = [Said::Refused(Refusal::Full("the key has too many values"))];
    let mut store = Store::new();
    store.rig.strict = false;
    let numbers: Vec<String> = (0..VALUES_MAX).map(|n| format!("{n:06}")).collect();
    let all: Vec<&str> = numbers.iter().map(String::as_str).collect();
    store.does(PUT_ALL, "many", &all);
    assert_eq!(store.run(&op(PUT, "many", &["x"])), full);
    assert_eq!(store.run(&op(PUT_ALL, "many", &["000001", "x"])), full);
    assert_eq!(store.run(&with_entries(PUT_ENTRIES, &[("l", &["x"]), ("many", &["x"])])), full);
    assert_eq!(store.size(), 1, "all or nothing");
    assert_eq!(store.does(PUT_ALL, "many", &all[..9]), b"", "what it has, it may have again");
    let mut more = all.clone();
    more.push("x");
    assert_eq!(store.run(&op(REPLACE, "many", &more)), full);
    more[0] = "x";
    store.does(REPLACE, "many", &more);
    assert_eq!(store.get("many").len(), VALUES_MAX);
    let half = "h".repeat(VALUES_BYTES_MAX / 2 - 4);
    let other = "o".repeat(VALUES_BYTES_MAX / 2 - 4);
    store.does(PUT_ALL, "large", &[&half, &other]);
    assert_eq!(store.run(&op(PUT, "large", &["x"])), full);
    assert_eq!(store.run(&op(REPLACE, "large", &[&half, &other, "x"])), full);
    let twice = [("new", &[&half[..]][..]), ("new", &[&other[..], "x"])];
    assert_eq!(store.run(&with_entries(PUT_ENTRIES, &twice)), full);
    store.rig.compare();
    store.does(CLEAR, "", &[]);
    store.rig.compare();
    let held = store.rig.machine.ledger.rubble.bytes();
    store.rig.pass(Span::ZERO);
    assert_eq!(store.rig.machine.ledger.rubble.bytes(), held, "freed in slices");
    for _ in 0..VALUES_MAX / crate::limits::RUBBLE_PARTS_MAX + 1 {
        store.rig.pass(Span::ZERO);
    }
    assert_eq!(store.rig.machine.ledger.rubble.bytes(), 0);
}

#[test]
fn a_snapshot_cuts_a_large_key_and_trusts_no_order() {
    let mut store = Store::new();
    store.rig.strict = false;
    let long = "v".repeat(RECORD_BYTES / 3);
    for n in 0..10 {
        store.does(PUT, "large", &[&format!("{n}{long}")]);
        store.does(PUT, &format!("small{n}"), &["v"]);
    }
    store.rig.compare();
    let mut records = 0;
    let mut map = MultiMap::default();
    for n in 0..10 {
        map.add("large", &format!("{n}{long}"));
    }
    let (mut place, mut record) = (Place::default(), Vec::new());
    let mut copy = MultiMap::default();
    while let Some(kind) = map.record(&mut place, &mut record) {
        assert_eq!(kind, ENTRY);
        assert!(record.len() < 2 * RECORD_BYTES, "{} bytes", record.len());
        copy.restore_entry(&record).expect("in order");
        assert!(copy.restore_entry(&record).is_err(), "the same again");
        records += 1;
        record.clear();
    }
    assert_eq!((records, copy.bytes()), (4, map.bytes()));
    for values in [&["b", "a"][..], &["a", "a"], &[]] {
        let mut record = Vec::new();
        put_text(&mut record, 1, b"z");
        values.iter().for_each(|value| put_bytes(&mut record, 2, value.as_bytes()));
        assert!(copy.restore_entry(&record).is_err(), "{values:?}");
    }
}

#[test]
fn keys_and_values_are_text() {
    let mut store = Store::new();
    let mut input = Vec::new();
    put_bytes(&mut input, 1, b"k");
    put_bytes(&mut input, 2, &[0xff, 0xfe]);
    let mut entry = Vec::new();
    put_message(&mut entry, 1, |into| put_bytes(into, 3, &[0xff]));
    let long = "k".repeat(crate::limits::KEY_BYTES_MAX + 1);
    for op in [
        Op(Kind::MultiMap, PUT, input.clone()),
        Op(Kind::MultiMap, PUT_ENTRIES, entry),
        op(PUT_ALL, &long, &["v"]),
    ] {
        let said = store.run(&op);
        assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]), "{said:?}");
    }
    let said = store.rig.ask(store.session, store.map, Op(Kind::MultiMap, CONTAINS, input));
    assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]));
    for tag in [PUT, PUT_ENTRIES] {
        let op = Op(Kind::MultiMap, tag, vec![8, 1]);
        store.fails(&op, Status::Invalid, "the input cannot be decoded");
    }
}

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        let mut model: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let (listener, watcher) = (store.listen(""), store.watch());
        let mut mirror = model.clone();
        let mut seen = model.clone();
        let mut done: Vec<(u64, Op, Vec<Said>)> = Vec::new();
        for _ in 0..80 {
            if prng.chance(100)
                && let Some((number, op, said)) = done.last()
            {
                let body = command(store.session, *number, store.map, op);
                assert_eq!(store.rig.run(body), *said, "seed {seed}: a repeat differs");
                continue;
            }
            let (op, expected) = step(&mut prng, &mut model);
            let said = store.run(&op);
            let found = match &said[..] {
                [Said::Out(_, 1, Status::Ok, bytes)] => Some(bytes.clone()),
                _ => None,
            };
            assert_eq!(found, expected, "seed {seed}: {op:?} {said:?}");
            done.push((store.number, op, said));
            for event in store.told(listener) {
                let (key, value) = event[1..].split_once(' ').expect("two words");
                let values = mirror.entry(key.to_owned()).or_default();
                let news = match &event[..1] {
                    "+" => values.insert(value.to_owned()),
                    _ => values.remove(value),
                };
                assert!(news, "seed {seed}: {event} is no news");
            }
            mirror.retain(|_, values| !values.is_empty());
            for item in store.items(watcher) {
                let (key, values) = item.split_once(" [").expect("a list");
                let values = values.trim_end_matches(']').split_whitespace();
                seen.insert(key.to_owned(), values.map(str::to_owned).collect());
            }
            seen.retain(|_, values| !values.is_empty());
            assert_eq!(mirror, model, "seed {seed}: events tell another story");
            assert_eq!(seen, model, "seed {seed}: items tell another story");
            assert_eq!(store.size() as usize, model.len(), "seed {seed}");
            for key in KEYS {
                let expected: Vec<String> = model.get(key).into_iter().flatten().cloned().collect();
                assert_eq!(store.get(key), expected, "seed {seed}");
            }
        }
    }
}

const KEYS: [&str; 3] = ["a", "b", "c"];

/// A command, done to the model too; its output, or nothing when it fails.
fn step(prng: &mut Prng, model: &mut BTreeMap<String, BTreeSet<String>>) -> (Op, Option<Vec<u8>>) {
    let mut some =
        || -> Vec<&str> { (0..prng.below(4)).map(|_| *prng.pick(&["1", "2", "3", "4"])).collect() };
    let lists = [some(), some(), some()];
    let key = *prng.pick(&KEYS);
    let tags =
        [PUT, PUT_ALL, REPLACE, REMOVE, REMOVE_ALL, PUT_ENTRIES, REMOVE_ENTRIES, PUT_ALL, CLEAR];
    let tag = *prng.pick(&tags);
    let values = match tag {
        PUT | REMOVE => vec![*prng.pick(&["1", "2", "3", "4"])],
        _ => lists[0].clone(),
    };
    let entries: Vec<(&str, &[&str])> =
        lists.iter().map(|values| (*prng.pick(&KEYS), &values[..])).collect();
    let before = model.clone();
    let held = before.get(key).cloned().unwrap_or_default();
    let new: BTreeSet<String> = values.iter().map(|value| (*value).to_owned()).collect();
    let mut out = Vec::new();
    let fine = match tag {
        PUT => held.is_disjoint(&new),
        REMOVE => !held.is_disjoint(&new),
        REMOVE_ALL => !held.is_empty(),
        _ => true,
    };
    match tag {
        _ if !fine => {}
        PUT | PUT_ALL => model.entry(key.to_owned()).or_default().extend(new),
        REPLACE => {
            held.iter().for_each(|value| put_bytes(&mut out, 1, value.as_bytes()));
            model.insert(key.to_owned(), new);
        }
        REMOVE | REMOVE_ALL => {
            model.entry(key.to_owned()).or_default().retain(|value| !new.contains(value));
        }
        CLEAR => model.clear(),
        _ => {
            for (key, values) in &entries {
                let held = model.entry((*key).to_owned()).or_default();
                for value in *values {
                    let _ = match tag {
                        PUT_ENTRIES => held.insert((*value).to_owned()),
                        _ => held.remove(*value),
                    };
                }
            }
        }
    }
    model.retain(|_, values| !values.is_empty());
    match tag {
        PUT_ALL | PUT_ENTRIES | REMOVE_ENTRIES => {
            put_uint(&mut out, 1, u64::from(*model != before))
        }
        REMOVE_ALL => put_uint(&mut out, 2, u64::from(*model != before)),
        REMOVE => put_bytes(&mut out, 1, values[0].as_bytes()),
        _ => {}
    }
    let op = match tag {
        PUT_ENTRIES | REMOVE_ENTRIES => with_entries(tag, &entries),
        tag => op(tag, key, &values),
    };
    (op, fine.then_some(out))
}
