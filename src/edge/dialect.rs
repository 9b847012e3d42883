//! The few places where dialects of the wire protocol differ, as one table.
//!
//! A listener speaks one of the first two, and rsm besides, whose paths are others. Nothing below
//! the edge knows of it, so what is written through one is read through another (wire.md,
//! Dialects). Absent on purpose: which methods there are, which is the table of `method.rs`.

use crate::edge::method::Operation;
use crate::id::Kind;
use crate::partition::primitive;
use crate::partition::reply::Status;
use crate::wire::grpc::Status as Code;

/// A generation of the wire protocol.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Dialect {
    /// The seed documents, exactly.
    #[default]
    Documented,
    /// Api v0.5.0 to v0.6.4: the Go driver and node of autumn 2022.
    Released,
    /// `atomix.protocols.rsm`: the drivers of Atomix 1.x, of 2023.
    Rsm,
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
            Dialect::Released | Dialect::Rsm => released,
        }
    }

    /// The field of `QueryRequestHeaders` that holds `max_received_index`. The later dialects have
    /// the query's sequence number in field 2.
    #[must_use]
    pub const fn max_received_index_field(self) -> u32 {
        match self {
            Dialect::Documented => 2,
            Dialect::Released | Dialect::Rsm => 3,
        }
    }

    /// Whether queries have sequence numbers, by which keep-alives end them (core.md 3.3).
    #[must_use]
    pub const fn numbers_queries(self) -> bool {
        matches!(self, Dialect::Released | Dialect::Rsm)
    }

    /// Whether `Partition.Watch` is part of it.
    #[must_use]
    pub const fn watches_partitions(self) -> bool {
        matches!(self, Dialect::Documented)
    }

    /// Whether `Events` streams begin with an event that tells of nothing, by which a client knows
    /// that it is registered.
    #[must_use]
    pub const fn opens_events(self) -> bool {
        matches!(self, Dialect::Rsm)
    }

    /// How a call ends whose partition is not here.
    #[must_use]
    pub const fn unknown_partition(self) -> Code {
        match self {
            Dialect::Documented | Dialect::Released => Code::PermissionDenied,
            Dialect::Rsm => Code::Unavailable,
        }
    }

    /// How a call ends whose session is not there.
    #[must_use]
    pub const fn unknown_session(self) -> Code {
        match self {
            Dialect::Documented | Dialect::Released => Code::PermissionDenied,
            Dialect::Rsm => Code::DataLoss,
        }
    }

    /// What the output of `operation` says of whether anything changed, when the dialect says so
    /// in an output instead of a status: field 1 of what Add and Remove of a set give.
    #[inline]
    #[must_use]
    pub fn changed(self, operation: Operation, status: Status) -> Option<bool> {
        if self != Dialect::Rsm || operation.kind != Kind::Set {
            return None;
        }
        match (operation.tag, status) {
            (SET_ADD | SET_REMOVE, Status::Ok) => Some(true),
            (SET_ADD, Status::AlreadyExists) | (SET_REMOVE, Status::NotFound) => Some(false),
            _ => None,
        }
    }
}

/// Members of `SetInput`.
const SET_ADD: u8 = 3;
const SET_REMOVE: u8 = 4;

/// `PrimitiveSpec.service` for what rsm calls `name` of `version`, so that one primitive is the
/// same in all dialects. Empty, which names no type, for a type that there is not; of one that
/// there is in another version, what the state machine knows as that
/// (`primitive::other_version`).
#[must_use]
pub fn service_of(name: &str, version: &str) -> String {
    match Kind::ALL.into_iter().find(|kind| kind.name() == name) {
        Some(kind) if version == "v1" => primitive::service_of(kind),
        Some(_) => format!("{name}/{version}"),
        None => String::new(),
    }
}
