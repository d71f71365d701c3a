//! How one of several members is chosen.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::config::endpoint::HealthStatus;
use crate::config::hash_policy::HashPolicy;
use crate::config::latency::LatencyWeighted;
use crate::config::latency::PeakEwma;
use crate::config::load_report::ReportWeighted;
use crate::config::load_report::WantedReports;
use crate::config::subset::Subsets;
use crate::config::zone::ZoneAware;

/// Envoy's default for `healthy_panic_threshold`.
pub const PANIC_PERCENT: u32 = 50;

/// How one of several members is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancing {
    /// Inside a priority.
    pub policy: LbPolicy,
    /// When fewer members of a priority are usable than this percentage, and all priorities together
    /// cannot take the load, all its members are used (panic); 0 is never, at most 100.
    pub panic_percent: u32,
    /// In a panic nobody is used instead. Policies that hash do not know it.
    pub fails_in_panic: bool,
    /// Localities take load by their weight, then their members inside of them.
    pub by_locality: bool,
    /// Requests stay in the zone of the proxy, as far as that is fair. Only for round robin, least
    /// request and random; localities that take load by their weight come first.
    pub zone_aware: ZoneAware,
    /// What names members, which go before the policy (`OverrideHost`).
    pub override_sources: Vec<NameSource>,
    /// With such a health a member may be named by a session (`override_host_status`).
    pub override_statuses: HealthStatuses,
    /// Members are divided, and requests ask for some of them.
    pub subsets: Option<Arc<Subsets>>,
    /// New members take less at first. Policies that hash, and random, do not know it.
    pub slow_start: Option<SlowStart>,
    /// Looks on, and is itself not looked on.
    pub shadow: Option<Box<Self>>,
}

impl LoadBalancing {
    /// Whether answers are measured.
    pub fn measures_latency(&self) -> bool {
        self.policy.measures_latency() || self.shadow.is_some()
    }

    /// Whether what comes of requests changes how members are chosen, or would.
    pub fn has_feedback(&self) -> bool {
        self.policy.has_feedback() || self.shadow.is_some()
    }

    /// What is made of load reports, if anything is.
    pub fn load_reports(&self) -> Option<WantedReports<'_>> {
        let shadow = self.shadow.as_ref();
        let of_shadow = || shadow.and_then(|shadow| shadow.policy.load_reports());
        self.policy.load_reports().or_else(of_shadow)
    }

    /// What a policy that looks on and hashes goes by, if the one that chooses does not hash.
    pub fn shadow_hashing(&self) -> Option<&Hashing> {
        self.shadow.as_ref()?.policy.hashing()
    }
}

impl Default for LoadBalancing {
    fn default() -> Self {
        Self {
            policy: LbPolicy::default(),
            panic_percent: PANIC_PERCENT,
            fails_in_panic: false,
            by_locality: false,
            zone_aware: ZoneAware::default(),
            override_sources: Vec::new(),
            override_statuses: HealthStatuses::default(),
            subsets: None,
            slow_start: None,
            shadow: None,
        }
    }
}

/// Where members are named (`OverrideHostSource`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// In a header of a request.
    Header(HeaderName),
    /// In dynamic metadata of a connection, which is what streams have; requests have none.
    Metadata {
        /// Whose it is.
        namespace: Box<str>,
        /// Its name there. With more than one it is never there, as nothing is inside of a text.
        path: Box<[Box<str>]>,
    },
}

/// A set of [`HealthStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthStatuses(u8);

impl Default for HealthStatuses {
    /// Envoy's.
    fn default() -> Self {
        [
            HealthStatus::Degraded,
            HealthStatus::Healthy,
            HealthStatus::Unknown,
        ]
        .into_iter()
        .collect()
    }
}

impl FromIterator<HealthStatus> for HealthStatuses {
    fn from_iter<I: IntoIterator<Item = HealthStatus>>(statuses: I) -> Self {
        let bits = statuses.into_iter().map(|status| 1 << status as u8);
        Self(bits.fold(0, |all, bit: u8| all | bit))
    }
}

impl HealthStatuses {
    /// Whether it is one of them.
    pub fn has(self, status: HealthStatus) -> bool {
        self.0 & (1 << status as u8) != 0
    }
}

/// How one of several members of a priority is chosen.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LbPolicy {
    /// By weights that follow latency.
    Latency(LatencyWeighted),
    /// The fewest requests in flight.
    LeastRequest(LeastRequest),
    /// By the hash of a request, in a table of all members.
    Maglev(Maglev),
    /// One host as long as it can be reached.
    PickFirst(PickFirst),
    /// Of two, the one with the least latency times requests in flight.
    PeakEwma(PeakEwma),
    /// Any, whatever its weight.
    Random,
    /// By weights that servers report.
    Reported(ReportWeighted),
    /// By the hash of a request, on a ring of all members.
    RingHash(RingHash),
    /// Weighted round robin.
    #[default]
    RoundRobin,
}

impl LbPolicy {
    /// As people and `weir lb set` call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latency(config) if config.guards.is_none() => "latency-plain",
            Self::Latency(_) => "latency",
            Self::LeastRequest(_) => "least-request",
            Self::Maglev(_) => "maglev",
            Self::PeakEwma(_) => "peak-ewma",
            Self::PickFirst(_) => "pick-first",
            Self::Random => "random",
            Self::Reported(_) => "client-side-weighted",
            Self::RingHash(_) => "ring-hash",
            Self::RoundRobin => "round-robin",
        }
    }

    /// What policies with feedback from latency are made of.
    pub fn latency(&self) -> Option<&LatencyWeighted> {
        match self {
            Self::Latency(config) => Some(config),
            _ => None,
        }
    }

    /// Whether it knows zones.
    pub fn knows_zones(&self) -> bool {
        match self {
            Self::LeastRequest(_) | Self::Random | Self::RoundRobin => true,
            Self::Latency(_)
            | Self::Maglev(_)
            | Self::PeakEwma(_)
            | Self::PickFirst(_)
            | Self::Reported(_)
            | Self::RingHash(_) => false,
        }
    }

    /// What policies that choose by the hash of a request have in common.
    pub fn hashing(&self) -> Option<&Hashing> {
        match self {
            Self::Maglev(maglev) => Some(&maglev.hashing),
            Self::RingHash(ring) => Some(&ring.hashing),
            Self::Latency(_)
            | Self::LeastRequest(_)
            | Self::PickFirst(_)
            | Self::PeakEwma(_)
            | Self::Random
            | Self::Reported(_)
            | Self::RoundRobin => None,
        }
    }

    /// What policies make of load reports that follow them.
    pub fn load_reports(&self) -> Option<WantedReports<'_>> {
        match self {
            Self::Reported(config) => Some(WantedReports {
                utilization: &config.utilization,
                error_penalty: config.error_penalty,
                are_extra: false,
            }),
            Self::Latency(config) if config.reads_reports => Some(WantedReports {
                utilization: &[],
                error_penalty: 1.0,
                are_extra: true,
            }),
            _ => None,
        }
    }

    /// Whether the time until answers come is measured.
    pub fn measures_latency(&self) -> bool {
        matches!(self, Self::Latency(_) | Self::PeakEwma(_))
    }

    /// Whether weights change while members stay.
    pub fn has_feedback(&self) -> bool {
        self.measures_latency() || matches!(self, Self::Reported(_))
    }
}

/// `SlowStartConfig`: a new member has `(age / window) ^ (1 / aggression)` of its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long a member is new; above zero.
    pub window: Duration,
    /// A finite number above 0.
    pub aggression: f64,
    /// Part of its weight that a member has at least, within 0 and 1.
    pub weight_min: f64,
}

impl SlowStart {
    /// The part of its weight that a member of this age has.
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let age = age.max(Duration::from_millis(1)); // as Envoy counts
        let part = (age.as_secs_f64() / self.window.as_secs_f64()).min(1.0);
        part.powf(self.aggression.recip()).max(self.weight_min)
    }
}

/// How the one with the fewest requests in flight is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastRequest {
    /// Who is compared, if all weights are equal.
    pub selection: Selection,
    /// Otherwise a share is `weight / (in flight + 1) ^ bias`; a finite number of at least 0.
    pub bias: f64,
}

/// `PickFirst`: the first host in order that can be reached takes all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PickFirst {
    /// The order is one that chance makes, not that of the assignment.
    pub shuffles: bool,
}

/// `LeastRequest.selection_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// So many, drawn at random; at least 2.
    Choices(u32),
    /// All.
    FullScan,
}

/// What policies that choose by the hash of a request have in common
/// (`ConsistentHashingLbConfig`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hashing {
    /// A member without a key of its own is known by its host name instead of its address.
    pub by_hostname: bool,
    /// Percent of the average load that a member takes at most, at least 100; `None` is no bound.
    pub balance_factor: Option<u32>,
    /// What is hashed; empty if the route says it.
    pub policies: Vec<HashPolicy>,
}

/// `RingHash`.
#[derive(Clone, Debug, PartialEq)]
pub struct RingHash {
    /// What members are placed by.
    pub function: HashFunction,
    /// Places on the ring at least, if that is not above `size_max`.
    pub size_min: u64,
    /// Places on the ring at most; at least `size_min` and 1.
    pub size_max: u64,
    /// See there.
    pub hashing: Hashing,
}

/// `RingHash.hash_function`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashFunction {
    /// 64-bit MurmurHash2 with the seed of libstdc++.
    Murmur2,
    /// XXH64.
    #[default]
    Xx,
}

/// `Maglev`.
#[derive(Clone, Debug, PartialEq)]
pub struct Maglev {
    /// Places in the table, a prime number.
    pub table_size: u64,
    /// See there.
    pub hashing: Hashing,
}
