//! In whose words the generator speaks: which path a call has, its bytes, and what an answer says.
//!
//! One enum instead of a trait: the choice is made once a call, and both sides are plain functions
//! over bytes.

use super::ask::{Ask, Refusal, Reply};
use super::atomix::{self, Envelope};
use crate::config::Dialect;
use crate::wire::grpc::Status;

/// A protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speech {
    /// Atomix, in one of its dialects.
    Atomix(Dialect),
}

impl Speech {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Speech::Atomix(Dialect::Documented) => "ringraft",
            Speech::Atomix(Dialect::Released) => "atomix",
        }
    }

    /// Every path that is used, in the order of `path`.
    #[must_use]
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Speech::Atomix(_) => &atomix::PATHS,
        }
    }

    /// The place of a call's path.
    #[inline]
    #[must_use]
    pub fn path(self, ask: &Ask) -> usize {
        match self {
            Speech::Atomix(_) => atomix::path(ask),
        }
    }

    /// Whether a call has a number in its session.
    #[inline]
    #[must_use]
    pub fn numbers(self, ask: &Ask) -> bool {
        match self {
            Speech::Atomix(Dialect::Documented) => ask.is_command(),
            Speech::Atomix(Dialect::Released) => {
                !matches!(ask, Ask::Open | Ask::KeepAlive | Ask::Close)
            }
        }
    }

    /// Appends the request.
    #[inline]
    pub fn put(self, ask: &Ask, envelope: &Envelope<'_>, into: &mut Vec<u8>) {
        match self {
            Speech::Atomix(dialect) => atomix::put(dialect, ask, envelope, into),
        }
    }

    /// What an answer says; `index` is raised to the index it names.
    ///
    /// # Errors
    /// Why it is not what was asked for.
    #[inline]
    pub fn read(self, ask: &Ask, message: &[u8], index: &mut u64) -> Result<Reply, Refusal> {
        match self {
            Speech::Atomix(dialect) => atomix::read(dialect, ask, message, index),
        }
    }

    /// What a status of gRPC means here.
    #[must_use]
    pub fn ended(self, status: Status, text: &str) -> Refusal {
        match self {
            Speech::Atomix(_) => atomix::ended(status, text),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::arrival::Pace;
    use super::super::keys::Distribution;
    use super::super::plan::{Plan, Workload};
    use super::*;
    use std::time::Duration;

    /// A plan to vary.
    pub fn plan(workload: Workload) -> Plan {
        Plan {
            workload,
            speech: Speech::Atomix(Dialect::Documented),
            addresses: Vec::new(),
            partitions: vec![1],
            connections: 1,
            threads: 1,
            pace: Pace::Closed { in_flight: 1 },
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            value_bytes: 100,
            keys: 10,
            distribution: Distribution::Uniform,
            seed: 1,
            patience: Duration::from_secs(1),
            session_timeout: Duration::from_secs(10),
            is_checked: true,
            name: "test".to_owned(),
            lanes: Vec::new(),
            things: Vec::new(),
        }
    }
}
