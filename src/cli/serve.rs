//! `ringraft serve`: run a node until a signal ends it.
//!
//! Flags are taken over the config file, which is taken over the defaults (`config.rs`). A config
//! file of the reference's or one of its flags makes it a node in place of the reference's, with
//! the defaults that that has (`config/reference.rs`). The banner goes to standard output and ends
//! with `ready HOST:PORT` once requests are served; diagnostics go to standard error.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::target::DEFAULT_ENDPOINT;
use super::{Exit, Failure, VERSION, note, say};
use crate::config::{Dialect, Fault, InPlace, NodeConfig, Trace, is_reference};
use crate::journal::Refused;
use crate::runtime::checks;
use crate::runtime::directory::{DirectoryFault, Word};
use crate::runtime::{Fatal, Node};

/// What is typed.
#[derive(Args, Default)]
#[command(args_override_self = true, after_help = IN_PLACE)]
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
    /// This node's name in the cluster, 1 and up. [default: 1, but see below]
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
    /// Microseconds that a pinned core looks for work before it sleeps, 0 to 1000: a lone command
    /// is answered sooner, for more CPU. [default: 20]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    spin_us: Option<String>,
    /// What clients speak: documented or released, and rsm besides by its paths.
    /// [default: documented]
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,
    /// Where clients come in besides, and what they speak there, as released=127.0.0.1:5680.
    #[arg(long, value_name = "DIALECT=HOST:PORT")]
    listen_also: Option<String>,
    /// A file of keys and values; tuning/node.toml explains each. One that is named *.json or
    /// begins with `{` is the Atomix node's, see below.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How much to tell on standard error: error, warn, info, debug or trace. [default: warn]
    #[arg(long, value_name = "LEVEL")]
    trace: Option<String>,
    /// Where clients come in; empty is all interfaces. [default: empty]
    #[arg(long, value_name = "HOST", help_heading = HEADING)]
    api_host: Option<String>,
    /// The port there. [default: 8080]
    #[arg(long, value_name = "PORT", help_heading = HEADING, allow_negative_numbers = true)]
    api_port: Option<String>,
    /// What other members dial. An address or `localhost` is also what is listened on, for a name
    /// it is all interfaces. [default: empty]
    #[arg(long, value_name = "HOST", help_heading = HEADING)]
    raft_host: Option<String>,
    /// The port there. [default: 5000]
    #[arg(long, value_name = "PORT", help_heading = HEADING, allow_negative_numbers = true)]
    raft_port: Option<String>,
}

const HEADING: &str = "In place of the Atomix node";

const IN_PLACE: &str = "\
With one of the flags in the last group, or with that node's JSON as --config, it is started as
atomix-multi-raft-node is: it speaks the released dialect, keeps its data in /var/lib/atomix/data,
founds no partitions and waits for Bootstrap. It is node N + 1 where the raft host begins with the
name of a pod that ends in -N, and tells more when ATOMIX_DEBUG is not empty. The other flags still
count, but --listen excludes --api-host and --api-port, --peer-listen --raft-host and --raft-port.";

/// Does it.
///
/// # Errors
/// As the table of exit statuses says.
pub fn run(flags: &Flags) -> Result<Exit, Failure> {
    let debug = std::env::var_os("ATOMIX_DEBUG").is_some_and(|value| !value.is_empty());
    let config = configure(flags, debug)?;
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
    match config.in_place {
        None => say(&format_args!("ringraft {VERSION}, node {}", config.id)),
        Some(_) => {
            say(&format_args!("ringraft {VERSION}, node {} in place of Atomix's", config.id));
        }
    }
    say(&format_args!("  clients     {} ({})", node.api, config.dialect.name()));
    if let (Some(also), Some(api)) = (&config.listen_also, node.api_also) {
        say(&format_args!("  and         {api} ({})", also.dialect.name()));
    }
    match &config.in_place {
        Some(InPlace { raft_host: Some(host) }) => {
            say(&format_args!("  peers       {} (they dial {host})", node.peer));
        }
        _ => say(&format_args!("  peers       {}", node.peer)),
    }
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
                 --listen-also and --peer-listen, or --api-port and --raft-port",
            )
        }
        Fatal::Address(..) | Fatal::Name(..) => failure(Exit::Address).mend(
            "choose an address of this host with --listen, --listen-also and --peer-listen, or \
             --api-host and --raft-host",
        ),
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

/// `debug` is whether the reference would tell all it does.
fn configure(flags: &Flags, debug: bool) -> Result<NodeConfig, Failure> {
    agree(flags)?;
    let file = flags.config.as_ref().map(|path| File::read(path)).transpose()?;
    let theirs = file.as_ref().is_some_and(|file| is_reference(&file.name, &file.text));
    let in_place = theirs || flags.reference().iter().any(|(_, value)| value.is_some());
    let mut config = if in_place { NodeConfig::in_place() } else { NodeConfig::default() };
    if in_place && debug {
        config.trace = Trace::Debug;
    }
    if let Some(File { name, text }) = &file {
        let (read, advice) = match theirs {
            true => (config.read_reference(text), THEIR_FIELDS),
            false => (config.read(text), OUR_KEYS),
        };
        read.map_err(|faults| told(Some(name), &faults, advice))?;
    }
    let nodes = (!flags.cluster_node.is_empty()).then(|| flags.cluster_node.join(","));
    let usage = |fault| Failure::new(Exit::Usage, fault);
    config.set_api(flags.api_host.as_deref(), flags.api_port.as_deref()).map_err(usage)?;
    config.set_raft(flags.raft_host.as_deref(), flags.raft_port.as_deref()).map_err(usage)?;
    for (key, flag, value) in flags.ours(&nodes) {
        if let Some(value) = value {
            config.set(key, flag, value).map_err(usage)?;
        }
    }
    config.check().map_err(|faults| told(None, &faults, OUR_KEYS))?;
    Ok(config)
}

const OUR_KEYS: &str = "tuning/node.toml lists every key with its meaning, unit, default and bound";
const THEIR_FIELDS: &str = "it is read as the Atomix node's JSON; a file of ringraft's own keys is \
    TOML, as tuning/node.toml";

/// A flag of either kind that says what a flag of the other says too.
fn agree(flags: &Flags) -> Result<(), Failure> {
    let [api_host, api_port, raft_host, raft_port] = flags.reference();
    for (ours, value, theirs) in [
        ("--listen", &flags.listen, [api_host, api_port]),
        ("--peer-listen", &flags.peer_listen, [raft_host, raft_port]),
    ] {
        let other = theirs.into_iter().find(|(_, value)| value.is_some());
        if let (Some(_), Some((other, _))) = (value, other) {
            let what = format!("{ours} and {other} say the same thing twice");
            return Err(Failure::new(Exit::Usage, what).mend("leave one of them out"));
        }
    }
    Ok(())
}

impl Flags {
    /// `nodes` is what `--cluster-node` says, joined.
    fn ours<'a>(
        &'a self,
        nodes: &'a Option<String>,
    ) -> [(&'static str, &'static str, &'a Option<String>); 12] {
        [
            ("node.data_dir", "--data-dir", &self.data_dir),
            ("node.listen", "--listen", &self.listen),
            ("node.peer_listen", "--peer-listen", &self.peer_listen),
            ("node.id", "--node-id", &self.node_id),
            ("cluster.partitions", "--partitions", &self.partitions),
            ("cluster.replicas", "--replicas", &self.replicas),
            ("cluster.nodes", "--cluster-node", nodes),
            ("node.shards", "--shards", &self.shards),
            ("node.spin_us", "--spin-us", &self.spin_us),
            ("node.dialect", "--dialect", &self.dialect),
            ("node.listen_also", "--listen-also", &self.listen_also),
            ("node.trace", "--trace", &self.trace),
        ]
    }

    fn reference(&self) -> [(&'static str, &Option<String>); 4] {
        [
            ("--api-host", &self.api_host),
            ("--api-port", &self.api_port),
            ("--raft-host", &self.raft_host),
            ("--raft-port", &self.raft_port),
        ]
    }
}

/// A config file as it stands there.
struct File {
    name: String,
    text: String,
}

impl File {
    fn read(path: &Path) -> Result<File, Failure> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(File { name, text }),
            Err(error) => Err(Failure::new(Exit::Config, format!("{name}: {error}"))),
        }
    }
}

/// All faults but the last go out at once; the last is the failure.
fn told(file: Option<&str>, faults: &[Fault], advice: &str) -> Failure {
    let line = |fault: &Fault| match file {
        Some(file) => format!("{file}, {fault}"),
        None => fault.to_string(),
    };
    let (last, others) = faults.split_last().expect("a refusal has a reason");
    for fault in others {
        note(&format_args!("ringraft: {}", line(fault)));
    }
    Failure::new(Exit::Config, line(last)).mend(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn one_flag_of_the_reference_makes_a_node_in_its_place() {
        let own = configure(&Flags::default(), true).expect("nothing said");
        assert_eq!(own, NodeConfig::default());
        let flags = Flags { api_port: said("5678"), ..Flags::default() };
        let config = configure(&flags, false).expect("a port");
        let mut expected = NodeConfig::in_place();
        expected.listen.port = 5678;
        assert_eq!(config, expected);
        assert_eq!(configure(&flags, true).expect("a port").trace, Trace::Debug);

        // Flags of our own still win.
        let flags = Flags {
            raft_port: said("5679"),
            listen: said("127.0.0.1:0"),
            dialect: said("documented"),
            partitions: said("3"),
            trace: said("info"),
            ..Flags::default()
        };
        let config = configure(&flags, true).expect("both kinds");
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.peer_listen.to_string(), ":5679");
        assert_eq!((config.dialect, config.trace), (Dialect::Documented, Trace::Info));
        assert_eq!(config.cluster.partitions, 3);
    }

    #[test]
    fn flags_that_contradict_each_other_are_named() {
        let both = [
            Flags { listen: said("h:1"), api_port: said("1"), ..Flags::default() },
            Flags { listen: said("h:1"), api_host: said("h"), ..Flags::default() },
            Flags { peer_listen: said("h:1"), raft_port: said("1"), ..Flags::default() },
            Flags { peer_listen: said("h:1"), raft_host: said("h"), ..Flags::default() },
        ];
        let named = ["--listen and --api-port", "--listen and --api-host"];
        let named = named.into_iter().chain(["--peer-listen and --raft-port"]);
        for (flags, named) in both.iter().zip(named.chain(["--peer-listen and --raft-host"])) {
            let failure = configure(flags, false).expect_err(named);
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.what.starts_with(named), "{}", failure.what);
        }
        let flags = Flags { raft_port: said("5000"), api_port: said("5000"), ..Flags::default() };
        let failure = configure(&flags, false).expect_err("one port for two");
        assert_eq!(failure.exit, Exit::Config);
    }
}
