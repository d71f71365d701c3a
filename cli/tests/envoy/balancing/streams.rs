//! Clients of a TCP proxy: each address leads to the same member.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::json;

use super::client::Client;
use super::cluster;
use super::listener;
use super::members;
use super::origins;
use super::typed_policy;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;

/// Clients, each from an address of its own.
const CLIENTS: u8 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_told_apart_by_their_address_only() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let localities = json!([{"lb_endpoints": members(&origins)}]);
    let ip = json!({"connection_properties": {"source_ip": true}});
    let own = json!([{"header": {"header_name": "x"}, "terminal": true}, ip, ip]);
    let own = json!({"consistent_hashing_lb_config": {"hash_policy": own}});
    let policies = [
        ("ring", json!({"lb_policy": "RING_HASH"})),
        ("table", json!({"lb_policy": "MAGLEV"})),
        ("own", typed_policy("maglev", "Maglev", own)),
    ];
    let ports = free_ports(policies.len());
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for ((name, policy), port) in policies.iter().zip(&ports) {
        clusters.push(cluster(name, &localities, policy));
        let mut proxy = json!({"stat_prefix": "tcp", "cluster": name});
        if *name != "own" {
            proxy["hash_policy"] = json!([{"source_ip": {}}]);
        }
        let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
        listeners.push(listener(port.number(), &proxy));
    }
    let bootstrap = bootstrap(&listeners, &clusters);
    let look = || async {
        let mut answers = Vec::new();
        for port in &ports {
            for last in 2..CLIENTS {
                let address = Ipv4Addr::new(127, 0, 0, last);
                let mut both = Vec::new();
                for _ in 0..2 {
                    let mut client = Client::connect(port.addr(), (address, 0)).await;
                    both.push(client.get("/", &[]).await.origin());
                }
                assert_eq!(both[0], both[1], "{address}");
                answers.push(both.swap_remove(0));
            }
        }
        answers
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    assert_eq!(wanted, found);
    let seen: BTreeSet<&String> = wanted.iter().collect();
    assert!(seen.len() > 3, "{seen:?}");
}
