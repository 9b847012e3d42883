//! One way to one shard of a peer: bundles in order, dropped when there is no way or no room.
//!
//! ```text
//!   dialling ── welcomed ──► up ── broken ──► waiting ──► dialling …
//!       └────── refused, no answer ──────────────►┘         jittered, or at once when it dials
//! ```
//!
//! The name is looked up again on every dial. While the link is up, what is pushed is written at
//! once as far as the kernel takes it; the task writes the rest. Absent on purpose: sending again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::FutureExt;
use glommio::net::TcpStream;

use super::known::Presence;
use super::{PATIENCE, Shared as Peers, frames, read_word, resolve, within, write_all};
use crate::id::{Mark, ShardId};
use crate::limits::PEER_QUEUE_BYTES_MAX;
use crate::prng::Prng;
use crate::runtime::tcp::Socket;
use crate::shard::inbox::{Contact, LinkNews};
use crate::wire::bundle;
use crate::wire::format::{FORMATS, Formats};
use crate::wire::hello::{Cargo, Hello, Welcome};

/// A link, shared by its task and its core's pump.
pub type Shared = Rc<RefCell<Link>>;

/// See the header.
#[derive(Debug)]
pub struct Link {
    contact: Contact,
    /// While it is up.
    socket: Option<Socket>,
    /// What it carries then.
    formats: Formats,
    queue: VecDeque<Bytes>,
    /// Octets in the queue, and how many of its first were written.
    bytes: usize,
    written: usize,
    closed: bool,
    hurried: bool,
    /// More was to be sent than may wait.
    overflown: bool,
    task: Option<Waker>,
}

impl Link {
    /// Whether it goes where this contact is.
    pub fn leads_to(&self, contact: &Contact) -> bool {
        self.contact == *contact
    }

    /// Takes a bundle, and how far the journal here is durable; `false` when it is dropped.
    pub fn push(&mut self, mark: Mark, bundle: Bytes) -> bool {
        if self.socket.is_none() || self.overflown {
            return false;
        }
        if !bundle::format_of(&bundle).is_some_and(|format| self.formats.has(format)) {
            // The peer came back with another program, and the shard had not heard of it.
            return false;
        }
        if self.bytes > PEER_QUEUE_BYTES_MAX {
            // Both sides are to know that something was lost: the link ends and begins anew.
            self.overflown = true;
            self.wake();
            return false;
        }
        let length = u32::try_from(bundle.len()).expect("a bundle is bounded");
        let head = frames::head(length, mark);
        let idle = self.queue.is_empty();
        self.bytes += head.len() + bundle.len();
        self.queue.push_back(Bytes::copy_from_slice(&head));
        self.queue.push_back(bundle);
        if idle {
            self.write();
        }
        if !self.queue.is_empty() {
            self.wake();
        }
        true
    }

    /// Tells how far the journal here is durable, when nothing else waits to be said.
    pub fn tell(&mut self, mark: Mark) {
        if self.socket.is_some() && self.queue.is_empty() {
            let head = frames::head(0, mark);
            self.bytes += head.len();
            self.queue.push_back(Bytes::copy_from_slice(&head));
            self.write();
            if !self.queue.is_empty() {
                self.wake();
            }
        }
    }

    /// The peer is known to be there.
    pub fn hurry(&mut self) {
        if self.socket.is_none() {
            self.hurried = true;
            self.wake();
        }
    }

    /// It is not wanted any more.
    pub fn close(&mut self) {
        self.closed = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Writes what the kernel takes now. An error shows in the task, which reads.
    fn write(&mut self) {
        while let (Some(socket), Some(first)) = (&self.socket, self.queue.front()) {
            match socket.send(&first[self.written..]) {
                Ok(octets) if octets > 0 => self.wrote(octets),
                _ => return,
            }
        }
    }

    fn wrote(&mut self, octets: usize) {
        self.written += octets;
        if self.queue.front().is_some_and(|first| first.len() == self.written) {
            let first = self.queue.pop_front().expect("there is a first one");
            self.bytes -= first.len();
            self.written = 0;
        }
    }

    /// Writes the rest and listens for the end; ready when the link is broken or closed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<String> {
        if self.closed {
            return Poll::Ready("it is not needed any more".to_owned());
        }
        if std::mem::take(&mut self.overflown) {
            return Poll::Ready("it takes less than there is to say".to_owned());
        }
        self.task = Some(context.waker().clone());
        loop {
            let Some(first) = self.queue.front().cloned() else { break };
            let Some(socket) = &mut self.socket else { break };
            match socket.poll_write(context, &first[self.written..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(octets)) if octets > 0 => self.wrote(octets),
                Poll::Ready(Ok(_)) => return Poll::Ready("it takes nothing any more".to_owned()),
                Poll::Ready(Err(error)) => return Poll::Ready(error.to_string()),
            }
        }
        let Some(socket) = &mut self.socket else { unreachable!("only its own task takes it") };
        // Nothing is ever said on this way back: whatever can be read is the end.
        match socket.poll_read(context, &mut [0; 16]) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready("it hung up".to_owned()),
            Poll::Ready(Ok(_)) => Poll::Ready("it said what nobody expects".to_owned()),
            Poll::Ready(Err(error)) => Poll::Ready(error.to_string()),
        }
    }
}

/// Starts a link, which lives until it is closed.
pub fn dial(peers: Peers, contact: Contact, shard: ShardId, prng: Prng) -> Shared {
    let link = Rc::new(RefCell::new(Link {
        contact,
        socket: None,
        formats: FORMATS,
        queue: VecDeque::new(),
        bytes: 0,
        written: 0,
        closed: false,
        hurried: false,
        overflown: false,
        task: None,
    }));
    glommio::spawn_local(live(peers, link.clone(), shard, prng)).detach();
    link
}

async fn live(peers: Peers, link: Shared, shard: ShardId, mut prng: Prng) {
    let contact = link.borrow().contact.clone();
    let mut failures = 0;
    let mut said = None;
    while !link.borrow().closed {
        let greeted = connect(&peers, &contact, shard, Cargo::Bundles).await;
        let reason = match greeted {
            Ok(greeted) if shard.0 >= greeted.shards => {
                // Its partitions are with other shards; those are dialled when there is something
                // for them.
                begin(&peers, &link, &contact, greeted);
                end(&peers, &link, &contact);
                let mut peers = peers.borrow_mut();
                peers.links.retain(|_, other| !Rc::ptr_eq(other, &link));
                peers.lose(contact.node);
                return;
            }
            Ok(greeted) => {
                let since = Instant::now();
                begin(&peers, &link, &contact, greeted);
                let reason = poll_fn(|context| link.borrow_mut().poll(context)).await;
                end(&peers, &link, &contact);
                if since.elapsed() >= STEADY {
                    failures = 0;
                    said.take().iter().for_each(|line: &String| peers.borrow().told().passed(line));
                }
                reason
            }
            Err(reason) => reason,
        };
        if link.borrow().closed {
            return;
        }
        let (node, address) = (contact.node.0, contact.address());
        let line = format!("link {node} {address} {reason}");
        if peers.borrow().told().is_news(&line) {
            tracing::warn!(node, %address, "no link to the peer: {reason}");
        }
        said = Some(line);
        peers.borrow_mut().lose(contact.node);
        failures += 1;
        pause(&link, backoff(failures, &mut prng)).await;
    }
}

fn begin(peers: &Peers, link: &Shared, contact: &Contact, greeted: Greeted) {
    tracing::info!(node = contact.node.0, address = %contact.address(), "linked to the peer");
    let durable = peers.borrow().durable;
    let mut link = link.borrow_mut();
    (link.socket, link.hurried) = (Some(greeted.socket), false);
    link.formats = greeted.formats;
    link.tell(durable);
    let (up, api_port, format) = (Some(greeted.shards), greeted.api_port, greeted.formats.newest());
    let (node, address) = (contact.node, contact.address());
    peers.borrow_mut().note(LinkNews { node, address, snapshot: false, up, api_port, format });
}

fn end(peers: &Peers, link: &Shared, contact: &Contact) {
    let mut link = link.borrow_mut();
    link.socket = None;
    link.queue.clear();
    (link.bytes, link.written) = (0, 0);
    let (node, address) = (contact.node, contact.address());
    let (up, api_port, format) = (None, 0, 0);
    peers.borrow_mut().note(LinkNews { node, address, snapshot: false, up, api_port, format });
}

/// A connection whose other end said that it is who was wanted.
pub struct Greeted {
    /// The connection.
    pub socket: Socket,
    /// The peer's shards.
    pub shards: u16,
    /// The port of its clients.
    pub api_port: u16,
    /// What the link carries; it speaks the newest of them.
    pub formats: Formats,
    /// How much of the offered snapshot it has.
    pub offset: u64,
}

/// Dials, greets, and hears the answer.
pub async fn connect(
    peers: &Peers,
    contact: &Contact,
    shard: ShardId,
    cargo: Cargo,
) -> Result<Greeted, String> {
    let mut socket = open(contact).await?;
    let (hello, known) = {
        let peers = peers.borrow();
        let hello = Hello {
            speaker: peers.here,
            to: contact.node,
            from_shard: peers.shard,
            kept: peers.kept(),
            to_shard: shard,
            knows: peers.known.get(contact.node).unwrap_or(0),
            cargo,
        };
        (hello, peers.known.clone())
    };
    let answer = within(PATIENCE, async {
        write_all(&mut socket, &hello.encode()).await?;
        let (head, body) = read_word(&mut socket).await?;
        Welcome::decode(&head, &body).map_err(|_| "it does not speak our protocol".to_owned())
    });
    match answer.await? {
        Welcome::Refused(reason) => Err(reason),
        Welcome::Come { speaker, incarnation, life, kept, shards, api_port, formats, offset } => {
            let formats = formats.common(hello.speaker.formats);
            let formats = formats.ok_or("it took a link that neither side understands")?;
            if speaker != contact.node {
                return Err(format!("node {speaker} answered for node {}", contact.node));
            }
            // Another shard answers for one that is not there.
            if shard.0 < shards {
                known.greet(&Presence { node: speaker, incarnation, life, shard, kept })?;
            }
            Ok(Greeted { socket, shards, api_port, formats, offset })
        }
    }
}

/// Dials one address after the other.
async fn open(contact: &Contact) -> Result<Socket, String> {
    let mut reason = String::new();
    for address in resolve(contact).await? {
        let dialled = async {
            TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))
        };
        match within(PATIENCE, dialled).await {
            Ok(stream) => return Ok(Socket::linked(stream)),
            Err(failure) => reason = failure,
        }
    }
    Err(reason)
}

/// Waits before the next dial, less when the peer is heard of.
async fn pause(link: &Shared, time: Duration) {
    let hurried = poll_fn(|context| {
        let mut link = link.borrow_mut();
        if link.hurried || link.closed {
            link.hurried = false;
            return Poll::Ready(());
        }
        link.task = Some(context.waker().clone());
        Poll::Pending
    });
    hurried.or(async { glommio::timer::sleep(time).await }).await;
}

/// Doubles up to a bound; drawn, so that a fleet does not come back all at once.
fn backoff(failures: u32, prng: &mut Prng) -> Duration {
    let most = (FIRST_MS << failures.min(10)).min(LAST_MS);
    Duration::from_millis(most / 2 + prng.below(most / 2 + 1))
}

/// A link that lasted so long works: when it breaks, it is dialled as one that never did.
const STEADY: Duration = Duration::from_secs(2);

const FIRST_MS: u64 = 25;
const LAST_MS: u64 = 1000;
