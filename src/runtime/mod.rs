//! Shell A: executors, files, clocks.

pub mod checks;
