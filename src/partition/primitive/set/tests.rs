//! The set's stories, the reference's slips, and a plain model.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::*;
use crate::id::{Kind, PrimitiveId, SessionId, Ticket};
use crate::limits::{KEY_BYTES_MAX, RUBBLE_PARTS_MAX};
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::proto::set::v1::{
    ContainsOutput, ElementsOutput, EventsOutput, SetElement, SizeOutput, event,
};

struct Store {
    rig: Rig,
    session: SessionId,
    set: PrimitiveId,
    number: u64,
}

impl Store {
    fn new() -> Store {
        let mut rig = Rig::new();
        let session = rig.open(Span::secs(3600));
        let set = rig.create(session, 1, Kind::Set, "names");
        Store { rig, session, set, number: 1 }
    }

    fn run(&mut self, op: &Op) -> Vec<Said> {
        self.number += 1;
        self.rig.run(command(self.session, self.number, self.set, op))
    }

    fn succeeds(&mut self, op: &Op) {
        let said = self.run(op);
        assert_eq!(ok(&said), b"");
    }

    fn fails(&mut self, op: &Op, status: Status, text: &str) {
        let said = self.run(op);
        assert_eq!(failed(&said), (status, text.to_owned()));
    }

    fn contains(&mut self, element: &str) -> bool {
        let said = self.rig.ask(self.session, self.set, op(CONTAINS, element));
        ContainsOutput::decode(ok(&said)).expect("documented").contains
    }

    fn size(&mut self) -> u32 {
        let said = self.rig.ask(self.session, self.set, bare(SIZE));
        SizeOutput::decode(ok(&said)).expect("documented").size
    }

    fn listen(&mut self) -> Ticket {
        self.number += 1;
        self.rig.send(command(self.session, self.number, self.set, &bare(EVENTS)))
    }

    fn heard(&mut self, ticket: Ticket) -> Vec<String> {
        self.rig.take(ticket).iter().map(told).collect()
    }

    fn items(&mut self, ticket: Ticket) -> Vec<String> {
        self.rig.take(ticket).iter().map(item).collect()
    }

    fn listed(&mut self) -> Vec<String> {
        let said = self.rig.ask(self.session, self.set, elements(false));
        assert_eq!(said.last(), Some(&Said::End));
        said[..said.len() - 1].iter().map(item).collect()
    }
}

fn op(tag: u32, element: &str) -> Op {
    let mut input = Vec::new();
    put_element(&mut input, 1, element);
    Op(Kind::Set, tag, input)
}

fn add(element: &str, ttl: Option<Span>) -> Op {
    let mut op = op(ADD, element);
    if let Some(ttl) = ttl {
        field::put_duration(&mut op.2, 2, ttl);
    }
    op
}

/// An operation without input, such as Clear.
fn bare(tag: u32) -> Op {
    Op(Kind::Set, tag, Vec::new())
}

fn elements(watch: bool) -> Op {
    Op(Kind::Set, ELEMENTS, number(u64::from(watch)))
}

/// An event in words.
fn told(said: &Said) -> String {
    let event = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    match event.event.expect("always there").event.expect("always one") {
        event::Event::Added(it) => format!("+{}", it.element.expect("always there").value),
        event::Event::Removed(it) => {
            let expired = if it.expired { " expired" } else { "" };
            format!("-{}{expired}", it.element.expect("always there").value)
        }
    }
}

/// An item of a listing.
fn item(said: &Said) -> String {
    let Said::Out(_, 0, Status::Ok, bytes) = said else {
        panic!("{said:?}");
    };
    let output = ElementsOutput::decode(&bytes[..]).expect("documented");
    output.element.expect("always there").value
}

#[test]
fn operations_do_what_the_specification_says() {
    let mut store = Store::new();
    assert!(!store.contains("a"));
    store.succeeds(&add("a", None));
    let text = "value already exists in set";
    store.fails(&add("a", None), Status::AlreadyExists, text);
    store.succeeds(&add("b", None));
    assert!(store.contains("a") && store.contains("b") && !store.contains("c"));
    assert_eq!(store.size(), 2);
    store.succeeds(&op(REMOVE, "a"));
    store.fails(&op(REMOVE, "a"), Status::NotFound, "value not found in set");
    assert!(!store.contains("a"));
    store.succeeds(&bare(CLEAR));
    store.succeeds(&bare(CLEAR));
    assert_eq!((store.size(), store.listed().len()), (0, 0));
    store.fails(&bare(8), Status::NotSupported, "proposal not supported");
}

#[test]
fn elements_expire_in_log_time() {
    let mut store = Store::new();
    let listener = store.listen();
    store.succeeds(&add("short", Some(Span::secs(1))));
    store.succeeds(&add("long", Some(Span::secs(9))));
    store.succeeds(&add("also short", Some(Span::secs(1))));
    store.succeeds(&add("now", Some(Span::ZERO)));
    store.succeeds(&add("kept", None));
    // Adding again gives no other lifetime.
    let text = "value already exists in set";
    store.fails(&add("short", Some(Span::secs(50))), Status::AlreadyExists, text);
    store.fails(&add("kept", Some(Span::ZERO)), Status::AlreadyExists, text);
    store.rig.take(listener);
    assert_eq!(store.size(), 5, "a read expires nothing");
    store.rig.pass(Span::secs(1));
    let expected = ["-now expired", "-short expired", "-also short expired"];
    assert_eq!(store.heard(listener), expected);
    store.rig.pass(Span::secs(100));
    assert_eq!(store.heard(listener), ["-long expired"]);
    assert_eq!(store.listed(), ["kept"]);
    // A removed element's timer does not hit the one that comes later.
    store.succeeds(&add("a", Some(Span::secs(1))));
    store.succeeds(&op(REMOVE, "a"));
    store.succeeds(&add("a", None));
    store.rig.pass(Span::secs(5));
    assert_eq!(store.listed(), ["a", "kept"]);
    // What is due goes before the command that moves the time.
    store.succeeds(&add("b", Some(Span::secs(1))));
    store.rig.now = store.rig.now.after(Span::secs(1));
    store.succeeds(&add("b", None));
}

#[test]
fn a_negative_lifetime_is_over_at_once_and_a_long_one_never() {
    let mut store = Store::new();
    let mut past = op(ADD, "past");
    put_message(&mut past.2, 2, |into| put_uint(into, 1, -5i64 as u64));
    let mut ever = op(ADD, "ever");
    put_message(&mut ever.2, 2, |into| put_uint(into, 1, i64::MAX as u64));
    store.succeeds(&past);
    store.succeeds(&ever);
    assert_eq!(store.size(), 2);
    store.rig.pass(Span::nanos(1));
    assert_eq!(store.listed(), ["ever"]);
    store.rig.pass(Span::secs(3000));
    assert_eq!(store.listed(), ["ever"]);
}

#[test]
fn listeners_hear_every_change_in_one_order() {
    let mut store = Store::new();
    store.succeeds(&add("b", None));
    let listener = store.listen();
    store.succeeds(&add("c", Some(Span::secs(7))));
    store.succeeds(&op(REMOVE, "b"));
    store.run(&op(REMOVE, "b"));
    store.succeeds(&add("a", None));
    store.run(&add("a", None));
    store.succeeds(&bare(CLEAR));
    store.rig.pass(Span::secs(10));
    assert_eq!(store.heard(listener), ["+c", "-b", "+a", "-a", "-c"]);
    store.rig.run(keep_alive(store.session, store.number, &[], &[]));
    assert_eq!(store.rig.take(listener), [Said::End]);
    store.succeeds(&add("d", None));
    assert!(store.rig.take(listener).is_empty());
}

/// primitives.md S-02: removals look like additions to the reference's watchers.
#[test]
fn watchers_hear_of_additions_only() {
    let mut store = Store::new();
    for element in ["b", "a", "c"] {
        store.succeeds(&add(element, None));
    }
    assert_eq!(store.listed(), ["a", "b", "c"]);
    let watcher = store.rig.watch(store.session, store.set, elements(true));
    assert_eq!(store.items(watcher), ["a", "b", "c"]);
    store.succeeds(&add("d", None));
    store.succeeds(&op(REMOVE, "a"));
    store.succeeds(&add("e", Some(Span::ZERO)));
    store.rig.pass(Span::secs(1));
    store.succeeds(&bare(CLEAR));
    store.succeeds(&add("a", None));
    assert_eq!(store.items(watcher), ["d", "e", "a"]);
}

/// primitives.md S-01: the reference's snapshots have lifetimes but not whose they are.
#[test]
fn a_restored_set_has_its_elements_and_their_lifetimes() {
    let mut store = Store::new();
    store.succeeds(&add("ash", None));
    store.succeeds(&add("birch", Some(Span::secs(3))));
    let snapshot = snapshot_of(&store.rig.machine, 100);
    // The text, then the documented message, with its timestamp.
    let mut message = Vec::new();
    put_timestamp(&mut message, 1, store.rig.now.after(Span::secs(3)));
    put_uint(&mut message, 100, 4);
    let mut record = Vec::new();
    put_text(&mut record, 1, b"birch");
    field::put_bytes(&mut record, 2, &message);
    assert!(snapshot.windows(record.len()).any(|bytes| bytes == record));
    assert!(SetElement::decode(&message[..]).expect("documented").expire.is_some());
    for _ in 0..2 {
        store.rig.pass(Span::secs(1));
        assert_eq!(store.listed(), ["ash", "birch"]);
    }
    store.rig.pass(Span::secs(1));
    assert_eq!(store.listed(), ["ash"]);
}

#[test]
fn a_listing_in_pieces_misses_no_addition() {
    for seed in 0..4 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        store.rig.strict = false;
        let element = |n: u64| format!("{n:04}{}", "e".repeat(KEY_BYTES_MAX / 4));
        for n in 0..300 {
            store.succeeds(&add(&element(n * 2), None));
        }
        let watcher = store.rig.watch(store.session, store.set, elements(true));
        let (mut seen, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let mut pieces = 0;
        loop {
            for item in store.items(watcher) {
                assert!(seen.insert(item), "seed {seed}: told twice");
            }
            if !store.rig.machine.has_more() {
                break;
            }
            pieces += 1;
            store.run(&add(&element(prng.below(300) * 2 + 1), None));
            let removed = element(prng.below(300) * 2);
            store.run(&op(REMOVE, &removed));
            gone.insert(removed);
            store.rig.more();
        }
        assert!(pieces > 2, "seed {seed}: {pieces} pieces");
        let said = store.rig.watch(store.session, store.set, elements(false));
        while store.rig.machine.has_more() {
            store.rig.more();
        }
        let mut all = store.rig.take(said);
        assert_eq!(all.pop(), Some(Said::End));
        let now: BTreeSet<String> = all.iter().map(item).collect();
        let unexplained: Vec<_> =
            seen.symmetric_difference(&now).filter(|it| !gone.contains(*it)).collect();
        assert!(unexplained.is_empty(), "seed {seed}: {}", unexplained.len());
    }
}

#[test]
fn a_cleared_set_is_freed_in_slices_and_its_timers_are_gone() {
    let mut store = Store::new();
    store.rig.strict = false;
    let count = 3 * RUBBLE_PARTS_MAX as u64;
    for n in 0..count {
        let ttl = (n % 2 == 0).then_some(Span::secs(5));
        store.succeeds(&add(&format!("{n}"), ttl));
    }
    store.succeeds(&bare(CLEAR));
    store.rig.compare();
    let held = store.rig.machine.bytes();
    for _ in 0..6 {
        store.rig.pass(Span::ZERO);
    }
    assert!(store.rig.machine.bytes() + count as usize * ELEMENT_BYTES <= held);
    // The session's expiry is left.
    assert_eq!((store.size(), store.rig.machine.ledger.schedule.len()), (0, 1));
}

#[test]
fn elements_have_a_form_and_a_bound() {
    let mut store = Store::new();
    let long = "e".repeat(KEY_BYTES_MAX);
    store.succeeds(&add(&long, None));
    assert!(store.contains(&long) && !store.contains(""));
    // An absent element is the empty one.
    store.succeeds(&bare(ADD));
    assert!(store.contains(""));
    store.fails(&add("", None), Status::AlreadyExists, "value already exists in set");
    let mut broken = Vec::new();
    put_message(&mut broken, 1, |into| field::put_bytes(into, 1, &[0xff, 0xfe]));
    for op in [&Op(Kind::Set, ADD, broken.clone()), &add(&(long + "e"), None)] {
        let said = store.run(op);
        assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]), "{said:?}");
    }
    let said = store.rig.ask(store.session, store.set, Op(Kind::Set, CONTAINS, broken));
    assert!(matches!(&said[..], [Said::Refused(Refusal::Malformed(_))]), "{said:?}");
    for odd in [vec![8, 1], vec![10, 2, 8, 1], vec![10, 1, 10]] {
        let odd = Op(Kind::Set, ADD, odd);
        store.fails(&odd, Status::Invalid, "the input cannot be decoded");
    }
    assert_eq!(store.size(), 2);
}

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        let mut model: BTreeMap<String, Option<LogTime>> = BTreeMap::new();
        let mut mirror: BTreeSet<String> = BTreeSet::new();
        let mut done: Vec<(u64, Op, Vec<Said>)> = Vec::new();
        let listener = store.listen();
        for _ in 0..100 {
            store.rig.now = store.rig.now.after(Span::millis(1 + prng.below(400)));
            let now = store.rig.now;
            let element = *prng.pick(&["", "a", "b", "c"]);
            let ttl = *prng.pick(&[None, Some(Span::millis(500)), Some(Span::ZERO)]);
            let tag = *prng.pick(&[ADD, ADD, ADD, REMOVE, REMOVE, CLEAR, 100]);
            model.retain(|_, due| due.is_none_or(|due| due > now));
            if tag == 100 {
                if let Some((number, op, said)) = done.last() {
                    let again = store.rig.run(command(store.session, *number, store.set, op));
                    assert_eq!(again, *said, "seed {seed}: a repeat differs");
                }
            } else {
                let op = match tag {
                    ADD => add(element, ttl),
                    CLEAR => bare(CLEAR),
                    tag => op(tag, element),
                };
                let said = store.run(&op);
                let there = model.contains_key(element);
                let status = match tag {
                    ADD if there => Status::AlreadyExists,
                    REMOVE if !there => Status::NotFound,
                    _ => Status::Ok,
                };
                match (status, tag) {
                    (Status::Ok, ADD) => {
                        model.insert(element.to_owned(), ttl.map(|ttl| now.after(ttl)));
                    }
                    (Status::Ok, REMOVE) => drop(model.remove(element)),
                    (Status::Ok, _) => model.clear(),
                    _ => {}
                }
                let Said::Out(_, 1, heard, _) = &said[0] else {
                    panic!("seed {seed}: {said:?}");
                };
                assert_eq!(*heard, status, "seed {seed}: {op:?}");
                done.push((store.number, op, said));
            }
            for event in store.heard(listener) {
                let (sign, rest) = event.split_at(1);
                match sign {
                    "+" => assert!(mirror.insert(rest.to_owned()), "seed {seed}: {event}"),
                    _ => {
                        let element = rest.strip_suffix(" expired").unwrap_or(rest);
                        assert!(mirror.remove(element), "seed {seed}: {event}");
                    }
                }
            }
            let expected: Vec<&String> = model.keys().collect();
            assert!(mirror.iter().eq(expected.iter().copied()), "seed {seed}: {mirror:?}");
            assert!(store.listed().iter().eq(expected.iter().copied()), "seed {seed}");
            assert_eq!(store.size() as usize, model.len(), "seed {seed}");
            assert_eq!(store.contains(element), model.contains_key(element), "seed {seed}");
        }
    }
}
