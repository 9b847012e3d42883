//! Which data each peer had when it was last here, kept in the data directory.
//!
//! A node that lost its data has forgotten how it voted. Its id alone does not tell; the
//! incarnation that was drawn with its data directory does. What is noted is on disk before the
//! first bundle is taken, and is forgotten when no partition here knows the node any more: then
//! nobody counts on its votes. Absent on purpose: judging; `wire/hello.rs` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::told::Told;
use crate::id::{NodeId, ShardId};
use crate::limits::PEERS_KNOWN_MAX;

/// What all cores of a node remember of its peers.
#[derive(Debug)]
pub struct Known {
    told: Told,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    incarnations: BTreeMap<NodeId, u64>,
    /// Which nodes each core's partitions know; a core that has not spoken may know any.
    members: BTreeMap<ShardId, BTreeSet<NodeId>>,
    shards: u16,
}

impl Known {
    /// As the directory has it, for a node of so many shards.
    pub fn open(directory: &Path, shards: u16) -> io::Result<Known> {
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let incarnations = text.lines().map(read).collect::<Option<_>>().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} cannot be read"))
        })?;
        let inner = Inner { incarnations, members: BTreeMap::new(), shards };
        Ok(Known { told: Told::default(), path, inner: Mutex::new(inner) })
    }

    /// What was said of peers lately.
    #[must_use]
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// The incarnation under which this node was here.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<u64> {
        self.lock().incarnations.get(&node).copied()
    }

    /// Notes who is here; what was known before, if anything, stays and is returned.
    pub fn note(&self, node: NodeId, incarnation: u64) -> Option<u64> {
        let mut inner = self.lock();
        if let Some(known) = inner.incarnations.get(&node) {
            return Some(*known);
        }
        if inner.incarnations.len() >= PEERS_KNOWN_MAX {
            let line = "more peers were here than can be remembered";
            if self.told.is_news(line) {
                tracing::error!("{line}");
            }
            return None;
        }
        inner.incarnations.insert(node, incarnation);
        self.save(&inner);
        None
    }

    /// These are the nodes that one core's partitions know now.
    pub fn keep(&self, shard: ShardId, nodes: impl Iterator<Item = NodeId>) {
        let mut inner = self.lock();
        inner.members.insert(shard, nodes.collect());
        if inner.members.len() < usize::from(inner.shards) {
            return;
        }
        let Inner { incarnations, members, .. } = &mut *inner;
        let before = incarnations.len();
        incarnations.retain(|node, _| members.values().any(|nodes| nodes.contains(node)));
        if incarnations.len() < before {
            self.save(&inner);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whole or not at all: written beside, synced, renamed. Without it a wiped peer would not be
    /// recognised after a restart, so a failure is told but does not stop a node that works.
    fn save(&self, inner: &Inner) {
        let beside = self.path.with_extension("new");
        let written = (|| {
            let mut file = File::create(&beside)?;
            for (node, incarnation) in &inner.incarnations {
                writeln!(file, "{node} {incarnation:016x}")?;
            }
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            // The name is on disk only with its directory.
            let directory = self.path.parent().unwrap_or(Path::new("."));
            File::open(directory)?.sync_all()
        })();
        if let Err(error) = written {
            tracing::error!(path = %self.path.display(), %error, "peers cannot be remembered");
        }
    }
}

fn read(line: &str) -> Option<(NodeId, u64)> {
    let (node, incarnation) = line.split_once(' ')?;
    Some((NodeId(node.parse().ok()?), u64::from_str_radix(incarnation, 16).ok()?))
}

const FILE: &str = "peers";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_remembered_until_no_partition_knows_it() {
        let data = tempfile::tempdir().expect("a directory");
        let known = Known::open(data.path(), 2).expect("empty");
        assert_eq!(known.note(NodeId(2), 22), None);
        assert_eq!(known.note(NodeId(2), 23), Some(22));
        let known = Known::open(data.path(), 2).expect("read");
        assert_eq!(known.get(NodeId(2)), Some(22));
        known.keep(ShardId(0), [].into_iter());
        assert_eq!(known.get(NodeId(2)), Some(22), "the other core may know it");
        known.keep(ShardId(1), [NodeId(2)].into_iter());
        assert_eq!(known.get(NodeId(2)), Some(22));
        known.keep(ShardId(1), [].into_iter());
        let known = Known::open(data.path(), 2).expect("read");
        assert_eq!(known.get(NodeId(2)), None);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let data = tempfile::tempdir().expect("a directory");
        fs::write(data.path().join(FILE), "2 zz\n").expect("written");
        assert!(Known::open(data.path(), 1).is_err());
    }
}
