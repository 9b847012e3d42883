//! Addresses as operators type them. Absent on purpose: looking names up, which is the shell's.

use std::fmt;

use super::Dialect;
use crate::id::NodeId;

/// A host and a port, as typed: `127.0.0.1:5678`, `[::1]:5678`, `db1.example:5678`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, an IPv4 address, or an IPv6 address without brackets; empty is all interfaces.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
}

/// Where clients come in besides, and what they speak there: `released=127.0.0.1:5680`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What they speak.
    pub dialect: Dialect,
    /// Where they come in.
    pub address: Address,
}

/// One of the nodes that found a cluster, and where its peers reach it: `1=10.0.0.1:5679`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Which.
    pub node: NodeId,
    /// Its peer address, as the other nodes reach it; the port is not 0.
    pub address: Address,
}

impl Address {
    /// Reads `HOST:PORT`, an IPv6 host in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let plain = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        (plain && digits).then_some(())?;
        Some(Address { host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Listener {
    /// Reads `DIALECT=HOST:PORT`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Listener> {
        let (dialect, address) = text.split_once('=')?;
        let (dialect, address) = (Dialect::parse(dialect)?, Address::parse(address)?);
        Some(Listener { dialect, address })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.dialect.name(), self.address)
    }
}

impl Seat {
    /// Reads `ID=HOST:PORT`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Seat> {
        let (node, address) = text.trim().split_once('=')?;
        let (node, address) = (node.parse().ok()?, Address::parse(address)?);
        (node > 0 && address.port > 0).then_some(Seat { node: NodeId(node), address })
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.node, self.address)
    }
}
