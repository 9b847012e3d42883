//! What was said of peers lately, so that what goes on for hours is a line a minute and not one for
//! each try of each core.
//!
//! Absent on purpose: a count of what was left out; links tell what they do in metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the cores of a node.
#[derive(Default, Debug)]
pub struct Told {
    lines: Mutex<BTreeMap<String, Instant>>,
}

impl Told {
    /// Whether a line is to be said now: it was not, for a while.
    pub fn is_news(&self, line: &str) -> bool {
        let now = Instant::now();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, at| now - *at < QUIET);
        if lines.contains_key(line) || lines.len() >= LINES_MAX {
            return false;
        }
        lines.insert(line.to_owned(), now);
        true
    }

    /// What was wrong has passed: when it comes back, that is news.
    pub fn passed(&self, line: &str) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(line);
    }
}

/// How long a line is not said again.
const QUIET: Duration = Duration::from_secs(60);

/// Lines that are remembered. A node whose peers fail in more ways than that has said enough.
const LINES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_once_until_it_has_passed() {
        let told = Told::default();
        assert!(told.is_news("a") && told.is_news("b"));
        assert!(!told.is_news("a"));
        told.passed("a");
        assert!(told.is_news("a") && !told.is_news("b"));
    }

    #[test]
    fn strangers_do_not_fill_the_memory() {
        let told = Told::default();
        let said = (0..10_000).filter(|number| told.is_news(&number.to_string())).count();
        assert_eq!(said, LINES_MAX);
    }
}
