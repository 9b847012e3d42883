//! Snapshots on streams of their own, one at a time to each peer and at a stated rate for all of
//! them, so that bundles keep their latency and a peer that is down holds up nobody else.
//!
//! A connection that is cut is dialled again and goes on where the receiver is. It has arrived when
//! the receiver says that it has all of it; when it gives up, raft is told so and tries again with
//! what is newest then. Absent on purpose: reading it from disk; it is in memory as raft gave it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::link::{Greeted, connect};
use super::{PATIENCE, Shared, read_word, within, write_all};
use crate::id::NodeId;
use crate::limits::{SNAPSHOT_BYTES_PER_SECOND, SNAPSHOTS_WAITING_BYTES_MAX};
use crate::shard::inbox::{Contact, Delivery};
use crate::shard::outbox::SnapshotOut;
use crate::wire::bundle;
use crate::wire::hello::{Cargo, Offer, Welcome};

/// What one core is to send.
#[derive(Debug)]
pub struct Sending {
    /// What waits, for each peer that a task sends to.
    waiting: BTreeMap<NodeId, VecDeque<SnapshotOut>>,
    /// Of what waits and what is being sent.
    bytes: usize,
    rate: u64,
    /// When what was sent so far has taken its time.
    paced_to: Option<Instant>,
}

impl Default for Sending {
    fn default() -> Sending {
        let (waiting, rate) = (BTreeMap::new(), SNAPSHOT_BYTES_PER_SECOND);
        Sending { waiting, bytes: 0, rate, paced_to: None }
    }
}

impl Sending {
    /// Sends no more than this in a second.
    pub fn limit(&mut self, bytes_per_second: u64) {
        assert!(bytes_per_second > 0, "a rate moves something");
        self.rate = bytes_per_second;
    }

    /// Takes a snapshot; an older one of the partition that waits for the same peer is given up.
    /// `None`: there is no room. `Some(true)`: a task is to be started for this peer.
    fn add(&mut self, snapshot: SnapshotOut) -> Option<bool> {
        let (to, partition, more) = (snapshot.to, snapshot.partition, snapshot.bytes.len());
        let queue = self.waiting.get_mut(&to);
        let old = queue.and_then(|queue| queue.iter_mut().find(|old| old.partition == partition));
        let room = SNAPSHOTS_WAITING_BYTES_MAX + old.as_ref().map_or(0, |old| old.bytes.len());
        if self.bytes > 0 && self.bytes + more > room {
            return None;
        }
        self.bytes += more;
        if let Some(old) = old {
            self.bytes -= old.bytes.len();
            *old = snapshot;
            return Some(false);
        }
        let idle = !self.waiting.contains_key(&to);
        self.waiting.entry(to).or_default().push_back(snapshot);
        Some(idle)
    }

    /// The next one for a peer; without one its task ends.
    fn next(&mut self, to: NodeId) -> Option<SnapshotOut> {
        let next = self.waiting.get_mut(&to).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.waiting.remove(&to);
        }
        next
    }

    fn done(&mut self, bytes: usize) {
        self.bytes -= bytes;
    }

    /// How long to wait after so many bytes, whoever sent them.
    fn pace(&mut self, bytes: usize, now: Instant) -> Duration {
        let takes = Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.rate);
        let to = self.paced_to.map_or(now, |to| to.max(now)) + takes;
        self.paced_to = Some(to);
        to - now
    }
}

/// Sends a snapshot after those that wait for the same peer.
pub fn send_snapshot(shared: &Shared, snapshot: SnapshotOut) {
    let (to, partition) = (snapshot.to, snapshot.partition);
    let added = shared.borrow_mut().sending.add(snapshot);
    // A task runs as soon as it is spawned: nothing may be borrowed then.
    match added {
        None => {
            let mut peers = shared.borrow_mut();
            peers.heard.sent.push((partition, to, Delivery::Failed));
            peers.ring();
        }
        Some(true) => drop(glommio::spawn_local(send_all(shared.clone(), to)).detach()),
        Some(false) => {}
    }
}

/// Sends what waits for a peer, until nothing does.
async fn send_all(shared: Shared, to: NodeId) {
    loop {
        let next = shared.borrow_mut().sending.next(to);
        let Some(snapshot) = next else { return };
        let sent = send(&shared, &snapshot).await;
        let mut peers = shared.borrow_mut();
        let delivery = match sent {
            Ok(()) => Delivery::Arrived,
            Err(reason) => {
                let (node, partition) = (snapshot.to.0, snapshot.partition.0);
                if peers.told().is_news(&format!("snapshot {node} {partition} {reason}")) {
                    tracing::warn!(node, partition, "a snapshot did not reach the peer: {reason}");
                }
                Delivery::Failed
            }
        };
        peers.sending.done(snapshot.bytes.len());
        peers.heard.sent.push((snapshot.partition, snapshot.to, delivery));
        peers.ring();
    }
}

async fn send(shared: &Shared, snapshot: &SnapshotOut) -> Result<(), String> {
    let offer = Offer {
        partition: snapshot.partition,
        position: snapshot.position,
        bytes: snapshot.bytes.len() as u64,
        checksum: crc32c::crc32c(&snapshot.bytes),
    };
    let (mut failures, mut furthest) = (0, 0);
    loop {
        let contact = shared.borrow().book.get(&snapshot.to).cloned();
        let contact = contact.ok_or("its address is not known")?;
        let mut reached = 0;
        let attempt = attempt(shared, &contact, snapshot, offer, &mut reached).await;
        let Err(reason) = attempt else { return Ok(()) };
        // As long as each connection brings it further, it goes on.
        failures = if reached > furthest { 1 } else { failures + 1 };
        furthest = furthest.max(reached);
        if failures >= ATTEMPTS {
            return Err(reason);
        }
        glommio::timer::sleep(PAUSE).await;
    }
}

async fn attempt(
    shared: &Shared,
    contact: &Contact,
    snapshot: &SnapshotOut,
    offer: Offer,
    reached: &mut u64,
) -> Result<(), String> {
    let shard = snapshot.shard;
    let greeted = connect(shared, contact, shard, Cargo::Snapshot(offer)).await?;
    let Greeted { mut socket, offset, shards, formats, .. } = greeted;
    if !bundle::format_of(&snapshot.bytes).is_some_and(|format| formats.has(format)) {
        return Err("it came back with another program".to_owned());
    }
    if shard.0 >= shards {
        return Err(format!("it has {shards} shards, shard {shard} was wanted"));
    }
    *reached = offset;
    let offset = usize::try_from(offset).map_err(|_| "it has more than there is".to_owned())?;
    let rest = snapshot.bytes.get(offset..).ok_or("it has more than there is")?;
    if offset > 0 {
        let (node, partition) = (snapshot.to.0, snapshot.partition.0);
        tracing::info!(node, partition, offset, "a snapshot goes on where it was cut");
    }
    for piece in rest.chunks(PIECE_BYTES) {
        within(SILENCE, write_all(&mut socket, piece)).await?;
        let wait = shared.borrow_mut().sending.pace(piece.len(), Instant::now());
        glommio::timer::sleep(wait).await;
    }
    let (head, body) = within(PATIENCE, read_word(&mut socket)).await?;
    match Welcome::decode(&head, &body) {
        Ok(Welcome::Come { offset, .. }) if offset == offer.bytes => Ok(()),
        Ok(Welcome::Refused(reason)) => Err(reason),
        _ => Err("it did not say that it has all".to_owned()),
    }
}

/// Connections in a row that bring a snapshot no further.
const ATTEMPTS: usize = 5;
const PIECE_BYTES: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(200);
const SILENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PartitionId, Position, ShardId};

    fn snapshot(to: u32, partition: u32, position: u64, bytes: usize) -> SnapshotOut {
        SnapshotOut {
            to: NodeId(to),
            shard: ShardId(0),
            partition: PartitionId(partition),
            position: Position(position),
            bytes: vec![0; bytes].into(),
        }
    }

    #[test]
    fn each_peer_has_a_queue_and_the_newest_of_a_partition_counts() {
        let mut sending = Sending::default();
        assert_eq!(sending.add(snapshot(2, 1, 10, 100)), Some(true));
        assert_eq!(sending.add(snapshot(3, 1, 10, 100)), Some(true), "nobody waits for a peer");
        assert_eq!(sending.add(snapshot(2, 1, 20, 50)), Some(false));
        assert_eq!(sending.add(snapshot(2, 4, 5, 7)), Some(false));
        assert_eq!(sending.bytes, 157);
        let next = sending.next(NodeId(2)).expect("it waits");
        assert_eq!((next.partition, next.position), (PartitionId(1), Position(20)));
        assert_eq!(sending.next(NodeId(2)).expect("it waits").partition, PartitionId(4));
        assert!(sending.next(NodeId(2)).is_none());
        sending.done(57);
        assert_eq!(sending.add(snapshot(2, 1, 30, 1)), Some(true), "its task has ended");
        assert_eq!(sending.bytes, 101);
    }

    #[test]
    fn what_waits_is_bounded() {
        let bytes = SNAPSHOTS_WAITING_BYTES_MAX - 10;
        let mut sending = Sending { bytes, ..Sending::default() };
        assert_eq!(sending.add(snapshot(2, 1, 1, 11)), None);
        assert_eq!(sending.add(snapshot(2, 1, 1, 10)), Some(true));
        assert_eq!(sending.add(snapshot(2, 1, 2, 10)), Some(false), "it takes the other's room");
        assert_eq!(sending.add(snapshot(3, 1, 2, 1)), None);
    }

    #[test]
    fn all_peers_share_one_rate() {
        let mut sending = Sending::default();
        sending.limit(1000);
        let now = Instant::now();
        assert_eq!(sending.pace(500, now), Duration::from_millis(500));
        assert_eq!(sending.pace(500, now), Duration::from_secs(1));
        let later = now + Duration::from_secs(10);
        assert_eq!(sending.pace(100, later), Duration::from_millis(100), "rest is not saved up");
    }
}
