//! One shard, k partitions, n commands: what a turn costs, against n. No I/O.
//!
//! The disk is a drop: orders are thrown away and reported durable in the next turn, so one round
//! is two turns (propose and record; commit, apply and answer), as in production with a group of
//! one.

use ringraft::{
    id::{Kind, Mark, NodeId, PartitionId, ShardId, Ticket},
    journal::{Order, Owner, recover},
    shard::{
        Settings, Shard,
        inbox::{Ask, Inbox, Member, Role},
        outbox::Outbox,
    },
    time::{Instant, LogTime, Now, Span},
    wire::field::{put_bytes, put_message, put_uint},
};

fn main() {
    divan::main();
}

/// Increments of one counter in one session: what a client's hot path is made of.
struct Client {
    session: u64,
    primitive: u64,
    sequence: u64,
}

impl Client {
    /// The commands that open the session and create the counter, in this order: indexes 1 and 2.
    fn opening() -> [Vec<u8>; 2] {
        let open = vec![0x12, 0x00];
        let mut create = Vec::new();
        put_message(&mut create, 5, |proposal| {
            put_uint(proposal, 1, 1);
            put_uint(proposal, 2, 1);
            put_message(proposal, 4, |input| {
                put_message(input, 1, |spec| {
                    put_bytes(spec, 1, b"atomix.runtime.counter.v1.Counter");
                    put_bytes(spec, 3, b"c");
                });
            });
        });
        [open, create]
    }

    fn increment(&mut self, into: &mut Vec<u8>) {
        self.sequence += 1;
        put_message(into, 5, |proposal| {
            put_uint(proposal, 1, self.session);
            put_uint(proposal, 2, self.sequence);
            put_message(proposal, 6, |command| {
                put_uint(command, 1, self.primitive);
                put_bytes(command, 2, &[0x0a, 0x02, 0x08, 0x01]);
                put_uint(command, 100, Kind::Counter as u64);
            });
        });
    }
}

impl Default for Client {
    fn default() -> Client {
        Client { session: 1, primitive: 2, sequence: 1 }
    }
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
            let ask = Ask::Bootstrap(vec![member.clone()]);
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
