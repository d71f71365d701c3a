//! Retry policies and timeouts of routes and virtual hosts.

use std::time::Duration;

use http::HeaderName;
use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::route::decode;
use super::route::forward;
use super::route::forwarding;
use crate::config::endpoint::Traits;
use crate::config::limits;
use crate::config::retry::BackOff;
use crate::config::retry::HedgeAfter;
use crate::config::retry::RateLimitedBackOff;
use crate::config::retry::ResetHeader;
use crate::config::retry::RetryOn;
use crate::config::retry::RetryPolicy;
use crate::config::route::GrpcTimeout;
use crate::config::route::StreamDuration;

const PREVIOUS_HOSTS: &str =
    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
const CANARIES: &str =
    "type.googleapis.com/envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate";

const METADATA: &str =
    "type.googleapis.com/envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig";
const PRIORITIES: &str = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";

fn policy(json: Value) -> RetryPolicy {
    let retries = forward(json!({"retry_policy": json})).retries;
    let policy = retries.policy.expect("there is one");
    RetryPolicy::clone(&policy)
}

#[test]
fn members_to_be_avoided() {
    let avoid = |predicates: Value| policy(json!({"retry_host_predicate": predicates})).avoid;
    let labels = json!({"filter_metadata": {"envoy.lb": {"stage": "new", "weight": 3}}});
    let found = avoid(json!([
        {"name": "c", "typed_config": {"@type": CANARIES}},
        {"name": "m", "typed_config": {"@type": METADATA, "metadata_match": labels}},
        {"name": "n", "typed_config": {"@type": METADATA}},
    ]));
    assert!(found.canaries && !found.previous_hosts && found.minds_traits());
    let traits = |list: &[(&str, &[&str])]| -> Traits {
        let one = |(name, texts): &(&str, &[&str])| {
            let texts = texts.iter().map(|text| Box::from(*text));
            (Box::from(*name), texts.collect())
        };
        list.iter().map(one).collect()
    };
    let new: (&str, &[&str]) = ("stage", &["\"new\""]);
    let cases = [
        (traits(&[new]), false),
        (traits(&[new, ("weight", &["3.0"])]), true),
        (
            traits(&[new, ("weight", &["2.0", "3.0", "[2.0,3.0]"]), ("x", &["1"])]),
            true,
        ),
        (traits(&[("canary", &["true"])]), true),
        (traits(&[("canary", &["\"true\""])]), false),
    ];
    for (traits, wanted) in cases {
        assert_eq!(found.has(Some(&traits)), wanted, "{traits:?}");
    }
    assert!(!found.has(None));
}

#[test]
fn policies() {
    assert!(forward(json!({})).retries.policy.is_none());
    assert_eq!(policy(json!({})), RetryPolicy::default());
    let predicate = json!({"name": "p", "typed_config": {"@type": PREVIOUS_HOSTS}});
    let full = policy(json!({
        "retry_on": "5xx, reset,unavailable",
        "num_retries": 7,
        "per_try_timeout": "1s",
        "per_try_idle_timeout": "0s",
        "retry_host_predicate": [predicate],
        "host_selection_retry_max_attempts": "9",
        "retriable_status_codes": [404, 418],
        "retriable_headers": [{"name": "x-a"}],
        "retriable_request_headers": [{"name": ":method", "exact_match": "GET"}],
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"},
        "rate_limited_retry_back_off": {"reset_headers": [
            {"name": "Retry-After"}, {"name": "x-until", "format": "UNIX_TIMESTAMP"}]},
    }));
    let on = RetryOn::SERVER_ERROR
        .and(RetryOn::RESET)
        .and(RetryOn::GRPC_UNAVAILABLE);
    assert_eq!((full.on, full.retries), (on, 7));
    assert_eq!(full.per_try_timeout, Some(Duration::from_secs(1)));
    assert_eq!(full.per_try_idle_timeout, None);
    assert_eq!((full.avoid.previous_hosts, full.host_attempts), (true, 9));
    assert_eq!(full.status_codes, [404, 418]);
    assert_eq!((full.headers.len(), full.request_headers.len()), (1, 1));
    let back_off = BackOff {
        base: Duration::from_millis(100),
        max: Duration::from_secs(2),
    };
    assert_eq!(full.back_off, back_off);
    let header = |name, is_time| ResetHeader {
        name: HeaderName::from_static(name),
        is_time,
    };
    let rate_limited = RateLimitedBackOff {
        headers: vec![header("retry-after", false), header("x-until", true)],
        max: Duration::from_secs(300),
    };
    assert_eq!(full.rate_limited, Some(rate_limited));
    let tenfold = policy(json!({"retry_back_off": {"base_interval": "0.0001s"}})).back_off;
    assert_eq!(tenfold.base, Duration::from_millis(1));
    assert_eq!(tenfold.max, Duration::from_millis(10));
}

#[test]
fn mistakes_in_policies() {
    let base = |change: Value| forwarding(json!({"retry_policy": change}));
    let at = |field: &str| format!("virtual_hosts[0].routes[0].route.retry_policy.{field}");
    let predicate = |kind: &str| json!({"retry_host_predicate": [{"name": "p", "typed_config": {"@type": kind}}]});
    let priority = |every: i32| {
        let config = json!({"@type": PRIORITIES, "update_frequency": every});
        json!({"retry_priority": {"name": "p", "typed_config": config}})
    };
    check_table(
        &base,
        &decode,
        &[
            (
                json!({"retry_on": "5xx,x"}),
                &format!("warn {}", at("retry_on")),
            ),
            (
                json!({"retry_on": "http3-post-connect-failure"}),
                &format!("warn {}", at("retry_on")),
            ),
            (
                json!({"retry_back_off": {}}),
                &at("retry_back_off.base_interval"),
            ),
            (
                json!({"retry_back_off": {"base_interval": "0s"}}),
                &at("retry_back_off.base_interval"),
            ),
            (
                json!({"retry_back_off": {"base_interval": "2s", "max_interval": "1s"}}),
                &at("retry_back_off.max_interval"),
            ),
            (
                json!({"rate_limited_retry_back_off": {}}),
                &at("rate_limited_retry_back_off.reset_headers"),
            ),
            (
                json!({"host_selection_retry_max_attempts": -1}),
                &at("host_selection_retry_max_attempts"),
            ),
            (predicate(PREVIOUS_HOSTS), "ok"),
            (predicate(CANARIES), "ok"),
            (
                predicate(PRIORITIES),
                &at("retry_host_predicate[0].typed_config"),
            ),
            (
                json!({"retry_host_predicate": [{"name": "p"}]}),
                &at("retry_host_predicate[0].typed_config"),
            ),
            (
                json!({"retry_priority": {"name": "p"}}),
                &at("retry_priority.typed_config"),
            ),
            (
                json!({"retry_priority": {"name": "p", "typed_config": {"@type": PREVIOUS_HOSTS}}}),
                &at("retry_priority.typed_config"),
            ),
            (priority(1), "ok"),
            (
                priority(0),
                &at("retry_priority.typed_config.update_frequency"),
            ),
            (
                json!({"retriable_status_codes": [70_000]}),
                &format!("warn {}", at("retriable_status_codes[0]")),
            ),
        ],
    );
}

#[test]
fn attempts_beside_others() {
    let hedges = |json: Value| forward(json).retries.hedges_on_per_try_timeout;
    assert!(!hedges(json!({})));
    let on = json!({"hedge_policy": {"hedge_on_per_try_timeout": true}});
    assert!(hedges(on.clone()));
    let of_host = |action: Value| {
        let mut table = forwarding(action);
        table["virtual_hosts"][0]["hedge_policy"] = on["hedge_policy"].clone();
        match super::route::only_route(table).action {
            crate::config::route::Action::Forward(forward) => {
                forward.retries.hedges_on_per_try_timeout
            }
            _ => panic!("it forwards"),
        }
    };
    assert!(of_host(json!({})));
    assert!(!of_host(json!({"hedge_policy": {}})));
    let at = |field: &str| format!("virtual_hosts[0].routes[0].route.hedge_policy.{field}");
    let chance = json!({"additional_request_chance": {"numerator": 1}});
    check_table(
        &|change: Value| forwarding(json!({"hedge_policy": change})),
        &decode,
        &[
            (json!({"initial_requests": 1}), "ok"),
            (json!({"initial_requests": 0}), &at("initial_requests")),
            (
                json!({"initial_requests": 2}),
                &format!("warn {}", at("initial_requests")),
            ),
            (chance, &format!("warn {}", at("additional_request_chance"))),
        ],
    );
}

#[test]
fn attempts_beside_slow_ones() {
    const KIND: &str = "type.googleapis.com/weir.route.v1.HedgeAfterLatency";
    let table = |of_host: Option<Value>, of_route: Option<Value>| {
        let configs = |policy: Value| {
            let mut policy = policy;
            policy["@type"] = KIND.into();
            json!({"hedge": policy})
        };
        let mut table = forwarding(json!({}));
        let host = &mut table["virtual_hosts"][0];
        if let Some(policy) = of_host {
            host["typed_per_filter_config"] = configs(policy);
        }
        if let Some(policy) = of_route {
            host["routes"][0]["typed_per_filter_config"] = configs(policy);
        }
        table
    };
    let read = |of_host, of_route| match super::route::only_route(table(of_host, of_route)).action {
        crate::config::route::Action::Forward(forward) => {
            forward.retries.hedge_after.map(|after| *after)
        }
        _ => panic!("it forwards"),
    };
    assert_eq!(read(None, None), None);
    let usual = HedgeAfter::default();
    assert_eq!(read(Some(json!({})), None), Some(usual));
    let own = json!({"percentile": 99.5, "min_samples": 10, "min_delay": "0.02s",
        "budget_percent": 0.5, "unsafe_methods": true});
    let wanted = HedgeAfter {
        per_mille: 995,
        samples_min: 10,
        delay_min: Duration::from_millis(20),
        share_per_mille: 5,
        any_method: true,
    };
    assert_eq!(read(Some(json!({})), Some(own)), Some(wanted));
    let at = |field: &str| {
        format!("virtual_hosts[0].routes[0].typed_per_filter_config[\"hedge\"].{field}")
    };
    check_table(
        &|policy: Value| table(None, Some(policy)),
        &decode,
        &[
            (json!({"percentile": 49}), &at("percentile")),
            (json!({"percentile": "NaN"}), &at("percentile")),
            (json!({"min_samples": 9}), &at("min_samples")),
            (json!({"min_delay": "11s"}), &at("min_delay")),
            (json!({"budget_percent": 51}), &at("budget_percent")),
            (json!({"budget_percent": 0.1}), "ok"),
        ],
    );
}

#[test]
fn bodies_are_kept_within_bounds() {
    let kept = |json: Value| {
        let mut table = forwarding(json!({}));
        let route = &mut table["virtual_hosts"][0]["routes"][0];
        for (name, value) in json.as_object().into_iter().flatten() {
            route[name] = value.clone();
        }
        super::route::only_route(table)
    };
    let bytes = |json: Value| match kept(json).action {
        crate::config::route::Action::Forward(forward) => forward.retries.body_bytes_max,
        _ => panic!("it forwards"),
    };
    let usual = limits::CONNECTION_BUFFER_BYTES;
    assert_eq!(bytes(json!({})).bytes(usual), usual);
    let old = |size: usize| bytes(json!({"per_request_buffer_limit_bytes": size})).bytes(usual);
    assert_eq!((old(9), old(4 * usual)), (9, usual));
    let new = bytes(json!({"request_body_buffer_limit": 4 * usual}));
    assert_eq!(new.bytes(usual), 4 * usual);
}

#[test]
fn timeouts() {
    let seconds = Duration::from_secs;
    let plain = forward(json!({}));
    assert_eq!((plain.stream_duration, plain.grpc_timeout), (None, None));
    let duration = forward(json!({"max_stream_duration": {
        "max_stream_duration": "0s", "grpc_timeout_header_max": "3s",
        "grpc_timeout_header_offset": "1s",
    }}));
    let wanted = StreamDuration {
        max: Some(seconds(0)),
        grpc_header_max: Some(seconds(3)),
        grpc_header_offset: seconds(1),
    };
    assert_eq!(duration.stream_duration, Some(wanted));
    let old = forward(json!({"max_grpc_timeout": "2s", "grpc_timeout_offset": "1s"}));
    let wanted = GrpcTimeout {
        max: seconds(2),
        offset: seconds(1),
    };
    assert_eq!(old.grpc_timeout, Some(wanted));
}
