//! Structures with a million entries: how long the turns are in which they are filled, listed,
//! cleared, in which their lifetimes end, and in which sessions with much behind them go. No I/O.
//!
//! `cargo bench --bench large` prints a row for each step: how many turns it took, how long the
//! longest was and how many were above 5 ms, in CPU time of its thread. Inside `cargo test` it runs
//! with few entries, to show that it still works, and that listings are whole.

mod client;
mod clock;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use client::NOTHING_OPEN;
use clock::thread_cpu;
use ringraft::id::{Index, Kind, Ticket};
use ringraft::partition::primitive::service_of;
use ringraft::partition::reply::Body;
use ringraft::shard::{Settings, inbox::Ask};
use ringraft::time::Span;
use ringraft::wire::field::{Fields, put_bytes, put_duration, put_message, put_uint};
use world::World;

fn main() {
    let measures = std::env::args().any(|argument| argument == "--bench");
    let entries = if measures { 1_000_000 } else { 3_000 };
    println!("{:32} {:>7} {:>11} {:>11} {:>7}", "step", "turns", "all", "longest", "> 5 ms");
    for structure in &STRUCTURES {
        fill_and_list(structure, entries);
        clear(structure, entries);
        if structure.lives {
            expire(structure, entries);
        }
    }
    fan_out(if measures { 10_000 } else { 100 });
    leave(if measures { 50_000 } else { 100 });
}

/// The number in field 1; 0 when there is none.
fn number_in(bytes: &[u8]) -> u64 {
    let first = Fields::new(bytes).field().ok().flatten();
    first.and_then(|(_, value)| value.uint().ok()).unwrap_or(0)
}

/// The member that asks how many entries there are.
const SIZE: u32 = 1;

/// A kind with entries: the members of its input, and what stands in one that adds an entry.
struct Structure {
    kind: Kind,
    add: u32,
    clear: u32,
    list: u32,
    listen: u32,
    /// Whether entries have values of bytes, and whether of numbers.
    value: Option<Value>,
    /// Whether entries have lifetimes, and in which field.
    lives: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Value {
    Bytes,
    Number,
}

const STRUCTURES: [Structure; 5] = [
    structure(Kind::Map, [2, 7, 10, 11], Some(Value::Bytes), true),
    structure(Kind::CounterMap, [2, 9, 12, 13], Some(Value::Number), false),
    structure(Kind::IndexedMap, [2, 10, 11, 12], Some(Value::Bytes), true),
    structure(Kind::MultiMap, [2, 9, 10, 11], Some(Value::Bytes), false),
    structure(Kind::Set, [3, 5, 6, 7], None, true),
];

const fn structure(kind: Kind, tags: [u32; 4], value: Option<Value>, lives: bool) -> Structure {
    let [add, clear, list, listen] = tags;
    Structure { kind, add, clear, list, listen, value, lives }
}

impl Structure {
    fn entry(&self, number: u32, ttl: Option<Span>, into: &mut Vec<u8>) {
        let key = format!("key-{number:010}");
        match self.value {
            None => put_message(into, 1, |into| put_bytes(into, 1, key.as_bytes())),
            Some(_) => put_bytes(into, 1, key.as_bytes()),
        }
        match self.value {
            Some(Value::Bytes) => put_bytes(into, 2, b"a value of 24 bytes here"),
            Some(Value::Number) => put_uint(into, 2, u64::from(number) + 1),
            None => {}
        }
        if let Some(ttl) = ttl {
            put_duration(into, if self.value.is_some() { 3 } else { 2 }, ttl);
        }
    }
}

/// One partition with one session and one primitive, and what its callers heard.
struct Scene {
    world: World,
    name: String,
    session: u64,
    sequence: u64,
    primitive: u64,
    kind: Kind,
    /// By caller: outputs, whether it ended, and the number in the last output.
    heard: BTreeMap<Ticket, (usize, bool, u64)>,
    turns: Vec<Duration>,
}

impl Scene {
    fn new(kind: Kind) -> Scene {
        let world = World::new(Settings::default(), 1);
        let name = kind.name().to_owned();
        let mut scene = Scene {
            world,
            name,
            session: 0,
            sequence: 0,
            primitive: 0,
            kind,
            heard: BTreeMap::new(),
            turns: Vec::new(),
        };
        scene.session = scene.open();
        scene.primitive = scene.create("it");
        scene
    }

    /// Opens a session and speaks as it from now on.
    fn open(&mut self) -> u64 {
        self.world.ask(1, Ask::Command, |into| {
            put_message(into, 2, |into| put_duration(into, 1, Span::secs(24 * 3600)));
        });
        (self.session, self.sequence) = (self.answer(), 0);
        self.session
    }

    /// The id of a primitive, opened.
    fn create(&mut self, name: &str) -> u64 {
        let service = service_of(self.kind);
        self.propose(|into| {
            put_message(into, 4, |into| {
                put_message(into, 1, |into| {
                    put_bytes(into, 1, service.as_bytes());
                    put_bytes(into, 3, name.as_bytes());
                });
            });
        });
        self.answer()
    }

    /// The number that stands in the one answer of the next turns.
    fn answer(&mut self) -> u64 {
        for _ in 0..4 {
            self.world.turn();
            let replies = &self.world.outbox.replies;
            let number = replies.list.iter().find_map(|reply| match &reply.body {
                Body::Output(output) => Some(number_in(replies.bytes_of(output))),
                _ => None,
            });
            self.world.outbox.replies.clear();
            if let Some(number) = number {
                return number;
            }
        }
        panic!("no answer")
    }

    fn propose(&mut self, member: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        self.sequence += 1;
        let (session, sequence) = (self.session, self.sequence);
        self.world.ask(1, Ask::Command, |into| {
            put_message(into, 5, |into| {
                put_uint(into, 1, session);
                put_uint(into, 2, sequence);
                member(into);
            });
        })
    }

    fn command(&mut self, tag: u32, input: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        let (primitive, kind) = (self.primitive, self.kind);
        self.propose(|into| {
            put_message(into, 6, |into| {
                put_uint(into, 1, primitive);
                put_message(into, 2, |into| put_message(into, tag, input));
                put_uint(into, 100, kind as u64);
            });
        })
    }

    fn list(&mut self, tag: u32) -> Ticket {
        let (session, primitive, kind) = (self.session, self.primitive, self.kind);
        self.world.ask(1, Ask::Query { at_least: Index(0) }, |into| {
            put_uint(into, 1, session);
            put_message(into, 3, |into| {
                put_uint(into, 1, primitive);
                put_message(into, 2, |into| put_message(into, tag, |_| {}));
                put_uint(into, 100, kind as u64);
            });
        })
    }

    /// The client says that it has every answer so far and that nothing is under way.
    fn keep_alive(&mut self) {
        let (session, sequence) = (self.session, self.sequence);
        self.world.ask(1, Ask::Command, |into| {
            put_message(into, 3, |into| {
                put_uint(into, 1, session);
                put_bytes(into, 2, NOTHING_OPEN);
                put_uint(into, 3, sequence);
            });
        });
    }

    fn turn(&mut self) {
        let began = thread_cpu();
        self.world.turn();
        self.turns.push(thread_cpu() - began);
        let replies = &self.world.outbox.replies;
        for reply in &replies.list {
            let heard = self.heard.entry(reply.ticket).or_default();
            if let Body::Output(output) = &reply.body {
                heard.0 += 1;
                heard.2 = number_in(replies.bytes_of(output));
            }
            heard.1 |= reply.last || matches!(reply.body, Body::End | Body::Refused(_));
        }
        self.world.outbox.replies.clear();
    }

    /// Turns until this caller has heard everything.
    fn until(&mut self, ticket: Ticket) {
        while !self.heard.get(&ticket).is_some_and(|heard| heard.1) {
            self.turn();
        }
    }

    /// Turns until log time has nothing to do any more.
    fn settle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn();
        }
    }

    fn report(&mut self, step: &str) {
        let all: Duration = self.turns.iter().sum();
        let longest = self.turns.iter().max().copied().unwrap_or_default();
        let long = self.turns.iter().filter(|turn| **turn > Duration::from_millis(5)).count();
        let (name, turns) = (format!("{} {step}", self.name), self.turns.len());
        println!("{name:32} {turns:>7} {all:>11.1?} {longest:>11.2?} {long:>7}");
        self.turns.clear();
        self.heard.clear();
    }

    fn fill(&mut self, structure: &Structure, entries: u32, ttl: Option<Span>) {
        for number in 0..entries {
            let last = self.command(structure.add, |into| structure.entry(number, ttl, into));
            if number % 1000 == 999 || number + 1 == entries {
                self.until(last);
                self.keep_alive();
            }
        }
        self.settle(4);
    }
}

fn fill_and_list(structure: &Structure, entries: u32) {
    let mut scene = Scene::new(structure.kind);
    scene.fill(structure, entries, None);
    scene.report("filled, snapshots beside");
    let listing = scene.list(structure.list);
    scene.until(listing);
    assert_eq!(scene.heard[&listing].0, entries as usize, "a listing is whole");
    scene.report("listed");
    let listings: Vec<Ticket> = (0..10).map(|_| scene.list(structure.list)).collect();
    let mut number = 0;
    while !listings.iter().all(|it| scene.heard.get(it).is_some_and(|heard| heard.1)) {
        scene.command(structure.add, |into| structure.entry(number, None, into));
        number = (number + 1) % entries;
        scene.turn();
    }
    for listing in listings {
        // An entry of an indexed map is never written again by an append, so nothing is added.
        assert_eq!(scene.heard[&listing].0, entries as usize, "a listing is whole");
    }
    scene.report("listed 10 times, written");
}

fn clear(structure: &Structure, entries: u32) {
    let mut scene = Scene::new(structure.kind);
    let ttl = structure.lives.then_some(Span::secs(3600));
    scene.fill(structure, entries, ttl);
    scene.turns.clear();
    let cleared = scene.command(structure.clear, |_| {});
    scene.until(cleared);
    scene.settle(100);
    scene.report(if structure.lives { "cleared, with lifetimes" } else { "cleared" });
    scene.fill(structure, entries, None);
    scene.command(structure.listen, |_| {});
    scene.settle(4);
    scene.turns.clear();
    let cleared = scene.command(structure.clear, |_| {});
    scene.until(cleared);
    scene.settle(100);
    scene.report("cleared, one listens");
    scene.fill(structure, entries.min(4_000), None);
    scene.command(structure.listen, |_| {});
    scene.settle(4);
    scene.turns.clear();
    let cleared = scene.command(structure.clear, |_| {});
    scene.until(cleared);
    scene.report("cleared of 4,000, one hears");
}

fn expire(structure: &Structure, entries: u32) {
    for listens in [false, true] {
        let mut scene = Scene::new(structure.kind);
        scene.fill(structure, entries, Some(Span::secs(2)));
        if listens {
            scene.command(structure.listen, |_| {});
        }
        scene.settle(4);
        scene.turns.clear();
        scene.world.now.monotonic = scene.world.now.monotonic.after(Span::secs(2));
        let mut left = entries as u64;
        while left > 0 {
            scene.settle(10);
            let size = scene.list(SIZE);
            scene.until(size);
            left = scene.heard[&size].2;
        }
        scene.report(if listens { "expired, one listens" } else { "expired" });
    }
}

/// One change, and so many who hear of it.
fn fan_out(listeners: u32) {
    let map = &STRUCTURES[0];
    let mut scene = Scene::new(map.kind);
    for number in 0..listeners {
        if number % 4000 == 0 {
            scene.open();
            scene.primitive = scene.create("it");
        }
        scene.command(map.listen, |_| {});
        if number % 1000 == 999 {
            scene.turn();
        }
    }
    scene.settle(4);
    scene.turns.clear();
    scene.open();
    scene.primitive = scene.create("it");
    for number in 0..20 {
        let put = scene.command(map.add, |into| map.entry(number, None, into));
        scene.until(put);
    }
    scene.report(&format!("put, {listeners} listen"));
}

/// A session goes that waits for much, and one that has opened much.
fn leave(primitives: u32) {
    let mut scene = Scene::new(Kind::Lock);
    let holder = scene.command(1, |_| {});
    scene.until(holder);
    scene.open();
    scene.primitive = scene.create("it");
    for _ in 0..primitives.min(4096) {
        scene.command(1, |_| {});
    }
    scene.settle(4);
    scene.turns.clear();
    close(&mut scene, "4,096 waiting");
    scene.open();
    for number in 1..primitives {
        scene.primitive = scene.create(&number.to_string());
        let held = scene.command(1, |_| {});
        scene.until(held);
    }
    scene.turns.clear();
    scene.heard.clear();
    close(&mut scene, "50,000 held");
}

fn close(scene: &mut Scene, what: &str) {
    let session = scene.session;
    let closed = scene.world.ask(1, Ask::Command, |into| {
        put_message(into, 4, |into| put_uint(into, 1, session));
    });
    scene.until(closed);
    scene.report(&format!("session ends, {what}"));
}
