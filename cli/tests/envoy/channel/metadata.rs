//! `initial_metadata` of the aggregated stream and of a stream for secrets: with the same bootstrap a
//! server sees the same of Envoy and of Weir.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use bench::peer::Envoy;
use bench::peer::StartOptions;
use serde_json::Value;
use serde_json::json;

use super::recorder::Head;
use super::recorder::Recorder;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::typed;
use crate::setting::Weir;
use crate::setting::envoy_is_there;

const AGGREGATED: &str = "AggregatedDiscoveryService";
const SECRETS: &str = "SecretDiscoveryService";

fn metadata() -> Value {
    json!([
        {"key": "authorization", "value": "Bearer a.b-c_d"},
        {"key": "X-Upper", "value": "100%% sure"},
        {"key": "x-command", "value": "at %ENVIRONMENT(PATH)%"},
        {"key": "x-twice", "value": "first"},
        {"key": "x-twice", "value": "second"},
        {"key": "x-empty", "value": ""},
        {"key": "x-text-bin", "value": "plain text"},
    ])
}

/// What a server must see.
fn expected() -> Vec<(&'static str, Vec<u8>)> {
    let expected = [
        ("authorization", "Bearer a.b-c_d"),
        ("x-command", "at %ENVIRONMENT(PATH)%"),
        ("x-text-bin", "plain text"),
        ("x-twice", "second"),
        ("x-upper", "100%% sure"),
    ];
    expected.map(|(key, value)| (key, value.into())).into()
}

/// What of the metadata is in a head. Padding is allowed and not wanted.
fn seen(head: &Head) -> Vec<(&str, Vec<u8>)> {
    let config = GeneralPurposeConfig::new();
    let config = config.with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let base64 = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    let ours = |name: &str| name == "authorization" || name.starts_with("x-");
    let headers = head.headers().iter();
    let headers = headers.filter(|(name, _)| ours(name.as_str()));
    // What Envoy says of itself, which is no metadata.
    let headers = headers.filter(|(name, _)| !name.as_str().starts_with("x-envoy-"));
    let headers = headers.filter(|(name, _)| name.as_str() != "x-forwarded-for");
    let mut seen: Vec<_> = headers
        .map(|(name, value)| {
            let value = value.as_bytes();
            let is_binary = name.as_str().ends_with("-bin");
            let value = match is_binary {
                true => base64.decode(value).expect("it is base64"),
                false => value.to_vec(),
            };
            (name.as_str(), value)
        })
        .collect();
    seen.sort();
    seen
}

fn service(cluster: &str) -> Value {
    json!({
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{
            "envoy_grpc": {"cluster_name": cluster, "authority": "control.test"},
            "initial_metadata": metadata(),
        }],
    })
}

/// A listener whose certificate comes by a stream of its own.
fn listener(port: u16) -> Value {
    let source = json!({"resource_api_version": "V3", "api_config_source": service("server")});
    let common = json!({
        "tls_certificate_sds_secret_configs": [{"name": "leaf", "sds_config": source}]});
    let tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({"common_tls_context": common}),
    );
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{
            "transport_socket": {"name": "tls", "typed_config": tls},
            "filters": [{"name": "http", "typed_config": manager(&routes, &json!({}))}],
        }],
    })
}

fn bootstrap(server: SocketAddr, port: u16) -> String {
    let mut cluster = cluster("server", server.port());
    let options = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    let kind = "extensions.upstreams.http.v3.HttpProtocolOptions";
    cluster["typed_extension_protocol_options"] =
        json!({format!("envoy.{kind}"): typed(kind, options)});
    let statics = json!({"clusters": [cluster], "listeners": [listener(port)]});
    let dynamic = json!({
        "ads_config": service("server"),
        "cds_config": {"resource_api_version": "V3", "ads": {}},
    });
    format!(
        "\
node: {{id: me, cluster: us}}
dynamic_resources: {dynamic}
static_resources: {statics}
"
    )
}

async fn check(who: &str, server: &mut Recorder) {
    for service in [AGGREGATED, SECRETS] {
        let head = server.next(service).await;
        assert_eq!(seen(&head), expected(), "{who} {service}");
        let authority = head.uri().authority().expect("HTTP/2 has one");
        assert_eq!(authority, "control.test", "{who} {service}");
    }
}

#[tokio::test]
async fn envoys_metadata_is_ours() {
    if !envoy_is_there() {
        return;
    }
    let port = free_ports(1).remove(0);
    let mut server = Recorder::start().await;
    // It is never ready, as nobody answers it.
    let bootstrap = bootstrap(server.address, port.number());
    let envoy = Envoy::spawn(&bootstrap, &StartOptions::default()).expect("Envoy starts");
    check("Envoy", &mut server).await;
    drop(envoy);
}

#[tokio::test]
async fn a_server_sees_the_metadata() {
    let port = free_ports(1).remove(0);
    let mut server = Recorder::start().await;
    let weir = Weir::launch(&bootstrap(server.address, port.number())).await;
    check("Weir", &mut server).await;
    weir.stop().await;
}
