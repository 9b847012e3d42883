//! `ringraft countermap`: read, change and watch a map of counters.

use clap::Subcommand;
use serde_json::json;

use super::show::{Told, shown};
use super::target::Flags;
use super::{Exit, Failure};
use crate::client::{CounterMap, Entry, Fault, Status};

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the value of an entry; exit status 8 if there is none.
    #[command(after_help = "Example:\n  ringraft countermap get stock apples")]
    Get {
        /// The counter map.
        name: String,
        /// The entry's key.
        key: String,
    },
    /// Write an entry and print its value.
    #[command(visible_alias = "put")]
    #[command(after_help = "Example:\n  ringraft countermap set stock apples 5")]
    Set {
        /// The counter map.
        name: String,
        /// The entry's key.
        key: String,
        /// Its value.
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Write an entry that is not there; exit status 8 if it is.
    #[command(after_help = "Example:\n  ringraft countermap insert stock apples 5")]
    Insert {
        /// The counter map.
        name: String,
        /// The entry's key.
        key: String,
        /// Its value.
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Give an entry the value UPDATE if it is COMPARE; exit status 8 if not.
    #[command(visible_alias = "cas")]
    #[command(after_help = "Example:\n  ringraft countermap update stock apples 5 4")]
    Update {
        /// The counter map.
        name: String,
        /// The entry's key.
        key: String,
        /// What it must be.
        #[arg(allow_negative_numbers = true)]
        compare: i64,
        /// What it is to become.
        #[arg(allow_negative_numbers = true)]
        update: i64,
    },
    /// Add to an entry and print its new value; what is not there counts from 0.
    #[command(after_help = "Example:\n  ringraft countermap incr stock apples 3")]
    Incr {
        /// The counter map.
        name: String,
        /// The entry's key.
        key: String,
        /// How much; not 0.
        #[arg(allow_negative_numbers = true, default_value_t = 1, value_parser = not_zero)]
        by: i64,
    },
    /// Take from an entry and print its new value; what is not there counts from 0.
    #[command(after_help = "Example:\n  ringraft countermap decr stock apples")]
    Decr {
        /// The counter map.
        name: String,
        /// The entry's key.
        key: String,
        /// How much; not 0.
        #[arg(allow_negative_numbers = true, default_value_t = 1, value_parser = not_zero)]
        by: i64,
    },
    /// Remove an entry and print what it was; exit status 8 if there is none.
    #[command(visible_alias = "del")]
    #[command(after_help = "Example:\n  ringraft countermap remove stock apples")]
    Remove {
        /// The counter map.
        name: String,
        /// The entry's key.
        key: String,
        /// Only if it has this value; exit status 8 if not.
        #[arg(long, value_name = "N", allow_negative_numbers = true)]
        if_value: Option<i64>,
    },
    /// Print all entries, sorted by key.
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  ringraft countermap list stock")]
    List {
        /// The counter map.
        name: String,
    },
    /// Print all entries and then each that is written, until interrupted.
    #[command(after_help = "Example:\n  ringraft countermap watch stock")]
    Watch {
        /// The counter map.
        name: String,
    },
    /// Print changes as they happen, until interrupted.
    #[command(after_help = "Example:\n  ringraft countermap events stock apples --json")]
    Events {
        /// The counter map.
        name: String,
        /// Only this key.
        key: Option<String>,
    },
    /// Print how many entries there are.
    #[command(after_help = "Example:\n  ringraft countermap size stock")]
    Size {
        /// The counter map.
        name: String,
    },
    /// Remove all entries.
    #[command(after_help = "Example:\n  ringraft countermap clear stock")]
    Clear {
        /// The counter map.
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
        let map = client.countermap(flags.command.name());
        match &flags.command {
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
            of_one => {
                let (key, value) = target.outcome(of_one.value_of(&map).await)?;
                target.tell(&json!({ "key": key, "value": value }), &value);
            }
        }
        Ok(Exit::Done)
    })
}

impl Command {
    /// Does what ends with the value of one entry.
    async fn value_of(&self, map: &CounterMap) -> Result<(&str, i64), Fault> {
        Ok(match self {
            Command::Get { key, .. } => (key, map.get(key).await?),
            Command::Set { key, value, .. } => {
                map.set(key, *value).await?;
                (key, *value)
            }
            Command::Insert { key, value, .. } => {
                map.insert(key, *value).await?;
                (key, *value)
            }
            Command::Update { key, compare, update, .. } => {
                map.update(key, *update, *compare).await?;
                (key, *update)
            }
            Command::Incr { key, by, .. } => (key, map.increment(key, *by).await?),
            Command::Decr { key, by, .. } => (key, map.decrement(key, *by).await?),
            Command::Remove { key, if_value: Some(value), .. } => {
                (key, map.remove(key, *value).await?)
            }
            Command::Remove { key, if_value: None, .. } => (key, remove(map, key).await?),
            Command::List { .. }
            | Command::Watch { .. }
            | Command::Events { .. }
            | Command::Size { .. }
            | Command::Clear { .. } => ("", 0),
        })
    }

    fn name(&self) -> &str {
        match self {
            Command::Get { name, .. }
            | Command::Set { name, .. }
            | Command::Insert { name, .. }
            | Command::Update { name, .. }
            | Command::Incr { name, .. }
            | Command::Decr { name, .. }
            | Command::Remove { name, .. }
            | Command::List { name }
            | Command::Watch { name }
            | Command::Events { name, .. }
            | Command::Size { name }
            | Command::Clear { name } => name,
        }
    }
}

/// The protocol removes only what is known: so it is read first, until nobody came between.
async fn remove(map: &CounterMap, key: &str) -> Result<i64, Fault> {
    loop {
        let value = map.get(key).await?;
        match map.remove(key, value).await {
            Err(fault) if fault.is(Status::Conflict) => {}
            removed => return removed,
        }
    }
}

fn entry(entry: &Entry<i64>) -> Told {
    let object = json!({ "key": entry.key });
    Told::entry(object, &shown(entry.key.as_bytes()), entry.value.as_ref())
}

/// The protocol makes 1 of 0.
fn not_zero(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(0) => Err("0 changes nothing".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number of 64 bits".to_owned()),
    }
}
