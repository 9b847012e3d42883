//! Which core the echoes and the disk loop run on, and who keeps off it.

use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The first core that a process may use, by the kernel's numbers; this process without an id.
/// `None` when the kernel does not say.
#[must_use]
pub fn first_of(pid: Option<u32>) -> Option<usize> {
    let pid = match pid {
        Some(pid) => Some(Pid::from_raw(i32::try_from(pid).ok()?)?),
        None => None,
    };
    let allowed = sched_getaffinity(pid).ok()?;
    (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core))
}

/// From here on this thread, and those that it starts, run on this core only.
///
/// # Errors
/// When there is no such core, or it is not for this process.
pub fn run_on(core: usize) -> io::Result<()> {
    let mut one = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    one.set(core);
    Ok(sched_setaffinity(None, &one)?)
}

/// From here on this thread, and those that it starts, keep off this core, when they may use
/// another one.
///
/// # Errors
/// What the kernel says.
pub fn keep_off(core: usize) -> io::Result<()> {
    let mut others = sched_getaffinity(None)?;
    if core < CpuSet::MAX_CPU && others.is_set(core) && others.count() > 1 {
        others.unset(core);
        sched_setaffinity(None, &others)?;
    }
    Ok(())
}
