//! One shard, k partitions, n commands: what a turn costs, against n. No I/O.

mod client;
mod world;

use client::Client;
use ringraft::shard::{Settings, inbox::Ask};
use world::World;

fn main() {
    divan::main();
}

struct Crowd {
    world: World,
    clients: Vec<Client>,
}

impl Crowd {
    fn new(partitions: u32) -> Crowd {
        let settings = Settings {
            // The state grows with each session; snapshots are measured elsewhere.
            snapshot_entries: u64::MAX,
            snapshot_bytes: usize::MAX,
            ..Settings::default()
        };
        let world = World::new(settings, partitions);
        let clients = (0..partitions).map(|_| Client::default()).collect();
        let mut crowd = Crowd { world, clients };
        for id in 1..=partitions {
            for body in Client::opening() {
                crowd.world.ask(id, Ask::Command, |into| into.extend_from_slice(&body));
            }
        }
        for _ in 0..4 {
            crowd.turn();
        }
        crowd
    }

    fn ask(&mut self, partitions: u32, commands: u32) {
        for number in 0..commands {
            let place = number % partitions;
            let client = &mut self.clients[place as usize];
            self.world.ask(place + 1, Ask::Command, |into| client.increment(into));
        }
    }

    fn turn(&mut self) -> usize {
        self.world.turn();
        let replies = self.world.outbox.replies.list.len();
        self.world.outbox.replies.clear();
        replies
    }
}

/// A round of n commands over k partitions; the items are commands.
#[divan::bench(args = [(1, 1), (1, 100), (1, 1000), (50, 1000), (1000, 1000)])]
fn round(bencher: divan::Bencher<'_, '_>, (partitions, commands): (u32, u32)) {
    let mut crowd = Crowd::new(partitions);
    bencher.counter(divan::counter::ItemsCount::new(commands)).bench_local(|| {
        crowd.ask(partitions, commands);
        crowd.turn();
        assert_eq!(crowd.turn(), commands as usize);
    });
}

/// A turn in which nothing happens, with so many quiet partitions.
#[divan::bench(args = [1, 1000])]
fn idle(bencher: divan::Bencher<'_, '_>, partitions: u32) {
    let mut crowd = Crowd::new(partitions);
    bencher.bench_local(|| crowd.turn());
}
