//! The stage's rules one by one; names cite the rule ids of the xDS reference.

use std::sync::Arc;
use std::time::Duration;

use super::Batch;
use super::Options;
use super::Stage;
use super::StaticResources;
use super::fixtures::cluster;
use super::fixtures::dns;
use super::fixtures::eds;
use super::fixtures::endpoints;
use super::fixtures::fixed;
use super::fixtures::inline;
use super::fixtures::listener;
use super::fixtures::names;
use super::fixtures::rds;
use super::fixtures::routes;
use crate::config::Change;
use crate::config::Cluster;
use crate::config::Endpoints;
use crate::config::Listener;
use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::Snapshot;
use crate::config::cluster::Discovery;
use crate::xds::resource::DnsAnswer;
use crate::xds::resource::Resource;
use crate::xds::resource::ResourceType;

/// A stage with a clock.
struct Rig {
    stage: Stage,
    now: Duration,
}

fn dynamic() -> Options {
    Options {
        has_cds: true,
        has_lds: true,
        initial_fetch_timeout: Some(Duration::from_secs(15)),
    }
}

impl Rig {
    fn new() -> Self {
        Self::with(dynamic(), StaticResources::default())
    }

    fn with(options: Options, statics: StaticResources) -> Self {
        Self {
            stage: Stage::new(options, statics, Duration::ZERO),
            now: Duration::ZERO,
        }
    }

    fn batch(&mut self, t: ResourceType, upserted: Vec<(Name, Resource)>, removed: &[&str]) {
        let batch = Batch {
            resource_type: t,
            upserted,
            removed: removed.iter().map(|n| (*n).into()).collect(),
            expired: Vec::new(),
        };
        self.stage.apply(batch, self.now);
    }

    fn cds(&mut self, c: Arc<Cluster>) {
        let upserted = vec![(c.name.clone(), Resource::Cluster(c))];
        self.batch(ResourceType::Cluster, upserted, &[]);
    }

    fn eds(&mut self, service: &str, e: Endpoints) {
        let upserted = vec![(service.into(), Resource::Endpoints(Arc::new(e)))];
        self.batch(ResourceType::Endpoints, upserted, &[]);
    }

    fn lds(&mut self, l: Arc<Listener>) {
        let upserted = vec![(l.name.clone(), Resource::Listener(l))];
        self.batch(ResourceType::Listener, upserted, &[]);
    }

    fn rds(&mut self, r: Arc<RouteConfig>) {
        let upserted = vec![(r.name.clone(), Resource::RouteConfig(r))];
        self.batch(ResourceType::RouteConfig, upserted, &[]);
    }

    fn remove(&mut self, t: ResourceType, name: &str) {
        self.batch(t, Vec::new(), &[name]);
    }

    fn at(&mut self, seconds: u64) {
        self.now = Duration::from_secs(seconds);
        self.stage.on_tick(self.now);
    }

    /// The next change must be a snapshot, and the only one.
    fn snapshot(&mut self) -> Arc<Snapshot> {
        match self.stage.next_change() {
            Some(Change::Snapshot(s)) => {
                assert!(self.stage.next_change().is_none());
                s
            }
            other => panic!("no snapshot: {other:?}"),
        }
    }

    fn silence(&mut self) {
        let change = self.stage.next_change();
        assert!(change.is_none(), "{change:?}");
    }

    /// The next change must be members, and the only one.
    fn members(&mut self) -> (Name, Arc<Endpoints>) {
        match self.stage.next_change() {
            Some(Change::Endpoints { cluster, endpoints }) => {
                self.silence();
                (cluster, endpoints)
            }
            other => panic!("no members: {other:?}"),
        }
    }
}

#[test]
fn c73_a_cluster_is_invisible_until_its_members_are_there() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", eds("svc"), 1));
    rig.silence();
    assert_eq!(
        names(&rig.stage.interest(ResourceType::Endpoints).names),
        ["svc"]
    );
    rig.eds("svc", endpoints(1));
    let snapshot = rig.snapshot();
    assert_eq!(names(snapshot.clusters.keys()), ["a"]);
    assert_eq!(*snapshot.endpoints["a"], endpoints(1));
}

#[test]
fn c73_an_update_swaps_when_warm_and_the_old_one_serves_meanwhile() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", eds("one"), 1));
    rig.eds("one", endpoints(1));
    rig.snapshot();
    rig.cds(cluster("a", eds("two"), 2));
    rig.silence();
    rig.eds("one", endpoints(3));
    assert_eq!(*rig.members().1, endpoints(3), "the old one still lives");
    rig.eds("two", endpoints(2));
    let snapshot = rig.snapshot();
    assert_eq!(
        snapshot.clusters["a"].connect_timeout,
        Duration::from_millis(2)
    );
    assert_eq!(*snapshot.endpoints["a"], endpoints(2));
    assert_eq!(
        names(&rig.stage.interest(ResourceType::Endpoints).names),
        ["two"]
    );
}

#[test]
fn s72_an_update_with_the_same_service_uses_the_cached_assignment() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", eds("svc"), 1));
    rig.eds("svc", endpoints(1));
    rig.snapshot();
    rig.cds(cluster("a", eds("svc"), 2));
    assert_eq!(*rig.snapshot().endpoints["a"], endpoints(1));
}

#[test]
fn c74_a_warming_cluster_may_be_changed_and_removed() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", eds("svc"), 1));
    rig.cds(cluster("a", fixed(1), 2));
    rig.snapshot();
    rig.cds(cluster("a", eds("svc"), 3));
    rig.cds(cluster("a", fixed(1), 2));
    rig.silence();
    rig.cds(cluster("b", eds("svc"), 1));
    rig.remove(ResourceType::Cluster, "b");
    rig.silence();
    assert!(rig.stage.interest(ResourceType::Endpoints).is_empty());
    rig.at(100);
    rig.silence();
}

#[test]
fn c78_eds_timeout_makes_it_empty_and_a_late_assignment_applies() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", eds("svc"), 1));
    rig.at(14);
    rig.silence();
    rig.at(15);
    assert!(rig.snapshot().endpoints["a"].localities.is_empty());
    rig.at(16);
    rig.eds("svc", endpoints(1));
    let (name, members) = rig.members();
    assert_eq!((&*name, &*members), ("a", &endpoints(1)));
}

#[test]
fn c77_no_fetch_timeout_waits_for_ever() {
    let options = Options {
        initial_fetch_timeout: None,
        ..dynamic()
    };
    let mut rig = Rig::with(options, StaticResources::default());
    rig.cds(cluster("a", eds("svc"), 1));
    rig.at(100_000);
    rig.silence();
    rig.remove(ResourceType::Endpoints, "svc");
    rig.silence(); // a push may have overtaken another
    rig.at(100_002);
    assert!(
        rig.snapshot().endpoints["a"].localities.is_empty(),
        "S-52: told there is none"
    );
}

#[test]
fn an_assignment_taken_away_too_early_does_not_make_its_cluster_empty() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", eds("svc"), 1));
    rig.remove(ResourceType::Endpoints, "svc");
    rig.silence();
    rig.eds("svc", endpoints(1));
    assert!(!rig.snapshot().endpoints["a"].localities.is_empty());
}

#[test]
fn b11_a_removed_assignment_stays_in_use_unless_its_time_to_live_is_over() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", eds("svc"), 1));
    rig.eds("svc", endpoints(1));
    rig.snapshot();
    rig.remove(ResourceType::Endpoints, "svc");
    rig.silence();
    let batch = Batch {
        resource_type: ResourceType::Endpoints,
        upserted: Vec::new(),
        removed: Vec::new(),
        expired: vec!["svc".into()],
    };
    rig.stage.apply(batch, rig.now);
    assert!(rig.members().1.localities.is_empty());
}

#[test]
fn members_only_changes_are_members_only_and_once() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", eds("svc"), 1));
    rig.cds(cluster("b", eds("svc"), 1));
    rig.eds("svc", endpoints(1));
    rig.snapshot();
    rig.eds("svc", endpoints(1));
    rig.silence();
    rig.eds("svc", endpoints(2));
    rig.eds("svc", endpoints(3));
    let mut seen = Vec::new();
    while let Some(Change::Endpoints {
        cluster,
        endpoints: e,
    }) = rig.stage.next_change()
    {
        assert_eq!(*e, endpoints(3), "a late consumer gets the last state");
        seen.push(cluster);
    }
    assert_eq!(names(&seen), ["a", "b"]);
    rig.eds("svc", endpoints(4));
    rig.cds(cluster("c", fixed(1), 1));
    assert_eq!(
        *rig.snapshot().endpoints["a"],
        endpoints(4),
        "in the snapshot, not besides"
    );
}

#[test]
fn c76_a_table_waits_for_its_clusters_and_the_old_one_serves() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", fixed(1), 1));
    rig.lds(listener("l", rds("r")));
    rig.rds(routes("r", &["a"]));
    assert_eq!(names(rig.snapshot().listeners.keys()), ["l"]);
    let new = routes("r", &["a", "b"]);
    rig.rds(Arc::clone(&new));
    rig.silence();
    rig.cds(cluster("b", eds("svc"), 1));
    rig.silence();
    rig.eds("svc", endpoints(1));
    let snapshot = rig.snapshot();
    assert!(Arc::ptr_eq(&snapshot.routes["r"], &new));
    assert_eq!(names(snapshot.clusters.keys()), ["a", "b"]);
}

#[test]
fn c76_the_wait_ends_and_the_next_version_does_not_wait_again() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", fixed(1), 1));
    rig.lds(listener("l", rds("r")));
    rig.rds(routes("r", &["a"]));
    rig.snapshot();
    rig.rds(routes("r", &["a", "never"]));
    rig.at(10);
    rig.rds(routes("r", &["never"]));
    rig.at(14);
    rig.silence();
    rig.at(15);
    assert_eq!(names(rig.snapshot().clusters.keys()), ["a"]);
    rig.rds(routes("r", &["a", "never", "never"]));
    rig.snapshot();
    rig.cds(cluster("never", fixed(1), 1));
    rig.snapshot();
    rig.remove(ResourceType::Cluster, "never");
    rig.at(100);
    rig.snapshot();
    rig.rds(routes("r", &["never"]));
    rig.snapshot();
}

#[test]
fn s70_a_removed_cluster_stays_for_the_routes_that_name_it() {
    let mut rig = Rig::new();
    rig.cds(cluster("old", eds("svc"), 1));
    rig.eds("svc", endpoints(1));
    rig.lds(listener("l", rds("r")));
    rig.rds(routes("r", &["old"]));
    rig.snapshot();
    rig.remove(ResourceType::Cluster, "old");
    rig.silence();
    rig.eds("svc", endpoints(2));
    assert_eq!(*rig.members().1, endpoints(2), "it still lives");
    rig.cds(cluster("new", fixed(1), 1));
    assert_eq!(names(rig.snapshot().clusters.keys()), ["new", "old"]);
    rig.rds(routes("r", &["new"]));
    assert_eq!(
        names(rig.snapshot().clusters.keys()),
        ["new"],
        "with the routes, at once"
    );
    assert!(rig.stage.interest(ResourceType::Endpoints).is_empty());
}

#[test]
fn s70_a_removed_cluster_stays_no_longer_than_15_seconds() {
    for source in [rds("r"), inline(&["old"])] {
        let mut rig = Rig::new();
        rig.cds(cluster("old", fixed(1), 1));
        rig.lds(listener("l", source));
        rig.rds(routes("r", &["old"]));
        rig.snapshot();
        rig.remove(ResourceType::Cluster, "old");
        rig.at(14);
        rig.remove(ResourceType::Cluster, "old");
        rig.silence();
        rig.at(15);
        assert_eq!(names(rig.snapshot().clusters.keys()), [""; 0]);
    }
    let mut rig = Rig::new();
    rig.cds(cluster("unused", fixed(1), 1));
    rig.snapshot();
    rig.remove(ResourceType::Cluster, "unused");
    assert_eq!(names(rig.snapshot().clusters.keys()), [""; 0]);
}

#[test]
fn s70_a_removed_cluster_that_comes_back_never_left() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", fixed(1), 1));
    rig.lds(listener("l", inline(&["a"])));
    rig.snapshot();
    rig.remove(ResourceType::Cluster, "a");
    rig.at(10);
    rig.cds(cluster("a", fixed(1), 1));
    rig.at(100);
    rig.silence();
}

#[test]
fn c75_a_listener_waits_for_its_table() {
    let mut rig = Rig::new();
    rig.lds(listener("l", rds("r")));
    assert_eq!(
        names(&rig.stage.interest(ResourceType::RouteConfig).names),
        ["r"]
    );
    rig.rds(routes("r", &["a"]));
    rig.silence();
    rig.cds(cluster("a", fixed(1), 1));
    let snapshot = rig.snapshot();
    assert_eq!((snapshot.listeners.len(), snapshot.routes.len()), (1, 1));
    rig.lds(listener("l", rds("other")));
    rig.silence();
    assert_eq!(
        names(&rig.stage.interest(ResourceType::RouteConfig).names),
        ["other", "r"]
    );
    rig.rds(routes("other", &["a"]));
    assert_eq!(names(rig.snapshot().routes.keys()), ["other"]);
    assert_eq!(
        names(&rig.stage.interest(ResourceType::RouteConfig).names),
        ["other"]
    );
}

#[test]
fn c75_a_listener_without_table_answers_404_after_the_timeout() {
    let mut rig = Rig::new();
    rig.lds(listener("l", rds("r")));
    rig.at(15);
    let snapshot = rig.snapshot();
    assert!(snapshot.listeners.contains_key("l"));
    assert!(snapshot.routes["r"].virtual_hosts.is_empty());
    rig.cds(cluster("a", fixed(1), 1));
    rig.snapshot();
    rig.rds(routes("r", &["a"]));
    assert_eq!(rig.snapshot().routes["r"].virtual_hosts.len(), 1);
}

#[test]
fn c75_a_listener_does_not_outrun_a_table_that_waits_for_a_cluster() {
    let mut rig = Rig::new();
    rig.lds(listener("l", rds("r")));
    rig.at(10);
    rig.rds(routes("r", &["slow"]));
    rig.at(16);
    rig.silence();
    rig.cds(cluster("slow", fixed(1), 1));
    assert!(!rig.snapshot().routes["r"].virtual_hosts.is_empty());
}

#[test]
fn c75_inline_routes_wait_for_their_clusters() {
    let mut rig = Rig::new();
    rig.lds(listener("l", inline(&["a"])));
    rig.silence();
    rig.at(15);
    let snapshot = rig.snapshot();
    assert_eq!((snapshot.listeners.len(), snapshot.clusters.len()), (1, 0));
}

#[test]
fn c75_a_removed_listener_takes_its_table_along() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", fixed(1), 1));
    rig.lds(listener("l", rds("r")));
    rig.rds(routes("r", &["a"]));
    rig.snapshot();
    rig.remove(ResourceType::Listener, "l");
    let snapshot = rig.snapshot();
    assert_eq!((snapshot.listeners.len(), snapshot.routes.len()), (0, 0));
    assert!(rig.stage.interest(ResourceType::RouteConfig).is_empty());
}

#[test]
fn c75_static_resources_are_immune() {
    let statics = StaticResources {
        clusters: vec![cluster("s", fixed(1), 1)],
        listeners: vec![listener("l", inline(&["s"]))],
        ..StaticResources::default()
    };
    let mut rig = Rig::with(dynamic(), statics);
    assert_eq!(names(rig.snapshot().listeners.keys()), ["l"]);
    assert!(rig.stage.is_static(ResourceType::Cluster, "s"));
    rig.cds(cluster("s", fixed(2), 2));
    rig.remove(ResourceType::Cluster, "s");
    rig.remove(ResourceType::Listener, "l");
    rig.silence();
}

#[test]
fn static_resources_can_be_replaced() {
    let statics = |clusters: &[(&str, u16)], listeners: &[&str]| StaticResources {
        clusters: clusters
            .iter()
            .map(|(name, mark)| cluster(name, fixed(*mark), u64::from(*mark)))
            .collect(),
        listeners: listeners
            .iter()
            .map(|name| listener(name, inline(&["s"])))
            .collect(),
        ..StaticResources::default()
    };
    let mut rig = Rig::with(dynamic(), statics(&[("s", 1), ("old", 1)], &["l", "gone"]));
    let before = rig.snapshot();
    rig.stage
        .replace_statics(statics(&[("s", 2), ("new", 1)], &["l", "more"]), rig.now);
    let after = rig.snapshot();
    assert_eq!(names(after.clusters.keys()), ["new", "s"]);
    assert_eq!(names(after.listeners.keys()), ["l", "more"]);
    assert_ne!(before.clusters["s"], after.clusters["s"]);
    assert!(Arc::ptr_eq(&before.listeners["l"], &after.listeners["l"]));
    assert!(rig.stage.is_static(ResourceType::Cluster, "new"));
    assert!(!rig.stage.is_static(ResourceType::Cluster, "old"));
    rig.stage
        .replace_statics(statics(&[("s", 2), ("new", 1)], &["l", "more"]), rig.now);
    rig.silence();
}

#[test]
fn dns_clusters_warm_with_the_first_answer_or_failure() {
    let mut rig = Rig::new();
    rig.cds(cluster("a", Discovery::StrictDns(dns("h")), 1));
    let query = rig.stage.dns_queries().remove(0);
    let answer = |e: Option<Endpoints>| DnsAnswer {
        query: query.clone(),
        endpoints: e,
    };
    rig.silence();
    rig.stage.on_dns_answer(answer(None), rig.now);
    assert!(rig.snapshot().endpoints["a"].localities.is_empty());
    rig.stage.on_dns_answer(answer(Some(endpoints(1))), rig.now);
    assert_eq!(*rig.members().1, endpoints(1));
    rig.stage.on_dns_answer(answer(None), rig.now);
    rig.stage.on_dns_answer(answer(Some(endpoints(1))), rig.now);
    rig.silence();
    rig.cds(cluster("a", Discovery::StrictDns(dns("other")), 1));
    assert_eq!(rig.stage.dns_queries().len(), 2, "the old one goes on");
    rig.stage.on_dns_answer(answer(Some(endpoints(2))), rig.now);
    assert_eq!(*rig.members().1, endpoints(2));
    let query = rig.stage.dns_queries().remove(1);
    let endpoints = Some(endpoints(3));
    rig.stage
        .on_dns_answer(DnsAnswer { query, endpoints }, rig.now);
    rig.snapshot();
    rig.stage
        .on_dns_answer(answer(Some(Endpoints::default())), rig.now);
    rig.silence();
}

#[test]
fn c75_nothing_is_waited_for_that_no_source_can_bring() {
    let options = Options {
        has_cds: false,
        has_lds: false,
        ..dynamic()
    };
    let statics = |name: &str, discovery| StaticResources {
        clusters: vec![cluster(name, discovery, 1)],
        listeners: vec![listener("l", inline(&["a"]))],
        ..StaticResources::default()
    };
    let rig = Rig::with(options, statics("other", fixed(1)));
    assert!(rig.stage.is_initialized());
    let rig = Rig::with(options, statics("a", Discovery::StrictDns(dns("a.test"))));
    assert!(!rig.stage.is_initialized());
}

#[test]
fn c77_initialization_waits_for_each_step_and_says_so() {
    let statics = StaticResources {
        clusters: vec![cluster("s", Discovery::StrictDns(dns("h")), 1)],
        listeners: Vec::new(),
        ..StaticResources::default()
    };
    let mut rig = Rig::with(dynamic(), statics);
    let waiting = [
        "CDS: first response",
        "LDS: first response",
        "cluster s: name resolution",
    ];
    assert_eq!(rig.stage.waiting_for(9), waiting);
    let query = rig.stage.dns_queries().remove(0);
    rig.stage.on_dns_answer(
        DnsAnswer {
            query,
            endpoints: None,
        },
        rig.now,
    );
    rig.cds(cluster("a", eds("svc"), 1));
    rig.lds(listener("l", rds("r")));
    assert_eq!(
        rig.stage.waiting_for(9),
        ["cluster a: endpoints svc", "listener l: routes r"]
    );
    rig.rds(routes("r", &["a"]));
    let waiting = [
        "cluster a: endpoints svc",
        "listener l: routes r: clusters a",
    ];
    assert_eq!(rig.stage.waiting_for(9), waiting);
    assert!(!rig.stage.is_initialized());
    rig.eds("svc", endpoints(1));
    assert!(rig.stage.is_initialized());
    rig.lds(listener("m", rds("q")));
    assert!(rig.stage.is_initialized(), "once is enough");
}

#[test]
fn c77_each_step_times_out() {
    let mut rig = Rig::new();
    assert_eq!(
        rig.stage.next_deadline(rig.now),
        Some(Duration::from_secs(15))
    );
    rig.at(15);
    assert!(rig.stage.is_initialized());
    let mut rig = Rig::with(
        Options {
            has_cds: false,
            has_lds: false,
            ..dynamic()
        },
        StaticResources::default(),
    );
    assert!(rig.stage.is_initialized(), "nothing to wait for");
    rig.silence();
}

fn secret_batch(name: &str, mark: &str) -> Batch {
    let mut batch = Batch::empty(ResourceType::Secret);
    let secret = Resource::Secret(super::fixtures::secret(mark));
    batch.upserted.push((name.into(), secret));
    batch
}

/// A listener and a cluster that need the same secret.
fn with_secret() -> Rig {
    let mut rig = Rig::new();
    rig.batch(ResourceType::Cluster, Vec::new(), &[]);
    let plain = cluster("c", fixed(1), 1);
    rig.cds(super::fixtures::cluster_with_secret(&plain, "k"));
    let plain = listener("l", inline(&["c"]));
    rig.lds(super::fixtures::with_secret(&plain, "k"));
    rig
}

#[test]
fn x06_listener_and_cluster_warm_until_the_secret_they_share_is_there() {
    let mut rig = with_secret();
    let interest = rig.stage.interest(ResourceType::Secret);
    assert_eq!(interest.names, ["k".into()].into(), "one subscription");
    assert!(!rig.stage.is_initialized());
    let waiting = rig.stage.waiting_for(9);
    for line in ["listener l: secret k", "cluster c: secret k"] {
        assert!(waiting.iter().any(|one| one == line), "{waiting:?}");
    }
    rig.silence();
    rig.stage.apply(secret_batch("k", "1"), rig.now);
    let now = rig.snapshot();
    assert!(now.listeners.contains_key("l") && now.clusters.contains_key("c"));
    assert_eq!(now.secrets.len(), 1);
    assert!(rig.stage.is_initialized());
    assert_eq!(rig.stage.waiting_for(9), Vec::<String>::new());
}

#[test]
fn x06_after_the_fetch_timeout_they_are_active_without_it_and_say_so() {
    let mut rig = with_secret();
    rig.now += Duration::from_secs(15);
    rig.stage.on_tick(rig.now);
    let late = rig.snapshot();
    assert!(late.listeners.contains_key("l") && late.clusters.contains_key("c"));
    assert!(late.secrets.is_empty());
    assert_eq!(rig.stage.waiting_for(9).len(), 2);
    rig.stage.apply(secret_batch("k", "1"), rig.now);
    let change = rig.stage.next_change();
    assert!(matches!(change, Some(Change::Secrets(s)) if s.len() == 1));
    rig.stage.apply(secret_batch("k", "1"), rig.now);
    assert!(!rig.stage.has_change(), "the same again is no change");
}

#[test]
fn a_secret_nobody_names_any_more_is_let_go_and_a_removed_one_stays() {
    let mut rig = with_secret();
    rig.stage.apply(secret_batch("k", "1"), rig.now);
    assert_eq!(rig.snapshot().secrets.len(), 1);
    rig.batch(ResourceType::Secret, Vec::new(), &["k"]);
    rig.silence();
    rig.lds(listener("l", inline(&["c"])));
    assert_eq!(rig.snapshot().secrets.len(), 1, "the cluster has it");
    rig.cds(cluster("c", fixed(1), 1));
    assert!(rig.snapshot().secrets.is_empty());
    assert!(rig.stage.interest(ResourceType::Secret).is_empty());
}

#[test]
fn b11_a_secret_whose_time_to_live_is_over_is_used_by_nobody() {
    let mut rig = with_secret();
    rig.stage.apply(secret_batch("k", "1"), rig.now);
    while rig.stage.next_change().is_some() {}
    let mut batch = Batch::empty(ResourceType::Secret);
    batch.expired.push("k".into());
    rig.stage.apply(batch, rig.now);
    let change = rig.stage.next_change();
    assert!(matches!(change, Some(Change::Secrets(s)) if s.is_empty()));
}
