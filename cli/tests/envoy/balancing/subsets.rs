//! Subsets: for each configuration of a cluster and each route, Envoy and Weir send to the same members,
//! as often, and where a hash decides, each request to the same one.

use std::net::Ipv4Addr;

use bench::origin::FixedOrigin;
use serde_json::Value;
use serde_json::json;

use super::Counts;
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
use crate::identity::typed;
use crate::setting::envoy_is_there;

/// Requests of each route to each cluster.
const REQUESTS: u32 = 48;

/// Members take turns, so that the difference is that of where they begin, or of where localities are
/// left to chance on one side only; one member more or less in a subset makes it 19 or more.
const CHI_SQUARE_MAX: f64 = 15.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_meet_the_same_members() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let clusters = clusters(&origins);
    let (routes, mut paths) = routes(&clusters);
    let ports = free_ports(3);
    let mut listeners = vec![listener(ports[0].number(), &manager(&routes, &json!({})))];
    listeners.extend(streams(ports[1].number(), ports[2].number()));
    let bootstrap = bootstrap(&listeners, &clusters);
    let look = || async {
        let mut client = Client::connect(ports[0].addr(), (Ipv4Addr::LOCALHOST, 0)).await;
        let mut all = Vec::new();
        for path in &paths {
            let mut answers = Vec::new();
            for number in 0..REQUESTS {
                let key = [("x-key", number.to_string())];
                answers.push(client.get(path, &key).await.origin());
            }
            all.push(answers);
        }
        for port in &ports[1..] {
            let mut answers = Vec::new();
            for _ in 0..REQUESTS / 4 {
                let mut client = Client::connect(port.addr(), (Ipv4Addr::LOCALHOST, 0)).await;
                answers.push(client.get("/", &[]).await.origin());
            }
            all.push(answers);
        }
        all
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    paths.extend(["stream".to_owned(), "streams".to_owned()]);
    let mut differences = String::new();
    for (path, (wanted, found)) in paths.iter().zip(wanted.iter().zip(&found)) {
        let (counted, other) = (counts(wanted), counts(found));
        let is_same = match path.starts_with("/hashed") {
            true => wanted == found,
            false => chi_square(&counted, &other) < CHI_SQUARE_MAX,
        };
        if !is_same {
            differences.push_str(&format!("{path}: {counted:?}\n    {other:?}\n"));
        }
    }
    assert!(differences.is_empty(), "{differences}");
    let failed = wanted.iter().filter(|answers| answers[0] == "503").count();
    assert!((10..wanted.len() - 10).contains(&failed), "{failed}");
}

/// A route for each thing that is asked of each cluster, with their paths.
pub(super) fn routes(clusters: &[Value]) -> (Value, Vec<String>) {
    let names = clusters.iter().map(|cluster| cluster["name"].as_str());
    let mut paths = Vec::new();
    let mut routes = Vec::new();
    for name in names.flatten() {
        for (number, asked) in asks().iter().enumerate() {
            let path = format!("/{name}/{number}");
            let mut route = json!({
                "cluster": name, "hash_policy": [{"header": {"header_name": "x-key"}}],
            });
            if let Some(asked) = asked {
                route["metadata_match"] = metadata(asked);
            }
            routes.push(json!({"match": {"path": path}, "route": route}));
            paths.push(path);
        }
    }
    (routes.into(), paths)
}

fn counts(answers: &[String]) -> Counts {
    let mut counts = Counts::new();
    for answer in answers {
        *counts.entry(answer.clone()).or_default() += 1;
    }
    counts
}

fn metadata(asked: &Value) -> Value {
    json!({"filter_metadata": {"envoy.lb": asked}})
}

/// What routes ask.
fn asks() -> Vec<Option<Value>> {
    let fallbacks = json!([{"version": 7}, {"version": 2, "stage": "prod"}, {"version": 1}]);
    vec![
        None,
        Some(json!({"version": 1})),
        Some(json!({"version": 2})),
        Some(json!({"version": 3})),
        Some(json!({"version": 9})),
        Some(json!({"version": 1, "stage": "dev"})),
        Some(json!({"version": 3, "stage": "prod"})),
        Some(json!({"stage": "prod"})),
        Some(json!({"version": 2, "other": true})),
        Some(json!({"stage": ["prod", "dev"], "version": 2})),
        Some(json!({"stage": "prod", "fallback_list": fallbacks})),
        Some(json!({"version": 1, "fallback_list": []})),
    ]
}

/// All origins: two versions in two stages, one that is in both, one with nothing; some are unfit.
fn members(origins: &[FixedOrigin]) -> Value {
    let labels = [
        Some(json!({"version": 1, "stage": "prod"})),
        Some(json!({"version": 1, "stage": "dev"})),
        Some(json!({"version": 2, "stage": "prod"})),
        Some(json!({"version": 2, "stage": "prod"})),
        Some(json!({"version": 3, "stage": "dev"})),
        Some(json!({"version": 2, "stage": ["prod", "dev"]})),
        None,
    ];
    let member = |(origin, labels): (&FixedOrigin, &Option<Value>)| {
        let mut member = member(origin, 1);
        if let Some(labels) = labels {
            member["metadata"] = metadata(labels);
        }
        member
    };
    origins.iter().zip(&labels).map(member).collect()
}

pub(super) fn clusters(origins: &[FixedOrigin]) -> Vec<Value> {
    let all = members(origins);
    let localities = json!([{ "lb_endpoints": all }]);
    let selectors = json!([{"keys": ["version"]}, {"keys": ["stage", "version"]}]);
    let with = |more: Value| {
        let mut config = json!({ "subset_selectors": selectors });
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        config
    };
    let legacy = |name: &str, more: Value| {
        cluster(name, &localities, &json!({"lb_subset_config": with(more)}))
    };
    let default = json!({"version": 1, "stage": "dev"});
    let own = |fallback: &str, more: Value| {
        let mut last = json!({"keys": ["version", "stage"], "fallback_policy": fallback});
        for (name, value) in more.as_object().into_iter().flatten() {
            last[name] = value.clone();
        }
        json!([{"keys": ["version"], "fallback_policy": "NO_FALLBACK"}, last])
    };
    let turns = json!({"name": "r", "typed_config":
        typed("extensions.load_balancing_policies.round_robin.v3.RoundRobin", json!({}))});
    let turns = json!({"policies": [{"typed_extension_config": turns}]});
    let redundant = with(json!({
        "allow_redundant_keys": true, "fallback_policy": "ANY_ENDPOINT", "subset_lb_policy": turns,
    }));
    let hashed = json!({"lb_policy": "MAGLEV", "lb_subset_config": with(json!({"fallback_policy": "ANY_ENDPOINT"}))});
    let mut clusters = vec![
        legacy("nobody", json!({})),
        legacy("any", json!({"fallback_policy": "ANY_ENDPOINT"})),
        legacy(
            "default",
            json!({"fallback_policy": "DEFAULT_SUBSET", "default_subset": default}),
        ),
        legacy("default-all", json!({"fallback_policy": "DEFAULT_SUBSET"})),
        legacy(
            "default-missing",
            json!({"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"version": 9}}),
        ),
        legacy(
            "panicking",
            json!({"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"version": 9}, "panic_mode_any": true}),
        ),
        legacy("lists", json!({"list_as_any": true})),
        legacy(
            "fallback-list",
            json!({"metadata_fallback_policy": "FALLBACK_LIST"}),
        ),
        legacy(
            "own-any",
            json!({"subset_selectors": own("ANY_ENDPOINT", json!({}))}),
        ),
        legacy(
            "own-keys",
            json!({"subset_selectors": own("KEYS_SUBSET", json!({"fallback_keys_subset": ["version"]}))}),
        ),
        legacy(
            "single",
            json!({"subset_selectors": own("NOT_DEFINED", json!({"single_host_per_subset": true}))}),
        ),
        cluster(
            "redundant",
            &localities,
            &typed_policy("subset", "Subset", redundant),
        ),
        cluster("hashed", &localities, &hashed),
    ];
    clusters.extend(by_locality(origins));
    clusters
}

/// Localities with weights, priorities, members that are unfit.
fn by_locality(origins: &[FixedOrigin]) -> Vec<Value> {
    let all = members(origins);
    let zone = |zone: &str, weight: u32, priority: u32, places: &[usize]| {
        let members = places.iter().map(|place| {
            let mut member = all[*place].clone();
            if matches!(place, 3 | 6) {
                member["health_status"] = json!("UNHEALTHY");
            }
            member
        });
        let members: Vec<Value> = members.collect();
        json!({
            "locality": {"zone": zone}, "load_balancing_weight": weight, "priority": priority,
            "lb_endpoints": members,
        })
    };
    let localities = json!([
        zone("a", 6, 0, &[0, 1, 2]),
        zone("b", 2, 0, &[3, 5]),
        zone("c", 1, 1, &[4, 6]),
    ]);
    let of = |name: &str, more: Value| {
        let mut config = json!({
            "subset_selectors": [{"keys": ["version"]}, {"keys": ["stage", "version"]}],
            "fallback_policy": "ANY_ENDPOINT",
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        let common = json!({"locality_weighted_lb_config": {}});
        let more = json!({"lb_subset_config": config, "common_lb_config": common});
        cluster(name, &localities, &more)
    };
    vec![
        of("unweighted", json!({})),
        of("weighted", json!({"locality_weight_aware": true})),
        of(
            "scaled",
            json!({"locality_weight_aware": true, "scale_locality_weight": true}),
        ),
    ]
}

/// A stream that asks, and one whose choice asks more.
fn streams(one: u16, more: u16) -> [Value; 2] {
    let proxy = |more: Value| {
        let mut proxy = json!({"stat_prefix": "tcp"});
        for (name, value) in more.as_object().into_iter().flatten() {
            proxy[name] = value.clone();
        }
        typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy)
    };
    let asks = metadata(&json!({"version": 1}));
    let choice = json!({
        "name": "nobody", "weight": 1, "metadata_match": metadata(&json!({"stage": "dev"})),
    });
    [
        listener(
            one,
            &proxy(json!({"cluster": "nobody", "metadata_match": asks})),
        ),
        listener(
            more,
            &proxy(json!({"weighted_clusters": {"clusters": [choice]}, "metadata_match": asks})),
        ),
    ]
}
