//! Links between real nodes: strangers on the peer port, peers that are refused, ways that break
//! in one direction or in both, snapshots that are cut, and calls through a follower meanwhile.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use harness::nodes as group;

#[path = "links/bulk.rs"]
mod bulk;
#[path = "links/proxy.rs"]
mod proxy;
#[path = "links/refusals.rs"]
mod refusals;
#[path = "links/strangers.rs"]
mod strangers;
#[path = "links/through.rs"]
mod through;
