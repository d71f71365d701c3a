//! A cluster's stable cell, and the value that is swapped in it.
//!
//! Routes hold the cell; configuration and membership change the value inside with one swap, so an
//! attempt sees one configuration with one host set and one balancer.
//!
//! | file | holds |
//! |---|---|
//! | `cell` | what stays while the value changes, and who is told |
//! | `change` | the changes |

mod cell;
mod change;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use arc_swap::Guard;
use tokio::sync::Notify;

use crate::config;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::endpoint::Traits;
use crate::error::Reason;
use crate::telemetry::stats::BalancerStats;
use crate::telemetry::stats::ClusterStats;
use crate::telemetry::stats::DrainStats;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::worker;
use crate::upstream::Breakers;
use crate::upstream::Host;
use crate::upstream::HostSet;
use crate::upstream::breaker::outcome::Breaker as OutcomeBreaker;
use crate::upstream::departure::Departures;
use crate::upstream::departure::Drained;
use crate::upstream::dropped::Dropped;
use crate::upstream::health::Care;
use crate::upstream::host::Beside;
use crate::upstream::latency::Standing;
use crate::upstream::learned::Learned;
use crate::upstream::load_balancer::Asked;
use crate::upstream::pace::Pace;
use crate::upstream::shadow;
use crate::upstream::shadow::Watch;
use crate::upstream::transport::Transports;
use crate::upstream::zone::Zone;
use change::count_subsets;

/// Who takes a request, with what goes with that.
#[derive(Debug)]
pub struct Picked {
    /// The cluster's configuration.
    pub config: Arc<config::Cluster>,
    /// What looks at what comes of it, if anything does.
    pub outcomes: Option<Arc<OutcomeBreaker>>,
    /// The member, if there is a fit one.
    pub host: Option<Arc<Host>>,
}

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
    /// Takes what its breaker refuses.
    fallback: ArcSwapOption<ClusterHandle>,
    cursors: Box<[Cursor]>,
    /// What policies with feedback have learned. Only the control side locks it.
    learned: Mutex<Learned>,
    /// What a policy that looks on finds. Only the control side locks it.
    shadow: Mutex<Option<Watch>>,
    /// Held by the control side from reading `current` to changing it.
    drained: Mutex<Drained>,
    /// Where hosts that leave are told; none where nobody asks.
    departures: OnceLock<Arc<Departures>>,
    drain_stats: OnceLock<Arc<DrainStats>>,
    /// How long attempts take; none if no route ever asked.
    pace: OnceLock<Box<Pace>>,
    /// Requests that the control plane wanted dropped; none if none ever were.
    dropped: OnceLock<Box<Dropped>>,
    /// Rung when the value was swapped.
    changed: Notify,
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
    /// The same without those drained by hand.
    pub serving: Arc<Endpoints>,
    /// Its members as they live, in the order of `serving`.
    pub hosts: HostSet,
    /// How unfit members are found, if anybody asks.
    pub care: Option<Arc<Care>>,
    /// What looks at what came of its requests, if anything does.
    pub outcomes: Option<Arc<OutcomeBreaker>>,
    /// Where the proxy is, if it was said.
    zone: Option<Arc<Zone>>,
    /// What its balancer counts.
    stats: Arc<BalancerStats>,
}

/// What a cluster's next value takes over.
struct Kept<'k> {
    drained: &'k Drained,
    care: Option<Arc<Care>>,
    zone: Option<Arc<Zone>>,
    previous: Option<&'k HostSet>,
    stats: Arc<BalancerStats>,
}

impl UpstreamCluster {
    fn new(
        config: Arc<config::Cluster>,
        transports: Arc<Transports>,
        endpoints: Arc<Endpoints>,
        kept: Kept<'_>,
    ) -> Self {
        let Kept {
            drained,
            care,
            zone,
            previous,
            stats,
        } = kept;
        let serving = drained.without(&endpoints);
        // Proxies that call each other do so wherever they are, as with Envoy.
        let is_upstream = |zone: &&Arc<Zone>| !zone.is_of(&config.name);
        let beside = Beside {
            care: care.as_ref(),
            previous,
            zone: zone.as_ref().filter(is_upstream),
            stats: Some(&stats),
        };
        let hosts = HostSet::with_care(&config.load_balancing, &serving, &transports, beside);
        Self {
            outcomes: None, // whoever makes it live knows them
            config,
            transports,
            endpoints,
            serving,
            hosts,
            care,
            zone,
            stats,
        }
    }

    /// With the same members, chosen and used as before.
    fn with_endpoints(&self, endpoints: Arc<Endpoints>, drained: &Drained) -> Self {
        Self::new(
            Arc::clone(&self.config),
            Arc::clone(&self.transports),
            endpoints,
            Kept {
                drained,
                care: self.care.clone(),
                zone: self.zone.clone(),
                previous: Some(&self.hosts),
                stats: Arc::clone(&self.stats),
            },
        )
    }
}

/// What is known stays known while the settings of the breaker do.
fn kept_outcomes(
    config: &config::Cluster,
    before: Option<&Arc<OutcomeBreaker>>,
) -> Option<Arc<OutcomeBreaker>> {
    let settings = config.outcome_breaker.as_ref()?;
    let same = before.filter(|before| before.config() == settings);
    Some(same.map_or_else(
        || Arc::new(OutcomeBreaker::new(Arc::clone(settings))),
        Arc::clone,
    ))
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
        let stats = Arc::new(BalancerStats::plain(stats, workers));
        Self::with_care((config, None), transports, endpoints, stats, workers)
    }

    /// The same of a cluster that finds unfit members, or whose balancer counts more.
    pub fn with_care(
        (config, care): (Arc<config::Cluster>, Option<Arc<Care>>),
        transports: Arc<Transports>,
        endpoints: Arc<Endpoints>,
        balancer_stats: Arc<BalancerStats>,
        workers: usize,
    ) -> Self {
        let stats = Arc::clone(&balancer_stats.cluster);
        // Proxies that start together must not walk the members in step.
        let cursors =
            (0..workers.max(1)).map(|_| Cursor(AtomicU64::new(u64::from(fastrand::u16(..)))));
        let breakers = Breakers::new(config.circuit_breakers, Arc::clone(&stats), workers);
        let outcomes = kept_outcomes(&config, None);
        let name = Arc::clone(&config.name);
        let nobody = Kept {
            drained: &Drained::default(),
            care,
            zone: None,
            previous: None,
            stats: balancer_stats,
        };
        let current = UpstreamCluster::new(config, transports, endpoints, nobody);
        let cell = Cell {
            breakers: Arc::new(breakers),
            fallback: ArcSwapOption::empty(),
            name,
            cursors: cursors.collect(),
            current: ArcSwap::from_pointee(UpstreamCluster {
                outcomes,
                ..current
            }),
            stats,
            learned: Mutex::default(),
            shadow: Mutex::default(),
            drained: Mutex::default(),
            departures: OnceLock::new(),
            drain_stats: OnceLock::new(),
            pace: OnceLock::new(),
            dropped: OnceLock::new(),
            changed: Notify::new(),
        };
        cell.record_membership();
        count_subsets(None, &cell.current.load());
        cell.inform(&cell.current.load());
        Self(Arc::new(cell))
    }

    /// Tells of hosts that leave from now on.
    #[must_use]
    pub fn telling(self, departures: &Arc<Departures>) -> Self {
        let _ = self.0.departures.set(Arc::clone(departures)); // only the first counts
        self
    }

    /// Requests go by where the proxy is from now on. For a cluster that nobody uses yet.
    #[must_use]
    pub fn in_zone(self, zone: &Arc<Zone>) -> Self {
        let stats = Arc::clone(&self.load().stats);
        self.anew(Some(Arc::clone(zone)), stats);
        self
    }

    /// Its balancer counts this from now on. For a cluster that nobody uses yet.
    #[must_use]
    pub fn counting(self, stats: Arc<BalancerStats>) -> Self {
        if stats.subsets.is_none() && stats.zones.is_none() {
            return self;
        }
        let zone = self.load().zone.clone();
        self.anew(zone, stats);
        count_subsets(None, &self.load());
        self
    }

    fn anew(&self, zone: Option<Arc<Zone>>, stats: Arc<BalancerStats>) {
        let drained = self.0.drained();
        let old = self.load_full();
        let kept = Kept {
            drained: &drained,
            care: old.care.clone(),
            zone,
            previous: Some(&old.hosts),
            stats,
        };
        let config = Arc::clone(&old.config);
        let transports = Arc::clone(&old.transports);
        let endpoints = Arc::clone(&old.endpoints);
        let new = UpstreamCluster::new(config, transports, endpoints, kept);
        self.replace(&old, new);
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

    /// What looks at what came of its requests, if anything does.
    pub fn outcomes(&self) -> Option<Arc<OutcomeBreaker>> {
        self.load().outcomes.clone()
    }

    /// The cluster that takes what its breaker refuses, if there is one.
    pub fn fallback(&self) -> Option<Self> {
        self.0.fallback.load().as_deref().cloned()
    }

    /// Another one takes it from now on. Called by `apply`.
    pub fn set_fallback(&self, fallback: Option<Self>) {
        self.0.fallback.store(fallback.map(Arc::new));
    }

    /// What it is right now. Do not hold it across an await.
    pub fn load(&self) -> Guard<Arc<UpstreamCluster>> {
        self.0.current.load()
    }

    /// The same, to be kept.
    pub fn load_full(&self) -> Arc<UpstreamCluster> {
        self.0.current.load_full()
    }

    /// The member for the next request of the calling worker, by what the request asks.
    pub fn pick(&self, asked: Asked<'_>) -> Picked {
        let current = self.load();
        let mut picked = Picked {
            config: Arc::clone(&current.config),
            outcomes: current.outcomes.clone(),
            host: None,
        };
        if let Some(cursor) = self.0.cursors.get(worker::current().unwrap_or(0)) {
            let mut place = cursor.0.load(Ordering::Relaxed);
            let hosts = &current.hosts;
            let host = hosts.pick_for(&mut place, fastrand::u64(..), asked);
            picked.host = host.cloned();
            cursor.0.store(place, Ordering::Relaxed);
        }
        picked
    }

    /// Why the next request is not tried, if the control plane wants some dropped; `draw` gives numbers
    /// below a million.
    pub fn drops(&self, draw: impl FnMut() -> u32) -> Option<Reason> {
        let current = self.load();
        let drop = current.endpoints.drop_for(draw)?;
        self.0.stats.upstream_rq_drop_overload().inc();
        self.0
            .dropped
            .get_or_init(Box::default)
            .count(&drop.category);
        Some(Reason::Dropped { all: drop.is_all() })
    }

    /// How many requests were dropped so, by what for; none if none ever were.
    pub fn dropped(&self) -> Option<&Dropped> {
        self.0.dropped.get().map(|dropped| &**dropped)
    }

    /// How long attempts take.
    pub fn pace(&self) -> &Pace {
        self.0.pace.get_or_init(Box::default)
    }

    /// What a member says of itself that retries may avoid it by. Looks through all of them, for
    /// attempts that are rare.
    pub fn traits_of(&self, host: &Host) -> Option<Arc<Traits>> {
        let current = self.load();
        let mut members = current.hosts.members().iter();
        let member = members.find(|member| member.host.id == host.id);
        member.and_then(|member| member.traits.clone())
    }

    /// Weights follow what was learned, if the policy wants it and its period is over. Called by the
    /// control side, which brings the time.
    pub fn feed_back(&self, now: Duration) {
        let current = self.0.current.load_full();
        let members = current.hosts.members();
        if let Some(watch) = self.0.shadow().as_mut()
            && let Some(factors) = watch.look(members, now)
        {
            current.hosts.set_shadow_factors(&factors);
        }
        let policy = &current.config.load_balancing.policy;
        let mut learned = self.0.learned();
        if let Some(factors) = learned.fold(policy, members, now) {
            current.hosts.set_factors(&factors);
        }
    }

    /// Why a member has its weight, if the policy follows latency and there were answers.
    pub fn standing(&self, host: &Host) -> Option<Standing> {
        self.load().config.load_balancing.policy.latency()?;
        self.0.learned().standing(host)
    }

    /// What can be said of the policy that looks on, if there is one.
    pub fn shadow(&self) -> Option<shadow::Report> {
        let current = self.load();
        let watch = self.0.shadow();
        Some(watch.as_ref()?.report(current.hosts.members()))
    }

    /// What the policy that looks on, and the other, sent to a member.
    pub fn shadow_share(&self, host: &Host) -> Option<shadow::Share> {
        self.0.shadow().as_ref()?.share(host)
    }

    /// Done when the value was swapped since the last call. For one caller at a time.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Tells one live cluster from another.
    pub(super) fn key(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// A connection was made for it at some time.
    pub(super) fn had_traffic(&self) -> bool {
        let stats = &*self.0.stats;
        let mut fields = stats.fields().iter();
        let at = fields.position(|field| field.name == "upstream_cx_total");
        let reading = at.and_then(|at| stats.read(at));
        reading.is_some_and(|reading| reading.is_used())
    }
}
