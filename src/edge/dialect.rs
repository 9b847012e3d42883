//! The few places where dialects of the wire protocol differ, as one table.
//!
//! A listener has one dialect; nothing below the edge knows of it, so what is written through one
//! is read through another (wire.md, Dialects). Absent on purpose: rsm, whose paths are others and
//! which is a table of methods more.

use crate::partition::reply::Status;

/// A generation of the wire protocol.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Dialect {
    /// The seed documents, exactly.
    #[default]
    Documented,
    /// Api v0.5.0 to v0.6.4: the Go driver and node of autumn 2022.
    Released,
}

impl Dialect {
    /// The number of `status` in `OperationResponseHeaders`.
    #[must_use]
    pub const fn status(self, status: Status) -> u64 {
        let (documented, released) = match status {
            Status::Ok => (1, 0),
            Status::Error => (2, 1),
            Status::Unknown => (0, 2),
            Status::Canceled => (3, 3),
            Status::NotFound => (4, 4),
            Status::AlreadyExists => (5, 5),
            Status::Unauthorized => (6, 6),
            Status::Forbidden => (7, 7),
            Status::Conflict => (8, 8),
            Status::Invalid => (9, 9),
            Status::Unavailable => (10, 10),
            Status::NotSupported => (11, 11),
            Status::Timeout => (12, 12),
            Status::Internal => (13, 13),
            Status::Fault => (14, 14),
        };
        match self {
            Dialect::Documented => documented,
            Dialect::Released => released,
        }
    }

    /// The field of `QueryRequestHeaders` that holds `max_received_index`. The released dialect has
    /// the query's sequence number in field 2.
    #[must_use]
    pub const fn max_received_index_field(self) -> u32 {
        match self {
            Dialect::Documented => 2,
            Dialect::Released => 3,
        }
    }

    /// Whether queries have sequence numbers, by which keep-alives end them (core.md 3.3).
    #[must_use]
    pub const fn numbers_queries(self) -> bool {
        matches!(self, Dialect::Released)
    }

    /// Whether `Partition.Watch` is part of it.
    #[must_use]
    pub const fn watches_partitions(self) -> bool {
        matches!(self, Dialect::Documented)
    }
}
