//! What a cluster keeps while its value changes, and who is told of a change.

use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::time::Instant;

use super::Cell;
use super::UpstreamCluster;
use crate::config;
use crate::upstream::departure::Cause;
use crate::upstream::departure::Drained;
use crate::upstream::host::Fitness;
use crate::upstream::host::Moves;
use crate::upstream::learned::Learned;
use crate::upstream::shadow::Watch;

impl Cell {
    pub(super) fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shadow(&self) -> MutexGuard<'_, Option<Watch>> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drained(&self) -> MutexGuard<'_, Drained> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When what runs on members that leave now is cut.
    pub(super) fn cut_at(&self) -> Option<Instant> {
        self.departures.get().map(|departures| departures.cut_at())
    }

    /// Tells who has left, and why those did that were removed.
    pub(super) fn tell(&self, config: &config::Cluster, moves: Moves, cause: Cause) {
        let Some(departures) = self.departures.get() else {
            return;
        };
        for host in moves.returned {
            departures.returned(&host);
        }
        if moves.left.is_empty() {
            departures.ring(); // connections of hosts that were only made anew are idle now
            return;
        }
        let with_cause = |(host, found)| match found {
            Cause::Removed => (host, cause),
            Cause::Drained | Cause::Draining => (host, found),
        };
        let left = moves.left.into_iter().map(with_cause).collect();
        let stats = departures.add((&self.name, &config.stat_name), left);
        let _ = self.drain_stats.set(stats); // it is the same each time
    }

    /// Tells new balancers what is known already.
    pub(super) fn inform(&self, new: &UpstreamCluster) {
        if let Some(learned) = self.inform_shadow(new) {
            self.learned().adopt(learned);
        }
        let policy = &new.config.load_balancing.policy;
        let members = new.hosts.members();
        if policy.has_feedback()
            && let Some(factors) = self.learned().begin(policy, members)
        {
            new.hosts.set_factors(&factors);
        }
    }

    /// Who looks on. What one learned that does so no more is for the policy that chooses now.
    pub(super) fn inform_shadow(&self, new: &UpstreamCluster) -> Option<Learned> {
        let wanted = new.config.load_balancing.shadow.as_deref();
        let mut shadow = self.shadow();
        let is_other = |watch: &mut Watch| wanted.is_none_or(|wanted| !watch.is_of(wanted));
        let learned = shadow.take_if(is_other).map(Watch::into_learned);
        if let Some(wanted) = wanted {
            let watch = shadow.get_or_insert_with(|| Watch::new(wanted));
            if let Some(factors) = watch.begin(new.hosts.members()) {
                new.hosts.set_shadow_factors(&factors);
            }
        }
        learned
    }

    pub(super) fn record_membership(&self) {
        let current = self.current.load();
        let members = current.hosts.members();
        if let Some(zone) = current.zone.as_ref().filter(|zone| zone.is_of(&self.name)) {
            zone.update(members, &current.serving);
        }
        let count = |fitness| {
            let members = members.iter();
            members.filter(|member| member.fitness() == fitness).count()
        };
        let excluded = members.iter().filter(|member| member.flags.is_excluded());
        self.stats.membership_total().set_count(members.len());
        self.stats
            .membership_healthy()
            .set_count(count(Fitness::Fit));
        self.stats
            .membership_degraded()
            .set_count(count(Fitness::Degraded));
        self.stats.membership_excluded().set_count(excluded.count());
    }
}
