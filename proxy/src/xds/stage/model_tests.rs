//! Random pushes in any order against two oracles: every snapshot handed out is whole, and when
//! everything has settled the result is what applying the last version of everything at once gives.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prop_oneof;
use proptest::proptest;

use super::Batch;
use super::LEAVE_AFTER;
use super::Options;
use super::Stage;
use super::StaticResources;
use super::TABLE_WAITS;
use super::fixtures;
use super::references::ListenerReferences;
use super::references::clusters_of_routes;
use super::references::secrets_of_cluster;
use super::references::secrets_of_listener;
use crate::config::Change;
use crate::config::Endpoints;
use crate::config::Name;
use crate::config::Secrets;
use crate::config::Snapshot;
use crate::config::cluster::Discovery;
use crate::xds::resource::DnsAnswer;
use crate::xds::resource::Resource;
use crate::xds::resource::ResourceType;

const FETCH: Duration = Duration::from_secs(15);

/// Names are numbers below this, so that collisions are common.
const NAMES: u8 = 3;

#[derive(Clone, Debug)]
enum Op {
    Advance(u64),
    AnswerDns(u8),
    Assign(u8, u16),
    Cluster(u8, Members, u64, Option<u8>),
    Listener(u8, Routes, Option<u8>),
    RemoveCluster(u8),
    RemoveListener(u8),
    Secret(u8, u8),
    Table(u8, Vec<u8>),
    /// Take what there is, as a consumer that is sometimes slow.
    Take,
}

#[derive(Clone, Debug)]
enum Members {
    Dns(u8),
    Eds(u8),
    Fixed(u16),
}

#[derive(Clone, Debug)]
enum Routes {
    Inline(Vec<u8>),
    Rds(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let members = prop_oneof![
        (0..NAMES).prop_map(Members::Dns),
        (0..NAMES).prop_map(Members::Eds),
        (0..4u16).prop_map(Members::Fixed),
    ];
    let routes = prop_oneof![
        vec(0..NAMES, 0..3).prop_map(Routes::Inline),
        (0..NAMES).prop_map(Routes::Rds),
    ];
    let secret = proptest::option::weighted(0.4, 0..NAMES);
    let op = prop_oneof![
        2 => (0..9_000u64).prop_map(Op::Advance),
        2 => (0..4u8).prop_map(Op::AnswerDns),
        3 => ((0..NAMES), (1..4u16)).prop_map(|(n, m)| Op::Assign(n, m)),
        3 => ((0..NAMES), members, 0..2u64, secret.clone())
            .prop_map(|(n, m, v, s)| Op::Cluster(n, m, v, s)),
        2 => ((0..NAMES), routes, secret).prop_map(|(n, r, s)| Op::Listener(n, r, s)),
        2 => ((0..NAMES), 0..3u8).prop_map(|(n, mark)| Op::Secret(n, mark)),
        2 => (0..NAMES).prop_map(Op::RemoveCluster),
        1 => (0..NAMES).prop_map(Op::RemoveListener),
        3 => ((0..NAMES), vec(0..NAMES, 0..3)).prop_map(|(n, c)| Op::Table(n, c)),
        4 => Just(Op::Take),
    ];
    vec(op, 1..60)
}

fn name(kind: &str, n: u8) -> Name {
    format!("{kind}{n}").into()
}

fn clusters(numbers: &[u8]) -> Vec<String> {
    numbers.iter().map(|n| format!("c{n}")).collect()
}

/// The stage, the control plane's view, and what the consumer has made of the changes.
struct World {
    stage: Stage,
    now: Duration,
    /// What the control plane has said last, by name.
    said: BTreeMap<(ResourceType, Name), Resource>,
    /// What was let through of it and is still asked for; it is not sent again unchanged.
    sent: BTreeSet<(ResourceType, Name)>,
    /// What the consumer has.
    live: Snapshot,
    /// Steps since it last looked; what comes and goes in between is no change.
    steps: u32,
    /// When a cluster that live routes still name was taken away.
    removed_at: BTreeMap<Name, Duration>,
    /// Since when a secret is named without a pause.
    named_at: BTreeMap<Name, Duration>,
}

impl World {
    fn new() -> Self {
        let options = Options {
            has_cds: true,
            has_lds: true,
            initial_fetch_timeout: Some(FETCH),
        };
        Self {
            stage: Stage::new(options, StaticResources::default(), Duration::ZERO),
            now: Duration::ZERO,
            said: BTreeMap::new(),
            sent: BTreeSet::new(),
            live: Snapshot::default(),
            steps: 0,
            removed_at: BTreeMap::new(),
            named_at: BTreeMap::new(),
        }
    }

    fn push(&mut self, resource_type: ResourceType, name: Name, resource: Resource) {
        self.said
            .insert((resource_type, name.clone()), resource.clone());
        let mut batch = Batch::empty(resource_type);
        // A control plane sends, and a session lets through, only what is asked for.
        if self.stage.interest(resource_type).covers(&name) {
            self.sent.insert((resource_type, name.clone()));
            batch.upserted.push((name, resource));
        }
        self.stage.apply(batch, self.now);
        self.answer_needs();
    }

    /// The control plane answers new subscriptions with what it has, like a real one, but EDS and
    /// RDS answers may also have come before anybody asked: those were not let through.
    fn answer_needs(&mut self) {
        while self.stage.take_new_needs() {
            let secrets = self.stage.interest(ResourceType::Secret).names;
            self.named_at.retain(|name, _| secrets.contains(name));
            for name in secrets {
                self.named_at.entry(name).or_insert(self.now);
            }
            for t in [
                ResourceType::Endpoints,
                ResourceType::RouteConfig,
                ResourceType::Secret,
            ] {
                let mut batch = Batch::empty(t);
                let interest = self.stage.interest(t);
                self.sent
                    .retain(|(of, name)| *of != t || interest.covers(name));
                for name in interest.names {
                    let key = (t, name.clone());
                    if let Some(resource) = self.said.get(&key)
                        && self.sent.insert(key)
                    {
                        batch.upserted.push((name, resource.clone()));
                    }
                }
                self.stage.apply(batch, self.now);
            }
        }
    }

    fn remove(&mut self, resource_type: ResourceType, name: Name) {
        self.said.remove(&(resource_type, name.clone()));
        let mut batch = Batch::empty(resource_type);
        batch.removed.push(name);
        self.stage.apply(batch, self.now);
        self.answer_needs();
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        self.steps += 1;
        // As the driver does: tick at each deadline, not only at the end.
        while let Some(at) = self.stage.next_deadline(self.now).filter(|at| *at <= end) {
            self.now = at;
            self.stage.on_tick(at);
            self.answer_needs();
        }
        self.now = end;
        self.stage.on_tick(end);
        self.answer_needs();
    }

    fn run(&mut self, op: Op) {
        self.step(op);
        // Once nobody live names it, it goes at once; who waits with it among others does not wait
        // any longer for it than for those.
        let mut removed_at = std::mem::take(&mut self.removed_at);
        removed_at.retain(|cluster, _| self.is_named_live(cluster));
        self.removed_at = removed_at;
    }

    fn step(&mut self, op: Op) {
        self.steps += 1;
        match op {
            Op::Advance(ms) => self.advance(Duration::from_millis(ms)),
            Op::AnswerDns(n) => self.answer_dns(n),
            Op::Assign(n, mark) => {
                let endpoints = Resource::Endpoints(Arc::new(fixtures::endpoints(mark)));
                self.push(ResourceType::Endpoints, name("s", n), endpoints);
            }
            Op::Cluster(n, members, version, secret) => {
                let discovery = match members {
                    Members::Dns(host) => Discovery::StrictDns(fixtures::dns(&name("h", host))),
                    Members::Eds(service) => fixtures::eds(&name("s", service)),
                    Members::Fixed(mark) => fixtures::fixed(mark),
                };
                let cluster = fixtures::cluster(&name("c", n), discovery, version);
                let cluster = match secret {
                    Some(s) => fixtures::cluster_with_secret(&cluster, &name("k", s)),
                    None => cluster,
                };
                self.removed_at.remove(&name("c", n));
                self.push(
                    ResourceType::Cluster,
                    name("c", n),
                    Resource::Cluster(cluster),
                );
            }
            Op::Listener(n, routes, secret) => {
                let source = match routes {
                    Routes::Inline(numbers) => {
                        let names = clusters(&numbers);
                        let names: Vec<&str> = names.iter().map(String::as_str).collect();
                        fixtures::inline(&names)
                    }
                    Routes::Rds(table) => fixtures::rds(&name("r", table)),
                };
                let listener = fixtures::listener(&name("l", n), source);
                let listener = match secret {
                    Some(s) => fixtures::with_secret(&listener, &name("k", s)),
                    None => listener,
                };
                self.push(
                    ResourceType::Listener,
                    name("l", n),
                    Resource::Listener(listener),
                );
            }
            Op::RemoveCluster(n) => {
                self.removed_at.entry(name("c", n)).or_insert(self.now);
                self.remove(ResourceType::Cluster, name("c", n));
            }
            Op::RemoveListener(n) => self.remove(ResourceType::Listener, name("l", n)),
            Op::Secret(n, mark) => {
                let secret = Resource::Secret(fixtures::secret(&mark.to_string()));
                self.push(ResourceType::Secret, name("k", n), secret);
            }
            Op::Table(n, numbers) => {
                let names = clusters(&numbers);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let routes = Resource::RouteConfig(fixtures::routes(&name("r", n), &names));
                self.push(ResourceType::RouteConfig, name("r", n), routes);
            }
            Op::Take => self.take(),
        }
    }

    fn is_named_live(&self, cluster: &Name) -> bool {
        let tables = self.stage.tables.active_clusters();
        let is_named = tables
            .chain(self.stage.listeners.active_clusters())
            .any(|c| c == cluster);
        is_named && self.stage.clusters.is_active(cluster)
    }

    fn answer_dns(&mut self, n: u8) {
        let queries = self.stage.dns_queries();
        let Some(query) = queries.get(usize::from(n) % queries.len().max(1)).cloned() else {
            return;
        };
        // What a name resolves to depends on the name only.
        let endpoints = (!n.is_multiple_of(3)).then(|| resolved(&query.dns.targets[0].host));
        self.stage
            .on_dns_answer(DnsAnswer { query, endpoints }, self.now);
        self.answer_needs();
    }

    /// Consumes all changes as `apply` would, and checks each.
    fn take(&mut self) {
        while let Some(change) = self.stage.next_change() {
            match change {
                Change::Endpoints { cluster, endpoints } => {
                    let old = self
                        .live
                        .endpoints
                        .insert(cluster.clone(), endpoints.clone());
                    let old = old.unwrap_or_else(|| panic!("{cluster} is not live"));
                    assert!(
                        !Arc::ptr_eq(&old, &endpoints),
                        "nothing changed in {cluster}"
                    );
                }
                Change::Secrets(secrets) => {
                    let must_differ = self.steps <= 1;
                    let is_same = self.live.secrets == secrets;
                    assert!(!must_differ || !is_same, "no secret changed");
                    self.live.secrets = secrets;
                }
                Change::Snapshot(snapshot) => {
                    let must_differ = self.steps <= 1;
                    assert!(
                        !must_differ || !is_same(&self.live, &snapshot),
                        "nothing changed"
                    );
                    self.live = (*snapshot).clone();
                    self.check_whole();
                }
            }
        }
        assert!(!self.stage.has_change());
        self.steps = 0;
    }

    fn check_whole(&self) {
        let live = &self.live;
        let has_members: BTreeSet<&Name> = live.endpoints.keys().collect();
        assert_eq!(live.clusters.keys().collect::<BTreeSet<_>>(), has_members);
        let mut named = BTreeSet::new();
        for listener in live.listeners.values() {
            let references = ListenerReferences::new(listener);
            for table in &references.tables {
                assert!(live.routes.contains_key(table), "{table} is missing");
            }
            named.extend(references.clusters);
        }
        named.extend(live.routes.values().flat_map(|r| clusters_of_routes(r)));
        self.check_secrets();
        for cluster in named {
            if !live.clusters.contains_key(&cluster) {
                self.check_excuse(&cluster);
            }
        }
    }

    /// What is live without a secret it names was waited for long enough.
    fn check_secrets(&self) {
        let live = &self.live;
        let of_listeners = live.listeners.values().flat_map(|l| secrets_of_listener(l));
        let of_clusters = live.clusters.values().flat_map(|c| secrets_of_cluster(c));
        for named in of_listeners.chain(of_clusters) {
            let key = &named.key;
            if !live.secrets.contains_key(key) {
                // Whoever is named no longer by now was when the snapshot was made.
                let since = self.named_at.get(&key.name).copied().unwrap_or_default();
                assert!(self.now >= since + FETCH, "{key} is missing too early");
            }
        }
    }

    /// A named cluster may be missing only after a wait: since it was taken away, or since the
    /// beginning of the world as nobody ever pushed it.
    fn check_excuse(&self, cluster: &Name) {
        let waited = TABLE_WAITS.min(LEAVE_AFTER);
        let since = self.removed_at.get(cluster).copied().unwrap_or_default();
        assert!(
            self.now >= since + waited,
            "{cluster} is missing too early: {:?}",
            self.now
        );
    }

    /// After all waits, and with every question answered, the stage shows the last of everything.
    fn check_converged(&mut self) {
        for query in self.stage.dns_queries() {
            let endpoints = Some(resolved(&query.dns.targets[0].host));
            self.stage
                .on_dns_answer(DnsAnswer { query, endpoints }, self.now);
        }
        self.advance(Duration::from_secs(120));
        for query in self.stage.dns_queries() {
            let endpoints = Some(resolved(&query.dns.targets[0].host));
            self.stage
                .on_dns_answer(DnsAnswer { query, endpoints }, self.now);
        }
        self.take();
        assert_eq!(self.stage.next_deadline(self.now), None);
        assert!(self.stage.is_initialized());
        let expected = self.naive();
        let found = &self.live;
        assert_eq!(found.secrets, expected.secrets);
        // Nothing is left but to say which secrets nobody ever sent.
        let waiting = self.stage.waiting_for(99);
        let are_secrets = waiting.iter().all(|line| line.contains(": secret k"));
        assert!(are_secrets, "{waiting:?}");
        let has_all = (self.stage.interest(ResourceType::Secret).names.iter())
            .all(|name| expected.secrets.keys().any(|key| key.name == *name));
        assert_eq!(waiting.is_empty(), has_all, "{waiting:?}");
        assert_eq!(found.clusters, expected.clusters);
        assert_eq!(found.endpoints, expected.endpoints);
        let keys = |s: &Snapshot| -> (Vec<Name>, Vec<Name>) {
            (
                s.listeners.keys().cloned().collect(),
                s.routes.keys().cloned().collect(),
            )
        };
        assert_eq!(keys(found), keys(&expected));
        for (name, listener) in &expected.listeners {
            assert!(
                Arc::ptr_eq(listener, &found.listeners[name]),
                "{name} is old"
            );
        }
        for (name, routes) in &expected.routes {
            let is_same = Arc::ptr_eq(routes, &found.routes[name]);
            let are_empty = routes.virtual_hosts.is_empty();
            assert!(
                is_same || (are_empty && found.routes[name].virtual_hosts.is_empty()),
                "{name} is old"
            );
        }
    }

    /// Everything that was said, applied at once.
    fn naive(&self) -> Snapshot {
        let mut s = Snapshot::default();
        for ((_, name), resource) in &self.said {
            match resource {
                Resource::Cluster(c) => {
                    s.clusters.insert(name.clone(), Arc::clone(c));
                    s.endpoints
                        .insert(name.clone(), self.naive_members(&c.discovery));
                }
                Resource::Listener(l) => {
                    s.listeners.insert(name.clone(), Arc::clone(l));
                }
                Resource::Endpoints(_) | Resource::RouteConfig(_) | Resource::Secret(_) => {}
            }
        }
        s.secrets = Arc::new(self.naive_secrets(&s));
        let tables = s
            .listeners
            .values()
            .flat_map(|l| ListenerReferences::new(l).tables);
        let tables: BTreeSet<Name> = tables.collect();
        for table in tables {
            let said = self.said.get(&(ResourceType::RouteConfig, table.clone()));
            let routes = match said {
                Some(Resource::RouteConfig(r)) => Arc::clone(r),
                _ => Arc::default(),
            };
            s.routes.insert(table, routes);
        }
        s
    }

    fn naive_secrets(&self, snapshot: &Snapshot) -> Secrets {
        let of_listeners = snapshot.listeners.values();
        let of_listeners = of_listeners.flat_map(|l| secrets_of_listener(l));
        let of_clusters = snapshot.clusters.values();
        let of_clusters = of_clusters.flat_map(|c| secrets_of_cluster(c));
        let named = of_listeners.chain(of_clusters);
        let there = named.filter_map(|named| {
            let key = (ResourceType::Secret, named.key.name.clone());
            let Some(Resource::Secret(read)) = self.said.get(&key) else {
                return None;
            };
            Some((named.key.clone(), read.secret.clone()))
        });
        there.collect()
    }

    fn naive_members(&self, discovery: &Discovery) -> Arc<Endpoints> {
        match discovery {
            Discovery::OriginalDst => Arc::default(),
            Discovery::Static(e) => Arc::clone(e),
            Discovery::StrictDns(dns) => Arc::new(resolved(&dns.targets[0].host)),
            Discovery::Eds { service_name } => {
                match self
                    .said
                    .get(&(ResourceType::Endpoints, service_name.clone()))
                {
                    Some(Resource::Endpoints(e)) => Arc::clone(e),
                    _ => super::clusters::no_members(),
                }
            }
        }
    }
}

fn resolved(host: &str) -> Endpoints {
    fixtures::endpoints(1000 + u16::from(host.bytes().last().unwrap_or_default()))
}

fn is_same(a: &Snapshot, b: &Snapshot) -> bool {
    fn same<T>(a: &BTreeMap<Name, Arc<T>>, b: &BTreeMap<Name, Arc<T>>) -> bool {
        a.len() == b.len()
            && a.iter()
                .all(|(n, v)| b.get(n).is_some_and(|w| Arc::ptr_eq(v, w)))
    }
    same(&a.listeners, &b.listeners)
        && same(&a.routes, &b.routes)
        && same(&a.clusters, &b.clusters)
        && same(&a.endpoints, &b.endpoints)
        && a.secrets == b.secrets
}

proptest! {
    #[test]
    fn c79_every_snapshot_is_whole_and_the_last_one_is_everything(ops in ops()) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.take();
        world.check_converged();
    }
}
