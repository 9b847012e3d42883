//! Every byte format that crosses a socket.
//!
//! This file holds the generated messages, included once, under our words. Absent on purpose: I/O, clocks,
//! and any knowledge of what the messages mean to the state.

pub mod dialect;
pub mod fields;
pub mod method;
pub mod request;
pub mod response;
pub mod shape;

/// The messages of the documented dialect, as generated from `proto/documented`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod documented {
    include!(concat!(env!("OUT_DIR"), "/documented/messages.rs"));
}

/// What differs in the released dialect, as generated from `proto/released`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod released {
    include!(concat!(env!("OUT_DIR"), "/released/messages.rs"));
}

pub mod grpc;
pub mod http2;

pub use documented::atomix::multiraft as proto;
