//! Results of several hosts as one.
//!
//! Histograms are added, not averaged: a percentile of the sum is the percentile of all calls. The
//! slices of time are laid on each other from their beginnings, so hosts are to be started together.

use super::measure::join;
use super::report::{Report, Summary, decode, encode};

/// The results together. What the hosts were told must be the same but for how much of it.
///
/// # Errors
/// What does not go together.
pub fn merge(reports: Vec<Report>) -> Result<Report, String> {
    let mut reports = reports.into_iter();
    let mut all = reports.next().ok_or("nothing to add up")?;
    for other in reports {
        same("workload", &all.settings.workload, &other.settings.workload)?;
        same("target", &all.settings.target, &other.settings.target)?;
        same("pace", &all.settings.pace, &other.settings.pace)?;
        let each = (all.slices.seconds_each, other.slices.seconds_each);
        if (each.0 - each.1).abs() > 1e-9 {
            return Err("they ran for different --duration".to_owned());
        }
        add(&mut all, other)?;
    }
    all.sum_up();
    Ok(all)
}

fn same(what: &str, one: &str, other: &str) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("their {what}s differ: {one} and {other}")) }
}

fn add(all: &mut Report, other: Report) -> Result<(), String> {
    all.seconds = all.seconds.max(other.seconds);
    all.ended_unix_s = all.ended_unix_s.max(other.ended_unix_s);
    all.hosts.extend(other.hosts);
    for theirs in other.verbs {
        match all.verbs.iter_mut().find(|mine| mine.verb == theirs.verb) {
            None => all.verbs.push(theirs),
            Some(mine) => {
                let mut sum = decode(&mine.histogram)?;
                join(&mut sum, &decode(&theirs.histogram)?);
                mine.count = sum.len();
                mine.latency_us = Summary::of(&sum);
                mine.histogram = encode(&sum);
            }
        }
    }
    let seconds = all.seconds;
    all.verbs.iter_mut().for_each(|verb| verb.per_second = verb.count as f64 / seconds);
    for (at, theirs) in other.slices.histograms.into_iter().enumerate() {
        match all.slices.histograms.get_mut(at) {
            None => all.slices.histograms.push(theirs),
            Some(mine) => {
                let mut sum = decode(mine)?;
                join(&mut sum, &decode(&theirs)?);
                *mine = encode(&sum);
            }
        }
    }
    let (mine, theirs) = (&mut all.settings, other.settings);
    mine.rate = mine.rate.zip(theirs.rate).map(|(one, other)| one + other);
    mine.in_flight = mine.in_flight.zip(theirs.in_flight).map(|(one, other)| one + other);
    mine.connections += theirs.connections;
    mine.sessions += theirs.sessions;
    mine.threads += theirs.threads;
    mine.partitions = mine.partitions.max(theirs.partitions);
    for address in theirs.addresses {
        if !mine.addresses.contains(&address) {
            mine.addresses.push(address);
        }
    }
    all.counts.add(&other.counts);
    all.generator.add(other.generator);
    // The worst of them: histograms of lateness stay with their hosts.
    all.late_us =
        all.late_us.zip(other.late_us).map(|(one, two)| if one.p99 > two.p99 { one } else { two });
    all.wrong.extend(other.wrong);
    all.ending = all.ending.take().or(other.ending);
    all.trouble = all.trouble.take().or(other.trouble);
    all.interrupted |= other.interrupted;
    Ok(())
}

impl super::report::Generator {
    fn add(&mut self, other: super::report::Generator) {
        self.ran_share = self.ran_share.max(other.ran_share);
        self.waited_share = self.waited_share.max(other.waited_share);
        self.cpu_us_per_call = self.cpu_us_per_call.max(other.cpu_us_per_call);
        self.limit = self.limit.take().or(other.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn two_hosts_are_their_sum() {
        let (one, two) = (report(&[100, 200], 1.0), report(&[300, 400, 500], 2.0));
        let both = merge(vec![one.clone(), two.clone()]).expect("they go together");
        assert_eq!(both.calls, 5);
        assert_eq!(both.verbs[0].count, 5);
        assert_eq!(both.hosts.len(), 2);
        assert_eq!(both.counts.done, one.counts.done + two.counts.done);
        assert!((both.latency_us.p50 - 300.0).abs() < 1.0, "{:?}", both.latency_us);
        assert!((both.latency_us.max - 500.0).abs() < 1.0, "{:?}", both.latency_us);
        assert_eq!(decode(&both.slices.histograms[0]).expect("ours").len(), 5);
        assert!((both.calls_per_second - 2.5).abs() < 1e-9, "{}", both.calls_per_second);
        assert_eq!(both.settings.in_flight, Some(8));
    }

    #[test]
    fn different_work_does_not_add_up() {
        let (one, mut two) = (report(&[1], 1.0), report(&[2], 1.0));
        two.settings.workload = "map-read".to_owned();
        let refused = merge(vec![one, two]).expect_err("they differ");
        assert_eq!(refused, "their workloads differ: counter and map-read");
        assert!(merge(Vec::new()).is_err());
    }
}
