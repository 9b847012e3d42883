//! What is typed after `ringraft load`, as a plan.
//!
//! Defaults depend on each other (sessions on connections, keys on the workload), so they are
//! worked out here, once, and the report says what they came to.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};

use crate::cli::target::{DEFAULT_ENDPOINT, duration, lifetime};
use crate::cli::{Exit, Failure};
use crate::client::{Client, Dialect, Options};
use crate::limits::VALUE_BYTES_MAX;
use crate::load::arrival::{Pace, Spread};
use crate::load::content::CONTENT_BYTES_MIN;
use crate::load::keys::Distribution;
use crate::load::plan::{Mix, Plan, Workload};
use crate::load::speech::Speech;
use crate::prng::mix;

/// Flags of whatever makes calls.
#[derive(Args, Debug, Clone)]
pub struct RunFlags {
    /// What is done.
    #[arg(value_enum, default_value_t = Named::Counter)]
    workload: Named,
    /// API addresses of nodes, separated by commas; connections go around them.
    #[arg(long, env = "RINGRAFT_ENDPOINT", default_value = DEFAULT_ENDPOINT)]
    #[arg(value_name = "HOST:PORT", value_delimiter = ',')]
    endpoint: Vec<String>,
    /// What is driven: a ringraft node, any server of the released Atomix dialect, or etcd.
    #[arg(long, value_enum, default_value_t = Target::Ringraft)]
    target: Target,
    /// Calls a second of an open loop, in all: latency counts from when a call was due.
    /// 1000 when nothing else is said.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// How the calls of an open loop are spread.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// A closed loop instead: so many calls at a time, in all.
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "arrivals"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    in_flight: Option<u32>,
    /// Connections, in all.
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Sessions, in all; by default one a connection, or one for each call at a time.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sessions: Option<u32>,
    /// How many of the node's partitions are used; by default all.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// The partitions' ids separated by commas, when the node is not to be asked.
    #[arg(long, env = "RINGRAFT_PARTITION_IDS", value_delimiter = ',', value_name = "IDS")]
    partition_ids: Vec<u32>,
    /// Threads that share the connections. One is enough for a node of one core.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// How long is measured, as 500ms, 10s or 2m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = lifetime)]
    duration: Duration,
    /// How long before that runs and is not measured.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// Octets of a map's values.
    #[arg(long, value_name = "N", default_value_t = 128)]
    value_bytes: usize,
    /// Keys of maps, counters, locks or elections; by default what the workload needs.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: Option<u64>,
    /// How keys are drawn: all alike, or as YCSB's popular ones.
    #[arg(long, value_enum, default_value_t = Drawn::Uniform)]
    distribution: Drawn,
    /// The mix of `map-mixed`: YCSB's A (half reads), B (95 % reads), C (reads), F
    /// (read-modify-writes).
    #[arg(long, value_enum, default_value_t = Letter::A)]
    mix: Letter,
    /// Listeners of `watch-fanout`.
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    listeners: u32,
    /// Where all draws come from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How long one call is asked again before it counts as not answered.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = lifetime)]
    timeout: Duration,
    /// How long the server keeps a silent session.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = lifetime)]
    session_timeout: Duration,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    /// Increments of counters.
    Counter,
    /// Puts into maps.
    MapWrite,
    /// Gets from maps.
    MapRead,
    /// A mix of YCSB: --mix.
    MapMixed,
    /// Sessions that want the same lock.
    LockContended,
    /// Sessions with a lock each.
    LockFree,
    /// Candidates that enter and withdraw.
    ElectionChurn,
    /// Sessions that open, increment once and close.
    SessionChurn,
    /// Puts into one map that many listen to: --listeners.
    WatchFanout,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// A ringraft node, in the documented dialect.
    Ringraft,
    /// Any server of the released dialect.
    Atomix,
    /// etcd, by its puts, ranges, leases and locks.
    Etcd,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Arrivals {
    /// The same gap each time.
    Constant,
    /// As of many who do not know of each other.
    Poisson,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Drawn {
    Uniform,
    Zipf,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Letter {
    A,
    B,
    C,
    F,
}

/// Calls a second when nobody says.
const RATE: f64 = 1000.0;

/// Sessions of workloads that do one thing at a time, when nobody says how many.
const SESSIONS_OPEN: usize = 64;

impl RunFlags {
    /// What is meant. Asks the node for its partitions.
    ///
    /// # Errors
    /// What does not fit together, or cannot be reached.
    pub fn plan(&self) -> Result<Plan, Failure> {
        self.check(self.workload())?;
        self.plan_for(self.addresses()?, self.partitions()?)
    }

    /// The same for these addresses and partitions.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn plan_for(
        &self,
        addresses: Vec<SocketAddr>,
        mut partitions: Vec<u32>,
    ) -> Result<Plan, Failure> {
        let workload = self.workload();
        self.check(workload)?;
        if let Some(wanted) = self.partitions {
            if wanted as usize > partitions.len() {
                let have = partitions.len();
                let what = format!("--partitions {wanted}: the node has {have}");
                return Err(Failure::new(Exit::Usage, what));
            }
            partitions.truncate(wanted as usize);
        }
        match workload {
            // One map lives in one partition.
            Workload::WatchFanout => partitions.truncate(1),
            Workload::LockContended | Workload::ElectionChurn => {
                partitions.truncate(self.keys.unwrap_or(1) as usize);
            }
            _ => {}
        }
        let sessions = self.sessions(workload, partitions.len());
        if sessions < partitions.len() {
            let parts = partitions.len();
            let what = format!("--sessions {sessions}: at least one for {parts} partitions");
            return Err(Failure::new(Exit::Usage, what));
        }
        let parts = partitions.len() as u64;
        let keys = self.keys.unwrap_or_else(|| workload.keys(sessions as u64, parts)).max(parts);
        let mut plan = self.bare(workload, addresses, partitions, keys);
        let listeners = if workload == Workload::WatchFanout { self.listeners as usize } else { 0 };
        // Every thread has a session that asks.
        plan.threads = plan.threads.min(sessions);
        plan.lay_out(sessions, listeners);
        Ok(plan)
    }

    /// What does not fit together whatever the node says.
    fn check(&self, workload: Workload) -> Result<(), Failure> {
        let usage = |what: String| Failure::new(Exit::Usage, what);
        if !(CONTENT_BYTES_MIN..=VALUE_BYTES_MAX).contains(&self.value_bytes) {
            return Err(usage(format!(
                "--value-bytes {}: from {CONTENT_BYTES_MIN} to {VALUE_BYTES_MAX}",
                self.value_bytes
            )));
        }
        let is_odd = matches!(workload, Workload::ElectionChurn | Workload::WatchFanout);
        if self.target == Target::Etcd && is_odd {
            return Err(usage(format!("{}: etcd is not driven with this", workload.name())));
        }
        Ok(())
    }

    /// A plan without sessions.
    fn bare(
        &self,
        workload: Workload,
        addresses: Vec<SocketAddr>,
        partitions: Vec<u32>,
        keys: u64,
    ) -> Plan {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let unique = mix(now as u64 ^ u64::from(std::process::id()) << 40);
        Plan {
            workload,
            speech: match self.target {
                Target::Etcd => Speech::Etcd,
                Target::Ringraft | Target::Atomix => Speech::Atomix(self.dialect()),
            },
            addresses,
            partitions,
            connections: self.connections as usize,
            threads: self.threads.min(self.connections) as usize,
            pace: self.pace(),
            duration: self.duration,
            warmup: self.warmup,
            value_bytes: self.value_bytes,
            keys,
            distribution: match self.distribution {
                Drawn::Uniform => Distribution::Uniform,
                Drawn::Zipf => Distribution::Zipf,
            },
            seed: self.seed,
            patience: self.timeout,
            session_timeout: self.session_timeout,
            is_checked: true,
            name: format!("load-{unique:016x}"),
            lanes: Vec::new(),
            things: Vec::new(),
        }
    }

    /// How long is measured.
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// Whether somebody said what sets the pace.
    pub fn has_pace(&self) -> bool {
        self.in_flight.is_some() || self.rate.is_some()
    }

    /// Calls a second of an open loop, when they were said.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.rate
    }

    fn workload(&self) -> Workload {
        match self.workload {
            Named::Counter => Workload::Counter,
            Named::MapWrite => Workload::MapWrite,
            Named::MapRead => Workload::MapRead,
            Named::MapMixed => Workload::MapMixed(match self.mix {
                Letter::A => Mix::A,
                Letter::B => Mix::B,
                Letter::C => Mix::C,
                Letter::F => Mix::F,
            }),
            Named::LockContended => Workload::LockContended,
            Named::LockFree => Workload::LockFree,
            Named::ElectionChurn => Workload::ElectionChurn,
            Named::SessionChurn => Workload::SessionChurn,
            Named::WatchFanout => Workload::WatchFanout,
        }
    }

    fn pace(&self) -> Pace {
        if let Some(in_flight) = self.in_flight {
            return Pace::Closed { in_flight: in_flight as usize };
        }
        let spread = match self.arrivals {
            Arrivals::Constant => Spread::Constant,
            Arrivals::Poisson => Spread::Poisson,
        };
        Pace::Open { rate: self.rate.unwrap_or(RATE), spread }
    }

    fn sessions(&self, workload: Workload, partitions: usize) -> usize {
        let usual = if workload.is_exclusive() {
            self.in_flight.map_or(SESSIONS_OPEN, |in_flight| in_flight as usize)
        } else {
            self.connections as usize
        };
        self.sessions.map_or(usual.max(partitions), |sessions| sessions as usize)
    }

    fn dialect(&self) -> Dialect {
        match self.target {
            Target::Atomix => Dialect::Released,
            Target::Ringraft | Target::Etcd => Dialect::Documented,
        }
    }

    /// Where the servers are.
    ///
    /// # Errors
    /// What is no address, or has none.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let mut all = Vec::new();
        for endpoint in &self.endpoint {
            if crate::config::Address::parse(endpoint).is_none() {
                let what = format!("--endpoint {endpoint}: not HOST:PORT");
                return Err(Failure::new(Exit::Usage, what));
            }
            let found = endpoint.to_socket_addrs().map_err(|error| {
                Failure::new(Exit::Unreachable, format!("--endpoint {endpoint}: {error}"))
            })?;
            all.extend(found.take(1));
        }
        Ok(all)
    }

    /// The partitions' ids, in order.
    fn partitions(&self) -> Result<Vec<u32>, Failure> {
        if self.target == Target::Etcd {
            // It is one group.
            return Ok(vec![1]);
        }
        if !self.partition_ids.is_empty() {
            return Ok(self.partition_ids.clone());
        }
        let target = crate::cli::target::Target {
            endpoint: self.endpoint.clone(),
            timeout: self.timeout,
            session_timeout: self.session_timeout,
            partition_ids: Vec::new(),
            dialect: self.dialect(),
            namespace: String::new(),
            json: false,
        };
        let options = Options {
            dialect: self.dialect(),
            patience: self.timeout,
            ..Options::to(self.endpoint.clone())
        };
        target.block_on(async {
            let client = Client::connect(options).await.map_err(|fault| target.failure(fault))?;
            Ok(client.layout().all().to_vec())
        })
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e8 => Ok(rate),
        _ => Err("a number above 0, at most 100 million".to_owned()),
    }
}
