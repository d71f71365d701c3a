//! Health checks and outlier detection.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster::cluster;
use super::cluster::decode;
use super::cluster::valid;
use super::merged;
use crate::config::health::HealthCheck;
use crate::config::health::HttpProbe;
use crate::config::health::Probe;
use crate::config::health::Rule;
use crate::config::matcher::ResponseMatch;

fn check(change: Value) -> Value {
    let base = json!({
        "timeout": "1s", "interval": "10s", "unhealthy_threshold": 3, "healthy_threshold": 2,
    });
    json!({"health_checks": [merged(base, change)]})
}

fn http(change: Value) -> Value {
    check(json!({"http_health_check": merged(json!({"path": "/"}), change)}))
}

fn read(change: Value) -> HealthCheck {
    let check = valid(change).health.check.expect("there is one");
    HealthCheck::clone(&check)
}

fn probe(change: Value) -> HttpProbe {
    match read(http(change)).probe {
        Probe::Http(probe) => probe,
        other => panic!("{other:?}"),
    }
}

#[test]
fn waits_that_are_not_given_are_others() {
    let seconds = Duration::from_secs;
    let found = read(check(json!({"tcp_health_check": {}})));
    let waits = |check: &HealthCheck| {
        [
            check.no_traffic_interval,
            check.no_traffic_healthy_interval,
            check.unhealthy_interval,
            check.unhealthy_edge_interval,
            check.healthy_edge_interval,
        ]
    };
    assert_eq!(
        waits(&found),
        [
            seconds(60),
            seconds(60),
            seconds(10),
            seconds(10),
            seconds(10)
        ]
    );
    assert!(found.reuses_connection);
    let found = read(check(json!({
        "tcp_health_check": {}, "no_traffic_interval": "5s", "unhealthy_interval": "6s",
        "reuse_connection": false,
    })));
    assert_eq!(
        waits(&found),
        [seconds(5), seconds(5), seconds(6), seconds(6), seconds(10)]
    );
    assert!(!found.reuses_connection);
    assert_eq!(found.alpn, None);
    let tls = json!({"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    }});
    let options = json!({"alpn_protocols": ["a", "b"]});
    let checked = check(json!({"tcp_health_check": {}, "tls_options": options}));
    let checked = merged(cluster(checked), json!({"transport_socket": tls}));
    let found = decode(checked).expect("valid").value.health.check;
    let alpn = found.as_ref().and_then(|check| check.alpn.as_deref());
    assert_eq!(alpn, Some(&[b"a".to_vec(), b"b".to_vec()][..]));
}

#[test]
fn a_request_says_what_envoys_would() {
    let found = probe(json!({}));
    assert_eq!(&*found.host, "a", "the cluster's name");
    assert_eq!(found.method, http::Method::GET);
    assert_eq!(found.expected, [(200, 201)]);
    assert_eq!(found.response_bytes_max, 1024);
    let found = probe(json!({
        "host": "h", "method": "POST", "send": {"text": "6869"},
        "receive": [{"binary": "aGk="}], "expected_statuses": [{"start": 200, "end": 300}],
    }));
    assert_eq!((&*found.host, &found.body[..]), ("h", &b"hi"[..]));
    assert_eq!(found.receive, [b"hi"]);
    assert_eq!(found.expected, [(200, 300)]);
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn what_makes_no_sense_is_refused_by_its_path() {
    let at = |rest: &str| format!("health_checks[0].{rest}");
    let http_at = |rest: &str| at(&format!("http_health_check.{rest}"));
    let cases = [
        (http(json!({"path": "x"})), http_at("path")),
        (http(json!({"method": "CONNECT"})), http_at("method")),
        (http(json!({"send": {"text": "00"}})), http_at("send")),
        (
            http(json!({"receive": [{"text": "0"}]})),
            http_at("receive[0].text"),
        ),
        (
            http(json!({"receive": [{"text": "0x"}]})),
            http_at("receive[0].text"),
        ),
        (
            http(json!({"receive": [{"text": "0000"}], "response_buffer_size": 1})),
            http_at("receive"),
        ),
        (
            http(json!({"response_buffer_size": 1_000_000})),
            http_at("response_buffer_size"),
        ),
        (
            http(json!({"expected_statuses": [{"start": 99, "end": 200}]})),
            http_at("expected_statuses[0]"),
        ),
        (
            http(json!({"retriable_statuses": [{"start": 300, "end": 300}]})),
            http_at("retriable_statuses[0]"),
        ),
        (
            http(json!({"codec_client_type": "HTTP3"})),
            http_at("codec_client_type"),
        ),
        (check(json!({})), at("").trim_end_matches('.').to_owned()),
        (
            check(json!({"tcp_health_check": {}, "timeout": "0s"})),
            at("timeout"),
        ),
        (
            check(json!({"tcp_health_check": {}, "interval": "0.0001s"})),
            at("interval"),
        ),
        (
            check(json!({"custom_health_check": {"name": "redis"}})),
            at("custom_health_check"),
        ),
        (
            check(json!({"tcp_health_check": {}, "tls_options": {}})),
            format!("warn {}", at("tls_options")),
        ),
        (
            check(json!({"tcp_health_check": {}, "tls_options": {"alpn_protocols": [""]}})),
            at("tls_options.alpn_protocols[0]"),
        ),
        (
            check(json!({"tcp_health_check": {"send": {"text": "00"}}})),
            format!("warn {}", at("tcp_health_check.send")),
        ),
        (
            json!({"health_checks": [{"tcp_health_check": {}}]}),
            at("timeout"),
        ),
        (
            json!({"common_lb_config": {"ignore_new_hosts_until_first_hc": true}}),
            "warn common_lb_config.ignore_new_hosts_until_first_hc".to_owned(),
        ),
    ];
    for (change, expected) in cases {
        check_table(&cluster, &decode, &[(change, &expected)]);
    }
}

#[test]
fn outlier_detection_has_envoys_defaults() {
    let outlier = |change| valid(json!({ "outlier_detection": change })).health.outlier;
    assert_eq!(valid(json!({})).health.outlier, None);
    let found = outlier(json!({})).expect("it is there");
    let rule = |count, enforcing| Rule { count, enforcing };
    assert_eq!(found.consecutive_5xx, rule(5, 100));
    assert_eq!(found.consecutive_gateway, rule(5, 0));
    assert_eq!(found.consecutive_local_origin, rule(5, 100));
    assert_eq!(found.max_ejection_time, Duration::from_secs(300));
    assert!(found.check_unejects && !found.splits_local_origin);
    let long = outlier(json!({"base_ejection_time": "400s"})).expect("it is there");
    assert_eq!(long.max_ejection_time, Duration::from_secs(400));
}

#[test]
fn outlier_detection_is_refused_by_its_path() {
    let cases = [
        (json!({"max_ejection_percent": 101}), "max_ejection_percent"),
        (
            json!({"enforcing_success_rate": 101}),
            "enforcing_success_rate",
        ),
        (json!({"interval": "0s"}), "interval"),
        (
            json!({"max_ejection_time": "1s", "base_ejection_time": "2s"}),
            "max_ejection_time",
        ),
        (json!({"monitors": [{"name": "m"}]}), "monitors"),
    ];
    for (change, field) in cases {
        let expected = format!("outlier_detection.{field}");
        let change = json!({ "outlier_detection": change });
        check_table(&cluster, &decode, &[(change, &expected)]);
    }
}

/// HTTP options whose errors these are.
fn judged_by(errors: &Value) -> Value {
    json!({
        "outlier_detection": {},
        "typed_extension_protocol_options": {"http": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http_protocol_options": {}},
            "outlier_detection": {"error_matcher": errors},
        }},
    })
}

#[test]
fn what_is_an_error_is_said_of_the_head() {
    let header = json!({"http_response_headers_match": {"headers": [
        {"name": ":status", "string_match": {"prefix": "4"}},
    ]}});
    let both = json!({"and_match": {"rules": [header, {"not_match": {"any_match": true}}]}});
    let found = valid(judged_by(&both)).health.outlier;
    let errors = found.and_then(|outlier| outlier.errors.clone());
    let Some(ResponseMatch::All(parts)) = &errors else {
        panic!("{errors:?}");
    };
    assert!(matches!(&parts[0], ResponseMatch::Headers(headers) if headers.len() == 1));
    let always = Box::new(ResponseMatch::Always);
    assert_eq!(parts[1], ResponseMatch::Not(always));
    for (errors, field) in [
        (json!({}), "http_response_headers_match"),
        (json!({"or_match": {"rules": [header]}}), "or_match.rules"),
        (json!({"any_match": false}), "any_match"),
        (
            json!({"http_response_trailers_match": {"headers": []}}),
            "http_response_trailers_match",
        ),
    ] {
        let options = "typed_extension_protocol_options[\"http\"].outlier_detection";
        let expected = format!("{options}.error_matcher.{field}");
        check_table(&cluster, &decode, &[(judged_by(&errors), &expected)]);
    }
}
