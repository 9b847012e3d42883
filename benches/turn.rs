//! One shard, k partitions, n commands: what a turn costs, against n. No I/O.
//!
//! The disk is a drop: orders are thrown away and reported durable in the next turn, so one round
//! is two turns (propose and record; commit, apply and answer), as in production with a group of
//! one.

mod client;

use client::Client;
use ringraft::{
    id::{Mark, NodeId, PartitionId, ShardId, Ticket},
    journal::{Order, Owner, recover},
    shard::{
        Settings, Shard,
        inbox::{Ask, Inbox, Member, Role},
        outbox::Outbox,
    },
    time::{Instant, LogTime, Now, Span},
};

fn main() {
    divan::main();
}

struct World {
    shard: Shard,
    inbox: Inbox,
    outbox: Outbox,
    now: Now,
    ticket: u32,
    clients: Vec<Client>,
}

impl World {
    fn new(partitions: u32) -> World {
        let settings = Settings {
            // The state grows with each session; snapshots are measured elsewhere.
            snapshot_entries: u64::MAX,
            snapshot_bytes: usize::MAX,
            ..Settings::default()
        };
        let owner = Owner { node: settings.node, shard: settings.shard };
        let recovered = recover(owner, &[]).expect("nothing is there");
        let now = Now { monotonic: Instant(0), wall: LogTime(1) };
        let shard = Shard::new(settings, recovered, now);
        let (inbox, outbox) = Default::default();
        let clients = (0..partitions).map(|_| Client::default()).collect();
        let mut world = World { shard, inbox, outbox, now, ticket: 0, clients };
        let member = Member { node: NodeId(1), host: "a".to_owned(), port: 1, role: Role::Member };
        for id in 1..=partitions {
            let ticket = world.ticket();
            let ask = Ask::Bootstrap { local: NodeId(1), members: vec![member.clone()] };
            world.inbox.requests.push(ticket, PartitionId(id), None, ask, |_| {});
        }
        for _ in 0..4 {
            world.turn();
        }
        for id in 1..=partitions {
            for body in Client::opening() {
                let ticket = world.ticket();
                let write = |into: &mut Vec<u8>| into.extend_from_slice(&body);
                world.inbox.requests.push(ticket, PartitionId(id), None, Ask::Command, write);
            }
        }
        for _ in 0..4 {
            world.turn();
        }
        world
    }

    fn ticket(&mut self) -> Ticket {
        self.ticket = self.ticket.wrapping_add(1);
        Ticket { shard: ShardId(0), slot: self.ticket, generation: 0 }
    }

    fn ask(&mut self, partitions: u32, commands: u32) {
        for number in 0..commands {
            let ticket = self.ticket();
            let place = number % partitions;
            let (id, client) = (PartitionId(place + 1), &mut self.clients[place as usize]);
            let body = |into: &mut Vec<u8>| client.increment(into);
            self.inbox.requests.push(ticket, id, None, Ask::Command, body);
        }
    }

    fn turn(&mut self) -> usize {
        self.now.monotonic = self.now.monotonic.after(Span::micros(100));
        self.shard.turn(&mut self.inbox, self.now, &mut self.outbox);
        let mut durable: Option<Mark> = None;
        for order in self.outbox.orders.drain(..) {
            if let Order::Write(block) = order {
                durable = Some(block.mark);
                self.inbox.spent.push(block.buffer);
            }
        }
        self.inbox.durable = durable;
        let replies = self.outbox.replies.list.len();
        self.outbox.replies.clear();
        self.outbox.letters.clear();
        replies
    }
}

/// A round of n commands over k partitions; the items are commands.
#[divan::bench(args = [(1, 1), (1, 100), (1, 1000), (50, 1000), (1000, 1000)])]
fn round(bencher: divan::Bencher<'_, '_>, (partitions, commands): (u32, u32)) {
    let mut world = World::new(partitions);
    bencher.counter(divan::counter::ItemsCount::new(commands)).bench_local(|| {
        world.ask(partitions, commands);
        world.turn();
        assert_eq!(world.turn(), commands as usize);
    });
}

/// A turn in which nothing happens, with so many quiet partitions.
#[divan::bench(args = [1, 1000])]
fn idle(bencher: divan::Bencher<'_, '_>, partitions: u32) {
    let mut world = World::new(partitions);
    bencher.bench_local(|| world.turn());
}
