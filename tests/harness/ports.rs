//! Addresses for nodes that are told where to listen, because they come back there or because
//! others are told before they run.
//!
//! The system chooses ports at random among those that are free now, so it may name one again
//! that was let go a moment ago and is meant for another node: no address is given out twice, and
//! a node's is of an IP where nobody else of a suite asks the system for a port.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;

static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());

/// An address for the node of this number, 1 to 254, that nobody has and nobody else got here.
pub fn free(node: u32) -> String {
    spaced(&format!("127.0.4.{node}"), &[0]).to_string()
}

/// An address with this IP such that the ports so much above its own are free.
#[allow(dead_code)]
pub fn spaced(ip: &str, above: &[u16]) -> SocketAddr {
    let mut given = GIVEN.lock().expect("no panic");
    for _ in 0..1000 {
        let chosen = TcpListener::bind((ip, 0)).and_then(|socket| socket.local_addr());
        let first = chosen.expect("a port of this host");
        let all: Option<Vec<SocketAddr>> = above.iter().map(|more| higher(first, *more)).collect();
        let all = all.filter(|all| all.iter().all(|address| !given.contains(address)));
        if let Some(all) = all.filter(|all| all.iter().all(|it| TcpListener::bind(it).is_ok())) {
            given.extend(all);
            return first;
        }
    }
    panic!("no port of {ip} is free")
}

fn higher(address: SocketAddr, more: u16) -> Option<SocketAddr> {
    Some(SocketAddr::new(address.ip(), address.port().checked_add(more)?))
}
