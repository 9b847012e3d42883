//! The published Go drivers, unchanged, against a real node. The stories are told in Go, a module
//! each (`tests/interop/`).
//!
//! Without Go, or on a host that cannot run a node, they say so in one line and pass. The drivers
//! come from the Go module proxy when they are not there yet; `go.sum` says what they must be.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used)]

mod harness;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use harness::{Node, binary, data_dir, lines, possible};

/// Nothing is said for as long as this: the story itself gives up earlier.
const SILENCE: Duration = Duration::from_secs(120);

/// All nine primitives, the life of sessions, and a node that is killed under it.
#[test]
fn the_multi_raft_driver_of_2022_finds_what_it_needs() {
    tell("multiraft", "released");
}

/// Runs the story of one module with a node whose listener speaks `dialect`.
fn tell(module: &str, dialect: &str) {
    if !possible() || !has_driver(module) {
        return;
    }
    let story = built(module);
    let dir = data_dir();
    let mut node = Node::start(dir.path(), &["--dialect", dialect]);
    let config = driver_config(&node.api, &["--session-timeout", "4s"]);
    assert!(config.status.success(), "{config:?}");
    let config = String::from_utf8(config.stdout).unwrap();
    let mut child = Command::new(story)
        .args(["-test.v", "-test.timeout=10m"])
        .env("INTEROP_CONFIG", config.trim())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answer = child.stdin.take().unwrap();
    let told = lines(child.stdout.take().unwrap());
    let (mut story, mut restarts) = (String::new(), 0);
    // The end of its output ends the story as well; what it was, its status says.
    loop {
        let line = match told.recv_timeout(SILENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                break;
            }
        };
        if line == "@restart" {
            let api = node.api.clone();
            node.kill();
            node = Node::start(dir.path(), &["--dialect", dialect, "--listen", &api]);
            assert_eq!(node.api, api, "where the driver looks for it");
            writeln!(answer, "ready").unwrap();
            restarts += 1;
        } else {
            story.push_str(&line);
            story.push('\n');
        }
    }
    drop(answer);
    let status = harness::wait(&mut child, SILENCE);
    assert!(status.success(), "{status}\n{story}");
    assert_eq!(restarts, 1, "{story}");
    assert!(!story.contains("--- SKIP"), "{story}");
}

#[test]
fn driver_config_tells_what_it_cannot_know() {
    if !possible() {
        return;
    }
    let dir = data_dir();
    let node = Node::start(dir.path(), &[]);
    let config = driver_config(&node.api, &[]);
    let partition = |id| format!(r#"{{"partitionId":{id},"leader":"{}"}}"#, node.api);
    let expected = format!("{},{},{}", partition(1), partition(2), partition(3));
    let stdout = String::from_utf8(config.stdout).unwrap();
    assert_eq!(stdout, format!("{{\"partitions\":[{expected}]}}\n"));
    let stderr = String::from_utf8(config.stderr).unwrap();
    assert!(stderr.contains("documented dialect"), "{stderr}");
    let api = node.api.clone();
    node.kill();
    let config = driver_config(&api, &[]);
    assert_eq!(config.status.code(), Some(9), "{config:?}");
    assert!(config.stdout.is_empty());
}

fn driver_config(endpoint: &str, more: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["driver-config", "--endpoint", endpoint]).args(more).output().unwrap()
}

/// Whether there is Go, and the driver that the module is about; says so when not.
fn has_driver(module: &str) -> bool {
    let why = match go(module, &["mod", "download"]) {
        Ok(got) if got.status.success() => return true,
        Ok(got) => String::from_utf8_lossy(&got.stderr).lines().last().unwrap_or("").to_owned(),
        Err(_) => "there is no Go here".to_owned(),
    };
    eprintln!("skipped: the published driver cannot be run: {why}");
    false
}

/// The story, compiled.
fn built(module: &str) -> PathBuf {
    let story = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{module}.test"));
    let path = story.to_str().unwrap();
    // The flag: golang.org/x/net of 2022 reaches into a runtime that has closed since.
    let flags = ["test", "-c", "-ldflags=-checklinkname=0", "-o", path, "."];
    let built = go(module, &flags).unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    story
}

fn go(module: &str, arguments: &[&str]) -> std::io::Result<Output> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    Command::new("go").args(arguments).current_dir(modules.join(module)).output()
}
