//! Where partition and journal meet: raft's values into records and back.
//!
//! Neither knows the other. Entries are copied once, from their shared bytes into the block; on the
//! way back they are copied out of the segments, which would stay in memory whole for one entry.
//! Absent on purpose: blocks and marks, which are the journal's.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState};

use crate::{
    id::{NodeId, PartitionId, Position, Term},
    journal::{self, Founding, Journal, Tail},
    partition::{
        self,
        effects::{Origin, Place, Record, SnapshotFacts},
        member::{Group, Member, Role},
    },
};

/// Writes one record of `partition`; where it lies when it is a slice of a snapshot.
pub fn write(journal: &mut Journal, partition: PartitionId, record: &Record) -> Option<Place> {
    match record {
        Record::Entries(entries) => {
            let first = entries.first().expect("a record of entries has one");
            let written = entries.iter().map(|entry| journal::Entry {
                term: Term(entry.term),
                kind: entry.get_entry_type() as u8,
                data: &entry.data,
            });
            journal.entries(partition, Position(first.index), written);
        }
        Record::State(hard) => {
            let state = journal::HardState {
                term: Term(hard.term),
                vote: hard.vote,
                commit: Position(hard.commit),
            };
            journal.state(partition, state, None);
        }
        Record::SnapshotBegin(position) => journal.snapshot_begin(partition, *position),
        Record::SnapshotSlice(slice) => {
            let (segment, offset) = journal.snapshot_chunk(partition, slice);
            let bytes = u32::try_from(slice.len()).expect("a slice is small");
            return Some(Place { segment, offset, bytes, checksum: crc32c::crc32c(slice) });
        }
        Record::SnapshotEnd(facts) => journal.snapshot_end(partition, &meta(facts)),
    }
    None
}

/// What a partition starts from, out of what the journal found; `None` when it is not what this
/// node writes.
#[must_use]
pub fn read(tail: Tail) -> Option<partition::Recovered> {
    let hard = HardState {
        term: tail.hard.term.0,
        vote: tail.hard.vote,
        commit: tail.hard.commit.0,
        ..HardState::default()
    };
    let snapshot = match tail.snapshot {
        Some(snapshot) => Some((facts(&snapshot.meta)?, snapshot.chunks)),
        None => None,
    };
    let positions = tail.first.0..;
    let changes = EntryType::EntryConfChangeV2;
    let entries = positions.zip(tail.entries).map(|(index, entry)| Entry {
        entry_type: if entry.kind == 0 { EntryType::EntryNormal } else { changes },
        term: entry.term.0,
        index,
        data: Bytes::copy_from_slice(&entry.data),
        ..Entry::default()
    });
    Some(partition::Recovered { hard, snapshot, entries: entries.collect() })
}

/// A founding as the journal keeps it.
#[must_use]
pub fn founding(group: &Group) -> Founding {
    let (replica, members) = (u64::from(group.local.0), written(&group.members));
    Founding { replica, members, joins: group.joins }
}

/// The group of a founding; `None` when it is not what this node writes.
#[must_use]
pub fn group(partition: PartitionId, founding: &Founding) -> Option<Group> {
    let local = NodeId(u32::try_from(founding.replica).ok()?);
    let members = members(&founding.members)?;
    let here = members.iter().any(|member| member.node == local);
    here.then_some(Group { partition, local, members, joins: founding.joins })
}

fn written(members: &[Member]) -> Vec<journal::Member> {
    let written = members.iter().map(|member| journal::Member {
        id: u64::from(member.node.0),
        role: member.role as u8,
        host: member.host.clone(),
        port: member.port,
    });
    written.collect()
}

fn members(written: &[journal::Member]) -> Option<Vec<Member>> {
    let read = written.iter().map(|member| {
        let node = NodeId(u32::try_from(member.id).ok()?);
        let (host, role) = (member.host.clone(), Role::of(member.role.into())?);
        Some(Member { node, host, port: member.port, role })
    });
    read.collect()
}

fn meta(facts: &SnapshotFacts) -> journal::SnapshotMeta {
    journal::SnapshotMeta {
        position: facts.position,
        term: facts.term,
        index: facts.index,
        digest: facts.digest,
        origin: match facts.origin {
            Origin::Taken => journal::Origin::Taken,
            Origin::Received => journal::Origin::Installed,
        },
        conf: journal::ConfState {
            voters: facts.conf.voters.clone(),
            learners: facts.conf.learners.clone(),
            voters_outgoing: facts.conf.voters_outgoing.clone(),
            learners_next: facts.conf.learners_next.clone(),
            auto_leave: facts.conf.auto_leave,
        },
        members: written(&facts.members),
    }
}

fn facts(meta: &journal::SnapshotMeta) -> Option<SnapshotFacts> {
    let mut conf = ConfState::default();
    conf.set_voters(meta.conf.voters.clone());
    conf.set_learners(meta.conf.learners.clone());
    conf.set_voters_outgoing(meta.conf.voters_outgoing.clone());
    conf.set_learners_next(meta.conf.learners_next.clone());
    conf.auto_leave = meta.conf.auto_leave;
    Some(SnapshotFacts {
        position: meta.position,
        term: meta.term,
        index: meta.index,
        digest: meta.digest,
        conf,
        members: members(&meta.members)?,
        origin: match meta.origin {
            journal::Origin::Taken => Origin::Taken,
            journal::Origin::Installed => Origin::Received,
        },
    })
}
