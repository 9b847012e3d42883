//! Links between real nodes: strangers on the peer port, peers that are refused, ways that break in
//! one direction or in both, snapshots that are cut, and calls that go through a follower meanwhile.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

#[path = "links/bulk.rs"]
mod bulk;
#[path = "links/group.rs"]
mod group;
#[path = "links/proxy.rs"]
mod proxy;
#[path = "links/refusals.rs"]
mod refusals;
#[path = "links/strangers.rs"]
mod strangers;
#[path = "links/through.rs"]
mod through;
