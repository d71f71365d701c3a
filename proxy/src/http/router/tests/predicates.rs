//! Predicates of a route match.

use std::sync::Arc;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;
use regex::bytes::Regex;

use super::Request;
use super::path;
use super::prefix;
use super::route;
use super::table;
use super::taken;
use crate::config::matcher::HeaderMatch;
use crate::config::matcher::HeaderMatchName;
use crate::config::matcher::HeaderValueMatch;
use crate::config::matcher::ResponseMatch;
use crate::config::matcher::StringMatch;
use crate::config::matcher::StringPattern;
use crate::config::route::CertificateMatch;
use crate::config::route::PathMatch;
use crate::config::route::QueryMatch;
use crate::config::route::RouteMatch;
use crate::http::router::response_fits;
use crate::net::tls::Facts;
use crate::net::tls::facts::Presented;
use crate::tls::fixtures::LEAF;

#[track_caller]
fn check_takes(matches: RouteMatch, request: &Request, expected: bool) {
    let table = table(vec![route("yes", matches)]);
    assert_eq!(
        taken(&table, request).is_some(),
        expected,
        "{}",
        request.path
    );
}

#[test]
fn path_predicates() {
    let check = |matches: &RouteMatch, path: &str, expected| {
        check_takes(matches.clone(), &Request::new(path), expected);
    };
    let m = prefix("/a");
    check(&m, "/a", true);
    check(&m, "/abc?x", true);
    check(&m, "/A", false);
    let m = path(PathMatch::Prefix("/a?".into()));
    check(&m, "/a?x", false);
    let m = path(PathMatch::Exact("/a".into()));
    check(&m, "/a?x=1", true);
    check(&m, "/a#x", true);
    check(&m, "/a/", false);
    let m = path(PathMatch::PathSeparatedPrefix("/a".into()));
    check(&m, "/a", true);
    check(&m, "/a?x", true);
    check(&m, "/a/b", true);
    check(&m, "/ab", false);
    let m = path(PathMatch::Regex(Regex::new(r"^(?:/[0-9]+)$").unwrap()));
    check(&m, "/123?a=b", true);
    check(&m, "/123/", false);
    let mut m = path(PathMatch::PathSeparatedPrefix("/aB".into()));
    m.case_sensitive = false;
    check(&m, "/Ab/c", true);
    check(&m, "/abc", false);
    check(&prefix(""), "", false);
}

#[test]
fn header_predicates() {
    let header = |value, invert, treat_missing_as_empty| {
        let mut m = prefix("/");
        m.headers.push(HeaderMatch {
            name: HeaderMatchName::Header(HeaderName::from_static("x")),
            value,
            invert,
            treat_missing_as_empty,
        });
        m
    };
    let string = |pattern, ignore_case| {
        HeaderValueMatch::String(StringMatch {
            pattern,
            ignore_case,
        })
    };
    let exact = || string(StringPattern::Exact("v".into()), false);
    let without = || Request::new("/");
    let with = |value| Request::new("/").with("x", value);

    check_takes(header(exact(), false, false), &with("v"), true);
    check_takes(header(exact(), false, false), &with("w"), false);
    check_takes(header(exact(), true, false), &with("w"), true);
    check_takes(header(exact(), true, false), &without(), false);
    check_takes(header(exact(), true, true), &without(), true);
    let present = HeaderValueMatch::Present;
    check_takes(header(present(true), false, false), &with(""), true);
    check_takes(header(present(true), false, false), &without(), false);
    check_takes(header(present(true), true, false), &without(), true);
    check_takes(header(present(false), false, false), &without(), true);
    let range = || HeaderValueMatch::Range { start: -3, end: 10 };
    check_takes(header(range(), false, false), &with("-3"), true);
    check_takes(header(range(), false, false), &with("10"), false);
    check_takes(header(range(), false, false), &with("1x"), false);
    check_takes(header(range(), true, false), &with("10"), true);
    let twice = || with("a").with("x", "b");
    let joined = string(StringPattern::Exact("a,b".into()), false);
    check_takes(header(joined.clone(), false, false), &twice(), false);
    check_takes(header(joined, true, false), &twice(), true);
    let second = string(StringPattern::Exact("b".into()), false);
    check_takes(header(second.clone(), false, false), &twice(), true);
    check_takes(header(second, true, false), &twice(), false);
    check_takes(header(present(true), false, false), &twice(), true);
    let folded = string(StringPattern::Contains("bc".into()), true);
    check_takes(header(folded, false, false), &with("aBCd"), true);
    let suffix = string(StringPattern::Suffix("cd".into()), true);
    check_takes(header(suffix.clone(), false, false), &with("abCD"), true);
    check_takes(header(suffix, false, false), &with("d"), false);
}

/// Its value is this.
fn exactly(name: HeaderMatchName, text: &str) -> HeaderMatch {
    HeaderMatch {
        name,
        value: HeaderValueMatch::String(StringMatch {
            pattern: StringPattern::Exact(text.into()),
            ignore_case: false,
        }),
        invert: false,
        treat_missing_as_empty: false,
    }
}

#[test]
fn pseudo_header_predicates() {
    let check = |name, text: &str, expected| {
        let mut m = prefix("/");
        m.headers.push(exactly(name, text));
        check_takes(m, &Request::new("/p?q"), expected);
    };
    check(HeaderMatchName::Method, "GET", true);
    check(HeaderMatchName::Method, "POST", false);
    check(HeaderMatchName::Path, "/p?q", true);
    check(HeaderMatchName::Authority, "example.com", true);
    check(HeaderMatchName::Scheme, "http", true);
}

#[test]
fn predicates_of_responses() {
    let header = |name, text: &str| ResponseMatch::Headers(vec![exactly(name, text)]);
    let status = || header(HeaderMatchName::Status, "503");
    let named = |text| header(HeaderMatchName::Header("x".parse().expect("a name")), text);
    let headers = HeaderMap::from_iter([("x".parse().expect("a name"), HeaderValue::from(7))]);
    let fits = |predicate: ResponseMatch| {
        response_fits(&predicate, (StatusCode::SERVICE_UNAVAILABLE, &headers))
    };
    assert!(fits(status()) && fits(named("7")) && !fits(named("8")));
    assert!(
        !fits(header(HeaderMatchName::Method, "GET")),
        "of requests only"
    );
    assert!(fits(ResponseMatch::All(vec![status(), named("7")])));
    assert!(!fits(ResponseMatch::All(vec![status(), named("8")])));
    assert!(fits(ResponseMatch::Any(vec![named("8"), status()])));
    assert!(!fits(ResponseMatch::Not(Box::new(status()))));
    assert!(fits(ResponseMatch::Always));
}

#[test]
fn query_predicates() {
    let check = |value: Option<&str>, path, expected| {
        let mut m = prefix("/");
        m.query_parameters.push(QueryMatch {
            name: "a".into(),
            value: value.map(|text| StringMatch {
                pattern: StringPattern::Exact(text.into()),
                ignore_case: false,
            }),
        });
        check_takes(m, &Request::new(path), expected);
    };
    check(None, "/?a", true);
    check(None, "/?b=1&a=2", true);
    check(None, "/?b", false);
    check(None, "/a=1", false);
    check(None, "/", false);
    check(Some("2"), "/?a=2&a=3", true);
    check(Some("3"), "/?a=2&a=3", false);
    check(Some(""), "/?a", true);
    check(Some("x=y"), "/?a=x=y", true);
}

#[test]
fn grpc_predicate() {
    let mut m = prefix("/");
    m.grpc = true;
    let check = |content_type, expected| {
        check_takes(
            m.clone(),
            &Request::new("/").with("content-type", content_type),
            expected,
        );
    };
    check("application/grpc", true);
    check("application/grpc+proto", true);
    check("application/grpc-web", false);
    check("text/plain", false);
}

#[test]
fn runtime_fraction_takes_its_share() {
    let mut m = prefix("/");
    m.runtime_fraction_per_million = Some(250_000);
    let table = table(vec![route("some", m), route("rest", prefix("/"))]);
    let request = Request::new("/");
    let share = (0..1_000_000_u64).step_by(1000);
    let taken = share.filter(|random| {
        let found = table.find(&request.view(), *random).unwrap();
        &*found.route.name == "some"
    });
    assert_eq!(taken.count(), 250);
}

#[test]
fn a_certificate_is_there_and_good_or_not() {
    let client = |presented: bool, is_validated: bool| {
        let leaf = LEAF.der.clone();
        Arc::new(Facts {
            version: "TLSv1.3",
            cipher: "",
            group: "",
            server_name: None,
            alpn: None,
            is_resumed: false,
            is_validated,
            peer: presented.then(|| Presented::new(vec![leaf])),
            local: None,
            trusted: None,
        })
    };
    let clients = [
        (None, false, false),
        (Some(client(false, false)), false, false),
        (Some(client(true, false)), true, false),
        (Some(client(true, true)), true, true),
    ];
    let conditions = [None, Some(false), Some(true)];
    for (tls, is_presented, is_validated) in clients {
        for (presented, validated) in conditions.iter().flat_map(|a| conditions.map(|b| (*a, b))) {
            let matches = RouteMatch {
                certificate: CertificateMatch {
                    presented,
                    validated,
                },
                ..prefix("/")
            };
            let mut request = Request::new("/");
            request.tls.clone_from(&tls);
            let expected = presented.is_none_or(|wanted| wanted == is_presented)
                && validated.is_none_or(|wanted| wanted == is_validated);
            check_takes(matches, &request, expected);
        }
    }
}
