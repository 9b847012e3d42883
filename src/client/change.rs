//! What is stored and how it changes, in one form for all primitives that store something.

use bytes::Bytes;

/// A value and its version: the index of the command that wrote it, which only grows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The version.
    pub version: u64,
}

/// What a write did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The version of what is there now.
    pub version: u64,
    /// What was there before, if something was.
    pub prev: Option<Versioned>,
}

/// How something that is stored changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<T> {
    /// It is new.
    Inserted(T),
    /// It was there already.
    Updated {
        /// What it is.
        value: T,
        /// What it was.
        prev: T,
    },
    /// It is gone.
    Removed {
        /// What it was.
        value: T,
        /// Whether its time to live was over.
        expired: bool,
    },
}

/// A change of the entry at `key`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<T> {
    /// The entry's key.
    pub key: String,
    /// What happened.
    pub change: Change<T>,
}

/// An entry; without a value when a watch tells that it is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry<T> {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Option<T>,
}
