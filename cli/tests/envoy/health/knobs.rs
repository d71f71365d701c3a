//! Everything else that says how members are asked, and what is heard: other ports and addresses, bodies,
//! names, connections, HTTP/2.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bench::origin::Origin;
use bench::origin::Reply;
use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use super::Both;
use super::active::FAILED;
use super::active::check;
use super::active::listener;
use super::cluster;
use super::member::Fault;
use super::member::Member;
use super::member::UP;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;

pub(super) const FINE: &str = "healthy";
pub(super) const NO: Fault = Fault::Answers(500, "");
const HELLO: Fault = Fault::Says("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
const NAMED: Fault = Fault::Answers(200, "x-envoy-upstream-healthchecked-cluster: shop\r\n");

/// What is asked for.
pub(super) const PATH: &str = "/fit";

/// One member, and how it is asked.
struct Case {
    name: &'static str,
    /// What it does with all that comes to its own port.
    fault: Fault,
    /// In the check.
    check: Value,
    /// In the request of the check.
    http: Value,
    /// What it says of its checks.
    said: Value,
    wanted: &'static str,
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases(other: u16, down: u16) -> Vec<Case> {
    let case = |name, fault, check, http, said, wanted| Case {
        name,
        fault,
        check,
        http,
        said,
        wanted,
    };
    let none = || json!({});
    let receive = |hex: &str| json!({"receive": [{"text": hex}]});
    let address = |port: u16| {
        let address = json!({"address": "127.0.0.1", "port_value": port});
        json!({"address": {"socket_address": address}})
    };
    let service = json!({"service_name_matcher": {"exact": "shop"}});
    let post = json!({"method": "POST", "send": {"text": "6869"}});
    let once = || json!({"reuse_connection": false});
    vec![
        case(
            "alt-port",
            NO,
            json!({"alt_port": other}),
            none(),
            none(),
            FINE,
        ),
        case(
            "alt-port-down",
            UP,
            json!({"alt_port": down}),
            none(),
            none(),
            FAILED,
        ),
        case(
            "said-port",
            NO,
            none(),
            none(),
            json!({"port_value": other}),
            FINE,
        ),
        case(
            "said-port-first",
            NO,
            json!({"alt_port": down}),
            none(),
            json!({"port_value": other}),
            FINE,
        ),
        case("said-address", NO, none(), none(), address(other), FINE),
        case(
            "said-address-down",
            UP,
            none(),
            none(),
            address(down),
            FAILED,
        ),
        case(
            "said-host",
            UP,
            none(),
            none(),
            json!({"hostname": "said.test"}),
            FINE,
        ),
        case(
            "not-asked",
            NO,
            none(),
            none(),
            json!({"disable_active_health_check": true}),
            FINE,
        ),
        case("once", UP, once(), none(), none(), FINE),
        case("kept", UP, none(), none(), none(), FINE),
        case("hears", HELLO, none(), receive("6c6c"), none(), FINE),
        case(
            "hears-not",
            HELLO,
            none(),
            receive("6c6c6c"),
            none(),
            FAILED,
        ),
        case("posts", UP, once(), post, none(), FINE),
        case("heads", UP, none(), json!({"method": "HEAD"}), none(), FINE),
        case("shop", NAMED, none(), service.clone(), none(), FINE),
        case("no-shop", UP, none(), service, none(), FAILED),
        case(
            "edited",
            UP,
            none(),
            json!({
                "host": "asked.test",
                "request_headers_to_add": [
                    {"header": {"key": "x-twice", "value": "a"}},
                    {"header": {"key": "x-twice", "value": "b"}},
                ],
            }),
            none(),
            FINE,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_asked_in_the_same_way() {
    if !envoy_is_there() {
        return;
    }
    let (other, down) = (Member::start(UP), Member::start(Fault::Down));
    let cases = cases(other.port(), down.port());
    let members: Vec<Member> = cases.iter().map(|case| Member::start(case.fault)).collect();
    let of_case = |(case, member): (&Case, &Member)| {
        let mut http = json!({ "path": PATH });
        for (name, value) in case.http.as_object().into_iter().flatten() {
            http[name] = value.clone();
        }
        let mut more = case.check.clone();
        more["http_health_check"] = http;
        let mut cluster = cluster(case.name, &[member.port()], &check(more));
        let members = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"];
        members[0]["endpoint"]["health_check_config"] = case.said.clone();
        cluster
    };
    let clusters: Vec<Value> = cases.iter().zip(&members).map(of_case).collect();
    let both = Both::start(|port| listener(port, "kept"), &clusters).await;
    for (case, member) in cases.iter().zip(&members) {
        let wanted = [(member.port(), case.wanted)];
        if case.name.starts_with("alt-") {
            both.weir_says("asked", case.name, &wanted).await; // Envoy does not look there
        } else {
            both.say("asked", case.name, &wanted).await;
        }
    }
    // Several of each, so that one after the other is seen.
    for (case, member) in cases.iter().zip(&members) {
        let asked = until(|| async {
            let all = seen(member);
            let is_there = ["envoy/hc", "weir/hc"]
                .iter()
                .all(|asker| all.get(*asker).is_some_and(|asked| asked.count > 4));
            let is_elsewhere = ["said-port", "said-address", "not-asked"]
                .iter()
                .any(|name| case.name.starts_with(name));
            let is_done = match () {
                () if case.name.starts_with("alt-") => !all.contains_key("weir/hc"),
                () if is_elsewhere => all.is_empty(),
                () => is_there,
            };
            is_done.then_some(()).ok_or_else(|| format!("{all:?}"))
        });
        let asked = asked.await;
        assert!(asked.is_ok(), "{}: {asked:?}", case.name);
        let all = seen(member);
        let [envoy, weir] = ["envoy/hc", "weir/hc"].map(|asker| all.get(asker));
        if case.name.starts_with("alt-") {
            continue;
        }
        let heads = |asked: Option<&Asked>| asked.map(|asked| asked.heads.clone());
        assert_eq!(heads(envoy), heads(weir), "{}", case.name);
        for asked in [envoy, weir].into_iter().flatten() {
            let is_once = asked.connections == asked.count;
            let wanted = matches!(case.name, "once" | "posts");
            assert_eq!(is_once, wanted, "{}: {asked:?}", case.name);
        }
    }
    both.stop().await;
}

/// What one of both asked a member.
#[derive(Debug, Default)]
struct Asked {
    heads: BTreeSet<Vec<String>>,
    count: usize,
    connections: usize,
}

/// By who asks. The name of who does, and the order of fields, are each proxy's own.
fn seen(member: &Member) -> BTreeMap<String, Asked> {
    let mut all: BTreeMap<String, Asked> = BTreeMap::new();
    let mut connections = BTreeSet::new();
    for (connection, head) in member.asked() {
        let head = head.to_ascii_lowercase();
        let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
        lines.retain(|line| !line.is_empty() && line != "content-length: 0");
        let place = lines
            .iter()
            .position(|line| line.starts_with("user-agent: "));
        let Some(place) = place else {
            continue; // a body that was taken for a head
        };
        let asker = lines
            .remove(place)
            .trim_start_matches("user-agent: ")
            .to_owned();
        lines[1..].sort();
        let asked = all.entry(asker.clone()).or_default();
        asked.count += 1;
        asked.heads.insert(lines);
        asked.connections += usize::from(connections.insert((asker, connection)));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_asked_over_http2_are_judged_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = ["a", "b"].map(|name| Origin::start(name).expect("a free port"));
    let ports = origins.each_ref().map(|origin| origin.addr().port());
    let check = check(json!({"http_health_check": {
        "path": PATH, "host": "asked.test", "codec_client_type": "HTTP2",
        "request_headers_to_add": [{"header": {"key": "x-asked", "value": "yes"}}],
        "request_headers_to_remove": ["x-envoy-internal"],
    }}));
    let mut asked = cluster("asked", &ports, &check);
    let http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    let options = "extensions.upstreams.http.v3.HttpProtocolOptions";
    asked["typed_extension_protocol_options"] =
        json!({ format!("envoy.{options}"): typed(options, http2) });
    origins[0].reply(Reply::status(StatusCode::OK));
    origins[1].reply(Reply::status(StatusCode::SERVICE_UNAVAILABLE));
    let both = Both::start(|port| listener(port, "asked"), &[asked]).await;
    both.say("start", "asked", &[(ports[0], FINE), (ports[1], FAILED)])
        .await;
    origins[0].reply(Reply::status(StatusCode::SERVICE_UNAVAILABLE));
    origins[1].reply(Reply::status(StatusCode::OK));
    both.say("turned", "asked", &[(ports[0], FAILED), (ports[1], FINE)])
        .await;
    both.stop().await;
    let [envoy, weir] = ["Envoy/HC", "Weir/HC"].map(|asker| {
        let all = origins[0].seen();
        let of = all
            .iter()
            .find(|seen| seen.header("user-agent") == Some(asker));
        let seen = of.unwrap_or_else(|| panic!("{asker} never asked"));
        let mut fields = seen.headers.clone();
        fields.retain(|(name, _)| name != "user-agent");
        fields.sort();
        let place = (
            seen.authority.clone(),
            seen.scheme.clone(),
            seen.path.clone(),
        );
        (seen.method.clone(), place, seen.version.clone(), fields)
    });
    assert_eq!(envoy, weir);
    assert_eq!(weir.2, "HTTP/2.0");
}
