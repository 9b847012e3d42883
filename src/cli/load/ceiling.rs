//! `ringraft load ceiling`: what an echo and a bare disk reach here, and the node beside them.
//!
//! Everything in one run with the same calls and the same load, one after the other, so that the
//! figures can be set against each other on a machine whose speed nobody knows. Echoes and disk
//! loop run on the node's core and the load beside it, as it does for the node: a call that needs
//! no wake on another core takes a third of the time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::flags::RunFlags;
use super::{interrupted, measure};
use crate::cli::{Exit, Failure, say};
use crate::load::arrival::Pace;
use crate::load::ceiling::{self, Echo, core, disk};
use crate::load::plan::{Plan, Workload};
use crate::load::report::{Report, Summary, micros};

/// What is typed.
#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    run: RunFlags,
    /// The directory of the disk that is written to; best the data directory of the node.
    #[arg(long, value_name = "DIR", default_value = ".")]
    disk: PathBuf,
    /// Also measure the node at --endpoint, in the same run.
    #[arg(long)]
    node: bool,
    /// The node's process on this host, whose CPU is then told as well.
    #[arg(long, value_name = "PID", requires = "node")]
    pid: Option<u32>,
    /// The core of the echoes and the disk loop, by the kernel's numbers; the load keeps off it. By
    /// default the first that the node of --pid may use, or this process.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
}

/// One of the limits, or the node.
#[derive(Serialize)]
struct Row {
    name: String,
    per_second: f64,
    /// Of the server, a call.
    cpu_us: Option<f64>,
    latency_us: Summary,
    /// Why the generator may have been the limit.
    generator: Option<String>,
}

/// Calls at a time when nobody says: the load that a durable command's cost is told for.
const IN_FLIGHT: usize = 256;

/// For how long a lone writer is measured at most.
const WRITES: Duration = Duration::from_secs(5);

/// Does it.
///
/// # Errors
/// When one of them cannot be measured.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let stop = interrupted()?;
    let core = core(flags)?;
    let mut rows = Vec::new();
    for echo in [Echo::Own, Echo::H2] {
        rows.push(echoed(flags, echo, core, &stop)?);
    }
    rows.push(written(flags, core)?);
    if flags.node {
        let plan = plan(flags, None)?;
        let before = flags.pid.map(ceiling::ran_ns);
        let report = measure(plan, &stop, true)?;
        let after = flags.pid.map(ceiling::ran_ns);
        let ran = before.zip(after).map(|(before, after)| after.saturating_sub(before));
        rows.push(row("node", &report, ran));
        super::verdict(&report)?;
    }
    if flags.json {
        let json = serde_json::to_string(&rows);
        say(&json.map_err(|error| Failure::new(Exit::Failed, error))?);
    } else {
        table(&rows);
    }
    Ok(Exit::Done)
}

/// The core of the echoes and the disk loop, which this thread and the load's keep off.
fn core(flags: &Flags) -> Result<usize, Failure> {
    let chosen = flags.core.or_else(|| core::first_of(flags.pid)).unwrap_or(0);
    let tried = std::thread::spawn(move || core::run_on(chosen)).join().expect("it cannot panic");
    tried.and_then(|()| core::keep_off(chosen)).map_err(|error| {
        Failure::new(Exit::Usage, format!("core {chosen} cannot be used: {error}"))
            .mend("--core names another one")
    })?;
    Ok(chosen)
}

fn plan(flags: &Flags, echo: Option<std::net::SocketAddr>) -> Result<Plan, Failure> {
    let mut plan = match echo {
        Some(address) => flags.run.plan_for(vec![address], vec![1])?,
        None => flags.run.plan()?,
    };
    if plan.workload != Workload::Counter {
        let what = "an echo answers the counter workload only";
        return Err(Failure::new(Exit::Usage, what));
    }
    if !flags.run.has_pace() {
        plan.pace = Pace::Closed { in_flight: IN_FLIGHT };
    }
    // The CPU of a server is counted from its first call to its last, so all of them are.
    plan.warmup = Duration::ZERO;
    plan.is_checked = echo.is_none();
    Ok(plan)
}

fn echoed(flags: &Flags, echo: Echo, core: usize, stop: &Arc<AtomicBool>) -> Result<Row, Failure> {
    let running = echo.start(core).map_err(|error| {
        Failure::new(Exit::Kernel, format!("{}: {error}", echo.name()))
            .mend("`ringraft doctor` says what the host lacks")
    })?;
    let plan = plan(flags, Some(running.address))?;
    let before = running.ran_ns();
    let report = measure(plan, stop, true)?;
    Ok(row(echo.name(), &report, Some(running.ran_ns() - before)))
}

fn written(flags: &Flags, core: usize) -> Result<Row, Failure> {
    let span = flags.run.duration();
    // Stalls are rare: what an open loop meets takes as long to see.
    let rate = flags.run.rate();
    let span = if rate.is_some() { span } else { span.min(WRITES) };
    let written = disk::writes(&flags.disk, core, span, rate).map_err(|error| {
        Failure::new(Exit::Disk, format!("{}: {error}", flags.disk.display()))
            .mend("name a directory on a disk that takes direct writes: --disk")
    })?;
    Ok(Row {
        name: "disk, write and sync".to_owned(),
        per_second: written.per_second,
        cpu_us: None,
        latency_us: Summary::of(&written.took),
        generator: None,
    })
}

fn row(name: &str, report: &Report, ran_ns: Option<u64>) -> Row {
    let calls = report.calls.max(1) as f64;
    Row {
        name: name.to_owned(),
        per_second: report.calls_per_second,
        cpu_us: ran_ns.map(|ran| ran as f64 / 1e3 / calls),
        latency_us: report.latency_us,
        generator: report.generator.limit.clone(),
    }
}

fn table(rows: &[Row]) {
    say(&format_args!(
        "{:<21} {:>11} {:>12} {:>14} {:>8} {:>8} {:>8}",
        "", "a second", "server CPU", "a CPU-second", "p50", "p99", "p99.9"
    ));
    for row in rows {
        let (cpu, each) = row.cpu_us.map_or_else(
            || (String::new(), String::new()),
            |us| (format!("{us:.2} us"), format!("{:.0}", 1e6 / us.max(1e-9))),
        );
        say(&format_args!(
            "{:<21} {:>11.0} {cpu:>12} {each:>14} {:>8} {:>8} {:>8}",
            row.name,
            row.per_second,
            micros(row.latency_us.p50),
            micros(row.latency_us.p99),
            micros(row.latency_us.p999)
        ));
        if let Some(limit) = &row.generator {
            say(&format_args!("{:<21} the limit may be the generator: {limit}", ""));
        }
    }
}
