//! HTTP filters of a connection manager, and of a cluster.
//!
//! The router, the session filter and the one that gives requests filter state are those we have. Another one is left out if the configuration says it is
//! optional, if it only observes, or if it does nothing by itself (`INERT`); else it is refused.

use std::collections::HashSet;

use xds_proto::pb::envoy::extensions::filters::http::cors::v3::Cors;
use xds_proto::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use xds_proto::pb::envoy::extensions::filters::http::router::v3::Router;
use xds_proto::pb::envoy::extensions::filters::http::set_filter_state::v3::Config as SetFilterState;
use xds_proto::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSession;
use xds_proto::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use xds_proto::pb::google::protobuf::Any;

use super::Context;
use super::extension;
use super::filter_state;
use super::stateful_session;
use super::value;
use crate::config::filter_state::StateFilter;
use crate::config::listener::HttpFilter;
use crate::config::session::SessionFilter;

/// Reads the filters of a connection manager: the router, last.
pub(crate) fn downstream(
    context: &mut Context,
    field: &str,
    filters: Vec<pb::HttpFilter>,
) -> Option<Vec<HttpFilter>> {
    let last = filters.len().checked_sub(1);
    let mut names = HashSet::new();
    let mut position = 0..;
    let filters = context.each(field, filters, |context, filter| {
        let is_last = position.next() == last;
        if !names.insert(filter.name.clone()) {
            context.reject("name", format!("{:?} is used twice", filter.name));
        }
        self::filter(context, filter, is_last)
    });
    let is_session = |filter: &&HttpFilter| matches!(filter, HttpFilter::Session(_));
    if filters.iter().filter(is_session).count() > 1 {
        let reason = "has more than one stateful_session, which is not supported";
        context.reject_unsupported(field, reason);
    }
    match last {
        Some(_) => Some(filters),
        None => context.refuse(field, "must end with a router"),
    }
}

fn filter(context: &mut Context, filter: pb::HttpFilter, is_last: bool) -> Option<HttpFilter> {
    let pb::HttpFilter {
        name,
        is_optional,
        disabled,
        config_type,
    } = filter;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            return context.unsupported("config_discovery", "not supported");
        }
        None => return context.missing("typed_config"),
    };
    if extension::holds::<Router>(&any) {
        if !is_last {
            context.reject("", "the router must be the last filter");
        }
        if disabled {
            context.reject("disabled", "the router cannot be disabled");
        }
        return context.field("typed_config", |context| {
            let router = extension::unpack(context, &any)?;
            self::router(context, router)
        });
    }
    if is_last {
        context.reject("", "the last filter must be a router");
    }
    if extension::holds::<StatefulSession>(&any) {
        return context.field("typed_config", |context| {
            let config = extension::unpack(context, &any)?;
            let config = stateful_session::decode(context, config)?;
            Some(HttpFilter::Session(SessionFilter {
                name: name.into(),
                disabled,
                config,
            }))
        });
    }
    if extension::holds::<SetFilterState>(&any) && !disabled {
        return context.field("typed_config", |context| {
            let config = extension::unpack(context, &any)?;
            Some(HttpFilter::State(StateFilter {
                name: name.into(),
                values: filter_state::of_request(context, config),
            }))
        });
    }
    if disabled {
        // Only a route could switch it on, and such a route is refused.
        context.warn("disabled", "the filter is left out, being disabled");
    } else {
        context.field("typed_config", |context| {
            left_out(context, &any, is_optional);
        });
    }
    None
}

fn left_out(context: &mut Context, any: &Any, is_optional: bool) {
    if any.value.is_empty() && is_inert(any) {
        let name = extension::type_name(any);
        return context.warn("", format!("{name} is left out, it does nothing by itself"));
    }
    extension::unknown(context, any, is_optional);
}

/// Filters that, without settings of their own, act only where a route has settings for them; such
/// a route is refused. Istio puts both into every chain.
fn is_inert(any: &Any) -> bool {
    extension::holds::<Cors>(any) || extension::holds::<HttpFault>(any)
}

fn router(context: &mut Context, router: Router) -> Option<HttpFilter> {
    let Router {
        dynamic_stats,
        start_child_span,
        upstream_log,
        upstream_log_options,
        suppress_envoy_headers,
        strict_check_headers,
        respect_expected_rq_timeout,
        suppress_grpc_request_failure_code_stats,
        upstream_http_filters,
        reject_connect_request_early_data,
    } = router;
    let dynamic_stats = value::is_false(dynamic_stats);
    // The x-envoy-* request headers that strict_check_headers checks have no effect here.
    unsupported!(context, warn: dynamic_stats, start_child_span, upstream_log, upstream_log_options,
        strict_check_headers, suppress_grpc_request_failure_code_stats, reject_connect_request_early_data);
    upstream(context, "upstream_http_filters", upstream_http_filters);
    Some(HttpFilter::Router {
        suppress_envoy_headers,
        respects_expected_timeout: respect_expected_rq_timeout,
    })
}

/// Accepts the filters towards the upstream that stand for nothing but the codec.
pub(crate) fn upstream(context: &mut Context, field: &str, filters: Vec<pb::HttpFilter>) {
    context.each(field, filters, |context, filter| {
        let pb::HttpFilter {
            name: _,
            is_optional,
            disabled,
            config_type,
        } = filter;
        match config_type {
            Some(ConfigType::TypedConfig(any)) if extension::holds::<UpstreamCodec>(&any) => {}
            Some(ConfigType::TypedConfig(_)) if disabled => {
                context.warn("disabled", "the filter is left out, being disabled");
            }
            Some(ConfigType::TypedConfig(any)) => context.field("typed_config", |context| {
                extension::unknown(context, &any, is_optional);
            }),
            Some(ConfigType::ConfigDiscovery(_)) => {
                context.reject_unsupported("config_discovery", "not supported");
            }
            None => context.reject_missing("typed_config"),
        }
        Some(())
    });
}
