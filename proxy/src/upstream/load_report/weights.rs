//! From what servers reported to a weight per member, once per period (gRFC A58).

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use super::Reading;
use crate::config::load_report::ReportWeighted;
use crate::upstream::host::Host;
use crate::upstream::host::Member;

/// Everything a cluster has learned from reports; survives changes of members and of the policy.
#[derive(Debug)]
pub(in crate::upstream) struct ReportedWeights {
    config: ReportWeighted,
    /// By the host's id.
    hosts: HashMap<u64, Told>,
    folded_at: Option<Duration>,
}

/// What one host told.
#[derive(Debug)]
struct Told {
    before: Reading,
    /// The mean of its latest period with reports.
    weight: f64,
    /// When its reports began, if they have not ended since.
    since: Option<Duration>,
    updated: Duration,
}

impl ReportedWeights {
    /// Nothing is known.
    pub(in crate::upstream) fn new(config: ReportWeighted) -> Self {
        Self {
            config,
            hosts: HashMap::new(),
            folded_at: None,
        }
    }

    /// Other constants from now on; what was learned stays.
    pub(in crate::upstream) fn set_config(&mut self, config: &ReportWeighted) {
        if self.config != *config {
            self.config.clone_from(config);
        }
    }

    /// Whether a period is over.
    pub(in crate::upstream) fn is_due(&self, now: Duration) -> bool {
        self.folded_at
            .is_none_or(|at| now.saturating_sub(at) >= self.config.update_period)
    }

    /// Takes in what came since the last time.
    pub(in crate::upstream) fn fold(&mut self, members: &[Member], now: Duration) {
        self.folded_at = Some(now);
        if self.hosts.len() > members.len() {
            let there: HashSet<u64> = members.iter().map(|member| member.host.id).collect();
            self.hosts.retain(|id, _| there.contains(id));
        }
        for Member { host, .. } in members {
            let told = self.hosts.entry(host.id).or_insert_with(|| Told {
                before: Reading::default(),
                weight: 1.0,
                since: None,
                updated: now,
            });
            told.take(read(host), now, self.config.expiration);
        }
    }

    /// The weight of each member: what it reported, or the median of those who did.
    pub(in crate::upstream) fn weights(&self, members: &[Member]) -> Vec<f64> {
        let now = self.folded_at.unwrap_or_default();
        let weight = |member: &Member| {
            let told = self.hosts.get(&member.host.id)?;
            told.usable(now, self.config.blackout)
        };
        let weights: Vec<Option<f64>> = members.iter().map(weight).collect();
        let usual = median(weights.iter().copied().flatten().collect());
        let weights = weights.into_iter();
        weights.map(|weight| weight.unwrap_or(usual)).collect()
    }
}

impl Told {
    fn take(&mut self, reading: Reading, now: Duration, expiration: Duration) {
        if let Some(weight) = reading.weight_since(&self.before) {
            self.weight = weight;
            self.updated = now;
            self.since.get_or_insert(now);
        } else if now.saturating_sub(self.updated) > expiration {
            self.since = None;
        }
        self.before = reading;
    }

    fn usable(&self, now: Duration, blackout: Duration) -> Option<f64> {
        let since = self.since?;
        (now.saturating_sub(since) >= blackout).then_some(self.weight)
    }
}

fn read(host: &Host) -> Reading {
    let mut reading = Reading::default();
    host.each_counts(|counts| counts.reports.add_to(&mut reading));
    reading
}

/// 1 of nothing.
fn median(mut weights: Vec<f64>) -> f64 {
    weights.sort_unstable_by(f64::total_cmp);
    let middle = weights.len() / 2;
    match (weights.get(middle), middle.checked_sub(1)) {
        (None, _) => 1.0,
        (Some(upper), Some(below)) if weights.len().is_multiple_of(2) => {
            let lower = weights.get(below).copied().unwrap_or(*upper);
            f64::midpoint(lower, *upper)
        }
        (Some(upper), _) => *upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::load_report::LoadReport;
    use crate::upstream::load_report::cells::Reports;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_median_is_between_the_two_in_the_middle() {
        for (weights, expected) in [
            (vec![], 1.0),
            (vec![3.0], 3.0),
            (vec![9.0, 1.0], 5.0),
            (vec![9.0, 2.0, 1.0], 2.0),
        ] {
            assert!((median(weights) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_weight_counts_from_the_blackout_until_it_expires() {
        let reports = Reports::default();
        let tell = |weight| reports.record(&LoadReport::default(), Some(weight));
        let read = || {
            let mut reading = Reading::default();
            reports.add_to(&mut reading);
            reading
        };
        let (blackout, expiration) = (SECOND * 10, SECOND * 180);
        let mut told = Told {
            before: Reading::default(),
            weight: 1.0,
            since: None,
            updated: Duration::ZERO,
        };
        let mut at = |second: u32, weight: Option<f64>| {
            weight.into_iter().for_each(tell);
            told.take(read(), SECOND * second, expiration);
            told.usable(SECOND * second, blackout)
        };
        assert_eq!(at(0, None), None);
        assert_eq!(at(5, Some(4.0)), None, "blacked out");
        assert_eq!(at(14, None), None);
        assert_eq!(at(15, None), Some(4.0));
        assert_eq!(at(16, Some(8.0)), Some(8.0));
        assert_eq!(at(196, None), Some(8.0));
        assert_eq!(at(197, None), None, "expired");
        assert_eq!(at(198, Some(8.0)), None, "blacked out again");
        assert_eq!(at(208, None), Some(8.0));
    }
}
