//! One core from its first instruction to its last: journal, shard, edge, pump.
//!
//! It runs on its own thread and executor and shares nothing with the others but the mesh, the
//! latch and the channels by which its start is followed. A panic here is a bug of shard, journal
//! or shell, and ends the process: the core's partitions would be silent otherwise (design.md,
//! decision 7).

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::clock::Clock;
use super::disk::{self, Disk};
use super::pump::{NOBODY, Parts, Pump, Stop, Turn};
use super::{Fatal, tcp};
use crate::config::{self, Address, InPlace, NodeConfig, Seat};
use crate::edge::dialect::Dialect;
use crate::edge::request::{Naming, Rules};
use crate::frontend::{self, Front};
use crate::id::{PartitionId, ShardId, Ticket};
use crate::journal::{self, Layout, Owner, Recovered};
use crate::limits::Bounds;
use crate::mesh::Mesh;
use crate::peer::{self, Peers, known::Known};
use crate::prng::Prng;
use crate::shard::inbox::{Ask, Contact, Member, Requests, Role};
use crate::shard::placement::Placement;
use crate::shard::{self, Settings, Shard, route};
use crate::time::Span;
use crate::wire::hello::Speaker;
use crate::wire::http2;

/// What a core is given.
pub struct Core {
    pub shard: ShardId,
    pub shards: u16,
    pub config: NodeConfig,
    /// Where this node's clients come in, for watchers of partitions.
    pub api: SocketAddr,
    /// Where other nodes come in.
    pub peer: SocketAddr,
    /// Who this node is to its peers, and what they were.
    pub speaker: Speaker,
    pub known: Arc<Known>,
    pub clock: Clock,
    pub prng: Prng,
    pub mesh: Mesh,
    pub stop: Arc<Stop>,
    /// Follows the start.
    pub ready: Sender<Report>,
    /// Opens when all cores know their partitions.
    pub gate: Receiver<()>,
    /// Told when the last connection has gone.
    pub drained: Sender<ShardId>,
    /// Where clients come in, and what they speak there: addresses taken, not listening.
    pub listeners: Vec<(OwnedFd, config::Dialect)>,
    /// Listening; one core has it.
    pub peer_socket: Option<OwnedFd>,
}

/// How a core's start goes.
#[derive(Debug)]
pub enum Report {
    /// It knows its partitions.
    Known { partitions: usize, faults: Vec<String> },
    /// It accepts clients.
    Listening,
    /// It does not start.
    Failed(Fatal),
}

impl Core {
    /// Runs until the node is halted.
    pub async fn run(self) {
        let _guard = EndsProcess;
        let ready = self.ready.clone();
        if let Err(fatal) = self.serve().await {
            // Without a listener the node is gone, and with it whoever would want to know.
            let _ = ready.send(Report::Failed(fatal));
        }
    }

    async fn serve(mut self) -> Result<(), Fatal> {
        let directory = disk::shard_directory(&self.config.data_dir, self.shard);
        let here = (self.speaker, self.shard);
        let mut peers = Peers::new(here, self.known.clone(), directory.clone(), self.prng.fork(3));
        peers.limit_snapshots(self.config.snapshot_rate);
        let peers = Rc::new(RefCell::new(peers));
        let port = self.peer_socket.take().map(|socket| {
            let accepts = peer::accept(tcp::listener(socket), peers.clone());
            [glommio::spawn_local(accepts), glommio::spawn_local(peer::remember(peers.clone()))]
        });
        let recovered = self.recover()?;
        peers.borrow_mut().found(recovered.resume.kept());
        let (mut disk, disk_bell) = Disk::open(&directory, self.layout()).map_err(disk_fault)?;
        disk.limit_writes(self.config.writes_in_flight);
        let place = directory.display();
        let faults = recovered.faults.iter();
        let faults = faults.map(|(id, fault)| format!("partition {id}: {place}/{fault}")).collect();
        let missing = self.missing(&recovered);
        let partitions = recovered.partitions.len() + missing.len();

        let front = Front::new(self.front_settings(), self.clock, self.prng.fork(1));
        let front = Rc::new(RefCell::new(front));
        let mut shard = Shard::new(self.shard_settings(), recovered, self.clock.now());
        let turn: Box<Turn> = Box::new(move |inbox, now, outbox| shard.turn(inbox, now, outbox));
        let founding = self.founding(&missing);
        let Core { shard: id, mesh, clock, stop, ready, gate, drained, .. } = self;
        let mut pump = Pump::new(Parts {
            shard: id,
            turn,
            front: front.clone(),
            peers,
            mesh,
            disk,
            disk_bell,
            clock,
            stop,
            drained,
        });
        pump.start(founding).await.map_err(disk_fault)?;
        // The node's start has failed elsewhere when nobody listens; the gate says so.
        let _ = ready.send(Report::Known { partitions, faults });
        if gate.recv().is_err() {
            return Ok(());
        }

        front.borrow_mut().serve();
        for (socket, _) in &self.listeners {
            let here = tcp::local_address(socket).unwrap_or(self.api);
            tcp::listen(socket).map_err(|error| Fatal::Address(here, error))?;
        }
        let _ = ready.send(Report::Listening);
        let accept = self.listeners.into_iter().map(|(socket, dialect)| {
            let dialect = match dialect {
                config::Dialect::Documented => Dialect::Documented,
                config::Dialect::Released => Dialect::Released,
            };
            glommio::spawn_local(frontend::accept(front.clone(), tcp::listener(socket), dialect))
        });
        pump.run(accept.collect()).await;
        drop(port);
        Ok(())
    }

    fn recover(&self) -> Result<Recovered, Fatal> {
        let directory = disk::shard_directory(&self.config.data_dir, self.shard);
        let segments = disk::load(&directory).map_err(disk_fault)?;
        let owner = Owner { node: self.config.id, shard: self.shard };
        journal::recover(owner, &segments).map_err(|refused| Fatal::Journal(directory, refused))
    }

    fn layout(&self) -> Layout {
        Layout { segment_bytes: self.config.segment_bytes as usize, ..Layout::default() }
    }

    /// The partitions of a new node that belong here and have never been here.
    fn missing(&self, recovered: &Recovered) -> Vec<PartitionId> {
        let here = |id: &PartitionId| route::owner(*id, self.shards) == self.shard;
        let known = |id: &PartitionId| {
            recovered.partitions.contains_key(id)
                || recovered.faults.contains_key(id)
                || recovered.left.contains(id)
        };
        let (placement, node) = (self.placement(), self.config.id);
        let all = (1..=self.config.cluster.partitions).map(PartitionId);
        all.filter(|id| placement.has(*id, node) && here(id) && !known(id)).collect()
    }

    /// Orders to found these with the members that the cluster's configuration gives them.
    fn founding(&self, partitions: &[PartitionId]) -> Requests {
        let placement = self.placement();
        let mut requests = Requests::default();
        let ticket = Ticket { shard: self.shard, slot: NOBODY, generation: 0 };
        for id in partitions {
            let members = placement.members(*id).cloned().map(|Contact { node, host, port }| {
                Member { node, host, port, role: Role::Member }
            });
            let ask = Ask::Bootstrap { local: self.config.id, members: members.collect() };
            requests.push(ticket, *id, None, ask, |_| {});
        }
        requests
    }

    /// By what host others reach one of this node's listeners.
    fn reached(&self, listens: &Address) -> String {
        match &self.config.in_place {
            Some(InPlace { raft_host: Some(host) }) => host.clone(),
            _ if listens.host.is_empty() => "localhost".to_owned(),
            _ => listens.host.clone(),
        }
    }

    /// Which node founds what: this one alone when no others are named.
    fn placement(&self) -> Placement {
        let cluster = &self.config.cluster;
        let mut nodes: Vec<Contact> = cluster.nodes.iter().cloned().map(contact).collect();
        if nodes.is_empty() {
            let host = self.reached(&self.config.peer_listen);
            nodes.push(Contact { node: self.config.id, host, port: self.peer.port() });
        }
        Placement::new(nodes, cluster.partitions, cluster.replicas as usize)
    }

    fn shard_settings(&self) -> Settings {
        let (config, cluster) = (&self.config, &self.config.cluster);
        let ticks = |span: Span| (span.0 / cluster.tick.0.max(1)) as usize;
        let defaults = Settings::default();
        Settings {
            node: config.id,
            shard: self.shard,
            shards: self.shards,
            seed: self.prng.clone().next_u64(),
            peers: shard::Peers::Allowed,
            api_address: format!("{}:{}", self.reached(&config.listen), self.api.port()),
            api_port: self.api.port(),
            placement: if cluster.nodes.is_empty() {
                Placement::default()
            } else {
                self.placement()
            },
            tick: cluster.tick,
            election_ticks: ticks(cluster.election).max(3),
            heartbeat_ticks: ticks(cluster.heartbeat).max(1),
            rest_ticks: 2 * ticks(cluster.election).max(3),
            snapshot_entries: config.snapshot_entries,
            snapshot_bytes: config.snapshot_bytes as usize,
            retain_entries: config.retain_entries,
            writes_in_flight: config.writes_in_flight.into(),
            state_bytes_max: cluster.partition_memory_bytes as usize,
            bounds: Bounds {
                session_timeout_default: cluster.session_default,
                session_timeout_max: cluster.session_max,
                ..defaults.bounds.clone()
            },
            layout: self.layout(),
            ..defaults
        }
    }

    fn front_settings(&self) -> frontend::Settings {
        let cluster = &self.config.cluster;
        let connections_max = self.config.connections_max as usize;
        frontend::Settings {
            shard: self.shard,
            shards: self.shards,
            rules: Rules {
                session_timeout_default: cluster.session_default,
                session_timeout_max: cluster.session_max,
                node: self.config.id,
                naming: match self.config.in_place {
                    Some(_) => Naming::ByGroup,
                    None => Naming::ByNode,
                },
            },
            http2: http2::Limits {
                streams: self.config.streams_max,
                keepalive_ms: self.config.keepalive.as_millis(),
                idle_ms: self.config.idle.as_millis(),
                drain_ms: self.config.drain.as_millis(),
                ..http2::Limits::default()
            },
            connections_max: connections_max.div_ceil(usize::from(self.shards)),
        }
    }
}

fn contact(seat: Seat) -> Contact {
    Contact { node: seat.node, host: seat.address.host, port: seat.address.port }
}

fn disk_fault(fault: disk::DiskFault) -> Fatal {
    Fatal::Disk(fault.to_string())
}

/// Ends the process when its scope is left by a panic.
struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::fatal::fatal(super::fatal::Reason::Bug, "a core panicked, see above");
        }
    }
}
