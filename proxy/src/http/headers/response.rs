//! The way to the downstream: what Envoy's connection manager and router filter do to response
//! headers.
//!
//! `date` is the codec's; edits by route are `edits`'.

use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::header::SERVER;

use crate::config::listener::HttpConnectionManager;
use crate::config::listener::ServerHeader;
use crate::http::headers::hop::remove_hop_by_hop;
use crate::http::headers::names::X_ENVOY_DROP_OVERLOAD;
use crate::http::headers::names::X_ENVOY_OVERLOADED;
use crate::http::headers::names::X_ENVOY_UNCONDITIONAL_DROP_OVERLOAD;
use crate::http::headers::names::X_ENVOY_UPSTREAM_SERVICE_TIME;
use crate::http::headers::names::X_REQUEST_ID;
use crate::http::headers::request::append_via;

/// What a connection manager says about response headers.
#[derive(Clone, Debug)]
pub struct ResponsePolicy {
    /// See [`HttpConnectionManager::server_name`].
    pub server_name: HeaderValue,
    /// See [`HttpConnectionManager::server_header`].
    pub server_header: ServerHeader,
    /// See [`HttpConnectionManager::via`].
    pub via: Option<HeaderValue>,
    /// See [`HttpConnectionManager::always_set_request_id_in_response`].
    pub always_set_request_id: bool,
}

impl ResponsePolicy {
    /// The parts of `manager` that matter here.
    #[must_use]
    pub fn new(manager: &HttpConnectionManager) -> Self {
        Self {
            server_name: manager.server_name.clone(),
            server_header: manager.server_header,
            via: manager.via.clone(),
            always_set_request_id: manager.always_set_request_id_in_response,
        }
    }
}

/// Makes response headers fit for the client. `request_id` is the `x-request-id` sent upstream.
pub fn sanitize_response(
    headers: &mut HeaderMap,
    policy: &ResponsePolicy,
    request_id: Option<&HeaderValue>,
    keep_upgrade: bool,
) {
    remove_hop_by_hop(headers, keep_upgrade);
    let ours = match policy.server_header {
        ServerHeader::AppendIfAbsent => !headers.contains_key(SERVER),
        ServerHeader::Overwrite => true,
        ServerHeader::PassThrough => false,
    };
    if ours {
        headers.insert(SERVER, policy.server_name.clone());
    }
    if let Some(via) = &policy.via {
        append_via(headers, via);
    }
    if let Some(request_id) = request_id
        && policy.always_set_request_id
    {
        headers.insert(X_REQUEST_ID.clone(), request_id.clone());
    }
}

/// Says that the request was not even tried. Not called when the router filter has
/// `suppress_envoy_headers`.
pub fn set_overloaded(headers: &mut HeaderMap) {
    headers.insert(X_ENVOY_OVERLOADED.clone(), HeaderValue::from_static("true"));
}

/// Says that the control plane wanted the request dropped, as it wanted `all` or a part of them. Not
/// called when the router filter has `suppress_envoy_headers`.
pub fn set_dropped(headers: &mut HeaderMap, all: bool) {
    let name = if all {
        &X_ENVOY_UNCONDITIONAL_DROP_OVERLOAD
    } else {
        &X_ENVOY_DROP_OVERLOAD
    };
    headers.insert(name.clone(), HeaderValue::from_static("true"));
}

/// Milliseconds the upstream took. Not called when the router filter has `suppress_envoy_headers`.
/// Allocates from 10 ms on.
pub fn set_upstream_service_time(headers: &mut HeaderMap, time: Duration) {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    headers.insert(X_ENVOY_UPSTREAM_SERVICE_TIME.clone(), number(millis));
}

fn number(value: u64) -> HeaderValue {
    const SMALL: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let small = usize::try_from(value)
        .ok()
        .and_then(|value| SMALL.get(value));
    small.map_or_else(
        || HeaderValue::from(value),
        |text| HeaderValue::from_static(text),
    )
}
