//! What each peer was when it was last here, kept in the data directory.
//!
//! A node that lost its data has forgotten how it voted. Its id alone does not tell; the
//! incarnation that was drawn with its data directory does. A node whose data was put back from a
//! copy has the same incarnation and has forgotten what came after the copy: it told with each
//! bundle how far its journal was durable (`frames.rs`), and a later life of it that begins before
//! that is older than its word.
//!
//! ```text
//! <data>/peers   <node> <incarnation> sound|older <shard>:<life>:<mark> …      a line a node
//! ```
//!
//! Who is here, and who came back older, is on disk before the first bundle is taken; marks follow
//! every `SAVE_EVERY` and at the end: a copy that is put back while all peers are down is known if
//! it is older than that. Whom a node told nothing since the copy was made cannot know it either.
//! All of it is forgotten when no partition here knows the node any more: then nobody counts on its
//! votes. Absent on purpose: how the reasons read (`wire/hello.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::told::Told;
use crate::id::{Mark, NodeId, ShardId};
use crate::limits::PEERS_KNOWN_MAX;
use crate::wire::hello::{Hello, Speaker, older, stranger};

/// What all cores of a node remember of its peers.
#[derive(Debug)]
pub struct Known {
    told: Told,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    met: BTreeMap<NodeId, Met>,
    /// Which nodes each core's partitions know; a core that has not spoken may know any.
    members: BTreeMap<ShardId, BTreeSet<NodeId>>,
    shards: u16,
    /// The sum of the marks on disk.
    saved: u64,
}

#[derive(PartialEq, Debug)]
struct Met {
    incarnation: u64,
    /// It came back with older data and is not taken any more.
    older: bool,
    shards: BTreeMap<ShardId, Word>,
}

/// How far the journal of a peer's shard was durable, by its own word.
#[derive(Clone, Debug)]
pub struct Word {
    life: u64,
    mark: Arc<AtomicU64>,
}

/// One shard of a node as a greeting has it.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    /// The node.
    pub node: NodeId,
    /// Drawn when its data directory was made.
    pub incarnation: u64,
    /// Drawn when its process started.
    pub life: u64,
    /// Which of its shards.
    pub shard: ShardId,
    /// The last mark that this life found in the shard's journal.
    pub kept: Mark,
}

impl Presence {
    /// Who dialled.
    #[must_use]
    pub fn of(hello: &Hello) -> Presence {
        let Speaker { node, incarnation, life, .. } = hello.speaker;
        Presence { node, incarnation, life, shard: hello.from_shard, kept: hello.kept }
    }
}

impl Word {
    fn new(life: u64, mark: u64) -> Word {
        Word { life, mark: Arc::new(AtomicU64::new(mark)) }
    }

    /// It told of this mark.
    pub fn hear(&self, mark: Mark) {
        self.mark.fetch_max(mark.0, Ordering::Relaxed);
    }

    fn mark(&self) -> u64 {
        self.mark.load(Ordering::Relaxed)
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Word) -> bool {
        (self.life, self.mark()) == (other.life, other.mark())
    }
}

impl Met {
    fn new(incarnation: u64) -> Met {
        Met { incarnation, older: false, shards: BTreeMap::new() }
    }
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
        let met = text.lines().map(read).collect::<Option<_>>().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} cannot be read"))
        })?;
        let mut inner = Inner { met, members: BTreeMap::new(), shards, saved: 0 };
        inner.saved = inner.sum();
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
        self.lock().met.get(&node).map(|met| met.incarnation)
    }

    /// Notes who is at the other end of a link, or says why it is not taken. What it tells from now
    /// on goes to the word that is returned.
    pub fn greet(&self, who: &Presence) -> Result<Word, String> {
        let Presence { node, incarnation, life, shard, kept } = *who;
        let mut inner = self.lock();
        let known = self.add(&mut inner, node, incarnation);
        if let Some(reason) = stranger(node, incarnation, known) {
            return Err(reason);
        }
        let fresh = || Word::new(life, kept.0);
        let Some(met) = inner.met.get_mut(&node) else { return Ok(fresh()) };
        let word = met.shards.entry(shard).or_insert_with(fresh);
        if word.life != life && kept.0 < word.mark() && !met.older {
            met.older = true;
            self.save(&mut inner);
            return Err(older(node));
        }
        if met.older {
            return Err(older(node));
        }
        word.life = life;
        word.hear(kept);
        Ok(word.clone())
    }

    /// Who was forgotten while it had a link is a member now.
    pub fn again(&self, node: NodeId, incarnation: u64, shard: ShardId, word: &Word) {
        let mut inner = self.lock();
        self.add(&mut inner, node, incarnation);
        if let Some(met) = inner.met.get_mut(&node).filter(|met| met.incarnation == incarnation) {
            met.shards.entry(shard).or_insert_with(|| word.clone());
        }
    }

    /// These are the nodes that one core's partitions know now.
    pub fn keep(&self, shard: ShardId, nodes: impl Iterator<Item = NodeId>) {
        let mut inner = self.lock();
        inner.members.insert(shard, nodes.collect());
        if inner.members.len() < usize::from(inner.shards) {
            return;
        }
        let Inner { met, members, .. } = &mut *inner;
        let before = met.len();
        met.retain(|node, _| members.values().any(|nodes| nodes.contains(node)));
        if met.len() < before {
            self.save(&mut inner);
        }
    }

    /// Writes down what peers told since the last time. It waits for the disk.
    pub fn save_marks(&self) {
        let mut inner = self.lock();
        if inner.sum() != inner.saved {
            self.save(&mut inner);
        }
    }

    /// Notes a node; what was known before, if anything, stays and is returned.
    fn add(&self, inner: &mut Inner, node: NodeId, incarnation: u64) -> Option<u64> {
        if let Some(known) = inner.met.get(&node) {
            return Some(known.incarnation);
        }
        if inner.met.len() >= PEERS_KNOWN_MAX {
            let line = "more peers were here than can be remembered";
            if self.told.is_news(line) {
                tracing::error!("{line}");
            }
            return None;
        }
        inner.met.insert(node, Met::new(incarnation));
        self.save(inner);
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whole or not at all: written beside, synced, renamed. Without it a wiped peer would not be
    /// recognised after a restart, so a failure is told but does not stop a node that works.
    fn save(&self, inner: &mut Inner) {
        inner.saved = inner.sum();
        let beside = self.path.with_extension("new");
        let written = (|| {
            let mut file = File::create(&beside)?;
            let lines: String = inner.met.iter().map(|(node, met)| line(*node, met)).collect();
            file.write_all(lines.as_bytes())?;
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

impl Inner {
    /// Marks only grow, so this tells whether one did.
    fn sum(&self) -> u64 {
        let words = self.met.values().flat_map(|met| met.shards.values());
        words.fold(0, |sum: u64, word| sum.wrapping_add(word.mark()))
    }
}

fn line(node: NodeId, met: &Met) -> String {
    let state = if met.older { OLDER } else { SOUND };
    let mut line = format!("{node} {:016x} {state}", met.incarnation);
    for (shard, word) in &met.shards {
        write!(line, " {shard}:{:016x}:{}", word.life, word.mark()).expect("a text takes it");
    }
    line.push('\n');
    line
}

fn read(line: &str) -> Option<(NodeId, Met)> {
    let mut words = line.split(' ');
    let node = NodeId(words.next()?.parse().ok()?);
    let mut met = Met::new(u64::from_str_radix(words.next()?, 16).ok()?);
    // Data directories of before say no more.
    met.older = match words.next() {
        None | Some(SOUND) => false,
        Some(OLDER) => true,
        Some(_) => return None,
    };
    for word in words {
        let (shard, rest) = word.split_once(':')?;
        let (life, mark) = rest.split_once(':')?;
        let life = u64::from_str_radix(life, 16).ok()?;
        met.shards.insert(ShardId(shard.parse().ok()?), Word::new(life, mark.parse().ok()?));
    }
    Some((node, met))
}

/// How often what peers tell is written down, while it changes.
pub const SAVE_EVERY: Duration = Duration::from_secs(10);

const FILE: &str = "peers";
const SOUND: &str = "sound";
const OLDER: &str = "older";

#[cfg(test)]
mod tests {
    use super::*;

    fn second(life: u64, kept: u64) -> Presence {
        let (node, shard) = (NodeId(2), ShardId(3));
        Presence { node, incarnation: 22, life, shard, kept: Mark(kept) }
    }

    #[test]
    fn who_comes_back_before_its_own_word_is_refused_for_good() {
        let data = tempfile::tempdir().expect("a directory");
        let known = Known::open(data.path(), 2).expect("empty");
        known.greet(&second(1, 10)).expect("the first time").hear(Mark(20));
        known.greet(&second(1, 10)).expect("the same life").hear(Mark(30));
        known.greet(&second(2, 30)).expect("another life that has all of it").hear(Mark(25));
        known.save_marks();
        let known = Known::open(data.path(), 2).expect("read");
        let reason = known.greet(&second(3, 29)).expect_err("a copy of before");
        assert!(reason.contains("node 2 came back with older data"), "{reason}");
        let other = Presence { shard: ShardId(0), ..second(3, 29) };
        assert_eq!(known.greet(&other).expect_err("with all its shards"), reason);
        let known = Known::open(data.path(), 2).expect("read");
        assert_eq!(known.greet(&second(4, 99)).expect_err("whatever it wrote since"), reason);
        for shard in [ShardId(0), ShardId(1)] {
            known.keep(shard, [].into_iter());
        }
        known.greet(&second(5, 1)).expect("nobody counts on it any more");
    }

    #[test]
    fn what_a_link_tells_counts_once_its_node_is_a_member() {
        let data = tempfile::tempdir().expect("a directory");
        let known = Known::open(data.path(), 1).expect("empty");
        let word = known.greet(&second(1, 10)).expect("the first time");
        known.keep(ShardId(0), [].into_iter());
        word.hear(Mark(50));
        known.again(NodeId(2), 22, ShardId(3), &word);
        word.hear(Mark(60));
        known.greet(&second(2, 59)).expect_err("older than its word");
    }

    #[test]
    fn a_peer_is_remembered_until_no_partition_knows_it() {
        let data = tempfile::tempdir().expect("a directory");
        let known = Known::open(data.path(), 2).expect("empty");
        known.greet(&second(1, 0)).expect("the first time");
        let other = Presence { incarnation: 23, ..second(1, 0) };
        let reason = known.greet(&other).expect_err("its votes were counted");
        assert!(reason.contains("node 2 came back with other data"), "{reason}");
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
        fs::write(data.path().join(FILE), "2 00000000000000ff\n").expect("written");
        let known = Known::open(data.path(), 1).expect("as it was written before");
        assert_eq!(known.get(NodeId(2)), Some(0xff));
    }
}
