//! Faults that a test asks a real node for: a disk that is slow, names that mean what a file says.
//!
//! Only programs built with debug assertions have this module, and in them it does nothing unless
//! the environment names a directory (`RINGRAFT_FAULTS`): a release build has no such switch.
//!
//! ```text
//! <faults>/disk-ms    a number: each durable write of a shard takes so many milliseconds longer
//! <faults>/hosts      lines of a name and its address; without one, the name has none
//! ```
//!
//! Both are read each time anew, so that a test can begin and end a fault while the node runs.
//! Absent on purpose: faults that the kernel has signals and sockets for.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream as Socket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::ring::Landed;

/// Keeps completed writes back, as if they had taken longer.
pub(super) struct SlowDisk {
    ringer: Option<Socket>,
    /// When each may be known to be complete; they take their turns.
    held: VecDeque<(Instant, Landed)>,
    /// The bell rings then.
    armed: Option<Instant>,
}

impl SlowDisk {
    /// Of a disk whose bell rings through `ringer`.
    pub fn new(ringer: std::io::Result<Socket>) -> SlowDisk {
        let ringer = ringer.ok().filter(|_| directory().is_some());
        SlowDisk { ringer, held: VecDeque::new(), armed: None }
    }

    /// Takes what has landed and leaves what may be known of it now. For the rest the bell rings.
    pub fn hold(&mut self, landed: &mut Vec<Landed>) {
        let Some(ringer) = &self.ringer else { return };
        let now = Instant::now();
        for write in landed.drain(..) {
            let ms = read("disk-ms").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            self.held.push_back((now + Duration::from_millis(ms), write));
        }
        while self.held.front().is_some_and(|(due, _)| *due <= now) {
            landed.extend(self.held.pop_front().map(|(_, write)| write));
        }
        let next = self.held.front().map(|(due, _)| *due);
        if let Some(due) = next.filter(|_| next != self.armed)
            && let Ok(mut ringer) = ringer.try_clone()
        {
            std::thread::spawn(move || {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                // Full, it rings anyhow; closed, the node has ended.
                let _ = ringer.write_all(&[1]);
            });
        }
        self.armed = next;
    }

    /// Writes that nobody may know to be complete.
    pub fn held(&self) -> usize {
        self.held.len()
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
