//! Security case P1 as a table; canonical paths are fixed points.

use http::Uri;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::proptest;

use super::EscapedSlashes;
use super::PATH_NORMALIZATION_FAILED;
use super::PathPolicy;
use super::canonical_path;
use super::canonicalize_uri;

const KEEP: PathPolicy = PathPolicy {
    normalize: false,
    merge_slashes: false,
    escaped_slashes: EscapedSlashes::Keep,
};
const NORMALIZE: PathPolicy = PathPolicy {
    normalize: true,
    merge_slashes: false,
    escaped_slashes: EscapedSlashes::Keep,
};
const MERGE: PathPolicy = PathPolicy {
    normalize: false,
    merge_slashes: true,
    escaped_slashes: EscapedSlashes::Keep,
};
const BOTH: PathPolicy = PathPolicy {
    normalize: true,
    merge_slashes: true,
    escaped_slashes: EscapedSlashes::Keep,
};

#[track_caller]
fn check(policy: PathPolicy, path: &str, expected: &str) {
    let canonical = canonical_path(path, policy).unwrap();
    assert_ne!(canonical.as_deref(), Some(path), "unchanged is None");
    assert_eq!(canonical.as_deref().unwrap_or(path), expected, "{path}");
}

const FAILED: Result<Option<String>, &str> = Err(PATH_NORMALIZATION_FAILED);

#[test]
fn p01_without_normalizing_paths_stay() {
    for path in [
        "/",
        "/a/../b",
        "/a/./b",
        "//a",
        "/%2e%2e/a",
        "/a%2fb",
        "/a%5cb",
        "/a\\b",
        "/a%00b",
        "/..;/a",
        "/a;p=1/b",
        "/%252e",
        "/%c0%ae",
        "/a.",
        "/a+b",
        "/%zz",
        "/a?../b",
        "*",
        "",
    ] {
        check(KEEP, path, path);
    }
}

#[test]
fn p01_fragments_are_refused() {
    for policy in [KEEP, NORMALIZE, MERGE, BOTH] {
        for path in ["/a#b", "/#", "#", "/a?b#c"] {
            assert_eq!(canonical_path(path, policy), FAILED, "{path}");
        }
    }
}

#[test]
fn p01_dot_segments() {
    for (path, expected) in [
        ("/a/b/c/./../../g", "/a/g"),
        ("/.", "/"),
        ("/..", "/"),
        ("/./", "/"),
        ("/../", "/"),
        ("/../../a", "/a"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/b/../c", "/a/c"),
        ("/a/./b", "/a/b"),
        ("/a//../b", "/a/b"),
        ("/a/...", "/a/..."),
        ("/a/.b", "/a/.b"),
        ("/a/b.", "/a/b."),
        ("/a/..b/c", "/a/..b/c"),
        ("/a/b../c", "/a/b../c"),
        ("/..;/a", "/..;/a"),
        ("/a;p=1/../b", "/b"),
        ("/a/../b?x=../y", "/b?x=../y"),
        ("/a?/../b", "/a?/../b"),
    ] {
        check(NORMALIZE, path, expected);
    }
}

#[test]
fn p01_escaped_dots_and_slashes() {
    for (path, expected) in [
        ("/a/%2e/b", "/a/b"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e./b", "/b"),
        ("/a/%2e%2e", "/"),
        ("/a/%2e%2e%2fb", "/a/..%2fb"),
        ("/a%2fb", "/a%2fb"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%5cb", "/a%5cb"),
        ("/a\\b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("\\a", "\\a"),
        ("/%252e%252e/a", "/%252e%252e/a"),
        ("/%c0%ae%c0%ae/a", "/%c0%ae%c0%ae/a"),
    ] {
        check(NORMALIZE, path, expected);
    }
}

#[test]
fn p01_escaped_slashes_become_slashes_before_all_else() {
    let plain = PathPolicy {
        escaped_slashes: EscapedSlashes::UnescapeAndForward,
        ..KEEP
    };
    for (path, expected) in [
        ("/a%2fb%2Fc", "/a/b/c"),
        ("/a%5cb%5C", "/a\\b\\"),
        ("/a%252fb", "/a%252fb"),
        ("/a%2%2f", "/a%2/"),
        ("/a%2", "/a%2"),
        ("/a?b=%2f", "/a?b=%2f"),
    ] {
        check(plain, path, expected);
    }
    let both = PathPolicy {
        escaped_slashes: EscapedSlashes::UnescapeAndForward,
        ..BOTH
    };
    for (path, expected) in [
        ("/a/%2e%2e%2fb", "/b"),
        ("/a%2f%2fb", "/a/b"),
        ("/a%5c..%5cb", "/b"),
    ] {
        check(both, path, expected);
    }
}

#[test]
fn p01_escaped_slashes_are_refused_or_lead_elsewhere() {
    let reject = PathPolicy {
        escaped_slashes: EscapedSlashes::Reject,
        ..KEEP
    };
    assert_eq!(canonical_path("/a%2Fb", reject), FAILED);
    assert_eq!(canonical_path("/a%5cb", reject), FAILED);
    check(reject, "/a%252Fb?c=%2F", "/a%252Fb?c=%2F");
    let redirect = PathPolicy {
        escaped_slashes: EscapedSlashes::UnescapeAndRedirect,
        ..NORMALIZE
    };
    for (path, expected, is_redirected) in [
        ("/a%2Fb?c", "/a/b?c", true),
        ("/a/../b", "/b", false), // normalizing alone sends nobody away
        ("/a?b=%2F", "/a?b=%2F", false),
    ] {
        let mut uri: Uri = path.parse().unwrap();
        assert_eq!(canonicalize_uri(redirect, &mut uri), Ok(is_redirected));
        assert_eq!(uri.to_string(), expected);
    }
}

#[test]
fn p01_escapes() {
    for (path, expected) in [
        ("/%41%62%39", "/Ab9"),
        ("/%2d%5f%7E", "/-_~"),
        ("/%20%3a%3B", "/%20%3a%3B"),
        ("/%zz/%4/%", "/%zz/%4/%"),
        ("/%%32e%%32e/a", "/%%32e%%32e/a"),
        ("/%2%65", "/%2%65"),
        ("/%3f", "/%3f"),
        ("/%23", "/%23"),
        ("/%25", "/%25"),
        ("/a\"<>`{}", "/a%22%3C%3E%60%7B%7D"),
        ("/\u{e9}", "/%C3%A9"),
        ("/a+b:c@d!$&'()*,;=|", "/a+b:c@d!$&'()*,;=|"),
        ("/a?%41\"", "/a?%41\""),
    ] {
        check(NORMALIZE, path, expected);
    }
    assert_eq!(canonical_path("/a%00b", NORMALIZE), FAILED);
    // Escaped, it would fail at the next proxy.
    assert_eq!(canonical_path("/a\0b", NORMALIZE), FAILED);
    check(NORMALIZE, "/a?%00", "/a?%00");
}

#[test]
fn p01_slashes() {
    for (path, expected) in [
        ("//a", "/a"),
        ("/a//b///c", "/a/b/c"),
        ("///", "/"),
        ("/a//", "/a/"),
        ("/a?b//c", "/a?b//c"),
        ("/a%2f/b", "/a%2f/b"),
    ] {
        check(MERGE, path, expected);
    }
    check(NORMALIZE, "//a", "//a");
    check(BOTH, "/a/\\/b", "/a/b");
    check(BOTH, "//a/..//b", "/b");
}

#[test]
fn uris_keep_their_other_parts() {
    let check = |uri: &str, expected: &str| {
        let mut uri: Uri = uri.parse().unwrap();
        canonicalize_uri(BOTH, &mut uri).unwrap();
        assert_eq!(uri.to_string(), expected);
    };
    check("/a/../b?q=/../", "/b?q=/../");
    check("http://h:1/a//%41?q", "http://h:1/a/A?q");
    check("http://h", "http://h/");
    check("h:1", "h:1");
    check("*", "*");
    let mut uri: Uri = "/%00".parse().unwrap();
    assert!(canonicalize_uri(BOTH, &mut uri).is_err());
    assert_eq!(uri, "/%00", "refused, but still there for the log");
}

#[test]
fn canonical_path_is_no_longer_than_three_times_what_was_sent() {
    let path = format!("/{}", "\"".repeat(1000));
    let canonical = canonical_path(&path, NORMALIZE).unwrap().unwrap();
    assert_eq!(canonical.len(), 3001);
}

proptest! {
    #[test]
    fn canonical_paths_are_fixed_points(path in "/[./\\\\%23eEfa41;? \u{e9}\"]{0,16}") {
        for policy in [NORMALIZE, MERGE, BOTH] {
            let Ok(once) = canonical_path(&path, policy) else {
                continue;
            };
            let once = once.unwrap_or_else(|| path.clone());
            prop_assert!(once.starts_with('/'));
            prop_assert_eq!(canonical_path(&once, policy), Ok(None), "{} -> {}", path, once);
        }
    }

    #[test]
    fn no_dot_segment_survives(path in "/[./\\\\%23ea]{0,16}") {
        if let Ok(canonical) = canonical_path(&path, BOTH) {
            let canonical = canonical.unwrap_or(path);
            let mut segments = canonical.split('/');
            prop_assert!(segments.all(|segment| segment != "." && segment != ".."));
        }
    }
}
