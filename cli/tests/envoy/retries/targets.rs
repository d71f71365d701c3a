//! Which members another attempt avoids.
//!
//! One of two members always fails. Whoever comes to it first is sent to the other one, if the policy
//! tells the two apart; otherwise chance sends some of many requests there again.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use super::ask;
use super::origin::Origin;
use super::origin::Step;
use super::storm::listener;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;

/// So many that chance does not send all of them to the good member.
const REQUESTS: usize = 40;

fn routes() -> Value {
    let predicate = |name: &str, more: Value| {
        let config = typed(&format!("extensions.retry.host.{name}"), more);
        json!({"retry_host_predicate": [{"name": "p", "typed_config": config}]})
    };
    let labels = json!({"metadata_match": {"filter_metadata": {"envoy.lb": {"stage": "new"}}}});
    let others = json!({"metadata_match": {"filter_metadata": {"envoy.lb": {"stage": "x"}}}});
    let policies = [
        ("any", json!({})),
        (
            "previous",
            predicate("previous_hosts.v3.PreviousHostsPredicate", json!({})),
        ),
        (
            "canary",
            predicate("omit_canary_hosts.v3.OmitCanaryHostsPredicate", json!({})),
        ),
        (
            "labels",
            predicate("omit_host_metadata.v3.OmitHostMetadataConfig", labels),
        ),
        (
            "other-labels",
            predicate("omit_host_metadata.v3.OmitHostMetadataConfig", others),
        ),
    ];
    let route = |(name, mut policy): (&str, Value)| {
        policy["retry_on"] = "5xx".into();
        policy["host_selection_retry_max_attempts"] = 100.into();
        policy["retry_back_off"] = json!({"base_interval": "0.001s"});
        json!({
            "match": {"prefix": format!("/{name}/")},
            "route": {"cluster": "two", "retry_policy": policy},
        })
    };
    policies.into_iter().map(route).collect()
}

fn cluster(bad: u16, good: u16) -> Value {
    let member = |port: u16, labels: Value| {
        json!({
            "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}},
            "metadata": {"filter_metadata": {"envoy.lb": labels}},
        })
    };
    let members = [
        member(bad, json!({"canary": true, "stage": ["old", "new"]})),
        member(good, json!({"canary": false, "stage": "old"})),
    ];
    json!({
        "name": "two",
        "lb_policy": "RANDOM",
        "load_assignment": {"cluster_name": "two", "endpoints": [{"lb_endpoints": members}]},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_members_are_avoided() {
    if !envoy_is_there() {
        return;
    }
    let bad = Origin::start(&[Step::Answer(500, &[])]).await;
    let good = Origin::start(&[Step::Answer(200, &[])]).await;
    let ports = free_ports(1);
    let cluster = cluster(bad.address.port(), good.address.port());
    let listener = listener(&ports[0], &manager(&routes(), &json!({})));
    let look = || async {
        let mut good = BTreeMap::new();
        for name in ["any", "previous", "canary", "labels", "other-labels"] {
            let mut count = 0;
            for _ in 0..REQUESTS {
                let head = format!("GET /{name}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
                count += usize::from(ask(&ports[0], &head).await.starts_with("200"));
            }
            good.insert(name, count == REQUESTS);
        }
        good
    };
    let (wanted, found) = of_both(&bootstrap(&[listener], &[cluster]), &ports, look).await;
    assert_eq!(wanted, found);
    let all: Vec<&str> = wanted
        .iter()
        .filter(|(_, all)| **all)
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(all, ["canary", "labels", "previous"]);
}
