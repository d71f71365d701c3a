//! A cluster's stable cell, and the value that is swapped in it.
//!
//! Routes hold the cell; configuration and membership change the value inside with one swap, so an
//! attempt sees one configuration with one host set and one balancer.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use arc_swap::Guard;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::endpoint::Address;
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
use crate::upstream::departure;
use crate::upstream::departure::Cause;
use crate::upstream::departure::Departures;
use crate::upstream::departure::Drained;
use crate::upstream::dropped::Dropped;
use crate::upstream::health::Care;
use crate::upstream::host::Beside;
use crate::upstream::host::Fitness;
use crate::upstream::host::Moves;
use crate::upstream::latency::Standing;
use crate::upstream::learned::Learned;
use crate::upstream::load_balancer::Asked;
use crate::upstream::pace::Pace;
use crate::upstream::shadow;
use crate::upstream::shadow::Watch;
use crate::upstream::transport::Transports;
use crate::upstream::zone::Zone;

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

    /// Changes the members only; those that stay keep their connections. Called by `apply`.
    pub fn set_endpoints(&self, endpoints: Arc<Endpoints>) {
        let mut drained = self.0.drained();
        drained.follow(&endpoints);
        self.replace_endpoints(&drained, endpoints, Cause::Removed);
    }

    /// Drains a member, or takes it back; it stays so while it is a member. What runs on it has the
    /// drain time to end.
    ///
    /// # Errors
    /// It is no member, or there is nothing to take back; in a sentence.
    pub fn set_drained(&self, address: &Address, drain: bool) -> Result<(), String> {
        let mut drained = self.0.drained();
        let endpoints = Arc::clone(&self.load().endpoints);
        let known = departure::addresses(&endpoints);
        if !known.into_iter().any(|known| known == address) {
            let name = self.name();
            return Err(format!("cluster {name:?} has no endpoint at this address"));
        }
        if drain {
            drained.insert(address.clone())?;
        } else if !drained.remove(address) {
            return Err("the endpoint is not drained".to_owned());
        }
        self.replace_endpoints(&drained, endpoints, Cause::Drained);
        Ok(())
    }

    /// Members that are drained by hand.
    pub fn drained(&self) -> Vec<Address> {
        self.0.drained().iter().cloned().collect()
    }

    fn replace_endpoints(&self, drained: &Drained, endpoints: Arc<Endpoints>, cause: Cause) {
        let old = self.0.current.load_full();
        self.swap(&old, old.with_endpoints(endpoints, drained), cause);
    }

    /// Changes how members are chosen and how much may be on its way, and nothing else: connections,
    /// health and what was learned of latency stay. Called by `apply`.
    pub fn set_policy(
        &self,
        config: Arc<config::Cluster>,
        endpoints: Arc<Endpoints>,
        stats: Arc<BalancerStats>,
    ) {
        let mut drained = self.0.drained();
        drained.follow(&endpoints);
        let old = self.0.current.load_full();
        let transports = Arc::clone(&old.transports);
        let kept = Kept {
            drained: &drained,
            care: old.care.clone(),
            zone: old.zone.clone(),
            previous: Some(&old.hosts),
            stats,
        };
        let new = UpstreamCluster::new(config, transports, endpoints, kept);
        self.swap(&old, new, Cause::Removed);
    }

    /// Members that were found unfit take no load from now on, those that are fit again do. Called by
    /// the health checks.
    pub fn refresh_health(&self) {
        let drained = self.0.drained();
        let old = self.load_full();
        let new = old.with_endpoints(Arc::clone(&old.endpoints), &drained);
        self.replace(&old, new); // nobody has come or gone
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

    /// Changes the configuration; connections made under the old one are not used again. Called by
    /// `apply`.
    pub fn set_config(
        &self,
        (config, care): (Arc<config::Cluster>, Option<Arc<Care>>),
        transports: Arc<Transports>,
        endpoints: Arc<Endpoints>,
        stats: Arc<BalancerStats>,
    ) {
        let mut drained = self.0.drained();
        drained.follow(&endpoints);
        let old = self.0.current.load_full();
        let kept = Kept {
            drained: &drained,
            care,
            zone: old.zone.clone(),
            previous: None,
            stats,
        };
        let new = UpstreamCluster::new(config, transports, endpoints, kept);
        self.swap(&old, new, Cause::Removed);
    }

    /// Becomes what `warm` is, whose members were checked, with the members of now. Called by `apply`.
    pub fn become_warm(&self, warm: &Self, endpoints: Arc<Endpoints>, stats: Arc<BalancerStats>) {
        let mut drained = self.0.drained();
        drained.follow(&endpoints);
        let old = self.load_full();
        let warm = warm.load_full();
        let kept = Kept {
            drained: &drained,
            care: warm.care.clone(),
            zone: warm.zone.clone(),
            previous: Some(&warm.hosts),
            stats,
        };
        let config = Arc::clone(&warm.config);
        let transports = Arc::clone(&warm.transports);
        let new = UpstreamCluster::new(config, transports, endpoints, kept);
        self.swap(&old, new, Cause::Removed);
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

    /// Says that the cluster is no longer part of the configuration. Called by `apply`.
    pub fn retire(&self) {
        let current = self.load();
        let moves = current.hosts.retire(None, self.0.cut_at());
        self.set_fallback(None); // two may have had each other
        self.0.tell(&current.config, moves, Cause::Removed);
    }

    fn swap(&self, old: &UpstreamCluster, new: UpstreamCluster, cause: Cause) {
        let new = self.replace(old, new);
        let moves = old.hosts.retire(Some(&new.hosts), self.0.cut_at());
        self.0.tell(&new.config, moves, cause);
        self.0.stats.membership_change().inc();
    }

    /// The swap alone, where the members are the same.
    fn replace(&self, old: &UpstreamCluster, new: UpstreamCluster) -> Arc<UpstreamCluster> {
        debug_assert_eq!(old.config.name, new.config.name);
        count_subsets(Some(old), &new);
        self.0.inform(&new);
        self.0.breakers.configure(new.config.circuit_breakers);
        let outcomes = kept_outcomes(&new.config, old.outcomes.as_ref());
        let new = Arc::new(UpstreamCluster { outcomes, ..new });
        self.0.current.store(Arc::clone(&new));
        self.0.record_membership();
        self.0.changed.notify_one();
        new
    }
}

/// With another configuration all subsets are others, as with Envoy.
fn count_subsets(old: Option<&UpstreamCluster>, new: &UpstreamCluster) {
    match old {
        Some(old) if Arc::ptr_eq(&old.config, &new.config) => {
            new.hosts.count_subsets(Some(&old.hosts), &new.stats);
        }
        Some(old) => {
            let gone = old.hosts.subsets();
            old.stats.count_subsets(0, gone, 0);
            new.hosts.count_subsets(None, &new.stats);
        }
        None => new.hosts.count_subsets(None, &new.stats),
    }
}

impl Cell {
    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shadow(&self) -> MutexGuard<'_, Option<Watch>> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drained(&self) -> MutexGuard<'_, Drained> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When what runs on members that leave now is cut.
    fn cut_at(&self) -> Option<Instant> {
        self.departures.get().map(|departures| departures.cut_at())
    }

    /// Tells who has left, and why those did that were removed.
    fn tell(&self, config: &config::Cluster, moves: Moves, cause: Cause) {
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
    fn inform(&self, new: &UpstreamCluster) {
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
    fn inform_shadow(&self, new: &UpstreamCluster) -> Option<Learned> {
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

    fn record_membership(&self) {
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
