//! `core.v3.ConfigSource` of a secret: the aggregated stream, a file, or a stream of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::api_config_source::ApiType;
use xds_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;

use super::Context;
use super::config_source::api_version;
use super::grpc_service;
use super::value;
use crate::config::secret::SecretFile;
use crate::config::secret::SecretServer;
use crate::config::secret::SecretSource;

/// Envoy's default.
const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a secret comes from, and how long its first answer is waited for.
pub(crate) fn decode(
    context: &mut Context,
    source: core::ConfigSource,
) -> Option<(SecretSource, Option<Duration>)> {
    let core::ConfigSource {
        authorities,
        initial_fetch_timeout,
        resource_api_version,
        config_source_specifier,
    } = source;
    unsupported!(context, reject: authorities);
    api_version(context, "resource_api_version", resource_api_version)?;
    let timeout = value::duration(context, "initial_fetch_timeout", initial_fetch_timeout);
    let timeout = timeout.unwrap_or(INITIAL_FETCH_TIMEOUT);
    let source = match config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})) => SecretSource::Ads,
        Some(ConfigSourceSpecifier::Self_(core::SelfConfigSource {
            transport_api_version,
        })) => {
            context.field("self", |context| {
                api_version(context, "transport_api_version", transport_api_version)
            })?;
            SecretSource::Ads
        }
        Some(ConfigSourceSpecifier::Path(path)) => {
            let path = file_path(context, "path", path)?;
            SecretSource::File(Arc::new(SecretFile {
                path,
                watched_directory: None,
            }))
        }
        Some(ConfigSourceSpecifier::PathConfigSource(source)) => {
            let file = context.field("path_config_source", |context| file(context, source))?;
            SecretSource::File(Arc::new(file))
        }
        Some(ConfigSourceSpecifier::ApiConfigSource(source)) => {
            let server = context.field("api_config_source", |context| server(context, source))?;
            SecretSource::Grpc(Arc::new(server))
        }
        None => return context.refuse("", "needs a source: ads, api_config_source or a path"),
    };
    Some((source, (!timeout.is_zero()).then_some(timeout)))
}

fn file(context: &mut Context, source: core::PathConfigSource) -> Option<SecretFile> {
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
            let core::WatchedDirectory {
                path,
                watch_modify: _, // files edited in place are always noticed
            } = directory;
            file_path(context, "path", path)
        },
    );
    Some(SecretFile {
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

fn server(context: &mut Context, source: core::ApiConfigSource) -> Option<SecretServer> {
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
    } = source;
    unsupported!(context, warn: refresh_delay, request_timeout, rate_limit_settings);
    unsupported!(context, reject "is for REST; use grpc_services": cluster_names);
    unsupported!(context, reject: config_validators);
    api_version(context, "transport_api_version", transport_api_version);
    let delta = match value::enumeration(context, "api_type", api_type)? {
        ApiType::Grpc => false,
        ApiType::DeltaGrpc => true,
        ApiType::DeprecatedAndUnavailableDoNotUse
        | ApiType::Rest
        | ApiType::AggregatedGrpc
        | ApiType::AggregatedDeltaGrpc => {
            return context.unsupported("api_type", "only GRPC and DELTA_GRPC are supported");
        }
    };
    let any = |_: &mut Context, _: &str| Some(());
    let (clusters, settings) = grpc_service::several(context, grpc_services, any)?;
    Some(SecretServer {
        clusters,
        delta,
        settings,
        set_node_on_first_message_only,
    })
}
