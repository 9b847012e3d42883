//! What the host must give before a core can start, and which cores there are.
//!
//! Each thing that is missing is told in one line with the way to mend it. Absent on purpose: changing the
//! host beyond this process's own soft limits.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

/// Something that the host does not give.
#[derive(Debug)]
pub struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Raises what may be raised and checks the rest, for so many cores.
pub fn prepare(shards: u16) -> Result<(), Missing> {
    kernel()?;
    memory_lock(shards)?;
    descriptors();
    ring()
}

/// The cores that this process may use, by the kernel's numbers.
pub fn cores() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
        // Every Linux has it; without an answer, one unpinned core is the safe guess.
        Err(_) => Vec::new(),
    }
}

fn kernel() -> Result<(), Missing> {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>());
    let version = (numbers.next(), numbers.next());
    match version {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < KERNEL_MIN => Err(Missing(format!(
            "Linux {release} is too old: io_uring is reliable from {}.{} on",
            KERNEL_MIN.0, KERNEL_MIN.1
        ))),
        _ => Ok(()),
    }
}

/// Sleeping on nested rings hangs on older kernels (notes/field-notes.md, D.3).
const KERNEL_MIN: (u32, u32) = (5, 15);

/// Three rings and a journal's ring a core. The executor refuses to start below 512 KiB.
fn memory_lock(shards: u16) -> Result<(), Missing> {
    let wanted = MEMORY_LOCK_BYTES * u64::from(shards);
    let limit = getrlimit(Resource::Memlock);
    let enough = |have: Option<u64>, wanted: u64| have.is_none_or(|have| have >= wanted);
    if enough(limit.current, wanted) {
        return Ok(());
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Memlock, raised);
    let have = getrlimit(Resource::Memlock).current;
    if enough(have, MEMORY_LOCK_BYTES) {
        return Ok(());
    }
    Err(Missing(format!(
        "the process may lock {} KiB of memory, io_uring wants {} KiB a core: raise it with \
         `ulimit -l`, LimitMEMLOCK= or --ulimit memlock",
        have.unwrap_or_default() >> 10,
        MEMORY_LOCK_BYTES >> 10
    )))
}

const MEMORY_LOCK_BYTES: u64 = 512 << 10;

/// As many descriptors as the process may have; running out is met where it happens.
fn descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

fn ring() -> Result<(), Missing> {
    let Err(error) = io_uring::IoUring::new(8) else { return Ok(()) };
    let mend = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
            "allow it: sysctl kernel.io_uring_disabled=0, and a container's seccomp profile \
             that permits io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(rustix::io::Errno::NOSYS) => "the kernel was built without it",
        Some(rustix::io::Errno::NOMEM) => "raise the memory that may be locked: `ulimit -l`",
        _ => "see the message above",
    };
    Err(Missing(format!("io_uring cannot be used ({error}): {mend}")))
}
