//! `ringraft counter`: read and change a counter.

use clap::Subcommand;
use serde_json::json;

use super::target::Flags;
use super::{Exit, Failure};

/// What is typed.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Print its value; a counter that nobody wrote is 0.
    #[command(after_help = "Example:\n  ringraft counter get visits")]
    Get {
        /// The counter.
        name: String,
    },
    /// Give it a value.
    #[command(after_help = "Example:\n  ringraft counter set visits 0")]
    Set {
        /// The counter.
        name: String,
        /// The value.
        #[arg(allow_negative_numbers = true)]
        value: i64,
    },
    /// Add to it and print the new value.
    #[command(
        after_help = "Example:\n  ringraft counter incr visits\n  ringraft counter incr visits 10"
    )]
    Incr {
        /// The counter.
        name: String,
        /// How much.
        #[arg(allow_negative_numbers = true, default_value_t = 1)]
        by: i64,
    },
    /// Take from it and print the new value.
    #[command(after_help = "Example:\n  ringraft counter decr visits 2")]
    Decr {
        /// The counter.
        name: String,
        /// How much.
        #[arg(allow_negative_numbers = true, default_value_t = 1)]
        by: i64,
    },
    /// Give it the value UPDATE if it is COMPARE; exit status 8 if not.
    #[command(visible_alias = "update")]
    #[command(after_help = "Example:\n  ringraft counter cas visits 41 42")]
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
pub(super) fn run(flags: &Flags<Command>) -> Result<Exit, Failure> {
    let target = &flags.target;
    target.with_client(async |client| {
        let counter = client.counter(flags.command.name());
        let value = match &flags.command {
            Command::Get { .. } => counter.get().await,
            Command::Set { value, .. } => counter.set(*value).await,
            Command::Incr { by, .. } => counter.increment(*by).await,
            Command::Decr { by, .. } => counter.decrement(*by).await,
            Command::Cas { compare, update, .. } => counter.update(*compare, *update).await,
        };
        let value = target.outcome(value)?;
        target.tell(&json!({ "counter": counter.name(), "value": value }), &value);
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
