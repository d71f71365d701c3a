//! Shares of localities and members, where chance or turns decide.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bench::origin::FixedOrigin;
use serde_json::Value;
use serde_json::json;

use super::WEIGHTS;
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
const REQUESTS: u32 = 1500;

/// Shares may differ by so much: four times what chance does to a share of a half.
const TOLERANCE: f64 = 0.055;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn localities_and_members_have_the_same_shares() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let clusters = clusters(&origins);
    let names = clusters.iter().map(|cluster| cluster["name"].as_str());
    let names: Vec<&str> = names.flatten().collect();
    let route =
        |name: &&str| json!({"match": {"path": format!("/{name}")}, "route": {"cluster": name}});
    let routes: Value = names.iter().map(route).collect();
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), &manager(&routes, &json!({})));
    let bootstrap = bootstrap(&[listener], &clusters);
    let look = || async {
        let mut client = Client::connect(ports[0].addr(), (Ipv4Addr::LOCALHOST, 0)).await;
        let mut shares = Vec::new();
        for name in &names {
            let mut counts = BTreeMap::<String, u32>::new();
            for _ in 0..REQUESTS {
                let origin = client.get(&format!("/{name}"), &[]).await.origin();
                *counts.entry(origin).or_default() += 1;
            }
            shares.push(counts);
        }
        shares
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    for (name, (wanted, found)) in names.iter().zip(wanted.iter().zip(&found)) {
        for who in wanted.keys().chain(found.keys()) {
            let share = |of: &BTreeMap<String, u32>| {
                f64::from(of.get(who).copied().unwrap_or(0)) / f64::from(REQUESTS)
            };
            let difference = (share(wanted) - share(found)).abs();
            assert!(
                difference < TOLERANCE,
                "{name}: {wanted:?}, found {found:?}"
            );
        }
    }
    let failing = names.iter().position(|name| *name == "failing");
    let failed = failing.and_then(|at| wanted[at].get("503"));
    assert_eq!(failed, Some(&REQUESTS), "{wanted:?}");
}

fn clusters(origins: &[FixedOrigin]) -> Vec<Value> {
    const HEALTHY: &str = "HEALTHY";
    const UNHEALTHY: &str = "UNHEALTHY";
    let whole = localities(origins, [HEALTHY; 7]);
    // The second locality can take 0.7 of its weight, the third nothing.
    let part = localities(
        origins,
        [
            HEALTHY, HEALTHY, HEALTHY, HEALTHY, UNHEALTHY, UNHEALTHY, HEALTHY,
        ],
    );
    let degraded = localities(
        origins,
        [
            HEALTHY, UNHEALTHY, UNHEALTHY, "DEGRADED", UNHEALTHY, "DEGRADED", HEALTHY,
        ],
    );
    let panicking = localities(
        origins,
        [
            HEALTHY, HEALTHY, UNHEALTHY, UNHEALTHY, UNHEALTHY, UNHEALTHY, UNHEALTHY,
        ],
    );
    let weighted = json!({"locality_weighted_lb_config": {}});
    let failing = json!({"zone_aware_lb_config": {"fail_traffic_on_panic": true}});
    let common = |config: &Value| json!({"common_lb_config": config});
    let with = |package: &str, name: &str| {
        typed_policy(package, name, json!({"locality_lb_config": weighted}))
    };
    vec![
        cluster("turns", &whole, &common(&weighted)),
        cluster("turns-typed", &part, &with("round_robin", "RoundRobin")),
        cluster("least", &whole, &with("least_request", "LeastRequest")),
        cluster("random", &part, &with("random", "Random")),
        cluster("before", &part, &before()),
        cluster("degraded", &degraded, &common(&weighted)),
        cluster("panicking", &panicking, &common(&weighted)),
        cluster("flat", &whole, &json!({})),
        cluster("failing", &panicking, &common(&failing)),
        cluster("not-failing", &part, &common(&failing)),
        spilling(origins, "by-number", &json!({})),
        spilling(
            origins,
            "by-weight",
            &json!({"weighted_priority_health": true}),
        ),
        spilling(
            origins,
            "by-little",
            &json!({"overprovisioning_factor": 100}),
        ),
    ]
}

/// Localities are chosen before a policy that knows none.
fn before() -> Value {
    let inner = "ClientSideWeightedRoundRobin";
    let inner = typed_policy("client_side_weighted_round_robin", inner, json!({}));
    let picking = json!({"endpoint_picking_policy": inner["load_balancing_policy"]});
    typed_policy("wrr_locality", "WrrLocality", picking)
}

/// Two of four members of the first priority are healthy, with 3 of 11 of the weight.
fn spilling(origins: &[FixedOrigin], name: &str, policy: &Value) -> Value {
    let group = |priority: u32, places: std::ops::Range<usize>| {
        let members = places.map(|place| {
            let mut member = member(&origins[place], WEIGHTS[place]);
            if matches!(place, 2 | 3) {
                member["health_status"] = json!("UNHEALTHY");
            }
            member
        });
        json!({"priority": priority, "lb_endpoints": members.collect::<Vec<_>>()})
    };
    let localities = json!([group(0, 0..4), group(1, 4..7)]);
    let mut cluster = cluster(name, &localities, &json!({}));
    cluster["load_assignment"]["policy"] = policy.clone();
    cluster
}

/// Three localities of two members each and one member that is in none.
fn localities(origins: &[FixedOrigin], healths: [&str; 7]) -> Value {
    let group = |zone: Option<(&str, u32)>, places: std::ops::Range<usize>| {
        let members = places.map(|place| {
            let mut member = member(&origins[place], 1);
            member["health_status"] = json!(healths[place]);
            member
        });
        let mut group = json!({"lb_endpoints": members.collect::<Vec<_>>()});
        if let Some((zone, weight)) = zone {
            group["locality"] = json!({"zone": zone});
            group["load_balancing_weight"] = json!(weight);
        }
        group
    };
    json!([
        group(Some(("z", 5)), 0..2),
        group(Some(("a", 3)), 3..5),
        group(Some(("b", 1)), 5..6),
        group(Some(("z", 5)), 2..3),
        group(None, 6..7),
    ])
}
