//! What is hashed: `hash_policy` of routes and TCP proxies, keys of members.

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::route::decode;
use super::route::forward;
use super::route::forwarding;
use crate::config::hash_policy::GeneratedCookie;
use crate::config::hash_policy::HashSource;
use crate::config::matcher::HeaderMatchName;

fn source(policy: Value) -> HashSource {
    let mut forward = forward(json!({"hash_policy": [policy]}));
    assert_eq!(forward.hash_policies.len(), 1);
    forward.hash_policies.remove(0).source
}

#[test]
fn every_kind_becomes_the_model() {
    assert_eq!(
        source(json!({"connection_properties": {"source_ip": true}})),
        HashSource::SourceIp
    );
    let of_header = |name: &str| match source(json!({"header": {"header_name": name}})) {
        HashSource::Header { name, rewrite } => {
            assert!(rewrite.is_none());
            name
        }
        other => panic!("{other:?}"),
    };
    let name = http::HeaderName::from_static("x-user");
    assert_eq!(of_header("X-User"), HeaderMatchName::Header(name));
    assert_eq!(of_header(":path"), HeaderMatchName::Path);
    assert_eq!(of_header("Host"), HeaderMatchName::Authority);
    let rewrite = json!({"pattern": {"regex": "^(a+)"}, "substitution": "\\1"});
    let rewritten = json!({"header": {"header_name": "x", "regex_rewrite": rewrite}});
    let HashSource::Header { rewrite, .. } = source(rewritten) else {
        panic!("a header");
    };
    assert_eq!(&*rewrite.expect("it is there").apply(b"aab"), b"aab");
}

#[test]
fn a_cookie_is_made_only_with_a_lifetime() {
    let generated = |config: Value| match source(json!({"cookie": config})) {
        HashSource::Cookie { generated, .. } => {
            generated.map(|GeneratedCookie { attributes }| attributes)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(generated(json!({"name": "c"})), None);
    let check = |config: Value, expected: &str| {
        assert_eq!(generated(config).as_deref(), Some(expected));
    };
    check(json!({"name": "c", "ttl": "0s"}), "; HttpOnly");
    check(
        json!({
            "name": "c", "ttl": "90.7s", "path": "/p",
            "attributes": [{"name": "SameSite", "value": "Strict"}, {"name": "Secure"}],
        }),
        "; Max-Age=90; Path=/p; SameSite=Strict; Secure; HttpOnly",
    );
}

#[test]
fn what_cannot_be_hashed_is_refused() {
    let at = |field: &str| format!("virtual_hosts[0].routes[0].route.hash_policy[0]{field}");
    let one = |policy: Value| json!({"hash_policy": [policy]});
    let rewrite = |pattern: &str, substitution: &str| {
        let rewrite = json!({"pattern": {"regex": pattern}, "substitution": substitution});
        one(json!({"header": {"header_name": "x", "regex_rewrite": rewrite}}))
    };
    check_table(
        &forwarding,
        &decode,
        &[
            (one(json!({})), &at("")),
            (
                one(json!({"filter_state": {"key": ""}})),
                &at(".filter_state.key"),
            ),
            (
                one(json!({"query_parameter": {"name": ""}})),
                &at(".query_parameter.name"),
            ),
            (
                one(json!({"header": {"header_name": "a b"}})),
                &at(".header.header_name"),
            ),
            (one(json!({"cookie": {"name": ""}})), &at(".cookie.name")),
            (
                one(json!({"cookie": {"name": "c", "ttl": "1s", "path": "/\r\n"}})),
                &at(".cookie.path"),
            ),
            (
                one(json!({"cookie": {"name": "c", "ttl": "1s", "attributes": [{}]}})),
                &at(".cookie.attributes[0].name"),
            ),
            (
                one(json!({"cookie": {"name": "c", "path": "/"}})),
                &format!("warn {}", at(".cookie.path")),
            ),
            (one(json!({"connection_properties": {}})), "ok"),
            (
                rewrite("(", "x"),
                &at(".header.regex_rewrite.pattern.regex"),
            ),
            (
                rewrite("a", "\\1"),
                &at(".header.regex_rewrite.substitution"),
            ),
            (
                json!({"hash_policy": vec![json!({"query_parameter": {"name": "q"}}); 65]}),
                "virtual_hosts[0].routes[0].route.hash_policy",
            ),
        ],
    );
}

#[test]
fn the_hash_may_choose_the_cluster() {
    let weighted = |uses_hash: bool| {
        let clusters = json!([{"name": "a", "weight": 1}]);
        let weighted = json!({"clusters": clusters, "use_hash_policy": uses_hash});
        forward(json!({"cluster": null, "weighted_clusters": weighted})).hash_chooses_cluster
    };
    assert!(weighted(true) && !weighted(false));
    assert!(!forward(json!({})).hash_chooses_cluster);
}
