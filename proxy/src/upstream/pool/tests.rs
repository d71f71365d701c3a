//! Who is cut when a host leaves, in whatever order that and the connection come about.

use std::time::Duration;

use super::*;
use crate::config::Endpoints;
use crate::config::Secrets;
use crate::config::endpoint::Address;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::LocalityEndpoints;
use crate::net::tls::unix_now;
use crate::telemetry::stats::Registry;
use crate::upstream::departure::Departures;
use crate::upstream::transport::Transports;
use crate::xds::stage::fixtures;

struct World {
    pools: Pools,
    cluster: ClusterHandle,
}

fn members(health: Option<HealthStatus>) -> Arc<Endpoints> {
    let member = |health| Endpoint {
        address: Address::Socket(([127, 0, 0, 1], 9).into()),
        hostname: "".into(),
        weight: 1,
        health,
        labels: None,
        hash_key: None,
        traits: None,
        check: None,
    };
    Arc::new(Endpoints {
        localities: vec![LocalityEndpoints {
            endpoints: health.map(member).into_iter().collect(),
            ..LocalityEndpoints::default()
        }],
        overprovisioning_factor: 140,
        ..Endpoints::default()
    })
}

impl World {
    fn new() -> Self {
        let registry = Arc::new(Registry::new(1));
        let config = fixtures::cluster("c", fixtures::eds("c"), 2000);
        let transports = Transports::new(&config, &Secrets::new(), || registry.cluster_tls("c"));
        let departures = Arc::new(Departures::new(
            Arc::clone(&registry),
            Duration::from_secs(9),
        ));
        let stats = registry.cluster("c");
        let there = members(Some(HealthStatus::Healthy));
        let cluster = ClusterHandle::new(config, Arc::new(transports), there, stats, 1);
        Self {
            pools: Pools::new(Duration::from_secs(9), Arc::default()),
            cluster: cluster.telling(&departures),
        }
    }

    fn host(&self) -> Arc<Host> {
        Arc::clone(&self.cluster.load().hosts.members()[0].host)
    }

    fn becomes(&self, health: Option<HealthStatus>) {
        self.cluster.set_endpoints(members(health));
    }

    fn user(&self, host: &Arc<Host>, vintage: Vintage) -> DrainGuard {
        self.until(host, vintage, Tenure::FOREVER)
    }

    fn until(&self, host: &Arc<Host>, vintage: Vintage, tenure: Tenure) -> DrainGuard {
        let config = Arc::clone(&self.cluster.load().config);
        let until = (vintage, tenure);
        self.pools.user(&config, &self.cluster, host, until)
    }

    fn is_cut(&self, host: &Host, user: &DrainGuard) -> bool {
        self.pools.housekeep(Instant::now());
        let planned = self.pools.next_cut.get();
        if let Some(cut_at) = host.cut_at() {
            self.pools.cut(cut_at);
        }
        assert!(planned.is_some() || !user.is_draining(), "never planned");
        user.is_draining()
    }
}

#[test]
fn a_connection_made_while_its_host_leaves_is_cut_with_it() {
    for leaves in [None, Some(HealthStatus::Draining)] {
        for follows in [false, true] {
            let world = World::new();
            let host = world.host();
            let before = world.user(&host, Vintage::now(&host));
            let vintage = Vintage::now(&host);
            world.becomes(leaves);
            if follows {
                world.pools.follow_hosts();
            }
            let during = world.user(&host, vintage);
            let case = format!("{leaves:?}, {follows}");
            assert!(world.is_cut(&host, &during), "{case}");
            assert!(before.is_draining(), "{case}");
        }
    }
}

#[test]
fn a_connection_to_a_host_that_has_left_already_is_cut_with_it() {
    for had_pool in [false, true] {
        let world = World::new();
        let host = world.host(); // by a worker that has not seen the new members
        let before = had_pool.then(|| world.user(&host, Vintage::now(&host)));
        world.becomes(None);
        world.pools.follow_hosts();
        let after = world.user(&host, Vintage::now(&host));
        assert!(world.is_cut(&host, &after), "{had_pool}");
        drop(before);
    }
}

#[test]
fn who_comes_after_a_host_is_back_stays() {
    let world = World::new();
    let host = world.host();
    let before = world.user(&host, Vintage::now(&host));
    let vintage = Vintage::now(&host);
    world.becomes(Some(HealthStatus::Draining));
    world.becomes(Some(HealthStatus::Healthy));
    let during = world.user(&host, vintage);
    let after = world.user(&host, Vintage::now(&host));
    assert!(!world.is_cut(&host, &after));
    assert!(before.is_draining() && during.is_draining());
}

#[test]
fn a_connection_is_cut_when_its_certificate_ends_or_its_host_has_left_before() {
    let now = unix_now();
    let tenure = |seconds| Tenure::until(now + seconds, now, Duration::from_secs(1));
    let (soon, late) = (tenure(5), tenure(3600));
    let world = World::new();
    let host = world.host();
    let user = |tenure| world.until(&host, Vintage::now(&host), tenure);
    let users = [user(soon), user(soon), user(late), user(Tenure::FOREVER)];
    let cut = || {
        let at = world.pools.next_cut.get().expect("something is to be cut");
        world.pools.cut(at);
        (at, users.each_ref().map(DrainGuard::is_draining))
    };
    let (at, ended) = cut();
    assert_eq!(ended, [true, true, false, false]);
    assert!(soon.cut_at().expect("it ends") - at < Duration::from_secs(1));
    assert!(users[0].deadline().is_some(), "it is the certificate");
    world.becomes(None);
    world.pools.follow_hosts();
    assert_eq!(cut(), (host.cut_at().expect("it has left"), [true; 4]));
    assert!(users[2].deadline().is_none(), "it is the host");
}
