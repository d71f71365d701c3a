//! The `location` of a redirect (`RedirectAction`).
//!
//! It answers nothing by itself.

use std::fmt::Write;

use http::HeaderValue;

use crate::config::route::Redirect;
use crate::config::route::RedirectPath;
use crate::http::router::Match;
use crate::http::router::RequestView;
use crate::http::router::predicate::path_of;
use crate::http::router::rewrite::replace_prefix;

/// The absolute URL a redirect points to; `None` if it cannot stand in a header.
#[must_use]
pub fn location<C>(
    found: &Match<'_, C>,
    redirect: &Redirect,
    request: &RequestView<'_>,
) -> Option<HeaderValue> {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let host = redirect
        .host
        .as_deref()
        .unwrap_or_else(|| kept_host(redirect, scheme, request));
    let mut out = format!("{scheme}://{host}");
    if let Some(port) = redirect.port {
        // Writing to a string cannot fail.
        let _ = write!(out, ":{port}");
    }
    let original = request.path_and_query;
    let path = path_of(original);
    let query = original.get(path.len()..).unwrap_or_default();
    let query = if redirect.strip_query { "" } else { query };
    match &redirect.path {
        RedirectPath::Keep => {
            out.push_str(path);
            out.push_str(query);
        }
        RedirectPath::Prefix(prefix) => {
            out.push_str(&replace_prefix(&found.route.matches.path, prefix, path)?);
            out.push_str(query);
        }
        RedirectPath::Whole(whole) => {
            out.push_str(whole);
            if !whole.contains('?') {
                out.push_str(query);
            }
        }
    }
    HeaderValue::try_from(out).ok()
}

/// The request's host; its port goes when there is a new one, or when it was the default of a scheme
/// that changes.
fn kept_host<'r>(redirect: &Redirect, scheme: &str, request: &RequestView<'r>) -> &'r str {
    let bare = crate::http::headers::host_without_port(request.authority);
    let port = request.authority.get(bare.len()..).unwrap_or_default();
    // As Envoy: what a proxy in front of us was asked for decides, if it says so.
    let forwarded = request.headers.get("x-forwarded-proto");
    let asked = forwarded.map_or(request.scheme.as_bytes(), HeaderValue::as_bytes);
    let is_default = match asked {
        b"https" => port == ":443",
        b"http" => port == ":80",
        _ => false,
    };
    let drop_port = redirect.port.is_some() || (scheme.as_bytes() != asked && is_default);
    if drop_port { bare } else { request.authority }
}
