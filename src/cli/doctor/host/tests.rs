//! Hosts made of files: one where nothing is to be done, one where everything is, one where nothing
//! can be seen; then the turns of each judgement.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// A host with two cores for the node and two for the rest, and all as a node wants it.
const GOOD: &[(&str, &str)] = &[
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/vm/swappiness", "1\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"),
    ("proc/self/mountinfo", "27 1 259:2 / / rw,relatime - ext4 /dev/root rw\n"),
    ("proc/irq/40/smp_affinity_list", "0-1\n"),
    ("proc/irq/41/smp_affinity_list", "0-3\n"),
    ("proc/irq/41/effective_affinity_list", "1\n"),
    ("proc/irq/50/smp_affinity_list", "3\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/isolated", "2-3\n"),
    ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state0/latency", "0\n"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state0/disable", "0\n"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state1/latency", "2\n"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "0\n"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state2/latency", "133\n"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state2/disable", "1\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/block/nvme0n1/queue/scheduler", "[none] mq-deadline\n"),
    ("sys/block/nvme0n1/queue/rotational", "0\n"),
    ("sys/block/nvme0n1/queue/write_cache", "write through\n"),
    ("sys/block/nvme0n1/nvme0n1p2/partition", "2\n"),
    ("sys/block/nvme0n1/device/device/msi_irqs/50", "msix\n"),
    ("sys/class/net/eth0/operstate", "up\n"),
    ("sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
    ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
];

/// What makes each line of that host poor, which line that is, and a part of what mends it.
const BAD: &[(&str, &str, &str, &str)] = &[
    (
        "proc/sys/kernel/io_uring_disabled",
        "1",
        "io_uring setting",
        "sysctl -w kernel.io_uring_disabled=0",
    ),
    (
        "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
        "powersave",
        "cpu governor",
        "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    ),
    (
        "sys/devices/system/cpu/cpu2/cpuidle/state2/disable",
        "0",
        "idle states",
        "echo 1 | tee /sys/devices/system/cpu/cpu*/cpuidle/state[2]/disable",
    ),
    ("sys/devices/system/cpu/isolated", "1", "isolated cores", "CPUAffinity=1 "),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "[always] madvise never",
        "huge pages",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    ),
    ("proc/sys/vm/swappiness", "60", "swappiness", "sysctl -w vm.swappiness=1"),
    ("proc/sys/net/core/somaxconn", "128", "listen backlog", "net.core.somaxconn=4096"),
    (
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "hpet",
        "clock source",
        "dmesg",
    ),
    ("proc/irq/41/effective_affinity_list", "2", "interrupts", "echo 0-1 > /proc/irq/41/smp_"),
    (
        "sys/class/net/eth0/queues/rx-0/rps_cpus",
        "f",
        "packet steering",
        "echo 0 | tee /sys/class/net/eth0/queues/rx-*/rps_cpus",
    ),
    (
        "sys/block/nvme0n1/queue/scheduler",
        "none [bfq]",
        "disk scheduler",
        "echo none > /sys/block/nvme0n1/queue/scheduler",
    ),
    (
        "proc/self/mountinfo",
        "27 1 259:2 / /data rw - ext4 /dev/root rw,nobarrier",
        "file system",
        "mount -o remount,barrier=1 /data",
    ),
];

#[test]
fn a_good_host_has_nothing_to_mend() {
    let dir = tempfile::tempdir().expect("a directory");
    let found = host(dir.path(), GOOD, "2-3").look();
    for check in &found {
        assert_eq!(check.grade, Grade::Good, "{check}");
        assert_eq!(check.mend, "", "{check}");
        assert!(!check.moves.is_empty(), "{check}");
    }
    let told = |name: &str| found.iter().find(|check| check.name == name).expect(name);
    assert_eq!(told("interrupts").found, "nvme0n1 on 3, eth0 on 0-1");
    assert_eq!(told("idle states").found, "the deepest takes 2 us to leave");
    assert_eq!(told("write cache").found, "nvme0n1 write through, a sync costs nothing more");
}

#[test]
fn each_fault_is_one_line_with_the_command_that_mends_it() {
    for (path, text, name, mend) in BAD {
        let dir = tempfile::tempdir().expect("a directory");
        let found = changed(dir.path(), &[(path, text)], "2-3").look();
        for check in found {
            let poor = check.grade == Grade::Poor;
            assert_eq!(poor, check.name == *name, "{path} = {text}: {check}");
            assert!(!poor || check.mend.contains(mend), "{name}: {}", check.mend);
        }
    }
}

#[test]
fn what_cannot_be_seen_is_not_judged() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host { root: dir.path().to_owned(), cores: Cores::from([0]), disk: None };
    let found = host.look();
    assert!(found.len() >= 14);
    for check in found {
        assert_eq!((check.grade, check.mend.as_str()), (Grade::Hidden, ""), "{check}");
    }
}

#[test]
fn every_line_can_be_poor_but_those_that_say_why_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let named: BTreeSet<&str> = BAD.iter().map(|(_, _, name, _)| *name).collect();
    for check in host(dir.path(), GOOD, "2-3").look() {
        let elsewhere = ["write cache", "network queues"].contains(&check.name);
        assert_ne!(named.contains(check.name), elsewhere, "{}", check.name);
    }
}

#[test]
fn one_queue_for_many_cores_is_poor_unless_it_is_steered() {
    let one = [("sys/class/net/eth0/queues/rx-1/rps_cpus", None)];
    let dir = tempfile::tempdir().expect("a directory");
    let check = named(altered(dir.path(), &one, "2-3"), "network queues");
    assert_eq!(check.grade, Grade::Poor);
    assert!(check.mend.starts_with("ethtool -L eth0 combined 2, or"), "{}", check.mend);
    assert!(check.mend.contains("echo c | tee /sys/class/net/eth0/queues/"), "{}", check.mend);

    let steered = [one[0], ("sys/class/net/eth0/queues/rx-0/rps_cpus", Some("3"))];
    let dir = tempfile::tempdir().expect("a directory");
    let host = altered(dir.path(), &steered, "2-3");
    assert_eq!(named(host, "network queues").grade, Grade::Good);

    // One core has nobody to share with.
    let dir = tempfile::tempdir().expect("a directory");
    let host = altered(dir.path(), &one, "2");
    assert_eq!(named(host, "network queues").grade, Grade::Good);
}

#[test]
fn without_spare_cores_interrupts_are_spread() {
    let here = |core| ("proc/irq/40/effective_affinity_list", Some(core));
    let dir = tempfile::tempdir().expect("a directory");
    let check = named(altered(dir.path(), &[here("1")], "0-3"), "interrupts");
    assert_eq!(check.grade, Grade::Poor);
    let spread = "echo 0 > /proc/irq/40/smp_affinity_list; echo 1 > /proc/irq/41/";
    assert!(check.mend.starts_with(spread), "{}", check.mend);
    let dir = tempfile::tempdir().expect("a directory");
    let check = named(altered(dir.path(), &[here("3")], "0-3"), "interrupts");
    assert_eq!(check.grade, Grade::Good, "{check}");
}

#[test]
fn no_swap_needs_no_swappiness() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = [("proc/sys/vm/swappiness", "60"), ("proc/swaps", "Filename\n")];
    let check = named(changed(dir.path(), &files, "2-3"), "swappiness");
    assert_eq!((check.grade, check.found.as_str()), (Grade::Good, "60, without swap"));
}

#[test]
fn a_disk_that_turns_may_have_a_scheduler() {
    let dir = tempfile::tempdir().expect("a directory");
    let deadline = ("sys/block/nvme0n1/queue/scheduler", "none [mq-deadline]");
    let check = named(changed(dir.path(), &[deadline], "2-3"), "disk scheduler");
    assert_eq!(check.grade, Grade::Poor);
    let dir = tempfile::tempdir().expect("a directory");
    let turns = [deadline, ("sys/block/nvme0n1/queue/rotational", "1")];
    let check = named(changed(dir.path(), &turns, "2-3"), "disk scheduler");
    assert_eq!(check.grade, Grade::Good);
}

#[test]
fn lists_of_cores_are_read_and_written_alike() {
    for list in ["", "0", "0-3", "0-3,8", "1,3,5-6,64-127"] {
        assert_eq!(ranges(&parse_cores(list).expect(list)), list);
    }
    for bad in ["a", "1-", "-1", "0-99999999999", "0-9999999"] {
        assert_eq!(parse_cores(bad), None, "{bad}");
    }
    assert_eq!(chosen("always [madvise] never"), "madvise");
    assert_eq!(chosen("none"), "none");
}

/// The good host with some files of other content.
fn changed(root: &Path, files: &[(&str, &str)], cores: &str) -> Host {
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, Some(*text))).collect();
    altered(root, &files, cores)
}

/// The good host with some files of other content or none.
fn altered(root: &Path, files: &[(&str, Option<&str>)], cores: &str) -> Host {
    let mut all: BTreeMap<&str, &str> = GOOD.iter().copied().collect();
    for (path, text) in files {
        match text {
            Some(text) => all.insert(path, text),
            None => all.remove(path),
        };
    }
    host(root, &all.into_iter().collect::<Vec<_>>(), cores)
}

fn host(root: &Path, files: &[(&str, &str)], cores: &str) -> Host {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("in the root")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    // As the kernel has it: by number a link to the device, a partition inside its disk.
    let numbers = root.join("sys/dev/block");
    fs::create_dir_all(&numbers).expect("a directory");
    symlink("../../block/nvme0n1/nvme0n1p2", numbers.join("259:2")).expect("a link");
    let cores = parse_cores(cores).expect("a list");
    Host { root: root.to_owned(), cores, disk: Some((259, 2)) }
}

fn named(host: Host, name: &str) -> Check {
    host.look().into_iter().find(|check| check.name == name).expect(name)
}

/// `tuning/host.sh` on a host of files: it mends what is found, once, and sets it all back.
#[test]
fn the_script_mends_what_is_found_and_sets_it_back() {
    const NOT_SET: &[&str] = &["isolated cores", "clock source", "file system"];
    let dir = tempfile::tempdir().expect("a directory");
    let found = BAD.iter().filter(|(_, _, name, _)| !NOT_SET.contains(name));
    let bad: Vec<_> = found.clone().map(|(path, text, ..)| (*path, *text)).collect();
    let host = changed(dir.path(), &bad, "2-3");
    // What the kernel shows as two files is one here.
    fs::remove_file(dir.path().join("proc/irq/41/effective_affinity_list")).expect("a file");
    let device = rustix::fs::stat(dir.path()).expect("a directory").st_dev;
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let link = dir.path().join("sys/dev/block").join(device);
    symlink("../../block/nvme0n1/nvme0n1p2", link).expect("a link");
    let before = tree(dir.path());
    let poor = |host: &Host| -> Vec<&'static str> {
        let found = host.look().into_iter().filter(|check| check.grade == Grade::Poor);
        found.map(|check| check.name).collect()
    };
    let expected: BTreeSet<_> = found.map(|(_, _, name, _)| *name).collect();
    assert_eq!(poor(&host).into_iter().collect::<BTreeSet<_>>(), expected);

    let said = script(dir.path(), &["--apply", "--dry-run", "--cpus", "2-3"]);
    assert_eq!(tree(dir.path()), before, "{said}");
    let would: Vec<_> = said.lines().filter(|line| line.starts_with("would set ")).collect();
    let said = script(dir.path(), &["--apply", "--cpus", "2-3"]);
    let did: Vec<_> = said.lines().filter(|line| line.starts_with("set ")).collect();
    assert_eq!(did.len(), would.len(), "{said}");
    assert_eq!(poor(&host), Vec::<&str>::new(), "{said}");

    // A second time there is nothing to do, and the way back is not forgotten.
    let said = script(dir.path(), &["--apply", "--cpus", "2-3"]);
    assert_eq!(said, "0 settings changed\n");
    let said = script(dir.path(), &["--undo"]);
    assert!(said.ends_with(&format!("{} settings set back\n", did.len())), "{said}");
    let mut after = tree(dir.path());
    after.retain(|path, _| !path.ends_with("run"));
    assert_eq!(words(&after), words(&before));
    assert_eq!(script(dir.path(), &["--undo"]), "nothing to set back\n");
}

fn script(root: &Path, flags: &[&str]) -> String {
    let mut command = std::process::Command::new("sh");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/host.sh"));
    command.arg("--root").arg(root).args(["--data-dir", "/"]).args(flags);
    let output = command.output().expect("a shell");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{flags:?}: {told}");
    assert_eq!(told, "", "{flags:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Every file below a directory with what it holds.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(root).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() && !path.is_symlink() {
            true => files.append(&mut tree(&path)),
            false if path.is_symlink() => {}
            false => {
                let text = fs::read_to_string(&path).expect("text");
                files.insert(path, text);
            }
        }
    }
    files
}

/// What each file says: the kernel shows a choice among others, a file of ours what was chosen.
fn words(files: &BTreeMap<PathBuf, String>) -> BTreeMap<&Path, &str> {
    files.iter().map(|(path, text)| (path.as_path(), chosen(text.trim()))).collect()
}
