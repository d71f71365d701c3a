//! Priorities that another attempt avoids (`retry_priority`).
//!
//! Each member answers with a status of its own, all of which are tried again, so that the last status says
//! where the last attempt was.

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

/// Attempts after the first.
const RETRIES_MAX: u32 = 7;

const FREQUENCIES: [u32; 3] = [1, 2, 3];

/// Requests of which chance decides where the first attempt is.
const REQUESTS: usize = 30;

/// A policy with so many retries.
fn policy(retries: u32, every: u32) -> Value {
    let name = "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
    let config = typed(name, json!({"update_frequency": every}));
    json!({
        "retry_on": "5xx",
        "num_retries": retries,
        "retry_back_off": {"base_interval": "0.001s"},
        "retry_priority": {"name": "p", "typed_config": config},
    })
}

/// A route for each cluster, frequency and number of retries.
fn routes(clusters: &[&str]) -> Value {
    let mut routes = Vec::new();
    for cluster in clusters {
        for every in FREQUENCIES {
            for retries in 0..=RETRIES_MAX {
                let wanted = json!({"filter_metadata": {"envoy.lb": {"kind": "a"}}});
                routes.push(json!({
                    "match": {"path": format!("/{cluster}/{every}/{retries}")},
                    "route": {
                        "cluster": cluster,
                        "metadata_match": wanted,
                        "retry_policy": policy(retries, every),
                    },
                }));
            }
        }
    }
    routes.into()
}

/// Members of one priority, by port and health.
fn priority(number: u32, members: &[(u16, &str)]) -> Value {
    let member = |(port, health): &(u16, &str)| {
        json!({
            "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}},
            "health_status": health,
            "metadata": {"filter_metadata": {"envoy.lb": {"kind": "a"}}},
        })
    };
    let members: Vec<Value> = members.iter().map(member).collect();
    json!({"priority": number, "lb_endpoints": members})
}

fn cluster(name: &str, priorities: &[Value], more: &Value) -> Value {
    let mut cluster = json!({
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": priorities},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        cluster[name] = value.clone();
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_priorities_are_avoided() {
    if !envoy_is_there() {
        return;
    }
    let origins = [
        Origin::start(&[Step::Answer(501, &[])]).await,
        Origin::start(&[Step::Answer(502, &[])]).await,
        Origin::start(&[Step::Answer(503, &[])]).await,
        Origin::start(&[Step::Answer(504, &[])]).await,
    ];
    let [first, second, third, fourth] = origins.each_ref().map(|origin| origin.address.port());
    let (fit, unfit, degraded) = ("HEALTHY", "UNHEALTHY", "DEGRADED");
    let full = [
        priority(0, &[(first, fit)]),
        priority(1, &[(second, fit)]),
        priority(2, &[(third, fit)]),
    ];
    let part = [
        priority(0, &[(first, fit)]),
        priority(1, &[(second, fit), (1, unfit), (2, unfit), (3, unfit)]),
        priority(2, &[(third, unfit)]),
    ];
    let late = [
        priority(0, &[(first, fit)]),
        priority(1, &[(second, degraded)]),
        priority(2, &[(third, fit)]),
    ];
    // All are in a panic: the load goes by size, but attempts after the first by fitness.
    let panic = [
        priority(0, &[(first, unfit)]),
        priority(1, &[(second, fit), (third, unfit), (fourth, unfit)]),
    ];
    let subsets = json!({"lb_subset_config": {
        "fallback_policy": "NO_FALLBACK", "subset_selectors": [{"keys": ["kind"]}],
    }});
    let clusters = [
        cluster("full", &full, &json!({})),
        cluster("random", &full, &json!({"lb_policy": "RANDOM"})),
        cluster("least", &full, &json!({"lb_policy": "LEAST_REQUEST"})),
        cluster("ring", &full, &json!({"lb_policy": "RING_HASH"})),
        cluster("subsets", &full, &subsets),
        cluster("part", &part, &json!({})),
        cluster("late", &late, &json!({})),
        cluster("panic", &panic, &json!({})),
    ];
    let names = ["full", "random", "least", "ring", "subsets", "part", "late"];
    let ports = free_ports(1);
    let listener = listener(
        &ports[0],
        &manager(&routes(&[&names[..], &["panic"]].concat()), &json!({})),
    );
    let bootstrap = bootstrap(&[listener], &clusters);
    let look = || async {
        let mut seen = Vec::new();
        for name in names {
            for every in FREQUENCIES {
                let mut last = String::new();
                for retries in 0..=RETRIES_MAX {
                    last.push_str(&status(&ports[0], &format!("/{name}/{every}/{retries}")).await);
                }
                seen.push(format!("{name} {every}: {last}"));
            }
        }
        // Whatever the first attempt came to, the second comes to who is fit.
        for _ in 0..REQUESTS {
            let last = status(&ports[0], "/panic/1/1").await;
            seen.push(format!("not of the first: {}", last != "501 "));
        }
        seen
    };
    let (wanted, found) = of_both(&bootstrap, &ports, look).await;
    assert_eq!(wanted, found);
    assert_eq!(wanted[0], "full 1: 501 502 503 501 502 503 501 502 ");
}

async fn status(port: &bench::ports::ReservedPort, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer = ask(port, &head).await;
    format!("{} ", answer.get(..3).unwrap_or(&answer))
}
