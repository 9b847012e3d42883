//! What a run measures: latencies by verb and over time, and what else happened.
//!
//! Each generator thread has a `Meter` of its own and hands it over at the end; only the slices of
//! time are handed over as they end, for the progress line. Latencies are nanoseconds in HDR
//! histograms of three digits (slices: two), so that what several threads or hosts measured adds
//! up.

use hdrhistogram::Histogram;

use super::ask::Verb;

/// Latencies in nanoseconds.
pub type Latencies = Histogram<u64>;

/// What one thread measured.
#[derive(Debug)]
pub struct Meter {
    /// By verb, in the order of `Verb::ALL`.
    latencies: Vec<Option<Latencies>>,
    /// How late calls began that had nothing to wait for but this program.
    pub late: Latencies,
    /// The slice of time that is under way.
    slice: Latencies,
    slice_at: usize,
    /// Slices that ended, for whoever collects them.
    pub ended: Vec<(usize, Latencies)>,
    /// What else happened.
    pub counts: Counts,
}

/// What happened besides.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Calls answered in the measured time.
    pub done: u64,
    /// Times that a call was asked again.
    pub retried: u64,
    /// Answers that said no, as a lost race for a version.
    pub refused: u64,
    /// Calls that nobody answered in time.
    pub unanswered: u64,
    /// Connections that broke.
    pub broken: u64,
    /// Octets sent and received.
    pub sent_bytes: u64,
    /// Octets received.
    pub received_bytes: u64,
}

/// The longest latency that is told apart from longer ones: an hour.
const NS_MAX: u64 = 3_600_000_000_000;

/// A histogram of so many digits.
#[must_use]
pub fn latencies(digits: u8) -> Latencies {
    // The bounds are constants that the library takes.
    #[allow(clippy::unwrap_used)]
    let mut made = Histogram::new_with_bounds(64, NS_MAX, digits).unwrap();
    made.auto(false);
    made
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            latencies: vec![None; Verb::ALL.len()],
            late: latencies(3),
            slice: latencies(2),
            slice_at: 0,
            ended: Vec::new(),
            counts: Counts::default(),
        }
    }
}

impl Meter {
    /// A call of this verb took so long, and ended in the slice `slice`.
    #[inline]
    pub fn took(&mut self, verb: Verb, ns: u64, slice: usize) {
        let all = &mut self.latencies[verb as usize];
        all.get_or_insert_with(|| latencies(3)).saturating_record(ns);
        self.roll(slice);
        self.slice.saturating_record(ns);
        self.counts.done += 1;
    }

    /// Time has come to this slice.
    pub fn roll(&mut self, slice: usize) {
        if slice != self.slice_at {
            if !self.slice.is_empty() {
                let ended = std::mem::replace(&mut self.slice, latencies(2));
                self.ended.push((self.slice_at, ended));
            }
            self.slice_at = slice;
        }
    }

    /// What was measured of each verb.
    pub fn verbs(&self) -> impl Iterator<Item = (Verb, &Latencies)> {
        let all = Verb::ALL.into_iter().zip(&self.latencies);
        all.filter_map(|(verb, latencies)| Some((verb, latencies.as_ref()?)))
    }

    /// Adds what another thread measured.
    pub fn add(&mut self, other: &Meter) {
        for (mine, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            if let Some(theirs) = theirs {
                join(mine.get_or_insert_with(|| latencies(3)), theirs);
            }
        }
        join(&mut self.late, &other.late);
        self.counts.add(&other.counts);
    }
}

impl Counts {
    /// Adds those of another.
    pub fn add(&mut self, other: &Counts) {
        self.done += other.done;
        self.retried += other.retried;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.broken += other.broken;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
    }
}

/// Adds one histogram to another of the same bounds.
pub fn join(into: &mut Latencies, from: &Latencies) {
    for each in from.iter_recorded() {
        into.saturating_record_n(each.value_iterated_to(), each.count_at_value());
    }
}
