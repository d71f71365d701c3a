//! Bootstraps, listeners and clusters that name secrets.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use serde_json::json;

use super::authority::HOST;
use crate::identity::manager;
use crate::identity::typed;

const DOWNSTREAM: &str = "extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM: &str = "extensions.transport_sockets.tls.v3.UpstreamTlsContext";

/// The aggregated stream.
pub(super) fn ads() -> Value {
    json!({"resource_api_version": "V3", "ads": {}})
}

/// The name of a secret, and where it comes from.
pub(super) fn named(name: &str, source: &Value) -> Value {
    json!({"name": name, "sds_config": source})
}

/// TLS of a chain whose certificate has this name; without trust no client needs one.
pub(super) fn downstream(certificate: Value, trust: Option<Value>) -> Value {
    let requires = trust.is_some();
    let common = common(certificate, trust);
    let context = json!({"common_tls_context": common, "require_client_certificate": requires});
    json!({"name": "tls", "typed_config": typed(DOWNSTREAM, context)})
}

/// TLS of a cluster.
pub(super) fn upstream(certificate: Value, trust: Value) -> Value {
    let common = common(certificate, Some(trust));
    let context = json!({"common_tls_context": common, "sni": HOST, "max_session_keys": 0});
    json!({"name": "tls", "typed_config": typed(UPSTREAM, context)})
}

fn common(certificate: Value, trust: Option<Value>) -> Value {
    let mut common = json!({"tls_certificate_sds_secret_configs": [certificate]});
    if let Some(trust) = trust {
        common["combined_validation_context"] = json!({
            "default_validation_context": {"match_typed_subject_alt_names": [
                {"san_type": "DNS", "matcher": {"exact": HOST}}]},
            "validation_context_sds_secret_config": trust,
        });
    }
    common
}

/// Answers every request itself.
pub(super) fn answering(name: &str, port: u16, tls: &Value) -> Value {
    let answer = json!({"status": 200, "body": {"inline_string": "ok"}});
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": answer}]);
    listener(name, port, Some(tls), (&routes, &json!({})))
}

/// Sends every request to this cluster.
pub(super) fn forwarding(name: &str, port: u16, tls: Option<&Value>, cluster: &str) -> Value {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]);
    listener(name, port, tls, (&routes, &json!({})))
}

/// The same in clear text, with a log of why upstreams failed.
pub(super) fn logging(name: &str, port: u16, log: &Path, cluster: &str) -> Value {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]);
    let format = json!({"text_format_source": {
        "inline_string": "%RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON% %RESPONSE_CODE_DETAILS%\n"}});
    let log = typed(
        "extensions.access_loggers.file.v3.FileAccessLog",
        json!({"path": log, "log_format": format}),
    );
    let more = json!({"access_log": [{"name": "file", "typed_config": log}]});
    listener(name, port, None, (&routes, &more))
}

fn listener(name: &str, port: u16, tls: Option<&Value>, (routes, more): (&Value, &Value)) -> Value {
    let filter = json!({"name": "http", "typed_config": manager(routes, more)});
    let mut chain = json!({"filters": [filter]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls.clone();
    }
    typed(
        "config.listener.v3.Listener",
        json!({
            "name": name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [chain],
        }),
    )
}

/// A cluster with one member on this port.
pub(super) fn cluster(name: &str, port: u16, tls: Option<&Value>) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let members = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    let mut cluster = typed(
        "config.cluster.v3.Cluster",
        json!({
            "name": name,
            "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": members},
        }),
    );
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls.clone();
    }
    cluster
}

/// Everything comes from the control plane. In block style as far as it goes, so that a section can
/// be put behind it.
pub(super) fn dynamic(group: &str, api_type: &str, control_plane: SocketAddr) -> String {
    // By default half a minute can pass between two attempts, which is longer than tests wait.
    let retries = json!({"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}});
    let service = json!({"cluster_name": "control-plane", "retry_policy": retries});
    let api = json!({
        "api_type": api_type,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": service}],
    });
    let source = ads();
    let statics = json!({"clusters": [control_plane_cluster(control_plane)]});
    format!(
        "\
node: {{id: {group}-1, cluster: {group}}}
dynamic_resources:
  ads_config: {api}
  lds_config: {source}
  cds_config: {source}
static_resources: {statics}
"
    )
}

/// How the control plane is reached.
pub(super) fn control_plane_cluster(control_plane: SocketAddr) -> Value {
    let mut cluster = cluster("control-plane", control_plane.port(), None);
    cluster
        .as_object_mut()
        .map(|members| members.remove("@type"));
    let options = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    cluster["typed_extension_protocol_options"] = json!({
        name: typed("extensions.upstreams.http.v3.HttpProtocolOptions", options),
    });
    cluster
}
