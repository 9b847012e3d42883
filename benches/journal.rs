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

fn journal(partitions: u32) -> Journal {
    let mut journal = Journal::resume(Layout::default(), OWNER, Resume::fresh());
    for partition in 1..=partitions {
        journal.founded(PartitionId(partition), &Founding { replica: 1, members: Vec::new() });
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
