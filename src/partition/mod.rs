//! One replicated group, pure: facts in, one settlement out.
//!
//! A partition touched in a turn settles exactly once, after its last fact; it says nothing before.

mod command;
pub mod entry;
pub mod finished;
pub mod kept;
pub mod ledger;
pub mod machine;
pub mod primitive;
mod query;
pub mod reply;
#[cfg(test)]
mod rig;
pub mod schedule;
pub mod session;
pub mod snapshot;
pub mod watch;
