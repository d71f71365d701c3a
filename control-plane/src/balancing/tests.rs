//! Versions of changes, and what a cluster looks like under them.

use std::sync::Arc;

use prost::Message;
use xds_proto::any::pack;
use xds_proto::any::unpack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbPolicy;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use xds_proto::pb::envoy::config::cluster::v3::cluster::RingHashLbConfig;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use xds_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use xds_proto::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::UInt64Value;

use super::*;
use crate::Resource;
use crate::Store;
use crate::types::CLUSTER;

fn list(any: Any) -> LoadBalancingPolicy {
    LoadBalancingPolicy {
        policies: vec![Policy {
            typed_extension_config: Some(TypedExtensionConfig {
                name: "p".to_owned(),
                typed_config: Some(any),
            }),
        }],
    }
}

fn random() -> LoadBalancingPolicy {
    list(pack(&Random::default()))
}

fn round_robin() -> LoadBalancingPolicy {
    list(pack(&RoundRobin::default()))
}

fn cluster(change: impl FnOnce(&mut Cluster)) -> Cluster {
    let mut cluster = Cluster {
        name: "a".to_owned(),
        ..Cluster::default()
    };
    change(&mut cluster);
    cluster
}

fn store(written: &Cluster) -> Store {
    let store = Store::new();
    let resource = Arc::new(Resource::new(&pack(written)).unwrap());
    store.commit_group("f", "", vec![resource]).unwrap();
    store
}

fn served(store: &Store) -> Cluster {
    let snapshot = store.watch("").borrow().clone().unwrap();
    let resource = Arc::clone(snapshot.set(CLUSTER).unwrap().find("a").unwrap());
    unpack(&Any::decode(resource.any().clone()).unwrap()).unwrap()
}

#[test]
fn the_same_version_is_one_change_and_an_older_one_is_refused() {
    let store = store(&cluster(|_| ()));
    let set = |version, policy| store.change_policy("a", version, &Change::Policy(policy));
    let first = set(7, random()).unwrap();
    assert_eq!((first.now.version, first.is_new), (7, true));
    let watch = store.watch("");
    let again = set(7, random()).unwrap();
    assert_eq!((again.now, again.is_new), (first.now, false));
    assert!(!watch.has_changed().unwrap());
    let conflict = set(7, round_robin()).unwrap_err().to_string();
    assert!(conflict.contains("use 8"), "{conflict}");
    let stale = set(3, random()).unwrap_err().to_string();
    assert!(stale.contains("older than 7"), "{stale}");
    assert!(!watch.has_changed().unwrap());
    assert_eq!(set(0, random()).unwrap().now.version, 7, "nothing is new");
    assert_eq!(set(0, round_robin()).unwrap().now.version, 8);
    let unset = store.change_policy("a", 0, &Change::Unset).unwrap();
    assert_eq!((unset.now.version, unset.now.is_empty()), (9, true));
    assert!(set(9, random()).is_err() && set(10, random()).is_ok());
}

#[test]
fn one_field_changes_and_every_other_byte_stays() {
    let written = cluster(|cluster| {
        cluster.lb_policy = LbPolicy::LeastRequest.into();
        cluster.load_balancing_policy = Some(round_robin());
    });
    let mut value = written.encode_to_vec();
    value.extend([0xfa, 0x3f, 3, b'o', b'w', b'n']); // field 1023, which nobody knows
    let any = Any {
        type_url: CLUSTER.to_owned(),
        value,
    };
    let resource = Resource::new(&any).unwrap().with_origin("f.yaml:1");
    let over = Override {
        version: 1,
        policy: Some(random()),
        shadow: None,
    };
    let changed = rewrite::rewritten(&resource, &over).unwrap();
    let any = Any::decode(changed.any().clone()).unwrap();
    let own = any.value.windows(3).any(|part| part == b"own");
    assert!(own && changed.origin() == Some("f.yaml:1"));
    let expected = Cluster {
        load_balancing_policy: Some(random()),
        ..written
    };
    assert_eq!(unpack::<Cluster>(&any).unwrap(), expected);
}

#[test]
fn a_change_stands_while_the_cluster_is_written_anew_and_until_it_is_taken_back() {
    let store = store(&cluster(|_| ()));
    store
        .change_policy("a", 0, &Change::Policy(random()))
        .unwrap();
    let anew = cluster(|cluster| cluster.alt_stat_name = "x".to_owned());
    let resource = Arc::new(Resource::new(&pack(&anew)).unwrap());
    store.commit_group("f", "", vec![resource]).unwrap();
    let now = served(&store);
    assert_eq!(
        (now.alt_stat_name.as_str(), &now.load_balancing_policy),
        ("x", &Some(random()))
    );
    store.change_policy("a", 0, &Change::Unset).unwrap();
    assert_eq!(served(&store), anew);
}

/// A client that does not know a shadow falls through to what chooses.
#[test]
fn what_looks_on_stands_before_what_chooses() {
    let written = cluster(|cluster| {
        cluster.lb_policy = LbPolicy::RingHash.into();
        cluster.lb_config = Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
            minimum_ring_size: Some(UInt64Value { value: 77 }),
            ..RingHashLbConfig::default()
        }));
    });
    let store = store(&written);
    store
        .change_policy("a", 0, &Change::Shadow(random()))
        .unwrap();
    let policies = served(&store).load_balancing_policy.unwrap().policies;
    let opened = |at: usize| {
        let config = policies
            .get(at)
            .and_then(|p| p.typed_extension_config.clone());
        config.and_then(|config| config.typed_config).unwrap()
    };
    let shadow: Shadow = unpack(&opened(0)).unwrap();
    let ring: RingHash = unpack(&opened(1)).unwrap();
    assert_eq!((policies.len(), shadow.shadow), (2, Some(random())));
    assert_eq!(shadow.active.unwrap().policies, policies[1..]);
    assert_eq!(
        (ring.minimum_ring_size.unwrap().value, ring.hash_function),
        (77, 1)
    );
    store.change_policy("a", 0, &Change::NoShadow).unwrap();
    assert_eq!(served(&store), written);
}

#[test]
fn what_cannot_be_is_refused_with_a_way_out() {
    let refused = |written: &Cluster, change: Change, part: &str| {
        let store = store(written);
        let refused = store
            .change_policy("a", 0, &change)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(part), "{refused}");
        assert_eq!(served(&store), *written);
    };
    let plain = cluster(|_| ());
    let empty = LoadBalancingPolicy::default();
    refused(&plain, Change::Policy(empty), "policy.policies");
    let nested = list(pack(&Shadow::default()));
    let place = "shadow.policies[0].typed_extension_config.typed_config";
    refused(&plain, Change::Shadow(nested), place);
    let provided = cluster(|c| c.lb_policy = LbPolicy::ClusterProvided.into());
    refused(&provided, Change::Policy(random()), "CLUSTER_PROVIDED");
    let subset = cluster(|c| c.lb_subset_config = Some(LbSubsetConfig::default()));
    refused(&subset, Change::Shadow(random()), "give it a policy first");
    let unknown = store(&plain).change_policy("b", 0, &Change::Policy(random()));
    assert!(unknown.unwrap_err().to_string().ends_with("there are: a"));
}

#[test]
fn what_was_kept_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store_of = |dir: &std::path::Path| {
        let store = Store::new();
        store.keep(kept::Kept::open(dir).unwrap());
        let resource = Arc::new(Resource::new(&pack(&cluster(|_| ()))).unwrap());
        store.commit_group("f", "", vec![resource]).unwrap();
        store
    };
    let first = store_of(dir.path());
    let done = first.change_policy("a", 3, &Change::Policy(random()));
    assert!(done.unwrap().is_durable);
    let held = kept::Kept::open(dir.path()).unwrap_err();
    assert!(held.contains("another control plane"), "{held}");
    drop(first);
    let second = store_of(dir.path());
    assert_eq!(served(&second).load_balancing_policy, Some(random()));
    assert!(second.change_policy("a", 2, &Change::Unset).is_err());
    drop(second);
    std::fs::write(dir.path().join("policies"), "nonsense, but long enough").unwrap();
    let damaged = kept::Kept::open(dir.path()).unwrap_err();
    assert!(damaged.contains("damaged"), "{damaged}");
}
