//! What a route does: forward, redirect, answer.

use std::sync::Arc;

use http::StatusCode;
use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::envoy::config::route::v3 as pb;
use xds_proto::pb::envoy::config::route::v3::redirect_action::PathRewriteSpecifier;
use xds_proto::pb::envoy::config::route::v3::redirect_action::RedirectResponseCode;
use xds_proto::pb::envoy::config::route::v3::redirect_action::SchemeRewriteSpecifier;
use xds_proto::pb::envoy::config::route::v3::route::Action as PbAction;
use xds_proto::pb::envoy::config::route::v3::route_action::ClusterNotFoundResponseCode;
use xds_proto::pb::envoy::config::route::v3::route_action::ClusterSpecifier as PbClusterSpecifier;
use xds_proto::pb::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use xds_proto::pb::envoy::config::route::v3::route_action::InternalRedirectAction;
use xds_proto::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use xds_proto::pb::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;

use super::Context;
use super::IsSet;
use super::circuit_breakers;
use super::hash_policy;
use super::header_edit;
use super::retry;
use super::route;
use super::subset;
use super::timeout;
use super::upgrade;
use super::value;
use crate::config::limits;
use crate::config::route::Action;
use crate::config::route::BodyLimit;
use crate::config::route::ClusterSpecifier;
use crate::config::route::Forward;
use crate::config::route::HostRewrite;
use crate::config::route::Redirect;
use crate::config::route::RedirectPath;
use crate::config::route::WeightedCluster;
use crate::config::subset::Criteria;

/// Reads an action; `body_bytes_max` bounds the body of a direct response. `retries` is what the
/// virtual host says, and how much of a body the route keeps.
pub(crate) fn decode(
    context: &mut Context,
    action: PbAction,
    body_bytes_max: usize,
    retries: (&retry::OfHost, Option<BodyLimit>),
) -> Option<Action> {
    match action {
        PbAction::Route(action) => context
            .field("route", |context| forward(context, action, retries))
            .map(|forward| Action::Forward(Box::new(forward))),
        PbAction::Redirect(action) => context
            .field("redirect", |context| redirect(context, action))
            .map(|redirect| Action::Redirect(Box::new(redirect))),
        PbAction::DirectResponse(action) => context.field("direct_response", |context| {
            direct_response(context, action, body_bytes_max)
        }),
        PbAction::FilterAction(_) => context.unsupported("filter_action", "not supported"),
        PbAction::NonForwardingAction(_) => context.refuse(
            "non_forwarding_action",
            "is for gRPC servers, not for proxies",
        ),
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one message, taken apart field by field"
)]
fn forward(
    context: &mut Context,
    action: pb::RouteAction,
    (of_host, replayed): (&retry::OfHost, Option<BodyLimit>),
) -> Option<Forward> {
    let pb::RouteAction {
        cluster_not_found_response_code,
        metadata_match,
        prefix_rewrite,
        regex_rewrite,
        path_rewrite_policy,
        path_rewrite,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        early_data_policy,
        retry_policy,
        retry_policy_typed_config,
        request_mirror_policies,
        priority,
        rate_limits,
        include_vh_rate_limits,
        hash_policy,
        cors,
        max_grpc_timeout,
        grpc_timeout_offset,
        upgrade_configs,
        internal_redirect_policy,
        internal_redirect_action,
        max_internal_redirects,
        hedge_policy,
        max_stream_duration,
        cluster_specifier,
        host_rewrite_specifier,
    } = action;
    // For mirrors and rate limits see the route table; the rest is tuning.
    unsupported!(context, warn: append_x_forwarded_host, early_data_policy,
        retry_policy_typed_config, request_mirror_policies, rate_limits,
        include_vh_rate_limits, max_internal_redirects);
    unsupported!(context, reject: regex_rewrite, path_rewrite_policy, path_rewrite,
        cors, internal_redirect_policy);
    match value::enumeration(
        context,
        "internal_redirect_action",
        internal_redirect_action,
    )? {
        InternalRedirectAction::PassThroughInternalRedirect => {}
        InternalRedirectAction::HandleInternalRedirect => {
            context.reject_unsupported("internal_redirect_action", "not supported");
        }
    }
    let upgrades = upgrade::of_route(context, upgrade_configs);
    let code = cluster_not_found_response_code;
    let cluster_not_found = not_found_status(context, code);
    let timeout = value::timeout(context, "timeout", timeout, Some(limits::ROUTE_TIMEOUT));
    let idle_timeout = idle_timeout
        .map(|idle_timeout| value::timeout(context, "idle_timeout", Some(idle_timeout), None));
    let flush_timeout =
        flush_timeout.map(|given| value::timeout(context, "flush_timeout", Some(given), None));
    let stream_duration = context.optional(
        "max_stream_duration",
        max_stream_duration,
        timeout::stream_duration,
    );
    let grpc_timeout = timeout::grpc(context, max_grpc_timeout, grpc_timeout_offset);
    let prefix_rewrite = value::head_text(context, "prefix_rewrite", prefix_rewrite);
    let host_rewrite = match host_rewrite_specifier {
        Some(specifier) => host_rewrite(context, specifier),
        None => Some(HostRewrite::Keep),
    };
    let hash_policies = hash_policy::list(context, hash_policy);
    let criteria = subset::criteria(context, "metadata_match", metadata_match).map(Arc::new);
    let priority = circuit_breakers::priority(context, priority);
    let policy = retry::policy(context, retry_policy);
    let hedges = retry::on_per_try_timeout(context, hedge_policy);
    let hash_chooses_cluster = match &cluster_specifier {
        Some(PbClusterSpecifier::WeightedClusters(clusters)) => uses_hash(clusters),
        _ => false,
    };
    let cluster = match cluster_specifier {
        Some(specifier) => cluster(context, specifier, criteria.as_ref()),
        None => context.refuse("", "needs a cluster or weighted_clusters"),
    };
    Some(Forward {
        cluster: cluster?,
        cluster_not_found: cluster_not_found?,
        timeout,
        stream_duration,
        grpc_timeout,
        idle_timeout,
        flush_timeout,
        prefix_rewrite: prefix_rewrite.filter(|text| !text.is_empty()),
        host_rewrite: host_rewrite?,
        hash_policies,
        priority: priority?,
        hash_chooses_cluster,
        retries: of_host.of_route(policy, (replayed, hedges)),
        criteria,
        upgrades,
    })
}

fn not_found_status(context: &mut Context, code: i32) -> Option<StatusCode> {
    Some(
        match value::enumeration(context, "cluster_not_found_response_code", code)? {
            ClusterNotFoundResponseCode::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            ClusterNotFoundResponseCode::NotFound => StatusCode::NOT_FOUND,
            ClusterNotFoundResponseCode::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
        },
    )
}

fn host_rewrite(context: &mut Context, specifier: HostRewriteSpecifier) -> Option<HostRewrite> {
    match specifier {
        HostRewriteSpecifier::HostRewriteLiteral(text) if text.is_empty() => {
            Some(HostRewrite::Keep)
        }
        HostRewriteSpecifier::HostRewriteLiteral(text) => {
            value::header_value(context, "host_rewrite_literal", &text).map(HostRewrite::Literal)
        }
        HostRewriteSpecifier::AutoHostRewrite(rewrite) => Some(if rewrite.value {
            HostRewrite::Auto
        } else {
            HostRewrite::Keep
        }),
        HostRewriteSpecifier::HostRewriteHeader(name) if name.is_empty() => Some(HostRewrite::Keep),
        HostRewriteSpecifier::HostRewriteHeader(name) => {
            value::header_name(context, "host_rewrite_header", &name).map(HostRewrite::Header)
        }
        HostRewriteSpecifier::HostRewritePathRegex(_) => {
            context.unsupported("host_rewrite_path_regex", "not supported")
        }
        HostRewriteSpecifier::HostRewrite(_) => {
            context.unsupported("host_rewrite", "not supported")
        }
    }
}

fn cluster(
    context: &mut Context,
    specifier: PbClusterSpecifier,
    criteria: Option<&Arc<Criteria>>,
) -> Option<ClusterSpecifier> {
    match specifier {
        PbClusterSpecifier::Cluster(name) if name.is_empty() => {
            context.refuse("cluster", "must not be empty")
        }
        PbClusterSpecifier::Cluster(name) => Some(ClusterSpecifier::Cluster(name.into())),
        PbClusterSpecifier::ClusterHeader(_) => {
            context.unsupported("cluster_header", "not supported")
        }
        PbClusterSpecifier::WeightedClusters(clusters) => context
            .field("weighted_clusters", |context| {
                weighted(context, clusters, criteria)
            }),
        PbClusterSpecifier::ClusterSpecifierPlugin(_) => {
            context.unsupported("cluster_specifier_plugin", "not supported")
        }
        PbClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            context.unsupported("inline_cluster_specifier_plugin", "not supported")
        }
    }
}

/// Without anything to hash on the route it makes no difference, as with Envoy.
fn uses_hash(weighted: &pb::WeightedCluster) -> bool {
    matches!(
        &weighted.random_value_specifier,
        Some(RandomValueSpecifier::UseHashPolicy(wanted)) if wanted.value
    )
}

fn weighted(
    context: &mut Context,
    weighted: pb::WeightedCluster,
    criteria: Option<&Arc<Criteria>>,
) -> Option<ClusterSpecifier> {
    let pb::WeightedCluster {
        clusters,
        total_weight,
        runtime_key_prefix,
        random_value_specifier,
    } = weighted;
    unsupported!(context, warn "the weights given always hold": runtime_key_prefix);
    match random_value_specifier {
        None => {}
        // Whoever sends the header expects to choose by it.
        Some(RandomValueSpecifier::HeaderName(_)) => {
            context.reject_unsupported("header_name", "not supported");
        }
        Some(RandomValueSpecifier::UseHashPolicy(_)) => {} // see `uses_hash`
    }
    let count = clusters.len();
    let clusters = context.each("clusters", clusters, |context, cluster| {
        cluster_weight(context, cluster, criteria)
    });
    if clusters.len() < count {
        return None;
    }
    let sum: u64 = clusters
        .iter()
        .map(|cluster| u64::from(cluster.weight))
        .sum();
    if sum == 0 || sum > u64::from(u32::MAX) {
        return context.refuse(
            "clusters",
            format!("the sum of the weights, {sum}, must be within 1 and 4294967295"),
        );
    }
    if total_weight.is_some_and(|total| u64::from(total.value) != sum) {
        context.warn(
            "total_weight",
            "has no effect, the sum of the weights holds",
        );
    }
    Some(ClusterSpecifier::Weighted(clusters))
}

fn cluster_weight(
    context: &mut Context,
    cluster: ClusterWeight,
    criteria: Option<&Arc<Criteria>>,
) -> Option<WeightedCluster> {
    let ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        host_rewrite_specifier,
    } = cluster;
    unsupported!(context, reject: cluster_header);
    if host_rewrite_specifier.is_some() {
        context.reject_unsupported("host_rewrite_literal", "not supported");
    }
    let sessions = route::per_filter_config(context, typed_per_filter_config);
    if name.is_empty() && !cluster_header.is_set() {
        context.reject("name", "must not be empty");
    }
    if weight.is_none() {
        context.reject_missing("weight");
    }
    let own = subset::criteria(context, "metadata_match", metadata_match);
    let headers = header_edit::decode(
        context,
        header_edit::Sources {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    Some(WeightedCluster {
        name: name.into(),
        weight: weight?.value,
        headers,
        criteria: Criteria::of_choice(criteria, own),
        sessions,
    })
}

fn redirect(context: &mut Context, action: pb::RedirectAction) -> Option<Redirect> {
    let pb::RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = action;
    let host = value::head_text(context, "host_redirect", host_redirect);
    let port = match port_redirect {
        0 => None,
        port => value::port(context, "port_redirect", port),
    };
    let status = redirect_status(context, response_code);
    let scheme = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => redirect_scheme(context, &scheme),
    };
    let path = redirect_path(context, path_rewrite_specifier);
    Some(Redirect {
        scheme,
        host: host?.into_option(),
        port,
        path: path?,
        status: status?,
        strip_query,
    })
}

/// Proto3's way to say "not given".
trait IntoOption {
    fn into_option(self) -> Option<Box<str>>;
}

impl IntoOption for Box<str> {
    fn into_option(self) -> Option<Box<str>> {
        (!self.is_empty()).then_some(self)
    }
}

fn redirect_status(context: &mut Context, code: i32) -> Option<StatusCode> {
    Some(match value::enumeration(context, "response_code", code)? {
        RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
        RedirectResponseCode::Found => StatusCode::FOUND,
        RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
        RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
        RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
    })
}

fn redirect_scheme(context: &mut Context, scheme: &str) -> Option<Box<str>> {
    match scheme {
        "" => None,
        "http" | "https" => Some(scheme.into()),
        _ => context.refuse(
            "scheme_redirect",
            format!("{scheme:?} is neither http nor https"),
        ),
    }
}

fn redirect_path(
    context: &mut Context,
    specifier: Option<PathRewriteSpecifier>,
) -> Option<RedirectPath> {
    match specifier {
        None => Some(RedirectPath::Keep),
        Some(PathRewriteSpecifier::PathRedirect(path)) => {
            let path = value::head_text(context, "path_redirect", path)?;
            Some(
                path.into_option()
                    .map_or(RedirectPath::Keep, RedirectPath::Whole),
            )
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            let prefix = value::head_text(context, "prefix_rewrite", prefix)?;
            Some(
                prefix
                    .into_option()
                    .map_or(RedirectPath::Keep, RedirectPath::Prefix),
            )
        }
        Some(PathRewriteSpecifier::RegexRewrite(_)) => {
            context.unsupported("regex_rewrite", "not supported")
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            context.unsupported("path_rewrite", "not supported")
        }
    }
}

fn direct_response(
    context: &mut Context,
    action: pb::DirectResponseAction,
    body_bytes_max: usize,
) -> Option<Action> {
    let pb::DirectResponseAction {
        status,
        body,
        body_format,
    } = action;
    unsupported!(context, reject: body_format);
    let body = match body {
        Some(body) => context.field("body", |context| inline(context, body))?,
        None => Vec::new(),
    };
    if body.len() > body_bytes_max {
        context.reject("body", format!("is longer than {body_bytes_max} bytes"));
    }
    let status = u16::try_from(status)
        .ok()
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok());
    let Some(status) = status else {
        return context.refuse("status", "is not within 200 and 599");
    };
    Some(Action::DirectResponse {
        status,
        body: body.into(),
    })
}

/// Files and variables of this machine are not for a control plane to publish.
fn inline(context: &mut Context, source: core::DataSource) -> Option<Vec<u8>> {
    let core::DataSource {
        watched_directory,
        specifier,
    } = source;
    unsupported!(context, warn: watched_directory);
    match specifier {
        Some(Specifier::InlineBytes(bytes)) => Some(bytes),
        Some(Specifier::InlineString(text)) => Some(text.into_bytes()),
        Some(Specifier::Filename(_)) => {
            context.unsupported("filename", "only inline data is supported")
        }
        Some(Specifier::EnvironmentVariable(_)) => {
            context.unsupported("environment_variable", "only inline data is supported")
        }
        None => context.refuse("", "needs inline_string or inline_bytes"),
    }
}
