//! What the access logs of listeners, and of streams, say of connections that got no further than
//! their first bytes, and of those that did.

use std::path::Path;
use std::sync::Arc;

use bench::origin::Origin;
use bench::ports::ReservedPort;
use rustls::ClientConfig;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::bootstrap;
use super::certificates::Certificates;
use super::client;
use super::cluster;
use super::free_ports;
use super::listener;
use super::manager;
use super::of_both;
use super::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;

const COMMANDS: [&str; 13] = [
    "ACCESS_LOG_TYPE",
    "BYTES_RECEIVED",
    SENT,
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    REASON,
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "REQ(:METHOD)",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_FLAGS",
];

const SENT: &str = "BYTES_SENT";
const REASON: &str = "DOWNSTREAM_TRANSPORT_FAILURE_REASON";

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Client {
    /// Says what nobody understands.
    Babbles,
    /// Goes at once.
    Leaves,
    /// Shows the certificate of this name, or none, and asks for something.
    Shows(Option<&'static str>),
    /// Asks for something without TLS.
    Plain,
    /// Waits until it is closed.
    Waits,
}

/// The listener, the client, and how many entries there are of it.
const CASES: [(&str, Client, usize); 19] = [
    ("http", Client::Babbles, 1),
    ("http", Client::Leaves, 1),
    ("http", Client::Shows(None), 1),
    ("http", Client::Shows(Some("stranger")), 1),
    ("http", Client::Shows(Some("rich")), 2),
    ("http", Client::Waits, 1),
    ("tcp", Client::Babbles, 2),
    ("tcp", Client::Leaves, 2),
    ("tcp", Client::Shows(None), 2),
    ("tcp", Client::Shows(Some("stranger")), 2),
    ("tcp", Client::Shows(Some("rich")), 2),
    ("tcp", Client::Waits, 2),
    ("plain", Client::Plain, 2),
    ("plain", Client::Babbles, 2),
    ("plain", Client::Leaves, 1),
    ("other name", Client::Shows(Some("rich")), 1),
    ("inspected", Client::Waits, 1),
    ("inspected", Client::Leaves, 1),
    ("announced", Client::Babbles, 1),
];

const LISTENERS: [&str; 6] = [
    "http",
    "tcp",
    "plain",
    "other name",
    "inspected",
    "announced",
];

impl Client {
    async fn run(self, port: &ReservedPort, certificates: &Certificates) {
        let target = port.addr();
        let config = |name| -> Arc<ClientConfig> { certificates.client(name) };
        // How it sees its end is compared elsewhere.
        let _ = match self {
            Self::Babbles => client::say(target, None, b"GARBAGE GARBAGE GARBAGE\r\n\r\n").await,
            Self::Leaves => TcpStream::connect(target).await.map(|_| Vec::new()),
            Self::Shows(name) => client::get(target, Some(&config(name)), "/", &[]).await,
            Self::Plain => client::get(target, None, "/", &[]).await,
            Self::Waits => {
                let mut stream = TcpStream::connect(target).await.expect("it listens");
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.map(|_| answer)
            }
        };
    }
}

fn log(path: &Path, who: &str) -> Value {
    let mut fields = json!({"who": who});
    for command in COMMANDS {
        fields[command] = format!("%{command}%").into();
    }
    let file = json!({"path": path, "log_format": {"json_format": fields}});
    let file = typed("extensions.access_loggers.file.v3.FileAccessLog", file);
    json!([{"name": "file", "typed_config": file}])
}

fn filter(name: &str) -> Value {
    let typed = typed(&format!("extensions.filters.listener.{name}"), json!({}));
    json!([{"name": "filter", "typed_config": typed}])
}

fn listeners(certificates: &Certificates, ports: &[ReservedPort], file: &Path) -> Vec<Value> {
    let route = json!([{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]);
    let listeners = LISTENERS.iter().zip(ports).map(|(name, port)| {
        let log = |what: &str| log(file, &format!("{name}, {what}"));
        let http = || manager(&route, &json!({"access_log": log("http")}));
        let tcp = || {
            let tcp = json!({"stat_prefix": "t", "cluster": "origin", "access_log": log("tcp")});
            typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", tcp)
        };
        let (filter, tls) = match *name {
            "http" => (http(), Some(certificates)),
            "tcp" => (tcp(), Some(certificates)),
            "plain" => (http(), None),
            _ => (tcp(), None),
        };
        let mut listener = listener(port.number(), &filter, tls);
        listener["access_log"] = log("listener");
        let chain = &mut listener["filter_chains"][0];
        if tls.is_some() {
            chain["transport_socket"]["typed_config"]["require_client_certificate"] = true.into();
            chain["transport_socket_connect_timeout"] = "0.3s".into();
        }
        listener
    });
    let mut listeners: Vec<_> = listeners.collect();
    let named = json!({"server_names": ["other.test"]});
    listeners[3]["filter_chains"][0]["filter_chain_match"] = named;
    listeners[3]["listener_filters"] = filter("tls_inspector.v3.TlsInspector");
    listeners[4]["listener_filters"] = filter("tls_inspector.v3.TlsInspector");
    listeners[4]["listener_filters_timeout"] = "0.3s".into();
    listeners[5]["listener_filters"] = filter("proxy_protocol.v3.ProxyProtocol");
    listeners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_logged_alike_however_far_they_came() {
    if !envoy_is_there() {
        return;
    }
    let certificates = Certificates::new();
    let origin = Origin::start("origin").expect("a free port");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("access.log");
    let ports = free_ports(LISTENERS.len() + 1);
    let mut all = listeners(&certificates, &ports, &file);
    // Whether it is open is found out by a connection, so at one that is not logged.
    let (ready, _) = ports.split_last().expect("there are some");
    let unlogged = json!({"stat_prefix": "t", "cluster": "origin"});
    let unlogged = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", unlogged);
    all.push(listener(ready.number(), &unlogged, None));
    let bootstrap = bootstrap(&all, &[cluster("origin", origin.addr().port())]);
    let look = || async {
        for (name, client, _) in &CASES {
            let mut known = LISTENERS.iter().zip(&ports);
            let port = known.find(|(known, _)| *known == name);
            client
                .run(port.expect("it is there").1, &certificates)
                .await;
        }
        let told = entries(&file, CASES.iter().map(|case| case.2).sum()).await;
        std::fs::remove_file(&file).expect("it is there"); // the next proxy makes its own
        told
    };
    let open = std::slice::from_ref(ready);
    let (envoy, weir) = Box::pin(of_both(&bootstrap, open, look)).await;
    let alone = |of: &[String], other: &[String]| -> Vec<String> {
        let alone = of.iter().filter(|told| !other.contains(told));
        alone.cloned().collect()
    };
    let different = (alone(&envoy, &weir), alone(&weir, &envoy));
    assert!(
        different == (vec![], vec![]),
        "of Envoy and of Weir alone: {different:#?}"
    );
    assert_eq!(envoy, weir);
    let refused = |told: &&String| told.contains("\"TLS_error\"");
    // Three of each listener, and those of streams once more.
    assert_eq!(weir.iter().filter(refused).count(), 9, "{weir:#?}");
}

/// The entries of all cases, sorted, once there are as many.
async fn entries(file: &Path, count: usize) -> Vec<String> {
    let read = || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let whole = text.split_inclusive('\n');
        let whole = whole.filter(|line| line.ends_with('\n'));
        whole.map(comparable).collect::<Vec<_>>()
    };
    let complete = until(|| async {
        let found = read();
        (found.len() >= count).then_some(()).ok_or_else(|| {
            format!(
                "{count} entries are wanted, not {}: {found:#?}",
                found.len()
            )
        })
    });
    complete.await.expect("all entries are written");
    let mut entries = read();
    entries.sort();
    entries
}

/// Why TLS failed is said in the words of its library, and heads of answers are not the same.
fn comparable(line: &str) -> String {
    let mut entry: Value = serde_json::from_str(line).expect("an object");
    if let Some(reason) = entry[REASON].as_str() {
        assert!(!reason.contains(' '), "{reason}");
        entry[REASON] = reason.split(':').next().into();
    }
    let is_of_http = entry["who"]
        .as_str()
        .is_some_and(|who| who.starts_with("http"));
    let is_of_plain = entry["who"]
        .as_str()
        .is_some_and(|who| who.starts_with("plain"));
    if is_of_http || is_of_plain {
        entry[SENT] = entry[SENT].as_u64().map(|sent| sent > 0).into();
    }
    // Of a request nobody could read Envoy knows what it was of, and what it answered.
    if is_of_plain && entry["RESPONSE_CODE"] == 400 {
        entry[SENT] = Value::Null;
        entry["PROTOCOL"] = Value::Null;
    }
    entry.to_string()
}
