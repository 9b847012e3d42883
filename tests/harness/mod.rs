//! A real node as a process, for the suites that talk to one.
//!
//! A host that cannot run a node (no io_uring, too little lockable memory) makes every test of
//! these suites say so in one line and count as passed. Waiting is always for a line or a
//! condition, with a deadline.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

pub mod caller;
pub mod calls;
pub mod nodes;
pub mod ports;

/// A node that is ready.
pub struct Node {
    child: Child,
    stderr: Option<ChildStderr>,
    /// Where clients come in.
    pub api: String,
    /// Where other nodes come in.
    pub peer: String,
    /// All that it printed up to `ready`.
    pub banner: Vec<String>,
    /// From being started to `ready`.
    pub startup: Duration,
}

/// What a node has said on standard error.
#[derive(Clone, Default)]
pub struct Heard {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    /// How many lines had all of these words so far.
    pub fn count(&self, words: &[&str]) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| words.iter().all(|words| line.contains(words))).count()
    }

    /// Waits for a line with all of these words.
    pub fn until(&self, words: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.count(words) == 0 {
            assert!(Instant::now() < deadline, "no line with {words:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A node that did not get ready.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stderr: String,
}

/// Whether this host can run a node; says so when it cannot.
pub fn possible() -> bool {
    match ringraft::runtime::checks::needed() {
        Ok(()) => true,
        Err(check) => {
            eprintln!("skipped: this host cannot run a node: {check}");
            false
        }
    }
}

/// A directory for data on the disk that the build is on: the system's own may be in memory,
/// without direct writes.
pub fn data_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("node-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The flags of a node of tests: small, on ports of its own.
pub fn flags(dir: &Path) -> Vec<String> {
    let config = dir.join("node.toml");
    std::fs::create_dir_all(dir).unwrap();
    if !config.exists() {
        std::fs::write(&config, "[journal]\nsegment_bytes = 33554432\n").unwrap();
    }
    let data = dir.join("data");
    let mut flags = vec!["serve".to_owned()];
    for (flag, value) in [
        ("--config", config.display().to_string()),
        ("--data-dir", data.display().to_string()),
        ("--listen", "127.0.0.1:0".to_owned()),
        ("--peer-listen", "127.0.0.1:0".to_owned()),
        ("--shards", "2".to_owned()),
        ("--partitions", "3".to_owned()),
    ] {
        flags.extend([flag.to_owned(), value]);
    }
    flags
}

impl Node {
    /// Starts a node with its data under `dir`; `more` flags win over the usual ones.
    pub fn start(dir: &Path, more: &[&str]) -> Node {
        Node::try_start(dir, more).unwrap_or_else(|ended| panic!("no node: {ended:?}"))
    }

    pub fn try_start(dir: &Path, more: &[&str]) -> Result<Node, Ended> {
        let mut flags = flags(dir);
        for pair in more.chunks(2) {
            match flags.iter().position(|flag| flag == pair[0]) {
                Some(at) => flags[at + 1] = pair[1].to_owned(),
                None => flags.extend(pair.iter().map(|flag| (*flag).to_owned())),
            }
        }
        Node::run_in(&flags, &dir.join("faults"))
    }

    /// Starts a node with these flags and no others.
    pub fn run(flags: &[String]) -> Result<Node, Ended> {
        Node::run_in(flags, Path::new(""))
    }

    fn run_in(flags: &[String], faults: &Path) -> Result<Node, Ended> {
        let began = Instant::now();
        let mut command = Command::new(binary());
        if faults.is_dir() {
            command.env("RINGRAFT_FAULTS", faults);
        }
        let mut child = command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let mut banner = Vec::new();
        loop {
            match lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) => banner.push(line),
                Err(_) => {
                    let _ = child.kill();
                    let status = child.wait().unwrap().code();
                    let mut text = String::new();
                    stderr.read_to_string(&mut text).unwrap();
                    return Err(Ended { status, stderr: text });
                }
            }
            let last = banner.last().unwrap();
            if let Some(api) = last.strip_prefix("ready ") {
                let api = api.trim().to_owned();
                let peer = banner.iter().find_map(|line| line.trim().strip_prefix("peers "));
                let peer = peer.unwrap_or_default().split_whitespace().next().unwrap_or_default();
                let peer = peer.to_owned();
                let startup = began.elapsed();
                return Ok(Node { child, stderr: Some(stderr), api, peer, banner, startup });
            }
        }
    }

    /// What it says on standard error from now on, which somebody must read.
    pub fn heard(&mut self) -> Heard {
        let lines = lines(self.stderr.take().expect("nobody else reads it"));
        let heard = Heard::default();
        let into = heard.lines.clone();
        std::thread::spawn(move || {
            for line in lines {
                eprintln!("{line}");
                into.lock().unwrap().push(line);
            }
        });
        heard
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As a power cut to the process.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name and waits for the end.
    pub fn end_with(mut self, signal: &str, most: Duration) -> (ExitStatus, Duration, String) {
        let began = Instant::now();
        send(self.pid(), signal);
        let status = wait(&mut self.child, most);
        let mut text = String::new();
        // Somebody else may read it.
        if let Some(mut stderr) = self.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        (status, began.elapsed(), text)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ringraft"))
}

/// Waits for a child's end; panics when it takes longer.
pub fn wait(child: &mut Child, most: Duration) -> ExitStatus {
    let deadline = Instant::now() + most;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "process {} did not end in {most:?}", child.id());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal by name: `TERM`, `INT`, `STOP`, `CONT`.
pub fn send(pid: u32, signal: &str) {
    let sent = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{signal} {pid}");
}

/// The lines of a pipe, so that waiting for one can have a deadline.
pub fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            if line.is_err() || line.is_ok_and(|line| sender.send(line).is_err()) {
                return;
            }
        }
    });
    receiver
}

/// A node that lives until the test process ends, whoever of its threads started it: a shell waits
/// for the end of its input, which only we hold open, and then kills the node.
// It ends by itself, when this process has.
#[allow(clippy::zombie_processes)]
pub fn shared() -> &'static str {
    static SHARED: std::sync::OnceLock<(String, Child)> = std::sync::OnceLock::new();
    let (api, _) = SHARED.get_or_init(|| {
        let dir = data_dir().keep();
        let mut child = Command::new("sh")
            .args(["-c", "\"$@\" & pid=$!; cat > /dev/null; kill -9 $pid; rm -rf \"$DATA\"", "sh"])
            .arg(binary())
            .args(flags(&dir))
            .env("DATA", &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines(child.stdout.take().unwrap());
        loop {
            let line = lines.recv_timeout(Duration::from_secs(20)).expect("a node gets ready");
            if let Some(api) = line.strip_prefix("ready ") {
                return (api.trim().to_owned(), child);
            }
        }
    });
    api
}

/// A plain connection.
pub fn dial(address: &str) -> TcpStream {
    let address: SocketAddr = address.parse().unwrap();
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}
