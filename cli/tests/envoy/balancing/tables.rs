//! Rings and tables of every kind, in both spellings, and thousands of keys.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bench::origin::FixedOrigin;
use serde_json::Value;
use serde_json::json;

use super::WEIGHTS;
use super::client::Client;
use super::cluster;
use super::differences;
use super::listener;
use super::member;
use super::members;
use super::origins;
use super::typed_policy;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::setting::envoy_is_there;
use crate::setting::seed;

/// Keys asked for of each cluster.
const KEYS: usize = 400;

/// Keys asked for of the two that are as most people have them.
const MANY_KEYS: usize = 10_000;

/// Their names.
const USUAL: [&str; 2] = ["ring", "table"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_leads_to_the_same_member() {
    if !envoy_is_there() {
        return;
    }
    let seed = seed(11);
    let origins = origins();
    let clusters = clusters(&origins);
    let names: Vec<String> = clusters.keys().cloned().collect();
    let routes: Value = names
        .iter()
        .map(|name| {
            json!({
                "match": {"path": format!("/{name}")},
                "route": {
                    "cluster": name,
                    "hash_policy": [{"header": {"header_name": "x-key"}}],
                },
            })
        })
        .collect();
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), &manager(&routes, &json!({})));
    let clusters: Vec<Value> = clusters.into_values().collect();
    let bootstrap = bootstrap(&[listener], &clusters);
    let look = || async {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut client = Client::connect(ports[0].addr(), (Ipv4Addr::LOCALHOST, 0)).await;
        let mut answers = Vec::new();
        for name in &names {
            for number in 0..keys(name) {
                let key = match number < KEYS {
                    true => format!("{:x}", random.u64(..) >> random.u8(..60)),
                    false => format!("{:x}-{number}", random.u64(..)), // none twice
                };
                let fields = [("x-key", key.clone())];
                let origin = client.get(&format!("/{name}"), &fields).await.origin();
                answers.push((name.clone(), key, origin));
            }
        }
        answers
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    let differences = differences(&wanted, &found, |(cluster, ..)| Some(cluster));
    assert!(differences.is_empty(), "seed {seed}:\n{differences}");
    check_breadth(&wanted);
}

fn keys(cluster: &str) -> usize {
    match USUAL.contains(&cluster) {
        true => MANY_KEYS,
        false => KEYS,
    }
}

/// Clusters that always choose the same one would find no difference.
fn check_breadth(answers: &[(String, String, String)]) {
    let mut seen = BTreeMap::<&str, BTreeMap<&str, usize>>::new();
    for (cluster, _, origin) in answers {
        *seen.entry(cluster).or_default().entry(origin).or_default() += 1;
    }
    for (cluster, origins) in &seen {
        let few = ["few-healthy", "nobody", "only-degraded"].contains(cluster);
        assert!(few || origins.len() > 1, "{cluster}: {origins:?}");
    }
    assert_eq!(seen["nobody"].keys().collect::<Vec<_>>(), [&"503"]);
    for usual in USUAL {
        let asked: usize = seen[usual].values().sum();
        assert_eq!((asked, seen[usual].len()), (MANY_KEYS, WEIGHTS.len()));
    }
}

/// Clusters by name.
fn clusters(origins: &[FixedOrigin]) -> BTreeMap<String, Value> {
    let mut clusters = BTreeMap::new();
    let mut add = |name: &str, localities: &Value, more: &Value| {
        clusters.insert(name.to_owned(), cluster(name, localities, more));
    };
    let weighted = json!([{"lb_endpoints": members(origins)}]);
    let equal: Value = origins.iter().map(|origin| member(origin, 1)).collect();
    let equal = json!([{"lb_endpoints": equal}]);
    for (name, policy) in tables() {
        add(&name, &weighted, &policy);
        add(&format!("{name}-equal"), &equal, &policy);
    }
    for (name, policy) in [
        (
            "by-locality-ring",
            typed_policy("ring_hash", "RingHash", locality_weighted()),
        ),
        (
            "by-locality-table",
            typed_policy("maglev", "Maglev", locality_weighted()),
        ),
        (
            "by-locality-legacy",
            json!({"lb_policy": "RING_HASH", "common_lb_config": locality_weighted()}),
        ),
        ("localities", json!({"lb_policy": "MAGLEV"})),
    ] {
        add(name, &localities(origins), &policy);
    }
    for (name, policy) in named() {
        add(name, &with_names(origins), &policy);
    }
    for (name, healths, percent) in HEALTHS {
        for policy in ["RING_HASH", "MAGLEV"] {
            let mut more = json!({"lb_policy": policy});
            if let Some(percent) = percent {
                let threshold = json!({"value": percent});
                more["common_lb_config"] = json!({"healthy_panic_threshold": threshold});
            }
            let name = match policy {
                "MAGLEV" => (*name).to_owned(),
                _ => format!("ring-{name}"),
            };
            if policy == "MAGLEV" || healths.contains(&(1, "HEALTHY")) {
                add(&name, &with_health(origins, healths), &more);
            }
        }
    }
    clusters
}

/// Policies over all origins.
fn tables() -> Vec<(String, Value)> {
    let mut tables = Vec::new();
    for function in ["XX_HASH", "MURMUR_HASH_2"] {
        for (least, most) in [(1024, 8_388_608), (50, 60), (10_000, 20_000), (1, 1)] {
            let config = json!({
                "hash_function": function, "minimum_ring_size": least, "maximum_ring_size": most,
            });
            let name = format!("ring-{function}-{least}-{most}");
            let legacy = json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": config});
            if most > 1 {
                tables.push((name.clone(), legacy));
                let typed = typed_policy("ring_hash", "RingHash", config);
                tables.push((format!("{name}-typed"), typed));
            }
        }
    }
    tables.push(("ring".to_owned(), json!({"lb_policy": "RING_HASH"})));
    tables.push(("table".to_owned(), json!({"lb_policy": "MAGLEV"})));
    for size in [251, 65_537, 1_000_003] {
        let config = json!({"table_size": size});
        let legacy = json!({"lb_policy": "MAGLEV", "maglev_lb_config": config});
        tables.push((format!("table-{size}"), legacy));
        let typed = typed_policy("maglev", "Maglev", config);
        tables.push((format!("table-{size}-typed"), typed));
    }
    tables
}

fn locality_weighted() -> Value {
    json!({"locality_weighted_lb_config": {}})
}

/// Localities in no order, one of them in two parts and one without weight.
fn localities(origins: &[FixedOrigin]) -> Value {
    let group = |zone: &str, weight: Option<u32>, places: std::ops::Range<usize>| {
        let members: Value = places
            .map(|place| member(&origins[place], WEIGHTS[place]))
            .collect();
        let mut group = json!({"locality": {"zone": zone}, "lb_endpoints": members});
        if let Some(weight) = weight {
            group["load_balancing_weight"] = json!(weight);
        }
        group
    };
    json!([
        group("z", Some(5), 0..1),
        group("b", Some(3), 1..3),
        group("a", Some(1), 3..5),
        group("z", Some(4), 5..6),
        group("c", None, 6..7),
    ])
}

/// Policies that know members by another name than their address. Envoy has host names only of
/// clusters whose members come from DNS.
fn named() -> Vec<(&'static str, Value)> {
    let by_hostname = json!({"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}});
    let by_dns = |mut cluster: Value| {
        cluster["type"] = json!("STRICT_DNS");
        cluster["dns_lookup_family"] = json!("V4_ONLY");
        cluster
    };
    let deprecated = json!({"use_hostname_for_hashing": true});
    let legacy = json!({"lb_policy": "MAGLEV", "common_lb_config": by_hostname});
    vec![
        ("keys", json!({"lb_policy": "RING_HASH"})),
        ("hostnames", by_dns(legacy)),
        (
            "hostnames-typed",
            by_dns(typed_policy("maglev", "Maglev", by_hostname)),
        ),
        (
            "hostnames-deprecated",
            by_dns(typed_policy("ring_hash", "RingHash", deprecated)),
        ),
    ]
}

/// Every second member has a key of its own; all have host names.
fn with_names(origins: &[FixedOrigin]) -> Value {
    let named = |(place, origin): (usize, &FixedOrigin)| {
        let mut member = member(origin, WEIGHTS[place]);
        member["endpoint"]["hostname"] = json!(format!("host-{place}.example"));
        if place % 2 == 0 {
            let key = json!({"hash_key": format!("key {place}")});
            member["metadata"] = json!({"filter_metadata": {"envoy.lb": key}});
        }
        member
    };
    let members: Value = origins.iter().enumerate().map(named).collect();
    json!([{"lb_endpoints": members}])
}

/// The name of a cluster, priority and health of its members, its panic threshold.
type Health = (&'static str, &'static [(u32, &'static str)], Option<u32>);

const HEALTHS: &[Health] = &[
    (
        "spilling",
        &[
            (0, "HEALTHY"),
            (0, "HEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (1, "HEALTHY"),
            (1, "HEALTHY"),
            (1, "HEALTHY"),
        ],
        None,
    ),
    (
        "panicking",
        &[
            (0, "HEALTHY"),
            (0, "UNHEALTHY"),
            (0, "DRAINING"),
            (0, "TIMEOUT"),
            (0, "UNHEALTHY"),
            (1, "UNHEALTHY"),
            (1, "UNHEALTHY"),
        ],
        None,
    ),
    (
        "half-panicking",
        &[
            (0, "HEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (1, "HEALTHY"),
            (1, "UNHEALTHY"),
            (1, "DEGRADED"),
        ],
        Some(60),
    ),
    (
        "few-healthy",
        &[
            (0, "HEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
        ],
        Some(10),
    ),
    (
        "nobody",
        &[
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
        ],
        Some(0),
    ),
    (
        "degraded",
        &[
            (0, "HEALTHY"),
            (0, "DEGRADED"),
            (0, "DEGRADED"),
            (0, "HEALTHY"),
            (1, "HEALTHY"),
            (1, "DEGRADED"),
            (1, "UNHEALTHY"),
        ],
        None,
    ),
    (
        "only-degraded",
        &[
            (0, "DEGRADED"),
            (0, "DEGRADED"),
            (0, "DEGRADED"),
            (0, "DEGRADED"),
            (0, "DEGRADED"),
            (0, "UNHEALTHY"),
            (0, "UNHEALTHY"),
        ],
        None,
    ),
];

fn with_health(origins: &[FixedOrigin], healths: &[(u32, &str)]) -> Value {
    let group = |wanted: u32| {
        let members = origins.iter().zip(WEIGHTS).zip(healths);
        let members = members.filter(|(_, (priority, _))| *priority == wanted);
        let members = members.map(|((origin, weight), (_, health))| {
            let mut member = member(origin, weight);
            member["health_status"] = json!(health);
            member
        });
        json!({"priority": wanted, "lb_endpoints": members.collect::<Vec<_>>()})
    };
    let last = healths
        .iter()
        .map(|(priority, _)| *priority)
        .max()
        .unwrap_or(0);
    (0..=last).map(group).collect()
}
