//! What the client's subcommands share: which node, how long, in which form; and what is said when
//! a call fails. What they print is in `show.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, Failure};
use crate::client::{Client, Dialect, Fault, Options, Status};

/// What is typed after a subcommand that talks to a node: what is to be done, and where.
#[derive(Args)]
pub struct Flags<C: Subcommand> {
    #[command(subcommand)]
    pub(super) command: C,
    #[command(flatten)]
    pub(super) target: Target,
}

/// Flags of every subcommand that talks to a node.
#[derive(Args, Debug, Clone)]
pub struct Target {
    /// API address of a node; several separated by commas: the first that answers.
    #[arg(long, env = "RINGRAFT_ENDPOINT", default_value = DEFAULT_ENDPOINT, global = true)]
    #[arg(value_name = "HOST:PORT", value_delimiter = ',')]
    pub endpoint: Vec<String>,
    /// How long to try before giving up, as 500ms, 5s or 2m.
    #[arg(long, default_value = "5s", value_parser = lifetime, value_name = "TIME", global = true)]
    pub timeout: Duration,
    /// How long the cluster keeps what this client holds when it falls silent; 1s or more.
    #[arg(long, default_value = "15s", value_parser = silence, value_name = "TIME", global = true)]
    pub session_timeout: Duration,
    /// The partitions' ids separated by commas, all of them, when the node is not to be asked.
    #[arg(long, env = "RINGRAFT_PARTITION_IDS", value_delimiter = ',', global = true)]
    #[arg(value_name = "IDS")]
    pub partition_ids: Vec<u32>,
    /// What the node's listener speaks: documented or released.
    #[arg(long, env = "RINGRAFT_DIALECT", default_value = "documented", global = true)]
    #[arg(value_parser = dialect, value_name = "DIALECT")]
    pub dialect: Dialect,
    /// The namespace of what is named; the same name in another is something else.
    #[arg(long, env = "RINGRAFT_NAMESPACE", default_value = "", global = true)]
    #[arg(value_name = "TEXT", hide_default_value = true)]
    pub namespace: String,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Where `ringraft` alone serves.
pub const DEFAULT_ENDPOINT: &str = "127.0.0.1:5678";

impl Target {
    /// Runs `work` on this thread to its end.
    ///
    /// # Errors
    /// What `work` says.
    pub fn block_on<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error))?;
        let outcome = runtime.block_on(work);
        // A name that is still being looked up must not hold up the end.
        runtime.shutdown_background();
        outcome
    }

    /// Runs `work` with a client on this thread, and ends what the client had open.
    ///
    /// # Errors
    /// What `work` says.
    pub fn with_client(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.block_on(async {
            let client = self.connect().await?;
            let outcome = work(&client).await;
            // The result stands whether or not the sessions end in good order.
            drop(client.close().await);
            outcome
        })
    }

    /// Reaches the node.
    ///
    /// # Errors
    /// Says how to start one.
    async fn connect(&self) -> Result<Client, Failure> {
        for endpoint in &self.endpoint {
            if crate::config::Address::parse(endpoint).is_none() {
                let what = format!("--endpoint {endpoint}: not HOST:PORT");
                return Err(Failure::new(Exit::Usage, what));
            }
        }
        let options = Options {
            endpoints: self.endpoint.clone(),
            patience: self.timeout,
            session_timeout: self.session_timeout,
            partitions: self.partition_ids.iter().copied().collect::<BTreeSet<u32>>(),
            dialect: self.dialect,
            namespace: self.namespace.clone(),
        };
        Client::connect(options).await.map_err(|fault| self.failure(fault))
    }

    /// Tells a fault of the client, and what to do about it.
    #[must_use]
    pub fn failure(&self, fault: Fault) -> Failure {
        let failure = |exit| Failure::new(exit, &fault);
        let endpoints = self.endpoint.join(",");
        match &fault {
            Fault::Unreachable { endpoint, .. } if endpoint.is_empty() => {
                failure(Exit::Unreachable).mend(format_args!(
                    "does the node run, and is {endpoints} where its clients come in? \
                     `ringraft serve` says where: clients"
                ))
            }
            Fault::Unreachable { .. } => failure(Exit::Unreachable)
                .mend("start one with `ringraft serve`, or name another with --endpoint HOST:PORT"),
            Fault::Timeout => failure(Exit::Unreachable).mend(format_args!(
                "look after the node at {endpoints}, or give it longer: --timeout"
            )),
            Fault::NoPartitions => failure(Exit::No)
                .mend("found some with Node.Bootstrap, or start the node with --partitions 8"),
            Fault::SessionLost => failure(Exit::Lost)
                .mend("the node did not hear from this client for --session-timeout: begin again"),
            Fault::Status { code: UNAVAILABLE, .. } => failure(Exit::Unreachable),
            Fault::Refused { status: Status::Conflict, .. } => {
                failure(Exit::No).mend("it is not, or no longer, as demanded: look at it again")
            }
            Fault::Refused { status, .. } if is_no(*status) => failure(Exit::No),
            Fault::Status { .. } | Fault::Refused { .. } => failure(Exit::Refused),
            Fault::Interrupted { .. } | Fault::Gap => {
                failure(Exit::Failed).mend("what was missed is not known: begin again")
            }
            Fault::Closed => failure(Exit::Failed),
            Fault::Protocol(_) => failure(Exit::Refused).mend(format_args!(
                "is it a ringraft node, and does its listener speak the {} dialect? \
                 `ringraft serve` says which: --dialect",
                self.dialect.name()
            )),
        }
    }

    /// The outcome of a call, as the process tells it.
    ///
    /// # Errors
    /// The fault, told.
    pub fn outcome<T>(&self, outcome: Result<T, Fault>) -> Result<T, Failure> {
        outcome.map_err(|fault| self.failure(fault))
    }
}

const UNAVAILABLE: u32 = 14;

/// Answers that say no, without anything being wrong.
fn is_no(status: Status) -> bool {
    matches!(status, Status::NotFound | Status::AlreadyExists)
}

/// The signals that ask a process to end.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    /// Takes over from the default, which ends the process at once.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> Result<Stop, Failure> {
        let catch = |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, error));
        Ok(Stop {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}

/// A length of time as typed: `500ms`, `5s`, `2m`, `1h`; a bare number counts seconds.
///
/// # Errors
/// Says what is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number: Option<u64> = number.parse().ok();
    let total = number.and_then(|number| number.checked_mul(millis)).filter(|_| millis > 0);
    total.map(Duration::from_millis).ok_or_else(|| "write it as 500ms, 5s, 2m or 1h".to_owned())
}

/// A length of time that is not zero.
///
/// # Errors
/// Says what is allowed.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    if span.is_zero() { Err("it must be more than 0".to_owned()) } else { Ok(span) }
}

/// A session's timeout. Shorter ones end while the network hiccups.
fn silence(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    if span < Duration::from_secs(1) { Err("it must be 1s or more".to_owned()) } else { Ok(span) }
}

fn dialect(text: &str) -> Result<Dialect, String> {
    Dialect::parse(text).ok_or_else(|| "documented or released".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "5 s", "-1s", "1.5s", "5d", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
