//! Latencies that fade, for `PeakEwma`.
//!
//! Envoy keeps every sample with its time and takes each in with the part `1 - exp(-age / decay_time)` of
//! the age it has when samples are aggregated. Here the samples of an interval are summed: they are on
//! average half an interval old, so that `count` of them count `1 - exp(-count * interval / 2 / decay_time)`
//! together. Failures count as long as they took.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use super::feedback;
use super::samples::Reading;
use crate::config::latency::PeakEwma as Config;
use crate::upstream::host::Member;

/// Everything a cluster has learned; survives changes of members and of the policy.
#[derive(Debug)]
pub struct PeakEwma {
    config: Config,
    /// By the host's id.
    hosts: HashMap<u64, Host>,
    folded_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct Host {
    /// Samples and their microseconds.
    before: (u64, u64),
    /// Milliseconds; none without a sample.
    latency: Option<f64>,
}

impl PeakEwma {
    /// Nothing is known.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            hosts: HashMap::new(),
            folded_at: None,
        }
    }

    /// Other constants from now on; what was learned stays.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Whether an interval is over.
    pub fn is_due(&self, now: Duration) -> bool {
        self.folded_at
            .is_none_or(|at| now.saturating_sub(at) >= self.config.interval)
    }

    /// Takes in what came since the last time.
    pub fn fold(&mut self, members: &[Member], now: Duration) {
        let passed = now.saturating_sub(self.folded_at.unwrap_or(now));
        self.folded_at = Some(now);
        if self.hosts.len() > members.len() {
            let there: HashSet<u64> = members.iter().map(|member| member.host.id).collect();
            self.hosts.retain(|id, _| there.contains(id));
        }
        let ages = passed.as_secs_f64() / 2.0 / self.config.decay.as_secs_f64();
        for member in members {
            let host = self.hosts.entry(member.host.id).or_default();
            host.take(sums(&feedback::read(member)), ages);
        }
    }

    /// Of each member, in milliseconds; 0 is not known.
    pub fn latencies(&self, members: &[Member]) -> Vec<f64> {
        let latency = |member: &Member| self.hosts.get(&member.host.id)?.latency;
        let members = members.iter();
        members
            .map(|member| latency(member).unwrap_or(0.0))
            .collect()
    }
}

impl Host {
    /// `ages` is the mean age of a sample, over the decay time.
    #[expect(clippy::cast_precision_loss, reason = "rough numbers are enough")]
    fn take(&mut self, sums: (u64, u64), ages: f64) {
        let count = sums.0.saturating_sub(self.before.0);
        let us = sums.1.saturating_sub(self.before.1);
        self.before = sums;
        if count == 0 {
            return;
        }
        let mean = us as f64 / 1e3 / count as f64;
        let part = 1.0 - (-(count as f64) * ages).exp();
        self.latency = Some(match self.latency {
            Some(latency) => latency + part * (mean - latency),
            None => mean,
        });
    }
}

/// Samples of all route classes, and their microseconds.
fn sums(reading: &Reading) -> (u64, u64) {
    let add = |(count, us): (u64, u64), class: &super::samples::Sum| {
        (
            count + class.good + class.failed,
            us.wrapping_add(class.good_us).wrapping_add(class.failed_us),
        )
    };
    reading.classes.iter().fold((0, 0), add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_count_by_their_number_and_age() {
        let mut host = Host::default();
        host.take((0, 0), 0.005);
        assert_eq!(host.latency, None);
        host.take((2, 40_000), 0.005);
        assert_eq!(host.latency, Some(20.0), "the first ones are believed");
        host.take((2, 40_000), 0.005);
        assert_eq!(host.latency, Some(20.0));
        // A hundred of 40 ms, each with the part 0.005 of what is left.
        host.take((102, 4_040_000), 0.005);
        let expected = 20.0 + 20.0 * (1.0 - (-0.5_f64).exp());
        let found = host.latency.expect("it is known");
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
}
