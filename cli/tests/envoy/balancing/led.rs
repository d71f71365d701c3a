//! Streams that are led to members by what a PROXY protocol header says, which requests are not.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bench::origin::FixedOrigin;
use serde_json::Value;
use serde_json::json;

use super::client::Client;
use super::cluster;
use super::listener;
use super::member;
use super::origins;
use super::typed_policy;
use crate::identity::announced::header;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;

/// The TLV that becomes metadata.
const KIND: u8 = 0xE1;

/// Streams of one kind.
const STREAMS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_where_their_metadata_says() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let nobody = free_ports(1);
    let gone = nobody[0].addr().to_string();
    let clusters = [overridden(&origins, nobody[0].number())];
    let ports = free_ports(2);
    let listeners = listeners(ports[0].number(), ports[1].number());
    let bootstrap = bootstrap(&listeners, &clusters);
    let names: Vec<String> = origins.iter().map(|one| one.addr().to_string()).collect();
    // What the header says, and who has to answer.
    let asked = [
        (names[0].clone(), "0"),
        (names[2].clone(), "2"),
        (format!("{},{}", names[1], names[2]), "1"),
        (format!(" {} ", names[3]), "3"),
        (format!("127.0.0.1:1,{}", names[1]), "1"),
        (format!("{gone},{}", names[4]), "4"),
    ];
    let look = async || {
        let mut answers = Vec::new();
        for port in &ports {
            for (asked, _) in &asked {
                for _ in 0..STREAMS {
                    answers.push(answer(port.addr(), asked).await);
                }
            }
        }
        answers
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    for answers in [wanted, found] {
        let (streams, requests) = answers.split_at(STREAMS * asked.len());
        for (answers, (asked, expected)) in streams.chunks(STREAMS).zip(&asked) {
            let is_led = answers.iter().all(|answer| answer == expected);
            assert!(is_led, "{asked}: {answers:?}");
        }
        // Nobody leads them.
        let first: BTreeSet<&String> = requests[..STREAMS].iter().collect();
        assert_eq!(first.len(), STREAMS, "{requests:?}");
    }
}

async fn answer(target: SocketAddr, member: &str) -> String {
    let mut client = Client::connect(target, (Ipv4Addr::LOCALHOST, 0)).await;
    client.send(&header(&[(KIND, member.as_bytes())])).await;
    client.get("/", &[]).await.origin()
}

/// All origins, and a member whose port nobody listens on.
fn overridden(origins: &[FixedOrigin], port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let mut all: Vec<Value> = origins.iter().map(|origin| member(origin, 1)).collect();
    all.push(json!({"endpoint": {"address": address}, "health_status": "UNHEALTHY"}));
    let turns = typed(
        "extensions.load_balancing_policies.round_robin.v3.RoundRobin",
        json!({}),
    );
    let turns =
        json!({"policies": [{"typed_extension_config": {"name": "r", "typed_config": turns}}]});
    let key = |path: &[&str]| {
        let path = path.iter().map(|key| json!({ "key": key }));
        let path: Vec<_> = path.collect();
        json!({"metadata": {"key": "envoy.filters.listener.proxy_protocol", "path": path}})
    };
    let sources = [
        json!({"header": "x-member"}),
        key(&["host", "inner"]),
        key(&["host"]),
    ];
    let policy = json!({"override_host_sources": sources, "fallback_policy": turns});
    let policy = typed_policy("override_host", "OverrideHost", policy);
    cluster("c", &json!([{"lb_endpoints": all}]), &policy)
}

/// One for streams and one for requests, both with a filter that makes metadata.
fn listeners(streams: u16, requests: u16) -> [Value; 2] {
    let stream = json!({"stat_prefix": "t", "cluster": "c", "max_connect_attempts": 2});
    let stream = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", stream);
    let route = json!([{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]);
    let announced = json!({
        "rules": [{"tlv_type": KIND, "on_tlv_present": {"key": "host"}}],
        "allow_requests_without_proxy_protocol": true,
    });
    let announced = typed(
        "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        announced,
    );
    let mut listeners = [
        listener(streams, &stream),
        listener(requests, &manager(&route, &json!({}))),
    ];
    for listener in &mut listeners {
        listener["listener_filters"] = json!([{"name": "p", "typed_config": announced}]);
    }
    listeners
}
