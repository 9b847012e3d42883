//! `ringraft demo`: three nodes on this machine, and how they are, until interrupted.
//!
//! Each node is a process of its own, so that it can be killed like one: whoever does sees the
//! others take over, and the node come back a little later. Absent on purpose: keeping the data,
//! unless a directory is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::cluster::look;
use super::target::{DEFAULT_ENDPOINT, Stop};
use super::{Exit, Failure, note, say};

/// What is typed.
#[derive(Args)]
pub struct Flags {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// How many partitions.
    #[arg(long, value_name = "N", default_value_t = 6)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    partitions: u32,
    /// Node 1 takes this port for clients and the next for peers, node 2 those 10 above, and so on.
    #[arg(long, value_name = "PORT", default_value_t = 5678)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=65_000))]
    port: u16,
    /// Where the data lives, and stays; without it in a directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// When a node does not start.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let passing = format!("ringraft-demo-{}", std::process::id());
    let dir = flags.data_dir.clone().unwrap_or_else(|| std::env::temp_dir().join(passing));
    std::fs::create_dir_all(&dir)
        .map_err(|error| Failure::new(Exit::DataDir, format!("{}: {error}", dir.display())))?;
    let outcome = runtime.block_on(live(flags, &dir));
    if flags.data_dir.is_none() {
        // What is left behind in a temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&dir);
    }
    outcome
}

async fn live(flags: &Flags, dir: &Path) -> Result<Exit, Failure> {
    let mut stop = Stop::catch()?;
    let mut demo = Demo::new(flags, dir)?;
    let outcome = tokio::select! {
        outcome = demo.run() => outcome,
        _ = stop.next() => Ok(Exit::Done),
    };
    demo.end().await;
    outcome
}

/// The nodes.
struct Demo<'a> {
    flags: &'a Flags,
    dir: &'a Path,
    config: PathBuf,
    running: BTreeMap<u16, Child>,
    /// Nodes that ended, and when they start again.
    ended: BTreeMap<u16, Instant>,
    shown: String,
}

impl Demo<'_> {
    fn new<'a>(flags: &'a Flags, dir: &'a Path) -> Result<Demo<'a>, Failure> {
        let config = dir.join("demo.toml");
        let text = "[journal]\nsegment_bytes = 33554432\n";
        std::fs::write(&config, text).map_err(|error| Failure::new(Exit::DataDir, error))?;
        let (running, ended) = (BTreeMap::new(), BTreeMap::new());
        Ok(Demo { flags, dir, config, running, ended, shown: String::new() })
    }

    fn api(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.flags.port + 10 * (node - 1))
    }

    fn peer(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.flags.port + 10 * (node - 1) + 1)
    }

    async fn run(&mut self) -> Result<Exit, Failure> {
        for node in 1..=self.flags.nodes {
            let child = self.start(node, Stdio::piped())?;
            self.running.insert(node, child);
        }
        for node in 1..=self.flags.nodes {
            self.ready(node).await?;
        }
        loop {
            self.revive()?;
            let endpoints: Vec<String> =
                (1..=self.flags.nodes).map(|node| self.api(node)).collect();
            let view = look::look(&endpoints, LOOK_MAX).await;
            self.show(&view);
            sleep(LOOK_EVERY).await;
        }
    }

    fn start(&self, node: u16, banner: Stdio) -> Result<Child, Failure> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| Failure::new(Exit::Failed, error))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(&self.config);
        command.arg("--data-dir").arg(self.dir.join(format!("node-{node}")));
        command.args(["--node-id", &node.to_string(), "--shards", "1"]);
        command.args(["--listen", &self.api(node), "--peer-listen", &self.peer(node)]);
        command.args(["--partitions", &self.flags.partitions.to_string(), "--trace", "error"]);
        for other in 1..=self.flags.nodes {
            command.args(["--cluster-node", &format!("{other}={}", self.peer(other))]);
        }
        // In a group of its own, so that an interrupt from the terminal reaches this process alone.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(banner).stderr(self.log(node)?);
        command.spawn().map_err(|error| Failure::new(Exit::Failed, error))
    }

    /// Waits until a node serves; it says itself what is wrong when it ends instead.
    async fn ready(&mut self, node: u16) -> Result<(), Failure> {
        let child = self.running.get_mut(&node).expect("it was just started");
        let Some(stdout) = child.stdout.take() else { return Ok(()) };
        let mut lines = BufReader::new(stdout).lines();
        let serves = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("ready ") {
                    return true;
                }
            }
            false
        };
        match timeout(START_MAX, serves).await {
            Ok(true) => Ok(()),
            _ => {
                let said = std::fs::read_to_string(self.log_path(node)).unwrap_or_default();
                let what = format!("node {node} did not start: {}", said.trim_end());
                let mend = "when its ports are taken, choose others with --port";
                Err(Failure::new(Exit::Failed, what).mend(mend))
            }
        }
    }

    fn log_path(&self, node: u16) -> PathBuf {
        self.dir.join(format!("node-{node}.log"))
    }

    /// What a node says beside its banner would tear the table.
    fn log(&self, node: u16) -> Result<Stdio, Failure> {
        let path = self.log_path(node);
        let file = std::fs::File::create(&path);
        let failed = |error| Failure::new(Exit::DataDir, format!("{}: {error}", path.display()));
        Ok(file.map_err(failed)?.into())
    }

    /// Starts again, a little later, what has ended.
    fn revive(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        self.running.retain(|node, child| {
            let ended = child.try_wait().ok().flatten().is_some();
            if ended {
                self.ended.insert(*node, now + REVIVE_AFTER);
            }
            !ended
        });
        let due: Vec<u16> =
            self.ended.iter().filter(|(_, at)| **at <= now).map(|(node, _)| *node).collect();
        for node in due {
            self.ended.remove(&node);
            let child = self.start(node, Stdio::null())?;
            self.running.insert(node, child);
        }
        Ok(())
    }

    /// A terminal shows the newest alone, a pipe what has changed.
    fn show(&mut self, view: &look::View) {
        let mut text = view.table();
        let (first, mut there) = (self.api(1), String::new());
        if first != DEFAULT_ENDPOINT {
            there = format!(" --endpoint {first}");
        }
        text.push_str(&format!("\ntry    ringraft counter incr visits{there}\n"));
        let pids: Vec<String> =
            self.running.values().filter_map(Child::id).map(|id| id.to_string()).collect();
        text.push_str(&format!("       kill -9 {}\n", pids.join(" | ")));
        text.push_str(&format!("       ringraft cluster watch{there}\nend    Ctrl-C"));
        if text == self.shown {
            return;
        }
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            say(&format_args!("\x1b[H\x1b[2J\x1b[3J{text}"));
        } else {
            say(&text);
        }
        self.shown = text;
    }

    async fn end(mut self) {
        for child in self.running.values() {
            if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)) {
                // A node that has ended by itself needs no asking.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for (node, child) in &mut self.running {
            if timeout(END_MAX, child.wait()).await.is_err() {
                note(&format_args!("ringraft: node {node} took too long to end and is killed"));
                let _ = child.kill().await;
            }
        }
    }
}

const START_MAX: Duration = Duration::from_secs(20);
const END_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_millis(500);
/// Long enough to see that it is missing.
const REVIVE_AFTER: Duration = Duration::from_secs(5);
