//! Bytes that are no messages, or messages somebody bent: never a panic, never a long answer.

use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prelude::prop;
use serde_json::json;

use super::encode;
use crate::xds::decode::DecodeError;

/// Reads the bytes as each of the four.
fn decode_all(bytes: &[u8]) -> [Option<DecodeError>; 4] {
    [
        crate::xds::decode::listener(bytes).err(),
        crate::xds::decode::cluster(bytes).err(),
        crate::xds::decode::route_config(bytes).err(),
        crate::xds::decode::endpoints(bytes).err(),
    ]
}

fn examples() -> Vec<Vec<u8>> {
    let address = json!({"socket_address": {"address": "10.0.0.1", "port_value": 80}});
    let assignment = json!({
        "cluster_name": "a",
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}, "load_balancing_weight": 3}]}],
    });
    let routes = json!({
        "name": "r",
        "virtual_hosts": [{
            "name": "h",
            "domains": ["*"],
            "routes": [{
                "match": {"safe_regex": {"regex": "/a.*"}, "headers": [{"name": "x", "exact_match": "y"}]},
                "route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1}]}, "timeout": "1s"},
                "request_headers_to_add": [{"header": {"key": "a", "value": "%REQ(b):3%"}}],
            }],
        }],
    });
    let log = json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        "log_format": {"json_format": {"a": {"b": "%DURATION%"}}},
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "s",
        "route_config": routes,
        "access_log": [{"name": "l", "typed_config": log}],
        "http_filters": [{"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    let listener = json!({
        "name": "l",
        "address": address,
        "filter_chains": [{"filters": [{"name": "f", "typed_config": manager}]}],
    });
    let cluster = json!({"name": "c", "connect_timeout": "1s", "load_assignment": assignment});
    vec![
        encode("envoy.config.listener.v3.Listener", listener),
        encode("envoy.config.cluster.v3.Cluster", cluster),
        encode("envoy.config.route.v3.RouteConfiguration", routes),
        encode("envoy.config.endpoint.v3.ClusterLoadAssignment", assignment),
    ]
}

#[test]
fn the_examples_are_valid() {
    let [listener, cluster, routes, assignment] = examples().try_into().expect("four");
    assert_eq!(crate::xds::decode::listener(&listener).err(), None);
    assert_eq!(crate::xds::decode::cluster(&cluster).err(), None);
    assert_eq!(crate::xds::decode::route_config(&routes).err(), None);
    assert_eq!(crate::xds::decode::endpoints(&assignment).err(), None);
}

/// An example with some bytes overwritten, inserted or cut out.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    (
        prop::sample::select(examples()),
        prop::collection::vec(edit, 1..8),
    )
        .prop_map(|(mut bytes, edits)| {
            for (index, byte, kind) in edits {
                if bytes.is_empty() {
                    break;
                }
                let at = index.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            bytes
        })
}

proptest::proptest! {
    #[test]
    fn mutated_messages_never_panic(bytes in mutated()) {
        for error in decode_all(&bytes).into_iter().flatten() {
            proptest::prop_assert!((1..=33).contains(&error.errors.len()));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&bytes);
    }
}
