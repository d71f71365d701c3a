//! `RouteConfiguration`.

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::encode;
use super::merged;
use crate::config::RouteConfig;
use crate::config::matcher::HeaderMatchName;
use crate::config::matcher::HeaderValueMatch;
use crate::config::matcher::StringPattern;
use crate::config::route::Action;
use crate::config::route::Forward;
use crate::config::route::PathMatch;
use crate::config::route::Redirect;
use crate::config::route::Route;
use crate::xds::decode::DecodeError;
use crate::xds::decode::Decoded;

pub(super) fn decode(json: Value) -> Result<Decoded<RouteConfig>, DecodeError> {
    crate::xds::decode::route_config(&encode("envoy.config.route.v3.RouteConfiguration", json))
}

fn table(change: Value) -> Value {
    merged(
        json!({"name": "t", "virtual_hosts": [{"name": "h", "domains": ["*"]}]}),
        change,
    )
}

fn host(change: Value) -> Value {
    table(json!({"virtual_hosts": [merged(json!({"name": "h", "domains": ["*"]}), change)]}))
}

fn route(change: Value) -> Value {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "c"}});
    host(json!({"routes": [merged(route, change)]}))
}

fn matching(change: Value) -> Value {
    route(json!({"match": merged(json!({"prefix": "/"}), change)}))
}

pub(super) fn forwarding(change: Value) -> Value {
    route(json!({"route": merged(json!({"cluster": "c"}), change)}))
}

pub(super) fn redirecting(change: Value) -> Value {
    route(json!({"route": null, "redirect": change}))
}

pub(super) fn answering(change: Value) -> Value {
    route(json!({"route": null, "direct_response": merged(json!({"status": 200}), change)}))
}

pub(super) fn only_route(json: Value) -> Route {
    let decoded = decode(json).expect("valid");
    assert!(decoded.warnings.is_empty(), "{:?}", decoded.warnings);
    let host = decoded
        .value
        .virtual_hosts
        .into_iter()
        .next()
        .expect("one host");
    host.routes.into_iter().next().expect("one route")
}

pub(super) fn forward(change: Value) -> Forward {
    match only_route(forwarding(change)).action {
        Action::Forward(forward) => *forward,
        other => panic!("{other:?}"),
    }
}

pub(super) fn redirect(change: Value) -> Redirect {
    match only_route(redirecting(change)).action {
        Action::Redirect(redirect) => *redirect,
        other => panic!("{other:?}"),
    }
}

#[test]
fn domains_are_folded() {
    let decoded = decode(host(json!({"domains": ["A.b", "*.X.y", "z.*", "*"]}))).expect("valid");
    let domains = &decoded.value.virtual_hosts[0].domains;
    let domains: Vec<&str> = domains.iter().map(|domain| &**domain).collect();
    assert_eq!(domains, ["a.b", "*.x.y", "z.*", "*"]);
}

#[test]
fn tables() {
    let host = |name: &str, domain: &str| json!({"name": name, "domains": [domain]});
    let lua =
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.LuaPerRoute"});
    let filter_config = |change: Value| {
        let config = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": lua});
        json!({"typed_per_filter_config": {"f": merged(config, change)}})
    };
    check_table(
        &table,
        &decode,
        &[
            (json!({}), "ok"),
            (json!({"name": ""}), "name"),
            (json!({"vhds": {}}), "vhds"),
            (
                json!({"internal_only_headers": ["x"]}),
                "internal_only_headers",
            ),
            (json!({"validate_clusters": false}), "ok"),
            (json!({"validate_clusters": true}), "warn validate_clusters"),
            (
                json!({"request_mirror_policies": [{"cluster": "m"}]}),
                "warn request_mirror_policies",
            ),
            (
                json!({"typed_per_filter_config": {"f": lua}}),
                "typed_per_filter_config[\"f\"]",
            ),
            (
                filter_config(json!({})),
                "typed_per_filter_config[\"f\"].config",
            ),
            (
                filter_config(json!({"is_optional": true})),
                "warn typed_per_filter_config[\"f\"].config",
            ),
            (filter_config(json!({"disabled": true})), "ok"),
            (
                json!({"virtual_hosts": [host("a", "x"), host("b", "X")]}),
                "virtual_hosts[1].domains[0]",
            ),
            (
                json!({"virtual_hosts": [host("a", "*"), host("b", "*")]}),
                "virtual_hosts[1].domains[0]",
            ),
            (
                json!({"virtual_hosts": [host("a", "x"), host("a", "y")]}),
                "virtual_hosts",
            ),
            (
                json!({"cluster_specifier_plugins": [{"extension": {"name": "p", "typed_config": lua}, "is_optional": true}]}),
                "warn cluster_specifier_plugins[0].extension.typed_config",
            ),
        ],
    );
}

#[test]
fn hosts() {
    let at = |field: &str| format!("virtual_hosts[0].{field}");
    let edit = |key: &str, value: &str| json!({"request_headers_to_add": [{"header": {"key": key, "value": value}}]});
    check_table(
        &host,
        &decode,
        &[
            (json!({"name": ""}), &at("name")),
            (json!({"domains": []}), &at("domains")),
            (json!({"domains": [""]}), &at("domains[0]")),
            (json!({"domains": ["a", "*b*"]}), &at("domains[1]")),
            (json!({"domains": ["a.*.b"]}), &at("domains[0]")),
            (json!({"domains": ["**"]}), &at("domains[0]")),
            (json!({"domains": ["-*.a"]}), &at("domains[0]")),
            (json!({"domains": ["*-a.b"]}), "ok"),
            (json!({"require_tls": "ALL"}), &at("require_tls")),
            (json!({"require_tls": 7}), &at("require_tls")),
            (json!({"retry_policy": {}}), "ok"),
            (edit("x", "%RESPONSE_CODE%"), "ok"),
            (
                edit("x y", "v"),
                &at("request_headers_to_add[0].header.key"),
            ),
            (
                edit(":path", "v"),
                &at("request_headers_to_add[0].header.key"),
            ),
            (
                edit("Host", "v"),
                &at("request_headers_to_add[0].header.key"),
            ),
            (
                edit("x", "%NO_SUCH%"),
                &at("request_headers_to_add[0].header.value"),
            ),
            (
                edit("x", "a\nb"),
                &at("request_headers_to_add[0].header.value"),
            ),
            (
                json!({"request_headers_to_add": [{}]}),
                &at("request_headers_to_add[0].header"),
            ),
            (
                json!({"response_headers_to_remove": ["a", ":status"]}),
                &at("response_headers_to_remove[1]"),
            ),
            (
                json!({"request_headers_to_add": [{"header": {"key": "x", "value": "v"}, "append": true, "append_action": "ADD_IF_ABSENT"}]}),
                &at("request_headers_to_add[0].append"),
            ),
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn routes_and_matches() {
    let at = |field: &str| format!("virtual_hosts[0].routes[0].{field}");
    check_table(
        &route,
        &decode,
        &[
            (json!({}), "ok"),
            (json!({"match": null}), &at("match")),
            (json!({"route": null}), "virtual_hosts[0].routes[0]"),
            (
                json!({"route": null, "non_forwarding_action": {}}),
                &at("non_forwarding_action"),
            ),
            (
                json!({"route": null, "filter_action": {}}),
                &at("filter_action"),
            ),
            (
                json!({"decorator": {"operation": "x"}}),
                &format!("warn {}", at("decorator")),
            ),
        ],
    );
    let at = |field: &str| format!("virtual_hosts[0].routes[0].match.{field}");
    let header = |change: Value| json!({"headers": [merged(json!({"name": "x"}), change)]});
    check_table(
        &matching,
        &decode,
        &[
            (json!({"prefix": null}), "virtual_hosts[0].routes[0].match"),
            (
                json!({"prefix": null, "safe_regex": {"regex": ""}}),
                &at("safe_regex.regex"),
            ),
            (
                json!({"prefix": null, "safe_regex": {"regex": "a("}}),
                &at("safe_regex.regex"),
            ),
            (
                json!({"prefix": null, "safe_regex": {"regex": "a)|(b"}}),
                &at("safe_regex.regex"),
            ),
            (
                json!({"prefix": null, "safe_regex": {"regex": "(x{1000}){1000}"}}),
                &at("safe_regex.regex"),
            ),
            (
                json!({"prefix": null, "path_separated_prefix": "/a/"}),
                &at("path_separated_prefix"),
            ),
            (
                json!({"prefix": null, "path_separated_prefix": "/"}),
                &at("path_separated_prefix"),
            ),
            (
                json!({"prefix": null, "path_separated_prefix": "/a?b"}),
                &at("path_separated_prefix"),
            ),
            (
                json!({"prefix": null, "connect_matcher": {}}),
                &at("connect_matcher"),
            ),
            (json!({"cookies": [{"name": "c"}]}), &at("cookies")),
            (json!({"tls_context": {}}), "ok"),
            (
                json!({"runtime_fraction": {}}),
                &at("runtime_fraction.default_value"),
            ),
            (header(json!({"name": ""})), &at("headers[0].name")),
            (header(json!({"name": ":protocol"})), &at("headers[0].name")),
            (
                header(json!({"prefix_match": ""})),
                &at("headers[0].prefix_match"),
            ),
            (
                header(json!({"safe_regex_match": {"regex": "["}})),
                &at("headers[0].safe_regex_match.regex"),
            ),
            (
                header(json!({"string_match": {}})),
                &at("headers[0].string_match"),
            ),
            (
                header(json!({"string_match": {"prefix": ""}})),
                &at("headers[0].string_match.prefix"),
            ),
            (
                header(json!({"string_match": {"custom": {}}})),
                &at("headers[0].string_match.custom"),
            ),
            (
                json!({"query_parameters": [{"name": ""}]}),
                &at("query_parameters[0].name"),
            ),
        ],
    );
}

#[test]
fn predicates_become_the_model() {
    let json = matching(json!({
        "prefix": null,
        "safe_regex": {"regex": "/a|/b"},
        "case_sensitive": false,
        "grpc": {},
        "runtime_fraction": {"default_value": {"numerator": 25}},
        "headers": [
            {"name": ":method", "exact_match": "GET"},
            {"name": "Host", "present_match": true, "invert_match": true},
            {"name": "X-A", "string_match": {"suffix": "Ab", "ignore_case": true}, "treat_missing_header_as_empty": true},
            {"name": "n", "range_match": {"start": "-1", "end": "5"}},
        ],
        "query_parameters": [{"name": "q"}, {"name": "r", "string_match": {"exact": "v"}}],
    }));
    let matches = only_route(json).matches;
    let PathMatch::Regex(regex) = &matches.path else {
        panic!("a regex")
    };
    // Anchored on both ends, alternation included.
    assert!(regex.is_match(b"/a") && regex.is_match(b"/b"));
    assert!(!regex.is_match(b"/ab") && !regex.is_match(b"x/b") && !regex.is_match(b"/a\n"));
    assert!(!matches.case_sensitive && matches.grpc);
    assert_eq!(matches.runtime_fraction_per_million, Some(250_000));
    let names: Vec<_> = matches
        .headers
        .iter()
        .map(|header| header.name.clone())
        .collect();
    let ordinary = |name| HeaderMatchName::Header(http::HeaderName::from_static(name));
    assert_eq!(
        names,
        [
            HeaderMatchName::Method,
            HeaderMatchName::Authority,
            ordinary("x-a"),
            ordinary("n")
        ]
    );
    assert!(matches!(
        matches.headers[1].value,
        HeaderValueMatch::Present(true)
    ));
    assert!(matches.headers[1].invert && matches.headers[2].treat_missing_as_empty);
    let HeaderValueMatch::String(string) = &matches.headers[2].value else {
        panic!("a string")
    };
    assert!(string.ignore_case);
    assert!(matches!(&string.pattern, StringPattern::Suffix(text) if &**text == "ab"));
    assert!(matches!(
        matches.headers[3].value,
        HeaderValueMatch::Range { start: -1, end: 5 }
    ));
    assert_eq!(matches.query_parameters.len(), 2);
    assert!(matches.query_parameters[0].value.is_none());
}

#[test]
fn ascii_classes_as_in_re2() {
    let json = matching(json!({"prefix": null, "safe_regex": {"regex": r"/\d"}}));
    let PathMatch::Regex(regex) = only_route(json).matches.path else {
        panic!("a regex")
    };
    assert!(regex.is_match(b"/1") && !regex.is_match("/\u{0661}".as_bytes()));
    let json = matching(json!({"prefix": null, "safe_regex": {"regex": r"/\pL"}}));
    let PathMatch::Regex(regex) = only_route(json).matches.path else {
        panic!("a regex")
    };
    assert!(regex.is_match("/\u{e4}".as_bytes()));
}
