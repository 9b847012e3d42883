//! A report as one page: what was run on top, then the percentile curve and what happened over
//! time.
//!
//! Self-contained: the style is inside, the charts are inline SVG, there are no scripts.

use std::fmt::Write as _;

use super::chart::{Chart, Scale, plain, text};
use super::measure::Latencies;
use super::report::{Report, Summary, decode, micros};
use super::sweep::Sweep;

/// The page of a run.
#[must_use]
pub fn page(report: &Report) -> String {
    let s = &report.settings;
    let mut body = heading(report, &format!("{} on {}", s.workload, s.target));
    body.push_str(&results(report));
    body.push_str(&percentiles(report));
    body.push_str(&over_time(report));
    whole(&format!("ringraft load: {}", s.workload), &body)
}

/// The page of a sweep.
#[must_use]
pub fn sweep_page(sweep: &Sweep) -> String {
    let Some(last) = sweep.steps.last() else { return whole("ringraft load sweep", "") };
    let s = &last.settings;
    let mut body = heading(last, &format!("{} on {}: rate against latency", s.workload, s.target));
    let line = |pick: fn(&Summary) -> f64| {
        let point = |step: &Report| (step.calls_per_second, pick(&step.latency_us));
        sweep.steps.iter().map(point).collect::<Vec<_>>()
    };
    let found = sweep.knee().map_or_else(
        || "Not even the first rate kept the bound.".to_owned(),
        |knee| format!("The knee is at {} calls a second.", plain(knee)),
    );
    let bound = micros(sweep.bound_us);
    let _ = write!(body, "<p>Bound on the p99: {bound}. <strong>{found}</strong></p>");
    let lines =
        vec![("p50", line(|l| l.p50)), ("p99", line(|l| l.p99)), ("p99.9", line(|l| l.p999))];
    body.push_str(
        &Chart {
            title: "Latency at each rate",
            x: "calls a second that were answered",
            ticks: &[],
            x_scale: Scale::Linear,
            y_scale: Scale::Log,
            show: micros,
            lines,
        }
        .svg(),
    );
    body.push_str(
        "<table><tr><th>asked for</th><th>answered</th><th>p50</th><th>p99</th>\
                   <th>p99.9</th><th>generator</th></tr>",
    );
    for step in &sweep.steps {
        let l = &step.latency_us;
        let _ = write!(
            body,
            "<tr><td>{}</td><td>{:.0}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.0} %</td></tr>",
            plain(step.settings.rate.unwrap_or(0.0)),
            step.calls_per_second,
            micros(l.p50),
            micros(l.p99),
            micros(l.p999),
            step.generator.ran_share * 100.0
        );
    }
    body.push_str("</table>\n");
    whole("ringraft load sweep", &body)
}

fn heading(report: &Report, title: &str) -> String {
    let s = &report.settings;
    let mut out = format!("<h1>{}</h1>\n", text(title));
    if !report.is_sound() {
        let wrong = report.wrong.iter().chain(&report.ending);
        let wrong: String = wrong.map(|what| format!("<li>{}</li>", text(what))).collect();
        let _ = write!(
            out,
            "<div class=\"bad\"><strong>This run failed.</strong><ul>{wrong}</ul></div>"
        );
    }
    if let Some(limit) = &report.generator.limit {
        let _ = write!(
            out,
            "<div class=\"warn\">The limit may be the generator: {}</div>",
            text(limit)
        );
    }
    let pace = match (s.rate, s.in_flight) {
        (Some(rate), _) => format!(
            "open loop, {} a second, {}",
            plain(rate),
            s.arrivals.as_deref().unwrap_or_default()
        ),
        (None, in_flight) => format!("closed loop, {} in flight", in_flight.unwrap_or(0)),
    };
    let rows = [
        ("version", report.version.clone()),
        ("hosts of the load", report.hosts.join("; ")),
        ("ended", format!("{} (seconds since 1970)", report.ended_unix_s)),
        ("servers", s.addresses.join(", ")),
        ("pace", pace),
        ("connections", s.connections.to_string()),
        ("sessions", s.sessions.to_string()),
        ("partitions", s.partitions.to_string()),
        ("threads", s.threads.to_string()),
        ("time", format!("{:.1} s after {:.1} s of warm-up", report.seconds, s.warmup_s)),
        ("keys", format!("{}, {}", s.keys, s.distribution)),
        ("value", format!("{} octets", s.value_bytes)),
        ("seed", s.seed.to_string()),
    ];
    out.push_str("<table class=\"facts\">");
    for (name, value) in rows {
        let _ = write!(out, "<tr><th>{name}</th><td>{}</td></tr>", text(&value));
    }
    out.push_str("</table>\n");
    out
}

fn results(report: &Report) -> String {
    let mut out = String::from(
        "<table><tr><th></th><th>calls</th><th>a second</th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>p99.99</th><th>max</th></tr>",
    );
    let mut row = |name: &str, count: u64, rate: f64, l: &Summary| {
        let _ = write!(out, "<tr><th>{}</th><td>{count}</td><td>{rate:.0}</td>", text(name));
        for value in [l.p50, l.p90, l.p99, l.p999, l.p9999, l.max] {
            let _ = write!(out, "<td>{}</td>", micros(value));
        }
        out.push_str("</tr>");
    };
    for verb in &report.verbs {
        row(&verb.verb, verb.count, verb.per_second, &verb.latency_us);
    }
    row("all calls", report.calls, report.calls_per_second, &report.latency_us);
    out.push_str("</table>\n");
    let g = &report.generator;
    let _ = writeln!(
        out,
        "<p>Generator: {:.2} us of CPU a call, its busiest thread ran {:.0} % of the time.</p>",
        g.cpu_us_per_call,
        g.ran_share * 100.0
    );
    out
}

fn percentiles(report: &Report) -> String {
    let ticks: Vec<(f64, String)> = (0..=6)
        .map(|nines| {
            let name = match nines {
                0 => "0".to_owned(),
                1 => "90".to_owned(),
                2 => "99".to_owned(),
                more => format!("99.{}", "9".repeat(more - 2)),
            };
            (10f64.powi(nines as i32), name)
        })
        .collect();
    let curve = |latencies: &Latencies| -> Vec<(f64, f64)> {
        let len = latencies.len() as f64;
        let steps = (0..=120).map(|n| 10f64.powf(f64::from(n) / 20.0));
        // Past one in as many as there were, there is nothing to tell.
        let steps = steps.filter(|step| *step <= len.max(1.0));
        let at = |step: f64| latencies.value_at_quantile(1.0 - 1.0 / step) as f64 / 1e3;
        steps.map(|step| (step, at(step))).collect()
    };
    let decoded: Vec<(String, Latencies)> = report
        .verbs
        .iter()
        .filter_map(|verb| Some((verb.verb.clone(), decode(&verb.histogram).ok()?)))
        .collect();
    let lines = decoded.iter().map(|(name, latencies)| (name.as_str(), curve(latencies)));
    Chart {
        title: "Latency by percentile",
        x: "percentile",
        ticks: &ticks,
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        show: micros,
        lines: lines.collect(),
    }
    .svg()
}

fn over_time(report: &Report) -> String {
    let each = report.slices.seconds_each;
    let slices = report.slices.histograms.iter().enumerate();
    let slices: Vec<(f64, Latencies)> = slices
        .filter_map(|(at, text)| Some(((at as f64 + 0.5) * each, decode(text).ok()?)))
        .collect();
    let line = |quantile: f64| -> Vec<(f64, f64)> {
        let some = slices.iter().filter(|(_, slice)| !slice.is_empty());
        some.map(|(at, slice)| (*at, slice.value_at_quantile(quantile) as f64 / 1e3)).collect()
    };
    let latency = Chart {
        title: "Latency over time",
        x: "seconds",
        ticks: &[],
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        show: micros,
        lines: vec![("p50", line(0.5)), ("p99", line(0.99)), ("max", line(1.0))],
    };
    // The last slice ends when the last answer came, not when the slice does.
    let whole = slices.iter().filter(|(at, _)| at + each / 2.0 <= report.seconds + 1e-9);
    let rates = whole.map(|(at, slice)| (*at, slice.len() as f64 / each)).collect();
    let throughput = Chart {
        title: "Throughput over time",
        x: "seconds",
        ticks: &[],
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        show: plain,
        lines: vec![("a second", rates)],
    };
    latency.svg() + &throughput.svg()
}

fn whole(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>{}</title>\n\
         <style>{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n",
        text(title)
    )
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1e21;--paper:#fff;--faint:#d9dde2;--soft:#667}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--paper:#16181b;--faint:#34383d;--soft:#9aa}}\
body{font:15px/1.45 system-ui,sans-serif;background:var(--paper);color:var(--ink);margin:0}\
main{max-width:900px;margin:0 auto;padding:24px}h1{font-size:22px}\
table{border-collapse:collapse;margin:14px 0;font-variant-numeric:tabular-nums}\
th,td{padding:3px 12px 3px 0;text-align:right;border-bottom:1px solid var(--faint)}\
.facts th,.facts td{text-align:left}.facts th{color:var(--soft);font-weight:400}\
svg{width:100%;height:auto;margin:10px 0}svg text{font:11px system-ui,sans-serif;fill:var(--ink)}\
svg .title{font-size:14px;font-weight:600}svg .x{text-anchor:middle}svg .y{text-anchor:end}\
svg .grid{stroke:var(--faint);stroke-width:.6}svg .name{font-weight:600;fill:revert-layer}\
.bad,.warn{padding:8px 14px;border-left:4px solid #c33;margin:12px 0}.warn{border-color:#d90}";

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn a_page_is_whole_and_needs_nothing() {
        let mut report = report(&[100, 200, 300, 4_000], 1.0);
        report.hosts = vec!["<host>".to_owned()];
        let page = page(&report);
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert_eq!(page.matches("<svg").count(), 3, "percentiles, latency, throughput");
        assert!(page.contains("&lt;host&gt;") && page.contains("0 (test)"));
        for foreign in ["<script", "http://", "https://", "src=", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(!page.contains("NaN") && !page.contains("This run failed"));
    }

    #[test]
    fn a_failed_run_says_so_on_top() {
        let mut report = report(&[100], 1.0);
        report.wrong.push("1 < 2".to_owned());
        assert!(page(&report).contains("<li>1 &lt; 2</li>"));
    }
}
