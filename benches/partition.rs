//! One group of one voter: propose, commit, apply, answer; time a command. No journal, no I/O.

mod client;

use client::Client;
use ringraft::{
    id::{NodeId, PartitionId, ShardId, Ticket},
    partition::{
        Lane, Partition,
        effects::Effects,
        member::{Group, Member, Role},
    },
    shard::Settings,
    time::{Instant, LogTime, Now},
};

fn main() {
    divan::main();
}

const NOW: Now = Now { monotonic: Instant(0), wall: LogTime(1) };

#[divan::bench(args = [1, 16, 256, 4096])]
fn propose_to_reply(bencher: divan::Bencher<'_, '_>, commands: u32) {
    let settings =
        Settings { snapshot_entries: u64::MAX, snapshot_bytes: usize::MAX, ..Settings::default() };
    let rules = settings.rules();
    let id = PartitionId(1);
    let (host, port, role) = ("localhost".to_owned(), 5679, Role::Member);
    let members = vec![Member { node: NodeId(1), host, port, role }];
    let group = Group { partition: id, local: NodeId(1), members, joins: false };
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
            effects.begin(turn);
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
