//! The index against a naive search, and `find` against any input.

use http::HeaderMap;
use http::HeaderName;
use http::Method;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_assert_eq;
use proptest::prop_oneof;
use proptest::proptest;
use regex::bytes::Regex;

use super::Request;
use super::host;
use super::path;
use super::prefix;
use super::route;
use super::table;
use super::table_of;
use super::taken;
use crate::config::RouteConfig;
use crate::config::matcher::HeaderMatch;
use crate::config::matcher::HeaderMatchName;
use crate::config::matcher::HeaderValueMatch;
use crate::config::route::PathMatch;
use crate::config::route::Route;
use crate::config::route::RouteMatch;
use crate::http::router::RequestView;

/// Few letters, so that literals begin one another.
fn literal() -> impl Strategy<Value = String> {
    "/[ab/]{0,5}"
}

fn path_match() -> impl Strategy<Value = RouteMatch> {
    let path_match = prop_oneof![
        4 => literal().prop_map(|text| PathMatch::Prefix(text.into())),
        4 => literal().prop_map(|text| PathMatch::Exact(text.into())),
        2 => literal().prop_map(|text| PathMatch::PathSeparatedPrefix(text.into())),
        1 => "[ab]".prop_map(|letter| {
            PathMatch::Regex(Regex::new(&format!("^(?:/{letter}.*)$")).unwrap())
        }),
    ];
    (path_match, any::<bool>(), 0..4_u32).prop_map(|(path_match, with_header, fold)| {
        let mut matches = path(path_match);
        matches.case_sensitive = fold != 0;
        if with_header {
            matches.headers.push(HeaderMatch {
                name: HeaderMatchName::Header(HeaderName::from_static("x")),
                value: HeaderValueMatch::Present(true),
                invert: false,
                treat_missing_as_empty: false,
            });
        }
        matches
    })
}

/// Written without any of the router's code.
fn naive(routes: &[Route], path: &str, has_x: bool) -> Option<usize> {
    let bare = path.split(['?', '#']).next().unwrap();
    routes.iter().position(|route| {
        let m = &route.matches;
        let fold = |text: &str| {
            if m.case_sensitive {
                text.to_owned()
            } else {
                text.to_ascii_lowercase()
            }
        };
        let as_sent = bare;
        let bare = fold(bare);
        let by_path = match &m.path {
            PathMatch::Exact(text) => bare == fold(text),
            PathMatch::Prefix(text) => bare.starts_with(&fold(text)),
            PathMatch::PathSeparatedPrefix(text) => {
                bare == fold(text) || bare.starts_with(&(fold(text) + "/"))
            }
            PathMatch::Regex(regex) => regex.is_match(as_sent.as_bytes()),
        };
        by_path && (m.headers.is_empty() || has_x)
    })
}

proptest! {
    #[test]
    fn index_equals_naive_search(
        matches in proptest::collection::vec(path_match(), 0..40),
        paths in proptest::collection::vec("/[abA/]{0,7}(\\?[ab]{0,2})?", 1..20),
        has_x in any::<bool>(),
    ) {
        let routes: Vec<_> = matches
            .into_iter()
            .enumerate()
            .map(|(index, matches)| route(&index.to_string(), matches))
            .collect();
        let table = table(routes.clone());
        for path in paths {
            let mut request = Request::new(&path);
            if has_x {
                request = request.with("x", "");
            }
            let expected = naive(&routes, &path, has_x).map(|index| index.to_string());
            prop_assert_eq!(taken(&table, &request), expected, "{}", path);
        }
    }

    #[test]
    fn find_never_panics(path in ".{0,20}", authority in ".{0,20}", random in any::<u64>()) {
        let routes = (0..20).map(|n| route("r", prefix(&format!("/{n}")))).collect();
        let table = table_of(RouteConfig {
            virtual_hosts: vec![host("h", &["*.é", "é.*", "*", "a"], routes)],
            ignore_port_in_host_matching: true,
            ..RouteConfig::default()
        });
        let headers = HeaderMap::new();
        let view = RequestView {
            method: &Method::GET,
            scheme: "http",
            authority: &authority,
            path_and_query: &path,
            headers: &headers,
            tls: None,
        };
        let _ = table.find(&view, random);
    }
}
