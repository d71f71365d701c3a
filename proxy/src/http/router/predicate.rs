//! The predicates of a route match other than its path.
//!
//! It does not order routes and keeps no state.

use http::HeaderMap;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::config::matcher::HeaderMatch;
use crate::config::matcher::HeaderMatchName;
use crate::config::matcher::HeaderValueMatch;
use crate::config::matcher::ResponseMatch;
use crate::config::matcher::starts_with;
use crate::config::route::CertificateMatch;
use crate::config::route::PathMatch;
use crate::config::route::QueryMatch;
use crate::config::route::RouteMatch;
use crate::http::router::RequestView;
use crate::net::tls::Facts;

/// The path without query and fragment.
pub(super) fn path_of(path_and_query: &str) -> &str {
    memchr::memchr2(b'?', b'#', path_and_query.as_bytes())
        .and_then(|end| path_and_query.get(..end))
        .unwrap_or(path_and_query)
}

/// True if all predicates hold.
pub(super) fn matches(
    route: &RouteMatch,
    path: &str,
    request: &RequestView<'_>,
    random: u64,
) -> bool {
    path_matches(route, path) && rest_matches(route, request, random)
}

/// True if the path predicate holds.
pub(super) fn path_matches(route: &RouteMatch, path: &str) -> bool {
    let bytes = path.as_bytes();
    match &route.path {
        PathMatch::Exact(text) if route.case_sensitive => path == &**text,
        PathMatch::Exact(text) => path.eq_ignore_ascii_case(text),
        PathMatch::Prefix(text) => starts_with(bytes, text.as_bytes(), !route.case_sensitive),
        PathMatch::PathSeparatedPrefix(text) => {
            starts_with(bytes, text.as_bytes(), !route.case_sensitive)
                && bytes.get(text.len()).is_none_or(|next| *next == b'/')
        }
        PathMatch::Regex(regex) => regex.is_match(bytes),
    }
}

/// True if every predicate but that on the path holds.
pub(super) fn rest_matches(route: &RouteMatch, request: &RequestView<'_>, random: u64) -> bool {
    let in_fraction = route
        .runtime_fraction_per_million
        .is_none_or(|share| random % 1_000_000 < u64::from(share));
    in_fraction
        && (!route.grpc || is_grpc(request.headers))
        && certificate_matches(route.certificate, request.tls)
        && route.headers.iter().all(|m| header_matches(m, request))
        && (route.query_parameters.is_empty() || query_matches(route, request.path_and_query))
}

/// Unlike with Envoy a resumed session is verified as any other, and so counts as one.
fn certificate_matches(wanted: CertificateMatch, tls: Option<&Facts>) -> bool {
    let holds = |wanted: Option<bool>, fact: fn(&Facts) -> bool| {
        wanted.is_none_or(|wanted| wanted == tls.is_some_and(fact))
    };
    holds(wanted.presented, |tls| tls.peer.is_some())
        && holds(wanted.validated, |tls| tls.is_validated)
}

/// `application/grpc` or `application/grpc+...`, so not gRPC-Web.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.first().is_none_or(|next| *next == b'+'))
}

/// True if the predicate holds for the head of a response.
pub fn header_fits(header: &HeaderMatch, (status, headers): (StatusCode, &HeaderMap)) -> bool {
    match &header.name {
        HeaderMatchName::Header(name) => {
            let values = headers.get_all(name).iter();
            value_matches(header, values.map(http::HeaderValue::as_bytes))
        }
        HeaderMatchName::Status => {
            value_matches(header, std::iter::once(status.as_str().as_bytes()))
        }
        HeaderMatchName::Authority
        | HeaderMatchName::Method
        | HeaderMatchName::Path
        | HeaderMatchName::Scheme => value_matches(header, std::iter::empty()), // of requests only
    }
}

/// The same of a predicate with parts.
pub fn response_fits(predicate: &ResponseMatch, head: (StatusCode, &HeaderMap)) -> bool {
    match predicate {
        ResponseMatch::All(parts) => parts.iter().all(|part| response_fits(part, head)),
        ResponseMatch::Always => true,
        ResponseMatch::Any(parts) => parts.iter().any(|part| response_fits(part, head)),
        ResponseMatch::Headers(headers) => headers.iter().all(|header| header_fits(header, head)),
        ResponseMatch::Not(part) => !response_fits(part, head),
    }
}

/// True if the predicate holds for a request.
pub fn request_header_fits(header: &HeaderMatch, request: &RequestView<'_>) -> bool {
    header_matches(header, request)
}

fn header_matches(header: &HeaderMatch, request: &RequestView<'_>) -> bool {
    let once = |value: &str| value_matches(header, std::iter::once(value.as_bytes()));
    match &header.name {
        HeaderMatchName::Authority => once(request.authority),
        HeaderMatchName::Method => once(request.method.as_str()),
        HeaderMatchName::Path => once(request.path_and_query),
        HeaderMatchName::Scheme => once(request.scheme),
        HeaderMatchName::Status => value_matches(header, std::iter::empty()), // of responses only
        HeaderMatchName::Header(name) => {
            let values = request.headers.get_all(name).iter();
            value_matches(header, values.map(http::HeaderValue::as_bytes))
        }
    }
}

/// As Envoy from 1.39 on: of several values one has to fit, and inverted none may; joined they are
/// not looked at. A missing header fails every predicate but presence, inverted or not, unless it
/// counts as empty.
fn value_matches<'v>(header: &HeaderMatch, values: impl Iterator<Item = &'v [u8]>) -> bool {
    let mut values = values.peekable();
    let is_present = values.peek().is_some();
    let verdict = match &header.value {
        HeaderValueMatch::Present(present) => is_present == *present,
        _ if !is_present && !header.treat_missing_as_empty => return false,
        _ if !is_present => one_matches(header, b""),
        _ => values.any(|value| one_matches(header, value)),
    };
    verdict != header.invert
}

/// The predicate on one value, not inverted.
fn one_matches(header: &HeaderMatch, value: &[u8]) -> bool {
    match &header.value {
        HeaderValueMatch::Present(present) => *present,
        HeaderValueMatch::Range { start, end } => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.trim_ascii().parse::<i64>().ok())
            .is_some_and(|number| (*start..*end).contains(&number)),
        HeaderValueMatch::String(pattern) => pattern.matches(value),
    }
}

fn query_matches(route: &RouteMatch, path_and_query: &str) -> bool {
    let query = path_and_query
        .split_once('?')
        .map_or("", |(_, query)| query);
    route
        .query_parameters
        .iter()
        .all(|parameter| parameter_matches(parameter, query))
}

/// The first parameter of that name counts, compared as written (Envoy decodes neither).
fn parameter_matches(parameter: &QueryMatch, query: &str) -> bool {
    if query.is_empty() {
        return false;
    }
    let value = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(name, value)| (name == &*parameter.name).then_some(value));
    match (value, &parameter.value) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(value), Some(string)) => string.matches(value.as_bytes()),
    }
}
