//! Session affinity and members that headers name: the same members, and the same bytes in cookies and
//! headers, so that proxies of both kinds can serve one client.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bench::origin::FixedOrigin;
use serde_json::Value;
use serde_json::json;

use super::client::Client;
use super::client::Head;
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

/// Requests of one kind, so that every member that may answer does: two take turns.
const TURNS: usize = 4;

/// Members of a cluster; the third is degraded, the fourth unfit.
const MEMBERS: usize = 4;

/// What was asked, with the number of the member it names, and the answers there were.
type Told = (String, Vec<String>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_meet_their_members_again() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let gone = free_ports(1);
    let clusters = clusters(&origins, gone[0].number());
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), &manager(&routes(), &filter()));
    let bootstrap = bootstrap(&[listener], &clusters);
    let look = || looked(ports[0].addr(), &origins, gone[0].number());
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    let mut differences = String::new();
    for (wanted, found) in wanted.iter().zip(&found) {
        if wanted != found {
            differences.push_str(&format!("{wanted:?}\n    {found:?}\n"));
        }
    }
    assert!(differences.is_empty(), "{differences}");
    let all: Vec<&String> = wanted.iter().flat_map(|(_, told)| told).collect();
    for seen in [
        "http/1.1 404 not found",
        "http/1.1 503 ",
        "in time",
        "never",
        "x-session",
        "it",
    ] {
        assert!(
            all.iter().any(|told| told.contains(seen)),
            "{seen}: {all:?}"
        );
    }
}

async fn looked(target: SocketAddr, origins: &[FixedOrigin], gone: u16) -> Vec<Told> {
    let mut client = Client::connect(target, (Ipv4Addr::LOCALHOST, 0)).await;
    let mut all = Vec::new();
    let addresses: Vec<String> = origins[..MEMBERS]
        .iter()
        .map(|origin| origin.addr().to_string())
        .chain([format!("127.0.0.1:{gone}"), "127.0.0.1:1".to_owned()])
        .collect();
    for path in PATHS {
        for (number, address) in addresses.iter().enumerate() {
            for (kind, name, value) in sessions(address) {
                let mut seen = BTreeSet::new();
                for _ in 0..TURNS {
                    let head = client.get(path, &[(name, value.clone())]).await;
                    seen.insert(told(&head, origins, address).join("; "));
                }
                all.push((
                    format!("{path} {kind} {number}"),
                    seen.into_iter().collect(),
                ));
            }
        }
    }
    all
}

/// A session of each kind with this member.
fn sessions(address: &str) -> Vec<(&'static str, &'static str, String)> {
    let message = |more: &[u8]| {
        let mut message = vec![10, u8::try_from(address.len()).expect("it is short")];
        message.extend_from_slice(address.as_bytes());
        message.extend_from_slice(more);
        STANDARD.encode(message)
    };
    let mut cut = message(&[]);
    cut.truncate(8);
    vec![
        ("cookie", "cookie", format!("a=b; s={}; c=d", message(&[]))),
        ("quoted", "cookie", format!("s=\"{}\"", message(&[]))),
        ("expired", "cookie", format!("s={}", message(&[16, 5]))),
        (
            "lasting",
            "cookie",
            format!("s={}", message(&[16, 255, 255, 255, 255, 127])),
        ),
        ("plain", "cookie", format!("s={}", STANDARD.encode(address))),
        ("cut", "cookie", format!("s={cut}")),
        ("header", "x-session", STANDARD.encode(address)),
        ("none", "x-session", "!".to_owned()),
        ("named", "x-members", format!("127.0.0.1:1, {address}")),
    ]
}

/// The answer without what is not the same each time: whether it was the member that was asked for, and
/// what the client is told of who it was, which must be true.
fn told(head: &Head, origins: &[FixedOrigin], asked: &str) -> Vec<String> {
    // Without an origin it is the status.
    let place: Option<usize> = head.origin().parse().ok();
    let place = place.filter(|place| *place < origins.len());
    let address = place.map(|place| origins[place].addr().to_string());
    let mut lines = head.told();
    for line in &mut lines {
        if line.starts_with("set-cookie: s=") {
            let mut values = head.values("set-cookie");
            let value = values.find(|value| value.starts_with("s="));
            *line = cookie(value.expect("it is there"), address.as_deref());
        } else if line.starts_with("x-session: ") {
            let value = head.values("x-session").next().expect("it is there");
            let text = STANDARD.decode(value).expect("it is base64");
            let text = String::from_utf8(text).expect("it is text");
            assert!(
                address.as_ref().is_none_or(|address| *address == text),
                "{text}"
            );
            *line = "x-session".to_owned();
        } else if line.starts_with("x-origin: ") {
            let is_it = address.as_deref() == Some(asked);
            *line = (if is_it { "it" } else { "another" }).to_owned();
        }
    }
    lines.sort_unstable();
    lines
}

/// What follows the value of the cookie, with its kind; it names the member, and ends when it should.
#[expect(
    clippy::disallowed_methods,
    reason = "the cookie ends at a second of the world"
)]
fn cookie(value: &str, address: Option<&str>) -> String {
    let mut parts = value.splitn(3, '"');
    let (name, text, more) = (parts.next(), parts.next(), parts.next());
    let message = STANDARD
        .decode(text.expect("a value"))
        .expect("it is base64");
    let length = usize::from(message[1]);
    let text = std::str::from_utf8(&message[2..2 + length]).expect("it is text");
    assert!(message[0] == 10 && address.is_none_or(|address| address == text));
    let rest = &message[2 + length..];
    let ends = match rest {
        [] => "never",
        [16, number @ ..] => {
            let number = number.iter().rev();
            let seconds = number.fold(0_u64, |all, byte| (all << 7) | u64::from(byte & 0x7f));
            let now = std::time::SystemTime::now()
                .duration_since(std::time::SystemTime::UNIX_EPOCH)
                .expect("it is later");
            assert!(seconds.abs_diff(now.as_secs() + 120) < 60, "{seconds}");
            "in time"
        }
        _ => "nowhere",
    };
    format!("{name:?} {more:?} {ends}")
}

const PATHS: [&str; 13] = [
    "/usual",
    "/off",
    "/lasting",
    "/lasting/below?q",
    "/lastingly",
    "/attributes",
    "/header",
    "/strict",
    "/strict-404",
    "/draining",
    "/gone",
    "/nobody",
    "/named",
];

/// Envoy knows states by their names.
fn state(kind: &str, name: &str, config: Value) -> Value {
    let state = format!("extensions.http.stateful_session.{kind}.v3.{name}");
    let name = format!("envoy.http.stateful_session.{kind}");
    json!({"session_state": {"name": name, "typed_config": typed(&state, config)}})
}

fn in_cookie(cookie: Value) -> Value {
    let config = json!({ "cookie": cookie });
    state("cookie", "CookieBasedSessionState", config)
}

fn in_header() -> Value {
    let config = json!({"name": "x-session"});
    state("header", "HeaderBasedSessionState", config)
}

/// The connection manager's own: a cookie for ever.
fn filter() -> Value {
    let name = "extensions.filters.http.stateful_session.v3.StatefulSession";
    let session = typed(name, in_cookie(json!({"name": "s"})));
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    json!({"http_filters": [
        {"name": "session", "typed_config": session},
        {"name": "router", "typed_config": router},
    ]})
}

fn routes() -> Value {
    let of_route = |config: Value| {
        let name = "extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute";
        json!({"session": typed(name, config)})
    };
    let own = |config: Value| of_route(json!({ "stateful_session": config }));
    let strict = |status: u32| {
        let mut config = in_header();
        config["strict"] = json!(true);
        config["status_on_strict_destination_not_found"] = json!(status);
        config
    };
    let lasting = in_cookie(json!({"name": "s", "ttl": "120s", "path": "/lasting"}));
    let attributes = json!([{"name": "SameSite", "value": "Lax"}, {"name": "Secure"}]);
    let attributes = in_cookie(json!({"name": "s", "ttl": "0s", "attributes": attributes}));
    let route = |path: &str, cluster: &str, config: Option<Value>| {
        let told = json!([
            {"header": {"key": "x-flags", "value": "%RESPONSE_FLAGS%"}},
            {"header": {"key": "set-cookie", "value": "other=1"}},
        ]);
        let mut route = json!({
            "match": {"prefix": path}, "route": {"cluster": cluster},
            "response_headers_to_add": told,
        });
        if let Some(config) = config {
            route["typed_per_filter_config"] = config;
        }
        route
    };
    json!([
        route("/usual", "all", None),
        route("/off", "all", Some(of_route(json!({"disabled": true})))),
        route("/lasting", "all", Some(own(lasting))),
        route("/attributes", "all", Some(own(attributes))),
        route("/header", "all", Some(own(in_header()))),
        route("/strict-404", "all", Some(own(strict(404)))),
        route("/strict", "all", Some(own(strict(0)))),
        route("/draining", "draining", Some(own(in_header()))),
        route("/gone", "gone", Some(own(in_header()))),
        route("/nobody", "nobody", Some(own(strict(404)))),
        route("/named", "named", Some(of_route(json!({"disabled": true})))),
    ])
}

fn clusters(origins: &[FixedOrigin], gone: u16) -> Vec<Value> {
    let members = |healths: [&str; MEMBERS]| -> Value {
        let member = |(origin, health): (&FixedOrigin, &str)| {
            let mut member = member(origin, 1);
            member["health_status"] = json!(health);
            member
        };
        origins.iter().zip(healths).map(member).collect()
    };
    let usual = members(["HEALTHY", "UNKNOWN", "DEGRADED", "UNHEALTHY"]);
    let draining = members(["HEALTHY", "DRAINING", "HEALTHY", "UNHEALTHY"]);
    let of = |members: &Value| json!([{ "lb_endpoints": members }]);
    let statuses = json!({"common_lb_config": {"override_host_status": {"statuses": ["DRAINING", "HEALTHY"]}}});
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": gone}});
    let turns = typed(
        "extensions.load_balancing_policies.round_robin.v3.RoundRobin",
        json!({}),
    );
    let turns =
        json!({"policies": [{"typed_extension_config": {"name": "r", "typed_config": turns}}]});
    let named = typed_policy(
        "override_host",
        "OverrideHost",
        json!({"override_host_sources": [{"header": "x-members"}], "fallback_policy": turns}),
    );
    let mut clusters = vec![
        cluster("all", &of(&usual), &json!({})),
        cluster("draining", &of(&draining), &statuses),
        cluster(
            "gone",
            &of(&json!([{"endpoint": {"address": address}}])),
            &json!({}),
        ),
        cluster("nobody", &json!([]), &json!({})),
        cluster("named", &of(&usual), &named),
    ];
    for cluster in &mut clusters {
        // So that those who are healthy take all that nobody is asked for.
        cluster["load_assignment"]["policy"] = json!({"overprovisioning_factor": 300});
    }
    clusters
}
