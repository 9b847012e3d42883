//! What a node needs of the host and what it would like, looked at without changing anything.
//!
//! `runtime::start` asks for the first part (`needed`) before it opens a file or a port, so that a
//! host that cannot run a node says so in one line; `ringraft doctor` shows all of it. Each check
//! says what it found, what is wanted, what that moves and how to get there. Absent on purpose:
//! what stands in the host's files and no node needs (`cli/doctor/host.rs`).

use std::fmt;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What the host has.
    pub found: String,
    /// What a node wants.
    pub wanted: &'static str,
    /// What it changes for a node.
    pub moves: &'static str,
    /// How the two go together.
    pub grade: Grade,
    /// How to get there; empty when there is nothing to do.
    pub mend: String,
}

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// As wanted.
    Good,
    /// It works, but slower or less evenly than it could.
    Poor,
    /// A node cannot run.
    Missing,
    /// It cannot be seen from here: there is nothing to set, or a host around this one sets it.
    Hidden,
}

/// The first thing without which a node cannot run here.
///
/// # Errors
/// The check that failed.
pub fn needed() -> Result<(), Check> {
    for check in [kernel(), memory_lock(), ring(), open_files(0)] {
        if check.grade == Grade::Missing {
            return Err(check);
        }
    }
    Ok(())
}

/// Raises this process's own limits as far as it may: locked memory and open files. Nothing outside
/// the process changes.
pub fn raise_limits() {
    for resource in [Resource::Memlock, Resource::Nofile] {
        let limit = getrlimit(resource);
        // What the system does not allow stays as it is, and the checks tell.
        let _ = setrlimit(resource, Rlimit { current: limit.maximum, ..limit });
    }
}

/// The kernel's release.
#[must_use]
pub fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let grade = match version_of(&release) {
        Some(version) if version >= (6, 0) => Grade::Good,
        Some(version) if version >= (5, 15) => Grade::Poor,
        Some(_) | None => Grade::Missing,
    };
    Check {
        name: "kernel",
        found: release,
        wanted: "6.0 or newer; 5.15 at least",
        // The ring of a journal asks for it where it can (runtime/ring.rs).
        moves: "completions of the disk interrupt a busy core before 6.0",
        grade,
        mend: mend(grade == Grade::Good, "install a newer kernel"),
    }
}

/// Whether this process may make an io_uring, and with what it needs.
#[must_use]
pub fn ring() -> Check {
    use io_uring::{IoUring, Probe, opcode};
    let check = |found: String, grade, mend: &str| {
        let wanted = "usable, with writes, syncs and sends";
        let moves = "whether a node starts";
        Check { name: "io_uring", found, wanted, moves, grade, mend: mend.to_owned() }
    };
    let ring = match IoUring::new(8) {
        Ok(ring) => ring,
        Err(error) => return check(told(&error), Grade::Missing, how_to_allow(&error)),
    };
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        return check(told(&error), Grade::Missing, "install a newer kernel");
    }
    let operations =
        [opcode::WriteFixed::CODE, opcode::Fsync::CODE, opcode::Send::CODE, opcode::PollAdd::CODE];
    if operations.into_iter().all(|code| probe.is_supported(code)) {
        check("usable".to_owned(), Grade::Good, "")
    } else {
        check("some operations are missing".to_owned(), Grade::Missing, "install a newer kernel")
    }
}

/// How much memory this process may lock, which rings and registered buffers need.
#[must_use]
pub fn memory_lock() -> Check {
    // What the executor asks for before it makes its rings.
    const NEEDED_BYTES: u64 = 512 << 10;
    const GOOD_BYTES: u64 = 64 << 20;
    let limit = getrlimit(Resource::Memlock);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let grade = match most {
        GOOD_BYTES.. => Grade::Good,
        NEEDED_BYTES.. => Grade::Poor,
        _ => Grade::Missing,
    };
    let advice = "ulimit -l unlimited, LimitMEMLOCK=infinity, or docker run --ulimit memlock=-1";
    Check {
        name: "locked memory",
        found: limit.maximum.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10)),
        wanted: "64 MiB or unlimited; 512 KiB at least",
        moves: "whether a node starts, and whether its buffers are registered",
        grade,
        mend: mend(grade == Grade::Good, advice),
    }
}

/// How many files and sockets this process may have open.
#[must_use]
pub fn open_files(connections_max: u64) -> Check {
    // A few dozen for each of some cores, and some for clients.
    const NEEDED_FILES: u64 = 256;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    // Journals, rings, peers and listeners stay far below a thousand.
    let grade = match most {
        most if most >= connections_max.saturating_add(1_000) => Grade::Good,
        NEEDED_FILES.. => Grade::Poor,
        _ => Grade::Missing,
    };
    Check {
        name: "open files",
        found: limit.maximum.map_or("unlimited".to_owned(), |files| files.to_string()),
        wanted: "connection.connections_max and 1000 more; 256 at least",
        moves: "how many clients there may be",
        grade,
        mend: mend(grade == Grade::Good, "ulimit -n 65536, or LimitNOFILE=65536"),
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, wanted: {}", self.name, self.found, self.wanted)
    }
}

fn mend(enough: bool, advice: &str) -> String {
    if enough { String::new() } else { advice.to_owned() }
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "forbidden".to_owned(),
        io::ErrorKind::Unsupported => "not in this kernel".to_owned(),
        io::ErrorKind::OutOfMemory => "not enough lockable memory".to_owned(),
        _ => error.to_string(),
    }
}

fn how_to_allow(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "sysctl kernel.io_uring_disabled=0; in a container, a seccomp profile that allows \
             io_uring (docker run --security-opt seccomp=tuning/seccomp.json)"
        }
        io::ErrorKind::OutOfMemory => "ulimit -l unlimited",
        _ => "install a kernel with io_uring, 5.15 or newer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version_of("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version_of("5.4.0"), Some((5, 4)));
        assert!(version_of("5.9") < Some((5, 15)));
        assert_eq!(version_of("plan9"), None);
    }

    #[test]
    fn whatever_is_not_good_says_what_to_do() {
        for check in [kernel(), ring(), memory_lock(), open_files(u64::MAX)] {
            assert_eq!(check.mend.is_empty(), check.grade == Grade::Good, "{check}");
        }
    }
}
