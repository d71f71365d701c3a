//! Listener filters, the conditions of filter chains, and the matcher tree.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::listener::chain;
use super::listener::decode;
use super::listener::filter;
use super::listener::listener;
use super::listener::manager;
use super::listener::typed;
use super::merged;
use crate::config::chain_selector::Choice;
use crate::config::listener_filter::KeptTlvs;
use crate::config::listener_filter::ListenerFilterKind;
use crate::downstream::Downstream;
use crate::net::proxy_protocol::Version;

const TLS_INSPECTOR: &str = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
const HTTP_INSPECTOR: &str = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
const PROXY_PROTOCOL: &str = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
const ORIGINAL_DST: &str = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
const INPUTS: &str = "envoy.extensions.matching.common_inputs.network.v3";

fn with(name: &str, change: Value) -> Value {
    listener(json!({"listener_filters": [filter(merged(typed(name), change))]}))
}

fn kinds(json: Value) -> Vec<ListenerFilterKind> {
    let listener = decode(json).expect("valid").value;
    let filters = listener.listener_filters.into_iter();
    filters.map(|filter| filter.kind).collect()
}

#[test]
fn listener_filters_are_read() {
    let ListenerFilterKind::ProxyProtocol(found) = kinds(with(
        PROXY_PROTOCOL,
        json!({
            "allow_requests_without_proxy_protocol": true,
            "disallowed_versions": ["V1"],
            "pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": [2, 255]},
        }),
    ))
    .remove(0) else {
        unreachable!("it is the PROXY protocol")
    };
    assert!(found.is_optional);
    assert_eq!(found.disallowed, [Version::V1]);
    assert_eq!(found.kept_tlvs, KeptTlvs::Of(vec![2, 255]));
    let ListenerFilterKind::TlsInspector(found) =
        kinds(with(TLS_INSPECTOR, json!({"max_client_hello_size": 4096}))).remove(0)
    else {
        unreachable!("it is the TLS inspector")
    };
    assert_eq!(found.bytes_max, 4096);
    assert_eq!(
        kinds(with(ORIGINAL_DST, json!({}))),
        [ListenerFilterKind::OriginalDst]
    );
    assert_eq!(
        kinds(with(HTTP_INSPECTOR, json!({}))),
        [ListenerFilterKind::HttpInspector]
    );
}

#[test]
fn the_tls_inspector_is_added_where_chains_need_it() {
    let has =
        |conditions: Value| !kinds(chain(json!({"filter_chain_match": conditions}))).is_empty();
    assert!(has(json!({"server_names": ["a"]})));
    assert!(has(json!({"application_protocols": ["h2"]})));
    assert!(has(json!({"transport_protocol": "tls"})));
    assert!(!has(
        json!({"transport_protocol": "raw_buffer", "application_protocols": ["h2c"]})
    ));
    assert!(!has(json!({"destination_port": 1})));
}

#[test]
fn filters_can_be_left_out_by_port() {
    let rule = json!({"not_match": {"or_match": {"rules": [
        {"destination_port_range": {"start": 80, "end": 81}},
        {"destination_port_range": {"start": 443, "end": 444}},
    ]}}});
    let mut json = with(TLS_INSPECTOR, json!({}));
    json["listener_filters"][0]["filter_disabled"] = rule;
    let listener = decode(json).expect("valid").value;
    let disabled = listener.listener_filters[0].disabled.clone().unwrap();
    let off = |port| disabled.holds(port);
    assert_eq!(
        (off(Some(80)), off(Some(81)), off(Some(443))),
        (false, true, false)
    );
    assert!(off(None), "a Unix socket has no port");
}

#[test]
fn the_timeout_is_envoys() {
    let timeout = |change| {
        decode(listener(change))
            .expect("valid")
            .value
            .listener_filters_timeout
    };
    assert_eq!(timeout(json!({})), Some(Duration::from_secs(15)));
    assert_eq!(timeout(json!({"listener_filters_timeout": "0s"})), None);
    assert_eq!(
        timeout(json!({"listener_filters_timeout": "2s"})),
        Some(Duration::from_secs(2))
    );
}

#[test]
fn conditions() {
    let conditions = |change: Value| chain(json!({"filter_chain_match": change}));
    let at = |field: &str| format!("filter_chains[0].filter_chain_match.{field}");
    check_table(
        &conditions,
        &decode,
        &[
            (json!({"server_names": ["*.a.b", "c"]}), "ok"),
            (json!({"server_names": ["*"]}), &at("server_names[0]")),
            (json!({"server_names": ["a.*"]}), &at("server_names[0]")),
            (json!({"server_names": ["*a.b"]}), &at("server_names[0]")),
            (json!({"destination_port": 0}), &at("destination_port")),
            (json!({"destination_port": 70000}), &at("destination_port")),
            (json!({"source_ports": [1, 0]}), &at("source_ports[1]")),
            (json!({"source_type": 7}), &at("source_type")),
            (json!({"address_suffix": "x"}), &at("address_suffix")),
            (
                json!({"prefix_ranges": [{"address_prefix": "x"}]}),
                &at("prefix_ranges[0].address_prefix"),
            ),
            (
                json!({"prefix_ranges": [{"address_prefix": "::", "prefix_len": 129}]}),
                &at("prefix_ranges[0].prefix_len"),
            ),
        ],
    );
}

fn action(chain: &str) -> Value {
    let name = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": chain});
    json!({"action": {"name": "n", "typed_config": name}})
}

fn input(name: &str) -> Value {
    json!({"name": "n", "typed_config": typed(&format!("{INPUTS}.{name}"))})
}

fn matched(matcher: Value) -> Value {
    let chain = |name: &str| json!({"name": name, "filters": [filter(manager(json!({})))]});
    listener(
        json!({"filter_chains": [chain("one"), chain("two")], "filter_chain_matcher": matcher}),
    )
}

#[test]
fn a_matcher_chooses_by_name() {
    let ranges = json!({
        "@type": "type.googleapis.com/xds.type.matcher.v3.IPMatcher",
        "range_matchers": [{"ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}], "on_match": action("two")}],
    });
    let by_range = json!({"matcher_tree": {
        "input": input("DestinationIPInput"),
        "custom_match": {"name": "r", "typed_config": ranges},
    }});
    let by_port = json!({"matcher_tree": {
        "input": input("DestinationPortInput"),
        "exact_match_map": {"map": {"80": action("one"), "90": {"matcher": by_range}}},
    }});
    let listener = decode(matched(by_port)).expect("valid").value;
    let choose = |ip: &str, port| {
        let local = Some((ip.parse::<IpAddr>().unwrap(), port).into());
        let (connection_id, peer, direct_peer, found) = (1, None, None, None);
        listener.selector.choose(&Downstream {
            connection_id,
            direct_peer,
            peer,
            local,
            found,
            tls: None,
        })
    };
    assert_eq!(choose("1.2.3.4", 80), Choice::Chain(0));
    assert_eq!(choose("10.2.3.4", 90), Choice::Chain(1));
    assert_eq!(choose("1.2.3.4", 90), Choice::Default);
}

#[test]
fn matchers() {
    let tree = |change: Value| {
        let map = json!({"map": {"x": action("one")}});
        let tree = json!({"input": input("ServerNameInput"), "exact_match_map": map});
        matched(json!({"matcher_tree": merged(tree, change)}))
    };
    let at = |field: &str| format!("filter_chain_matcher.matcher_tree.{field}");
    let names = |domains: Value| {
        json!({"exact_match_map": null, "custom_match": {"name": "d", "typed_config": {
            "@type": "type.googleapis.com/xds.type.matcher.v3.ServerNameMatcher",
            "domain_matchers": [{"domains": domains, "on_match": action("one")}],
        }}})
    };
    let domain = |i: usize| {
        at(&format!(
            "custom_match.typed_config.domain_matchers[0].domains[{i}]"
        ))
    };
    check_table(
        &tree,
        &decode,
        &[
            (json!({}), "ok"),
            (json!({"input": null}), &at("input")),
            (
                json!({"input": input("FilterStateInput")}),
                &at("input.typed_config"),
            ),
            (
                json!({"exact_match_map": null}),
                "filter_chain_matcher.matcher_tree",
            ),
            (
                json!({"exact_match_map": {"map": {"x": {}}}}),
                &at("exact_match_map.map[x]"),
            ),
            (
                json!({"exact_match_map": {"map": {"x": action("three")}}}),
                &format!("warn {}", at("exact_match_map.map[x].action.typed_config")),
            ),
            (names(json!(["a", "*.b", "*"])), "ok"),
            (names(json!(["a", "*b"])), &domain(1)),
            (names(json!(["a.*"])), &domain(0)),
        ],
    );
    let errors = decode(matched(json!({"matcher_list": {"matchers": []}}))).unwrap_err();
    assert_eq!(errors.errors[0].field, "filter_chain_matcher.matcher_list");
}
