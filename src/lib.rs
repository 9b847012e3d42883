//! ringraft: a multi-raft storage node for Atomix primitives, durable before every acknowledgement.
//!
//! # The map
//!
//! ```text
//!             main · cli                            one function per subcommand
//!                │
//!    ┌───────────┼──────────────┐
//!  client      load          runtime ── frontend · peer · mesh    shell A: glommio, io_uring
//!    │           │              │                                 (feature "io")
//!    └─────┬─────┴──────┐       │            sim                  shell B: a seed (always built)
//!          │         workload   │             │
//!          │            │       ▼             ▼
//!          │            │   ┌──────── shard ────────┐             one core's worth, pure
//!          │            │   │  partition   journal  │             one group · bytes on disk, pure
//!          ▼            ▼   └───────────┬───────────┘
//!    wire · id · time · prng · limits · config                    leaves: formats, words, numbers
//! ```
//!
//! The client has a feature of its own, which `io` implies: what links it alone links neither
//! glommio nor io_uring.
//!
//! Arrows point at what may be named; `tests/tidy.rs` holds them. Production and simulation are two
//! shells around the same [`shard`] turn: facts in an inbox, effects in an outbox, nothing in
//! between that waits, reads a clock or touches a file.
//!
//! # The path of a command
//!
//! A connection's octets become a call (`wire::http2`), the call's ids are sliced out and its input
//! is put, undecoded, into the shard's inbox. The turn proposes all of a partition's commands as
//! one entry, seals one journal block for all partitions and one bundle for each peer. When the
//! block is durable, and a quorum has it, the entry is applied ([`partition`]) and the replies
//! leave in one write per connection.
//!
//! # Absent on purpose
//!
//! A trait for runtimes (the seam is inbox and outbox), a lock around shared state (there is none),
//! a retry of a failed sync (the process ends), and any way to acknowledge what is not durable.

pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
pub mod edge;
#[cfg(feature = "io")]
pub mod frontend;
pub mod id;
pub mod journal;
pub mod limits;
#[cfg(feature = "io")]
pub mod load;
#[cfg(feature = "io")]
pub mod mesh;
pub mod partition;
#[cfg(feature = "io")]
pub mod peer;
pub mod prng;
#[cfg(feature = "io")]
pub mod runtime;
pub mod shard;
pub mod sim;
pub mod time;
pub mod wire;
pub mod workload;
