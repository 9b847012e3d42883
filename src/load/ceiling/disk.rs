//! The bare disk: one block written and synced after the other, as a journal's lone command is.
//!
//! The file is written full before, as a journal's segments are: writes that extend a file cost
//! several times as much.

use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::measure::{Latencies, latencies};
use super::core::run_on;

const BLOCK: usize = 4096;
const FILE: usize = 16 << 20;

/// Writes and syncs blocks of 4 KiB for so long in a file under `directory`, which is removed
/// afterwards, on this core: how long each took.
///
/// # Errors
/// What the disk says; also when it takes no direct writes.
pub fn writes(directory: &Path, core: usize, span: Duration) -> io::Result<Latencies> {
    let path = directory.join(format!("ceiling-{}.tmp", std::process::id()));
    let on_core = || run_on(core).and_then(|()| at(&path, span));
    let measured = std::thread::scope(|scope| scope.spawn(on_core).join());
    let measured = measured.expect("it cannot panic");
    drop(std::fs::remove_file(&path));
    measured
}

fn at(path: &Path, span: Duration) -> io::Result<Latencies> {
    std::fs::write(path, vec![0; FILE])?;
    std::fs::File::open(path)?.sync_all()?;
    let flags = (rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::DSYNC).bits();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).custom_flags(flags as i32).open(path)?;
    let buffer = vec![1; 2 * BLOCK];
    let aligned = buffer.as_ptr().align_offset(BLOCK);
    let block = &buffer[aligned..aligned + BLOCK];
    let mut took = latencies(3);
    let began = Instant::now();
    for nth in 0usize.. {
        let now = Instant::now();
        if nth > 0 && now - began >= span {
            break;
        }
        file.write_all_at(block, (nth * BLOCK % FILE) as u64)?;
        took.saturating_record(now.elapsed().as_nanos() as u64);
    }
    Ok(took)
}
