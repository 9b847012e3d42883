//! `ringraft counter`: read and change a counter.

use clap::{Args, Subcommand};
use serde_json::json;

use super::target::Target;
use super::{Exit, Failure, say};

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
    /// Print its value; a counter that nobody wrote is 0.
    Get {
        /// The counter.
        name: String,
    },
    /// Give it a value.
    Set {
        /// The counter.
        name: String,
        /// The value.
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Add to it and print the new value.
    Incr {
        /// The counter.
        name: String,
        /// How much.
        #[arg(allow_negative_numbers = true, default_value_t = 1)]
        by: i64,
    },
    /// Take from it and print the new value.
    Decr {
        /// The counter.
        name: String,
        /// How much.
        #[arg(allow_negative_numbers = true, default_value_t = 1)]
        by: i64,
    },
    /// Give it the value UPDATE if it is COMPARE; exit status 8 if not.
    Cas {
        /// The counter.
        name: String,
        /// What it must be.
        #[arg(allow_negative_numbers = true)]
        compare: i64,
        /// What it is to become.
        #[arg(allow_negative_numbers = true)]
        update: i64,
    },
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let target = &flags.target;
    target.block_on(async {
        let client = target.connect().await?;
        let name = flags.command.name();
        let counter = target.tell(client.counter(name).await)?;
        let value = match &flags.command {
            Command::Get { .. } => counter.get().await,
            Command::Set { value, .. } => counter.set(*value).await,
            Command::Incr { by, .. } => counter.add(*by).await,
            Command::Decr { by, .. } => counter.add(by.wrapping_neg()).await,
            Command::Cas { compare, update, .. } => counter.update(*compare, *update).await,
        };
        // The result stands whether or not the session ends in good order.
        drop(client.close().await);
        let value = target.tell(value)?;
        if target.json {
            say(&json!({ "counter": name, "value": value }));
        } else {
            say(&value);
        }
        Ok(Exit::Done)
    })
}

impl Command {
    fn name(&self) -> &str {
        match self {
            Command::Get { name }
            | Command::Set { name, .. }
            | Command::Incr { name, .. }
            | Command::Decr { name, .. }
            | Command::Cas { name, .. } => name,
        }
    }
}
