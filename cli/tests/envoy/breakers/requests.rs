//! One request too many, for each limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bench::client;
use bench::client::Answer;
use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Admin;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;
use serde_json::json;

use super::become_so;
use super::entries;
use super::log;
use super::numbers;
use super::of_both;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;

const COMMANDS: [&str; 9] = [
    "REQ(:PATH)",
    "REQ(X-KIND)",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_FLAGS",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_HOST",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
];

/// One limit: its name, what its cluster has beside, what its route has, how many requests the origin
/// holds, and how many more wait for a connection.
type Case = (&'static str, Value, Value, usize, u64);

fn cases() -> Vec<Case> {
    let none = || json!({});
    let limits = |limits: Value| json!({"circuit_breakers": {"thresholds": [limits]}});
    let requests = json!({"max_requests": 1});
    let http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    let http2 = typed("extensions.upstreams.http.v3.HttpProtocolOptions", http2);
    let mut over_http2 = limits(json!({"max_requests": 2}));
    over_http2["typed_extension_protocol_options"] =
        json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2});
    let host = json!({"circuit_breakers": {
        "thresholds": [{"max_pending_requests": 1}],
        "per_host_thresholds": [{"max_connections": 1}],
    }});
    let high = json!({"circuit_breakers": {"thresholds": [
        {"priority": "HIGH", "max_requests": 1}, {"max_requests": 0},
    ]}});
    let tracked = limits(json!({
        "track_remaining": true, "max_requests": 2, "max_connections": 4, "max_retries": 9,
    }));
    let budget = limits(json!({"retry_budget": {}, "max_requests": 1}));
    let pending = json!({"max_connections": 1, "max_pending_requests": 1});
    vec![
        ("requests", limits(requests), none(), 1, 0),
        ("pending", limits(pending), none(), 1, 1),
        (
            "nobody",
            limits(json!({"max_pending_requests": 0})),
            none(),
            0,
            0,
        ),
        ("host", host, none(), 1, 1),
        ("high", high, json!({"priority": "HIGH"}), 1, 0),
        ("http2", over_http2, none(), 2, 0),
        ("tracked", tracked, none(), 2, 0),
        ("budget", budget, none(), 1, 0),
    ]
}

/// Sends a request; its kind stands in the log.
async fn ask(proxy: SocketAddr, case: &str, kind: &str) -> Answer {
    let mut request = Request::get(format!("/{case}")).header("x-kind", kind);
    if kind == "grpc" {
        request = request.header("content-type", "application/grpc");
    }
    let request = request.body(Empty::<Bytes>::new()).expect("valid");
    client::http1(proxy, request).await.expect("an answer")
}

fn told(answer: &Answer) -> String {
    let is_own = |name: &str| ["date", "server"].contains(&name);
    let fields = (answer.headers.iter()).filter(|(name, _)| !is_own(name.as_str()));
    let mut fields: Vec<_> = fields.map(|field| format!("{field:?}")).collect();
    fields.sort();
    format!("{} {fields:?} {:?}", answer.status, answer.text())
}

/// The numbers of a cluster. That a limit of nothing is reached Envoy says only after somebody was inside.
async fn seen(admin: &Admin, name: &str) -> BTreeMap<String, u64> {
    let mut all = numbers(admin, name).await;
    let said_later = match name {
        "nobody" => "circuit_breakers.default.rq_pending_open",
        "high" => "circuit_breakers.default.rq_open",
        _ => return all,
    };
    all.remove(said_later);
    all
}

/// What is seen of one limit.
async fn see(proxy: SocketAddr, admin: &Admin, case: &Case, origin: &Origin) -> Vec<String> {
    let (name, _, _, held, waiting) = case;
    let before = origin.seen().len();
    origin.pause();
    let mut kept = Vec::new();
    for count in 1..=*held {
        kept.push(tokio::spawn(ask(proxy, name, "held")));
        let arrived = until(|| async {
            let there = origin.seen().len() - before;
            let excuse = || format!("{name}: {there} of {count}");
            (there == count).then_some(()).ok_or_else(excuse)
        });
        arrived.await.expect("it arrives");
    }
    for _ in 0..*waiting {
        kept.push(tokio::spawn(ask(proxy, name, "waits")));
    }
    become_so(admin, name, &[("upstream_rq_pending_active", *waiting)]).await;
    let mut all = Vec::new();
    for kind in ["plain", "grpc"] {
        all.push(format!(
            "{name}, {kind}: {}",
            told(&ask(proxy, name, kind).await)
        ));
    }
    all.push(format!("{name}, full: {:?}", seen(admin, name).await));
    origin.resume();
    for kept in kept {
        let answer = kept.await.expect("no panic");
        all.push(format!("{name}, then: {} {}", answer.status, answer.text()));
    }
    become_so(admin, name, &[("upstream_rq_active", 0)]).await;
    all.push(format!("{name}, after: {:?}", seen(admin, name).await));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_too_many_is_refused_alike() {
    if !envoy_is_there() {
        return;
    }
    let cases = cases();
    let origins: Vec<Origin> = (cases.iter())
        .map(|(name, ..)| Origin::start(name).expect("a free port"))
        .collect();
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("access.log");
    let (mut clusters, mut routes) = (Vec::new(), Vec::new());
    for ((name, of_cluster, of_route, ..), origin) in cases.iter().zip(&origins) {
        origin.reply(Reply::body("hello"));
        let mut cluster = cluster(name, origin.addr().port());
        let mut route = json!({"cluster": name});
        for (target, more) in [(&mut cluster, of_cluster), (&mut route, of_route)] {
            for (field, value) in more.as_object().into_iter().flatten() {
                target[field] = value.clone();
            }
        }
        clusters.push(cluster);
        routes.push(json!({"match": {"prefix": format!("/{name}")}, "route": route}));
    }
    let ports = free_ports(1);
    let manager = manager(
        &json!(routes),
        &json!({"access_log": log(&file, &COMMANDS)}),
    );
    let listener = json!({
        "name": "main",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": ports[0].number()}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    });
    let requests: u64 = cases
        .iter()
        .map(|(.., held, waiting)| *held as u64 + waiting + 2)
        .sum();
    let look = |admin: Admin| {
        let (cases, origins, file, proxy) = (&cases, &origins, &file, ports[0].addr());
        async move {
            let mut all = Vec::new();
            for (case, origin) in cases.iter().zip(origins) {
                all.extend(Box::pin(see(proxy, &admin, case, origin)).await);
            }
            all.extend(entries(file, usize::try_from(requests).expect("few")).await);
            all
        }
    };
    let bootstrap = bootstrap(&[listener], &clusters);
    let (envoy, weir) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    let different: Vec<_> = envoy
        .iter()
        .zip(&weir)
        .filter(|(envoy, weir)| envoy != weir)
        .collect();
    assert!(different.is_empty(), "Envoy and Weir: {different:#?}");
    let refused = |one: &&String| one.contains("\"RESPONSE_FLAGS\":\"UO\"");
    assert_eq!(weir.iter().filter(refused).count(), 2 * cases.len());
}
