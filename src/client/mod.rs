//! A client of the documented protocol: partitions found, sessions kept, each command executed
//! once.
//!
//! One channel to whichever node answers, one session for each partition that is used, opened when
//! it is first needed. Keys go to partitions as the published Go driver sends them (`route.rs`).
//! Runs on tokio, on one thread or many.
//!
//! Absent on purpose: TLS and authentication, which the protocol does not have; caches; a session
//! in place of a lost one (`session.rs` says why). Read next: `session.rs`.

pub mod connection;
pub mod counter;
pub mod election;
pub mod lock;
pub mod map;
pub mod route;
pub mod seats;
pub mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use self::connection::{Channel, Method};
use self::route::Layout;
use self::session::{Patience, Primitive, Session};
use crate::wire::proto::v1::operation_response_headers::Status;
use crate::wire::proto::v1::{Event, WatchRequest, event};

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// API addresses of nodes, `HOST:PORT`; any of them serves any request.
    pub endpoints: Vec<String>,
    /// How long a call may be asked again before it fails.
    pub patience: Duration,
    /// How long the cluster keeps what a silent client holds.
    pub session_timeout: Duration,
    /// The partitions; empty: ask the node.
    pub partitions: BTreeSet<u32>,
}

/// A client of one cluster.
pub struct Client {
    channel: Channel,
    layout: Layout,
    patience: Patience,
    session_timeout: Duration,
    sessions: Mutex<BTreeMap<u32, Session>>,
}

/// Why a call has no result, and what its caller should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// No node there, or the connection broke: look after the node, or ask another.
    #[allow(missing_docs)]
    Unreachable { endpoint: String, reason: String },
    /// The node there has no partitions: found some (Bootstrap).
    NoPartitions,
    /// Patience ended: the command may have been executed.
    Timeout,
    /// The session is over, and all that it held: begin anew.
    SessionLost,
    /// The call was refused before it reached the primitive; `code` is gRPC's.
    #[allow(missing_docs)]
    Status { code: u32, message: String },
    /// The primitive's answer: not found, conflict and the like.
    #[allow(missing_docs)]
    Refused { status: Status, message: String },
    /// The other side does not keep to the protocol: is it a ringraft node, and in this dialect?
    Protocol(&'static str),
}

impl Client {
    /// Reaches a node and learns its partitions.
    ///
    /// # Errors
    /// At once when no node answers.
    pub async fn connect(options: Options) -> Result<Client, Fault> {
        let endpoints = options.endpoints.join(",");
        let channel = Channel::new(options.endpoints);
        let ids = if options.partitions.is_empty() {
            let silent = || Fault::Unreachable {
                endpoint: endpoints,
                reason: "nothing comes back in time".to_owned(),
            };
            timeout(options.patience, discover(&channel)).await.unwrap_or_else(|_| Err(silent()))?
        } else {
            options.partitions
        };
        Ok(Client {
            channel,
            layout: Layout::of(&ids).ok_or(Fault::NoPartitions)?,
            patience: Patience::For(options.patience),
            session_timeout: options.session_timeout,
            sessions: Mutex::default(),
        })
    }

    /// The partitions that it knows.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The session with `partition`, opened when it is the first call.
    ///
    /// # Errors
    /// What the node says.
    pub async fn session(&self, partition: u32) -> Result<Session, Fault> {
        let mut sessions = self.sessions.lock().await;
        if let Some(session) = sessions.get(&partition) {
            return Ok(session.clone());
        }
        let timeout = self.session_timeout;
        let session = Session::open(&self.channel, partition, timeout, self.patience).await?;
        sessions.insert(partition, session.clone());
        Ok(session)
    }

    /// Ends all its sessions; what they held is released at once.
    ///
    /// # Errors
    /// The first that could not be ended; it ends by its timeout.
    pub async fn close(self) -> Result<(), Fault> {
        let mut outcome = Ok(());
        for session in self.sessions.into_inner().into_values() {
            outcome = outcome.and(session.close(CLOSING).await);
        }
        outcome
    }

    async fn primitive(
        &self,
        service: &'static str,
        name: &str,
        partition: u32,
    ) -> Result<Primitive, Fault> {
        self.session(partition).await?.primitive(service, name, self.patience).await
    }
}

/// A session that cannot be closed in this time is left to its timeout.
const CLOSING: Patience = Patience::For(Duration::from_secs(1));

impl Fault {
    /// Whether the same call, with the same number, may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Fault::Unreachable { .. } => true,
            Fault::Status { code, .. } => matches!(*code, UNAVAILABLE | ABORTED),
            Fault::NoPartitions
            | Fault::Timeout
            | Fault::SessionLost
            | Fault::Refused { .. }
            | Fault::Protocol(_) => false,
        }
    }

    /// Whether the node says that the session is no more.
    #[must_use]
    pub fn is_unknown_session(&self) -> bool {
        matches!(self, Fault::Status { code: PERMISSION_DENIED | DATA_LOSS, .. })
    }
}

/// gRPC's numbers.
const PERMISSION_DENIED: u32 = 7;
const ABORTED: u32 = 10;
const UNAVAILABLE: u32 = 14;
const DATA_LOSS: u32 = 15;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreachable { endpoint, reason } if endpoint.is_empty() => {
                write!(f, "the connection broke: {reason}")
            }
            Fault::Unreachable { endpoint, reason } => {
                write!(f, "no node answers at {endpoint}: {reason}")
            }
            Fault::NoPartitions => f.write_str("the node has no partitions"),
            Fault::Timeout => f.write_str("no answer in time; the command may still be executed"),
            Fault::SessionLost => f.write_str("the session is lost, and all that it held"),
            Fault::Status { message, .. } if !message.is_empty() => f.write_str(message),
            Fault::Status { code, .. } => write!(f, "refused with gRPC status {code}"),
            Fault::Refused { message, .. } if !message.is_empty() => f.write_str(message),
            Fault::Refused { status, .. } => f.write_str(status.as_str_name()),
            Fault::Protocol(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fault {}

/// Learns the node's partitions from what `Node.Watch` replays to a new watcher: each partition
/// that it has, a leader known or not (core.md 2.5).
///
/// The answer of a node of this program begins when all its shards have said what they have, and
/// says all of it at once (`frontend/`): what is waited for is only the rest of one burst. Another
/// node's answer may begin earlier and has no end mark; its late partitions leave holes in the ids.
/// So without holes a short silence ends it, with holes (or ids that somebody chose) a long one.
async fn discover(channel: &Channel) -> Result<BTreeSet<u32>, Fault> {
    const SILENCE: Duration = Duration::from_millis(25);
    const SILENCE_WITH_HOLES: Duration = Duration::from_millis(400);
    let mut ids = BTreeSet::new();
    let mut events = channel.stream(&NODE_WATCH, &WatchRequest {}).await?;
    events.begun().await?;
    loop {
        let whole = !ids.is_empty() && ids.iter().zip(1..).all(|(id, count)| *id == count);
        let silence = if whole { SILENCE } else { SILENCE_WITH_HOLES };
        match timeout(silence, events.next()).await {
            Ok(event) => match event? {
                Some(event) => ids.extend(partition_of(&event)),
                None => return Ok(ids),
            },
            Err(_) => return Ok(ids),
        }
    }
}

fn partition_of(event: &Event) -> Option<u32> {
    match event.event.as_ref()? {
        event::Event::MemberReady(ready) => Some(ready.group_id),
        event::Event::LeaderUpdated(leader) => Some(leader.group_id),
        _ => None,
    }
}

const NODE_WATCH: Method<WatchRequest, Event> = Method::at("/atomix.multiraft.v1.Node/Watch");
