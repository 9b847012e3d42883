//! Faults that a test asks a real node for: a disk that is slow, names that mean what a file says.
//!
//! Only programs built with debug assertions have this module, and in them it does nothing unless
//! the environment names a directory (`RINGRAFT_FAULTS`): a release build has no such switch.
//!
//! ```text
//! <faults>/disk-ms    a number: a shard's durable writes begin so many milliseconds apart
//! <faults>/hosts      lines of a name and its address; without one, the name has none
//! ```
//!
//! Both are read each time anew, so that a test can begin and end a fault while the node runs.
//! Absent on purpose: faults that the kernel has signals and sockets for.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream as Socket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// When a shard's disk takes its next write.
pub(super) struct SlowDisk {
    ringer: Option<Socket>,
    next: Instant,
    /// The bell rings at `next`.
    armed: bool,
}

impl SlowDisk {
    /// Of a disk whose bell rings through `ringer`.
    pub fn new(ringer: std::io::Result<Socket>) -> SlowDisk {
        let ringer = ringer.ok().filter(|_| directory().is_some());
        SlowDisk { ringer, next: Instant::now(), armed: false }
    }

    /// Whether a write may begin now, which then it does. If not, the bell rings when one may.
    pub fn takes(&mut self) -> bool {
        let Some(ringer) = &self.ringer else { return true };
        let now = Instant::now();
        if now < self.next {
            if !std::mem::replace(&mut self.armed, true)
                && let Ok(mut ringer) = ringer.try_clone()
            {
                let wait = self.next - now;
                std::thread::spawn(move || {
                    std::thread::sleep(wait);
                    // Full, it rings anyhow; closed, the node has ended.
                    let _ = ringer.write_all(&[1]);
                });
            }
            return false;
        }
        let ms = read("disk-ms").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        (self.next, self.armed) = (now + Duration::from_millis(ms), false);
        true
    }
}

/// The addresses of a name that the test gave a meaning; `None`: the system knows.
pub fn resolve(host: &str, port: u16) -> Option<Result<Vec<SocketAddr>, String>> {
    let hosts = read("hosts")?;
    let mut lines = hosts.lines().map(str::split_whitespace);
    let mut line = lines.find_map(|mut line| (line.next() == Some(host)).then_some(line))?;
    let address = line.next().and_then(|address| address.parse::<IpAddr>().ok());
    let found = address.map(|address| vec![SocketAddr::new(address, port)]);
    Some(found.ok_or_else(|| format!("{host}: no address is known for it")))
}

fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(directory()?.join(name)).ok()
}

fn directory() -> Option<PathBuf> {
    std::env::var_os("RINGRAFT_FAULTS").map(PathBuf::from)
}
