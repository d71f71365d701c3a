//! `ConnectionLimit`: how many connections a filter chain may have at the same time.

use xds_proto::pb::envoy::config::core::v3::RuntimeFeatureFlag;
use xds_proto::pb::envoy::extensions::filters::network::connection_limit::v3 as pb;
use xds_proto::pb::google::protobuf::UInt64Value;

use super::Context;
use super::value;
use crate::config::connection_limits::ConnectionLimit;

/// Reads a limit; none if it is switched off.
pub(crate) fn decode(context: &mut Context, limit: pb::ConnectionLimit) -> Option<ConnectionLimit> {
    let pb::ConnectionLimit {
        stat_prefix,
        max_connections,
        delay,
        runtime_enabled,
    } = limit;
    if stat_prefix.is_empty() {
        context.reject("stat_prefix", "must not be empty");
    }
    let max = context.required(
        "max_connections",
        max_connections,
        |context, UInt64Value { value }| match value {
            0 => context.refuse("", "must be at least 1"),
            max => Some(usize::try_from(max).unwrap_or(usize::MAX)),
        },
    );
    let delay = value::duration(context, "delay", delay);
    let is_enabled = context.optional("runtime_enabled", runtime_enabled, is_enabled);
    let max = max?;
    is_enabled.unwrap_or(true).then(|| ConnectionLimit {
        stat_prefix: stat_prefix.into(),
        max,
        delay: delay.filter(|delay| !delay.is_zero()),
    })
}

fn is_enabled(context: &mut Context, flag: RuntimeFeatureFlag) -> Option<bool> {
    let RuntimeFeatureFlag {
        default_value,
        runtime_key,
    } = flag;
    unsupported!(context, warn "there is no such runtime, the default holds": runtime_key);
    context.required("default_value", default_value, |_, value| Some(value.value))
}
