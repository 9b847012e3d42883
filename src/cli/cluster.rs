//! `ringraft cluster`: found groups over several nodes, see how they are, and change who belongs to
//! them and who leads them.
//!
//! These commands speak the documented dialect, which every node understands on its first listener
//! unless it was told otherwise, and the Cluster service, which every listener has.

mod balance;
mod change;
mod follow;
mod init;
pub mod look;
mod table;

use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::time::sleep;

use super::target::{Flags, Stop, Target, duration};
use super::{Exit, Failure, say};
use crate::limits;
use change::Wanted;
use init::Founder;

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
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
    /// One node's address is enough: it knows the others of its groups. LAG is how many entries of
    /// the leader's log each member lacks, in the order of MEMBERS.
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
    /// Have a node that runs join partitions, and wait until it has caught up.
    ///
    /// What is so already stays so: a call that was cut off can be made again. As long as the node
    /// gets on, it is waited for; --timeout is how long it may stand still.
    #[command(after_help = "Example:\n  ringraft cluster add 4=10.0.0.4:5679")]
    Add {
        /// The node: id, host and peer port, and the port of clients, by default the one below; the
        /// id alone when it belongs to another partition.
        #[arg(value_name = "NODE", value_parser = Wanted::parse)]
        node: Wanted,
        /// Its part: member, observer or witness.
        #[arg(long, default_value = "member", value_parser = change::role, value_name = "ROLE")]
        role: crate::wire::proto::v1::member_config::Role,
        #[command(flatten)]
        which: Which,
    },
    /// Remove a node from partitions, whether or not it runs, and delete its data of them if it
    /// does.
    ///
    /// Refused when a partition could not bear the loss of another node afterwards and can now;
    /// --force does it all the same. Never done when too few of those who stay are up: the
    /// partition would stand still.
    #[command(after_help = "Example:\n  ringraft cluster remove 3")]
    Remove {
        /// The node's id.
        #[arg(value_name = "NODE", value_parser = clap::value_parser!(u32).range(1..))]
        node: u32,
        /// Even if the partition cannot bear the loss of another node afterwards.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Have one node take the place of another, which may be lost.
    ///
    /// In each partition the new one joins and catches up before the old one is removed. What is
    /// done stays done: a call that was cut off can be made again.
    #[command(after_help = "Example:\n  ringraft cluster replace 3 4=10.0.0.4:5679")]
    Replace {
        /// The id of the node that goes.
        #[arg(value_name = "OLD", value_parser = clap::value_parser!(u32).range(1..))]
        old: u32,
        /// The node that comes, as in `add`.
        #[arg(value_name = "NEW", value_parser = Wanted::parse)]
        new: Wanted,
        #[command(flatten)]
        which: Which,
    },
    /// Have a node lead a partition, and wait until it does.
    #[command(after_help = "Example:\n  ringraft cluster move-leader 1 3")]
    MoveLeader {
        /// The partition's id.
        #[arg(value_name = "PARTITION", value_parser = clap::value_parser!(u32).range(1..))]
        partition: u32,
        /// The node's id.
        #[arg(value_name = "NODE", value_parser = clap::value_parser!(u32).range(1..))]
        node: u32,
    },
    /// Spread the leaders evenly over the nodes, with as few moves as that takes.
    #[command(after_help = "Example:\n  ringraft cluster balance --dry-run")]
    Balance {
        /// Only print what would be moved.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        which: Which,
    },
}

/// Which partitions are meant.
#[derive(Args, Debug, Clone, Default)]
pub(super) struct Which {
    /// Only these partitions, by id, separated by commas; else all.
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    partition: Vec<u32>,
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub(super) fn run(flags: &Flags<Command>) -> Result<Exit, Failure> {
    let target = &flags.target;
    target.block_on(async {
        match &flags.command {
            Command::Init { nodes, partitions, replicas } => {
                init::init(target, nodes, *partitions, *replicas).await
            }
            Command::Status { watch: false, .. } => status(target).await,
            Command::Status { watch: true, every } => status_live(target, *every).await,
            Command::Watch => follow::watch(target).await,
            Command::Add { node, role, which } => change::add(target, node, *role, which).await,
            Command::Remove { node, force, which } => {
                change::remove(target, *node, *force, which).await
            }
            Command::Replace { old, new, which } => change::replace(target, *old, new, which).await,
            Command::MoveLeader { partition, node } => {
                balance::move_leader(target, *partition, *node).await
            }
            Command::Balance { dry_run, which } => balance::balance(target, *dry_run, which).await,
        }
    })
}

async fn status(target: &Target) -> Result<Exit, Failure> {
    Ok(show(target, &seen(target, &[]).await?))
}

/// The cluster as it is; `more` addresses are asked besides.
async fn seen(target: &Target, more: &[String]) -> Result<look::View, Failure> {
    let mut endpoints = target.endpoint.clone();
    endpoints.extend_from_slice(more);
    let view = look::look(&endpoints, target.timeout).await;
    match view.nodes.values().next() {
        Some(Err(fault)) if view.is_silent() => Err(target.failure(fault.clone())),
        _ => Ok(view),
    }
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

/// Before asking again.
const AGAIN: Duration = Duration::from_millis(200);
