//! An allocator that counts for the thread that asks, and says who allocated when that is wanted.
//!
//! A count is exact and the same in every run, on whatever machine, which no time is. Freed memory
//! is not counted: a path that allocates nothing frees nothing. Who allocated is told by a stack's
//! innermost function of this program or of raft-rs, in whichever of its inlined frames.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};

/// The system's allocator, counting.
pub struct Counting;

/// What was allocated: a growing buffer counts each time it grows, with the octets that it got.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Allocated {
    /// How often.
    pub times: u64,
    /// How many octets.
    pub bytes: u64,
}

impl Sub for Allocated {
    type Output = Allocated;

    fn sub(self, before: Allocated) -> Allocated {
        Allocated { times: self.times - before.times, bytes: self.bytes - before.bytes }
    }
}

impl AddAssign for Allocated {
    fn add_assign(&mut self, more: Allocated) {
        self.times += more.times;
        self.bytes += more.bytes;
    }
}

/// What this thread has allocated since it began.
pub fn allocated() -> Allocated {
    Allocated { times: TIMES.get(), bytes: BYTES.get() }
}

/// Who allocated how often and how much in `call`, on this thread. Slow: it walks the stack each
/// time.
pub fn sites(call: impl FnOnce()) -> BTreeMap<String, Allocated> {
    SITES.take();
    WALKS.set(true);
    call();
    WALKS.set(false);
    SITES.take()
}

thread_local! {
    static TIMES: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static WALKS: Cell<bool> = const { Cell::new(false) };
    static SITES: RefCell<BTreeMap<String, Allocated>> = const { RefCell::new(BTreeMap::new()) };
}

/// `grown` is how many octets were added. Threads that are ending count nothing.
fn note(grown: usize) {
    let _ = TIMES.try_with(|times| times.set(times.get() + 1));
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + grown as u64));
    if WALKS.try_with(|walks| walks.replace(false)).unwrap_or(false) {
        let who = innermost(&Backtrace::force_capture().to_string());
        let one = Allocated { times: 1, bytes: grown as u64 };
        let _ = SITES.try_with(|sites| *sites.borrow_mut().entry(who).or_default() += one);
        WALKS.set(true);
    }
}

/// The innermost function in a stack's text that is this program's or raft-rs's.
fn innermost(stack: &str) -> String {
    let names = stack.lines().filter_map(|line| line.trim_start().split_once(": "));
    let mut names = names.filter(|(number, _)| number.bytes().all(|it| it.is_ascii_digit()));
    let ours = names.find(|(_, name)| {
        let name = name.trim_start_matches(['<', '&']);
        name.starts_with("ringraft::") || name.starts_with("raft")
    });
    ours.map_or_else(|| "others".to_owned(), |(_, name)| name.to_owned())
}

// SAFETY: every call goes to the system's allocator as it came, which keeps the contract; counting
// allocates nothing itself but while it walks a stack, and then it does not count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size.saturating_sub(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}
