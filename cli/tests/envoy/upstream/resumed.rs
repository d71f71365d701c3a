//! Sessions with a server are taken up again, as the server counts them.

use serde_json::Value;
use serde_json::json;

use super::REQUEST;
use super::Server;
use super::ask;
use super::cluster;
use super::listener;
use super::say;
use super::stream;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::open;
use crate::setting::Weir;
use crate::setting::nginx_is_there;

/// Connections made of each kind.
const CONNECTIONS: usize = 100;

fn clusters(server: &Server) -> Vec<Value> {
    let of = |(name, version): (&str, &str)| {
        let parameters = json!({
            "tls_minimum_protocol_version": version, "tls_maximum_protocol_version": version,
        });
        let context = json!({
            "sni": "a.test", "common_tls_context": {"tls_params": parameters},
        });
        let mut cluster = cluster(name, server.tls.number());
        cluster["transport_socket"] = server.transport(&context, &json!({}));
        cluster
    };
    [("tls12", "TLSv1_2"), ("tls13", "TLSv1_3")].map(of).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_of_ten_sessions_are_taken_up_again() {
    if !nginx_is_there() {
        return;
    }
    let server = Server::start().await;
    let clusters = clusters(&server);
    let ports = free_ports(3);
    let listeners = [
        listener(ports[0].number(), &clusters),
        stream(ports[1].number(), "tls12"),
        stream(ports[2].number(), "tls13"),
    ];
    let weir = Weir::start(&bootstrap(&listeners, &clusters)).await;
    open(&ports).await;
    for (name, port) in [("tls12", &ports[1]), ("tls13", &ports[2])] {
        let mut of_requests = Vec::new();
        let mut of_streams = Vec::new();
        for _ in 0..CONNECTIONS {
            of_requests.push(ask(&ports[0], &format!("/{name}/"), "a.test").await);
            of_streams.push(say(port, REQUEST).await);
        }
        for (kind, told) in [("requests", of_requests), ("streams", of_streams)] {
            let resumed = told
                .iter()
                .filter(|told| told.ends_with("tls a.test r a.test"));
            let resumed = resumed.count();
            let first = &told[0];
            assert!(
                resumed * 10 > CONNECTIONS * 9,
                "{resumed} of {CONNECTIONS} {kind}, {name}: {first}"
            );
        }
    }
    weir.stop().await;
}
