//! What of a request is hashed, and the cookies that are made.

use std::net::Ipv4Addr;

use serde_json::Value;
use serde_json::json;

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

/// Requests for each route.
const REQUESTS: usize = 60;

/// Who answered and which cookies were set, for a request.
type Answer = (String, String, Vec<String>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_policy_hashes_the_same() {
    if !envoy_is_there() {
        return;
    }
    let seed = seed(12);
    let origins = origins();
    let ports = free_ports(3);
    let gone = json!({"socket_address": {"address": "127.0.0.1", "port_value": ports[2].number()}});
    let gone = json!({"endpoint": {"address": gone}});
    let localities = json!([{"lb_endpoints": members(&origins)}]);
    let own = json!({"consistent_hashing_lb_config": {"hash_policy": [
        {"query_parameter": {"name": "own"}, "terminal": true},
        {"cookie": {"name": "own", "ttl": "60s", "path": "/"}},
    ]}});
    let own = typed_policy("maglev", "Maglev", own);
    let nobody = json!([{"lb_endpoints": [gone]}]);
    let mut clusters = vec![
        cluster("ring", &localities, &json!({"lb_policy": "RING_HASH"})),
        cluster("own", &localities, &own),
        cluster("turns", &localities, &json!({})),
        cluster("gone", &nobody, &json!({"lb_policy": "RING_HASH"})),
        cluster("own-gone", &nobody, &own),
    ];
    clusters.extend((0..3).map(|place| {
        let only = json!([{"lb_endpoints": [member(&origins[place], 1)]}]);
        cluster(&format!("only-{place}"), &only, &json!({}))
    }));
    let routes: Value = routes()
        .into_iter()
        .map(|(name, route)| {
            json!({
                "match": {"prefix": format!("/{name}")}, "route": route,
                "request_headers_to_add": [{"header": {"key": "x-added", "value": "1"}}],
                "response_headers_to_add": [{"header": {"key": "set-cookie", "value": "theirs=1"}}],
            })
        })
        .collect();
    // Connections come from this port, of which the cookies are made.
    let from = &ports[1];
    let listener = listener(ports[0].number(), &manager(&routes, &json!({})));
    let bootstrap = bootstrap(&[listener], &clusters);
    let look = || async {
        let mut random = fastrand::Rng::with_seed(seed);
        let address = (Ipv4Addr::LOCALHOST, from.number());
        let mut client = Client::connect(ports[0].addr(), address).await;
        let mut answers: Vec<Answer> = Vec::new();
        for (name, _) in self::routes() {
            for _ in 0..REQUESTS {
                let (path, fields) = request(name, &mut random);
                let head = client.get(&path, &fields).await;
                let cookies = head.values("set-cookie").map(str::to_owned).collect();
                answers.push((format!("{path} {fields:?}"), head.origin(), cookies));
            }
        }
        answers
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports[..1], look)).await;
    // Without hashing, members take turns.
    let differences = differences(&wanted, &found, |answer| {
        answer.0.split('/').nth(1).filter(|route| *route != "turns")
    });
    assert!(differences.is_empty(), "seed {seed}:\n{differences}");
    let made = |name: &str| {
        wanted
            .iter()
            .any(|(_, _, cookies)| cookies.iter().any(|cookie| cookie.starts_with(name)))
    };
    assert!(made("made=") && made("session=") && made("own="));
}

/// A request that may or may not have what the route hashes.
fn request(name: &str, random: &mut fastrand::Rng) -> (String, Vec<(&'static str, String)>) {
    let mut some = |what: &str| format!("{what}{}", random.u8(..30));
    let values = [some("a"), some("b"), some("c"), some("d")];
    let [a, b, c, d] = values;
    let mut path = format!("/{name}/{a}");
    for (part, chance) in [
        (format!("q={b}"), 2),
        ("q".to_owned(), 6),
        (format!("own={c}"), 2),
        (format!("q={d}"), 3),
    ] {
        if random.u8(..chance) == 0 {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&part);
        }
    }
    let mut fields = Vec::new();
    let possible = [
        ("x-a", a.clone(), 2),
        ("x-b", b.clone(), 2),
        ("x-a", c.clone(), 3),
        ("x-a", String::new(), 8),
        ("host", format!("{d}.example"), 2),
        ("x-forwarded-for", format!("10.0.0.{}", random.u8(..)), 2),
        ("x-forwarded-for", format!("10.0.1.{}", random.u8(..)), 3),
        ("user-agent", a.clone(), 2),
        ("user-agent", c.clone(), 3),
        ("accept", b.clone(), 2),
        ("accept", d.clone(), 3),
        ("cookie", format!("x=1; passive={a};made=\"{b}\""), 2),
        ("cookie", format!("passive={c}; session="), 2),
        ("cookie", format!("odd; passive ={a}; ={c}; made={d}"), 4),
    ];
    for (name, value, chance) in possible {
        if random.u8(..chance) == 0 {
            fields.push((name, value));
        }
    }
    (path, fields)
}

fn header(name: &str) -> Value {
    json!({"header": {"header_name": name}})
}

fn rewritten(pattern: &str, substitution: &str) -> Value {
    let rewrite = json!({"pattern": {"regex": pattern}, "substitution": substitution});
    json!({"header": {"header_name": "x-a", "regex_rewrite": rewrite}})
}

fn query() -> Value {
    json!({"query_parameter": {"name": "q"}})
}

fn made() -> Value {
    let attributes = json!([{"name": "SameSite", "value": "Lax"}, {"name": "Secure"}]);
    let cookie = json!({"name": "made", "ttl": "90.9s", "path": "/p", "attributes": attributes});
    json!({"cookie": cookie})
}

fn ip(hashed: bool) -> Value {
    json!({"connection_properties": {"source_ip": hashed}})
}

fn terminal(mut policy: Value) -> Value {
    policy["terminal"] = json!(true);
    policy
}

fn to_ring(policies: &[Value]) -> Value {
    json!({"cluster": "ring", "hash_policy": policies})
}

/// Ends with something that every request has: without any hash a member is drawn.
fn or_host(policy: Value) -> Value {
    to_ring(&[terminal(policy), header(":authority")])
}

fn with(mut route: Value, name: &str, value: &str) -> Value {
    route[name] = json!(value);
    route
}

/// Clusters of one member each; the hash chooses among them.
fn weighted(policies: &[Value]) -> Value {
    let weights = [1, 3, 6];
    let clusters = weights
        .iter()
        .enumerate()
        .map(|(place, weight)| json!({"name": format!("only-{place}"), "weight": weight}));
    let clusters: Vec<Value> = clusters.collect();
    json!({
        "weighted_clusters": {"clusters": clusters, "use_hash_policy": true},
        "hash_policy": policies,
    })
}

/// What is hashed by name of the route.
fn routes() -> Vec<(&'static str, Value)> {
    let session = json!({"cookie": {"name": "session", "ttl": "0s"}});
    let passive = json!({"cookie": {"name": "passive"}});
    let host = || to_ring(&[header("host")]);
    let path = || to_ring(&[header(":path")]);
    let several = [
        header("x-a"),
        query(),
        header("x-b"),
        ip(true),
        header("x-a"),
    ];
    let late = [header("x-a"), terminal(header("x-none")), query(), ip(true)];
    let until = [terminal(header("x-a")), terminal(query()), made(), ip(true)];
    vec![
        ("header", or_host(header("x-a"))),
        (
            "added",
            to_ring(&[header("x-added"), terminal(header("x-a")), ip(true)]),
        ),
        (
            "method",
            to_ring(&[header(":method"), header(":scheme"), header("x-a")]),
        ),
        ("path", path()),
        ("rewritten", with(path(), "prefix_rewrite", "/same")),
        ("host", host()),
        ("literal", with(host(), "host_rewrite_literal", "same")),
        ("named", with(host(), "host_rewrite_header", "x-b")),
        ("group", or_host(rewritten("([0-9])([0-9])?", "\\2-\\1"))),
        ("all", or_host(rewritten("[0-4]*", "x"))),
        ("forwarded", or_host(header("x-forwarded-for"))),
        ("agent", or_host(header("user-agent"))),
        ("accept", or_host(header("accept"))),
        ("query", or_host(query())),
        ("passive", or_host(passive)),
        ("made", to_ring(&[made()])),
        ("session", to_ring(&[session])),
        ("ip", to_ring(&[ip(true)])),
        ("no-ip", to_ring(&[terminal(ip(false)), ip(true)])),
        ("several", to_ring(&several)),
        ("until", to_ring(&until)),
        ("late", to_ring(&late)),
        (
            "own",
            json!({"cluster": "own", "hash_policy": [header("x-a")]}),
        ),
        ("weighted", weighted(&[header("x-a"), terminal(ip(true))])),
        (
            "weighted-made",
            weighted(&[terminal(header("x-a")), made()]),
        ),
        ("gone", json!({"cluster": "gone", "hash_policy": [made()]})),
        ("own-gone", json!({"cluster": "own-gone"})),
        (
            "turns",
            json!({"cluster": "turns", "hash_policy": [made()]}),
        ),
    ]
}
