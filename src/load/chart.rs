//! A line chart as inline SVG: axes, grid, lines, names. No scripts and nothing to load, so that a
//! report is one file that opens anywhere, in light and in dark.

use std::fmt::Write as _;

/// How one direction is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// From zero, in equal steps.
    Linear,
    /// By powers of ten.
    Log,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What the horizontal axis counts.
    pub x: &'a str,
    /// What is written at places of it, with their values; empty: the values themselves.
    pub ticks: &'a [(f64, String)],
    /// Its scale.
    pub x_scale: Scale,
    /// The vertical one's.
    pub y_scale: Scale,
    /// A vertical value as text.
    pub show: fn(f64) -> String,
    /// The lines: name and points, in the order of their colours.
    pub lines: Vec<(&'a str, Vec<(f64, f64)>)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
const COLOURS: [&str; 4] = ["#2f6fde", "#e0782b", "#b3359b", "#2a9d5c"];

impl Chart<'_> {
    /// The `<svg>`; a sentence when there is nothing to draw.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let Some(x) = Range::of(points().map(|point| point.0), self.x_scale) else {
            return format!("<p>{}: nothing was measured.</p>\n", text(self.title));
        };
        let Some(y) = Range::of(points().map(|point| point.1), self.y_scale) else {
            return String::new();
        };
        let across = |value: f64| LEFT + x.part(value) * (WIDTH - LEFT - RIGHT);
        let down = |value: f64| HEIGHT - BOTTOM - y.part(value) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"18\">{0}</text>\n",
            text(self.title)
        );
        // Writing to a String cannot fail.
        for value in y.ticks() {
            let (at, right) = (down(value), WIDTH - RIGHT);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
                 <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                text(&(self.show)(value))
            );
        }
        let own: Vec<(f64, String)> = x.ticks().into_iter().map(|v| (v, plain(v))).collect();
        let ticks = if self.ticks.is_empty() { &own[..] } else { self.ticks };
        for (value, name) in ticks.iter().filter(|(value, _)| x.holds(*value)) {
            let (at, bottom) = (across(*value), HEIGHT - BOTTOM);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\"/>\
                 <text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 16.0,
                text(name)
            );
        }
        let (middle, foot) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0);
        let _ =
            writeln!(out, "<text class=\"x\" x=\"{middle}\" y=\"{foot}\">{}</text>", text(self.x));
        self.draw(&mut out, across, down);
        out.push_str("</svg>\n");
        out
    }

    fn draw(&self, out: &mut String, across: impl Fn(f64) -> f64, down: impl Fn(f64) -> f64) {
        for (nth, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[nth % COLOURS.len()];
            let path = points.iter().map(|(x, y)| format!("{:.1},{:.1}", across(*x), down(*y)));
            let path = path.collect::<Vec<_>>().join(" ");
            let _ = writeln!(
                out,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
                 points=\"{path}\"/>"
            );
            if points.len() <= 30 {
                for (x, y) in points {
                    let (x, y) = (across(*x), down(*y));
                    let _ = writeln!(
                        out,
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
                    );
                }
            }
            if self.lines.len() > 1 {
                let at = WIDTH - RIGHT - 90.0 * (self.lines.len() - nth) as f64;
                let _ = writeln!(
                    out,
                    "<text class=\"name\" x=\"{at}\" y=\"18\" fill=\"{colour}\">{}</text>",
                    text(name)
                );
            }
        }
    }
}

/// What an axis shows.
struct Range {
    low: f64,
    high: f64,
    scale: Scale,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>, scale: Scale) -> Option<Range> {
        let usable = |value: &f64| value.is_finite() && (scale == Scale::Linear || *value > 0.0);
        let values: Vec<f64> = values.filter(usable).collect();
        let least = values.iter().copied().reduce(f64::min)?;
        let most = values.iter().copied().reduce(f64::max)?;
        Some(match scale {
            Scale::Linear => {
                let high = if most > 0.0 { most * 1.05 } else { 1.0 };
                Range { low: least.min(0.0), high, scale }
            }
            Scale::Log => {
                let (low, high) = (least.log10().floor(), most.log10().ceil());
                let high = if high > low { high } else { low + 1.0 };
                Range { low, high, scale }
            }
        })
    }

    /// Where a value lies between the ends, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn holds(&self, value: f64) -> bool {
        let value = if self.scale == Scale::Log { value.log10() } else { value };
        value >= self.low - 1e-9 && value <= self.high + 1e-9
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Log => (self.low as i32..=self.high as i32).map(|n| 10f64.powi(n)).collect(),
            Scale::Linear => {
                let rough = (self.high - self.low) / 6.0;
                let power = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
                let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
                let first = (self.low / step).ceil() as i64;
                let last = (self.high / step).floor() as i64;
                (first..=last).map(|n| n as f64 * step).collect()
            }
        }
    }
}

/// A number without more digits than it needs.
#[must_use]
pub fn plain(value: f64) -> String {
    match value.abs() {
        big if big >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        big if big >= 1e4 => format!("{}k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text as it stands in a page.
#[must_use]
pub fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for character in plain.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, y_scale: Scale) -> Chart<'static> {
        let lines = vec![("a <line>", points.clone()), ("b", points)];
        let x_scale = Scale::Linear;
        Chart { title: "T & t", x: "s", ticks: &[], x_scale, y_scale, show: plain, lines }
    }

    #[test]
    fn lines_stay_inside_and_names_are_escaped() {
        let points = vec![(0.0, 1.0), (5.0, 100.0), (10.0, 20_000.0)];
        let svg = chart(points, Scale::Log).svg();
        assert!(svg.contains("T &amp; t") && svg.contains("a &lt;line&gt;"), "{svg}");
        assert!(svg.contains(&format!("{LEFT:.1},{:.1}", HEIGHT - BOTTOM)), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_and_one_point_can_be_drawn() {
        assert!(chart(Vec::new(), Scale::Linear).svg().contains("nothing was measured"));
        for scale in [Scale::Linear, Scale::Log] {
            let svg = chart(vec![(3.0, 10.0)], scale).svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn steps_are_round() {
        let ticks = |high| Range { low: 0.0, high, scale: Scale::Linear }.ticks();
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert!(ticks(70_000.0).len() >= 4);
        assert_eq!(plain(588_000.0), "588k");
        assert_eq!(plain(1_500_000.0), "1.5M");
        assert_eq!(plain(2.0), "2");
    }
}
