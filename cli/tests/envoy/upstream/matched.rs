//! `transport_socket_matches`: endpoints whose metadata chooses TLS or clear text.

use serde_json::Value;
use serde_json::json;

use super::CLEAR;
use super::Server;
use super::ask;
use super::cluster;
use super::listener;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::nginx_is_there;

/// Requests to the cluster that has members of both kinds.
const REQUESTS: usize = 12;

fn labels(value: &str) -> Value {
    json!({"filter_metadata": {"envoy.transport_socket_match": {"tls": value}}})
}

/// One member of each cluster; its label and that of its locality.
fn clusters(server: &Server) -> Vec<Value> {
    let tls = server.transport(&json!({"sni": "a.test"}), &json!({}));
    let raw = typed(
        "extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        json!({}),
    );
    let raw = json!({"name": "raw", "typed_config": raw});
    let kinds = [
        ("own", Some("yes"), None, true),
        ("none", None, None, false),
        ("other", Some("no"), None, false),
        ("locality", None, Some("yes"), true),
        ("own-first", Some("no"), Some("yes"), false),
        ("own-unknown", Some("perhaps"), Some("yes"), true),
    ];
    let mut clusters: Vec<Value> = kinds
        .into_iter()
        .map(|(name, own, locality, is_tls)| {
            let ports = [&server.clear, &server.tls];
            let mut cluster = cluster(name, ports[usize::from(is_tls)].number());
            let members = &mut cluster["load_assignment"]["endpoints"][0];
            if let Some(label) = own {
                members["lb_endpoints"][0]["metadata"] = labels(label);
            }
            if let Some(label) = locality {
                members["metadata"] = labels(label);
            }
            cluster
        })
        .collect();
    let mut both = cluster("both", server.tls.number());
    let clear = clusters[1]["load_assignment"]["endpoints"][0]["lb_endpoints"][0].clone();
    let members = &mut both["load_assignment"]["endpoints"][0]["lb_endpoints"];
    members[0]["metadata"] = labels("yes");
    members.as_array_mut().expect("a list").push(clear);
    clusters.push(both);
    for cluster in &mut clusters {
        cluster["transport_socket_matches"] = json!([
            {"name": "tls", "match": {"tls": "yes"}, "transport_socket": tls},
            {"name": "clear", "match": {"tls": "no"}, "transport_socket": raw},
        ]);
    }
    clusters
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_endpoints_chooses_their_transport_alike() {
    if !envoy_is_there() || !nginx_is_there() {
        return;
    }
    let server = Server::start().await;
    let clusters = clusters(&server);
    let ports = free_ports(1);
    let bootstrap = bootstrap(&[listener(ports[0].number(), &clusters)], &clusters);
    let look = || async {
        let mut told = Vec::new();
        for cluster in &clusters {
            let name = cluster["name"].as_str().expect("it has a name");
            let path = format!("/{name}/");
            for _ in 0..REQUESTS {
                let seen = ask(&ports[0], &path, "a.test").await;
                told.push(format!("{name}: {}", seen.replace(" r ", " . ")));
            }
        }
        told.sort(); // which member of two came first means nothing
        told
    };
    let (envoy, weir) = of_both(&bootstrap, &ports, look).await;
    assert_eq!(envoy, weir);
    let count = |told: &str| weir.iter().filter(|seen| *seen == told).count();
    assert_eq!(count("own: 200 tls a.test . a.test"), REQUESTS);
    assert_eq!(count(&format!("none: 200 {CLEAR}")), REQUESTS);
    assert_eq!(count(&format!("both: 200 {CLEAR}")), REQUESTS / 2);
    assert_eq!(count("both: 200 tls a.test . a.test"), REQUESTS / 2);
}
