//! Where partition and journal meet: raft's values into records and back.
//!
//! Neither knows the other. Entries are copied once, from their shared bytes into the block; on the
//! way back they are copied out of the segments, which would stay in memory whole for one entry.
//! Absent on purpose: blocks and marks, which are the journal's.

use bytes::{Bytes, BytesMut};
use raft::eraftpb::{ConfState, Entry, HardState};

use crate::{
    id::{NodeId, PartitionId, Position, Term},
    journal::{self, Founding, Journal, Tail},
    partition::{
        self,
        effects::{Origin, Record, SnapshotFacts},
        member::Group,
    },
    shard::inbox::{Member, Role},
};

/// Writes one record of `partition`.
pub fn write(journal: &mut Journal, partition: PartitionId, record: &Record) {
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
        Record::SnapshotSlice(bytes) => journal.snapshot_chunk(partition, bytes),
        Record::SnapshotEnd(facts) => journal.snapshot_end(partition, &meta(facts)),
    }
}

/// What a partition starts from, out of what the journal found.
#[must_use]
pub fn read(tail: Tail) -> partition::Recovered {
    let hard = HardState {
        term: tail.hard.term.0,
        vote: tail.hard.vote,
        commit: tail.hard.commit.0,
        ..HardState::default()
    };
    let snapshot = tail.snapshot.map(|snapshot| (facts(&snapshot.meta), joined(&snapshot.chunks)));
    let positions = tail.first.0..;
    let entries = positions.zip(tail.entries).map(|(index, entry)| Entry {
        term: entry.term.0,
        index,
        data: Bytes::copy_from_slice(&entry.data),
        ..Entry::default()
    });
    partition::Recovered { hard, snapshot, entries: entries.collect() }
}

/// A founding as the journal keeps it.
#[must_use]
pub fn founding(local: NodeId, members: &[Member]) -> Founding {
    let members = members.iter().map(|member| journal::Member {
        id: u64::from(member.node.0),
        role: member.role as u8,
        host: member.host.clone(),
        port: member.port,
    });
    Founding { replica: u64::from(local.0), members: members.collect() }
}

/// Which member is here, and all of them; `None` when that is not what this node writes.
#[must_use]
pub fn members(founding: &Founding) -> Option<(NodeId, Vec<Member>)> {
    let local = NodeId(u32::try_from(founding.replica).ok()?);
    let members = founding
        .members
        .iter()
        .map(|member| {
            let role = match member.role {
                0 => Role::Member,
                1 => Role::Observer,
                2 => Role::Witness,
                _ => return None,
            };
            let node = NodeId(u32::try_from(member.id).ok()?);
            Some(Member { node, host: member.host.clone(), port: member.port, role })
        })
        .collect::<Option<Vec<_>>>()?;
    members.iter().any(|member| member.node == local).then_some((local, members))
}

/// Who votes and who listens.
#[must_use]
pub fn group(partition: PartitionId, local: NodeId, members: &[Member]) -> Group {
    let of = |role: Role| {
        let with_role = members.iter().filter(move |member| member.role == role);
        with_role.map(|member| member.node).collect()
    };
    Group { partition, local, voters: of(Role::Member), learners: of(Role::Observer) }
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
            voters: facts.members.voters.clone(),
            learners: facts.members.learners.clone(),
            voters_outgoing: facts.members.voters_outgoing.clone(),
            learners_next: facts.members.learners_next.clone(),
            auto_leave: facts.members.auto_leave,
        },
    }
}

fn facts(meta: &journal::SnapshotMeta) -> SnapshotFacts {
    let mut members = ConfState::default();
    members.set_voters(meta.conf.voters.clone());
    members.set_learners(meta.conf.learners.clone());
    members.set_voters_outgoing(meta.conf.voters_outgoing.clone());
    members.set_learners_next(meta.conf.learners_next.clone());
    members.auto_leave = meta.conf.auto_leave;
    SnapshotFacts {
        position: meta.position,
        term: meta.term,
        index: meta.index,
        digest: meta.digest,
        members,
        origin: match meta.origin {
            journal::Origin::Taken => Origin::Taken,
            journal::Origin::Installed => Origin::Received,
        },
    }
}

fn joined(chunks: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        whole.extend_from_slice(chunk);
    }
    whole.freeze()
}
