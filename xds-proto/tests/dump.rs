//! What printed messages look like.

use prost::Message;
use prost::Name;
use serde_json::Value;
use serde_json::json;
use xds_proto::Pool;
use xds_proto::any::pack;
use xds_proto::dump::any_to_json;
use xds_proto::dump::message_to_json;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::core::v3::TransportSocket;
use xds_proto::pb::envoy::config::core::v3::transport_socket::ConfigType;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::Duration;
use xds_proto::pb::google::protobuf::UInt32Value;
use xds_proto::pb::google::protobuf::UInt64Value;

fn cluster(typed_config: Any) -> Cluster {
    Cluster {
        name: "a".to_owned(),
        connect_timeout: Some(Duration {
            seconds: 0,
            nanos: 250_000_000,
        }),
        lb_policy: 1,
        per_connection_buffer_limit_bytes: Some(UInt32Value { value: 0 }),
        transport_socket: Some(TransportSocket {
            name: "t".to_owned(),
            config_type: Some(ConfigType::TypedConfig(typed_config)),
        }),
        ..Cluster::default()
    }
}

fn typed_config(printed: &Value) -> &Value {
    printed
        .pointer("/transport_socket/typed_config")
        .expect("printed")
}

#[test]
fn names_are_snake_case_defaults_are_left_out_any_is_opened() {
    let tls = UpstreamTlsContext {
        sni: "x".to_owned(),
        ..UpstreamTlsContext::default()
    };
    let expected = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "a",
        "connect_timeout": "0.250s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": 0,
        "transport_socket": {
            "name": "t",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "x",
            },
        },
    });
    assert_eq!(
        any_to_json(&Pool::new(), &pack(&cluster(pack(&tls)))),
        expected
    );
}

#[test]
fn what_cannot_be_read_is_kept_as_bytes() {
    let pool = Pool::new();
    let unknown = Any {
        type_url: "example.com/x.Y".to_owned(),
        value: vec![1, 2, 3],
    };
    let printed = message_to_json(
        &pool,
        &Cluster::full_name(),
        &cluster(unknown).encode_to_vec(),
    );
    assert_eq!(
        *typed_config(&printed),
        json!({ "@type": "example.com/x.Y", "value": "AQID" })
    );

    let broken = Any {
        type_url: UpstreamTlsContext::type_url(),
        value: vec![0xff],
    };
    let printed = message_to_json(
        &pool,
        &Cluster::full_name(),
        &cluster(broken).encode_to_vec(),
    );
    assert_eq!(
        *typed_config(&printed),
        json!({ "@type": UpstreamTlsContext::type_url(), "value": "/w==" })
    );

    assert_eq!(
        message_to_json(&pool, "x.Y", &[1]),
        json!({ "@type": "x.Y", "value": "AQ==" })
    );
}

#[test]
fn packed_scalars_stand_under_value_and_64_bits_are_strings() {
    let printed = any_to_json(&Pool::new(), &pack(&UInt64Value { value: u64::MAX }));
    let expected = json!({ "@type": "type.googleapis.com/google.protobuf.UInt64Value", "value": "18446744073709551615" });
    assert_eq!(printed, expected);
}

#[test]
fn depth_is_bounded() {
    let mut any = pack(&UInt32Value { value: 1 });
    for _ in 0..2_000 {
        any = Any {
            type_url: Any::type_url(),
            value: any.encode_to_vec(),
        };
    }
    let mut printed = &any_to_json(&Pool::new(), &any);
    let mut depth = 0;
    while let Some(inner) = printed.get("value") {
        printed = inner;
        depth += 1;
    }
    assert!(printed.is_string(), "the rest stays bytes");
    assert!((10..200).contains(&depth), "{depth}");
}
