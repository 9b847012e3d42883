//! What an operator may set: the keys, their units, defaults and bounds; text to values, once.
//!
//! `NodeConfig` may differ from node to node, `ClusterConfig` must be equal on all and has a digest
//! that nodes compare when they meet. A value that went through here is within its bounds ever
//! after. One table (`KEYS`) holds all there is to know of a key, so the file, the flags, `ringraft
//! doctor` and `tuning/node.toml` cannot drift apart: a test reads the file and compares.
//!
//! A node that is started as the reference's is has other defaults and another file
//! (`config/reference.rs`).
//!
//! Precedence: default, then file, then flag. An unknown key, a wrong type and a value out of
//! bounds are each told with their line, all of them at once.
//!
//! Absent on purpose: reading files (`cli/serve.rs`), keys for what can be derived, and environment
//! variables for a node, which nobody would see in a file under review; but the reference's one
//! for more diagnostics counts where it is replaced.

mod reference;

mod address;
mod keys;

use std::fmt;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::id::NodeId;
use crate::limits;
use crate::time::Span;
pub use address::{Address, Listener, Seat};
pub use keys::KEYS;
pub use reference::{InPlace, is_reference};

/// What one node is told. Made by `NodeConfig::default`, then `read`, then `set` for each flag,
/// then `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// This node's name in the cluster.
    pub id: NodeId,
    /// Where journal, snapshots and identity live.
    pub data_dir: PathBuf,
    /// Where clients come in.
    pub listen: Address,
    /// Where other nodes come in; accepts from process start.
    pub peer_listen: Address,
    /// Pinned cores; 0 is as the data directory was made, and in a new one a core each that the
    /// process may use.
    pub shards: u16,
    /// How long a pinned core looks for work before it sleeps.
    pub spin: Span,
    /// What clients of `listen` speak.
    pub dialect: Dialect,
    /// Where clients come in besides, as a rule those of the other dialect.
    pub listen_also: Option<Listener>,
    /// How much is told of what happens.
    pub trace: Trace,
    /// How long a stop may take: answers that are due still leave, then the process ends.
    pub drain: Span,
    /// One journal file.
    pub segment_bytes: u64,
    /// Blocks written at the same time by one shard.
    pub writes_in_flight: u16,
    /// Entries of a partition between two snapshots.
    pub snapshot_entries: u64,
    /// Log bytes of a partition between two snapshots.
    pub snapshot_bytes: u64,
    /// Entries kept before a snapshot for followers that are a little behind.
    pub retain_entries: u64,
    /// Bytes of snapshots that one shard sends to peers in a second.
    pub snapshot_rate: u64,
    /// Client connections at a time; each shard has an equal share.
    pub connections_max: u32,
    /// Calls at a time on one connection.
    pub streams_max: u32,
    /// A connection that said nothing for so long is asked whether it lives; zero is never.
    pub keepalive: Span,
    /// A connection without calls for so long is closed; zero is never.
    pub idle: Span,
    /// What must be equal on all nodes.
    pub cluster: ClusterConfig,
    /// Whether `cluster.partitions` was set by somebody. A default gives way to what the data
    /// directory was made with.
    pub partitions_said: bool,
    /// What else there is to know when this node stands in for the reference's.
    pub in_place: Option<InPlace>,
}

/// What all nodes of a cluster must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Partitions founded at the first start of empty data directories, with ids 1 to this; 0 is
    /// none.
    pub partitions: u32,
    /// Replicas of each partition, as far as there are nodes; without `nodes` there is one.
    pub replicas: u32,
    /// The nodes that found the partitions among them; none: this node alone.
    pub nodes: Vec<Seat>,
    /// Raft's unit of time.
    pub tick: Span,
    /// How often a leader says that it is there.
    pub heartbeat: Span,
    /// How long a follower waits for a leader before it stands itself; drawn up to twice this.
    pub election: Span,
    /// The timeout of a session that asks for none.
    pub session_default: Span,
    /// The longest timeout of a session; more is cut to this.
    pub session_max: Span,
    /// What the state of one partition may hold in memory.
    pub partition_memory_bytes: u64,
}

/// Which generation of the wire protocol a listener speaks (spec/wire.md); rsm, whose paths are
/// others, each one speaks besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dialect {
    Documented,
    Released,
}

/// How much is told on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Trace {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// All there is to know of one key.
pub struct Key {
    /// The table of the file that it stands in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it may hold, and how it gets there.
    pub holds: Holds,
}

/// What a key holds.
pub enum Holds {
    /// A whole number within bounds.
    #[allow(missing_docs)]
    Number {
        unit: &'static str,
        default: u64,
        min: u64,
        max: u64,
        get: fn(&NodeConfig) -> u64,
        set: fn(&mut NodeConfig, u64),
    },
    /// Several texts of a certain form, which `allowed` states.
    #[allow(missing_docs)]
    List {
        allowed: &'static str,
        get: fn(&NodeConfig) -> Vec<String>,
        set: fn(&mut NodeConfig, &[&str]) -> Option<()>,
    },
    /// Text of a certain form, which `allowed` states.
    #[allow(missing_docs)]
    Text {
        allowed: &'static str,
        get: fn(&NodeConfig) -> String,
        set: fn(&mut NodeConfig, &str) -> Option<()>,
    },
}

/// Something that cannot be: where it stands and what would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its line in the file, from 1; `None` for a flag.
    pub line: Option<usize>,
    /// What is wrong and what is allowed.
    pub text: String,
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        let mut config = NodeConfig {
            id: NodeId(1),
            data_dir: PathBuf::from("./ringraft-data"),
            listen: Address { host: "127.0.0.1".to_owned(), port: 5678 },
            peer_listen: Address { host: "127.0.0.1".to_owned(), port: 5679 },
            shards: 0,
            spin: Span::ZERO,
            dialect: Dialect::Documented,
            listen_also: None,
            trace: Trace::Warn,
            drain: Span::ZERO,
            segment_bytes: 0,
            writes_in_flight: 0,
            snapshot_entries: 0,
            snapshot_bytes: 0,
            retain_entries: 0,
            snapshot_rate: 0,
            connections_max: 0,
            streams_max: 0,
            keepalive: Span::ZERO,
            idle: Span::ZERO,
            cluster: ClusterConfig {
                partitions: 0,
                replicas: 0,
                nodes: Vec::new(),
                tick: Span::ZERO,
                heartbeat: Span::ZERO,
                election: Span::ZERO,
                session_default: Span::ZERO,
                session_max: Span::ZERO,
                partition_memory_bytes: 0,
            },
            partitions_said: false,
            in_place: None,
        };
        for key in KEYS {
            if let Holds::Number { default, set, .. } = key.holds {
                set(&mut config, default);
            }
        }
        config.partitions_said = false;
        config
    }
}

impl NodeConfig {
    /// Takes the values of a config file over what is set so far.
    ///
    /// # Errors
    /// All faults of the file, each with its line; the values are then unspecified.
    pub fn read(&mut self, file: &str) -> Result<(), Vec<Fault>> {
        let lines = Lines(file);
        if file.len() > limits::CONFIG_BYTES_MAX {
            let most = limits::CONFIG_BYTES_MAX;
            return Err(vec![Fault { line: None, text: format!("larger than {most} bytes") }]);
        }
        let root = DeTable::parse(file).map_err(|error| {
            let line = error.span().map(|span| lines.of(span.start));
            vec![Fault { line, text: error.message().to_owned() }]
        })?;
        let mut faults = Vec::new();
        for (section, value) in root.get_ref() {
            let name = section.get_ref().as_ref();
            let table = match value.get_ref() {
                DeValue::Table(_) => None,
                _ => KEYS.iter().find(|key| key.name == name),
            };
            if let Some(key) = table {
                let text = format!("{name} stands in no table; it belongs below [{}]", key.section);
                faults.push(Fault { line: Some(lines.of(section.span().start)), text });
            } else if !KEYS.iter().any(|key| key.section == name) {
                let text = format!("unknown table [{name}]; known are {}", listed(sections()));
                faults.push(Fault { line: Some(lines.of(section.span().start)), text });
            } else if let DeValue::Table(table) = value.get_ref() {
                self.read_section(name, table, &lines, &mut faults);
            } else {
                let text = format!("{name} is a table: write [{name}] on a line of its own");
                faults.push(Fault { line: Some(lines.of(section.span().start)), text });
            }
        }
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Takes one value as typed in a flag over what is set so far; `flag` is its name for the
    /// message.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn set(&mut self, name: &str, flag: &str, value: &str) -> Result<(), Fault> {
        let key = KEYS
            .iter()
            .find(|key| key.full_name() == name)
            .unwrap_or_else(|| panic!("{name} is a key"));
        key.put(self, &DeValue::String(value.into()), Form::Typed)
            .map_err(|why| Fault { line: None, text: format!("{flag} {value}: {why}") })
    }

    /// What must hold between values, after the last of them is set.
    ///
    /// # Errors
    /// All that does not hold.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        let cluster = &self.cluster;
        let mut faults = Vec::new();
        let mut demand = |holds: bool, text: &str| {
            if !holds {
                faults.push(Fault { line: None, text: text.to_owned() });
            }
        };
        demand(
            cluster.heartbeat.0.is_multiple_of(cluster.tick.0.max(1)),
            "cluster.heartbeat_ms must be a multiple of cluster.tick_ms",
        );
        demand(
            cluster.election.0.is_multiple_of(cluster.tick.0.max(1)),
            "cluster.election_ms must be a multiple of cluster.tick_ms",
        );
        demand(
            cluster.election.0 >= 3 * cluster.heartbeat.0,
            "cluster.election_ms must be at least three times cluster.heartbeat_ms, or a lost \
             heartbeat costs the leader its office",
        );
        demand(
            cluster.session_default <= cluster.session_max,
            "cluster.session_default_ms must not be above cluster.session_max_ms",
        );
        demand(
            self.listen.port == 0 || self.listen != self.peer_listen,
            "clients and other nodes must not come in at the same address (node.listen and \
             node.peer_listen, or the ports of API and raft)",
        );
        let seats = &cluster.nodes;
        let twice = |same: fn(&Seat, &Seat) -> bool| {
            (1..seats.len()).any(|at| seats[..at].iter().any(|seat| same(seat, &seats[at])))
        };
        demand(!twice(|a, b| a.node == b.node), "cluster.nodes names one id twice");
        demand(!twice(|a, b| a.address == b.address), "cluster.nodes names one address twice");
        demand(
            seats.len() <= limits::CLUSTER_NODES_MAX,
            "cluster.nodes names more nodes than found a cluster",
        );
        let also = self.listen_also.as_ref().map(|also| &also.address);
        demand(
            also.is_none_or(|it| it.port == 0 || (*it != self.listen && *it != self.peer_listen)),
            "node.listen_also must not be an address that node.listen or node.peer_listen has",
        );
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn read_section(
        &mut self,
        section: &str,
        table: &DeTable<'_>,
        lines: &Lines<'_>,
        faults: &mut Vec<Fault>,
    ) {
        for (name, value) in table {
            let known = KEYS.iter().filter(|key| key.section == section);
            let found = known.clone().find(|key| key.name == name.get_ref().as_ref());
            let fault = match found {
                Some(key) => {
                    let put = key.put(self, value.get_ref(), Form::Written);
                    put.err().map(|why| (line_of(value, lines), format!("{}: {why}", key.name)))
                }
                None => {
                    let known = listed(known.map(|key| key.name));
                    let text =
                        format!("unknown key {} in [{section}]; known are {known}", name.get_ref());
                    Some((lines.of(name.span().start), text))
                }
            };
            faults.extend(fault.map(|(line, text)| Fault { line: Some(line), text }));
        }
    }
}

impl ClusterConfig {
    /// A number that is equal when all values are, and hardly ever otherwise. It depends on the
    /// names and values of the keys alone, so it stays the same from build to build; a key that is
    /// younger than data directories counts only where it is not at its default, so that those
    /// still open.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let plain = NodeConfig::default();
        let config = NodeConfig { cluster: self.clone(), ..NodeConfig::default() };
        let mut digest = FNV_OFFSET;
        for key in KEYS.iter().filter(|key| key.section == "cluster") {
            if YOUNGER.contains(&key.name) && key.value(&config) == key.value(&plain) {
                continue;
            }
            let text = format!("{}={}\n", key.name, key.value(&config));
            for byte in text.bytes() {
                digest = (digest ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
            }
        }
        digest
    }
}

/// Keys of [cluster] that came after the first data directories.
const YOUNGER: &[&str] = &["replicas", "nodes"];

/// FNV-1a, 64 bits.
const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;

impl Key {
    /// `section.name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Its value in `config`, as it would stand in a file, text without quotes.
    #[must_use]
    pub fn value(&self, config: &NodeConfig) -> String {
        match self.holds {
            Holds::Number { get, .. } => get(config).to_string(),
            Holds::Text { get, .. } => get(config),
            Holds::List { get, .. } => get(config).join(", "),
        }
    }

    /// What it may hold.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.holds {
            Holds::Number { unit: "", min, max, .. } => format!("{min} to {max}"),
            Holds::Number { unit, min, max, .. } => format!("{min} to {max} {unit}"),
            Holds::Text { allowed, .. } | Holds::List { allowed, .. } => allowed.to_owned(),
        }
    }

    fn put(&self, config: &mut NodeConfig, value: &DeValue<'_>, form: Form) -> Result<(), String> {
        let done = match (&self.holds, value) {
            (Holds::Number { min, max, set, .. }, value) => whole(value, form)
                .ok_or_else(|| format!("not a whole number; allowed: {}", self.allowed()))?
                .filter(|number| (*min..=*max).contains(number))
                .map(|number| set(config, number)),
            (Holds::Text { set, .. }, DeValue::String(text)) => set(config, text),
            (Holds::Text { .. }, _) => return Err("not text: write it in quotes".to_owned()),
            (Holds::List { set, .. }, value) => texts(value, form)
                .ok_or_else(|| format!("not a list of texts; allowed: {}", self.allowed()))
                .map(|texts| set(config, &texts))?,
        };
        let wrong = match self.holds {
            Holds::Number { .. } => "out of bounds",
            Holds::Text { .. } | Holds::List { .. } => "not understood",
        };
        done.ok_or_else(|| format!("{wrong}; allowed: {}", self.allowed()))
    }
}

impl Dialect {
    /// As written in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Documented => "documented",
            Dialect::Released => "released",
        }
    }

    /// The dialect of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Dialect> {
        [Dialect::Documented, Dialect::Released].into_iter().find(|d| d.name() == text)
    }
}

impl Trace {
    /// As written in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Trace::Error => "error",
            Trace::Warn => "warn",
            Trace::Info => "info",
            Trace::Debug => "debug",
            Trace::Trace => "trace",
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Trace> {
        [Trace::Error, Trace::Warn, Trace::Info, Trace::Debug, Trace::Trace]
            .into_iter()
            .find(|t| t.name() == text)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Where a value comes from, which decides whether a number may come as text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Written,
    Typed,
}

/// The number that `value` is: `None` when it is none, `Some(None)` when it is below zero or too
/// large.
fn whole(value: &DeValue<'_>, form: Form) -> Option<Option<u64>> {
    let (text, radix) = match value {
        DeValue::Integer(integer) => (integer.as_str(), integer.radix()),
        DeValue::String(text) if form == Form::Typed => (text.as_ref(), 10),
        _ => return None,
    };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    number.then(|| u64::from_str_radix(text, radix).ok())
}

/// The texts that `value` is: in a flag they are separated by commas.
fn texts<'a>(value: &'a DeValue<'_>, form: Form) -> Option<Vec<&'a str>> {
    match value {
        DeValue::String(text) if form == Form::Typed => Some(text.split(',').collect()),
        DeValue::Array(list) => list.iter().map(|value| value.get_ref().as_str()).collect(),
        _ => None,
    }
}

fn line_of(value: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> usize {
    lines.of(value.span().start)
}

/// Places in a text as lines.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn of(&self, at: usize) -> usize {
        1 + self.0.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().map(|key| key.section).filter(move |section| {
        let new = *section != last;
        last = section;
        new
    })
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
