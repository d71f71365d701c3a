//! The route index against a naive search.
#![no_main]

use std::sync::Arc;

use http::HeaderMap;
use http::Method;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use proxy::config::RouteConfig;
use proxy::config::route::Action;
use proxy::config::route::CertificateMatch;
use proxy::config::route::HeaderEdits;
use proxy::config::route::PathMatch;
use proxy::config::route::Route;
use proxy::config::route::RouteMatch;
use proxy::config::route::VirtualHost;
use proxy::http::router::RequestView;
use proxy::http::router::RouteTable;
use regex::bytes::Regex;

fuzz_target!(|text: &str| {
    // One route per line; the last line is the path.
    let mut lines: Vec<_> = text.split('\n').take(64).collect();
    let Some(path) = lines.pop() else {
        return;
    };
    let routes: Vec<_> = lines.iter().filter_map(|line| route(line)).collect();
    let expected = naive(&routes, path);
    let config = RouteConfig {
        virtual_hosts: vec![VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes: routes.clone(),
            headers: HeaderEdits::default(),
            sessions: Default::default(),
        }],
        ..RouteConfig::default()
    };
    let table = RouteTable::<()>::new(Arc::new(config), |_| None);
    let headers = HeaderMap::new();
    let request = RequestView {
        method: &Method::GET,
        scheme: "http",
        authority: "h",
        path_and_query: path,
        headers: &headers,
        tls: None,
    };
    let found = table.find(&request, 0);
    let found = found.map(|found| std::ptr::from_ref(found.route));
    let table_routes = &table.config().virtual_hosts[0].routes;
    assert_eq!(
        found,
        expected.map(|index| std::ptr::from_ref(&table_routes[index]))
    );
});

fn route(line: &str) -> Option<Route> {
    let mut chars = line.chars();
    let kind = chars.next()?;
    let text = chars.as_str();
    let path = match kind.to_ascii_lowercase() {
        'e' => PathMatch::Exact(text.into()),
        'r' => PathMatch::Regex(Regex::new(&format!("^(?:{})$", regex::escape(text))).ok()?),
        's' => PathMatch::PathSeparatedPrefix(text.into()),
        _ => PathMatch::Prefix(text.into()),
    };
    Some(Route {
        name: "".into(),
        matches: RouteMatch {
            path,
            case_sensitive: !kind.is_ascii_uppercase(),
            headers: Vec::new(),
            query_parameters: Vec::new(),
            runtime_fraction_per_million: None,
            grpc: false,
            certificate: CertificateMatch::default(),
        },
        action: Action::DirectResponse {
            status: StatusCode::OK,
            body: Default::default(),
        },
        headers: HeaderEdits::default(),
        sessions: Default::default(),
    })
}

fn naive(routes: &[Route], path: &str) -> Option<usize> {
    let as_sent = path.split(['?', '#']).next().unwrap_or_default();
    if as_sent.is_empty() {
        return None;
    }
    routes.iter().position(|route| {
        let fold = |text: &str| {
            if route.matches.case_sensitive {
                text.to_owned()
            } else {
                text.to_ascii_lowercase()
            }
        };
        let bare = fold(as_sent);
        match &route.matches.path {
            PathMatch::Exact(text) => bare == fold(text),
            PathMatch::PathSeparatedPrefix(text) => {
                bare == fold(text) || bare.starts_with(&(fold(text) + "/"))
            }
            PathMatch::Prefix(text) => bare.starts_with(&fold(text)),
            PathMatch::Regex(regex) => regex.is_match(as_sent.as_bytes()),
        }
    })
}
