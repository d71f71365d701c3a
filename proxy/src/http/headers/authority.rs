//! What may stand in `Host` and `:authority`, and checks of a whole request head.
//!
//! It is stricter than Envoy where two readers of the same bytes could see different hosts (security
//! cases S9, S10, D2). It resolves nothing.

use std::net::Ipv6Addr;

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Uri;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use super::lookup;

/// Envoy's response code detail for a host that is none.
const INVALID_AUTHORITY: &str = "http.invalid_authority";

/// Envoy's response code detail for a target that does not fit its method.
const INVALID_URL: &str = "http1.invalid_url";

/// Envoy's response code detail for a scheme other than `http` and `https`.
const INVALID_SCHEME: &str = "http1.invalid_scheme";

/// Envoy's response code detail for a request that names no host.
const MISSING_HOST: &str = "missing_host_header";

/// The authority without its port, if it has one.
#[must_use]
pub fn host_without_port(authority: &str) -> &str {
    // The last of both: a colon before a bracket belongs to an IPv6 address. Ports are short, so a
    // plain loop from the right is the fastest way.
    let bytes = authority.as_bytes();
    let last = bytes.iter().rposition(|byte| matches!(byte, b':' | b']'));
    match last.and_then(|last| authority.split_at_checked(last)) {
        Some((host, port)) if port.starts_with(':') => host,
        _ => authority,
    }
}

/// True if `authority` is a host name, an IPv4 address or a bracketed IPv6 address, with at most one
/// decimal port. Empty is allowed, as Envoy does; it only reaches the virtual host of `*`.
///
/// No user information, no list, no percent-encoding (so no zone id).
#[must_use]
pub fn validate_authority(authority: &str) -> bool {
    let host = host_without_port(authority);
    let port = authority.get(host.len()..).unwrap_or_default();
    let port_is_valid = port.strip_prefix(':').is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && (port.is_empty() || port.parse::<u16>().is_ok())
    });
    if !port_is_valid || (host.is_empty() && !port.is_empty()) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[') {
        return address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    host.bytes().all(is_host_byte)
}

/// Checks of RFC 9112 section 3.2 and RFC 9113 section 8.3.1 that are left when the codec is done.
///
/// # Errors
///
/// Envoy's response code detail; the status is 400.
pub fn validate_request(parts: &Parts) -> Result<(), &'static str> {
    check_target(&parts.method, &parts.uri)?;
    let host = match the_host(&parts.headers)? {
        Some(value) => Some(value.to_str().map_err(|_not_ascii| INVALID_AUTHORITY)?),
        None => None,
    };
    let target = parts.uri.authority().map(Authority::as_str);
    let agree = match (host, target) {
        (Some(host), Some(target)) => host.eq_ignore_ascii_case(target),
        _ => true,
    };
    let authority = target.or(host).ok_or(MISSING_HOST)?;
    if agree && validate_authority(authority) {
        Ok(())
    } else {
        Err(INVALID_AUTHORITY)
    }
}

/// The one there is; with HTTP/2 there mostly is none.
fn the_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, &'static str> {
    if !lookup::has(headers, &HOST) {
        return Ok(None);
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    match hosts.next() {
        None => Ok(host),
        Some(_) => Err(INVALID_AUTHORITY),
    }
}

/// The four forms of a request target (RFC 9112 section 3.2) and their methods.
fn check_target(method: &Method, uri: &Uri) -> Result<(), &'static str> {
    if let Some(scheme) = uri.scheme_str()
        && scheme != "http"
        && scheme != "https"
    {
        return Err(INVALID_SCHEME);
    }
    let has_path = uri.path_and_query().is_some();
    let fits = match uri.path() {
        _ if method == Method::CONNECT => uri.authority().is_some(),
        "*" => method == Method::OPTIONS,
        path => has_path && path.starts_with('/'),
    };
    if fits { Ok(()) } else { Err(INVALID_URL) }
}

/// `unreserved` and the `sub-delims` of RFC 3986 that no reader takes for a separator.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        )
}
