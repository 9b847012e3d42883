//! A sweep: the rate goes up until the p99 breaks its bound. The last rate that kept it is the knee.
//!
//! Rates grow by a factor until the first that fails, then the gap is halved a few times, so that
//! the knee is known to a few percent. Pure: whoever calls runs the steps.

use serde::{Deserialize, Serialize};

use super::report::Report;

/// What a sweep has measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// The bound on the p99, microseconds.
    pub bound_us: f64,
    /// The steps, by the rate that was asked for.
    pub steps: Vec<Report>,
}

/// How a sweep goes.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// The first rate.
    pub from: f64,
    /// The last one, whatever happens.
    pub most: f64,
    /// By how much it grows.
    pub factor: f64,
    /// How often the gap is halved.
    pub halvings: u32,
}

impl Sweep {
    /// Whether a step kept the bound, and did what was asked of it.
    #[must_use]
    pub fn kept(&self, step: &Report) -> bool {
        let asked = step.settings.rate.unwrap_or(0.0);
        step.is_sound()
            && step.counts.unanswered == 0
            && step.latency_us.p99 <= self.bound_us
            && step.calls_per_second >= asked * ANSWERED_SHARE
    }

    /// The rate to try next; `None` when the knee is known.
    #[must_use]
    pub fn next(&self, course: &Course) -> Option<f64> {
        let rates = |kept: bool| {
            let of = self.steps.iter().filter(move |step| self.kept(step) == kept);
            of.map(|step| step.settings.rate.unwrap_or(0.0))
        };
        let best = rates(true).fold(0.0, f64::max);
        let broke = rates(false).fold(f64::INFINITY, f64::min);
        if self.steps.is_empty() {
            return Some(course.from);
        }
        if best == 0.0 || best >= course.most {
            return None;
        }
        if broke.is_infinite() {
            return Some((best * course.factor).min(course.most));
        }
        let wide = course.from * (course.factor - 1.0) / 2f64.powi(course.halvings as i32);
        let narrow = best * (course.factor - 1.0) / 2f64.powi(course.halvings as i32);
        (broke - best > narrow.max(wide) * 1.001).then_some((best + broke) / 2.0)
    }

    /// Takes a step's report, in its place.
    pub fn take(&mut self, step: Report) {
        self.steps.push(step);
        let rate = |step: &Report| step.settings.rate.unwrap_or(0.0);
        self.steps.sort_by(|one, two| rate(one).total_cmp(&rate(two)));
    }

    /// The highest rate that kept the bound.
    #[must_use]
    pub fn knee(&self) -> Option<f64> {
        let kept = self.steps.iter().filter(|step| self.kept(step));
        kept.filter_map(|step| step.settings.rate).reduce(f64::max)
    }
}

/// A rate of which less is answered in its time was too much.
const ANSWERED_SHARE: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    /// A server that keeps the bound up to a rate.
    fn knee_of(most_kept: f64, course: &Course) -> (Option<f64>, usize) {
        let mut sweep = Sweep { bound_us: 1_000.0, steps: Vec::new() };
        while let Some(rate) = sweep.next(course) {
            let p99 = if rate <= most_kept { 500 } else { 5_000 };
            let mut step = report(&[p99; 100], 1.0);
            step.settings.rate = Some(rate);
            step.calls_per_second = rate;
            sweep.take(step);
            assert!(sweep.steps.len() < 60, "it ends");
        }
        (sweep.knee(), sweep.steps.len())
    }

    #[test]
    fn the_knee_is_found_to_a_few_percent() {
        let course = Course { from: 1_000.0, most: 1e7, factor: 2.0, halvings: 3 };
        for most in [1_000.0, 37_000.0, 600_000.0] {
            let (knee, steps) = knee_of(most, &course);
            let knee = knee.expect("the first rate is kept");
            assert!(knee <= most && knee > most * 0.85, "{knee} for {most} in {steps} steps");
        }
    }

    #[test]
    fn it_ends_at_both_ends() {
        let course = Course { from: 1_000.0, most: 8_000.0, factor: 2.0, halvings: 3 };
        assert_eq!(knee_of(10.0, &course), (None, 1));
        assert_eq!(knee_of(1e9, &course), (Some(8_000.0), 4));
    }

    #[test]
    fn what_is_not_answered_in_time_is_not_kept() {
        let sweep = Sweep { bound_us: 1_000.0, steps: Vec::new() };
        let mut step = report(&[100; 50], 1.0);
        step.settings.rate = Some(100.0);
        assert!(!sweep.kept(&step), "half of it");
        step.settings.rate = Some(50.0);
        assert!(sweep.kept(&step));
        step.wrong.push("no".to_owned());
        assert!(!sweep.kept(&step));
    }
}
