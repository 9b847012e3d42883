//! `ringraft cluster init`: groups over nodes that run and have none.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::AGAIN;
use crate::cli::target::Target;
use crate::cli::{Exit, Failure};
use crate::client::Fault;
use crate::client::connection::{Method, Network};
use crate::config::Seat;
use crate::id::PartitionId;
use crate::shard::inbox::Contact;
use crate::shard::placement::Placement;
use crate::wire::proto::v1;

/// A node as it is typed: where its peers and its clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founder {
    pub(super) seat: Seat,
    api_port: u16,
}

impl Founder {
    /// Reads `ID=HOST:PEERPORT[/APIPORT]`.
    ///
    /// # Errors
    /// Says how to write it.
    pub fn parse(text: &str) -> Result<Founder, String> {
        let form = || "write it as 1=10.0.0.1:5679 or 1=10.0.0.1:5679/5678".to_owned();
        let (seat, api) = match text.split_once('/') {
            Some((seat, api)) => (seat, Some(api)),
            None => (text, None),
        };
        let seat = Seat::parse(seat).ok_or_else(form)?;
        let api_port = match api {
            Some(api) => api.parse().ok().filter(|port| *port > 0).ok_or_else(form)?,
            None => seat.address.port - 1,
        };
        Ok(Founder { seat, api_port })
    }

    /// Where its clients come in.
    pub(super) fn api(&self) -> String {
        let mut address = self.seat.address.clone();
        address.port = self.api_port;
        address.to_string()
    }
}

/// Founds them.
pub(super) async fn init(
    target: &Target,
    nodes: &[Founder],
    partitions: u32,
    replicas: u32,
) -> Result<Exit, Failure> {
    let mut ids: Vec<_> = nodes.iter().map(|founder| founder.seat.node).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Failure::new(Exit::Usage, "--nodes names one id twice"));
    }
    let contact = |founder: &Founder| {
        let Seat { node, address } = founder.seat.clone();
        Contact { node, host: address.host, port: address.port }
    };
    let placement =
        Placement::new(nodes.iter().map(contact).collect(), partitions, replicas as usize);
    let addresses: Vec<String> = nodes.iter().map(Founder::api).collect();
    let network = Network::of(&addresses);
    for id in placement.partitions() {
        for (at, founder) in nodes.iter().enumerate() {
            if placement.has(id, founder.seat.node) {
                let request = v1::BootstrapRequest { group: Some(group(&placement, id)) };
                let asked = founded(&network, at, &request, target.timeout).await;
                asked.map_err(|fault| refused(target, &addresses[at], id, fault))?;
            }
        }
    }
    let each = placement.members(PartitionId(1)).count();
    let json = json!({ "partitions": partitions, "replicas": each, "nodes": nodes.len() });
    let count = nodes.len();
    target.tell(
        &json,
        &format_args!("{partitions} partitions, {each} replicas each, on {count} nodes"),
    );
    Ok(Exit::Done)
}

fn group(placement: &Placement, id: PartitionId) -> v1::GroupConfig {
    let member = |contact: &Contact| v1::MemberConfig {
        node_id: contact.node.0,
        host: contact.host.clone(),
        port: contact.port.into(),
        role: v1::member_config::Role::Member.into(),
    };
    let members = placement.members(id).map(member).collect();
    v1::GroupConfig { group_id: id.0, members }
}

/// Asks until the node is there, within the time there is.
async fn founded(
    network: &Network,
    at: usize,
    request: &v1::BootstrapRequest,
    patience: Duration,
) -> Result<(), Fault> {
    let until = Instant::now() + patience;
    loop {
        let asked = timeout(patience, network.unary(at, &BOOTSTRAP, request)).await;
        match asked.unwrap_or(Err(Fault::Timeout)) {
            Ok(v1::BootstrapResponse {}) => return Ok(()),
            Err(fault) if fault.is_passing() && Instant::now() < until => sleep(AGAIN).await,
            Err(fault) => return Err(fault),
        }
    }
}

fn refused(target: &Target, address: &str, id: PartitionId, fault: Fault) -> Failure {
    let failure = target.failure(fault);
    Failure { what: format!("partition {id} on {address}: {}", failure.what), ..failure }
}

const BOOTSTRAP: Method<v1::BootstrapRequest, v1::BootstrapResponse> =
    Method::at("/atomix.multiraft.v1.Node/Bootstrap");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn founders_are_read_with_and_without_their_clients_port() {
        let founder = Founder::parse("2=db2.example:5679").expect("a founder");
        assert_eq!(founder.api(), "db2.example:5678");
        let founder = Founder::parse("2=[::1]:5679/80").expect("a founder");
        assert_eq!(founder.api(), "[::1]:80");
        for bad in ["db2:5679", "2=db2", "2=db2:5679/", "2=db2:5679/0", "0=db2:5679"] {
            assert!(Founder::parse(bad).is_err(), "{bad}");
        }
    }
}
