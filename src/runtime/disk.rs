//! The disk of one shard: carries out the journal's orders and says how far they are durable.
//!
//! It lives on its shard's core inside the executor. Blocks go out as durable writes, up to four at
//! a time, and complete in any order; what is told is the highest mark with none missing below it.
//! Segments are made ready by `prepare.rs` on a thread of its own, ahead of need; a block whose
//! segment is not ready yet waits here. A short or failed write ends the process with its reason
//! (design decision 8). A full disk does not: it shows as `Harvest::full`, while the segment at
//! hand still has its space, so that the shard can refuse what would grow it.
//!
//! ```text
//! pump:  journal.seal(&mut orders);  disk.obey(&mut orders);
//!        bell.rung().await  ->  disk.harvest()  ->  journal.durable(mark), journal.recycle(buffer)
//! ```
//!
//! Absent on purpose: formats and decisions (`journal/`), retries, reads of a journal in use.

use crate::{
    id::{Mark, ShardId},
    journal::{Aligned, Block, Layout, Order, SegmentBytes, segment},
    runtime::{
        fatal::{Reason, fatal},
        prepare::{self, Done, Job, Preparer},
        ring::{Landed, Ring},
    },
};
use bytes::Bytes;
use futures_lite::AsyncReadExt as _;
use glommio::net::UnixStream;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    rc::Rc,
};

/// One shard's disk.
pub struct Disk {
    directory: PathBuf,
    ring: Ring,
    preparer: Preparer,
    /// Segments asked for and not ready.
    opening: usize,
    files: BTreeMap<u64, Rc<File>>,
    /// Blocks not yet with the kernel.
    waiting: VecDeque<Block>,
    /// Marks not yet durable in order, with whether their write is done.
    marks: VecDeque<(Mark, bool)>,
    backlog_bytes: usize,
    /// What a harvest gathers; kept for its room.
    landed: Vec<Landed>,
    full: bool,
    written: u64,
    written_bytes: u64,
    #[cfg(debug_assertions)]
    slow: super::faults::SlowDisk,
}

/// Tells that a harvest is worthwhile.
pub struct Bell(UnixStream);

/// What came of orders since the last harvest.
#[derive(Default, Debug)]
pub struct Harvest {
    /// Every block up to here is on disk, when that moved.
    pub durable: Option<Mark>,
    /// Whether there is no space for the next segment: writes are to be refused until there is.
    pub full: bool,
    /// Memory of blocks that are written, for `Journal::recycle`.
    pub buffers: Vec<Aligned>,
}

/// Why a shard's journal cannot be opened.
#[derive(Debug)]
pub struct DiskFault {
    /// The file or directory.
    pub path: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DiskFault { path, what, error } = self;
        write!(f, "{}: cannot {what}: {error}", path.display())?;
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                write!(f, "; a start needs space for a segment of its own, the first start for two")
            }
            io::ErrorKind::Unsupported => write!(f, "; io_uring is needed"),
            io::ErrorKind::PermissionDenied if *what == RING => write!(
                f,
                "; io_uring is forbidden here, as in containers with the default seccomp profile"
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for DiskFault {}

/// The directory of a shard's journal within the data directory.
#[must_use]
pub fn shard_directory(data: &Path, shard: ShardId) -> PathBuf {
    data.join(format!("shard-{shard}"))
}

/// Reads every segment of a journal, and makes sure that what is read is durable: a process that
/// ended may have left bytes that the system knows and the device does not. Blocks for as long as
/// that takes; not for a running executor. A directory that is missing is made.
pub fn load(directory: &Path) -> Result<Vec<SegmentBytes>, DiskFault> {
    let fault = |what| move |error| DiskFault { path: directory.to_owned(), what, error };
    fs::create_dir_all(directory).map_err(fault("make the directory"))?;
    if let Some(parent) = directory.parent() {
        prepare::sync_directory(parent).map_err(fault("sync the directory above"))?;
    }
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory).map_err(fault("list the directory"))? {
        let entry = entry.map_err(fault("list the directory"))?;
        let Some(sequence) = entry.file_name().to_str().and_then(segment::sequence_of) else {
            continue;
        };
        let path = entry.path();
        let bytes = read(&path).map_err(|error| DiskFault { path, what: "read it", error })?;
        segments.push(SegmentBytes { sequence, bytes });
    }
    segments.sort_by_key(|segment| segment.sequence);
    Ok(segments)
}

fn read(path: &Path) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    file.sync_data()?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(length);
    file.read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

impl Disk {
    /// The disk for the journal in `directory`, which `load` has read, on the executor that calls.
    pub fn open(directory: &Path, layout: Layout) -> Result<(Disk, Bell), DiskFault> {
        let fault = |what| move |error| DiskFault { path: directory.to_owned(), what, error };
        let (ring, bell) = Ring::new().map_err(fault(RING))?;
        #[cfg(debug_assertions)]
        let ring_again = ring.ringer();
        let ringer = ring.ringer().map_err(fault("share a socket"))?;
        let preparer = prepare::start(directory.to_owned(), layout.segment_bytes, ringer)
            .map_err(fault("tidy the directory"))?;
        let disk = Disk {
            directory: directory.to_owned(),
            ring,
            preparer,
            opening: 0,
            files: BTreeMap::new(),
            waiting: VecDeque::new(),
            marks: VecDeque::new(),
            backlog_bytes: 0,
            landed: Vec::new(),
            full: false,
            written: 0,
            written_bytes: 0,
            #[cfg(debug_assertions)]
            slow: super::faults::SlowDisk::new(ring_again),
        };
        Ok((disk, Bell(bell)))
    }

    /// Has no more than `most` blocks written at the same time, 1 to `WRITES_IN_FLIGHT_MAX`.
    pub fn limit_writes(&mut self, most: u16) {
        self.ring.limit(usize::from(most));
    }

    /// Takes the journal's orders, in order, and gives the kernel what it can have at once.
    pub fn obey(&mut self, orders: &mut Vec<Order>) {
        for order in orders.drain(..) {
            match order {
                Order::Open { sequence, header } => {
                    self.opening += 1;
                    self.ask(Job::Open { sequence, header });
                }
                Order::Write(block) => {
                    let last = self.marks.back().map(|&(mark, _)| mark);
                    assert!(last.is_none_or(|last| last < block.mark), "{} again", block.mark);
                    self.marks.push_back((block.mark, false));
                    self.backlog_bytes += block.bytes;
                    self.waiting.push_back(block);
                }
                Order::Recycle { sequence } => {
                    self.files.remove(&sequence);
                    self.ask(Job::Recycle { sequence });
                }
            }
        }
        self.push();
    }

    /// Waits until the segments ordered so far are ready, or, on a full disk, `least` of them: at
    /// the start, when there is somebody to tell that the disk is too full to begin with.
    pub async fn prepared(&mut self, bell: &mut Bell, least: usize) -> Result<(), DiskFault> {
        let path = self.directory.clone();
        let fault = |error| DiskFault { path: path.clone(), what: "prepare its segments", error };
        loop {
            self.take_prepared();
            match (self.full, self.opening) {
                (true, _) if self.files.len() >= least => return Ok(()),
                (true, _) => return Err(fault(io::ErrorKind::StorageFull.into())),
                (false, 0) => return Ok(()),
                (false, _) => bell.rung().await.map_err(fault)?,
            }
        }
    }

    /// What came of it. Call it when the bell rang; calling it for nothing costs little.
    pub fn harvest(&mut self, into: &mut Harvest) {
        into.durable = None;
        self.take_prepared();
        let mut landed = std::mem::take(&mut self.landed);
        let reaped = self.ring.reap(|write| landed.push(write));
        self.demand(reaped, "completions cannot be had");
        #[cfg(debug_assertions)]
        self.slow.hold(&mut landed);
        for write in landed.drain(..) {
            into.buffers.push(self.land(write));
        }
        self.landed = landed;
        while let Some(&(mark, true)) = self.marks.front() {
            self.marks.pop_front();
            into.durable = Some(mark);
        }
        into.full = self.full;
        self.push();
    }

    /// Whether a harvest would bring something, as of now: looks into the kernel.
    pub fn has_landed(&mut self) -> bool {
        let landed = self.ring.has_landed();
        self.demand(landed, "completions cannot be had")
    }

    /// Bytes of blocks that are not on disk yet: what a shard admits depends on it.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// Writes that the kernel has.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.ring.in_flight() + self.held()
    }

    /// Writes that a test has take longer than they took.
    fn held(&self) -> usize {
        #[cfg(debug_assertions)]
        return self.slow.held();
        #[cfg(not(debug_assertions))]
        0
    }

    /// Blocks and bytes written since the start.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        (self.written, self.written_bytes)
    }

    /// Gives the kernel as many blocks as it may have, in order; one call for all of them.
    fn push(&mut self) {
        while self.ring.has_room_beside(self.held())
            && let Some(block) = self.waiting.front()
            && let Some(file) = self.files.get(&block.segment).map(Rc::clone)
            && let Some(block) = self.waiting.pop_front()
        {
            self.ring.write(file, block);
        }
        let submitted = self.ring.submit();
        self.demand(submitted, "a write cannot be submitted");
    }

    fn demand<T>(&self, done: io::Result<T>, what: &str) -> T {
        done.unwrap_or_else(|error| {
            let place = self.directory.display();
            fatal(Reason::Journal, &format!("{place}: {what}: {error}"))
        })
    }

    fn land(&mut self, Landed { block, result }: Landed) -> Aligned {
        if usize::try_from(result).ok() != Some(block.bytes) {
            let what = match result {
                0.. => format!("only {result} of {} bytes were written", block.bytes),
                error => io::Error::from_raw_os_error(-error).to_string(),
            };
            let path = self.directory.join(segment::name(block.segment));
            let (path, offset, mark) = (path.display(), block.offset, block.mark);
            fatal(Reason::Journal, &format!("{path}, offset {offset}, block {mark}: {what}"));
        }
        let marks = self.marks.iter_mut();
        for (_, done) in marks.filter(|(mark, _)| *mark == block.mark) {
            *done = true;
        }
        self.backlog_bytes -= block.bytes;
        self.written += 1;
        self.written_bytes += block.bytes as u64;
        block.buffer
    }

    fn take_prepared(&mut self) {
        while let Some(done) = self.preparer.next() {
            match done {
                Done::Ready { sequence, file } => {
                    self.full = false;
                    self.opening -= 1;
                    self.files.insert(sequence, Rc::new(file));
                }
                Done::Full => self.full = true,
                Done::Failed(what) => fatal(Reason::Journal, &what),
            }
        }
    }

    fn ask(&mut self, job: Job) {
        if !self.preparer.ask(job) {
            // It only ends after it said why, and that is fatal when it is heard.
            self.take_prepared();
            fatal(Reason::Journal, "the thread that prepares segments has ended");
        }
    }
}

impl Bell {
    /// Waits until something came of an order.
    pub async fn rung(&mut self) -> io::Result<()> {
        // All that lies there is drained at once, so that many completions wake once.
        let mut bytes = [0; 64];
        match self.0.read(&mut bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

const RING: &str = "set up a ring";

#[cfg(test)]
mod tests;
