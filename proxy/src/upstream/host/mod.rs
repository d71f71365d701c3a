//! One member of a cluster, and the set of them, swapped as one with its balancer.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::config::Endpoints;
use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::Traits;
use crate::config::limits;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::telemetry::stats::BalancerStats;
use crate::upstream::breaker::HostRoom;
use crate::upstream::breaker::outcome::Breaker;
use crate::upstream::departure::Cause;
use crate::upstream::departure::Presence;
use crate::upstream::health::Care;
use crate::upstream::health::HealthFlags;
use crate::upstream::health::HostHealth;
use crate::upstream::health::outlier::Report;
use crate::upstream::health::outlier::Tally;
use crate::upstream::in_flight::InFlight;
use crate::upstream::latency::Outcome;
use crate::upstream::latency::Samples;
use crate::upstream::load_balancer::Asked;
use crate::upstream::load_balancer::ByName;
use crate::upstream::load_balancer::Factors;
use crate::upstream::load_balancer::Ingredients;
use crate::upstream::load_balancer::LoadBalancer;
use crate::upstream::load_balancer::Reach;
use crate::upstream::load_balancer::Shadow;
use crate::upstream::load_balancer::Stay;
use crate::upstream::load_balancer::Verdict;
use crate::upstream::load_report::LoadReport;
use crate::upstream::load_report::Reports;
use crate::upstream::load_report::Told;
use crate::upstream::shadow::Looked;
use crate::upstream::transport::Transport;
use crate::upstream::transport::Transports;
use crate::upstream::zone::Zone;

/// One member: the identity that connections, and later health and latency, belong to. It outlives
/// changes of weight, health and locality.
#[derive(Debug)]
pub struct Host {
    /// Never used twice in a process; the key of the workers' pools.
    pub id: u64,
    /// Where it listens.
    pub address: Address,
    /// Its name, or empty.
    pub hostname: Name,
    /// What its connections go through.
    pub transport: Arc<Transport>,
    /// The address as text, for logs.
    pub label: Box<str>,
    pub(super) presence: Presence,
    /// What is known of its health; none if nobody asks.
    pub(super) health: Option<Box<HostHealth>>,
    /// When it was first seen healthy.
    began: OnceLock<Instant>,
    /// What each worker counted; locked when a worker first uses the host, and by readers.
    counts: Mutex<Vec<Arc<HostCounts>>>,
    in_flight: Arc<InFlight>,
    waiting: Arc<InFlight>,
    /// What a policy that looks on counts of it.
    looked: Arc<Looked>,
    /// What it says of its requests in flight, if the policy of the cluster asks.
    told: OnceLock<Arc<Told>>,
    /// Its connections, where they are limited.
    pub(super) room: HostRoom,
    /// Its own breaker, where members have one; made when it is first asked.
    pub(super) breaker: ArcSwapOption<Breaker>,
    /// Whether connections to it can be made.
    pub(super) reach: Reach,
}

/// What one worker counted of one host. Only that worker writes it.
#[derive(Debug, Default)]
pub struct HostCounts {
    /// Connections open.
    pub cx_active: HostCount,
    /// Connections that could not be made.
    pub cx_connect_fail: HostCount,
    /// Connections made or tried.
    pub cx_total: HostCount,
    /// Requests in progress.
    pub rq_active: HostCount,
    /// Requests answered with 5xx, or not at all.
    pub rq_error: HostCount,
    /// Requests answered otherwise.
    pub rq_success: HostCount,
    /// Requests that took longer than the route allows.
    pub rq_timeout: HostCount,
    /// Requests sent.
    pub rq_total: HostCount,
    /// How long its answers took, if the policy of the cluster asks.
    pub(super) samples: Samples,
    /// What its answers said of its load, if the policy of the cluster asks.
    pub(super) reports: Reports,
    /// How many went well, if outlier detection asks.
    pub(super) tally: Tally,
    /// Attempts that are measured and have no first byte yet, of all workers.
    waiting: Arc<InFlight>,
    /// The host's, of all workers.
    in_flight: Arc<InFlight>,
    /// The host's, for a policy that looks on.
    looked: Arc<Looked>,
}

impl HostCounts {
    /// A request is on its way.
    pub fn begin_request(&self) {
        self.rq_active.inc();
        self.in_flight.inc();
    }

    /// Whether the answer of the request that has begun may have a report, where reports are extra: as long
    /// as none came they are looked for in the first answer, and then seldom.
    pub fn may_report(&self) -> bool {
        self.reports.have_come() || self.rq_total.value() % limits::LOAD_REPORT_LOOKS == 1
    }

    /// An attempt begins that is measured until its first byte.
    pub fn begin_sample(&self) {
        self.waiting.inc();
        self.samples.begin();
    }

    /// What [`HostCounts::begin_sample`] began came to its first byte, or failed; none if it ended by no
    /// fault of the host's.
    pub fn end_sample(&self, outcome: Option<&Outcome>) {
        self.waiting.dec();
        match outcome {
            Some(outcome) => {
                self.samples.record(outcome);
                self.looked.answered(outcome);
            }
            None => self.samples.abandon(),
        }
    }

    /// The same of what is only a part of the way to an answer.
    pub fn end_part(&self, outcome: &Outcome) {
        self.waiting.dec();
        self.samples.record(outcome);
    }

    /// Of a route class: good samples, their microseconds, and failures.
    #[cfg(test)]
    pub(crate) fn measured(&self, class: usize) -> (u64, u64, u64) {
        self.samples.of_class(class)
    }

    /// Whether a sample has begun and not ended.
    #[cfg(test)]
    pub(crate) fn is_measured_now(&self) -> bool {
        self.waiting.value() > 0
    }

    /// What [`HostCounts::begin_request`] began has ended.
    pub fn end_request(&self) {
        self.rq_active.dec();
        self.in_flight.dec();
    }
}

/// A number with one writer, so that writing needs no locked instruction.
#[derive(Debug, Default)]
pub struct HostCount(AtomicU64);

impl HostCount {
    /// One more.
    pub fn inc(&self) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.set(self.0.load(Ordering::Relaxed).wrapping_add(count));
    }

    /// This, whatever it was.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_sub(1),
            Ordering::Relaxed,
        );
    }

    /// What it is.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Host {
    pub(super) fn new(address: Address, hostname: Name, transport: Arc<Transport>) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let label = match &address {
            Address::Pipe(path) => path.to_string_lossy().into(),
            Address::Socket(address) => address.to_string().into(),
        };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            address,
            hostname,
            transport,
            label,
            presence: Presence::default(),
            health: None,
            began: OnceLock::new(),
            counts: Mutex::default(),
            in_flight: Arc::default(),
            waiting: Arc::default(),
            looked: Arc::default(),
            told: OnceLock::new(),
            room: HostRoom::default(),
            breaker: ArcSwapOption::empty(),
            reach: Reach::default(),
        }
    }

    /// Why it takes no load, or less, besides what the control plane says.
    pub fn health_flags(&self) -> HealthFlags {
        let health = self.health.as_ref();
        health.map_or(HealthFlags::NONE, |health| health.flags())
    }

    /// What is known of its health, if anybody asks.
    pub fn health(&self) -> Option<&HostHealth> {
        self.health.as_deref()
    }

    /// Tells outlier detection, if there is any, what became of an attempt; `counts` are the calling
    /// worker's, `id` is the request's, if it has one.
    pub fn report(&self, counts: &HostCounts, report: Report, id: Option<&[u8]>) {
        if let Some(health) = self.health() {
            health.report(&counts.tally, report, id);
        }
    }

    /// Whether it is judged by what it answers.
    pub fn is_judged(&self) -> bool {
        self.health().is_some_and(|health| health.streaks.is_some())
    }

    /// Whether that it could be reached is told apart from what it answers.
    pub fn minds_connections(&self) -> bool {
        let outlier = self.health().and_then(HostHealth::outlier);
        outlier.is_some_and(|config| config.splits_local_origin)
    }

    /// Whether it has health checks.
    pub(super) fn is_checked(&self) -> bool {
        self.health().is_some_and(|health| health.checked.is_some())
    }

    /// How often it became unfit. Connections from before are not used again.
    pub(super) fn falls(&self) -> u32 {
        self.health().map_or(0, HostHealth::falls)
    }

    /// What makes it the same host in another set.
    fn identity(&self) -> (&Address, &str, *const Transport) {
        (&self.address, &self.hostname, Arc::as_ptr(&self.transport))
    }

    /// What a policy that looks on counts of it.
    pub fn looked(&self) -> &Looked {
        &self.looked
    }

    /// A place for one worker's counts.
    pub fn new_counts(&self) -> Arc<HostCounts> {
        let counts = Arc::new(HostCounts {
            in_flight: Arc::clone(&self.in_flight),
            waiting: Arc::clone(&self.waiting),
            looked: Arc::clone(&self.looked),
            ..HostCounts::default()
        });
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&counts));
        counts
    }

    /// Requests in progress, of all workers.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// Attempts that are measured and have no first byte yet, of all workers.
    pub(super) fn waiting(&self) -> &Arc<InFlight> {
        &self.waiting
    }

    /// What it says of its requests in flight, from now on.
    pub(super) fn told(&self) -> &Arc<Told> {
        let new = || Arc::new(Told::new(&self.waiting));
        self.told.get_or_init(new)
    }

    /// Balancers over it are made anew.
    fn leave_balancers(&self) {
        if let Some(told) = self.told.get() {
            told.leave();
        }
    }

    /// An answer said this of its load, and the weight follows of it; `counts` are the calling worker's.
    pub fn take_report(&self, counts: &HostCounts, report: &LoadReport, weight: Option<f64>) {
        counts.reports.record(report, weight);
        if let (Some(told), Some(in_flight)) = (self.told.get(), report.in_flight) {
            told.set(in_flight);
        }
    }

    /// What each worker counted, one after the other.
    pub(super) fn each_counts(&self, mut read: impl FnMut(&HostCounts)) {
        let all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().for_each(|counts| read(counts));
    }

    /// The sum of what all workers counted.
    pub fn sum(&self, count: impl Fn(&HostCounts) -> &HostCount) -> u64 {
        let all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .fold(0, |sum, counts| sum.wrapping_add(count(counts).value()))
    }

    /// When it was first seen healthy, if it ever was.
    pub fn began(&self) -> Option<Instant> {
        self.began.get().copied()
    }

    /// Whether it is no longer a member, so that its idle connections should go.
    pub fn is_removed(&self) -> bool {
        self.presence.is_removed()
    }

    /// Says that it is no longer a member, but made anew if at all: what runs on it may go on.
    pub fn mark_removed(&self) {
        self.presence.remove(None);
    }

    /// Whether it is leaving, and what is begun on it all the same has to leave with it.
    pub fn leaves(&self) -> bool {
        self.presence.leaves()
    }

    /// When what was begun in an earlier era is cut, if ever.
    pub fn cut_at(&self) -> Option<Instant> {
        self.presence.cut_at()
    }

    /// Counts up whenever it leaves: connections of an earlier era get nothing new.
    pub fn era(&self) -> u32 {
        self.presence.era()
    }
}

/// A host with what the configuration currently says of it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The host.
    pub host: Arc<Host>,
    /// At least 1.
    pub weight: u32,
    /// As the control plane reports it.
    pub health: HealthStatus,
    /// 0 is preferred.
    pub priority: u32,
    /// Place of its locality in the configuration.
    pub locality: usize,
    /// What policies that hash know it by, instead of its address or name.
    pub hash_key: Option<Name>,
    /// What retries may avoid it by, and subsets are made by.
    pub traits: Option<Arc<Traits>>,
    /// What its checks and outlier detection said when the set was built.
    pub flags: HealthFlags,
}

/// Whether a member takes load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Only when too few are fit.
    Degraded,
    /// Yes.
    Fit,
    /// Only in a panic.
    Unfit,
}

impl Member {
    /// Whether it takes load, as the control plane, its checks and outlier detection say together.
    pub fn fitness(&self) -> Fitness {
        if self.flags.is_failed() {
            return Fitness::Unfit;
        }
        match self.health {
            HealthStatus::Draining | HealthStatus::Timeout | HealthStatus::Unhealthy => {
                Fitness::Unfit
            }
            HealthStatus::Degraded => Fitness::Degraded,
            HealthStatus::Healthy | HealthStatus::Unknown => {
                if self.flags.has(HealthFlags::DEGRADED) {
                    Fitness::Degraded
                } else {
                    Fitness::Fit
                }
            }
        }
    }

    /// Its health as a whole, in the words of the control plane.
    pub fn status(&self) -> HealthStatus {
        if self.flags.is_failed() {
            return HealthStatus::Unhealthy;
        }
        match (self.health, self.fitness()) {
            (HealthStatus::Healthy | HealthStatus::Unknown, Fitness::Degraded) => {
                HealthStatus::Degraded
            }
            (said, _) => said,
        }
    }

    /// Whether it takes load in the ordinary case.
    pub fn is_healthy(&self) -> bool {
        self.fitness() == Fitness::Fit
    }
}

/// What a set is made beside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'b> {
    /// How unfit members are found, if anybody asks.
    pub care: Option<&'b Arc<Care>>,
    /// Hosts of this one with the same address, name and transport are kept.
    pub previous: Option<&'b HostSet>,
    /// Where the proxy is, if it was said.
    pub zone: Option<&'b Arc<Zone>>,
    /// What picks count, if they do.
    pub stats: Option<&'b Arc<BalancerStats>>,
}

/// All members and the balancer over them.
#[derive(Debug)]
pub struct HostSet {
    members: Vec<Member>,
    balancer: LoadBalancer,
    /// Looks on.
    shadow: Option<Box<Shadow>>,
    /// Who is stayed with, if the policy stays with one.
    stay: Option<Arc<Stay>>,
    /// Finds those that requests name.
    named: ByName,
}

impl HostSet {
    /// Builds the set; hosts of `previous` with the same address, name
    /// and transport are kept.
    pub fn new(
        config: &LoadBalancing,
        endpoints: &Endpoints,
        transports: &Transports,
        previous: Option<&Self>,
    ) -> Self {
        let beside = Beside {
            previous,
            ..Beside::default()
        };
        Self::with_care(config, endpoints, transports, beside)
    }

    /// The same of a cluster that finds unfit members, or knows where the proxy is.
    pub fn with_care(
        config: &LoadBalancing,
        endpoints: &Endpoints,
        transports: &Transports,
        Beside {
            care,
            previous,
            zone,
            stats,
        }: Beside<'_>,
    ) -> Self {
        let looks_on = config.shadow.as_ref();
        let policies = [&config.policy].into_iter();
        let mut policies = policies.chain(looks_on.map(|shadow| &shadow.policy));
        let stays = policies.any(|policy| matches!(policy, LbPolicy::PickFirst(_)));
        let stay = stays.then(|| {
            let before = previous.and_then(|set| set.stay.as_ref());
            before.map_or_else(|| Arc::new(Stay::new(fastrand::u64(..))), Arc::clone)
        });
        let members = members(endpoints, transports, (care, previous));
        for member in &members {
            member.host.leave_balancers();
        }
        let ingredients = Ingredients {
            config,
            endpoints,
            members: &members,
            stay: stay.as_ref(),
            zone,
            stats,
        };
        let balancer = LoadBalancer::new(ingredients);
        let shadow = looks_on.map(|config| Box::new(Shadow::new(config, ingredients)));
        for member in &members {
            member.host.looked.turn(shadow.is_some());
        }
        Self {
            members,
            balancer,
            shadow,
            stay,
            named: ByName::new(config),
        }
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member for the next request; `cursor` is the worker's own, `random` is fresh, `hash` is the
    /// request's if it has one.
    pub fn pick(&self, cursor: &mut u64, random: u64, hash: Option<u64>) -> Option<&Arc<Host>> {
        let asked = Asked {
            hash,
            ..Asked::default()
        };
        self.pick_for(cursor, random, asked)
    }

    /// The member for a request that asks for some of them.
    pub fn pick_for(&self, cursor: &mut u64, random: u64, asked: Asked<'_>) -> Option<&Arc<Host>> {
        match self.named.find(&self.members, asked) {
            Verdict::Nobody => return None,
            Verdict::Open => {}
            Verdict::Place(place) => return self.members.get(place).map(|member| &member.host),
        }
        if let Some(tried) = asked.tried {
            tried.look(&self.members);
        }
        let before = *cursor;
        let index = self.balancer.pick_for(cursor, random, asked)?;
        if let Some(shadow) = &self.shadow {
            shadow.look(&self.members, index, before, (random, asked));
        }
        self.members.get(index).map(|member| &member.host)
    }

    /// How many subsets there are.
    pub(super) fn subsets(&self) -> usize {
        self.balancer.count_subsets(None).0
    }

    /// Counts the subsets that there are now and were not in `before`, and those that are gone.
    pub(super) fn count_subsets(&self, before: Option<&Self>, stats: &BalancerStats) {
        let before = before.map(|before| &before.balancer);
        let (active, created, removed) = self.balancer.count_subsets(before);
        stats.count_subsets(created, removed, active);
    }

    /// Changes what each member's weight is multiplied by, in the order of [`Self::members`]; of no
    /// effect on policies without feedback.
    pub fn set_factors(&self, factors: &Factors) {
        self.balancer.set_factors(factors);
    }

    /// The same for the policy that looks on.
    pub fn set_shadow_factors(&self, factors: &Factors) {
        if let Some(shadow) = &self.shadow {
            shadow.set_factors(factors);
        }
    }

    /// Marks every host that is not in `next` as removed, and says who leaves and who is back. A host
    /// that is only made anew, with another configuration at the same address, does not leave. What runs
    /// on those that do is cut then.
    pub fn retire(&self, next: Option<&Self>, cut_at: Option<Instant>) -> Moves {
        let next = || next.into_iter().flat_map(|set| &set.members);
        let kept: HashMap<u64, HealthStatus> = next()
            .map(|member| (member.host.id, member.health))
            .collect();
        let known: HashSet<&Address> = next().map(|member| &member.host.address).collect();
        let mut moves = Moves::default();
        for Member { host, health, .. } in &self.members {
            let was_draining = *health == HealthStatus::Draining;
            match kept.get(&host.id) {
                None => {
                    let leaves = !known.contains(&host.address);
                    host.presence.remove(cut_at.filter(|_| leaves));
                    if leaves {
                        moves.left.push((Arc::clone(host), Cause::Removed));
                    }
                }
                Some(HealthStatus::Draining) if !was_draining => {
                    host.presence.end_era(cut_at);
                    moves.left.push((Arc::clone(host), Cause::Draining));
                }
                Some(HealthStatus::Draining) => {}
                Some(_) if was_draining => moves.returned.push(Arc::clone(host)),
                Some(_) => {}
            }
        }
        moves
    }
}

/// Who left and who is back, of two sets one after the other.
#[derive(Debug, Default)]
pub struct Moves {
    /// Their connections end.
    pub left: Vec<(Arc<Host>, Cause)>,
    /// They were to leave.
    pub returned: Vec<Arc<Host>>,
}

/// The members as configured; who was there before stays the same host.
fn members(
    endpoints: &Endpoints,
    transports: &Transports,
    (care, previous): (Option<&Arc<Care>>, Option<&HostSet>),
) -> Vec<Member> {
    let known: HashMap<_, &Arc<Host>> = previous
        .into_iter()
        .flat_map(|set| &set.members)
        .map(|member| (member.host.identity(), &member.host))
        .collect();
    let mut members = Vec::new();
    for (place, locality) in endpoints.localities.iter().enumerate() {
        for endpoint in &locality.endpoints {
            let labels = endpoint.labels.as_deref();
            let transport = transports.of(labels, locality.labels.as_deref());
            let (address, hostname) = (&endpoint.address, &endpoint.hostname);
            let new = || {
                let (address, hostname) = (address.clone(), Arc::clone(hostname));
                let own = Arc::clone(transport);
                let mut host = Host::new(address, hostname, own);
                let said = endpoint.check.as_ref();
                let health = care.map(|care| Care::host(care, said, transport, transports));
                host.health = health.map(Box::new);
                Arc::new(host)
            };
            let known = known.get(&(address, &**hostname, Arc::as_ptr(transport)));
            let is_checked_so = |host: &&&Arc<Host>| {
                let health = host.health();
                health.is_none_or(|health| health.said == endpoint.check)
            };
            let known = known.filter(is_checked_so);
            let host = known.map_or_else(new, |host| Arc::clone(host));
            let member = Member {
                flags: host.health_flags(),
                host,
                weight: endpoint.weight.max(1),
                health: endpoint.health,
                priority: locality.priority,
                locality: place,
                hash_key: endpoint.hash_key.clone(),
                traits: endpoint.traits.clone(),
            };
            if member.is_healthy() {
                member.host.began.get_or_init(Instant::now);
            }
            members.push(member);
        }
    }
    members
}

#[cfg(test)]
mod tests;
