//! One group of one voter: propose, commit, apply, answer; time a command. No journal, no I/O.

use ringraft::{
    id::{Kind, NodeId, PartitionId, ShardId, Ticket},
    partition::{Lane, Partition, effects::Effects, member::Group},
    shard::Settings,
    time::{Instant, LogTime, Now},
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
const NOW: Now = Now { monotonic: Instant(0), wall: LogTime(1) };

#[divan::bench(args = [1, 16, 256, 4096])]
fn propose_to_reply(bencher: divan::Bencher<'_, '_>, commands: u32) {
    let settings =
        Settings { snapshot_entries: u64::MAX, snapshot_bytes: usize::MAX, ..Settings::default() };
    let rules = settings.rules();
    let id = PartitionId(1);
    let group = Group { partition: id, voters: vec![NodeId(1)], learners: Vec::new() };
    let mut partition = Partition::found(&group, &rules);
    let mut effects = Effects::default();
    let mut turn = 0;
    let mut round = |bodies: &[Vec<u8>]| {
        for (slot, body) in (0..).zip(bodies) {
            let ticket = Ticket { shard: ShardId(0), slot, generation: 0 };
            partition.propose((ticket, None), body, Lane::Ordinary, NOW, &rules).expect("it leads");
        }
        for _ in 0..2 {
            turn += 1;
            effects.begin(turn, 1 << 20);
            partition.settle(NOW, &rules, &mut effects);
            effects.records.clear();
            partition.durable(turn);
        }
        let replies = effects.replies.list.len();
        effects.replies.clear();
        replies
    };
    round(&[]);
    round(&Client::opening());
    let mut client = Client::default();
    let bodies = || {
        let body = |_| {
            let mut body = Vec::new();
            client.increment(&mut body);
            body
        };
        (0..commands).map(body).collect::<Vec<_>>()
    };
    bencher
        .with_inputs(bodies)
        .input_counter(|bodies| divan::counter::ItemsCount::new(bodies.len()))
        .bench_local_refs(|bodies| assert_eq!(round(bodies), bodies.len()));
}
