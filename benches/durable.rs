//! Durable commands a CPU-second of one core in process: the shard, its journal and the disk, but
//! no HTTP/2; 1,024 increments in flight over one partition, 16 and 1,000, and 16 for each of
//! 1,000.
//!
//! `cargo bench --bench durable` prints the rates and what they are of one partition's; inside
//! `cargo test` it runs for an instant. CPU time is that of the whole process: turns, ring, the
//! thread that fills segments with zeros, and the callers, who write a new command for each reply.
//! Every answer is counted and compared with the counters. As in the pump, commands alone start no
//! turn while the disk has as much in flight as it wants.

mod client;
mod clock;

use std::rc::Rc;
use std::time::Duration;

use client::Client;
use clock::{monotonic, process_cpu};
use glommio::LocalExecutorBuilder;
use ringraft::id::{NodeId, PartitionId, ShardId, Ticket};
use ringraft::journal::{Owner, recover};
use ringraft::limits::WRITES_IN_FLIGHT_MAX;
use ringraft::partition::reply::Body;
use ringraft::runtime::disk::{Bell, Disk, Harvest, load, shard_directory};
use ringraft::shard::inbox::{Ask, Inbox, Member, Role};
use ringraft::shard::{Settings, Shard, outbox::Outbox};
use ringraft::time::{Instant, LogTime, Now};

/// Partitions, and increments in flight over all of them.
const SHAPES: [(u32, u32); 4] = [(1, 1024), (16, 1024), (1000, 1024), (1000, 16_000)];

fn main() {
    let measures = std::env::args().any(|argument| argument == "--bench");
    let span = Duration::from_millis(if measures { 4000 } else { 30 });
    println!("increments in flight, each durable before it is answered");
    println!(
        "{:>10} {:>10} {:>12} {:>12} {:>10} {:>12} {:>8}",
        "partitions", "in flight", "a second", "a CPU-second", "us CPU", "a block", "of one"
    );
    let mut one = None;
    for (partitions, flights) in SHAPES {
        let executor =
            LocalExecutorBuilder::default().spawn(move || run(partitions, flights, span));
        let executor = match executor {
            Ok(executor) => executor,
            Err(error) => return println!("not measured, io_uring is missing: {error}"),
        };
        let rate = executor.join().expect("a panic says why");
        let alone = *one.get_or_insert(rate.a_cpu_second);
        println!(
            "{partitions:>10} {flights:>10} {:>12.0} {:>12.0} {:>10.3} {:>12.1} {:>8.2}",
            rate.a_second,
            rate.a_cpu_second,
            1e6 / rate.a_cpu_second,
            rate.a_block,
            rate.a_cpu_second / alone
        );
    }
}

/// What was reached.
struct Rates {
    a_second: f64,
    a_cpu_second: f64,
    /// Commands in one block.
    a_block: f64,
}

/// Fills a core with commands for so long.
async fn run(partitions: u32, flights: u32, span: Duration) -> Rates {
    // Beside the build, on a disk: the system's directory for such things may be memory.
    let data = Rc::new(tempfile::tempdir_in(".").expect("a directory"));
    let mut core = Core::new(data.path(), partitions).await;
    core.open().await;
    for number in 0..flights {
        core.ask(number % partitions);
    }
    // Buffers have grown by then, and files are open.
    core.answer(span / 4).await;
    let (began, cpu, blocks) = (monotonic(), process_cpu(), core.disk.written().0);
    let done = core.answer(span).await;
    let (took, cpu) = (monotonic() - began, process_cpu() - cpu);
    let blocks = core.disk.written().0 - blocks;
    core.rest().await;
    assert_eq!(core.asked, core.answered, "every command was answered");
    Rates {
        a_second: done as f64 / took.as_secs_f64(),
        a_cpu_second: done as f64 / cpu.as_secs_f64(),
        a_block: done as f64 / blocks as f64,
    }
}

/// A shard with its disk, and a client for each partition.
struct Core {
    shard: Shard,
    inbox: Inbox,
    outbox: Outbox,
    disk: Disk,
    bell: Bell,
    harvest: Harvest,
    clients: Vec<Client>,
    asked: u64,
    answered: u64,
    kept_alive: Duration,
}

/// As often as clients do.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// The slot of a ticket whose answer is not counted.
const NOBODY: u32 = u32::MAX;

impl Core {
    async fn new(data: &std::path::Path, partitions: u32) -> Core {
        let settings = Settings::default();
        let directory = shard_directory(data, ShardId(0));
        load(&directory).expect("an empty directory");
        let (disk, bell) = Disk::open(&directory, settings.layout).expect("a disk");
        let owner = Owner { node: settings.node, shard: settings.shard };
        let recovered = recover(owner, &[]).expect("nothing is there");
        let shard = Shard::new(settings, recovered, time());
        let (inbox, outbox) = Default::default();
        Core {
            shard,
            inbox,
            outbox,
            disk,
            bell,
            harvest: Harvest::default(),
            clients: (0..partitions).map(|_| Client::default()).collect(),
            asked: 0,
            answered: 0,
            kept_alive: monotonic(),
        }
    }

    /// Founds the partitions, opens a session and a counter in each.
    async fn open(&mut self) {
        let (host, port, role) = ("a".to_owned(), 1, Role::Member);
        let member = Member { node: NodeId(1), host, port, role };
        for id in 1..=self.clients.len() as u32 {
            let ask = Ask::Bootstrap { local: NodeId(1), members: vec![member.clone()] };
            self.inbox.requests.push(nobody(), PartitionId(id), None, ask, |_| {});
        }
        self.turn();
        self.disk.prepared(&mut self.bell, 2).await.expect("room for two segments");
        self.rest().await;
        for body in Client::opening() {
            self.tell_all(|_, into| into.extend_from_slice(&body));
            self.rest().await;
        }
    }

    /// Asks one increment of the client in this place.
    fn ask(&mut self, place: u32) {
        let ticket = Ticket { shard: ShardId(0), slot: place, generation: 0 };
        let (id, client) = (PartitionId(place + 1), &mut self.clients[place as usize]);
        let increment = |into: &mut Vec<u8>| client.increment(into);
        self.inbox.requests.push(ticket, id, None, Ask::Command, increment);
        self.asked += 1;
    }

    fn tell_all(&mut self, body: impl Fn(&Client, &mut Vec<u8>)) {
        for (id, client) in (1..).zip(&self.clients) {
            let body = |into: &mut Vec<u8>| body(client, into);
            self.inbox.requests.push(nobody(), PartitionId(id), None, Ask::Command, body);
        }
    }

    /// Turns for so long, and asks again for each answer; how many those were.
    async fn answer(&mut self, span: Duration) -> u64 {
        let (until, before) = (monotonic() + span, self.answered);
        while monotonic() < until {
            for place in self.turn() {
                self.ask(place);
            }
            if monotonic() - self.kept_alive > KEEP_ALIVE {
                self.kept_alive = monotonic();
                self.tell_all(|client, into| client.keep_alive(into));
            }
            let is_asked = !self.inbox.requests.list.is_empty();
            if !(is_asked && self.disk.in_flight() < WRITES_IN_FLIGHT_MAX) {
                self.wait().await;
            }
        }
        self.answered - before
    }

    /// Turns until nothing is left to do.
    async fn rest(&mut self) {
        loop {
            self.turn();
            if self.disk.backlog_bytes() > 0 {
                self.wait().await;
            } else if self.outbox.wake.is_none_or(|at| at > time().monotonic) {
                return;
            }
        }
    }

    async fn wait(&mut self) {
        if self.outbox.wake.is_some_and(|at| at <= time().monotonic) {
            return;
        }
        self.bell.rung().await.expect("a bell");
    }

    /// One turn; the places of those who were answered.
    fn turn(&mut self) -> Vec<u32> {
        self.disk.harvest(&mut self.harvest);
        if let Some(mark) = self.harvest.durable.take() {
            self.inbox.durable = Some(mark);
        }
        self.inbox.spent.append(&mut self.harvest.buffers);
        self.shard.turn(&mut self.inbox, time(), &mut self.outbox);
        self.disk.obey(&mut self.outbox.orders);
        let replies = &self.outbox.replies;
        for reply in &replies.list {
            assert!(matches!(reply.body, Body::Output(_)), "{reply:?}");
        }
        let slots = replies.list.iter().map(|reply| reply.ticket.slot);
        let slots: Vec<u32> = slots.filter(|slot| *slot != NOBODY).collect();
        self.outbox.replies.clear();
        self.answered += slots.len() as u64;
        slots
    }
}

fn nobody() -> Ticket {
    Ticket { shard: ShardId(0), slot: NOBODY, generation: 0 }
}

fn time() -> Now {
    let now = u64::try_from(monotonic().as_nanos()).expect("it is not that late");
    Now { monotonic: Instant(now), wall: LogTime(now) }
}
