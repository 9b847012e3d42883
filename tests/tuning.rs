//! What is in `tuning/` against the program: each file that names a flag, a key, a path, an exit
//! status or a system call names one that is there.
//!
//! `host.sh` is tried on files of its own beside `ringraft doctor`, in
//! `src/cli/doctor/host/tests.rs`; here only its dry run on this host. Tools that a host does not
//! have (systemd-analyze, shellcheck) are said to be missing, and what they would check is left
//! out.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ringraft::config::{Holds, KEYS, NodeConfig};
use serde_json::Value;

use harness::{Node, binary, data_dir, possible};

const PROFILES: [&str; 3] = ["laptop", "latency", "throughput"];

#[test]
fn each_profile_is_read_and_says_only_what_differs() {
    let there = fs::read_dir(root().join("tuning/profiles")).unwrap();
    let there: BTreeSet<String> =
        there.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let named: BTreeSet<String> = PROFILES.iter().map(|name| format!("{name}.toml")).collect();
    assert_eq!(there, named);

    let plain = NodeConfig::default();
    for name in PROFILES {
        let text = read(&format!("tuning/profiles/{name}.toml"));
        let config = profile(name);
        let said = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
        let differ: Vec<_> =
            KEYS.iter().filter(|key| key.value(&config) != key.value(&plain)).collect();
        assert_eq!(said.count(), differ.len(), "{name}: a key at its default says nothing");
        for reason in text.split("\n[").skip(1).filter_map(|table| table.lines().nth(1)) {
            assert!(reason.starts_with('#'), "{name}: {reason:?} has no reason above it");
        }
    }
    assert!(profile("latency").spin > plain.spin);
    assert_eq!(profile("laptop").spin.as_micros(), 0);
}

#[test]
fn a_node_runs_with_a_profile() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let file = root().join("tuning/profiles/laptop.toml");
    let node = Node::start(dir.path(), &["--config", file.to_str().unwrap(), "--shards", "1"]);
    let (status, _, text) = node.end_with("TERM", Duration::from_secs(20));
    assert!(status.success(), "{status}: {text}");
}

#[test]
fn spinning_has_a_bound_that_is_told() {
    for (value, why) in [("1001", "out of bounds"), ("-1", "out of bounds"), ("x", "not a whole")] {
        let output = ringraft(&["serve", "--spin-us", value]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(why) && text.contains("0 to 1000 microseconds"), "{text}");
    }
}

#[test]
fn the_unit_names_what_is_there() {
    let text = read("tuning/ringraft.service");
    let value = |key: &str| values(&text, key).pop().unwrap_or_else(|| panic!("no {key}="));
    let start = value("ExecStart");
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(words[0].rsplit('/').next(), Some("ringraft"));
    flags_are_there(&words[1..]);

    let data = words[words.iter().position(|word| *word == "--data-dir").unwrap() + 1];
    assert_eq!(value("ReadWritePaths"), data);
    assert_eq!(Path::new(data).file_name().unwrap(), value("StateDirectory").as_str());
    let (_, _, most) = number("node.drain_ms");
    let stop: u64 = value("TimeoutStopSec").parse().unwrap();
    assert!(stop * 1_000 > most + 2_000, "{stop} s is not more than draining {most} ms may take");
    let files: u64 = value("LimitNOFILE").parse().unwrap();
    let plain = NodeConfig::default();
    for config in PROFILES.map(profile).iter().chain([&plain]) {
        assert!(files >= u64::from(config.connections_max) + 1_000, "{}", config.connections_max);
    }
    assert_eq!(value("LimitMEMLOCK"), "infinity");
    assert_eq!(value("NoNewPrivileges"), "yes");
    assert_eq!(value("ProtectSystem"), "strict");
    let calls = values(&text, "SystemCallFilter").join(" ");
    for call in ["@system-service", "io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(calls.split(' ').any(|it| it == call), "{call}");
    }
    let help = String::from_utf8(ringraft(&["--help"]).stdout).unwrap();
    for status in value("RestartPreventExitStatus").split(' ') {
        assert!(help.contains(&format!("\n  {status:>2}  ")), "exit status {status}");
    }
    for file in text.split_whitespace().filter(|word| word.starts_with("tuning/")) {
        assert!(root().join(file).exists(), "{file}");
    }
    assert_eq!(values(&read("tuning/ringraft-cores.conf"), "CPUAffinity").len(), 1);
}

#[test]
fn systemd_understands_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("ringraft.service");
    let binary = binary().display().to_string();
    let text = read("tuning/ringraft.service").replace("/usr/local/bin/ringraft", &binary);
    let text = format!("{text}\n{}", read("tuning/ringraft-cores.conf"));
    fs::write(&unit, text).unwrap();
    let mut command = Command::new("systemd-analyze");
    let Some(output) = there(command.args(["verify", "--man=no"]).arg(&unit)) else { return };
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let about: Vec<&str> = told.lines().filter(|line| line.contains("ringraft.service")).collect();
    assert!(about.is_empty(), "{about:?}");
}

#[test]
fn the_container_file_names_what_is_there() {
    let text = read("tuning/Containerfile");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut users = 0;
    for line in lines {
        let mut words = line.split_whitespace();
        let word = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        match word {
            "COPY" if !rest[0].starts_with("--") => {
                let (_, sources) = rest.split_last().unwrap();
                assert!(sources.iter().all(|it| root().join(it).exists()), "{line}");
            }
            "USER" => {
                assert!(!["0", "root"].contains(&rest[0]), "{line}");
                users += 1;
            }
            "EXPOSE" => {
                let plain = NodeConfig::default();
                let ports = [plain.listen.port, plain.peer_listen.port].map(|it| it.to_string());
                assert_eq!(rest, ports);
            }
            "CMD" => {
                let words: Vec<String> = serde_json::from_str(&rest.join(" ")).unwrap();
                flags_are_there(&words.iter().map(String::as_str).collect::<Vec<_>>());
            }
            "FROM" if rest[0].contains("/rust:") => {
                let version = rest[0].rsplit(':').next().unwrap().split('-').next().unwrap();
                let minor = |text: &str| text.split('.').nth(1).unwrap().parse::<u32>().unwrap();
                let manifest = read("Cargo.toml");
                let least = manifest.split("rust-version = \"").nth(1).unwrap();
                let least = least.split('"').next().unwrap();
                assert!(minor(version) >= minor(least), "{version} is older than {least}");
            }
            _ => {}
        }
    }
    assert_eq!(users, 1, "it does not run as root");
    for file in text.split(['=', ' ', '\n']).filter(|word| word.starts_with("tuning/")) {
        assert!(root().join(file).exists(), "{file}");
    }
    // Cargo wants the files that its manifest names, built or not.
    assert!(text.contains("\nCOPY benches benches\n"));
}

#[test]
fn the_seccomp_profile_allows_all_that_a_node_calls() {
    let profile: Value = serde_json::from_str(&read("tuning/seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "what is not named is refused");
    let mut allowed = BTreeSet::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        let names = rule["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        let names: Vec<&str> = names.collect();
        assert!(!names.is_empty());
        let always = ["args", "includes", "excludes"].iter().all(|it| rule.get(it).is_none());
        if always && rule["action"] == "SCMP_ACT_ALLOW" {
            allowed.extend(names);
        }
    }
    let missing: Vec<_> = CALLS.split_whitespace().filter(|call| !allowed.contains(call)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for never in ["mount", "init_module", "kexec_load", "bpf", "reboot"] {
        assert!(!allowed.contains(never), "{never}");
    }
}

#[test]
fn the_script_changes_nothing_when_it_is_not_to() {
    let kept = Path::new("/run/ringraft-host").exists();
    for flags in [&["--apply", "--dry-run"][..], &["--undo", "--dry-run"], &[], &["--cpus", "0"]] {
        let output = script(flags);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flags:?}: {told}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.lines().any(|line| line.starts_with("set ")), "{flags:?}: {said}");
        assert_eq!(Path::new("/run/ringraft-host").exists(), kept);
    }
    for wrong in [&["apply"][..], &["--cpus"], &["--cpus", "a"], &["--aply"]] {
        let output = script(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("host.sh --undo"));
    }
}

#[test]
fn the_script_is_good_shell() {
    let file = root().join("tuning/host.sh");
    let Some(output) = there(Command::new("shellcheck").arg(file)) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_doctor_says_of_each_thing_what_it_moves() {
    let output = ringraft(&["doctor", "--no-disk", "--json"]);
    assert!(matches!(output.status.code(), Some(0 | 6)), "{}", output.status);
    let readme = read("tuning/README.md");
    let mut names = BTreeSet::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let check: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| check[field].as_str().unwrap_or_else(|| panic!("{field}: {line}"));
        let bad = match text("grade") {
            "poor" | "missing" => true,
            "good" | "hidden" => false,
            other => panic!("{other}"),
        };
        assert_eq!(text("mend").is_empty(), !bad, "{line}");
        assert!(["found", "wanted", "moves"].iter().all(|it| !text(it).is_empty()), "{line}");
        assert!(readme.contains(&format!("| {} |", text("check"))), "{line} is not in the table");
        assert!(names.insert(text("check").to_owned()), "{line} comes twice");
    }
    assert!(names.len() >= 18, "{names:?}");
}

#[test]
fn every_key_is_in_a_table_of_knobs() {
    let readme = read("tuning/README.md");
    // What a node is called, where it is and how much it tells moves nothing.
    let plain = ["id", "data_dir", "listen", "peer_listen", "dialect", "listen_also", "trace"];
    for key in KEYS.iter().filter(|key| !plain.contains(&key.name)) {
        let named = [key.full_name(), key.name.to_owned()].iter().any(|it| readme.contains(it));
        assert!(named, "{}", key.full_name());
    }
}

/// What a node was seen to call on x86-64 with glibc, from its start over a load to its end, by
/// `strace -f`, and what dialling a peer and removing a file takes. Left out are those that the
/// profile allows by architecture or by arguments: `arch_prctl`, `socket`, `clone`, and `clone3`,
/// instead of which it has glibc take `clone`.
const CALLS: &str = "
    accept access bind brk close connect eventfd2 execve exit exit_group fallocate fcntl
    fdatasync flock fsync ftruncate futex getdents64 getpid getrandom getsockname gettid
    io_uring_enter io_uring_register io_uring_setup ioctl listen madvise membarrier mkdir mmap
    mprotect munmap newfstatat openat poll prctl pread64 prlimit64 pwrite64 read recvfrom rename
    rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_setaffinity sendto
    set_robust_list set_tid_address setsockopt sigaltstack socketpair statx uname unlink write
";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn profile(name: &str) -> NodeConfig {
    let mut config = NodeConfig::default();
    let text = read(&format!("tuning/profiles/{name}.toml"));
    config.read(&text).unwrap_or_else(|faults| panic!("{name}: {}", faults[0]));
    config.check().unwrap_or_else(|faults| panic!("{name}: {}", faults[0]));
    config
}

/// Default, least and most of a key.
fn number(name: &str) -> (u64, u64, u64) {
    let key = KEYS.iter().find(|key| key.full_name() == name).unwrap();
    match key.holds {
        Holds::Number { default, min, max, .. } => (default, min, max),
        Holds::Text { .. } | Holds::List { .. } => panic!("{name} is no number"),
    }
}

fn ringraft(words: &[&str]) -> Output {
    Command::new(binary()).args(words).output().unwrap()
}

fn script(words: &[&str]) -> Output {
    Command::new("sh").arg(root().join("tuning/host.sh")).args(words).output().unwrap()
}

/// A subcommand and its flags, all of them in its help.
fn flags_are_there(words: &[&str]) {
    let help = String::from_utf8(ringraft(&[words[0], "--help"]).stdout).unwrap();
    let flags = words.iter().filter(|word| word.starts_with("--"));
    for flag in flags {
        assert!(help.split_whitespace().any(|word| word == *flag), "{flag} is no flag");
    }
}

/// The values of a key of a unit, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let of_key = |line: &str| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
    unit.lines().filter_map(of_key).collect()
}

/// What a tool says; `None` when this host does not have it.
fn there(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("left out: {:?} is not here", command.get_program());
            None
        }
        Err(error) => panic!("{:?}: {error}", command.get_program()),
    }
}
