//! Connections redirected by netfilter reach the address they wanted, over IPv4 and IPv6, through an
//! `ORIGINAL_DST` cluster; in a network namespace of the test's own.
//!
//! The test starts itself again inside the namespace, because a thread that has entered one would
//! take others of this process along.

use std::io::Write;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;

use crate::support::servers::Proxy;
use crate::support::soon;

/// Set for the process inside the namespace.
const INSIDE: &str = "WEIR_TEST_INSIDE_NAMESPACE";

/// What clients of the two families want, and where they come from: only these are redirected, not
/// the proxy's own connections.
const FAMILIES: [(&str, &str); 2] = [("10.99.0.1", "10.99.0.2"), ("fd99::1", "fd99::2")];

const WANTED_PORT: u16 = 8080;
const PROXY_PORT: u16 = 15001;

const RULES: &str = "\
table inet weir {
  chain output {
    type nat hook output priority -100; policy accept;
    ip saddr 10.99.0.2 tcp dport 8080 redirect to :15001
    ip6 saddr fd99::2 tcp dport 8080 redirect to :15001
  }
}
";

#[test]
fn redirected_connections_get_where_they_wanted() {
    if std::env::var_os(INSIDE).is_some() {
        return; // the other test is meant
    }
    if let Err(missing) = possible() {
        let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "{missing}");
        let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
        return;
    }
    let program = std::env::current_exe().expect("it runs");
    let output = Command::new("unshare")
        .arg("--net")
        .arg(program)
        .args(["--exact", "redirect::inside", "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("it was there just now");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output));
    assert!(said.contains("1 passed"), "{said}");
}

fn possible() -> Result<(), String> {
    let listed = Command::new("unshare")
        .args(["--net", "nft", "list", "tables"])
        .output();
    match listed {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("no nftables in a namespace: {}", text(&output))),
        Err(error) => Err(format!("no namespaces: {error}")),
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[ignore = "runs inside a namespace, started by the test above"]
fn inside() {
    assert!(std::env::var_os(INSIDE).is_some(), "not for itself");
    ip(&["link", "set", "lo", "up"]);
    for (wanted, client) in FAMILIES {
        for address in [wanted, client] {
            let length = if address.contains(':') { "128" } else { "32" };
            ip(&["addr", "add", &format!("{address}/{length}"), "dev", "lo"]);
        }
    }
    nft();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(traffic());
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("it is there");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
}

fn nft() {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it is there");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(RULES.as_bytes()).expect("it reads");
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

async fn traffic() {
    let proxy = Proxy::start(&bootstrap()).await;
    proxy.listens("l").await;
    for (wanted, client) in FAMILIES {
        let (wanted, client): (IpAddr, IpAddr) = (
            wanted.parse().expect("an address"),
            client.parse().expect("an address"),
        );
        let origin = TcpListener::bind((wanted, WANTED_PORT))
            .await
            .expect("it is ours");
        let socket = if wanted.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        };
        let socket = socket.expect("a socket");
        socket.bind(SocketAddr::new(client, 0)).expect("it is ours");
        let connecting = socket.connect(SocketAddr::new(wanted, WANTED_PORT));
        let mut stream = soon("a connection", connecting)
            .await
            .expect("it is redirected");
        let (mut accepted, peer) = soon("the proxy", origin.accept()).await.expect("it comes");
        assert_ne!(peer.ip(), client, "it did not come through the proxy");
        stream.write_all(b"ping").await.expect("it reads");
        let mut bytes = [0; 4];
        accepted.read_exact(&mut bytes).await.expect("it passes");
        accepted.write_all(b"pong").await.expect("it reads");
        stream.read_exact(&mut bytes).await.expect("it passes");
        assert_eq!(&bytes, b"pong");
    }
    proxy.stop().await;
}

fn bootstrap() -> String {
    let address = |ip: &str| json!({"socket_address": {"address": ip, "port_value": PROXY_PORT}});
    let original =
        "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst";
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "t",
        "cluster": "wanted",
    });
    let listener = json!({
        "name": "l",
        "address": address("0.0.0.0"),
        "additional_addresses": [{"address": address("::")}],
        "listener_filters": [{"name": "o", "typed_config": {"@type": original}}],
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    });
    let cluster =
        json!({"name": "wanted", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"});
    json!({"static_resources": {"listeners": [listener], "clusters": [cluster]}}).to_string()
}
