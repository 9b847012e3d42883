//! One shard, k partitions, n commands: what a turn costs, against n; and what raft-rs alone does.
//! No I/O.

mod client;
mod crowd;
mod world;

use bytes::Bytes;
use crowd::Crowd;
use ringraft::id::{NodeId, PartitionId, Position};
use ringraft::partition::log::Log;
use ringraft::partition::member::conf_state;
use ringraft::partition::replica::{Pace, Replica};

fn main() {
    divan::main();
}

/// A round of n commands over k partitions; the items are commands.
#[divan::bench(args = [(1, 1), (1, 100), (1, 1000), (50, 1000), (1000, 1000)])]
fn round(bencher: divan::Bencher<'_, '_>, (partitions, commands): (u32, u32)) {
    let mut crowd = Crowd::new(partitions);
    bencher.counter(divan::counter::ItemsCount::new(commands)).bench_local(|| {
        crowd.ask(commands);
        crowd.turns(commands);
    });
}

/// A turn in which nothing happens, with so many quiet partitions.
#[divan::bench(args = [1, 1000])]
fn idle(bencher: divan::Bencher<'_, '_>, partitions: u32) {
    let mut crowd = Crowd::new(partitions);
    bencher.bench_local(|| crowd.turn());
}

/// What raft-rs takes for an entry, with nothing around it: groups of one in which one is proposed,
/// is durable, and applied. No round over as many partitions as commands is quicker than that.
#[divan::bench(args = [1, 1000])]
fn raft_alone(bencher: divan::Bencher<'_, '_>, groups: u32) {
    let mut replicas: Vec<Replica> = (1..=groups).map(leader).collect();
    let entry = Bytes::from_static(&[7; 40]);
    bencher.counter(divan::counter::ItemsCount::new(groups)).bench_local(|| {
        for replica in &mut replicas {
            replica.propose(entry.clone()).expect("it leads");
            readies(replica);
        }
        for replica in &mut replicas {
            commit(replica);
        }
    });
}

fn leader(group: u32) -> Replica {
    let pace = Pace { seed: 1, election_ticks: 10, heartbeat_ticks: 1 };
    let log = Log::new(conf_state(&[1], &[]));
    let mut replica = Replica::new(PartitionId(group), NodeId(1), pace, log, Position(0));
    replica.campaign();
    readies(&mut replica);
    commit(&mut replica);
    assert!(replica.has_committed_in_term());
    replica
}

/// All that was recorded is durable; what is committed is applied, and stands in a snapshot.
fn commit(replica: &mut Replica) {
    replica.persisted(u64::MAX);
    readies(replica);
    let committed = replica.committed();
    replica.applied(committed);
    replica.log_mut().compact(committed);
}

fn readies(replica: &mut Replica) {
    while let Some(mut ready) = replica.ready() {
        if let Some(hard) = ready.hs().cloned() {
            replica.log_mut().set_hard(hard);
        }
        let entries = ready.take_entries();
        replica.log_mut().append(&entries);
        divan::black_box(ready.take_committed_entries());
        replica.advance(ready);
    }
}
