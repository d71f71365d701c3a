//! Servers that speak before the handshake (security case T7): what they say is nobody's answer,
//! whether a handshake follows or not.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::REQUEST;
use super::Server;
use super::ask;
use super::cluster;
use super::listener;
use super::say;
use super::stream;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::setting::envoy_is_there;
use crate::setting::nginx_is_there;

/// What nobody must take for an answer.
const FORGED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";

/// Stands before `server`, and speaks first.
struct Forger {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forger {
    async fn start(server: Option<SocketAddr>, said: &'static [u8]) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                tokio::spawn(async move {
                    stream.write_all(said).await?;
                    let Some(server) = server else {
                        return Ok(0);
                    };
                    let mut server = TcpStream::connect(server).await?;
                    let (sent, _) = copy_bidirectional(&mut stream, &mut server).await?;
                    std::io::Result::Ok(sent)
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t07_plain_text_before_the_handshake_is_no_answer() {
    if !envoy_is_there() || !nginx_is_there() {
        return;
    }
    let server = Server::start().await;
    let tls = server.tls.addr();
    let forgers = [
        ("honest", Forger::start(Some(tls), b"").await),
        ("before", Forger::start(Some(tls), FORGED).await),
        ("one-byte", Forger::start(Some(tls), b"\n").await),
        ("instead", Forger::start(None, FORGED).await),
    ];
    let clusters = forgers.each_ref().map(|(name, forger)| {
        let mut cluster = cluster(name, forger.address.port());
        cluster["transport_socket"] = server.transport(&json!({"sni": "a.test"}), &json!({}));
        cluster
    });
    let ports = free_ports(forgers.len() + 1);
    let (http, streams) = ports.split_first().expect("there are some");
    let mut listeners = vec![listener(http.number(), &clusters)];
    for (port, (name, _)) in streams.iter().zip(&forgers) {
        listeners.push(stream(port.number(), name));
    }
    let look = || async {
        let mut told = Vec::new();
        for (port, (name, _)) in streams.iter().zip(&forgers) {
            let answer = ask(http, &format!("/{name}/"), "a.test").await;
            let passed = say(port, REQUEST).await;
            let body = passed.split("\r\n\r\n").last().unwrap_or_default();
            let told_here = format!("{name}: {answer}, {body}");
            told.push(told_here.replace(" r ", " . "));
        }
        told
    };
    let (envoy, weir) = of_both(&bootstrap(&listeners, &clusters), &ports, look).await;
    assert_eq!(envoy, weir);
    let wanted = [
        "honest: 200 tls a.test . a.test, tls a.test . a.test",
        "before: 503, ",
        "one-byte: 503, ",
        "instead: 503, ",
    ];
    assert_eq!(weir, wanted);
}
