//! Hosts that leave: taken away by EDS or DNS, set to DRAINING, or drained by a person.
//!
//! A host that leaves begins another era. Connections of an earlier era get no new request; those that
//! do nothing are closed, the others finish what runs on them, and are cut when the drain time of the
//! host is over. Eras need no agreement between threads: whoever lends a connection compares two
//! numbers.
//!
//! [`Departures`] is the control side's list of them, and the bell by which workers are told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Endpoints;
use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::limits;
use crate::telemetry::stats::DrainStats;
use crate::telemetry::stats::Registry;
use crate::upstream::Host;

/// Whether a host is there, as its connections see it.
#[derive(Debug, Default)]
pub(super) struct Presence {
    removed: AtomicBool,
    /// What is begun now is cut as well.
    leaves: AtomicBool,
    era: AtomicU32,
    /// When connections of earlier eras are cut.
    cut_at: Mutex<Option<Instant>>,
}

impl Presence {
    pub(super) fn era(&self) -> u32 {
        self.era.load(Ordering::Acquire) // whoever sees it sees what was said before
    }

    pub(super) fn leaves(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// It is no longer a member; without `cut_at` what runs on it may go on.
    pub(super) fn remove(&self, cut_at: Option<Instant>) {
        self.removed.store(true, Ordering::Relaxed);
        self.end_era(cut_at);
    }

    /// Connections made until now get nothing new.
    pub(super) fn end_era(&self, cut_at: Option<Instant>) {
        *self.cut_at.lock().unwrap_or_else(PoisonError::into_inner) = cut_at;
        self.leaves.store(cut_at.is_some(), Ordering::Relaxed);
        self.era.fetch_add(1, Ordering::Release);
    }

    fn stay(&self) {
        self.leaves.store(false, Ordering::Relaxed);
    }

    pub(super) fn cut_at(&self) -> Option<Instant> {
        *self.cut_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a host leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A person asked for it.
    Drained,
    /// The control plane says DRAINING.
    Draining,
    /// It is no longer a member, or its cluster is gone.
    Removed,
}

impl Cause {
    /// In one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Draining => "draining",
            Self::Removed => "removed",
        }
    }
}

/// A host that has left and may still have connections.
#[derive(Clone, Debug)]
pub struct Departing {
    /// Its cluster.
    pub cluster: Name,
    /// The host.
    pub host: Arc<Host>,
    /// Why it leaves.
    pub cause: Cause,
    /// When it is cut.
    pub cut_at: Instant,
    stats: Arc<DrainStats>,
}

impl Departing {
    /// Connections that are still open.
    pub fn connections(&self) -> u64 {
        self.host.sum(|counts| &counts.cx_active)
    }

    /// Requests in progress.
    pub fn requests(&self) -> u64 {
        self.host.sum(|counts| &counts.rq_active)
    }
}

/// The hosts of a process that leave.
#[derive(Debug)]
pub struct Departures {
    registry: Arc<Registry>,
    /// How long what runs on a host that leaves may go on.
    drain_time: Duration,
    bell: Notify,
    leaving: Mutex<Vec<Departing>>,
}

impl Departures {
    /// What runs on hosts that leave may go on for `drain_time`.
    pub fn new(registry: Arc<Registry>, drain_time: Duration) -> Self {
        Self {
            registry,
            drain_time,
            bell: Notify::new(),
            leaving: Mutex::default(),
        }
    }

    /// When what runs on a host that leaves now is cut.
    pub fn cut_at(&self) -> Instant {
        Instant::now() + self.drain_time
    }

    /// Takes in hosts that have left, and rings the bell. Whoever holds the statistics keeps them.
    pub fn add(
        &self,
        (cluster, stat_name): (&Name, &Name),
        hosts: Vec<(Arc<Host>, Cause)>,
    ) -> Arc<DrainStats> {
        let stats = self.registry.cluster_drain(stat_name);
        let soonest = self.cut_at();
        let mut leaving = self.leaving();
        for (host, cause) in hosts {
            let cut_at = host.cut_at().unwrap_or(soonest);
            tracing::info!(%cluster, host = %host.label, cause = cause.as_str(), "a host leaves");
            stats.hosts_left().inc();
            leaving.push(Departing {
                cluster: Arc::clone(cluster),
                host,
                cause,
                cut_at,
                stats: Arc::clone(&stats),
            });
        }
        drop(leaving);
        self.ring();
        stats
    }

    /// A host that was leaving is wanted again; what it had before still goes.
    pub fn returned(&self, host: &Host) {
        host.presence.stay();
        self.leaving().retain(|each| each.host.id != host.id);
    }

    /// Asks for workers to look which hosts have begun another era.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Done once somebody has rung since the last time. One waiter at a time.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// What runs on hosts that leave may go on for so long.
    pub fn drain_time(&self) -> Duration {
        self.drain_time
    }

    /// Hosts that have left and still have connections or requests.
    pub fn busy(&self) -> Vec<Departing> {
        let leaving = self.leaving();
        leaving
            .iter()
            .filter(|each| is_busy(each))
            .cloned()
            .collect()
    }

    /// Forgets those that have finished, and brings the statistics up to now.
    pub fn record(&self) {
        let mut leaving = self.leaving();
        for each in &*leaving {
            each.stats.hosts().set_count(0);
            each.stats.connections().set_count(0);
            each.stats.requests().set_count(0);
        }
        leaving.retain(is_busy);
        for each in &*leaving {
            let of_cluster = leaving.iter().filter(|other| other.cluster == each.cluster);
            let (mut hosts, mut connections, mut requests) = (0, 0, 0);
            for host in of_cluster {
                hosts += 1;
                connections += host.connections();
                requests += host.requests();
            }
            each.stats.hosts().set_count(hosts);
            each.stats.connections().set(connections.cast_signed());
            each.stats.requests().set(requests.cast_signed());
        }
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Departing>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters of two workers are read one after the other, so one look can miss; but what is missed is
/// only shown, never waited for.
fn is_busy(departing: &Departing) -> bool {
    departing.connections() > 0 || departing.requests() > 0
}

/// Members that a person has drained; they take nothing while the control plane still names them.
#[derive(Clone, Debug, Default)]
pub(super) struct Drained(BTreeSet<Address>);

impl Drained {
    /// # Errors
    /// There are too many, in a sentence.
    pub(super) fn insert(&mut self, address: Address) -> Result<(), String> {
        if self.0.len() >= limits::DRAINED_ENDPOINTS_MAX && !self.0.contains(&address) {
            let max = limits::DRAINED_ENDPOINTS_MAX;
            return Err(format!(
                "{max} endpoints of the cluster are drained already"
            ));
        }
        self.0.insert(address);
        Ok(())
    }

    pub(super) fn remove(&mut self, address: &Address) -> bool {
        self.0.remove(address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Address> {
        self.0.iter()
    }

    /// Forgets what is not a member any more: an address may be another machine's later.
    pub(super) fn follow(&mut self, endpoints: &Endpoints) {
        if !self.0.is_empty() {
            let known: BTreeSet<&Address> = addresses(endpoints).collect();
            self.0.retain(|address| known.contains(address));
        }
    }

    /// The members without those.
    pub(super) fn without(&self, endpoints: &Arc<Endpoints>) -> Arc<Endpoints> {
        if self.0.is_empty() {
            return Arc::clone(endpoints);
        }
        let mut left = Endpoints::clone(endpoints);
        for locality in &mut left.localities {
            let members = &mut locality.endpoints;
            members.retain(|endpoint| !self.0.contains(&endpoint.address));
        }
        Arc::new(left)
    }
}

/// Where the members listen.
pub(super) fn addresses(endpoints: &Endpoints) -> impl Iterator<Item = &Address> {
    let localities = endpoints.localities.iter();
    let endpoints = localities.flat_map(|locality| &locality.endpoints);
    endpoints.map(|endpoint| &endpoint.address)
}
