//! What a host's files in /proc and /sys say about how evenly it answers: what was found, what a
//! node wants, what it moves, and the command that mends it.
//!
//! The root of those files is handed in, so that tests have hosts of their own. A file that is not
//! there is not judged: in a virtual machine or a container it is as a rule the host outside that
//! decides. `tuning/host.sh` sets what is found here, and sets it back; `tuning/README.md` says
//! what is known of each by how much. Absent on purpose: what only this process can try (its
//! limits, a ring; `runtime::checks`), and any judgement that stops a node.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::runtime::checks::{Check, Grade};

mod devices;

/// A host, as far as it can be seen.
pub struct Host {
    /// What stands for `/`.
    pub root: PathBuf,
    /// The cores that a node may use.
    pub cores: Cores,
    /// The disk below the data directory, as its major and minor number.
    pub disk: Option<(u32, u32)>,
}

/// The kernel's numbers of some cores.
pub type Cores = BTreeSet<usize>;

/// What is looked at, without what was found.
struct Subject {
    name: &'static str,
    wanted: &'static str,
    moves: &'static str,
}

impl Host {
    /// Looks at all of it; changes nothing.
    #[must_use]
    pub fn look(&self) -> Vec<Check> {
        let mut found = vec![
            self.io_uring(),
            self.governor(),
            self.idle_states(),
            self.isolated(),
            self.huge_pages(),
            self.swappiness(),
            self.backlog(),
            self.clock_source(),
        ];
        found.extend(self.devices());
        found
    }

    fn io_uring(&self) -> Check {
        const PATH: &str = "/proc/sys/kernel/io_uring_disabled";
        let subject = Subject {
            name: "io_uring setting",
            wanted: "0, allowed to all",
            moves: "whether a node starts",
        };
        let mend = || "sysctl -w kernel.io_uring_disabled=0".to_owned();
        match self.text(PATH).as_deref() {
            // Kernels before 6.6 have no such setting and allow it.
            None => subject.hidden(),
            Some("0") => subject.good("0"),
            Some("1") => subject.poor("1: for root and kernel.io_uring_group alone", mend()),
            Some(other) => subject.poor(format!("{other}: forbidden"), mend()),
        }
    }

    fn governor(&self) -> Check {
        let subject = Subject {
            name: "cpu governor",
            wanted: "performance",
            moves: "how fast a core is just after it slept",
        };
        let governors: BTreeSet<String> = self
            .cores
            .iter()
            .filter_map(|core| self.text(&cpu(*core, "cpufreq/scaling_governor")))
            .collect();
        let found = listed(&governors);
        match found.as_str() {
            "" => subject.hidden(),
            "performance" => subject.good(found),
            _ => subject.poor(
                found,
                format!("echo performance | tee {}", cpu("*", "cpufreq/scaling_governor")),
            ),
        }
    }

    fn idle_states(&self) -> Check {
        let subject = Subject {
            name: "idle states",
            wanted: "none that takes more than 50 us to leave",
            moves: "how long a core that slept takes to answer: the tail at low load",
        };
        let mut deep = BTreeSet::new();
        let mut longest_us = None;
        for core in &self.cores {
            for state in 0..IDLE_STATES_MAX {
                let read = |file| self.text(&cpu(*core, &format!("cpuidle/state{state}/{file}")));
                let us = read("latency").and_then(|text| text.parse::<u64>().ok());
                let (Some(us), Some("0")) = (us, read("disable").as_deref()) else { continue };
                longest_us = longest_us.max(Some(us));
                if us > IDLE_LATENCY_US {
                    deep.insert(state);
                }
            }
        }
        let Some(us) = longest_us else { return subject.hidden() };
        let found = format!("the deepest takes {us} us to leave");
        if deep.is_empty() {
            return subject.good(found);
        }
        let states: String = deep.iter().map(usize::to_string).collect();
        let all = cpu("*", &format!("cpuidle/state[{states}]/disable"));
        subject.poor(found, format!("echo 1 | tee {all}"))
    }

    fn isolated(&self) -> Check {
        let subject = Subject {
            name: "isolated cores",
            wanted: "those that the node uses, or none",
            moves: "how often something else runs on a shard's core",
        };
        let Some(isolated) = self.isolated_cores() else { return subject.hidden() };
        if isolated.is_empty() {
            return subject.good("none");
        }
        let list = ranges(&isolated);
        if self.cores.is_subset(&isolated) {
            return subject.good(format!("{list}, of which this process uses {}", self.used()));
        }
        let found = format!("{list}, but this process uses {}", self.used());
        let mend = format!("taskset -c {list} ringraft serve, or CPUAffinity={list} in its unit");
        subject.poor(found, mend)
    }

    fn huge_pages(&self) -> Check {
        const PATH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
        let subject = Subject {
            name: "huge pages",
            wanted: "madvise or never",
            moves: "memory in use, and pauses while the kernel makes large pages",
        };
        match self.text(PATH) {
            None => subject.hidden(),
            Some(text) if chosen(&text) == "always" => {
                subject.poor("always", format!("echo madvise > {PATH}"))
            }
            Some(text) => subject.good(chosen(&text)),
        }
    }

    fn swappiness(&self) -> Check {
        let subject = Subject {
            name: "swappiness",
            wanted: "10 or less, or no swap",
            moves: "whether a node's memory is on disk when it is needed",
        };
        let Some(text) = self.text("/proc/sys/vm/swappiness") else { return subject.hidden() };
        // The first line is a heading.
        if self.text("/proc/swaps").is_some_and(|swaps| swaps.lines().count() <= 1) {
            return subject.good(format!("{text}, without swap"));
        }
        match text.parse::<u32>() {
            Ok(0..=10) => subject.good(text),
            _ => subject.poor(text, "sysctl -w vm.swappiness=1".to_owned()),
        }
    }

    fn backlog(&self) -> Check {
        let subject = Subject {
            name: "listen backlog",
            wanted: "1024 or more",
            moves: "how many clients may dial at one moment",
        };
        let Some(text) = self.text("/proc/sys/net/core/somaxconn") else {
            return subject.hidden();
        };
        match text.parse::<u32>() {
            Ok(1024..) => subject.good(text),
            _ => subject.poor(text, "sysctl -w net.core.somaxconn=4096".to_owned()),
        }
    }

    fn clock_source(&self) -> Check {
        const CLOCKS: &str = "/sys/devices/system/clocksource/clocksource0";
        let subject = Subject {
            name: "clock source",
            wanted: "tsc, or the virtual machine's own",
            moves: "what each look at the clock costs",
        };
        let Some(text) = self.text(&format!("{CLOCKS}/current_clocksource")) else {
            return subject.hidden();
        };
        if !matches!(text.as_str(), "hpet" | "acpi_pm" | "jiffies") {
            return subject.good(text);
        }
        let others = self.text(&format!("{CLOCKS}/available_clocksource")).unwrap_or_default();
        let better = others.split_whitespace().find(|it| *it == "tsc" || it.contains("kvm"));
        let mend = match better {
            Some(better) => format!("echo {better} > {CLOCKS}/current_clocksource"),
            None => "dmesg | grep -i clocksource, which says why there is no better one".to_owned(),
        };
        subject.poor(text, mend)
    }

    fn isolated_cores(&self) -> Option<Cores> {
        parse_cores(&self.text("/sys/devices/system/cpu/isolated")?)
    }

    fn used(&self) -> String {
        ranges(&self.cores)
    }

    /// A file's text without what is white around it; `None` when it cannot be read.
    fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The names in a directory, in order; none when it cannot be read.
    fn names(&self, path: &str) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return BTreeSet::new() };
        entries.flatten().map(|it| it.file_name().to_string_lossy().into_owned()).collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Subject {
    fn good(&self, found: impl Into<String>) -> Check {
        self.check(found.into(), Grade::Good, String::new())
    }

    fn poor(&self, found: impl Into<String>, mend: String) -> Check {
        assert!(!mend.is_empty(), "{}: what is poor can be mended", self.name);
        self.check(found.into(), Grade::Poor, mend)
    }

    /// Good when nothing mends it.
    fn judged(&self, found: &[String], mends: &[String]) -> Check {
        let found = found.join(", ");
        if mends.is_empty() { self.good(found) } else { self.poor(found, mends.join("; ")) }
    }

    fn hidden(&self) -> Check {
        self.check("not visible here".to_owned(), Grade::Hidden, String::new())
    }

    fn check(&self, found: String, grade: Grade, mend: String) -> Check {
        let &Subject { name, wanted, moves } = self;
        Check { name, found, wanted, moves, grade, mend }
    }
}

/// The kernel has at most so many (CPUIDLE_STATE_MAX), so a number is one digit.
const IDLE_STATES_MAX: usize = 10;

/// Above what a shallow state takes (1 to 10 us) and below what a deep one does (100 and more); a
/// durable write of a fast disk takes no longer.
const IDLE_LATENCY_US: u64 = 50;

/// The path of a file of a core.
fn cpu(core: impl std::fmt::Display, file: &str) -> String {
    format!("/sys/devices/system/cpu/cpu{core}/{file}")
}

/// Of several words the one in brackets, or all there is.
fn chosen(text: &str) -> &str {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(inner, _)| inner)
}

/// The cores of a list as the kernel writes it, `0-3,8`.
pub fn parse_cores(list: &str) -> Option<Cores> {
    let mut cores = Cores::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // Beyond what any kernel has it is no list of cores.
        if last > CORES_MAX {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

/// Far above the kernel's own bound of 8192.
const CORES_MAX: usize = 1 << 16;

/// The same list from the cores.
pub fn ranges(cores: &Cores) -> String {
    let mut text = String::new();
    let mut rest = cores.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let written = match last - first {
            0 => write!(text, "{comma}{first}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
        written.expect("a string takes all");
    }
    text
}

fn listed(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
