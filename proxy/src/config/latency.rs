//! Weights that follow latency (`weir.load_balancing.v1.LatencyWeightedRoundRobin`), and peak EWMA.

use std::time::Duration;

/// `LatencyWeightedRoundRobin`; the proto says what each value does and why it is what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyWeighted {
    /// How weights become picks.
    pub selector: Selector,
    /// Over which the baseline is taken.
    pub window: Duration,
    /// Between two changes of weights.
    pub update_period: Duration,
    /// Weight at the baseline.
    pub weight_base: f64,
    /// Least weight; at least 1.
    pub weight_min: f64,
    /// Greatest weight.
    pub weight_max: f64,
    /// Added to every latency; at least one microsecond, so that nothing is divided by zero.
    pub epsilon: Duration,
    /// `None` is the formula alone.
    pub guards: Option<Guards>,
    /// What servers say of their load counts; not with the formula alone.
    pub reads_reports: bool,
}

/// `LatencyWeightedRoundRobin.selector`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selector {
    /// Six by weight, of them the least busy.
    #[default]
    WeightedChoice,
    /// In turn.
    Smooth,
}

/// `Guards`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guards {
    /// A failure took so many times the baseline; at least 1.
    pub failure_penalty: f64,
    /// Most that a server may ask to be spared.
    pub retry_after_max: Duration,
    /// Samples that weigh as much as what was believed before; at least 1.
    pub samples_min: f64,
    /// Part of a fair share of requests that goes to hosts that get fewer, 0 to 0.5.
    pub exploration: f64,
    /// Factor by which a weight may change at once; above 1.
    pub step_max: f64,
    /// Until a new host has its full weight.
    pub warm_up: Duration,
    /// Until a host without samples is believed to be like the others.
    pub sample_expiry: Duration,
}

/// `PeakEwma`: of two hosts, the one with the least latency times requests in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    /// Over which a latency fades; above zero.
    pub decay: Duration,
    /// Between two changes of what is believed; above zero.
    pub interval: Duration,
    /// Latency of a host without any, while it is idle.
    pub default: Duration,
    /// Cost of a host that has requests and never answered, milliseconds; finite, at least 0.
    pub penalty: f64,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            interval: Duration::from_millis(100),
            default: Duration::from_millis(10),
            penalty: 1e6,
        }
    }
}

impl Default for LatencyWeighted {
    fn default() -> Self {
        Self {
            selector: Selector::default(),
            window: Duration::from_secs(10),
            update_period: Duration::from_millis(250),
            weight_base: 20.0,
            weight_min: 1.0,
            weight_max: 100.0,
            epsilon: Duration::from_micros(100),
            guards: Some(Guards::default()),
            reads_reports: true,
        }
    }
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            failure_penalty: 10.0,
            retry_after_max: Duration::from_secs(10),
            samples_min: 20.0,
            exploration: 0.01,
            step_max: 2.0,
            warm_up: Duration::from_secs(10),
            sample_expiry: Duration::from_secs(10),
        }
    }
}
