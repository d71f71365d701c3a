//! The configuration that the demo pushes, in the form a person would write it.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::demo::backends::Backend;

/// Weights of the two backends that share the traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    pub(crate) blue: u32,
    pub(crate) green: u32,
}

/// A proxy's bootstrap: who it is and where its configuration comes from.
pub(crate) fn bootstrap(id: &str, admin: SocketAddr, control_plane: &str) -> String {
    format!(
        "\
node: {{id: {id}, cluster: demo}}
admin: {{address: {}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: control-plane}}}}]
  lds_config: {{ads: {{}}, resource_api_version: V3}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: control-plane
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: control-plane
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {control_plane}}}
",
        socket_address(admin)
    )
}

/// An address in Envoy's words.
pub(crate) fn socket_address(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!("{{socket_address: {{address: {ip}, port_value: {port}}}}}")
}

/// A cluster of all backends whose shares follow their latency.
fn mixed(backends: &[Backend]) -> String {
    let mut text = "\
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: mixed
  type: EDS
  connect_timeout: 1s
  eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
  load_balancing_policy:
    policies:
    - typed_extension_config:
        name: latency
        typed_config: {'@type': type.googleapis.com/weir.load_balancing.v1.LatencyWeightedRoundRobin}
    - typed_extension_config: # what an Envoy takes instead
        name: round_robin
        typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin}
- '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: mixed
  endpoints:
  - lb_endpoints:
"
    .to_owned();
    for backend in backends {
        let address = socket_address(backend.address);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    - endpoint: {{address: {address}}}");
    }
    text
}

/// Everything the control plane serves.
pub(crate) fn all(proxy: SocketAddr, backends: &[Backend], split: Split) -> String {
    let mut text = format!(
        "\
resources:
- '@type': type.googleapis.com/envoy.config.listener.v3.Listener
  name: demo
  address: {}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: demo
        rds: {{route_config_name: demo, config_source: {{ads: {{}}, resource_api_version: V3}}}}
        http_filters:
        - name: envoy.filters.http.router
          typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
- '@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: demo
  virtual_hosts:
  - name: demo
    domains: ['*']
    routes:
    - match: {{path_separated_prefix: /red}}
      route: {{cluster: red}}
    - match: {{path_separated_prefix: /mixed}}
      route: {{cluster: mixed}}
    - match: {{prefix: /}}
      route:
        weighted_clusters:
          clusters:
          - {{name: blue, weight: {}}}
          - {{name: green, weight: {}}}
",
        socket_address(proxy),
        split.blue,
        split.green
    );
    for backend in backends {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: {0}
  type: EDS
  connect_timeout: 1s
  eds_cluster_config: {{eds_config: {{ads: {{}}, resource_api_version: V3}}}}
- '@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
  cluster_name: {0}
  endpoints:
  - lb_endpoints:
    - endpoint: {{address: {1}}}
",
            backend.name,
            socket_address(backend.address)
        );
    }
    text + &mixed(backends)
}
