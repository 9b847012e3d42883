//! From a reply of the core to the bytes of a response, per method and dialect.
//!
//! Responses are composed straight into the caller's buffer. They always carry headers, and on
//! success the output, even when it is empty: the published driver reads both without looking
//! (core.md, 10.1). Failures of an operation travel in the headers; a call that ends without a
//! value gets a gRPC status (core.md 4.5). Absent on purpose: HTTP/2, tickets, and the output's own
//! fields.

use std::borrow::Cow;

use prost::Message;

use crate::edge::dialect::Dialect;
use crate::edge::method::{Method, What};
use crate::id::NodeId;
use crate::partition::reply::{Elsewhere, Event, Happening, Output, Refusal, Status};
use crate::shard::watched;
use crate::wire::field::{delimited_bytes, put_head, put_uint, uint_bytes};
use crate::wire::grpc::Status as Code;
use crate::wire::{proto, released};

/// How a call ends that has no message to send: a code and its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Not OK.
    pub status: Code,
    /// For people.
    pub text: Cow<'static, str>,
}

/// How the call ends when `output`, whose bytes these are, is a failure that its response has no
/// header for; `None` when `compose` has a message for it.
#[inline]
#[must_use]
pub fn failure(method: &Method, output: &Output, bytes: &[u8]) -> Option<Failure> {
    match method.what {
        What::Command(_) | What::Life(_) | What::Query(_) => None,
        What::Session(_)
        | What::WatchPartition
        | What::Node(_)
        | What::Cluster(_)
        | What::Edge(_) => status_failure(output, bytes),
    }
}

/// Appends the response that `output`, whose bytes these are, is for a caller of `method`.
#[inline]
pub fn compose(
    method: &Method,
    dialect: Dialect,
    output: &Output,
    bytes: &[u8],
    into: &mut Vec<u8>,
) {
    match method.what {
        What::Command(operation) => match dialect.changed(operation, output.status) {
            Some(changed) => put_changed(into, dialect, output, changed, bytes),
            None => put_operation(into, dialect, output, output.number, bytes),
        },
        What::Life(_) => put_operation(into, dialect, output, output.number, bytes),
        What::Query(_) => put_operation(into, dialect, output, 0, bytes),
        What::Session(_) => {
            put_head(into, 1, uint_bytes(1, output.index.0));
            put_uint(into, 1, output.index.0);
            put_head(into, 2, bytes.len());
            into.extend_from_slice(bytes);
        }
        What::WatchPartition | What::Node(_) | What::Cluster(_) | What::Edge(_) => {
            into.extend_from_slice(bytes);
        }
    }
}

/// Appends the message that `event` is for a watcher by `method`; false, and nothing
/// appended, when that watch has no such event.
pub fn event(method: &Method, dialect: Dialect, event: &Event, into: &mut Vec<u8>) -> bool {
    let timestamp = Some(watched::timestamp(event.at));
    let partition_id = event.partition.0;
    let encoded = match (method.what, dialect) {
        (What::WatchPartition, _) => return watched::encode(event, into),
        (_, Dialect::Documented) => {
            let Some(event) = node_event(partition_id, &event.what) else { return false };
            proto::v1::Event { timestamp, event: Some(event) }.encode(into)
        }
        (_, Dialect::Released | Dialect::Rsm) => {
            let Some(event) = released_event(partition_id, event.local, &event.what) else {
                return false;
            };
            released::atomix::multiraft::v1::Event { timestamp, event: Some(event) }.encode(into)
        }
    };
    encoded.expect("a vector takes any number of bytes");
    true
}

/// The status with which a call of `method` in `dialect` ends that was refused; `None` is the
/// regular end of a stream.
#[must_use]
pub fn refusal(method: &Method, dialect: Dialect, refusal: &Refusal) -> Option<Failure> {
    let streaming = method.streaming;
    let (status, text) = match refusal {
        Refusal::UnknownPartition(partition) => {
            let status = match method.what {
                What::WatchPartition => Code::Unavailable,
                What::Cluster(_) => Code::NotFound,
                _ => dialect.unknown_partition(),
            };
            (status, Cow::from(format!("unknown partition {partition}")))
        }
        Refusal::UnknownSession(_) => (dialect.unknown_session(), "session not found".into()),
        Refusal::Unavailable(text) => (Code::Unavailable, (*text).into()),
        Refusal::Full(text) => (Code::ResourceExhausted, (*text).into()),
        Refusal::Overtaken if streaming => {
            (Code::Unavailable, "another call with this number took over".into())
        }
        Refusal::Overtaken => (Code::Aborted, "another call with this number took over".into()),
        Refusal::Cancelled => return end(method),
        Refusal::Deadline => (Code::DeadlineExceeded, "the deadline passed".into()),
        Refusal::Malformed(text) => (Code::InvalidArgument, text.clone().into()),
        Refusal::NotFound(text) => (Code::NotFound, text.clone().into()),
        Refusal::Precondition(text) => (Code::FailedPrecondition, text.clone().into()),
        Refusal::Unimplemented(text) => (Code::Unimplemented, (*text).into()),
        Refusal::Elsewhere(Elsewhere::Unavailable, text) => {
            (Code::Unavailable, text.clone().into())
        }
        Refusal::Elsewhere(Elsewhere::Full, text) => (Code::ResourceExhausted, text.clone().into()),
    };
    Some(Failure { status, text })
}

/// The status with which a call ends whose stream ended regularly; `None` is gRPC's OK.
#[must_use]
pub fn end(method: &Method) -> Option<Failure> {
    let failure = Failure { status: Code::Cancelled, text: "stream closed".into() };
    (!method.streaming).then_some(failure)
}

/// An output that says in field 1 whether anything changed, also where that is a failure in other
/// dialects. Cold beside the others: a few bytes are put together first.
fn put_changed(into: &mut Vec<u8>, dialect: Dialect, output: &Output, changed: bool, bytes: &[u8]) {
    let mut payload = match output.status {
        Status::Ok => bytes.to_vec(),
        _ => Vec::new(),
    };
    put_uint(&mut payload, 1, u64::from(changed));
    let output = Output { status: Status::Ok, ..output.clone() };
    put_operation(into, dialect, &output, output.number, &payload);
}

fn put_operation(into: &mut Vec<u8>, dialect: Dialect, output: &Output, number: u64, bytes: &[u8]) {
    let (text, payload): (&[u8], Option<&[u8]>) = match output.status {
        Status::Ok => (&[], Some(bytes)),
        _ => (bytes, None),
    };
    let status = dialect.status(output.status);
    let partition = uint_bytes(1, output.index.0);
    let session = delimited_bytes(1, partition);
    let primitive = delimited_bytes(1, session);
    let text_bytes = if text.is_empty() { 0 } else { delimited_bytes(3, text.len()) };
    let operation = delimited_bytes(1, primitive) + uint_bytes(2, status) + text_bytes;
    let headers = delimited_bytes(1, operation) + uint_bytes(2, number);

    into.reserve(headers + bytes.len() + RESPONSE_FRAMES_BYTES);
    put_head(into, 1, headers);
    put_head(into, 1, operation);
    put_head(into, 1, primitive);
    put_head(into, 1, session);
    put_head(into, 1, partition);
    put_uint(into, 1, output.index.0);
    put_uint(into, 2, status);
    if !text.is_empty() {
        put_head(into, 3, text.len());
        into.extend_from_slice(text);
    }
    put_uint(into, 2, number);
    if let Some(payload) = payload {
        put_head(into, 2, payload.len());
        into.extend_from_slice(payload);
    }
}

/// Tags and lengths of the two fields of a response: one octet and at most five, twice.
const RESPONSE_FRAMES_BYTES: usize = 12;

/// The services without a status in their headers say it in gRPC's (core.md 4.8).
fn status_failure(output: &Output, text: &[u8]) -> Option<Failure> {
    let status = match output.status {
        Status::Ok => return None,
        Status::Error | Status::Unknown => Code::Unknown,
        Status::Canceled => Code::Cancelled,
        Status::NotFound => Code::NotFound,
        Status::AlreadyExists => Code::AlreadyExists,
        Status::Unauthorized => Code::Unauthenticated,
        Status::Forbidden => Code::PermissionDenied,
        Status::Conflict => Code::Aborted,
        Status::Invalid => Code::InvalidArgument,
        Status::Unavailable => Code::Unavailable,
        Status::NotSupported => Code::Unimplemented,
        Status::Timeout => Code::DeadlineExceeded,
        Status::Fault => Code::DataLoss,
        Status::Internal => Code::Internal,
    };
    Some(Failure { status, text: String::from_utf8_lossy(text).into_owned().into() })
}

fn node_event(group_id: u32, what: &Happening) -> Option<proto::v1::event::Event> {
    use proto::v1 as wire;
    use wire::event::Event as On;
    Some(match what {
        Happening::MemberReady { node } => {
            On::MemberReady(wire::MemberReadyEvent { group_id, node_id: node.0.into() })
        }
        Happening::LeaderUpdated { term, leader } => {
            let leader = leader.map_or(0, |leader| leader.0.into());
            On::LeaderUpdated(wire::LeaderUpdatedEvent { group_id, term: term.0, leader })
        }
        Happening::MembershipChanged { about, .. } => {
            On::MembershipChanged(wire::MembershipChangedEvent {
                group_id,
                node_id: about.0.into(),
            })
        }
        Happening::SendSnapshotStarted { index, to } => {
            let (index, to) = (index.0, to.0.into());
            On::SendSnapshotStarted(wire::SendSnapshotStartedEvent { group_id, index, to })
        }
        Happening::SendSnapshotCompleted { index, to } => {
            let (index, to) = (index.0, to.0.into());
            On::SendSnapshotCompleted(wire::SendSnapshotCompletedEvent { group_id, index, to })
        }
        Happening::SendSnapshotAborted { index, to } => {
            let (index, to) = (index.0, to.0.into());
            On::SendSnapshotAborted(wire::SendSnapshotAbortedEvent { group_id, index, to })
        }
        Happening::SnapshotReceived { index, from } => {
            let (index, from) = (index.0, from.0.into());
            On::SnapshotReceived(wire::SnapshotReceivedEvent { group_id, index, from })
        }
        Happening::SnapshotRecovered { index } => {
            On::SnapshotRecovered(wire::SnapshotRecoveredEvent { group_id, index: index.0 })
        }
        Happening::SnapshotCreated { index } => {
            On::SnapshotCreated(wire::SnapshotCreatedEvent { group_id, index: index.0 })
        }
        Happening::SnapshotCompacted { index } => {
            On::SnapshotCompacted(wire::SnapshotCompactedEvent { group_id, index: index.0 })
        }
        Happening::LogCompacted { index } => {
            On::LogCompacted(wire::LogCompactedEvent { group_id, index: index.0 })
        }
        Happening::JournalCompacted { index } => {
            On::LogdbCompacted(wire::LogDbCompactedEvent { group_id, index: index.0 })
        }
        Happening::ConnectionEstablished { address, snapshot } => {
            let info = Some(wire::ConnectionInfo { address: address.clone(), snapshot: *snapshot });
            On::ConnectionEstablished(wire::ConnectionEstablishedEvent { info })
        }
        Happening::ConnectionFailed { address, snapshot } => {
            let info = Some(wire::ConnectionInfo { address: address.clone(), snapshot: *snapshot });
            On::ConnectionFailed(wire::ConnectionFailedEvent { info })
        }
        Happening::ServiceConfigChanged { .. } => return None,
    })
}

/// Events of the released dialect name the local replica; those of a sent snapshot too, so that the
/// sender is named at all (core.md 2.5).
fn released_event(
    group_id: u32,
    local: NodeId,
    what: &Happening,
) -> Option<released::atomix::multiraft::v1::event::Event> {
    use released::atomix::multiraft::v1 as wire;
    use wire::event::Event as On;
    let about = |node: NodeId| Some(wire::MemberEvent { group_id, member_id: node.0.into() });
    let member = about(local);
    Some(match what {
        Happening::MemberReady { node } => {
            On::MemberReady(wire::MemberReadyEvent { member: about(*node) })
        }
        Happening::LeaderUpdated { term, leader } => {
            let leader = leader.map_or(0, |leader| leader.0.into());
            On::LeaderUpdated(wire::LeaderUpdatedEvent { member, term: term.0, leader })
        }
        Happening::MembershipChanged { about: node, .. } => {
            On::MembershipChanged(wire::MembershipChangedEvent { member: about(*node) })
        }
        Happening::SendSnapshotStarted { index, to } => {
            let (index, to) = (index.0, to.0.into());
            On::SendSnapshotStarted(wire::SendSnapshotStartedEvent { member, index, to })
        }
        Happening::SendSnapshotCompleted { index, to } => {
            let (index, to) = (index.0, to.0.into());
            On::SendSnapshotCompleted(wire::SendSnapshotCompletedEvent { member, index, to })
        }
        Happening::SendSnapshotAborted { index, to } => {
            let (index, to) = (index.0, to.0.into());
            On::SendSnapshotAborted(wire::SendSnapshotAbortedEvent { member, index, to })
        }
        Happening::SnapshotReceived { index, from } => {
            let (index, from) = (index.0, from.0.into());
            On::SnapshotReceived(wire::SnapshotReceivedEvent { member, index, from })
        }
        Happening::SnapshotRecovered { index } => {
            On::SnapshotRecovered(wire::SnapshotRecoveredEvent { member, index: index.0 })
        }
        Happening::SnapshotCreated { index } => {
            On::SnapshotCreated(wire::SnapshotCreatedEvent { member, index: index.0 })
        }
        Happening::SnapshotCompacted { index } => {
            On::SnapshotCompacted(wire::SnapshotCompactedEvent { member, index: index.0 })
        }
        Happening::LogCompacted { index } => {
            On::LogCompacted(wire::LogCompactedEvent { member, index: index.0 })
        }
        Happening::JournalCompacted { index } => {
            On::LogdbCompacted(wire::LogDbCompactedEvent { member, index: index.0 })
        }
        Happening::ConnectionEstablished { address, snapshot } => {
            let info = Some(wire::ConnectionInfo { address: address.clone(), snapshot: *snapshot });
            On::ConnectionEstablished(wire::ConnectionEstablishedEvent { info })
        }
        Happening::ConnectionFailed { address, snapshot } => {
            let info = Some(wire::ConnectionInfo { address: address.clone(), snapshot: *snapshot });
            On::ConnectionFailed(wire::ConnectionFailedEvent { info })
        }
        Happening::ServiceConfigChanged { .. } => return None,
    })
}

#[cfg(test)]
mod tests;
