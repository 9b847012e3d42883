//! Whole state out and in, versioned, in slices.

/// How far a snapshot has been written.
#[derive(Clone, Default, Debug)]
pub struct Cursor {}

/// Whether a snapshot goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Call again.
    More,
    /// It is complete.
    Done,
}

/// Why bytes are not a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The bytes say nothing, or end too early.
    Malformed(&'static str),
}
