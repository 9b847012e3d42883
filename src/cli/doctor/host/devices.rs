//! The disk below the data directory and the network devices: how their work is spread over cores.
//!
//! Only devices that are up and have hardware below them are judged. A disk's interrupts are shown
//! and not judged: a disk of today has a queue a core, whose completions come back to the core
//! that asked, and the kernel does not let them be moved.

use std::collections::BTreeSet;

use super::{Cores, Host, Subject, chosen, listed, parse_cores, ranges};
use crate::runtime::checks::Check;

/// One network device.
struct Port {
    name: String,
    /// Its receive queues, as they are named, each with the cores that it is steered to.
    queues: Vec<(String, Cores)>,
    /// Its interrupts, each with the cores that take it.
    interrupts: Vec<(String, Cores)>,
}

impl Host {
    pub(super) fn devices(&self) -> Vec<Check> {
        let ports = self.ports();
        let disks = self.disks();
        vec![
            self.interrupts(&ports, &disks),
            self.queues(&ports),
            self.steering(&ports),
            self.scheduler(&disks),
            self.write_cache(&disks),
            self.file_system(),
        ]
    }

    fn interrupts(&self, ports: &[Port], disks: &BTreeSet<String>) -> Check {
        let subject = Subject {
            name: "interrupts",
            wanted: "the network's on cores that the node does not use, or spread over all",
            moves: "how often a shard is interrupted, and whether one core does it for all",
        };
        let mut shown = Vec::new();
        for disk in disks {
            let taken = self.taken(&format!("/sys/block/{disk}/device"));
            shown.push((disk.clone(), union(&taken)));
        }
        shown.extend(ports.iter().map(|port| (port.name.clone(), union(&port.interrupts))));
        shown.retain(|(_, cores)| !cores.is_empty());
        if shown.is_empty() {
            return subject.hidden();
        }
        let found: Vec<String> =
            shown.iter().map(|(name, cores)| format!("{name} on {}", ranges(cores))).collect();
        let mends: Vec<String> =
            ports.iter().filter_map(|port| self.move_interrupts(port)).collect();
        subject.judged(&found, &mends)
    }

    /// The command that puts a device's interrupts where they are wanted, if they are not there.
    fn move_interrupts(&self, port: &Port) -> Option<String> {
        let online = self.text("/sys/devices/system/cpu/online");
        let online = online.and_then(|list| parse_cores(&list)).unwrap_or_default();
        let spare: Cores = online.difference(&self.cores).copied().collect();
        let taken = union(&port.interrupts);
        let to = |irq: &str, cores: &Cores| {
            format!("echo {} > /proc/irq/{irq}/smp_affinity_list", ranges(cores))
        };
        if !spare.is_empty() {
            let wrong = port.interrupts.iter().filter(|(_, at)| !at.is_disjoint(&self.cores));
            let moves: Vec<String> = wrong.map(|(irq, _)| to(irq, &spare)).collect();
            return (!moves.is_empty()).then(|| moves.join("; "));
        }
        if taken.len() == 1 && port.interrupts.len() > 1 && self.cores.len() > 1 {
            let turns = self.cores.iter().cycle();
            let each = port.interrupts.iter().zip(turns);
            let moves: Vec<String> =
                each.map(|((irq, _), core)| to(irq, &Cores::from([*core]))).collect();
            return Some(moves.join("; "));
        }
        None
    }

    fn queues(&self, ports: &[Port]) -> Check {
        let subject = Subject {
            name: "network queues",
            wanted: "as many as the node has cores, or packets steered to as many",
            moves: "how many cores share the kernel's work on what is received",
        };
        if ports.is_empty() {
            return subject.hidden();
        }
        let wanted = self.cores.len();
        let (mut found, mut mends) = (Vec::new(), Vec::new());
        for Port { name, queues, .. } in ports {
            let steered = union(queues);
            found.push(match steered.is_empty() {
                true => format!("{name} receives by {}", queues.len()),
                false => format!("{name} by {}, steered to {}", queues.len(), ranges(&steered)),
            });
            if queues.len() < wanted && steered.len() < wanted {
                let mask = mask(&self.cores);
                mends.push(format!(
                    "ethtool -L {name} combined {wanted}, or where it has fewer: echo {mask} | tee \
                     /sys/class/net/{name}/queues/rx-*/rps_cpus"
                ));
            }
        }
        subject.judged(&found, &mends)
    }

    fn steering(&self, ports: &[Port]) -> Check {
        let subject = Subject {
            name: "packet steering",
            wanted: "off where there is a queue a core, and never to isolated cores",
            moves: "interrupts between cores: one for each batch of packets that is passed on",
        };
        if ports.is_empty() {
            return subject.hidden();
        }
        let isolated = self.isolated_cores().unwrap_or_default();
        let (mut found, mut mends) = (Vec::new(), Vec::new());
        for Port { name, queues, .. } in ports {
            let steered = union(queues);
            let to = if steered.is_empty() { "off".to_owned() } else { ranges(&steered) };
            found.push(format!("{name} {to}"));
            let needless = queues.len() >= self.cores.len().max(2) && !steered.is_empty();
            let wanted = match () {
                () if needless => Cores::new(),
                () => steered.difference(&isolated).copied().collect(),
            };
            if wanted != steered {
                let all = format!("/sys/class/net/{name}/queues/rx-*/rps_cpus");
                mends.push(format!("echo {} | tee {all}", mask(&wanted)));
            }
        }
        subject.judged(&found, &mends)
    }

    fn scheduler(&self, disks: &BTreeSet<String>) -> Check {
        let subject = Subject {
            name: "disk scheduler",
            wanted: "none; mq-deadline on a disk that turns",
            moves: "what each write costs, and who waits for whom",
        };
        let (mut found, mut mends) = (Vec::new(), Vec::new());
        for disk in disks {
            let read = |file| self.text(&format!("/sys/block/{disk}/queue/{file}"));
            let Some(text) = read("scheduler") else { continue };
            // Virtual disks say that they turn, whatever is below them.
            let turns = read("rotational").as_deref() == Some("1") && !disk.starts_with("vd");
            found.push(format!("{disk} {}", chosen(&text)));
            if chosen(&text) != "none" && !(turns && chosen(&text) == "mq-deadline") {
                mends.push(format!("echo none > /sys/block/{disk}/queue/scheduler"));
            }
        }
        if found.is_empty() { subject.hidden() } else { subject.judged(&found, &mends) }
    }

    /// Shown and never judged: the kernel flushes what it believes to be volatile, and whoever
    /// tells it otherwise about a disk that is gives away what was acknowledged.
    fn write_cache(&self, disks: &BTreeSet<String>) -> Check {
        let subject = Subject {
            name: "write cache",
            wanted: "any; a protected one makes a sync quick",
            moves: "how long a durable write takes, which the disk's line shows",
        };
        let mut found = BTreeSet::new();
        for disk in disks {
            let read = |file| self.text(&format!("/sys/block/{disk}/queue/{file}"));
            let how = match (read("write_cache").as_deref(), read("fua").as_deref()) {
                (Some("write back"), Some("1")) => "write back, a sync is part of the write",
                (Some("write back"), _) => "write back, a sync is a flush after the write",
                (Some("write through"), _) => "write through, a sync costs nothing more",
                (Some(_) | None, _) => continue,
            };
            found.insert(format!("{disk} {how}"));
        }
        if found.is_empty() { subject.hidden() } else { subject.good(listed(&found)) }
    }

    fn file_system(&self) -> Check {
        let subject = Subject {
            name: "file system",
            wanted: "ext4 or xfs, with barriers",
            moves: "what a sync costs; without barriers, whether it holds",
        };
        let Some((major, minor)) = self.disk else { return subject.hidden() };
        let device = format!("{major}:{minor}");
        let Some(mounts) = self.text("/proc/self/mountinfo") else { return subject.hidden() };
        let of_device = |line: &&str| line.split(' ').nth(2) == Some(device.as_str());
        let mount = mounts.lines().filter(of_device).find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut words = kind.split(' ');
            Some((place.split(' ').nth(4)?, words.next()?, words.nth(1).unwrap_or_default()))
        });
        let Some((place, kind, options)) = mount else { return subject.hidden() };
        let loose = options.split(',').any(|it| it == "nobarrier" || it == "barrier=0");
        match kind {
            _ if loose => subject.poor(
                format!("{kind} without barriers: what was acknowledged goes with the power"),
                format!("mount -o remount,barrier=1 {place}, and the same in /etc/fstab"),
            ),
            "ext4" | "xfs" => subject.good(kind),
            other => subject.poor(other, "mkfs.ext4 or mkfs.xfs on a disk for it".to_owned()),
        }
    }

    /// The disks below the data directory by name: more than one below a volume or a raid.
    fn disks(&self) -> BTreeSet<String> {
        let Some((major, minor)) = self.disk else { return BTreeSet::new() };
        let device = format!("/sys/dev/block/{major}:{minor}");
        let slaves = self.names(&format!("{device}/slaves"));
        let paths: Vec<String> = match slaves.is_empty() {
            true => vec![device],
            false => slaves.iter().map(|name| format!("{device}/slaves/{name}")).collect(),
        };
        let whole = |path: String| {
            let path = self.path(&path).canonicalize().ok()?;
            // A partition's scheduler is that of the disk above it.
            let disk = if path.join("partition").exists() { path.parent()? } else { &path };
            Some(disk.file_name()?.to_string_lossy().into_owned())
        };
        paths.into_iter().filter_map(whole).collect()
    }

    fn ports(&self) -> Vec<Port> {
        let mut ports = Vec::new();
        for name in self.names("/sys/class/net") {
            let at = format!("/sys/class/net/{name}");
            let down = self.text(&format!("{at}/operstate")).as_deref() == Some("down");
            if down || !self.path(&format!("{at}/device")).exists() {
                continue;
            }
            let mut queues = Vec::new();
            for queue in self.names(&format!("{at}/queues")) {
                if queue.starts_with("rx-") {
                    let steered = self.text(&format!("{at}/queues/{queue}/rps_cpus"));
                    queues.push((queue, cores_of(&steered.unwrap_or_default())));
                }
            }
            let interrupts = self.taken(&format!("{at}/device"));
            ports.push(Port { name, queues, interrupts });
        }
        ports
    }

    /// The interrupts of a device, each with the cores that take it.
    fn taken(&self, device: &str) -> Vec<(String, Cores)> {
        // Its own, its parent's for a virtual device, its controller's for NVMe.
        let places = ["", "/..", "/device"].map(|at| format!("{device}{at}/msi_irqs"));
        let irqs = places.iter().map(|at| self.names(at)).find(|irqs| !irqs.is_empty());
        let irqs = irqs.unwrap_or_default();
        let cores = |irq: &String| {
            let read = |file: &str| self.text(&format!("/proc/irq/{irq}/{file}"));
            let list = read("effective_affinity_list").filter(|list| !list.is_empty());
            parse_cores(&list.or_else(|| read("smp_affinity_list"))?)
        };
        irqs.into_iter().filter_map(|irq| cores(&irq).map(|cores| (irq, cores))).collect()
    }
}

fn union(each: &[(String, Cores)]) -> Cores {
    each.iter().flat_map(|(_, cores)| cores).copied().collect()
}

/// The kernel's mask of cores: hexadecimal words of 32 bits with commas between, the highest first.
fn mask(cores: &Cores) -> String {
    let words = cores.last().map_or(1, |last| last / 32 + 1);
    let word = |at: usize| {
        let bits = cores.iter().filter(|core| *core / 32 == at);
        bits.fold(0u32, |word, core| word | 1 << (core % 32))
    };
    let rest = (0..words - 1).rev().map(|at| format!(",{:08x}", word(at)));
    rest.fold(format!("{:x}", word(words - 1)), |text, word| text + &word)
}

/// The cores of such a mask; none when it is no mask.
fn cores_of(mask: &str) -> Cores {
    let mut cores = Cores::new();
    for (at, word) in mask.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(word, 16).unwrap_or(0);
        cores.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| at * 32 + bit));
    }
    cores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_the_kernel_writes_them() {
        for (list, text) in [
            ("", "0"),
            ("0-1", "3"),
            ("0,31", "80000001"),
            ("32", "1,00000000"),
            ("1,33,64-67", "f,00000002,00000002"),
        ] {
            let cores = parse_cores(list).expect("a list");
            assert_eq!(mask(&cores), text);
            assert_eq!(cores_of(text), cores, "{text}");
        }
        assert_eq!(cores_of("no mask"), Cores::new());
    }
}
