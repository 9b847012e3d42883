//! A start: a journal from the page cache, checked and cut into records, handed to partitions, and
//! applied; octets a second of each step, and of all together.
//!
//! `cargo bench --bench recovery` has journals of a quarter of a gigabyte; inside `cargo test` they
//! are small, and only that the state is the same after them as before. Octets are those of the
//! blocks that were written, with what pads them to sectors; times are CPU time of the thread, the
//! best of three starts. There are no snapshots in them, so that all of it is replayed.

mod client;
mod clock;
mod world;

use std::time::Duration;

use client::Client;
use clock::thread_cpu;
use ringraft::id::{Kind, PartitionId, Position};
use ringraft::journal::{Layout, Owner, SegmentBytes, recover, segment};
use ringraft::partition::primitive::service_of;
use ringraft::partition::reply::Body;
use ringraft::shard::{Settings, inbox::Ask};
use ringraft::wire::field::{put_bytes, put_message};
use world::{World, without_snapshots};

/// What is written in a round, which is one block.
struct Shape {
    name: &'static str,
    partitions: u32,
    commands: u32,
    /// Octets of a value that is put into a map; 0: a counter is incremented.
    value: usize,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "1 increment a block", partitions: 1, commands: 1, value: 0 },
    Shape { name: "256 increments a block", partitions: 1, commands: 256, value: 0 },
    Shape { name: "256 over 100 partitions", partitions: 100, commands: 256, value: 0 },
    Shape { name: "64 puts of 1 KiB", partitions: 1, commands: 64, value: 1024 },
    Shape { name: "16 puts of 64 KiB", partitions: 1, commands: 16, value: 64 << 10 },
];

fn main() {
    let measures = std::env::args().any(|argument| argument == "--bench");
    let (bytes, starts) = if measures { (256 << 20, 3) } else { (1 << 20, 1) };
    let layout = if measures {
        Layout::default()
    } else {
        Layout { segment_bytes: 8 << 20, block_bytes_max: 2 << 20 }
    };
    let settings = Settings { layout, ..without_snapshots() };
    println!("GB/s of CPU time, of what was written");
    println!(
        "{:26} {:>7} {:>9} {:>7} {:>7} {:>7} {:>7} {:>11}",
        "journal", "MB", "commands", "read", "check", "apply", "all", "commands/s"
    );
    for shape in &SHAPES {
        let written = Written::of(shape, bytes, settings.clone());
        let times = (0..starts).map(|_| written.start()).min_by_key(|times| times.all());
        written.print(shape, &times.expect("one start at least"));
    }
}

/// A journal on disk, and what the state was when it had been written.
struct Written {
    settings: Settings,
    directory: tempfile::TempDir,
    segments: Vec<SegmentBytes>,
    bytes: usize,
    commands: u64,
    states: Vec<(PartitionId, Position, u64)>,
}

/// The steps of a start.
struct Times {
    read: Duration,
    check: Duration,
    apply: Duration,
}

impl Times {
    fn all(&self) -> Duration {
        self.read + self.check + self.apply
    }
}

/// Rounds between keep-alives.
const KEEP_ALIVE_ROUNDS: u64 = 256;

impl Written {
    fn of(shape: &Shape, bytes: usize, settings: Settings) -> Written {
        let mut world = World::keeping(settings.clone(), shape.partitions);
        let kind = if shape.value == 0 { Kind::Counter } else { Kind::Map };
        let mut clients: Vec<Client> = Vec::new();
        for id in 1..=shape.partitions {
            for body in Client::opening_of(&service_of(kind)) {
                world.ask(id, Ask::Command, |into| into.extend_from_slice(&body));
            }
            clients.push(Client::default());
        }
        settle(&mut world);
        let value = vec![7; shape.value];
        let (mut commands, mut rounds) = (0, 0);
        while world.written_bytes < bytes {
            rounds += 1;
            for number in 0..shape.commands {
                let place = number % shape.partitions;
                let client = &mut clients[place as usize];
                world.ask(place + 1, Ask::Command, |into| match shape.value {
                    0 => client.increment(into),
                    _ => client.command(into, Kind::Map, |input| put(input, commands, &value)),
                });
                commands += 1;
            }
            if rounds % KEEP_ALIVE_ROUNDS == 0 {
                for (id, client) in (1..).zip(&clients) {
                    world.ask(id, Ask::Command, |into| client.keep_alive(into));
                }
            }
            settle(&mut world);
        }
        let (bytes, states) = (world.written_bytes, states(&world));
        let directory = tempfile::tempdir().expect("a directory");
        let segments = world.segments();
        for segment in &segments {
            let path = directory.path().join(segment::name(segment.sequence));
            std::fs::write(path, &segment.bytes).expect("room for a file");
        }
        Written { settings, directory, segments, bytes, commands, states }
    }

    /// A start, up to the last command that was written.
    fn start(&self) -> Times {
        let began = thread_cpu();
        let segments = self.read();
        let read = thread_cpu() - began;
        let owner = Owner { node: self.settings.node, shard: self.settings.shard };
        let began = thread_cpu();
        let recovered = recover(owner, &segments).expect("it was written so");
        let check = thread_cpu() - began;
        assert!(recovered.faults.is_empty() && recovered.damage.is_empty(), "{recovered:?}");
        let began = thread_cpu();
        let mut world = World::again(self.settings.clone(), recovered);
        settle(&mut world);
        let apply = thread_cpu() - began;
        for (before, after) in self.states.iter().zip(states(&world)) {
            assert!(after.1 > before.1, "a new term has an entry of its own");
            assert_eq!((before.0, before.2), (after.0, after.2), "every command was applied");
        }
        Times { read, check, apply }
    }

    #[cfg(feature = "io")]
    fn read(&self) -> Vec<SegmentBytes> {
        let read = ringraft::runtime::disk::load(self.directory.path()).expect("it was written");
        assert_eq!(read.len(), self.segments.len(), "every segment is found");
        read
    }

    #[cfg(not(feature = "io"))]
    fn read(&self) -> Vec<SegmentBytes> {
        assert!(self.directory.path().is_dir(), "it is read by the shell that is missing");
        self.segments.clone()
    }

    fn print(&self, shape: &Shape, times: &Times) {
        let rate = |time: Duration| self.bytes as f64 / 1e9 / time.as_secs_f64();
        println!(
            "{:26} {:>7} {:>9} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>11.0}",
            shape.name,
            self.bytes / 1_000_000,
            self.commands,
            rate(times.read),
            rate(times.check),
            rate(times.apply),
            rate(times.all()),
            self.commands as f64 / times.all().as_secs_f64()
        );
    }
}

/// A put of one of 4,096 keys.
fn put(input: &mut Vec<u8>, number: u64, value: &[u8]) {
    put_message(input, 2, |put| {
        put_bytes(put, 1, format!("key-{:04}", number % 4096).as_bytes());
        put_bytes(put, 2, value);
    });
}

/// Turns until there is nothing to do.
fn settle(world: &mut World) {
    loop {
        world.turn();
        for reply in &world.outbox.replies.list {
            assert!(matches!(reply.body, Body::Output(_)), "{reply:?}");
        }
        world.outbox.replies.clear();
        if world.is_idle() {
            return;
        }
    }
}

/// Of each partition how far it has applied, and how many commands those were.
fn states(world: &World) -> Vec<(PartitionId, Position, u64)> {
    let all = world.shard.partitions();
    all.map(|it| (it.id(), it.applied(), it.machine().index().0)).collect()
}
