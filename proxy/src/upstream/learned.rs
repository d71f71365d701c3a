//! All that balancing learns while a cluster lives: it survives changes of members and of the policy.
//!
//! The control side folds what workers recorded, once per period of the policy in force; time comes in as an
//! argument.

use std::time::Duration;

use crate::config::load_balancing::LbPolicy;
use crate::upstream::host::Host;
use crate::upstream::host::Member;
use crate::upstream::latency::Feedback;
use crate::upstream::latency::PeakEwma;
use crate::upstream::latency::Standing;
use crate::upstream::load_balancer::Factors;
use crate::upstream::load_report::ReportedWeights;

/// What was learned for each policy that was ever in force.
#[derive(Debug, Default)]
pub struct Learned {
    latency: Option<Feedback>,
    peak_ewma: Option<PeakEwma>,
    reported: Option<ReportedWeights>,
}

impl Learned {
    /// What a new balancer of this policy begins with; `None` if the policy has no feedback.
    pub fn begin(&mut self, policy: &LbPolicy, members: &[Member]) -> Option<Factors> {
        match policy {
            LbPolicy::Latency(config) => {
                let feedback = self.latency.get_or_insert_with(|| Feedback::new(*config));
                feedback.set_config(*config);
            }
            LbPolicy::PeakEwma(config) => {
                let new = || PeakEwma::new(*config);
                self.peak_ewma.get_or_insert_with(new).set_config(*config);
            }
            LbPolicy::Reported(config) => {
                let new = || ReportedWeights::new(config.clone());
                self.reported.get_or_insert_with(new).set_config(config);
            }
            _ => return None,
        }
        self.factors(policy, members)
    }

    /// Takes in what came since the last time, if the policy wants it and its period is over.
    pub fn fold(
        &mut self,
        policy: &LbPolicy,
        members: &[Member],
        now: Duration,
    ) -> Option<Factors> {
        match policy {
            LbPolicy::Latency(_) => {
                let feedback = self.latency.as_mut().filter(|each| each.is_due(now))?;
                feedback.fold(members, now);
            }
            LbPolicy::PeakEwma(_) => {
                let peak = self.peak_ewma.as_mut().filter(|each| each.is_due(now))?;
                peak.fold(members, now);
            }
            LbPolicy::Reported(_) => {
                let reported = self.reported.as_mut().filter(|each| each.is_due(now))?;
                reported.fold(members, now);
            }
            _ => return None,
        }
        self.factors(policy, members)
    }

    /// Takes over what another policy learned where nothing is known.
    pub fn adopt(&mut self, other: Self) {
        self.latency = self.latency.take().or(other.latency);
        self.peak_ewma = self.peak_ewma.take().or(other.peak_ewma);
        self.reported = self.reported.take().or(other.reported);
    }

    /// Why a host has its weight; `None` before the first answers.
    pub fn standing(&self, host: &Host) -> Option<Standing> {
        self.latency.as_ref()?.standing(host.id)
    }

    fn factors(&mut self, policy: &LbPolicy, members: &[Member]) -> Option<Factors> {
        match policy {
            LbPolicy::Latency(_) => self.latency.as_mut().map(|feedback| Factors {
                of_members: feedback.weights(members),
                explored: feedback.explored(members),
                partial: feedback.partial(members),
            }),
            LbPolicy::PeakEwma(_) => self.peak_ewma.as_ref().map(|peak| Factors {
                of_members: peak.latencies(members),
                ..Factors::default()
            }),
            LbPolicy::Reported(_) => self.reported.as_ref().map(|reported| Factors {
                of_members: reported.weights(members),
                ..Factors::default()
            }),
            _ => None,
        }
    }
}
