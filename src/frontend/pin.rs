//! Which core a connection belongs to: the owner of the partition that its first request names.
//!
//! A gRPC client waits for SETTINGS before it speaks, so a fresh socket says nothing. The accepting
//! core drives the connection until the first request is whole, then sends it over with what was
//! read and not yet taken (design.md 7, Pinning). Requests for other partitions on it still work,
//! by letter. A health check before it decides nothing; a stream that the edge answers itself
//! (`connection/local.rs`) stays where it is. The wait is bounded by what bounds any request: its
//! bytes, and the connection's own timers.

use crate::edge::dialect::Dialect;
use crate::edge::{method, request};
use crate::id::ShardId;
use crate::wire::http2::{Connection, Key, Meta, Route};

use super::Front;

/// A connection on its way to its core, without its socket.
#[derive(Debug)]
pub struct Passage {
    /// The connection as it stood when its first request was whole.
    pub http: Http,
    /// Octets read and not taken.
    pub carry: Vec<u8>,
    /// What the listener speaks.
    pub dialect: Dialect,
    /// The first request: its call, what its headers said, its message.
    pub first: (Key, Meta, Vec<u8>),
}

/// Our side of HTTP/2; the router is the table of methods.
pub type Http = Connection<fn(&[u8]) -> Option<Route>>;

/// The methods of all services.
pub fn route(path: &[u8]) -> Option<Route> {
    method::find(path).map(|number| {
        let single = method::get(number).is_single();
        Route { method: number, single }
    })
}

/// Where a connection goes whose first request this is; `None` when it stays.
pub fn elsewhere(front: &Front, dialect: Dialect, meta: Meta, message: &[u8]) -> Option<ShardId> {
    if front.settings.shards == 1 || front.is_draining() {
        return None;
    }
    let method = method::get(meta.method);
    let dialect = method::dialect(meta.method, dialect);
    let call = request::read(method, message, dialect, &front.settings.rules).ok()?;
    let owner = front.owner(call.partition());
    (owner != front.settings.shard).then_some(owner)
}
