//! The value's stories, the reference's slips, and a plain model.

use prost::Message;

use super::*;
use crate::id::{Kind, PrimitiveId, SessionId, Ticket};
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::Span;
use crate::wire::field::{put_bytes, put_duration};
use crate::wire::proto::value::v1::{
    DeleteOutput, EventsOutput, GetOutput, IndexedValue, SetOutput, UpdateOutput, WatchOutput,
    event,
};

const HOUR: Span = Span::secs(3600);

struct Store {
    rig: Rig,
    session: SessionId,
    value: PrimitiveId,
    number: u64,
}

impl Store {
    fn new() -> Store {
        let mut rig = Rig::new();
        let session = rig.open(HOUR);
        let value = rig.create(session, 1, Kind::Value, "thing");
        Store { rig, session, value, number: 1 }
    }

    fn send(&mut self, op: &Op) -> Ticket {
        self.number += 1;
        self.rig.send(command(self.session, self.number, self.value, op))
    }

    fn run(&mut self, op: &Op) -> Vec<Said> {
        let ticket = self.send(op);
        self.rig.take(ticket)
    }

    fn set(&mut self, value: &str) -> SetOutput {
        let said = self.run(&set(value.as_bytes(), None));
        SetOutput::decode(ok(&said)).expect("documented")
    }

    fn get(&mut self) -> Option<String> {
        let said = self.rig.ask(self.session, self.value, bare(GET));
        match &said[..] {
            [Said::Out(_, 0, Status::Ok, bytes)] => {
                Some(shown(GetOutput::decode(&bytes[..]).expect("documented").value))
            }
            said => {
                assert_eq!(failed(said), (Status::NotFound, "value not set".to_owned()));
                None
            }
        }
    }

    fn watch(&mut self) -> Ticket {
        self.rig.watch(self.session, self.value, bare(WATCH))
    }

    fn fails(&mut self, op: &Op, status: Status, text: &str) {
        let said = self.run(op);
        assert_eq!(failed(&said), (status, text.to_owned()));
    }
}

fn bare(tag: u32) -> Op {
    Op(Kind::Value, tag, Vec::new())
}

fn set(value: &[u8], ttl: Option<Span>) -> Op {
    written(SET, value, 0, ttl)
}

fn update(value: &[u8], prev_index: u64, ttl: Option<Span>) -> Op {
    written(UPDATE, value, prev_index, ttl)
}

fn written(tag: u32, value: &[u8], prev_index: u64, ttl: Option<Span>) -> Op {
    let mut input = Vec::new();
    put_bytes(&mut input, 1, value);
    if let Some(ttl) = ttl {
        put_duration(&mut input, if tag == UPDATE { 3 } else { 2 }, ttl);
    }
    if tag == UPDATE {
        put_uint(&mut input, 2, prev_index);
    }
    Op(Kind::Value, tag, input)
}

fn delete(prev_index: u64) -> Op {
    Op(Kind::Value, DELETE, number(prev_index))
}

fn shown(value: Option<IndexedValue>) -> String {
    let value = value.expect("always there");
    format!("{}@{}", String::from_utf8(value.value.to_vec()).expect("text"), value.index)
}

/// An event in words.
fn told(said: &Said) -> String {
    let output = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    match output.event.expect("always there").event.expect("always one") {
        event::Event::Created(it) => format!("+{}", shown(it.value)),
        event::Event::Updated(it) => format!("~{} was {}", shown(it.value), shown(it.prev_value)),
        event::Event::Deleted(it) => {
            format!("-{}{}", shown(it.value), if it.expired { " expired" } else { "" })
        }
    }
}

/// An item of a watch in words.
fn item(said: &Said) -> String {
    shown(WatchOutput::decode(ok(std::slice::from_ref(said))).expect("documented").value)
}

#[test]
fn operations_do_what_the_specification_says() {
    let mut store = Store::new();
    assert_eq!(store.get(), None);
    store.fails(&update(b"x", 0, None), Status::NotFound, "value not set");
    store.fails(&delete(0), Status::NotFound, "value not set");
    let first = store.set("v");
    assert_eq!((first.index, first.prev_value), (5, None));
    // A write of equal bytes is a write.
    let second = store.set("v");
    assert_eq!((second.index, shown(second.prev_value)), (6, "v@5".to_owned()));
    store.fails(&written(INSERT, b"x", 0, None), Status::AlreadyExists, "value already set");
    let said = store.run(&update(b"w", 6, None));
    let updated = UpdateOutput::decode(ok(&said)).expect("documented");
    assert_eq!((updated.index, shown(updated.prev_value)), (8, "v@6".to_owned()));
    let said = store.run(&delete(8));
    let deleted = DeleteOutput::decode(ok(&said)).expect("documented");
    assert_eq!((shown(deleted.value), store.get()), ("w@8".to_owned(), None));
    assert_eq!(ok(&store.run(&written(INSERT, b"", 0, None))), number(10));
    assert_eq!(store.get(), Some("@10".to_owned()));
    store.fails(&bare(9), Status::NotSupported, "proposal not supported");
    let broken = Op(Kind::Value, SET, vec![8, 1]);
    store.fails(&broken, Status::Invalid, "the input cannot be decoded");
}

/// primitives.md V-01, V-02: the reference answers CONFLICT and writes.
#[test]
fn a_conflict_changes_nothing_and_is_not_told() {
    let mut store = Store::new();
    let listener = store.send(&bare(EVENTS));
    let watcher = store.watch();
    store.set("v");
    let text = "value index 4 does not match update index 3";
    store.fails(&update(b"x", 3, None), Status::Conflict, text);
    let text = "value index 4 does not match delete index 3";
    store.fails(&delete(3), Status::Conflict, text);
    assert_eq!(store.get(), Some("v@4".to_owned()));
    assert_eq!(store.rig.take(listener).iter().map(told).collect::<Vec<_>>(), ["+v@4"]);
    assert_eq!(store.rig.take(watcher).iter().map(item).collect::<Vec<_>>(), ["v@4"]);
}

#[test]
fn a_value_expires_in_log_time() {
    let mut store = Store::new();
    let listener = store.send(&bare(EVENTS));
    store.run(&set(b"a", Some(Span::secs(1))));
    store.run(&update(b"b", 0, Some(Span::secs(3))));
    store.rig.pass(Span::secs(2));
    assert_eq!(store.get(), Some("b@5".to_owned()), "the first lifetime is over, not the second");
    store.rig.pass(Span::secs(1));
    assert_eq!(store.get(), None);
    store.run(&written(INSERT, b"c", 0, Some(Span::ZERO)));
    assert_eq!(store.get(), Some("c@6".to_owned()), "a read expires nothing");
    store.rig.pass(Span::millis(1));
    // Written without a lifetime, and written anew, it has no old one.
    store.run(&set(b"d", Some(Span::secs(1))));
    store.run(&set(b"e", None));
    store.rig.pass(Span::secs(9));
    store.run(&set(b"f", Some(Span::secs(1))));
    store.run(&delete(0));
    store.run(&set(b"g", None));
    store.rig.pass(Span::secs(9));
    let heard: Vec<String> = store.rig.take(listener).iter().map(told).collect();
    let expected = [
        "+a@4",
        "~b@5 was a@4",
        "-b@5 expired",
        "+c@6",
        "-c@6 expired",
        "+d@7",
        "~e@8 was d@7",
        "~f@9 was e@8",
        "-f@9",
        "+g@11",
    ];
    assert_eq!(heard, expected);
    assert_eq!(store.rig.machine.ledger.schedule.len(), 1, "the session's own");
}

/// primitives.md V-03: an item without value would bring published clients down.
#[test]
fn a_watch_shows_the_value_and_its_successors_and_no_deletion() {
    let mut store = Store::new();
    let early = store.watch();
    assert_eq!(store.rig.take(early), []);
    store.set("a");
    let late = store.watch();
    assert_eq!(store.rig.take(late).iter().map(item).collect::<Vec<_>>(), ["a@3"]);
    store.run(&update(b"b", 3, None));
    store.run(&delete(0));
    store.run(&written(INSERT, b"c", 0, Some(Span::secs(1))));
    store.rig.pass(Span::secs(2));
    store.set("d");
    let all = |said: Vec<Said>| said.iter().map(item).collect::<Vec<_>>();
    assert_eq!(all(store.rig.take(early)), ["a@3", "b@4", "c@6", "d@7"]);
    assert_eq!(all(store.rig.take(late)), ["b@4", "c@6", "d@7"]);
}

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..20 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        let listener = store.send(&bare(EVENTS));
        let watcher = store.watch();
        let mut model: Option<(u8, u64, Option<LogTime>)> = None;
        let (mut mirror, mut seen) = (None, None);
        for _ in 0..80 {
            store.rig.now = store.rig.now.after(Span::millis(prng.below(400)));
            let now = store.rig.now;
            let value = b'a' + prng.below(3) as u8;
            let ttl = *prng.pick(&[None, None, Some(Span::millis(500))]);
            let held = model.map_or(0, |it| it.1);
            let prev = *prng.pick(&[0, 0, held, 3]);
            let tag = *prng.pick(&[SET, INSERT, UPDATE, UPDATE, DELETE]);
            let op = match tag {
                DELETE => delete(prev),
                tag => written(tag, &[value], prev, ttl),
            };
            let said = store.run(&op);
            let index = store.rig.machine.index().0;
            model = model.filter(|it| it.2.is_none_or(|due| due > now));
            let matches = model.is_some_and(|it| prev == 0 || it.1 == prev);
            let fine = match tag {
                SET => true,
                INSERT => model.is_none(),
                _ => matches,
            };
            if fine {
                let due = ttl.map(|ttl| now.after(ttl));
                model = (tag != DELETE).then_some((value, index, due));
                seen = model.map(|it| it.1).or(seen);
            }
            let succeeded = matches!(said[..], [Said::Out(_, 1, Status::Ok, _)]);
            assert_eq!(succeeded, fine, "seed {seed}: {op:?}");
            let expected = model.map(|it| format!("{}@{}", it.0 as char, it.1));
            assert_eq!(store.get(), expected, "seed {seed}");
            for said in store.rig.take(listener) {
                mirror = reflected(mirror, &told(&said));
            }
            assert_eq!(mirror, expected, "seed {seed}: events tell another story");
            let last = store.rig.take(watcher);
            assert_eq!(last.len(), usize::from(fine && tag != DELETE), "seed {seed}");
            if let [said] = &last[..] {
                assert_eq!(Some(item(said)), expected, "seed {seed}");
            }
        }
        assert!(seen.is_some(), "seed {seed}: nothing was ever written");
    }
}

/// What a client holds after an event in words.
fn reflected(held: Option<String>, event: &str) -> Option<String> {
    let (sign, rest) = event.split_at(1);
    match (sign, rest.split_once(" was ")) {
        ("+", None) => {
            assert_eq!(held, None);
            Some(rest.to_owned())
        }
        ("~", Some((new, old))) => {
            assert_eq!(held.as_deref(), Some(old));
            Some(new.to_owned())
        }
        _ => {
            assert_eq!(held.as_deref(), Some(rest.trim_end_matches(" expired")));
            None
        }
    }
}
