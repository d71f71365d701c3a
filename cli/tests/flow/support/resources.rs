//! Resources as messages: quicker to change a thousand times than text.

use std::net::SocketAddr;

use xds_proto::any::pack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use xds_proto::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use xds_proto::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use xds_proto::pb::envoy::config::core::v3::Address;
use xds_proto::pb::envoy::config::core::v3::AggregatedConfigSource;
use xds_proto::pb::envoy::config::core::v3::ApiVersion;
use xds_proto::pb::envoy::config::core::v3::ConfigSource;
use xds_proto::pb::envoy::config::core::v3::HeaderValue;
use xds_proto::pb::envoy::config::core::v3::HeaderValueOption;
use xds_proto::pb::envoy::config::core::v3::Http2ProtocolOptions;
use xds_proto::pb::envoy::config::core::v3::SocketAddress;
use xds_proto::pb::envoy::config::core::v3::address;
use xds_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_proto::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_proto::pb::envoy::config::endpoint::v3::Endpoint;
use xds_proto::pb::envoy::config::endpoint::v3::LbEndpoint;
use xds_proto::pb::envoy::config::endpoint::v3::LocalityLbEndpoints;
use xds_proto::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_proto::pb::envoy::config::listener::v3::Filter;
use xds_proto::pb::envoy::config::listener::v3::FilterChain;
use xds_proto::pb::envoy::config::listener::v3::Listener;
use xds_proto::pb::envoy::config::listener::v3::filter;
use xds_proto::pb::envoy::config::route::v3::Route;
use xds_proto::pb::envoy::config::route::v3::RouteAction;
use xds_proto::pb::envoy::config::route::v3::RouteConfiguration;
use xds_proto::pb::envoy::config::route::v3::RouteMatch;
use xds_proto::pb::envoy::config::route::v3::VirtualHost;
use xds_proto::pb::envoy::config::route::v3::WeightedCluster;
use xds_proto::pb::envoy::config::route::v3::route::Action;
use xds_proto::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use xds_proto::pb::envoy::config::route::v3::route_match::PathSpecifier;
use xds_proto::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use xds_proto::pb::envoy::extensions::filters::http::router::v3::Router;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::Rds;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::Duration;
use xds_proto::pb::google::protobuf::UInt32Value;

/// The header by which a client sees which push its answer belongs to.
pub(crate) const GENERATION: &str = "x-generation";

/// One cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterSpec<'a> {
    pub(crate) name: &'a str,
    /// Address and weight.
    pub(crate) members: &'a [(SocketAddr, u32)],
    /// Members come in a resource of their own.
    pub(crate) is_eds: bool,
    pub(crate) is_http2: bool,
    /// Changing it makes it another configuration.
    pub(crate) connect_seconds: i64,
}

/// The cluster, and its members if they are a resource of their own.
pub(crate) fn cluster(spec: ClusterSpec<'_>) -> Vec<Any> {
    let assignment = assignment(spec.name, spec.members);
    let kind = if spec.is_eds {
        DiscoveryType::Eds
    } else {
        DiscoveryType::Static
    };
    let message = Cluster {
        name: spec.name.to_owned(),
        connect_timeout: Some(Duration {
            seconds: spec.connect_seconds,
            nanos: 0,
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        eds_cluster_config: spec.is_eds.then(|| EdsClusterConfig {
            eds_config: Some(by_ads()),
            ..Default::default()
        }),
        load_assignment: (!spec.is_eds).then(|| assignment.clone()),
        ..with_protocol(spec.is_http2)
    };
    let mut all = vec![pack(&message)];
    if spec.is_eds {
        all.push(pack(&assignment));
    }
    all
}

#[expect(deprecated, reason = "the short form is still valid, and short")]
fn with_protocol(is_http2: bool) -> Cluster {
    let http2_protocol_options = is_http2.then(Http2ProtocolOptions::default);
    Cluster {
        http2_protocol_options,
        ..Default::default()
    }
}

/// Members with weights.
pub(crate) fn assignment(name: &str, members: &[(SocketAddr, u32)]) -> ClusterLoadAssignment {
    let member = |(addr, weight): &(SocketAddr, u32)| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address(*addr)),
            ..Default::default()
        })),
        load_balancing_weight: Some(UInt32Value { value: *weight }),
        ..Default::default()
    };
    let locality = LocalityLbEndpoints {
        lb_endpoints: members.iter().map(member).collect(),
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![locality],
        ..Default::default()
    }
}

/// A listener whose routes come by RDS.
pub(crate) fn listener(name: &str, addr: SocketAddr, table: &str, stat_prefix: &str) -> Any {
    let rds = Rds {
        config_source: Some(by_ads()),
        route_config_name: table.to_owned(),
    };
    listener_with(name, addr, stat_prefix, RouteSpecifier::Rds(rds))
}

/// A listener with its routes inside.
pub(crate) fn listener_inline(name: &str, addr: SocketAddr, routes: RouteConfiguration) -> Any {
    listener_with(name, addr, name, RouteSpecifier::RouteConfig(routes))
}

fn listener_with(name: &str, addr: SocketAddr, stat_prefix: &str, routes: RouteSpecifier) -> Any {
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(
            &Router::default(),
        ))),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        http_filters: vec![router],
        route_specifier: Some(routes),
        ..Default::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(&manager))),
    };
    pack(&Listener {
        name: name.to_owned(),
        address: Some(address(addr)),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// A route table whose answers carry `generation`; targets are clusters with weights.
pub(crate) fn table(
    name: &str,
    routes: &[(String, Vec<(String, u32)>)],
    generation: u64,
) -> RouteConfiguration {
    let header = HeaderValue {
        key: GENERATION.to_owned(),
        value: generation.to_string(),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: routes
            .iter()
            .map(|(prefix, targets)| route(prefix, targets))
            .collect(),
        ..Default::default()
    };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![host],
        response_headers_to_add: vec![HeaderValueOption {
            header: Some(header),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn route(prefix: &str, targets: &[(String, u32)]) -> Route {
    let weight = |(name, weight): &(String, u32)| ClusterWeight {
        name: name.clone(),
        weight: Some(UInt32Value { value: *weight }),
        ..Default::default()
    };
    let specifier = match targets {
        [(only, _)] => ClusterSpecifier::Cluster(only.clone()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several.iter().map(weight).collect(),
            ..Default::default()
        }),
    };
    let action = RouteAction {
        cluster_specifier: Some(specifier),
        ..Default::default()
    };
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(prefix.to_owned())),
            ..Default::default()
        }),
        action: Some(Action::Route(action)),
        ..Default::default()
    }
}

fn by_ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// A TCP address.
pub(crate) fn address(addr: SocketAddr) -> Address {
    let socket = SocketAddress {
        address: addr.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(addr.port()))),
        ..Default::default()
    };
    Address {
        address: Some(address::Address::SocketAddress(socket)),
    }
}
