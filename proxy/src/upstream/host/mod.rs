//! One member of a cluster, and the set of them, swapped as one with its balancer.
//!
//! | file | holds |
//! |---|---|
//! | `counts` | what each worker counts of a host |
//! | `member` | what the configuration and health say of it |
//! | `set` | all of a cluster, with the balancer over them |

mod counts;
mod member;
mod set;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::config::Name;
use crate::config::endpoint::Address;
use crate::upstream::breaker::HostRoom;
use crate::upstream::breaker::outcome::Breaker;
use crate::upstream::departure::Presence;
use crate::upstream::health::HealthFlags;
use crate::upstream::health::HostHealth;
use crate::upstream::health::outlier::Report;
use crate::upstream::in_flight::InFlight;
use crate::upstream::load_balancer::Reach;
use crate::upstream::load_report::LoadReport;
use crate::upstream::load_report::Told;
use crate::upstream::shadow::Looked;
use crate::upstream::transport::Transport;
pub use counts::HostCount;
pub use counts::HostCounts;
pub use member::Fitness;
pub use member::Member;
pub use set::Beside;
pub use set::HostSet;
pub use set::Moves;

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

#[cfg(test)]
mod tests;
