//! ringraft: a multi-raft storage node for Atomix primitives.

pub mod id;
pub mod journal;
pub mod limits;
pub mod partition;
pub mod prng;
#[cfg(feature = "io")]
pub mod runtime;
pub mod shard;
pub mod sim;
pub mod time;
pub mod wire;
pub mod workload;
