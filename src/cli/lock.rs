//! `ringraft lock`: hold a lock while a command runs.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::hold::{Ended, Trailing, while_held};
use super::target::{Stop, Target, duration};
use super::{Exit, Failure, note, say};
use crate::client::{Client, Fault, Lock, Status};

/// What is typed.
#[derive(Args)]
pub struct Flags {
    /// The lock.
    name: String,
    /// How long to wait for it, as 500ms or 10s, 0 not at all; for ever without. Exit status 8 if
    /// in vain.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    wait: Option<Duration>,
    /// Only print the token of whoever holds it; exit status 8 if nobody does.
    #[arg(long, conflicts_with_all = ["wait", "command"])]
    show: bool,
    #[command(flatten)]
    trailing: Trailing,
    #[command(flatten)]
    target: Target,
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let target = &flags.target;
    // Closing the session gives the lock back, also when releasing it failed.
    target.with_client(async |client| hold(flags, client).await)
}

async fn hold(flags: &Flags, client: &Client) -> Result<Exit, Failure> {
    let target = &flags.target;
    let mut stop = Stop::catch()?;
    let lock = client.lock(&flags.name);
    if flags.show {
        return show(flags, &lock).await;
    }
    let held = tokio::select! {
        number = stop.next() => return Ok(Exit::As(128 + number)),
        held = lock.acquire(flags.wait) => held.map_err(|fault| not_had(flags, fault))?,
    };
    let token = held.token();
    let command = &flags.trailing.command;
    if target.json {
        // With a command, standard output is the command's.
        let line = json!({ "lock": flags.name, "token": token });
        if command.is_empty() { say(&line) } else { note(&line) }
    } else if command.is_empty() {
        say(&format_args!("{} is held, token {token}; Ctrl-C gives it back", flags.name));
    }
    let variables =
        [("RINGRAFT_LOCK", flags.name.clone()), ("RINGRAFT_LOCK_TOKEN", token.to_string())];
    match while_held(command, &variables, &mut stop, held.lost()).await? {
        Ended::Lost => Err(target.failure(Fault::SessionLost)),
        Ended::Regular(exit) => {
            drop(held.release().await);
            Ok(exit)
        }
    }
}

async fn show(flags: &Flags, lock: &Lock) -> Result<Exit, Failure> {
    let holder = lock.holder().await;
    if holder.as_ref().is_err_and(|fault| fault.is(Status::NotFound)) {
        return Err(Failure::new(Exit::No, format!("nobody holds {}", flags.name)));
    }
    let token = flags.target.outcome(holder)?;
    flags.target.tell(&json!({ "lock": flags.name, "token": token }), &token);
    Ok(Exit::Done)
}

fn not_had(flags: &Flags, fault: Fault) -> Failure {
    if fault.is(Status::Conflict) {
        return Failure::new(Exit::No, format!("{} is held by somebody else", flags.name));
    }
    flags.target.failure(fault)
}
