//! Session affinity and members that requests name.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::cluster;
use super::cluster::valid;
use super::listener;
use super::listener::http;
use super::listener::only_manager;
use super::listener::router;
use super::merged;
use super::route;
use crate::config::endpoint::HealthStatus;
use crate::config::listener::HttpFilter;
use crate::config::load_balancing::HealthStatuses;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::NameSource;
use crate::config::session::SessionCookie;
use crate::config::session::SessionFilter;
use crate::config::session::SessionOverride;
use crate::config::session::SessionState;
use crate::config::session::StatefulSession;

const STATE: &str = "type.googleapis.com/envoy.extensions.http.stateful_session";
const FILTER: &str =
    "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession";

fn in_cookie(cookie: Value) -> Value {
    let any =
        json!({"@type": format!("{STATE}.cookie.v3.CookieBasedSessionState"), "cookie": cookie});
    json!({"session_state": {"name": "s", "typed_config": any}})
}

fn in_header(name: &str) -> Value {
    let any = json!({"@type": format!("{STATE}.header.v3.HeaderBasedSessionState"), "name": name});
    json!({"session_state": {"name": "s", "typed_config": any}})
}

fn filter(config: Value) -> Value {
    let any = merged(json!({ "@type": FILTER }), config);
    json!({"name": "f", "typed_config": any})
}

fn filters(list: Value) -> Value {
    json!({ "http_filters": list })
}

#[test]
fn the_filter_is_read() {
    let cookie = json!({
        "name": "c", "ttl": "90.7s", "path": "/p",
        "attributes": [{"name": "SameSite", "value": "Strict"}, {"name": "Secure"}],
    });
    let strict = json!({"strict": true, "status_on_strict_destination_not_found": 404});
    let config = merged(in_cookie(cookie), strict);
    let found = only_manager(filters(json!([filter(config), router()]))).http_filters;
    let cookie = SessionCookie {
        name: "c".into(),
        path: "/p".into(),
        ttl: Duration::from_secs(90),
        attributes: "; Max-Age=90; Path=/p; SameSite=Strict; Secure; HttpOnly".into(),
    };
    let expected = SessionFilter {
        name: "f".into(),
        disabled: false,
        config: Arc::new(StatefulSession {
            state: Some(SessionState::Cookie(cookie)),
            strict: Some(StatusCode::NOT_FOUND),
        }),
    };
    assert_eq!(found[0], HttpFilter::Session(expected));
    let off = merged(filter(in_header("X-S")), json!({"disabled": true}));
    let found = only_manager(filters(json!([off, router()]))).http_filters;
    let HttpFilter::Session(session) = &found[0] else {
        panic!("{found:?}")
    };
    let name = HeaderName::from_static("x-s");
    assert!(session.disabled);
    assert_eq!(session.config.state, Some(SessionState::Header(name)));
    assert_eq!(session.config.strict, None);
}

#[test]
fn sessions_without_sense_are_refused() {
    let at = |field: &str| {
        let typed = "filter_chains[0].filters[0].typed_config.http_filters";
        format!("{typed}{field}")
    };
    let one = |config: Value| filters(json!([filter(config), router()]));
    let state = "[0].typed_config.session_state.typed_config";
    let other = json!({"session_state": {"name": "s", "typed_config": {
        "@type": format!("{STATE}.envelope.v3.EnvelopeSessionState"), "header": {"name": "x"},
    }}});
    let two = json!([
        filter(json!({})),
        merged(filter(json!({})), json!({"name": "g"})),
        router()
    ]);
    let status = |strict: bool, status: u32| json!({"strict": strict, "status_on_strict_destination_not_found": status});
    let status_at = at("[0].typed_config.status_on_strict_destination_not_found");
    check_table(
        &http,
        &listener::decode,
        &[
            (one(json!({})), "ok"),
            (one(json!({"session_state": {"name": "s"}})), &at(state)),
            (one(other), &at(state)),
            (
                one(in_cookie(json!({}))),
                &at(&format!("{state}.cookie.name")),
            ),
            (
                one(in_cookie(json!({"name": "c\n"}))),
                &at(&format!("{state}.cookie.name")),
            ),
            (
                one(in_cookie(json!({"name": "c", "path": "/\r"}))),
                &at(&format!("{state}.cookie.path")),
            ),
            (one(in_cookie(Value::Null)), &at(&format!("{state}.cookie"))),
            (one(in_header("")), &at(&format!("{state}.name"))),
            (one(in_header("a b")), &at(&format!("{state}.name"))),
            (one(status(true, 99)), &status_at),
            (one(status(true, 600)), &status_at),
            (one(status(false, 404)), &format!("warn {status_at}")),
            (
                one(json!({"stat_prefix": "p"})),
                &format!("warn {}", at("[0].typed_config.stat_prefix")),
            ),
            (filters(two), &at("")),
            (filters(json!([filter(json!({}))])), &at("[0]")),
        ],
    );
}

fn per_route(config: Value) -> Value {
    let any = merged(json!({"@type": format!("{FILTER}PerRoute")}), config);
    json!({"typed_per_filter_config": {"f": any}})
}

#[test]
fn routes_say_something_of_the_filter() {
    let session = |change: Value| {
        let table = json!({"name": "t", "virtual_hosts": [
            {"name": "h", "domains": ["*"], "routes": [
                merged(json!({"match": {"prefix": "/"}, "route": {"cluster": "c"}}), change)
            ]}
        ]});
        let decoded = route::decode(table).expect("valid").value;
        decoded.virtual_hosts[0].routes[0].sessions.clone()
    };
    let off = session(per_route(json!({"disabled": true})));
    assert_eq!(*off, [("f".into(), SessionOverride::Disabled)]);
    let own = session(per_route(json!({"stateful_session": in_header("x")})));
    assert!(matches!(&own[0].1, SessionOverride::Session(config) if config.state.is_some()));
    let wrapped = json!({"typed_per_filter_config": {"f": {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "config": per_route(json!({"disabled": true}))["typed_per_filter_config"]["f"],
    }}});
    assert_eq!(*session(wrapped), *off);
    let table = |change: Value| merged(json!({"name": "t"}), change);
    let at = "typed_per_filter_config[\"f\"]";
    check_table(
        &table,
        &route::decode,
        &[
            (per_route(json!({})), at),
            (
                per_route(json!({"disabled": false})),
                &format!("{at}.disabled"),
            ),
            (
                per_route(json!({"stateful_session": in_header("")})),
                &format!("{at}.stateful_session.session_state.typed_config.name"),
            ),
        ],
    );
}

fn overridden(config: Value) -> Value {
    let lb = "type.googleapis.com/envoy.extensions.load_balancing_policies";
    let policy = |any: Value| json!({"policies": [{"typed_extension_config": {"name": "p", "typed_config": any}}]});
    let random = policy(json!({"@type": format!("{lb}.random.v3.Random")}));
    let base = json!({
        "@type": format!("{lb}.override_host.v3.OverrideHost"),
        "override_host_sources": [{"header": "X-A"}, {"header": "x-b"}],
        "fallback_policy": random,
    });
    json!({"load_balancing_policy": policy(merged(base, config))})
}

#[test]
fn headers_that_name_members_are_read() {
    let found = valid(overridden(json!({}))).load_balancing;
    let header = |name| NameSource::Header(HeaderName::from_static(name));
    assert_eq!(found.override_sources, [header("x-a"), header("x-b")]);
    assert_eq!(found.policy, LbPolicy::Random);
    let at = |field: &str| {
        format!("load_balancing_policy.policies[0].typed_extension_config.typed_config.{field}")
    };
    let sources = |list: Value| overridden(json!({ "override_host_sources": list }));
    let metadata = json!({"metadata": {"key": "a", "path": [{"key": "b"}]}});
    let both = merged(metadata.clone(), json!({"header": "x"}));
    let again = overridden(json!({}))["load_balancing_policy"].clone();
    check_table(
        &cluster::cluster,
        &cluster::decode,
        &[
            (sources(json!([])), &at("override_host_sources")),
            (sources(json!([{}])), &at("override_host_sources[0]")),
            (
                sources(json!([both])),
                &at("override_host_sources[0].metadata"),
            ),
            (
                sources(json!([{"header": "a b"}])),
                &at("override_host_sources[0].header"),
            ),
            (sources(json!([metadata])), "ok"),
            (
                sources(json!([{"metadata": {"key": "a", "path": [{"key": "b"}, {"key": "c"}]}}])),
                &format!("warn {}", at("override_host_sources[0].metadata.path")),
            ),
            (
                sources(json!([{"metadata": {"path": [{"key": "b"}]}}])),
                &at("override_host_sources[0].metadata.key"),
            ),
            (
                sources(json!([{"metadata": {"key": "a"}}])),
                &at("override_host_sources[0].metadata.path"),
            ),
            (
                sources(json!([{"metadata": {"key": "a", "path": [{"index": 1}]}}])),
                &format!(
                    "warn {}",
                    at("override_host_sources[0].metadata.path[0].index")
                ),
            ),
            (
                sources(json!([{"metadata": {"key": "a", "path": [{}]}}])),
                &at("override_host_sources[0].metadata.path[0].key"),
            ),
            (
                overridden(json!({"fallback_policy": null})),
                &at("fallback_policy"),
            ),
            (
                overridden(json!({ "fallback_policy": again })),
                &at("fallback_policy"),
            ),
            (
                overridden(json!({"selected_host_key": {"key": "a", "path": [{"key": "b"}]}})),
                &format!("warn {}", at("selected_host_key")),
            ),
        ],
    );
}

#[test]
fn the_health_of_members_that_are_named_can_be_chosen() {
    let statuses = |list: Value| {
        let set = json!({"override_host_status": {"statuses": list}});
        let change = json!({ "common_lb_config": set });
        (
            valid(change.clone()).load_balancing.override_statuses,
            valid(merged(overridden(json!({})), change))
                .load_balancing
                .override_statuses,
        )
    };
    let (legacy, typed) = statuses(json!(["DRAINING", "HEALTHY"]));
    assert_eq!(legacy, typed);
    assert!(legacy.has(HealthStatus::Draining) && !legacy.has(HealthStatus::Unknown));
    let (none, _) = statuses(json!([]));
    assert!(!none.has(HealthStatus::Healthy));
    let usual = valid(json!({})).load_balancing.override_statuses;
    assert_eq!(usual, HealthStatuses::default());
    let wrong = json!({"common_lb_config": {"override_host_status": {"statuses": [99]}}});
    check_table(
        &cluster::cluster,
        &cluster::decode,
        &[(wrong, "common_lb_config.override_host_status.statuses[0]")],
    );
}
