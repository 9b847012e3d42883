//! ringraft: a multi-raft storage node for Atomix primitives.

#[cfg(feature = "io")]
pub mod client;
pub mod config;
pub mod id;
pub mod limits;
pub mod partition;
pub mod prng;
pub mod shard;
pub mod time;
pub mod wire;
