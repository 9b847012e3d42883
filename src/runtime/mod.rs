//! Shell A: the only place with executors, files and clocks.

pub mod clock;
pub mod place;
pub mod pump;
pub mod tcp;
