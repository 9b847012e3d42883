//! What peers send here: greetings on the peer port, then bundles or a snapshot for its owner.
//!
//! The port accepts from process start, before any partition exists: liveness probes connect to it
//! and hang up (core.md 1.1). Whoever does not greet in time, or is refused, is let go with the
//! reason; neither costs memory. Absent on purpose: what bundles hold.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::net::TcpListener;

use super::frames::Frames;
use super::known::{self, Presence, Word};
use super::{PATIENCE, Shared, read_body, read_exact, within, write_all};
use crate::id::{NodeId, PartitionId, ShardId};
use crate::limits::{
    PEER_GREETINGS_MAX, PEER_LINKS_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_UNREAD_BYTES_MAX,
    SNAPSHOTS_IN_PARTS_MAX,
};
use crate::runtime::tcp::Socket;
use crate::shard::inbox::LinkNews;
use crate::wire::bundle::{PIECE_HEAD_BYTES, Piece, read_piece_head};
use crate::wire::hello::{Cargo, HEAD_BYTES, Hello, Offer, Welcome};

/// Snapshots that have come in part.
pub type Partials = BTreeMap<(NodeId, PartitionId), Partial>;

/// How much of a snapshot has come. What has is with the shard.
#[derive(Debug)]
pub struct Partial {
    offer: Offer,
    /// Whole pieces, with what stands before each.
    bytes: u64,
    /// How many they are.
    pieces: u32,
    /// When its last octets came, or it was begun.
    at: Instant,
    /// The connection that fills it; another one that comes takes it over.
    filled_by: Option<u64>,
}

/// Links that carry bundles to this core, at most one from each core of each peer: a new one means
/// that the peer gave the old one up, whether or not we know that already.
#[derive(Default, Debug)]
pub struct Links {
    up: BTreeMap<(NodeId, ShardId), Inbound>,
    next: u64,
}

#[derive(Debug)]
struct Inbound {
    number: u64,
    incarnation: u64,
    word: Word,
    reader: Option<Waker>,
}

impl Links {
    /// Who speaks here now, each with its incarnation, its shard and that shard's word.
    pub fn speakers(&self) -> impl Iterator<Item = (NodeId, u64, ShardId, &Word)> {
        let all = self.up.iter();
        all.map(|((node, shard), link)| (*node, link.incarnation, *shard, &link.word))
    }

    /// A new link, which takes the place of an old one: its number, and whether there was one.
    fn add(&mut self, key: (NodeId, ShardId), incarnation: u64, word: Word) -> Option<(u64, bool)> {
        if self.up.len() >= PEER_LINKS_MAX && !self.up.contains_key(&key) {
            return None;
        }
        let number = self.number();
        let old = self.up.insert(key, Inbound { number, incarnation, word, reader: None });
        let replaced = old.is_some();
        if let Some(reader) = old.and_then(|old| old.reader) {
            reader.wake();
        }
        Some((number, replaced))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The link, while no other took its place.
    fn get_mut(&mut self, key: (NodeId, ShardId), number: u64) -> Option<&mut Inbound> {
        self.up.get_mut(&key).filter(|link| link.number == number)
    }

    /// It ended; `false` when another one had taken its place.
    fn remove(&mut self, key: (NodeId, ShardId), number: u64) -> bool {
        self.get_mut(key, number).is_some() && self.up.remove(&key).is_some()
    }
}

/// Has what peers tell written down now and then, until the task is dropped.
pub async fn remember(shared: Shared) {
    let known = shared.borrow().known.clone();
    loop {
        glommio::timer::sleep(known::SAVE_EVERY).await;
        let known = known.clone();
        glommio::executor().spawn_blocking(move || known.save_marks()).await;
    }
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
                if shared.borrow().told().is_news(&format!("accept {error}")) {
                    tracing::warn!(%error, "no peer can be accepted");
                }
                glommio::timer::sleep(PAUSE).await;
            }
        }
    }
}

/// Hears who it is and hands the socket to the core that it is for.
async fn greet(shared: &Shared, mut socket: Socket) {
    let mut heard = false;
    let word = within(PATIENCE, async {
        let mut head = [0; HEAD_BYTES];
        read_exact(&mut socket, &mut head[..1]).await?;
        heard = true;
        read_exact(&mut socket, &mut head[1..]).await?;
        let body = read_body(&mut socket, &head).await?;
        Hello::decode(&head, &body).map_err(|_| STRANGE.to_owned())
    });
    let hello = match word.await {
        Ok(hello) => hello,
        Err(reason) => {
            // Probes hang up without a word; strangers would not understand an answer.
            let host = socket.peer_address().map_or_else(String::new, |it| it.ip().to_string());
            if heard && shared.borrow().told().is_news(&format!("stranger {host} {reason}")) {
                tracing::warn!(host, "a stranger on the peer port is let go: {reason}");
            }
            return;
        }
    };
    let refusal = {
        let peers = shared.borrow();
        let known = peers.known.get(hello.speaker.node);
        hello.refusal(&peers.here, known)
    };
    if let Some(reason) = refusal {
        return refuse(shared, hello.speaker.node, reason, &mut socket).await;
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

/// Says why not, here and there.
async fn refuse(shared: &Shared, node: NodeId, reason: String, socket: &mut Socket) {
    if shared.borrow().told().is_news(&format!("refused {node} {reason}")) {
        tracing::warn!(node = node.0, "a peer is refused: {reason}");
    }
    let _ = within(PATIENCE, write_all(socket, &Welcome::Refused(reason).encode())).await;
}

async fn welcome(shared: Shared, hello: Hello, mut socket: Socket) {
    let from = hello.speaker.node;
    // Two of one id may have greeted at the same time.
    let greeted = shared.borrow().known.greet(&Presence::of(&hello));
    let word = match greeted {
        Ok(word) => word,
        Err(reason) => return refuse(&shared, from, reason, &mut socket).await,
    };
    shared.borrow().is_alive(from);
    let ended = match hello.cargo {
        Cargo::Bundles => take_bundles(&shared, &hello, word, socket).await,
        Cargo::Snapshot(offer) => take_snapshot(&shared, from, offer, socket).await,
    };
    if let Err(reason) = ended {
        tracing::debug!(node = from.0, "a peer's link ended: {reason}");
    }
}

fn come(shared: &Shared, offset: u64) -> Welcome {
    let (here, kept) = {
        let peers = shared.borrow();
        (peers.here, peers.kept())
    };
    Welcome::Come {
        speaker: here.node,
        incarnation: here.incarnation,
        life: here.life,
        kept,
        shards: here.shards,
        api_port: here.api_port,
        formats: here.formats,
        offset,
    }
}

async fn take_bundles(
    shared: &Shared,
    hello: &Hello,
    word: Word,
    mut socket: Socket,
) -> Result<(), String> {
    let from = hello.speaker.node;
    let key = (from, hello.from_shard);
    let added = shared.borrow_mut().inbound.add(key, hello.speaker.incarnation, word);
    let Some((number, replaced)) = added else {
        let reason = format!("node {} has too many links", shared.borrow().here.node);
        refuse(shared, from, reason.clone(), &mut socket).await;
        return Err(reason);
    };
    if replaced {
        // What was still to come the old way may not come.
        shared.borrow_mut().lose(from);
    }
    let ended = read_bundles(shared, key, number, &mut socket).await;
    let mut peers = shared.borrow_mut();
    if peers.inbound.remove(key, number) {
        peers.heard.hung_up.push(from);
        // What it was to answer may have been on its way.
        peers.lose(from);
    }
    if let Err(reason) = &ended
        && reason.contains(TOO_MUCH)
        && peers.told().is_news(&format!("bundles {from} {reason}"))
    {
        tracing::warn!(node = from.0, "a peer's link is closed: {reason}");
    }
    ended
}

async fn read_bundles(
    shared: &Shared,
    key: (NodeId, ShardId),
    number: u64,
    socket: &mut Socket,
) -> Result<(), String> {
    within(PATIENCE, write_all(socket, &come(shared, 0).encode())).await?;
    let mut frames = Frames::default();
    loop {
        until_room(shared).await;
        poll_fn(|context| {
            let mut peers = shared.borrow_mut();
            let Some(link) = peers.inbound.get_mut(key, number) else {
                return Poll::Ready(Err("another one took its place".to_owned()));
            };
            link.reader = Some(context.waker().clone());
            let word = link.word.clone();
            let mut piece = std::mem::take(&mut peers.scratch);
            piece.resize(READ_BYTES, 0);
            let read = socket.poll_read(context, &mut piece);
            let taken = read.map(|read| match read {
                Ok(0) => Err("it hung up".to_owned()),
                Ok(octets) => frames.take(&piece[..octets], |mark, bundle| {
                    word.hear(mark);
                    if bundle.is_empty() {
                        return;
                    }
                    peers.heard.bytes += bundle.len();
                    peers.heard.bundles.push((key.0, bundle));
                    peers.ring();
                }),
                Err(error) => Err(error.to_string()),
            });
            peers.scratch = piece;
            taken
        })
        .await?;
    }
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
    let (number, offset) = match begin(shared, key, offer) {
        Ok(begun) => begun,
        Err(reason) => {
            refuse(shared, from, reason.clone(), &mut socket).await;
            return Err(reason);
        }
    };
    let address = format!("node {from}");
    let news = |up| {
        let (address, snapshot) = (address.clone(), true);
        LinkNews { node: from, address, snapshot, up, api_port: 0, format: 0 }
    };
    shared.borrow_mut().note(news(Some(0)));
    if let Err(reason) = fill(shared, key, number, offset, &mut socket).await {
        let mut peers = shared.borrow_mut();
        if let Ok(partial) = own(&mut peers.partials, key, number) {
            (partial.filled_by, partial.at) = (None, Instant::now());
        }
        peers.note(news(None));
        return Err(reason);
    }
    // raft sends what follows, which finds its place only behind what was taken.
    let _ = within(TAKING, until_snapshots_taken(shared)).await;
    let all = come(shared, offer.bytes).encode();
    within(PATIENCE, write_all(&mut socket, &all)).await
}

/// The snapshot that this connection fills, while no other has taken it over.
fn own(
    partials: &mut Partials,
    key: (NodeId, PartitionId),
    number: u64,
) -> Result<&mut Partial, String> {
    let partial = partials.get_mut(&key).filter(|partial| partial.filled_by == Some(number));
    partial.ok_or_else(|| "another one took its place".to_owned())
}

/// Makes room for a snapshot, or finds what came of it before a cut: the connection's number and
/// how much is there.
fn begin(shared: &Shared, key: (NodeId, PartitionId), offer: Offer) -> Result<(u64, u64), String> {
    let mut peers = shared.borrow_mut();
    if offer.bytes == 0 || offer.bytes > SNAPSHOT_BYTES_MAX {
        return Err(format!("a snapshot of {} bytes is not taken", offer.bytes));
    }
    let now = Instant::now();
    let number = peers.inbound.number();
    let partials = &mut peers.partials;
    partials.retain(|_, partial| partial.filled_by.is_some() || now - partial.at < KEEP_PARTIAL);
    if let Some(partial) = partials.get_mut(&key).filter(|partial| partial.offer == offer) {
        partial.filled_by = Some(number);
        return Ok((number, partial.bytes));
    }
    if partials.keys().filter(|other| **other != key).count() >= SNAPSHOTS_IN_PARTS_MAX {
        return Err("too many snapshots are on their way here".to_owned());
    }
    let partial = Partial { offer, bytes: 0, pieces: 0, at: now, filled_by: Some(number) };
    partials.insert(key, partial);
    Ok((number, 0))
}

async fn fill(
    shared: &Shared,
    key: (NodeId, PartitionId),
    number: u64,
    offset: u64,
    socket: &mut Socket,
) -> Result<(), String> {
    within(PATIENCE, write_all(socket, &come(shared, offset).encode())).await?;
    loop {
        let left = {
            let mut peers = shared.borrow_mut();
            let partial = own(&mut peers.partials, key, number)?;
            let left = partial.offer.bytes - partial.bytes;
            if left == 0 {
                peers.partials.remove(&key);
                return Ok(());
            }
            left
        };
        until_room_for_snapshots(shared).await;
        let bytes = read_piece(socket, left).await?;
        let peers = &mut *shared.borrow_mut();
        let partial = own(&mut peers.partials, key, number)?;
        partial.bytes += (PIECE_HEAD_BYTES + bytes.len()) as u64;
        let (tag, last) = (partial.offer.checksum, partial.bytes == partial.offer.bytes);
        let piece = Piece { partition: key.1, tag, number: partial.pieces, last, bytes };
        partial.pieces += 1;
        peers.heard.snapshot_bytes += piece.bytes.len();
        peers.heard.snapshots.push((key.0, piece));
        peers.ring();
    }
}

/// The next piece, of no more than `left` bytes with what stands before it.
async fn read_piece(socket: &mut Socket, left: u64) -> Result<Bytes, String> {
    let mut head = [0; PIECE_HEAD_BYTES];
    within(SILENCE, read_exact(socket, &mut head)).await?;
    let read = read_piece_head(head).map_err(|_| "a piece is too large".to_owned());
    let (length, checksum) = read?;
    if (PIECE_HEAD_BYTES + length) as u64 > left {
        return Err("it is more than was offered".to_owned());
    }
    let mut bytes = vec![0; length];
    for part in bytes.chunks_mut(READ_BYTES) {
        within(SILENCE, read_exact(socket, part)).await?;
    }
    if crc32c::crc32c(&bytes) != checksum {
        return Err("it was changed on the way".to_owned());
    }
    Ok(bytes.into())
}

/// Waits while the shard has more than enough of snapshots to take.
async fn until_room_for_snapshots(shared: &Shared) {
    until_fewer_bytes_wait(shared, SNAPSHOT_UNREAD_BYTES_MAX).await;
}

/// Waits until the shard has taken all that came of snapshots.
async fn until_snapshots_taken(shared: &Shared) -> Result<(), String> {
    until_fewer_bytes_wait(shared, 1).await;
    Ok(())
}

async fn until_fewer_bytes_wait(shared: &Shared, most: usize) {
    poll_fn(|context| {
        let mut peers = shared.borrow_mut();
        if peers.snapshot_bytes_unread() < most {
            return Poll::Ready(());
        }
        peers.snapshots_full.push(context.waker().clone());
        Poll::Pending
    })
    .await;
}

const STRANGE: &str = "it does not speak our protocol";
const TOO_MUCH: &str = "a bundle of";
const READ_BYTES: usize = 256 << 10;
const PAUSE: Duration = Duration::from_millis(50);
const SILENCE: Duration = Duration::from_secs(10);
/// How long the shard may take to take what is left of a snapshot; the sender waits longer.
const TAKING: Duration = Duration::from_secs(5);
/// How long a snapshot that was cut waits for its rest.
const KEEP_PARTIAL: Duration = Duration::from_secs(60);
