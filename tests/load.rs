//! The load generator as a program: every workload against a real node, the forms of its results,
//! and a server that lies.
//!
//! A host that cannot run a node says so and passes (`harness`).
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

#[path = "load/etcd.rs"]
mod etcd;
mod harness;
#[path = "load/liar.rs"]
mod liar;
#[path = "load/serve.rs"]
mod serve;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use harness::{Node, binary, data_dir, possible, send, shared, wait};

/// Runs `ringraft load` with these words against `endpoint`.
fn load(endpoint: &str, words: &str) -> Output {
    let words = words.split_whitespace();
    let mut command = Command::new(binary());
    command.args(["load"]).args(words).args(["--endpoint", endpoint, "--quiet"]);
    command.stdin(Stdio::null()).output().unwrap()
}

/// The same with `--json`, which must end well.
fn measured(endpoint: &str, words: &str) -> Value {
    let output = load(endpoint, &format!("{words} --json"));
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{words}: {err}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(report: &Value, verb: &str) -> u64 {
    let verbs = report["verbs"].as_array().unwrap();
    let found = verbs.iter().find(|each| each["verb"] == verb);
    found.map_or(0, |each| each["count"].as_u64().unwrap())
}

const SHORT: &str = "--duration 300ms --warmup 50ms";

#[test]
fn every_workload_runs_and_finds_the_node_right() {
    if !possible() {
        return;
    }
    let api = shared();
    for (words, verbs) in [
        ("counter --in-flight 32", &["increment"][..]),
        ("map-write --in-flight 32 --keys 100", &["put"]),
        ("map-read --in-flight 32 --keys 100 --distribution zipf", &["get"]),
        ("map-mixed --mix a --in-flight 32 --keys 50", &["get", "put"]),
        ("map-mixed --mix b --in-flight 64 --keys 10 --value-bytes 5000", &["get", "put"]),
        ("map-mixed --mix f --in-flight 32 --keys 20", &["get", "update"]),
        ("lock-contended --in-flight 8", &["acquire", "release"]),
        ("lock-free --in-flight 8", &["acquire", "release"]),
        ("election-churn --in-flight 4", &["enter", "withdraw"]),
        ("session-churn --in-flight 8", &["open", "create", "increment", "close"]),
        ("watch-fanout --in-flight 4 --listeners 5", &["put", "event"]),
    ] {
        let report = measured(api, &format!("{words} {SHORT}"));
        for verb in verbs {
            assert!(count(&report, verb) > 0, "{words}: no {verb} in {report}");
        }
        assert_eq!(report["wrong"].as_array().unwrap().len(), 0, "{words}");
        assert_eq!(report["counts"]["unanswered"], 0, "{words}");
    }
}

#[test]
fn an_open_loop_keeps_its_rate_on_several_threads() {
    if !possible() {
        return;
    }
    for arrivals in ["constant", "poisson"] {
        let words = "counter --rate 1000 --connections 3 --threads 2 --duration 1s --warmup 100ms";
        let report = measured(shared(), &format!("{words} --arrivals {arrivals}"));
        // All that was due is answered, however late; Poisson arrivals vary by their root.
        let calls = report["calls"].as_u64().unwrap();
        assert!((800..=1200).contains(&calls), "{calls} {arrivals}");
        if arrivals == "constant" {
            assert!((999..=1001).contains(&calls), "{calls}");
        }
        assert!(report["late_us"]["p50"].is_number());
    }
}

#[test]
fn both_dialects_are_spoken_and_the_wrong_one_is_told() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &["--dialect", "released"]);
    for words in ["counter --in-flight 8", "map-mixed --mix a --in-flight 8 --keys 20"] {
        let report = measured(&node.api, &format!("{words} --target atomix {SHORT}"));
        assert_eq!(report["settings"]["target"], "atomix");
        assert!(report["calls"].as_u64().unwrap() > 0);
    }
    let output = load(&node.api, &format!("counter --partition-ids 1,2,3 {SHORT}"));
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(10), "{err}");
    assert!(err.contains("released dialect") && err.contains("--target"), "{err}");
}

#[test]
fn what_is_not_there_is_told() {
    // Nothing listens on a port that was given back.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = socket.local_addr().unwrap().to_string();
    drop(socket);
    let output = load(&nobody, "counter --partition-ids 1");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(9), "{err}");
    assert!(err.starts_with("ringraft: no connection") && err.contains("ringraft serve"), "{err}");
    // Something that says nothing is no server of ours.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let output = load(&address, "counter --partition-ids 1 --timeout 200ms");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(9), "{err}");
    assert!(err.contains("no gRPC server"), "{err}");
    for words in ["counter --value-bytes 3", "counter --rate 0", "counter --rate 5 --in-flight 5"] {
        assert_eq!(load(&nobody, words).status.code(), Some(2), "{words}");
    }
}

#[test]
fn a_lie_fails_the_run() {
    for (lie, word) in [
        (liar::Lie::None, ""),
        (liar::Lie::Twice, "was known before it began"),
        (liar::Lie::Lost, "was known before"),
        (liar::Lie::More, "increments were acknowledged, but it went from 0 to"),
    ] {
        let address = liar::start(lie);
        let words = "counter --partition-ids 1 --in-flight 4 --connections 2";
        let output = load(&address, &format!("{words} {SHORT}"));
        let err = String::from_utf8_lossy(&output.stderr);
        let table = String::from_utf8_lossy(&output.stdout);
        if lie == liar::Lie::None {
            assert_eq!(output.status.code(), Some(0), "{err}");
            continue;
        }
        assert_eq!(output.status.code(), Some(12), "{lie:?}: {err}{table}");
        assert!(err.contains(word), "{lie:?}: {err}");
        assert!(table.contains("WRONG"), "{lie:?}: {table}");
    }
}

#[test]
fn etcd_is_driven_with_the_same_workloads() {
    let address = etcd::start();
    for words in [
        "counter --in-flight 8",
        "map-mixed --mix a --in-flight 8 --keys 20",
        "map-mixed --mix f --in-flight 8 --keys 5",
        "lock-free --in-flight 4",
        "session-churn --in-flight 4",
    ] {
        let report = measured(&address, &format!("{words} --target etcd {SHORT}"));
        assert_eq!(report["settings"]["target"], "etcd");
        assert!(report["calls"].as_u64().unwrap() > 0, "{words}");
    }
    let output = load(&address, "election-churn --target etcd");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_limits_of_a_host_are_measured() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let mut command = Command::new(binary());
    let flags = ["load", "ceiling", "--in-flight", "16", "--duration", "300ms", "--json", "--node"];
    command.args(flags).arg("--disk").arg(dir.path()).args(["--endpoint", shared()]);
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["echo, own path", "echo, h2 crate", "disk, write and sync", "node"]);
    for row in rows.as_array().unwrap() {
        assert!(row["per_second"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_core_that_is_not_there_is_told() {
    let output = Command::new(binary()).args(["load", "ceiling", "--core", "99999"]).output();
    let output = output.unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("core 99999 cannot be used") && err.contains("--core"), "{err}");
}

#[test]
fn results_have_all_their_forms_and_add_up() {
    if !possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (page, hgrm) = (file("page.html"), file("run.hgrm"));
    let words = format!("counter --in-flight 8 {SHORT} --report {page} --hgrm {hgrm}");
    let one = measured(shared(), &words);
    let two = measured(shared(), &format!("counter --in-flight 8 {SHORT}"));
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains("<svg") && !text.contains("<script"));
    assert!(std::fs::read_to_string(hgrm).unwrap().contains("1/(1-Percentile)"));
    let csv = load(shared(), &format!("counter --in-flight 8 {SHORT} --csv"));
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(csv.starts_with("workload,target,verb,count") && csv.contains("counter,ringraft,"));

    std::fs::write(file("one"), one.to_string()).unwrap();
    std::fs::write(file("two"), two.to_string()).unwrap();
    let mut command = Command::new(binary());
    command.args(["load", "merge", "--json", &file("one"), &file("two")]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let both: Value = serde_json::from_slice(&output.stdout).unwrap();
    for field in ["calls", "hosts", "latency_us", "settings", "generator", "slices", "counts"] {
        assert!(!both[field].is_null(), "{field}");
    }
    let calls = |of: &Value| of["calls"].as_u64().unwrap();
    assert_eq!(calls(&both), calls(&one) + calls(&two));
    assert_eq!(count(&both, "increment"), calls(&both));
    assert_eq!(both["settings"]["in_flight"], 16);
}

#[test]
fn an_interrupt_prints_what_was_measured_so_far() {
    if !possible() {
        return;
    }
    let mut command = Command::new(binary());
    command.args(["load", "counter", "--in-flight", "4", "--duration", "60s", "--warmup", "0s"]);
    command.args(["--endpoint", shared()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The first line about how it goes says that it goes.
    let lines = harness::lines(child.stderr.take().unwrap());
    let running = |line: &String| line.contains("/s");
    while !lines.recv_timeout(Duration::from_secs(30)).is_ok_and(|line| running(&line)) {}
    send(child.id(), "INT");
    let status = wait(&mut child, Duration::from_secs(20));
    let output = child.wait_with_output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(status.code(), Some(0), "{table}");
    assert!(table.contains("increment") && table.contains("interrupted after"), "{table}");
}

#[test]
fn a_restart_of_the_node_is_survived_and_nothing_counts_twice() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let api = node.api.clone();
    let mut command = Command::new(binary());
    command.args(["load", "counter", "--in-flight", "16", "--duration", "3s", "--warmup", "0s"]);
    command.args(["--endpoint", &api, "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = harness::lines(child.stderr.take().unwrap());
    while !lines.recv_timeout(Duration::from_secs(30)).is_ok_and(|line| line.contains("/s")) {}
    node.kill();
    let _again = Node::start(dir.path(), &["--listen", &api]);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report["counts"]["broken"].as_u64().unwrap() > 0, "{report}");
    assert!(report["counts"]["retried"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_sweep_finds_a_knee() {
    if !possible() {
        return;
    }
    let words = "sweep counter --rate 200 --most 400 --p99 10s --duration 300ms --warmup 0s --json";
    let output = load(shared(), words);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let sweep: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!sweep["steps"].as_array().unwrap().is_empty());
}
