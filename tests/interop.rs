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

use ringraft::wire::proto::v1::BootstrapResponse;
use ringraft::wire::released::atomix::multiraft::v1::{
    BootstrapRequest, GroupConfig, MemberConfig, MemberRole,
};

use harness::caller::Caller;
use harness::{Node, binary, data_dir, lines, possible};

/// Nothing is said for as long as this: the story itself gives up earlier.
const SILENCE: Duration = Duration::from_secs(120);

/// All nine primitives, the life of sessions, and a node that is killed under it.
#[test]
fn the_multi_raft_driver_of_2022_finds_what_it_needs() {
    with_one_node("multiraft", "released");
}

/// What differs from the driver of 2022, on a listener that need not be told.
#[test]
fn the_client_of_2023_finds_what_it_needs() {
    with_one_node("rsm", "documented");
}

/// The driver is told once who leads. When that node ends, it asks the others, whichever of them
/// leads now.
#[tokio::test(flavor = "multi_thread")]
async fn the_multi_raft_driver_of_2022_goes_on_without_the_leader_it_knows() {
    if !possible() || !has_driver("multiraft") {
        return;
    }
    let dir = data_dir();
    let mut nodes = Vec::new();
    for id in ["1", "2", "3"] {
        let address = format!("127.0.0.{id}:0");
        let flags = ["--node-id", id, "--listen", &address, "--peer-listen", &address];
        let more = ["--partitions", "0", "--dialect", "released"];
        nodes.push(Node::start(&dir.path().join(id), &[flags.as_slice(), &more].concat()));
    }
    found(&nodes).await;
    let endpoints: Vec<&str> = nodes.iter().map(|node| node.api.as_str()).collect();
    let flags = ["--session-timeout", "4s", "--timeout", "20s"];
    let config = driver_config(&endpoints.join(","), &flags);
    let told: serde_json::Value = serde_json::from_slice(&config.stdout).unwrap();
    let leader = told["partitions"][0]["leader"].as_str().expect("a leader of partition 1");
    let leader = nodes.iter().position(|node| node.api == leader).unwrap();
    let config = String::from_utf8(config.stdout).unwrap();
    let mut killed = Some(nodes.remove(leader));
    let part = "-test.run=^TestDriver$/^(map|restart)$";
    tell(&built("multiraft"), config.trim(), &[part], || killed.take().unwrap().kill());
    assert!(killed.is_none());
}

/// Runs the story of one module with a node whose listener speaks `dialect`.
fn with_one_node(module: &str, dialect: &str) {
    if !possible() || !has_driver(module) {
        return;
    }
    let dir = data_dir();
    let mut node = Some(Node::start(dir.path(), &["--dialect", dialect]));
    let api = node.as_ref().unwrap().api.clone();
    let config = driver_config(&api, &["--session-timeout", "4s"]);
    assert!(config.status.success(), "{config:?}");
    let mut restarts = 0;
    tell(&built(module), String::from_utf8(config.stdout).unwrap().trim(), &[], || {
        node.take().unwrap().kill();
        let again = Node::start(dir.path(), &["--dialect", dialect, "--listen", &api]);
        assert_eq!(again.api, api, "where the driver looks for it");
        node = Some(again);
        restarts += 1;
    });
    assert_eq!(restarts, 1);
}

/// Runs a story to its end; `restart` is what it asks for in the middle.
fn tell(story: &Path, config: &str, flags: &[&str], mut restart: impl FnMut()) {
    let mut child = Command::new(story)
        .args(["-test.v", "-test.timeout=10m"])
        .args(flags)
        .env("INTEROP_CONFIG", config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answer = child.stdin.take().unwrap();
    let told = lines(child.stdout.take().unwrap());
    let mut text = String::new();
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
            restart();
            writeln!(answer, "ready").unwrap();
        } else {
            text.push_str(&line);
            text.push('\n');
        }
    }
    drop(answer);
    let status = harness::wait(&mut child, SILENCE);
    assert!(status.success(), "{status}\n{text}");
    assert!(text.contains("--- PASS") && !text.contains("--- SKIP"), "{text}");
}

/// Founds three groups with a member on each node, as a controller of 2022 does.
async fn found(nodes: &[Node]) {
    let member = |(node, member_id): (&Node, u32)| {
        let (host, port) = node.peer.rsplit_once(':').unwrap();
        MemberConfig { member_id, host: host.to_owned(), port: port.parse::<i32>().unwrap() }
    };
    let members: Vec<MemberConfig> = nodes.iter().zip(1..).map(member).collect();
    for (node, member_id) in nodes.iter().zip(1..) {
        let caller = Caller::to(&node.api).await;
        for group_id in 1..=3 {
            let role = MemberRole::Member.into();
            let group = GroupConfig { group_id, member_id, role, members: members.clone() };
            let request = BootstrapRequest { group: Some(group) };
            let path = "/atomix.multiraft.v1.Node/Bootstrap";
            let _: tonic::Response<BootstrapResponse> =
                caller.unary(path, request).await.expect("founded");
        }
    }
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
