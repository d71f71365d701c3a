//! Two choices by `latency * (in flight + 1)`, where latency jumps to every peak and fades slowly
//! (Finagle, tower, linkerd).

use std::time::Duration;

use fastrand::Rng;

use super::{Ended, Policy};

const DECAY: Duration = Duration::from_secs(10);

/// What linkerd counts a failure as.
const FAILURE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Host {
    seconds: f64,
    at: Duration,
    in_flight: u32,
}

impl Host {
    /// Towards this latency, or at once up to it.
    fn update(&mut self, seconds: f64, now: Duration) {
        if seconds > self.seconds {
            self.seconds = seconds;
        } else {
            let keep = (-(now - self.at).as_secs_f64() / DECAY.as_secs_f64()).exp();
            self.seconds = self.seconds * keep + seconds * (1.0 - keep);
        }
        self.at = now;
    }

    fn load(&mut self, now: Duration) -> f64 {
        self.update(0.0, now);
        self.seconds * f64::from(self.in_flight + 1)
    }
}

#[derive(Debug)]
pub(crate) struct PeakEwma {
    hosts: Vec<Host>,
    default: Duration,
    penalizes: bool,
}

impl PeakEwma {
    pub(crate) fn tower(hosts: usize) -> Self {
        Self::new(hosts, Duration::from_millis(30), false)
    }

    pub(crate) fn linkerd(hosts: usize) -> Self {
        Self::new(hosts, Duration::from_secs(1), true)
    }

    fn new(hosts: usize, default: Duration, penalizes: bool) -> Self {
        let mut balancer = Self {
            hosts: Vec::new(),
            default,
            penalizes,
        };
        balancer.set_hosts(hosts);
        balancer
    }
}

impl Policy for PeakEwma {
    fn set_hosts(&mut self, hosts: usize) {
        let new = Host {
            seconds: self.default.as_secs_f64(),
            at: Duration::ZERO,
            in_flight: 0,
        };
        self.hosts.resize(hosts, new);
    }

    fn pick(&mut self, now: Duration, random: &mut Rng) -> usize {
        let first = random.usize(..self.hosts.len());
        let mut second = random.usize(..self.hosts.len() - 1);
        second += usize::from(second >= first);
        let (left, right) = (self.hosts[first].load(now), self.hosts[second].load(now));
        if left <= right { first } else { second }
    }

    fn begin(&mut self, host: usize) {
        self.hosts[host].in_flight += 1;
    }

    fn first_byte(&mut self, ended: &Ended, now: Duration) {
        let took = match ended.failed && self.penalizes {
            true => ended.took.max(FAILURE),
            false => ended.took,
        };
        self.hosts[ended.host].update(took.as_secs_f64(), now);
    }

    fn end(&mut self, host: usize) {
        self.hosts[host].in_flight -= 1;
    }
}
