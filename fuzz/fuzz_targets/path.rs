//! Canonical paths are fixed points and hold no dot segment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::config::listener::EscapedSlashes;
use proxy::http::path::PathPolicy;
use proxy::http::path::canonical_path;

fuzz_target!(|path: &str| {
    for (normalize, merge_slashes) in [(true, false), (false, true), (true, true)] {
        let policy = PathPolicy {
            normalize,
            merge_slashes,
            escaped_slashes: EscapedSlashes::Keep,
        };
        let Ok(canonical) = canonical_path(path, policy) else {
            continue;
        };
        let canonical = canonical.unwrap_or_else(|| path.to_owned());
        assert_eq!(canonical_path(&canonical, policy), Ok(None));
        let (bare, query) = canonical.split_once('?').unwrap_or((&canonical, ""));
        assert_eq!(query, path.split_once('?').map_or("", |(_, query)| query));
        if normalize && path.starts_with('/') {
            let is_dot = |segment: &str| {
                let plain = segment.to_ascii_lowercase().replace("%2e", ".");
                plain == "." || plain == ".."
            };
            assert!(!bare.split('/').any(is_dot));
            assert!(!bare.contains('\\') && bare.is_ascii());
        }
        if merge_slashes && path.starts_with('/') {
            assert!(!bare.contains("//"));
        }
    }
});
