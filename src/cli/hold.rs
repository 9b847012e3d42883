//! Something is held (a lock, an office) while a command runs.
//!
//! The command gets the signals that this process gets. When what is held is lost, the command is
//! asked to end, and made to end when it does not: it must not go on writing beside a new holder.
//! That this cannot be perfect (a process may sleep through its loss) is why it is also given a
//! token to show (`lock.rs`).

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::target::Stop;
use super::{Exit, Failure, note};

/// How the holding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or by a signal to this process: let go and end with this.
    Regular(Exit),
    /// What was held is lost.
    Lost,
}

/// Runs `command` with these variables, or waits for a signal when there is none, until `lost`.
///
/// # Errors
/// When the command cannot be run.
pub async fn while_held(
    command: &[OsString],
    variables: &[(&str, String)],
    stop: &mut Stop,
    lost: impl Future<Output = ()>,
) -> Result<Ended, Failure> {
    tokio::pin!(lost);
    let Some((program, arguments)) = command.split_first() else {
        return Ok(tokio::select! {
            number = stop.next() => Ended::Regular(Exit::As(128 + number)),
            () = &mut lost => Ended::Lost,
        });
    };
    let mut child = Command::new(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot_run(program, &error))?;
    // A terminal gives an interrupt to the command as well; twice would be once too often.
    let shared_terminal = std::io::stdin().is_terminal();
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| Failure::new(Exit::Failed, error))?;
                return Ok(Ended::Regular(as_status(status)));
            }
            number = stop.next() => {
                if !(number == 2 && shared_terminal) {
                    pass_on(&child, number);
                }
            }
            () = &mut lost => {
                end(&mut child).await;
                return Ok(Ended::Lost);
            }
        }
    }
}

/// The arguments of the trailing command.
#[derive(clap::Args, Debug)]
pub struct Trailing {
    /// The command and its arguments, after `--`; without one, wait for Ctrl-C.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// A command that was asked to end may take so long to do it.
const GRACE: Duration = Duration::from_secs(5);

async fn end(child: &mut Child) {
    note(&"ringraft: what was held is lost: the command is ended");
    pass_on(child, 15);
    if timeout(GRACE, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}

fn pass_on(child: &Child, number: u8) {
    let signal = match number {
        1 => Signal::HUP,
        2 => Signal::INT,
        _ => Signal::TERM,
    };
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself in the meantime.
        let _ = kill_process(pid, signal);
    }
}

fn as_status(status: ExitStatus) -> Exit {
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Exit::As(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(1))
}

fn cannot_run(program: &OsString, error: &std::io::Error) -> Failure {
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let exit = Exit::As(if missing { 127 } else { 126 });
    Failure::new(exit, format!("{}: {error}", program.to_string_lossy()))
}
