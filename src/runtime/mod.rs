//! Shell A: the only place with executors, files and clocks.
//!
//! ```text
//!   start: limits and host ─► addresses taken, peer port listening ─► a thread and executor a core
//!     each core: journal opened and read ─► shard ─► says that it knows its partitions
//!   all cores know ─► API port listening ─► `Node`
//!   stop: listeners closed, GOAWAY ─► calls finish, within a bound ─► loops end ─► journals closed
//! ```
//!
//! `Node` is what `ringraft serve` and the tests and benches in this process have alike; it prints
//! nothing. Absent on purpose: what a core does (`pump.rs`, `shard/`), and restarting a core that
//! failed: a bug or a failed disk ends the process (design.md, decisions 7 and 8).

pub mod checks;
pub mod clock;
mod core;
pub mod directory;
pub mod disk;
pub mod fatal;
#[cfg(debug_assertions)]
pub mod faults;
mod prepare;
pub mod pump;
mod ring;
pub mod tcp;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::config::{Address, Dialect, NodeConfig};
use crate::id::{NodeId, ShardId};
use crate::journal::Refused;
use crate::limits::SHARDS_MAX;
use crate::mesh;
use crate::peer::known::Known;
use crate::prng::Prng;
use crate::wire::format::FORMATS;
use crate::wire::hello::Speaker;
use clock::Clock;
use directory::{DataDirectory, DirectoryFault, Founded, Identity};
use pump::{Phase, Stop};

/// A running node.
pub struct Node {
    /// Where clients come in; the port is the one that was chosen when none was asked for.
    pub api: SocketAddr,
    /// Where clients of another dialect come in, if they do.
    pub api_also: Option<SocketAddr>,
    /// Where other nodes come in.
    pub peer: SocketAddr,
    /// What was found and made.
    pub ready: Ready,
    stop: Arc<Stop>,
    drained: Receiver<ShardId>,
    cores: Vec<ExecutorJoinHandle<()>>,
    drain: Duration,
    known: Arc<Known>,
    /// Locked until the last core has ended.
    _directory: DataDirectory,
}

/// What a node says of itself once it serves.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// Its cores.
    pub shards: u16,
    /// Whether each has a core of the host for itself.
    pub pinned: bool,
    /// Partitions that live here, those included that were just founded.
    pub partitions: usize,
    /// Partitions that lost something and do not start, with what and where.
    pub faults: Vec<String>,
}

/// Why a node did not start.
#[derive(Debug)]
pub enum Fatal {
    /// The host lacks something.
    Host(checks::Check),
    /// An address cannot be listened on.
    Address(SocketAddr, io::Error),
    /// A name that is no address here.
    Name(Address, io::Error),
    /// The data directory cannot be used.
    DataDir(DirectoryFault),
    /// A journal in it cannot be read at all.
    Journal(PathBuf, Refused),
    /// The disk.
    Disk(String),
    /// A core could not be started.
    Core(String),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Host(check) => check.fmt(f),
            Fatal::Address(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Fatal::Name(address, error) => write!(f, "{}: {error}", address.host),
            Fatal::DataDir(fault) => fault.fmt(f),
            Fatal::Journal(directory, refused) => {
                write!(f, "{}: {refused}", directory.display())
            }
            Fatal::Disk(text) | Fatal::Core(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Fatal {}

impl Node {
    /// Starts a node and returns once it serves. `config` has been checked.
    pub fn start(config: &NodeConfig) -> Result<Node, Fatal> {
        checks::raise_limits();
        checks::needed().map_err(Fatal::Host)?;
        let cores = usable_cores();
        let founded = DataDirectory::founded(&config.data_dir).map_err(Fatal::DataDir)?;
        let config = &as_founded(config, founded);
        let shards = shards_of(config, cores.len());
        // Pinned only when each shard has a core to itself: two on one core would starve each
        // other. Nodes of one host begin at different cores, as far as there are any.
        let pinned = usize::from(shards) <= cores.len();
        if !pinned {
            tracing::warn!(shards, cores = cores.len(), "more shards than cores: they will wait");
        }
        let directory = open_directory(config, shards)?;
        let (peer_socket, peer) = listen_peers(resolve(&config.peer_listen)?)?;
        let Clients { listeners, api, api_also } = listen_clients(config, shards)?;

        let (speaker, known) = introduce(config, &directory, shards, api.port())?;
        let (clock, mut prng) = (Clock::start(), Prng::new(seed()));
        let (meshes, bells) = mesh::new(shards);
        let (tell_ready, hear_ready) = channel();
        let (tell_drained, drained) = channel();
        let mut node = Node {
            api,
            api_also,
            peer,
            ready: Ready { shards, pinned, ..Ready::default() },
            stop: Arc::new(Stop::new(bells)),
            drained,
            cores: Vec::new(),
            drain: Duration::from_nanos(config.drain.0),
            known: known.clone(),
            _directory: directory,
        };
        let mut peer_socket = Some(peer_socket);
        let mut gates = Vec::new();
        for (mesh, listeners) in meshes.into_iter().zip(listeners) {
            let at = node.cores.len();
            let (open_gate, gate) = channel();
            gates.push(open_gate);
            let core = core::Core {
                shard: ShardId(at as u16),
                shards,
                config: config.clone(),
                api,
                peer,
                speaker,
                known: known.clone(),
                clock,
                prng: prng.fork(at as u64),
                mesh,
                stop: node.stop.clone(),
                ready: tell_ready.clone(),
                gate,
                drained: tell_drained.clone(),
                listeners,
                peer_socket: peer_socket.take(),
            };
            node.cores.push(spawn(core, place(&cores, pinned, config.id, at))?);
        }
        drop(tell_ready);
        node.gather_ready(&hear_ready)?;
        open_all(gates);
        node.await_listening(&hear_ready)?;
        Ok(node)
    }

    /// Ends the node: connections are told to go, calls in flight finish within the configured
    /// time.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.advance(Phase::Drain);
        let until = Instant::now() + self.drain;
        for _ in 0..self.cores.len() {
            let left = until.saturating_duration_since(Instant::now());
            if self.drained.recv_timeout(left).is_err() && !self.drain.is_zero() {
                tracing::warn!("calls were still in flight when the time to drain was over");
                break;
            }
        }
        self.stop.advance(Phase::Halt);
        for core in self.cores.drain(..) {
            if let Err(error) = core.join() {
                tracing::error!(%error, "a core ended badly");
            }
        }
        self.known.save_marks();
    }

    fn gather_ready(&mut self, hear: &Receiver<core::Report>) -> Result<(), Fatal> {
        for _ in 0..self.cores.len() {
            match hear.recv() {
                Ok(core::Report::Known { partitions, faults }) => {
                    self.ready.partitions += partitions;
                    self.ready.faults.extend(faults);
                }
                Ok(core::Report::Failed(fatal)) => return Err(fatal),
                Ok(core::Report::Listening) => unreachable!("no gate is open yet"),
                Err(_) => return Err(Fatal::Core("a core ended before it was ready".to_owned())),
            }
        }
        Ok(())
    }

    fn await_listening(&mut self, hear: &Receiver<core::Report>) -> Result<(), Fatal> {
        for _ in 0..self.cores.len() {
            match hear.recv() {
                Ok(core::Report::Listening) => {}
                Ok(core::Report::Failed(fatal)) => return Err(fatal),
                Ok(core::Report::Known { .. }) => unreachable!("each core knows once"),
                Err(_) => return Err(Fatal::Core("a core ended before it listened".to_owned())),
            }
        }
        Ok(())
    }
}

impl Drop for Node {
    /// A node that is dropped, by a failed start or a failed test, still ends its threads.
    fn drop(&mut self) {
        if !self.cores.is_empty() {
            self.drain = Duration::ZERO;
            self.end();
        }
    }
}

/// Who this node is to its peers, and what it remembers of them.
fn introduce(
    config: &NodeConfig,
    directory: &DataDirectory,
    shards: u16,
    api_port: u16,
) -> Result<(Speaker, Arc<Known>), Fatal> {
    let known = Known::open(directory.path(), shards).map_err(|error| {
        Fatal::DataDir(DirectoryFault::System { path: directory.path().join("peers"), error })
    })?;
    let (cluster, incarnation) = (config.digest(), directory.incarnation());
    let (node, life, formats) = (config.id, seed(), FORMATS);
    let speaker = Speaker { cluster, node, incarnation, life, shards, api_port, formats };
    Ok((speaker, Arc::new(known)))
}

fn open_directory(config: &NodeConfig, shards: u16) -> Result<DataDirectory, Fatal> {
    let (cluster, partitions) = (config.digest(), config.cluster.partitions);
    let identity = Identity { node: config.id, cluster, shards, partitions };
    let created = Clock::start().now().wall.0 / 1_000_000_000;
    DataDirectory::open(&config.data_dir, &identity, created).map_err(Fatal::DataDir)
}

/// As many as the operator says, or one for each core.
fn shards_of(config: &NodeConfig, cores: usize) -> u16 {
    match usize::from(config.shards) {
        0 => cores.clamp(1, SHARDS_MAX) as u16,
        shards => shards.min(SHARDS_MAX) as u16,
    }
}

/// What the operator did not say is as the data directory was made: other defaults or another host
/// must not make it unusable.
fn as_founded(config: &NodeConfig, founded: Option<Founded>) -> NodeConfig {
    let mut config = config.clone();
    if let Some(Founded { shards, partitions }) = founded {
        if config.shards == 0 {
            config.shards = shards;
        }
        if !config.partitions_said {
            config.cluster.partitions = partitions;
        }
    }
    config
}

/// The core of the `at`th shard.
fn place(cores: &[usize], pinned: bool, node: NodeId, at: usize) -> Placement {
    let own = node.0 as usize - 1 + at;
    if pinned { Placement::Fixed(cores[own % cores.len()]) } else { Placement::Unbound }
}

/// Lets the cores listen: only now is it known which partitions there are (wire.md, decision 13).
fn open_all(gates: Vec<Sender<()>>) {
    for gate in gates {
        // A core that ended has said why by now, or ends the process.
        let _ = gate.send(());
    }
}

/// A core that is not pinned sleeps at once, whatever it was told to spin: the executor sees to it.
fn spawn(core: core::Core, placement: Placement) -> Result<ExecutorJoinHandle<()>, Fatal> {
    let spin = Duration::from_nanos(core.config.spin.0);
    LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{}", core.shard))
        .io_memory(EXECUTOR_MEMORY_BYTES)
        .spin_before_park(spin)
        .spawn(move || core.run())
        .map_err(|error| Fatal::Core(format!("no executor can be started: {error}")))
}

/// The executor's own buffers for files, which this program writes by a ring of its own.
const EXECUTOR_MEMORY_BYTES: usize = 256 << 10;

/// The cores that this process may use, by the kernel's numbers.
fn usable_cores() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

fn resolve(address: &Address) -> Result<SocketAddr, Fatal> {
    if address.host.is_empty() {
        // One socket takes both families, where the host has both.
        let six = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let ip = match tcp::bind(six, false) {
            Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
            Err(_) => Ipv4Addr::UNSPECIFIED.into(),
        };
        return Ok(SocketAddr::new(ip, address.port));
    }
    let named = |error| Fatal::Name(address.clone(), error);
    let mut found = (address.host.as_str(), address.port).to_socket_addrs().map_err(named)?;
    let none = || named(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    found.next().ok_or_else(none)
}

/// Where clients will come in.
struct Clients {
    /// For each core its sockets and what is spoken there.
    listeners: Vec<Vec<(OwnedFd, Dialect)>>,
    api: SocketAddr,
    api_also: Option<SocketAddr>,
}

fn listen_clients(config: &NodeConfig, shards: u16) -> Result<Clients, Fatal> {
    let (sockets, api) = take_addresses(resolve(&config.listen)?, shards)?;
    let first = sockets.into_iter().map(|socket| vec![(socket, config.dialect)]);
    let mut clients = Clients { listeners: first.collect(), api, api_also: None };
    if let Some(also) = &config.listen_also {
        let (sockets, address) = take_addresses(resolve(&also.address)?, shards)?;
        clients.api_also = Some(address);
        for (core, socket) in clients.listeners.iter_mut().zip(sockets) {
            core.push((socket, also.dialect));
        }
    }
    Ok(clients)
}

/// Each core listens on the same address; the kernel spreads connections over them.
fn take_addresses(address: SocketAddr, shards: u16) -> Result<(Vec<OwnedFd>, SocketAddr), Fatal> {
    let taken = |error| Fatal::Address(address, error);
    // A socket that shares its address also shares it with a stranger of the same user. One that
    // does not share finds out whether there is one.
    let alone = bind_soon(address).map_err(taken)?;
    let mut exact = address;
    exact.set_port(tcp::local_address(&alone).map_err(taken)?.port());
    if shards == 1 {
        return Ok((vec![alone], exact));
    }
    drop(alone);
    let sockets: io::Result<Vec<_>> = (0..shards).map(|_| tcp::bind(exact, true)).collect();
    Ok((sockets.map_err(taken)?, exact))
}

/// The peer port accepts from process start: it is what liveness probes connect to (core.md 1.1).
fn listen_peers(address: SocketAddr) -> Result<(OwnedFd, SocketAddr), Fatal> {
    let taken = |error| Fatal::Address(address, error);
    let socket = bind_soon(address).map_err(taken)?;
    tcp::listen(&socket).map_err(taken)?;
    let exact = tcp::local_address(&socket).map_err(taken)?;
    Ok((socket, exact))
}

/// Takes an address that nobody has. The kernel ends a killed process's rings after the process,
/// and a ring that was waiting for a connection holds the listener till then: who restarts at once
/// must wait a little.
fn bind_soon(address: SocketAddr) -> io::Result<OwnedFd> {
    let until = Instant::now() + ADDRESS_WAIT;
    loop {
        match tcp::bind(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(ADDRESS_WAIT / 100);
            }
            bound => return bound,
        }
    }
}

/// How long an address may still be taken by a process that is gone.
const ADDRESS_WAIT: Duration = Duration::from_secs(1);

/// The seed of this process, from the OS, once.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Without it election timeouts may coincide and hash seeds be guessed; the clock is better
        // than nothing.
        Clock::start().now().wall.0
    })
}
