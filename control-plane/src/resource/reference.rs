//! What a resource is called and what it refers to.
//!
//! Decodes known types to find names; the decoded message is dropped, never served. Unknown types
//! have no references.

use std::sync::Arc;

use prost::DecodeError;
use prost::Message;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use xds_proto::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use xds_proto::pb::envoy::config::core::v3::TransportSocket;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::config::core::v3::transport_socket;
use xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_proto::pb::envoy::config::listener::v3::FilterChain;
use xds_proto::pb::envoy::config::listener::v3::Listener;
use xds_proto::pb::envoy::config::listener::v3::filter;
use xds_proto::pb::envoy::config::route::v3::RouteAction;
use xds_proto::pb::envoy::config::route::v3::RouteConfiguration;
use xds_proto::pb::envoy::config::route::v3::ScopedRouteConfiguration;
use xds_proto::pb::envoy::config::route::v3::VirtualHost;
use xds_proto::pb::envoy::config::route::v3::route;
use xds_proto::pb::envoy::config::route::v3::route_action;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use xds_proto::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use xds_proto::pb::envoy::service::runtime::v3::Runtime;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::type_url;

use crate::types;

/// A name one resource expects to find among the resources of another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Type of the resource referred to.
    pub type_url: &'static str,
    /// Its name.
    pub name: Arc<str>,
}

/// Why a resource cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The bytes are not the message the type URL promises.
    #[error("payload is not a valid {type_url}")]
    Decode {
        /// The promise.
        type_url: String,
        /// What prost found.
        source: DecodeError,
    },
    /// Neither the message nor the caller names the resource.
    #[error("a resource of type {type_url} has no name")]
    Unnamed {
        /// Its type.
        type_url: String,
    },
}

/// The name inside the message.
pub(super) fn name_of(any: &Any) -> Result<String, ReferenceError> {
    let name = match any.type_url.as_str() {
        types::CLUSTER => decode::<Cluster>(any)?.name,
        types::ENDPOINT => decode::<ClusterLoadAssignment>(any)?.cluster_name,
        types::LISTENER => decode::<Listener>(any)?.name,
        types::ROUTE => decode::<RouteConfiguration>(any)?.name,
        types::SCOPED_ROUTE => decode::<ScopedRouteConfiguration>(any)?.name,
        types::VIRTUAL_HOST => decode::<VirtualHost>(any)?.name,
        types::SECRET => decode::<tls::Secret>(any)?.name,
        types::RUNTIME => decode::<Runtime>(any)?.name,
        types::EXTENSION => decode::<TypedExtensionConfig>(any)?.name,
        _ => String::new(),
    };
    if name.is_empty() {
        return Err(ReferenceError::Unnamed {
            type_url: any.type_url.clone(),
        });
    }
    Ok(name)
}

/// Every reference in the message, without duplicates.
pub(super) fn references_of(any: &Any) -> Result<Vec<Reference>, ReferenceError> {
    let mut found = Found::default();
    match any.type_url.as_str() {
        types::CLUSTER => found.cluster(&decode(any)?),
        types::LISTENER => found.listener(&decode(any)?)?,
        types::ROUTE => found.virtual_hosts(&decode::<RouteConfiguration>(any)?.virtual_hosts),
        types::VIRTUAL_HOST => found.virtual_hosts(&[decode(any)?]),
        types::SCOPED_ROUTE => {
            let scope: ScopedRouteConfiguration = decode(any)?;
            found.add(types::ROUTE, &scope.route_configuration_name);
        }
        types::ENDPOINT => drop(decode::<ClusterLoadAssignment>(any)?),
        types::SECRET => drop(decode::<tls::Secret>(any)?),
        _ => {}
    }
    Ok(found.0)
}

fn decode<M: Message + Default>(any: &Any) -> Result<M, ReferenceError> {
    M::decode(any.value.as_slice()).map_err(|source| ReferenceError::Decode {
        type_url: any.type_url.clone(),
        source,
    })
}

#[derive(Default)]
struct Found(Vec<Reference>);

impl Found {
    fn add(&mut self, type_url: &'static str, name: &str) {
        let known = |r: &Reference| r.type_url == type_url && &*r.name == name;
        if !name.is_empty() && !self.0.iter().any(known) {
            self.0.push(Reference {
                type_url,
                name: Arc::from(name),
            });
        }
    }

    fn cluster(&mut self, cluster: &Cluster) {
        let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds as i32);
        if cluster.cluster_discovery_type == Some(eds) {
            let service = cluster
                .eds_cluster_config
                .as_ref()
                .map_or("", |eds| &eds.service_name);
            let name = if service.is_empty() {
                &cluster.name
            } else {
                service
            };
            self.add(types::ENDPOINT, name);
        }
        self.transport_socket(cluster.transport_socket.as_ref());
        for socket in &cluster.transport_socket_matches {
            self.transport_socket(socket.transport_socket.as_ref());
        }
    }

    fn listener(&mut self, listener: &Listener) -> Result<(), ReferenceError> {
        for chain in listener
            .filter_chains
            .iter()
            .chain(&listener.default_filter_chain)
        {
            self.filter_chain(chain)?;
        }
        if let Some(api) = listener
            .api_listener
            .as_ref()
            .and_then(|l| l.api_listener.as_ref())
        {
            self.network_filter(api)?;
        }
        Ok(())
    }

    fn filter_chain(&mut self, chain: &FilterChain) -> Result<(), ReferenceError> {
        self.transport_socket(chain.transport_socket.as_ref());
        for entry in &chain.filters {
            if let Some(filter::ConfigType::TypedConfig(any)) = &entry.config_type {
                self.network_filter(any)?;
            }
        }
        Ok(())
    }

    fn network_filter(&mut self, any: &Any) -> Result<(), ReferenceError> {
        match any.type_url.as_str() {
            type_url::HTTP_CONNECTION_MANAGER => {
                let manager: hcm::HttpConnectionManager = decode(any)?;
                match &manager.route_specifier {
                    Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)) => {
                        self.add(types::ROUTE, &rds.route_config_name);
                    }
                    Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(routes)) => {
                        self.virtual_hosts(&routes.virtual_hosts);
                    }
                    Some(hcm::http_connection_manager::RouteSpecifier::ScopedRoutes(_)) | None => {}
                }
            }
            type_url::TCP_PROXY => match decode::<tcp::TcpProxy>(any)?.cluster_specifier {
                Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(name)) => {
                    self.add(types::CLUSTER, &name);
                }
                Some(tcp::tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)) => {
                    weighted
                        .clusters
                        .iter()
                        .for_each(|c| self.add(types::CLUSTER, &c.name));
                }
                None => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn virtual_hosts(&mut self, hosts: &[VirtualHost]) {
        for entry in hosts.iter().flat_map(|host| &host.routes) {
            if let Some(route::Action::Route(action)) = &entry.action {
                self.route_action(action);
            }
        }
    }

    fn route_action(&mut self, action: &RouteAction) {
        match &action.cluster_specifier {
            Some(route_action::ClusterSpecifier::Cluster(name)) => self.add(types::CLUSTER, name),
            Some(route_action::ClusterSpecifier::WeightedClusters(weighted)) => {
                weighted
                    .clusters
                    .iter()
                    .for_each(|c| self.add(types::CLUSTER, &c.name));
            }
            _ => {}
        }
        for mirror in &action.request_mirror_policies {
            self.add(types::CLUSTER, &mirror.cluster);
        }
    }

    /// An undecodable transport socket is the client's to judge: it may be an extension.
    fn transport_socket(&mut self, socket: Option<&TransportSocket>) {
        let Some(transport_socket::ConfigType::TypedConfig(any)) =
            socket.and_then(|socket| socket.config_type.as_ref())
        else {
            return;
        };
        let common = match any.type_url.as_str() {
            type_url::UPSTREAM_TLS_CONTEXT => {
                decode::<tls::UpstreamTlsContext>(any).map(|c| c.common_tls_context)
            }
            type_url::DOWNSTREAM_TLS_CONTEXT => {
                decode::<tls::DownstreamTlsContext>(any).map(|c| c.common_tls_context)
            }
            _ => return,
        };
        if let Ok(Some(common)) = common {
            self.common_tls(&common);
        }
    }

    fn common_tls(&mut self, common: &tls::CommonTlsContext) {
        use tls::common_tls_context::ValidationContextType as Validation;
        let validation = match &common.validation_context_type {
            Some(Validation::ValidationContextSdsSecretConfig(sds)) => Some(sds),
            Some(Validation::CombinedValidationContext(combined)) => {
                combined.validation_context_sds_secret_config.as_ref()
            }
            _ => None,
        };
        for sds in common
            .tls_certificate_sds_secret_configs
            .iter()
            .chain(validation)
        {
            // Without a source the name means a secret of the client's own bootstrap.
            if sds.sds_config.is_some() {
                self.add(types::SECRET, &sds.name);
            }
        }
    }
}
