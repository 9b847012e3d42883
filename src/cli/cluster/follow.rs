//! `ringraft cluster watch`: what happens on all nodes, a line an event.

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{AGAIN, look};
use crate::cli::target::{Stop, Target};
use crate::cli::{Exit, Failure};
use crate::client::Fault;
use crate::client::connection::Network;
use crate::wire::proto::v1;
use crate::wire::proto::v1::event::Event as What;

/// Prints it until interrupted.
pub(super) async fn watch(target: &Target) -> Result<Exit, Failure> {
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
