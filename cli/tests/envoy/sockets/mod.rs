//! What is set on the sockets of a listener and of its additional addresses, as `ss` of iproute2 sees
//! it: Envoy and Weir set the same.

mod fast_open;
mod handed;

use std::process::Command;

use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;

use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::ss_is_there;
use crate::setting::until;

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn chain() -> Value {
    let proxy = json!({"stat_prefix": "t", "cluster": "none"});
    let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
    let data = json!({"upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 1});
    let mut waiting = proxy;
    for (name, value) in data.as_object().into_iter().flatten() {
        waiting[name] = value.clone(); // so that connections stay
    }
    json!({"filters": [{"name": "tcp", "typed_config": waiting}]})
}

/// `ss` of these sockets of ours, a line each.
fn ss(arguments: &[&str], port: u16) -> String {
    let mut ss = Command::new("ss");
    ss.args(arguments).arg(format!("( sport = :{port} )"));
    let output = ss.output().expect("it was there just now");
    String::from_utf8(output.stdout).expect("it is text")
}

/// The keepalive timer of an accepted connection, in minutes.
async fn timer(port: u16) -> String {
    let _client = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("it listens");
    let accepted = || ss(&["-tnoH", "state", "established"], port);
    let there = until(|| async {
        let is_there = !accepted().trim().is_empty();
        is_there
            .then_some(())
            .ok_or_else(|| "no connection".to_owned())
    });
    there.await.expect("it is accepted");
    let line = accepted();
    let timer = line.split("timer:(keepalive,").nth(1);
    let timer = timer.and_then(|timer| timer.split(',').next());
    timer.unwrap_or("none").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_set_up_alike() {
    if !envoy_is_there() || !ss_is_there() {
        return;
    }
    let ports = free_ports(8);
    let port = |place: usize| ports[place].number();
    let keepalive = |seconds: u32| json!({"keepalive_time": seconds});
    // SO_KEEPALIVE and TCP_KEEPIDLE by their numbers.
    let options = json!({"socket_options": [
        {"level": 1, "name": 9, "int_value": 1}, {"level": 6, "name": 4, "int_value": 3000},
    ]});
    let several = json!({
        "name": "several",
        "address": address(port(0)),
        "tcp_keepalive": keepalive(1000),
        "additional_addresses": [
            {"address": address(port(1))},
            {"address": address(port(2)), "tcp_keepalive": keepalive(2000)},
            {"address": address(port(3)), "tcp_keepalive": keepalive(0)},
            {"address": address(port(4)), "tcp_keepalive": keepalive(0), "socket_options": options},
        ],
        "filter_chains": [chain()],
    });
    let multipath = json!({
        "name": "multipath",
        "address": address(port(5)),
        "enable_mptcp": true,
        "filter_chains": [chain()],
    });
    // Whatever the system knows, when it is to be set, and for whom.
    let any = json!({
        "name": "any",
        "address": address(port(6)),
        "socket_options": [
            {"level": 1, "name": 9, "int_value": 1, "state": "STATE_BOUND"},
            {"level": 6, "name": 4, "buf_value": "iBMAAA==", "state": "STATE_LISTENING"},
            {"level": 6, "name": 4, "int_value": 99, "type": {"datagram": {}}},
            {"level": 6, "name": 4, "int_value": 98, "ip_version": "SOCKET_IP_VERSION_IPV6"},
        ],
        "filter_chains": [chain()],
    });
    let both_families = json!({"address": "::", "port_value": port(7), "ipv4_compat": true});
    let both_families = json!({
        "name": "both",
        "address": {"socket_address": both_families},
        "tcp_keepalive": keepalive(4000),
        "filter_chains": [chain()],
    });
    let cluster = json!({"name": "none", "load_assignment": {"cluster_name": "none"}});
    let look = || async {
        let mut told = Vec::new();
        for place in [0, 1, 2, 3, 4, 6, 7] {
            told.push(timer(port(place)).await);
        }
        told.push(format!("{}", !ss(&["-lnMH"], port(5)).trim().is_empty()));
        told
    };
    let bootstrap = bootstrap(&[several, multipath, any, both_families], &[cluster]);
    let (envoy, weir) = of_both(&bootstrap, &ports, look).await;
    assert_eq!(envoy, weir);
    assert_eq!(weir[..3], ["16min", "16min", "33min"]);
    assert_eq!(weir[3], "none");
    assert_eq!(weir[5..7], ["83min", "66min"]);
}
