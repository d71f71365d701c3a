//! What access logs and edited headers say of TLS, on both sides.
//!
//! Each proxy is its own TLS upstream: `outer` listeners lead to an `inner` one that leads to an
//! origin. The client offers one suite of each version, and so do clusters, so that no choice is left
//! to a proxy.

use std::path::Path;

use bench::origin::Origin;
use bench::origin::Seen;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;

use super::bootstrap;
use super::certificates::CLIENTS;
use super::certificates::Certificates;
use super::certificates::Version;
use super::client;
use super::cluster;
use super::free_ports;
use super::listener;
use super::manager;
use super::of_both;
use super::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;

const DOWNSTREAM: [&str; 28] = [
    "LOCAL_DNS_SAN",
    "LOCAL_EMAIL_SAN",
    "LOCAL_IP_SAN",
    "LOCAL_OTHERNAME_SAN",
    "LOCAL_SUBJECT",
    "LOCAL_URI_SAN",
    "PEER_CERT",
    "PEER_CERT_V_END",
    "PEER_CERT_V_START",
    "PEER_CERT_V_START(%d %b %Y %H:%M:%S)",
    "PEER_CHAIN_FINGERPRINTS_1",
    "PEER_CHAIN_FINGERPRINTS_256",
    "PEER_CHAIN_SERIALS",
    "PEER_DNS_SAN",
    "PEER_EMAIL_SAN",
    "PEER_FINGERPRINT_1",
    "PEER_FINGERPRINT_256",
    "PEER_IP_SAN",
    "PEER_ISSUER",
    "PEER_ISSUER_FINGERPRINT_256",
    "PEER_ISSUER_SERIAL",
    "PEER_OTHERNAME_SAN",
    "PEER_SERIAL",
    "PEER_SUBJECT",
    "PEER_URI_SAN",
    "TLS_CIPHER",
    "TLS_GROUP",
    "TLS_VERSION",
];

const UPSTREAM: [&str; 15] = [
    "LOCAL_DNS_SAN",
    "LOCAL_IP_SAN",
    "LOCAL_URI_SAN",
    "PEER_CERT",
    "PEER_CERT_V_END",
    "PEER_CERT_V_START",
    "PEER_DNS_SAN",
    "PEER_IP_SAN",
    "PEER_ISSUER",
    "PEER_SUBJECT",
    "PEER_URI_SAN",
    "SERVER_NAME",
    "TLS_CIPHER",
    "TLS_GROUP",
    "TLS_VERSION",
];

/// One outer listener of each kind: with and without TLS, with and without an inspector.
const OUTER: usize = 4;

/// Told without its port, which is never the same.
const LOCAL: &str = "UPSTREAM_LOCAL_ADDRESS";

/// What the log calls the one that speaks no HTTP.
const TCP: &str = "tcp";

fn commands() -> Vec<String> {
    let downstream = DOWNSTREAM.map(|name| format!("%DOWNSTREAM_{name}%"));
    let upstream = UPSTREAM.map(|name| format!("%UPSTREAM_{name}%"));
    let others = [
        "%ACCESS_LOG_TYPE%",
        "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
        "%REQUESTED_SERVER_NAME%",
        "%VIRTUAL_CLUSTER_NAME%",
    ];
    let others = others.map(str::to_owned);
    [&downstream[..], &upstream, &others].concat()
}

fn log(path: &Path, listener: &str) -> Value {
    let mut fields = json!({"listener": listener, LOCAL: format!("%{LOCAL}%")});
    for command in commands() {
        let name = command.replace('%', "");
        fields[name] = command.into();
    }
    let file = json!({"path": path, "log_format": {"json_format": fields}});
    let file = typed("extensions.access_loggers.file.v3.FileAccessLog", file);
    json!([{"name": "file", "typed_config": file}])
}

/// One header for each command, with text around it.
fn edits() -> Value {
    let edits = commands().into_iter().enumerate().map(|(place, command)| {
        json!({"header": {"key": format!("x-edit-{place}"), "value": format!("<{command}>")}})
    });
    edits.collect()
}

fn configuration(
    certificates: &Certificates,
    ports: &[ReservedPort],
    (origin, file): (u16, &Path),
) -> String {
    let route = |name: &str| {
        json!([{
            "match": {"prefix": "/"}, "route": {"cluster": name},
            "request_headers_to_add": edits(), "response_headers_to_add": edits(),
        }])
    };
    let plain = json!([{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]);
    let http = |name: &str| manager(&route("inner"), &json!({"access_log": log(file, name)}));
    let tcp = json!({"stat_prefix": "tcp", "cluster": "inner", "access_log": log(file, TCP)});
    let tcp = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", tcp);
    let number = |place: usize| ports[place].number();
    let mut inspected = listener(number(0), &http("inspected"), Some(certificates));
    let inspector = typed(
        "extensions.filters.listener.tls_inspector.v3.TlsInspector",
        json!({}),
    );
    inspected["listener_filters"] = json!([{"name": "inspector", "typed_config": inspector}]);
    let mut inner = cluster("inner", number(OUTER));
    inner["transport_socket"] = certificates.upstream();
    bootstrap(
        &[
            inspected,
            listener(number(1), &http("tls"), Some(certificates)),
            listener(number(2), &http("plain"), None),
            listener(number(3), &tcp, Some(certificates)),
            listener(
                number(OUTER),
                &manager(&plain, &json!({})),
                Some(certificates),
            ),
        ],
        &[inner, cluster("origin", origin)],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_headers_tell_of_tls_alike() {
    if !envoy_is_there() {
        return;
    }
    let certificates = Certificates::new();
    let origin = Origin::start("origin").expect("a free port");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("access.log");
    let ports = free_ports(OUTER + 1);
    let bootstrap = configuration(&certificates, &ports, (origin.addr().port(), &file));
    let look = || async {
        let mut told = Vec::new();
        for version in [Version::Tls12, Version::Tls13] {
            for name in [None].into_iter().chain(CLIENTS.map(Some)) {
                for (place, port) in ports.iter().take(OUTER).enumerate() {
                    let tls = certificates.client_of(name, version);
                    let tls = (place != 2).then_some(&tls);
                    let answer = client::get(port.addr(), tls, "/", &[]).await;
                    let edited = edited(&answer.expect("a whole answer"));
                    told.push(format!(
                        "{version:?} {name:?} listener {place}: {edited:#?}"
                    ));
                }
            }
        }
        told.extend(entries(&file, told.len()).await);
        std::fs::remove_file(&file).expect("it is there"); // the next proxy makes its own
        told
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    check_breadth(&wanted);
    let missing = |from: &[String], of: &[String]| -> Vec<String> {
        let missing = of.iter().filter(|told| !from.contains(told));
        missing.cloned().collect()
    };
    let (envoys, weirs) = (missing(&found, &wanted), missing(&wanted, &found));
    let example = [envoys.first(), weirs.first()].map(|example| example.map_or("", |told| told));
    assert!(
        envoys.is_empty() && wanted.len() == found.len(),
        "{} told by Envoy alone, {} by Weir alone of {} and {}, such as {} and {}",
        envoys.len(),
        weirs.len(),
        wanted.len(),
        found.len(),
        example[0],
        example[1],
    );
}

/// As many entries of the log, sorted, because those of streams may come late.
async fn entries(file: &Path, count: usize) -> Vec<String> {
    let complete = until(|| async {
        let found = written(file).len();
        let is_there = found >= count;
        is_there
            .then_some(())
            .ok_or_else(|| format!("{found} of {count} entries"))
    });
    complete.await.expect("all entries are written");
    let mut entries = written(file);
    entries.sort();
    entries
}

/// Without those of connections that only looked whether the listener is open.
fn written(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let entries = lines.map(|line| serde_json::from_str(line).expect("an object"));
    entries
        .filter(|entry: &Value| {
            entry["listener"] != TCP || entry["DOWNSTREAM_TLS_CIPHER"] != Value::Null
        })
        .map(|mut entry| {
            let local = entry[LOCAL].as_str().and_then(|text| text.rsplit_once(':'));
            entry[LOCAL] = local.map(|(ip, _)| ip.to_owned()).into();
            format!("{entry:#}")
        })
        .collect()
}

/// The headers that were added to the answer, and those the origin got.
fn edited(answer: &[u8]) -> Vec<String> {
    let head = String::from_utf8_lossy(answer);
    let head = head.lines().take_while(|line| !line.is_empty());
    let answered = head.filter(|line| line.starts_with("x-edit-"));
    let seen: Seen = serde_json::from_slice(client::body(answer)).expect("an echo");
    let sent = seen.headers.iter();
    let sent = sent.filter(|(name, _)| name.starts_with("x-edit-"));
    let sent = sent.map(|(name, value)| format!("sent {name}: {value}"));
    let mut edited: Vec<_> = answered.map(str::to_owned).chain(sent).collect();
    edited.sort(); // the order of fields of different names means nothing
    edited
}

/// Every command must have had a value once, but for those that cannot.
fn check_breadth(told: &[String]) {
    let local = format!("\"{LOCAL}\": \"127.0.0.1\"");
    assert!(told.iter().any(|told| told.contains(&local)));
    for command in commands() {
        let name = command.replace('%', "");
        let has_none = [
            "VIRTUAL_CLUSTER_NAME",
            "DOWNSTREAM_LOCAL_EMAIL_SAN",
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
        ];
        let with_value = format!("\"{name}\": \"");
        let is_told = told.iter().any(|told| told.contains(&with_value));
        assert_eq!(is_told, !has_none.contains(&&*name), "{name}");
    }
}
