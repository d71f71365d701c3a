//! Names to members: resolves the targets of `STRICT_DNS` clusters again and again.
//!
//! One task per query, all owned by [`run`]. What was resolved once stays until something better is
//! known: a failing resolver takes no member away. It does not read TTLs, which the system's
//! resolver does not tell.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::timeout;
use tracing::debug;
use tracing::warn;

use crate::config::Endpoints;
use crate::config::Name;
use crate::config::cluster::Dns;
use crate::config::cluster::DnsFamily;
use crate::config::cluster::DnsTarget;
use crate::config::endpoint::Address;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::LocalityEndpoints;
use crate::xds::resource::DnsAnswer;
use crate::xds::resource::DnsQuery;

/// Lookups at the same time. Each holds a thread of the blocking pool while the system resolves.
const LOOKUPS_MAX: usize = 16;

/// Longest wait for one lookup: two tries of the usual resolver configuration.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Shortest time between two lookups of the same name, so that a configured zero is no busy loop.
const REFRESH_MIN: Duration = Duration::from_millis(100);

/// Addresses taken from one answer: 64 KiB, the most DNS can carry, is about 4000.
const ADDRESSES_MAX: usize = 4096;

/// Addresses found for a name.
pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Resolves one name.
pub trait Lookup: Send + Sync {
    /// All addresses of `host`, with `port`.
    fn lookup(&self, host: &Name, port: u16) -> Found;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: &Name, port: u16) -> Found {
        let host = Arc::clone(host);
        Box::pin(async move {
            let found = tokio::net::lookup_host((&*host, port)).await?;
            Ok(found.take(ADDRESSES_MAX).collect())
        })
    }
}

/// Answers the queries with the system's resolver until their sender or the receiver of `answers`
/// is gone. Dropping the future ends everything it started.
pub async fn run(queries: watch::Receiver<Vec<DnsQuery>>, answers: mpsc::Sender<DnsAnswer>) {
    run_with(queries, answers, Arc::new(SystemLookup)).await;
}

/// The same with any resolver.
pub async fn run_with(
    mut queries: watch::Receiver<Vec<DnsQuery>>,
    answers: mpsc::Sender<DnsAnswer>,
    lookup: Arc<dyn Lookup>,
) {
    let mut resolver = Resolver {
        shared: Arc::new(Shared {
            answers,
            lookup,
            permits: Semaphore::new(LOOKUPS_MAX),
        }),
        tasks: JoinSet::new(),
        running: BTreeMap::new(),
    };
    loop {
        let wanted = queries.borrow_and_update().clone();
        resolver.set(wanted);
        tokio::select! {
            changed = queries.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = resolver.shared.answers.closed() => return,
            Some(_) = resolver.tasks.join_next() => {}
        }
    }
}

struct Shared {
    answers: mpsc::Sender<DnsAnswer>,
    lookup: Arc<dyn Lookup>,
    permits: Semaphore,
}

/// The tasks there are, by cluster.
struct Resolver {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    running: BTreeMap<Name, Vec<(Dns, AbortHandle)>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// Ends what is no longer wanted and starts what is new.
    fn set(&mut self, wanted: Vec<DnsQuery>) {
        let mut old = std::mem::take(&mut self.running);
        for query in wanted {
            let kept = old.get_mut(&query.cluster).and_then(|running| {
                let at = running.iter().position(|(dns, _)| *dns == query.dns)?;
                Some(running.swap_remove(at))
            });
            let running = self.running.entry(Arc::clone(&query.cluster)).or_default();
            running.push(match kept {
                Some(kept) => kept,
                None => {
                    let dns = query.dns.clone();
                    let task = resolve_forever(Arc::clone(&self.shared), query);
                    (dns, self.tasks.spawn(task))
                }
            });
        }
        for (_, task) in old.into_values().flatten() {
            task.abort();
        }
    }
}

async fn resolve_forever(shared: Arc<Shared>, query: DnsQuery) {
    let mut known = vec![BTreeSet::new(); query.dns.targets.len()];
    let mut told = None;
    loop {
        for (target, addresses) in query.dns.targets.iter().zip(&mut known) {
            let found = shared.resolve(target, query.dns.family).await;
            // An answer of the wrong families is no reason to lose what is known.
            if !found.is_empty() {
                *addresses = found;
            }
        }
        let has_any = query.dns.targets.is_empty() || known.iter().any(|a| !a.is_empty());
        let endpoints = has_any.then(|| members(&query.dns, &known));
        if told.as_ref() != Some(&endpoints) {
            let answer = DnsAnswer {
                query: query.clone(),
                endpoints: endpoints.clone(),
            };
            if shared.answers.send(answer).await.is_err() {
                return;
            }
            told = Some(endpoints);
        }
        sleep(query.dns.refresh_rate.max(REFRESH_MIN)).await;
    }
}

impl Shared {
    /// The wanted addresses of one target; empty if it failed.
    async fn resolve(&self, target: &DnsTarget, family: DnsFamily) -> BTreeSet<SocketAddr> {
        let Ok(_permit) = self.permits.acquire().await else {
            return BTreeSet::new(); // never closed
        };
        let found = timeout(
            LOOKUP_TIMEOUT,
            self.lookup.lookup(&target.host, target.port),
        )
        .await;
        match found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(addresses) => {
                let addresses = of_family(addresses, family);
                if addresses.is_empty() {
                    warn!(host = %target.host, ?family, "no address of the wanted family");
                }
                addresses
            }
            Err(error) => {
                debug!(host = %target.host, %error, "not resolved");
                BTreeSet::new()
            }
        }
    }
}

/// The addresses `family` asks for, in an order that does not change from answer to answer.
fn of_family(addresses: Vec<SocketAddr>, family: DnsFamily) -> BTreeSet<SocketAddr> {
    let all: BTreeSet<SocketAddr> = addresses.into_iter().collect();
    let has_v4 = all.iter().any(SocketAddr::is_ipv4);
    let has_v6 = all.iter().any(SocketAddr::is_ipv6);
    let is_wanted = |a: &SocketAddr| match family {
        DnsFamily::All => true,
        DnsFamily::Auto => a.is_ipv6() == has_v6,
        DnsFamily::V4Only => a.is_ipv4(),
        DnsFamily::V4Preferred => a.is_ipv4() == has_v4,
        DnsFamily::V6Only => a.is_ipv6(),
    };
    all.into_iter().filter(is_wanted).collect()
}

/// Every address is a member; targets of one locality and priority stand together.
fn members(dns: &Dns, known: &[BTreeSet<SocketAddr>]) -> Endpoints {
    let mut localities: Vec<LocalityEndpoints> = Vec::new();
    for (target, addresses) in dns.targets.iter().zip(known) {
        let is_same = |l: &LocalityEndpoints| {
            let ours = (&target.locality, target.priority, target.locality_weight);
            (&l.locality, l.priority, l.weight) == ours && l.labels == target.locality_labels
        };
        let at = localities.iter().position(is_same).unwrap_or_else(|| {
            localities.push(LocalityEndpoints {
                locality: target.locality.clone(),
                priority: target.priority,
                weight: target.locality_weight,
                labels: target.locality_labels.clone(),
                endpoints: Vec::new(),
            });
            localities.len() - 1
        });
        let endpoints = addresses.iter().map(|address| Endpoint {
            address: Address::Socket(*address),
            hostname: Arc::clone(&target.hostname),
            weight: target.weight,
            health: target.health,
            labels: target.labels.clone(),
            hash_key: target.hash_key.clone(),
            traits: target.traits.clone(),
            check: target.check.clone(),
        });
        localities[at].endpoints.extend(endpoints);
    }
    dns.policy.clone().with(localities)
}
