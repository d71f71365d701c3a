//! Changing one of many filter chains asks only its own connections to go; the others do not notice.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bench::ports::ReservedPort;
use control_plane::subscription::Variant;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use xds_proto::Pool;
use xds_proto::pb::google::protobuf::Any;

use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::until;

const CHAINS: u16 = 100;

/// The one that changes.
const CHANGED: u16 = 42;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ninety_nine_of_a_hundred_do_not_notice() {
    let control_plane = ControlPlane::start().await;
    let port = ReservedPort::new().expect("a free port");
    let commit = |revision: &str| {
        let listener = listener(port.number(), revision);
        control_plane.handle.commit("", &[listener]).expect("valid");
    };
    commit("old");
    let proxy = Proxy::by_ads(control_plane.addr, Variant::Delta).await;
    proxy.listens("l").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut loads = Vec::new();
    for chain in 1..=CHAINS {
        let mut client = Client::connect(port.addr(), chain).await;
        let answer = client.ask().await.expect("an answer");
        assert_eq!(answer.text, format!("{chain} old"));
        loads.push(tokio::spawn(client.load(Arc::clone(&is_over))));
    }
    commit("new");
    until("the new chain", async || {
        let mut client = Client::connect(port.addr(), CHANGED).await;
        let answer = client.ask().await.expect("an answer");
        (answer.text == format!("{CHANGED} new")).then_some(())
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    let mut stayed = 0;
    for load in loads {
        let client = soon("the load", load).await.expect("no panic");
        stayed += u16::from(client.is_some());
    }
    assert_eq!(stayed, CHAINS - 1);
    proxy.stop().await;
    control_plane.stop().await;
}

struct Answer {
    text: String,
    /// The connection is closed after it.
    is_last: bool,
}

/// A connection to one chain.
struct Client {
    chain: u16,
    stream: TcpStream,
}

impl Client {
    /// The chain is chosen by the destination port that the PROXY protocol names.
    async fn connect(proxy: SocketAddr, chain: u16) -> Self {
        let mut stream = TcpStream::connect(proxy).await.expect("it listens");
        let header = format!("PROXY TCP4 10.0.0.1 10.0.0.2 1000 {chain}\r\n");
        stream.write_all(header.as_bytes()).await.expect("it reads");
        Self { chain, stream }
    }

    /// Asks until it is over, and once more. A connection keeps the chain it began with; only that of
    /// the changed chain has to go, and asks until it is told: none is left of it.
    async fn load(mut self, is_over: Arc<AtomicBool>) -> Option<Self> {
        loop {
            let is_last = is_over.load(Ordering::Relaxed);
            let Some(answer) = self.ask().await else {
                assert_eq!(self.chain, CHANGED, "closed");
                return None;
            };
            assert_eq!(answer.text, format!("{} old", self.chain));
            if answer.is_last {
                assert_eq!(self.chain, CHANGED, "told to go");
                return None;
            }
            // The changed chain's worker may hear of it a little later than that of a new connection.
            if is_last && self.chain != CHANGED {
                return Some(self);
            }
        }
    }

    /// None if the connection was closed between two answers.
    async fn ask(&mut self) -> Option<Answer> {
        let question = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut answer = Vec::new();
        let asked = self.stream.write_all(question).await;
        while !answer.ends_with(b"!") {
            let read = soon("an answer", self.stream.read_buf(&mut answer)).await;
            if asked.is_err() || !read.is_ok_and(|len| len > 0) {
                assert!(answer.is_empty(), "cut within an answer");
                return None;
            }
        }
        let answer = String::from_utf8(answer).expect("it is ASCII");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        Some(Answer {
            text: body.trim_end_matches('!').to_owned(),
            is_last: head.contains("connection: close"),
        })
    }
}

fn listener(port: u16, revision: &str) -> Any {
    let chains: Vec<Value> = (1..=CHAINS)
        .map(|chain| {
            let revision = if chain == CHANGED { revision } else { "old" };
            filter_chain(chain, &format!("{chain} {revision}!"))
        })
        .collect();
    let header =
        "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
    let listener = json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "listener_filters": [{"name": "p", "typed_config": {"@type": header}}],
        "filter_chains": chains,
    });
    let text = json!({"resources": [listener]}).to_string();
    let read = xds_proto::load::resources(&Pool::new(), Path::new("l.json"), &text);
    let resource = read.ok().and_then(|mut file| file.resources.pop());
    resource.expect("it is valid").any
}

fn filter_chain(number: u16, answer: &str) -> Value {
    let route = json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": answer}},
    });
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "h",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "r", "typed_config": {"@type": router}}],
    });
    json!({
        "filter_chain_match": {"destination_port": number},
        "filters": [{"name": "http", "typed_config": manager}],
    })
}
