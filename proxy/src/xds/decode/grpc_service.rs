//! `core.v3.GrpcService`: a cluster that is asked, and how.

use std::time::Duration;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::grpc_service::EnvoyGrpc;
use xds_proto::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;

use super::Context;
use super::metadata;
use super::value;
use crate::config::Name;
use crate::config::grpc::GrpcSettings;

/// The cluster that serves it, and how its streams are opened. `check` may object to the cluster.
pub(crate) fn decode(
    context: &mut Context,
    service: core::GrpcService,
    check: impl FnOnce(&mut Context, &str) -> Option<()>,
) -> Option<(Name, GrpcSettings)> {
    let core::GrpcService {
        timeout,
        initial_metadata,
        retry_policy,
        target_specifier,
    } = service;
    unsupported!(context, warn "a stream has no end": timeout);
    let metadata = metadata::decode(context, initial_metadata);
    let outer = context.optional("retry_policy", retry_policy, backoff);
    let target = match target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(target)) => target,
        Some(TargetSpecifier::GoogleGrpc(_)) => {
            return context.unsupported("google_grpc", "not supported; use envoy_grpc");
        }
        None => return context.missing("envoy_grpc"),
    };
    context.field("envoy_grpc", |context| {
        let EnvoyGrpc {
            cluster_name,
            authority,
            retry_policy,
            max_receive_message_length,
            skip_envoy_headers: _, // none are sent
        } = target;
        unsupported!(context, warn "our own limit holds": max_receive_message_length);
        let inner = context.optional("retry_policy", retry_policy, backoff);
        if cluster_name.is_empty() {
            return context.refuse("cluster_name", "must not be empty");
        }
        check(context, &cluster_name)?;
        let settings = GrpcSettings {
            authority: (!authority.is_empty()).then(|| authority.into()),
            metadata: metadata?,
            backoff: outer.or(inner).unwrap_or_default(),
        };
        Some((cluster_name.into(), settings))
    })
}

/// The clusters of several services, and the settings of the first, which hold for all.
pub(crate) fn several(
    context: &mut Context,
    services: Vec<core::GrpcService>,
    mut check: impl FnMut(&mut Context, &str) -> Option<()>,
) -> Option<(Vec<Name>, GrpcSettings)> {
    let field = "grpc_services";
    if services.is_empty() {
        context.reject(field, "must not be empty");
    }
    let services = context.each(field, services, |context, one| {
        decode(context, one, &mut check)
    });
    let (_, settings) = services.first()?.clone();
    for (i, (_, other)) in services.iter().enumerate() {
        if *other != settings {
            let reason = "authority, metadata and backoff of the first one hold for all";
            context.warn(&format!("{field}[{i}]"), reason);
        }
    }
    let clusters = services.into_iter().map(|(cluster, _)| cluster).collect();
    Some((clusters, settings))
}

fn backoff(
    context: &mut Context,
    policy: core::RetryPolicy,
) -> Option<(Option<Duration>, Option<Duration>)> {
    let core::RetryPolicy {
        retry_back_off,
        num_retries,
        retry_on,
        retry_priority,
        retry_host_predicate,
        host_selection_retry_max_attempts,
    } = policy;
    unsupported!(context, warn "the stream is opened again for ever": num_retries, retry_on,
        retry_priority, retry_host_predicate, host_selection_retry_max_attempts);
    context.optional("retry_back_off", retry_back_off, |context, strategy| {
        let core::BackoffStrategy {
            base_interval,
            max_interval,
        } = strategy;
        let base = value::positive_duration(context, "base_interval", base_interval);
        let most = value::positive_duration(context, "max_interval", max_interval);
        if most.is_some() && most < base {
            context.reject("max_interval", "is less than base_interval");
        }
        Some((base, most))
    })
}
