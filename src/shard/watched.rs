//! Events of a partition in the form in which its watchers get them: a `PartitionEvent` of the
//! documented dialect, the one that has `Partition.Watch`.
//!
//! It is here, and not at the edge, because the watch of a node without a replica crosses a link in
//! it. Absent on purpose: events of nodes.

use prost::Message as _;

use crate::partition::reply::{Event, Happening};
use crate::wire::proto;

/// Appends the message that `event` is for a watcher of its partition; false, and nothing appended,
/// when that watch has no such event.
pub fn encode(event: &Event, into: &mut Vec<u8>) -> bool {
    let Some(what) = partition_event(&event.what) else { return false };
    let (timestamp, partition_id) = (Some(timestamp(event.at)), event.partition.0);
    let message = proto::v1::PartitionEvent { timestamp, partition_id, event: Some(what) };
    message.encode(into).expect("a vector takes any number of bytes");
    true
}

/// Replayed events carry the zero time of the reference: the first second of the year 1 (core.md
/// 2.5).
#[must_use]
pub fn timestamp(at: Option<u64>) -> prost_types::Timestamp {
    const ZERO_SECONDS: i64 = -62_135_596_800;
    match at {
        None => prost_types::Timestamp { seconds: ZERO_SECONDS, nanos: 0 },
        Some(at) => prost_types::Timestamp {
            seconds: (at / 1_000_000_000) as i64,
            nanos: (at % 1_000_000_000) as i32,
        },
    }
}

fn partition_event(what: &Happening) -> Option<proto::v1::partition_event::Event> {
    use proto::v1::partition_event as wire;
    use wire::Event as On;
    Some(match what {
        Happening::MemberReady { node } => {
            On::MemberReady(wire::MemberReadyEvent { node_id: node.0.into() })
        }
        Happening::LeaderUpdated { term, leader } => On::LeaderUpdated(wire::LeaderUpdatedEvent {
            term: term.0,
            leader: leader.map_or(0, |leader| leader.0.into()),
        }),
        Happening::MembershipChanged { members, .. } => {
            let members = members.iter().map(|member| member.0.into()).collect();
            On::MembershipChanged(wire::MembershipChangedEvent { members })
        }
        Happening::SendSnapshotStarted { index, to } => {
            On::SendSnapshotStarted(wire::SendSnapshotStartedEvent {
                index: index.0,
                to: to.0.into(),
            })
        }
        Happening::SendSnapshotCompleted { index, to } => {
            On::SendSnapshotCompleted(wire::SendSnapshotCompletedEvent {
                index: index.0,
                to: to.0.into(),
            })
        }
        Happening::SendSnapshotAborted { index, to } => {
            On::SendSnapshotAborted(wire::SendSnapshotAbortedEvent {
                index: index.0,
                to: to.0.into(),
            })
        }
        Happening::SnapshotReceived { index, from } => {
            On::SnapshotReceived(wire::SnapshotReceivedEvent {
                index: index.0,
                from: from.0.into(),
            })
        }
        Happening::SnapshotRecovered { index } => {
            On::SnapshotRecovered(wire::SnapshotRecoveredEvent { index: index.0 })
        }
        Happening::SnapshotCreated { index } => {
            On::SnapshotCreated(wire::SnapshotCreatedEvent { index: index.0 })
        }
        Happening::SnapshotCompacted { index } => {
            On::SnapshotCompacted(wire::SnapshotCompactedEvent { index: index.0 })
        }
        Happening::LogCompacted { index } => {
            On::LogCompacted(wire::LogCompactedEvent { index: index.0 })
        }
        Happening::JournalCompacted { index } => {
            On::LogdbCompacted(wire::LogDbCompactedEvent { index: index.0 })
        }
        Happening::ServiceConfigChanged { leader, followers } => {
            let (leader, followers) = (leader.clone(), followers.clone());
            let config = Some(proto::v1::ServiceConfig { leader, followers });
            On::ServiceConfigChanged(proto::v1::ServiceConfigChangedEvent { config })
        }
        Happening::ConnectionEstablished { .. } | Happening::ConnectionFailed { .. } => {
            return None;
        }
    })
}
