//! Members that say how busy they are: shares follow their load reports, in every form and place in which
//! they come.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::origin::Seen;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use serde_json::Value;
use serde_json::json;

use super::ORIGIN;
use super::client::Client;
use super::cluster;
use super::listener;
use super::typed_policy;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// Requests among which shares are counted.
const REQUESTS: usize = 240;

/// Members take turns: a share hangs on chance only where turns begin, and where a weight has just come.
const TOLERANCE: f64 = 0.03;

/// Members of every cluster.
const MEMBERS: usize = 4;

/// A cluster: what each member says, and which shares follow.
struct Case {
    name: &'static str,
    /// Policy's fields besides its times.
    config: fn() -> Value,
    /// A field and its value; none if the member says nothing.
    says: [Option<(&'static str, &'static str)>; MEMBERS],
    in_trailers: bool,
    shares: [f64; MEMBERS],
}

const FIELD: &str = "endpoint-load-metrics";
const BINARY: &str = "endpoint-load-metrics-bin";

const fn text(value: &'static str) -> Option<(&'static str, &'static str)> {
    Some((FIELD, value))
}

/// `rps_fractional` 400, `cpu_utilization` 1.
const BASE64_400: &str = "CQAAAAAAAPA/MQAAAAAAAHlA";

const CASES: [Case; 6] = [
    Case {
        name: "forms",
        config: || json!({}),
        says: [
            text("TEXT rps_fractional:50,cpu_utilization:0.5"),
            text(r#"JSON {"rps_fractional": 100, "cpuUtilization": 0.5}"#),
            text("TEXT cpu_utilization:0.25, application_utilization:0.5,rps_fractional:150"),
            Some((BINARY, BASE64_400)),
        ],
        in_trailers: false,
        shares: [0.1, 0.2, 0.3, 0.4],
    },
    Case {
        name: "errors",
        config: || json!({"error_utilization_penalty": 2.0}),
        says: [
            text("TEXT rps_fractional:100,cpu_utilization:0.5,eps:25"), // 100 / (0.5 + 0.5)
            text("TEXT rps_fractional:100,cpu_utilization:0.5"),
            text("TEXT rps_fractional:150,cpu_utilization:0.5"),
            text("BIN CQAAAAAAAPA/MQAAAAAAAHlA"),
        ],
        in_trailers: false,
        shares: [0.1, 0.2, 0.3, 0.4],
    },
    Case {
        name: "named",
        config: || json!({"metric_names_for_computing_utilization": ["named_metrics.disk", "mem_utilization"]}),
        says: [
            text("TEXT rps_fractional:100,cpu_utilization:0.1,named_metrics.disk:1"),
            text(
                "TEXT rps_fractional:100,application_utilization:0.1,mem_utilization:0.5,named_metrics.disk:0.2",
            ),
            text("TEXT rps_fractional:150,mem_utilization:0.5,named_metrics.cpu:2"),
            text("TEXT rps_fractional:100,application_utilization:0.25,named_metrics.disk:0"),
        ],
        in_trailers: false,
        shares: [0.1, 0.2, 0.3, 0.4],
    },
    Case {
        // Who says nothing of use has the median: of 100, 200 and 300.
        name: "nonsense",
        config: || json!({}),
        says: [
            text("TEXT rps_fractional:50,cpu_utilization:0.5"),
            text("TEXT rps_fractional:100,cpu_utilization:nan"),
            text("TEXT rps_fractional:100,cpu_utilization:0.5"),
            text("TEXT rps_fractional:150,cpu_utilization:0.5"),
        ],
        in_trailers: false,
        shares: [0.125, 0.25, 0.25, 0.375],
    },
    Case {
        name: "silent",
        config: || json!({}),
        says: [
            None,
            text("rps_fractional:100,cpu_utilization:0.5"),
            text("TEXT rps_fractional:0,cpu_utilization:0.5"),
            text("TEXT rps_fractional:100"),
        ],
        in_trailers: false,
        shares: [0.25; MEMBERS],
    },
    Case {
        name: "trailers",
        config: || json!({}),
        says: [
            text("TEXT rps_fractional:50,cpu_utilization:0.5"),
            text("TEXT rps_fractional:100,cpu_utilization:0.5"),
            text("TEXT rps_fractional:150,cpu_utilization:0.5"),
            Some((BINARY, BASE64_400)),
        ],
        in_trailers: true,
        shares: [0.1, 0.2, 0.3, 0.4],
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_follow_what_members_report() {
    if !envoy_is_there() {
        return;
    }
    let origins: Vec<Origin> = (0..MEMBERS)
        .map(|place| Origin::start(&place.to_string()).expect("a free port"))
        .collect();
    for (place, origin) in origins.iter().enumerate() {
        origin.script(move |seen| reply(place, seen));
    }
    let clusters: Vec<Value> = CASES.iter().map(|case| of(case, &origins)).collect();
    let route = |case: &Case| {
        let path = format!("/{}", case.name);
        json!({"match": {"path": path}, "route": {"cluster": case.name}})
    };
    let routes: Value = CASES.iter().map(route).collect();
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), &manager(&routes, &json!({})));
    let bootstrap = bootstrap(&[listener], &clusters);
    let look = || async {
        for case in &CASES {
            become_shares(ports[0].addr(), case).await;
        }
    };
    Box::pin(of_both(&bootstrap, &ports, look)).await;
}

/// Waits until members have the shares that follow, in two rounds one after the other.
async fn become_shares(target: SocketAddr, case: &Case) {
    let was_near = Cell::new(false);
    let found = until(|| async {
        let shares = shares(target, case.name).await;
        let pairs = shares.iter().zip(case.shares);
        let far = pairs.map(|(found, wanted)| (found - wanted).abs());
        let is_near = far.fold(0.0, f64::max) < TOLERANCE;
        if was_near.replace(is_near) && is_near {
            return Ok(());
        }
        let (name, wanted) = (case.name, case.shares);
        Err(format!("{name}: {shares:?}, wanted {wanted:?}"))
    });
    found.await.expect("shares follow the reports");
}

async fn shares(target: SocketAddr, name: &str) -> [f64; MEMBERS] {
    let mut client = Client::connect(target, (Ipv4Addr::LOCALHOST, 0)).await;
    let mut shares = [0.0; MEMBERS];
    for _ in 0..REQUESTS {
        let head = client.get(&format!("/{name}"), &[]).await;
        let place: usize = head.origin().parse().expect("a member answers");
        shares[place] += 1.0 / REQUESTS as f64;
    }
    shares
}

fn reply(place: usize, seen: &Seen) -> Reply {
    let mut reply = Reply::body("hello");
    let add = |fields: &mut HeaderMap, name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value).expect("a value");
        fields.insert(HeaderName::from_static(name), value);
    };
    add(&mut reply.headers, ORIGIN, &place.to_string());
    let case = CASES
        .iter()
        .find(|case| seen.path == format!("/{}", case.name));
    let Some(case) = case else {
        return reply;
    };
    let Some((name, value)) = case.says[place] else {
        return reply;
    };
    if case.in_trailers {
        add(&mut reply.headers, "content-length", "5");
        add(reply.trailers.get_or_insert_default(), name, value);
    } else {
        add(&mut reply.headers, name, value);
    }
    reply
}

fn of(case: &Case, origins: &[Origin]) -> Value {
    let member = |origin: &Origin| {
        let port = origin.addr().port();
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        // What is configured does not count.
        json!({"endpoint": {"address": address}, "load_balancing_weight": 1 + port % 7})
    };
    let members: Value = origins.iter().map(member).collect();
    let mut config = (case.config)();
    config["blackout_period"] = json!("0s");
    config["weight_update_period"] = json!("0.1s");
    let (package, name) = (
        "client_side_weighted_round_robin",
        "ClientSideWeightedRoundRobin",
    );
    let mut more = typed_policy(package, name, config);
    if case.in_trailers {
        more["http2_protocol_options"] = json!({});
    }
    cluster(case.name, &json!([{"lb_endpoints": members}]), &more)
}
