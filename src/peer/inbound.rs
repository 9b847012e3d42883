//! What peers send here: greetings on the peer port, then bundles or a snapshot for its owner.
//!
//! The port accepts from process start, before any partition exists: liveness probes connect to it
//! and hang up (core.md 1.1). Whoever does not greet in time, or is refused, is let go with the
//! reason; neither costs memory. Absent on purpose: what bundles hold.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use glommio::net::TcpListener;

use super::{PATIENCE, Shared, read_word, within, write_all};
use crate::id::{NodeId, PartitionId};
use crate::limits::{
    BUNDLE_BYTES_MAX, PEER_GREETINGS_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOTS_IN_PARTS_MAX,
};
use crate::runtime::tcp::Socket;
use crate::shard::inbox::LinkNews;
use crate::wire::hello::{Cargo, Hello, Offer, Welcome};

/// Snapshots that have come in part.
pub type Partials = BTreeMap<(NodeId, PartitionId), Partial>;

/// What has come of a snapshot.
#[derive(Debug)]
pub struct Partial {
    offer: Offer,
    bytes: BytesMut,
    /// When its last octets came, or it was begun.
    at: Instant,
    /// A connection fills it.
    filling: bool,
}

/// Accepts until the task is dropped.
pub async fn accept(listener: TcpListener, shared: Shared) {
    let greeting = std::rc::Rc::new(std::cell::Cell::new(0));
    loop {
        match listener.accept().await {
            Ok(stream) if greeting.get() < PEER_GREETINGS_MAX => {
                greeting.set(greeting.get() + 1);
                let (shared, greeting) = (shared.clone(), greeting.clone());
                glommio::spawn_local(async move {
                    greet(&shared, Socket::linked(stream)).await;
                    greeting.set(greeting.get() - 1);
                })
                .detach();
            }
            // The kernel tells the peer; it comes again.
            Ok(stream) => drop(stream),
            Err(error) => {
                tracing::warn!(%error, "no peer can be accepted");
                glommio::timer::sleep(PAUSE).await;
            }
        }
    }
}

/// Hears who it is and hands the socket to the core that it is for.
async fn greet(shared: &Shared, mut socket: Socket) {
    let heard = within(PATIENCE, async {
        let (head, body) = read_word(&mut socket).await?;
        Hello::decode(&head, &body).map_err(|_| "it does not speak our protocol".to_owned())
    });
    // Probes hang up without a word, and strangers would not understand an answer.
    let Ok(hello) = heard.await else { return };
    let refusal = {
        let peers = shared.borrow();
        let known = peers.known.get(hello.speaker.node);
        hello.refusal(&peers.here, known)
    };
    if let Some(reason) = refusal {
        tracing::warn!(node = hello.speaker.node.0, "a peer is refused: {reason}");
        let _ = within(PATIENCE, write_all(&mut socket, &Welcome::Refused(reason).encode())).await;
        return;
    }
    let (shard, here, shards) = {
        let peers = shared.borrow();
        (hello.to_shard, peers.shard, peers.here.shards)
    };
    if shard.0 >= shards {
        // It learns how many there are and comes again.
        let come = come(shared, 0).encode();
        let _ = within(PATIENCE, write_all(&mut socket, &come)).await;
    } else if shard == here {
        welcome(shared.clone(), hello, socket).await;
    } else if let Ok(fd) = socket.release() {
        let mut peers = shared.borrow_mut();
        peers.leaving.push((shard, Box::new(hello), fd));
        peers.ring();
    }
}

/// Goes on with a greeting that another core heard.
pub fn arrive(shared: &Shared, hello: Hello, fd: OwnedFd) {
    let shared = shared.clone();
    glommio::spawn_local(async move { welcome(shared, hello, Socket::adopt(fd)).await }).detach();
}

async fn welcome(shared: Shared, hello: Hello, socket: Socket) {
    let from = hello.speaker.node;
    shared.borrow().known.note(from, hello.speaker.incarnation);
    shared.borrow().is_alive(from);
    let ended = match hello.cargo {
        Cargo::Bundles => {
            let ended = take_bundles(&shared, &hello, socket).await;
            shared.borrow_mut().heard.hung_up.push(from);
            ended
        }
        Cargo::Snapshot(offer) => take_snapshot(&shared, from, offer, socket).await,
    };
    // What it was to answer may have been on its way.
    shared.borrow_mut().lose(from);
    if let Err(reason) = ended {
        tracing::debug!(node = from.0, "a peer's link ended: {reason}");
    }
}

fn come(shared: &Shared, offset: u64) -> Welcome {
    let here = shared.borrow().here;
    Welcome::Come {
        speaker: here.node,
        incarnation: here.incarnation,
        shards: here.shards,
        api_port: here.api_port,
        offset,
    }
}

async fn take_bundles(shared: &Shared, hello: &Hello, mut socket: Socket) -> Result<(), String> {
    let from = hello.speaker.node;
    within(PATIENCE, write_all(&mut socket, &come(shared, 0).encode())).await?;
    let mut buffer = BytesMut::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        while let Some(bundle) = next_frame(&mut buffer)? {
            let mut peers = shared.borrow_mut();
            peers.heard.bytes += bundle.len();
            peers.heard.bundles.push((from, bundle));
            peers.ring();
        }
        until_room(shared).await;
        match poll_fn(|context| socket.poll_read(context, &mut piece)).await {
            Ok(0) => return Err("it hung up".to_owned()),
            Ok(octets) => buffer.extend_from_slice(&piece[..octets]),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// The next whole frame of a stream of them, each behind its length.
fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > 2 * BUNDLE_BYTES_MAX {
        return Err(format!("a bundle of {length} bytes"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    buffer.advance(4);
    // A copy of its own: a slice would keep the whole of what was read alive.
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Waits while the shard has more than enough to look at.
async fn until_room(shared: &Shared) {
    poll_fn(|context| {
        let mut peers = shared.borrow_mut();
        if !peers.is_full() {
            return Poll::Ready(());
        }
        peers.full.push(context.waker().clone());
        Poll::Pending
    })
    .await;
}

async fn take_snapshot(
    shared: &Shared,
    from: NodeId,
    offer: Offer,
    mut socket: Socket,
) -> Result<(), String> {
    let key = (from, offer.partition);
    let offset = match begin(shared, key, offer) {
        Ok(offset) => offset,
        Err(reason) => {
            let refused = Welcome::Refused(reason.clone()).encode();
            within(PATIENCE, write_all(&mut socket, &refused)).await?;
            return Err(reason);
        }
    };
    let address = format!("node {from}");
    let news =
        |up| LinkNews { node: from, address: address.clone(), snapshot: true, up, api_port: 0 };
    shared.borrow_mut().note(news(Some(0)));
    let filled = fill(shared, key, offset, &mut socket).await;
    if let Err(reason) = filled.and_then(|()| finish(shared, key, offer)) {
        let mut peers = shared.borrow_mut();
        if let Some(partial) = peers.partials.get_mut(&key) {
            (partial.filling, partial.at) = (false, Instant::now());
        }
        peers.note(news(None));
        return Err(reason);
    }
    let all = come(shared, offer.bytes).encode();
    within(PATIENCE, write_all(&mut socket, &all)).await
}

/// Hands a snapshot that has come whole to the shard.
fn finish(shared: &Shared, key: (NodeId, PartitionId), offer: Offer) -> Result<(), String> {
    let mut peers = shared.borrow_mut();
    let partial = peers.partials.remove(&key).ok_or("it was given up")?;
    let bytes = partial.bytes.freeze();
    if crc32c::crc32c(&bytes) != offer.checksum {
        return Err("it was changed on the way".to_owned());
    }
    peers.heard.snapshots.push((key.0, bytes));
    peers.ring();
    Ok(())
}

/// Makes room for a snapshot, or finds what came of it before a cut.
fn begin(shared: &Shared, key: (NodeId, PartitionId), offer: Offer) -> Result<u64, String> {
    let mut peers = shared.borrow_mut();
    if offer.bytes == 0 || offer.bytes > SNAPSHOT_BYTES_MAX as u64 {
        return Err(format!("a snapshot of {} bytes is not taken", offer.bytes));
    }
    let now = Instant::now();
    peers.partials.retain(|_, partial| partial.filling || now - partial.at < KEEP_PARTIAL);
    if let Some(partial) = peers.partials.get_mut(&key).filter(|partial| partial.offer == offer) {
        if partial.filling {
            return Err("this snapshot is on its way already".to_owned());
        }
        partial.filling = true;
        return Ok(partial.bytes.len() as u64);
    }
    if peers.partials.len() >= SNAPSHOTS_IN_PARTS_MAX && !peers.partials.contains_key(&key) {
        return Err("too many snapshots are on their way here".to_owned());
    }
    let partial = Partial { offer, bytes: BytesMut::new(), at: now, filling: true };
    peers.partials.insert(key, partial);
    Ok(0)
}

async fn fill(
    shared: &Shared,
    key: (NodeId, PartitionId),
    offset: u64,
    socket: &mut Socket,
) -> Result<(), String> {
    within(PATIENCE, write_all(socket, &come(shared, offset).encode())).await?;
    let mut piece = vec![0; READ_BYTES];
    loop {
        let left = {
            let peers = shared.borrow();
            let partial = peers.partials.get(&key).ok_or("it was given up")?;
            partial.offer.bytes as usize - partial.bytes.len()
        };
        if left == 0 {
            return Ok(());
        }
        let room = left.min(READ_BYTES);
        let read = within(SILENCE, async {
            let read = poll_fn(|context| socket.poll_read(context, &mut piece[..room])).await;
            read.map_err(|error| error.to_string())
        });
        let octets = read.await?;
        if octets == 0 {
            return Err("it hung up".to_owned());
        }
        let mut peers = shared.borrow_mut();
        let partial = peers.partials.get_mut(&key).ok_or("it was given up")?;
        partial.bytes.extend_from_slice(&piece[..octets]);
    }
}

const READ_BYTES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(50);
const SILENCE: Duration = Duration::from_secs(10);
/// How long a snapshot that was cut waits for its rest.
const KEEP_PARTIAL: Duration = Duration::from_secs(60);
