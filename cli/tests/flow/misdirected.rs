//! A request for another host than the one its TLS connection was made to is answered with 421, where the
//! other host has another filter chain or a certificate that was not shown (security case T3). curl
//! asks, in both versions of HTTP.

use std::path::Path;

use bench::ports::ReservedPort;
use rcgen::CertificateParams;
use rcgen::KeyPair;
use serde_json::Value;
use serde_json::json;

use crate::support::curl;
use crate::support::servers::Proxy;

/// Certificates by the name of their file, and the hosts each is for.
const CERTIFICATES: [(&str, &[&str]); 4] = [
    ("strict", &["strict.test"]),
    ("open", &["open.test", "listed.test"]),
    ("also", &["also.test"]),
    ("rest", &["rest.test"]),
];

/// The name in the ClientHello, the host of the request, and what it is answered.
const ROWS: [(Option<&str>, &str, u16); 16] = [
    (Some("open.test"), "open.test", 200),
    (Some("open.test"), "OPEN.test.", 200),
    (Some("open.test"), "open.test:8443", 200),
    (Some("open.test"), "listed.test", 200), // one certificate for both
    (Some("open.test"), "also.test", 421),   // the same chain, a certificate of its own
    (Some("also.test"), "also.test", 200),
    (Some("also.test"), "open.test", 421),
    (Some("open.test"), "strict.test", 421), // a chain that wants a client certificate
    (Some("open.test"), "rest.test", 421),   // the default chain
    (Some("open.test"), "127.0.0.1", 421),   // an address is no name: the default chain
    (Some("rest.test"), "strict.test", 421),
    (Some("rest.test"), "open.test", 421),
    (Some("rest.test"), "other.test", 200), // nobody's, so both are the default chain's
    (None, "127.0.0.1", 200),
    (None, "rest.test", 200),
    (None, "strict.test", 421),
];

fn bootstrap(port: u16, folder: &Path) -> String {
    let typed =
        |name: &str| json!({"@type": format!("type.googleapis.com/envoy.extensions.{name}")});
    let mut manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager");
    // The routes of all chains are the same, as if they shared one table.
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    let router = typed("filters.http.router.v3.Router");
    manager["stat_prefix"] = "h".into();
    manager["http_filters"] = json!([{"name": "router", "typed_config": router}]);
    manager["route_config"] =
        json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]});
    let chain = |hosts: &[&str], certificates: &[&str], requires: bool| -> Value {
        let certificates = certificates.iter().map(|name| {
            json!({
                "certificate_chain": {"filename": folder.join(format!("{name}.pem"))},
                "private_key": {"filename": folder.join(format!("{name}.key"))},
            })
        });
        let mut context = typed("transport_sockets.tls.v3.DownstreamTlsContext");
        context["common_tls_context"] = json!({
            "tls_certificates": certificates.collect::<Vec<_>>(),
            "alpn_protocols": ["h2", "http/1.1"],
        });
        if requires {
            context["require_client_certificate"] = true.into();
            context["common_tls_context"]["validation_context"] =
                json!({"trusted_ca": {"filename": folder.join("strict.pem")}});
        }
        let mut chain = json!({
            "filters": [{"name": "http", "typed_config": manager}],
            "transport_socket": {"name": "tls", "typed_config": context},
        });
        if !hosts.is_empty() {
            chain["filter_chain_match"] = json!({"server_names": hosts});
        }
        chain
    };
    let listener = json!({
        "name": "main",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            chain(&["strict.test"], &["strict"], true),
            chain(&["open.test", "listed.test", "also.test"], &["open", "also"], false),
        ],
        "default_filter_chain": chain(&[], &["rest"], false),
    });
    json!({"static_resources": {"listeners": [listener]}}).to_string()
}

fn write_certificates(folder: &Path) {
    for (name, hosts) in CERTIFICATES {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(hosts).expect("names");
        let certificate = params.self_signed(&key).expect("it is sound");
        for (end, text) in [("pem", certificate.pem()), ("key", key.serialize_pem())] {
            std::fs::write(folder.join(format!("{name}.{end}")), text).expect("a file");
        }
    }
}

/// The status curl got.
async fn ask(port: u16, version: &str, name: Option<&str>, host: &str) -> u16 {
    let host = format!("Host: {host}");
    let mut arguments = vec![
        "--silent",
        "--insecure",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        version,
        "--header",
        &host,
    ];
    let (to, url) = match name {
        Some(name) => (
            format!("{name}:443:127.0.0.1:{port}"),
            format!("https://{name}/"),
        ),
        None => (String::new(), format!("https://127.0.0.1:{port}/")),
    };
    if name.is_some() {
        arguments.extend(["--connect-to", &to]);
    }
    arguments.push(&url);
    curl::run(&arguments).await.parse().expect("a status")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t03_a_request_for_another_host_is_misdirected() {
    if !curl::is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    write_certificates(folder.path());
    let port = ReservedPort::new().expect("a free port");
    let proxy = Proxy::start(&bootstrap(port.number(), folder.path())).await;
    proxy.listens("main").await;
    let mut wrong = Vec::new();
    for version in ["--http1.1", "--http2"] {
        for (name, host, wanted) in ROWS {
            let status = ask(port.number(), version, name, host).await;
            if status != wanted {
                wrong.push(format!("{version} {name:?} {host}: {status}, not {wanted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    proxy.stop().await;
}
