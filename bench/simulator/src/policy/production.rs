//! The proxy's own balancers: the same host set, pickers and feedback that its workers use.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use proxy::config::Endpoints;
use proxy::config::endpoint::{Address, Endpoint, HealthStatus, LocalityEndpoints};
use proxy::config::load_balancing::{LbPolicy, LoadBalancing};
use proxy::upstream::latency::Outcome;
use proxy::upstream::learned::Learned;
use proxy::upstream::load_report::LoadReport;
use proxy::upstream::transport::Transports;
use proxy::upstream::{HostCounts, HostSet};

use super::{Ended, Policy};

/// One proxy with one worker.
#[derive(Debug)]
pub(crate) struct Production {
    config: LoadBalancing,
    transports: Transports,
    set: HostSet,
    counts: Vec<Arc<HostCounts>>,
    learned: Learned,
    /// The policy measures latency.
    measures: bool,
    cursor: u64,
}

impl Production {
    pub(crate) fn new(policy: LbPolicy, hosts: usize) -> Self {
        let transports = Transports::default();
        let measures = policy.measures_latency();
        let mut learned = Learned::default();
        let config = LoadBalancing {
            policy,
            ..LoadBalancing::default()
        };
        let set = HostSet::new(&config, &endpoints(hosts), &transports, None);
        let counts = set
            .members()
            .iter()
            .map(|member| member.host.new_counts())
            .collect();
        if let Some(factors) = learned.begin(&config.policy, set.members()) {
            set.set_factors(&factors);
        }
        Self {
            config,
            transports,
            set,
            counts,
            learned,
            measures,
            cursor: 0,
        }
    }

    fn counts(&self, host: usize) -> &Arc<HostCounts> {
        &self.counts[host]
    }

    /// What came with an answer, as a server would say it.
    fn take_report(&self, ended: &Ended) {
        let (Some(wanted), Some(load)) = (self.config.policy.load_reports(), ended.report.load)
        else {
            return;
        };
        let report = LoadReport {
            utilization: load.utilization,
            rps: load.qps,
            eps: load.eps,
            in_flight: Some(ended.report.in_flight as f64),
        };
        let weight = report.weight(wanted.error_penalty);
        let host = &self.set.members()[ended.host].host;
        host.take_report(self.counts(ended.host), &report, weight);
    }
}

fn endpoints(hosts: usize) -> Endpoints {
    let endpoint = |at: usize| Endpoint {
        address: Address::Socket(
            ([127, 0, 0, 1], u16::try_from(at + 1).unwrap_or(u16::MAX)).into(),
        ),
        hostname: "".into(),
        weight: 1,
        health: HealthStatus::Healthy,
        labels: None,
        hash_key: None,
        traits: None,
        check: None,
    };
    Endpoints {
        localities: vec![LocalityEndpoints {
            endpoints: (0..hosts).map(endpoint).collect(),
            ..LocalityEndpoints::default()
        }],
        overprovisioning_factor: 140,
        ..Endpoints::default()
    }
}

impl Policy for Production {
    fn set_hosts(&mut self, hosts: usize) {
        let endpoints = endpoints(hosts);
        let next = HostSet::new(&self.config, &endpoints, &self.transports, Some(&self.set));
        for member in next.members().iter().skip(self.counts.len()) {
            self.counts.push(member.host.new_counts());
        }
        if let Some(factors) = self.learned.begin(&self.config.policy, next.members()) {
            next.set_factors(&factors);
        }
        self.set = next;
    }

    fn pick(&mut self, _now: Duration, random: &mut Rng) -> usize {
        let picked = self.set.pick(&mut self.cursor, random.u64(..), None);
        let port = match picked.map(|host| &host.address) {
            Some(Address::Socket(address)) => usize::from(address.port()),
            _ => 1,
        };
        port - 1
    }

    fn begin(&mut self, host: usize) {
        self.counts(host).begin_request();
        if self.measures {
            self.counts(host).begin_sample();
        }
    }

    fn first_byte(&mut self, ended: &Ended, _now: Duration) {
        self.take_report(ended);
        if self.measures {
            self.counts(ended.host).end_sample(Some(&Outcome {
                class: ended.class,
                took: ended.took,
                failed: ended.failed,
                spare_for: None,
            }));
        }
    }

    fn end(&mut self, host: usize) {
        self.counts(host).end_request();
    }

    fn tick(&mut self, now: Duration) {
        let members = self.set.members();
        if let Some(factors) = self.learned.fold(&self.config.policy, members, now) {
            self.set.set_factors(&factors);
        }
    }
}
