//! The journal without a disk: what encoding a turn and recovering segments cost.

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use ringraft::{
    id::{Mark, NodeId, PartitionId, Position, ShardId, Term},
    journal::{
        Entry, Founding, HardState, Journal, Layout, Order, Owner, Resume, SegmentBytes, recover,
    },
};
use std::collections::BTreeMap;

const OWNER: Owner = Owner { node: NodeId(1), shard: ShardId(0) };

fn main() {
    divan::main();
}

/// A turn: an entry of so many bytes and a state for each of 16 partitions, to sealed blocks.
#[divan::bench(args = [100, 1_000, 10_000, 100_000])]
fn encode_a_turn_of_16(bencher: Bencher<'_, '_>, entry_bytes: usize) {
    let mut journal = journal(16);
    let data = vec![7; entry_bytes];
    let (mut orders, mut next) = (Vec::new(), 1);
    bencher.counter(BytesCount::new(16 * entry_bytes)).bench_local(|| {
        let mark = turn(&mut journal, 16, next, &data, &mut orders);
        next += 1;
        for order in orders.drain(..) {
            if let Order::Write(block) = black_box(order) {
                journal.recycle(block.buffer);
            }
        }
        journal.durable(mark, &mut orders);
    });
}

/// Two full segments of entries of so many bytes.
#[divan::bench(args = [100, 1_000, 10_000, 100_000])]
fn recover_two_segments(bencher: Bencher<'_, '_>, entry_bytes: usize) {
    let segments = written(entry_bytes);
    let bytes: usize = segments.iter().map(|segment| segment.bytes.len()).sum();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| recover(OWNER, black_box(&segments)));
}

/// Blocks of so many KiB to real files, each waited for, or four in flight.
#[cfg(feature = "io")]
#[divan::bench(args = [(1, 4), (1, 64), (4, 4), (4, 64)], sample_count = 3, sample_size = 1)]
fn write_5000_blocks(bencher: Bencher<'_, '_>, (in_flight, kib): (usize, usize)) {
    bencher.counter(divan::counter::ItemsCount::new(5000_usize)).bench_local(|| {
        if let Err(error) = wet::write(5000, in_flight, kib << 10) {
            eprintln!("not measured, io_uring is missing: {error}");
        }
    });
}

#[cfg(feature = "io")]
mod wet {
    use super::*;
    use glommio::{GlommioError, LocalExecutorBuilder};
    use ringraft::runtime::disk::{Disk, Harvest, load, shard_directory};

    pub fn write(blocks: u64, in_flight: usize, bytes: usize) -> Result<(), GlommioError<()>> {
        let executor = LocalExecutorBuilder::default().spawn(move || async move {
            let data = tempfile::tempdir().expect("a directory");
            let directory = shard_directory(data.path(), ShardId(0));
            load(&directory).expect("an empty directory");
            let (mut disk, mut bell) = Disk::open(&directory, Layout::default()).expect("a disk");
            disk.limit_writes(u16::try_from(in_flight).expect("few"));
            let mut journal = journal(1);
            let (mut orders, mut harvest) = (Vec::new(), Harvest::default());
            let data = vec![7; bytes - 512];
            for next in 1..=blocks {
                turn(&mut journal, 1, next, &data, &mut orders);
                disk.obey(&mut orders);
                if next == 1 {
                    // Before that blocks would pile up and be written without a pause.
                    disk.prepared(&mut bell, 2).await.expect("room for a segment");
                }
                while disk.in_flight() >= in_flight || next == blocks && disk.backlog_bytes() > 0 {
                    bell.rung().await.expect("a bell");
                    disk.harvest(&mut harvest);
                    harvest.buffers.drain(..).for_each(|buffer| journal.recycle(buffer));
                    if let Some(mark) = harvest.durable {
                        journal.durable(mark, &mut orders);
                    }
                }
            }
        })?;
        executor.join()
    }
}

fn journal(partitions: u32) -> Journal {
    let mut journal = Journal::resume(Layout::default(), OWNER, Resume::fresh());
    for partition in 1..=partitions {
        journal.founded(PartitionId(partition), &Founding { replica: 1, ..Founding::default() });
    }
    journal
}

fn turn(
    journal: &mut Journal,
    partitions: u32,
    next: u64,
    data: &[u8],
    orders: &mut Vec<Order>,
) -> Mark {
    for partition in (1..=partitions).map(PartitionId) {
        let entry = Entry { term: Term(1), kind: 0, data };
        journal.entries(partition, Position(next), [entry]);
        let hard = HardState { term: Term(1), vote: 1, commit: Position(next - 1) };
        journal.state(partition, hard, None);
    }
    journal.seal(orders)
}

fn written(entry_bytes: usize) -> Vec<SegmentBytes> {
    let mut journal = journal(16);
    let mut files: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let (mut orders, mut next) = (Vec::new(), 1);
    let data = vec![7; entry_bytes];
    while files.len() < 4 {
        let mark = turn(&mut journal, 16, next, &data, &mut orders);
        next += 1;
        for order in orders.drain(..) {
            match order {
                Order::Open { sequence, header } => {
                    let mut file = vec![0; Layout::default().segment_bytes];
                    file[..header.capacity()].copy_from_slice(header.as_ref());
                    files.insert(sequence, file);
                }
                Order::Write(block) => {
                    let file = files.get_mut(&block.segment).expect("ordered before");
                    let offset = block.offset as usize;
                    file[offset..offset + block.bytes].copy_from_slice(block.as_bytes());
                    journal.recycle(block.buffer);
                }
                Order::Recycle { .. } => {}
            }
        }
        journal.durable(mark, &mut orders);
    }
    let full = files.into_iter().take(2);
    full.map(|(sequence, bytes)| SegmentBytes { sequence, bytes: Bytes::from(bytes) }).collect()
}
