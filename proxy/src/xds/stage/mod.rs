//! From resources as they arrive to configuration that is whole: warming, waiting, leaving.
//!
//! A resource becomes live only when what it names is live too, whatever the order in which a
//! control plane sends (C-73 to C-79), and every wait ends by itself. It does no I/O; time comes in
//! as an argument. It does not decode, and it does not keep what the wire said (`store` does).
//!
//! ```text
//! cluster  ── waits for ──► its members (EDS, DNS)     initial fetch timeout: empty
//!                           their first health checks  the same: those not checked are unfit
//! table    ── waits for ──► the clusters it names      15 s: those routes answer 503
//! listener ── waits for ──► its tables, or the         initial fetch timeout: 404
//!                           clusters of inline routes  15 s: 503
//! either   ── waits for ──► the secrets it names       their fetch timeout: nobody gets in or out
//! removed cluster stays for live routes that name it   15 s
//! ```
//!
//! Invariants of every `Snapshot` handed out: each cluster has members (perhaps none); each table a
//! listener names is there; each cluster a table names is there unless its wait is over.

#[cfg(test)]
mod check_tests;
mod clusters;
#[cfg(test)]
pub(crate) mod fixtures;
mod listeners;
#[cfg(test)]
mod model_tests;
mod references;
mod secrets;
mod tables;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub use clusters::LEAVE_AFTER;
pub(crate) use references::secrets_of_cluster;
pub(crate) use references::secrets_of_listener;
pub use tables::TABLE_WAITS;

use crate::config::Change;
use crate::config::Cluster;
use crate::config::Listener;
use crate::config::Name;
use crate::config::Snapshot;
use crate::config::secret::Secret;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretKind;
use crate::config::secret::SecretSource;
use crate::xds::resource::CheckAnswer;
use crate::xds::resource::CheckQuery;
use crate::xds::resource::DnsAnswer;
use crate::xds::resource::DnsQuery;
use crate::xds::resource::Resource;
use crate::xds::resource::ResourceType;
use crate::xds::session::Interest;
use clusters::Clusters;
use clusters::Dirt;
use listeners::Listeners;
use secrets::Named;
use secrets::Secrets;
use tables::Tables;
use waits::Waits;

/// What stands in the bootstrap; dynamic resources of the same name are refused.
#[derive(Clone, Debug, Default)]
pub struct StaticResources {
    /// Their clusters.
    pub clusters: Vec<Arc<Cluster>>,
    /// Their listeners.
    pub listeners: Vec<Arc<Listener>>,
    /// Their secrets.
    pub secrets: BTreeMap<Name, Secret>,
}

/// How a stage waits.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Clusters come from a control plane or a file.
    pub has_cds: bool,
    /// Listeners come from a control plane or a file.
    pub has_lds: bool,
    /// Longest wait for the first answer of a source; none waits for ever (Envoy's 0).
    pub initial_fetch_timeout: Option<Duration>,
}

/// What one response, or one reading of a file, changed.
#[derive(Debug)]
pub struct Batch {
    /// Of which type.
    pub resource_type: ResourceType,
    /// New or changed.
    pub upserted: Vec<(Name, Resource)>,
    /// Gone, or known not to exist.
    pub removed: Vec<Name>,
    /// Gone because their time to live is over, which ends them even while they are in use (B-11).
    pub expired: Vec<Name>,
}

impl Batch {
    /// Nothing changed; but the source has answered.
    pub fn empty(resource_type: ResourceType) -> Self {
        Self {
            resource_type,
            upserted: Vec::new(),
            removed: Vec::new(),
            expired: Vec::new(),
        }
    }
}

/// The first answer of a source.
#[derive(Clone, Copy, Debug)]
enum FirstFetch {
    Over,
    Until(Option<Duration>),
}

/// All configuration there is, live and waiting.
#[derive(Debug)]
pub struct Stage {
    options: Options,
    static_clusters: BTreeSet<Name>,
    static_listeners: BTreeMap<Name, Arc<Listener>>,
    clusters: Clusters,
    tables: Tables,
    listeners: Listeners,
    secrets: Secrets,
    waits: Waits,
    first_fetches: BTreeMap<ResourceType, FirstFetch>,
    dirt: Dirt,
    has_new_needs: bool,
    /// Which secrets are named may have changed.
    has_new_names: bool,
    is_initialized: bool,
}

impl Stage {
    /// A stage with the bootstrap's resources on it.
    pub fn new(options: Options, statics: StaticResources, now: Duration) -> Self {
        let until = FirstFetch::Until(options.initial_fetch_timeout.map(|t| now + t));
        let fetch = |is_dynamic| if is_dynamic { until } else { FirstFetch::Over };
        let mut stage = Self {
            options,
            static_clusters: BTreeSet::new(),
            static_listeners: BTreeMap::new(),
            clusters: Clusters::default(),
            tables: Tables::default(),
            listeners: Listeners::default(),
            secrets: Secrets::default(),
            waits: Waits::default(),
            first_fetches: BTreeMap::from([
                (ResourceType::Cluster, fetch(options.has_cds)),
                (ResourceType::Listener, fetch(options.has_lds)),
            ]),
            dirt: Dirt::default(),
            has_new_needs: true,
            has_new_names: true,
            is_initialized: false,
        };
        stage.replace_statics(statics, now);
        stage
    }

    /// The bootstrap's resources are these now. What it has no longer is removed as if a control
    /// plane had; one that a control plane has under the same name comes back with its next push.
    pub fn replace_statics(&mut self, statics: StaticResources, now: Duration) {
        let StaticResources {
            clusters,
            listeners,
            secrets,
        } = statics;
        self.secrets.replace_statics(secrets, &mut self.dirt);
        let names = clusters.iter().map(|c| c.name.clone()).collect();
        let old_clusters = std::mem::replace(&mut self.static_clusters, names);
        let named = listeners.iter().map(|l| (l.name.clone(), Arc::clone(l)));
        let old_listeners = std::mem::replace(&mut self.static_listeners, named.collect());
        for cluster in clusters {
            self.upsert(cluster.name.clone(), Resource::Cluster(cluster), now);
        }
        for listener in listeners {
            // The same again must not make its chains anew.
            if old_listeners.get(&listener.name) != Some(&listener) {
                self.upsert(listener.name.clone(), Resource::Listener(listener), now);
            }
        }
        for name in old_listeners.keys() {
            if !self.static_listeners.contains_key(name) {
                self.remove(ResourceType::Listener, name, now);
            }
        }
        for name in &old_clusters {
            if !self.static_clusters.contains(name) {
                self.remove(ResourceType::Cluster, name, now);
            }
        }
        self.settle(now);
    }

    /// The bootstrap has a resource of this name, which dynamic ones cannot replace (C-75).
    pub fn is_static(&self, resource_type: ResourceType, name: &str) -> bool {
        match resource_type {
            ResourceType::Cluster => self.static_clusters.contains(name),
            ResourceType::Listener => self.static_listeners.contains_key(name),
            // Secrets of the bootstrap have names of their own.
            ResourceType::Endpoints | ResourceType::RouteConfig | ResourceType::Secret => false,
        }
    }

    /// The secrets among what the bootstrap has, of those named without a source.
    pub fn has_static_secret(&self, name: &str) -> bool {
        self.secrets.has_static(name)
    }

    /// These secrets are made here, so nobody is asked for them.
    pub fn make_own(&mut self, keys: impl IntoIterator<Item = SecretKey>) {
        self.secrets.make_own(keys);
        self.has_new_needs = true;
    }

    /// Takes in what became of secrets that are made here; `None` is over.
    pub fn give_own(&mut self, given: Vec<(SecretKey, Option<Secret>)>, now: Duration) {
        for (key, secret) in given {
            self.secrets.give_own(&key, secret, &mut self.dirt);
        }
        self.clusters.check_all();
        self.settle(now);
    }

    /// A secret that is named and there.
    pub fn secret(&self, key: &SecretKey) -> Option<&Secret> {
        self.secrets.get(key)
    }

    /// What a secret must be, if it is named.
    pub fn kind_of_secret(&self, source: &SecretSource, name: &Name) -> Option<SecretKind> {
        self.secrets.kind(&key(source, name))
    }

    /// Takes in what a source of secrets changed.
    pub fn apply_secrets(&mut self, source: &SecretSource, batch: Batch, now: Duration) {
        for (name, resource) in batch.upserted {
            if let Resource::Secret(read) = resource {
                let secret = read.secret.clone();
                self.secrets
                    .upsert(&key(source, &name), secret, &mut self.dirt);
            }
        }
        for name in batch.expired {
            self.secrets.expire(&key(source, &name), &mut self.dirt);
        }
        self.clusters.check_all();
        self.settle(now);
    }

    /// Takes in what one response changed; an empty batch says that the source has answered.
    pub fn apply(&mut self, batch: Batch, now: Duration) {
        let resource_type = batch.resource_type;
        if resource_type == ResourceType::Secret {
            return self.apply_secrets(&SecretSource::Ads, batch, now);
        }
        if let Some(fetch) = self.first_fetches.get_mut(&resource_type) {
            *fetch = FirstFetch::Over;
        }
        for (name, resource) in batch.upserted {
            if !self.is_static(resource_type, &name) {
                self.upsert(name, resource, now);
            }
        }
        for name in batch.removed {
            if !self.is_static(resource_type, &name) {
                self.remove(resource_type, &name, now);
            }
        }
        for name in batch.expired {
            if !self.is_static(resource_type, &name) {
                self.expire(resource_type, &name, now);
            }
        }
        self.settle(now);
    }

    /// Takes in what the resolver found, or that it found nothing.
    pub fn on_dns_answer(&mut self, answer: DnsAnswer, now: Duration) {
        self.clusters
            .resolved(&answer.query, answer.endpoints, &mut self.dirt);
        self.settle(now);
    }

    /// Every member of a cluster was checked once.
    pub fn on_checked(&mut self, answer: &CheckAnswer, now: Duration) {
        self.clusters.checked(&answer.cluster);
        self.settle(now);
    }

    /// The clusters whose members are to be checked before anybody uses them, always the whole list; none
    /// if they are those of the last call.
    pub fn take_new_checks(&mut self) -> Option<Vec<CheckQuery>> {
        let checks = self.clusters.take_new_checks()?;
        let secrets = Arc::new(self.secrets.all());
        let checks = checks.into_iter();
        let query = |(cluster, endpoints)| CheckQuery {
            cluster,
            endpoints,
            secrets: Arc::clone(&secrets),
        };
        Some(checks.map(query).collect())
    }

    /// Ends the waits that are over.
    pub fn on_tick(&mut self, now: Duration) {
        for fetch in self.first_fetches.values_mut() {
            if let FirstFetch::Until(Some(at)) = *fetch
                && at <= now
            {
                *fetch = FirstFetch::Over;
            }
        }
        self.clusters.check_all();
        self.settle(now);
    }

    /// When the next wait ends by itself.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let fetches = self.first_fetches.values().filter_map(|f| match f {
            FirstFetch::Over => None,
            FirstFetch::Until(at) => *at,
        });
        let waits = self.waits.deadlines().chain(self.tables.deadlines());
        let all = fetches
            .chain(waits)
            .chain(self.clusters.deadlines())
            .chain(self.listeners.deadlines())
            .chain(self.secrets.deadlines());
        all.filter(|at| *at > now).min()
    }

    /// [`Self::interest`] or [`Self::dns_queries`] may differ from what they were at the last call.
    pub fn take_new_needs(&mut self) -> bool {
        std::mem::take(&mut self.has_new_needs)
    }

    /// What is to be subscribed to.
    pub fn interest(&self, resource_type: ResourceType) -> Interest {
        match resource_type {
            ResourceType::Cluster if self.options.has_cds => Interest::wildcard(),
            ResourceType::Listener if self.options.has_lds => Interest::wildcard(),
            ResourceType::Cluster | ResourceType::Listener => Interest::default(),
            ResourceType::Endpoints => Interest::names(self.clusters.services().cloned()),
            ResourceType::RouteConfig => Interest::names(self.tables.names().cloned()),
            ResourceType::Secret => self.interest_in_secrets(&SecretSource::Ads),
        }
    }

    /// The secrets to ask one source for.
    pub fn interest_in_secrets(&self, source: &SecretSource) -> Interest {
        Interest::names(self.secrets.names(source).cloned())
    }

    /// The secrets that are named and not there.
    pub fn missing_secrets(&self) -> Vec<SecretKey> {
        self.secrets.missing().cloned().collect()
    }

    /// Every source of secrets that is asked for something.
    pub fn secret_sources(&self) -> BTreeSet<SecretSource> {
        self.secrets.sources()
    }

    /// What is to be resolved.
    pub fn dns_queries(&self) -> Vec<DnsQuery> {
        self.clusters.queries()
    }

    /// [`Self::next_change`] is worth calling.
    pub fn has_change(&self) -> bool {
        self.dirt.snapshot || self.dirt.secrets || !self.dirt.members.is_empty()
    }

    /// What changed since the last call, if anything; call until there is nothing left. A consumer
    /// that comes late gets the sum of the changes.
    pub fn next_change(&mut self) -> Option<Change> {
        if std::mem::take(&mut self.dirt.snapshot) {
            self.dirt.members.clear();
            self.dirt.secrets = false;
            return Some(Change::Snapshot(Arc::new(self.snapshot())));
        }
        if std::mem::take(&mut self.dirt.secrets) {
            return Some(Change::Secrets(Arc::new(self.secrets.all())));
        }
        while let Some(cluster) = self.dirt.members.pop_first() {
            if let Some(endpoints) = self.clusters.members(&cluster) {
                let endpoints = Arc::clone(endpoints);
                return Some(Change::Endpoints { cluster, endpoints });
            }
        }
        None
    }

    /// Everything has arrived or was waited for long enough (C-77). Once true it stays.
    pub fn is_initialized(&self) -> bool {
        self.is_initialized
    }

    /// What initialization, or a resource that was never live, still waits for, and secrets without
    /// which something live lets nobody in; at most so many lines, one each.
    pub fn waiting_for(&self, lines_max: usize) -> Vec<String> {
        let fetches = self.first_fetches.iter().filter_map(|(t, f)| match f {
            FirstFetch::Over => None,
            FirstFetch::Until(_) => Some(format!("{t}: first response")),
        });
        let is_active = |name: &str| self.clusters.is_active(name);
        let is_there = |key: &SecretKey| self.secrets.is_there(key);
        let secrets = self.secrets.missing().next().map(|_| {
            let of_clusters = self.clusters.missing_secrets(is_there);
            of_clusters.chain(self.listeners.missing_secrets(is_there))
        });
        fetches
            .chain(self.clusters.waiting_for())
            .chain(self.listeners.waiting_for(&self.tables, is_active))
            .chain(secrets.into_iter().flatten())
            .take(lines_max)
            .collect()
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.clusters.fill(&mut snapshot);
        self.tables.fill(&mut snapshot);
        self.listeners.fill(&mut snapshot);
        snapshot.secrets = Arc::new(self.secrets.all());
        snapshot
    }

    fn upsert(&mut self, name: Name, resource: Resource, now: Duration) {
        let timeout = self.options.initial_fetch_timeout;
        match resource {
            Resource::Cluster(cluster) => {
                self.clusters
                    .upsert(name, cluster, timeout.map(|t| now + t));
                self.has_new_needs = true;
                self.has_new_names = true;
            }
            Resource::Endpoints(endpoints) => {
                self.clusters.assign(&name, endpoints, &mut self.dirt);
            }
            Resource::Listener(listener) => {
                self.listeners.upsert(name, listener, timeout, now);
                self.want_tables();
            }
            Resource::RouteConfig(routes) => self.tables.upsert(&name, routes, now),
            Resource::Secret(_) => {} // come with their source
        }
    }

    fn remove(&mut self, resource_type: ResourceType, name: &Name, now: Duration) {
        match resource_type {
            ResourceType::Cluster => {
                self.clusters.remove(name, now);
                self.has_new_needs = true;
                self.has_new_names = true;
            }
            ResourceType::Endpoints => self.clusters.assignment_missing(name, now),
            ResourceType::Listener => {
                self.listeners.remove(name, &mut self.dirt);
                self.want_tables();
            }
            ResourceType::RouteConfig => self.tables.mark_missing(name),
            ResourceType::Secret => {} // who has it keeps it, who waits for it goes on
        }
    }

    fn expire(&mut self, resource_type: ResourceType, name: &Name, now: Duration) {
        match resource_type {
            ResourceType::Cluster | ResourceType::Listener => self.remove(resource_type, name, now),
            ResourceType::Endpoints => {
                self.clusters
                    .assign(name, clusters::no_members(), &mut self.dirt);
            }
            ResourceType::RouteConfig => self.tables.expire(name, &mut self.dirt),
            ResourceType::Secret => {} // come with their source
        }
    }

    fn want_tables(&mut self) {
        self.tables.want(&self.listeners.tables(), &mut self.dirt);
        self.has_new_needs = true;
        self.has_new_names = true;
    }

    /// Asks for the secrets that are named now, and for no others.
    fn want_secrets(&mut self, now: Duration) {
        if !std::mem::take(&mut self.has_new_names) {
            return;
        }
        let clusters = self.clusters.secrets();
        let named = clusters.chain(self.listeners.secrets());
        let named: Named<'_> = named.map(|named| (&named.key, named)).collect();
        self.has_new_needs |= self.secrets.want(&named, now, &mut self.dirt);
    }

    /// Makes live what may be, in the order in which things name each other.
    fn settle(&mut self, now: Duration) {
        self.want_secrets(now);
        let secrets = &self.secrets;
        let has_secret = |key: &SecretKey| secrets.is_settled(key, now);
        let has_warmed = self.clusters.settle(now, has_secret, &mut self.dirt);
        let clusters = &self.clusters;
        // Without a source of clusters, one that the bootstrap lacks is nothing to wait for.
        let (has_cds, statics) = (self.options.has_cds, &self.static_clusters);
        let can_come = |name: &str| has_cds || statics.contains(name);
        let is_active = |name: &str| clusters.is_active(name) || !can_come(name);
        let waits = &mut self.waits;
        let has_routed = self.tables.settle(waits, is_active, now, &mut self.dirt);
        let tables = &mut self.tables;
        let has_opened =
            self.listeners
                .settle(tables, waits, (is_active, has_secret), now, &mut self.dirt);
        if has_opened {
            self.want_tables();
        }
        let has_dismissed = self.dismiss(now);
        self.has_new_needs |= has_warmed || has_dismissed;
        self.has_new_names |= has_warmed || has_dismissed;
        self.want_secrets(now);
        if has_routed || self.has_new_needs {
            self.clusters.prune();
            self.forget_waits();
        }
        self.is_initialized = self.is_initialized || self.has_all();
    }

    /// Nothing of what the bootstrap and the first responses named is still waited for.
    fn has_all(&self) -> bool {
        let is_over = |f: &FirstFetch| matches!(f, FirstFetch::Over);
        self.first_fetches.values().all(is_over)
            && !self.clusters.has_unserved()
            && !self.listeners.has_unserved()
    }

    /// Lets removed clusters go that no live route names.
    fn dismiss(&mut self, now: Duration) -> bool {
        if !self.clusters.has_leaving() {
            return false;
        }
        let live = self
            .tables
            .active_clusters()
            .chain(self.listeners.active_clusters());
        let named: BTreeSet<Name> = live.cloned().collect();
        let is_named = |name: &Name| named.contains(name);
        let dismissed = self.clusters.dismiss(now, &mut self.dirt, is_named);
        for cluster in dismissed.iter().filter(|n| is_named(n)) {
            self.waits.give_up(cluster.clone());
        }
        !dismissed.is_empty()
    }

    fn forget_waits(&mut self) {
        if self.waits.is_empty() {
            return;
        }
        let live = self
            .tables
            .active_clusters()
            .chain(self.listeners.active_clusters());
        let waiting = self
            .tables
            .pending_clusters()
            .chain(self.listeners.pending_clusters());
        let named: BTreeSet<&Name> = live.chain(waiting).collect();
        let clusters = &self.clusters;
        self.waits
            .retain(|name| named.contains(name) && !clusters.is_active(name));
    }
}

fn key(source: &SecretSource, name: &Name) -> SecretKey {
    SecretKey {
        source: source.clone(),
        name: name.clone(),
    }
}
