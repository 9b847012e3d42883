//! ringraft: a multi-raft storage node for Atomix primitives.

pub mod id;
pub mod journal;
pub mod limits;
pub mod time;
pub mod prng;
pub mod wire;
#[cfg(feature = "io")]
pub mod runtime;
