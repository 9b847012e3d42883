//! One shard, k partitions, n commands: what a turn costs, against n. No I/O.

mod client;
mod crowd;
mod world;

use crowd::Crowd;

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
