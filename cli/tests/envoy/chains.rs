//! Which filter chain takes a connection: Envoy and Weir choose alike, for generated sets of chains
//! and generated connections.
//!
//! Each chain leads to a server of its own that says its number. Addresses and ports are chosen by a
//! PROXY protocol header, what is inspected by the first bytes behind it.

use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bench::peer::Envoy;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::seed;
use crate::setting::until;

/// Sets of chains; half of them are chosen from by a tree.
const SETS: usize = 50;

/// Connections to each set.
const CONNECTIONS: usize = 20;

/// Most chains of a set; the default chain comes after them.
const CHAINS_MAX: usize = 6;

/// Examples shown of differences.
const EXAMPLES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_and_weir_choose_the_same_chain() {
    if !envoy_is_there() {
        return;
    }
    let seed = seed(11);
    let mut rng = fastrand::Rng::with_seed(seed);
    let markers = Markers::start().await;
    let ports: Vec<ReservedPort> = (0..SETS)
        .map(|_| ReservedPort::new().expect("a free port"))
        .collect();
    let listeners: Vec<Value> = ports
        .iter()
        .enumerate()
        .map(|(place, port)| listener(&mut rng, place, port.number(), &markers))
        .collect();
    let bootstrap = bootstrap(&listeners, &markers);
    let connections: Vec<(SocketAddr, Connection)> = ports
        .iter()
        .flat_map(|port| std::iter::repeat_n(port.addr(), CONNECTIONS))
        .map(|address| (address, Connection::random(&mut rng)))
        .collect();

    let envoy = Envoy::start(&bootstrap)
        .await
        .expect("Envoy takes the bootstrap");
    open(&ports).await;
    let wanted = choices(&connections).await;
    drop(envoy);
    let weir = Weir::start(&bootstrap).await;
    open(&ports).await;
    let found = choices(&connections).await;
    weir.stop().await;

    for marker in 0..=CHAINS_MAX {
        let marker = marker.to_string();
        assert!(
            wanted.contains(&marker),
            "seed {seed}: nobody reached {marker}"
        );
    }
    let differences: Vec<String> = connections
        .iter()
        .zip(wanted.iter().zip(&found))
        .filter(|(_, (wanted, found))| wanted != found)
        .map(|((address, connection), (wanted, found))| {
            let place = ports.iter().position(|port| port.addr() == *address);
            let listener = place.and_then(|place| listeners.get(place));
            format!("{connection:?}: Envoy {wanted}, Weir {found}: {listener:#?}")
        })
        .collect();
    assert!(
        differences.is_empty(),
        "seed {seed}: {} of {} differ:\n{}",
        differences.len(),
        connections.len(),
        differences
            .iter()
            .take(EXAMPLES)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n"),
    );
}

/// Sets that are refused.
const REFUSED: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_sets_are_refused_by_both() {
    if !envoy_is_there() {
        return;
    }
    let seed = seed(12);
    let mut rng = fastrand::Rng::with_seed(seed);
    let markers = Markers::start().await;
    let port = ReservedPort::new().expect("a free port");
    let mut refused = 0;
    while refused < REFUSED {
        let mut listener = listener(&mut rng, 0, port.number(), &markers);
        let chains = (0..3).map(|number| chain(number, Some(conditions(&mut rng))));
        listener["filter_chains"] = chains.collect();
        let bootstrap = bootstrap(std::slice::from_ref(&listener), &markers);
        if proxy::bootstrap::load("set.yaml".as_ref(), &bootstrap).is_err() {
            refused += 1;
            let taken = Envoy::start(&bootstrap).await.is_ok();
            assert!(!taken, "seed {seed}: Envoy takes {listener:#?}");
        }
    }
}

/// Both proxies are ready a moment before their listeners are open.
async fn open(ports: &[ReservedPort]) {
    for port in ports {
        let open = until(|| async {
            let connected = TcpStream::connect(port.addr()).await;
            connected.map(drop).map_err(|error| error.to_string())
        });
        open.await.expect("the listener opens");
    }
}

/// Servers that say their number and take whatever they are sent.
struct Markers {
    ports: Vec<u16>,
    tasks: Vec<JoinHandle<()>>,
}

impl Markers {
    async fn start() -> Self {
        let mut markers = Self {
            ports: Vec::new(),
            tasks: Vec::new(),
        };
        for number in 0..=CHAINS_MAX {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            markers
                .ports
                .push(listener.local_addr().expect("it is bound").port());
            markers.tasks.push(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(mark(stream, number));
                }
            }));
        }
        markers
    }
}

impl Drop for Markers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Errors are the client's affair: it sees no number.
async fn mark(mut stream: TcpStream, number: usize) {
    let _ = stream.write_all(number.to_string().as_bytes()).await;
    let _ = stream.shutdown().await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

fn bootstrap(listeners: &[Value], markers: &Markers) -> String {
    let clusters: Vec<Value> = markers
        .ports
        .iter()
        .enumerate()
        .map(|(number, port)| {
            let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
            json!({
                "name": number.to_string(),
                "load_assignment": {
                    "cluster_name": number.to_string(),
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                },
            })
        })
        .collect();
    // The outermost level in block style, so that an admin section can be put beside it.
    format!(
        "static_resources: {}\n",
        json!({"listeners": listeners, "clusters": clusters})
    )
}

fn typed(name: &str, more: Value) -> Value {
    let mut typed = more;
    typed["@type"] = format!("type.googleapis.com/{name}").into();
    typed
}

fn chain(number: usize, conditions: Option<Value>) -> Value {
    let proxy = json!({"stat_prefix": "t", "cluster": number.to_string()});
    let proxy = typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        proxy,
    );
    let mut chain = json!({
        "name": number.to_string(),
        "filters": [{"name": "tcp", "typed_config": proxy}],
    });
    if let Some(conditions) = conditions {
        chain["filter_chain_match"] = conditions;
    }
    chain
}

fn listener(rng: &mut fastrand::Rng, place: usize, port: u16, markers: &Markers) -> Value {
    let filters: Vec<Value> = [
        "proxy_protocol.v3.ProxyProtocol",
        "tls_inspector.v3.TlsInspector",
        "http_inspector.v3.HttpInspector",
    ]
    .map(|name| {
        let name = format!("envoy.extensions.filters.listener.{name}");
        json!({"name": name, "typed_config": typed(&name, json!({}))})
    })
    .into();
    let mut listener = json!({
        "name": place.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "listener_filters": filters,
    });
    if rng.bool() {
        listener["default_filter_chain"] = chain(CHAINS_MAX, None);
    }
    if place.is_multiple_of(2) {
        // What we refuse Envoy refuses too: `overlapping_sets_are_refused_by_both`.
        loop {
            let count = rng.usize(2..=CHAINS_MAX);
            let chains = (0..count).map(|number| chain(number, Some(conditions(rng))));
            listener["filter_chains"] = chains.collect();
            let whole = bootstrap(std::slice::from_ref(&listener), markers);
            if proxy::bootstrap::load("set.yaml".as_ref(), &whole).is_ok() {
                break;
            }
        }
    } else {
        listener["filter_chains"] = (0..CHAINS_MAX).map(|number| chain(number, None)).collect();
        listener["filter_chain_matcher"] = tree(rng, 3);
    }
    listener
}

const NAMES: [&str; 6] = ["a.com", "www.a.com", "x.www.a.com", "b.org", "com", ""];
const PATTERNS: [&str; 6] = [
    "a.com",
    "www.a.com",
    "*.a.com",
    "*.com",
    "b.org",
    "*.www.a.com",
];
const PROTOCOLS: [&str; 4] = ["h2", "http/1.1", "http/1.0", "h2c"];
const V4: [&str; 5] = [
    "10.1.1.1",
    "10.1.2.3",
    "10.9.9.9",
    "192.168.0.1",
    "127.0.0.1",
];
const V6: [&str; 3] = ["2001:db8::1", "2001:db8:1::1", "::1"];
const RANGES: [(&str, u8); 8] = [
    ("10.0.0.0", 8),
    ("10.1.0.0", 16),
    ("10.1.1.1", 32),
    ("192.168.0.0", 17),
    ("127.0.0.0", 8),
    ("2001:db8::", 32),
    ("2001:db8:1::", 48),
    ("::1", 128),
];
const PORTS: [u16; 4] = [80, 443, 1000, 2000];

/// One of several, so that indexing is not needed.
fn one<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> T {
    *rng.choice(of).expect("it is not empty")
}

fn ranges(rng: &mut fastrand::Rng) -> Value {
    let count = rng.usize(1..=2);
    (0..count)
        .map(|_| {
            let (address, length) = one(rng, &RANGES);
            json!({"address_prefix": address, "prefix_len": length})
        })
        .collect()
}

fn some<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> Vec<T> {
    let count = rng.usize(1..=2);
    rng.choose_multiple(of.iter().copied(), count)
}

/// Few of the conditions, so that they often hold.
fn conditions(rng: &mut fastrand::Rng) -> Value {
    let mut conditions = json!({});
    for _ in 0..rng.usize(0..=3) {
        match rng.u8(..10) {
            0 => conditions["destination_port"] = one(rng, &PORTS).into(),
            1 => conditions["prefix_ranges"] = ranges(rng),
            2 | 3 => conditions["server_names"] = some(rng, &PATTERNS).into(),
            4 => conditions["transport_protocol"] = one(rng, &["tls", "raw_buffer"]).into(),
            5 => conditions["application_protocols"] = some(rng, &PROTOCOLS).into(),
            6 => {
                let address = one(rng, &["127.0.0.2", "127.0.0.1"]);
                conditions["direct_source_prefix_ranges"] =
                    json!([{"address_prefix": address, "prefix_len": 32}]);
            }
            7 => {
                let kind = one(rng, &["SAME_IP_OR_LOOPBACK", "EXTERNAL"]);
                conditions["source_type"] = kind.into();
            }
            8 => conditions["source_prefix_ranges"] = ranges(rng),
            _ => conditions["source_ports"] = some(rng, &PORTS).into(),
        }
    }
    conditions
}

fn input(name: &str) -> Value {
    let name = format!("envoy.extensions.matching.common_inputs.network.v3.{name}Input");
    json!({"name": "input", "typed_config": typed(&name, json!({}))})
}

/// A tree of at most this depth.
fn tree(rng: &mut fastrand::Rng, depth: usize) -> Value {
    let entries = |rng: &mut fastrand::Rng, keys: &[&str]| -> Value {
        let mut map = json!({});
        for key in rng.choose_multiple(keys.iter().copied(), 3) {
            map[key] = decision(rng, depth - 1);
        }
        json!({"map": map})
    };
    let exact = "exact_match_map";
    let (asked, kind, found) = match rng.u8(..10) {
        0 | 1 => ("ServerName", exact, entries(rng, &NAMES[..5])),
        2 => (
            "DestinationPort",
            exact,
            entries(rng, &["80", "443", "1000", "2000"]),
        ),
        3 => (
            "SourcePort",
            exact,
            entries(rng, &["80", "443", "1000", "2000"]),
        ),
        4 => (
            "TransportProtocol",
            exact,
            entries(rng, &["tls", "raw_buffer"]),
        ),
        5 => ("SourceType", exact, entries(rng, &["local"])),
        6 => {
            let keys = [
                "'h2'",
                "'h2','http/1.1'",
                "'http/1.1'",
                "'http/1.0'",
                "'h2c'",
            ];
            ("ApplicationProtocol", exact, entries(rng, &keys))
        }
        7 => {
            let keys = ["", "a", "a.", "www", "x.www.a", "b"];
            ("ServerName", "prefix_match_map", entries(rng, &keys[1..]))
        }
        8 => ("ServerName", "custom_match", name_matcher(rng, depth)),
        _ => {
            let asked = one(rng, &["DestinationIP", "SourceIP", "DirectSourceIP"]);
            (asked, "custom_match", range_matcher(rng, depth))
        }
    };
    let mut tree = json!({"matcher_tree": {"input": input(asked)}});
    tree["matcher_tree"][kind] = found;
    if rng.bool() {
        tree["on_no_match"] = decision(rng, depth - 1);
    }
    tree
}

fn name_matcher(rng: &mut fastrand::Rng, depth: usize) -> Value {
    let patterns = ["a.com", "*.a.com", "*.com", "*", "b.org"];
    let matchers: Vec<Value> = rng
        .choose_multiple(patterns, 3)
        .into_iter()
        .map(|pattern| json!({"domains": [pattern], "on_match": decision(rng, depth - 1)}))
        .collect();
    let matcher = json!({"domain_matchers": matchers});
    let matcher = typed("xds.type.matcher.v3.ServerNameMatcher", matcher);
    json!({"name": "names", "typed_config": matcher})
}

fn range_matcher(rng: &mut fastrand::Rng, depth: usize) -> Value {
    let matchers: Vec<Value> = (0..3)
        .map(|_| {
            let exclusive = rng.u8(..4) == 0;
            json!({"ranges": ranges(rng), "on_match": decision(rng, depth - 1), "exclusive": exclusive})
        })
        .collect();
    let matcher = typed(
        "xds.type.matcher.v3.IPMatcher",
        json!({"range_matchers": matchers}),
    );
    json!({"name": "ranges", "typed_config": matcher})
}

fn decision(rng: &mut fastrand::Rng, depth: usize) -> Value {
    if depth > 0 && rng.bool() {
        return json!({"matcher": tree(rng, depth)});
    }
    let name = rng.usize(..CHAINS_MAX).to_string();
    let name = typed("google.protobuf.StringValue", json!({"value": name}));
    // No keep_matching: Envoy 1.40 dies of it.
    json!({"action": {"name": "chain", "typed_config": name}})
}

/// A client.
#[derive(Debug)]
struct Connection {
    /// The real source address.
    bound: Ipv4Addr,
    /// The PROXY protocol header.
    header: String,
    speaks: Speaks,
}

#[derive(Debug)]
enum Speaks {
    Tls(&'static str, Vec<&'static str>),
    Plain(&'static [u8]),
}

impl Connection {
    fn random(rng: &mut fastrand::Rng) -> Self {
        let (family, addresses): (_, &[&str]) = if rng.u8(..4) == 0 {
            ("TCP6", &V6)
        } else {
            ("TCP4", &V4)
        };
        let header = format!(
            "PROXY {family} {} {} {} {}\r\n",
            one(rng, addresses),
            one(rng, addresses),
            one(rng, &PORTS),
            one(rng, &PORTS),
        );
        let speaks = if rng.u8(..3) > 0 {
            let count = rng.usize(0..=2);
            let protocols = rng.choose_multiple(PROTOCOLS[..2].iter().copied(), count);
            Speaks::Tls(one(rng, &NAMES), protocols)
        } else {
            Speaks::Plain(one(
                rng,
                &[
                    b"GET / HTTP/1.1\r\n\r\n" as &[u8],
                    b"GET / HTTP/1.0\r\n\r\n",
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                    b"\x00\x01 something else\r\n",
                    b"GET /\r\n",
                    b"BREW / HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.2\r\n\r\n",
                    b"GET / FOO\r\n\r\n",
                    b"\r\nGET / HTTP/1.1\r\n\r\n",
                    b"GET  / HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1 \r\n\r\n",
                    b"get / HTTP/1.1\n\n",
                    b"PRI * HTTP/1.1\r\n\r\n",
                ],
            ))
        };
        Self {
            bound: Ipv4Addr::new(127, 0, 0, rng.u8(1..=2)),
            header,
            speaks,
        }
    }

    /// The number that came back.
    async fn choice(&self, target: SocketAddr) -> String {
        let mut stream = self.connect(target).await.expect("the listener is open");
        let mut bytes = self.header.clone().into_bytes();
        match &self.speaks {
            Speaks::Tls(name, protocols) => bytes.extend(client_hello(name, protocols)),
            Speaks::Plain(plain) => bytes.extend_from_slice(plain),
        }
        // A listener that takes nobody may be gone before it has read all this.
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        if answer.is_empty() {
            return "closed".to_owned();
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn connect(&self, target: SocketAddr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.bound, 0).into())?;
        socket.connect(target).await
    }
}

async fn choices(connections: &[(SocketAddr, Connection)]) -> Vec<String> {
    let mut choices = Vec::new();
    for (target, connection) in connections {
        choices.push(connection.choice(*target).await);
    }
    choices
}

/// A ClientHello with SNI and ALPN (RFC 8446 section 4.1.2).
fn client_hello(name: &str, protocols: &[&str]) -> Vec<u8> {
    let mut extensions = Vec::new();
    if !name.is_empty() {
        let entry = [&[0][..], &vector(name.as_bytes())].concat();
        extensions.extend(extension(0, &vector(&entry)));
    }
    if !protocols.is_empty() {
        let list: Vec<u8> = protocols
            .iter()
            .flat_map(|protocol| {
                let length = u8::try_from(protocol.len()).expect("it is short");
                [&[length][..], protocol.as_bytes()].concat()
            })
            .collect();
        extensions.extend(extension(16, &vector(&list)));
    }
    extensions.extend(extension(43, &[2, 3, 4])); // TLS 1.3
    extensions.extend(extension(10, &[0, 2, 0, 29])); // X25519
    extensions.extend(extension(13, &[0, 2, 8, 4])); // rsa_pss_rsae_sha256
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(vector(&extensions));
    let length = u32::try_from(body.len())
        .expect("it is short")
        .to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("it is short");
    [&length.to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(value)].concat()
}
