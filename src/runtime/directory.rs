//! The data directory: whose it is, and that only one process uses it.
//!
//! ```text
//! <data>/identity      text: format, node, cluster, shards, partitions, created, incarnation; once
//! <data>/lock          locked for as long as a process uses the directory; holds its id
//! <data>/shard-<k>/    the journal of one shard
//! ```
//!
//! A directory of another node, cluster, shard count or a newer format, one in use, and one that is
//! not ours at all are refused before anything in them is touched: a node that votes with another's
//! memory breaks elections. So is one whose shard directory has gone: its partitions would be
//! founded again, empty. What an operator did not say is taken from the directory (`Founded`).
//! Absent on purpose: mending an identity; an operator who means it moves the directory away.

use crate::{
    id::{NodeId, ShardId},
    runtime::{disk::shard_directory, prepare::sync_directory},
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The layout of a data directory this program writes.
pub const FORMAT: u32 = 1;

/// Who may use a data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The digest of the cluster's configuration.
    pub cluster: u64,
    /// How many shards it has; a partition's home depends on it.
    pub shards: u16,
    /// How many partitions were founded with it; a key's home depends on it.
    pub partitions: u32,
}

/// What a data directory was made with, of that which need not be said again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Founded {
    /// Its shards.
    pub shards: u16,
    /// Its partitions.
    pub partitions: u32,
}

/// A data directory in use by this process. Dropping it lets others in.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    incarnation: u64,
    /// Holds the lock; the system releases it with the file, however the process ends.
    _lock: File,
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug)]
pub enum DirectoryFault {
    /// It was made for someone else.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Which of the identity's words differs
        what: Word,
        /// and how it reads there
        there: String,
        /// and here.
        here: String,
    },
    /// A shard's directory has gone.
    Gone {
        /// That directory.
        path: PathBuf,
    },
    /// A later version made it.
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Another process uses it.
    InUse {
        /// The directory.
        path: PathBuf,
        /// That process, as it wrote itself down.
        process: String,
    },
    /// It has content but no readable identity.
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    System {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// A word of the identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// The node's id.
    Node,
    /// How many shards.
    Shards,
    /// How many partitions.
    Partitions,
    /// The digest of the cluster's other keys.
    Cluster,
}

impl fmt::Display for DirectoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryFault::Foreign { path, what, there, here } => {
                let path = path.display();
                match what {
                    Word::Node => write!(f, "{path}: belongs to node {there}, this is node {here}"),
                    Word::Shards => write!(f, "{path}: was made with {there} shards, not {here}"),
                    Word::Partitions => {
                        write!(f, "{path}: was made with {there} partitions, not {here}")
                    }
                    Word::Cluster => write!(
                        f,
                        "{path}: was made with other keys in [cluster] (digest {there}, not {here})"
                    ),
                }
            }
            DirectoryFault::Gone { path } => write!(f, "{}: has gone", path.display()),
            DirectoryFault::Newer { path, format } => write!(
                f,
                "{}: has format {format}, this program knows {FORMAT}; run the newer one",
                path.display()
            ),
            DirectoryFault::InUse { path, process } => {
                write!(f, "{}: in use by process {process}", path.display())
            }
            DirectoryFault::NotOurs { path, why } => {
                write!(f, "{}: not a data directory of ringraft: {why}", path.display())
            }
            DirectoryFault::System { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DirectoryFault {}

impl DataDirectory {
    /// Opens the directory for this identity, or makes it. `created` is what a new one says of its
    /// age, in seconds since the Unix epoch.
    pub fn open(
        path: &Path,
        identity: &Identity,
        created: u64,
    ) -> Result<DataDirectory, DirectoryFault> {
        let system = |error| DirectoryFault::System { path: path.to_owned(), error };
        fs::create_dir_all(path).map_err(system)?;
        match read_identity(path)? {
            Some(written) => check(path, &written, identity)?,
            None => check_empty(path)?,
        }
        let lock = take_lock(path)?;
        // Another process may have made it its own between the look and the lock.
        let incarnation = match read_identity(path)? {
            Some(written) => {
                check(path, &written, identity)?;
                written.incarnation()
            }
            None => {
                // Before the identity, so that a directory with one has had them.
                for shard in shard_directories(path, identity.shards) {
                    fs::create_dir_all(shard).map_err(system)?;
                }
                write_identity(path, identity, created).map_err(system)?
            }
        };
        Ok(DataDirectory { path: path.to_owned(), incarnation, _lock: lock })
    }

    /// What the directory was made with; `None` when it is yet to be made.
    pub fn founded(path: &Path) -> Result<Option<Founded>, DirectoryFault> {
        let written = read_identity(path)?;
        Ok(written.map(|Written { shards, partitions, .. }| Founded { shards, partitions }))
    }

    /// Drawn when the directory was made: the same node with another one has forgotten what this
    /// one promised.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The identity file as written. Unknown keys are a newer program's, whose format is higher.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    node: u32,
    cluster: String,
    shards: u16,
    partitions: u32,
    created: u64,
    /// Drawn when it was made, hexadecimal; directories from before there were peers have none.
    #[serde(default)]
    incarnation: String,
}

impl Written {
    fn incarnation(&self) -> u64 {
        u64::from_str_radix(&self.incarnation, 16).unwrap_or(self.created)
    }
}

/// Just what tells whether the rest can be understood.
#[derive(Deserialize)]
struct WrittenFormat {
    format: u32,
}

/// The identity, if there is one.
fn read_identity(path: &Path) -> Result<Option<Written>, DirectoryFault> {
    let file = path.join(IDENTITY);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirectoryFault::System { path: file, error }),
    };
    let unreadable = |error: toml::de::Error| DirectoryFault::NotOurs {
        path: path.to_owned(),
        why: format!("{IDENTITY} cannot be read: {}", error.message()),
    };
    let WrittenFormat { format } = toml::from_str(&text).map_err(unreadable)?;
    if format > FORMAT {
        return Err(DirectoryFault::Newer { path: path.to_owned(), format });
    }
    toml::from_str(&text).map(Some).map_err(unreadable)
}

/// Whether the directory is this node's, and whole.
fn check(path: &Path, written: &Written, identity: &Identity) -> Result<(), DirectoryFault> {
    let Identity { node, cluster, shards, partitions } = identity;
    let words = [
        (Word::Node, written.node.to_string(), node.to_string()),
        (Word::Shards, written.shards.to_string(), shards.to_string()),
        (Word::Partitions, written.partitions.to_string(), partitions.to_string()),
        (Word::Cluster, written.cluster.clone(), digest(*cluster)),
    ];
    if let Some((what, there, here)) = words.into_iter().find(|(_, there, here)| there != here) {
        return Err(DirectoryFault::Foreign { path: path.to_owned(), what, there, here });
    }
    match shard_directories(path, *shards).find(|shard| !shard.is_dir()) {
        Some(path) => Err(DirectoryFault::Gone { path }),
        None => Ok(()),
    }
}

fn shard_directories(path: &Path, shards: u16) -> impl Iterator<Item = PathBuf> {
    (0..shards).map(|shard| shard_directory(path, ShardId(shard)))
}

/// A directory without identity may hold nothing but what we or the filesystem put there first.
fn check_empty(path: &Path) -> Result<(), DirectoryFault> {
    let system = |error| DirectoryFault::System { path: path.to_owned(), error };
    for entry in fs::read_dir(path).map_err(system)? {
        let entry = entry.map_err(system)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // A first start that ended early leaves directories with nothing in them.
        let is_blank = || {
            let mut inside = fs::read_dir(entry.path()).into_iter().flatten();
            name.starts_with("shard-") && entry.path().is_dir() && inside.next().is_none()
        };
        if ![LOCK, IDENTITY, IDENTITY_NEW, "lost+found"].contains(&name.as_ref()) && !is_blank() {
            let why = format!("it has no {IDENTITY}, but there is {name}");
            return Err(DirectoryFault::NotOurs { path: path.to_owned(), why });
        }
    }
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, DirectoryFault> {
    let file = path.join(LOCK);
    let system = |error| DirectoryFault::System { path: path.join(LOCK), error };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut lock = options.open(&file).map_err(system)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let process = fs::read_to_string(&file).unwrap_or_default();
            let process = match process.trim() {
                "" => "unknown".to_owned(),
                process => process.to_owned(),
            };
            return Err(DirectoryFault::InUse { path: path.to_owned(), process });
        }
        Err(error) => return Err(system(error.into())),
    }
    lock.set_len(0).map_err(system)?;
    writeln!(lock, "{}", std::process::id()).map_err(system)?;
    Ok(lock)
}

/// Whole or not at all: written beside, synced, renamed.
/// The incarnation that it drew.
fn write_identity(path: &Path, identity: &Identity, created: u64) -> io::Result<u64> {
    let incarnation = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let written = Written {
        format: FORMAT,
        node: identity.node.0,
        cluster: digest(identity.cluster),
        shards: identity.shards,
        partitions: identity.partitions,
        created,
        incarnation: digest(incarnation),
    };
    let text = toml::to_string(&written).map_err(io::Error::other)?;
    let beside = path.join(IDENTITY_NEW);
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path.join(IDENTITY))?;
    sync_directory(path)?;
    Ok(incarnation)
}

fn digest(cluster: u64) -> String {
    format!("{cluster:016x}")
}

const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";
const LOCK: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = Identity { node: NodeId(1), cluster: 0xfeed, shards: 2, partitions: 8 };

    #[test]
    fn a_directory_is_made_once_and_opened_by_its_owner() {
        let data = tempfile::tempdir().expect("a directory");
        let path = data.path().join("new");
        drop(DataDirectory::open(&path, &OURS, 5).expect("made"));
        let text = fs::read_to_string(path.join(IDENTITY)).expect("an identity");
        let opened = DataDirectory::open(&path, &OURS, 9).expect("opened");
        assert_eq!(opened.path(), path);
        assert_eq!(fs::read_to_string(path.join(IDENTITY)).expect("an identity"), text);
        assert!(text.contains("created = 5"), "{text}");
    }

    #[test]
    fn others_are_told_whose_it_is() {
        let data = tempfile::tempdir().expect("a directory");
        drop(DataDirectory::open(data.path(), &OURS, 5).expect("made"));
        let others = [
            (Identity { node: NodeId(2), ..OURS }, "belongs to node 1, this is node 2"),
            (Identity { cluster: 1, ..OURS }, "digest 000000000000feed, not"),
            (Identity { shards: 4, ..OURS }, "was made with 2 shards, not 4"),
            (Identity { partitions: 4, ..OURS }, "was made with 8 partitions, not 4"),
        ];
        for (other, words) in others {
            let fault = DataDirectory::open(data.path(), &other, 5).expect_err("not theirs");
            assert!(fault.to_string().contains(words), "{fault}");
        }
        let newer = "format = 2\nnodes = [1]\n";
        fs::write(data.path().join(IDENTITY), newer).expect("written");
        let fault = DataDirectory::open(data.path(), &OURS, 5).expect_err("newer");
        assert!(fault.to_string().contains("has format 2"), "{fault}");
        assert_eq!(fs::read_to_string(data.path().join(IDENTITY)).expect("it"), newer);
    }

    #[test]
    fn it_tells_what_it_was_made_with_and_misses_a_shard() {
        let data = tempfile::tempdir().expect("a directory");
        assert_eq!(DataDirectory::founded(data.path()).expect("readable"), None);
        // A first start that ended before it had written who it is.
        fs::create_dir(data.path().join("shard-0")).expect("made");
        drop(DataDirectory::open(data.path(), &OURS, 5).expect("made"));
        let founded = DataDirectory::founded(data.path()).expect("readable");
        assert_eq!(founded, Some(Founded { shards: 2, partitions: 8 }));
        fs::remove_dir(data.path().join("shard-1")).expect("removed");
        let fault = DataDirectory::open(data.path(), &OURS, 5).expect_err("not whole");
        assert!(fault.to_string().ends_with("shard-1: has gone"), "{fault}");
    }

    #[test]
    fn one_process_at_a_time_and_only_where_it_belongs() {
        let data = tempfile::tempdir().expect("a directory");
        let first = DataDirectory::open(data.path(), &OURS, 5).expect("made");
        let fault = DataDirectory::open(data.path(), &OURS, 5).expect_err("in use");
        let words = format!("in use by process {}", std::process::id());
        assert!(fault.to_string().contains(&words), "{fault}");
        drop(first);
        drop(DataDirectory::open(data.path(), &OURS, 5).expect("free again"));

        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("thesis.tex"), "").expect("written");
        let fault = DataDirectory::open(home.path(), &OURS, 5).expect_err("not ours");
        assert!(fault.to_string().contains("there is thesis.tex"), "{fault}");
        assert!(!home.path().join(LOCK).exists(), "it was touched");
    }
}
