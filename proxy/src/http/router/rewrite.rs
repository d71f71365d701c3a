//! The path that goes upstream (`RouteAction.prefix_rewrite`).
//!
//! A rewritten path is never routed again (security case P2).

use http::uri::PathAndQuery;

use crate::config::route::Forward;
use crate::config::route::PathMatch;
use crate::http::router::Match;
use crate::http::router::predicate::path_of;

/// The rewritten path with its query, or `None` if it stays as it is. Allocates once.
///
/// As in Envoy the matched prefix is replaced, byte for byte and without touching slashes; of an
/// exact or regex route the whole path is. A result that does not begin with `/` gets one, because
/// no HTTP version could carry it; one that is no path at all is not used.
#[must_use]
pub fn rewrite<C>(
    found: &Match<'_, C>,
    forward: &Forward,
    path_and_query: &str,
) -> Option<PathAndQuery> {
    let replacement = forward.prefix_rewrite.as_deref()?;
    let rewritten = replace_prefix(&found.route.matches.path, replacement, path_and_query)?;
    PathAndQuery::try_from(rewritten).ok()
}

/// `path_and_query` with its matched part replaced.
pub(super) fn replace_prefix(
    path: &PathMatch,
    replacement: &str,
    path_and_query: &str,
) -> Option<String> {
    let matched = match path {
        PathMatch::PathSeparatedPrefix(text) | PathMatch::Prefix(text) => text.len(),
        PathMatch::Exact(_) | PathMatch::Regex(_) => path_of(path_and_query).len(),
    };
    let rest = path_and_query.get(matched..)?;
    let mut out = String::with_capacity(1 + replacement.len() + rest.len());
    let first = if replacement.is_empty() {
        rest
    } else {
        replacement
    };
    if !first.starts_with('/') {
        out.push('/');
    }
    out.push_str(replacement);
    out.push_str(rest);
    Some(out)
}
