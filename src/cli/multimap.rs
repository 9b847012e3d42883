//! `ringraft multimap`: read, change and watch a map whose keys have many values.

use clap::Subcommand;
use serde_json::json;

use super::show::{Told, shown};
use super::target::{Flags, Target};
use super::{Exit, Failure};
use crate::client::multimap::Pair;
use crate::client::{Entry, MultiMap};

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Add values to a key; exit status 8 if it has them all already.
    #[command(visible_alias = "add")]
    #[command(after_help = "Example:\n  ringraft multimap put tags rose red sweet")]
    Put {
        /// The multimap.
        name: String,
        /// The key.
        key: String,
        /// The values.
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Make these all the values of a key, and print what it had.
    #[command(after_help = "Example:\n  ringraft multimap replace tags rose white")]
    Replace {
        /// The multimap.
        name: String,
        /// The key.
        key: String,
        /// The values; without any the key is removed.
        values: Vec<String>,
    },
    /// Print the values of a key, sorted; exit status 8 if it has none.
    #[command(after_help = "Example:\n  ringraft multimap get tags rose")]
    Get {
        /// The multimap.
        name: String,
        /// The key.
        key: String,
    },
    /// Print whether a key has a value; exit status 8 if not.
    #[command(after_help = "Example:\n  ringraft multimap contains tags rose red")]
    Contains {
        /// The multimap.
        name: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Remove values from a key; exit status 8 if it has none of them.
    #[command(visible_alias = "del")]
    #[command(after_help = "Example:\n  ringraft multimap remove tags rose red")]
    Remove {
        /// The multimap.
        name: String,
        /// The key.
        key: String,
        /// The values; without any, all that it has.
        values: Vec<String>,
    },
    /// Print all keys with their values, sorted by key.
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  ringraft multimap list tags")]
    List {
        /// The multimap.
        name: String,
    },
    /// Print all keys with their values and then each key that changes, until interrupted.
    #[command(after_help = "Example:\n  ringraft multimap watch tags")]
    Watch {
        /// The multimap.
        name: String,
    },
    /// Print changes as they happen, each once, until interrupted.
    #[command(after_help = "Example:\n  ringraft multimap events tags rose --json")]
    Events {
        /// The multimap.
        name: String,
        /// Only this key.
        key: Option<String>,
    },
    /// Print how many keys there are.
    #[command(after_help = "Example:\n  ringraft multimap size tags")]
    Size {
        /// The multimap.
        name: String,
    },
    /// Remove all keys.
    #[command(after_help = "Example:\n  ringraft multimap clear tags")]
    Clear {
        /// The multimap.
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
        let map = client.multimap(flags.command.name());
        match &flags.command {
            Command::List { .. } => {
                let mut entries = target.outcome(map.list().await)?;
                entries.sort_by(|a, b| a.key.cmp(&b.key));
                entries.iter().for_each(|found| target.told(&entry(found)));
                Ok(Exit::Done)
            }
            Command::Watch { .. } => target.follow_again(async || map.watch().await, entry).await,
            Command::Events { key, .. } => target.follow(map.events(key.as_deref()), pair).await,
            Command::Size { .. } => {
                let size = target.outcome(map.size().await)?;
                target.tell(&json!({ "size": size }), &size);
                Ok(Exit::Done)
            }
            Command::Clear { .. } => {
                target.outcome(map.clear().await)?;
                target.tell(&json!({ "cleared": true }), &"cleared");
                Ok(Exit::Done)
            }
            of_one => of_one.of_key(target, &map).await,
        }
    })
}

impl Command {
    /// Does what concerns one key.
    async fn of_key(&self, target: &Target, map: &MultiMap) -> Result<Exit, Failure> {
        match self {
            Command::Put { key, values, .. } => {
                let added = target.outcome(map.put_all(key, &texts(values)).await)?;
                Ok(changed(target, key, "added", added))
            }
            Command::Replace { key, values, .. } => {
                let before = target.outcome(map.replace(key, &texts(values)).await)?;
                tell_values(target, key, before);
                Ok(Exit::Done)
            }
            Command::Get { key, .. } => {
                let values = target.outcome(map.get(key).await)?;
                if values.is_empty() {
                    return Err(Failure::new(Exit::No, format!("key {key} not found")));
                }
                tell_values(target, key, values);
                Ok(Exit::Done)
            }
            Command::Contains { key, value, .. } => {
                let contained = target.outcome(map.contains(key, value).await)?;
                Ok(target.tell_contained(json!({ "key": key, "value": value }), contained))
            }
            Command::Remove { key, values, .. } if values.is_empty() => {
                let before = target.outcome(map.replace(key, &[]).await)?;
                Ok(changed(target, key, "removed", !before.is_empty()))
            }
            Command::Remove { key, values, .. } => {
                let removed = target.outcome(map.remove_all(key, &texts(values)).await)?;
                Ok(changed(target, key, "removed", removed))
            }
            Command::List { .. }
            | Command::Watch { .. }
            | Command::Events { .. }
            | Command::Size { .. }
            | Command::Clear { .. } => Ok(Exit::Done),
        }
    }

    fn name(&self) -> &str {
        match self {
            Command::Put { name, .. }
            | Command::Replace { name, .. }
            | Command::Get { name, .. }
            | Command::Contains { name, .. }
            | Command::Remove { name, .. }
            | Command::List { name }
            | Command::Watch { name }
            | Command::Events { name, .. }
            | Command::Size { name }
            | Command::Clear { name } => name,
        }
    }
}

fn texts(values: &[String]) -> Vec<&str> {
    values.iter().map(String::as_str).collect()
}

fn changed(target: &Target, key: &str, word: &str, changed: bool) -> Exit {
    let line = if changed { word } else { "nothing changed" };
    target.tell(&json!({ "key": key, "changed": changed }), &line);
    if changed { Exit::Done } else { Exit::No }
}

fn tell_values(target: &Target, key: &str, mut values: Vec<String>) {
    values.sort();
    if target.json {
        target.tell(&json!({ "key": key, "values": values }), &"");
        return;
    }
    values.iter().for_each(|value| target.tell(&json!({}), &shown(value.as_bytes())));
}

fn entry(entry: &Entry<Vec<String>>) -> Told {
    let object = json!({ "key": entry.key });
    Told::entry(object, &shown(entry.key.as_bytes()), entry.value.as_ref())
}

fn pair(pair: &Pair) -> Told {
    let (word, key, value) = match pair {
        Pair::Added { key, value } => ("added", key, value),
        Pair::Removed { key, value } => ("removed", key, value),
    };
    let line = format!("{word} {} = {}", shown(key.as_bytes()), shown(value.as_bytes()));
    Told { json: json!({ "event": word, "key": key, "value": value }), line }
}
