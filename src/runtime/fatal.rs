//! Ends of the process that nobody can do anything about from inside, an exit status each.
//!
//! A failed write or sync is final: after one the page cache lies, so it is not retried and the
//! other replicas have the data (design decision 8). Absent on purpose: unwinding; nothing that is
//! left to do may touch the disk again.

/// Why the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The journal could not be written or synced.
    Journal,
    /// The program is wrong: a panic of a core outside its partitions.
    Bug,
}

impl Reason {
    /// What the process exits with: of the table in `cli/mod.rs`, which `--help` prints.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            Reason::Journal => 5,
            Reason::Bug => 1,
        }
    }
}

/// Says why in one line and ends the process.
pub fn fatal(reason: Reason, what: &str) -> ! {
    eprintln!("ringraft: fatal: {what}");
    std::process::exit(reason.status());
}
