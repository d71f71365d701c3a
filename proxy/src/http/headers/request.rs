//! The way to the upstream: what Envoy's connection manager and router filter do to request headers.
//!
//! No address counts as internal unless `internal_address_config` names it.
//! It does not edit by route; `edits` does.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header::REFERER;
use http::header::VIA;

use crate::config::client_certificate::ForwardClientCertificate;
use crate::config::limits::ROUTE_TIMEOUT;
use crate::config::listener::HttpConnectionManager;
use crate::config::listener::Underscores;
use crate::config::prefix_map::IpPrefix;
use crate::http::headers::client_certificate;
use crate::http::headers::forwarded;
use crate::http::headers::hop::remove_hop_by_hop;
use crate::http::headers::names::EDGE_ONLY;
use crate::http::headers::names::FORWARDED_CLIENT_CERT;
use crate::http::headers::names::INTERNAL_ONLY;
use crate::http::headers::names::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS;
use crate::http::headers::names::X_ENVOY_EXTERNAL_ADDRESS;
use crate::http::headers::names::X_ENVOY_INTERNAL;
use crate::http::headers::names::X_ENVOY_ORIGINAL_HOST;
use crate::http::headers::names::X_ENVOY_ORIGINAL_PATH;
use crate::http::headers::names::X_FORWARDED_PROTO;
use crate::http::headers::names::X_REQUEST_ID;
use crate::http::headers::request_id;
use crate::net::tls::Facts;

/// What a connection manager says about request headers.
#[derive(Clone, Debug, Default)]
pub struct RequestPolicy {
    /// See [`HttpConnectionManager::use_remote_address`].
    pub use_remote_address: bool,
    /// See [`HttpConnectionManager::internal_addresses`].
    pub internal_addresses: Option<Vec<IpPrefix>>,
    /// See [`HttpConnectionManager::xff_trusted_hops`].
    pub xff_trusted_hops: u32,
    /// See [`HttpConnectionManager::skip_xff_append`].
    pub skip_xff_append: bool,
    /// See [`HttpConnectionManager::generate_request_id`].
    pub generate_request_id: bool,
    /// See [`HttpConnectionManager::preserve_external_request_id`].
    pub preserve_external_request_id: bool,
    /// See [`HttpConnectionManager::via`].
    pub via: Option<HeaderValue>,
    /// See [`HttpConnectionManager::underscores`].
    pub underscores: Underscores,
    /// See [`HttpConnectionManager::client_certificate`].
    pub client_certificate: ForwardClientCertificate,
}

impl RequestPolicy {
    /// The parts of `manager` that matter here.
    #[must_use]
    pub fn new(manager: &HttpConnectionManager) -> Self {
        Self {
            use_remote_address: manager.use_remote_address,
            internal_addresses: manager.internal_addresses.clone(),
            xff_trusted_hops: manager.xff_trusted_hops,
            skip_xff_append: manager.skip_xff_append,
            generate_request_id: manager.generate_request_id,
            preserve_external_request_id: manager.preserve_external_request_id,
            via: manager.via.clone(),
            underscores: manager.underscores,
            client_certificate: manager.client_certificate,
        }
    }
}

/// What is known about the downstream connection; made once per connection, so that its address is
/// written as text once.
#[derive(Clone, Debug)]
pub struct Peer {
    address: SocketAddr,
    is_tls: bool,
    certificate: Option<client_certificate::Client>,
    /// What `x-forwarded-for` gets.
    forwarded_for: HeaderValue,
}

impl Peer {
    /// A client at `address`. For a client on the same machine Envoy writes the machine's own
    /// address into `x-forwarded-for`: `node_address`, if known.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        tls: Option<&Arc<Facts>>,
        node_address: Option<IpAddr>,
    ) -> Self {
        let ip = address.ip().to_canonical();
        let written = node_address.filter(|_| ip.is_loopback()).unwrap_or(ip);
        Self {
            address,
            is_tls: tls.is_some(),
            certificate: tls.and_then(client_certificate::Client::new),
            forwarded_for: address_value(written),
        }
    }
}

/// What [`sanitize_request`] found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The client, as far as the configuration trusts those who say so. The port is that of the
    /// connection, or 0 if the address came from a header (as Envoy).
    pub client: SocketAddr,
    /// The request comes from inside: its headers may say how it is treated.
    pub is_internal: bool,
    /// There is an `x-request-id`.
    pub has_id: bool,
}

/// Makes request headers fit for the next hop. `random` is asked only if a request id is made, which
/// is the one allocation of a plain request.
///
/// # Errors
///
/// Envoy's response code detail when a header name has `_` and those are refused; the status is 400.
pub fn sanitize_request(
    headers: &mut HeaderMap,
    policy: &RequestPolicy,
    peer: &Peer,
    keep_upgrade: bool,
    random: impl FnOnce() -> u128,
) -> Result<Outcome, &'static str> {
    let seen = Seen::new(headers);
    check_underscores(headers, policy.underscores, &seen)?;
    remove_hop_by_hop(headers, keep_upgrade);
    if seen.alias {
        remove_where(headers, is_alias);
    }
    if seen.referer {
        check_referer(headers);
    }
    let client = client_address(headers, policy, peer, seen.forwarded);
    let is_internal = is_internal(headers, policy, client);
    set_forwarded(headers, policy, peer, seen.forwarded);
    client_certificate::forward(
        headers,
        policy.client_certificate,
        peer.certificate.as_ref(),
        seen.client_certificate,
    );
    if is_internal {
        headers.insert(X_ENVOY_INTERNAL.clone(), HeaderValue::from_static("true"));
    } else if seen.asserted {
        remove_asserted(headers, policy);
    }
    if let Some(via) = &policy.via {
        append_via(headers, via);
    }
    if policy.use_remote_address && !is_internal {
        let value = if client == peer.address && !client.ip().is_loopback() {
            peer.forwarded_for.clone()
        } else {
            address_value(client.ip().to_canonical())
        };
        headers.insert(X_ENVOY_EXTERNAL_ADDRESS.clone(), value);
    }
    set_request_id(headers, policy, is_internal, seen.request_id, random);
    Ok(Outcome {
        client,
        is_internal,
        has_id: seen.request_id || policy.generate_request_id,
    })
}

/// Tells the upstream how long the caller waits; zero is no limit and says nothing. Not called when
/// the router filter has `suppress_envoy_headers`. Allocates unless it is Envoy's default.
pub fn set_expected_timeout(headers: &mut HeaderMap, timeout: Duration) {
    let value = if timeout == ROUTE_TIMEOUT {
        HeaderValue::from_static("15000")
    } else if timeout.is_zero() {
        return;
    } else {
        HeaderValue::from(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
    };
    headers.insert(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS.clone(), value);
}

/// Keeps the host of before a rewrite. Not called when the router filter has
/// `suppress_envoy_headers`.
pub fn set_original_host(headers: &mut HeaderMap, authority: &HeaderValue) {
    headers.insert(X_ENVOY_ORIGINAL_HOST.clone(), authority.clone());
}

/// Keeps the path of before a rewrite. Not called when the router filter has
/// `suppress_envoy_headers`.
pub fn set_original_path(headers: &mut HeaderMap, path_and_query: &str) {
    if let Ok(value) = HeaderValue::from_str(path_and_query) {
        headers.insert(X_ENVOY_ORIGINAL_PATH.clone(), value);
    }
}

/// Adds ours behind what is there.
pub(super) fn append_via(headers: &mut HeaderMap, via: &HeaderValue) {
    let mut joined = Vec::new();
    for value in headers.get_all(VIA) {
        joined.extend_from_slice(value.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(via.as_bytes());
    // Joining valid values gives a valid one.
    let value = HeaderValue::try_from(joined).unwrap_or_else(|_invalid| via.clone());
    headers.insert(VIA, value);
}

/// What one walk over the names saw, so that a plain request looks nothing up.
#[derive(Default)]
struct Seen {
    underscore: bool,
    alias: bool,
    referer: bool,
    asserted: bool,
    forwarded: bool,
    client_certificate: bool,
    request_id: bool,
}

impl Seen {
    fn new(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            let text = name.as_str();
            seen.underscore |= text.as_bytes().contains(&b'_');
            seen.referer |= *name == REFERER;
            if text.starts_with('x') {
                seen.alias |= is_alias(name);
                seen.asserted |= text.starts_with("x-envoy-");
                seen.forwarded |= text.starts_with("x-forwarded-");
                seen.client_certificate |= *name == FORWARDED_CLIENT_CERT;
                seen.request_id |= *name == X_REQUEST_ID;
            }
        }
        seen
    }
}

fn check_underscores(
    headers: &mut HeaderMap,
    action: Underscores,
    seen: &Seen,
) -> Result<(), &'static str> {
    if !seen.underscore {
        return Ok(());
    }
    match action {
        Underscores::Allow => Ok(()),
        Underscores::Drop => {
            remove_where(headers, |name| name.as_str().contains('_'));
            Ok(())
        }
        Underscores::Reject => Err("http1.unexpected_underscore"),
    }
}

/// True for a name that CGI-like backends take for one we assert (security case P4).
fn is_alias(name: &HeaderName) -> bool {
    let text = name.as_str();
    if !text.contains(['_', '.']) {
        return false;
    }
    let canonical = text.replace(['_', '.'], "-");
    canonical.starts_with("x-forwarded-")
        || canonical.starts_with("x-envoy-")
        || canonical == "x-request-id"
}

/// Allocates a list: removing while walking is not possible.
fn remove_where(headers: &mut HeaderMap, condition: impl Fn(&HeaderName) -> bool) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| condition(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// As Envoy: more than one, or one that is no absolute URL, goes.
fn check_referer(headers: &mut HeaderMap) {
    let mut values = headers.get_all(REFERER).iter();
    let is_url = values.next().is_some_and(|value| {
        let bytes = value.as_bytes();
        let scheme_end = memchr::memmem::find(bytes, b"://").unwrap_or(0);
        let host = bytes.get(scheme_end + 3..).and_then(|rest| rest.first());
        scheme_end > 0 && host.is_some_and(|first| *first != b'/')
    });
    if !is_url || values.next().is_some() {
        headers.remove(REFERER);
    }
}

/// Must see `x-forwarded-for` before we append to it.
fn client_address(
    headers: &HeaderMap,
    policy: &RequestPolicy,
    peer: &Peer,
    is_forwarded: bool,
) -> SocketAddr {
    if !is_forwarded {
        return peer.address;
    }
    let hops = usize::try_from(policy.xff_trusted_hops).unwrap_or(usize::MAX);
    let skip = if policy.use_remote_address {
        // The peer itself is the last trusted hop and not yet in the list.
        hops.checked_sub(1)
    } else {
        Some(hops)
    };
    skip.and_then(|skip| forwarded::address_from_right(headers, skip))
        .map_or(peer.address, |ip| SocketAddr::new(ip, 0))
}

/// As Envoy: only who comes directly, as far as the headers say, can come from inside. Must see
/// `x-forwarded-for` before we append to it.
fn is_internal(headers: &HeaderMap, policy: &RequestPolicy, client: SocketAddr) -> bool {
    let Some(internal) = &policy.internal_addresses else {
        return false;
    };
    let said = forwarded::count(headers);
    let is_direct = if policy.use_remote_address {
        said == 0
    } else {
        said == 1 && policy.xff_trusted_hops == 0
    };
    let client = client.ip().to_canonical();
    is_direct && internal.iter().any(|range| range.contains(client))
}

fn set_forwarded(headers: &mut HeaderMap, policy: &RequestPolicy, peer: &Peer, is_forwarded: bool) {
    if policy.use_remote_address && !policy.skip_xff_append {
        forwarded::append(headers, &peer.forwarded_for);
    }
    let overwrite = policy.use_remote_address && policy.xff_trusted_hops == 0;
    if overwrite || !is_forwarded || !headers.contains_key(&X_FORWARDED_PROTO) {
        let scheme = if peer.is_tls { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(scheme));
    }
}

fn remove_asserted(headers: &mut HeaderMap, policy: &RequestPolicy) {
    headers.remove(&X_ENVOY_INTERNAL);
    for name in &INTERNAL_ONLY {
        headers.remove(name);
    }
    if policy.use_remote_address {
        for name in &EDGE_ONLY {
            headers.remove(name);
        }
    }
}

fn set_request_id(
    headers: &mut HeaderMap,
    policy: &RequestPolicy,
    is_internal: bool,
    has_one: bool,
    random: impl FnOnce() -> u128,
) {
    if !policy.generate_request_id {
        return;
    }
    let is_edge = policy.use_remote_address && !is_internal;
    let replace = is_edge && !policy.preserve_external_request_id;
    if replace || !has_one {
        headers.insert(X_REQUEST_ID.clone(), request_id::from_random(random()));
    }
}

fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).expect("an address is a header value")
}
