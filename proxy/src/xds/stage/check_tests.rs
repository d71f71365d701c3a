//! Clusters whose members are checked before anybody uses them.

use std::sync::Arc;
use std::time::Duration;

use super::Batch;
use super::Options;
use super::Stage;
use super::StaticResources;
use super::fixtures::cluster;
use super::fixtures::eds;
use super::fixtures::endpoints;
use crate::config::Change;
use crate::config::Cluster;
use crate::config::health::EventLog;
use crate::config::health::Health;
use crate::config::health::HealthCheck;
use crate::config::health::Probe;
use crate::config::health::TcpProbe;
use crate::config::load_balancing::LoadBalancing;
use crate::xds::resource::CheckAnswer;
use crate::xds::resource::CheckQuery;
use crate::xds::resource::Resource;
use crate::xds::resource::ResourceType;

const SECOND: Duration = Duration::from_secs(1);

fn check() -> Arc<HealthCheck> {
    Arc::new(HealthCheck {
        timeout: SECOND,
        interval: SECOND,
        initial_jitter: Duration::ZERO,
        interval_jitter: Duration::ZERO,
        interval_jitter_percent: 0,
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        no_traffic_interval: SECOND,
        no_traffic_healthy_interval: SECOND,
        unhealthy_interval: SECOND,
        unhealthy_edge_interval: SECOND,
        healthy_edge_interval: SECOND,
        reuses_connection: true,
        port: None,
        transport_labels: None,
        alpn: None,
        log: EventLog::default(),
        probe: Probe::Tcp(TcpProbe::default()),
    })
}

/// A cluster with checks; `mark` tells its versions apart.
fn checked(mark: u64) -> Cluster {
    Cluster {
        health: Health {
            check: Some(check()),
            ..Health::default()
        },
        ..Cluster::clone(&cluster("c", eds("s"), mark))
    }
}

struct Rig(Stage);

impl Rig {
    fn new() -> Self {
        let options = Options {
            has_cds: true,
            has_lds: true,
            initial_fetch_timeout: Some(SECOND * 15),
        };
        Self(Stage::new(
            options,
            StaticResources::default(),
            Duration::ZERO,
        ))
    }

    fn push(&mut self, cluster: Cluster) {
        let mut batch = Batch::empty(ResourceType::Cluster);
        let resource = Resource::Cluster(Arc::new(cluster));
        batch.upserted.push(("c".into(), resource));
        self.0.apply(batch, Duration::ZERO);
    }

    fn assign(&mut self, mark: u16) {
        let mut batch = Batch::empty(ResourceType::Endpoints);
        let resource = Resource::Endpoints(Arc::new(endpoints(mark)));
        batch.upserted.push(("s".into(), resource));
        self.0.apply(batch, Duration::ZERO);
    }

    /// The one question there is.
    fn asked(&mut self) -> CheckQuery {
        let mut asked = self.0.take_new_checks().expect("something is asked");
        assert_eq!(asked.len(), 1);
        asked.remove(0)
    }

    fn answer(&mut self, cluster: &Arc<Cluster>) {
        let cluster = Arc::clone(cluster);
        self.0.on_checked(&CheckAnswer { cluster }, Duration::ZERO);
    }

    /// The version of the cluster that is live, if a snapshot was handed out.
    fn live(&mut self) -> Option<Arc<Cluster>> {
        match self.0.next_change() {
            Some(Change::Snapshot(snapshot)) => snapshot.clusters.get("c").cloned(),
            _ => None,
        }
    }
}

#[test]
fn a_cluster_waits_for_the_first_checks_of_its_members() {
    let mut rig = Rig::new();
    rig.push(checked(1));
    assert!(
        rig.0.take_new_checks().is_none(),
        "its members are not known"
    );
    rig.assign(7);
    let asked = rig.asked();
    assert_eq!(*asked.endpoints, endpoints(7));
    assert_eq!(rig.live(), None);
    rig.answer(&asked.cluster);
    let live = rig.live().expect("it is live");
    assert!(
        Arc::ptr_eq(&live, &asked.cluster),
        "the one that was checked"
    );
    assert!(rig.0.take_new_checks().expect("a change").is_empty());
}

#[test]
fn members_that_come_while_it_waits_are_checked_too() {
    let mut rig = Rig::new();
    rig.push(checked(1));
    rig.assign(7);
    let first = rig.asked();
    rig.assign(8);
    let asked = rig.asked();
    assert_eq!(*asked.endpoints, endpoints(8));
    assert!(Arc::ptr_eq(&first.cluster, &asked.cluster));
}

#[test]
fn the_same_cluster_again_does_not_begin_again() {
    let mut rig = Rig::new();
    rig.push(checked(1));
    rig.assign(7);
    let asked = rig.asked();
    rig.push(checked(1));
    assert!(rig.0.take_new_checks().is_none());
    rig.answer(&asked.cluster);
    assert!(rig.live().is_some());
}

#[test]
fn another_version_is_checked_while_the_old_one_serves() {
    let mut rig = Rig::new();
    rig.push(checked(1));
    rig.assign(7);
    let old = rig.asked();
    rig.answer(&old.cluster);
    assert!(rig.live().is_some());
    rig.push(checked(2));
    let new = rig.asked();
    assert_eq!(rig.live(), None, "nothing changed yet");
    rig.answer(&old.cluster);
    assert_eq!(rig.live(), None, "an answer about another version");
    rig.answer(&new.cluster);
    assert_eq!(rig.live().as_deref(), Some(&*new.cluster));
}

#[test]
fn another_policy_needs_no_checks() {
    let mut rig = Rig::new();
    rig.push(checked(1));
    rig.assign(7);
    let asked = rig.asked();
    rig.answer(&asked.cluster);
    assert!(rig.live().is_some());
    let _ = rig.0.take_new_checks();
    let other = Cluster {
        load_balancing: LoadBalancing {
            panic_percent: 3,
            ..LoadBalancing::default()
        },
        ..checked(1)
    };
    rig.push(other.clone());
    assert_eq!(rig.live().as_deref(), Some(&other));
    assert!(rig.0.take_new_checks().is_none());
}

#[test]
fn checks_that_never_end_are_not_waited_for_for_ever() {
    let mut rig = Rig::new();
    rig.push(checked(1));
    rig.assign(7);
    let _ = rig.asked();
    rig.0.on_tick(SECOND * 14);
    assert_eq!(rig.live(), None);
    assert!(
        rig.0
            .waiting_for(9)
            .contains(&"cluster c: health checks".to_owned())
    );
    rig.0.on_tick(SECOND * 15);
    assert!(rig.live().is_some());
}
