//! Snapshots: octets a second in which a state is taken and restored, and what a slice costs.
//!
//! `cargo bench --bench snapshot` has states of some hundred megabytes; inside `cargo test` they
//! are small, and only that what is restored has the digest of what was taken. Times are CPU time
//! of the thread. Taken means written in slices of what a turn may write, as a partition does it;
//! the journal's part of it is in `journal`, and is a copy and a checksum.

mod client;
mod clock;

use std::time::Duration;

use client::Client;
use clock::thread_cpu;
use ringraft::id::{Kind, PartitionId, Position, ShardId, Term, Ticket};
use ringraft::limits::Bounds;
use ringraft::partition::entry::EntryBuilder;
use ringraft::partition::machine::Machine;
use ringraft::partition::primitive::service_of;
use ringraft::partition::reply::{Body, Replies, Status};
use ringraft::partition::snapshot::{Cursor, Progress};
use ringraft::shard::Settings;
use ringraft::time::LogTime;
use ringraft::wire::field::{put_bytes, put_message, put_uint};

/// What a state is made of.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// A map with values of so many octets.
    Map(usize),
    /// A counter whose outputs nobody has said to have.
    Outputs,
    /// Members of a set.
    Set,
    /// A counter map.
    Counters,
}

const CONTENTS: [(Content, u32); 5] = [
    (Content::Map(24), 1_000_000),
    (Content::Map(1024), 200_000),
    (Content::Outputs, 1_000_000),
    (Content::Set, 1_000_000),
    (Content::Counters, 1_000_000),
];

const TICKET: Ticket = Ticket { shard: ShardId(0), slot: 0, generation: 0 };

fn main() {
    let measures = std::env::args().any(|argument| argument == "--bench");
    let less = if measures { 1 } else { 1000 };
    println!(
        "{:12} {:>9} {:>7} {:>11} {:>14} {:>14}",
        "state", "parts", "MB", "taken GB/s", "slice us max", "restored GB/s"
    );
    for (content, parts) in CONTENTS {
        measure(content, parts / less);
    }
}

fn measure(content: Content, parts: u32) {
    let machine = filled(content, parts);
    let (state, budget) = (machine.freeze(), Settings::default().snapshot_turn_bytes);
    let (mut whole, mut slice) = (Vec::new(), Vec::new());
    let (mut cursor, mut all, mut longest) = (Cursor::new(), Duration::ZERO, Duration::ZERO);
    loop {
        let began = thread_cpu();
        slice.clear();
        let progress = state.write(&mut cursor, budget, &mut slice);
        let took = thread_cpu() - began;
        (all, longest) = (all + took, longest.max(took));
        whole.extend_from_slice(&slice);
        if progress == Progress::Done {
            break;
        }
    }
    let began = thread_cpu();
    let restored = Machine::restore(PartitionId(1), Bounds::default(), &whole).expect("sound");
    let took = thread_cpu() - began;
    assert_eq!(restored.digest(), cursor.digest(), "{content:?} comes back as it was");
    let rate = |time: Duration| whole.len() as f64 / 1e9 / time.as_secs_f64();
    println!(
        "{:12} {parts:>9} {:>7} {:>11.2} {:>14.0} {:>14.2}",
        format!("{content:?}"),
        whole.len() / 1_000_000,
        rate(all),
        longest.as_secs_f64() * 1e6,
        rate(took)
    );
}

/// A machine with so many parts.
fn filled(content: Content, parts: u32) -> Machine {
    let kind = match content {
        Content::Map(_) => Kind::Map,
        Content::Outputs => Kind::Counter,
        Content::Set => Kind::Set,
        Content::Counters => Kind::CounterMap,
    };
    let mut filling = Filling {
        machine: Machine::new(PartitionId(1), Bounds::default()),
        entry: EntryBuilder::new(),
        position: 0,
        replies: Replies::default(),
    };
    for body in Client::opening_of(&service_of(kind)) {
        filling.entry.stamp(LogTime(1));
        filling.entry.push(&body);
        filling.apply();
    }
    let (mut client, mut body) = (Client::default(), Vec::new());
    for number in 0..parts {
        body.clear();
        client.command(&mut body, kind, |input| put_part(input, content, number));
        filling.entry.stamp(LogTime(2));
        filling.entry.push(&body);
        if number % 1000 == 999 {
            if !matches!(content, Content::Outputs) {
                body.clear();
                client.keep_alive(&mut body);
                filling.entry.push(&body);
            }
            filling.apply();
        }
    }
    filling.apply();
    filling.machine
}

/// A machine on its way to a state.
struct Filling {
    machine: Machine,
    entry: EntryBuilder,
    position: u64,
    replies: Replies,
}

impl Filling {
    fn apply(&mut self) {
        self.entry.stamp(LogTime(3));
        let callers = vec![Some(TICKET); self.entry.commands()];
        let data = self.entry.finish();
        self.position += 1;
        let position = Position(self.position);
        self.machine.apply(position, Term(1), &data, &callers, &mut self.replies);
        for reply in &self.replies.list {
            let Body::Output(output) = &reply.body else { panic!("{reply:?}") };
            assert_eq!(output.status, Status::Ok);
        }
        self.replies.clear();
    }
}

fn put_part(input: &mut Vec<u8>, content: Content, number: u32) {
    let key = format!("key-{number:010}");
    match content {
        Content::Outputs => put_message(input, 1, |increment| put_uint(increment, 1, 1)),
        Content::Map(bytes) => put_message(input, 2, |put| {
            put_bytes(put, 1, key.as_bytes());
            put_bytes(put, 2, &vec![7; bytes]);
        }),
        Content::Counters => put_message(input, 2, |put| {
            put_bytes(put, 1, key.as_bytes());
            put_uint(put, 2, u64::from(number) + 1);
        }),
        Content::Set => put_message(input, 3, |add| {
            put_message(add, 1, |element| put_bytes(element, 1, key.as_bytes()));
        }),
    }
}
