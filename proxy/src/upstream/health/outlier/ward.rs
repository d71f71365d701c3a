//! Outlier detection of one cluster, while it lives: looks at its hosts, and says what is said of them.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::detector::Detector;
use super::detector::Then;
use super::detector::Verdict;
use super::monitor::IN_A_ROW;
use super::monitor::Sums;
use crate::config::health::OutlierDetection;
use crate::telemetry::stats::OutlierStats;
use crate::upstream::Host;
use crate::upstream::UpstreamCluster;
use crate::upstream::health::flags::HealthFlags;
use crate::upstream::health::state::Care;
use crate::upstream::health::timeline::Event;
use crate::upstream::health::timeline::Kind;
use crate::upstream::health::timeline::What;

/// One cluster's.
#[derive(Debug)]
pub(in crate::upstream::health) struct Ward {
    config: Arc<OutlierDetection>,
    stats: Arc<OutlierStats>,
    detector: Detector,
    born: Instant,
    looked_at: Instant,
    look_at: Instant,
    rng: fastrand::Rng,
}

impl Ward {
    /// Of a cluster that wants it.
    pub(in crate::upstream::health) fn new(care: &Care) -> Option<Self> {
        let config = Arc::clone(care.config.outlier.as_ref()?);
        let now = Instant::now();
        Some(Self {
            looked_at: now,
            look_at: now + config.interval,
            config,
            stats: Arc::clone(care.outliers.as_ref()?),
            detector: Detector::new(),
            born: now,
            rng: fastrand::Rng::new(),
        })
    }

    /// The rules are these.
    pub(in crate::upstream::health) fn is_of(&self, care: &Care) -> bool {
        let config = care.config.outlier.as_ref();
        config.is_some_and(|config| Arc::ptr_eq(config, &self.config))
    }

    /// When [`Self::look`] is due.
    pub(in crate::upstream::health) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// These are the hosts now.
    pub(in crate::upstream::health) fn meet(&mut self, current: &UpstreamCluster) {
        let members = current.hosts.members().iter();
        self.detector
            .meet(members.map(|member| (member.host.id, sums(&member.host))));
        self.record();
    }

    /// Takes in who failed too often in a row; says whether something else is said of a host now.
    pub(in crate::upstream::health) fn hear(&mut self, current: &UpstreamCluster) -> bool {
        let mut changed = false;
        for member in current.hosts.members() {
            let host = &member.host;
            if host
                .health()
                .is_some_and(|health| health.take_said_degraded())
            {
                let now = self.born.elapsed();
                let verdict = self
                    .detector
                    .degrade(&self.config, host.id, now, &mut self.rng);
                changed |= verdict.is_some_and(|verdict| self.carry_out(host, verdict));
            }
            let Some(streaks) = host.health().and_then(|health| health.streaks.as_ref()) else {
                continue;
            };
            let tripped = streaks.take_tripped();
            for (bit, kind) in IN_A_ROW {
                if tripped & bit == 0 {
                    continue;
                }
                let now = self.born.elapsed();
                let outlier = (host.id, kind);
                let verdict = self
                    .detector
                    .trip(&self.config, outlier, now, &mut self.rng);
                changed |= verdict.is_some_and(|verdict| self.carry_out(host, verdict));
                streaks.begin_again(bit);
            }
        }
        self.record();
        changed
    }

    /// An interval is over, if it is; the rest as [`Self::hear`].
    pub(in crate::upstream::health) fn look(&mut self, current: &UpstreamCluster) -> bool {
        let now = Instant::now();
        if now < self.look_at {
            return false;
        }
        self.look_at = now + self.config.interval;
        let members = current.hosts.members();
        let find = |id: u64| members.iter().find(|member| member.host.id == id);
        let by_id: std::collections::HashMap<u64, Sums> = members
            .iter()
            .map(|member| (member.host.id, sums(&member.host)))
            .collect();
        let of = |id: u64| by_id.get(&id).copied().unwrap_or_default();
        let now = self.born.elapsed();
        let verdicts = self.detector.look(&self.config, of, now, &mut self.rng);
        let mut changed = false;
        for verdict in verdicts {
            let (Verdict::Detected { host, .. }
            | Verdict::Returned { host, .. }
            | Verdict::Degraded { host, .. }
            | Verdict::Recovered { host, .. }) = verdict;
            if let Some(member) = find(host) {
                changed |= self.carry_out(&member.host, verdict);
            }
        }
        self.looked_at = Instant::now();
        for member in members {
            if let Some(health) = member.host.health() {
                health.set_success_rate(self.detector.success_rate(member.host.id));
            }
        }
        self.record();
        changed
    }

    /// A check says that an ejected host is fit.
    pub(in crate::upstream::health) fn restore(&mut self, host: &Host) -> bool {
        if !self.config.check_unejects {
            return false;
        }
        let verdict = self.detector.restore(host.id, self.born.elapsed());
        let changed = verdict.is_some_and(|verdict| self.carry_out(host, verdict));
        self.record();
        changed
    }

    /// Does what was decided of a host; says whether something else is said of it now.
    fn carry_out(&self, host: &Host, verdict: Verdict) -> bool {
        let Some(health) = host.health() else {
            return false;
        };
        let (what, flags) = match verdict {
            Verdict::Returned { after, .. } => {
                if let Some(streaks) = &health.streaks {
                    streaks.begin_all_again();
                }
                let flags = health.flags().without(HealthFlags::EJECTED);
                (What::Returned { after }, Some(flags))
            }
            Verdict::Detected { kind, then, .. } => self.detected(host, kind, then),
            Verdict::Degraded { count, .. } => {
                self.stats.detected_degradation().inc();
                let flags = health.flags().with(HealthFlags::ANSWERS_DEGRADED);
                (What::AnsweredDegraded { count }, Some(flags))
            }
            Verdict::Recovered { after, .. } => {
                let flags = health.flags().without(HealthFlags::ANSWERS_DEGRADED);
                (What::NoLongerDegraded { after }, Some(flags))
            }
        };
        tracing::info!(host = %host.label, ?what, "outlier detection");
        #[expect(
            clippy::disallowed_methods,
            reason = "the timeline tells the time of day"
        )]
        let at = SystemTime::now();
        health.write_down(Event { at, what });
        if let Some(flags) = flags {
            health.set_flags(flags);
        }
        flags.is_some()
    }

    fn detected(&self, host: &Host, kind: Kind, then: Then) -> (What, Option<HealthFlags>) {
        count_detected(&self.stats, kind);
        let health = host.health();
        let requests = || {
            let streaks = health.and_then(|health| health.streaks.as_ref());
            let now = Instant::now();
            let age = now.saturating_duration_since(self.looked_at);
            streaks.map_or_else(Vec::new, |streaks| {
                streaks.take_failed((&self.config, kind), (now, age))
            })
        };
        let ejected = |is_enforced, count| What::Ejected {
            kind,
            is_enforced,
            count,
            requests: requests(),
        };
        match then {
            Then::Ejected(count) => {
                count_enforced(&self.stats, kind);
                let flags = host.health_flags().with(HealthFlags::EJECTED);
                (ejected(true, count), Some(flags))
            }
            Then::Noted => (ejected(false, 0), None),
            Then::Spared => {
                self.stats.ejections_overflow().inc();
                (What::Spared(kind), None)
            }
        }
    }

    fn record(&self) {
        let ejected = self.detector.ejected();
        self.stats.ejections_active().set_count(ejected);
    }
}

/// What a host did so far, all workers together.
fn sums(host: &Host) -> Sums {
    let mut sums = Sums::default();
    host.each_counts(|counts| counts.tally.add_to(&mut sums));
    sums
}

fn count_detected(stats: &OutlierStats, kind: Kind) {
    match kind {
        Kind::Consecutive5xx => stats.detected_5xx(),
        Kind::ConsecutiveGateway => stats.detected_gateway(),
        Kind::ConsecutiveLocalOrigin => stats.detected_local_origin(),
        Kind::SuccessRate => stats.detected_success_rate(),
        Kind::SuccessRateLocalOrigin => stats.detected_local_success_rate(),
        Kind::FailurePercentage => stats.detected_failure_percentage(),
        Kind::FailurePercentageLocalOrigin => stats.detected_local_failure_percentage(),
    }
    .inc();
}

fn count_enforced(stats: &OutlierStats, kind: Kind) {
    stats.ejections_enforced_total().inc();
    match kind {
        Kind::Consecutive5xx => stats.enforced_5xx(),
        Kind::ConsecutiveGateway => stats.enforced_gateway(),
        Kind::ConsecutiveLocalOrigin => stats.enforced_local_origin(),
        Kind::SuccessRate => stats.enforced_success_rate(),
        Kind::SuccessRateLocalOrigin => stats.enforced_local_success_rate(),
        Kind::FailurePercentage => stats.enforced_failure_percentage(),
        Kind::FailurePercentageLocalOrigin => stats.enforced_local_failure_percentage(),
    }
    .inc();
}
