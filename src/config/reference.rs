//! A node in place of the reference's: what its start says, and what that means here.
//!
//! The Atomix controller starts `atomix-multi-raft-node` with a JSON file and four flags (core.md
//! 1.1, 1.2). A node that is started so is in place of it: it speaks the released dialect, founds
//! nothing by itself and waits for `Node.Bootstrap`, which the controller repeats after each
//! restart.
//!
//! | field (or lowerCamel) | absent | here |
//! |---|---|---|
//! | `heartbeat_period` | 250 ms | raft's tick and the heartbeat, cut to whole milliseconds |
//! | `election_timeout` | 10 heartbeats | the election timeout, cut to whole heartbeats |
//! | `snapshot_entry_threshold` | 10000 | `journal.snapshot_entries` |
//! | `compaction_retain_entries` | 1000 | `journal.retain_entries` |
//! | `data_dir` | `/var/lib/atomix/data` | `node.data_dir` |
//!
//! # Decisions
//!
//! A duration may be a Go duration or whole nanoseconds, bare or quoted: the controller writes
//! nanoseconds, which the reference itself refuses (core.md 1.2, DEFECT). Counts are those of log
//! entries, of which one holds many commands here, so `snapshot_bytes` is the other trigger; a
//! count that no bound here allows is taken as the nearest that is. What would crash the reference
//! at its first Bootstrap, a heartbeat below 1 ms or an election within two heartbeats, is refused
//! at the start.
//!
//! The host that other members dial is bound itself when it is an address or `localhost`. Any other
//! name is only told: in a pod it may resolve later, or to what is not here, so all interfaces are
//! bound. The reference lets pace and address change between starts, so neither is part of what a
//! data directory belongs to.
//!
//! Which member of a group this node is, each Bootstrap says (shard/roster.rs). Its own id, by
//! which links know it, is its pod's ordinal and one: so the controller names members where each
//! pod has one of every group, which is what it does unless told otherwise. `--node-id` says
//! another; a group of several whose local member has another id than the node is refused.

// A value, no socket.
use core::net::IpAddr;
use std::fmt;
use std::path::PathBuf;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Address, ClusterConfig, Dialect, Fault, KEYS, Lines, NodeConfig};
use crate::config::Holds;
use crate::id::NodeId;
use crate::limits;
use crate::time::Span;

/// What a node in place of the reference knows besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlace {
    /// The host that other members dial, when that is not the one that is listened on.
    pub raft_host: Option<String>,
}

/// Whether a config file is the reference's: JSON by its name or by its first character, with which
/// nothing begins in TOML.
#[must_use]
pub fn is_reference(name: &str, file: &str) -> bool {
    name.ends_with(".json") || file.trim_start().starts_with('{')
}

impl NodeConfig {
    /// What holds in place of the reference where nothing is said.
    #[must_use]
    pub fn in_place() -> NodeConfig {
        let everywhere = |port| Address { host: String::new(), port };
        let mut config = NodeConfig {
            data_dir: PathBuf::from(DATA_DIR),
            listen: everywhere(API_PORT),
            peer_listen: everywhere(RAFT_PORT),
            dialect: Dialect::Released,
            in_place: Some(InPlace { raft_host: None }),
            ..NodeConfig::default()
        };
        config.cluster.partitions = 0;
        config.set_pace(HEARTBEAT, HEARTBEAT.0 * ELECTION_HEARTBEATS);
        config
    }

    /// Takes the values of the reference's config file over what is set so far. Only the first
    /// value in the file is read.
    ///
    /// # Errors
    /// All faults of the file, each with its line; the values are then unspecified.
    pub fn read_reference(&mut self, file: &str) -> Result<(), Vec<Fault>> {
        let lines = Lines(file);
        if file.len() > limits::CONFIG_BYTES_MAX {
            let most = limits::CONFIG_BYTES_MAX;
            return Err(vec![Fault { line: None, text: format!("larger than {most} bytes") }]);
        }
        let first = serde_json::Deserializer::from_str(file).into_iter::<Object<'_>>().next();
        let Some(first) = first else {
            return Err(vec![Fault { line: None, text: "there is no JSON in it".to_owned() }]);
        };
        let Object(fields) = first.map_err(|error| vec![unreadable(&error)])?;
        let mut faults = Vec::new();
        let mut given: [Option<(usize, Value)>; FIELDS.len()] = Default::default();
        for (name, value) in &fields {
            let line = lines.of(key_end(file, value.get()));
            let mut wrong = |text| faults.push(Fault { line: Some(line), text });
            let known =
                FIELDS.iter().position(|(snake, camel, _)| [*snake, *camel].contains(&&**name));
            let Some(at) = known else {
                let known = super::listed(FIELDS.iter().map(|(name, ..)| *name));
                wrong(format!("unknown field {name:?}; known are {known}"));
                continue;
            };
            let (_, _, read) = FIELDS[at];
            match read(value.get()) {
                Ok(_) if given[at].is_some() => wrong(format!("{name} stands there twice")),
                Ok(value) => given[at] = value.map(|value| (line, value)),
                Err(why) => wrong(format!("{name}: {why}")),
            }
        }
        if faults.is_empty() {
            self.take(given, &mut faults)
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Where clients come in, as the reference's flags say it: an empty host is all interfaces.
    ///
    /// # Errors
    /// Says which of the two cannot be.
    pub fn set_api(&mut self, host: Option<&str>, port: Option<&str>) -> Result<(), Fault> {
        let (host, port) = (host.map(|host| typed_host("--api-host", host)), port);
        if let Some(host) = host {
            self.listen.host = host?;
        }
        if let Some(port) = port {
            self.listen.port = typed_port("--api-port", port)?;
        }
        Ok(())
    }

    /// What other members dial, as the reference's flags say it.
    ///
    /// # Errors
    /// Says which of the two cannot be.
    pub fn set_raft(&mut self, host: Option<&str>, port: Option<&str>) -> Result<(), Fault> {
        if let Some(host) = host {
            let host = typed_host("--raft-host", host)?;
            let binds = host.is_empty() || host == "localhost" || host.parse::<IpAddr>().is_ok();
            if let Some(ordinal) = pod_ordinal(&host)
                && self.id == NodeConfig::default().id
            {
                self.id = NodeId(ordinal + 1);
            }
            self.peer_listen.host = if binds { host.clone() } else { String::new() };
            self.in_place = Some(InPlace { raft_host: (!binds).then_some(host) });
        }
        if let Some(port) = port {
            self.peer_listen.port = typed_port("--raft-port", port)?;
        }
        Ok(())
    }

    /// The part of the cluster's configuration that a data directory belongs to, as a number.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut cluster = self.cluster.clone();
        if self.in_place.is_some() {
            let ClusterConfig { tick, heartbeat, election, .. } = NodeConfig::default().cluster;
            (cluster.tick, cluster.heartbeat, cluster.election) = (tick, heartbeat, election);
        }
        cluster.digest()
    }

    /// Takes what the fields hold, in the order of `FIELDS`.
    fn take(&mut self, given: [Option<(usize, Value)>; FIELDS.len()], faults: &mut Vec<Fault>) {
        let [heartbeat, election, snapshot, retain, data_dir] = given;
        let mut wrong = |line, text: String| faults.push(Fault { line: Some(line), text });
        let mut beat = HEARTBEAT;
        if let Some((line, Value::Time(time))) = heartbeat {
            beat = Span::millis(time.as_millis());
            if beat == Span::ZERO {
                return wrong(line, "heartbeat_period: below 1ms".to_owned());
            }
            if beat > HEARTBEAT_MAX {
                return wrong(line, format!("heartbeat_period: above {}", shown(HEARTBEAT_MAX)));
            }
        }
        let mut wait = beat.0 * ELECTION_HEARTBEATS;
        if let Some((line, Value::Time(time))) = election {
            wait = time.0 / beat.0 * beat.0;
            if wait < beat.0 * 3 {
                let text = "election_timeout: must be at least three times heartbeat_period";
                return wrong(line, format!("{text}, which is {}", shown(beat)));
            }
            if time > ELECTION_MAX {
                return wrong(line, format!("election_timeout: above {}", shown(ELECTION_MAX)));
            }
        }
        self.set_pace(beat, wait);
        for (key, value) in [("snapshot_entries", snapshot), ("retain_entries", retain)] {
            if let Some((_, Value::Count(count))) = value {
                self.set_count(key, count);
            }
        }
        if let Some((_, Value::Text(path))) = data_dir {
            self.data_dir = PathBuf::from(path);
        }
    }

    fn set_pace(&mut self, heartbeat: Span, election_ns: u64) {
        self.cluster.tick = heartbeat;
        self.cluster.heartbeat = heartbeat;
        self.cluster.election = Span(election_ns);
    }

    /// A count of the journal, within its bounds; 0 is the default.
    fn set_count(&mut self, name: &str, count: u64) {
        let key = KEYS.iter().find(|key| (key.section, key.name) == ("journal", name));
        let Some(Holds::Number { default, min, max, set, .. }) = key.map(|key| &key.holds) else {
            unreachable!("journal.{name} is a number");
        };
        set(self, if count == 0 { *default } else { count.clamp(*min, *max) });
    }
}

/// The reference's data directory, which its controller mounts a volume above.
const DATA_DIR: &str = "/var/lib/atomix/data";
const API_PORT: u16 = 8080;
const RAFT_PORT: u16 = 5000;
const HEARTBEAT: Span = Span::millis(250);
const ELECTION_HEARTBEATS: u64 = 10;
/// Longer, and a leader that is gone is missed for longer than any client waits.
const HEARTBEAT_MAX: Span = Span::secs(60);
const ELECTION_MAX: Span = Span::secs(600);

/// A field's two spellings, and what it may hold; nothing for `null`, which is as if absent.
type Field = (&'static str, &'static str, fn(&str) -> Result<Option<Value>, &'static str>);

const FIELDS: [Field; 5] = [
    ("heartbeat_period", "heartbeatPeriod", time),
    ("election_timeout", "electionTimeout", time),
    ("snapshot_entry_threshold", "snapshotEntryThreshold", count),
    ("compaction_retain_entries", "compactionRetainEntries", count),
    ("data_dir", "dataDir", text),
];

enum Value {
    Time(Span),
    Count(u64),
    Text(String),
}

fn time(json: &str) -> Result<Option<Value>, &'static str> {
    let wrong = "not a duration: \"250ms\", \"2.5s\", \"1m30s\" or whole nanoseconds";
    let Some(text) = bare(json)? else { return Ok(None) };
    let nanoseconds = text.parse().ok().or_else(|| go_duration(&text));
    let nanoseconds: i64 = nanoseconds.ok_or(wrong)?;
    let nanoseconds = u64::try_from(nanoseconds).map_err(|_| "below zero")?;
    Ok(Some(Value::Time(Span(nanoseconds))))
}

fn count(json: &str) -> Result<Option<Value>, &'static str> {
    let Some(text) = bare(json)? else { return Ok(None) };
    let number = text.parse().map_err(|_| "not a whole number from 0 to 18446744073709551615")?;
    Ok(Some(Value::Count(number)))
}

fn text(json: &str) -> Result<Option<Value>, &'static str> {
    if !json.starts_with('"') && json != "null" {
        return Err("not text: write it in quotes");
    }
    Ok(bare(json)?.filter(|text| !text.is_empty()).map(Value::Text))
}

/// A scalar without its quotes, if it has any.
fn bare(json: &str) -> Result<Option<String>, &'static str> {
    match json.as_bytes().first() {
        _ if json == "null" => Ok(None),
        Some(b'"') => serde_json::from_str(json).map(Some).map_err(|_| "not text in UTF-8"),
        _ => Ok(Some(json.to_owned())),
    }
}

/// Nanoseconds as Go's `time.ParseDuration` reads them.
fn go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i64 = 0;
    loop {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit: i64 = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ns)| *ns)?;
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        // Twelve digits reach below a nanosecond in every unit but hours, where nobody looks.
        let fraction = &fraction[..fraction.len().min(12)];
        let scale = 10_i128.pow(fraction.len() as u32);
        let part = fraction.parse::<i64>().map_or(0, i128::from) * i128::from(unit) / scale;
        let part = whole.checked_mul(unit)?.checked_add(i64::try_from(part).ok()?)?;
        total = total.checked_add(part)?;
        if after.is_empty() {
            return Some(sign * total);
        }
        rest = after;
    }
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn shown(span: Span) -> String {
    let ms = span.as_millis();
    if ms.is_multiple_of(1_000) { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}

/// The number of a pod of a stateful set, at the end of its name: 2 in
/// `store-2.store-hs.default.svc.cluster.local`.
fn pod_ordinal(host: &str) -> Option<u32> {
    let (pod, _) = host.split_once('.').unwrap_or((host, ""));
    let (_, ordinal) = pod.rsplit_once('-')?;
    let plain = ordinal.bytes().all(|byte| byte.is_ascii_digit());
    ordinal.parse().ok().filter(|ordinal| plain && *ordinal < u32::MAX)
}

fn typed_host(flag: &str, host: &str) -> Result<String, Fault> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let address = bare.parse::<IpAddr>().is_ok();
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/:[]".contains(c);
    if !address && (bare.contains(odd) || bare.len() > limits::HOST_BYTES_MAX) {
        let text = format!("{flag} {host}: neither a name nor an address");
        return Err(Fault { line: None, text });
    }
    Ok(bare.to_owned())
}

fn typed_port(flag: &str, port: &str) -> Result<u16, Fault> {
    port.parse().map_err(|_| {
        let text = format!("{flag} {port}: not a port; allowed: 0 to 65535, 0 is any that is free");
        Fault { line: None, text }
    })
}

/// Where the key ends whose value is `value`, a piece of `file`: on its own line, for a key has no
/// line breaks.
fn key_end(file: &str, value: &str) -> usize {
    let at = value.as_ptr() as usize - file.as_ptr() as usize;
    let before = file[..at].trim_end();
    before.strip_suffix(':').unwrap_or(before).trim_end().len()
}

fn unreadable(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(&*text, |(text, _)| text);
    Fault { line: Some(error.line()), text: text.to_owned() }
}

/// A JSON object, its values as they stand there.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Deserialize<'a> for Object<'a> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Fields).map(Object)
    }
}

struct Fields;

impl<'a> Visitor<'a> for Fields {
    type Value = Vec<(String, &'a RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests;
