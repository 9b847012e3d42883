//! Named mixes of commands and what they should return, for the simulator and the load tool alike.
//!
//! `op.rs` is an operation as a value and its bytes; `answer.rs` what comes back; `mix.rs` the
//! named mixes; `model.rs` says, one key at a time, which answers are right. Nothing here knows how
//! a request travels, sessions and retries least of all. Absent on purpose: clocks and sockets.

pub mod answer;
pub mod mix;
pub mod model;
pub mod op;

pub use answer::{Answer, Held, Outcome, Term};
pub use mix::Mix;
pub use op::Op;
