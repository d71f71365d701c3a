//! `core.v3.ConfigSource` inside a resource: everything comes over the one aggregated stream.

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::ApiVersion;
use xds_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;

use super::Context;
use super::value;

/// Accepts a source that means "the stream this resource came from".
pub(crate) fn aggregated(context: &mut Context, source: core::ConfigSource) -> Option<()> {
    let core::ConfigSource {
        authorities,
        initial_fetch_timeout,
        resource_api_version,
        config_source_specifier,
    } = source;
    unsupported!(context, reject: authorities);
    unsupported!(context, warn "the timeout of the bootstrap holds for all": initial_fetch_timeout);
    api_version(context, "resource_api_version", resource_api_version)?;
    match config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})) => Some(()),
        Some(ConfigSourceSpecifier::Self_(core::SelfConfigSource {
            transport_api_version,
        })) => context.field("self", |context| {
            api_version(context, "transport_api_version", transport_api_version)
        }),
        Some(ConfigSourceSpecifier::Path(_)) => {
            context.unsupported("path", "only ads is supported here")
        }
        Some(ConfigSourceSpecifier::PathConfigSource(_)) => {
            context.unsupported("path_config_source", "only ads is supported here")
        }
        Some(ConfigSourceSpecifier::ApiConfigSource(_)) => {
            context.unsupported("api_config_source", "only ads is supported here")
        }
        None => context.refuse("", "needs a source: ads"),
    }
}

/// Accepts v3, said or unsaid.
pub(crate) fn api_version(context: &mut Context, field: &str, version: i32) -> Option<()> {
    match value::enumeration(context, field, version)? {
        ApiVersion::Auto | ApiVersion::V3 => Some(()),
        ApiVersion::V2 => context.unsupported(field, "only V3 is supported"),
    }
}
