//! `ringraft driver-config`: the configuration of the published Go drivers, for the nodes that run.
//!
//! A driver never asks who leads (core.md 8.3): it is told, in JSON that Go's own decoder reads
//! (core.md 8.1), and told again when that changes. What is printed here is that text and nothing
//! else; those of 2022 and 2023 read the same. Absent on purpose: following changes, for a node
//! passes on what it does not lead.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::target::{DEFAULT_ENDPOINT, duration};
use super::{Exit, Failure, note, say};
use crate::client::seats::{Place, Told, ask, places};

/// What is typed.
#[derive(Args)]
pub struct Flags {
    /// API addresses of nodes, separated by commas, as the driver is to reach them: each is asked.
    #[arg(long, env = "RINGRAFT_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    #[arg(value_name = "HOST:PORT", value_delimiter = ',')]
    endpoint: Vec<String>,
    /// How long to wait for each node, as 500ms, 5s or 2m.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// How long the nodes keep what a silent driver holds; the driver's own default is 1m.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    session_timeout: Option<Duration>,
}

/// `DriverConfig` as the driver's decoder spells it (core.md 8.1).
#[derive(Serialize)]
struct DriverConfig<'a> {
    partitions: Vec<Partition<'a>>,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_timeout: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Partition<'a> {
    partition_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    followers: &'a [String],
}

impl Partition<'_> {
    fn of(place: &Place) -> Partition<'_> {
        let Place { partition, leader, followers } = place;
        Partition { partition_id: *partition, leader: leader.as_deref(), followers }
    }
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let mut once = BTreeSet::new();
    let endpoints: Vec<&String> = flags.endpoint.iter().filter(|at| once.insert(*at)).collect();
    for endpoint in &endpoints {
        if crate::config::Address::parse(endpoint).is_none() {
            return Err(Failure::new(Exit::Usage, format!("--endpoint {endpoint}: not HOST:PORT")));
        }
    }
    // The driver asks four times within it, with a ticker that does not take 0.
    let is_short = |span: &Duration| *span < Duration::from_secs(1);
    if flags.session_timeout.as_ref().is_some_and(is_short) {
        return Err(Failure::new(Exit::Usage, "--session-timeout: at least 1s"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error))?;
    let told = runtime.block_on(ask_all(&endpoints, flags.timeout));
    runtime.shutdown_background();
    let places = places(&told?);
    if places.is_empty() {
        return Err(Failure::new(Exit::No, "the nodes have no partitions")
            .mend("found some with Node.Bootstrap, or start a node with --partitions 8"));
    }
    for place in places.iter().filter(|place| place.leader.is_none()) {
        note(&format_args!("ringraft: partition {}: its leader is not known", place.partition));
    }
    say(&text(&places, flags.session_timeout));
    Ok(Exit::Done)
}

/// What the nodes tell; one that does not answer is left out, unless none does.
async fn ask_all(
    endpoints: &[&String],
    patience: Duration,
) -> Result<Vec<(String, Told)>, Failure> {
    let (mut told, mut missing) = (Vec::new(), None);
    for endpoint in endpoints {
        match ask(endpoint, patience).await {
            Ok(one) => {
                if !one.is_released {
                    note(&format_args!("ringraft: {endpoint} speaks the documented dialect"));
                    note(&"  the drivers of 2022 do not: start it with --dialect released");
                }
                told.push(((*endpoint).clone(), one));
            }
            Err(fault) => {
                note(&format_args!("ringraft: left out: {fault}"));
                missing = Some(fault);
            }
        }
    }
    match missing {
        Some(_) if told.is_empty() => Err(Failure::new(Exit::Unreachable, "no node answers")
            .mend("start one with `ringraft serve --dialect released`")),
        _ => Ok(told),
    }
}

fn text(places: &[Place], session_timeout: Option<Duration>) -> String {
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let config = DriverConfig {
        partitions: places.iter().map(Partition::of).collect(),
        session_timeout: session_timeout.map(nanos),
    };
    serde_json::to_string(&config).expect("text and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_spelled_as_the_driver_reads_it() {
        let address = |at: &str| at.to_owned();
        let places = [
            Place {
                partition: 1,
                leader: Some(address("a:5678")),
                followers: vec![address("b:5678"), address("c:5678")],
            },
            Place { partition: 2, leader: None, followers: vec![address("b:5678")] },
        ];
        assert_eq!(
            text(&places, Some(Duration::from_secs(60))),
            r#"{"partitions":[{"partitionId":1,"leader":"a:5678","followers":["b:5678","c:5678"]},"#
                .to_owned()
                + r#"{"partitionId":2,"followers":["b:5678"]}],"session_timeout":60000000000}"#
        );
        assert_eq!(
            text(&places[..0], None),
            r#"{"partitions":[]}"#,
            "without a timeout the driver takes its own"
        );
    }
}
