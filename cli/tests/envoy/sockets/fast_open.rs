//! TCP Fast Open (RFC 7413): a client that was here before is heard with its first segment, by Envoy
//! and by Weir, if the listener says so; in a network namespace of the test's own, because the system
//! has to allow it.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;

use rustix::net::AddressFamily;
use rustix::net::SendFlags;
use rustix::net::SocketType;
use serde_json::Value;
use serde_json::json;

use super::address;
use super::chain;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::setting::envoy_is_there;

/// Set for the process inside the namespace.
const INSIDE: &str = "WEIR_TEST_INSIDE_NAMESPACE";

/// `MSG_FASTOPEN` of Linux.
const FAST_OPEN: u32 = 0x2000_0000;

/// Clients and servers may.
const BOTH_SIDES: &str = "3";

#[test]
fn the_first_segment_is_heard_alike() {
    if !envoy_is_there() {
        return;
    }
    let program = std::env::current_exe().expect("it runs");
    let inside = Command::new("unshare")
        .args(["--net", "ip", "link", "set", "lo", "up"])
        .status();
    if !inside.is_ok_and(|status| status.success()) {
        let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "no namespaces");
        let _ = writeln!(std::io::stderr(), "SKIPPED: no namespaces");
        return;
    }
    let output = Command::new("unshare")
        .arg("--net")
        .arg(program)
        .args(["--exact", "sockets::fast_open::inside", "--ignored"])
        .arg("--nocapture")
        .env(INSIDE, "1")
        .output()
        .expect("it was there just now");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "runs inside a namespace, started by the test above"]
fn inside() {
    assert!(std::env::var_os(INSIDE).is_some(), "not for itself");
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.expect("it is there").success());
    std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", BOTH_SIDES).expect("it is ours");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(alike());
}

async fn alike() {
    let ports = free_ports(2);
    let listener = |port: u16, more: Value| {
        let mut listener = json!({
            "name": port.to_string(),
            "address": address(port),
            "filter_chains": [chain()],
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            listener[name] = value.clone();
        }
        listener
    };
    let [fast, usual] = [0, 1].map(|place: usize| ports[place].number());
    let listeners = [
        listener(fast, json!({"tcp_fast_open_queue_length": 16})),
        listener(usual, json!({})),
    ];
    let cluster = json!({"name": "none", "load_assignment": {"cluster_name": "none"}});
    let look = || async move { [fast, usual].map(is_heard_at_once) };
    let bootstrap = bootstrap(&listeners, &[cluster]);
    let (envoy, weir) = of_both(&bootstrap, &ports, look).await;
    assert_eq!(envoy, weir);
    assert_eq!(weir, [true, false]);
}

/// Whether the second of two clients was heard with its first segment; the first one asks for the
/// cookie that this takes.
fn is_heard_at_once(port: u16) -> bool {
    let before = heard_at_once();
    for _ in 0..2 {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None);
        let socket = socket.expect("a socket");
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let flags = SendFlags::from_bits_retain(FAST_OPEN);
        let sent = rustix::net::sendto(&socket, b"early", flags, &server);
        assert_eq!(sent.expect("it listens"), 5);
    }
    heard_at_once() > before
}

/// What the system counts for all servers of the namespace.
fn heard_at_once() -> u64 {
    let counters = std::fs::read_to_string("/proc/net/netstat").expect("it is there");
    let mut lines = counters.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = lines.next().unwrap_or_default().split(' ');
    let values = lines.next().unwrap_or_default().split(' ');
    let mut both = names.zip(values);
    let found = both.find(|(name, _)| *name == "TCPFastOpenPassive");
    let number = found.and_then(|(_, value)| value.parse().ok());
    number.expect("the system counts them")
}
