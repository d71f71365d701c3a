//! What is believed of one host: how its latency relates to that of the others, and what weight it
//! has because of it.

use std::time::Duration;

use super::samples::Reading;
use crate::config::latency::Guards;
use crate::config::latency::LatencyWeighted;

/// A host believed to be slower than this, relative to the others, is believed to have recovered
/// from few samples: it gets few.
const SLOW: f64 = 1.5;

/// More than this is no worse, once an answer comes that is better: the weight is next to the least, and
/// a host that took seconds would not be believed within ten.
const HOPELESS: f64 = 30.0;

/// What chance makes of the ratio of equal hosts.
const NOISE: f64 = 0.1;

/// A host that got no request for so long is sent one, if that is not too much of all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Of a fair share so much is sent to a host that answered well the last time and is believed to be worse. Half a share
/// is no better for who heals, and worse in the simulator's S8, as it goes past those that have less to do.
const LOOK_AGAIN: f64 = 0.1;

/// Whoever has something to answer is looked at so many times less often: one that takes seconds would only make
/// more requests wait. Not never, because a request that never ends must not hide its host.
const BUSY: f64 = 8.0;

/// Within which a slow host that answers well is believed.
const RECOVERY: Duration = Duration::from_secs(2);

/// Where a host that joins others begins.
const RAMP_MIN: f64 = 0.1;

/// What came from one host in one period.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fresh {
    /// Answers and failures.
    pub(super) count: f64,
    /// Mean of their latencies, each relative to its route class.
    pub(super) ratio: f64,
    /// Microseconds of all of them, failures as long as they took.
    pub(super) us: f64,
    /// Attempts that have no first byte yet.
    pub(super) is_waiting: bool,
    /// Attempts began, or could not.
    pub(super) was_asked: bool,
}

/// What all hosts have in common in one period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub(super) now: Duration,
    /// Since the last one.
    pub(super) passed: Duration,
    /// Mean latency, microseconds; above 0.
    pub(super) mean_us: f64,
    /// The 90th percentile, microseconds; above 0.
    pub(super) baseline_us: f64,
}

/// One host.
#[derive(Debug)]
pub(super) struct Estimate {
    pub(super) before: Reading,
    /// Latency over that of the others; 1 is like them.
    pub(super) ratio: f64,
    /// Samples so far.
    pub(super) seen: f64,
    pub(super) failed: u64,
    /// Its weight before the configured one is multiplied.
    pub(super) weight: f64,
    /// What it moves towards, step by step.
    pub(super) wanted: f64,
    /// Its plain mean: microseconds and samples, both fading with the window.
    us: f64,
    count: f64,
    sampled_at: Duration,
    /// When it got its last request, as far as is known.
    asked_at: Duration,
    /// When it was told since that it is to get one.
    told_at: Option<Duration>,
    is_waiting: bool,
    /// It answered well the last time, and is believed to be worse.
    is_better: bool,
    /// It got so few requests that the next one is sent whatever its weight.
    is_explored: bool,
    waiting_since: Option<Duration>,
    joined_at: Option<Duration>,
    pub(super) spared_until: Option<Duration>,
    /// Requests per second of all its clients, as it says.
    pub(super) serves: Option<f64>,
    /// When it said so.
    pub(super) heard_at: Duration,
    met_at: Duration,
}

impl Estimate {
    /// A host nobody knows yet. `joined_at` is set if others were there before.
    pub(super) fn new(now: Duration, joined_at: Option<Duration>, weight: f64) -> Self {
        Self {
            before: Reading::default(),
            ratio: 1.0,
            seen: 0.0,
            failed: 0,
            weight: joined_at.map_or(weight, |_| weight * RAMP_MIN),
            wanted: weight,
            us: 0.0,
            count: 0.0,
            sampled_at: now,
            asked_at: now,
            told_at: None,
            is_waiting: false,
            is_better: false,
            is_explored: false,
            waiting_since: None,
            joined_at,
            spared_until: None,
            serves: None,
            heard_at: now,
            met_at: now,
        }
    }

    /// Takes in what came, and changes the weight.
    pub(super) fn update(&mut self, fresh: &Fresh, common: &Common, config: &LatencyWeighted) {
        let fade = fade(common.passed, config.window);
        self.us = self.us * fade + fresh.us;
        self.count = self.count * fade + fresh.count;
        match &config.guards {
            None => {
                self.wanted = self.plain(common, config);
                self.weight = self.wanted;
            }
            Some(guards) => {
                self.learn(fresh, common, guards);
                self.wanted = self.wanted(common, config, guards);
                let (low, high) = (self.weight / guards.step_max, self.weight * guards.step_max);
                self.weight = self.wanted.clamp(low, high);
            }
        }
    }

    /// Requests per second that come from here.
    pub(super) fn rate(&self, now: Duration, config: &LatencyWeighted) -> f64 {
        let known = 1.0 - fade(now.saturating_sub(self.met_at), config.window);
        self.count / (config.window.as_secs_f64() * known)
    }

    /// The formula alone.
    fn plain(&self, common: &Common, config: &LatencyWeighted) -> f64 {
        let mean_us = match self.count > 0.0 {
            true => self.us / self.count,
            false => common.mean_us,
        };
        formula(mean_us, common, config)
    }

    fn learn(&mut self, fresh: &Fresh, common: &Common, guards: &Guards) {
        let now = common.now;
        self.is_waiting = fresh.is_waiting;
        if fresh.was_asked {
            self.asked_at = now;
            self.told_at = None;
        }
        if fresh.count > 0.0 {
            let mut gain = fresh.count / (fresh.count + guards.samples_min);
            let slow = if self.is_explored { 1.0 + NOISE } else { SLOW };
            if fresh.ratio < self.ratio && self.ratio > slow {
                let silence = now.saturating_sub(self.sampled_at);
                gain = gain.max(1.0 - fade(silence, RECOVERY));
                if fresh.ratio < HOPELESS {
                    self.ratio = self.ratio.min(HOPELESS);
                }
            }
            self.ratio += gain * (fresh.ratio - self.ratio);
            self.is_explored = false;
            self.is_better = fresh.ratio < SLOW && self.ratio > 1.0 + NOISE;
            self.seen += fresh.count;
            self.sampled_at = now;
            self.waiting_since = None;
        } else if fresh.is_waiting {
            // Whoever has not answered yet is at least as slow as the wait.
            let since = *self.waiting_since.get_or_insert(now);
            let waited_us = now.saturating_sub(since).as_secs_f64() * 1e6;
            self.ratio = self.ratio.max(waited_us / common.mean_us);
            self.sampled_at = now;
        } else {
            self.waiting_since = None;
            if now.saturating_sub(self.sampled_at) > guards.sample_expiry {
                let gain = 1.0 - fade(common.passed, guards.sample_expiry);
                self.ratio += gain * (1.0 - self.ratio);
            }
        }
    }

    /// How long it may get no request until it is sent one, where `fair` a second are a fair share; for ever where
    /// nobody is explored.
    pub(super) fn patience(&self, fair: f64, exploration: f64) -> Duration {
        if exploration <= 0.0 {
            return Duration::MAX;
        }
        let (least, part) = match self.is_better {
            true => (Duration::ZERO, LOOK_AGAIN),
            false => (LOOK_EVERY, exploration),
        };
        let busy = if self.is_waiting { BUSY } else { 1.0 };
        let seconds = (part * fair).max(f64::MIN_POSITIVE).recip();
        Duration::try_from_secs_f64(least.as_secs_f64().max(seconds) * busy)
            .unwrap_or(Duration::MAX)
    }

    /// Whether it got no request for so long, which is to change. It may be that there is none to send, or that it
    /// cannot be sent there: that is tried again a second later. Whoever asked to be spared is.
    pub(super) fn explore(&mut self, now: Duration, patience: Duration) -> bool {
        let over = |at: Duration, time| now.saturating_sub(at) >= time;
        let was_told = self.told_at.is_some_and(|at| !over(at, LOOK_EVERY));
        let is_spared = self.spared_until.is_some_and(|until| now < until);
        if was_told || is_spared || !over(self.asked_at, patience) {
            return false;
        }
        self.told_at = Some(now);
        self.is_explored = true;
        true
    }

    fn wanted(&self, common: &Common, config: &LatencyWeighted, guards: &Guards) -> f64 {
        if self.spared_until.is_some_and(|until| common.now < until) {
            return config.weight_min;
        }
        let ratio = match self.seen < guards.samples_min {
            true => 1.0,
            false => beyond_noise(self.ratio),
        };
        let weight = formula(ratio * common.mean_us, common, config);
        let ramp = self.joined_at.map_or(1.0, |joined_at| {
            let age = common.now.saturating_sub(joined_at).as_secs_f64();
            (age / guards.warm_up.as_secs_f64().max(f64::MIN_POSITIVE)).clamp(RAMP_MIN, 1.0)
        });
        (weight * ramp).max(config.weight_min)
    }
}

/// A ratio that is not far from 1 is 1: some dozens of samples tell no less.
fn beyond_noise(ratio: f64) -> f64 {
    if ratio > 1.0 {
        (ratio - NOISE).max(1.0)
    } else {
        (ratio + NOISE).min(1.0)
    }
}

/// `clamp(w_min, w_0 * baseline / (latency + epsilon), w_max)`.
fn formula(latency_us: f64, common: &Common, config: &LatencyWeighted) -> f64 {
    let epsilon_us = config.epsilon.as_secs_f64() * 1e6;
    let weight = config.weight_base * common.baseline_us / (latency_us + epsilon_us).max(1.0);
    weight.clamp(config.weight_min, config.weight_max)
}

/// What is left of a value after this time.
pub(super) fn fade(passed: Duration, time: Duration) -> f64 {
    (-passed.as_secs_f64() / time.as_secs_f64().max(1e-3)).exp()
}
