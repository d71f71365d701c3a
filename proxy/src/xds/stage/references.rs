//! What a listener or a route table names.

use std::collections::BTreeSet;

use crate::config::Cluster;
use crate::config::Listener;
use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::filter_chain::NetworkFilter;
use crate::config::filter_chain::TransportSocket;
use crate::config::listener::RouteSource;
use crate::config::route::Action;
use crate::config::route::ClusterSpecifier;
use crate::config::secret::SecretRef;

/// The clusters a route table can send to.
pub(super) fn clusters_of_routes(routes: &RouteConfig) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    let all = routes.virtual_hosts.iter().flat_map(|host| &host.routes);
    for route in all {
        let Action::Forward(forward) = &route.action else {
            continue;
        };
        match &forward.cluster {
            ClusterSpecifier::Cluster(name) => {
                names.insert(name.clone());
            }
            ClusterSpecifier::Weighted(choices) => {
                names.extend(choices.iter().map(|c| c.name.clone()));
            }
        }
    }
    names
}

/// The secrets that chains of a listener name.
pub(crate) fn secrets_of_listener(listener: &Listener) -> impl Iterator<Item = &SecretRef> {
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let tls = chains.filter_map(|chain| match &chain.transport_socket {
        TransportSocket::Raw => None,
        TransportSocket::Tls(tls) => Some(tls),
    });
    tls.flat_map(|tls| tls.common.secrets.all())
}

/// The secrets that transports of a cluster name.
pub(crate) fn secrets_of_cluster(cluster: &Cluster) -> impl Iterator<Item = &SecretRef> {
    let others = cluster.transport_matches.iter().map(|one| &one.transport);
    let all = others.chain([&cluster.transport]);
    all.filter_map(|transport| transport.tls.as_ref())
        .flat_map(|tls| tls.common.secrets.all())
}

/// What a listener names.
#[derive(Debug, Default)]
pub(super) struct ListenerReferences {
    /// Route tables that come by RDS.
    pub(super) tables: BTreeSet<Name>,
    /// Clusters, from TCP proxies and from tables that stand in the listener itself.
    pub(super) clusters: BTreeSet<Name>,
}

impl ListenerReferences {
    pub(super) fn new(listener: &Listener) -> Self {
        let mut found = Self::default();
        let chains = listener
            .filter_chains
            .iter()
            .chain(&listener.default_filter_chain);
        for chain in chains {
            match &chain.filter {
                NetworkFilter::HttpConnectionManager(manager) => match &manager.routes {
                    RouteSource::Inline(routes) => {
                        found.clusters.append(&mut clusters_of_routes(routes));
                    }
                    RouteSource::Rds(name) => {
                        found.tables.insert(name.clone());
                    }
                },
                NetworkFilter::TcpProxy(proxy) => {
                    let names = proxy.clusters.iter().map(|choice| choice.name.clone());
                    found.clusters.extend(names);
                }
            }
        }
        found
    }
}
