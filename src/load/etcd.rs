//! Calls as bytes of etcd's API: puts, ranges, transactions, leases and locks, with the field
//! numbers of its protos (`proto/etcd`).
//!
//! The same workloads on what etcd has for them:
//!
//! | here | there |
//! |---|---|
//! | a session, kept alive | a lease |
//! | an increment of a counter | a put of its key; the answer's revision takes the value's place |
//! | a read of a counter | the version of its key, which counts its puts |
//! | a map's put and get | put and range of `name/key` |
//! | an update over a version | a transaction that compares the mod revision |
//! | a lock | `v3lockpb.Lock` under the session's lease; the token is the revision |
//!
//! A write that may have been done cannot be asked again: etcd has no numbers for commands. So its
//! fate is unknown (`Speech::repeats`). Absent on purpose: elections and watches, whose workloads
//! ask more than etcd's calls of that name promise.

use super::ask::{Ask, Refusal, Reply, Sort};
use super::atomix::Envelope;
use super::content::Content;
use crate::wire::field::{Broken, Fields, put_bytes, put_head, put_message, put_uint};
use crate::wire::grpc::Status;

/// The paths, in the order of `path`.
pub const PATHS: [&str; 9] = [
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/DeleteRange",
    "/v3lockpb.Lock/Lock",
    "/v3lockpb.Lock/Unlock",
];

/// The place of a call's path in `PATHS`.
#[must_use]
pub fn path(ask: &Ask) -> usize {
    match ask {
        Ask::Open => 0,
        Ask::KeepAlive => 1,
        Ask::Close => 2,
        Ask::Increment { .. } | Ask::Put { .. } => 3,
        Ask::Count { .. } | Ask::Get { .. } => 4,
        Ask::Update { .. } => 5,
        Ask::Clear { .. } => 6,
        Ask::Acquire { .. } => 7,
        Ask::Release { .. } => 8,
        Ask::Create { .. } | Ask::Enter { .. } | Ask::Withdraw { .. } | Ask::Listen { .. } => {
            unreachable!("{} is not asked of etcd", ask.verb().name())
        }
    }
}

/// Appends the request of `ask`.
#[inline]
pub fn put(ask: &Ask, envelope: &Envelope<'_>, into: &mut Vec<u8>) {
    let name = envelope.thing.map_or("", |thing| &thing.name);
    match *ask {
        Ask::Open => put_uint(into, 1, (envelope.session_timeout.as_millis() / 1000).max(1)),
        Ask::KeepAlive | Ask::Close => put_uint(into, 1, envelope.session),
        Ask::Increment { .. } => {
            put_bytes(into, 1, name.as_bytes());
            put_bytes(into, 2, b"1");
        }
        Ask::Count { .. } => put_bytes(into, 1, name.as_bytes()),
        Ask::Put { content, .. } => put_put(name, &content, envelope.value_bytes, into),
        Ask::Get { key, .. } => put_key(1, name, key, into),
        Ask::Update { content, version, .. } => {
            put_message(into, 1, |into| {
                // EQUAL is 0, which is not on the wire.
                put_uint(into, 2, TARGET_MOD);
                put_key(3, name, content.key, into);
                put_uint(into, 6, version);
            });
            put_message(into, 2, |into| {
                put_message(into, 2, |into| put_put(name, &content, envelope.value_bytes, into));
            });
        }
        Ask::Clear { .. } => {
            // All that begins with the name and a slash: up to the octet after a slash.
            put_bytes(into, 1, format!("{name}/").as_bytes());
            put_bytes(into, 2, format!("{name}0").as_bytes());
        }
        Ask::Acquire { .. } => {
            put_bytes(into, 1, name.as_bytes());
            put_uint(into, 2, envelope.session);
        }
        Ask::Release { .. } => {
            put_bytes(into, 1, format!("{name}/{:x}", envelope.session).as_bytes());
        }
        Ask::Create { .. } | Ask::Enter { .. } | Ask::Withdraw { .. } | Ask::Listen { .. } => {
            unreachable!("{} is not asked of etcd", ask.verb().name())
        }
    }
}

/// `Compare.CompareTarget.MOD`.
const TARGET_MOD: u64 = 2;

fn put_put(name: &str, content: &Content, value_bytes: usize, into: &mut Vec<u8>) {
    put_key(1, name, content.key, into);
    put_head(into, 2, value_bytes);
    content.put(value_bytes, into);
}

/// `name/k00000000001`.
fn put_key(number: u32, name: &str, key: u64, into: &mut Vec<u8>) {
    let mut digits = *b"/k00000000000";
    let mut rest = key;
    for digit in digits[2..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    put_head(into, number, name.len() + digits.len());
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(&digits);
}

/// What an answer says.
///
/// # Errors
/// Why it is not what was asked for.
#[inline]
pub fn read(ask: &Ask, message: &[u8]) -> Result<Reply, Refusal> {
    let reply = answer(ask, message).map_err(|Broken| {
        Refusal::new(Sort::Final, format!("the answer to {} is no message", ask.verb().name()))
    })?;
    reply.ok_or_else(|| match ask {
        Ask::KeepAlive => Refusal::new(Sort::Lost, "the lease is gone"),
        _ => Refusal::new(Sort::No, "it is not as demanded"),
    })
}

fn answer(ask: &Ask, message: &[u8]) -> Result<Option<Reply>, Broken> {
    let (mut revision, mut second, mut kv) = (0, 0, None);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field()? {
        match (number, ask) {
            (1, _) => revision = number_in(value.bytes()?, 3)?,
            (2, Ask::Open | Ask::Update { .. }) => second = value.uint()?,
            (2, Ask::Count { .. } | Ask::Get { .. }) => kv = Some(value.bytes()?),
            (3, Ask::KeepAlive) => second = value.uint()?,
            _ => {}
        }
    }
    Ok(Some(match ask {
        Ask::Open => Reply::Id(second),
        // A lease that is gone is told as one without time.
        Ask::KeepAlive if second == 0 => return Ok(None),
        Ask::Increment { .. } => Reply::Number(revision as i64),
        Ask::Count { .. } => Reply::Number(kv.map_or(Ok(0), |kv| number_in(kv, 4))? as i64),
        Ask::Put { .. } => Reply::Written { version: revision, before: None },
        Ask::Update { .. } if second == 0 => return Ok(None),
        Ask::Update { version, .. } => Reply::Written { version: revision, before: Some(*version) },
        Ask::Get { .. } => match kv {
            Some(kv) => found(kv)?,
            None => return Ok(None),
        },
        Ask::Acquire { .. } => Reply::Token(revision),
        _ => Reply::Nothing,
    }))
}

/// `KeyValue`.
fn found(kv: &[u8]) -> Result<Reply, Broken> {
    let (mut version, mut content) = (0, None);
    let mut fields = Fields::new(kv);
    while let Some((number, value)) = fields.field()? {
        match number {
            3 => version = value.uint()?,
            5 => content = Content::read(value.bytes()?),
            _ => {}
        }
    }
    Ok(Reply::Found { version, content })
}

fn number_in(message: &[u8], wanted: u32) -> Result<u64, Broken> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.field()? {
        if number == wanted {
            return value.uint();
        }
    }
    Ok(0)
}

/// How a call that ended with `status` is to be taken.
#[must_use]
pub fn ended(status: Status, text: &str) -> Refusal {
    let sort = match status {
        Status::Unavailable
        | Status::ResourceExhausted
        | Status::DeadlineExceeded
        | Status::Cancelled => Sort::Passing,
        Status::NotFound if text.contains("lease") => Sort::Lost,
        _ => Sort::Final,
    };
    Refusal::new(sort, format!("{} {text}", status.name()).trim_end())
}

#[cfg(test)]
mod tests;
