//! Who of a cluster's hosts is ejected, and for how long. Sans-IO: time, chance and what the hosts did
//! are arguments. The rules are Envoy's, to the order in which they are looked at.

use std::collections::HashMap;
use std::time::Duration;

use super::monitor::Sum;
use super::monitor::Sums;
use crate::config::health::OutlierDetection;
use crate::upstream::health::timeline::Kind;

/// What is known of one host.
#[derive(Debug, Default)]
struct Tracked {
    before: Sums,
    /// It takes no load.
    ejected: Term,
    /// It takes load only where too few others do.
    degraded: Term,
    /// Percent, of the last interval, if there were enough requests.
    success_rate: Option<f64>,
}

/// Something that a host is for a while, longer each time.
#[derive(Debug, Default)]
struct Term {
    /// Since then, if it is.
    since: Option<Duration>,
    ended_at: Option<Duration>,
    /// It lasts as many times the base.
    backoff: u32,
    jitter: Duration,
    /// How often it was.
    count: u32,
}

impl Term {
    fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Says how often it has begun.
    fn begin(&mut self, config: &OutlierDetection, now: Duration, rng: &mut fastrand::Rng) -> u32 {
        let jitter = u64::try_from(config.max_ejection_time_jitter.as_millis());
        let jitter = rng.u64(0..=jitter.unwrap_or(u64::MAX));
        self.jitter = Duration::from_millis(jitter);
        self.since = Some(now);
        self.count = self.count.saturating_add(1);
        let base = config.base_ejection_time;
        let longest = config.max_ejection_time.saturating_add(base);
        if base.saturating_mul(self.backoff) < longest {
            self.backoff = self.backoff.saturating_add(1);
        }
        self.count
    }

    fn is_over(&self, config: &OutlierDetection, now: Duration) -> bool {
        let Some(since) = self.since else {
            return false;
        };
        let wanted = config.base_ejection_time.saturating_mul(self.backoff);
        let wanted = wanted.min(config.max_ejection_time);
        wanted.saturating_add(self.jitter) <= now.saturating_sub(since)
    }

    /// Says how long it was, if it was.
    fn end(&mut self, now: Duration) -> Option<Duration> {
        let after = now.saturating_sub(self.since.take()?);
        self.ended_at = Some(now);
        Some(after)
    }

    /// After an interval without it, it is shorter the next time.
    fn relent(&mut self, config: &OutlierDetection, now: Duration) {
        let behaved = self.since.is_none()
            && (self.ended_at).is_some_and(|at| now.saturating_sub(at) >= config.interval);
        if behaved {
            self.backoff = self.backoff.saturating_sub(1);
        }
    }
}

/// Everything known of a cluster's hosts.
#[derive(Debug)]
pub struct Detector {
    hosts: HashMap<u64, Tracked>,
    /// In the order of the cluster.
    order: Vec<u64>,
    ejected: usize,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// A rule says that the host is an outlier.
    Detected {
        /// Which host.
        host: u64,
        /// Which rule.
        kind: Kind,
        /// What comes of it.
        then: Then,
    },
    /// It takes load again.
    Returned {
        /// Which host.
        host: u64,
        /// After so long.
        after: Duration,
    },
    /// It says that it is degraded.
    Degraded {
        /// Which host.
        host: u64,
        /// So many times by now.
        count: u32,
    },
    /// It counts among the others again.
    Recovered {
        /// Which host.
        host: u64,
        /// After so long.
        after: Duration,
    },
}

/// What comes of being an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It takes no load for a while; so many times by now.
    Ejected(u32),
    /// Nothing, as the rule is not enforced this time.
    Noted,
    /// Nothing, as too many are ejected already.
    Spared,
}

impl Detector {
    /// Nobody is known.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hosts: HashMap::new(),
            order: Vec::new(),
            ejected: 0,
        }
    }

    /// These are the hosts now, with what they have done so far.
    pub fn meet(&mut self, hosts: impl Iterator<Item = (u64, Sums)>) {
        let mut old = std::mem::take(&mut self.hosts);
        self.order.clear();
        for (id, before) in hosts {
            let new = || Tracked {
                before,
                ..Tracked::default()
            };
            let tracked = old.remove(&id).unwrap_or_else(new);
            if self.hosts.insert(id, tracked).is_none() {
                self.order.push(id);
            }
        }
        let is_ejected = |tracked: &&Tracked| tracked.ejected.is_on();
        self.ejected = self.hosts.values().filter(is_ejected).count();
    }

    /// Hosts that are ejected.
    #[must_use]
    pub fn ejected(&self) -> usize {
        self.ejected
    }

    /// Percent of requests that succeeded in the last interval, if there were enough.
    #[must_use]
    pub fn success_rate(&self, host: u64) -> Option<f64> {
        self.hosts.get(&host)?.success_rate
    }

    /// A host failed too often in a row.
    pub fn trip(
        &mut self,
        config: &OutlierDetection,
        (host, kind): (u64, Kind),
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Verdict> {
        let tracked = self.hosts.get(&host)?;
        if tracked.ejected.is_on() {
            return None;
        }
        self.detect(config, (host, kind), now, rng)
    }

    /// A host says that it is degraded.
    pub fn degrade(
        &mut self,
        config: &OutlierDetection,
        host: u64,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Verdict> {
        let tracked = self.hosts.get_mut(&host)?;
        if tracked.degraded.is_on() {
            return None;
        }
        let count = tracked.degraded.begin(config, now, rng);
        Some(Verdict::Degraded { host, count })
    }

    /// A check says that the host is fit.
    pub fn restore(&mut self, host: u64, now: Duration) -> Option<Verdict> {
        let after = self.hosts.get_mut(&host)?.ejected.end(now)?;
        self.ejected = self.ejected.saturating_sub(1);
        Some(Verdict::Returned { host, after })
    }

    /// An interval is over; `sums` is what a host has done so far.
    pub fn look(
        &mut self,
        config: &OutlierDetection,
        sums: impl Fn(u64) -> Sums,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut fresh = Vec::with_capacity(self.order.len());
        for host in self.order.clone() {
            let tracked = self.hosts.get(&host);
            if tracked.is_some_and(|tracked| tracked.ejected.is_over(config, now)) {
                verdicts.extend(self.restore(host, now));
            }
            let Some(tracked) = self.hosts.get_mut(&host) else {
                continue;
            };
            if tracked.degraded.is_over(config, now) {
                let ended = tracked.degraded.end(now);
                verdicts.extend(ended.map(|after| Verdict::Recovered { host, after }));
            }
            let sums = sums(host);
            fresh.push((
                host,
                sums.external.since(&tracked.before.external),
                sums.local.since(&tracked.before.local),
            ));
            tracked.before = sums;
            tracked.success_rate = None;
        }
        let external = fresh.iter().map(|(host, external, _)| (*host, *external));
        let external: Vec<_> = external.collect();
        self.judge(config, &external, false, (now, rng), &mut verdicts);
        let local: Vec<_> = fresh
            .iter()
            .map(|(host, _, local)| (*host, *local))
            .collect();
        self.judge(config, &local, true, (now, rng), &mut verdicts);
        self.relent(config, now);
        verdicts
    }

    /// Looks for hosts that are worse than the others, or too bad.
    fn judge(
        &mut self,
        config: &OutlierDetection,
        fresh: &[(u64, Sum)],
        is_local: bool,
        (now, rng): (Duration, &mut fastrand::Rng),
        verdicts: &mut Vec<Verdict>,
    ) {
        let (rate, percentage) = (&config.success_rate, &config.failure_percentage);
        let enough = |most: u32| self.hosts.len() >= most as usize;
        if !enough(rate.hosts_min) && !enough(percentage.hosts_min) {
            return;
        }
        let requests_min = rate.requests_min.min(percentage.requests_min);
        let mut rates: Vec<(u64, f64, u64)> = Vec::new();
        for (host, sum) in fresh {
            let Some(tracked) = self.hosts.get_mut(host) else {
                continue;
            };
            if tracked.ejected.is_on() || sum.total == 0 {
                continue;
            }
            let percent = real(sum.good) * 100.0 / real(sum.total);
            if sum.total >= u64::from(requests_min) && !is_local {
                tracked.success_rate = Some(percent);
            }
            rates.push((*host, percent, sum.total));
        }
        let with = |least: u32| -> Vec<(u64, f64)> {
            let judged = rates
                .iter()
                .filter(|(.., total)| *total >= u64::from(least));
            judged.map(|(host, percent, _)| (*host, *percent)).collect()
        };
        let kinds = if is_local {
            (
                Kind::SuccessRateLocalOrigin,
                Kind::FailurePercentageLocalOrigin,
            )
        } else {
            (Kind::SuccessRate, Kind::FailurePercentage)
        };
        let judged = with(rate.requests_min);
        let mut outliers = Vec::new();
        if !judged.is_empty() && judged.len() >= rate.hosts_min as usize {
            let least = threshold(&judged, f64::from(rate.stdev_factor) / 1000.0);
            let worse = judged.iter().filter(|(_, percent)| *percent < least);
            outliers.extend(worse.map(|(host, _)| (*host, kinds.0)));
        }
        let judged = with(percentage.requests_min);
        if !judged.is_empty() && judged.len() >= percentage.hosts_min as usize {
            let most = f64::from(percentage.threshold);
            let bad = judged.iter().filter(|(_, percent)| 100.0 - percent >= most);
            outliers.extend(bad.map(|(host, _)| (*host, kinds.1)));
        }
        for outlier in outliers {
            verdicts.extend(self.detect(config, outlier, now, rng));
        }
    }

    /// A host is an outlier: ejects it, if that is wanted and allowed.
    fn detect(
        &mut self,
        config: &OutlierDetection,
        (host, kind): (u64, Kind),
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Verdict> {
        let hosts = self.hosts.len();
        let tracked = self.hosts.get_mut(&host)?;
        if tracked.ejected.is_on() {
            // For another reason, a moment ago.
            let then = Then::Noted;
            return Some(Verdict::Detected { host, kind, then });
        }
        let then = |then| Some(Verdict::Detected { host, kind, then });
        let most = u64::from(config.max_ejection_percent.min(100)) * hosts as u64;
        let is_allowed = (self.ejected as u64 + 1) * 100 <= most
            || config.always_ejects_one && self.ejected == 0;
        if !is_allowed {
            return then(Then::Spared);
        }
        if rng.u32(0..100) >= enforcing(config, kind) {
            return then(Then::Noted);
        }
        let ejections = tracked.ejected.begin(config, now, rng);
        self.ejected += 1;
        then(Then::Ejected(ejections))
    }

    /// Who behaved for an interval is ejected for less long the next time.
    fn relent(&mut self, config: &OutlierDetection, now: Duration) {
        for tracked in self.hosts.values_mut() {
            tracked.ejected.relent(config, now);
            tracked.degraded.relent(config, now);
        }
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

fn enforcing(config: &OutlierDetection, kind: Kind) -> u32 {
    match kind {
        Kind::Consecutive5xx => config.consecutive_5xx.enforcing,
        Kind::ConsecutiveGateway => config.consecutive_gateway.enforcing,
        Kind::ConsecutiveLocalOrigin => config.consecutive_local_origin.enforcing,
        Kind::SuccessRate => config.success_rate.enforcing,
        Kind::SuccessRateLocalOrigin => config.success_rate.enforcing_local_origin,
        Kind::FailurePercentage => config.failure_percentage.enforcing,
        Kind::FailurePercentageLocalOrigin => config.failure_percentage.enforcing_local_origin,
    }
}

/// The mean less so many standard deviations.
fn threshold(rates: &[(u64, f64)], factor: f64) -> f64 {
    let count = real(rates.len() as u64);
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2));
    let variance = variance.sum::<f64>() / count;
    mean - factor * variance.sqrt()
}

#[expect(clippy::cast_precision_loss, reason = "counts of one interval")]
fn real(value: u64) -> f64 {
    value as f64
}
