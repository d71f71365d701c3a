//! C3 (Suresh et al., NSDI 2015): the host with the least `R - S + q^3 * S`, where `R` is the response
//! time, `S` the service time and `q = 1 + outstanding * clients + queue` the expected queue, all as
//! the server reports them, smoothed.
//!
//! Left out: rate control, and the reads that Cassandra repeats at other replicas, by which hosts with a
//! bad score are seen to recover.

use std::time::Duration;

use fastrand::Rng;

use super::{Ended, Policy};

/// Weight of the newest value.
const NEWEST: f64 = 0.9;

#[derive(Clone, Copy, Debug, Default)]
struct Host {
    outstanding: u32,
    known: Option<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    response: f64,
    service: f64,
    queue: f64,
}

impl Host {
    /// Unknown hosts come first.
    fn score(&self, clients: f64) -> f64 {
        self.known.map_or(0.0, |known| {
            let queue = 1.0 + f64::from(self.outstanding) * clients + known.queue;
            known.response - known.service + queue.powi(3) * known.service
        })
    }

    fn learn(&mut self, new: Known) {
        let mix = |old: f64, new: f64| NEWEST * new + (1.0 - NEWEST) * old;
        self.known = Some(self.known.map_or(new, |old| Known {
            response: mix(old.response, new.response),
            service: mix(old.service, new.service),
            queue: mix(old.queue, new.queue),
        }));
    }
}

#[derive(Debug)]
pub(crate) struct C3 {
    hosts: Vec<Host>,
    clients: f64,
}

impl C3 {
    pub(crate) fn new(hosts: usize, clients: usize) -> Self {
        Self {
            hosts: vec![Host::default(); hosts],
            clients: clients as f64,
        }
    }
}

impl Policy for C3 {
    fn set_hosts(&mut self, hosts: usize) {
        self.hosts.resize(hosts, Host::default());
    }

    fn pick(&mut self, _now: Duration, random: &mut Rng) -> usize {
        // Equal scores: whoever comes first from a random place on.
        let start = random.usize(..self.hosts.len());
        let places = (0..self.hosts.len()).map(|at| (start + at) % self.hosts.len());
        let score = |place: usize| self.hosts[place].score(self.clients);
        let best = places.min_by(|left, right| score(*left).total_cmp(&score(*right)));
        best.unwrap_or(0)
    }

    fn begin(&mut self, host: usize) {
        self.hosts[host].outstanding += 1;
    }

    fn first_byte(&mut self, ended: &Ended, _now: Duration) {
        self.hosts[ended.host].learn(Known {
            response: ended.took.as_secs_f64(),
            service: ended.report.service.as_secs_f64(),
            queue: ended.report.in_flight as f64,
        });
    }

    fn end(&mut self, host: usize) {
        self.hosts[host].outstanding -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_cubic_in_the_expected_queue() {
        let mut host = Host::default();
        assert!(host.score(2.0).abs() < 1e-12, "unknown hosts come first");
        let known = |queue| Known {
            response: 0.012,
            service: 0.010,
            queue,
        };
        host.learn(known(3.0));
        host.outstanding = 2;
        // 1 + 2 * 2 + 3 = 8.
        assert!((host.score(2.0) - (0.002 + 512.0 * 0.010)).abs() < 1e-12);
        host.learn(known(13.0));
        // The queue is 0.9 * 13 + 0.1 * 3 = 12 now: 1 + 4 + 12 = 17.
        assert!((host.score(2.0) - (0.002 + 4913.0 * 0.010)).abs() < 1e-9);
    }
}
