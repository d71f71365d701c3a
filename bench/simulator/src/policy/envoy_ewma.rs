//! Peak EWMA of Envoy's contrib extensions, with its defaults: two choices by
//! `latency * (active requests + 1)`. Samples are folded every 100 ms, each with the part
//! `1 - exp(-age / 10 s)` of its age at that moment; milliseconds are whole, and a sample of none is
//! left out. A host without samples counts 10 ms while it is idle and a million otherwise.

use std::time::Duration;

use fastrand::Rng;

use super::{Ended, Policy};

const AGGREGATION: Duration = Duration::from_millis(100);
const DECAY: Duration = Duration::from_secs(10);
const DEFAULT_MS: f64 = 10.0;
const PENALTY: f64 = 1_000_000.0;

/// More are overwritten before they are folded.
const SAMPLES_MAX: usize = 1_000;

#[derive(Clone, Debug, Default)]
struct Host {
    active: u32,
    ms: f64,
    samples: Vec<(Duration, f64)>,
}

impl Host {
    fn fold(&mut self, now: Duration) {
        for (at, ms) in self.samples.drain(..) {
            let age = now.saturating_sub(at).as_secs_f64() / DECAY.as_secs_f64();
            let part = if age > 0.0 { 1.0 - (-age).exp() } else { 1.0 };
            self.ms = match self.ms > 0.0 {
                true => part * ms + (1.0 - part) * self.ms,
                false => ms,
            };
        }
    }

    fn cost(&self) -> f64 {
        let active = f64::from(self.active);
        if self.ms > 0.0 {
            self.ms * (active + 1.0)
        } else if active > 0.0 {
            PENALTY + active
        } else {
            DEFAULT_MS
        }
    }
}

#[derive(Debug)]
pub(crate) struct EnvoyEwma {
    hosts: Vec<Host>,
    folded: Duration,
}

impl EnvoyEwma {
    pub(crate) fn new(hosts: usize) -> Self {
        Self {
            hosts: vec![Host::default(); hosts],
            folded: Duration::ZERO,
        }
    }
}

impl Policy for EnvoyEwma {
    fn set_hosts(&mut self, hosts: usize) {
        self.hosts.resize(hosts, Host::default());
    }

    fn pick(&mut self, _now: Duration, random: &mut Rng) -> usize {
        let first = random.usize(..self.hosts.len());
        let mut second = random.usize(..self.hosts.len() - 1);
        second += usize::from(second >= first);
        let (left, right) = (self.hosts[first].cost(), self.hosts[second].cost());
        if left <= right { first } else { second }
    }

    fn begin(&mut self, host: usize) {
        self.hosts[host].active += 1;
    }

    fn first_byte(&mut self, ended: &Ended, now: Duration) {
        let ms = ended.took.as_millis() as f64;
        let samples = &mut self.hosts[ended.host].samples;
        if ms > 0.0 && samples.len() < SAMPLES_MAX {
            samples.push((now, ms));
        }
    }

    fn end(&mut self, host: usize) {
        self.hosts[host].active -= 1;
    }

    fn tick(&mut self, now: Duration) {
        if now - self.folded >= AGGREGATION {
            self.folded = now;
            self.hosts.iter_mut().for_each(|host| host.fold(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_by_its_age_when_it_is_folded() {
        let mut host = Host::default();
        assert!((host.cost() - DEFAULT_MS).abs() < 1e-12);
        host.active = 1;
        assert!((host.cost() - PENALTY - 1.0).abs() < 1e-6);
        let second = Duration::from_secs(1);
        host.samples = vec![(second, 20.0), (second, 40.0)];
        host.fold(second * 11);
        // The first as it is, the second with 1 - 1/e.
        let expected = 20.0 / std::f64::consts::E + 40.0 * (1.0 - 1.0 / std::f64::consts::E);
        assert!((host.cost() - expected * 2.0).abs() < 1e-9, "{host:?}");
    }
}
