//! Every byte format that crosses a socket.
//!
//! This file holds the generated messages, included once, under our words. Absent on purpose: I/O,
//! clocks, and any knowledge of what the messages mean to the state.

pub mod bloom;
pub mod bundle;
pub mod field;
pub mod format;
pub mod grpc;
pub mod hello;
pub mod http2;
pub mod shape;

/// What nodes tell each other, as generated from `proto/peer`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod peer {
    include!(concat!(env!("OUT_DIR"), "/peer/messages.rs"));
    pub use self::ringraft::peer::v1::*;
}

/// What an operator asks of a cluster, as generated from `proto/cluster`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod cluster {
    include!(concat!(env!("OUT_DIR"), "/cluster/messages.rs"));
    pub use self::ringraft::cluster::v1::*;
}

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

/// The messages of the rsm dialect, as generated from `proto/rsm`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod rsm {
    include!(concat!(env!("OUT_DIR"), "/rsm/messages.rs"));
    pub use self::atomix::protocols::rsm::*;
}

/// The messages of gRPC's own services, as generated from `proto/grpc`. Reflection's `v1alpha` has
/// the octets of `v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod grpc_services {
    include!(concat!(env!("OUT_DIR"), "/grpc/messages.rs"));
}

pub use self::grpc_services::grpc::health::v1 as health;
pub use self::grpc_services::grpc::reflection::v1 as reflection;
pub use documented::atomix::multiraft as proto;
