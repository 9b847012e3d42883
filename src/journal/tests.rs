//! The writer against recovery, without crashes; those are in `tests/crash.rs`.
use super::*;
