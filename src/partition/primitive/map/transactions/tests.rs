//! Transactions: what stands against them, what they lock, how they end, and a plain model.

use prost::Message;

use super::*;
use crate::id::{Kind, PrimitiveId, Ticket};
use crate::limits::{Bounds, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::partition::machine::Machine;
use crate::partition::primitive::map::{CLEAR, EVENTS, GET};
use crate::partition::rig::*;
use crate::prng::Prng;
use crate::time::{LogTime, Span};
use crate::wire::proto::map::v1::{EventsOutput, GetOutput, MapOutput, event, map_output};

const HOUR: Span = Span::secs(3600);

struct Store {
    rig: Rig,
    map: PrimitiveId,
    /// Two sessions, and the numbers they have used.
    sessions: [(SessionId, u64); 2],
}

const ALICE: usize = 0;
const BOB: usize = 1;

impl Store {
    fn new() -> Store {
        Store::with(Bounds::default())
    }

    fn with(bounds: Bounds) -> Store {
        let mut rig = Rig::with(bounds);
        let sessions = [rig.open(HOUR), rig.open(HOUR)];
        let map = rig.create(sessions[0], 1, Kind::Map, "things");
        rig.create(sessions[1], 1, Kind::Map, "things");
        Store { rig, map, sessions: sessions.map(|session| (session, 1)) }
    }

    fn run(&mut self, who: usize, op: &Op) -> Vec<Said> {
        let (session, number) = &mut self.sessions[who];
        *number += 1;
        self.rig.run(command(*session, *number, self.map, op))
    }

    fn prepare(&mut self, who: usize, steps: &[Op]) -> (u64, Vec<Said>) {
        let number = self.sessions[who].1 + 1;
        (number, self.run(who, &transaction(PREPARE, number, steps)))
    }

    fn prepared(&mut self, who: usize, steps: &[Op]) -> u64 {
        let (number, said) = self.prepare(who, steps);
        assert_eq!(ok(&said), b"");
        number
    }

    fn commit(&mut self, who: usize, number: u64) -> Vec<String> {
        outputs(&self.run(who, &transaction(COMMIT, number, &[])))
    }

    fn abort(&mut self, who: usize, number: u64) {
        assert_eq!(ok(&self.run(who, &transaction(ABORT, number, &[]))), b"");
    }

    fn apply(&mut self, who: usize, steps: &[Op]) -> Vec<String> {
        outputs(&self.run(who, &transaction(APPLY, 0, steps)))
    }

    fn fails(&mut self, who: usize, op: &Op, status: Status, text: &str) {
        let said = self.run(who, op);
        assert_eq!(failed(&said), (status, text.to_owned()));
    }

    fn get(&mut self, key: &str) -> Option<(String, u64)> {
        let mut input = Vec::new();
        put_bytes(&mut input, 1, key.as_bytes());
        let said = self.rig.ask(self.sessions[0].0, self.map, Op(Kind::Map, GET, input));
        let [Said::Out(_, 0, Status::Ok, bytes)] = &said[..] else {
            return None;
        };
        let value = GetOutput::decode(&bytes[..]).expect("documented").value.expect("there");
        Some((String::from_utf8(value.value.to_vec()).expect("text"), value.index))
    }

    fn listen(&mut self) -> Ticket {
        let (session, number) = &mut self.sessions[BOB];
        *number += 1;
        self.rig.send(command(*session, *number, self.map, &Op(Kind::Map, EVENTS, vec![])))
    }

    fn told(&mut self, ticket: Ticket) -> Vec<String> {
        self.rig.take(ticket).iter().map(told).collect()
    }

    fn locked(&self) -> usize {
        let primitive = &self.rig.machine.primitives[&self.map].state;
        let crate::partition::primitive::Primitive::Map(map) = primitive else {
            panic!("it is a map");
        };
        map.transactions.locked()
    }
}

fn transaction(tag: u32, number: u64, steps: &[Op]) -> Op {
    let mut input = Vec::new();
    let field = if tag == APPLY { 1 } else { 2 };
    if tag != APPLY {
        put_uint(&mut input, 1, number);
    }
    for Op(_, tag, step) in steps {
        put_message(&mut input, field, |into| put_bytes(into, *tag, step));
    }
    Op(Kind::Map, tag, input)
}

fn op(tag: u32, key: &str, value: &str, prev: u64) -> Op {
    match tag {
        REMOVE => remove(key, prev),
        tag => Op(Kind::Map, tag, map_input(key, value.as_bytes(), None, prev)),
    }
}

fn put_for(key: &str, value: &str, ttl: Span) -> Op {
    put(key, value.as_bytes(), Some(ttl), 0)
}

/// The outputs of a transaction in words.
fn outputs(said: &[Said]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut fields = Fields::new(ok(said));
    while let Some((1, value)) = fields.field().expect("a message") {
        let output = MapOutput::decode(value.bytes().expect("a message")).expect("documented");
        texts.push(match output.output.expect("one of four") {
            map_output::Output::Put(it) => {
                let before = it.prev_value.map(|it| it.index);
                format!("put {} {before:?}", it.index)
            }
            map_output::Output::Insert(it) => format!("insert {}", it.index),
            map_output::Output::Update(it) => {
                format!("update {} {}", it.index, it.prev_value.expect("there").index)
            }
            map_output::Output::Remove(it) => format!("remove {}", it.value.expect("there").index),
            other => panic!("{other:?}"),
        });
    }
    texts
}

/// An event in words.
fn told(said: &Said) -> String {
    let event = EventsOutput::decode(ok(std::slice::from_ref(said))).expect("documented");
    let event = event.event.expect("always there");
    match event.event.expect("always one") {
        event::Event::Inserted(it) => format!("+{}@{}", event.key, it.value.expect("it").index),
        event::Event::Updated(it) => format!("~{}@{}", event.key, it.value.expect("it").index),
        event::Event::Removed(it) if it.expired => format!("-{} expired", event.key),
        event::Event::Removed(_) => format!("-{}", event.key),
    }
}

#[test]
fn a_transaction_does_all_in_order_with_one_version() {
    let mut store = Store::new();
    for key in ["b", "c", "d"] {
        store.run(ALICE, &put(key, b"old", None, 0));
    }
    let listener = store.listen();
    let steps = [
        op(UPDATE, "d", "new", 7),
        op(PUT, "a", "new", 0),
        op(REMOVE, "c", "", 6),
        op(PUT, "b", "old", 0),
        op(INSERT, "e", "new", 0),
    ];
    let number = store.prepared(ALICE, &steps);
    assert_eq!((store.locked(), store.told(listener)), (5, vec![]));
    assert_eq!(store.get("a"), None, "reads see what was");
    let done = ["update 10 7", "put 10 None", "remove 6", "put 5 None", "insert 10"];
    assert_eq!(store.commit(ALICE, number), done);
    assert_eq!(store.told(listener), ["~d@10", "+a@10", "-c", "+e@10"]);
    assert_eq!(store.locked(), 0);
    assert_eq!(store.get("b"), Some(("old".to_owned(), 5)), "equal bytes change nothing");
    // The same in one command.
    let steps = [op(REMOVE, "e", "", 10), op(PUT, "a", "newer", 10), op(INSERT, "c", "x", 0)];
    assert_eq!(store.apply(ALICE, &steps), ["remove 10", "put 11 Some(10)", "insert 11"]);
    assert_eq!(store.told(listener), ["-e", "~a@11", "+c@11"]);
    assert_eq!(store.apply(ALICE, &[]), [""; 0]);
    let empty = store.prepared(ALICE, &[]);
    assert_eq!(store.commit(ALICE, empty), [""; 0]);
}

#[test]
fn what_stands_against_one_operation_stands_against_all() {
    let mut store = Store::new();
    store.run(ALICE, &put("k", b"v", None, 0));
    let cases: [(&[Op], Status, &str); 8] = [
        (
            &[op(PUT, "x", "1", 0), op(REMOVE, "x", "", 0)],
            Status::Conflict,
            "multiple modifications of key x in same transaction",
        ),
        (&[op(INSERT, "k", "1", 0)], Status::AlreadyExists, "key 'k' already exists"),
        (&[op(UPDATE, "x", "1", 0)], Status::NotFound, "key 'x' not found"),
        (&[op(REMOVE, "x", "", 0)], Status::NotFound, "key 'x' not found"),
        (&[op(PUT, "x", "1", 9)], Status::Conflict, "entry index 0 does not match update index 9"),
        (
            &[op(UPDATE, "k", "1", 9)],
            Status::Conflict,
            "entry index 5 does not match remove index 9",
        ),
        (
            &[Op(Kind::Map, CLEAR, vec![])],
            Status::Invalid,
            "a transaction holds puts, inserts, updates and removes only",
        ),
        (
            &[transaction(APPLY, 0, &[op(PUT, "x", "1", 0)])],
            Status::Invalid,
            "a transaction holds puts, inserts, updates and removes only",
        ),
    ];
    for (steps, status, text) in cases {
        let mut steps = steps.to_vec();
        steps.insert(0, op(PUT, "first", "1", 0));
        for tag in [PREPARE, APPLY] {
            store.fails(ALICE, &transaction(tag, 77, &steps), status, text);
        }
    }
    let mut empty = Vec::new();
    put_bytes(&mut empty, 1, &[]);
    let text = "a transaction holds puts, inserts, updates and removes only";
    store.fails(ALICE, &Op(Kind::Map, APPLY, empty), Status::Invalid, text);
    // Keys and values end where they end outside of transactions.
    store.rig.strict = false;
    let key = |bytes: usize| op(PUT, &"k".repeat(bytes), "", 0);
    let value = |bytes: usize| put("k", &vec![0; bytes], None, 0);
    for (step, taken) in [
        (key(KEY_BYTES_MAX), true),
        (key(KEY_BYTES_MAX + 1), false),
        (value(VALUE_BYTES_MAX), true),
        (value(VALUE_BYTES_MAX + 1), false),
    ] {
        for tag in [PREPARE, APPLY] {
            let said = store.run(ALICE, &transaction(tag, 78, std::slice::from_ref(&step)));
            let refused = matches!(said[..], [Said::Refused(Refusal::Malformed(_))]);
            assert_eq!(refused, !taken, "{tag} {} bytes", step.2.len());
            store.abort(ALICE, 78);
        }
    }
    assert_eq!((store.get("first"), store.locked()), (None, 0));
}

#[test]
fn locked_keys_are_told_to_all_who_would_write_them() {
    let mut store = Store::new();
    store.run(ALICE, &put("k", b"v", None, 0));
    let number = store.prepared(ALICE, &[op(UPDATE, "k", "w", 0), op(INSERT, "new", "w", 0)]);
    for key in ["k", "new"] {
        let text = format!("key {key} is locked by another transaction");
        for who in [ALICE, BOB] {
            for tag in [PUT, INSERT, UPDATE, REMOVE] {
                store.fails(who, &op(tag, key, "x", 0), Status::Conflict, &text);
            }
            let steps = [op(PUT, "other", "x", 0), op(PUT, key, "x", 0)];
            store.fails(who, &transaction(PREPARE, 99, &steps), Status::Conflict, &text);
            store.fails(who, &transaction(APPLY, 0, &steps), Status::Conflict, &text);
        }
    }
    let clear = Op(Kind::Map, CLEAR, vec![]);
    store.fails(BOB, &clear, Status::Conflict, "2 keys are locked by other transaction(s)");
    assert_eq!(store.get("k"), Some(("v".to_owned(), 5)));
    // Only who prepared it may end it.
    let text = format!("transaction {number} not found");
    store.fails(BOB, &transaction(COMMIT, number, &[]), Status::NotFound, &text);
    store.abort(BOB, number);
    assert_eq!(store.locked(), 2);
    store.abort(ALICE, number);
    store.fails(ALICE, &transaction(COMMIT, number, &[]), Status::NotFound, &text);
    assert_eq!(ok(&store.run(BOB, &clear)), b"");
}

#[test]
fn a_lifetime_waits_for_the_lock() {
    let mut store = Store::new();
    let listener = store.listen();
    for key in ["same", "updated", "removed", "aborted", "free"] {
        store.run(ALICE, &put_for(key, "v", Span::secs(1)));
    }
    let steps =
        [op(PUT, "same", "v", 0), op(UPDATE, "updated", "w", 0), op(REMOVE, "removed", "", 0)];
    let committed = store.prepared(ALICE, &steps);
    let aborted = store.prepared(ALICE, &[op(REMOVE, "aborted", "", 0)]);
    store.told(listener);
    store.rig.pass(Span::secs(2));
    assert_eq!(store.told(listener), ["-free expired"]);
    let done = store.commit(ALICE, committed);
    assert_eq!(done[0], "put 6 None");
    assert_eq!(store.told(listener), ["~updated@13", "-removed"]);
    store.rig.pass(Span(1));
    assert_eq!(store.told(listener), ["-same expired"]);
    store.abort(ALICE, aborted);
    store.rig.pass(Span(1));
    assert_eq!(store.told(listener), ["-aborted expired"]);
    store.rig.pass(Span::secs(9));
    assert_eq!(store.get("updated").map(|it| it.1), Some(13), "it has no lifetime any more");
}

#[test]
fn entries_of_one_transaction_expire_in_its_order() {
    let mut store = Store::new();
    let listener = store.listen();
    let second = Span::secs(1);
    let steps = ["c", "a", "b"].map(|key| put_for(key, "v", second));
    let number = store.prepared(ALICE, &steps);
    store.rig.pass(Span::secs(5));
    store.commit(ALICE, number);
    store.told(listener);
    // One is replaced, so its timer is not the others'.
    store.run(ALICE, &put("a", b"w", None, 0));
    store.told(listener);
    store.rig.pass(second);
    assert_eq!(store.told(listener), ["-c expired", "-b expired"]);
    assert_eq!(store.rig.machine.ledger.schedule.len(), 2, "the sessions' own");
}

#[test]
fn who_leaves_takes_what_was_prepared_along() {
    let mut store = Store::new();
    store.run(ALICE, &put("k", b"v", None, 0));
    store.prepared(ALICE, &[op(REMOVE, "k", "", 0)]);
    store.prepared(ALICE, &[op(INSERT, "l", "x", 0)]);
    let mine = store.prepared(BOB, &[op(INSERT, "m", "x", 0)]);
    let (session, number) = store.sessions[ALICE];
    store.rig.run(close_primitive(session, number + 1, store.map));
    assert_eq!((store.locked(), store.get("m")), (1, None));
    let map = store.map;
    store.rig.create(session, number + 2, Kind::Map, "things");
    store.sessions[ALICE].1 = number + 2;
    assert_eq!(store.get("k").map(|it| it.0), Some("v".to_owned()));
    store.prepared(ALICE, &[op(REMOVE, "k", "", 0)]);
    store.rig.run(close_session(session));
    assert_eq!(store.locked(), 1);
    assert_eq!(store.commit(BOB, mine).len(), 1);
    store.sessions.swap(ALICE, BOB);
    assert_eq!(store.get("k").map(|it| it.0), Some("v".to_owned()));
    assert_eq!(map, store.map);
}

/// A client that gives up on Prepare may be heard before it.
#[test]
fn an_abort_that_comes_first_wins() {
    let mut store = Store::new();
    let (session, number) = store.sessions[ALICE];
    store.sessions[ALICE].1 = number + 1;
    store.abort(ALICE, number + 1);
    let steps = [op(PUT, "k", "v", 0)];
    let late = command(session, number + 1, store.map, &transaction(PREPARE, number + 1, &steps));
    let text = format!("transaction {} is aborted", number + 1);
    assert_eq!(failed(&store.rig.run(late.clone())), (Status::Conflict, text.clone()));
    assert_eq!(failed(&store.rig.run(late)), (Status::Conflict, text), "and again");
    assert_eq!(store.locked(), 0);
    // A repeated Prepare is one; an id is used once at a time; an Abort of what failed is nothing.
    let again = store.prepared(ALICE, &steps);
    let body = command(session, again, store.map, &transaction(PREPARE, again, &steps));
    assert_eq!(ok(&store.rig.run(body)), b"");
    let text = format!("transaction {again} is prepared already");
    store.fails(ALICE, &transaction(PREPARE, again, &[]), Status::Conflict, &text);
    let (failed, _) = store.prepare(ALICE, &steps);
    store.abort(ALICE, failed);
    store.abort(ALICE, 1_000_000);
    assert_eq!(store.commit(ALICE, again), ["put 14 None"]);
    // What is remembered is bounded.
    store.rig.strict = false;
    let first = store.sessions[ALICE].1 + 1;
    let all = TRANSACTIONS_ABORTED_MAX as u64 + 1;
    store.sessions[ALICE].1 += all;
    for number in first..first + all {
        store.abort(ALICE, number);
    }
    store.rig.compare();
    for (number, aborted) in [(first, false), (first + 1, true), (first + all - 1, true)] {
        let op = transaction(PREPARE, number, &[]);
        let said = store.rig.run(command(session, number, store.map, &op));
        assert_eq!(matches!(said[..], [Said::Out(_, _, Status::Conflict, _)]), aborted);
    }
}

#[test]
fn transactions_are_bounded() {
    let bounds = Bounds {
        transactions_max: 3,
        session_transactions_max: 2,
        transactions_bytes_max: 10_000,
        ..Bounds::default()
    };
    let full = [Said::Refused(Refusal::Full("too many transactions are prepared"))];
    let mut store = Store::with(bounds);
    let large = op(PUT, "large", &"v".repeat(10_000), 0);
    assert_eq!(store.prepare(ALICE, &[large]).1, full);
    let one = store.prepared(ALICE, &[op(PUT, "1", "v", 0)]);
    store.prepared(ALICE, &[op(PUT, "2", "v", 0)]);
    assert_eq!(store.prepare(ALICE, &[]).1, full, "of the session");
    store.prepared(BOB, &[op(PUT, "3", "v", 0)]);
    assert_eq!(store.prepare(BOB, &[]).1, full, "of the map");
    store.abort(ALICE, one);
    store.prepared(BOB, &[]);
    // Operations of one, and what they would answer.
    let mut store = Store::new();
    store.rig.strict = false;
    let many = |count: usize| -> Vec<Op> {
        (0..count).map(|n| put_for(&format!("{n:04}"), "v", Span::secs(1))).collect()
    };
    let text = "a transaction has too many operations";
    let over = transaction(APPLY, 0, &many(TRANSACTION_OPERATIONS_MAX + 1));
    store.fails(ALICE, &over, Status::Invalid, text);
    assert_eq!(store.apply(ALICE, &many(TRANSACTION_OPERATIONS_MAX)).len(), 1024);
    let listener = store.listen();
    store.rig.pass(Span::secs(2));
    let heard = store.told(listener);
    assert_eq!((heard.len(), &heard[1023][..]), (1024, "-1023 expired"));
    let value = "v".repeat(TRANSACTION_OUTPUT_BYTES_MAX / 2);
    for key in ["a", "b"] {
        store.run(ALICE, &put(key, value.as_bytes(), None, 0));
    }
    let both = [op(UPDATE, "a", "", 0), op(UPDATE, "b", "", 0)];
    let text = "the values before do not fit one answer";
    store.fails(ALICE, &transaction(PREPARE, 99, &both), Status::Invalid, text);
    store.fails(ALICE, &transaction(APPLY, 0, &both), Status::Invalid, text);
    store.rig.compare();
}

#[test]
fn a_snapshot_holds_what_is_prepared_and_what_waits() {
    let mut store = Store::new();
    let before = store.rig.machine.digest();
    store.run(ALICE, &put_for("k", "v", Span::secs(1)));
    let number = store.prepared(ALICE, &[op(UPDATE, "k", "w", 0)]);
    assert_ne!(store.rig.machine.digest(), before);
    let snapshot = snapshot_of(&store.rig.machine, 1 << 20);
    let mut restored =
        Machine::restore(PARTITION, store.rig.bounds.clone(), &snapshot).expect("it");
    assert_eq!(restored.digest(), store.rig.machine.digest());
    assert_eq!(restored.next_timer(), store.rig.machine.next_timer(), "no timer of a locked key");
    std::mem::swap(&mut restored, &mut store.rig.machine);
    assert_eq!(store.commit(ALICE, number), ["update 7 5"]);
}

#[derive(Clone)]
struct Entry {
    value: String,
    index: u64,
    due: Option<LogTime>,
}

/// Member, key, value, whether it has a lifetime.
type Change = (u32, String, String, bool);

#[derive(Default, Clone)]
struct Model {
    entries: BTreeMap<String, Entry>,
    prepared: BTreeMap<(usize, u64), Vec<Change>>,
}

impl Model {
    fn locked(&self, key: &str) -> bool {
        self.prepared.values().flatten().any(|step| step.1 == key)
    }

    fn expire(&mut self, now: LogTime) {
        let locked: Vec<String> =
            self.prepared.values().flatten().map(|step| step.1.clone()).collect();
        self.entries.retain(|key, it| it.due.is_none_or(|due| due > now) || locked.contains(key));
    }

    fn stands(&self, (tag, key, ..): &Change) -> bool {
        let there = self.entries.contains_key(key);
        !self.locked(key) && (*tag == PUT || (*tag == INSERT) != there)
    }

    fn allows(&self, steps: &[Change]) -> bool {
        let keys: BTreeSet<&str> = steps.iter().map(|step| &step.1[..]).collect();
        keys.len() == steps.len() && steps.iter().all(|step| self.stands(step))
    }

    fn perform(&mut self, now: LogTime, index: u64, steps: &[Change]) {
        for (tag, key, value, mortal) in steps {
            if *tag == REMOVE {
                self.entries.remove(key);
            } else if *tag != PUT || self.entries.get(key).is_none_or(|it| it.value != *value) {
                let due = mortal.then(|| now.after(TTL));
                let entry = Entry { value: value.clone(), index, due };
                self.entries.insert(key.clone(), entry);
            }
        }
    }
}

const TTL: Span = Span::millis(700);

#[test]
fn it_agrees_with_a_plain_model() {
    for seed in 0..25 {
        let mut prng = Prng::new(seed);
        let mut store = Store::new();
        let mut model = Model::default();
        let listener = store.listen();
        let mut mirror: BTreeMap<String, u64> = BTreeMap::new();
        for _ in 0..120 {
            store.rig.now = store.rig.now.after(Span::millis(1 + prng.below(400)));
            let (now, who) = (store.rig.now, prng.below(2) as usize);
            let count = 1 + prng.below(3) as usize;
            let steps: Vec<Change> = (0..count).map(|_| some_step(&mut prng)).collect();
            let ops: Vec<Op> = steps.iter().map(as_op).collect();
            let known =
                *prng.pick(&model.prepared.keys().copied().chain([(who, 999)]).collect::<Vec<_>>());
            model.expire(now);
            let roll = prng.below(10);
            let (said, fine) = match roll {
                0..3 => (store.run(who, &ops[0]), model.allows(&steps[..1])),
                3..5 => (store.run(who, &transaction(APPLY, 0, &ops)), model.allows(&steps)),
                5..7 => (store.prepare(who, &ops).1, model.allows(&steps)),
                7 => {
                    let fine = model.prepared.contains_key(&known);
                    (store.run(known.0, &transaction(COMMIT, known.1, &[])), fine)
                }
                8 => (store.run(known.0, &transaction(ABORT, known.1, &[])), true),
                _ => {
                    let fine = model.prepared.values().all(Vec::is_empty);
                    (store.run(who, &Op(Kind::Map, CLEAR, vec![])), fine)
                }
            };
            let index = store.rig.machine.index().0;
            match roll {
                _ if !fine => {}
                0..3 => model.perform(now, index, &steps[..1]),
                3..5 => model.perform(now, index, &steps),
                5..7 => drop(model.prepared.insert((who, store.sessions[who].1), steps)),
                7 => {
                    let steps = model.prepared.remove(&known).expect("it is known");
                    model.perform(now, index, &steps);
                }
                8 => drop(model.prepared.remove(&known)),
                _ => model.entries.clear(),
            }
            let succeeded = matches!(said[..], [Said::Out(_, 1, Status::Ok, _)]);
            assert_eq!(succeeded, fine, "seed {seed}: {roll} {said:?}");
            for event in store.told(listener) {
                let (key, version) = event[1..].split_once(['@', ' ']).unwrap_or((&event[1..], ""));
                let _ = match &event[..1] {
                    "-" => mirror.remove(key),
                    _ => mirror.insert(key.to_owned(), version.parse().expect("a version")),
                };
            }
            let expected: BTreeMap<String, u64> =
                model.entries.iter().map(|(key, it)| (key.clone(), it.index)).collect();
            assert_eq!(mirror, expected, "seed {seed}: events tell another story");
            for (key, index) in expected {
                assert_eq!(store.get(&key).map(|it| it.1), Some(index), "seed {seed}");
            }
            let locked: usize = model.prepared.values().map(Vec::len).sum();
            assert_eq!(store.locked(), locked, "seed {seed}");
        }
    }
}

fn some_step(prng: &mut Prng) -> Change {
    let tag = *prng.pick(&[PUT, PUT, INSERT, UPDATE, REMOVE]);
    let key = *prng.pick(&["a", "b", "c", "d", "e", "f"]);
    (tag, key.to_owned(), prng.pick(&["1", "2"]).to_string(), prng.chance(400))
}

fn as_op((tag, key, value, mortal): &Change) -> Op {
    if *tag == REMOVE {
        return remove(key, 0);
    }
    Op(Kind::Map, *tag, map_input(key, value.as_bytes(), mortal.then_some(TTL), 0))
}
