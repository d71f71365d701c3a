//! A server that says with an answer that it fails its health checks from now on, as an Envoy in front
//! of one does (`x-envoy-immediate-health-check-fail`).
//!
//! It is looked for in every answer of a server that is checked, and almost never there. The name is
//! long to hash, so HTTP/1, which has read all names anyway, leaves a note if it met it; with HTTP/2, names are
//! compared while they are few.

use http::HeaderName;
use http::response::Parts;

use crate::http::codec::Protocol;
use crate::http::headers::lookup;

const FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");

/// The note of HTTP/1.
#[derive(Clone, Copy, Debug)]
struct Noted;

/// Whether it is this field.
pub(in crate::http) fn is_it(name: &HeaderName, bytes: usize) -> bool {
    bytes == FAIL.as_str().len() && *name == FAIL
}

/// Leaves the note.
pub(in crate::http) fn note(head: &mut Parts) {
    head.extensions.insert(Noted);
}

/// Whether the server says so.
pub(in crate::http) fn is_said(head: &Parts, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http1 => head.extensions.get::<Noted>().is_some(),
        Protocol::Http2 => lookup::has(&head.headers, &FAIL),
    }
}
