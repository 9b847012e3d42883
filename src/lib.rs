//! ringraft: a multi-raft storage node for Atomix primitives.

pub mod id;
pub mod time;
pub mod prng;
pub mod wire;
