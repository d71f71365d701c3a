//! Who decides: the proxy's own pickers, and the balancers of others as far as they are published.

mod c3;
mod peak_ewma;
mod prequal;
mod production;

use std::time::Duration;

use fastrand::Rng;
use proxy::config::latency::{self, LatencyWeighted, Selector};
use proxy::config::load_balancing::{LbPolicy, LeastRequest, Selection};
use proxy::config::load_report::ReportWeighted;

use self::c3::C3;
use self::peak_ewma::PeakEwma;
use self::prequal::Prequal;
use self::production::Production;
use crate::host::{Probed, Report};

/// How a request ended, as its proxy sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) host: usize,
    pub(crate) class: usize,
    pub(crate) took: Duration,
    pub(crate) failed: bool,
    /// What the host said of itself.
    pub(crate) report: Report,
}

/// What one proxy's balancer is told and asked.
pub(crate) trait Policy {
    /// So many hosts are members now; hosts keep their numbers.
    fn set_hosts(&mut self, hosts: usize);
    /// Who takes the next request.
    fn pick(&mut self, now: Duration, random: &mut Rng) -> usize;
    /// A request was sent to a host.
    fn begin(&mut self, host: usize);
    /// Its first byte, or its failure, came.
    fn first_byte(&mut self, ended: &Ended, now: Duration);
    /// It is over.
    fn end(&mut self, host: usize);
    /// Whom to ask how they are, after each request.
    fn probes(&mut self, _random: &mut Rng) -> Vec<usize> {
        Vec::new()
    }
    /// The answer.
    fn probed(&mut self, _host: usize, _probed: Probed, _now: Duration, _random: &mut Rng) {}
    /// Time passes.
    fn tick(&mut self, _now: Duration) {}
}

/// A column of the table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One central queue that knows every host: what nobody can beat.
    Oracle,
    RoundRobin,
    Random,
    /// The less busy of two.
    LeastRequest,
    /// As in tower: two choices, default 30 ms, decay 10 s.
    PeakEwma,
    /// As in linkerd: default 1 s, and failures count as long ones.
    Linkerd,
    /// The proxy's own, with the defaults of Envoy's contrib extensions.
    EnvoyEwma,
    /// Cubic replica selection.
    C3,
    /// Asynchronous probes.
    Prequal,
    /// The proxy's own client-side weighted round robin, by what servers report.
    Orca,
    /// The weight formula alone, in turn.
    Plain,
    /// The weights with all guards, in turn.
    Smooth,
    /// The default of the policy.
    Weir,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Oracle,
        Self::RoundRobin,
        Self::Random,
        Self::LeastRequest,
        Self::PeakEwma,
        Self::Linkerd,
        Self::EnvoyEwma,
        Self::C3,
        Self::Prequal,
        Self::Orca,
        Self::Plain,
        Self::Smooth,
        Self::Weir,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::RoundRobin => "rr",
            Self::Random => "random",
            Self::LeastRequest => "least-rq",
            Self::PeakEwma => "peak-ewma",
            Self::Linkerd => "linkerd",
            Self::EnvoyEwma => "envoy-ewma",
            Self::C3 => "c3",
            Self::Prequal => "prequal",
            Self::Orca => "orca-wrr",
            Self::Plain => "plain",
            Self::Smooth => "smooth",
            Self::Weir => "weir",
        }
    }

    /// Whether it is one of others.
    pub(crate) fn is_baseline(self) -> bool {
        !matches!(self, Self::Oracle | Self::Plain | Self::Smooth | Self::Weir)
    }

    /// One proxy's balancer; the oracle is none.
    pub(crate) fn balancer(self, hosts: usize, proxies: usize) -> Option<Box<dyn Policy>> {
        let least = LeastRequest {
            selection: Selection::Choices(2),
            bias: 1.0,
        };
        let weir = LatencyWeighted::default();
        let smooth = LatencyWeighted {
            selector: Selector::Smooth,
            ..weir
        };
        let plain = LatencyWeighted {
            guards: None,
            reads_reports: false,
            ..smooth
        };
        let production = |policy| -> Box<dyn Policy> { Box::new(Production::new(policy, hosts)) };
        Some(match self {
            Self::Oracle => return None,
            Self::RoundRobin => production(LbPolicy::RoundRobin),
            Self::Random => production(LbPolicy::Random),
            Self::LeastRequest => production(LbPolicy::LeastRequest(least)),
            Self::Plain => production(LbPolicy::Latency(plain)),
            Self::Smooth => production(LbPolicy::Latency(smooth)),
            Self::Weir => production(LbPolicy::Latency(weir)),
            Self::PeakEwma => Box::new(PeakEwma::tower(hosts)),
            Self::Linkerd => Box::new(PeakEwma::linkerd(hosts)),
            Self::EnvoyEwma => production(LbPolicy::PeakEwma(latency::PeakEwma::default())),
            Self::C3 => Box::new(C3::new(hosts, proxies)),
            Self::Prequal => Box::new(Prequal::new(hosts)),
            Self::Orca => production(LbPolicy::Reported(ReportWeighted::default())),
        })
    }
}
