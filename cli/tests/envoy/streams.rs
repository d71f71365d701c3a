//! What becomes of TCP streams, and what is logged of them: Envoy and Weir do the same.
//!
//! Each case is a listener of its own, with a client and an origin that behave in their own way.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::PATIENCE;
use crate::setting::envoy_is_there;
use crate::setting::until;

const COMMANDS: [&str; 9] = [
    "ACCESS_LOG_TYPE",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "CONNECTION_TERMINATION_DETAILS",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
];

/// What an origin does with a connection.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// Sends back what comes, and the end.
    Echoes,
    /// Answers the first bytes, and ends its half.
    Ends,
    /// Speaks first.
    Greets,
    /// Answers the first bytes, and resets.
    Resets,
    /// Says nothing.
    Silent,
}

const ORIGINS: [(&str, Origin); 5] = [
    ("echoes", Origin::Echoes),
    ("ends", Origin::Ends),
    ("greets", Origin::Greets),
    ("resets", Origin::Resets),
    ("silent", Origin::Silent),
];

impl Origin {
    async fn start(self) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.serve(stream));
            }
        });
        (address, task)
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buffer = [0; 1024];
        match self {
            Self::Echoes => {
                let (mut reads, mut writes) = stream.split();
                tokio::io::copy(&mut reads, &mut writes).await?;
                return writes.shutdown().await;
            }
            Self::Ends => {
                stream.read_exact(&mut buffer[..5]).await?;
                stream.write_all(b"end").await?;
                stream.shutdown().await?;
            }
            Self::Greets => stream.write_all(b"greeting").await?,
            Self::Resets => {
                stream.read_exact(&mut buffer[..5]).await?;
                set_socket_linger(&stream, Some(Duration::ZERO))?;
                return Ok(());
            }
            Self::Silent => {}
        }
        while stream.read(&mut buffer).await? > 0 {}
        Ok(())
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Client {
    /// Says something, ends its half, and reads to the end.
    Ends,
    /// Says something, and resets once it was answered.
    Resets,
    /// Says nothing, and reads to the end.
    Silent,
    /// Says something, and reads to the end.
    Talks,
}

impl Client {
    /// What came back, and how it ended.
    async fn run(self, port: u16) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        if !matches!(self, Self::Silent) {
            let _ = stream.write_all(b"hello").await; // it may have been refused
        }
        match self {
            Self::Ends => {
                let _ = stream.shutdown().await;
            }
            Self::Resets => {
                let mut answer = [0; 5];
                stream.read_exact(&mut answer).await.expect("an answer");
                let _ = set_socket_linger(&stream, Some(Duration::ZERO));
                return "reset by us".to_owned();
            }
            Self::Silent | Self::Talks => {}
        }
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let end = match read.expect("an end") {
            Ok(_) => "end",
            // Whether bytes nobody read turn an end into a reset depends on when they came.
            Err(_) if answer.is_empty() => "end",
            Err(_) => "reset",
        };
        format!("{:?}, {end}", String::from_utf8_lossy(&answer))
    }
}

/// One listener: its name, its cluster, its client, and what its proxy has beside.
type Case = (&'static str, &'static str, Client, Value);

/// Entries before the end of a stream.
fn logs() -> Value {
    json!({"access_log_options": {
        "flush_access_log_on_start": true, "flush_access_log_on_connected": true,
    }})
}

/// Streams whose upstream is connected to at once.
fn immediate() -> Vec<Case> {
    let none = || json!({});
    let old = || json!({"max_downstream_connection_duration": "0.3s"});
    // Twice before its end, both times long after the last byte.
    let periodic = json!({
        "access_log_options": {"access_log_flush_interval": "0.3s"},
        "max_downstream_connection_duration": "0.75s",
    });
    let idle = json!({"idle_timeout": "0.3s"});
    let twice = json!({"max_connect_attempts": 2});
    vec![
        ("half closes", "echoes", Client::Ends, none()),
        ("origin ends first", "ends", Client::Talks, none()),
        ("origin greets", "greets", Client::Ends, none()),
        ("origin resets", "resets", Client::Talks, none()),
        ("client resets", "echoes", Client::Resets, none()),
        ("idle", "silent", Client::Talks, idle),
        ("too old", "silent", Client::Talks, old()),
        ("refused", "dead", Client::Silent, none()),
        ("refused twice", "dead", Client::Silent, twice),
        ("too slow", "slow", Client::Silent, none()),
        ("TLS too slow", "tls-silent", Client::Silent, none()),
        ("no member", "empty", Client::Silent, none()),
        ("no cluster", "nowhere", Client::Silent, none()),
        ("logged thrice", "echoes", Client::Ends, logs()),
        (
            "logged thrice, again and again",
            "silent",
            Client::Talks,
            periodic,
        ),
    ]
}

/// Streams whose upstream is connected to later.
fn delayed() -> Vec<Case> {
    let on_data = |more: Value| {
        let mut both = more;
        both["upstream_connect_mode"] = "ON_DOWNSTREAM_DATA".into();
        both["max_early_data_bytes"] = 64.into();
        both
    };
    let idle = on_data(json!({"idle_timeout": "0.3s"}));
    let old = on_data(json!({"max_downstream_connection_duration": "0.3s"}));
    let handshake = json!({
        "upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE", "max_early_data_bytes": 0,
    });
    vec![
        ("on data", "echoes", Client::Ends, on_data(json!({}))),
        (
            "on data, refused",
            "dead",
            Client::Talks,
            on_data(json!({})),
        ),
        ("on data, idle", "greets", Client::Silent, idle),
        ("on data, too old", "greets", Client::Silent, old),
        (
            "on data, logged thrice",
            "echoes",
            Client::Ends,
            on_data(logs()),
        ),
        (
            "on a handshake, without one",
            "greets",
            Client::Ends,
            handshake,
        ),
    ]
}

fn listener(port: u16, (name, cluster, _, more): &Case, file: &Path) -> Value {
    let log = |of: &str| {
        let mut fields = json!({"case": name, "of": of});
        for command in COMMANDS {
            fields[command] = format!("%{command}%").into();
        }
        let log = json!({"path": file, "log_format": {"json_format": fields}});
        let log = typed("extensions.access_loggers.file.v3.FileAccessLog", log);
        json!([{"name": "file", "typed_config": log}])
    };
    let mut proxy = more.clone();
    proxy["stat_prefix"] = "tcp".into();
    proxy["cluster"] = (*cluster).into();
    proxy["access_log"] = log("stream");
    let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
    json!({
        "name": name,
        "access_log": log("listener"),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    })
}

/// A port where connections are never accepted, because its queue is full.
async fn slow() -> (u16, TcpListener, Vec<JoinHandle<()>>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(any).expect("a free port");
    let listener = socket.listen(0).expect("it is bound");
    let address = listener.local_addr().expect("it is bound");
    let fillers = (0..4).map(|_| {
        tokio::spawn(async move {
            let _held = TcpStream::connect(address).await;
            std::future::pending::<()>().await;
        })
    });
    (address.port(), listener, fillers.collect())
}

/// The entries of `file`, once there are `count` of these cases.
async fn entries(file: &Path, count: usize) -> Vec<String> {
    let read = || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let entries = lines.map(|line| serde_json::from_str(line).expect("an object"));
        let entries = entries.map(|entry: Value| entry.to_string());
        entries.collect::<Vec<_>>()
    };
    let complete = until(|| async {
        let found = read().len();
        (found >= count)
            .then_some(())
            .ok_or_else(|| format!("{found} of {count} entries"))
    });
    complete.await.expect("all entries are written");
    let mut entries = read();
    entries.sort();
    entries
}

struct World {
    clusters: Vec<Value>,
    tasks: Vec<JoinHandle<()>>,
    _listeners: Vec<TcpListener>,
    folder: TempDir,
}

impl World {
    async fn start() -> Self {
        let mut clusters = Vec::new();
        let mut tasks = Vec::new();
        let mut silent = 0;
        for (name, origin) in ORIGINS {
            let (address, task) = origin.start().await;
            clusters.push(cluster(name, address.port()));
            tasks.push(task);
            if name == "silent" {
                silent = address.port();
            }
        }
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let dead = closed.local_addr().expect("it is bound").port();
        drop(closed);
        let (slow, held, fillers) = slow().await;
        tasks.extend(fillers);
        clusters.push(cluster("dead", dead));
        clusters.push(cluster("slow", slow));
        clusters.push(json!({"name": "empty", "load_assignment": {"cluster_name": "empty"}}));
        let mut tls = cluster("tls-silent", silent);
        let name = "extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        tls["transport_socket"] = json!({"name": "tls", "typed_config": typed(name, json!({}))});
        clusters.push(tls);
        for cluster in &mut clusters {
            cluster["connect_timeout"] = "0.3s".into();
        }
        Self {
            clusters,
            tasks,
            _listeners: vec![held],
            folder: tempfile::tempdir().expect("a directory"),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_and_are_logged_alike() {
    if !envoy_is_there() {
        return;
    }
    let world = World::start().await;
    let file = world.folder.path().join("access.log");
    let cases = [immediate(), delayed()].concat();
    let ports = free_ports(cases.len() + 1);
    let mut listeners: Vec<Value> = cases
        .iter()
        .zip(&ports)
        .map(|(case, port)| listener(port.number(), case, &file))
        .collect();
    // Whether it is open is found out by a connection, so at one that is not logged.
    let (ready, _) = ports.split_last().expect("there are some");
    let mut last = listener(
        ready.number(),
        &("ready", "silent", Client::Ends, json!({})),
        &file,
    );
    last["filter_chains"][0]["filters"][0]["typed_config"]["access_log"] = json!([]);
    last["access_log"] = json!([]);
    listeners.push(last);
    let look = || async {
        let mut told = Vec::new();
        for ((name, _, client, _), port) in cases.iter().zip(&ports) {
            let seen = Box::pin(client.run(port.number())).await;
            told.push(format!("{name}: {seen}"));
        }
        let thrice = cases
            .iter()
            .filter(|case| case.0.contains("thrice"))
            .count();
        told.extend(entries(&file, 2 * cases.len() + 2 * thrice).await);
        std::fs::remove_file(&file).expect("it is there"); // the next proxy makes its own
        told
    };
    let bootstrap = bootstrap(&listeners, &world.clusters);
    let open = std::slice::from_ref(ready);
    let (envoy, weir) = Box::pin(of_both(&bootstrap, open, look)).await;
    let alone = |of: &[String], other: &[String]| -> Vec<String> {
        of.iter()
            .filter(|told| !other.contains(told))
            .cloned()
            .collect()
    };
    let different = (alone(&envoy, &weir), alone(&weir, &envoy));
    assert!(
        different == (vec![], vec![]),
        "of Envoy and of Weir alone: {different:#?}"
    );
    assert_eq!(envoy.len(), weir.len(), "{envoy:#?}\n{weir:#?}");
    for flags in ["UF,URX", "UH", "NC", "DT", "UR", "-"] {
        let flags = format!("\"RESPONSE_FLAGS\":\"{flags}\"");
        assert!(weir.iter().any(|told| told.contains(&flags)), "{flags}");
    }
}
