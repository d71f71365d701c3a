//! Authorities and whole request heads: security cases S9, S10, D2.

use http::Request;

use crate::http::headers::validate_authority;
use crate::http::headers::validate_request;

#[test]
fn s10_authority() {
    let check = |authority, expected| {
        assert_eq!(validate_authority(authority), expected, "{authority}");
    };
    for good in [
        "", "a", "a.b:80", "1.2.3.4", "[::1]", "[::1]:80", "A_b", "a.", "a:", "a:65535",
    ] {
        check(good, true);
    }
    for bad in [
        "a,b",
        "a b",
        "u@a",
        "a:",
        ":80",
        "a:65536",
        "a:x",
        "a:+1",
        "a:1:2",
        "::1",
        "[::1",
        "::1]",
        "[::1]x",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "é",
        "a%41",
        "a\"b",
        "a<b",
        "[a]",
    ] {
        check(bad, bad == "a:");
    }
}

#[track_caller]
fn check_request(method: &str, uri: &str, hosts: &[&str], expected: Result<(), &'static str>) {
    let mut builder = Request::builder().method(method).uri(uri);
    for host in hosts {
        builder = builder.header("host", *host);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    assert_eq!(
        validate_request(&parts),
        expected,
        "{method} {uri} {hosts:?}"
    );
}

#[test]
fn s09_target_forms() {
    check_request("GET", "/", &["h"], Ok(()));
    check_request("GET", "*", &["h"], Err("http1.invalid_url"));
    check_request("OPTIONS", "*", &["h"], Ok(()));
    check_request("GET", "h:80", &["h:80"], Err("http1.invalid_url"));
    check_request("CONNECT", "h:80", &["h:80"], Ok(()));
    check_request("CONNECT", "/", &["h:80"], Err("http1.invalid_url"));
    check_request("GET", "http://h/a", &["H"], Ok(()));
    check_request(
        "GET",
        "http://h/a",
        &["other"],
        Err("http.invalid_authority"),
    );
    check_request(
        "GET",
        "http://h/a",
        &["h:80"],
        Err("http.invalid_authority"),
    );
    check_request(
        "GET",
        "http://u@h/a",
        &["u@h"],
        Err("http.invalid_authority"),
    );
    check_request("GET", "ftp://h/a", &["h"], Err("http1.invalid_scheme"));
}

#[test]
fn s10_hosts() {
    check_request("GET", "/", &[], Err("missing_host_header"));
    check_request("GET", "/", &["a", "a"], Err("http.invalid_authority"));
    check_request("GET", "/", &["a,b"], Err("http.invalid_authority"));
    check_request("GET", "/", &["a b"], Err("http.invalid_authority"));
    check_request("GET", "/", &["a@b"], Err("http.invalid_authority"));
    check_request("GET", "/", &["a:99999"], Err("http.invalid_authority"));
    check_request(
        "GET",
        "/",
        &["[fe80::1%25lo]"],
        Err("http.invalid_authority"),
    );
}

#[test]
fn d02_authority_and_host_must_agree() {
    check_request("GET", "https://a/", &["b"], Err("http.invalid_authority"));
    check_request("GET", "https://a/", &[], Ok(()));
}
