//! Client-side weighted round robin by what servers report (gRFC A58): the weight is
//! `qps / (utilization + eps / qps * penalty)`, and hosts take turns by earliest deadline.

use std::time::Duration;

use fastrand::Rng;

use super::{Ended, Policy};
use crate::host::Load;

/// The defaults of the gRFC.
const BLACKOUT: Duration = Duration::from_secs(10);
const EXPIRATION: Duration = Duration::from_secs(180);
const UPDATE: Duration = Duration::from_secs(1);
const ERROR_PENALTY: f64 = 1.0;

#[derive(Clone, Copy, Debug, Default)]
struct Host {
    weight: f64,
    updated: Duration,
    reports_since: Option<Duration>,
    deadline: f64,
    period: f64,
}

impl Host {
    fn update(&mut self, load: Load, now: Duration) {
        if load.qps <= 0.0 || load.utilization <= 0.0 {
            return;
        }
        self.weight = load.qps / (load.utilization + load.eps / load.qps * ERROR_PENALTY);
        self.updated = now;
        self.reports_since.get_or_insert(now);
    }

    /// None while there are no reports, they are too new or too old.
    fn weight(&mut self, now: Duration) -> Option<f64> {
        if now.saturating_sub(self.updated) >= EXPIRATION {
            self.reports_since = None;
        }
        let since = self.reports_since?;
        (now.saturating_sub(since) >= BLACKOUT).then_some(self.weight)
    }
}

#[derive(Debug)]
pub(crate) struct Orca {
    hosts: Vec<Host>,
    updated: Option<Duration>,
}

impl Orca {
    pub(crate) fn new(hosts: usize) -> Self {
        Self {
            hosts: vec![Host::default(); hosts],
            updated: None,
        }
    }

    /// Who has no weight has the mean one; if fewer than two have one, all are equal.
    fn weights(&mut self, now: Duration) -> Vec<f64> {
        let hosts = self.hosts.iter_mut();
        let weights: Vec<Option<f64>> = hosts.map(|host| host.weight(now)).collect();
        let known: Vec<f64> = weights.iter().copied().flatten().collect();
        if known.len() < 2 {
            return vec![1.0; weights.len()];
        }
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let weights = weights.into_iter();
        weights.map(|weight| weight.unwrap_or(mean)).collect()
    }

    fn schedule(&mut self, now: Duration, random: &mut Rng) {
        self.updated = Some(now);
        let weights = self.weights(now);
        for (host, weight) in self.hosts.iter_mut().zip(weights) {
            host.period = weight.recip();
            host.deadline = random.f64() * host.period;
        }
    }
}

impl Policy for Orca {
    fn set_hosts(&mut self, hosts: usize) {
        self.hosts.resize(hosts, Host::default());
        self.updated = None;
    }

    fn pick(&mut self, now: Duration, random: &mut Rng) -> usize {
        if self.updated.is_none_or(|at| now - at >= UPDATE) {
            self.schedule(now, random);
        }
        let hosts = self.hosts.iter_mut().enumerate();
        let next = hosts.min_by(|(_, left), (_, right)| left.deadline.total_cmp(&right.deadline));
        next.map_or(0, |(place, host)| {
            host.deadline += host.period;
            place
        })
    }

    fn begin(&mut self, _host: usize) {}

    fn first_byte(&mut self, ended: &Ended, now: Duration) {
        if let Some(load) = ended.report.load {
            self.hosts[ended.host].update(load, now);
        }
    }

    fn end(&mut self, _host: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn report(orca: &mut Orca, host: usize, (qps, eps, utilization): (f64, f64, f64), at: u32) {
        let load = Load {
            qps,
            eps,
            utilization,
        };
        orca.hosts[host].update(load, SECOND * at);
    }

    #[test]
    fn weights_are_queries_over_utilization_and_errors() {
        let mut orca = Orca::new(4);
        report(&mut orca, 0, (100.0, 0.0, 0.5), 0);
        report(&mut orca, 1, (100.0, 50.0, 0.5), 0);
        report(&mut orca, 2, (0.0, 0.0, 0.5), 0);
        assert_eq!(orca.weights(SECOND * 9), [1.0; 4], "blacked out");
        // 100 / 0.5, 100 / (0.5 + 0.5), and twice the mean.
        assert_eq!(orca.weights(SECOND * 10), [200.0, 100.0, 150.0, 150.0]);
        report(&mut orca, 1, (100.0, 0.0, 0.25), 100);
        assert_eq!(orca.weights(SECOND * 179)[..2], [200.0, 400.0]);
        assert_eq!(orca.weights(SECOND * 180), [1.0; 4], "one is too old");
        report(&mut orca, 0, (100.0, 0.0, 0.5), 181);
        assert_eq!(orca.weights(SECOND * 190), [1.0; 4], "blacked out again");
        assert_eq!(orca.weights(SECOND * 191)[..2], [200.0, 400.0]);
    }

    #[test]
    fn turns_follow_weights() {
        let mut orca = Orca::new(2);
        report(&mut orca, 0, (300.0, 0.0, 1.0), 0);
        report(&mut orca, 1, (100.0, 0.0, 1.0), 0);
        let mut random = Rng::with_seed(1);
        let picks = (0..400).filter(|_| orca.pick(SECOND * 20, &mut random) == 0);
        assert_eq!(picks.count(), 300);
    }
}
