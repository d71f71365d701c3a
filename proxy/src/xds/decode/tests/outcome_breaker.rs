//! `OutcomeBreaker`, carried in the metadata of a cluster.

use std::time::Duration;

use http::HeaderValue;
use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster::cluster;
use super::cluster::decode;
use super::cluster::valid;
use super::merged;
use crate::config::OutcomeBreaker;
use crate::config::outcome_breaker::Fallback;
use crate::config::outcome_breaker::SlowRequests;

fn with(breaker: Value) -> Value {
    let url = "type.googleapis.com/weir.circuit_breaking.v1.OutcomeBreaker";
    let any = merged(json!({"@type": url}), breaker);
    json!({"metadata": {"typed_filter_metadata": {"weir.circuit_breaking.v1": any}}})
}

fn read(breaker: Value) -> OutcomeBreaker {
    let read = valid(with(breaker)).outcome_breaker;
    OutcomeBreaker::clone(&read.expect("there is one"))
}

#[test]
fn defaults_and_every_field_are_read() {
    assert_eq!(valid(json!({})).outcome_breaker, None);
    let least = OutcomeBreaker {
        error_count: Some(5),
        ..OutcomeBreaker::default()
    };
    assert_eq!(read(json!({"error_count": 5})), least);
    let all = json!({
        "slow_requests": {"slower_than": "0.2s"}, "error_percent": 25, "error_count": 8000,
        "window": "30s", "min_requests": 7, "open_time": "0.5s", "probes": 9, "per_host": true,
        "answer": {"status": 200, "body": "[]", "content_type": "application/json"},
    });
    let expected = OutcomeBreaker {
        slow: Some(SlowRequests {
            slower_than: Duration::from_millis(200),
            percent: 50.0,
        }),
        error_percent: Some(25.0),
        error_count: Some(8000),
        window: Duration::from_secs(30),
        requests_min: 7,
        open_time: Duration::from_millis(500),
        probes: 9,
        per_host: true,
        fallback: Some(Fallback::Answer {
            status: StatusCode::OK,
            body: "[]".into(),
            content_type: Some(HeaderValue::from_static("application/json")),
        }),
    };
    assert_eq!(read(all), expected);
    let elsewhere = read(json!({"error_count": 1, "cluster": "spare"}));
    assert_eq!(elsewhere.fallback, Some(Fallback::Cluster("spare".into())));
}

#[test]
fn what_makes_no_sense_is_refused_by_its_path() {
    let path = "metadata.typed_filter_metadata[\"weir.circuit_breaking.v1\"]";
    let at = |field: &str| format!("{path}.{field}");
    let one = |field: &str, value: Value| with(json!({"error_count": 1, field: value}));
    let other = json!({"metadata": {"typed_filter_metadata": {"weir.circuit_breaking.v1": {
        "@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s",
    }}}});
    check_table(
        &cluster,
        &decode,
        &[
            (with(json!({})), path),
            (other, path),
            (one("error_count", json!(0)), &at("error_count")),
            (one("error_count", json!(8001)), &at("error_count")),
            (one("error_percent", json!(0)), &at("error_percent")),
            (one("error_percent", json!(100.5)), &at("error_percent")),
            (one("error_percent", json!("NaN")), &at("error_percent")),
            (
                one("slow_requests", json!({})),
                &at("slow_requests.slower_than"),
            ),
            (
                one("slow_requests", json!({"slower_than": "0.0001s"})),
                &at("slow_requests.slower_than"),
            ),
            (
                one("slow_requests", json!({"slower_than": "1s", "percent": -1})),
                &at("slow_requests.percent"),
            ),
            (one("window", json!("0s")), &at("window")),
            (one("min_requests", json!(0)), &at("min_requests")),
            (one("open_time", json!("0s")), &at("open_time")),
            (one("probes", json!(0)), &at("probes")),
            (one("cluster", json!("")), &at("cluster")),
            (one("answer", json!({"status": 199})), &at("answer.status")),
            (
                one("answer", json!({"body": "x".repeat(4097)})),
                &at("answer.body"),
            ),
            (
                one("answer", json!({"content_type": "a\nb"})),
                &at("answer.content_type"),
            ),
            (
                json!({"metadata": {"filter_metadata": {"istio": {}}}}),
                "warn metadata.filter_metadata",
            ),
        ],
    );
}
