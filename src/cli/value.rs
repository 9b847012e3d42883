//! `ringraft value`: read, change and watch a single value.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::show::{Content, Told, value};
use super::target::{Flags, lifetime};
use super::{Exit, Failure};
use crate::client::{Fault, Value, Versioned, Written};

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Print it; exit status 8 if it is not set.
    #[command(after_help = "Example:\n  ringraft value get config")]
    Get {
        /// The value's name.
        name: String,
    },
    /// Write it and print its version.
    #[command(visible_alias = "put")]
    #[command(after_help = "Example:\n  ringraft value set config - < config.toml")]
    Set {
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Write it if it is not set; exit status 8 if it is.
    #[command(after_help = "Example:\n  ringraft value insert config first --ttl 1h")]
    Insert {
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Write it if it is set; exit status 8 if it is not.
    #[command(after_help = "Example:\n  ringraft value update config second --if-version 3")]
    Update {
        #[command(flatten)]
        wanted: Wanted,
        /// Only if it has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Unset it; exit status 8 if it is not set.
    #[command(visible_aliases = ["del", "remove"])]
    #[command(after_help = "Example:\n  ringraft value delete config")]
    Delete {
        /// The value's name.
        name: String,
        /// Only if it has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Print it if it is set and then each value that is written, until interrupted.
    #[command(after_help = "Example:\n  ringraft value watch config")]
    Watch {
        /// The value's name.
        name: String,
    },
    /// Print changes as they happen, each once, until interrupted.
    #[command(after_help = "Example:\n  ringraft value events config --json")]
    Events {
        /// The value's name.
        name: String,
    },
}

/// A value to write.
#[derive(Args)]
pub(super) struct Wanted {
    /// The value's name.
    name: String,
    /// The value; `-` reads it from standard input.
    value: String,
    /// How long it lives, as 10s or 5m; for ever without.
    #[arg(long, value_parser = lifetime, value_name = "TIME")]
    ttl: Option<Duration>,
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub(super) fn run(flags: &Flags<Command>) -> Result<Exit, Failure> {
    let target = &flags.target;
    // Read before anything is asked of a node.
    let bytes = match flags.command.wanted() {
        Some(wanted) => value(&wanted.value)?,
        None => bytes::Bytes::new(),
    };
    target.with_client(async |client| {
        let name = flags.command.name();
        let value = client.value(name);
        match &flags.command {
            Command::Get { .. } => {
                let found = target.outcome(value.get().await)?;
                target.tell_value(&object(name, &found), &found.value);
            }
            Command::Delete { if_version, .. } => {
                let deleted = value.delete().prev_version(if_version.unwrap_or(0));
                let was = target.outcome(deleted.await)?;
                let line = format_args!("removed version {}", was.version);
                target.tell(&object(name, &was), &line);
            }
            Command::Watch { .. } => {
                let told = |found: &Versioned| Told {
                    json: object(name, found),
                    line: format!("version {}: {}", found.version, found.line()),
                };
                return target.follow_again(async || value.watch().await, told).await;
            }
            Command::Events { .. } => {
                let told = |change: &_| Told::change(json!({ "name": name }), "", change);
                return target.follow(value.events(), told).await;
            }
            writes => {
                let written = target.outcome(writes.write(&value, bytes).await)?;
                target.tell_written(json!({ "name": name }), &written);
            }
        }
        Ok(Exit::Done)
    })
}

impl Command {
    fn wanted(&self) -> Option<&Wanted> {
        match self {
            Command::Set { wanted }
            | Command::Insert { wanted }
            | Command::Update { wanted, .. } => Some(wanted),
            _ => None,
        }
    }

    async fn write(&self, value: &Value, bytes: bytes::Bytes) -> Result<Written, Fault> {
        let ttl = self.wanted().and_then(|wanted| wanted.ttl);
        match (self, ttl) {
            (Command::Insert { .. }, None) => value.insert(bytes).await,
            (Command::Insert { .. }, Some(ttl)) => value.insert(bytes).ttl(ttl).await,
            (Command::Update { if_version, .. }, ttl) => {
                let update = value.update(bytes).prev_version(if_version.unwrap_or(0));
                match ttl {
                    Some(ttl) => update.ttl(ttl).await,
                    None => update.await,
                }
            }
            (_, None) => value.set(bytes).await,
            (_, Some(ttl)) => value.set(bytes).ttl(ttl).await,
        }
    }

    fn name(&self) -> &str {
        match self {
            Command::Set { wanted }
            | Command::Insert { wanted }
            | Command::Update { wanted, .. } => &wanted.name,
            Command::Get { name }
            | Command::Delete { name, .. }
            | Command::Watch { name }
            | Command::Events { name } => name,
        }
    }
}

fn object(name: &str, found: &Versioned) -> Json {
    let mut object = json!({ "name": name });
    found.fill(&mut object);
    object
}
