//! From what all workers measured to a weight per member, once per period.

use std::collections::HashMap;
use std::time::Duration;

use super::estimate::Common;
use super::estimate::Estimate;
use super::estimate::Fresh;
use super::estimate::fade;
use super::samples::CLASSES;
use super::samples::Reading;
use super::window::Window;
use crate::config::latency::LatencyWeighted;
use crate::upstream::host::Member;
use crate::upstream::load_balancer::Partial;

/// The baseline is the latency that so many requests do not exceed.
const BASELINE: f64 = 0.9;

/// What hosts say counts where they serve so many times as many requests as come from here. With fewer, a proxy's
/// own requests say as much: in the simulator two proxies gain a percent in some scenarios and lose two in S5.
const PROXIES_MIN: f64 = 4.0;

/// A latency below this is none a clock can tell.
const LATENCY_MIN_US: f64 = 1.0;

/// Everything a cluster has learned; survives changes of members and of the policy.
#[derive(Debug)]
pub struct Feedback {
    config: LatencyWeighted,
    window: Window,
    /// Good answers of each route class, fading with the window.
    classes: [Mean; CLASSES],
    /// By the host's id.
    hosts: HashMap<u64, Estimate>,
    folded_at: Option<Duration>,
    common: Option<Common>,
    /// Requests per second of all hosts, fading over a second.
    rate: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    us: f64,
    count: f64,
}

impl Mean {
    fn get(&self) -> Option<f64> {
        (self.count > 0.0).then(|| (self.us / self.count).max(LATENCY_MIN_US))
    }
}

/// Why a host has its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// The weight, before the configured one is multiplied.
    pub weight: f64,
    /// The host's latency as it is believed to be.
    pub latency: Duration,
    /// The baseline it was compared with.
    pub baseline: Duration,
    /// Latency over that of the others; 1 is like them.
    pub ratio: f64,
    /// Samples ever.
    pub samples: u64,
    /// Failures among them.
    pub failed: u64,
    /// Left alone because it asked for it.
    pub is_spared: bool,
    /// What the weight moves towards.
    pub wanted: f64,
    /// What keeps the formula from its traps; `None` is the formula alone.
    pub guard: Option<Guard>,
}

/// What keeps a host's weight from the traps of the formula, in numbers of this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// What a failure counts as, at least.
    pub penalty: Duration,
    /// The least weight.
    pub floor: f64,
    /// The part of all picks that this host gets whatever its weight.
    pub explored: f64,
    /// The factor by which the weight may change in a period.
    pub step_max: f64,
}

impl Feedback {
    /// Nothing is known.
    pub fn new(config: LatencyWeighted) -> Self {
        Self {
            window: Window::new(config.window),
            config,
            classes: [Mean::default(); CLASSES],
            hosts: HashMap::new(),
            folded_at: None,
            common: None,
            rate: 0.0,
        }
    }

    /// Other constants from now on; what was learned stays.
    pub fn set_config(&mut self, config: LatencyWeighted) {
        if config.window != self.config.window {
            self.window = Window::new(config.window);
        }
        self.config = config;
    }

    /// Whether a period is over.
    pub fn is_due(&self, now: Duration) -> bool {
        self.folded_at
            .is_none_or(|at| now.saturating_sub(at) >= self.config.update_period)
    }

    /// Takes in what came since the last time.
    pub fn fold(&mut self, members: &[Member], now: Duration) {
        let passed = now.saturating_sub(self.folded_at.unwrap_or(now));
        let is_first = self.folded_at.replace(now).is_none();
        self.meet(members, now, is_first);
        let readings: Vec<Reading> = members.iter().map(read).collect();
        self.learn_classes(members, &readings, passed);
        let Some(mean_us) = self.mean() else {
            return;
        };
        self.window.advance(now);
        let fresh: Vec<Fresh> = members
            .iter()
            .zip(&readings)
            .map(|(member, reading)| self.fresh(member.host.id, reading, mean_us))
            .collect();
        if !passed.is_zero() {
            let count: f64 = fresh.iter().map(|fresh| fresh.count).sum();
            let gain = 1.0 - fade(passed, Duration::from_secs(1));
            self.rate += gain * (count / passed.as_secs_f64() - self.rate);
        }
        let baseline_us = self.window.percentile(BASELINE).unwrap_or(mean_us);
        let common = Common {
            now,
            passed,
            mean_us,
            baseline_us: baseline_us.max(LATENCY_MIN_US),
        };
        self.common = Some(common);
        for ((member, reading), fresh) in members.iter().zip(readings).zip(fresh) {
            let Some(estimate) = self.hosts.get_mut(&member.host.id) else {
                continue;
            };
            spare(estimate, &reading, &self.config, now);
            estimate.update(&fresh, &common, &self.config);
            hear(estimate, member, &reading, (&self.config, now));
            estimate.before = reading;
        }
    }

    /// A factor for each member's configured weight, as last computed.
    pub fn weights(&self, members: &[Member]) -> Vec<f64> {
        let weight = |member: &Member| {
            let known = self.hosts.get(&member.host.id);
            known.map_or(self.config.weight_base, |estimate| estimate.weight)
        };
        members.iter().map(weight).collect()
    }

    /// Members that got no request for so long that they are to get one whatever their weight, in ascending order of
    /// their places.
    pub fn explored(&mut self, members: &[Member]) -> Vec<usize> {
        let (Some(guards), Some(now)) = (self.config.guards, self.folded_at) else {
            return Vec::new();
        };
        let fair = self.fair();
        let mut is_forgotten = |member: &Member| {
            let estimate = self.hosts.get_mut(&member.host.id);
            estimate.is_some_and(|estimate| {
                estimate.explore(now, estimate.patience(fair, guards.exploration))
            })
        };
        let places = members.iter().enumerate();
        let forgotten = places.filter(|(_, member)| is_forgotten(member));
        forgotten.map(|(place, _)| place).collect()
    }

    /// Requests per second of a host if all had as many.
    fn fair(&self) -> f64 {
        self.rate / real(self.hosts.len() as u64).max(1.0)
    }

    /// What is known of requests that others make, if they make most of them and hosts say so.
    pub fn partial(&self, members: &[Member]) -> Option<Partial> {
        if !self.config.reads_reports {
            return None;
        }
        let (mut served, mut own) = (0.0, 0.0);
        let (mut in_flight, mut known) = (0.0, 0.0);
        for member in members {
            let estimate = self.hosts.get(&member.host.id)?;
            let Some(rate) = estimate.serves else {
                continue;
            };
            served += rate;
            own += estimate.rate(self.folded_at.unwrap_or_default(), &self.config);
            if let Some(told) = member.host.told().in_flight() {
                in_flight += told;
                known += 1.0;
            }
        }
        let proxies = served / own;
        let counts = known > 0.0 && proxies.is_finite() && proxies >= PROXIES_MIN;
        counts.then(|| Partial {
            proxies,
            usual: in_flight / known,
        })
    }

    /// Why a host has its weight; `None` before the first answers.
    pub fn standing(&self, host: u64) -> Option<Standing> {
        let (estimate, common) = (self.hosts.get(&host)?, self.common.as_ref()?);
        let duration = |us: f64| Duration::from_secs_f64((us / 1e6).clamp(0.0, 1e9));
        Some(Standing {
            weight: estimate.weight,
            latency: duration(estimate.ratio * common.mean_us),
            baseline: duration(common.baseline_us),
            ratio: estimate.ratio,
            samples: whole(estimate.seen),
            failed: estimate.failed,
            is_spared: estimate
                .spared_until
                .is_some_and(|until| common.now < until),
            wanted: estimate.wanted,
            guard: self.config.guards.map(|guards| Guard {
                penalty: duration(guards.failure_penalty * common.baseline_us),
                floor: self.config.weight_min,
                explored: self.explored_part(estimate, guards.exploration),
                step_max: guards.step_max,
            }),
        })
    }

    /// Of all requests, what a host gets at least.
    fn explored_part(&self, estimate: &Estimate, exploration: f64) -> f64 {
        if self.rate <= 0.0 {
            return 0.0;
        }
        let patience = estimate.patience(self.fair(), exploration);
        (patience.as_secs_f64() * self.rate).recip()
    }

    /// Makes room for new members and forgets who is gone.
    fn meet(&mut self, members: &[Member], now: Duration, is_first: bool) {
        if self.hosts.len() > members.len() {
            let there: std::collections::HashSet<u64> =
                members.iter().map(|member| member.host.id).collect();
            self.hosts.retain(|id, _| there.contains(id));
        }
        let joined_at = (!is_first && !self.hosts.is_empty()).then_some(now);
        let base = self.config.weight_base;
        for member in members {
            let new = || {
                let mut estimate = Estimate::new(now, joined_at, base);
                // What failed under another policy is no news.
                estimate.before.unconnected = member.host.sum(|counts| &counts.cx_connect_fail);
                estimate
            };
            self.hosts.entry(member.host.id).or_insert_with(new);
        }
    }

    fn learn_classes(&mut self, members: &[Member], readings: &[Reading], passed: Duration) {
        let fade = fade(passed, self.config.window);
        for class in &mut self.classes {
            class.us *= fade;
            class.count *= fade;
        }
        for (member, reading) in members.iter().zip(readings) {
            let Some(estimate) = self.hosts.get(&member.host.id) else {
                continue;
            };
            let sums = reading.classes.iter().zip(&estimate.before.classes);
            for (mean, (sum, before)) in self.classes.iter_mut().zip(sums) {
                let new = sum.since(before);
                mean.us += real(new.good_us);
                mean.count += real(new.good);
            }
        }
    }

    /// Over all classes, microseconds.
    fn mean(&self) -> Option<f64> {
        let sum = |sum: Mean, class: &Mean| Mean {
            us: sum.us + class.us,
            count: sum.count + class.count,
        };
        self.classes.iter().fold(Mean::default(), sum).get()
    }

    /// What is new of one host. A failure is as long as the penalty, or as it took.
    fn fresh(&mut self, host: u64, reading: &Reading, mean_us: f64) -> Fresh {
        let Some(estimate) = self.hosts.get_mut(&host) else {
            return Fresh::default();
        };
        let guards = self.config.guards;
        let factor = guards.map_or(0.0, |guards| guards.failure_penalty);
        let baseline_us = self.window.percentile(BASELINE).unwrap_or(mean_us);
        let (mut good, mut good_us, mut usual_us) = (0.0, 0.0, 0.0);
        let (mut failed, mut failed_us) = (0.0, 0.0);
        for (class, sum) in reading.classes.iter().enumerate() {
            let before = estimate.before.classes.get(class).copied();
            let new = sum.since(&before.unwrap_or_default());
            let class_us = self
                .classes
                .get(class)
                .and_then(Mean::get)
                .unwrap_or(mean_us);
            good += real(new.good);
            good_us += real(new.good_us);
            usual_us += real(new.good) * class_us;
            failed += real(new.failed);
            failed_us += real(new.failed_us);
            estimate.failed += new.failed;
        }
        // Whoever cannot be reached fails without having been measured.
        let unconnected = reading
            .unconnected
            .saturating_sub(estimate.before.unconnected);
        estimate.failed += unconnected;
        failed += real(unconnected);
        let failed_ratio = (failed * factor * baseline_us).max(failed_us) / mean_us;
        // Time over the usual time of such requests: the mean of single ratios would be ruled by fast
        // requests that waited behind slow ones.
        let good_ratio = match usual_us > 0.0 {
            true => good_us / usual_us * good,
            false => 0.0,
        };
        let us = good_us + failed_us;
        if good > 0.0 {
            self.window.add(good_ratio / good * mean_us, good);
        }
        let count = good + failed;
        Fresh {
            count,
            ratio: (good_ratio + failed_ratio) / count.max(1.0),
            us,
            is_waiting: reading.is_waiting(),
            was_asked: reading.begun > estimate.before.begun || count > 0.0,
        }
    }
}

pub(super) fn read(member: &Member) -> Reading {
    let mut reading = Reading::default();
    member.host.each_counts(|counts| {
        counts.samples.add_to(&mut reading);
        counts.reports.add_to(&mut reading.reports);
        reading.unconnected += counts.cx_connect_fail.value();
    });
    reading
}

/// Believes a host that says what it has to do, until it is silent for too long.
fn hear(
    estimate: &mut Estimate,
    member: &Member,
    reading: &Reading,
    (config, now): (&LatencyWeighted, Duration),
) {
    let expiry = config
        .guards
        .map_or(Duration::MAX, |guards| guards.sample_expiry);
    if let Some(rate) = reading.reports.rate_since(&estimate.before.reports) {
        estimate.serves = Some(rate);
        estimate.heard_at = now;
    } else if estimate.serves.is_some() && now.saturating_sub(estimate.heard_at) > expiry {
        estimate.serves = None;
        member.host.told().forget();
    }
}

/// Believes a host that asks to be left alone, for as long as is allowed.
fn spare(estimate: &mut Estimate, reading: &Reading, config: &LatencyWeighted, now: Duration) {
    let Some(guards) = &config.guards else {
        return;
    };
    if reading.spared > estimate.before.spared {
        let asked = Duration::from_millis(reading.spare_ms).min(guards.retry_after_max);
        estimate.spared_until = Some(now + asked);
    }
}

#[expect(clippy::cast_precision_loss, reason = "rough numbers are enough")]
fn real(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count, for people"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}
