//! From a bootstrap to what the xDS driver needs.

use std::sync::Arc;

use crate::bootstrap::AdsConfig;
use crate::bootstrap::Bootstrap;
use crate::bootstrap::ConfigSourceKind;
use crate::xds::client::BACKOFF_BASE;
use crate::xds::client::BACKOFF_MAX;
use crate::xds::client::Service;
use crate::xds::driver;
use crate::xds::driver::Source;
use crate::xds::driver::XdsConfig;
use crate::xds::file::PathSource;
use crate::xds::session::Variant;
use crate::xds::stage::StaticResources;

/// What the driver is to do for this bootstrap.
pub(super) fn xds_config(bootstrap: &Bootstrap) -> XdsConfig {
    XdsConfig {
        node: bootstrap.node.clone(),
        ads: bootstrap.dynamic.ads.as_ref().map(ads_config),
        cds: source(&bootstrap.dynamic.cds),
        lds: source(&bootstrap.dynamic.lds),
        initial_fetch_timeout: bootstrap.dynamic.initial_fetch_timeout,
        identity: bootstrap.identity.clone(),
        statics: statics(bootstrap),
    }
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

fn ads_config(ads: &AdsConfig) -> driver::AdsConfig {
    let settings = &ads.settings;
    let authority = settings
        .authority
        .clone()
        .or_else(|| ads.clusters.first().cloned())
        .unwrap_or_default();
    driver::AdsConfig {
        service: Service::Aggregated,
        clusters: ads.clusters.clone(),
        servers: Vec::new(),
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
