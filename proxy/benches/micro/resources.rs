//! Resources as a control plane sends them, made of few parts and in any number.

use prost::Message;
use xds_proto::any::pack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use xds_proto::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use xds_proto::pb::envoy::config::cluster::v3::cluster::EdsClusterConfig;
use xds_proto::pb::envoy::config::core::v3::Address;
use xds_proto::pb::envoy::config::core::v3::AggregatedConfigSource;
use xds_proto::pb::envoy::config::core::v3::ConfigSource;
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
use xds_proto::pb::envoy::config::route::v3::route::Action;
use xds_proto::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use xds_proto::pb::envoy::config::route::v3::route_match::PathSpecifier;
use xds_proto::pb::envoy::extensions::filters::http::router::v3::Router;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;

/// One virtual host whose routes lead `/route-N/` to `origin-N`, `origin-0` and so on again after
/// so many clusters.
pub(crate) fn routes(routes: usize, clusters: usize) -> Vec<u8> {
    let routes = (0..routes).map(|at| route(at, at % clusters)).collect();
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes,
        ..VirtualHost::default()
    };
    let config = RouteConfiguration {
        name: "routes".to_owned(),
        virtual_hosts: vec![host],
        ..RouteConfiguration::default()
    };
    config.encode_to_vec()
}

fn route(at: usize, cluster: usize) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(format!("/route-{at}/"))),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(format!("origin-{cluster}"))),
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

/// A cluster named `origin-N` with members by EDS.
pub(crate) fn cluster(at: usize) -> Vec<u8> {
    let source = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    };
    let cluster = Cluster {
        name: format!("origin-{at}"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(source),
            ..EdsClusterConfig::default()
        }),
        ..Cluster::default()
    };
    cluster.encode_to_vec()
}

/// Members of `origin-N`; `first` is the port of the first one.
pub(crate) fn endpoints(at: usize, first: u32, members: u32) -> Vec<u8> {
    let lb_endpoints = (0..members)
        .map(|member| endpoint(first + member))
        .collect();
    let assignment = ClusterLoadAssignment {
        cluster_name: format!("origin-{at}"),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints,
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    };
    assignment.encode_to_vec()
}

fn endpoint(port: u32) -> LbEndpoint {
    let endpoint = Endpoint {
        address: Some(address(port)),
        ..Endpoint::default()
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..LbEndpoint::default()
    }
}

fn address(port: u32) -> Address {
    let address = SocketAddress {
        address: "127.0.0.1".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    Address {
        address: Some(address::Address::SocketAddress(address)),
    }
}

/// A listener whose one chain is HTTP with the routes inline.
pub(crate) fn listener(routes: &[u8]) -> Vec<u8> {
    let routes = RouteConfiguration::decode(routes).expect("it was encoded here");
    let router = hcm::HttpFilter {
        name: "router".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack(
            &Router::default(),
        ))),
        ..hcm::HttpFilter::default()
    };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: "front".to_owned(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(
            routes,
        )),
        http_filters: vec![router],
        ..hcm::HttpConnectionManager::default()
    };
    let filter = Filter {
        name: "http".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(&manager))),
    };
    let listener = Listener {
        name: "front".to_owned(),
        address: Some(address(8080)),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            ..FilterChain::default()
        }],
        ..Listener::default()
    };
    listener.encode_to_vec()
}
