//! `ringraft map`: read, change and watch a map.

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::sync::mpsc;

use super::target::{Stop, Target, json_value, lifetime, shown};
use super::{Exit, Failure, said, say};
use crate::client::map::{Demand, Map};
use crate::client::{Client, Fault};
use crate::limits;
use crate::wire::proto::map::v1::{Event, IndexedValue, event};

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
    /// Write an entry and print its version.
    Put {
        /// The map.
        map: String,
        /// The entry's key.
        key: String,
        /// Its value; `-` reads it from standard input.
        value: String,
        /// How long it lives, as 10s or 5m; for ever without.
        #[arg(long, value_parser = lifetime, value_name = "TIME")]
        ttl: Option<Duration>,
        /// Only if there is no such entry; exit status 8 if there is.
        #[arg(long, conflicts_with = "if_version")]
        if_absent: bool,
        /// Only if the entry has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Print the value of an entry; exit status 8 if there is none.
    Get {
        /// The map.
        map: String,
        /// The entry's key.
        key: String,
    },
    /// Remove an entry; exit status 8 if there is none.
    #[command(visible_alias = "del")]
    Remove {
        /// The map.
        map: String,
        /// The entry's key.
        key: String,
        /// Only if the entry has this version; exit status 8 if not.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        if_version: Option<u64>,
    },
    /// Print all entries, sorted by key.
    #[command(visible_alias = "ls")]
    List {
        /// The map.
        map: String,
    },
    /// Print how many entries there are.
    Size {
        /// The map.
        map: String,
    },
    /// Remove all entries.
    Clear {
        /// The map.
        map: String,
    },
    /// Print changes as they happen, until interrupted.
    Watch {
        /// The map.
        map: String,
        /// Only this key.
        key: Option<String>,
    },
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let target = &flags.target;
    target.block_on(async {
        let value = flags.command.value()?;
        let client = target.connect().await?;
        let outcome = flags.command.execute(target, &client, value).await;
        // The result stands whether or not the sessions end in good order.
        drop(client.close().await);
        outcome
    })
}

impl Command {
    async fn execute(
        &self,
        target: &Target,
        client: &Client,
        value: Bytes,
    ) -> Result<Exit, Failure> {
        let map = client.map(self.map());
        match self {
            Command::Put { key, ttl, if_absent, if_version, .. } => {
                let demand = match (if_absent, if_version) {
                    (true, _) => Demand::Absent,
                    (false, Some(version)) => Demand::Version(*version),
                    (false, None) => Demand::Anything,
                };
                let version = target.tell(map.put(key, value, *ttl, demand).await)?;
                let json = json!({ "key": key, "version": version });
                tell(target, &json, &format_args!("version {version}"));
            }
            Command::Get { key, .. } => {
                let found = target.tell(map.get(key).await)?;
                if target.json {
                    say(&entry_json(key, &found));
                } else {
                    raw(&found.value);
                }
            }
            Command::Remove { key, if_version, .. } => {
                let was = target.tell(map.remove(key, if_version.unwrap_or(0)).await)?;
                let line = format_args!("removed version {}", was.index);
                tell(target, &entry_json(key, &was), &line);
            }
            Command::List { .. } => list(target, &map).await?,
            Command::Size { .. } => {
                let size = target.tell(map.size().await)?;
                tell(target, &json!({ "size": size }), &size);
            }
            Command::Clear { .. } => {
                target.tell(map.clear().await)?;
                tell(target, &json!({ "cleared": true }), &"cleared");
            }
            Command::Watch { key, .. } => return watch(target, &map, key.as_deref()).await,
        }
        Ok(Exit::Done)
    }

    fn map(&self) -> &str {
        match self {
            Command::Put { map, .. }
            | Command::Get { map, .. }
            | Command::Remove { map, .. }
            | Command::List { map }
            | Command::Size { map }
            | Command::Clear { map }
            | Command::Watch { map, .. } => map,
        }
    }

    /// The value to put, read before anything is asked of a node.
    fn value(&self) -> Result<Bytes, Failure> {
        let Command::Put { value, .. } = self else { return Ok(Bytes::new()) };
        if value != "-" {
            return Ok(Bytes::from(value.clone()));
        }
        let mut bytes = Vec::new();
        let most = limits::REQUEST_BYTES_MAX as u64;
        let read = std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::new(Exit::Failed, format!("standard input: {error}")))?;
        if bytes.len() as u64 > most {
            let what = format!("the value on standard input is larger than {most} bytes");
            return Err(Failure::new(Exit::Usage, what));
        }
        Ok(bytes.into())
    }
}

async fn list(target: &Target, map: &Map<'_>) -> Result<(), Failure> {
    let mut entries = Vec::new();
    target.tell(map.entries(|entry| entries.push(entry)).await)?;
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    for entry in entries {
        let value = entry.value.unwrap_or_default();
        let line = format_args!("{} = {}", shown(entry.key.as_bytes()), shown(&value.value));
        tell(target, &entry_json(&entry.key, &value), &line);
    }
    Ok(())
}

async fn watch(target: &Target, map: &Map<'_>, key: Option<&str>) -> Result<Exit, Failure> {
    let mut stop = Stop::catch()?;
    // A terminal that does not keep up holds back the streams, not this process's memory.
    let (sender, mut receiver) = mpsc::channel::<Result<Event, Fault>>(256);
    for partition in map.partitions_of(key) {
        let mut changes = target.tell(map.changes(partition, key).await)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.next().await.transpose() {
                let over = change.is_err();
                if sender.send(change).await.is_err() || over {
                    return;
                }
            }
        });
    }
    drop(sender);
    loop {
        tokio::select! {
            number = stop.next() => return Ok(Exit::As(128 + number)),
            change = receiver.recv() => match change {
                Some(change) => tell_change(target, &target.tell(change)?),
                None => return Ok(Exit::Done),
            },
        }
    }
}

fn tell_change(target: &Target, change: &Event) {
    let none = IndexedValue::default();
    let (what, value) = match &change.event {
        Some(event::Event::Inserted(inserted)) => ("inserted", inserted.value.as_ref()),
        Some(event::Event::Updated(updated)) => ("updated", updated.value.as_ref()),
        Some(event::Event::Removed(removed)) if removed.expired => {
            ("expired", removed.value.as_ref())
        }
        Some(event::Event::Removed(removed)) => ("removed", removed.value.as_ref()),
        None => return,
    };
    let value = value.unwrap_or(&none);
    let mut json = entry_json(&change.key, value);
    json["event"] = what.into();
    let line = format_args!("{what} {} = {}", shown(change.key.as_bytes()), shown(&value.value));
    tell(target, &json, &line);
}

fn tell(target: &Target, json: &serde_json::Value, line: &dyn std::fmt::Display) {
    if target.json { say(json) } else { say(line) }
}

fn entry_json(key: &str, value: &IndexedValue) -> serde_json::Value {
    json!({ "key": key, "value": json_value(&value.value), "version": value.index })
}

/// The value byte for byte, and a line's end so that the next prompt begins on a line of its own.
fn raw(value: &[u8]) {
    let mut out = std::io::stdout().lock();
    said(out.write_all(value).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()));
}
