//! The table of endpoints: path, parameters and help text stand once.

use std::fmt::Write;

use http::Method;
use http::StatusCode;

use crate::admin::endpoint::certs;
use crate::admin::endpoint::clusters;
use crate::admin::endpoint::config_dump;
use crate::admin::endpoint::control;
use crate::admin::endpoint::home;
use crate::admin::endpoint::listeners;
use crate::admin::endpoint::logging;
use crate::admin::endpoint::memory;
use crate::admin::endpoint::ready;
use crate::admin::endpoint::server_info;
use crate::admin::endpoint::stats;
use crate::admin::reply::Reply;
use crate::admin::request::Query;
use crate::admin::state::Admin;

/// One path.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// One sentence.
    pub(super) help: &'static str,
    pub(super) parameters: Parameters,
    /// Whether the answer grows with the configuration, so that it is made on a thread of its own.
    pub(super) heavy: bool,
    run: fn(&Call<'_>) -> Reply,
}

/// What a method may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads without parameters, changes by POST.
    Both,
    /// Changes something: POST only.
    Change,
    /// Only reads.
    Read,
}

/// Which query parameters there are.
#[derive(Debug)]
pub(super) enum Parameters {
    /// Whatever comes: probes must not fail for a parameter, and log targets are open.
    Any(&'static [(&'static str, &'static str)]),
    /// These, with help; others are refused.
    Only(&'static [(&'static str, &'static str)]),
}

/// One request to an endpoint.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) admin: &'a Admin,
    pub(super) query: &'a Query,
}

const FILTER: (&str, &str) = ("filter", "regular expression on names");
const USED_ONLY: (&str, &str) = ("usedonly", "only what was ever counted");

/// Every endpoint, by path.
pub(super) static ENDPOINTS: [Endpoint; 20] = [
    Endpoint {
        path: "/",
        access: Access::Read,
        help: "this page",
        parameters: Parameters::Any(&[]),
        heavy: false,
        run: |_| home::page(),
    },
    Endpoint {
        path: "/certs",
        access: Access::Read,
        help: "certificates in use, and how long they last",
        parameters: Parameters::Only(&[]),
        heavy: true,
        run: certs::reply,
    },
    Endpoint {
        path: "/clusters",
        access: Access::Read,
        help: "clusters and their hosts",
        parameters: Parameters::Only(&[FILTER, ("format", "text or json")]),
        heavy: true,
        run: clusters::reply,
    },
    Endpoint {
        path: "/config_dump",
        access: Access::Read,
        help: "the configuration as received, without secrets",
        parameters: Parameters::Only(&[
            (
                "resource",
                "only this list, for example dynamic_active_clusters",
            ),
            ("name_regex", "only resources whose name matches"),
            ("include_eds", "members of clusters too"),
        ]),
        heavy: true,
        run: config_dump::reply,
    },
    Endpoint {
        path: "/drain_endpoint",
        access: Access::Change,
        help: "send nothing new to a member of a cluster",
        parameters: Parameters::Only(&[
            ("cluster", "its cluster"),
            ("address", "where it listens: 10.0.0.1:80, or a path"),
            ("undo", "take it back"),
        ]),
        heavy: false,
        run: control::drain_endpoint,
    },
    Endpoint {
        path: "/drain_listeners",
        access: Access::Change,
        help: "ask connections to finish and stop accepting",
        parameters: Parameters::Only(&[("graceful", "stop accepting after the drain time only")]),
        heavy: false,
        run: control::drain_listeners,
    },
    Endpoint {
        path: "/help",
        access: Access::Read,
        help: "this list as text",
        parameters: Parameters::Any(&[]),
        heavy: false,
        run: |_| Reply::text(help()),
    },
    Endpoint {
        path: "/listeners",
        access: Access::Read,
        help: "listeners and where they are bound",
        parameters: Parameters::Only(&[("format", "text or json")]),
        heavy: false,
        run: listeners::reply,
    },
    Endpoint {
        path: "/livez",
        access: Access::Read,
        help: "200 as long as the process answers",
        parameters: Parameters::Any(&[]),
        heavy: false,
        run: |_| Reply::text("OK\n"),
    },
    Endpoint {
        path: "/logging",
        access: Access::Both,
        help: "show the log filter; change it by POST",
        parameters: Parameters::Any(&[
            (
                "level",
                "a level for everything, or a whole filter: info,h2=debug",
            ),
            ("paths", "several: target:level,target:level"),
            ("<target>", "a level for one target"),
        ]),
        heavy: false,
        run: logging::reply,
    },
    Endpoint {
        path: "/memory",
        access: Access::Read,
        help: "memory in use",
        parameters: Parameters::Only(&[]),
        heavy: false,
        run: memory::reply,
    },
    Endpoint {
        path: "/metrics",
        access: Access::Read,
        help: "as /stats/prometheus",
        parameters: Parameters::Only(PROMETHEUS),
        heavy: true,
        run: stats::prometheus,
    },
    Endpoint {
        path: "/quitquitquit",
        access: Access::Change,
        help: "end the process as TERM does",
        parameters: Parameters::Only(&[]),
        heavy: false,
        run: control::quit,
    },
    Endpoint {
        path: "/ready",
        access: Access::Read,
        help: "200 while ready for traffic, else 503",
        parameters: Parameters::Any(VERBOSE),
        heavy: false,
        run: ready::reply,
    },
    Endpoint {
        path: "/readyz",
        access: Access::Read,
        help: "as /ready",
        parameters: Parameters::Any(VERBOSE),
        heavy: false,
        run: ready::reply,
    },
    Endpoint {
        path: "/reopen_logs",
        access: Access::Change,
        help: "open access logs anew, after a rotation",
        parameters: Parameters::Only(&[]),
        heavy: false,
        run: control::reopen_logs,
    },
    Endpoint {
        path: "/server_info",
        access: Access::Read,
        help: "version, state, uptime, options, node",
        parameters: Parameters::Only(&[]),
        heavy: false,
        run: server_info::reply,
    },
    Endpoint {
        path: "/stats",
        access: Access::Read,
        help: "counters, gauges and histograms",
        parameters: Parameters::Only(&[FILTER, USED_ONLY, ("format", "text, json or prometheus")]),
        heavy: true,
        run: stats::reply,
    },
    Endpoint {
        path: "/stats/prometheus",
        access: Access::Read,
        help: "counters, gauges and histograms for Prometheus",
        parameters: Parameters::Only(PROMETHEUS),
        heavy: true,
        run: stats::prometheus,
    },
    Endpoint {
        path: "/version",
        access: Access::Read,
        help: "version and revision",
        parameters: Parameters::Only(&[]),
        heavy: false,
        run: server_info::version,
    },
];

/// The last three are what Envoy's scrapers send; here they change nothing.
const PROMETHEUS: &[(&str, &str)] = &[
    FILTER,
    USED_ONLY,
    ("text_readouts", "accepted: there are none"),
    ("histogram_buckets", "cumulative"),
    ("format", "prometheus"),
];

const VERBOSE: &[(&str, &str)] = &[("verbose", "what it waits for")];

/// The endpoint at a path.
pub(super) fn find(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

/// For a path that is none.
pub(super) fn not_found(path: &str) -> Reply {
    let sentence = format!("invalid path {path:?}. {}", help());
    Reply::error(StatusCode::NOT_FOUND, &sentence)
}

impl Endpoint {
    /// Answers a request to this path.
    pub(super) fn answer(&self, admin: &Admin, method: &Method, query: &Query) -> Reply {
        let is_post = method == Method::POST;
        let reads = is_post || method == Method::GET || method == Method::HEAD;
        let changes = match self.access {
            Access::Both => query.iter().next().is_some(),
            Access::Change => true,
            Access::Read => false,
        };
        if !reads || (changes && !is_post) {
            return self.not_allowed(method, changes);
        }
        if let Some(unknown) = self.unknown_parameter(query) {
            let sentence = format!(
                "{} has no parameter {unknown:?}\n{}",
                self.path,
                self.usage()
            );
            return Reply::bad_request(sentence.trim_end());
        }
        (self.run)(&Call { admin, query })
    }

    fn not_allowed(&self, method: &Method, changes: bool) -> Reply {
        let (allowed, example) = if changes {
            (
                "POST",
                format!(": curl -X POST http://ADDRESS{}", self.path),
            )
        } else {
            ("GET", String::new())
        };
        let sentence = format!("Method {method} not allowed, {allowed} required{example}");
        Reply::error(StatusCode::METHOD_NOT_ALLOWED, &sentence)
    }

    fn unknown_parameter<'q>(&self, query: &'q Query) -> Option<&'q str> {
        let Parameters::Only(known) = &self.parameters else {
            return None;
        };
        let mut names = query.iter().map(|(name, _)| name);
        names.find(|name| !known.iter().any(|(known, _)| known == name))
    }

    /// Path and parameters, as in Envoy's `/help`.
    fn usage(&self) -> String {
        let post = match self.access {
            Access::Both | Access::Change => " (POST)",
            Access::Read => "",
        };
        let mut text = format!("  {}{post}: {}\n", self.path, self.help);
        let (Parameters::Any(parameters) | Parameters::Only(parameters)) = &self.parameters;
        for (name, help) in *parameters {
            writeln!(text, "      {name}: {help}").expect("a string takes every character");
        }
        text
    }
}

/// All paths, as in Envoy's `/help`.
pub(super) fn help() -> String {
    let usages = ENDPOINTS.iter().map(Endpoint::usage);
    ["admin commands are:\n".to_owned()]
        .into_iter()
        .chain(usages)
        .collect()
}
