//! All there is to know of each key: one table. Absent on purpose: reading and checking.

use std::path::PathBuf;

use super::{Address, Dialect, Holds, Key, Listener, NodeConfig, Seat, Trace};
use crate::id::NodeId;
use crate::limits;
use crate::time::Span;

/// Every key, in the order of `tuning/node.toml`.
pub const KEYS: &[Key] = &[
    number(
        "node",
        "id",
        "",
        1,
        1,
        u32::MAX as u64,
        |c| c.id.0.into(),
        |c, n| {
            c.id = NodeId(n as u32);
        },
    ),
    text(
        "node",
        "data_dir",
        "a path",
        |c| c.data_dir.display().to_string(),
        |c, s| {
            c.data_dir = (!s.is_empty()).then(|| PathBuf::from(s))?;
            Some(())
        },
    ),
    text(
        "node",
        "listen",
        ADDRESS,
        |c| c.listen.to_string(),
        |c, s| {
            c.listen = Address::parse(s)?;
            Some(())
        },
    ),
    text(
        "node",
        "peer_listen",
        ADDRESS,
        |c| c.peer_listen.to_string(),
        |c, s| {
            c.peer_listen = Address::parse(s)?;
            Some(())
        },
    ),
    number(
        "node",
        "shards",
        "cores",
        0,
        0,
        limits::SHARDS_MAX as u64,
        |c| c.shards.into(),
        |c, n| c.shards = n as u16,
    ),
    number(
        "node",
        "spin_us",
        "microseconds",
        limits::SPIN_US,
        0,
        limits::SPIN_US_MAX,
        |c| c.spin.as_micros(),
        |c, n| c.spin = Span::micros(n),
    ),
    text(
        "node",
        "dialect",
        DIALECTS,
        |c| c.dialect.name().to_owned(),
        |c, s| {
            c.dialect = Dialect::parse(s)?;
            Some(())
        },
    ),
    text(
        "node",
        "listen_also",
        LISTENER,
        |c| c.listen_also.as_ref().map_or_else(String::new, ToString::to_string),
        |c, s| {
            c.listen_also = if s.is_empty() { None } else { Some(Listener::parse(s)?) };
            Some(())
        },
    ),
    text(
        "node",
        "trace",
        TRACES,
        |c| c.trace.name().to_owned(),
        |c, s| {
            c.trace = Trace::parse(s)?;
            Some(())
        },
    ),
    number(
        "node",
        "drain_ms",
        MS,
        2_000,
        0,
        60_000,
        |c| c.drain.as_millis(),
        |c, n| {
            c.drain = Span::millis(n);
        },
    ),
    number(
        "journal",
        "segment_bytes",
        BYTES,
        limits::SEGMENT_BYTES as u64,
        limits::SEGMENT_BYTES_MIN as u64,
        limits::SEGMENT_BYTES_MAX as u64,
        |c| c.segment_bytes,
        |c, n| c.segment_bytes = n,
    ),
    number(
        "journal",
        "writes_in_flight",
        "blocks",
        limits::WRITES_IN_FLIGHT_MAX as u64,
        1,
        limits::WRITES_IN_FLIGHT_MAX as u64,
        |c| c.writes_in_flight.into(),
        |c, n| c.writes_in_flight = n as u16,
    ),
    number(
        "journal",
        "snapshot_entries",
        "entries",
        10_000,
        16,
        100_000_000,
        |c| c.snapshot_entries,
        |c, n| c.snapshot_entries = n,
    ),
    number(
        "journal",
        "snapshot_bytes",
        BYTES,
        64 << 20,
        1 << 20,
        1 << 36,
        |c| c.snapshot_bytes,
        |c, n| c.snapshot_bytes = n,
    ),
    number(
        "journal",
        "retain_entries",
        "entries",
        1_000,
        0,
        100_000_000,
        |c| c.retain_entries,
        |c, n| c.retain_entries = n,
    ),
    number(
        "peer",
        "snapshot_bytes_per_second",
        BYTES,
        limits::SNAPSHOT_BYTES_PER_SECOND,
        limits::SNAPSHOT_BYTES_PER_SECOND_MIN,
        limits::SNAPSHOT_BYTES_PER_SECOND_MAX,
        |c| c.snapshot_rate,
        |c, n| c.snapshot_rate = n,
    ),
    number(
        "connection",
        "connections_max",
        "connections",
        10_000,
        1,
        1_000_000,
        |c| c.connections_max.into(),
        |c, n| c.connections_max = n as u32,
    ),
    number(
        "connection",
        "streams_max",
        "calls",
        1_024,
        1,
        65_536,
        |c| c.streams_max.into(),
        |c, n| c.streams_max = n as u32,
    ),
    number(
        "connection",
        "keepalive_ms",
        MS,
        60_000,
        0,
        86_400_000,
        |c| c.keepalive.as_millis(),
        |c, n| c.keepalive = Span::millis(n),
    ),
    number(
        "connection",
        "idle_ms",
        MS,
        0,
        0,
        86_400_000,
        |c| c.idle.as_millis(),
        |c, n| {
            c.idle = Span::millis(n);
        },
    ),
    number(
        "cluster",
        "partitions",
        "partitions",
        8,
        0,
        limits::PARTITIONS_MAX as u64,
        |c| c.cluster.partitions.into(),
        |c, n| {
            c.cluster.partitions = n as u32;
            c.partitions_said = true;
        },
    ),
    number(
        "cluster",
        "replicas",
        "replicas",
        3,
        1,
        limits::REPLICAS_MAX as u64,
        |c| c.cluster.replicas.into(),
        |c, n| c.cluster.replicas = n as u32,
    ),
    Key {
        section: "cluster",
        name: "nodes",
        holds: Holds::List {
            allowed: SEATS,
            get: |c| c.cluster.nodes.iter().map(ToString::to_string).collect(),
            set: |c, seats| {
                c.cluster.nodes =
                    seats.iter().map(|seat| Seat::parse(seat)).collect::<Option<_>>()?;
                Some(())
            },
        },
    },
    number(
        "cluster",
        "tick_ms",
        MS,
        50,
        10,
        1_000,
        |c| c.cluster.tick.as_millis(),
        |c, n| {
            c.cluster.tick = Span::millis(n);
        },
    ),
    number(
        "cluster",
        "heartbeat_ms",
        MS,
        100,
        10,
        10_000,
        |c| c.cluster.heartbeat.as_millis(),
        |c, n| c.cluster.heartbeat = Span::millis(n),
    ),
    number(
        "cluster",
        "election_ms",
        MS,
        600,
        50,
        60_000,
        |c| c.cluster.election.as_millis(),
        |c, n| c.cluster.election = Span::millis(n),
    ),
    number(
        "cluster",
        "session_default_ms",
        MS,
        30_000,
        100,
        86_400_000,
        |c| c.cluster.session_default.as_millis(),
        |c, n| c.cluster.session_default = Span::millis(n),
    ),
    number(
        "cluster",
        "session_max_ms",
        MS,
        86_400_000,
        1_000,
        31_536_000_000,
        |c| c.cluster.session_max.as_millis(),
        |c, n| c.cluster.session_max = Span::millis(n),
    ),
    number(
        "cluster",
        "partition_memory_bytes",
        BYTES,
        1 << 30,
        1 << 20,
        1 << 40,
        |c| c.cluster.partition_memory_bytes,
        |c, n| c.cluster.partition_memory_bytes = n,
    ),
];

const MS: &str = "milliseconds";
const BYTES: &str = "bytes";
const ADDRESS: &str = "HOST:PORT, as 127.0.0.1:5678 or [::1]:5678";
const LISTENER: &str = "\"\" for none, or DIALECT=HOST:PORT, as released=127.0.0.1:5680";
const SEATS: &str = "[] for none, or [\"ID=HOST:PORT\", …], as [\"1=10.0.0.1:5679\"]";
const DIALECTS: &str = "\"documented\" or \"released\"";
const TRACES: &str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";

#[allow(clippy::too_many_arguments)]
const fn number(
    section: &'static str,
    name: &'static str,
    unit: &'static str,
    default: u64,
    min: u64,
    max: u64,
    get: fn(&NodeConfig) -> u64,
    set: fn(&mut NodeConfig, u64),
) -> Key {
    assert!(min <= default && default <= max, "a default is within its bounds");
    Key { section, name, holds: Holds::Number { unit, default, min, max, get, set } }
}

const fn text(
    section: &'static str,
    name: &'static str,
    allowed: &'static str,
    get: fn(&NodeConfig) -> String,
    set: fn(&mut NodeConfig, &str) -> Option<()>,
) -> Key {
    Key { section, name, holds: Holds::Text { allowed, get, set } }
}
