//! Filter state that requests and connections are given, and hash policies that go by it.

use std::net::Ipv4Addr;

use serde_json::Value;
use serde_json::json;

use super::client::Client;
use super::cluster;
use super::differences;
use super::member;
use super::members;
use super::origins;
use super::typed_policy;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::seed;

/// Clients, each from an address of its own: that all of them meet the member with most of the weight is as good as
/// impossible.
const CLIENTS: u8 = 40;

/// Requests of each for each route.
const REQUESTS: usize = 2;

/// Streams, each from an address of its own.
const STREAMS: u8 = 60;

const HASHABLE: &str = "envoy.hashable_string";

fn object(key: &str, factory: &str, text: &str) -> Value {
    let format = json!({"text_format_source": {"inline_string": text}});
    json!({"object_key": key, "factory_key": factory, "format_string": format})
}

/// Only if there is something to set.
fn optional(key: &str, text: &str) -> Value {
    let mut object = object(key, HASHABLE, text);
    object["skip_if_empty"] = json!(true);
    object["format_string"]["omit_empty_values"] = json!(true);
    object
}

fn filter(kind: &str, name: &str, config: Value) -> Value {
    let name = format!("extensions.filters.{kind}.set_filter_state.v3.{name}");
    json!({"name": "state", "typed_config": typed(&name, config)})
}

/// What connections are given.
fn of_connection() -> Value {
    let client = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME%";
    let config = json!({
        "on_new_connection": [object("client", HASHABLE, client)],
        "on_downstream_tls_handshake": [object("late", HASHABLE, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")],
    });
    filter("network", "Config", config)
}

/// What requests are given.
fn of_request() -> Value {
    let config = json!({"on_request_headers": [
        object("a", HASHABLE, "%REQ(x-a)%"),
        optional("b", "%REQ(x-b)%"),
        object("added", HASHABLE, "%REQ(x-added)%"),
        object("twice", HASHABLE, "%REQ(x-a)% %REQ(:PATH)%"),
        optional("twice", "%REQ(x-b)%"),
        object("text", "envoy.string", "%REQ(x-a)%"),
    ]});
    filter("http", "Config", config)
}

fn listener(port: u16, last: &Value) -> Value {
    let last = json!({"name": "last", "typed_config": last});
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [of_connection(), last]}],
    })
}

fn state(key: &str) -> Value {
    json!({"filter_state": {"key": key}})
}

/// What is hashed, by the name of the route.
fn routes() -> Vec<(&'static str, Value)> {
    let host = || json!({"header": {"header_name": ":authority"}});
    let to_ring = |policies: Value| json!({"cluster": "ring", "hash_policy": policies});
    let or_host = |key: &str| {
        let mut own = state(key);
        own["terminal"] = json!(true);
        to_ring(json!([own, host()]))
    };
    let clusters: Vec<Value> = [1, 3, 6]
        .iter()
        .enumerate()
        .map(|(place, weight)| json!({"name": format!("only-{place}"), "weight": weight}))
        .collect();
    let weighted = |key: &str| {
        json!({
            "weighted_clusters": {"clusters": clusters, "use_hash_policy": true},
            "hash_policy": [state(key)],
        })
    };
    vec![
        ("a", or_host("a")),
        ("b", or_host("b")),
        ("added", or_host("added")),
        ("twice", or_host("twice")),
        ("text", or_host("text")),
        ("none", or_host("none")),
        ("off", or_host("a")),
        ("client", or_host("client")),
        ("late", or_host("late")),
        (
            "both",
            to_ring(json!([state("a"), state("client"), host()])),
        ),
        ("weighted", weighted("client")),
        ("own", json!({"cluster": "own"})),
    ]
}

#[expect(clippy::too_many_lines, reason = "one bootstrap and one look at both")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_is_hashed_the_same() {
    if !envoy_is_there() {
        return;
    }
    let seed = seed(13);
    let origins = origins();
    let localities = json!([{"lb_endpoints": members(&origins)}]);
    let ring = json!({"lb_policy": "RING_HASH"});
    let own = json!([state("none"), state("a"), state("client")]);
    let own = json!({"consistent_hashing_lb_config": {"hash_policy": own}});
    let own = typed_policy("maglev", "Maglev", own);
    let mut clusters = vec![
        cluster("ring", &localities, &ring),
        cluster("own", &localities, &own),
    ];
    clusters.extend((0..3).map(|place| {
        let only = json!([{"lb_endpoints": [member(&origins[place], 1)]}]);
        cluster(&format!("only-{place}"), &only, &json!({}))
    }));
    let disabled = typed("config.route.v3.FilterConfig", json!({"disabled": true}));
    let table: Value = routes()
        .into_iter()
        .map(|(name, route)| {
            let mut entry = json!({
                "match": {"prefix": format!("/{name}/")}, "route": route,
                "request_headers_to_add": [{"header": {"key": "x-added", "value": "1"}}],
            });
            if name == "off" {
                entry["typed_per_filter_config"] = json!({"state": disabled});
            }
            entry
        })
        .collect();
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    let router = json!({"name": "router", "typed_config": router});
    let http = manager(&table, &json!({"http_filters": [of_request(), router]}));
    let stream = |cluster: &str| {
        let hash = json!([state("client")]);
        let proxy = json!({"stat_prefix": "tcp", "cluster": cluster, "hash_policy": hash});
        typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy)
    };
    let ports = free_ports(3);
    let filters = [http, stream("ring"), stream("own")];
    let listeners = ports.iter().zip(&filters);
    let listeners: Vec<Value> = listeners
        .map(|(port, filter)| listener(port.number(), filter))
        .collect();
    let bootstrap = bootstrap(&listeners, &clusters);
    let look = || async {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut answers: Vec<(String, String, String)> = Vec::new();
        for last in 0..CLIENTS {
            let from = Ipv4Addr::new(127, 0, 1, last + 1);
            let mut client = Client::connect(ports[0].addr(), (from, 0)).await;
            for (name, _) in routes() {
                for _ in 0..REQUESTS {
                    let mut some = |what: &str| format!("{what}{}", random.u8(..30));
                    let (a, b, host) = (some("a"), some("b"), some("host"));
                    let mut fields = vec![("host", host)];
                    fields.extend([("x-a", a), ("x-b", b)]);
                    fields.retain(|(name, _)| *name == "host" || random.u8(..3) > 0);
                    let path = format!("/{name}/");
                    let origin = client.get(&path, &fields).await.origin();
                    answers.push((name.to_owned(), format!("{from} {fields:?}"), origin));
                }
            }
        }
        for (port, name) in ports[1..].iter().zip(["stream", "own-stream"]) {
            for last in 0..STREAMS {
                let from = Ipv4Addr::new(127, 0, 2, last + 1);
                let mut client = Client::connect(port.addr(), (from, 0)).await;
                let origin = client.get("/", &[]).await.origin();
                answers.push((name.to_owned(), from.to_string(), origin));
            }
        }
        answers
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    let differences = differences(&wanted, &found, |(route, ..)| Some(route));
    assert!(differences.is_empty(), "seed {seed}:\n{differences}");
    for (name, _) in routes() {
        let mut answers = wanted.iter().filter(|(route, ..)| route == name);
        let first = answers.next().map(|(.., origin)| origin);
        let differs = answers.any(|(.., origin)| Some(origin) != first);
        assert!(differs || name == "added", "{name}: always {first:?}");
    }
}
