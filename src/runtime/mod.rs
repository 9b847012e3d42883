//! Shell A: the only place with executors, files and clocks.

pub mod directory;
pub mod disk;
pub mod fatal;
mod prepare;
mod ring;
