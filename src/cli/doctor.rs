//! `ringraft doctor`: what this host has, what a node wants, what that moves, how to get there.
//! Changes nothing but for a file of one MiB in the data directory, which it writes to time the
//! disk and removes. What stands in the host's files is in `host.rs`; whatever it finds there, a
//! node starts. Absent on purpose: setting anything (`tuning/host.sh`).

mod host;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use self::host::{Cores, Host};
use super::{Exit, Failure, say};
use crate::config::NodeConfig;
use crate::runtime::checks::{self, Check, Grade};

/// What is typed.
#[derive(Args)]
#[command(after_help = STATUS)]
pub struct Flags {
    /// Where a node would keep its data; the nearest directory above it that exists is looked at.
    #[arg(long, value_name = "DIR", default_value = "./ringraft-data")]
    data_dir: PathBuf,
    /// Do not write to the disk to time it.
    #[arg(long)]
    no_disk: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

const STATUS: &str = "\
Each line is good, poor (a node runs, slower or less evenly), missing (a node cannot run) or
hidden (it cannot be seen from here). The cores looked at are those that this command may use: run
it as the node will run (taskset, systemd-run, docker exec).

Exit status: 0 when a node can run here, however poorly; 6 when something is missing; 1 and 2 as
always.";

/// Does it.
///
/// # Errors
/// Never; a host that cannot run a node is exit status 6.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let mut found = vec![checks::kernel(), checks::ring(), checks::memory_lock()];
    found.push(checks::open_files(NodeConfig::default().connections_max.into()));
    found.extend(this_host(&flags.data_dir).look());
    if !flags.no_disk {
        found.push(disk(&flags.data_dir));
    }
    for check in &found {
        tell(check, flags.json);
    }
    let missing = found.iter().any(|check| check.grade == Grade::Missing);
    let poor = found.iter().filter(|check| check.grade == Grade::Poor).count();
    if !flags.json {
        say(&match (missing, poor) {
            (true, _) => "a node cannot run here".to_owned(),
            (false, 0) => "a node can run well here".to_owned(),
            (false, poor) => format!("a node can run here; {poor} could be better"),
        });
    }
    Ok(if missing { Exit::Kernel } else { Exit::Done })
}

fn this_host(data_dir: &Path) -> Host {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let cores = sched_getaffinity(None).map_or_else(
        |_| Cores::new(),
        |set| (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
    );
    let disk = fs::metadata(nearest(data_dir)).ok().map(|it| {
        let device = it.dev();
        (rustix::fs::major(device), rustix::fs::minor(device))
    });
    Host { root: PathBuf::from("/"), cores, disk }
}

/// The directory itself or the nearest above it that is there.
fn nearest(data_dir: &Path) -> &Path {
    data_dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."))
}

fn tell(check: &Check, as_json: bool) {
    let grade = match check.grade {
        Grade::Good => "good",
        Grade::Poor => "poor",
        Grade::Missing => "missing",
        Grade::Hidden => "hidden",
    };
    if as_json {
        say(&json!({
            "check": check.name, "grade": grade, "found": check.found, "wanted": check.wanted,
            "moves": check.moves, "mend": check.mend,
        }));
        return;
    }
    say(&format_args!("{grade:<8} {:<16} {}", check.name, check.found));
    if matches!(check.grade, Grade::Poor | Grade::Missing) {
        say(&format_args!("{:<25} wanted: {}", "", check.wanted));
        say(&format_args!("{:<25} moves:  {}", "", check.moves));
        say(&format_args!("{:<25} mend:   {}", "", check.mend));
    }
}

/// How long a durable write of one block takes where the journal would be.
fn disk(data_dir: &Path) -> Check {
    let directory = nearest(data_dir);
    let wanted = "direct writes, synced below 2 ms (median)";
    let check = |found: String, grade, mend: &str| Check {
        name: "disk",
        found: format!("{found} in {}", directory.display()),
        wanted,
        moves: "what every command waits for",
        grade,
        mend: mend.to_owned(),
    };
    let mut times = match time_writes(directory) {
        Ok(times) => times,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let advice = "use a file system with direct writes: ext4 or xfs, not tmpfs or overlay";
            return check("no direct writes".to_owned(), Grade::Poor, advice);
        }
        Err(error) => {
            return check(error.to_string(), Grade::Poor, "make it writable, or name another");
        }
    };
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let found =
        format!("4 KiB durable in {median:?} (median), {worst:?} (worst of {})", times.len());
    if median < Duration::from_millis(2) {
        check(found, Grade::Good, "")
    } else {
        check(found, Grade::Poor, "a disk with power loss protection, or one nearer")
    }
}

fn time_writes(directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join(format!(".ringraft-doctor-{}", std::process::id()));
    let times = time_writes_to(&path);
    // Whatever came of it, nothing is left behind.
    drop(fs::remove_file(&path));
    times
}

fn time_writes_to(path: &Path) -> io::Result<Vec<Duration>> {
    const BLOCK: usize = 4096;
    const BLOCKS: usize = 256;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    // Direct writes want memory at a block's border; a vector twice the size has one inside.
    let memory = vec![0u8; 2 * BLOCK];
    let border = memory.as_ptr().align_offset(BLOCK);
    let block = &memory[border..border + BLOCK];
    // As the journal does: the file is written full first, so that what is timed extends nothing.
    for at in 0..BLOCKS {
        rustix::io::pwrite(&file, block, (at * BLOCK) as u64)?;
    }
    rustix::fs::fsync(&file)?;
    let mut times = Vec::with_capacity(BLOCKS);
    for at in 0..BLOCKS {
        let start = Instant::now();
        rustix::io::pwrite(&file, block, (at * BLOCK) as u64)?;
        rustix::fs::fdatasync(&file)?;
        times.push(start.elapsed());
    }
    Ok(times)
}
