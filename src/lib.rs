//! ringraft: a multi-raft storage node for Atomix primitives.

pub mod cli;
#[cfg(feature = "io")]
pub mod client;
pub mod config;
#[cfg(feature = "io")]
pub mod frontend;
pub mod id;
pub mod journal;
pub mod limits;
#[cfg(feature = "io")]
pub mod mesh;
pub mod partition;
pub mod prng;
#[cfg(feature = "io")]
pub mod runtime;
pub mod shard;
pub mod sim;
pub mod time;
pub mod wire;
pub mod workload;
