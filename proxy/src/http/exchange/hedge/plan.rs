//! When another attempt is made beside one.

use std::time::Duration;

use tokio::time::Instant;

use super::lane::Lane;
use crate::config::circuit_breakers::Priority;
use crate::config::retry::HedgeAfter;
use crate::upstream::ClusterHandle;
use crate::upstream::breaker::RetryPermit;

/// What is asked for, and the limits of an attempt that go with it.
#[derive(Debug, Default)]
pub(in crate::http::exchange) struct Plan {
    /// An attempt that has taken its time goes on, and another one is made.
    pub(super) on_per_try_timeout: bool,
    /// To the head of the response.
    head: Option<Duration>,
    /// Without anything that moves.
    pub(super) idle: Option<Duration>,
    /// Another one is made beside the first once that is slower than most.
    pub(super) beside: Option<Duration>,
    /// What becomes of attempts is learned from.
    learns: bool,
}

/// Since when the time of an attempt is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    pub(super) began: Instant,
    /// It has taken its time already.
    pub(super) is_timed: bool,
    pub(super) is_first: bool,
}

/// What has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Most are faster.
    Beside,
    Idle,
    PerTry,
}

impl Plan {
    /// `head` and `idle` are the limits of an attempt.
    pub(in crate::http::exchange) fn new(
        on_per_try_timeout: bool,
        (head, idle): (Option<Duration>, Option<Duration>),
    ) -> Self {
        Self {
            on_per_try_timeout,
            head,
            idle,
            beside: None,
            learns: false,
        }
    }

    /// The same, with what the cluster has learned of how long most attempts take.
    pub(in crate::http::exchange) fn after(
        self,
        config: &HedgeAfter,
        cluster: &ClusterHandle,
    ) -> Self {
        let pace = cluster.pace();
        pace.note_request(config.share_per_mille);
        let usual = pace.quantile(config.per_mille, config.samples_min);
        Self {
            beside: usual.map(|usual| usual.max(config.delay_min)),
            learns: true,
            ..self
        }
    }

    /// What passes next of an attempt that stands since then.
    pub(super) fn next_due(&self, since: Since) -> Option<(Instant, Limit)> {
        let head = self.head.filter(|_| !since.is_timed);
        let beside = self.beside.filter(|_| since.is_first);
        let limits = [
            beside.map(|usual| (usual, Limit::Beside)),
            head.map(|head| (head, Limit::PerTry)),
            self.idle.map(|idle| (idle, Limit::Idle)),
        ];
        let next = limits.into_iter().flatten().min_by_key(|(after, _)| *after);
        next.map(|(after, limit)| (since.began + after, limit))
    }

    /// Takes a place among the attempts beside others, and among the retries of the cluster.
    pub(super) fn take_hedge(
        &self,
        cluster: &ClusterHandle,
        priority: Priority,
    ) -> Option<RetryPermit> {
        if !cluster.pace().take_share() {
            return None;
        }
        let permit = cluster.breakers().try_retry(priority);
        if permit.is_some() {
            cluster.stats().upstream_rq_hedge().inc();
        } else {
            cluster.pace().give_back_share();
        }
        permit
    }

    /// Learns how long an attempt took; one that lost would have taken longer still.
    pub(super) fn note(&self, lane: &Lane) {
        if let Some(began) = lane.began.filter(|_| self.learns) {
            lane.cluster.pace().note(began.elapsed());
        }
    }
}
