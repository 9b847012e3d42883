//! `ringraft sim`: a simulated cluster from a seed, or many of them on all cores. The same seed
//! gives the same run for ever.

use clap::Args;
use serde_json::json;

use super::{Exit, Failure, say};
use crate::sim::coverage::Coverage;
use crate::sim::setup::Setup;
use crate::sim::topic::Topic;
use crate::sim::{Options, Report, run_setup};
use crate::workload::Mix;

/// What is typed.
#[derive(Args)]
pub struct Flags {
    /// The seed: the same one gives the same run for ever.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Run so many seeds on all cores, counting up from --seed, and stop at the first that breaks a
    /// promise: its story's end is told, and how to run it again.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Draw the world among these mixes of operations only, in this order, as a kept seed names
    /// them; all of them unless given.
    #[arg(long, value_name = "MIX,...", value_delimiter = ',', value_parser = mix)]
    mixes: Option<Vec<Mix>>,
    /// Draw these topics only, as a kept seed names them, or none; all of them unless given.
    #[arg(long, value_name = "TOPIC,...", value_delimiter = ',', value_parser = topic)]
    topics: Option<Vec<Option<Topic>>>,
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
    let mut met = Coverage::default();
    let end = flags.seed.saturating_add(flags.seeds);
    let mut first = flags.seed;
    while first < end {
        let last = end.min(first + SEEDS_AT_ONCE);
        for report in many(flags, first..last) {
            met.gather(&report.coverage);
            let fine = report.is_fine();
            if flags.json {
                say(&json_of(&report));
            } else if flags.seeds == 1 {
                say(&report.to_string().trim_end());
            } else if !fine {
                say(&with_end_of_story(flags, report).to_string().trim_end());
            }
            if !fine {
                return Ok(Exit::Damaged);
            }
        }
        first = last;
    }
    if flags.seeds > 1 && !flags.json {
        say(&format_args!("{} seeds keep every promise; they met\n{met}", flags.seeds));
    }
    Ok(Exit::Done)
}

/// Runs these seeds on all cores. The reports are in the order of the seeds.
fn many(flags: &Flags, seeds: std::ops::Range<u64>) -> Vec<Report> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds: Vec<u64> = seeds.collect();
    let each = seeds.len().div_ceil(cores);
    let one = |seed: &u64| run_setup(setup(flags, *seed), Options { story: flags.story });
    std::thread::scope(|scope| {
        let work = |part: &'_ [u64]| part.iter().map(one).collect::<Vec<_>>();
        let parts: Vec<_> =
            seeds.chunks(each).map(|part| scope.spawn(move || work(part))).collect();
        let joined = parts.into_iter().map(|part| part.join().expect("runs catch their panics"));
        joined.flatten().collect()
    })
}

fn setup(flags: &Flags, seed: u64) -> Setup {
    let mixes = flags.mixes.as_deref().unwrap_or(&Mix::ALL);
    let topics = flags.topics.as_ref().map(|topics| topics.iter().copied().flatten().collect());
    let topics: Vec<Topic> = topics.unwrap_or_else(|| Topic::ALL.to_vec());
    Setup::drawn_among(seed, mixes, &topics)
}

/// The same run, told; the end of the story is what matters.
fn with_end_of_story(flags: &Flags, report: Report) -> Report {
    let mut told = run_setup(setup(flags, report.seed), Options { story: true });
    assert_eq!(told.hash, report.hash, "the same seed gives the same run");
    let lines = told.story.len();
    told.story.drain(..lines.saturating_sub(STORY_LINES));
    told
}

/// Seeds between two looks at whether one failed.
const SEEDS_AT_ONCE: u64 = 64;

/// Lines of a failed run's story. `--seed N --story` tells all of it.
const STORY_LINES: usize = 200;

fn topic(name: &str) -> Result<Option<Topic>, String> {
    let known = || Topic::ALL.map(Topic::name).join(", ");
    match name {
        "none" => Ok(None),
        _ => Topic::from_name(name).map(Some).ok_or_else(|| format!("there are none, {}", known())),
    }
}

fn mix(name: &str) -> Result<Mix, String> {
    let known = || Mix::ALL.map(Mix::name).join(", ");
    Mix::from_name(name).ok_or_else(|| format!("there are {}", known()))
}

fn json_of(report: &Report) -> serde_json::Value {
    json!({
        "seed": report.seed,
        "mixes": report.among,
        "topics": report.about,
        "wrong": report.wrong,
        "hash": format!("{:016x}", report.hash),
        "events": report.events,
        "simulated_ns": report.took_ns,
        "operations": report.operations.0,
        "answered": report.operations.1,
        "story": report.story,
    })
}
