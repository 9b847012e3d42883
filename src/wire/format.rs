//! Which formats of bundles and snapshots a program speaks, and which one a link does.
//!
//! # Decisions
//!
//! A format is one number for everything that crosses a link after the greeting. A program speaks
//! all from its oldest to its newest and both sides say theirs first (`hello.rs`); the link speaks
//! the highest that both know, and two that have none in common refuse each other with the reason.
//! Each frame says the format that it is in (`bundle.rs`), because a shard may seal one before it
//! hears that its peer came back with another program: the link drops what one side does not know.
//!
//! A field that a reader may miss without harm needs no new format: older programs skip it. What a
//! reader must understand is sent only in a new format, and the program that brings it goes on
//! speaking the one before, so that nodes are upgraded one after another. Greetings change only by
//! fields that may be missed: they must be read before anything is agreed.
//!
//! There is one format so far. That several work together is shown by the simulator, whose nodes
//! may run a program with one format more (`sim/tomorrow.rs`). Absent on purpose: what stands in
//! the log. Every member reads that, whatever link brought it; a new kind of entry waits until all
//! members speak a format that has it.

use std::fmt;

/// The formats that this program speaks.
pub const FORMATS: Formats = Formats::new(1, 1);

/// Formats from an oldest to a newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Formats {
    oldest: u32,
    newest: u32,
}

impl Formats {
    /// All from `oldest` to `newest`.
    #[must_use]
    pub const fn new(oldest: u32, newest: u32) -> Formats {
        assert!(0 < oldest && oldest <= newest && newest <= FORMAT_MAX, "formats are no range");
        Formats { oldest, newest }
    }

    /// What a peer says that it speaks; `None` when that is no range. Its newest may be past what
    /// fits a frame here.
    #[must_use]
    pub fn said(oldest: u32, newest: u32) -> Option<Formats> {
        (0 < oldest && oldest <= newest).then_some(Formats { oldest, newest })
    }

    /// The oldest of them.
    #[must_use]
    pub const fn oldest(self) -> u32 {
        self.oldest
    }

    /// The newest of them.
    #[must_use]
    pub const fn newest(self) -> u32 {
        self.newest
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, format: u32) -> bool {
        self.oldest <= format && format <= self.newest
    }

    /// What a link between two that speak these carries: frames in any that both know. It speaks
    /// the newest of them.
    #[must_use]
    pub fn common(self, other: Formats) -> Option<Formats> {
        Formats::said(self.oldest.max(other.oldest), self.newest.min(other.newest))
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "format {}", self.newest)
        } else {
            write!(f, "formats {} to {}", self.oldest, self.newest)
        }
    }
}

/// A frame has one octet for it.
pub const FORMAT_MAX: u32 = u8::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_speaks_the_highest_that_both_know() {
        let cases = [
            ((1, 1), (1, 1), Some(1)),
            ((1, 2), (1, 1), Some(1)),
            ((1, 2), (2, 3), Some(2)),
            ((1, 3), (2, 2), Some(2)),
            ((1, 1), (2, 2), None),
            ((1, 2), (3, 4), None),
        ];
        for ((oldest, newest), other, common) in cases {
            let (one, other) = (Formats::new(oldest, newest), Formats::new(other.0, other.1));
            assert_eq!(one.common(other).map(Formats::newest), common, "{one}, {other}");
            assert_eq!(other.common(one), one.common(other));
        }
    }

    #[test]
    fn what_is_no_range_is_not_taken() {
        assert_eq!(Formats::said(0, 1), None);
        assert_eq!(Formats::said(3, 2), None);
        assert_eq!(Formats::said(2, 9999).map(Formats::newest), Some(9999));
    }
}
