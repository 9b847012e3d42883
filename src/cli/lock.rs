//! `ringraft lock`: hold a lock while a command runs.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::hold::{Ended, Trailing, while_held};
use super::target::{Stop, Target, duration};
use super::{Exit, Failure, note, say};
use crate::client::lock::Lock;
use crate::client::{Client, Fault};
use crate::wire::proto::v1::operation_response_headers::Status;

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
    target.block_on(async {
        let mut stop = Stop::catch()?;
        let client = target.connect().await?;
        let outcome = hold(flags, &client, &mut stop).await;
        // Closing the session gives the lock back, also when releasing it failed.
        drop(client.close().await);
        outcome
    })
}

async fn hold(flags: &Flags, client: &Client, stop: &mut Stop) -> Result<Exit, Failure> {
    let target = &flags.target;
    let lock = target.tell(client.lock(&flags.name).await)?;
    if flags.show {
        return show(flags, &lock).await;
    }
    let token = tokio::select! {
        number = stop.next() => return Ok(Exit::As(128 + number)),
        token = lock.acquire(flags.wait) => token.map_err(|fault| not_had(flags, fault))?,
    };
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
    match while_held(command, &variables, stop, lock.lost()).await {
        Ok(Ended::Lost) => Err(target.failure(Fault::SessionLost)),
        other => {
            // The session is closed next, which gives it back too.
            drop(lock.release().await);
            other.map(|ended| match ended {
                Ended::Regular(exit) => exit,
                Ended::Lost => Exit::Lost,
            })
        }
    }
}

async fn show(flags: &Flags, lock: &Lock) -> Result<Exit, Failure> {
    let holder = lock.holder().await;
    if matches!(&holder, Err(Fault::Refused { status: Status::NotFound, .. })) {
        return Err(Failure::new(Exit::No, format!("nobody holds {}", flags.name)));
    }
    let token = flags.target.tell(holder)?;
    if flags.target.json {
        say(&json!({ "lock": flags.name, "token": token }));
    } else {
        say(&token);
    }
    Ok(Exit::Done)
}

fn not_had(flags: &Flags, fault: Fault) -> Failure {
    if matches!(&fault, Fault::Refused { status: Status::Conflict, .. }) {
        return Failure::new(Exit::No, format!("{} is held by somebody else", flags.name));
    }
    flags.target.failure(fault)
}
