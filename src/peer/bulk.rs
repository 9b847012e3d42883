//! Snapshots on streams of their own, one at a time to each peer and at a stated rate for all of
//! them, so that bundles keep their latency and a peer that is down holds up nobody else.
//!
//! A connection that is cut is dialled again and goes on where the receiver is. It has arrived when
//! the receiver says that it has all of it; when it gives up, raft is told so and tries again with
//! what is newest then. The slices are read from the journal as they leave, a few at a time on a
//! thread of the executor's pool: the shard keeps their segments until the delivery has ended. When
//! the disk is too short of room for that, a checksum shows it, and the delivery has failed. Absent
//! on purpose: what slices hold.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::link::{Greeted, connect};
use super::{Shared, read_word, within, write_all};
use crate::id::NodeId;
use crate::journal::segment;
use crate::limits::{SNAPSHOT_BYTES_PER_SECOND, SNAPSHOTS_WAITING_MAX};
use crate::partition::effects::Place;
use crate::runtime::tcp::Socket;
use crate::shard::inbox::{Contact, Delivery};
use crate::shard::outbox::SnapshotOut;
use crate::wire::bundle::{PIECE_HEAD_BYTES, format_of, piece_head};
use crate::wire::hello::{Cargo, Offer, Welcome};

/// What one core is to send.
#[derive(Debug)]
pub struct Sending {
    /// What waits, for each peer that a task sends to, and how many times raft wanted it sent.
    waiting: BTreeMap<NodeId, VecDeque<(SnapshotOut, u32)>>,
    /// What waits and what is being sent.
    count: usize,
    rate: u64,
    /// When what was sent so far has taken its time.
    paced_to: Option<Instant>,
}

impl Default for Sending {
    fn default() -> Sending {
        let (waiting, rate) = (BTreeMap::new(), SNAPSHOT_BYTES_PER_SECOND);
        Sending { waiting, count: 0, rate, paced_to: None }
    }
}

impl Sending {
    /// Sends no more than this in a second.
    pub fn limit(&mut self, bytes_per_second: u64) {
        assert!(bytes_per_second > 0, "a rate moves something");
        self.rate = bytes_per_second;
    }

    /// Takes a snapshot; an older one of the partition that waits for the same peer is given up,
    /// and its delivery ends with that of the newer. `None`: there is no room. `Some(true)`: a task
    /// is to be started for this peer.
    fn add(&mut self, snapshot: SnapshotOut) -> Option<bool> {
        let (to, partition) = (snapshot.to, snapshot.partition);
        let queue = self.waiting.get_mut(&to);
        let old =
            queue.and_then(|queue| queue.iter_mut().find(|(old, _)| old.partition == partition));
        if let Some((old, times)) = old {
            *old = snapshot;
            *times += 1;
            return Some(false);
        }
        if self.count >= SNAPSHOTS_WAITING_MAX {
            return None;
        }
        self.count += 1;
        let idle = !self.waiting.contains_key(&to);
        self.waiting.entry(to).or_default().push_back((snapshot, 1));
        Some(idle)
    }

    /// The next one for a peer; without one its task ends.
    fn next(&mut self, to: NodeId) -> Option<(SnapshotOut, u32)> {
        let next = self.waiting.get_mut(&to).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.waiting.remove(&to);
        }
        next
    }

    fn done(&mut self) {
        self.count -= 1;
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
        let Some((snapshot, times)) = next else { return };
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
        peers.sending.done();
        let said = (snapshot.partition, snapshot.to, delivery);
        peers.heard.sent.extend(std::iter::repeat_n(said, times as usize));
        peers.ring();
    }
}

async fn send(shared: &Shared, snapshot: &SnapshotOut) -> Result<(), String> {
    let offer = Offer {
        partition: snapshot.partition,
        position: snapshot.position,
        bytes: snapshot.bytes(),
        checksum: snapshot.tag(),
    };
    let (mut failures, mut furthest, mut cut) = (0, 0, String::new());
    loop {
        let contact = shared.borrow().book.get(&snapshot.to).cloned();
        let contact = contact.ok_or("its address is not known")?;
        let mut reached = 0;
        match attempt(shared, &contact, snapshot, offer, &cut, &mut reached).await {
            Ok(()) => return Ok(()),
            Err(Ended::Void(reason)) => return Err(reason),
            Err(Ended::Cut(reason)) => cut = reason,
        }
        // As long as each connection brings it further, it goes on.
        failures = if reached > furthest { 1 } else { failures + 1 };
        furthest = furthest.max(reached);
        if failures >= ATTEMPTS {
            return Err(cut);
        }
        glommio::timer::sleep(PAUSE).await;
    }
}

/// How a connection ended before all was sent.
enum Ended {
    /// Another one may go on.
    Cut(String),
    /// It can never be whole.
    Void(String),
}

impl From<String> for Ended {
    fn from(reason: String) -> Ended {
        Ended::Cut(reason)
    }
}

async fn attempt(
    shared: &Shared,
    contact: &Contact,
    snapshot: &SnapshotOut,
    offer: Offer,
    cut: &str,
    reached: &mut u64,
) -> Result<(), Ended> {
    let shard = snapshot.shard;
    let greeted = connect(shared, contact, shard, Cargo::Snapshot(offer)).await?;
    let Greeted { mut socket, offset, shards, formats, .. } = greeted;
    if !format_of(&snapshot.head).is_some_and(|format| formats.has(format)) {
        return Err(Ended::Cut("it came back with another program".to_owned()));
    }
    if shard.0 >= shards {
        return Err(Ended::Cut(format!("it has {shards} shards, shard {shard} was wanted")));
    }
    *reached = offset;
    if offset > 0 {
        let (node, partition) = (snapshot.to.0, snapshot.partition.0);
        tracing::info!(node, partition, offset, cut, "a snapshot goes on where it was cut");
    }
    send_pieces(shared, snapshot, offset, &mut socket).await?;
    let (head, body) = within(SILENCE, read_word(&mut socket)).await?;
    match Welcome::decode(&head, &body) {
        Ok(Welcome::Come { offset, .. }) if offset == offer.bytes => Ok(()),
        Ok(Welcome::Refused(reason)) => Err(Ended::Cut(reason)),
        _ => Err(Ended::Cut("it did not say that it has all".to_owned())),
    }
}

/// Sends the pieces from `offset` on, which is where one begins.
async fn send_pieces(
    shared: &Shared,
    snapshot: &SnapshotOut,
    offset: u64,
    socket: &mut Socket,
) -> Result<(), Ended> {
    let journal = shared.borrow().journal.clone();
    let mut at = (PIECE_HEAD_BYTES + snapshot.head.len()) as u64;
    if offset == 0 {
        let head = u32::try_from(snapshot.head.len())
            .map_err(|_| Ended::Void("its head is too large".to_owned()))?;
        let before = piece_head(head, crc32c::crc32c(&snapshot.head));
        within(SILENCE, write_all(socket, &before)).await?;
        within(SILENCE, write_all(socket, &snapshot.head)).await?;
    } else if offset < at {
        return Err(no_piece());
    }
    for place in snapshot.places.iter().copied() {
        let end = at + PIECE_HEAD_BYTES as u64 + u64::from(place.bytes);
        if at < offset && end > offset {
            return Err(no_piece());
        }
        if at >= offset {
            let journal = journal.clone();
            let read = move || read_slice(&journal, place);
            let slice = glommio::executor().spawn_blocking(read).await.map_err(Ended::Void)?;
            within(SILENCE, write_all(socket, &piece_head(place.bytes, place.checksum))).await?;
            send_slice(shared, &slice, socket).await?;
        }
        at = end;
    }
    if at < offset { Err(no_piece()) } else { Ok(()) }
}

fn no_piece() -> Ended {
    Ended::Void("it has what is no piece".to_owned())
}

async fn send_slice(shared: &Shared, slice: &[u8], socket: &mut Socket) -> Result<(), String> {
    for part in slice.chunks(PART_BYTES) {
        within(SILENCE, write_all(socket, part)).await?;
        let wait = shared.borrow_mut().sending.pace(part.len(), Instant::now());
        glommio::timer::sleep(wait).await;
    }
    Ok(())
}

/// A slice as the journal has it. Blocks.
fn read_slice(journal: &Path, place: Place) -> Result<Vec<u8>, String> {
    let name = segment::name(place.segment);
    let about = |error: std::io::Error| format!("{name} cannot be read: {error}");
    let file = File::open(journal.join(&name)).map_err(about)?;
    let mut slice = vec![0; place.bytes as usize];
    file.read_exact_at(&mut slice, place.offset).map_err(about)?;
    if crc32c::crc32c(&slice) != place.checksum {
        return Err(format!("{name} has no slice at {} any more", place.offset));
    }
    Ok(slice)
}

/// Connections in a row that bring a snapshot no further.
const ATTEMPTS: usize = 5;
const PART_BYTES: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(200);
const SILENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PartitionId, Position, ShardId};

    fn snapshot(to: u32, partition: u32, position: u64) -> SnapshotOut {
        SnapshotOut {
            to: NodeId(to),
            shard: ShardId(0),
            partition: PartitionId(partition),
            position: Position(position),
            head: vec![0; 10].into(),
            places: [].into(),
        }
    }

    #[test]
    fn each_peer_has_a_queue_and_the_newest_of_a_partition_counts() {
        let mut sending = Sending::default();
        assert_eq!(sending.add(snapshot(2, 1, 10)), Some(true));
        assert_eq!(sending.add(snapshot(3, 1, 10)), Some(true), "nobody waits for a peer");
        assert_eq!(sending.add(snapshot(2, 1, 20)), Some(false));
        assert_eq!(sending.add(snapshot(2, 4, 5)), Some(false));
        assert_eq!(sending.count, 3);
        let (next, times) = sending.next(NodeId(2)).expect("it waits");
        assert_eq!((next.partition, next.position, times), (PartitionId(1), Position(20), 2));
        assert_eq!(sending.next(NodeId(2)).expect("it waits").0.partition, PartitionId(4));
        assert!(sending.next(NodeId(2)).is_none());
        sending.done();
        assert_eq!(sending.add(snapshot(2, 1, 30)), Some(true), "its task has ended");
        assert_eq!(sending.count, 3);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sending = Sending::default();
        for partition in 1..=SNAPSHOTS_WAITING_MAX as u32 {
            assert!(sending.add(snapshot(2, partition, 1)).is_some());
        }
        assert_eq!(sending.add(snapshot(3, 1, 1)), None);
        assert_eq!(sending.add(snapshot(2, 1, 2)), Some(false), "it takes the other's room");
    }

    #[test]
    fn a_slice_is_read_back_or_missed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut bytes = vec![7; 100];
        bytes.extend_from_slice(b"slice");
        std::fs::write(dir.path().join(segment::name(3)), &bytes).expect("a file");
        let checksum = crc32c::crc32c(b"slice");
        let place = Place { segment: 3, offset: 100, bytes: 5, checksum };
        assert_eq!(read_slice(dir.path(), place).expect("it is there"), b"slice");
        for wrong in [
            Place { offset: 99, ..place },
            Place { offset: 101, ..place },
            Place { segment: 4, ..place },
        ] {
            assert!(read_slice(dir.path(), wrong).is_err(), "{wrong:?}");
        }
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
