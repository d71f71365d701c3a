//! `set_filter_state`, of requests and of connections.

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::listener::chain;
use super::listener::decode;
use super::listener::filter;
use super::listener::http;
use super::listener::manager;
use super::listener::router;
use super::listener::typed;
use super::merged;
use crate::config::filter_chain::NetworkFilter;
use crate::config::listener::HttpFilter;

fn object(change: Value) -> Value {
    let object = json!({
        "object_key": "k", "factory_key": "envoy.hashable_string",
        "format_string": {"text_format_source": {"inline_string": "%REQ(x)%"}},
    });
    merged(object, change)
}

fn state(kind: &str, config: Value) -> Value {
    let name = format!("envoy.extensions.filters.{kind}.set_filter_state.v3.Config");
    merged(typed(&name), config)
}

fn of_request(config: Value) -> Value {
    let filter = json!({"name": "state", "typed_config": state("http", config)});
    http(json!({"http_filters": [filter, router()]}))
}

fn of_connection(config: Value) -> Value {
    chain(json!({"filters": [filter(state("network", config)), filter(manager(json!({})))]}))
}

#[test]
fn objects_become_the_model() {
    let omitting = json!({
        "text_format_source": {"inline_string": "%REQ(x)%"}, "omit_empty_values": true,
    });
    let second = object(json!({"skip_if_empty": true, "format_string": omitting}));
    let config = json!({"on_request_headers": [object(json!({})), second]});
    let decoded = decode(of_request(config)).expect("valid");
    assert!(decoded.warnings.is_empty(), "{:?}", decoded.warnings);
    let NetworkFilter::HttpConnectionManager(manager) = &decoded.value.filter_chains[0].filter
    else {
        panic!("it is HTTP");
    };
    let HttpFilter::State(filter) = &manager.http_filters[0] else {
        panic!("{:?}", manager.http_filters);
    };
    assert_eq!(&*filter.name, "state");
    let values = filter.values.iter();
    let told: Vec<_> = values
        .map(|value| (&*value.key, value.omits_empty, value.skips_empty))
        .collect();
    assert_eq!(told, [("k", false, false), ("k", true, true)]);

    let config = json!({
        "on_new_connection": [object(json!({}))],
        "on_downstream_tls_handshake": [object(json!({"object_key": "l"}))],
    });
    let decoded = decode(of_connection(config)).expect("valid");
    let state = &decoded.value.filter_chains[0].state;
    assert_eq!((state.at_first.len(), state.after_handshake.len()), (1, 1));
    assert_eq!(&*state.after_handshake[0].key, "l");
}

#[test]
fn what_could_not_be_hashed_or_would_do_more_is_told() {
    let at = |field: &str| {
        format!("filter_chains[0].filters[0].typed_config.http_filters[0].typed_config{field}")
    };
    let first = |field: &str| at(&format!(".on_request_headers[0]{field}"));
    let one = |change: Value| json!({"on_request_headers": [object(change)]});
    check_table(
        &of_request,
        &decode,
        &[
            (json!({}), "ok"),
            (one(json!({"object_key": ""})), &first(".object_key")),
            (
                one(json!({"factory_key": "envoy.string"})),
                &format!("warn {}", first(".factory_key")),
            ),
            (
                one(json!({"factory_key": "envoy.tcp_proxy.cluster"})),
                &first(".factory_key"),
            ),
            // The key is the kind then.
            (one(json!({"factory_key": ""})), &first(".factory_key")),
            (
                one(json!({"format_string": {"json_format": {"a": "b"}}})),
                &first(".format_string.json_format"),
            ),
            (
                one(json!({"format_string": {"text_format": "%NO_SUCH%"}})),
                &first(".format_string.text_format"),
            ),
            (
                one(json!({"shared_with_upstream": "ONCE"})),
                &format!("warn {}", first(".shared_with_upstream")),
            ),
            (
                json!({"clear_route_cache": true}),
                &at(".clear_route_cache"),
            ),
            (
                json!({"on_request_headers": vec![object(json!({})); 65]}),
                &at(".on_request_headers"),
            ),
        ],
    );
    check_table(
        &of_connection,
        &decode,
        &[(
            json!({"on_downstream_data": [object(json!({}))]}),
            "filter_chains[0].filters[0].typed_config.on_downstream_data",
        )],
    );
}
