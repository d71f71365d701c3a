//! The hash of a request, by which policies that hash choose a member; the same as Envoy's.
//!
//! It does not choose. A client that has no cookie yet may get one here; its value is made of both
//! ends of its connection, so that requests that race on one connection get the same.

use std::borrow::Cow;
use std::net::IpAddr;
use std::net::SocketAddr;

use http::HeaderMap;
use http::HeaderValue;
use http::header::COOKIE;
use xxhash_rust::xxh64::xxh64;

use crate::config::hash_policy::GeneratedCookie;
use crate::config::hash_policy::HashPolicy;
use crate::config::hash_policy::HashSource;
use crate::config::matcher::HeaderMatchName;
use crate::config::regex_rewrite::RegexRewrite;
use crate::given_state::GivenState;
use crate::http::router::RequestView;
use crate::upstream::text_hash::TextHash;

/// Headers of which Envoy joins several lines with a comma as it reads them, in order; found out by
/// asking Envoy 1.40 for each header that may be hashed.
const JOINED: &[&str] = &[
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-is-timeout-retry",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

/// What came of hashing.
#[derive(Debug, Default)]
pub struct Hashed {
    /// The hash, if there was anything to hash.
    pub hash: Option<u64>,
    /// Values of `Set-Cookie` for the answer.
    pub cookies: Vec<HeaderValue>,
    /// They come after the edits of the route, not before.
    pub cookies_are_last: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'c> {
    /// The client, as far as it is known.
    pub address: Option<IpAddr>,
    /// Both ends of its connection, the other one and ours; `None` if it is to get no cookie.
    pub connection: Option<(Option<SocketAddr>, Option<SocketAddr>)>,
    /// Filter state: of the request, and if that has not what is wanted, of its connection.
    pub state: [&'c GivenState; 2],
}

impl Hashed {
    /// Hashes what `policies` name of a request.
    #[must_use]
    pub fn new(policies: &[HashPolicy], request: &RequestView<'_>, client: Client<'_>) -> Self {
        let mut hashed = Self::default();
        for policy in policies {
            let part = match &policy.source {
                HashSource::Cookie { name, generated } => {
                    hashed.cookie((name, generated.as_ref()), request.headers, client)
                }
                HashSource::FilterState(key) => {
                    client.state.iter().find_map(|state| state.hash(key))
                }
                HashSource::Header { name, rewrite } => header(name, rewrite.as_ref(), request),
                HashSource::QueryParameter(name) => query_parameter(name, request.path_and_query),
                HashSource::SourceIp => client.address.map(|address| TextHash::of(&address)),
            };
            if let Some(part) = part {
                // Turned first, or two equal parts would leave nothing.
                hashed.hash = Some(hashed.hash.map_or(0, |hash| hash.rotate_left(1)) ^ part);
            }
            if policy.terminal && hashed.hash.is_some() {
                break;
            }
        }
        hashed
    }

    fn cookie(
        &mut self,
        (name, generated): (&str, Option<&GeneratedCookie>),
        headers: &HeaderMap,
        client: Client<'_>,
    ) -> Option<u64> {
        let value = cookie(headers, name.as_bytes());
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return Some(xxh64(value, 0));
        }
        let attributes = &generated?.attributes;
        let Some((peer, local)) = client.connection else {
            return Some(xxh64(b"", 0)); // as in Envoy
        };
        let mut ends = TextHash::default();
        for end in [peer, local].into_iter().flatten() {
            ends.add(&end);
        }
        let value = format!("{:016x}", ends.value());
        // The configuration was checked to make a valid one.
        let set = format!("{name}=\"{value}\"{attributes}");
        self.cookies.extend(HeaderValue::try_from(set).ok());
        Some(xxh64(value.as_bytes(), 0))
    }
}

fn header(
    name: &HeaderMatchName,
    rewrite: Option<&RegexRewrite>,
    request: &RequestView<'_>,
) -> Option<u64> {
    let once = |value: &str| Some(of_values(rewrite, &mut std::iter::once(value.as_bytes())));
    match name {
        HeaderMatchName::Authority => once(request.authority),
        HeaderMatchName::Method => once(request.method.as_str()),
        HeaderMatchName::Path => once(request.path_and_query),
        HeaderMatchName::Scheme => once(request.scheme),
        HeaderMatchName::Status => None, // of responses only
        HeaderMatchName::Header(name) => {
            let values = request.headers.get_all(name).iter();
            let mut values = values.map(HeaderValue::as_bytes);
            let first = values.next()?;
            if JOINED.binary_search(&name.as_str()).is_err() {
                return Some(of_values(
                    rewrite,
                    &mut std::iter::once(first).chain(values),
                ));
            }
            let mut joined = Cow::Borrowed(first);
            for value in values {
                joined.to_mut().push(b',');
                joined.to_mut().extend_from_slice(value);
            }
            Some(of_values(rewrite, &mut std::iter::once(&*joined)))
        }
    }
}

/// Each value goes on from the hash of those before, in an order of their own: that of the request
/// does not matter.
fn of_values<'v>(
    rewrite: Option<&RegexRewrite>,
    values: &mut dyn Iterator<Item = &'v [u8]>,
) -> u64 {
    let rewritten = |value: &'v [u8]| match rewrite {
        Some(rewrite) => rewrite.apply(value),
        None => Cow::Borrowed(value),
    };
    let first = values.next().map_or(Cow::Borrowed(&b""[..]), rewritten);
    let Some(second) = values.next() else {
        return xxh64(&first, 0);
    };
    let mut all = vec![first, rewritten(second)];
    all.extend(values.map(rewritten));
    all.sort_unstable();
    all.iter().fold(0, |hash, value| xxh64(value, hash))
}

/// The first one of this name, compared as written.
fn query_parameter(name: &str, path_and_query: &str) -> Option<u64> {
    let (_, query) = path_and_query.split_once('?')?;
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(found, _)| *found == name)?;
    Some(xxh64(value.as_bytes(), 0))
}

/// The first cookie of this name.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &[u8]) -> Option<&'h [u8]> {
    let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let mut pairs = fields.flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        let (found, value) = (pair.get(..equals)?, pair.get(equals + 1..)?);
        let spaces = found.iter().take_while(|byte| **byte == b' ').count();
        (found.get(spaces..)? == name).then(|| unquoted(value))
    })
}

/// RFC 6265, section 4.1.1: quotes may stand around the value and are none of it.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

#[cfg(test)]
mod tests;
