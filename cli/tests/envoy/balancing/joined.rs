//! Headers that come on several lines: which of them count as one value.

use std::net::Ipv4Addr;

use serde_json::Value;
use serde_json::json;

use super::client::Client;
use super::cluster;
use super::listener;
use super::members;
use super::origins;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::setting::envoy_is_there;

/// Names of headers. Those that frame a message are left out, those that Envoy's router takes for
/// itself, and the referer, which Envoy removes unless it is one URL.
const NAMES: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "cache-control",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "from",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "origin",
    "pragma",
    "priority",
    "range",
    "sec-fetch-site",
    "te",
    "traceparent",
    "tracestate",
    "user-agent",
    "via",
    "warning",
    "x-api-key",
    "x-b3-traceid",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-ot-span-context",
    "x-real-ip",
    "x-request-id",
    "x-user",
    "baggage",
    "content-encoding",
    "content-language",
    "date",
    "dnt",
    "max-forwards",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-is-timeout-retry",
    "x-amz-date",
    "x-b3-spanid",
    "x-datadog-trace-id",
    "x-cloud-trace-context",
    "sec-websocket-key",
    "upgrade-insecure-requests",
    "x-envoy-original-method",
    "x-envoy-original-dst-host",
    "x-requested-with",
    "x-csrf-token",
];

/// Requests for each header.
const REQUESTS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_lines_of_a_header_are_hashed_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let localities = json!([{"lb_endpoints": members(&origins)}]);
    let clusters = [cluster(
        "ring",
        &localities,
        &json!({"lb_policy": "RING_HASH"}),
    )];
    let route = |name: &&str| {
        let policies = json!([
            {"header": {"header_name": name}, "terminal": true},
            {"header": {"header_name": ":path"}},
        ]);
        json!({
            "match": {"prefix": format!("/{name}/")},
            "route": {"cluster": "ring", "hash_policy": policies},
        })
    };
    let routes: Value = NAMES.iter().map(route).collect();
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), &manager(&routes, &json!({})));
    let bootstrap = bootstrap(&[listener], &clusters);
    let look = || async {
        let mut answers = Vec::new();
        for name in NAMES {
            let mut client = Client::connect(ports[0].addr(), (Ipv4Addr::LOCALHOST, 0)).await;
            for number in 0..REQUESTS {
                let values = ["b", "a", "c"].map(|text| (*name, format!("{text}{number}")));
                let path = format!("/{name}/{number}");
                let head = client.get(&path, &values[..2 + number % 2]).await;
                answers.push((*name, number, head.origin()));
            }
        }
        answers
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    let differences = super::differences(&wanted, &found, |(name, ..)| Some(name));
    assert!(differences.is_empty(), "{differences}");
}
