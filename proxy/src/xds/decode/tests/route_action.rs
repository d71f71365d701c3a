//! What routes do: forward, redirect, answer.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::route::answering;
use super::route::decode;
use super::route::forward;
use super::route::forwarding;
use super::route::only_route;
use super::route::redirect;
use super::route::redirecting;
use crate::config::route::Action;
use crate::config::route::AppendAction;
use crate::config::route::ClusterSpecifier;
use crate::config::route::HostRewrite;
use crate::config::route::RedirectPath;

#[test]
fn timeouts() {
    let plain = forward(json!({}));
    assert_eq!(
        (plain.timeout, plain.idle_timeout),
        (Some(Duration::from_secs(15)), None)
    );
    let none = forward(json!({"timeout": "0s", "idle_timeout": "0s"}));
    assert_eq!((none.timeout, none.idle_timeout), (None, Some(None)));
    let some = forward(json!({"timeout": "1s", "idle_timeout": "2s"}));
    assert_eq!(some.timeout, Some(Duration::from_secs(1)));
    assert_eq!(some.idle_timeout, Some(Some(Duration::from_secs(2))));
}

#[test]
fn forwarding_becomes_the_model() {
    let action = forward(json!({
        "cluster_not_found_response_code": "NOT_FOUND",
        "prefix_rewrite": "/x",
        "host_rewrite_literal": "b.c",
    }));
    assert_eq!(action.cluster_not_found, StatusCode::NOT_FOUND);
    assert_eq!(action.prefix_rewrite.as_deref(), Some("/x"));
    assert_eq!(
        action.host_rewrite,
        HostRewrite::Literal(http::HeaderValue::from_static("b.c"))
    );
    assert_eq!(
        forward(json!({"auto_host_rewrite": true})).host_rewrite,
        HostRewrite::Auto
    );
    assert_eq!(
        forward(json!({"host_rewrite_header": "X-Host"})).host_rewrite,
        HostRewrite::Header(http::HeaderName::from_static("x-host"))
    );
    assert_eq!(
        forward(json!({"auto_host_rewrite": false})).host_rewrite,
        HostRewrite::Keep
    );
    let weighted = json!({
        "clusters": [
            {"name": "a", "weight": 0},
            {"name": "b", "weight": 3, "request_headers_to_add": [{"header": {"key": "x", "value": "1"}, "append": false}]},
        ],
        "total_weight": 3,
    });
    let action = forward(json!({"cluster": null, "weighted_clusters": weighted}));
    let ClusterSpecifier::Weighted(clusters) = action.cluster else {
        panic!("weighted")
    };
    assert_eq!(
        clusters
            .iter()
            .map(|cluster| cluster.weight)
            .collect::<Vec<_>>(),
        [0, 3]
    );
    let edit = &clusters[1].headers.request.add[0];
    assert_eq!(edit.action, AppendAction::OverwriteIfExistsOrAdd);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn forwards() {
    let at = |field: &str| format!("virtual_hosts[0].routes[0].route.{field}");
    let warn = |field: &str| format!("warn virtual_hosts[0].routes[0].route.{field}");
    let weights =
        |clusters: Value| json!({"cluster": null, "weighted_clusters": {"clusters": clusters}});
    check_table(
        &forwarding,
        &decode,
        &[
            (json!({"cluster": null}), "virtual_hosts[0].routes[0].route"),
            (json!({"cluster": ""}), &at("cluster")),
            (
                json!({"cluster": null, "cluster_header": "x"}),
                &at("cluster_header"),
            ),
            (
                json!({"cluster": null, "cluster_specifier_plugin": "x"}),
                &at("cluster_specifier_plugin"),
            ),
            (weights(json!([])), &at("weighted_clusters.clusters")),
            (
                weights(json!([{"name": "a", "weight": 0}])),
                &at("weighted_clusters.clusters"),
            ),
            (
                weights(json!([{"name": "a", "weight": u32::MAX}, {"name": "b", "weight": 1}])),
                &at("weighted_clusters.clusters"),
            ),
            (
                weights(json!([{"weight": 1}])),
                &at("weighted_clusters.clusters[0].name"),
            ),
            (
                weights(json!([{"name": "a"}])),
                &at("weighted_clusters.clusters[0].weight"),
            ),
            (
                weights(json!([{"cluster_header": "h", "weight": 1}])),
                &at("weighted_clusters.clusters[0].cluster_header"),
            ),
            (json!({"timeout": "-1s"}), &at("timeout")),
            (json!({"prefix_rewrite": "/a\r"}), &at("prefix_rewrite")),
            (
                json!({"host_rewrite_literal": "a\n"}),
                &at("host_rewrite_literal"),
            ),
            (
                json!({"host_rewrite_header": "a b"}),
                &at("host_rewrite_header"),
            ),
            (
                json!({"cluster_not_found_response_code": 9}),
                &at("cluster_not_found_response_code"),
            ),
            (json!({"regex_rewrite": {}}), &at("regex_rewrite")),
            (json!({"metadata_match": {}}), "ok"),
            (
                json!({"internal_redirect_policy": {}}),
                &at("internal_redirect_policy"),
            ),
            (
                json!({"upgrade_configs": [
                    {"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT", "enabled": false},
                ]}),
                "ok",
            ),
            (
                json!({"upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "WebSocket"}]}),
                &at("upgrade_configs[1].upgrade_type"),
            ),
            (
                json!({"upgrade_configs": [{}]}),
                &at("upgrade_configs[0].upgrade_type"),
            ),
            (
                json!({"upgrade_configs": [{"upgrade_type": "CONNECT"}]}),
                &at("upgrade_configs[0].upgrade_type"),
            ),
            (
                json!({"upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}),
                &at("upgrade_configs[0].connect_config"),
            ),
            (json!({"retry_policy": {}}), "ok"),
            (
                json!({"request_mirror_policies": [{}]}),
                &warn("request_mirror_policies"),
            ),
        ],
    );
}

#[test]
fn redirects() {
    let full = redirect(json!({
        "scheme_redirect": "http",
        "host_redirect": "b.c",
        "port_redirect": 8080,
        "path_redirect": "/x?y",
        "response_code": "PERMANENT_REDIRECT",
        "strip_query": true,
    }));
    assert_eq!(
        (full.scheme.as_deref(), full.host.as_deref()),
        (Some("http"), Some("b.c"))
    );
    assert_eq!(
        (full.port, full.status, full.strip_query),
        (Some(8080), StatusCode::PERMANENT_REDIRECT, true)
    );
    assert_eq!(full.path, RedirectPath::Whole("/x?y".into()));
    let https = redirect(json!({"https_redirect": true, "prefix_rewrite": "/p"}));
    assert_eq!(
        (https.scheme.as_deref(), https.status),
        (Some("https"), StatusCode::MOVED_PERMANENTLY)
    );
    assert_eq!(https.path, RedirectPath::Prefix("/p".into()));

    let at = |field: &str| format!("virtual_hosts[0].routes[0].redirect.{field}");
    check_table(
        &redirecting,
        &decode,
        &[
            (json!({"port_redirect": 65536}), &at("port_redirect")),
            (json!({"scheme_redirect": "ftp"}), &at("scheme_redirect")),
            (json!({"host_redirect": "a\nb"}), &at("host_redirect")),
            (json!({"path_redirect": "/\r\n"}), &at("path_redirect")),
            (json!({"response_code": 17}), &at("response_code")),
            (json!({"regex_rewrite": {}}), &at("regex_rewrite")),
        ],
    );
}

#[test]
fn direct_responses() {
    let json = answering(json!({"status": 404, "body": {"inline_string": "no"}}));
    let Action::DirectResponse { status, body } = only_route(json).action else {
        panic!("direct")
    };
    assert_eq!(
        (status, &body[..]),
        (StatusCode::NOT_FOUND, b"no".as_slice())
    );

    let at = |field: &str| format!("virtual_hosts[0].routes[0].direct_response.{field}");
    check_table(
        &answering,
        &decode,
        &[
            (json!({}), "ok"),
            (json!({"status": 199}), &at("status")),
            (json!({"status": 600}), &at("status")),
            (json!({"body": {}}), &at("body")),
            (
                json!({"body": {"filename": "/etc/passwd"}}),
                &at("body.filename"),
            ),
            (
                json!({"body": {"environment_variable": "HOME"}}),
                &at("body.environment_variable"),
            ),
            (json!({"body": {"inline_string": "x".repeat(4096)}}), "ok"),
            (
                json!({"body": {"inline_string": "x".repeat(4097)}}),
                &at("body"),
            ),
        ],
    );
}
