//! The results of a run, as a value that is printed, written, and added to others.
//!
//! `--json` is this value; so what `load merge` reads is what any run wrote. Histograms are in it as
//! the bytes of HdrHistogram's V2 format in base64, so nothing is lost between hosts. Latencies in
//! numbers are microseconds.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use super::Outcome;
use super::arrival::{Pace, Spread};
use super::ask::Verb;
use super::course::Ending;
use super::keys::Distribution;
use super::measure::{Counts, Latencies, join, latencies};
use super::plan::{Plan, Workload};

/// The results of a run, or of several.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The format of this value; grows when it changes.
    pub format: u32,
    /// Of this program.
    pub version: String,
    /// Seconds since 1970 when the run ended.
    pub ended_unix_s: u64,
    /// Where it ran: one line a host.
    pub hosts: Vec<String>,
    /// What was run.
    pub settings: Settings,
    /// How long was measured.
    pub seconds: f64,
    /// Calls answered in that time; events of streams are not calls.
    pub calls: u64,
    /// A second.
    pub calls_per_second: f64,
    /// All calls together.
    pub latency_us: Summary,
    /// By verb.
    pub verbs: Vec<VerbReport>,
    /// Over time.
    pub slices: Slices,
    /// How late the generator began calls that had nothing else to wait for. Open loops only.
    pub late_us: Option<Summary>,
    /// About the generator itself.
    pub generator: Generator,
    /// What else happened.
    pub counts: Counts,
    /// Answers that were wrong.
    pub wrong: Vec<String>,
    /// Why it ended early.
    pub ending: Option<String>,
    /// The last trouble that passed.
    pub trouble: Option<String>,
    /// It was interrupted.
    pub interrupted: bool,
}

/// What was run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The workload's name, with its mix.
    pub workload: String,
    /// What was driven.
    pub target: String,
    /// Where.
    pub addresses: Vec<String>,
    /// `open` or `closed`.
    pub pace: String,
    /// Of an open loop, of all hosts.
    pub rate: Option<f64>,
    /// `constant` or `poisson`, of an open loop.
    pub arrivals: Option<String>,
    /// Of a closed loop, of all hosts.
    pub in_flight: Option<usize>,
    /// Connections, of all hosts.
    pub connections: usize,
    /// Sessions, of all hosts.
    pub sessions: usize,
    /// Partitions.
    pub partitions: usize,
    /// Threads, of all hosts.
    pub threads: usize,
    /// Seconds before measuring.
    pub warmup_s: f64,
    /// Seconds of measuring.
    pub duration_s: f64,
    /// Octets of a value.
    pub value_bytes: usize,
    /// Keys, counters, locks or elections.
    pub keys: u64,
    /// How they were drawn.
    pub distribution: String,
    /// Where draws came from.
    pub seed: u64,
}

/// A distribution in a few numbers, microseconds.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Summary {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
}

/// What was measured of one verb.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VerbReport {
    /// Its name.
    pub verb: String,
    /// How many.
    pub count: u64,
    /// A second.
    pub per_second: f64,
    /// How long they took.
    pub latency_us: Summary,
    /// All of it: nanoseconds in HdrHistogram V2, base64.
    pub histogram: String,
}

/// What was measured over time.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Slices {
    /// How long each is.
    pub seconds_each: f64,
    /// Histograms as those of verbs, one a slice.
    pub histograms: Vec<String>,
}

/// About the generator itself.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Generator {
    /// The share of its time that the busiest thread ran.
    pub ran_share: f64,
    /// The share that a thread waited for a core.
    pub waited_share: f64,
    /// Microseconds of CPU for each call, those of the warm-up not counted as calls.
    pub cpu_us_per_call: f64,
    /// Why the limit that was found may be the generator's own; nothing when it is not.
    pub limit: Option<String>,
}

/// The format of reports.
const FORMAT: u32 = 1;

/// A thread that runs for more of its time than this does what it can.
const BUSY_SHARE: f64 = 0.90;

/// A thread that waits for a core for more than this is not alone on it.
const WAITED_SHARE: f64 = 0.10;

impl Report {
    /// The report of an outcome.
    #[must_use]
    pub fn of(outcome: &Outcome, host: String, version: &str, ended_unix_s: u64) -> Report {
        let seconds = outcome.measured.as_secs_f64();
        let verb = |(verb, latencies): (Verb, &Latencies)| VerbReport {
            verb: verb.name().to_owned(),
            count: latencies.len(),
            per_second: latencies.len() as f64 / seconds,
            latency_us: Summary::of(latencies),
            histogram: encode(latencies),
        };
        let verbs: Vec<VerbReport> = outcome.meter.verbs().map(verb).collect();
        let mut report = Report {
            format: FORMAT,
            version: version.to_owned(),
            ended_unix_s,
            hosts: vec![host],
            settings: Settings::of(&outcome.plan),
            seconds,
            calls: 0,
            calls_per_second: 0.0,
            latency_us: Summary::default(),
            verbs,
            slices: Slices {
                seconds_each: outcome.slice_ns as f64 / 1e9,
                histograms: outcome.slices.iter().map(encode).collect(),
            },
            late_us: matches!(outcome.plan.pace, Pace::Open { .. })
                .then(|| Summary::of(&outcome.meter.late)),
            generator: Generator {
                ran_share: outcome.ran_share,
                waited_share: outcome.waited_share,
                ..Generator::default()
            },
            counts: *super::counts(outcome),
            wrong: outcome.wrong.clone(),
            ending: outcome.ending.as_ref().map(Ending::to_string),
            trouble: outcome.trouble.clone(),
            interrupted: outcome.was_stopped,
        };
        report.sum_up();
        let calls = report.calls.max(1) as f64;
        report.generator.cpu_us_per_call = outcome.ran_ns as f64 / 1e3 / calls;
        report.generator.limit = report.limit();
        report
    }

    /// Works out what follows from the verbs.
    pub(super) fn sum_up(&mut self) {
        let all = self.all();
        self.calls = all.len();
        self.calls_per_second = all.len() as f64 / self.seconds;
        self.latency_us = Summary::of(&all);
    }

    /// All calls together. Events are no calls.
    #[must_use]
    pub fn all(&self) -> Latencies {
        let mut all = latencies(3);
        let calls = self.verbs.iter().filter(|verb| verb.verb != Verb::Event.name());
        calls
            .filter_map(|verb| decode(&verb.histogram).ok())
            .for_each(|each| join(&mut all, &each));
        all
    }

    /// Why the generator may be the limit.
    fn limit(&self) -> Option<String> {
        let Generator { ran_share, waited_share, .. } = self.generator;
        let percent = |share: f64| (share * 100.0).round();
        if ran_share > BUSY_SHARE {
            let share = percent(ran_share);
            return Some(format!(
                "its busiest thread ran {share} % of the time: give it more --threads or hosts"
            ));
        }
        if waited_share > WAITED_SHARE {
            let share = percent(waited_share);
            return Some(format!(
                "a thread waited for a core {share} % of the time: give it a core of its own"
            ));
        }
        let late = self.late_us?;
        (late.p99 > 100.0 && late.p99 > self.latency_us.p99 / 10.0).then(|| {
            format!(
                "one call in a hundred began more than {} late, which is in its latency",
                micros(late.p99)
            )
        })
    }

    /// The verdict in one word: what the process's exit status says.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty() && self.ending.is_none()
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        let s = &self.settings;
        let pace = match (s.rate, s.in_flight) {
            (Some(rate), _) => {
                let arrivals = s.arrivals.as_deref().unwrap_or_default();
                format!("open loop, {rate}/s, {arrivals}")
            }
            (None, in_flight) => format!("closed loop, {} in flight", in_flight.unwrap_or(0)),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} on {} · {pace} · {} connections, {} sessions, {} partitions",
            s.workload, s.target, s.connections, s.sessions, s.partitions
        );
        let _ = writeln!(
            out,
            "{:<10} {:>11} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "calls", "a second", "p50", "p90", "p99", "p99.9", "max"
        );
        let mut row = |name: &str, count: u64, rate: f64, l: &Summary| {
            let _ = writeln!(
                out,
                "{name:<10} {count:>11} {rate:>11.0} {:>9} {:>9} {:>9} {:>9} {:>9}",
                micros(l.p50),
                micros(l.p90),
                micros(l.p99),
                micros(l.p999),
                micros(l.max)
            );
        };
        for verb in &self.verbs {
            row(&verb.verb, verb.count, verb.per_second, &verb.latency_us);
        }
        if self.verbs.iter().filter(|verb| verb.verb != Verb::Event.name()).count() != 1 {
            row("all calls", self.calls, self.calls_per_second, &self.latency_us);
        }
        self.rest(&mut out);
        out
    }

    fn rest(&self, out: &mut String) {
        let Counts { retried, refused, unanswered, broken, .. } = self.counts;
        let happened = [
            (retried, "asked again"),
            (refused, "answered no"),
            (unanswered, "not answered"),
            (broken, "connections broken"),
        ];
        let happened: Vec<String> = happened
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !happened.is_empty() {
            let _ = writeln!(out, "besides    {}", happened.join(", "));
        }
        if let Some(trouble) = &self.trouble {
            let _ = writeln!(out, "trouble    {trouble}");
        }
        let g = &self.generator;
        let late = self.late_us.map_or_else(String::new, |late| {
            format!(", late p99 {} max {}", micros(late.p99), micros(late.max))
        });
        let _ = writeln!(
            out,
            "generator  {:.2} us of CPU a call, busiest thread {:.0} %{late}",
            g.cpu_us_per_call,
            g.ran_share * 100.0
        );
        if let Some(limit) = &g.limit {
            let _ = writeln!(out, "           the limit may be the generator: {limit}");
        }
        if self.interrupted && self.wrong.is_empty() && self.ending.is_none() {
            let _ = writeln!(out, "interrupted after {:.1} s", self.seconds);
        }
        for wrong in &self.wrong {
            let _ = writeln!(out, "WRONG      {wrong}");
        }
    }

    /// One line a verb, for spreadsheets.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut out = String::from(
            "workload,target,verb,count,per_second,mean_us,p50_us,p90_us,p99_us,p999_us,p9999_us,\
             max_us\n",
        );
        for verb in &self.verbs {
            let l = &verb.latency_us;
            let s = &self.settings;
            let _ = writeln!(
                out,
                "{},{},{},{},{:.1},{:.1},{:.1},{:.1},{:.1},{:.1},{:.1},{:.1}",
                s.workload,
                s.target,
                verb.verb,
                verb.count,
                verb.per_second,
                l.mean,
                l.p50,
                l.p90,
                l.p99,
                l.p999,
                l.p9999,
                l.max
            );
        }
        out
    }

    /// The percentile table that HdrHistogram's tools read; values in milliseconds.
    #[must_use]
    pub fn hgrm(&self) -> String {
        let all = self.all();
        let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
        let mut below = 0;
        for each in all.iter_quantiles(5) {
            below += each.count_since_last_iteration();
            let quantile = each.quantile_iterated_to();
            let value = each.value_iterated_to() as f64 / 1e6;
            let _ = write!(out, "{value:12.3} {quantile:2.12} {below:10}");
            if quantile < 1.0 {
                let _ = write!(out, " {:14.2}", 1.0 / (1.0 - quantile));
            }
            out.push('\n');
        }
        let (mean, deviation) = (all.mean() / 1e6, all.stdev() / 1e6);
        let _ = writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
        let max = all.max() as f64 / 1e6;
        let _ = writeln!(out, "#[Max     = {max:12.3}, Total count    = {:12}]", all.len());
        let _ = writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", 30, 2048);
        out
    }
}

impl Settings {
    fn of(plan: &Plan) -> Settings {
        let (pace, rate, arrivals, in_flight) = match plan.pace {
            Pace::Open { rate, spread } => {
                let spread = match spread {
                    Spread::Constant => "constant",
                    Spread::Poisson => "poisson",
                };
                ("open", Some(rate), Some(spread.to_owned()), None)
            }
            Pace::Closed { in_flight } => ("closed", None, None, Some(in_flight)),
        };
        let workload = match plan.workload {
            Workload::MapMixed(mix) => format!("map-mixed {}", mix.name()),
            other => other.name().to_owned(),
        };
        Settings {
            workload,
            target: plan.speech.name().to_owned(),
            addresses: plan.addresses.iter().map(ToString::to_string).collect(),
            pace: pace.to_owned(),
            rate,
            arrivals,
            in_flight,
            connections: plan.connections,
            sessions: plan.lanes.len(),
            partitions: plan.partitions.len(),
            threads: plan.threads,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
            value_bytes: plan.value_bytes,
            keys: plan.keys,
            distribution: match plan.distribution {
                Distribution::Uniform => "uniform".to_owned(),
                Distribution::Zipf => "zipf".to_owned(),
            },
            seed: plan.seed,
        }
    }
}

impl Summary {
    /// The numbers of a histogram of nanoseconds.
    #[must_use]
    pub fn of(latencies: &Latencies) -> Summary {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        if latencies.is_empty() {
            return Summary::default();
        }
        Summary {
            mean: latencies.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: latencies.max() as f64 / 1e3,
        }
    }
}

/// Microseconds with a unit that keeps the number short.
#[must_use]
pub fn micros(us: f64) -> String {
    match us {
        us if us < 10.0 => format!("{us:.1}us"),
        us if us < 1_000.0 => format!("{us:.0}us"),
        us if us < 10_000.0 => format!("{:.2}ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.0}ms", us / 1e3),
        us => format!("{:.2}s", us / 1e6),
    }
}

/// A histogram as text.
#[must_use]
pub fn encode(latencies: &Latencies) -> String {
    let mut bytes = Vec::new();
    // The bounds are ours, and a Vec takes everything.
    match V2Serializer::new().serialize(latencies, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        Err(_) => String::new(),
    }
}

/// The histogram that `encode` made text of.
///
/// # Errors
/// What is wrong with the text.
pub fn decode(text: &str) -> Result<Latencies, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    let read = Deserializer::new().deserialize(&mut &bytes[..]);
    read.map_err(|error| format!("not a histogram: {error:?}"))
}

#[cfg(test)]
pub(super) mod tests;
