//! The bare disk: one block written and synced after the other, as a journal's lone command is.
//!
//! Against an open loop it is what calls would wait that are due at that rate and are all carried
//! by the next write: a disk that stalls for a tenth of a second once in a while delays every call
//! that falls into it, of which a writer that waits sees one.
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

/// What the disk did.
#[derive(Debug)]
pub struct Written {
    /// How long a write took, or a call of an open loop waited for one.
    pub took: Latencies,
    /// Writes a second.
    pub per_second: f64,
}

/// Calls of an open loop that is as even as can be.
#[derive(Debug)]
struct Calls {
    /// Nanoseconds between two.
    gap_ns: f64,
    /// How many have been carried.
    carried: u64,
}

impl Calls {
    /// A write that began and ended so many nanoseconds after the first call was due: it carries
    /// all that were due when it began.
    fn carry(&mut self, began_ns: u64, ended_ns: u64, took: &mut Latencies) {
        loop {
            let due_ns = (self.carried as f64 * self.gap_ns) as u64;
            if due_ns > began_ns {
                return;
            }
            took.saturating_record(ended_ns - due_ns);
            self.carried += 1;
        }
    }
}

/// Writes and syncs blocks of 4 KiB for so long in a file under `directory`, which is removed
/// afterwards, on this core: how long each took, or what calls waited of which so many are due a
/// second.
///
/// # Errors
/// What the disk says; also when it takes no direct writes.
pub fn writes(
    directory: &Path,
    core: usize,
    span: Duration,
    rate: Option<f64>,
) -> io::Result<Written> {
    let path = directory.join(format!("ceiling-{}.tmp", std::process::id()));
    let on_core = || run_on(core).and_then(|()| at(&path, span, rate));
    let measured = std::thread::scope(|scope| scope.spawn(on_core).join());
    let measured = measured.expect("it cannot panic");
    drop(std::fs::remove_file(&path));
    measured
}

fn at(path: &Path, span: Duration, rate: Option<f64>) -> io::Result<Written> {
    std::fs::write(path, vec![0; FILE])?;
    std::fs::File::open(path)?.sync_all()?;
    let flags = (rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::DSYNC).bits();
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).custom_flags(flags as i32).open(path)?;
    let buffer = vec![1; 2 * BLOCK];
    let aligned = buffer.as_ptr().align_offset(BLOCK);
    let block = &buffer[aligned..aligned + BLOCK];
    let mut took = latencies(3);
    let mut calls = rate.map(|rate| Calls { gap_ns: 1e9 / rate, carried: 0 });
    let began = Instant::now();
    let nanos = || began.elapsed().as_nanos() as u64;
    let mut writes = 0;
    while writes == 0 || began.elapsed() < span {
        let from = nanos();
        file.write_all_at(block, (writes * BLOCK % FILE) as u64)?;
        let until = nanos();
        match &mut calls {
            Some(calls) => calls.carry(from, until, &mut took),
            None => took.saturating_record(until - from),
        }
        writes += 1;
    }
    Ok(Written { took, per_second: writes as f64 / began.elapsed().as_secs_f64() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_waited_for_by_all_that_fall_into_it() {
        let (mut calls, mut took) = (Calls { gap_ns: 10e3, carried: 0 }, latencies(3));
        // The first call is carried at once, those at 10 and 20 us by the next write, which stalls.
        calls.carry(0, 25_000, &mut took);
        assert_eq!((took.len(), took.max() / 1_000), (1, 25));
        calls.carry(25_000, 1_025_000, &mut took);
        assert_eq!((took.len(), took.max() / 1_000), (3, 1_015));
        // A hundred were due meanwhile, of which the first waited longest.
        calls.carry(1_025_000, 1_050_000, &mut took);
        assert_eq!(took.len(), 103);
        assert!((510_000..570_000).contains(&took.value_at_quantile(0.5)), "{took:?}");
    }
}
