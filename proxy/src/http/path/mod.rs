//! The one canonical form of a path, made once at ingress; router, access control, logs and the wire
//! use it.
//!
//! It answers like Envoy for the same configuration: without `normalize_path` a path stays as it was
//! sent (the guard has refused control bytes), escaped slashes stay escaped unless
//! `path_with_escaped_slashes_action` says otherwise, and queries are never touched. Besides those
//! it decodes nothing that a backend would see differently: only unreserved characters (RFC 3986
//! section 2.3).
//!
//! Invariant: canonical paths are fixed points, so a second proxy changes nothing.

use http::Uri;
use http::uri::PathAndQuery;

use crate::config::listener::EscapedSlashes;
use crate::config::listener::HttpConnectionManager;

/// Envoy's response code detail for a path that has no canonical form; the status is 400.
pub const PATH_NORMALIZATION_FAILED: &str = "path_normalization_failed";

/// What a connection manager says about paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathPolicy {
    /// See [`HttpConnectionManager::normalize_path`].
    pub normalize: bool,
    /// See [`HttpConnectionManager::merge_slashes`].
    pub merge_slashes: bool,
    /// See [`HttpConnectionManager::escaped_slashes`].
    pub escaped_slashes: EscapedSlashes,
}

impl PathPolicy {
    /// The parts of `manager` that matter here.
    #[must_use]
    pub fn new(manager: &HttpConnectionManager) -> Self {
        Self {
            normalize: manager.normalize_path,
            merge_slashes: manager.merge_slashes,
            escaped_slashes: manager.escaped_slashes,
        }
    }
}

/// Brings the path of `uri` into its canonical form; true if the client is to be sent there instead
/// of being served.
///
/// # Errors
///
/// As [`canonical_path`], and when the result is no path the codec can write.
pub fn canonicalize(manager: &HttpConnectionManager, uri: &mut Uri) -> Result<bool, &'static str> {
    canonicalize_uri(PathPolicy::new(manager), uri)
}

fn canonicalize_uri(policy: PathPolicy, uri: &mut Uri) -> Result<bool, &'static str> {
    let Some(path_and_query) = uri.path_and_query() else {
        return Ok(false);
    };
    let is_redirected = policy.escaped_slashes == EscapedSlashes::UnescapeAndRedirect
        && has_escaped_slash(path_of(path_and_query.as_str().as_bytes()).0);
    let Some(canonical) = canonical_path(path_and_query.as_str(), policy)? else {
        return Ok(false);
    };
    let path = PathAndQuery::try_from(canonical).map_err(|_invalid| PATH_NORMALIZATION_FAILED)?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    *uri = Uri::from_parts(parts).map_err(|_invalid| PATH_NORMALIZATION_FAILED)?;
    Ok(is_redirected)
}

/// The canonical form of a path with its query, or `None` if it already has it, which costs no
/// allocation. A target that is no path (`*`, empty) is left alone.
///
/// # Errors
///
/// [`PATH_NORMALIZATION_FAILED`] for a fragment, with `normalize` for a zero byte or `%00`, and for
/// an escaped slash that is to be refused.
pub fn canonical_path(
    path_and_query: &str,
    policy: PathPolicy,
) -> Result<Option<String>, &'static str> {
    let bytes = path_and_query.as_bytes();
    if memchr::memchr(b'#', bytes).is_some() {
        return Err(PATH_NORMALIZATION_FAILED);
    }
    if !bytes.starts_with(b"/") {
        return Ok(None);
    }
    let (path, query) = path_of(bytes);
    let mut canonical = None;
    // First of all, so that what is found below is seen by the other steps.
    if policy.escaped_slashes != EscapedSlashes::Keep && has_escaped_slash(path) {
        if policy.escaped_slashes == EscapedSlashes::Reject {
            return Err(PATH_NORMALIZATION_FAILED);
        }
        canonical = Some(unescape_slashes(path));
    }
    let current = canonical.as_deref().unwrap_or(path);
    if policy.normalize && needs_normalizing(current) {
        canonical = Some(normalize(current)?);
    }
    let current = canonical.as_deref().unwrap_or(path);
    // After normalizing, which may bring slashes together.
    if policy.merge_slashes && memchr::memmem::find(current, b"//").is_some() {
        canonical = Some(merge_slashes(current));
    }
    let Some(mut canonical) = canonical.filter(|canonical| *canonical != path) else {
        return Ok(None);
    };
    canonical.extend_from_slice(query);
    String::from_utf8(canonical)
        .map(Some)
        .map_err(|_not_utf8| PATH_NORMALIZATION_FAILED)
}

/// A path and its query, which begins with `?`.
fn path_of(path_and_query: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'?', path_and_query).unwrap_or(path_and_query.len());
    path_and_query
        .split_at_checked(end)
        .unwrap_or((path_and_query, b""))
}

/// The slash an escape stands for; Envoy takes the backslash for one, too.
fn escaped_slash(after_percent: &[u8]) -> Option<u8> {
    decode(after_percent).filter(|byte| matches!(byte, b'/' | b'\\'))
}

fn has_escaped_slash(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path).any(|at| {
        let after = path.get(at + 1..).unwrap_or_default();
        escaped_slash(after).is_some()
    })
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let slash = (*byte == b'%').then(|| escaped_slash(tail)).flatten();
        if slash.is_some() {
            rest = tail.get(2..).unwrap_or_default();
        }
        out.push(slash.unwrap_or(*byte));
    }
    out
}

/// True unless the path is plainly canonical: every dot segment begins with `/.` or `%2e`.
fn needs_normalizing(path: &[u8]) -> bool {
    path.iter()
        .any(|byte| matches!(byte, b'%' | b'\\') || is_escaped(*byte))
        || memchr::memmem::find(path, b"/.").is_some()
}

/// Resolves dot segments (RFC 3986 section 5.2.4), written with `%2e` or not; decodes unreserved
/// characters; escapes what may not stand in a path; takes `\` for `/`, as Envoy does.
fn normalize(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(path.len());
    out.push(b'/');
    let mut segment = out.len();
    let mut rest = path.get(1..).unwrap_or_default();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match *byte {
            b'/' | b'\\' => {
                end_segment(&mut out, segment, true);
                segment = out.len();
            }
            b'%' => match decode(tail) {
                Some(0) => return Err(PATH_NORMALIZATION_FAILED),
                Some(decoded) if is_unreserved(decoded) && !completes_escape(&out, decoded) => {
                    out.push(decoded);
                    rest = tail.get(2..).unwrap_or_default();
                }
                _ => out.push(b'%'),
            },
            0 => return Err(PATH_NORMALIZATION_FAILED),
            byte if is_escaped(byte) => escape(&mut out, byte),
            byte => out.push(byte),
        }
    }
    end_segment(&mut out, segment, false);
    Ok(out)
}

/// `out` ends with a segment that begins at `start`, behind a `/`.
fn end_segment(out: &mut Vec<u8>, start: usize, goes_on: bool) {
    match out.get(start..) {
        Some(b".") => out.truncate(start),
        Some(b"..") => {
            // Behind the slash before the previous segment; the root has none above it.
            let parent = out.get(..start.saturating_sub(1)).unwrap_or_default();
            let parent = memchr::memrchr(b'/', parent).unwrap_or(0);
            out.truncate(parent + 1);
        }
        _ if goes_on => out.push(b'/'),
        _ => {}
    }
}

/// True if a `%` that began no escape would begin one with this digit: `%%32e` must not become
/// `%2e`.
fn completes_escape(out: &[u8], decoded: u8) -> bool {
    let dangling = match out {
        [.., b'%'] => true,
        [.., b'%', digit] => digit.is_ascii_hexdigit(),
        _ => false,
    };
    dangling && decoded.is_ascii_hexdigit()
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || out.last() != Some(&b'/') {
            out.push(*byte);
        }
    }
    out
}

/// The byte of the two hexadecimal digits that `bytes` begins with.
fn decode(bytes: &[u8]) -> Option<u8> {
    let digit = |index: usize| {
        let digit = char::from(*bytes.get(index)?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    Some(digit(0)? << 4 | digit(1)?)
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'%');
    for nibble in [byte >> 4, byte & 0xf] {
        out.extend(HEX.get(usize::from(nibble)));
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What the URL standard percent-encodes in a path.
fn is_escaped(byte: u8) -> bool {
    !matches!(byte, 0x21..=0x7e) || matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'}')
}

#[cfg(test)]
mod tests;
