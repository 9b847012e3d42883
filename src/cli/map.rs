//! `ringraft map`: read, change and watch a map.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::show::{Content, Told, shown, value};
use super::target::{Flags, Target, lifetime};
use super::{Exit, Failure};
use crate::client::{Entry, Fault, Map, Versioned, Written};

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Write an entry and print its version.
    #[command(after_help = "Example:\n  ringraft map put greetings hello world --ttl 5m")]
    Put {
        #[command(flatten)]
        entry: Wanted,
        /// Only if there is no such entry; exit status 8 if there is.
        #[arg(long, conflicts_with = "if_version")]
        if_absent: bool,
        /// Only if the entry has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Write an entry that is not there; exit status 8 if it is.
    #[command(after_help = "Example:\n  ringraft map insert greetings hello world")]
    Insert {
        #[command(flatten)]
        entry: Wanted,
    },
    /// Write an entry that is there; exit status 8 if it is not.
    #[command(after_help = "Example:\n  ringraft map update greetings hello moon --if-version 3")]
    Update {
        #[command(flatten)]
        entry: Wanted,
        /// Only if the entry has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Print the value of an entry; exit status 8 if there is none.
    #[command(after_help = "Example:\n  ringraft map get greetings hello")]
    Get {
        /// The map.
        name: String,
        /// The entry's key.
        key: String,
    },
    /// Remove an entry; exit status 8 if there is none.
    #[command(visible_alias = "del")]
    #[command(after_help = "Example:\n  ringraft map remove greetings hello")]
    Remove {
        /// The map.
        name: String,
        /// The entry's key.
        key: String,
        /// Only if the entry has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Print all entries, sorted by key.
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  ringraft map list greetings")]
    List {
        /// The map.
        name: String,
    },
    /// Print all entries and then each that changes, until interrupted.
    ///
    /// Begins anew with all entries when the connection breaks.
    #[command(after_help = "Example:\n  ringraft map watch greetings")]
    Watch {
        /// The map.
        name: String,
    },
    /// Print changes as they happen, each once, until interrupted.
    #[command(after_help = "Example:\n  ringraft map events greetings hello --json")]
    Events {
        /// The map.
        name: String,
        /// Only this key.
        key: Option<String>,
    },
    /// Print how many entries there are.
    #[command(after_help = "Example:\n  ringraft map size greetings")]
    Size {
        /// The map.
        name: String,
    },
    /// Remove all entries.
    #[command(after_help = "Example:\n  ringraft map clear greetings")]
    Clear {
        /// The map.
        name: String,
    },
}

/// An entry to write.
#[derive(Args)]
pub(super) struct Wanted {
    /// The map.
    name: String,
    /// The entry's key.
    key: String,
    /// Its value; `-` reads it from standard input.
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
    let value = match flags.command.written() {
        Some(entry) => value(&entry.value)?,
        None => bytes::Bytes::new(),
    };
    target.with_client(async |client| {
        let map = client.map(flags.command.name());
        if let Some(entry) = flags.command.written() {
            let written = target.outcome(flags.command.write(&map, entry, value).await)?;
            target.tell_written(json!({ "key": entry.key }), &written);
            return Ok(Exit::Done);
        }
        flags.command.read(target, &map).await
    })
}

impl Command {
    fn written(&self) -> Option<&Wanted> {
        match self {
            Command::Put { entry, .. }
            | Command::Insert { entry }
            | Command::Update { entry, .. } => Some(entry),
            _ => None,
        }
    }

    async fn write(
        &self,
        map: &Map,
        entry: &Wanted,
        value: bytes::Bytes,
    ) -> Result<Written, Fault> {
        let key = &entry.key;
        let (must_be, version) = match self {
            Command::Put { if_version: Some(version), .. } => (Some(true), *version),
            Command::Update { if_version, .. } => (Some(true), if_version.unwrap_or(0)),
            Command::Put { if_absent: true, .. } | Command::Insert { .. } => (Some(false), 0),
            _ => (None, 0),
        };
        match (must_be, entry.ttl) {
            (None, None) => map.put(key, value).await,
            (None, Some(ttl)) => map.put(key, value).ttl(ttl).await,
            (Some(false), None) => map.insert(key, value).await,
            (Some(false), Some(ttl)) => map.insert(key, value).ttl(ttl).await,
            (Some(true), None) => map.update(key, value).prev_version(version).await,
            (Some(true), Some(ttl)) => map.update(key, value).ttl(ttl).prev_version(version).await,
        }
    }

    async fn read(&self, target: &Target, map: &Map) -> Result<Exit, Failure> {
        match self {
            Command::Get { key, .. } => {
                let found = target.outcome(map.get(key).await)?;
                target.tell_value(&object(key, &found), &found.value);
            }
            Command::Remove { key, if_version, .. } => {
                let removed = map.remove(key).prev_version(if_version.unwrap_or(0));
                let was = target.outcome(removed.await)?;
                let line = format_args!("removed version {}", was.version);
                target.tell(&object(key, &was), &line);
            }
            Command::List { .. } => {
                let mut entries = target.outcome(map.list().await)?;
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                entries.iter().for_each(|found| target.told(&entry(found)));
            }
            Command::Watch { .. } => {
                return target.follow_again(async || map.watch().await, entry).await;
            }
            Command::Events { key, .. } => {
                let events = map.events(key.as_deref());
                return target
                    .follow(events, |event| {
                        let object = json!({ "key": event.key });
                        Told::change(object, &shown(event.key.as_bytes()), &event.change)
                    })
                    .await;
            }
            Command::Size { .. } => {
                let size = target.outcome(map.size().await)?;
                target.tell(&json!({ "size": size }), &size);
            }
            Command::Clear { .. } => {
                target.outcome(map.clear().await)?;
                target.tell(&json!({ "cleared": true }), &"cleared");
            }
            Command::Put { .. } | Command::Insert { .. } | Command::Update { .. } => {}
        }
        Ok(Exit::Done)
    }

    fn name(&self) -> &str {
        match self {
            Command::Put { entry, .. }
            | Command::Insert { entry }
            | Command::Update { entry, .. } => &entry.name,
            Command::Get { name, .. }
            | Command::Remove { name, .. }
            | Command::List { name }
            | Command::Watch { name }
            | Command::Events { name, .. }
            | Command::Size { name }
            | Command::Clear { name } => name,
        }
    }
}

fn object(key: &str, found: &Versioned) -> Value {
    let mut object = json!({ "key": key });
    found.fill(&mut object);
    object
}

fn entry(entry: &Entry<Versioned>) -> Told {
    let object = json!({ "key": entry.key });
    Told::entry(object, &shown(entry.key.as_bytes()), entry.value.as_ref())
}
