//! The configuration that is pushed to each sidecar. No certificate and no root stands in it, only
//! the names under which they come from the authority.

use std::net::SocketAddr;

use super::APP;
use super::BACKEND;
use super::place::Place;
use crate::demo::resources::socket_address;

/// Where secrets come from.
const ADS: &str = "{ads: {}, resource_api_version: V3}";

/// Takes requests in clear, and sends them to the backend alone.
pub(super) fn app(own: SocketAddr, place: &Place, backend: SocketAddr) -> String {
    let tls = tls(&format!("{{exact: '{}'}}", place.identity(BACKEND)));
    listener(APP, own, "", "")
        + &format!(
            "\
{cluster}  transport_socket:
    name: tls
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: {BACKEND}
      common_tls_context: {tls}
",
            cluster = cluster(backend)
        )
}

/// Takes requests of workloads of the domain, and says who sent them.
pub(super) fn backend(own: SocketAddr, place: &Place, server: SocketAddr) -> String {
    let tls = tls(&format!("{{prefix: '{}'}}", place.domain()));
    let socket = format!(
        "    transport_socket:
      name: tls
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
        require_client_certificate: true
        common_tls_context: {tls}
"
    );
    let forwarded = "        forward_client_cert_details: SANITIZE_SET
        set_current_client_cert_details: {uri: true}
";
    listener(BACKEND, own, &socket, forwarded) + &cluster(server)
}

/// The own certificate, and trust in peers of the domain whose identity is like this.
fn tls(identity: &str) -> String {
    format!(
        "
          tls_certificate_sds_secret_configs: [{{name: default, sds_config: {ADS}}}]
          combined_validation_context:
            default_validation_context:
              match_typed_subject_alt_names: [{{san_type: URI, matcher: {identity}}}]
            validation_context_sds_secret_config: {{name: ROOTCA, sds_config: {ADS}}}"
    )
}

fn listener(name: &str, address: SocketAddr, socket: &str, more: &str) -> String {
    format!(
        "\
resources:
- '@type': type.googleapis.com/envoy.config.listener.v3.Listener
  name: {name}
  address: {}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: {name}
{more}        route_config:
          name: all
          virtual_hosts:
          - name: all
            domains: ['*']
            routes: [{{match: {{prefix: /}}, route: {{cluster: {BACKEND}}}}}]
        http_filters:
        - name: envoy.filters.http.router
          typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
{socket}",
        socket_address(address)
    )
}

fn cluster(address: SocketAddr) -> String {
    format!(
        "\
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: {BACKEND}
  type: STATIC
  load_assignment:
    cluster_name: {BACKEND}
    endpoints:
    - lb_endpoints:
      - endpoint: {{address: {}}}
",
        socket_address(address)
    )
}
