//! Endpoints against Envoy 1.40.0's answers for the same state, and the server against hostile ones.

mod answers;
mod dump;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use http::Method;
use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use crate::admin::reply::Reply;
use crate::admin::request::Query;
use crate::admin::route;
use crate::admin::state::Admin;
use crate::admin::state::BuildInfo;
use crate::admin::state::ClusterView;
use crate::admin::state::ConfigView;
use crate::admin::state::DepartingView;
use crate::admin::state::HostStats;
use crate::admin::state::HostView;
use crate::admin::state::Inspect;
use crate::admin::state::ListenerView;
use crate::admin::state::Readiness;
use crate::admin::state::ServerInfo;
use crate::admin::state::ServerState;
use crate::admin::state::ThresholdsView;
use crate::admin::state::TlsContextView;
use crate::config::endpoint::Address;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::Locality;
use crate::telemetry::stats::Registry;
use crate::upstream::health::HealthFlags;

/// A process that notes what it is asked to do.
#[derive(Debug)]
struct Process {
    readiness: Readiness,
    clusters: Vec<ClusterView>,
    departing: Vec<DepartingView>,
    config: ConfigView,
    asked: Mutex<Vec<String>>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            readiness: Readiness {
                state: ServerState::Live,
                waiting_for: Vec::new(),
            },
            clusters: vec![cluster()],
            departing: Vec::new(),
            config: ConfigView::default(),
            asked: Mutex::default(),
        }
    }
}

impl Process {
    fn note(&self, what: &str) {
        self.asked.lock().expect("a lock").push(what.to_owned());
    }
}

impl Inspect for Process {
    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn server_info(&self) -> ServerInfo {
        ServerInfo {
            uptime: Duration::from_millis(18_700),
            command_line_options: json!({"concurrency": 1}),
            node: json!({"id": "n"}),
        }
    }

    fn clusters(&self) -> Vec<ClusterView> {
        self.clusters.clone()
    }

    fn clusters_of_metrics(&self) -> Vec<ClusterView> {
        self.clusters.clone()
    }

    fn listeners(&self) -> Vec<ListenerView> {
        vec![ListenerView {
            name: "l1".to_owned(),
            addresses: vec![
                Address::Socket(SocketAddr::from(([127, 0, 0, 1], 37_519))),
                Address::Pipe("/run/weir.sock".into()),
            ],
        }]
    }

    fn tls_contexts(&self) -> Vec<TlsContextView> {
        Vec::new()
    }

    fn config(&self) -> ConfigView {
        self.config.clone()
    }

    fn departing(&self) -> Vec<DepartingView> {
        self.departing.clone()
    }

    fn drain_endpoint(
        &self,
        cluster: &str,
        address: &Address,
        drain: bool,
    ) -> Result<Vec<DepartingView>, String> {
        self.note(&format!("endpoint {cluster} {address:?} {drain}"));
        Ok(self.departing.clone())
    }

    fn drain_listeners(&self, graceful: bool) {
        self.note(&format!("drain graceful={graceful}"));
    }

    fn quit(&self) {
        self.note("quit");
    }

    fn reopen_logs(&self) {
        self.note("reopen");
    }
}

/// What Envoy's cluster `bad.c` was after one failed request.
fn cluster() -> ClusterView {
    let limits = ThresholdsView {
        max_connections: 1_024,
        max_pending_requests: 1_024,
        max_requests: 1_024,
        max_retries: 3,
    };
    ClusterView {
        name: "bad.c".to_owned(),
        added_via_api: false,
        default_thresholds: limits,
        high_thresholds: limits,
        limits: Vec::new(),
        outcomes: Vec::new(),
        policy: "round-robin",
        shadow: None,
        dropped: Vec::new(),
        hosts: vec![HostView {
            address: Address::Socket(SocketAddr::from(([127, 0, 0, 1], 1))),
            hostname: String::new(),
            locality: Locality::default(),
            priority: 0,
            weight: 1,
            standing: None,
            shadow: None,
            health: HealthStatus::Unknown,
            flags: HealthFlags::NONE,
            events: Vec::new(),
            success_rate: None,
            is_canary: false,
            stats: HostStats {
                cx_connect_fail: 1,
                cx_total: 1,
                rq_error: 1,
                ..HostStats::default()
            },
        }],
    }
}

fn admin(process: &Arc<Process>) -> Admin {
    let inspect: Arc<dyn Inspect> = Arc::<Process>::clone(process);
    Admin {
        inspect,
        registry: Arc::new(Registry::new(1)),
        log: None,
        build: BuildInfo {
            version: "1.2.3",
            revision: "abc",
        },
    }
}

fn ask(process: &Arc<Process>, method: &Method, target: &str) -> Reply {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match route::find(path) {
        Some(endpoint) => endpoint.answer(&admin(process), method, &Query::parse(query)),
        None => route::not_found(path),
    }
}

fn get(process: &Arc<Process>, target: &str) -> (StatusCode, String) {
    let reply = ask(process, &Method::GET, target);
    let body = String::from_utf8(reply.body).expect("UTF-8");
    (reply.status, body)
}

fn get_json(process: &Arc<Process>, target: &str) -> Value {
    let (status, body) = get(process, target);
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).expect("JSON")
}
