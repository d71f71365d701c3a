//! WebSockets over streams of HTTP/2 (RFC 8441): an Envoy takes them from a client by HTTP/1.1 and sends them on
//! by extended CONNECT, to another Envoy and to Weir, which take them to the same server.

use bench::peer::Admin;
use bench::peer::Envoy;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;

use super::Script;
use super::extended::http2_cluster;
use super::listener;
use super::peers_are_there;
use super::see;
use crate::breakers::entries;
use crate::breakers::of_both;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::open;
use crate::setting::Weir;

/// What `upgrade_configs` and the settings of HTTP/2 say where all is allowed.
pub(super) fn allowed() -> Value {
    json!({
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {"allow_connect": true},
    })
}

/// An Envoy that sends all on to a cluster.
pub(super) async fn envoy(port: &ReservedPort, more: &Value, cluster: Value) -> Envoy {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]);
    let filter = manager(&routes, more);
    let listener = json!({
        "name": "envoy",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port.number()}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": filter}]}],
    });
    let envoy = Envoy::start(&bootstrap(&[listener], &[cluster])).await;
    let envoy = envoy.expect("Envoy takes the bootstrap");
    open(std::slice::from_ref(port)).await;
    envoy
}

/// One in front of both, which asks by extended CONNECT.
pub(super) async fn front(port: &ReservedPort, behind: u16) -> Envoy {
    let more = json!({"upgrade_configs": [{"upgrade_type": "websocket"}]});
    let cluster = http2_cluster("c", behind, &json!({"allow_connect": true}));
    envoy(port, &more, cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass_and_end_alike_over_http2() {
    if !peers_are_there() {
        return;
    }
    let (mut server, number) = Script::server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    let ports = free_ports(2);
    let listener = listener(ports[0].number(), "on", &file, &allowed());
    let text = bootstrap(&[listener], &[cluster("c", number)]);
    let _front = front(&ports[1], ports[0].number()).await;
    let port = ports[1].number();
    let look = |admin: Admin| {
        let file = &file;
        async move {
            let mut seen = Vec::new();
            for (what, path) in [
                ("echo", "/"),
                ("server-closes", "/"),
                ("server-aborts", "/"),
                ("silence", "/silent"),
                ("echo", "/off"),
                ("echo", "/deny"),
                ("abort", "/"),
            ] {
                seen.push(format!("{what} {path}: {}", see(port, what, path)));
            }
            let active = admin.stat("http.on.downstream_cx_upgrades_active").await;
            let total = admin.stat("http.on.downstream_cx_upgrades_total").await;
            let numbers = [active, total].map(|number| number.expect("it answers"));
            (seen.join("\n"), entries(file, 7).await, numbers)
        }
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports[..1], look)).await;
    assert_eq!(weir.0.replace(" weir", " envoy"), envoy.0);
    assert_eq!(weir.1, envoy.1);
    assert_eq!(weir.2, envoy.2);
    for _ in 0..10 {
        server.line(); // how those have ended that were let in
    }

    let weir = Weir::start(&text).await;
    let mut client = Script::start("client.py", &[&port.to_string(), "wait"]);
    assert_eq!(client.line(), "here");
    weir.stop().await;
    let told = client.line();
    assert!(told.starts_with("closed 1001"), "{told}");
    assert_eq!(server.line(), "ended 1001");
}
