//! `ringraft cluster`: found groups over several nodes, and see how they are.
//!
//! These commands speak the documented dialect, which every node understands on its first listener
//! unless it was told otherwise.

pub mod look;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::target::{Stop, Target, duration};
use super::{Exit, Failure, say};
use crate::client::Fault;
use crate::client::connection::{Method, Network};
use crate::config::Seat;
use crate::id::PartitionId;
use crate::limits;
use crate::shard::inbox::Contact;
use crate::shard::placement::Placement;
use crate::wire::proto::v1;
use crate::wire::proto::v1::event::Event as What;

/// What is typed.
#[derive(Args)]
pub struct Flags {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
enum Command {
    /// Found partitions over nodes that run and have none (`ringraft serve --partitions 0`).
    ///
    /// Replicas and first leaders are spread evenly. Doing it again changes nothing. Nodes whose
    /// configuration names the cluster's nodes need no init: they found their share by themselves.
    #[command(after_help = "Example:\n  ringraft cluster init --nodes \
        1=127.0.0.1:5679,2=127.0.0.2:5679,3=127.0.0.3:5679 --partitions 8 --replicas 3")]
    Init {
        /// The nodes: id, host and peer port, and the port of clients, by default the one below.
        #[arg(
            long,
            value_name = "ID=HOST:PEERPORT[/APIPORT]",
            value_delimiter = ',',
            required = true
        )]
        #[arg(value_parser = Founder::parse)]
        nodes: Vec<Founder>,
        /// How many partitions, with ids from 1.
        #[arg(long, value_name = "N", default_value_t = 8)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=limits::PARTITIONS_MAX as i64))]
        partitions: u32,
        /// Replicas of each, as far as there are nodes.
        #[arg(long, value_name = "N", default_value_t = 3)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=limits::REPLICAS_MAX as i64))]
        replicas: u32,
    },
    /// Show nodes and partitions; exit status 8 when a partition does not work.
    ///
    /// One node's address is enough: it knows the others of its groups.
    #[command(after_help = "Example:\n  ringraft cluster status --watch")]
    Status {
        /// Show it again and again until interrupted.
        #[arg(long)]
        watch: bool,
        /// How long between two looks.
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
        every: Duration,
    },
    /// Print what happens on the nodes, a line an event, until interrupted.
    #[command(after_help = "Example:\n  ringraft cluster watch")]
    Watch,
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let target = &flags.target;
    target.block_on(async {
        match &flags.command {
            Command::Init { nodes, partitions, replicas } => {
                init(target, nodes, *partitions, *replicas).await
            }
            Command::Status { watch: false, .. } => status(target).await,
            Command::Status { watch: true, every } => status_live(target, *every).await,
            Command::Watch => watch(target).await,
        }
    })
}

/// A node that is to found groups.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Founder {
    seat: Seat,
    api_port: u16,
}

impl Founder {
    fn parse(text: &str) -> Result<Founder, String> {
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

    fn api(&self) -> String {
        let mut address = self.seat.address.clone();
        address.port = self.api_port;
        address.to_string()
    }
}

async fn init(
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

async fn status(target: &Target) -> Result<Exit, Failure> {
    let view = look::look(&target.endpoint, target.timeout).await;
    if view.is_silent()
        && let Some(Err(fault)) = view.nodes.values().next()
    {
        return Err(target.failure(fault.clone()));
    }
    Ok(show(target, &view))
}

fn show(target: &Target, view: &look::View) -> Exit {
    let lines = view.lines();
    if target.json {
        lines.iter().for_each(|line| say(&line.json()));
    } else {
        say(&view.table().trim_end());
    }
    if lines.iter().all(look::Line::works) { Exit::Done } else { Exit::No }
}

async fn status_live(target: &Target, every: Duration) -> Result<Exit, Failure> {
    let mut stop = Stop::catch()?;
    loop {
        let view = tokio::select! {
            view = look::look(&target.endpoint, target.timeout.min(every * 2)) => view,
            _ = stop.next() => return Ok(Exit::Done),
        };
        clear(target);
        show(target, &view);
        tokio::select! {
            () = sleep(every) => {}
            _ = stop.next() => return Ok(Exit::Done),
        }
    }
}

/// A terminal shows the newest alone; a pipe gets all of them.
fn clear(target: &Target) {
    if !target.json && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        say(&"\x1b[H\x1b[2J\x1b[3J");
    }
}

async fn watch(target: &Target) -> Result<Exit, Failure> {
    let mut stop = Stop::catch()?;
    let view = look::look(&target.endpoint, target.timeout).await;
    let (sender, mut events) = mpsc::channel(64);
    for (address, _) in view.nodes {
        tokio::spawn(follow(address, sender.clone()));
    }
    loop {
        tokio::select! {
            Some((address, event)) = events.recv() => tell(target, &address, event),
            _ = stop.next() => return Ok(Exit::Done),
        }
    }
}

type News = (String, Result<v1::Event, Fault>);

/// Listens to one node, and again when it comes back.
async fn follow(address: String, news: mpsc::Sender<News>) {
    let network = Network::of(std::slice::from_ref(&address));
    let mut down = false;
    loop {
        let opened = network.stream(0, &look::NODE_WATCH, &v1::WatchRequest {}).await;
        let ended = match opened {
            Ok(mut events) => loop {
                match events.next().await {
                    Ok(Some(event)) => {
                        down = false;
                        if news.send((address.clone(), Ok(event))).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break Fault::Closed,
                    Err(fault) => break fault,
                }
            },
            Err(fault) => fault,
        };
        // Told once, however often it is dialled.
        if !std::mem::replace(&mut down, true)
            && news.send((address.clone(), Err(ended))).await.is_err()
        {
            return;
        }
        sleep(AGAIN).await;
    }
}

fn tell(target: &Target, address: &str, event: Result<v1::Event, Fault>) {
    match event {
        Ok(event) => {
            let Some(what) = &event.event else { return };
            let text = words(what);
            let at =
                event.timestamp.map(|at| format!("{}.{:03}", at.seconds, at.nanos / 1_000_000));
            let at = at.unwrap_or_default();
            let json = json!({ "node": address, "at": at, "event": text });
            target.tell(&json, &format_args!("{at:<15}{address:<22}{text}"));
        }
        Err(fault) => {
            let json = json!({ "node": address, "lost": fault.to_string() });
            target.tell(&json, &format_args!("{:<15}{address:<22}lost: {fault}", ""));
        }
    }
}

fn words(what: &What) -> String {
    match what {
        What::MemberReady(e) => format!("partition {} is here, on node {}", e.group_id, e.node_id),
        What::LeaderUpdated(e) if e.leader == 0 => {
            format!("partition {} has no leader in term {}", e.group_id, e.term)
        }
        What::LeaderUpdated(e) => {
            format!("partition {} is led by node {} in term {}", e.group_id, e.leader, e.term)
        }
        What::MembershipChanged(e) => {
            format!("partition {} has a change about node {}", e.group_id, e.node_id)
        }
        What::SendSnapshotStarted(e) => {
            format!("partition {} sends node {} a snapshot at {}", e.group_id, e.to, e.index)
        }
        What::SendSnapshotCompleted(e) => {
            format!("partition {} has sent node {} its snapshot at {}", e.group_id, e.to, e.index)
        }
        What::SendSnapshotAborted(e) => {
            format!("partition {} gave up a snapshot for node {} at {}", e.group_id, e.to, e.index)
        }
        What::SnapshotReceived(e) => {
            format!("partition {} got a snapshot at {} from node {}", e.group_id, e.index, e.from)
        }
        What::SnapshotRecovered(e) => {
            format!("partition {} continues from a snapshot at {}", e.group_id, e.index)
        }
        What::SnapshotCreated(e) => {
            format!("partition {} took a snapshot at {}", e.group_id, e.index)
        }
        What::SnapshotCompacted(e) => {
            format!("partition {} dropped snapshots before {}", e.group_id, e.index)
        }
        What::LogCompacted(e) => format!("partition {} cut its log up to {}", e.group_id, e.index),
        What::LogdbCompacted(e) => {
            format!("partition {} cut its journal up to {}", e.group_id, e.index)
        }
        What::ConnectionEstablished(e) => format!("linked to {}", place(e.info.as_ref())),
        What::ConnectionFailed(e) => format!("no link to {}", place(e.info.as_ref())),
    }
}

fn place(info: Option<&v1::ConnectionInfo>) -> String {
    let Some(info) = info else { return "a peer".to_owned() };
    if info.snapshot { format!("{} for a snapshot", info.address) } else { info.address.clone() }
}

const BOOTSTRAP: Method<v1::BootstrapRequest, v1::BootstrapResponse> =
    Method::at("/atomix.multiraft.v1.Node/Bootstrap");

/// Before asking again.
const AGAIN: Duration = Duration::from_millis(200);

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
