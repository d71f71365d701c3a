//! Sessions that must not be more than a full handshake would have been (security cases T2 and T4).

use std::path::Path;

use super::Policy;
use super::authority::Files;
use super::client;
use super::listener;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::open;
use crate::setting::Weir;
use crate::setting::openssl_is_there;

/// A client that uses or keeps a session; what it saw, as text.
async fn run(port: u16, request: &'static [u8], more: Vec<String>) -> String {
    let running = tokio::task::spawn_blocking(move || {
        let mut arguments = vec!["-connect".to_owned(), format!("127.0.0.1:{port}")];
        arguments.extend(more);
        client::text(&arguments, request)
    });
    running.await.expect("no panic")
}

fn words(words: &[&str], file: &Path) -> Vec<String> {
    let words = words.iter().map(|word| (*word).to_owned());
    words.chain([file.display().to_string()]).collect()
}

/// A ticket of a listener that knows no clients opens nothing at one that wants to know them; where it
/// came from it saves a handshake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t04_a_session_is_resumed_only_where_the_same_is_demanded() {
    if !openssl_is_there() {
        return;
    }
    let files = Files::new();
    let ports = free_ports(2);
    let (ignores, requires) = (ports[0].number(), ports[1].number());
    let listeners = [
        listener(ignores, Policy::Ignores, &files),
        listener(requires, Policy::Requires, &files),
    ];
    let weir = Weir::start(&bootstrap(&listeners, &[])).await;
    open(&ports).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let session = files.path("session");
        let seen = run(
            ignores,
            client::HTTP1,
            words(&[version, "-sess_out"], &session),
        )
        .await;
        assert!(seen.contains("HTTP/1.1 200"), "{version}: {seen}");
        let again = words(&[version, "-sess_in"], &session);
        let seen = run(ignores, client::HTTP1, again.clone()).await;
        assert!(seen.contains("Reused, "), "{version}: {seen}");
        assert!(seen.contains("HTTP/1.1 200"), "{version}: {seen}");
        let seen = run(requires, client::HTTP1, again).await;
        assert!(!seen.contains("Reused, "), "{version}: {seen}");
        assert!(!seen.contains("HTTP/1.1 200"), "{version}: {seen}");
    }
    weir.stop().await;
}

/// A second handshake over the first is refused, and the connection with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t02_nobody_renegotiates() {
    if !openssl_is_there() {
        return;
    }
    let files = Files::new();
    let ports = free_ports(1);
    let port = ports[0].number();
    let weir = Weir::start(&bootstrap(&[listener(port, Policy::Ignores, &files)], &[])).await;
    open(&ports).await;
    // `R` at the start of a line asks `s_client` to renegotiate; it takes a line at a time.
    let seen = run(port, b"R\n", vec!["-tls1_2".to_owned()]).await;
    assert!(seen.contains("RENEGOTIATING"), "{seen}");
    assert!(seen.contains("no renegotiation"), "{seen}");
    weir.stop().await;
}
