//! Domain precedence, rewrites, redirects; `predicates` and `index`, which checks
//! against a naive search, stand beside it.

mod index;
mod predicates;

use std::sync::Arc;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::StatusCode;
use regex::bytes::Regex;

use super::Match;
use super::RequestView;
use super::RouteTable;
use super::Target;
use super::location;
use super::rewrite;
use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::access_log::Command;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::route::Action;
use crate::config::route::AppendAction;
use crate::config::route::CertificateMatch;
use crate::config::route::ClusterSpecifier;
use crate::config::route::Forward;
use crate::config::route::HeaderAdd;
use crate::config::route::HeaderEdit;
use crate::config::route::HeaderEdits;
use crate::config::route::HostRewrite;
use crate::config::route::PathMatch;
use crate::config::route::Redirect;
use crate::config::route::RedirectPath;
use crate::config::route::Retries;
use crate::config::route::Route;
use crate::config::route::RouteMatch;
use crate::config::route::VirtualHost;
use crate::config::route::WeightedCluster;
use crate::http::headers::Values;
use crate::net::tls::Facts;

type Table = RouteTable<Name>;

fn path(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        case_sensitive: true,
        headers: Vec::new(),
        query_parameters: Vec::new(),
        runtime_fraction_per_million: None,
        grpc: false,
        certificate: CertificateMatch::default(),
    }
}

fn prefix(text: &str) -> RouteMatch {
    path(PathMatch::Prefix(text.into()))
}

fn forward_to(cluster: ClusterSpecifier) -> Action {
    Action::Forward(Box::new(Forward {
        upgrades: Vec::new(),
        cluster,
        cluster_not_found: StatusCode::SERVICE_UNAVAILABLE,
        timeout: None,
        idle_timeout: None,
        flush_timeout: None,
        prefix_rewrite: None,
        host_rewrite: HostRewrite::Keep,
        hash_policies: Vec::new(),
        hash_chooses_cluster: false,
        priority: crate::config::circuit_breakers::Priority::Default,
        retries: Retries::default(),
        criteria: None,
        stream_duration: None,
        grpc_timeout: None,
    }))
}

fn route(name: &str, matches: RouteMatch) -> Route {
    Route {
        name: name.into(),
        matches,
        action: forward_to(ClusterSpecifier::Cluster(name.into())),
        headers: HeaderEdits::default(),
        sessions: Box::default(),
    }
}

fn host(name: &str, domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: name.into(),
        domains: domains.iter().map(|domain| (*domain).into()).collect(),
        routes,
        headers: HeaderEdits::default(),
        sessions: Box::default(),
    }
}

fn table_of(config: RouteConfig) -> Table {
    RouteTable::new(Arc::new(config), |name| Some(Name::clone(name)))
}

fn table(routes: Vec<Route>) -> Table {
    table_of(RouteConfig {
        virtual_hosts: vec![host("all", &["*"], routes)],
        ..RouteConfig::default()
    })
}

struct Request {
    method: Method,
    authority: &'static str,
    path: String,
    headers: HeaderMap,
    tls: Option<Arc<Facts>>,
}

impl Request {
    fn new(path: &str) -> Self {
        Self {
            method: Method::GET,
            authority: "example.com",
            path: path.to_owned(),
            headers: HeaderMap::new(),
            tls: None,
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        let name = HeaderName::from_static(name);
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            scheme: "http",
            authority: self.authority,
            path_and_query: &self.path,
            headers: &self.headers,
            tls: self.tls.as_deref(),
        }
    }
}

fn taken(table: &Table, request: &Request) -> Option<String> {
    let found = table.find(&request.view(), 0)?;
    Some(found.route.name.as_ref().to_owned())
}

#[test]
fn domains_follow_envoys_precedence() {
    let any = || vec![route("r", prefix("/"))];
    let config = |ignore_port| RouteConfig {
        virtual_hosts: vec![
            host("star", &["*"], any()),
            host("prefix", &["api.*"], any()),
            host("longer prefix", &["api.example.*"], any()),
            host("suffix", &["*.example.com"], any()),
            host("longer suffix", &["*.a.example.com"], any()),
            host("dashed suffix", &["*-x.example.com"], any()),
            host("exact", &["www.example.com", "api.example.com"], any()),
            host("with port", &["www.example.com:8080", "[::1]"], any()),
        ],
        ignore_port_in_host_matching: ignore_port,
        ..RouteConfig::default()
    };
    let check = |ignore_port, authority, expected| {
        let table = table_of(config(ignore_port));
        let mut request = Request::new("/");
        request.authority = authority;
        let found = table.find(&request.view(), 0).unwrap();
        assert_eq!(&*found.virtual_host.name, expected, "{authority}");
    };
    check(false, "www.example.com", "exact");
    check(false, "WWW.Example.COM", "exact");
    check(false, "api.example.com", "exact");
    check(false, "b.example.com", "suffix");
    check(false, "b.a.example.com", "longer suffix");
    check(false, "c.b.a.example.com", "longer suffix");
    check(false, "a.example.com", "suffix");
    check(false, "foo-x.example.com", "dashed suffix");
    check(false, ".example.com", "star");
    check(false, "example.com", "star");
    check(false, "api.example.org", "longer prefix");
    check(false, "api.other.org", "prefix");
    check(false, "api.", "star");
    check(false, "", "star");
    check(false, "www.example.com:8080", "with port");
    check(false, "www.example.com:81", "star");
    check(true, "www.example.com:81", "exact");
    check(true, "[::1]:9", "with port");
    check(true, "[::1]", "with port");
}

#[test]
fn upper_case_authority_longer_than_the_buffer_still_matches() {
    let label: &'static str =
        Box::leak(format!("{}.EXAMPLE.com", "A".repeat(400)).into_boxed_str());
    let table = table_of(RouteConfig {
        virtual_hosts: vec![host(
            "long",
            &["*.example.com"],
            vec![route("r", prefix("/"))],
        )],
        ..RouteConfig::default()
    });
    let mut request = Request::new("/");
    request.authority = label;
    assert!(table.find(&request.view(), 0).is_some());
}

#[test]
fn no_domain_no_match() {
    let table = table_of(RouteConfig {
        virtual_hosts: vec![host("one", &["a.b"], vec![route("r", prefix("/"))])],
        ..RouteConfig::default()
    });
    assert!(table.find(&Request::new("/").view(), 0).is_none());
}

#[test]
fn weights_split_exactly() {
    let choice = |name: &str, weight| WeightedCluster {
        name: name.into(),
        weight,
        headers: HeaderEdits::default(),
        criteria: None,
        sessions: Box::default(),
    };
    let clusters = vec![
        choice("a", 90),
        choice("none", 0),
        choice("b", 9),
        choice("c", 1),
    ];
    let mut split = route("split", prefix("/"));
    split.action = forward_to(ClusterSpecifier::Weighted(clusters));
    let table = table(vec![split]);
    let request = Request::new("/");
    let mut counts = std::collections::BTreeMap::new();
    for random in 0..1000 {
        let found = table.find(&request.view(), random).unwrap();
        let Target::Forward {
            cluster,
            weighted,
            cluster_name,
            ..
        } = found.target
        else {
            panic!("not forwarded");
        };
        assert_eq!(cluster, Some(cluster_name));
        assert_eq!(weighted.unwrap().name, *cluster_name);
        *counts.entry(cluster_name.to_string()).or_insert(0) += 1;
    }
    let expected = [("a", 900), ("b", 90), ("c", 10)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn clusters_are_resolved_once_and_missing_ones_stay_none() {
    let config = RouteConfig {
        virtual_hosts: vec![host(
            "all",
            &["*"],
            vec![route("known", prefix("/k")), route("unknown", prefix("/"))],
        )],
        ..RouteConfig::default()
    };
    let mut asked = Vec::new();
    let table = RouteTable::new(Arc::new(config), |name| {
        asked.push(name.to_string());
        (&**name == "known").then_some(7)
    });
    assert_eq!(asked, ["known", "unknown"]);
    let cluster = |path| match table.find(&Request::new(path).view(), 0).unwrap().target {
        Target::Forward { cluster, .. } => cluster.copied(),
        _ => panic!("not forwarded"),
    };
    assert_eq!(cluster("/k"), Some(7));
    assert_eq!(cluster("/u"), None);
}

#[test]
fn prefix_rewrite_as_envoy() {
    let check = |matches: RouteMatch, to: &str, path: &str, expected: Option<&str>| {
        let mut route = route("r", matches);
        if let Action::Forward(forward) = &mut route.action {
            forward.prefix_rewrite = (!to.is_empty()).then(|| to.into());
        }
        let table = table(vec![route]);
        let request = Request::new(path);
        let found: Match<'_, Name> = table.find(&request.view(), 0).unwrap();
        let Target::Forward { forward, .. } = found.target else {
            panic!("not forwarded");
        };
        let rewritten = rewrite(&found, forward, path);
        let rewritten = rewritten.as_ref().map(http::uri::PathAndQuery::as_str);
        assert_eq!(rewritten, expected, "{path}");
    };
    check(prefix("/a"), "", "/a/b", None);
    check(prefix("/a"), "/x", "/a/b?q=1", Some("/x/b?q=1"));
    check(prefix("/a"), "/", "/a/b", Some("//b"));
    check(prefix("/a/"), "/", "/a/b", Some("/b"));
    check(prefix("/a"), "/x", "/a", Some("/x"));
    check(prefix("/a"), "x", "/ab", Some("/xb"));
    let separated = path(PathMatch::PathSeparatedPrefix("/a".into()));
    check(separated, "/x", "/a/b", Some("/x/b"));
    check(
        path(PathMatch::Exact("/a".into())),
        "/x",
        "/a?q",
        Some("/x?q"),
    );
    let regex = path(PathMatch::Regex(Regex::new("^(?:/.*)$").unwrap()));
    check(regex, "/x", "/anything/at/all?q", Some("/x?q"));
}

#[test]
fn redirects_as_envoy() {
    let check = |redirect: Redirect, authority: &'static str, path: &str, expected: &str| {
        let mut route = route("r", prefix("/a"));
        route.action = Action::Redirect(Box::new(redirect.clone()));
        let table = table(vec![route]);
        let mut request = Request::new(path);
        request.authority = authority;
        let view = request.view();
        let found = table.find(&view, 0).unwrap();
        assert_eq!(location(&found, &redirect, &view).unwrap(), expected);
    };
    let https = || Redirect {
        scheme: Some("https".into()),
        ..Redirect::default()
    };
    check(https(), "h", "/a?q", "https://h/a?q");
    check(https(), "h:80", "/a", "https://h/a");
    check(https(), "h:8080", "/a", "https://h:8080/a");
    check(https(), "[::1]:80", "/a", "https://[::1]/a");
    let port = Redirect {
        port: Some(99),
        ..Redirect::default()
    };
    check(port, "h:8080", "/a", "http://h:99/a");
    let host = Redirect {
        host: Some("new".into()),
        strip_query: true,
        ..Redirect::default()
    };
    check(host, "h:1", "/a?q", "http://new/a");
    let by_path = |path| Redirect {
        path,
        ..Redirect::default()
    };
    check(
        by_path(RedirectPath::Prefix("/b".into())),
        "h",
        "/a/c?q",
        "http://h/b/c?q",
    );
    check(
        by_path(RedirectPath::Whole("/b".into())),
        "h",
        "/a/c?q",
        "http://h/b?q",
    );
    check(
        by_path(RedirectPath::Whole("/b?x".into())),
        "h",
        "/a/c?q",
        "http://h/b?x",
    );
}

struct NoValues;

impl Values for NoValues {
    fn value(&self, _: &Command, _: &mut Vec<u8>) {}
}

#[test]
fn edits_go_from_route_to_table_or_back() {
    let level = |text: &str| HeaderEdits {
        request: HeaderEdit {
            add: vec![HeaderAdd {
                name: HeaderName::from_static("x"),
                value: Template {
                    parts: vec![TemplatePart::Literal(text.into())],
                },
                action: AppendAction::OverwriteIfExistsOrAdd,
                keep_empty_value: false,
            }],
            remove: Vec::new(),
        },
        response: HeaderEdit::default(),
    };
    let last = |most_specific_header_edits_win| {
        let mut route = route("r", prefix("/"));
        route.headers = level("route");
        let mut host = host("h", &["*"], vec![route]);
        host.headers = level("host");
        let table = table_of(RouteConfig {
            virtual_hosts: vec![host],
            headers: level("table"),
            most_specific_header_edits_win,
            ..RouteConfig::default()
        });
        let found = table.find(&Request::new("/").view(), 0).unwrap();
        let mut headers = HeaderMap::new();
        found.edit_request(&mut headers, &NoValues);
        assert!(found.keeps_response_headers() && !found.keeps_request_headers());
        headers.get("x").unwrap().clone()
    };
    assert_eq!(last(false), "table");
    assert_eq!(last(true), "route");
}
