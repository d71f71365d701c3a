//! Clients that do not get through a handshake in the time their chain gives them.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Policy;
use super::authority::Files;
use super::listener;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::setting::PATIENCE;
use crate::setting::envoy_is_there;

/// What the chain gives.
const GIVEN: Duration = Duration::from_millis(500);

/// What a client says before it says nothing more: nothing, or the beginning of a ClientHello.
const SAID: [&[u8]; 2] = [b"", &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]];

/// How long the server waited for the rest.
async fn patience(port: u16, said: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("it listens");
    let began = Instant::now();
    stream.write_all(said).await.expect("it is taken");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("an end"); // a reset is an end, too
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_wait_as_long_as_they_are_told_for_a_handshake() {
    if !envoy_is_there() {
        return;
    }
    let files = Files::new();
    let ports = free_ports(1);
    let port = ports[0].number();
    let mut listener = listener(port, Policy::Ignores, &files);
    listener["listener_filters"] = serde_json::json!([]); // they have a deadline of their own
    listener["filter_chains"][0]["transport_socket_connect_timeout"] = "0.5s".into();
    let look = || async {
        let mut waited = Vec::new();
        for said in SAID {
            waited.push(patience(port, said).await);
        }
        waited
    };
    let (envoy, weir) = of_both(&bootstrap(&[listener], &[]), &ports, look).await;
    for waited in [&envoy, &weir].into_iter().flatten() {
        // The client's clock starts a little later; a busy machine is late.
        let is_told = (GIVEN.mul_f64(0.95)..4 * GIVEN).contains(waited);
        assert!(is_told, "Envoy {envoy:?}, Weir {weir:?}");
    }
}
