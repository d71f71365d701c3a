//! What the endpoints answer.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::StatusCode;
use serde_json::json;

use crate::admin::route::Access;
use crate::admin::route::ENDPOINTS;
use crate::admin::state::DepartingView;
use crate::admin::state::Readiness;
use crate::admin::state::ServerState;
use crate::admin::tests::Process;
use crate::admin::tests::ask;
use crate::admin::tests::cluster;
use crate::admin::tests::get;
use crate::admin::tests::get_json;
use crate::config::endpoint::Address;
use crate::config::endpoint::HealthStatus;
use crate::upstream::departure::Cause;
use crate::upstream::health::HealthFlags;
use crate::upstream::latency::Guard;
use crate::upstream::latency::Standing;
use crate::upstream::shadow::Report;
use crate::upstream::shadow::Share;
use crate::upstream::shadow::Times;

const CLUSTERS_TEXT: &str = "\
bad.c::observability_name::bad.c
bad.c::default_priority::max_connections::1024
bad.c::default_priority::max_pending_requests::1024
bad.c::default_priority::max_requests::1024
bad.c::default_priority::max_retries::3
bad.c::high_priority::max_connections::1024
bad.c::high_priority::max_pending_requests::1024
bad.c::high_priority::max_requests::1024
bad.c::high_priority::max_retries::3
bad.c::added_via_api::false
bad.c::127.0.0.1:1::cx_active::0
bad.c::127.0.0.1:1::cx_connect_fail::1
bad.c::127.0.0.1:1::cx_total::1
bad.c::127.0.0.1:1::rq_active::0
bad.c::127.0.0.1:1::rq_error::1
bad.c::127.0.0.1:1::rq_pending_active::0
bad.c::127.0.0.1:1::rq_success::0
bad.c::127.0.0.1:1::rq_timeout::0
bad.c::127.0.0.1:1::rq_total::0
bad.c::127.0.0.1:1::hostname::
bad.c::127.0.0.1:1::health_flags::healthy
bad.c::127.0.0.1:1::weight::1
bad.c::127.0.0.1:1::region::
bad.c::127.0.0.1:1::zone::
bad.c::127.0.0.1:1::sub_zone::
bad.c::127.0.0.1:1::canary::false
bad.c::127.0.0.1:1::priority::0
bad.c::127.0.0.1:1::success_rate::-1
bad.c::127.0.0.1:1::local_origin_success_rate::-1
";

#[test]
fn clusters_as_envoy() {
    let process = Arc::new(Process::default());
    let (status, text) = get(&process, "/clusters");
    assert_eq!((status, text.as_str()), (StatusCode::OK, CLUSTERS_TEXT));
    let limits = |mut limits: serde_json::Value| {
        limits["max_connections"] = 1_024.into();
        limits["max_pending_requests"] = 1_024.into();
        limits["max_requests"] = 1_024.into();
        limits["max_retries"] = 3.into();
        limits
    };
    let expected = json!({"cluster_statuses": [{
        "name": "bad.c",
        "host_statuses": [{
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
            "stats": [
                {"value": "1", "name": "cx_connect_fail"},
                {"value": "1", "name": "cx_total"},
                {"value": "1", "name": "rq_error"},
                {"name": "rq_success"},
                {"name": "rq_timeout"},
                {"name": "rq_total"},
                {"type": "GAUGE", "name": "cx_active"},
                {"type": "GAUGE", "name": "rq_active"},
                {"type": "GAUGE", "name": "rq_pending_active"},
            ],
            "health_status": {"eds_health_status": "HEALTHY"},
            "weight": 1,
            "locality": {},
        }],
        "circuit_breakers": {"thresholds": [limits(json!({})), limits(json!({"priority": "HIGH"}))]},
        "observability_name": "bad.c",
        "weir_policy": "round-robin",
    }]});
    assert_eq!(get_json(&process, "/clusters?format=json"), expected);
    assert_eq!(get(&process, "/clusters?filter=^nothing").1, "");
}

/// It chose 40 of 50 times whom the other policy chose.
#[test]
fn what_looks_on_is_told_of_clusters_and_members() {
    let mut watched = cluster();
    let times = |ms| Times {
        mean: Duration::from_millis(ms),
        p50: Duration::from_millis(ms - 1),
        p99: Duration::from_millis(ms + 1),
    };
    watched.shadow = Some(Report {
        policy: "latency",
        picks: 50,
        agreed: 40,
        seen: Some(times(9)),
        predicted: Some(times(5)),
    });
    let host = watched.hosts.first_mut().expect("a host");
    host.shadow = Some(Share {
        chosen: 50,
        would: 30,
    });
    let clusters = vec![watched];
    let process = Arc::new(Process {
        clusters,
        ..Process::default()
    });
    let (_, text) = get(&process, "/clusters");
    assert!(text.contains("bad.c::shadow::policy::latency\nbad.c::shadow::picks::50\n"));
    assert!(
        text.contains("bad.c::shadow::seen_p99_ms::10.00\n"),
        "{text}"
    );
    assert!(text.contains("bad.c::127.0.0.1:1::shadow::picks::30\n"));
    let cluster = &get_json(&process, "/clusters?format=json")["cluster_statuses"][0];
    let shadow = &cluster["weir_shadow"];
    assert_eq!(
        (&shadow["agreement"], &shadow["picks"]),
        (&0.8.into(), &50.into())
    );
    assert_eq!(
        shadow["predicted_ms"],
        json!({"mean": 5.0, "p50": 4.0, "p99": 6.0})
    );
    let host = &cluster["host_statuses"][0]["weir_shadow"];
    assert_eq!(
        *host,
        json!({"active_picks": 50, "picks": 30, "active_share": 1.0, "share": 0.6})
    );
    let (_, metrics) = get(&process, "/stats/prometheus");
    let of = "{envoy_cluster_name=\"bad.c\"";
    for line in [
        format!("weir_cluster_shadow_picks_total{of}}} 50\n"),
        format!("weir_cluster_shadow_agreement_ratio{of}}} 0.8\n"),
        format!(
            "weir_cluster_shadow_latency_milliseconds{of},what=\"predicted\",statistic=\"p99\"}} 6\n"
        ),
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[test]
fn every_reason_against_a_host_is_named() {
    let mut sick = cluster();
    let host = sick.hosts.first_mut().expect("a host");
    host.flags = HealthFlags::EJECTED | HealthFlags::FAILED_CHECK;
    host.health = HealthStatus::Unhealthy;
    host.success_rate = Some(97.5);
    host.weight = 2;
    host.standing = Some(Standing {
        weight: 3.5,
        latency: Duration::from_micros(12_340),
        baseline: Duration::from_millis(8),
        ratio: 1.5,
        samples: 70,
        failed: 3,
        is_spared: true,
        wanted: 1.75,
        guard: Some(Guard {
            penalty: Duration::from_millis(80),
            floor: 1.0,
            explored: 0.001,
            step_max: 2.0,
        }),
    });
    let clusters = vec![sick];
    let process = Arc::new(Process {
        clusters,
        ..Process::default()
    });
    let (_, text) = get(&process, "/clusters");
    let line = |line: &str| {
        assert!(
            text.contains(&format!("bad.c::127.0.0.1:1::{line}\n")),
            "{text}"
        );
    };
    line("health_flags::/failed_active_hc/failed_outlier_check/failed_eds_health");
    line("success_rate::97.5");
    line("effective_weight::7.0");
    line("latency_ms::12.34");
    line("latency_baseline_ms::8.00");
    line("latency_samples::70");
    line("latency_failures::3");
    line("spared::true");
    line("wanted_weight::3.5");
    line("latency_penalty_ms::80.00");
    line("floor_weight::2.0");
    let host =
        &get_json(&process, "/clusters?format=json")["cluster_statuses"][0]["host_statuses"][0];
    assert_eq!(host["health_status"]["failed_outlier_check"], true);
    assert_eq!(host["success_rate"]["value"], 97.5);
    assert_eq!(host["weir_latency"]["effective_weight"], 7.0);
    assert_eq!(host["weir_latency"]["ratio"], 1.5);
    assert_eq!(host["weir_latency"]["wanted_weight"], 3.5);
    let guards =
        json!({"penalty_ms": 80.0, "floor_weight": 2.0, "explored": 0.001, "step_max": 2.0});
    assert_eq!(host["weir_latency"]["guards"], guards);
    let (_, metrics) = get(&process, "/stats/prometheus");
    let of = "envoy_cluster_name=\"bad.c\",envoy_endpoint_address=\"127.0.0.1:1\"";
    for series in [
        format!("weir_cluster_endpoint_wanted_weight{{{of}}} 3.5\n"),
        format!("weir_cluster_endpoint_latency_penalty_milliseconds{{{of}}} 80\n"),
    ] {
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
}

#[test]
fn listeners_as_envoy() {
    let process = Arc::new(Process::default());
    let text = "l1::127.0.0.1:37519\nl1::/run/weir.sock\n";
    assert_eq!(
        get(&process, "/listeners"),
        (StatusCode::OK, text.to_owned())
    );
    let expected = json!({"listener_statuses": [{
        "name": "l1",
        "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 37_519}},
        "additional_local_addresses": [{"pipe": {"path": "/run/weir.sock"}}],
    }]});
    assert_eq!(get_json(&process, "/listeners?format=json"), expected);
}

#[test]
fn readiness() {
    let check = |state, status, word: &str| {
        let waiting_for = vec!["cluster \"a\": no endpoints yet".to_owned()];
        let process = Arc::new(Process {
            readiness: Readiness { state, waiting_for },
            ..Process::default()
        });
        for path in ["/ready", "/readyz", "/ready?probe=1"] {
            assert_eq!(get(&process, path), (status, format!("{word}\n")));
        }
        let verbose = format!("{word}\ncluster \"a\": no endpoints yet\n");
        assert_eq!(get(&process, "/ready?verbose"), (status, verbose));
        assert_eq!(get(&process, "/livez").0, StatusCode::OK);
    };
    check(ServerState::Live, StatusCode::OK, "LIVE");
    check(
        ServerState::Draining,
        StatusCode::SERVICE_UNAVAILABLE,
        "DRAINING",
    );
    check(
        ServerState::Initializing,
        StatusCode::SERVICE_UNAVAILABLE,
        "INITIALIZING",
    );
    check(
        ServerState::PreInitializing,
        StatusCode::SERVICE_UNAVAILABLE,
        "PRE_INITIALIZING",
    );
}

#[test]
fn server_info_as_envoy() {
    let info = get_json(&Arc::new(Process::default()), "/server_info");
    assert_eq!(info["state"], "LIVE");
    assert_eq!(info["uptime_current_epoch"], "18s");
    assert_eq!(info["command_line_options"], json!({"concurrency": 1}));
    assert_eq!(info["node"], json!({"id": "n"}));
    let version = info["version"].as_str().expect("text");
    assert!(version.starts_with("abc/1.2.3/"), "{version}");
}

#[test]
fn stats_in_every_format() {
    let process = Arc::new(Process::default());
    let (_, text) = get(&process, "/stats?filter=^server.(uptime|live|version)$");
    assert_eq!(
        text,
        "server.live: 1\nserver.uptime: 18\nserver.version: 66051\n"
    );
    let memory = get_json(
        &process,
        "/stats?format=json&filter=memory_physical&usedonly",
    );
    assert!(memory["stats"][0]["value"].as_u64() > Some(0), "{memory}");
    for path in [
        "/stats?format=prometheus",
        "/stats/prometheus",
        "/metrics?usedonly",
    ] {
        let (status, text) = get(&process, path);
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("weir_build_info{version=\"1.2.3\",revision=\"abc\"} 1\n"));
        assert!(text.contains("envoy_server_live 1\n"));
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let process = Arc::new(Process::default());
    for target in [
        "/stats?format=html",
        "/stats?type=Counters",
        "/stats?filter=(",
        "/stats/prometheus?histogram_buckets=summary",
        "/clusters?format=xml",
        "/config_dump?mask=a",
        "/listeners?verbose",
    ] {
        assert_eq!(get(&process, target).0, StatusCode::BAD_REQUEST, "{target}");
    }
    let (status, help) = get(&process, "/nothing");
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(help.contains("  /quitquitquit (POST): "), "{help}");
}

#[test]
fn only_a_post_changes_anything() {
    let process = Arc::new(Process::default());
    let changing = ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.access == Access::Change);
    for endpoint in changing {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            let reply = ask(&process, &method, endpoint.path);
            assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{endpoint:?}");
        }
    }
    assert!(process.asked.lock().expect("a lock").is_empty());
    for target in [
        "/drain_endpoint?cluster=c&address=10.0.0.1:80",
        "/drain_endpoint?cluster=c&address=/run/a.sock&undo",
        "/drain_listeners",
        "/drain_listeners?graceful",
        "/reopen_logs",
        "/quitquitquit",
    ] {
        assert_eq!(ask(&process, &Method::POST, target).status, StatusCode::OK);
    }
    let inbound = ask(&process, &Method::POST, "/drain_listeners?inboundonly");
    assert_eq!(inbound.status, StatusCode::BAD_REQUEST);
    let target = "/drain_endpoint?cluster=c&address=somewhere";
    let reply = ask(&process, &Method::POST, target);
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let asked = process.asked.lock().expect("a lock");
    let expected = [
        "endpoint c Socket(10.0.0.1:80) true",
        "endpoint c Pipe(\"/run/a.sock\") false",
        "drain graceful=false",
        "drain graceful=true",
        "reopen",
        "quit",
    ];
    assert_eq!(*asked, expected);
}

#[test]
fn the_log_filter_is_not_changed_by_get() {
    let process = Arc::new(Process::default());
    let reply = ask(&process, &Method::GET, "/logging?level=debug");
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    // This process has no log to change.
    let reply = ask(&process, &Method::POST, "/logging?level=debug");
    assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED);
}

#[test]
fn hosts_that_leave_are_shown_with_what_is_still_on_them() {
    let process = Process {
        departing: vec![DepartingView {
            cluster: "gone".to_owned(),
            address: Address::Socket(([10, 0, 0, 1], 80).into()),
            cause: Cause::Removed,
            connections: 2,
            requests: 7,
            left: Duration::from_secs(9),
        }],
        ..Process::default()
    };
    let process = Arc::new(process);
    let (_, text) = get(&process, "/clusters?filter=gone");
    let lines = [
        "cause::removed",
        "connections::2",
        "requests::7",
        "seconds_left::9",
    ];
    let lines = lines.map(|line| format!("gone::10.0.0.1:80::drain::{line}\n"));
    assert_eq!(text, lines.concat());
    let (_, json) = get(&process, "/clusters?format=json");
    assert!(json.contains("weir_departing"), "{json}");
    let (_, other) = get(&process, "/clusters?filter=other");
    assert_eq!(other, "");
}

#[test]
fn the_home_page_links_everything() {
    let (_, page) = get(&Arc::new(Process::default()), "/");
    for endpoint in &ENDPOINTS {
        assert!(
            page.contains(&format!("\"{}\"", endpoint.path)),
            "{}",
            endpoint.path
        );
    }
}

#[test]
fn the_table_is_sorted_and_without_doubles() {
    let paths: Vec<_> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
    assert!(paths.is_sorted_by(|a, b| a < b), "{paths:?}");
}
