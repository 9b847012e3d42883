//! `ringraft log`: read the journal of a node that is not running.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Exit, Failure};

/// What is typed.
#[derive(Args)]
pub struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print every record, in the order in which it was written.
    Dump {
        /// The data directory.
        dir: PathBuf,
    },
    /// Check every block and record; exit status 12 if any is damaged.
    Verify {
        /// The data directory.
        dir: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let (Command::Dump { dir } | Command::Verify { dir }) = &flags.command;
    Err(Failure::new(Exit::Failed, format!("{}: the journal is not in this build", dir.display())))
}
