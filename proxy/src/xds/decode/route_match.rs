//! `RouteMatch`: when a route applies.

use xds_proto::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use xds_proto::pb::envoy::config::route::v3 as pb;
use xds_proto::pb::envoy::config::route::v3::route_match::GrpcRouteMatchOptions;
use xds_proto::pb::envoy::config::route::v3::route_match::PathSpecifier;
use xds_proto::pb::envoy::config::route::v3::route_match::TlsContextMatchOptions;

use super::Context;
use super::matcher;
use super::value;
use crate::config::route::CertificateMatch;
use crate::config::route::PathMatch;
use crate::config::route::RouteMatch;

/// Reads a route's predicate. What we cannot test must not count as true: it is refused.
pub(crate) fn decode(context: &mut Context, matches: pb::RouteMatch) -> Option<RouteMatch> {
    let pb::RouteMatch {
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = matches;
    unsupported!(context, reject: cookies, dynamic_metadata, filter_state);
    let path = match path_specifier {
        Some(specifier) => path(context, specifier),
        None => context.refuse("", "needs a path predicate such as prefix"),
    };
    let runtime_fraction_per_million =
        context.optional("runtime_fraction", runtime_fraction, fraction);
    let headers = context.each("headers", headers, matcher::header);
    let query_parameters = context.each("query_parameters", query_parameters, matcher::query);
    let grpc = grpc.map(|GrpcRouteMatchOptions {}| ());
    let certificate = tls_context.map(certificate).unwrap_or_default();
    Some(RouteMatch {
        path: path?,
        case_sensitive: !value::is_false(case_sensitive),
        headers,
        query_parameters,
        runtime_fraction_per_million,
        grpc: grpc.is_some(),
        certificate,
    })
}

fn certificate(options: TlsContextMatchOptions) -> CertificateMatch {
    let TlsContextMatchOptions {
        presented,
        validated,
    } = options;
    CertificateMatch {
        presented: presented.map(|presented| presented.value),
        validated: validated.map(|validated| validated.value),
    }
}

fn path(context: &mut Context, specifier: PathSpecifier) -> Option<PathMatch> {
    Some(match specifier {
        PathSpecifier::Prefix(text) => PathMatch::Prefix(text.into()),
        PathSpecifier::Path(text) => PathMatch::Exact(text.into()),
        PathSpecifier::PathSeparatedPrefix(text) => {
            // Envoy's pattern is ^[^?#]+[^?#/]$.
            if text.contains(['?', '#']) || text.ends_with('/') || text.chars().count() < 2 {
                let reason = format!("{text:?} must be a path that does not end with a slash");
                return context.refuse("path_separated_prefix", reason);
            }
            PathMatch::PathSeparatedPrefix(text.into())
        }
        PathSpecifier::SafeRegex(regex) => {
            PathMatch::Regex(context.field("safe_regex", |context| value::regex(context, regex))?)
        }
        PathSpecifier::ConnectMatcher(_) => {
            return context.unsupported("connect_matcher", "not supported");
        }
        PathSpecifier::PathMatchPolicy(_) => {
            return context.unsupported("path_match_policy", "not supported");
        }
    })
}

fn fraction(context: &mut Context, fraction: RuntimeFractionalPercent) -> Option<u32> {
    let RuntimeFractionalPercent {
        default_value,
        runtime_key,
    } = fraction;
    unsupported!(context, warn "default_value always holds": runtime_key);
    context.required("default_value", default_value, value::per_million)
}
