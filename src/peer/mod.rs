//! Links between nodes: from the core that owns a partition here to the one that owns it there.
//!
//! ```text
//!   shard ─ bundles ───► link.rs ══ a socket a peer shard, one way ══► inbound.rs ─► shard
//!         ─ snapshots ─► bulk.rs ══ a socket a snapshot, at a rate ══► inbound.rs ─► shard
//! ```
//!
//! Each core dials what it sends to; what comes is accepted on the peer port by one core, which
//! hears the greeting (`wire/hello.rs`) and hands the socket to the owner. So a cut in one
//! direction is one broken link, and no core ever waits for another. Nothing here is reliable:
//! what finds no link or no room is dropped and the shard is told (`Inbox::lost`), because raft
//! sends again what is still needed and nothing else knows what that is. Absent on purpose: what
//! bundles hold, and encryption: peers belong on a network of their own.

mod bulk;
mod frames;
mod inbound;
pub mod known;
mod link;
mod told;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt;

use crate::id::{Mark, NodeId, PartitionId, ShardId};
use crate::limits::{PEER_UNREAD_BYTES_MAX, SNAPSHOT_UNREAD_BYTES_MAX};
use crate::peer::known::Known;
use crate::prng::Prng;
use crate::runtime::tcp::Socket;
use crate::shard::inbox::{Contact, Delivery, Inbox, LinkNews};
use crate::time::Span;
use crate::wire::bundle::Piece;
use crate::wire::hello::{self, HEAD_BYTES, Hello, Speaker};

pub use bulk::send_snapshot;
pub use inbound::{accept, arrive, remember};

/// One core's links.
#[derive(Debug)]
pub struct Peers {
    here: Speaker,
    shard: ShardId,
    known: Arc<Known>,
    /// The last mark that this core's journal found at the start, and how far it is durable now.
    kept: Option<Mark>,
    durable: Mark,
    /// What all peers were told of that, and when.
    told_all: (Mark, crate::time::Instant),
    prng: Prng,
    /// Where the nodes are that this core's partitions know.
    book: BTreeMap<NodeId, Contact>,
    links: BTreeMap<(NodeId, ShardId), link::Shared>,
    sending: bulk::Sending,
    /// Where this core's journal is, from which snapshots are read.
    journal: PathBuf,
    inbound: inbound::Links,
    partials: inbound::Partials,
    /// What links read into, one after the other.
    scratch: Vec<u8>,
    heard: Heard,
    /// Wakes the pump.
    bell: Option<Waker>,
    /// Readers that wait until the shard has taken what came.
    full: Vec<Waker>,
    /// Bytes of snapshots that the shard holds and has not taken.
    snapshot_bytes_waiting: usize,
    /// Readers of snapshots that wait until it has.
    snapshots_full: Vec<Waker>,
    /// Greetings for other cores.
    leaving: Vec<(ShardId, Box<Hello>, OwnedFd)>,
}

/// Shared by the pump and the tasks of its core; nobody holds it across an await.
pub type Shared = Rc<RefCell<Peers>>;

/// What came since the shard last looked.
#[derive(Default, Debug)]
struct Heard {
    bundles: Vec<(NodeId, Bytes)>,
    bytes: usize,
    snapshots: Vec<(NodeId, Piece)>,
    snapshot_bytes: usize,
    lost: Vec<NodeId>,
    hung_up: Vec<NodeId>,
    sent: Vec<(PartitionId, NodeId, Delivery)>,
    links: Vec<LinkNews>,
}

impl Peers {
    /// No links yet.
    #[must_use]
    pub fn new(
        (here, shard): (Speaker, ShardId),
        known: Arc<Known>,
        journal: PathBuf,
        prng: Prng,
    ) -> Peers {
        Peers {
            here,
            shard,
            known,
            kept: None,
            durable: Mark(0),
            told_all: Default::default(),
            prng,
            journal,
            book: BTreeMap::new(),
            links: BTreeMap::new(),
            sending: bulk::Sending::default(),
            inbound: inbound::Links::default(),
            partials: inbound::Partials::default(),
            scratch: Vec::new(),
            heard: Heard::default(),
            bell: None,
            full: Vec::new(),
            snapshot_bytes_waiting: 0,
            snapshots_full: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// Snapshots leave this core no faster.
    pub fn limit_snapshots(&mut self, bytes_per_second: u64) {
        self.sending.limit(bytes_per_second);
    }

    /// This core's journal has been read: it found all up to here. Comes before the first link.
    pub fn found(&mut self, kept: Mark) {
        (self.kept, self.durable) = (Some(kept), kept);
    }

    fn kept(&self) -> Mark {
        // Any other value would have this node taken for an older one of itself.
        self.kept.expect("the journal is read before anybody is greeted")
    }

    /// This core's journal is durable up to here.
    pub fn durable(&mut self, mark: Mark) {
        self.durable = mark;
    }

    /// Tells all peers how far that is, now and then, if it moved: who only follows would else tell
    /// nobody but its leader, and the next leader would not know what it can count on.
    pub fn tell(&mut self, now: crate::time::Instant) {
        let (told, at) = self.told_all;
        if told < self.durable && at.after(TELL_EVERY) <= now {
            self.told_all = (self.durable, now);
            for link in self.links.values() {
                link.borrow_mut().tell(self.durable);
            }
        }
    }

    /// Whom to wake when something came; `None` when the core ends.
    pub fn hang_bell(&mut self, bell: Option<Waker>) {
        if bell.is_none() {
            for link in std::mem::take(&mut self.links).into_values() {
                link.borrow_mut().close();
            }
        }
        self.bell = bell;
    }

    /// Whether the shard has something to look at.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.leaving.is_empty() || !self.heard.is_empty()
    }

    /// Moves what came into the inbox.
    pub fn gather(&mut self, inbox: &mut Inbox) {
        inbox.bundles.append(&mut self.heard.bundles);
        inbox.snapshots.append(&mut self.heard.snapshots);
        self.snapshot_bytes_waiting += std::mem::take(&mut self.heard.snapshot_bytes);
        inbox.lost.append(&mut self.heard.lost);
        inbox.hung_up.append(&mut self.heard.hung_up);
        inbox.sent.append(&mut self.heard.sent);
        inbox.links.append(&mut self.heard.links);
        self.heard.bytes = 0;
        for reader in self.full.drain(..) {
            reader.wake();
        }
    }

    /// So many bytes of snapshots are still to be taken by the shard.
    pub fn wait_for_snapshots(&mut self, bytes: usize) {
        self.snapshot_bytes_waiting = bytes;
        // Few at once; each looks again.
        if bytes < SNAPSHOT_UNREAD_BYTES_MAX {
            for reader in self.snapshots_full.drain(..) {
                reader.wake();
            }
        }
    }

    /// Greetings that other cores go on with.
    pub fn leaving(&mut self) -> Vec<(ShardId, Box<Hello>, OwnedFd)> {
        std::mem::take(&mut self.leaving)
    }

    fn told(&self) -> &told::Told {
        self.known.told()
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.wake_by_ref();
        }
    }

    fn note(&mut self, news: LinkNews) {
        self.heard.links.push(news);
        self.ring();
    }

    fn lose(&mut self, peer: NodeId) {
        if !self.heard.lost.contains(&peer) {
            self.heard.lost.push(peer);
            self.ring();
        }
    }

    fn is_full(&self) -> bool {
        self.heard.bytes >= PEER_UNREAD_BYTES_MAX
    }

    fn snapshot_bytes_unread(&self) -> usize {
        self.snapshot_bytes_waiting + self.heard.snapshot_bytes
    }

    /// The peer is there: who waits to dial it again need not.
    fn is_alive(&self, peer: NodeId) {
        let links = self.links.range((peer, ShardId(0))..=(peer, ShardId(u16::MAX)));
        for (_, link) in links {
            link.borrow_mut().hurry();
        }
    }
}

impl Heard {
    fn is_empty(&self) -> bool {
        self.bundles.is_empty()
            && self.snapshots.is_empty()
            && self.lost.is_empty()
            && self.hung_up.is_empty()
            && self.sent.is_empty()
            && self.links.is_empty()
    }
}

/// From now on these are the nodes that this core's partitions know. Links to others end, those to
/// them begin: when a leader ends, its followers must reach each other at once.
pub fn meet(shared: &Shared, book: Vec<Contact>) {
    keep(shared, book);
    let (contacts, shard) = {
        let peers = shared.borrow();
        (peers.book.values().cloned().collect::<Vec<_>>(), peers.shard)
    };
    for contact in contacts {
        let _ = linked(shared, &contact, shard);
    }
}

fn keep(shared: &Shared, book: Vec<Contact>) {
    let peers = &mut *shared.borrow_mut();
    let (here, shard) = (peers.here.node, peers.shard);
    let others = book.into_iter().filter(|contact| contact.node != here);
    peers.book = others.map(|contact| (contact.node, contact)).collect();
    peers.known.keep(shard, peers.book.keys().copied());
    // Whose votes count from now on may have come over a link for long.
    for (node, incarnation, shard, word) in peers.inbound.speakers() {
        if peers.book.contains_key(&node) {
            peers.known.again(node, incarnation, shard, word);
        }
    }
    let book = &peers.book;
    peers.links.retain(|(node, _), link| {
        let contact = book.get(node);
        let same = contact.is_some_and(|contact| link.borrow().leads_to(contact));
        if !same {
            link.borrow_mut().close();
        }
        same
    });
}

/// Sends what this core's shard has for one shard of a peer.
pub fn send(shared: &Shared, to: NodeId, shard: ShardId, bundle: Bytes) {
    let (contact, durable) = {
        let peers = shared.borrow();
        (peers.book.get(&to).cloned(), peers.durable)
    };
    let taken = contact.is_some_and(|contact| {
        let link = linked(shared, &contact, shard);
        link.borrow_mut().push(durable, bundle)
    });
    if !taken {
        shared.borrow_mut().lose(to);
    }
}

/// The link to one shard of a peer, dialled if there is none.
fn linked(shared: &Shared, contact: &Contact, shard: ShardId) -> link::Shared {
    let way = (contact.node, shard);
    let known = shared.borrow().links.get(&way).cloned();
    known.unwrap_or_else(|| {
        let prng = shared.borrow_mut().prng.fork(2);
        // Its task runs as soon as it is spawned: nothing may be borrowed then.
        let link = link::dial(shared.clone(), contact.clone(), shard, prng);
        shared.borrow_mut().links.insert(way, link.clone());
        link
    })
}

/// The addresses of a contact. A name is asked for off this core, for as long as the resolver
/// takes: who asks does not ask again before, so no more wait there than there are links.
async fn resolve(contact: &Contact) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = contact.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, contact.port)]);
    }
    #[cfg(debug_assertions)]
    if let Some(found) = crate::runtime::faults::resolve(&contact.host, contact.port) {
        return found;
    }
    let (host, port) = (contact.host.clone(), contact.port);
    let asked = glommio::executor().spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs()?;
        Ok(found.take(ADDRESSES_MAX).collect::<Vec<_>>())
    });
    match asked.await {
        Ok(found) if found.is_empty() => Err(format!("{} has no address", contact.host)),
        Ok(found) => Ok(found),
        Err(error) => {
            let error: std::io::Error = error;
            Err(format!("{}: {error}", contact.host))
        }
    }
}

/// Ends with an error when `what` takes longer than `patience`.
async fn within<T>(
    patience: Duration,
    what: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let late = async {
        glommio::timer::sleep(patience).await;
        Err("it did not answer in time".to_owned())
    };
    what.or(late).await
}

/// Reads a whole greeting: its head and what the head says follows.
async fn read_word(socket: &mut Socket) -> Result<([u8; HEAD_BYTES], Vec<u8>), String> {
    let mut head = [0; HEAD_BYTES];
    read_exact(socket, &mut head).await?;
    let body = read_body(socket, &head).await?;
    Ok((head, body))
}

/// Reads what the head of a greeting says follows.
async fn read_body(socket: &mut Socket, head: &[u8; HEAD_BYTES]) -> Result<Vec<u8>, String> {
    let bytes = hello::body_bytes(head).map_err(|_| "it does not speak our protocol".to_owned())?;
    let mut body = vec![0; bytes];
    read_exact(socket, &mut body).await?;
    Ok(body)
}

async fn read_exact(socket: &mut Socket, mut into: &mut [u8]) -> Result<(), String> {
    while !into.is_empty() {
        let read = std::future::poll_fn(|context| socket.poll_read(context, into)).await;
        match read {
            Ok(0) => return Err("it hung up".to_owned()),
            Ok(octets) => into = &mut into[octets..],
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

async fn write_all(socket: &mut Socket, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        let wrote = std::future::poll_fn(|context| socket.poll_write(context, bytes)).await;
        match wrote {
            Ok(0) => return Err("it takes nothing any more".to_owned()),
            Ok(octets) => bytes = &bytes[octets..],
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// Addresses of one name that are tried in turn.
const ADDRESSES_MAX: usize = 8;

/// How long a peer may not know what is durable here.
pub const TELL_EVERY: Span = Span::millis(100);

/// How long a peer may take to complete a connection, and to greet.
const PATIENCE: Duration = Duration::from_secs(2);
