//! Connections that were redirected go to the listener for the address they wanted, which may have no
//! socket of its own: `use_original_dst` and `bind_to_port`, as Istio's sidecars use them. What they
//! wanted is said by PROXY protocol headers here; `original_dst` does the same with what netfilter knows.

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;

/// A listener that answers with its name.
fn listener(name: &str, address: &str, port: u16, more: Value) -> Value {
    let routes = json!([{
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": name}},
    }]);
    let mut listener = json!({
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [{
            "name": "http", "typed_config": manager(&routes, &json!({})),
        }]}],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        listener[name] = value.clone();
    }
    listener
}

/// Who answers a client that comes to `port` and wanted something else, if the answer comes.
async fn answered(port: u16, wanted: &str) -> String {
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let mut stream = stream.expect("it listens");
    let family = if wanted.contains(':') { "6" } else { "4" };
    let from = if wanted.contains(':') {
        "fd99::9"
    } else {
        "10.99.0.9"
    };
    let (address, wanted) = wanted.rsplit_once(' ').expect("address and port");
    let request = format!(
        "PROXY TCP{family} {from} {address} 1111 {wanted}\r\n\
         GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    );
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("it is open");
    let mut answer = String::new();
    // To any end: one that is refused may be reset.
    let _ = stream.read_to_string(&mut answer).await;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    body.unwrap_or_else(|| format!("nobody: {answer:?}"))
}

/// Three with sockets, the first of which hands over, and those it may hand over to.
fn listeners([first, other, bound]: [u16; 3]) -> Vec<Value> {
    let header = typed(
        "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        json!({}),
    );
    let filters = json!([{"name": "proxy", "typed_config": header}]);
    let unbound = || json!({"bind_to_port": false});
    // It waits for a header of its own, which does not come: filters run again.
    let asks_again = json!({"bind_to_port": false, "listener_filters": filters});
    let needs_port = json!({"bind_to_port": false, "filter_chains": [{
        "filter_chain_match": {"destination_port": 1},
        "filters": [{"name": "http", "typed_config": manager(&json!([]), &json!({}))}],
    }]});
    vec![
        listener(
            "virtual",
            "127.0.0.1",
            first,
            json!({"use_original_dst": true, "listener_filters": filters}),
        ),
        listener(
            "stays",
            "127.0.0.1",
            other,
            json!({"listener_filters": filters}),
        ),
        listener("bound", "127.0.0.1", bound, json!({})),
        listener("exact", "10.99.0.1", 7001, unbound()),
        listener("any", "0.0.0.0", 7002, unbound()),
        listener("precise", "10.99.0.1", 7002, unbound()),
        listener("six", "fd99::1", 7003, unbound()),
        listener("any six", "::", 7004, unbound()),
        listener(
            "old",
            "10.99.0.1",
            7005,
            json!({"deprecated_v1": {"bind_to_port": false}}),
        ),
        listener("again", "10.99.0.1", 7006, asks_again),
        listener("nothing", "10.99.0.1", 7007, needs_port),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirected_connections_are_handed_over_alike() {
    if !envoy_is_there() {
        return;
    }
    let ports = free_ports(3);
    let port = |place: usize| ports[place].number();
    let listeners = listeners([port(0), port(1), port(2)]);
    let (first, other, bound) = (port(0), port(1), port(2));
    let look = || async move {
        let mut told = Vec::new();
        for wanted in [
            "10.99.0.1 7001",
            "10.99.0.2 7001",
            "10.99.0.1 7002",
            "10.99.0.2 7002",
            "fd99::2 7002",
            "fd99::1 7003",
            "fd99::2 7004",
            "10.99.0.1 7004",
            "10.99.0.1 7005",
            "10.99.0.1 7006",
            "10.99.0.1 7007",
        ] {
            told.push(format!("{wanted}: {}", answered(first, wanted).await));
        }
        let own = format!("127.0.0.1 {bound}");
        told.push(answered(first, &own).await);
        told.push(answered(other, "10.99.0.1 7001").await);
        told
    };
    let bootstrap = bootstrap(&listeners, &[]);
    let (envoy, weir) = of_both(&bootstrap, &ports, look).await;
    assert_eq!(envoy, weir);
    assert_eq!(weir[0], "10.99.0.1 7001: exact");
    assert_eq!(weir[1], "10.99.0.2 7001: virtual");
    assert_eq!(weir[11..], ["bound", "stays"]);
}
