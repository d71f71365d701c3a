//! The proxy between its clients and origins.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bench::certificates::Certificates;
use bench::certificates::SERVER_NAME;
use bench::ports::ReservedPort;
use bench::process::Process;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::PATIENCE;
use crate::http1::Http1;
use crate::ledger;
use crate::ledger::Ledger;
use crate::origin::Origin;
use crate::origin::Speech;
use crate::script::Ask;
use crate::settled;
use crate::settled::Stats;
use crate::shim::Shim;
use crate::soon;

/// Of every limit of every cluster; never reached.
const LIMIT: u64 = 100;

/// Clusters of HTTP, each with a pool of its own.
const WAYS: [&str; 4] = ["h1", "h2", "h1s", "h2s"];

/// Clusters of streams, which succeed or fail in no other way than connections do.
pub(crate) const STREAMS: [&str; 3] = ["echo", "resets", "told"];

/// Looks at the sockets of a process that has nothing to do: they take a tenth of a second at least, and longer the
/// busier the machine is.
const REST_LOOKS: usize = 100;

/// Where clients connect.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Door {
    Http,
    /// The same behind the PROXY protocol.
    Announced,
    Https,
    Tcp,
    /// TCP to an origin that resets.
    TcpReset,
    /// TCP over TLS.
    TcpTls,
    /// TCP, announced to the origin.
    TcpTold,
}

const DOORS: usize = 7;

/// Everything that runs.
pub(crate) struct World {
    pub(crate) shim: Shim,
    process: Process,
    ports: Vec<ReservedPort>,
    admin: ReservedPort,
    origins: Vec<Origin>,
    connector: TlsConnector,
    log: PathBuf,
    /// Sockets of the process when there are no connections.
    at_rest: u64,
    ids: Cell<u32>,
    ledger: Ledger,
    _directory: TempDir,
}

impl World {
    /// None where nothing can be broken.
    pub(crate) async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let shim = Shim::build(directory.path())?;
        let certificates = Certificates::new().expect("a key");
        certificates
            .write_to(directory.path())
            .expect("a directory");
        let origins = vec![
            Origin::start(Speech::Http).await,
            Origin::start(Speech::Https(acceptor(directory.path()))).await,
            Origin::start(Speech::Echo).await,
            Origin::start(Speech::Resets).await,
        ];
        let ports: Vec<_> = (0..DOORS)
            .map(|_| ReservedPort::new().expect("a free port"))
            .collect();
        let admin = ReservedPort::new().expect("a free port");
        let log = directory.path().join("log");
        let text = bootstrap(&ports, &admin, &origins, directory.path());
        let file = directory.path().join("bootstrap.json");
        std::fs::write(&file, text).expect("a writable directory");
        let program = std::env::var_os("WEIR_BIN");
        let mut command =
            Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_weir").into()));
        command
            .arg("proxy")
            .arg("-c")
            .arg(&file)
            .args(["--workers", "1"]);
        shim.load(&mut command);
        let mut process = Process::start("weir", command, None).expect("it was built");
        for port in &ports {
            let listening = process.wait_for_port(port.addr(), PATIENCE).await;
            listening.expect("it starts");
        }
        let connector = connector(directory.path());
        let mut world = Self {
            shim,
            process,
            ports,
            admin,
            origins,
            connector,
            log,
            at_rest: 0,
            ids: Cell::new(0),
            ledger: Ledger::default(),
            _directory: directory,
        };
        world.at_rest = world.rest().await;
        Some(world)
    }

    /// Sockets once the connections that looked whether it listens are gone: the fewest of many looks,
    /// because the one that asked for the numbers may be there a little longer than its answer.
    async fn rest(&self) -> u64 {
        while Stats::read(self.admin.addr())
            .await
            .sum("listener.", "downstream_cx_active")
            != 0
        {
            tokio::time::sleep(settled::LOOK_AGAIN).await;
        }
        let mut fewest = u64::MAX;
        for _ in 0..REST_LOOKS {
            fewest = fewest.min(self.sockets());
            tokio::time::sleep(settled::LOOK_AGAIN).await;
        }
        fewest
    }

    pub(crate) fn door(&self, door: Door) -> SocketAddr {
        self.ports[door as usize].addr()
    }

    /// A number no other request has.
    pub(crate) fn id(&self) -> String {
        self.ids.set(self.ids.get() + 1);
        format!("r{}", self.ids.get())
    }

    /// A connection over TLS that speaks `alpn`.
    pub(crate) async fn secure(&self, door: Door, alpn: &[u8]) -> Option<TlsStream<TcpStream>> {
        let mut config = (**self.connector.config()).clone();
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.door(door)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let name = ServerName::try_from(SERVER_NAME).expect("a name");
        let connected = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
        connected.ok()
    }

    /// Waits until the origin behind `way` was asked for this.
    pub(crate) async fn asked(&self, way: &str, id: &str) {
        let place = usize::from(way.ends_with('s'));
        self.origins[place].asked(id).await;
    }

    /// Takes note of what was counted once nothing goes on, and asks for something plain over each
    /// connection that a pool keeps.
    pub(crate) async fn check(&mut self, name: &str, settled: &Stats) -> Result<(), String> {
        let running = self.process.check_running();
        running.map_err(|error| error.to_string())?;
        self.ledger.note(name, settled, self.ids.get());
        let mut asking = JoinSet::new();
        for way in WAYS {
            // One after the other they would all come over the same connection.
            let count = settled.kept(way).max(1);
            let what = format!("meet-{count}-{}", self.ids.get());
            for _ in 0..count {
                let ask = Ask::get(way, &what, self.id());
                asking.spawn(ask_plainly(self.door(Door::Http), ask));
            }
        }
        while let Some(asked) = asking.join_next().await {
            asked.map_err(|error| error.to_string())??;
        }
        Ok(())
    }

    /// Waits until nothing goes on.
    pub(crate) async fn settle(&self) -> Result<Stats, String> {
        let sockets = || self.sockets().saturating_sub(self.at_rest);
        let opened = || {
            let open: usize = self.origins.iter().map(Origin::open).sum();
            let busy: usize = self.origins.iter().map(Origin::busy).sum();
            (open as u64, busy as u64)
        };
        settled::settle(self.admin.addr(), LIMIT, sockets, opened).await
    }

    fn sockets(&self) -> u64 {
        let folder = format!("/proc/{}/fd", self.process.pid());
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let sockets = targets.filter(|target| target.to_string_lossy().starts_with("socket:"));
        sockets.count() as u64
    }

    /// Each request is in the log once, and the log says what was counted. Returns how many there are.
    pub(crate) async fn check_log(&mut self) -> Result<usize, String> {
        let settled = self.settle().await?;
        self.ledger.note("the end", &settled, self.ids.get());
        let Self { process, log, .. } = self;
        let output = process.whole_output();
        if output.contains("panicked") {
            return Err(output);
        }
        let signal = process.signal(rustix::process::Signal::TERM); // it writes all of it before it ends
        signal.map_err(|error| error.to_string())?;
        while process.check_running().is_ok() {
            tokio::task::yield_now().await;
        }
        let text = std::fs::read_to_string(log).map_err(|error| error.to_string())?;
        self.ledger.compare(&text)
    }
}

async fn ask_plainly(door: SocketAddr, ask: Ask) -> Result<(), String> {
    let mut client = Http1::open(door).await.ok_or("it takes nobody")?;
    client.ask(ask, "connection: close\r\n").await;
    let ended = soon(client.end(true)).await;
    let ended = ended.unwrap_or_else(|| Err("it hangs".to_owned()));
    ended.map_err(|error| format!("afterwards: {error}"))
}

fn acceptor(directory: &Path) -> TlsAcceptor {
    let (chain, key) = (directory.join("server.pem"), directory.join("server.key"));
    let chain = CertificateDer::pem_file_iter(chain).expect("a file");
    let chain = chain.map(|certificate| certificate.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let builder = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("versions");
    let config = builder
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key);
    let mut config = config.expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn connector(directory: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(directory.join("ca.pem")).expect("a file");
    roots.add(authority).expect("a root");
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("versions");
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn typed(name: &str, more: Value) -> Value {
    let mut typed = more;
    typed["@type"] = format!("type.googleapis.com/envoy.extensions.{name}").into();
    typed
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn bootstrap(
    ports: &[ReservedPort],
    admin: &ReservedPort,
    origins: &[Origin],
    files: &Path,
) -> String {
    let listeners = listeners(ports, files);
    let at = |place: usize| origins[place].address.port();
    let clusters = json!([
        cluster("h1", at(0), &json!({"http_protocol_options": {}}), None),
        cluster("h2", at(0), &json!({"http2_protocol_options": {}}), None),
        cluster(
            "h1s",
            at(1),
            &json!({"http_protocol_options": {}}),
            Some(upstream_tls(files))
        ),
        cluster(
            "h2s",
            at(1),
            &json!({"http2_protocol_options": {}}),
            Some(upstream_tls(files))
        ),
        cluster("echo", at(2), &json!({"http_protocol_options": {}}), None),
        cluster("resets", at(3), &json!({"http_protocol_options": {}}), None),
        cluster(
            "told",
            at(2),
            &json!({"http_protocol_options": {}}),
            Some(announced())
        ),
    ]);
    json!({
        "admin": {"address": address(admin.number())},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
    .to_string()
}

fn listeners(ports: &[ReservedPort], files: &Path) -> Vec<Value> {
    let log = file_log(&files.join("log"));
    let context = json!({"common_tls_context": {"tls_certificates": [{
        "certificate_chain": {"filename": files.join("server.pem")},
        "private_key": {"filename": files.join("server.key")},
    }], "alpn_protocols": ["h2", "http/1.1"]}});
    let context = typed("transport_sockets.tls.v3.DownstreamTlsContext", context);
    let tls = json!({"name": "tls", "typed_config": context});
    let header = typed(
        "filters.listener.proxy_protocol.v3.ProxyProtocol",
        json!({}),
    );
    let doors = [
        (manager(&log), None, false),
        (manager(&log), None, true),
        (manager(&log), Some(&tls), false),
        (stream("echo", &log), None, false),
        (stream("resets", &log), None, false),
        (stream("echo", &log), Some(&tls), false),
        (stream("told", &log), None, false),
    ];
    let doors = doors.into_iter().zip(ports);
    let listener =
        |((filter, tls, is_announced), port): ((Value, Option<&Value>, bool), &ReservedPort)| {
            let mut chain = json!({"filters": [{"name": "filter", "typed_config": filter}]});
            if let Some(tls) = tls {
                chain["transport_socket"] = tls.clone();
            }
            let mut listener = json!({
                "name": port.number().to_string(),
                "address": address(port.number()),
                "filter_chains": [chain],
            });
            if is_announced {
                listener["listener_filters"] = json!([{"name": "p", "typed_config": header}]);
            }
            listener
        };
    doors.map(listener).collect()
}

fn file_log(file: &Path) -> Value {
    let format = ledger::FORMAT;
    let log = json!({
        "path": file,
        "log_format": {"text_format_source": {"inline_string": format}},
    });
    let log = typed("access_loggers.file.v3.FileAccessLog", log);
    json!([{"name": "file", "typed_config": log}])
}

fn manager(log: &Value) -> Value {
    let again = json!({
        "retry_on": "5xx,reset,connect-failure,refused-stream,unavailable",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.001s"},
    });
    let mut routes = Vec::new();
    for way in WAYS {
        let route = |prefix: String, policy: Option<&Value>| {
            let mut route = json!({
                "match": {"prefix": prefix},
                "route": {"cluster": way, "timeout": "60s"},
            });
            if let Some(policy) = policy {
                route["route"]["retry_policy"] = policy.clone();
            }
            route
        };
        routes.push(route(format!("/{way}/once"), Some(&again)));
        routes.push(route(format!("/{way}/"), None));
    }
    let router = typed("filters.http.router.v3.Router", json!({}));
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": routes}]);
    let name = "filters.network.http_connection_manager.v3.HttpConnectionManager";
    let manager = json!({
        "stat_prefix": "http",
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {"virtual_hosts": hosts},
        "access_log": log,
        "upgrade_configs": [{"upgrade_type": "tunnel"}],
        "http2_protocol_options": {"allow_connect": true},
    });
    typed(name, manager)
}

fn stream(cluster: &str, log: &Value) -> Value {
    let proxy = json!({"stat_prefix": cluster, "cluster": cluster, "access_log": log});
    typed("filters.network.tcp_proxy.v3.TcpProxy", proxy)
}

fn cluster(name: &str, port: u16, protocol: &Value, transport: Option<Value>) -> Value {
    let options = json!({"explicit_http_config": protocol});
    let options = typed("upstreams.http.v3.HttpProtocolOptions", options);
    let thresholds = json!({
        "max_connections": LIMIT, "max_pending_requests": LIMIT, "max_requests": LIMIT,
        "max_retries": LIMIT, "track_remaining": true,
    });
    let mut cluster = json!({
        "name": name,
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [thresholds]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
    });
    if let Some(transport) = transport {
        cluster["transport_socket"] = transport;
    }
    cluster
}

fn upstream_tls(files: &Path) -> Value {
    let trusted = json!({"trusted_ca": {"filename": files.join("ca.pem")}});
    let context =
        json!({"sni": SERVER_NAME, "common_tls_context": {"validation_context": trusted}});
    let context = typed("transport_sockets.tls.v3.UpstreamTlsContext", context);
    json!({"name": "tls", "typed_config": context})
}

fn announced() -> Value {
    let raw = typed("transport_sockets.raw_buffer.v3.RawBuffer", json!({}));
    let transport = json!({"config": {"version": "V1"},
        "transport_socket": {"name": "raw", "typed_config": raw}});
    let name = "transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    json!({"name": "p", "typed_config": typed(name, transport)})
}
