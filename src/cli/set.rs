//! `ringraft set`: read, change and watch a set.

use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::show::{Told, shown};
use super::target::{Flags, lifetime};
use super::{Exit, Failure};
use crate::client::set::Member;

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Add an element; exit status 8 if it is there.
    #[command(after_help = "Example:\n  ringraft set add present ann --ttl 30s")]
    Add {
        /// The set.
        name: String,
        /// The element.
        element: String,
        /// How long it stays, as 10s or 5m; for ever without.
        #[arg(long, value_parser = lifetime, value_name = "TIME")]
        ttl: Option<Duration>,
    },
    /// Remove an element; exit status 8 if it is not there.
    #[command(visible_alias = "del")]
    #[command(after_help = "Example:\n  ringraft set remove present ann")]
    Remove {
        /// The set.
        name: String,
        /// The element.
        element: String,
    },
    /// Print whether it has an element; exit status 8 if not.
    #[command(after_help = "Example:\n  ringraft set contains present ann")]
    Contains {
        /// The set.
        name: String,
        /// The element.
        element: String,
    },
    /// Print all elements, sorted.
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  ringraft set list present")]
    List {
        /// The set.
        name: String,
    },
    /// Print all elements and then each that is added, until interrupted.
    #[command(after_help = "Example:\n  ringraft set watch present")]
    Watch {
        /// The set.
        name: String,
    },
    /// Print changes as they happen, each once, until interrupted.
    #[command(after_help = "Example:\n  ringraft set events present --json")]
    Events {
        /// The set.
        name: String,
    },
    /// Print how many elements there are.
    #[command(after_help = "Example:\n  ringraft set size present")]
    Size {
        /// The set.
        name: String,
    },
    /// Remove all elements.
    #[command(after_help = "Example:\n  ringraft set clear present")]
    Clear {
        /// The set.
        name: String,
    },
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub(super) fn run(flags: &Flags<Command>) -> Result<Exit, Failure> {
    let target = &flags.target;
    target.with_client(async |client| {
        let set = client.set(flags.command.name());
        match &flags.command {
            Command::Add { element, ttl, .. } => {
                let add = set.add(element);
                let added = match ttl {
                    Some(ttl) => add.ttl(*ttl).await,
                    None => add.await,
                };
                target.outcome(added)?;
                target.tell(&json!({ "element": element, "event": "added" }), &"added");
            }
            Command::Remove { element, .. } => {
                target.outcome(set.remove(element).await)?;
                target.tell(&json!({ "element": element, "event": "removed" }), &"removed");
            }
            Command::Contains { element, .. } => {
                let contained = target.outcome(set.contains(element).await)?;
                return Ok(target.tell_contained(json!({ "element": element }), contained));
            }
            Command::List { .. } => {
                let mut elements = target.outcome(set.list().await)?;
                elements.sort();
                elements.iter().for_each(|found| target.told(&element(found)));
            }
            Command::Watch { .. } => {
                let told = |found: &String| element(found);
                return target.follow_again(async || set.watch().await, told).await;
            }
            Command::Events { .. } => return target.follow(set.events(), member).await,
            Command::Size { .. } => {
                let size = target.outcome(set.size().await)?;
                target.tell(&json!({ "size": size }), &size);
            }
            Command::Clear { .. } => {
                target.outcome(set.clear().await)?;
                target.tell(&json!({ "cleared": true }), &"cleared");
            }
        }
        Ok(Exit::Done)
    })
}

impl Command {
    fn name(&self) -> &str {
        match self {
            Command::Add { name, .. }
            | Command::Remove { name, .. }
            | Command::Contains { name, .. }
            | Command::List { name }
            | Command::Watch { name }
            | Command::Events { name }
            | Command::Size { name }
            | Command::Clear { name } => name,
        }
    }
}

fn element(element: &str) -> Told {
    Told { json: json!({ "element": element }), line: shown(element.as_bytes()) }
}

fn member(member: &Member) -> Told {
    let (word, element) = match member {
        Member::Added(element) => ("added", element),
        Member::Removed { element, expired: true } => ("expired", element),
        Member::Removed { element, expired: false } => ("removed", element),
    };
    let line = format!("{word} {}", shown(element.as_bytes()));
    Told { json: json!({ "event": word, "element": element }), line }
}
