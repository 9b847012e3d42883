//! `ringraft serve`: run a node until a signal ends it.
//!
//! Flags are taken over the config file, which is taken over the defaults (`config.rs`). The banner
//! goes to standard output and ends with `ready HOST:PORT` once requests are served; diagnostics go
//! to standard error.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::target::DEFAULT_ENDPOINT;
use super::{Exit, Failure, VERSION, note, say};
use crate::config::{Dialect, Fault, NodeConfig, Trace};
use crate::journal::Refused;
use crate::runtime::checks;
use crate::runtime::directory::{DirectoryFault, Word};
use crate::runtime::{Fatal, Node};

/// What is typed.
#[derive(Args, Default)]
#[command(args_override_self = true)]
pub struct Flags {
    /// Where the data lives; made if it is not there. [default: ./ringraft-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where clients come in. [default: 127.0.0.1:5678]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where other nodes come in. [default: 127.0.0.1:5679]
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// This node's name in the cluster, 1 and up. [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    node_id: Option<String>,
    /// Partitions founded in an empty data directory, which keeps that number; 0 founds none and
    /// waits for Bootstrap. [default: 8]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    partitions: Option<String>,
    /// A node that founds the cluster, this one among them; once for each, the same on all of them.
    #[arg(long, value_name = "ID=HOST:PEERPORT")]
    cluster_node: Vec<String>,
    /// Replicas of each partition, as far as there are nodes. [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    replicas: Option<String>,
    /// Pinned cores, which the data directory keeps; 0 is as it was made, at first one for each
    /// core there is. [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shards: Option<String>,
    /// What clients speak: documented or released, and rsm besides by its paths.
    /// [default: documented]
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,
    /// Where clients come in besides, and what they speak there, as released=127.0.0.1:5680.
    #[arg(long, value_name = "DIALECT=HOST:PORT")]
    listen_also: Option<String>,
    /// A file of keys and values; tuning/node.toml explains each.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How much to tell on standard error: error, warn, info, debug or trace. [default: warn]
    #[arg(long, value_name = "LEVEL")]
    trace: Option<String>,
}

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let config = configure(flags)?;
    trace(config.trace);
    let signals = Signals::catch()?;
    let node = Node::start(&config).map_err(|fatal| not_started(&fatal))?;
    for fault in &node.ready.faults {
        note(&format_args!("ringraft: not started: {fault}"));
    }
    if !node.ready.faults.is_empty() {
        note(&format_args!(
            "  the others serve; `ringraft log verify {}` tells more. Restore the directory from a \
             copy, or give up what these held: Node.Leave, then Node.Bootstrap with the same id",
            config.data_dir.display()
        ));
    }
    let files = checks::open_files(config.connections_max.into());
    if files.grade != checks::Grade::Good {
        note(&format_args!("ringraft: {files}: more connections will not be accepted"));
        note(&format_args!("  {}", files.mend));
    }
    signals.serving();
    banner(&config, &node);
    signals.wait();
    note(&"ringraft: stopping; once more stops at once");
    node.stop();
    Ok(Exit::Done)
}

/// The last line is for programs: `ready` and where clients come in.
fn banner(config: &NodeConfig, node: &Node) {
    let partitions = match node.ready.partitions {
        0 => "none, waiting for Node.Bootstrap".to_owned(),
        count => count.to_string(),
    };
    say(&format_args!("ringraft {VERSION}, node {}", config.id));
    say(&format_args!("  clients     {} ({})", node.api, config.dialect.name()));
    if let (Some(also), Some(api)) = (&config.listen_also, node.api_also) {
        say(&format_args!("  and         {api} ({})", also.dialect.name()));
    }
    say(&format_args!("  peers       {}", node.peer));
    say(&format_args!("  data        {}", config.data_dir.display()));
    say(&format_args!("  shards      {}", node.ready.shards));
    say(&format_args!("  partitions  {partitions}"));
    if config.dialect == Dialect::Documented && node.ready.partitions > 0 {
        let endpoint = endpoint_flag(node.api);
        say(&"try");
        say(&format_args!("  ringraft counter incr visits{endpoint}"));
        say(&format_args!("  ringraft map put greetings hello world{endpoint}"));
    }
    say(&format_args!("ready {}", node.api));
}

/// What a client on this host must add to reach the node: nothing when it is where clients look
/// anyway.
fn endpoint_flag(api: SocketAddr) -> String {
    let mut api = api;
    if api.ip().is_unspecified() {
        api.set_ip(match api {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let api = api.to_string();
    if api == DEFAULT_ENDPOINT { String::new() } else { format!(" --endpoint {api}") }
}

fn trace(level: Trace) {
    let level = match level {
        Trace::Error => tracing::Level::ERROR,
        Trace::Warn => tracing::Level::WARN,
        Trace::Info => tracing::Level::INFO,
        Trace::Debug => tracing::Level::DEBUG,
        Trace::Trace => tracing::Level::TRACE,
    };
    let colours = std::io::stderr().is_terminal();
    // A program that embeds this one may have set its own; that one stays.
    drop(
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(colours)
            .with_writer(std::io::stderr)
            .try_init(),
    );
}

fn not_started(fatal: &Fatal) -> Failure {
    let failure = |exit| Failure::new(exit, fatal);
    match fatal {
        Fatal::Host(check) => {
            failure(Exit::Kernel).mend(format_args!("{} (see `ringraft doctor`)", check.mend))
        }
        Fatal::Address(_, error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            failure(Exit::Address).mend(
                "another process has it: end that one, or choose another with --listen, \
             --listen-also, --peer-listen",
            )
        }
        Fatal::Address(..) | Fatal::Name(..) => failure(Exit::Address)
            .mend("choose an address of this host with --listen, --listen-also, --peer-listen"),
        Fatal::DataDir(fault) => failure(Exit::DataDir).mend(how_to_use(fault)),
        Fatal::Journal(_, refused) => {
            let exit = match refused {
                Refused::Header { .. } => Exit::Damaged,
                Refused::Foreign { .. } | Refused::Newer { .. } => Exit::DataDir,
            };
            failure(exit)
                .mend("`ringraft log verify` tells what is there; restore it, or start with none")
        }
        Fatal::Disk(_) => failure(Exit::Disk)
            .mend("make room, or look into the kernel's log; what was acknowledged is still there"),
        Fatal::Core(_) => failure(Exit::Failed),
    }
}

/// A way to use a directory after all, or another one.
fn how_to_use(fault: &DirectoryFault) -> String {
    let way = match fault {
        DirectoryFault::Foreign { what: Word::Shards, there, .. } => {
            format!("start it with --shards {there}, or without a number of shards")
        }
        DirectoryFault::Foreign { what: Word::Node, there, .. } => {
            format!("start it with --node-id {there}")
        }
        DirectoryFault::Foreign { what: Word::Partitions, there, .. } => format!(
            "keys are spread by that number, so it stays: start it with --partitions {there}, or \
             without a number of partitions"
        ),
        DirectoryFault::Foreign { what: Word::Cluster, .. } => {
            "start it with the [cluster] keys that it was made with".to_owned()
        }
        DirectoryFault::Gone { .. } => {
            "restore it: without it its partitions would begin anew, empty".to_owned()
        }
        DirectoryFault::Newer { .. } => "run the newer version".to_owned(),
        DirectoryFault::InUse { .. } => "end that process".to_owned(),
        DirectoryFault::NotOurs { .. } => "move what is there away".to_owned(),
        DirectoryFault::System { .. } => {
            "make it a directory that this process can write".to_owned()
        }
    };
    format!("{way}, or name another with --data-dir")
}

/// SIGTERM and SIGINT: before the node serves they end the process at once, for nothing was
/// promised yet; then the first asks the node to stop and the second does not wait for it.
struct Signals {
    serving: Arc<AtomicBool>,
    first: Receiver<()>,
}

impl Signals {
    fn catch() -> Result<Signals, Failure> {
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        let serving = Arc::new(AtomicBool::new(false));
        let (tell, first) = channel();
        let told = Arc::clone(&serving);
        std::thread::spawn(move || {
            let mut asked = false;
            for number in signals.forever() {
                if asked || !told.load(Ordering::Acquire) {
                    std::process::exit(128 + number);
                }
                asked = true;
                // Nobody listens any more only when the process ends anyway.
                let _ = tell.send(());
            }
        });
        Ok(Signals { serving, first })
    }

    fn serving(&self) {
        self.serving.store(true, Ordering::Release);
    }

    fn wait(&self) {
        // The other end lives in a thread that never ends by itself.
        let _ = self.first.recv();
    }
}

fn configure(flags: &Flags) -> Result<NodeConfig, Failure> {
    let mut config = NodeConfig::default();
    if let Some(path) = &flags.config {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Exit::Config, format!("{shown}: {error}")))?;
        let name = shown.to_string();
        config.read(&text).map_err(|faults| told(Some(name.as_str()), &faults))?;
    }
    let nodes = (!flags.cluster_node.is_empty()).then(|| flags.cluster_node.join(","));
    let typed = [
        ("node.data_dir", "--data-dir", &flags.data_dir),
        ("node.listen", "--listen", &flags.listen),
        ("node.peer_listen", "--peer-listen", &flags.peer_listen),
        ("node.id", "--node-id", &flags.node_id),
        ("cluster.partitions", "--partitions", &flags.partitions),
        ("cluster.replicas", "--replicas", &flags.replicas),
        ("cluster.nodes", "--cluster-node", &nodes),
        ("node.shards", "--shards", &flags.shards),
        ("node.dialect", "--dialect", &flags.dialect),
        ("node.listen_also", "--listen-also", &flags.listen_also),
        ("node.trace", "--trace", &flags.trace),
    ];
    for (key, flag, value) in typed {
        if let Some(value) = value {
            config.set(key, flag, value).map_err(|fault| Failure::new(Exit::Usage, fault))?;
        }
    }
    config.check().map_err(|faults| told(None, &faults))?;
    Ok(config)
}

/// All faults but the last go out at once; the last is the failure.
fn told(file: Option<&str>, faults: &[Fault]) -> Failure {
    let line = |fault: &Fault| match file {
        Some(file) => format!("{file}, {fault}"),
        None => fault.to_string(),
    };
    let (last, others) = faults.split_last().expect("a refusal has a reason");
    for fault in others {
        note(&format_args!("ringraft: {}", line(fault)));
    }
    let advice = "tuning/node.toml lists every key with its meaning, unit, default and bound";
    Failure::new(Exit::Config, line(last)).mend(advice)
}
