//! Structures that are larger than what one turn may touch: what ends, goes or is listed in parts
//! does so alike on every replica, and nothing is lost or told twice.

use std::collections::BTreeMap;

use crate::id::{Kind, PrimitiveId, SessionId, Ticket};
use crate::limits::{CLEAR_EVENTS_MAX, LISTING_BYTES_MAX, TIMERS_ENTRY_MAX};
use crate::partition::ledger::OVERFLOW;
use crate::partition::reply::{Refusal, Status};
use crate::partition::rig::{Op, Rig, Said, command, entries, events, number, ok};
use crate::time::Span;
use crate::wire::field::{put_bytes, put_duration, put_message, put_uint};

/// A kind with entries, and the members that add, clear and list them.
const STRUCTURES: [(Kind, u32, u32, u32); 5] = [
    (Kind::Map, 2, 7, 10),
    (Kind::CounterMap, 2, 9, 12),
    (Kind::IndexedMap, 2, 10, 11),
    (Kind::MultiMap, 2, 9, 10),
    (Kind::Set, 3, 5, 6),
];

const SIZE: u32 = 1;

struct Store {
    rig: Rig,
    kind: Kind,
    session: SessionId,
    id: PrimitiveId,
    sequence: u64,
}

impl Store {
    fn new(kind: Kind) -> Store {
        let mut rig = Rig::new();
        rig.strict = false;
        let session = rig.open(Span::secs(3600));
        let id = rig.create(session, 1, kind, "it");
        Store { rig, kind, session, id, sequence: 1 }
    }

    fn body(&mut self, op: &Op) -> Vec<u8> {
        self.sequence += 1;
        command(self.session, self.sequence, self.id, op)
    }

    fn send(&mut self, op: &Op) -> Ticket {
        let body = self.body(op);
        self.rig.send(body)
    }

    /// Adds entries with these numbers, a thousand at once.
    fn fill(&mut self, add: u32, numbers: std::ops::Range<u64>, ttl: Option<Span>) {
        let numbers: Vec<u64> = numbers.collect();
        for some in numbers.chunks(1000) {
            let bodies: Vec<_> =
                some.iter().map(|it| self.body(&addition(self.kind, add, *it, ttl))).collect();
            for ticket in self.rig.entry(&bodies) {
                ok(&self.rig.take(ticket));
            }
        }
    }

    fn size(&mut self) -> u64 {
        let said = self.rig.ask(self.session, self.id, Op(self.kind, SIZE, Vec::new()));
        crate::partition::machine::parse_id(ok(&said)).expect("a number")
    }
}

fn addition(kind: Kind, add: u32, which: u64, ttl: Option<Span>) -> Op {
    // Neither in the order of their numbers nor all behind one another.
    let key = format!("key-{:04}-{which}", which * 7919 % 10_000);
    let mut input = Vec::new();
    match kind {
        Kind::Set => put_message(&mut input, 1, |into| put_bytes(into, 1, key.as_bytes())),
        _ => put_bytes(&mut input, 1, key.as_bytes()),
    }
    match kind {
        Kind::CounterMap => put_uint(&mut input, 2, which + 1),
        Kind::Set => {}
        _ => put_bytes(&mut input, 2, b"value"),
    }
    if let Some(ttl) = ttl {
        put_duration(&mut input, if kind == Kind::Set { 2 } else { 3 }, ttl);
    }
    Op(kind, add, input)
}

#[test]
fn listings_between_writes_lose_and_double_nothing_and_share_what_a_turn_hands_out() {
    const ENTRIES: u64 = 12_000;
    for (kind, add, _, list) in STRUCTURES {
        let mut store = Store::new(kind);
        store.fill(add, 0..ENTRIES, None);
        let (session, id) = (store.session, store.id);
        let mut heard: BTreeMap<Ticket, Vec<Vec<u8>>> = BTreeMap::new();
        for _ in 0..10 {
            let ticket = store.rig.watch(session, id, Op(kind, list, number(0)));
            heard.insert(ticket, Vec::new());
        }
        let mut turn_bytes = 0;
        let (mut open, mut added, mut turns) = (heard.len(), 0, 0);
        while open > 0 {
            for (ticket, items) in &mut heard {
                for said in store.rig.take(*ticket) {
                    match said {
                        Said::Out(_, 0, Status::Ok, bytes) => {
                            turn_bytes += bytes.len();
                            items.push(bytes);
                        }
                        Said::End => open -= 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert!(turn_bytes <= LISTING_BYTES_MAX, "{kind}: {turn_bytes} bytes in a turn");
            store.fill(add, ENTRIES + added..ENTRIES + added + 10, None);
            added += 10;
            turn_bytes = 0;
            turns += 1;
            assert!(turns < 1000, "{kind}: listings do not end");
            store.rig.more();
        }
        for items in heard.values_mut() {
            let told = items.len() as u64;
            items.sort();
            items.dedup();
            assert_eq!(items.len() as u64, told, "{kind}: told twice");
            assert!((ENTRIES..=ENTRIES + added).contains(&told), "{kind}: {told} of {ENTRIES}");
        }
        store.rig.compare();
    }
}

#[test]
fn lifetimes_that_end_together_end_over_several_entries_alike_everywhere() {
    const ENTRIES: u64 = 3 * TIMERS_ENTRY_MAX as u64;
    for (kind, add, ..) in STRUCTURES {
        if matches!(kind, Kind::CounterMap | Kind::MultiMap) {
            continue;
        }
        let mut store = Store::new(kind);
        store.fill(add, 0..ENTRIES, Some(Span::secs(1)));
        store.rig.compare();
        store.rig.pass(Span::secs(2));
        for left in [2, 1, 0] {
            assert_eq!(store.size(), left * TIMERS_ENTRY_MAX as u64, "{kind}");
            assert_eq!(
                store
                    .rig
                    .machine
                    .next_timer()
                    .is_some_and(|due| { due <= store.rig.now.after(Span(1)) }),
                left > 0,
                "{kind}: the leader knows that there is more to do"
            );
            store.rig.compare();
            store.rig.pass(Span(1));
        }
    }
}

#[test]
fn what_hears_of_each_that_expires_counts_as_much() {
    let mut store = Store::new(Kind::Map);
    store.fill(2, 0..TIMERS_ENTRY_MAX as u64, Some(Span::secs(1)));
    let listener = store.send(&events(""));
    store.rig.pass(Span::secs(2));
    assert_eq!(store.size(), TIMERS_ENTRY_MAX as u64 / 2);
    assert_eq!(store.rig.take(listener).len(), TIMERS_ENTRY_MAX / 2);
    store.rig.pass(Span(1));
    assert_eq!(store.size(), 0);
    store.rig.compare();
}

#[test]
fn a_clearing_of_more_than_anybody_could_hear_ends_their_streams() {
    const ENTRIES: u64 = CLEAR_EVENTS_MAX as u64 + 1;
    for (kind, add, clear, list) in STRUCTURES {
        let mut store = Store::new(kind);
        store.fill(add, 0..ENTRIES, None);
        let listen = match kind {
            Kind::Map | Kind::MultiMap => 11,
            Kind::IndexedMap => 12,
            Kind::CounterMap => 13,
            _ => 7,
        };
        let everything = store.send(&Op(kind, listen, Vec::new()));
        let mut key = Vec::new();
        put_bytes(&mut key, 1, b"key-7919-1");
        let one = store.send(&Op(kind, listen, key));
        let told = matches!(kind, Kind::Map | Kind::IndexedMap | Kind::MultiMap);
        let watcher =
            told.then(|| store.rig.watch(store.session, store.id, Op(kind, list, number(1))));
        while store.rig.machine.has_more() {
            store.rig.more();
        }
        watcher.map(|watcher| store.rig.take(watcher));
        ok(&{
            let ticket = store.send(&Op(kind, clear, Vec::new()));
            store.rig.take(ticket)
        });
        let overflow =
            Said::Out(store.rig.machine.index().0, 1, Status::Unavailable, OVERFLOW.into());
        assert_eq!(store.rig.take(everything)[..1], [overflow], "{kind}");
        if kind != Kind::Set {
            assert_eq!(store.rig.take(one).len(), 1, "{kind}: one key is no more than one event");
        }
        if let Some(watcher) = watcher {
            let refused = Said::Refused(Refusal::Unavailable("too many events at once"));
            assert_eq!(store.rig.take(watcher), [refused], "{kind}");
        }
        assert_eq!(store.size(), 0, "{kind}");
        store.rig.compare();
        // Nothing stays of the timers and streams of before.
        store.fill(add, 0..10, None);
        assert_eq!(store.size(), 10, "{kind}");
        store.rig.compare();
    }
}

#[test]
fn a_clearing_cancels_every_lifetime() {
    let mut store = Store::new(Kind::Map);
    store.fill(2, 0..3000, Some(Span::secs(5)));
    store.send(&Op(Kind::Map, 7, Vec::new()));
    store.fill(2, 0..10, None);
    let watcher = store.rig.watch(store.session, store.id, entries(true));
    store.rig.take(watcher);
    store.rig.pass(Span::secs(10));
    assert_eq!(store.rig.take(watcher), [], "nothing expires");
    assert_eq!(store.size(), 10);
    store.rig.compare();
}
