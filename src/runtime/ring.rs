//! The io_uring ring of one shard's disk, and the only unsafe code of the disk.
//!
//! It lives on its shard's thread beside glommio's own rings, from `Disk::open` to the end of the
//! executor. A write is submitted with RWF_DSYNC and hard-linked to a one-byte send into a socket
//! pair whose other end glommio awaits: the completion wakes the executor as any socket does, with
//! no helper thread and no polling. The link is hard so that a failed write rings too; a ring that
//! is full already has unread bytes in it, so a refused send loses nothing.
//!
//! glommio's DmaFile needs a write and an fdatasync, 76 µs of CPU a sync against 20 here with four
//! in flight, and a third of the syncs (notes/field-notes.md D.6).

#![allow(unsafe_code)]

use crate::{journal::Block, limits::WRITES_IN_FLIGHT_MAX};
use glommio::net::UnixStream;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::{io::ReadWriteFlags, net::SendFlags};
use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, IntoRawFd},
        unix::net::UnixStream as Socket,
    },
    rc::Rc,
};

/// Durable writes in flight, at most `WRITES_IN_FLIGHT_MAX`.
pub(super) struct Ring {
    ring: IoUring,
    slots: [Option<Flying>; WRITES_IN_FLIGHT_MAX],
    /// How many of the slots may be used, at least one.
    writes_max: usize,
    flying: usize,
    unsubmitted: bool,
    ringer: Socket,
    bell_flags: squeue::Flags,
}

/// What the kernel reads from until the write completes.
struct Flying {
    block: Block,
    /// Open for as long as the kernel may write to it.
    file: Rc<File>,
}

/// A write that ended.
pub(super) struct Landed {
    pub block: Block,
    /// Bytes written, or a negative error number.
    pub result: i32,
}

impl Ring {
    /// A ring, and the end of its bell that an executor of this thread awaits. `ringer` gives other
    /// threads a way to ring too.
    pub fn new() -> io::Result<(Ring, UnixStream)> {
        // Completions are posted when this thread enters the kernel, which glommio does to sleep:
        // no interrupt of a busy core. Kernels before 6.0 do not know the first flag.
        let entries = 4 * WRITES_IN_FLIGHT_MAX as u32;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .build(entries)
            .or_else(|_| IoUring::new(entries))?;
        let (bell, ringer) = Socket::pair()?;
        bell.set_nonblocking(true)?;
        ringer.set_nonblocking(true)?;
        // SAFETY: `into_raw_fd` gives up the descriptor, so the new stream is its only owner, and
        // it is an open, connected Unix stream socket.
        let bell = unsafe { UnixStream::from_raw_fd(bell.into_raw_fd()) };
        let slots = [const { None }; WRITES_IN_FLIGHT_MAX];
        // The bell's own completions tell nothing and may come late and in heaps, when writes run
        // on the kernel's workers; they would push those of writes out of the queue.
        let bell_flags = match ring.params().is_feature_skip_cqe_on_success() {
            true => squeue::Flags::SKIP_SUCCESS,
            false => squeue::Flags::empty(),
        };
        let (flying, unsubmitted) = (0, false);
        Ok((
            Ring {
                ring,
                slots,
                writes_max: WRITES_IN_FLIGHT_MAX,
                flying,
                unsubmitted,
                ringer,
                bell_flags,
            },
            bell,
        ))
    }

    /// Another handle on the bell's far end: a byte written to it wakes the executor.
    pub fn ringer(&self) -> io::Result<Socket> {
        self.ringer.try_clone()
    }

    /// Lets no more than `most` writes be in flight.
    pub fn limit(&mut self, most: usize) {
        assert!((1..=WRITES_IN_FLIGHT_MAX).contains(&most), "{most} writes cannot be in flight");
        self.writes_max = most;
    }

    /// Whether one more may fly beside those and so many others.
    pub fn has_room_beside(&self, others: usize) -> bool {
        self.flying + others < self.writes_max
    }

    pub fn in_flight(&self) -> usize {
        self.flying
    }

    /// Queues the durable write of a block; `submit` hands it to the kernel.
    pub fn write(&mut self, file: Rc<File>, block: Block) {
        assert!(self.has_room_beside(0), "{} writes are in flight", self.flying);
        let slot = self.slots.iter().position(Option::is_none).expect("there is room");
        let (fd, offset) = (types::Fd(file.as_raw_fd()), block.offset);
        let bytes = block.as_bytes();
        let (start, length) = (bytes.as_ptr(), bytes.len() as u32);
        let write = opcode::Write::new(fd, start, length)
            .offset(offset)
            .rw_flags(ReadWriteFlags::DSYNC.bits() as i32)
            .build()
            .user_data(slot as u64)
            .flags(squeue::Flags::IO_HARDLINK);
        let ring = opcode::Send::new(types::Fd(self.ringer.as_raw_fd()), BYTE.as_ptr(), 1)
            .flags(SendFlags::DONTWAIT.bits() as i32)
            .build()
            .user_data(BELL)
            .flags(self.bell_flags);
        // Moving block and file moves neither the heap memory that `start` points to nor the
        // descriptor.
        self.slots[slot] = Some(Flying { block, file });
        self.flying += 1;
        self.unsubmitted = true;
        // SAFETY: the write reads `length` bytes at `start`, which the block in the slot owns and
        // nobody can reach to change, grow or free before `reap` takes it out on completion; `drop`
        // leaks it while it is in flight. The file in the slot and the socket in `self` keep their
        // descriptors open as long; `drop` leaks the first and the ring holds a reference to the
        // second from submission on. The byte sent is static.
        unsafe { self.ring.submission().push_multiple(&[write, ring]) }
            .expect("the queue holds four times what may be in flight");
    }

    /// Hands what is queued to the kernel, in one call.
    pub fn submit(&mut self) -> io::Result<()> {
        while std::mem::take(&mut self.unsubmitted) {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.unsubmitted = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether something ended, as of now: the kernel says so only to a thread that enters it.
    pub fn has_landed(&mut self) -> io::Result<bool> {
        if self.ring.completion().is_empty() {
            self.unsubmitted = true;
            self.submit()?;
        }
        Ok(!self.ring.completion().is_empty())
    }

    /// Takes out the writes that ended since the last time.
    pub fn reap(&mut self, mut landed: impl FnMut(Landed)) -> io::Result<()> {
        loop {
            for completion in self.ring.completion() {
                if completion.user_data() == BELL {
                    continue;
                }
                let slot = completion.user_data() as usize;
                let Flying { block, file } = self.slots[slot].take().expect("a write in flight");
                drop(file);
                self.flying -= 1;
                landed(Landed { block, result: completion.result() });
            }
            // Once the queue has overflowed the kernel keeps everything back until it is asked.
            if !self.ring.submission().cq_overflow() {
                return Ok(());
            }
            self.unsubmitted = true;
            self.submit()?;
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // What cannot be reaped counts as in flight.
        let _ = self.reap(|_| {});
        // The kernel may still read from these; their memory is never given back.
        for flying in self.slots.iter_mut().filter_map(Option::take) {
            std::mem::forget(flying);
        }
    }
}

/// The completion of a bell's byte; slots are below.
const BELL: u64 = u64::MAX;
static BYTE: [u8; 1] = [1];
