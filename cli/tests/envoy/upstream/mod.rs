//! How servers are met: with which transport, by which name, in which session. A real nginx tells what
//! it saw, and Envoy meets it in the same way.
//!
//! | file | holds |
//! |---|---|
//! | `matched` | endpoints whose metadata chooses TLS or clear text |
//! | `named` | the name that is sent, and the name the certificate must be for |
//! | `plain` | servers that speak before the handshake (security case T7) |
//! | `resumed` | sessions that are taken up again |

mod matched;
mod named;
mod plain;
mod resumed;

use std::path::Path;
use std::path::PathBuf;

use bench::peer::Nginx;
use bench::peer::StartOptions;
use bench::ports::ReservedPort;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::identity::typed;
use crate::setting::PATIENCE;

/// What nginx answers on its port with TLS: the name it was asked for, whether a session was taken up
/// again (`r`), and the host of the request.
const SEEN: &str = "tls $ssl_server_name $ssl_session_reused $host";

/// What it answers on its port without.
const CLEAR: &str = "clear";

/// A request by hand.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

/// A running nginx with a certificate for `a.test`, which closes after every answer.
pub(crate) struct Server {
    pub(crate) tls: ReservedPort,
    pub(crate) clear: ReservedPort,
    folder: TempDir,
    _nginx: Nginx,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("it is sound");
        for (name, text) in [("a.pem", certificate.pem()), ("a.key", key.serialize_pem())] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let [tls, clear] = [(); 2].map(|()| ReservedPort::new().expect("a free port"));
        let config = nginx(folder.path(), tls.number(), clear.number());
        let options = StartOptions::default();
        let nginx = Nginx::start(&config, clear.addr(), &options).await;
        Self {
            tls,
            clear,
            folder,
            _nginx: nginx.expect("nginx takes the configuration"),
        }
    }

    /// Its certificate, which is its own issuer.
    fn certificate(&self) -> PathBuf {
        self.folder.path().join("a.pem")
    }

    /// A transport socket that trusts it, with `more` in its context and `validation` beside the
    /// root.
    pub(crate) fn transport(&self, more: &Value, validation: &Value) -> Value {
        let mut context = more.clone();
        context["common_tls_context"]["validation_context"] = validation.clone();
        context["common_tls_context"]["validation_context"]["trusted_ca"] =
            json!({"filename": self.certificate()});
        let name = "extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        json!({"name": "tls", "typed_config": typed(name, context)})
    }
}

fn nginx(folder: &Path, tls: u16, clear: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit; user root;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n access_log off; keepalive_timeout 0; client_body_temp_path a; proxy_temp_path b;\n \
         fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;\n \
         ssl_certificate {folder}/a.pem; ssl_certificate_key {folder}/a.key;\n \
         ssl_protocols TLSv1.2 TLSv1.3;\n \
         server {{ listen 127.0.0.1:{tls} ssl; location / {{ return 200 \"{SEEN}\"; }}\n \
         location /alpn {{ return 200 \"<$ssl_alpn_protocol>\"; }} }}\n \
         server {{ listen 127.0.0.1:{clear}; location / {{ return 200 \"{CLEAR}\"; }} }}\n}}\n"
    )
}

/// A cluster with one member on this port, which has this host name and metadata.
fn cluster(name: &str, port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let endpoint = json!({"address": address, "hostname": "a.test"});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": endpoint}]}]);
    json!({"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}})
}

/// A listener that sends each cluster what is for the path of its name.
fn listener(port: u16, clusters: &[Value]) -> Value {
    let routes: Value = clusters
        .iter()
        .map(|cluster| {
            let name = cluster["name"].as_str().expect("it has a name");
            json!({"match": {"prefix": format!("/{name}/")}, "route": {"cluster": name}})
        })
        .collect();
    let filter = crate::identity::manager(&routes, &json!({}));
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": filter}]}],
    })
}

/// A listener that passes every stream on to this cluster.
fn stream(port: u16, cluster: &str) -> Value {
    let proxy = json!({"stat_prefix": "tcp", "cluster": cluster});
    let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    })
}

/// Status and body of the answer, where there is one; of a local reply only the status, for its words
/// are each proxy's own.
async fn ask(port: &ReservedPort, path: &str, host: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let text = say(port, request.as_bytes()).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).unwrap_or("closed");
    let body = if status == "200" { body } else { "" };
    format!("{status} {body}").trim_end().to_owned()
}

/// All that comes back after `bytes`.
async fn say(port: &ReservedPort, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
    let _ = stream.write_all(bytes).await; // who closed already has answered
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(PATIENCE, read).await;
    let _ = read.expect("an end"); // a reset is an end, too
    String::from_utf8_lossy(&answer).into_owned()
}
