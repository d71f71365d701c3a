//! Members that get into trouble and out of it, and a proxy in front of two clusters of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bench::origin::{Origin, Reply};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Kind, told};

/// How long members take: between these, each answer as likely as another.
const SERVICE_MS: std::ops::Range<f64> = 3.0..8.0;

/// How many times as long one in trouble takes.
const SLOWNESS: f64 = 10.0;

/// How soon one fails.
const FAILS_AFTER: Duration = Duration::from_millis(1);

/// A message without bytes.
const MESSAGE: &[u8] = &[0; 5];

const POLICY: &str = "type.googleapis.com/weir.load_balancing.v1.LatencyWeightedRoundRobin";
const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const STREAMS: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const PROTOCOL: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A server, how often it was asked, and how it is.
pub(super) struct Member {
    origin: Origin,
    asked: Arc<AtomicU64>,
    is_slow: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
}

impl Member {
    pub(super) fn start(kind: Kind) -> Result<Self, String> {
        let member = Self {
            origin: Origin::start("member").map_err(told)?,
            asked: Arc::default(),
            is_slow: Arc::default(),
            fails: Arc::default(),
        };
        let asked = Arc::clone(&member.asked);
        let (is_slow, fails) = (Arc::clone(&member.is_slow), Arc::clone(&member.fails));
        member.origin.script(move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            if fails.load(Ordering::Relaxed) {
                return failure(kind).with_delay(FAILS_AFTER);
            }
            let slowness = if is_slow.load(Ordering::Relaxed) {
                SLOWNESS
            } else {
                1.0
            };
            let width = SERVICE_MS.end - SERVICE_MS.start;
            let millis = (SERVICE_MS.start + width * fastrand::f64()) * slowness;
            answer(kind).with_delay(Duration::from_secs_f64(millis / 1e3))
        });
        Ok(member)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.origin.addr()
    }

    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn set_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }

    pub(super) fn fail(&self) {
        self.fails.store(true, Ordering::Relaxed);
    }
}

fn answer(kind: Kind) -> Reply {
    match kind {
        Kind::Http | Kind::Tcp => Reply::body("ok"),
        Kind::Grpc => Reply::body(MESSAGE)
            .with_header("content-type", "application/grpc")
            .with_trailer("grpc-status", "0"),
    }
}

fn failure(kind: Kind) -> Reply {
    match kind {
        Kind::Http | Kind::Tcp => Reply::status(StatusCode::SERVICE_UNAVAILABLE),
        Kind::Grpc => Reply::status(StatusCode::OK)
            .with_header("content-type", "application/grpc")
            .with_header("grpc-status", "14"),
    }
}

/// A listener and a cluster of its own for each port.
pub(super) fn bootstrap(
    kind: Kind,
    is_plain: bool,
    clusters: &[(u16, &[SocketAddr]); 2],
) -> String {
    let listeners = clusters.iter().map(|(port, _)| listener(kind, *port));
    let listeners: Vec<Value> = listeners.collect();
    let clusters = clusters
        .iter()
        .map(|(port, members)| cluster((kind, is_plain), *port, members));
    let clusters: Vec<Value> = clusters.collect();
    let resources = json!({"listeners": listeners, "clusters": clusters});
    format!("static_resources: {resources}\n")
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn listener(kind: Kind, port: u16) -> Value {
    let filter = match kind {
        Kind::Http | Kind::Grpc => manager(port),
        Kind::Tcp => json!({"@type": STREAMS, "stat_prefix": "tcp", "cluster": port.to_string()}),
    };
    json!({
        "name": port.to_string(),
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "filter", "typed_config": filter}]}],
    })
}

fn manager(port: u16) -> Value {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": port.to_string()}}]);
    json!({
        "@type": MANAGER,
        "stat_prefix": "http",
        "generate_request_id": false,
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
        "route_config": {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    })
}

fn cluster((kind, is_plain): (Kind, bool), port: u16, members: &[SocketAddr]) -> Value {
    let members = members
        .iter()
        .map(|member| json!({"endpoint": {"address": address(member.port())}}));
    let members: Vec<Value> = members.collect();
    let policy = json!({"name": "latency", "typed_config": {"@type": POLICY, "plain": is_plain}});
    let mut cluster = json!({
        "name": port.to_string(),
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_balancing_policy": {"policies": [{"typed_extension_config": policy}]},
        "load_assignment": {"cluster_name": port.to_string(), "endpoints": [{"lb_endpoints": members}]},
    });
    if kind == Kind::Grpc {
        let http2 =
            json!({"@type": PROTOCOL, "explicit_http_config": {"http2_protocol_options": {}}});
        let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({name: http2});
    }
    cluster
}
