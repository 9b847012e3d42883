//! What the thread knows of a cluster: its partitions, the way to each and the session with it.
//!
//! A session is opened with the first call to its partition and replaced with the first call after
//! it was lost. Nothing here is seen by a caller; everything runs on the thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Method, Network};
use super::route::Layout;
use super::session::{Primitive, Session, Terms};
use super::way::{Until, Way};
use super::{Dialect, Fault, Options};
use crate::wire::proto::v1::{self, WatchRequest};
use crate::wire::released::atomix::multiraft::v1 as released;

/// The partitions of a cluster and the sessions with them.
pub(super) struct Cluster {
    layout: Layout,
    terms: Terms,
    namespace: String,
    places: Vec<Place>,
    closed: AtomicBool,
}

struct Place {
    way: Arc<Way>,
    session: Mutex<Option<Session>>,
}

impl Cluster {
    /// Learns the partitions, when nobody named them.
    ///
    /// # Errors
    /// At once when no node answers.
    pub(super) async fn connect(options: Options) -> Result<Cluster, Fault> {
        let endpoints = options.endpoints.join(",");
        let network = Network::of(&options.endpoints);
        let ids = if options.partitions.is_empty() {
            let silent = || Fault::Unreachable {
                endpoint: endpoints,
                reason: "nothing comes back in time".to_owned(),
            };
            let found = discover(&network, options.dialect);
            timeout(options.patience, found).await.unwrap_or_else(|_| Err(silent()))?
        } else {
            options.partitions
        };
        let layout = Layout::of(&ids).ok_or(Fault::NoPartitions)?;
        let seed = seed();
        let place = |partition: &u32| Place {
            way: Arc::new(Way::new(network.clone(), seed ^ u64::from(*partition))),
            session: Mutex::default(),
        };
        let places = layout.all().iter().map(place).collect();
        let terms = Terms {
            dialect: options.dialect,
            // A shorter one could not be kept alive over an ordinary network.
            timeout: options.session_timeout.max(Duration::from_millis(100)),
        };
        let namespace = options.namespace;
        Ok(Cluster { layout, terms, namespace, places, closed: AtomicBool::new(false) })
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The primitive in the partition at `place`, opened when it is the first call.
    ///
    /// # Errors
    /// What the node says.
    pub(super) async fn primitive(
        &self,
        place: usize,
        service: &'static str,
        name: &str,
        until: Until,
    ) -> Result<Primitive, Fault> {
        let session = self.session(place, until).await?;
        session.primitive(service, &self.namespace, name, until).await
    }

    async fn session(&self, place: usize, until: Until) -> Result<Session, Fault> {
        let partition = self.layout.all()[place];
        let place = &self.places[place];
        let kept = place.session.lock();
        let mut kept = match until.0 {
            Some(deadline) => timeout_at(deadline, kept).await.map_err(|_| Fault::Timeout)?,
            None => kept.await,
        };
        if self.closed.load(Ordering::Relaxed) {
            return Err(Fault::Closed);
        }
        if let Some(session) = &*kept
            && !session.is_over()
        {
            return Ok(session.clone());
        }
        let session = Session::open(&place.way, partition, self.terms, until).await?;
        *kept = Some(session.clone());
        Ok(session)
    }

    /// Closes the primitive wherever it is open.
    ///
    /// # Errors
    /// The first that could not be closed.
    pub(super) async fn close_primitive(
        &self,
        service: &'static str,
        name: &str,
        until: Until,
    ) -> Result<(), Fault> {
        for place in &self.places {
            let session = place.session.lock().await.clone();
            if let Some(session) = session.filter(|session| !session.is_over()) {
                session.close_primitive(service, name, until).await?;
            }
        }
        Ok(())
    }

    /// Ends all sessions, and opens no more.
    ///
    /// # Errors
    /// The first that could not be ended; it ends by its timeout.
    pub(super) async fn close(&self) -> Result<(), Fault> {
        self.closed.store(true, Ordering::Relaxed);
        let until = Until::after(CLOSING);
        let mut closing = JoinSet::new();
        for place in &self.places {
            // Whoever opens one just now finds the client closed afterwards.
            let Ok(mut kept) = timeout(CLOSING, place.session.lock()).await else { continue };
            if let Some(session) = kept.take() {
                closing.spawn(async move { session.close(until).await });
            }
        }
        let mut outcome = Ok(());
        while let Some(joined) = closing.join_next().await {
            outcome = outcome.and(joined.unwrap_or(Err(Fault::Closed)));
        }
        outcome
    }
}

/// A session that cannot be closed in this time is left to its timeout.
const CLOSING: Duration = Duration::from_secs(1);

/// Sets this client's pauses apart from those of others; nothing else hangs on it.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |now| now.as_nanos() as u64);
    crate::prng::mix(nanos ^ u64::from(std::process::id()) << 32)
}

/// Learns the partitions from the first node that answers.
async fn discover(network: &Network, dialect: Dialect) -> Result<BTreeSet<u32>, Fault> {
    let mut outcome = Err(Fault::Protocol("no endpoint"));
    for at in 0..network.count() {
        outcome = match dialect {
            Dialect::Documented => replayed(network, at, &NODE_WATCH, group).await,
            Dialect::Released => replayed(network, at, &NODE_WATCH_RELEASED, group_released).await,
        };
        if !outcome.as_ref().is_err_and(Fault::is_passing) {
            break;
        }
    }
    outcome
}

/// Learns a node's partitions from what `Node.Watch` replays to a new watcher: each partition that
/// it has, a leader known or not (core.md 2.5).
///
/// The answer of a node of this program begins when all its shards have said what they have, and
/// says all of it at once (`frontend/`): what is waited for is only the rest of one burst. Another
/// node's answer may begin earlier and has no end mark; its late partitions leave holes in the ids.
/// So without holes a short silence ends it, with holes (or ids that somebody chose) a long one.
async fn replayed<E: prost::Message + Default>(
    network: &Network,
    at: usize,
    method: &Method<WatchRequest, E>,
    group: fn(&E) -> Option<u32>,
) -> Result<BTreeSet<u32>, Fault> {
    const SILENCE: Duration = Duration::from_millis(25);
    const SILENCE_WITH_HOLES: Duration = Duration::from_millis(400);
    let mut ids = BTreeSet::new();
    let mut events = network.stream(at, method, &WatchRequest {}).await?;
    events.begun().await?;
    // Live events must not keep it open.
    let latest = Instant::now() + SILENCE_WITH_HOLES * 5;
    loop {
        let whole = !ids.is_empty() && ids.iter().zip(1..).all(|(id, count)| *id == count);
        let silence = if whole { SILENCE } else { SILENCE_WITH_HOLES };
        let quiet = latest.min(Instant::now() + silence);
        match timeout_at(quiet, events.next()).await {
            Ok(event) => match event? {
                Some(event) => ids.extend(group(&event)),
                None => return Ok(ids),
            },
            Err(_) => return Ok(ids),
        }
    }
}

fn group(event: &v1::Event) -> Option<u32> {
    match event.event.as_ref()? {
        v1::event::Event::MemberReady(ready) => Some(ready.group_id),
        v1::event::Event::LeaderUpdated(leader) => Some(leader.group_id),
        _ => None,
    }
}

fn group_released(event: &released::Event) -> Option<u32> {
    let member = match event.event.as_ref()? {
        released::event::Event::MemberReady(ready) => &ready.member,
        released::event::Event::LeaderUpdated(leader) => &leader.member,
        _ => return None,
    };
    member.as_ref().map(|member| member.group_id)
}

const NODE_WATCH: Method<WatchRequest, v1::Event> = Method::at("/atomix.multiraft.v1.Node/Watch");
const NODE_WATCH_RELEASED: Method<WatchRequest, released::Event> =
    Method::at("/atomix.multiraft.v1.Node/Watch");
