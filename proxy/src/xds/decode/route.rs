//! `RouteConfiguration`, its virtual hosts and their routes; what a route matches and does is in
//! `route_match` and `route_action`.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use xds_proto::pb::envoy::config::route::v3 as pb;
use xds_proto::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use xds_proto::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSessionPerRoute;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::weir::route::v1::HedgeAfterLatency;

use super::Context;
use super::extension;
use super::header_edit;
use super::retry;
use super::route_action;
use super::route_match;
use super::stateful_session;
use super::value;
use crate::config::RouteConfig;
use crate::config::retry::HedgeAfter;
use crate::config::route::Action;
use crate::config::route::Route;
use crate::config::route::VirtualHost;
use crate::config::session::SessionOverride;
use crate::config::session::SessionOverrides;

/// Bytes of the body of a direct response, when the table does not say; Envoy's default.
const DIRECT_RESPONSE_BYTES_MAX: usize = 4096;

/// Reads a route table.
pub(crate) fn decode(context: &mut Context, table: pb::RouteConfiguration) -> Option<RouteConfig> {
    let pb::RouteConfiguration {
        name,
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins,
        validate_clusters,
        max_direct_response_body_size_bytes,
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = table;
    // A mirror is an observer: the answer is the same without it.
    unsupported!(context, warn: request_mirror_policies, metadata);
    let validate_clusters = value::is_true(validate_clusters);
    unsupported!(context, warn "a missing cluster is found out by the request": validate_clusters);
    unsupported!(context, reject: vhds, internal_only_headers, vhost_header,
        ignore_path_parameters_in_path_matching, route_specifiers);
    context.each(
        "cluster_specifier_plugins",
        cluster_specifier_plugins,
        plugin,
    );
    let sessions = per_filter_config(context, typed_per_filter_config);
    let headers = header_edit::decode(
        context,
        header_edit::Sources {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    let body_bytes_max = max_direct_response_body_size_bytes
        .map_or(DIRECT_RESPONSE_BYTES_MAX, |most| {
            usize::try_from(most.value).unwrap_or(usize::MAX)
        });
    let mut domains = HashSet::new();
    let virtual_hosts = context.each("virtual_hosts", virtual_hosts, |context, host| {
        virtual_host(context, host, &mut domains, body_bytes_max)
    });
    check_names(context, &virtual_hosts);
    Some(RouteConfig {
        name: name.into(),
        virtual_hosts,
        ignore_port_in_host_matching,
        headers,
        most_specific_header_edits_win: most_specific_header_mutations_wins,
        sessions,
    })
}

fn plugin(context: &mut Context, plugin: pb::ClusterSpecifierPlugin) -> Option<()> {
    let pb::ClusterSpecifierPlugin {
        extension,
        is_optional,
    } = plugin;
    let any = extension
        .and_then(|extension| extension.typed_config)
        .unwrap_or_default();
    context.field("extension.typed_config", |context| {
        extension::unknown(context, &any, is_optional);
    });
    Some(())
}

fn check_names(context: &mut Context, hosts: &[VirtualHost]) {
    let mut names = HashSet::with_capacity(hosts.len());
    for host in hosts {
        if !names.insert(&host.name) {
            context.reject(
                "virtual_hosts",
                format!("the name {:?} is used twice", host.name),
            );
        }
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one message, taken apart field by field"
)]
fn virtual_host(
    context: &mut Context,
    host: pb::VirtualHost,
    seen: &mut HashSet<Box<str>>,
    body_bytes_max: usize,
) -> Option<VirtualHost> {
    let pb::VirtualHost {
        name,
        domains,
        routes,
        matcher,
        require_tls,
        virtual_clusters,
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cors,
        typed_per_filter_config,
        include_request_attempt_count,
        include_attempt_count_in_response,
        retry_policy,
        retry_policy_typed_config,
        hedge_policy,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        metadata,
        route_specifiers,
    } = host;
    // Rate limits only feed a filter, and a listener with that filter is refused.
    unsupported!(context, warn: virtual_clusters, rate_limits, retry_policy_typed_config,
        request_mirror_policies, metadata);
    unsupported!(context, reject: matcher, cors, route_specifiers);
    match value::enumeration(context, "require_tls", require_tls)? {
        TlsRequirementType::None => {}
        TlsRequirementType::ExternalOnly | TlsRequirementType::All => {
            context.reject_unsupported("require_tls", "not supported");
        }
    }
    let (sessions, hedge_after) = filters_or_hedge(context, typed_per_filter_config);
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    if domains.is_empty() {
        context.reject("domains", "must not be empty");
    }
    let domains = context.each("domains", domains, |context, text| {
        domain(context, &text, seen)
    });
    let body_limits = (per_request_buffer_limit_bytes, request_body_buffer_limit);
    let retries = retry::OfHost {
        request_tells_attempts: include_request_attempt_count,
        response_tells_attempts: include_attempt_count_in_response,
        request_tells_timeouts: include_is_timeout_retry_header,
        hedge_after,
        ..retry::OfHost::new(context, (retry_policy, hedge_policy), body_limits)
    };
    let routes = context.each("routes", routes, |context, route| {
        self::route(context, route, (body_bytes_max, &retries))
    });
    let headers = header_edit::decode(
        context,
        header_edit::Sources {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    Some(VirtualHost {
        name: name.into(),
        domains,
        routes,
        headers,
        sessions,
    })
}

/// One `*` at either end, nowhere else; once per table.
fn domain(context: &mut Context, text: &str, seen: &mut HashSet<Box<str>>) -> Option<Box<str>> {
    if text.is_empty() {
        return context.refuse("", "must not be empty");
    }
    let stem = text
        .strip_prefix('*')
        .or_else(|| text.strip_suffix('*'))
        .unwrap_or(text);
    if stem.contains('*') {
        return context.refuse(
            "",
            format!("{text:?} may have one * at its beginning or end"),
        );
    }
    let text = value::head_text(context, "", text.to_ascii_lowercase())?;
    if !seen.insert(text.clone()) {
        return context.refuse("", format!("{text:?} is in this table already"));
    }
    Some(text)
}

fn route(
    context: &mut Context,
    route: pb::Route,
    (body_bytes_max, retries): (usize, &retry::OfHost),
) -> Option<Route> {
    let pb::Route {
        name,
        r#match,
        metadata,
        decorator,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix,
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = route;
    unsupported!(context, warn: metadata, decorator, tracing, stat_prefix);
    unsupported!(context, reject: route_specifiers);
    let (sessions, hedge_after) = filters_or_hedge(context, typed_per_filter_config);
    let matches = context.required("match", r#match, route_match::decode);
    let headers = header_edit::decode(
        context,
        header_edit::Sources {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    let body_limits = (per_request_buffer_limit_bytes, request_body_buffer_limit);
    let replayed = retry::body_bytes_max(context, body_limits);
    let action = match action {
        Some(action) => route_action::decode(context, action, body_bytes_max, (retries, replayed)),
        None => context.refuse("", "needs an action: route, redirect or direct_response"),
    };
    let action = action.map(|action| with_hedge(action, hedge_after));
    Some(Route {
        name: name.into(),
        matches: matches?,
        action: action?,
        headers,
        sessions,
    })
}

/// The route's own policy replaces the host's.
fn with_hedge(mut action: Action, hedge_after: Option<Arc<HedgeAfter>>) -> Action {
    if let (Action::Forward(forward), Some(after)) = (&mut action, hedge_after) {
        forward.retries.hedge_after = Some(after);
    }
    action
}

/// Settings for filters, by filter name; those of session filters are all we have.
pub(crate) fn per_filter_config(
    context: &mut Context,
    configs: HashMap<String, Any>,
) -> SessionOverrides {
    each_config(context, configs, filter_config)
}

/// The same where a policy of ours may stand among them.
fn filters_or_hedge(
    context: &mut Context,
    configs: HashMap<String, Any>,
) -> (SessionOverrides, Option<Arc<HedgeAfter>>) {
    let mut found = None;
    let sessions = each_config(context, configs, |context, any| {
        if !extension::holds::<HedgeAfterLatency>(any) {
            return filter_config(context, any);
        }
        let policy = extension::unpack(context, any);
        let policy = policy.and_then(|policy| retry::after_latency(context, policy));
        if found.is_some() {
            context.reject("", "a second policy for hedges");
        }
        found = policy.map(Arc::new).or_else(|| found.take());
        None
    });
    (sessions, found)
}

fn each_config(
    context: &mut Context,
    configs: HashMap<String, Any>,
    mut read: impl FnMut(&mut Context, &Any) -> Option<SessionOverride>,
) -> SessionOverrides {
    let mut configs: Vec<_> = configs.into_iter().collect();
    configs.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    let read = |(name, any): (String, Any)| {
        let place = format!("{name:?}");
        let found = context.item("typed_per_filter_config", place, |context| {
            read(context, &any)
        });
        Some((name.into(), found?))
    };
    configs.into_iter().filter_map(read).collect()
}

fn filter_config(context: &mut Context, any: &Any) -> Option<SessionOverride> {
    if !extension::holds::<pb::FilterConfig>(any) {
        return own_config(context, any, false);
    }
    let pb::FilterConfig {
        config,
        is_optional,
        disabled,
    } = extension::unpack(context, any)?;
    if disabled {
        // Either the listener has no such filter, or it is one of ours.
        return Some(SessionOverride::Disabled);
    }
    let config = config?;
    context.field("config", |context| {
        own_config(context, &config, is_optional)
    })
}

fn own_config(context: &mut Context, any: &Any, is_optional: bool) -> Option<SessionOverride> {
    if extension::holds::<StatefulSessionPerRoute>(any) {
        let config = extension::unpack(context, any)?;
        return stateful_session::per_route(context, config);
    }
    extension::unknown(context, any, is_optional);
    None
}
