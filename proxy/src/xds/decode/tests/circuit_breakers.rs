//! `Cluster.circuit_breakers`.

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster::cluster;
use super::cluster::decode;
use super::cluster::valid;
use super::route::forward;
use crate::config::CircuitBreakers;
use crate::config::circuit_breakers::Priority;
use crate::config::circuit_breakers::RetryBudget;
use crate::config::circuit_breakers::Thresholds;

fn of(thresholds: Value) -> Value {
    json!({"circuit_breakers": {"thresholds": thresholds}})
}

#[test]
fn who_says_nothing_has_the_defaults_of_envoy() {
    let default = CircuitBreakers::default();
    assert_eq!(valid(json!({})).circuit_breakers, default);
    assert_eq!(
        valid(json!({"circuit_breakers": {}})).circuit_breakers,
        default
    );
    assert_eq!(valid(of(json!([{}]))).circuit_breakers, default);
    let limits = default.high;
    let numbers = (
        limits.connections_max,
        limits.pending_max,
        limits.requests_max,
        limits.retries_max,
    );
    assert_eq!(numbers, (1024, 1024, 1024, 3));
}

#[test]
fn retries_have_a_limit_or_a_budget_by_priority() {
    let read = valid(of(json!([
        {"priority": "HIGH", "max_retries": 7},
        {"retry_budget": {"budget_percent": {"value": 12.5}, "min_retry_concurrency": 0,
            "budget_interval": "0.5s"}},
        {"priority": "HIGH", "max_retries": 8},
    ])));
    let budget = RetryBudget {
        percent: 12.5,
        retries_min: 0,
        window: Some(std::time::Duration::from_millis(500)),
    };
    assert_eq!(
        read.circuit_breakers.of(Priority::Default).retry_budget,
        Some(budget)
    );
    let high = Thresholds {
        retries_max: 7,
        ..Thresholds::default()
    };
    assert_eq!(read.circuit_breakers.of(Priority::High), &high);
    let empty = valid(of(json!([{"retry_budget": {}}])));
    let budget = empty.circuit_breakers.default.retry_budget;
    assert_eq!(budget, Some(RetryBudget::default()));
}

#[test]
fn every_limit_is_read() {
    let read = valid(json!({"circuit_breakers": {
        "thresholds": [{
            "max_connections": 1, "max_pending_requests": 2, "max_requests": 3, "max_retries": 4,
            "track_remaining": true,
        }],
        "per_host_thresholds": [{"priority": "HIGH", "max_connections": 5}, {}],
    }}));
    let default = Thresholds {
        connections_max: 1,
        pending_max: 2,
        requests_max: 3,
        retries_max: 4,
        retry_budget: None,
        host_connections_max: None,
        tracks_remaining: true,
    };
    let high = Thresholds {
        host_connections_max: Some(5),
        ..Thresholds::default()
    };
    let expected = CircuitBreakers { default, high };
    assert_eq!(read.circuit_breakers, expected);
}

#[test]
fn routes_choose_by_priority() {
    assert_eq!(forward(json!({})).priority, Priority::Default);
    assert_eq!(
        forward(json!({"priority": "HIGH"})).priority,
        Priority::High
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_its_path() {
    let first = "circuit_breakers.thresholds[0]";
    let host = "circuit_breakers.per_host_thresholds[0]";
    let per_host = |limits: Value| json!({"circuit_breakers": {"per_host_thresholds": [limits]}});
    check_table(
        &cluster,
        &decode,
        &[
            (of(json!([{"priority": 7}])), &*format!("{first}.priority")),
            (
                of(json!([{"max_connection_pools": 3}])),
                &format!("{first}.max_connection_pools"),
            ),
            (
                of(json!([{"retry_budget": {"budget_percent": {"value": 100.5}}}])),
                &format!("{first}.retry_budget.budget_percent"),
            ),
            (
                of(json!([{"retry_budget": {"budget_percent": {"value": "NaN"}}}])),
                &format!("{first}.retry_budget.budget_percent"),
            ),
            (
                of(json!([{"retry_budget": {}, "max_retries": 3}])),
                &format!("warn {first}.max_retries"),
            ),
            (
                per_host(json!({"max_requests": 3})),
                &format!("{host}.max_requests"),
            ),
            (
                per_host(json!({"track_remaining": true})),
                &format!("{host}.track_remaining"),
            ),
        ],
    );
}
