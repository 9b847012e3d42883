//! Health as gRPC specifies it: requests to responses, for Check, List and Watch. Pure.
//!
//! All services have the state of the node, which is named by the empty service: a node has one
//! door. It serves once all of its shards have read their journals, and no longer from the moment
//! it is told to stop. A partition that is damaged or without a leader is no matter of the node's:
//! the others serve, and taking the whole node out of a balancer would take them along. Absent on
//! purpose: who watches (`frontend/`), and health of single partitions (`Partition.Watch`).
//!
//! The port opens when the shards have read their journals, so a probe of a node that loads is
//! refused its connection. The state is here all the same: the answer does not hang on that order.

use prost::Message;

use crate::edge::method::SERVICES;
use crate::partition::reply::Refusal;
use crate::wire::health::health_check_response::ServingStatus;
use crate::wire::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};

/// How far a node's life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Some shard has not read its journal.
    Loading,
    /// It serves.
    Serving,
    /// It was told to stop.
    Draining,
}

/// What a watch is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watched {
    /// A service that is served, or the node: its watcher hears of every change.
    Served,
    /// A name that nothing here has. Its watcher hears so, and then waits for ever.
    Stranger,
}

/// Answers a Check.
pub fn check(message: &[u8], standing: Standing, into: &mut Vec<u8>) -> Result<(), Refusal> {
    match watched(message)? {
        Watched::Served => put(status(standing), into),
        Watched::Stranger => return Err(Refusal::NotFound("unknown service".to_owned())),
    }
    Ok(())
}

/// Answers a List.
pub fn list(standing: Standing, into: &mut Vec<u8>) {
    let response = HealthCheckResponse { status: status(standing).into() };
    let names = SERVICES.iter().map(|service| service.name).chain([NODE]);
    let statuses = names.map(|name| (name.to_owned(), response)).collect();
    let list = HealthListResponse { statuses };
    list.encode(into).expect("a vector takes any number of bytes");
}

/// Begins a Watch: the first message, and of what it is.
pub fn watch(message: &[u8], standing: Standing, into: &mut Vec<u8>) -> Result<Watched, Refusal> {
    let watched = watched(message)?;
    match watched {
        Watched::Served => put(status(standing), into),
        Watched::Stranger => put(ServingStatus::ServiceUnknown, into),
    }
    Ok(watched)
}

/// The message for who watches what is served, after a change.
pub fn changed(standing: Standing, into: &mut Vec<u8>) {
    put(status(standing), into);
}

/// The name of the node as a whole.
const NODE: &str = "";

fn watched(message: &[u8]) -> Result<Watched, Refusal> {
    let request = HealthCheckRequest::decode(message)
        .map_err(|error| Refusal::Malformed(format!("malformed request: {error}")))?;
    let name = request.service.as_str();
    let is_served = name == NODE || SERVICES.iter().any(|service| service.name == name);
    Ok(if is_served { Watched::Served } else { Watched::Stranger })
}

fn status(standing: Standing) -> ServingStatus {
    match standing {
        Standing::Serving => ServingStatus::Serving,
        Standing::Loading | Standing::Draining => ServingStatus::NotServing,
    }
}

fn put(status: ServingStatus, into: &mut Vec<u8>) {
    let response = HealthCheckResponse { status: status.into() };
    response.encode(into).expect("a vector takes any number of bytes");
}

// The specification bounds a list at 100 services.
const _: () = assert!(SERVICES.len() < 100);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STANDINGS: [(Standing, ServingStatus); 3] = [
        (Standing::Loading, ServingStatus::NotServing),
        (Standing::Serving, ServingStatus::Serving),
        (Standing::Draining, ServingStatus::NotServing),
    ];

    fn of(service: &str) -> Vec<u8> {
        HealthCheckRequest { service: service.to_owned() }.encode_to_vec()
    }

    #[test]
    fn what_is_served_stands_as_the_node_does() {
        for (standing, expected) in STANDINGS {
            for name in SERVICES.iter().map(|service| service.name).chain([""]) {
                let (mut checked, mut heard) = (Vec::new(), Vec::new());
                check(&of(name), standing, &mut checked).unwrap();
                assert_eq!(watch(&of(name), standing, &mut heard), Ok(Watched::Served));
                for bytes in [&checked, &heard] {
                    let response = HealthCheckResponse::decode(&bytes[..]).unwrap();
                    assert_eq!(response.status(), expected, "{name}");
                }
            }
            let mut listed = Vec::new();
            list(standing, &mut listed);
            let listed = HealthListResponse::decode(&listed[..]).unwrap().statuses;
            assert_eq!(listed.len(), SERVICES.len() + 1);
            assert!(listed.values().all(|response| response.status() == expected));
        }
    }

    #[test]
    fn a_stranger_is_not_found_and_may_be_waited_for() {
        for name in ["atomix.multiraft.counter.v1", "counter", " ", "grpc.health.v1.Health/Check"] {
            let mut bytes = Vec::new();
            let refused = check(&of(name), Standing::Serving, &mut bytes);
            assert_eq!(refused, Err(Refusal::NotFound("unknown service".to_owned())));
            assert!(bytes.is_empty(), "a refusal writes nothing");
            let heard = watch(&of(name), Standing::Serving, &mut bytes);
            assert_eq!(heard, Ok(Watched::Stranger));
            let response = HealthCheckResponse::decode(&bytes[..]).unwrap();
            assert_eq!(response.status(), ServingStatus::ServiceUnknown);
        }
    }

    #[test]
    fn a_request_that_is_none_is_refused() {
        let mut bytes = Vec::new();
        for bad in [&b"\x0a\x05abc"[..], b"\x0a\x01\xff", b"\xff"] {
            let refused = check(bad, Standing::Serving, &mut bytes);
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{bad:?}");
            let refused = watch(bad, Standing::Serving, &mut bytes);
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{bad:?}");
        }
        assert!(bytes.is_empty());
    }
}
