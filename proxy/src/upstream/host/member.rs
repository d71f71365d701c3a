//! What the configuration and health say of a host.

use std::sync::Arc;

use super::Host;
use crate::config::Name;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::Traits;
use crate::upstream::health::HealthFlags;

/// A host with what the configuration currently says of it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The host.
    pub host: Arc<Host>,
    /// At least 1.
    pub weight: u32,
    /// As the control plane reports it.
    pub health: HealthStatus,
    /// 0 is preferred.
    pub priority: u32,
    /// Place of its locality in the configuration.
    pub locality: usize,
    /// What policies that hash know it by, instead of its address or name.
    pub hash_key: Option<Name>,
    /// What retries may avoid it by, and subsets are made by.
    pub traits: Option<Arc<Traits>>,
    /// What its checks and outlier detection said when the set was built.
    pub flags: HealthFlags,
}

/// Whether a member takes load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Only when too few are fit.
    Degraded,
    /// Yes.
    Fit,
    /// Only in a panic.
    Unfit,
}

impl Member {
    /// Whether it takes load, as the control plane, its checks and outlier detection say together.
    pub fn fitness(&self) -> Fitness {
        if self.flags.is_failed() {
            return Fitness::Unfit;
        }
        match self.health {
            HealthStatus::Draining | HealthStatus::Timeout | HealthStatus::Unhealthy => {
                Fitness::Unfit
            }
            HealthStatus::Degraded => Fitness::Degraded,
            HealthStatus::Healthy | HealthStatus::Unknown => {
                if self.flags.is_degraded() {
                    Fitness::Degraded
                } else {
                    Fitness::Fit
                }
            }
        }
    }

    /// Its health as a whole, in the words of the control plane.
    pub fn status(&self) -> HealthStatus {
        if self.flags.is_failed() {
            return HealthStatus::Unhealthy;
        }
        match (self.health, self.fitness()) {
            (HealthStatus::Healthy | HealthStatus::Unknown, Fitness::Degraded) => {
                HealthStatus::Degraded
            }
            (said, _) => said,
        }
    }

    /// Whether it takes load in the ordinary case.
    pub fn is_healthy(&self) -> bool {
        self.fitness() == Fitness::Fit
    }
}
