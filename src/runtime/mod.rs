//! Shell A: the only place with executors, files and clocks.

pub mod clock;
pub mod tcp;
