//! What balancers count: after the same requests Envoy and Weir show the same numbers of subsets, zones and
//! panics, each under the same name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bench::origin::FixedOrigin;
use bench::peer::Admin;
use bench::peer::Envoy;
use serde_json::Value;
use serde_json::json;

use super::client::Client;
use super::cluster;
use super::listener;
use super::member;
use super::origins;
use super::subsets;
use super::zones;
use crate::breakers::of_both;
use crate::follow;
use crate::follow::Way;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// Requests of each path, where nothing is left to chance.
const REQUESTS: u64 = 6;

/// Requests of each path, where chance chooses a zone.
const DRAWS: u64 = 100;

/// Between two counts of at most [`DRAWS`] draws: chance is above it once in a million times.
const CHANCE_MAX: u64 = 42;

/// Envoy's balancers: of its only worker, and of its main thread.
const THREADS: u64 = 2;

/// Left to chance.
const DRAWN: [&str; 4] = [
    "lb_healthy_panic",
    "lb_zone_routing_all_directly",
    "lb_zone_routing_cross_zone",
    "lb_zone_routing_sampled",
];

/// What Weir does not count.
const UNKNOWN: &str = "lb_subsets_single_host_per_subset_duplicate";

/// By which order clusters are made, Envoy computes it once or twice.
const COMPUTED: &str = "lb_recalculate_zone_structures";

/// Paths, and how often each is asked for.
type Asked<'a> = (&'a [String], u64);

/// By name, those of all clusters.
type Numbers = BTreeMap<String, u64>;

/// After these requests, as JSON and for Prometheus.
async fn numbers(admin: &Admin, target: SocketAddr, (paths, requests): Asked<'_>) -> [Numbers; 2] {
    let mut client = Client::connect(target, (Ipv4Addr::LOCALHOST, 0)).await;
    for path in paths {
        for number in 0..requests {
            client.get(path, &[("x-key", number.to_string())]).await;
        }
    }
    [read(admin).await, read_prometheus(admin).await]
}

async fn read(admin: &Admin) -> Numbers {
    let all = admin.stats().await.expect("it answers");
    let ours = all.into_iter().filter(|(name, _)| {
        let of_balancer = name.contains(".lb_") && !name.contains("lb_load_report");
        of_balancer && !name.ends_with(UNKNOWN)
    });
    ours.collect()
}

async fn read_prometheus(admin: &Admin) -> Numbers {
    let (_, text) = admin.get("/stats/prometheus").await.expect("it answers");
    let is_wanted = |name: &str| {
        let of_balancer = name.starts_with("envoy_cluster_lb_") && !name.contains("load_report");
        of_balancer && !name.contains(UNKNOWN)
    };
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let ours = lines.filter(|(name, _)| is_wanted(name));
    ours.map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// All that differs; what one of them does not show is 0.
fn differences(wanted: &Numbers, found: &Numbers, drawn: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut names: Vec<&String> = wanted.keys().chain(found.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let value = |numbers: &Numbers| numbers.get(name).copied().unwrap_or(0);
        let (wanted, found) = (value(wanted), value(found));
        let is_same = match name {
            name if name.contains(COMPUTED) => {
                let computed = [0, THREADS, 2 * THREADS];
                let is_right = |value| computed.contains(&value);
                is_right(wanted) && is_right(found) && (wanted == 0) == (found == 0)
            }
            name if drawn(name) => {
                wanted.abs_diff(found) <= CHANCE_MAX && (wanted == 0) == (found == 0)
            }
            _ => wanted == found,
        };
        if !is_same {
            text.push_str(&format!("{name}: {wanted}, found {found}\n"));
        }
    }
    text
}

/// Whether numbers of this name are left to chance.
fn is_drawn(name: &str) -> bool {
    DRAWN.iter().any(|drawn| name.contains(drawn))
}

/// These clusters under these paths of one listener, with `more` of a bootstrap.
async fn check(
    (clusters, routes): (&[Value], &Value),
    asked: Asked<'_>,
    more: &str,
    drawn: impl Fn(&str) -> bool,
) -> Numbers {
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), &manager(routes, &json!({})));
    let mut bootstrap = bootstrap(&[listener], clusters);
    bootstrap.push_str(more);
    let look = async |admin: Admin| numbers(&admin, ports[0].addr(), asked).await;
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    let mut text = String::new();
    for (wanted, found) in wanted.iter().zip(&found) {
        text.push_str(&differences(wanted, found, &drawn));
    }
    assert!(text.is_empty(), "{text}");
    let [wanted, _] = wanted;
    wanted
}

fn count(numbers: &Numbers, name: &str) -> u64 {
    let of_name = numbers.iter().filter(|(full, _)| full.ends_with(name));
    of_name.map(|(_, value)| value).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subsets_are_counted_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let clusters = subsets::clusters(&origins);
    let (routes, paths) = subsets::routes(&clusters);
    // Where a part of a subset's priorities panics, chance says whose turn it is.
    let numbers = check((&clusters, &routes), (&paths, REQUESTS), "", is_drawn).await;
    for name in [
        "active",
        "created",
        "selected",
        "fallback",
        "fallback_panic",
    ] {
        let name = format!("lb_subsets_{name}");
        assert!(count(&numbers, &name) > 0, "{name}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_are_counted_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let healthy = ["a", "a", "b", "c"].map(|zone| (zone, "HEALTHY"));
    let numbers = check_zones(&healthy, zones::clusters(&origins)).await;
    for name in [
        "lb_zone_cluster_too_small",
        "lb_zone_routing_all_directly",
        "lb_zone_routing_cross_zone",
        "lb_zone_routing_sampled",
        COMPUTED,
    ] {
        assert!(count(&numbers, name) > 0, "{name}: {numbers:?}");
    }
    let unfit = ["b", "b", "c"].map(|zone| (zone, "UNHEALTHY"));
    let unfit: Vec<_> = [("a", "HEALTHY")].into_iter().chain(unfit).collect();
    let numbers = check_zones(&unfit, zones::few_proxies(&origins)).await;
    let refused = count(&numbers, "lb_local_cluster_not_ok");
    assert_eq!(refused, 2 * DRAWS, "{numbers:?}");
}

async fn check_zones(proxies: &[(&str, &str)], mut clusters: Vec<Value>) -> Numbers {
    clusters.push(zones::local(proxies));
    let (routes, paths) = plain_routes(&clusters);
    check(
        (&clusters, &routes),
        (&paths, DRAWS),
        &zones::at_home(),
        is_drawn,
    )
    .await
}

/// One route to each cluster.
fn plain_routes(clusters: &[Value]) -> (Value, Vec<String>) {
    let names = clusters.iter().map(|cluster| cluster["name"].as_str());
    let names: Vec<&str> = names.flatten().collect();
    let route = |name: &&str| {
        let hashed = json!([{"header": {"header_name": "x-key"}}]);
        let action = json!({"cluster": name, "hash_policy": hashed});
        json!({"match": {"path": format!("/{name}")}, "route": action})
    };
    let paths = names.iter().map(|name| format!("/{name}"));
    (names.iter().map(route).collect(), paths.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_are_counted_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let members = |healths: &[&str]| {
        let member = |(origin, health): (&FixedOrigin, &&str)| {
            let mut member = member(origin, 1);
            member["health_status"] = json!(health);
            member
        };
        origins.iter().zip(healths).map(member).collect::<Value>()
    };
    let level = |priority: u32, healths: &[&str]| json!({"priority": priority, "lb_endpoints": members(healths)});
    let few = json!([level(0, &["HEALTHY", "UNHEALTHY", "UNHEALTHY"])]);
    let enough = json!([level(0, &["HEALTHY", "UNHEALTHY"])]);
    let unfit = json!([level(0, &["UNHEALTHY"])]);
    let both = json!([level(0, &["UNHEALTHY"]), level(1, &["UNHEALTHY"])]);
    let spills = json!([level(0, &["UNHEALTHY"]), level(1, &["HEALTHY"])]);
    let never = json!({"common_lb_config": {"healthy_panic_threshold": {"value": 0.0}}});
    let failing =
        json!({"common_lb_config": {"zone_aware_lb_config": {"fail_traffic_on_panic": true}}});
    let policy = |name: &str| json!({ "lb_policy": name });
    let clusters = [
        cluster("few", &few, &json!({})),
        cluster("few-least", &few, &policy("LEAST_REQUEST")),
        cluster("few-random", &few, &policy("RANDOM")),
        cluster("few-ring", &few, &policy("RING_HASH")),
        cluster("few-table", &few, &policy("MAGLEV")),
        cluster("few-failing", &few, &failing),
        cluster("few-never", &few, &never),
        cluster("enough", &enough, &json!({})),
        cluster("unfit", &unfit, &json!({})),
        cluster("unfit-never", &unfit, &never),
        cluster("both", &both, &json!({})),
        cluster("spills", &spills, &json!({})),
        cluster("nobody", &json!([]), &json!({})),
        cluster("nobody-table", &json!([]), &policy("MAGLEV")),
        cluster("nobody-never", &json!([]), &never),
    ];
    let (routes, paths) = plain_routes(&clusters);
    let numbers = check((&clusters, &routes), (&paths, REQUESTS), "", |_| false).await;
    let panics = count(&numbers, "lb_healthy_panic");
    assert_eq!(panics, 10 * REQUESTS, "{numbers:?}");
}

const WAY: Way = Way {
    seed: 0,
    api_type: "DELTA_GRPC",
    aggregated: true,
};

/// Members come and go, and then the cluster is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subsets_that_come_and_go_are_counted_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let control_plane = ControlPlane::start().await;
    let of = |name: &str, value: Value| {
        let mut value = value;
        value["@type"] = format!("type.googleapis.com/envoy.config.{name}").into();
        value
    };
    let subset = |selector: &str| {
        let eds = json!({"eds_config": {"ads": {}, "resource_api_version": "V3"}});
        let subsets = json!({"subset_selectors": [{"keys": [selector]}]});
        of(
            "cluster.v3.Cluster",
            json!({"name": "c", "type": "EDS", "eds_cluster_config": eds, "lb_subset_config": subsets}),
        )
    };
    let commit = |selector: &str, versions: &[u32]| {
        let members = origins.iter().zip(versions).map(|(origin, version)| {
            let labels = json!({"version": version, "stage": version % 2});
            let mut member = member(origin, 1);
            member["metadata"] = json!({"filter_metadata": {"envoy.lb": labels}});
            member
        });
        let members: Value = members.collect();
        let endpoints = json!({"cluster_name": "c", "endpoints": [{"lb_endpoints": members}]});
        let endpoints = of("endpoint.v3.ClusterLoadAssignment", endpoints);
        for group in ["envoy", "weir"] {
            control_plane.commit(group, &[subset(selector), endpoints.clone()]);
        }
    };
    commit("version", &[1, 2, 2]);
    let address = control_plane.address;
    let admin = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let admin = format!("admin: {}\n", json!({ "address": admin }));
    let weir = follow::bootstrap("weir", WAY, address) + &admin;
    let weir = Weir::start(&weir).await;
    let envoy = Envoy::start(&follow::bootstrap("envoy", WAY, address)).await;
    let envoy = envoy.expect("Envoy starts and gets ready");
    let ours = Admin::new(weir.live().admin_address().expect("it was asked for"));
    for (selector, versions, expected) in [
        ("version", &[1_u32, 2, 2] as &[u32], [2, 2, 0]),
        ("version", &[1, 3, 4, 4], [3, 4, 1]),
        ("version", &[4], [1, 4, 3]),
        ("stage", &[4], [1, 5, 4]),
    ] {
        commit(selector, versions);
        for (who, admin) in [("envoy", envoy.admin()), ("weir", &ours)] {
            become_so(who, admin, expected).await;
        }
    }
    weir.stop().await;
}

/// Waits until so many subsets are there, were made, and are gone, in each thread.
async fn become_so(who: &str, admin: &Admin, expected: [u64; 3]) {
    let so = until(|| async {
        let now = read(admin).await;
        let names = ["active", "created", "removed"];
        let found = names.map(|name| count(&now, &format!("lb_subsets_{name}")));
        let is_so = found == expected.map(|value| value * THREADS);
        is_so
            .then_some(())
            .ok_or_else(|| format!("{who}: wanted {expected:?}, found {found:?}"))
    });
    so.await.expect("it becomes so");
}
