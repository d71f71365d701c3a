//! A cluster's stable cell, and the value that is swapped in it.
//!
//! Routes hold the cell; configuration and membership change the value inside with one swap, so an
//! attempt sees one configuration with one host set and one balancer.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::Guard;

use crate::config;
use crate::config::Endpoints;
use crate::config::Name;
use crate::telemetry::stats::ClusterStats;
use crate::telemetry::stats::worker;
use crate::upstream::Breakers;
use crate::upstream::Host;
use crate::upstream::HostSet;
use crate::upstream::latency::Feedback;
use crate::upstream::latency::Standing;
use crate::upstream::transport::Transports;

/// What a route holds of a cluster: it stays the same while the cluster lives.
#[derive(Clone, Debug)]
pub struct ClusterHandle(Arc<Cell>);

#[derive(Debug)]
struct Cell {
    name: Name,
    current: ArcSwap<UpstreamCluster>,
    stats: Arc<ClusterStats>,
    /// What is on its way; it outlives every change of the configuration.
    breakers: Arc<Breakers>,
    cursors: Box<[Cursor]>,
    /// What was learned of latency; none if no policy ever asked. Only the control side locks it.
    feedback: Mutex<Option<Feedback>>,
}

/// A worker's place in the round. Alone on its cache lines; written by one thread only.
#[derive(Debug)]
#[repr(align(128))]
struct Cursor(AtomicU64);

/// A cluster's configuration and members at one moment.
#[derive(Debug)]
pub struct UpstreamCluster {
    /// Its configuration.
    pub config: Arc<config::Cluster>,
    /// What connections to its members go through.
    pub transports: Arc<Transports>,
    /// Its members as configured.
    pub endpoints: Arc<Endpoints>,
    /// Its members as they live.
    pub hosts: HostSet,
}

impl UpstreamCluster {
    fn new(
        config: Arc<config::Cluster>,
        transports: Arc<Transports>,
        endpoints: Arc<Endpoints>,
        previous: Option<&HostSet>,
    ) -> Self {
        let hosts = HostSet::new(&config.load_balancing, &endpoints, &transports, previous);
        Self {
            config,
            transports,
            endpoints,
            hosts,
        }
    }
}

impl ClusterHandle {
    /// A new cluster, used by workers `0..workers`.
    pub fn new(
        config: Arc<config::Cluster>,
        transports: Arc<Transports>,
        endpoints: Arc<Endpoints>,
        stats: Arc<ClusterStats>,
        workers: usize,
    ) -> Self {
        // Proxies that start together must not walk the members in step.
        let cursors =
            (0..workers.max(1)).map(|_| Cursor(AtomicU64::new(u64::from(fastrand::u16(..)))));
        let breakers = Breakers::new(config.circuit_breakers, Arc::clone(&stats));
        let cell = Cell {
            breakers: Arc::new(breakers),
            name: Arc::clone(&config.name),
            cursors: cursors.collect(),
            current: ArcSwap::from_pointee(UpstreamCluster::new(
                config, transports, endpoints, None,
            )),
            stats,
            feedback: Mutex::default(),
        };
        cell.record_membership();
        cell.inform(&cell.current.load());
        Self(Arc::new(cell))
    }

    /// Whether both are the same live cluster, not only of the same name.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<ClusterStats> {
        &self.0.stats
    }

    /// What is on its way to it, and how much may be.
    pub fn breakers(&self) -> &Arc<Breakers> {
        &self.0.breakers
    }

    /// What it is right now. Do not hold it across an await.
    pub fn load(&self) -> Guard<Arc<UpstreamCluster>> {
        self.0.current.load()
    }

    /// The member for the next request of the calling worker, with the configuration that goes
    /// with it. `hash` is the request's, if it has one.
    pub fn pick(&self, hash: Option<u64>) -> (Arc<config::Cluster>, Option<Arc<Host>>) {
        let current = self.load();
        let Some(cursor) = self.0.cursors.get(worker::current().unwrap_or(0)) else {
            return (Arc::clone(&current.config), None);
        };
        let mut place = cursor.0.load(Ordering::Relaxed);
        let host = current
            .hosts
            .pick(&mut place, fastrand::u64(..), hash)
            .cloned();
        cursor.0.store(place, Ordering::Relaxed);
        (Arc::clone(&current.config), host)
    }

    /// Changes the members only; those that stay keep their connections. Called by `apply`.
    pub fn set_endpoints(&self, endpoints: Arc<Endpoints>) {
        let old = self.0.current.load_full();
        let new = UpstreamCluster::new(
            Arc::clone(&old.config),
            Arc::clone(&old.transports),
            endpoints,
            Some(&old.hosts),
        );
        self.swap(&old, new);
    }

    /// Changes how members are chosen and how much may be on its way, and nothing else: connections,
    /// health and what was learned of latency stay. Called by `apply`.
    pub fn set_policy(&self, config: Arc<config::Cluster>, endpoints: Arc<Endpoints>) {
        let old = self.0.current.load_full();
        let transports = Arc::clone(&old.transports);
        let hosts = Some(&old.hosts);
        self.swap(
            &old,
            UpstreamCluster::new(config, transports, endpoints, hosts),
        );
    }

    /// Weights follow latency again, if the policy wants it and its period is over. Called by the
    /// control side, which brings the time.
    pub fn feed_back(&self, now: Duration) {
        let current = self.0.current.load_full();
        let mut feedback = self.0.feedback();
        let wants = current.config.load_balancing.policy.latency().is_some();
        if let Some(feedback) = feedback.as_mut().filter(|each| wants && each.is_due(now)) {
            let members = current.hosts.members();
            feedback.fold(members, now);
            let factors = feedback.weights(members);
            current.hosts.set_factors(&factors, feedback.exploration());
        }
    }

    /// Why a member has its weight, if the policy follows latency and there were answers.
    pub fn standing(&self, host: &Host) -> Option<Standing> {
        self.load().config.load_balancing.policy.latency()?;
        self.0.feedback().as_ref()?.standing(host.id)
    }

    /// Changes the configuration; connections made under the old one are not used again. Called by
    /// `apply`.
    pub fn set_config(
        &self,
        config: Arc<config::Cluster>,
        transports: Arc<Transports>,
        endpoints: Arc<Endpoints>,
    ) {
        let old = self.0.current.load_full();
        self.swap(
            &old,
            UpstreamCluster::new(config, transports, endpoints, None),
        );
    }

    /// Says that the cluster is no longer part of the configuration. Called by `apply`.
    pub fn retire(&self) {
        self.load().hosts.retire(None);
    }

    fn swap(&self, old: &UpstreamCluster, new: UpstreamCluster) {
        self.0.inform(&new);
        self.0.breakers.configure(new.config.circuit_breakers);
        let new = Arc::new(new);
        self.0.current.store(Arc::clone(&new));
        old.hosts.retire(Some(&new.hosts));
        self.0.stats.membership_change().inc();
        self.0.record_membership();
    }
}

impl Cell {
    fn feedback(&self) -> MutexGuard<'_, Option<Feedback>> {
        self.feedback.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells new balancers what is known already.
    fn inform(&self, new: &UpstreamCluster) {
        let Some(config) = new.config.load_balancing.policy.latency() else {
            return;
        };
        let mut feedback = self.feedback();
        let feedback = feedback.get_or_insert_with(|| Feedback::new(*config));
        feedback.set_config(*config);
        let members = new.hosts.members();
        let factors = feedback.weights(members);
        new.hosts.set_factors(&factors, feedback.exploration());
    }

    fn record_membership(&self) {
        let current = self.current.load();
        let members = current.hosts.members();
        let healthy = members.iter().filter(|member| member.is_healthy()).count();
        self.stats.membership_total().set_count(members.len());
        self.stats.membership_healthy().set_count(healthy);
    }
}
