//! `dynamic_resources`: one aggregated gRPC stream, or files.

use std::path::PathBuf;
use std::time::Duration;

use xds_proto::pb::envoy::config::bootstrap::v3::bootstrap::DynamicResources;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::api_config_source::ApiType;
use xds_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;

use super::StaticResource;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::cluster::Discovery;
use crate::config::cluster::UpstreamProtocol;
use crate::config::grpc::GrpcSettings;
use crate::xds::decode::Context;
use crate::xds::decode::config_source::api_version;
use crate::xds::decode::grpc_service;
use crate::xds::decode::unsupported;
use crate::xds::decode::value;

/// Envoy's default of `initial_fetch_timeout`.
const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Where resources come from besides the bootstrap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Listeners.
    pub lds: ConfigSourceKind,
    /// Clusters.
    pub cds: ConfigSourceKind,
    /// The aggregated stream, if anything comes by it.
    pub ads: Option<AdsConfig>,
    /// Longest wait for the first answer before going on without; the longer of the two sources'.
    /// `None` waits for ever.
    pub initial_fetch_timeout: Option<Duration>,
}

/// Where resources of one type come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConfigSourceKind {
    /// The aggregated stream.
    Ads,
    /// Nowhere.
    #[default]
    None,
    /// A file that is read again when it changes.
    Path {
        /// The file.
        path: PathBuf,
        /// Look for moves in this directory instead of changes of the file.
        watched_directory: Option<PathBuf>,
    },
}

/// The aggregated stream (`ads_config`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdsConfig {
    /// Incremental variant of the protocol.
    pub delta: bool,
    /// Static clusters to connect to, tried in turn; at least one. Connect timeout and HTTP/2
    /// keepalive are theirs.
    pub clusters: Vec<Name>,
    /// How the stream is opened.
    pub settings: GrpcSettings,
    /// Leave the node out of all requests of a stream but the first.
    pub set_node_on_first_message_only: bool,
}

/// Reads where resources come from; `clusters` are those the stream may use.
pub(super) fn decode(
    context: &mut Context,
    dynamic: DynamicResources,
    clusters: &[StaticResource<Cluster>],
) -> Option<Dynamic> {
    let DynamicResources {
        lds_config,
        lds_resources_locator,
        cds_config,
        cds_resources_locator,
        ads_config,
    } = dynamic;
    unsupported!(context, reject: lds_resources_locator, cds_resources_locator);
    let (lds, lds_timeout) = context
        .optional("lds_config", lds_config, source)
        .unwrap_or_default();
    let (cds, cds_timeout) = context
        .optional("cds_config", cds_config, source)
        .unwrap_or_default();
    let has_ads = ads_config.is_some();
    let ads = context.optional("ads_config", ads_config, |context, config| {
        aggregated(context, config, clusters)
    });
    for (field, kind) in [("lds_config", &lds), ("cds_config", &cds)] {
        if *kind == ConfigSourceKind::Ads && !has_ads {
            context.reject(field, "uses ads, which needs ads_config");
        }
    }
    let timeouts = [lds_timeout, cds_timeout];
    let given = timeouts.into_iter().flatten().max();
    let forever = timeouts.contains(&Some(Duration::ZERO));
    let initial_fetch_timeout = given.unwrap_or(INITIAL_FETCH_TIMEOUT);
    Some(Dynamic {
        lds,
        cds,
        ads,
        initial_fetch_timeout: (!forever).then_some(initial_fetch_timeout),
    })
}

type Source = (ConfigSourceKind, Option<Duration>);

#[expect(deprecated, reason = "existing bootstraps still use path")]
fn source(context: &mut Context, source: core::ConfigSource) -> Option<Source> {
    let core::ConfigSource {
        authorities,
        initial_fetch_timeout,
        resource_api_version,
        config_source_specifier,
    } = source;
    unsupported!(context, reject: authorities);
    api_version(context, "resource_api_version", resource_api_version)?;
    let timeout = value::duration(context, "initial_fetch_timeout", initial_fetch_timeout);
    let kind = match config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})) => ConfigSourceKind::Ads,
        Some(ConfigSourceSpecifier::Path(path)) => {
            let path = file_path(context, "path", path)?;
            ConfigSourceKind::Path {
                path,
                watched_directory: None,
            }
        }
        Some(ConfigSourceSpecifier::PathConfigSource(source)) => {
            context.field("path_config_source", |context| path_source(context, source))?
        }
        Some(ConfigSourceSpecifier::ApiConfigSource(_)) => {
            return context.unsupported(
                "api_config_source",
                "only ads and path_config_source are supported",
            );
        }
        Some(ConfigSourceSpecifier::Self_(_)) => {
            return context.refuse("self", "has no meaning in a bootstrap");
        }
        None => return context.refuse("", "needs a source: ads or path_config_source"),
    };
    Some((kind, timeout))
}

fn path_source(context: &mut Context, source: core::PathConfigSource) -> Option<ConfigSourceKind> {
    let core::PathConfigSource {
        path,
        watched_directory,
        poll_interval,
    } = source;
    unsupported!(context, warn "changes are noticed without polling": poll_interval);
    let path = file_path(context, "path", path);
    let watched_directory = context.optional(
        "watched_directory",
        watched_directory,
        |context, directory| {
            let core::WatchedDirectory { path, watch_modify } = directory;
            unsupported!(context, warn: watch_modify);
            file_path(context, "path", path)
        },
    );
    Some(ConfigSourceKind::Path {
        path: path?,
        watched_directory,
    })
}

fn file_path(context: &mut Context, field: &str, path: String) -> Option<PathBuf> {
    if path.is_empty() {
        return context.refuse(field, "must not be empty");
    }
    Some(path.into())
}

fn aggregated(
    context: &mut Context,
    config: core::ApiConfigSource,
    clusters: &[StaticResource<Cluster>],
) -> Option<AdsConfig> {
    let core::ApiConfigSource {
        api_type,
        transport_api_version,
        cluster_names,
        grpc_services,
        refresh_delay,
        request_timeout,
        rate_limit_settings,
        set_node_on_first_message_only,
        config_validators,
    } = config;
    unsupported!(context, warn: refresh_delay, request_timeout, rate_limit_settings);
    unsupported!(context, reject "is for REST; use grpc_services": cluster_names);
    unsupported!(context, reject: config_validators);
    api_version(context, "transport_api_version", transport_api_version);
    let delta = variant(context, api_type);
    let check = |context: &mut Context, name: &str| check_cluster(context, name, clusters);
    let (clusters, settings) = grpc_service::several(context, grpc_services, check)?;
    Some(AdsConfig {
        delta: delta?,
        clusters,
        settings,
        set_node_on_first_message_only,
    })
}

#[expect(deprecated, reason = "the number 0 is a deprecated name of nothing")]
fn variant(context: &mut Context, api_type: i32) -> Option<bool> {
    match value::enumeration(context, "api_type", api_type)? {
        ApiType::Grpc => Some(false),
        ApiType::DeltaGrpc => Some(true),
        ApiType::DeprecatedAndUnavailableDoNotUse
        | ApiType::Rest
        | ApiType::AggregatedGrpc
        | ApiType::AggregatedDeltaGrpc => {
            context.unsupported("api_type", "only GRPC and DELTA_GRPC are supported")
        }
    }
}

/// The stream must reach its server before anything else is known.
pub(super) fn check_cluster(
    context: &mut Context,
    name: &str,
    clusters: &[StaticResource<Cluster>],
) -> Option<()> {
    let field = "cluster_name";
    let Some(cluster) = clusters.iter().find(|cluster| *cluster.value.name == *name) else {
        return context.refuse(
            field,
            format!("{name:?} is not a valid cluster of static_resources"),
        );
    };
    if matches!(cluster.value.discovery, Discovery::Eds { .. }) {
        return context.refuse(
            field,
            format!("{name:?} is of type EDS, its members come by the stream itself"),
        );
    }
    let (transport, matches) = (&cluster.value.transport, &cluster.value.transport_matches);
    if transport.proxy_protocol.is_some() || !matches.is_empty() {
        return context.unsupported(
            field,
            format!(
                "{name:?} has a PROXY protocol header or transport_socket_matches, which a control plane is not reached by"
            ),
        );
    }
    if cluster.value.protocol != UpstreamProtocol::Http2 {
        return context.refuse(
            field,
            format!("{name:?} does not speak HTTP/2, as gRPC needs; set http2_protocol_options"),
        );
    }
    Some(())
}
