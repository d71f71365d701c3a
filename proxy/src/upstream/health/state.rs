//! What is known of one host's health; what a cluster's hosts have in common for it.
//!
//! Flags are written by the thread that checks, and read wherever a set of hosts is built. Workers
//! tell what happened through cells and one bell.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;

use super::flags::HealthFlags;
use super::outlier::Report;
use super::outlier::Streaks;
use super::outlier::Tally;
use super::timeline::Event;
use super::timeline::Timeline;
use crate::config;
use crate::config::endpoint::Labels;
use crate::config::health::EndpointCheck;
use crate::config::health::OutlierDetection;
use crate::config::matcher::ResponseMatch;
use crate::telemetry::stats::HealthCheckStats;
use crate::telemetry::stats::OutlierStats;
use crate::upstream::transport::Transport;
use crate::upstream::transport::Transports;

/// What the hosts of a cluster have in common.
#[derive(Debug)]
pub struct Care {
    /// What is done.
    pub config: config::health::Health,
    /// Of checks, if there are any.
    pub checks: Option<Arc<HealthCheckStats>>,
    /// Of outlier detection, if there is any.
    pub outliers: Option<Arc<OutlierStats>>,
    /// Rung when a host has something to tell.
    pub bell: Notify,
}

/// One host's.
#[derive(Debug)]
pub struct HostHealth {
    care: Arc<Care>,
    /// What the host says about its checks.
    pub said: Option<Arc<EndpointCheck>>,
    /// What its checks go through; none if it is not checked.
    pub checked: Option<Arc<Transport>>,
    flags: AtomicU8,
    /// How often it became unfit: connections from before are not used again.
    falls: AtomicU32,
    /// An ordinary answer said that it is unfit.
    said_unfit: AtomicBool,
    timeline: Mutex<Timeline>,
    /// An ordinary answer said that it is degraded.
    said_degraded: AtomicBool,
    /// What workers tell of its answers, if it is judged by them.
    pub streaks: Option<Streaks>,
    /// The bits of a percentage; not a number if there is none.
    success_rate: AtomicU64,
}

impl Care {
    /// Hosts that are looked after as `config` says.
    #[must_use]
    pub fn new(
        config: config::health::Health,
        checks: Option<Arc<HealthCheckStats>>,
        outliers: Option<Arc<OutlierStats>>,
    ) -> Self {
        Self {
            config,
            checks,
            outliers,
            bell: Notify::new(),
        }
    }

    /// That of a new host, with its own transport.
    pub(in crate::upstream) fn host(
        care: &Arc<Self>,
        said: Option<&Arc<EndpointCheck>>,
        own: &Arc<Transport>,
        transports: &Transports,
    ) -> HostHealth {
        let wanted = care.config.check.as_ref();
        let wanted = wanted.filter(|_| !said.is_some_and(|said| said.is_disabled));
        let labels = |check: &config::health::HealthCheck| check.transport_labels.clone();
        let transport = |labels: Option<Arc<Labels>>| match labels {
            Some(labels) => Arc::clone(transports.of(Some(&labels), None)),
            None => Arc::clone(own),
        };
        let checked = wanted.map(|check| transport(labels(check)));
        let new = HealthFlags::FAILED_CHECK | HealthFlags::UNCHECKED;
        let new = new.set(HealthFlags::PENDING, care.config.excludes_unchecked);
        let flags = if checked.is_some() {
            new
        } else {
            HealthFlags::NONE
        };
        HostHealth {
            care: Arc::clone(care),
            said: said.cloned(),
            checked,
            flags: AtomicU8::new(flags.bits()),
            falls: AtomicU32::new(0),
            said_unfit: AtomicBool::new(false),
            said_degraded: AtomicBool::new(false),
            timeline: Mutex::default(),
            streaks: care.config.outlier.as_ref().map(|_| Streaks::default()),
            success_rate: AtomicU64::new(f64::NAN.to_bits()),
        }
    }
}

impl HostHealth {
    /// What is said of the host now.
    #[must_use]
    pub fn flags(&self) -> HealthFlags {
        HealthFlags::of_bits(self.flags.load(Ordering::Relaxed))
    }

    /// Says something else of it. Called by the thread that checks.
    pub(super) fn set_flags(&self, flags: HealthFlags) {
        let before = self.flags.swap(flags.bits(), Ordering::Relaxed);
        if flags.is_failed() && !HealthFlags::of_bits(before).is_failed() {
            self.falls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it became unfit.
    #[must_use]
    pub fn falls(&self) -> u32 {
        self.falls.load(Ordering::Relaxed)
    }

    /// Takes in what became of an attempt. Called by the worker whose `tally` it is; `id` is the
    /// request's, if it has one.
    pub fn report(&self, tally: &Tally, report: Report, id: Option<&[u8]>) {
        if let (Some(streaks), Some(config)) = (&self.streaks, &self.care.config.outlier)
            && streaks.take(config, tally, report, id)
        {
            self.care.bell.notify_one();
        }
    }

    /// How it is judged, if it is.
    pub(in crate::upstream) fn outlier(&self) -> Option<&OutlierDetection> {
        self.care.config.outlier.as_deref()
    }

    /// What holds for answers that are errors, if that is said.
    #[must_use]
    pub fn errors(&self) -> Option<&ResponseMatch> {
        self.outlier()?.errors.as_ref()
    }

    /// Whether it matters that an answer says it is degraded.
    #[must_use]
    pub fn minds_degraded(&self) -> bool {
        self.outlier()
            .is_some_and(|outlier| outlier.detects_degraded)
    }

    /// Percent of requests that succeeded in the last interval of outlier detection, if there were
    /// enough.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        let rate = f64::from_bits(self.success_rate.load(Ordering::Relaxed));
        (!rate.is_nan()).then_some(rate)
    }

    pub(super) fn set_success_rate(&self, rate: Option<f64>) {
        let bits = rate.unwrap_or(f64::NAN).to_bits();
        self.success_rate.store(bits, Ordering::Relaxed);
    }

    /// What is done about it.
    #[must_use]
    pub fn care(&self) -> &Arc<Care> {
        &self.care
    }

    /// An ordinary answer says that it is unfit. Called by workers.
    pub fn say_unfit(&self) {
        if self.checked.is_some() {
            self.said_unfit.store(true, Ordering::Relaxed);
            self.care.bell.notify_one();
        }
    }

    pub(super) fn take_said_unfit(&self) -> bool {
        // Mostly nothing was said, and then nothing is written.
        self.said_unfit.load(Ordering::Relaxed) && self.said_unfit.swap(false, Ordering::Relaxed)
    }

    /// An ordinary answer says that it is degraded. Called by workers; what is known already rings no bell.
    pub fn say_degraded(&self) {
        if !self.flags().has(HealthFlags::ANSWERS_DEGRADED) {
            self.said_degraded.store(true, Ordering::Relaxed);
            self.care.bell.notify_one();
        }
    }

    pub(super) fn take_said_degraded(&self) -> bool {
        self.said_degraded.load(Ordering::Relaxed)
            && self.said_degraded.swap(false, Ordering::Relaxed)
    }

    pub(super) fn write_down(&self, event: Event) {
        self.timeline().push(event);
    }

    /// What happened to it, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.timeline().events()
    }

    fn timeline(&self) -> std::sync::MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
