//! Another policy for a cluster changes who is chosen and nothing else: no request fails, no
//! connection is closed, and what was learned of latency is still known.

use std::time::Duration;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Admin;
use bench::ports::ReservedPort;
use control_plane::subscription::Variant;
use serde_json::Value;
use xds_proto::any::pack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use xds_proto::pb::envoy::extensions::load_balancing_policies::common::v3::ConsistentHashingLbConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use xds_proto::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use xds_proto::pb::envoy::extensions::load_balancing_policies::override_host::v3::OverrideHost;
use xds_proto::pb::envoy::extensions::load_balancing_policies::override_host::v3::override_host::OverrideHostSource;
use xds_proto::pb::envoy::extensions::load_balancing_policies::peak_ewma::v3alpha::PeakEwma;
use xds_proto::pb::envoy::extensions::load_balancing_policies::pick_first::v3::PickFirst;
use xds_proto::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use xds_proto::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use xds_proto::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use xds_proto::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use xds_proto::pb::envoy::extensions::load_balancing_policies::subset::v3::subset::LbSubsetFallbackPolicy;
use xds_proto::pb::envoy::extensions::load_balancing_policies::subset::v3::subset::LbSubsetSelector;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::UInt32Value;
use xds_proto::pb::weir::load_balancing::v1::LatencyWeightedRoundRobin;
use xds_proto::pb::weir::load_balancing::v1::Shadow;

use crate::support::resources;
use crate::support::resources::ClusterSpec;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::traffic::GROUP;
use crate::support::traffic::Traffic;

const SWITCHES: u64 = 100;
const POLICIES: u64 = 13;
const HOSTS: usize = 4;

/// Each worker may open one to each host for each client at a time.
const CONNECTIONS_MAX: u64 = (HOSTS * 2 * 3) as u64;

/// Every policy there is; the one that learns first.
fn policy(number: u64) -> Any {
    match number % POLICIES {
        0 => pack(&LatencyWeightedRoundRobin::default()),
        1 => pack(&RoundRobin::default()),
        2 => pack(&LeastRequest::default()),
        3 => pack(&Random::default()),
        4 => pack(&RingHash::default()),
        5 => pack(&PeakEwma::default()),
        6 => pack(&ClientSideWeightedRoundRobin::default()),
        7 => pack(&Maglev::default()),
        8 => pack(&PickFirst::default()),
        9 => pack(&divided()),
        10 => pack(&overridden()),
        11 => {
            let bounded = ConsistentHashingLbConfig {
                hash_balance_factor: Some(UInt32Value { value: 150 }),
                ..ConsistentHashingLbConfig::default()
            };
            pack(&RingHash {
                consistent_hashing_lb_config: Some(bounded),
                ..RingHash::default()
            })
        }
        _ => pack(&Shadow {
            active: Some(list(pack(&LeastRequest::default()))),
            shadow: Some(list(pack(&LatencyWeightedRoundRobin::default()))),
        }),
    }
}

/// Subsets of which no request asks for any.
fn divided() -> Subset {
    Subset {
        fallback_policy: LbSubsetFallbackPolicy::AnyEndpoint.into(),
        subset_selectors: vec![LbSubsetSelector {
            keys: vec!["stage".to_owned()],
            ..LbSubsetSelector::default()
        }],
        subset_lb_policy: Some(list(pack(&LeastRequest::default()))),
        ..Subset::default()
    }
}

/// Members that a field may name, which no request has.
fn overridden() -> OverrideHost {
    OverrideHost {
        override_host_sources: vec![OverrideHostSource {
            header: "x-member".to_owned(),
            ..OverrideHostSource::default()
        }],
        fallback_policy: Some(list(pack(&RoundRobin::default()))),
        ..OverrideHost::default()
    }
}

fn list(policy: Any) -> LoadBalancingPolicy {
    LoadBalancingPolicy {
        policies: vec![Policy {
            typed_extension_config: Some(TypedExtensionConfig {
                name: "chosen".to_owned(),
                typed_config: Some(policy),
            }),
        }],
    }
}

fn cluster(origins: &[Origin], number: u64) -> Any {
    let members: Vec<_> = origins.iter().map(|origin| (origin.addr(), 1)).collect();
    let spec = ClusterSpec {
        name: "c",
        members: &members,
        is_eds: false,
        is_http2: false,
        connect_seconds: 5,
    };
    let plain = resources::cluster(spec).remove(0);
    let mut cluster: Cluster = xds_proto::any::unpack(&plain).expect("a cluster");
    cluster.load_balancing_policy = Some(list(policy(number)));
    pack(&cluster)
}

/// A number of all hosts of the cluster: a counter, or one of what was learned.
async fn sum(admin: &Admin, counter: &str) -> u64 {
    let (_, text) = admin
        .get("/clusters?format=json")
        .await
        .expect("it answers");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let hosts = all["cluster_statuses"][0]["host_statuses"].as_array();
    let of = |host: &Value| {
        let stats = host["stats"].as_array().into_iter().flatten();
        let mut stats = stats.filter(|stat| stat["name"] == counter);
        let text = stats.next().and_then(|stat| stat["value"].as_str());
        let learned = host["weir_latency"][counter].as_u64();
        text.and_then(|text| text.parse().ok())
            .or(learned)
            .unwrap_or(0)
    };
    hosts.expect("hosts").iter().map(of).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_switches_under_load_fail_nothing_and_forget_nothing() {
    let origins: Vec<Origin> = (0..HOSTS)
        .map(|at| Origin::start(&at.to_string()).expect("a free port"))
        .collect();
    for (origin, delay) in origins.iter().zip([20, 2, 2, 2]) {
        let reply = Reply::body("hello").with_header(GROUP, "0");
        origin.reply(reply.with_delay(Duration::from_millis(delay)));
    }
    let port = ReservedPort::new().expect("a free port");
    let control_plane = ControlPlane::start().await;
    let commit = |number: u64| {
        let table = resources::table("t", &[("/".to_owned(), vec![("c".to_owned(), 1)])], number);
        let listener = resources::listener("main", port.addr(), "t", "main");
        let all = [listener, pack(&table), cluster(&origins, number)];
        control_plane.handle.commit("", &all).expect("valid");
    };
    commit(0);
    let proxy = Proxy::by_ads(control_plane.addr, Variant::Delta).await;
    proxy.listens("main").await;
    let admin = Admin::new(proxy.admin());
    let mut traffic = Traffic::start(port.addr(), vec![("/".to_owned(), 0)]);
    traffic.more(300).await;
    let learned = sum(&admin, "samples").await;
    assert!(learned > 100, "{learned}");
    for number in 1..=SWITCHES {
        commit(number);
        traffic.sees(number).await;
    }
    // Back to the one that learns, which knows what it knew.
    let back = SWITCHES.next_multiple_of(POLICIES);
    commit(back);
    traffic.sees(back).await;
    assert!(sum(&admin, "samples").await >= learned);
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, tally.resent), (0, 0), "{:?}", tally.told);
    let (made, open) = (
        sum(&admin, "cx_total").await,
        sum(&admin, "cx_active").await,
    );
    assert_eq!(made, open, "a connection was closed");
    assert!(
        made <= CONNECTIONS_MAX,
        "{made} connections in {SWITCHES} switches"
    );
    proxy.stop().await;
    control_plane.stop().await;
}
