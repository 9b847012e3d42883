//! Between the wire and the core: calls to asks, replies to responses. Pure.
//!
//! ```text
//!   path ─► method.rs ─► request.rs: bytes ─► shard::inbox::Requests
//!                        response.rs: partition::reply ─► bytes      dialect.rs: where they differ
//!                        health.rs, reflect.rs: bytes ─► bytes, without the core
//! ```
//!
//! The one place that knows both what stands on the wire and what a shard is asked. What a shard is
//! asked is not decoded for its meaning: ids are sliced out, forms are checked, bytes are wrapped.
//! Absent on purpose: HTTP/2 and sockets (`frontend/`), which put octets in and take octets out.

pub mod dialect;
pub mod health;
pub mod method;
pub mod reflect;
pub mod request;
pub mod response;
