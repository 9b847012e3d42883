use super::*;
use crate::load::measure::Meter;
use crate::load::speech::tests::plan;
use std::time::Duration;

fn some(values: &[u64]) -> Latencies {
    let mut made = latencies(3);
    values.iter().for_each(|value| made.saturating_record(*value));
    made
}

/// The report of increments that took so many microseconds, in so many seconds.
pub fn report(micros: &[u64], seconds: f64) -> Report {
    let mut meter = Meter::default();
    micros.iter().for_each(|micros| meter.took(Verb::Increment, micros * 1000, 0));
    meter.roll(usize::MAX);
    let mut plan = plan(Workload::Counter);
    plan.pace = Pace::Closed { in_flight: 4 };
    let slices = std::mem::take(&mut meter.ended).into_iter().map(|(_, slice)| slice).collect();
    let outcome = Outcome {
        slice_ns: plan.slice_ns(),
        plan,
        meter,
        slices,
        measured: Duration::from_secs_f64(seconds),
        ran_share: 0.5,
        waited_share: 0.0,
        ran_ns: 1_000,
        wrong: Vec::new(),
        trouble: None,
        was_stopped: false,
        ending: None,
    };
    Report::of(&outcome, "a host".to_owned(), "0 (test)", 7)
}

#[test]
fn histograms_survive_as_text() {
    let before = some(&[1_000, 250_000, 250_000, 9_000_000_000]);
    let after = decode(&encode(&before)).expect("what we wrote");
    assert_eq!(after.len(), 4);
    assert_eq!(after.value_at_quantile(0.5), before.value_at_quantile(0.5));
    assert_eq!(after.max(), before.max());
    assert!(decode("no base64!").is_err());
    assert!(decode("AAAA").is_err());
}

#[test]
fn a_summary_is_in_microseconds() {
    let summary = Summary::of(&some(&[100_000, 200_000, 300_000]));
    assert!((summary.p50 - 200.0).abs() < 1.0, "{}", summary.p50);
    assert!((summary.max - 300.0).abs() < 1.0, "{}", summary.max);
    assert_eq!(Summary::of(&some(&[])), Summary::default());
}

#[test]
fn lengths_of_time_are_short() {
    let shown: Vec<String> = [0.4, 12.3, 999.0, 1_500.0, 25_000.0, 3_000_000.0].map(micros).into();
    assert_eq!(shown, ["0.4us", "12us", "999us", "1.50ms", "25ms", "3.00s"]);
}

#[test]
fn a_report_reads_back_from_its_json() {
    let report = report(&[100, 200, 300], 1.0);
    let json = serde_json::to_string(&report).expect("a value");
    let back: Report = serde_json::from_str(&json).expect("what we wrote");
    assert_eq!(back, report);
    assert_eq!((report.calls, report.verbs.len()), (3, 1));
    assert_eq!(report.latency_us, report.verbs[0].latency_us);
}

#[test]
fn a_generator_that_is_the_limit_says_so() {
    let mut report = report(&[100], 1.0);
    assert_eq!(report.limit(), None);
    report.generator.waited_share = 0.2;
    assert!(report.limit().is_some_and(|why| why.contains("waited for a core")));
    report.generator.ran_share = 0.99;
    assert!(report.limit().is_some_and(|why| why.contains("99 %")));
    report.generator = Generator::default();
    report.late_us = Some(Summary { p99: 5_000.0, ..Summary::default() });
    assert!(report.limit().is_some_and(|why| why.contains("late")));
}

#[test]
fn the_percentile_table_counts_everything() {
    let report = report(&[100, 200, 300, 400], 1.0);
    let hgrm = report.hgrm();
    assert!(hgrm.contains("Total count    =            4]"), "{hgrm}");
    let last = hgrm.lines().filter(|line| !line.starts_with('#')).next_back().expect("lines");
    assert!(last.contains("1.000000000000          4"), "{last}");
}

#[test]
fn events_are_no_calls() {
    let mut meter = Meter::default();
    meter.took(Verb::Put, 1_000, 0);
    meter.took(Verb::Event, 2_000, 0);
    let verbs = meter.verbs().map(|(verb, latencies)| VerbReport {
        verb: verb.name().to_owned(),
        count: latencies.len(),
        per_second: 0.0,
        latency_us: Summary::of(latencies),
        histogram: encode(latencies),
    });
    let report = Report { verbs: verbs.collect(), ..report(&[], 1.0) };
    assert_eq!(report.all().len(), 1);
}
