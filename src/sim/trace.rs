//! What happened, as one running number and, when asked for, as lines of text.
//!
//! The number covers every input and output of every turn with its bytes: two runs of one seed are
//! the same run exactly when their numbers are equal. Lines are made only when somebody reads them.

use crate::prng::mix;

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty record; with lines when `telling`.
    #[must_use]
    pub fn new(telling: bool) -> Trace {
        Trace { hash: 0, events: 0, lines: telling.then(Vec::new) }
    }

    /// Something happened that `number` names.
    pub fn note(&mut self, number: u64) {
        self.hash = mix(self.hash.rotate_left(5) ^ number);
        self.events += 1;
    }

    /// These bytes went in or came out.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.note((bytes.len() as u64) << 32 | u64::from(crc32c::crc32c(bytes)));
    }

    /// A line of the story, made only when somebody reads it.
    pub fn tell(&mut self, at_ns: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} {}", at_ns as f64 / 1e9, line()));
            if lines.len() > LINES_MAX {
                lines.drain(..LINES_MAX / 2);
            }
        }
    }

    /// The number of the run so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How much happened.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The story so far; the beginning of a very long one is gone.
    pub fn take_lines(&mut self) -> Vec<String> {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Lines of a story that are kept; the last ones tell why it ended.
const LINES_MAX: usize = 200_000;
