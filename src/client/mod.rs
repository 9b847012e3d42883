//! A client of the published protocol, for programs on any executor.
//!
//! Partitions found, one session for each that is used, each command executed once. Keys go to
//! partitions as the published Go driver sends them (`route.rs`).
//!
//! ```no_run
//! use ringraft::client::{Client, Fault, Options};
//!
//! # async fn example() -> Result<(), Fault> {
//! let client = Client::connect(Options::to(["127.0.0.1:5678"])).await?;
//! let visits = client.counter("visits").increment(1).await?;
//! client.map("greetings").put("hello", "world").await?;
//! client.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The network and the timers live on a thread of the library's own (`background.rs`): the futures
//! and streams here may be polled by tokio, smol, glommio or a plain `block_on`. With
//! `default-features = false, features = ["client"]` neither glommio nor io_uring is linked.
//!
//! # What holds what
//!
//! ```text
//!   Counter .. Value     handle.rs     a name; asks the session that its partition has now
//!          Client        mod.rs        the thread, which ends with the last handle
//!          Cluster       cluster.rs    partitions, and a session each: opened late, replaced
//!     Session   Stream   session.rs    numbers, keep-alives · stream.rs: events over connections
//!            Way         way.rs        which node is asked, and asking again
//!          Network       connection.rs gRPC over h2, a connection an address
//! ```
//!
//! Absent on purpose: TLS and authentication, which the protocol does not have; caches; the rsm
//! dialect. Read next: `session.rs`.

mod background;
pub mod change;
mod cluster;
pub mod connection;
pub mod counter;
pub mod countermap;
pub mod election;
mod fault;
pub mod handle;
pub mod indexedmap;
pub mod lock;
pub mod map;
pub mod multimap;
pub mod route;
pub mod seats;
pub mod session;
pub mod set;
pub mod stream;
pub mod value;
mod way;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use self::background::Background;
use self::cluster::Cluster;
use self::route::Layout;

pub use self::change::{Change, Entry, Event, Versioned, Written};
pub use self::counter::Counter;
pub use self::countermap::CounterMap;
pub use self::election::Election;
pub use self::fault::{Fault, Status};
pub use self::indexedmap::IndexedMap;
pub use self::lock::Lock;
pub use self::map::Map;
pub use self::multimap::MultiMap;
pub use self::set::Set;
pub use self::stream::Stream;
pub use self::value::Value;
pub use crate::config::Dialect;

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// API addresses of nodes, `HOST:PORT`; any of them serves any request.
    pub endpoints: Vec<String>,
    /// How long a call may be asked again before it fails.
    pub patience: Duration,
    /// How long the cluster keeps what a silent client holds; at least 100 ms.
    pub session_timeout: Duration,
    /// The partitions, all of them; empty: ask the node.
    pub partitions: BTreeSet<u32>,
    /// Which generation of the protocol the nodes' listeners speak.
    pub dialect: Dialect,
    /// The namespace of the primitives; the same name in another is another primitive.
    pub namespace: String,
}

/// A client of one cluster. Clones and handles share it; when the last of them is dropped, its
/// sessions are closed and its thread ends, shortly afterwards.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    background: Background,
    cluster: Arc<Cluster>,
    patience: Duration,
}

impl Options {
    /// The nodes at `endpoints`, each `HOST:PORT`, and else: calls of at most 10 s, sessions of
    /// 30 s, the documented dialect, the empty namespace.
    pub fn to<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Options {
        Options {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            patience: Duration::from_secs(10),
            session_timeout: Duration::from_secs(30),
            partitions: BTreeSet::new(),
            dialect: Dialect::Documented,
            namespace: String::new(),
        }
    }
}

impl Client {
    /// Reaches a node and learns its partitions, unless `options` name them: then nothing is asked
    /// before the first call.
    ///
    /// # Errors
    /// At once when no node answers.
    pub async fn connect(options: Options) -> Result<Client, Fault> {
        if options.endpoints.is_empty() {
            let reason = "no address is given".to_owned();
            return Err(Fault::Unreachable { endpoint: "no endpoint".to_owned(), reason });
        }
        let patience = options.patience;
        let background = Background::start()?;
        let cluster = Arc::new(background.run(Cluster::connect(options)).await?);
        Ok(Client { shared: Arc::new(Shared { background, cluster, patience }) })
    }

    /// The partitions that it knows.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.shared.cluster.layout()
    }

    /// Ends all its sessions: what they held is released, their streams end, and every later call
    /// ends with [`Fault::Closed`]. Dropping does the same, but nobody can wait for it.
    ///
    /// # Errors
    /// The first that could not be ended in a second; it ends by its timeout.
    pub async fn close(&self) -> Result<(), Fault> {
        let cluster = Arc::clone(self.cluster());
        self.run(async move { cluster.close().await }).await
    }

    fn cluster(&self) -> &Arc<Cluster> {
        &self.shared.cluster
    }

    fn patience(&self) -> Duration {
        self.shared.patience
    }

    fn background(&self) -> &Handle {
        self.shared.background.handle()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        self.shared.background.run(work).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("layout", self.layout()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let cluster = Arc::clone(&self.cluster);
        self.background.end(Box::pin(async move { drop(cluster.close().await) }));
    }
}
