//! Blocks through a real ring into real files and back. Needs io_uring, and says so without it.

use super::*;
use crate::{
    id::{NodeId, PartitionId, Position, Term},
    journal::{Entry, Founding, HardState, Journal, Owner, recover, recover::Recovered},
};
use glommio::LocalExecutorBuilder;
use std::future::Future;

const ONE: PartitionId = PartitionId(1);
const OWNER: Owner = Owner { node: NodeId(1), shard: ShardId(0) };
const LAYOUT: Layout = Layout { segment_bytes: 256 << 10, block_bytes_max: 128 << 10 };

#[test]
fn what_is_reported_durable_is_in_the_files() {
    let data = tempfile::tempdir().expect("a directory");
    let directory = shard_directory(data.path(), ShardId(0));
    on_an_executor(move || async move {
        for life in 0..3u64 {
            let found = recovered(&directory);
            let last = found.partitions.get(&ONE).map_or(0, |tail| tail.entries.len() as u64);
            assert_eq!(last, life * 200, "life {life}");
            let (mut disk, mut bell) = Disk::open(&directory, LAYOUT).expect("a disk");
            let mut journal = Journal::resume(LAYOUT, OWNER, found.resume);
            if life == 0 {
                journal.founded(ONE, &Founding { replica: 1, ..Founding::default() });
            }
            let (mut orders, mut harvest) = (Vec::new(), Harvest::default());
            let mut sealed = journal.seal(&mut orders);
            disk.obey(&mut orders);
            disk.prepared(&mut bell, 2).await.expect("space for two segments");
            for n in 1..=200 {
                let data = vec![n as u8; 5000];
                let entry = Entry { term: Term(1), kind: 0, data: &data };
                journal.entries(ONE, Position(last + n), [entry]);
                sealed = journal.seal(&mut orders);
                disk.obey(&mut orders);
                while disk.backlog_bytes() > 64 << 10 {
                    bell.rung().await.expect("a bell");
                    reap(&mut disk, &mut journal, &mut harvest);
                }
            }
            while journal.durable_mark() < sealed {
                bell.rung().await.expect("a bell");
                reap(&mut disk, &mut journal, &mut harvest);
            }
            assert_eq!(disk.backlog_bytes(), 0);
            assert_eq!(disk.in_flight(), 0);
            assert!(disk.written().0 >= 200);
        }
        let tail = &recovered(&directory).partitions[&ONE];
        assert_eq!(tail.entries.len(), 600);
        let right = |(n, entry): (usize, &crate::journal::TailEntry)| {
            entry.data.len() == 5000 && entry.data.iter().all(|&b| b == (n % 200 + 1) as u8)
        };
        assert!(tail.entries.iter().enumerate().all(right));
    });
}

#[test]
fn recycled_segments_are_used_again() {
    let data = tempfile::tempdir().expect("a directory");
    let directory = shard_directory(data.path(), ShardId(3));
    on_an_executor(move || async move {
        let found = recovered(&directory);
        let (mut disk, mut bell) = Disk::open(&directory, LAYOUT).expect("a disk");
        let mut journal = Journal::resume(LAYOUT, OWNER, found.resume);
        journal.founded(ONE, &Founding { replica: 1, ..Founding::default() });
        let (mut orders, mut harvest) = (Vec::new(), Harvest::default());
        let body = vec![7; 60_000];
        for n in 1..=100 {
            let hard = HardState { term: Term(n), vote: 1, commit: Position(0) };
            journal.state(ONE, hard, None);
            journal.snapshot_begin(ONE, Position(n));
            journal.snapshot_chunk(ONE, &body);
            let conf = crate::journal::ConfState::default();
            let (position, term, index) = (Position(n), Term(n), crate::id::Index(n));
            let origin = crate::journal::Origin::Installed;
            let (digest, members) = (n, Vec::new());
            let meta = crate::journal::SnapshotMeta {
                position,
                term,
                index,
                digest,
                origin,
                conf,
                members,
            };
            journal.snapshot_end(ONE, &meta);
            let sealed = journal.seal(&mut orders);
            disk.obey(&mut orders);
            while journal.durable_mark() < sealed {
                bell.rung().await.expect("a bell");
                reap(&mut disk, &mut journal, &mut harvest);
            }
        }
        let files = std::fs::read_dir(&directory).expect("the directory").count();
        assert!(files <= 9, "{files} files for two segments' worth of data");
        let tail = &recovered(&directory).partitions[&ONE];
        let snapshot = tail.snapshot.as_ref().expect("a snapshot");
        assert_eq!((snapshot.meta.position, snapshot.chunks.len()), (Position(100), 1));
        assert_eq!(snapshot.chunks[0], body);
    });
}

fn reap(disk: &mut Disk, journal: &mut Journal, harvest: &mut Harvest) {
    disk.harvest(harvest);
    harvest.buffers.drain(..).for_each(|buffer| journal.recycle(buffer));
    assert!(!harvest.full);
    let mut orders = Vec::new();
    if let Some(mark) = harvest.durable {
        journal.durable(mark, &mut orders);
    }
    disk.obey(&mut orders);
}

fn recovered(directory: &Path) -> Recovered {
    let found = recover(OWNER, &load(directory).expect("segments")).expect("ours");
    assert_eq!(found.damage, []);
    assert!(found.faults.is_empty(), "{:?}", found.faults);
    found
}

fn on_an_executor<F>(test: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let made = LocalExecutorBuilder::default().spawn(test);
    match made.map(glommio::ExecutorJoinHandle::join) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("the executor: {error}"),
        Err(error) => eprintln!("not tested, io_uring is missing: {error}"),
    }
}
