//! `ringraft load`: drives a server, measures it, and checks what it answers.
//!
//! Results go to standard output once, at the end, also after Ctrl-C; a line about how it goes to
//! standard error every second. A wrong answer is the exit status of damage. Beside this file:
//! `load/flags.rs` is what is typed, as a plan; `load/ceiling.rs` the limits of a host.

mod ceiling;
mod flags;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};

use self::flags::RunFlags;
use super::target::lifetime;
use super::{Exit, Failure, VERSION, note, said, say};
use crate::load::arrival::Pace;
use crate::load::course::Ending;
use crate::load::html;
use crate::load::plan::Plan;
use crate::load::report::{Report, Summary, micros};
use crate::load::sweep::{Course, Sweep};
use crate::load::{self, Progress};

/// What is typed.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Flags {
    #[command(subcommand)]
    instead: Option<Instead>,
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    output: Output,
}

#[derive(Subcommand)]
enum Instead {
    /// Raise the rate until the p99 breaks its bound, and say where that is.
    ///
    /// Begins at --rate, which grows by --factor until a step fails; then the gap is halved.
    Sweep(SweepFlags),
    /// Measure what bounds a node here: bare echoes, a bare disk, and beside them the node itself.
    Ceiling(ceiling::Flags),
    /// Add up the results of several hosts, which `load --json` wrote.
    Merge(MergeFlags),
}

#[derive(Args)]
struct SweepFlags {
    #[command(flatten)]
    run: RunFlags,
    /// The bound on the p99, as 500us, 5ms or 1s.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = bound)]
    p99: f64,
    /// The highest rate that is tried.
    #[arg(long, value_name = "N", default_value_t = 5_000_000.0)]
    most: f64,
    /// By how much the rate grows.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = factor)]
    factor: f64,
    /// Print the results of all steps as JSON.
    #[arg(long)]
    json: bool,
    /// Write a page with the curve of rates and latencies.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// No line about how it goes.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Args)]
struct MergeFlags {
    /// Files that `load --json` wrote.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// In which forms results are given.
#[derive(Args)]
struct Output {
    /// Print the results as JSON: what `load merge` reads.
    #[arg(long)]
    json: bool,
    /// Print one line a sort of call, separated by commas.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Write the percentiles for HdrHistogram's tools.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Write the results as one page with charts.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// No line about how it goes.
    #[arg(long, short)]
    quiet: bool,
}

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  ringraft load --rate 5000                          increments, 5,000 a second whatever happens
  ringraft load counter --in-flight 256              as many as 256 at a time give
  ringraft load map-mixed --mix b --distribution zipf --value-bytes 1000
  ringraft load lock-contended --in-flight 32 --json > locks.json
  ringraft load sweep counter --rate 50000 --p99 2ms --report knee.html
  ringraft load ceiling --node --pid $(pidof -s ringraft) --disk ringraft-data
  ringraft load merge host1.json host2.json --report both.html
A wrong answer ends the run with status 12, calls that nobody answered with 9.";

/// Does it.
///
/// # Errors
/// When it cannot begin, or when an answer was wrong.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    match &flags.instead {
        None => {}
        Some(Instead::Sweep(flags)) => return sweep(flags),
        Some(Instead::Ceiling(flags)) => return ceiling::run(flags),
        Some(Instead::Merge(flags)) => return merge(flags),
    }
    let plan = flags.run.plan()?;
    let stop = interrupted()?;
    let report = measure(plan, &stop, flags.output.quiet)?;
    flags.output.give(&report)?;
    verdict(&report)
}

fn sweep(flags: &SweepFlags) -> Result<Exit, Failure> {
    let mut plan = flags.run.plan()?;
    let Pace::Open { rate: from, spread } = plan.pace else {
        return Err(Failure::new(Exit::Usage, "a sweep raises --rate: leave --in-flight out"));
    };
    let stop = interrupted()?;
    let course = Course { from, most: flags.most, factor: flags.factor, halvings: 3 };
    let mut sweep = Sweep { bound_us: flags.p99, steps: Vec::new() };
    let name = plan.name.clone();
    while let Some(rate) = sweep.next(&course) {
        plan.pace = Pace::Open { rate, spread };
        plan.name = format!("{name}-{}", sweep.steps.len());
        plan.name_things();
        let report = measure(plan.clone(), &stop, flags.quiet)?;
        if report.interrupted && report.is_sound() {
            break;
        }
        if !flags.json {
            step(&report, sweep.kept(&report));
        }
        let verdict = verdict(&report);
        sweep.take(report);
        if stop.load(Ordering::Relaxed) {
            verdict?;
        }
    }
    if let Some(path) = &flags.report {
        write(path, &html::sweep_page(&sweep))?;
    }
    if flags.json {
        let json = serde_json::to_string(&sweep);
        say(&json.map_err(|error| Failure::new(Exit::Failed, error))?);
    }
    let Some(knee) = sweep.knee() else {
        let bound = micros(flags.p99);
        return Err(Failure::new(Exit::No, format!("no rate kept a p99 of {bound}"))
            .mend("begin lower: --rate, or allow more: --p99"));
    };
    if !flags.json {
        say(&format_args!("knee       {knee:.0}/s with a p99 of at most {}", micros(flags.p99)));
    }
    Ok(Exit::Done)
}

fn step(report: &Report, kept: bool) {
    let l = &report.latency_us;
    let mut line = format!(
        "{:>9.0}/s  answered {:>9.0}/s  p50 {:>7}  p99 {:>7}  p99.9 {:>7}  {}",
        report.settings.rate.unwrap_or(0.0),
        report.calls_per_second,
        micros(l.p50),
        micros(l.p99),
        micros(l.p999),
        if kept { "kept" } else { "broken" }
    );
    if let Some(limit) = &report.generator.limit {
        line = format!("{line}  (the generator: {limit})");
    }
    say(&line);
}

fn merge(flags: &MergeFlags) -> Result<Exit, Failure> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Exit::No, format!("{}: {error}", path.display())))?;
        serde_json::from_str::<Report>(&text).map_err(|error| {
            Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
                .mend("give files that `ringraft load --json` wrote")
        })
    };
    let reports = flags.files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let report = load::merge::merge(reports).map_err(|why| Failure::new(Exit::Failed, why))?;
    flags.output.give(&report)?;
    verdict(&report)
}

/// Microseconds of a length of time as typed.
fn bound(text: &str) -> Result<f64, String> {
    let micros = text.strip_suffix("us").map(str::parse::<f64>);
    match micros {
        Some(Ok(micros)) if micros > 0.0 => Ok(micros),
        Some(_) => Err("write it as 500us, 5ms or 1s".to_owned()),
        None => lifetime(text).map(|span| span.as_secs_f64() * 1e6),
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor > 1.0 && factor <= 100.0 => Ok(factor),
        _ => Err("a number above 1".to_owned()),
    }
}

/// Set by Ctrl-C; a second one ends the process at once.
fn interrupted() -> Result<Arc<AtomicBool>, Failure> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let again = Arc::clone(&stop);
        signal_hook::flag::register_conditional_default(signal, again)
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| Failure::new(Exit::Failed, error))?;
    }
    Ok(stop)
}

/// Runs a plan, with a line every second.
fn measure(plan: Plan, stop: &Arc<AtomicBool>, quiet: bool) -> Result<Report, Failure> {
    let addresses: Vec<String> = plan.addresses.iter().map(ToString::to_string).collect();
    let terminal = std::io::stderr().is_terminal();
    let outcome = load::run(plan, stop, |progress| {
        if !quiet {
            tell(progress, terminal);
        }
    });
    if terminal && !quiet {
        // The line about how it goes stays behind otherwise.
        drop(write!(std::io::stderr().lock(), "\r\x1b[K"));
    }
    let outcome = outcome.map_err(|ending| failure(&ending, &addresses.join(",")))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Report::of(&outcome, host(), VERSION, since.as_secs()))
}

fn tell(progress: &Progress, terminal: bool) {
    let mut line = match progress.elapsed {
        None => "preparing".to_owned(),
        Some(elapsed) => {
            let rate = progress.latencies.len() as f64 / progress.span.as_secs_f64().max(1e-9);
            let summary = Summary::of(&progress.latencies);
            let (p50, p99) = (micros(summary.p50), micros(summary.p99));
            format!("{:>5.0}s  {rate:>9.0}/s  p50 {p50}  p99 {p99}", elapsed.as_secs_f64())
        }
    };
    if let Some(trouble) = &progress.trouble {
        line = format!("{line}  ({trouble})");
    }
    if terminal {
        let mut err = std::io::stderr().lock();
        drop(write!(err, "\r\x1b[K{line}").and_then(|()| err.flush()));
    } else {
        note(&line);
    }
}

impl Output {
    fn give(&self, report: &Report) -> Result<(), Failure> {
        if let Some(path) = &self.hgrm {
            write(path, &report.hgrm())?;
        }
        if let Some(path) = &self.report {
            write(path, &html::page(report))?;
        }
        let text = if self.json {
            let json = serde_json::to_string(report);
            json.map_err(|error| Failure::new(Exit::Failed, error))? + "\n"
        } else if self.csv {
            report.csv()
        } else {
            report.table()
        };
        let mut out = std::io::stdout().lock();
        said(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))
}

/// How the process ends after its results are out.
fn verdict(report: &Report) -> Result<Exit, Failure> {
    if let Some(wrong) = report.wrong.first() {
        return Err(Failure::new(Exit::Damaged, format!("a wrong answer: {wrong}"))
            .mend("the server broke a promise: keep its data directory and this seed"));
    }
    if let Some(ending) = &report.ending {
        return Err(Failure::new(Exit::Refused, format!("it ended early: {ending}")));
    }
    if report.counts.unanswered > 0 {
        let many = report.counts.unanswered;
        return Err(Failure::new(Exit::Unreachable, format!("{many} calls were not answered"))
            .mend("nobody knows whether they were done; --timeout says how long is waited"));
    }
    Ok(Exit::Done)
}

/// Why it could not begin, and what to do.
fn failure(ending: &Ending, addresses: &str) -> Failure {
    match ending {
        Ending::Unreachable(_) => Failure::new(Exit::Unreachable, ending)
            .mend("start one with `ringraft serve`, or name another with --endpoint HOST:PORT"),
        Ending::Silent(_) => Failure::new(Exit::Unreachable, ending)
            .mend(format_args!("look after the node at {addresses}, or give it longer: --timeout")),
        Ending::Strange(_) => Failure::new(Exit::Unreachable, ending).mend(format_args!(
            "is {addresses} where clients come in? `ringraft serve` says where: clients"
        )),
        Ending::Refused(_, why) if why.contains("dialect") || why.contains("UNIMPLEMENTED") => {
            Failure::new(Exit::Refused, ending)
                .mend("`ringraft serve` says what its listener speaks: --target ringraft or atomix")
        }
        Ending::Refused(..) => Failure::new(Exit::Refused, ending),
        Ending::Lost(_) => Failure::new(Exit::Lost, ending),
        Ending::Broken(_) => Failure::new(Exit::Failed, ending),
        Ending::Stopped => Failure::new(Exit::As(130), ending),
    }
}

/// This host in one line.
fn host() -> String {
    let system = rustix::system::uname();
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("", |(_, model)| model.trim());
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "{}: {cores} x {model}, {} {}",
        system.nodename().to_string_lossy(),
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy()
    )
}
