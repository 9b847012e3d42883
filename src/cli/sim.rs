//! `ringraft sim`: a simulated cluster from a seed. The same seed gives the same run for ever.

use clap::Args;
use serde_json::json;

use super::{Exit, Failure, say};
use crate::sim::setup::Setup;
use crate::sim::{Options, Report, run_setup};
use crate::workload::Mix;

/// What is typed.
#[derive(Args)]
pub struct Flags {
    /// The seed: the same one gives the same run for ever.
    #[arg(long, value_name = "N")]
    seed: u64,
    /// Run so many seeds, counting up from --seed, and stop at the first that breaks a promise.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Draw the world among these mixes of operations only, in this order, as a kept seed names
    /// them; all of them unless given.
    #[arg(long, value_name = "MIX,...", value_delimiter = ',', value_parser = mix)]
    mixes: Vec<Mix>,
    /// Tell the run as a story, event by event.
    #[arg(long)]
    story: bool,
    /// Print JSON, one object a seed.
    #[arg(long)]
    json: bool,
}

/// Does it.
///
/// # Errors
/// Never; a run that broke a promise is exit status 12.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let mixes = if flags.mixes.is_empty() { &Mix::ALL[..] } else { &flags.mixes };
    for seed in flags.seed..flags.seed.saturating_add(flags.count) {
        let setup = Setup::drawn_among(seed, mixes);
        let report = run_setup(setup, Options { story: flags.story });
        if flags.json {
            say(&json_of(&report));
        } else {
            say(&report.to_string().trim_end());
        }
        if !report.is_fine() {
            return Ok(Exit::Damaged);
        }
    }
    Ok(Exit::Done)
}

fn mix(name: &str) -> Result<Mix, String> {
    let known = || Mix::ALL.map(Mix::name).join(", ");
    Mix::from_name(name).ok_or_else(|| format!("there are {}", known()))
}

fn json_of(report: &Report) -> serde_json::Value {
    json!({
        "seed": report.seed,
        "mixes": report.among,
        "wrong": report.wrong,
        "hash": format!("{:016x}", report.hash),
        "events": report.events,
        "simulated_ns": report.took_ns,
        "operations": report.operations.0,
        "answered": report.operations.1,
        "story": report.story,
    })
}
