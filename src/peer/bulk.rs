//! Snapshots on a stream of their own, one at a time and at a stated rate, so that bundles keep
//! their latency.
//!
//! A connection that is cut is dialled again and goes on where the receiver is. It has arrived when
//! the receiver says that it has all of it; when it gives up, raft is told so and tries again with
//! what is newest then. Absent on purpose: reading it from disk; it is in memory as raft gave it.

use std::time::Duration;

use super::link::{Greeted, connect};
use super::{PATIENCE, Shared, read_word, within, write_all};
use crate::limits::SNAPSHOT_BYTES_PER_SECOND;
use crate::shard::inbox::{Contact, Delivery};
use crate::shard::outbox::SnapshotOut;
use crate::wire::hello::{Cargo, Offer, Welcome};

/// Sends what waits, until nothing does.
pub async fn send_all(shared: Shared) {
    loop {
        let next = {
            let mut peers = shared.borrow_mut();
            let next = peers.snapshots.pop_front();
            peers.sending = next.is_some();
            next
        };
        let Some(snapshot) = next else { return };
        let delivery = match send(&shared, &snapshot).await {
            Ok(()) => Delivery::Arrived,
            Err(reason) => {
                let (node, partition) = (snapshot.to.0, snapshot.partition.0);
                tracing::warn!(node, partition, "a snapshot did not reach the peer: {reason}");
                Delivery::Failed
            }
        };
        let mut peers = shared.borrow_mut();
        peers.heard.sent.push((snapshot.partition, snapshot.to, delivery));
        peers.ring();
    }
}

async fn send(shared: &Shared, snapshot: &SnapshotOut) -> Result<(), String> {
    let contact = shared.borrow().book.get(&snapshot.to).cloned();
    let contact = contact.ok_or("its address is not known")?;
    let offer = Offer {
        partition: snapshot.partition,
        position: snapshot.position,
        bytes: snapshot.bytes.len() as u64,
        checksum: crc32c::crc32c(&snapshot.bytes),
    };
    let mut reason = String::new();
    for _ in 0..ATTEMPTS {
        match attempt(shared, &contact, snapshot, offer).await {
            Ok(()) => return Ok(()),
            Err(failure) => reason = failure,
        }
        glommio::timer::sleep(PAUSE).await;
    }
    Err(reason)
}

async fn attempt(
    shared: &Shared,
    contact: &Contact,
    snapshot: &SnapshotOut,
    offer: Offer,
) -> Result<(), String> {
    let shard = snapshot.shard;
    let greeted = connect(shared, contact, shard, Cargo::Snapshot(offer)).await?;
    let Greeted { mut socket, offset, shards, .. } = greeted;
    if shard.0 >= shards {
        return Err(format!("it has {shards} shards, shard {shard} was wanted"));
    }
    let offset = usize::try_from(offset).map_err(|_| "it has more than there is".to_owned())?;
    let rest = snapshot.bytes.get(offset..).ok_or("it has more than there is")?;
    for piece in rest.chunks(PIECE_BYTES) {
        within(SILENCE, write_all(&mut socket, piece)).await?;
        let nanos = piece.len() as u64 * 1_000_000_000 / SNAPSHOT_BYTES_PER_SECOND;
        glommio::timer::sleep(Duration::from_nanos(nanos)).await;
    }
    let (head, body) = within(PATIENCE, read_word(&mut socket)).await?;
    match Welcome::decode(&head, &body) {
        Ok(Welcome::Come { offset, .. }) if offset == offer.bytes => Ok(()),
        Ok(Welcome::Refused(reason)) => Err(reason),
        _ => Err("it did not say that it has all".to_owned()),
    }
}

const ATTEMPTS: usize = 5;
const PIECE_BYTES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(200);
const SILENCE: Duration = Duration::from_secs(10);
