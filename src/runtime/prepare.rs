//! Has segments ready before they are needed, on a thread of its own.
//!
//! Filling a segment with zeros, syncing and renaming block for as long as the disk likes, so none
//! of it happens on a shard's core. A segment gets its name last: a file called `segment-…` always
//! has its whole size in written extents and a durable header. What does not go on:
//!
//! ```text
//! new-<seq>      being filled; removed at the next start
//! spare-<seq>    a recycled segment, old bytes inside; becomes the next segment that is opened
//! segment-<seq>  in the journal
//! reserve        space for the first segment of a start on a full disk, and for nothing else
//! ```
//!
//! When the disk is full it says so and tries again every second, or as soon as a segment is
//! recycled; the segment that is being written meanwhile has its space already. A start cannot go
//! on in a segment that it finds, so the space for its first is kept in reserve while the disk has
//! some: a node that is restarted on a full disk reads, and lets things be removed. One such thread
//! a shard, from the start of its disk until the disk is dropped.

use crate::{
    journal::{Aligned, segment},
    limits::{SECTOR_BYTES, SPARE_SEGMENTS_MAX},
};
use rustix::{
    fs::{FallocateFlags, OFlags, fallocate},
    thread::{CpuSet, sched_setaffinity},
};
use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        fs::{FileExt as _, OpenOptionsExt as _},
        net::UnixStream as Socket,
    },
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// What is to be done.
pub(super) enum Job {
    Open { sequence: u64, header: Aligned },
    Recycle { sequence: u64 },
}

/// What was done.
pub(super) enum Done {
    /// The segment can be written to.
    Ready { sequence: u64, file: File },
    /// There is no space for the next segment.
    Full,
    /// Something else went wrong, which is final.
    Failed(String),
}

/// The thread, seen from the shard.
pub(super) struct Preparer {
    /// `None` once it is to end.
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// Asks for something; false when the thread has ended, after it said why.
    pub fn ask(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// What was done since the last time.
    pub fn next(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

impl Drop for Preparer {
    /// Waits, so that nobody renames files any more when the next start looks at them.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the thread. It ends when the `Preparer` is dropped.
pub(super) fn start(
    directory: PathBuf,
    segment_bytes: usize,
    ringer: Socket,
) -> io::Result<Preparer> {
    let (jobs, todo) = mpsc::channel();
    let (done, results) = mpsc::channel();
    let (spares, reserve) = tidy(&directory, segment_bytes)?;
    let bench = Bench {
        directory,
        segment_bytes,
        ringer,
        done,
        spares,
        reserve,
        opening: VecDeque::new(),
        opened: 0,
        full: false,
    };
    let named = thread::Builder::new().name("ringraft-prepare".into());
    let thread = named.spawn(move || bench.run(&todo))?;
    Ok(Preparer { jobs: Some(jobs), done: results, thread: Some(thread) })
}

/// Opens a segment for durable writes, past the page cache where the filesystem lets us.
pub(super) fn open_for_writes(path: &Path) -> io::Result<File> {
    let direct = OFlags::DIRECT.bits() as i32;
    match OpenOptions::new().read(true).write(true).custom_flags(direct).open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            OpenOptions::new().read(true).write(true).open(path)
        }
        opened => opened,
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes what was never finished; lists what can be used again, and whether there is a reserve.
fn tidy(directory: &Path, segment_bytes: usize) -> io::Result<(Vec<PathBuf>, bool)> {
    let (mut spares, mut reserve) = (Vec::new(), false);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(NEW) {
            fs::remove_file(entry.path())?;
        } else if name.starts_with(SPARE) || name == RESERVE {
            // One of another size is from before the size was configured anew.
            if entry.metadata()?.len() != segment_bytes as u64 {
                fs::remove_file(entry.path())?;
            } else if name == RESERVE {
                reserve = true;
            } else {
                spares.push(entry.path());
            }
        }
    }
    Ok((spares, reserve))
}

struct Bench {
    directory: PathBuf,
    segment_bytes: usize,
    ringer: Socket,
    done: Sender<Done>,
    spares: Vec<PathBuf>,
    /// Whether there is one.
    reserve: bool,
    opening: VecDeque<(u64, Aligned)>,
    /// Segments opened since the start.
    opened: u64,
    full: bool,
}

impl Bench {
    fn run(mut self, todo: &Receiver<Job>) {
        // A thread starts on the core of its parent, which is the shard's and busy.
        let mut anywhere = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|core| anywhere.set(core));
        let _ = sched_setaffinity(None, &anywhere);
        loop {
            match self.next_job(todo) {
                Ok(Job::Open { sequence, header }) => self.opening.push_back((sequence, header)),
                Ok(Job::Recycle { sequence }) => {
                    if let Err(error) = self.recycle(sequence) {
                        return self.tell(Done::Failed(error));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.open_all() {
                return self.tell(Done::Failed(error));
            }
        }
    }

    /// Waits for something to do. The reserve is made when nothing is: a segment that is asked for
    /// may be the last that the disk has room for.
    fn next_job(&mut self, todo: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        if !self.opening.is_empty() {
            return todo.recv_timeout(AGAIN);
        }
        if !self.reserve {
            match todo.try_recv() {
                Ok(job) => return Ok(job),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => self.reserve = self.make_reserve().is_ok(),
            }
        }
        todo.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    /// Opens what is wanted, in order, until the disk is full.
    fn open_all(&mut self) -> Result<(), String> {
        while let Some((sequence, header)) = self.opening.front() {
            let sequence = *sequence;
            let ready = match self.spares.pop() {
                Some(spare) => self.reuse(&spare, sequence, header),
                None => match self.create(sequence, header) {
                    Err(error) if is_full(&error) && self.opened == 0 && self.reserve => {
                        self.reserve = false;
                        self.reuse(&self.directory.join(RESERVE), sequence, header)
                    }
                    created => created,
                },
            };
            match ready {
                Ok(file) => {
                    self.opening.pop_front();
                    self.opened += 1;
                    self.full = false;
                    self.tell(Done::Ready { sequence, file });
                }
                Err(error) if is_full(&error) => {
                    if !std::mem::replace(&mut self.full, true) {
                        self.tell(Done::Full);
                    }
                    return Ok(());
                }
                Err(error) => return Err(self.about(sequence, "cannot be prepared", &error)),
            }
        }
        Ok(())
    }

    fn reuse(&self, spare: &Path, sequence: u64, header: &Aligned) -> io::Result<File> {
        let file = open_for_writes(spare)?;
        file.write_all_at(&header.as_ref()[..SECTOR_BYTES], 0)?;
        self.name(&file, spare, sequence)?;
        Ok(file)
    }

    /// Takes the space for a segment and writes nothing: the extents are made written when they are
    /// used, which is slow and seldom. A system that has no space, or cannot promise it, keeps none
    /// in reserve; the next segment that is opened is the next time to try.
    fn make_reserve(&self) -> io::Result<()> {
        let path = self.directory.join(format!("{NEW}{RESERVE}"));
        let file = File::create(&path)?;
        let taken = fallocate(&file, FallocateFlags::empty(), 0, self.segment_bytes as u64);
        if let Err(error) = taken {
            drop(fs::remove_file(&path));
            return Err(error.into());
        }
        fs::rename(&path, self.directory.join(RESERVE))
    }

    fn create(&self, sequence: u64, header: &Aligned) -> io::Result<File> {
        let path = self.directory.join(format!("{NEW}{sequence:016x}"));
        drop(File::create(&path)?);
        let filled = self.fill(&path, header);
        if filled.is_err() {
            drop(fs::remove_file(&path));
        }
        let file = filled?;
        self.name(&file, &path, sequence)?;
        Ok(file)
    }

    /// Zeros from end to end: blocks allocated and extents written, so that no later write changes
    /// metadata. Allocating first fails at once when there is no space.
    fn fill(&self, path: &Path, header: &Aligned) -> io::Result<File> {
        let file = open_for_writes(path)?;
        let bytes = self.segment_bytes as u64;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        let zeros = Aligned::new(FILL_BYTES);
        let mut offset = 0;
        while offset < self.segment_bytes {
            let length = FILL_BYTES.min(self.segment_bytes - offset);
            file.write_all_at(&zeros.as_ref()[..length], offset as u64)?;
            offset += length;
        }
        file.write_all_at(&header.as_ref()[..SECTOR_BYTES], 0)?;
        Ok(file)
    }

    /// Makes the content durable, then the name.
    fn name(&self, file: &File, path: &Path, sequence: u64) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(path, self.directory.join(segment::name(sequence)))?;
        sync_directory(&self.directory)
    }

    fn recycle(&mut self, sequence: u64) -> Result<(), String> {
        let path = self.directory.join(segment::name(sequence));
        let spare = self.directory.join(format!("{SPARE}{sequence:016x}"));
        let about = |error| self.about(sequence, "cannot be recycled", &error);
        let bytes = fs::metadata(&path).map_err(about)?.len();
        if self.spares.len() >= SPARE_SEGMENTS_MAX || bytes != self.segment_bytes as u64 {
            return fs::remove_file(&path).map_err(about);
        }
        fs::rename(&path, &spare).map_err(about)?;
        self.spares.push(spare);
        Ok(())
    }

    fn tell(&mut self, done: Done) {
        // Nobody listens any more when the disk is dropped; a full bell is ringing already.
        drop(self.done.send(done));
        drop(self.ringer.write(&[1]));
    }

    fn about(&self, sequence: u64, what: &str, error: &io::Error) -> String {
        let path = self.directory.join(segment::name(sequence));
        format!("{} {what}: {error}", path.display())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

const NEW: &str = "new-";
const SPARE: &str = "spare-";
const RESERVE: &str = "reserve";
/// Small enough that blocks of the journal get their turn at the device in between.
const FILL_BYTES: usize = 256 << 10;
/// How long a full disk is left alone.
const AGAIN: Duration = Duration::from_secs(1);
