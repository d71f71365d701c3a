//! Hashes of requests, each with the text that Envoy hashes.

use http::HeaderName;
use http::Method;

use super::*;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::filter_state::StateValue;
use crate::telemetry::access_log::ExchangeRecord;

fn policy(source: HashSource) -> HashPolicy {
    HashPolicy {
        source,
        terminal: false,
    }
}

fn of_header(name: &'static str) -> HashPolicy {
    policy(HashSource::Header {
        name: HeaderMatchName::Header(HeaderName::from_static(name)),
        rewrite: None,
    })
}

fn hashed(policies: &[HashPolicy], path: &str, headers: &[(&'static str, &str)]) -> Hashed {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().expect("a value"));
    }
    let request = RequestView {
        method: &Method::GET,
        scheme: "http",
        authority: "a.example",
        path_and_query: path,
        headers: &map,
        tls: None,
    };
    let address: SocketAddr = "10.0.0.9:5000".parse().expect("an address");
    let mut state = GivenState::default();
    let text = Template {
        parts: vec![TemplatePart::Literal("given".into())],
    };
    let given = StateValue {
        key: "given".into(),
        text,
        omits_empty: false,
        skips_empty: false,
    };
    let record = ExchangeRecord::new(std::time::SystemTime::UNIX_EPOCH);
    state.give(&[given], &record);
    let client = Client {
        address: Some(address.ip()),
        connection: Some((Some(address), "10.0.0.1:80".parse().ok())),
        state: [&GivenState::default(), &state],
    };
    Hashed::new(policies, &request, client)
}

fn hash(policies: &[HashPolicy], path: &str, headers: &[(&'static str, &str)]) -> Option<u64> {
    hashed(policies, path, headers).hash
}

fn xx(text: &str) -> Option<u64> {
    Some(xxh64(text.as_bytes(), 0))
}

#[test]
fn filter_state_is_hashed_if_it_was_given() {
    let of = |key: &str| policy(HashSource::FilterState(key.into()));
    assert_eq!(hash(&[of("given")], "/", &[]), xx("given"));
    assert_eq!(hash(&[of("other")], "/", &[]), None);
}

#[test]
fn values_of_a_header_are_hashed_in_any_order() {
    let policies = [of_header("x")];
    assert_eq!(hash(&policies, "/", &[]), None);
    assert_eq!(hash(&policies, "/", &[("x", "")]), xx(""));
    let both = Some(xxh64(b"b", xxh64(b"a", 0)));
    assert_eq!(hash(&policies, "/", &[("x", "b"), ("x", "a")]), both);
    assert_eq!(hash(&policies, "/", &[("x", "a"), ("x", "b")]), both);
    let joined = [of_header("via")];
    assert_eq!(hash(&joined, "/", &[("via", "b"), ("via", "a")]), xx("b,a"));
    assert!(JOINED.is_sorted());
    let path = policy(HashSource::Header {
        name: HeaderMatchName::Path,
        rewrite: None,
    });
    assert_eq!(hash(&[path], "/p?q", &[]), xx("/p?q"));
}

#[test]
fn cookies_are_found_as_envoy_finds_them() {
    let policies = [policy(HashSource::Cookie {
        name: "c".into(),
        generated: None,
    })];
    for (text, expected) in [
        ("c=1", xx("1")),
        ("b=2;  c=\"1\"; c=3", xx("1")),
        ("b; c=1=2", xx("1=2")),
        ("c=\"", xx("\"")),
        ("c=; c=1", None),
        ("c", None),
        ("cc=1", None),
    ] {
        assert_eq!(
            hash(&policies, "/", &[("cookie", text)]),
            expected,
            "{text}"
        );
    }
    let cut = [("cookie", "b=2"), ("cookie", "c=1")];
    assert_eq!(hash(&policies, "/", &cut), xx("1"));
}

#[test]
fn a_missing_cookie_is_made_of_the_connection() {
    let policies = [policy(HashSource::Cookie {
        name: "c".into(),
        generated: Some(GeneratedCookie {
            attributes: "; Max-Age=60; HttpOnly".into(),
        }),
    })];
    let made = hashed(&policies, "/", &[("cookie", "c=")]);
    let value = format!("{:016x}", xxh64(b"10.0.0.9:500010.0.0.1:80", 0));
    assert_eq!(made.hash, xx(&value));
    assert_eq!(
        made.cookies,
        [format!("c=\"{value}\"; Max-Age=60; HttpOnly")]
    );
    let known = hashed(&policies, "/", &[("cookie", &format!("c=\"{value}\""))]);
    assert_eq!(known.hash, made.hash);
    assert!(known.cookies.is_empty());
}

#[test]
fn the_first_query_parameter_counts() {
    let policies = [policy(HashSource::QueryParameter("q".into()))];
    for (path, expected) in [
        ("/?q=1&q=2", xx("1")),
        ("/?a=q&&q", xx("")),
        ("/?Q=1", None),
        ("/q=1", None),
        ("/?q=%31", xx("%31")),
    ] {
        assert_eq!(hash(&policies, path, &[]), expected, "{path}");
    }
}

#[test]
fn parts_are_combined_until_a_terminal_one() {
    let (a, b) = (xxh64(b"1", 0), xxh64(b"2", 0));
    let headers = [("a", "1"), ("b", "2")];
    let mut policies = [of_header("a"), of_header("b")];
    assert_eq!(hash(&policies, "/", &headers), Some(a.rotate_left(1) ^ b));
    policies[0].terminal = true;
    assert_eq!(hash(&policies, "/", &headers), Some(a));
    assert_eq!(hash(&policies, "/", &headers[1..]), Some(b));
    let both = [policy(HashSource::SourceIp), of_header("none")];
    assert_eq!(hash(&both, "/", &[]), xx("10.0.0.9"));
}
