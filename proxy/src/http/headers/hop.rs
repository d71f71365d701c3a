//! Headers that end at the next hop (RFC 9110 section 7.6.1).
//!
//! A plain message costs one walk over its names; nothing is looked up unless that walk saw it.
//!
//! Invariant: a name in [`PROTECTED`] is never removed because `Connection` names it, so that a
//! client cannot take away what an earlier proxy asserted (security case S15).

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::header::CONNECTION;
use http::header::TE;
use http::header::TRANSFER_ENCODING;
use http::header::UPGRADE;

use crate::http::headers::names::HTTP2_SETTINGS;
use crate::http::headers::names::KEEP_ALIVE;
use crate::http::headers::names::PROXY_CONNECTION;

/// What `Connection` may not take away: framing, routing, identity, trace context.
const PROTECTED: [&str; 17] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "grpc-timeout",
    "host",
    "set-cookie",
    "traceparent",
    "tracestate",
    "via",
    "x-real-ip",
    "x-request-id",
];

/// The same for whole families.
const PROTECTED_PREFIXES: [&str; 2] = ["x-envoy-", "x-forwarded-"];

/// Removes what ends at this hop. `te: trailers` stays, as gRPC needs it. With `keep_upgrade` the
/// message goes on as an upgrade: `Upgrade` stays and `Connection` names nothing else.
///
/// Allocates only if `Connection` names headers.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    let seen = Seen::new(headers);
    if seen == Seen::default() {
        return;
    }
    if seen.connection {
        remove_nominated(headers);
        headers.remove(CONNECTION);
    }
    if seen.rare {
        headers.remove(&HTTP2_SETTINGS);
        headers.remove(&KEEP_ALIVE);
        headers.remove(&PROXY_CONNECTION);
        keep_only_trailers(headers);
    }
    if seen.transfer_encoding {
        headers.remove(TRANSFER_ENCODING);
    }
    if seen.upgrade && keep_upgrade && headers.contains_key(UPGRADE) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else if seen.upgrade {
        headers.remove(UPGRADE);
    }
}

/// What the walk saw.
#[derive(Default, PartialEq, Eq)]
struct Seen {
    connection: bool,
    transfer_encoding: bool,
    upgrade: bool,
    /// Any of the others.
    rare: bool,
}

impl Seen {
    fn new(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => seen.connection = true,
                "transfer-encoding" => seen.transfer_encoding = true,
                "upgrade" => seen.upgrade = true,
                "http2-settings" | "keep-alive" | "proxy-connection" | "te" => seen.rare = true,
                _ => {}
            }
        }
        seen
    }
}

fn remove_nominated(headers: &mut HeaderMap) {
    let mut nominated = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close") {
                continue;
            }
            nominated.extend(HeaderName::from_bytes(token).ok().filter(may_be_nominated));
        }
    }
    for name in nominated {
        headers.remove(name);
    }
}

/// `te` and `upgrade` have their own rules.
fn may_be_nominated(name: &HeaderName) -> bool {
    let text = name.as_str();
    name != TE
        && name != UPGRADE
        && !PROTECTED.contains(&text)
        && !PROTECTED_PREFIXES
            .iter()
            .any(|prefix| text.starts_with(prefix))
}

fn keep_only_trailers(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TE).iter();
    let Some(first) = values.next() else {
        return;
    };
    if first == "trailers" && values.next().is_none() {
        return;
    }
    let has_trailers = headers
        .get_all(TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"));
    if has_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}
