//! From a bootstrap to what the xDS driver needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bootstrap::AdsConfig;
use crate::bootstrap::Bootstrap;
use crate::bootstrap::ConfigSourceKind;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::cluster::Discovery;
use crate::config::endpoint::Address;
use crate::xds::client::BACKOFF_BASE;
use crate::xds::client::BACKOFF_MAX;
use crate::xds::client::Service;
use crate::xds::client::Target;
use crate::xds::driver;
use crate::xds::driver::Source;
use crate::xds::driver::XdsConfig;
use crate::xds::file::PathSource;
use crate::xds::session::Variant;
use crate::xds::stage::StaticResources;

/// What the driver is to do for this bootstrap.
pub(super) fn xds_config(bootstrap: &Bootstrap) -> XdsConfig {
    let StaticResources { clusters, .. } = statics(bootstrap);
    XdsConfig {
        node: bootstrap.node.clone(),
        ads: bootstrap
            .dynamic
            .ads
            .as_ref()
            .map(|ads| ads_config(ads, &clusters)),
        cds: source(&bootstrap.dynamic.cds),
        lds: source(&bootstrap.dynamic.lds),
        initial_fetch_timeout: bootstrap.dynamic.initial_fetch_timeout,
        servers: servers(&clusters),
        statics: statics(bootstrap),
    }
}

/// Where the clusters are that a stream of secrets can use; TLS to a control plane is not supported.
fn servers(clusters: &[Arc<Cluster>]) -> BTreeMap<Name, Vec<Target>> {
    let usable = clusters.iter().filter(|cluster| cluster.can_be_asked());
    usable
        .map(|cluster| (Arc::clone(&cluster.name), targets(cluster)))
        .collect()
}

/// What stands in this bootstrap.
pub(super) fn statics(bootstrap: &Bootstrap) -> StaticResources {
    let clusters = bootstrap.static_clusters.iter();
    let listeners = bootstrap.static_listeners.iter();
    StaticResources {
        clusters: clusters.map(|cluster| Arc::clone(&cluster.value)).collect(),
        listeners: listeners
            .map(|listener| Arc::clone(&listener.value))
            .collect(),
        secrets: bootstrap
            .static_secrets
            .iter()
            .map(|(name, secret)| (Arc::clone(name), secret.value.secret.clone()))
            .collect(),
    }
}

fn source(kind: &ConfigSourceKind) -> Source {
    match kind {
        ConfigSourceKind::Ads => Source::Ads,
        ConfigSourceKind::None => Source::None,
        ConfigSourceKind::Path {
            path,
            watched_directory,
        } => Source::File(PathSource {
            path: path.clone(),
            watched_directory: watched_directory.clone(),
        }),
    }
}

fn ads_config(ads: &AdsConfig, clusters: &[Arc<Cluster>]) -> driver::AdsConfig {
    let named = ads
        .clusters
        .iter()
        .filter_map(|name| clusters.iter().find(|cluster| cluster.name == *name));
    let settings = &ads.settings;
    let authority = settings
        .authority
        .clone()
        .or_else(|| ads.clusters.first().cloned())
        .unwrap_or_default();
    driver::AdsConfig {
        service: Service::Aggregated,
        servers: named.flat_map(|cluster| targets(cluster)).collect(),
        authority: authority.to_string(),
        metadata: settings.metadata.clone(),
        variant: if ads.delta {
            Variant::Delta
        } else {
            Variant::Sotw
        },
        node_on_first_message_only: ads.set_node_on_first_message_only,
        backoff_base: settings.backoff.0.unwrap_or(BACKOFF_BASE),
        backoff_max: settings.backoff.1.unwrap_or(BACKOFF_MAX),
    }
}

fn targets(cluster: &Cluster) -> Vec<Target> {
    match &cluster.discovery {
        // The bootstrap refuses EDS (B-12), and nobody is redirected to a control plane.
        Discovery::Eds { .. } | Discovery::OriginalDst => Vec::new(),
        Discovery::Static(endpoints) => {
            let members = endpoints
                .localities
                .iter()
                .flat_map(|locality| &locality.endpoints);
            members.map(|endpoint| target(&endpoint.address)).collect()
        }
        Discovery::StrictDns(dns) => dns
            .targets
            .iter()
            .map(|target| Target::Tcp {
                host: target.host.to_string(),
                port: target.port,
            })
            .collect(),
    }
}

fn target(address: &Address) -> Target {
    match address {
        Address::Pipe(path) => Target::Unix(path.clone()),
        Address::Socket(address) => Target::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        },
    }
}
