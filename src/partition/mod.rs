//! One replicated group, pure: facts in, one settlement out.
//!
//! A partition touched in a turn settles exactly once, after its last fact; it says nothing before.

pub mod entry;
pub mod machine;
pub mod reply;
pub mod schedule;
pub mod snapshot;
