//! Zone-aware routing: Envoy and Weir, in the same zone among the same proxies, send to the same zones
//! as often.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bench::origin::FixedOrigin;
use serde_json::Value;
use serde_json::json;

use super::Counts;
use super::WEIGHTS;
use super::chi_square;
use super::client::Client;
use super::cluster;
use super::listener;
use super::member;
use super::origins;
use super::typed_policy;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::setting::envoy_is_there;

/// Requests to each cluster.
const REQUESTS: u32 = 400;

/// Chi-square of two samples over at most seven members: chance is above it once in a million times.
const CHI_SQUARE_MAX: f64 = 38.0;

const HEALTHY: &str = "HEALTHY";
const UNHEALTHY: &str = "UNHEALTHY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_have_the_same_shares() {
    if !envoy_is_there() {
        return;
    }
    // Of those that are healthy half are in zone a, and a quarter each in the others.
    let proxies = [
        ("a", HEALTHY),
        ("a", HEALTHY),
        ("b", HEALTHY),
        ("b", UNHEALTHY),
        ("c", HEALTHY),
    ];
    check(&proxies, clusters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_proxies_that_are_fit_change_the_same() {
    if !envoy_is_there() {
        return;
    }
    let proxies = [
        ("a", HEALTHY),
        ("b", UNHEALTHY),
        ("b", UNHEALTHY),
        ("c", UNHEALTHY),
    ];
    check(&proxies, few_proxies).await;
}

/// Clusters that differ in what they do with too few proxies.
pub(super) fn few_proxies(origins: &[FixedOrigin]) -> Vec<Value> {
    let zones = zones(origins, "aabbbcc", &[HEALTHY; 7]);
    let failing = json!({"zone_aware_lb_config": {"fail_traffic_on_panic": true}});
    let careless = json!({"healthy_panic_threshold": {"value": 20.0}});
    vec![
        cluster("panicking", &zones, &json!({})),
        cluster("failing", &zones, &json!({"common_lb_config": failing})),
        cluster("careless", &zones, &json!({"common_lb_config": careless})),
    ]
}

/// Where the proxy is, and who its like are.
pub(super) fn at_home() -> String {
    let node = json!({"id": "i", "cluster": "c", "locality": {"zone": "a"}});
    format!("node: {node}\ncluster_manager: {{local_cluster_name: local}}\n")
}

async fn check(proxies: &[(&str, &str)], clusters: impl Fn(&[FixedOrigin]) -> Vec<Value>) {
    let origins = origins();
    let mut clusters = clusters(&origins);
    let names = clusters.iter().map(|cluster| cluster["name"].as_str());
    let names: Vec<String> = names.flatten().map(str::to_owned).collect();
    clusters.push(local(proxies));
    let route =
        |name: &String| json!({"match": {"path": format!("/{name}")}, "route": {"cluster": name}});
    let routes: Value = names.iter().map(route).collect();
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), &manager(&routes, &json!({})));
    let mut bootstrap = bootstrap(&[listener], &clusters);
    bootstrap.push_str(&at_home());
    let look = || counted(ports[0].addr(), &names);
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    for (name, (wanted, found)) in names.iter().zip(wanted.iter().zip(&found)) {
        let difference = chi_square(wanted, found);
        assert!(
            difference < CHI_SQUARE_MAX,
            "{name}: {difference} of {wanted:?}, found {found:?}"
        );
    }
}

async fn counted(target: SocketAddr, names: &[String]) -> Vec<Counts> {
    let mut client = Client::connect(target, (Ipv4Addr::LOCALHOST, 0)).await;
    let mut all = Vec::new();
    for name in names {
        let mut counts = Counts::new();
        for _ in 0..REQUESTS {
            let origin = client.get(&format!("/{name}"), &[]).await.origin();
            *counts.entry(origin).or_default() += 1;
        }
        all.push(counts);
    }
    all
}

/// The proxies; nobody connects to them.
pub(super) fn local(proxies: &[(&str, &str)]) -> Value {
    let group = |(place, (zone, health)): (usize, &(&str, &str))| {
        let address = json!({"address": "127.0.0.1", "port_value": place + 1});
        let endpoint = json!({"address": {"socket_address": address}});
        let members = json!([{"endpoint": endpoint, "health_status": health}]);
        json!({"locality": {"zone": zone}, "lb_endpoints": members})
    };
    let localities: Value = proxies.iter().enumerate().map(group).collect();
    cluster("local", &localities, &json!({}))
}

/// One member for each letter, which is its zone.
fn zones(origins: &[FixedOrigin], letters: &str, healths: &[&str]) -> Value {
    let mut groups = BTreeMap::<char, Vec<Value>>::new();
    for (place, letter) in letters.chars().enumerate() {
        let mut member = member(&origins[place], 1);
        member["health_status"] = json!(healths[place]);
        groups.entry(letter).or_default().push(member);
    }
    let group = |(zone, members): (char, Vec<Value>)| {
        let zone = json!({"zone": zone.to_string()});
        json!({"locality": zone, "lb_endpoints": members, "load_balancing_weight": 1})
    };
    groups.into_iter().map(group).collect()
}

#[expect(clippy::too_many_lines, reason = "a table of clusters")]
pub(super) fn clusters(origins: &[FixedOrigin]) -> Vec<Value> {
    let usual = |letters| zones(origins, letters, &[HEALTHY; 7]);
    let legacy = |config: Value| json!({"common_lb_config": {"zone_aware_lb_config": config}});
    let typed = |package: &str, name: &str, config: Value| {
        let zones = json!({"zone_aware_lb_config": config});
        typed_policy(package, name, json!({"locality_lb_config": zones}))
    };
    let turns = |config| typed("round_robin", "RoundRobin", config);
    let spread = usual("aabbbcc");
    let degraded = [
        HEALTHY, "DEGRADED", HEALTHY, "DEGRADED", HEALTHY, HEALTHY, "DEGRADED",
    ];
    let weighted = json!({"common_lb_config": {"locality_weighted_lb_config": {}}});
    let hashing = json!({"lb_policy": "RANDOM"});
    vec![
        cluster("own", &usual("aaaabbb"), &json!({})),
        cluster("spread", &spread, &json!({})),
        cluster("spread-random", &spread, &hashing),
        cluster(
            "spread-least",
            &spread,
            &typed("least_request", "LeastRequest", json!({})),
        ),
        cluster("elsewhere", &usual("bbbbccc"), &json!({})),
        cluster("few", &usual("abbcc"), &json!({})),
        cluster(
            "few-enough",
            &usual("abbcc"),
            &legacy(json!({"min_cluster_size": 5})),
        ),
        cluster(
            "half",
            &spread,
            &legacy(json!({"routing_enabled": {"value": 49.6}})),
        ),
        cluster(
            "none",
            &spread,
            &legacy(json!({"routing_enabled": {"value": 0.0}})),
        ),
        cluster(
            "forced",
            &usual("abbbccc"),
            &turns(json!({"force_local_zone": {}})),
        ),
        cluster(
            "not-forced",
            &usual("abbbccc"),
            &turns(json!({"force_local_zone": {"min_size": 2}})),
        ),
        cluster(
            "by-weight",
            &by_weight(origins),
            &turns(json!({"locality_basis": "HEALTHY_HOSTS_WEIGHT"})),
        ),
        cluster(
            "unhealthy",
            &zones(
                origins,
                "aaabbcc",
                &[
                    HEALTHY, UNHEALTHY, UNHEALTHY, HEALTHY, HEALTHY, HEALTHY, HEALTHY,
                ],
            ),
            &legacy(json!({"min_cluster_size": 1})),
        ),
        cluster(
            "degraded",
            &zones(origins, "aabbbcc", &degraded),
            &legacy(json!({"min_cluster_size": 1})),
        ),
        cluster("locality-weighted", &spread, &weighted),
        cluster(
            "priorities",
            &priorities(origins),
            &legacy(json!({"min_cluster_size": 1})),
        ),
        cluster("one-zone", &usual("bbbbbbb"), &json!({})),
    ]
}

/// Zone a has 11 of 89 of the weight.
fn by_weight(origins: &[FixedOrigin]) -> Value {
    let members = |places: &[usize]| -> Value {
        let member = |place: &usize| member(&origins[*place], WEIGHTS[*place]);
        places.iter().map(member).collect()
    };
    json!([
        {"locality": {"zone": "a"}, "lb_endpoints": members(&[0, 1, 4])},
        {"locality": {"zone": "b"}, "lb_endpoints": members(&[2, 3, 5])},
        {"locality": {"zone": "c"}, "lb_endpoints": members(&[6])},
    ])
}

/// The second priority, which takes 30 %, knows no zones.
fn priorities(origins: &[FixedOrigin]) -> Value {
    let group = |zone: &str, priority: u32, members: &[(usize, &str)]| {
        let members = members.iter().map(|(place, health)| {
            let mut member = member(&origins[*place], 1);
            member["health_status"] = json!(health);
            member
        });
        let members: Vec<Value> = members.collect();
        json!({"locality": {"zone": zone}, "priority": priority, "lb_endpoints": members})
    };
    json!([
        group("a", 0, &[(0, HEALTHY), (1, UNHEALTHY)]),
        group("b", 0, &[(2, HEALTHY), (3, UNHEALTHY)]),
        group("a", 1, &[(4, HEALTHY)]),
        group("b", 1, &[(5, HEALTHY), (6, HEALTHY)]),
    ])
}
