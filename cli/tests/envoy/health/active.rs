//! Members that are asked, over every protocol and with every fault.

use bench::origin::Origin;
use bench::origin::Reply;
use http::HeaderMap;
use http::HeaderValue;
use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use super::Both;
use super::cluster;
use super::member::Fault;
use super::member::Member;
use super::member::UP;
use crate::identity::manager;
use crate::identity::typed;
use crate::setting::envoy_is_there;

pub(super) const FAILED: &str = "/failed_active_hc";

/// Checks that are quick, though not so quick that a busy machine fails them.
pub(super) fn check(more: Value) -> Value {
    let mut check = json!({
        "timeout": "2s", "interval": "0.05s", "no_traffic_interval": "0.05s",
        "unhealthy_threshold": 2, "healthy_threshold": 2,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        check[name] = value.clone();
    }
    json!({ "health_checks": [check] })
}

pub(super) fn listener(port: u16, cluster: &str) -> Value {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]);
    let manager = manager(&routes, &json!({}));
    json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "filter", "typed_config": manager}]}],
    })
}

#[expect(
    clippy::too_many_lines,
    reason = "one walk of one member, step by step"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_asked_over_http_are_judged_alike() {
    if !envoy_is_there() {
        return;
    }
    let faults = [UP, Fault::Answers(500, ""), Fault::Down];
    let mut members = faults.map(Member::start);
    let ports = [0, 1, 2].map(|place| members[place].port());
    let check = check(json!({
        "timeout": "0.5s",
        "http_health_check": {
            "path": "/fit", "host": "asked.test",
            "expected_statuses": [{"start": 200, "end": 300}],
            "retriable_statuses": [{"start": 429, "end": 430}],
            "request_headers_to_add": [{"header": {"key": "x-asked", "value": "yes"}}],
        },
    }));
    let clusters = [cluster("asked", &ports, &check)];
    let both = Both::start(|port| listener(port, "asked"), &clusters).await;
    let excluded = "/failed_active_hc/excluded_via_immediate_hc_fail";
    let steps: [(&str, [Fault; 3], [&str; 3]); 11] = [
        ("start", faults, ["healthy", FAILED, FAILED]),
        ("repaired", [UP, UP, UP], ["healthy"; 3]),
        (
            "an answer that says no",
            [Fault::Answers(500, ""), UP, UP],
            [FAILED, "healthy", "healthy"],
        ),
        (
            "an answer that may be repeated",
            [UP, Fault::Answers(429, ""), UP],
            ["healthy", FAILED, "healthy"],
        ),
        (
            "degraded",
            [UP, UP, Fault::Answers(204, "x-envoy-degraded: true\r\n")],
            ["healthy", "healthy", "/degraded_active_hc"],
        ),
        (
            "too slow",
            [Fault::Hangs, UP, UP],
            ["/failed_active_hc/active_hc_timeout", "healthy", "healthy"],
        ),
        (
            "broken",
            [Fault::Resets, Fault::Resets, UP],
            [FAILED, FAILED, "healthy"],
        ),
        (
            "away, and out of the count",
            [
                Fault::Down,
                UP,
                Fault::Answers(503, "x-envoy-immediate-health-check-fail: true\r\n"),
            ],
            [FAILED, "healthy", excluded],
        ),
        ("all gone", [Fault::Down; 3], [FAILED, FAILED, excluded]),
        (
            "no HTTP",
            [Fault::Says("what?\r\n\r\n"), UP, Fault::Down],
            [FAILED, "healthy", excluded],
        ),
        ("all back", [UP; 3], ["healthy"; 3]),
    ];
    for (what, faults, wanted) in steps {
        for (member, fault) in members.iter_mut().zip(faults) {
            member.set(fault);
        }
        let wanted: Vec<_> = ports.into_iter().zip(wanted).collect();
        both.say(what, "asked", &wanted).await;
    }
    both.stop().await;
    for (asker, count) in asked(&members[0].heads()) {
        assert!(
            count > 0,
            "{asker} asked otherwise: {:?}",
            members[0].heads()
        );
    }
}

/// How often each asked as it should.
fn asked(heads: &[String]) -> [(&'static str, usize); 2] {
    ["Envoy/HC", "Weir/HC"].map(|asker| {
        let is_whole = |head: &&String| {
            let head = head.to_ascii_lowercase();
            let fields = ["host: asked.test", "x-asked: yes"];
            head.starts_with("get /fit http/1.1\r\n")
                && fields.iter().all(|field| head.contains(field))
                && head.contains(&format!("user-agent: {}", asker.to_ascii_lowercase()))
        };
        (asker, heads.iter().filter(is_whole).count())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_asked_over_tcp_are_judged_alike() {
    if !envoy_is_there() {
        return;
    }
    let mut members = [Fault::Says("xpxonxg"), Fault::Says("pong"), Fault::Down].map(Member::start);
    let ports = [0, 1, 2].map(|place| members[place].port());
    let hex = |text: &str| {
        text.bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let pong = check(json!({"timeout": "0.5s", "tcp_health_check": {
        "send": {"text": hex("ping")},
        "receive": [{"text": hex("p")}, {"text": hex("ong")}],
    }}));
    let clusters = [
        cluster("pong", &ports, &pong),
        cluster("open", &ports, &check(json!({"tcp_health_check": {}}))),
    ];
    let both = Both::start(|port| listener(port, "pong"), &clusters).await;
    let [first, second, third] = ports;
    let slow = "/failed_active_hc/active_hc_timeout";
    let fine = "healthy";
    both.say(
        "start",
        "pong",
        &[(first, slow), (second, fine), (third, FAILED)],
    )
    .await;
    both.say(
        "start",
        "open",
        &[(first, fine), (second, fine), (third, FAILED)],
    )
    .await;
    members[1].set(Fault::Hangs);
    members[0].set(Fault::Says("pxong"));
    members[2].set(Fault::Resets);
    both.say(
        "other faults",
        "pong",
        &[(first, fine), (second, slow), (third, FAILED)],
    )
    .await;
    both.say(
        "connections are enough",
        "open",
        &[(first, fine), (second, fine), (third, fine)],
    )
    .await;
    both.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_asked_over_grpc_are_judged_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = ["a", "b", "c"].map(|name| Origin::start(name).expect("a free port"));
    let ports = [0, 1, 2].map(|place| origins[place].addr().port());
    let check = check(json!({"grpc_health_check": {
        "service_name": "shop.Cart", "authority": "asked.test",
        "initial_metadata": [{"header": {"key": "x-asked", "value": "yes"}}],
    }}));
    let mut asked = cluster("asked", &ports, &check);
    let http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    let options = "extensions.upstreams.http.v3.HttpProtocolOptions";
    asked["typed_extension_protocol_options"] =
        json!({ format!("envoy.{options}"): typed(options, http2) });
    let clusters = [asked];
    let (serving, other, fails) = (grpc(1, "0"), grpc(2, "0"), grpc(1, "14"));
    for (origin, reply) in origins.iter().zip([&serving, &other, &fails]) {
        origin.reply(reply.clone());
    }
    let both = Both::start(|port| listener(port, "asked"), &clusters).await;
    let say = |what, wanted: [&'static str; 3]| {
        let wanted: Vec<_> = ports.into_iter().zip(wanted).collect();
        let both = &both;
        async move { both.say(what, "asked", &wanted).await }
    };
    say("start", ["healthy", FAILED, FAILED]).await;
    let unimplemented = {
        let mut reply = Reply::status(StatusCode::OK);
        let fields = [("content-type", "application/grpc"), ("grpc-status", "12")];
        for (name, value) in fields {
            reply.headers.insert(name, HeaderValue::from_static(value));
        }
        reply
    };
    let replies = [
        &unimplemented,
        &serving,
        &Reply::status(StatusCode::BAD_GATEWAY),
    ];
    for (origin, reply) in origins.iter().zip(replies) {
        origin.reply(reply.clone());
    }
    say("other answers", [FAILED, "healthy", FAILED]).await;
    origins
        .iter()
        .for_each(|origin| origin.reply(serving.clone()));
    say("all serve", ["healthy"; 3]).await;
    both.stop().await;
    let bodies: Vec<_> = ["Envoy/HC", "Weir/HC"]
        .iter()
        .map(|asker| {
            let seen = origins[0].seen();
            let of = seen
                .iter()
                .find(|seen| seen.header("user-agent") == Some(*asker));
            let seen = of.unwrap_or_else(|| panic!("{asker} never asked"));
            let facts = (
                seen.path.clone(),
                seen.authority.clone(),
                seen.body_checksum,
            );
            let fields = ["x-asked", "te", "content-type", "grpc-timeout"];
            (
                facts,
                fields.map(|name| seen.header(name).map(str::to_owned)),
            )
        })
        .collect();
    assert_eq!(bodies[0], bodies[1]);
}

/// A `HealthCheckResponse`, and the status of the call.
fn grpc(serving: u8, status: &'static str) -> Reply {
    let mut reply = Reply::body(vec![0, 0, 0, 0, 2, 0x08, serving]);
    let kind = HeaderValue::from_static("application/grpc");
    reply.headers.insert("content-type", kind);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    reply.trailers = Some(trailers);
    reply
}

/// Its next check, which could say otherwise, is far away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_fails_itself_with_an_answer_is_unfit_at_once() {
    if !envoy_is_there() {
        return;
    }
    let member = Member::start(Fault::FailsItself);
    let port = member.port();
    let check = check(json!({
        "interval": "1000s", "no_traffic_interval": "1000s", "http_health_check": {"path": "/fit"},
    }));
    let clusters = [cluster("asked", &[port], &check)];
    let both = Both::start(|port| listener(port, "asked"), &clusters).await;
    both.say("start", "asked", &[(port, "healthy")]).await;
    for port in &both.ports {
        let request = http::Request::get("/");
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new());
        let answer = bench::client::http1(port.addr(), request.expect("valid")).await;
        assert_eq!(answer.expect("an answer").status, StatusCode::OK);
    }
    let unfit = "/failed_active_hc/excluded_via_immediate_hc_fail";
    both.say("asked", "asked", &[(port, unfit)]).await;
    both.stop().await;
}
