//! `ringraft indexedmap`: read, change and watch a map whose entries have an order.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::show::{Told, shown, value};
use super::target::{Flags, lifetime};
use super::{Exit, Failure};
use crate::client::indexedmap::{At, IndexedEntry, IndexedEvent};
use crate::client::{Fault, IndexedMap};

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Add an entry at the end and print it; exit status 8 if its key is there.
    #[command(after_help = "Example:\n  ringraft indexedmap append queue job-1 sweep")]
    Append {
        /// The indexed map.
        name: String,
        /// The entry's key.
        key: String,
        /// Its value; `-` reads it from standard input.
        value: String,
        /// How long it lives, as 10s or 5m; for ever without.
        #[arg(long, value_parser = lifetime, value_name = "TIME")]
        ttl: Option<Duration>,
    },
    /// Write an entry that is there and print it; exit status 8 if it is not.
    #[command(allow_missing_positional = true)]
    #[command(override_usage = "ringraft indexedmap update [OPTIONS] <NAME> \
                                <KEY|--index <N>> <VALUE>")]
    #[command(after_help = "Example:\n  ringraft indexedmap update queue job-1 wash\n  \
                            ringraft indexedmap update queue --index 1 wash")]
    Update {
        /// The indexed map.
        name: String,
        #[command(flatten)]
        which: Which,
        /// Its value; `-` reads it from standard input.
        value: String,
        /// How long it lives, as 10s or 5m; for ever without.
        #[arg(long, value_parser = lifetime, value_name = "TIME")]
        ttl: Option<Duration>,
        /// Only if the entry has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Print the value of an entry; exit status 8 if there is none.
    #[command(override_usage = "ringraft indexedmap get [OPTIONS] <NAME> <KEY|--index <N>>")]
    #[command(after_help = "Example:\n  ringraft indexedmap get queue job-1\n  \
                            ringraft indexedmap get queue --index 1")]
    Get {
        /// The indexed map.
        name: String,
        #[command(flatten)]
        which: Which,
    },
    /// Print the first entry; exit status 8 if there is none.
    #[command(after_help = "Example:\n  ringraft indexedmap first queue")]
    First {
        /// The indexed map.
        name: String,
    },
    /// Print the last entry; exit status 8 if there is none.
    #[command(after_help = "Example:\n  ringraft indexedmap last queue")]
    Last {
        /// The indexed map.
        name: String,
    },
    /// Print the entry after an index; exit status 8 if there is none.
    #[command(after_help = "Example:\n  ringraft indexedmap next queue 1")]
    Next {
        /// The indexed map.
        name: String,
        /// The index.
        index: u64,
    },
    /// Print the entry before an index; exit status 8 if there is none.
    #[command(after_help = "Example:\n  ringraft indexedmap prev queue 2")]
    Prev {
        /// The indexed map.
        name: String,
        /// The index.
        index: u64,
    },
    /// Remove an entry and print it; exit status 8 if there is none.
    #[command(override_usage = "ringraft indexedmap remove [OPTIONS] <NAME> <KEY|--index <N>>")]
    #[command(visible_alias = "del")]
    #[command(after_help = "Example:\n  ringraft indexedmap remove queue --index 1")]
    Remove {
        /// The indexed map.
        name: String,
        #[command(flatten)]
        which: Which,
        /// Only if the entry has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Print all entries, by index.
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  ringraft indexedmap list queue")]
    List {
        /// The indexed map.
        name: String,
    },
    /// Print all entries and then each that changes, until interrupted.
    #[command(after_help = "Example:\n  ringraft indexedmap watch queue")]
    Watch {
        /// The indexed map.
        name: String,
    },
    /// Print changes as they happen, each once, until interrupted.
    #[command(after_help = "Example:\n  ringraft indexedmap events queue job-1 --json")]
    Events {
        /// The indexed map.
        name: String,
        /// Only this key.
        key: Option<String>,
    },
    /// Print how many entries there are.
    #[command(after_help = "Example:\n  ringraft indexedmap size queue")]
    Size {
        /// The indexed map.
        name: String,
    },
    /// Remove all entries; their indexes do not come again.
    #[command(after_help = "Example:\n  ringraft indexedmap clear queue")]
    Clear {
        /// The indexed map.
        name: String,
    },
}

/// Which entry is meant.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The entry's key.
    key: Option<String>,
    /// The entry's index, instead of its key.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    index: Option<u64>,
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub(super) fn run(flags: &Flags<Command>) -> Result<Exit, Failure> {
    let target = &flags.target;
    // Read before anything is asked of a node.
    let bytes = match &flags.command {
        Command::Append { value: typed, .. } | Command::Update { value: typed, .. } => {
            value(typed)?
        }
        _ => bytes::Bytes::new(),
    };
    target.with_client(async |client| {
        let map = client.indexedmap(flags.command.name());
        match &flags.command {
            Command::List { .. } => {
                let entries = target.outcome(map.list().await)?;
                entries.iter().for_each(|found| target.told(&entry(found)));
            }
            Command::Watch { .. } => {
                return target.follow_again(async || map.watch().await, entry).await;
            }
            Command::Events { key, .. } => {
                return target.follow(map.events(key.as_deref()), event).await;
            }
            Command::Size { .. } => {
                let size = target.outcome(map.size().await)?;
                target.tell(&json!({ "size": size }), &size);
            }
            Command::Clear { .. } => {
                target.outcome(map.clear().await)?;
                target.tell(&json!({ "cleared": true }), &"cleared");
            }
            of_one => {
                let found = target.outcome(of_one.entry(&map, bytes).await)?;
                match (of_one, &found.value) {
                    (Command::Get { .. }, Some(value)) => {
                        target.tell_value(&entry(&found).json, &value.value);
                    }
                    _ => target.told(&entry(&found)),
                }
            }
        }
        Ok(Exit::Done)
    })
}

impl Which {
    fn at(&self) -> At<'_> {
        match (&self.key, self.index) {
            (_, Some(index)) => At::Index(index),
            (Some(key), None) => At::Key(key),
            (None, None) => At::Key(""),
        }
    }
}

impl Command {
    /// Does what ends with one entry.
    async fn entry(&self, map: &IndexedMap, bytes: bytes::Bytes) -> Result<IndexedEntry, Fault> {
        match self {
            Command::Append { key, ttl, .. } => {
                let append = map.append(key, bytes);
                match ttl {
                    Some(ttl) => append.ttl(*ttl).await,
                    None => append.await,
                }
            }
            Command::Update { which, ttl, if_version, .. } => {
                let update = map.update(which.at(), bytes);
                let update = update.prev_version(if_version.unwrap_or(0));
                match ttl {
                    Some(ttl) => update.ttl(*ttl).await,
                    None => update.await,
                }
            }
            Command::Get { which, .. } => map.get(which.at()).await,
            Command::Last { .. } => map.last().await,
            Command::Next { index, .. } => map.next(*index).await,
            Command::Prev { index, .. } => map.prev(*index).await,
            Command::Remove { which, if_version, .. } => {
                map.remove(which.at()).prev_version(if_version.unwrap_or(0)).await
            }
            _ => map.first().await,
        }
    }

    fn name(&self) -> &str {
        match self {
            Command::Append { name, .. }
            | Command::Update { name, .. }
            | Command::Get { name, .. }
            | Command::First { name }
            | Command::Last { name }
            | Command::Next { name, .. }
            | Command::Prev { name, .. }
            | Command::Remove { name, .. }
            | Command::List { name }
            | Command::Watch { name }
            | Command::Events { name, .. }
            | Command::Size { name }
            | Command::Clear { name } => name,
        }
    }
}

/// `1 job-1`: an entry's index and key.
fn title(index: u64, key: &str) -> String {
    format!("{index} {}", shown(key.as_bytes()))
}

fn entry(entry: &IndexedEntry) -> Told {
    let object = json!({ "key": entry.key, "index": entry.index });
    Told::entry(object, &title(entry.index, &entry.key), entry.value.as_ref())
}

fn event(event: &IndexedEvent) -> Told {
    let object = json!({ "key": event.key, "index": event.index });
    Told::change(object, &title(event.index, &event.key), &event.change)
}
