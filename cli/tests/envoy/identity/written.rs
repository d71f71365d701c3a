//! TLVs that a proxy writes by templates, what becomes of the client's own then, and TLVs that are kept as
//! filter state.

use std::path::Path;

use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::announced::entries;
use super::announced::header;
use super::announced::passed;
use super::bootstrap;
use super::cluster;
use super::free_ports;
use super::listener;
use super::manager;
use super::of_both_alike;
use super::typed;
use crate::setting::envoy_is_there;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Of each listener: where it keeps TLVs, and what becomes of the client's own.
const CASES: [(&str, &str); 4] = [
    ("DYNAMIC_METADATA", "ADD_IF_ABSENT"),
    ("DYNAMIC_METADATA", "OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD"),
    ("DYNAMIC_METADATA", "APPEND_IF_EXISTS_OR_ADD"),
    ("FILTER_STATE", "OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD"),
];

/// What proxies write, from type 100 on.
const BY_PROXY: [&str; 6] = [
    "always the same",
    "<%DOWNSTREAM_REMOTE_ADDRESS%>",
    "%DYNAMIC_METADATA(own:k)%",
    "%FILTER_STATE(envoy.network.proxy_protocol.tlv:FIELD:k)%",
    "%REQUESTED_SERVER_NAME%",
    "%START_TIME(%Y)%%%",
];

/// What clusters write, from type 200 on: there the connection is the one to the upstream.
const BY_CLUSTER: [&str; 7] = [
    "%DOWNSTREAM_REMOTE_ADDRESS%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "to %UPSTREAM_HOST%",
    "%UPSTREAM_CLUSTER%",
    "%DYNAMIC_METADATA(own:k)%",
    "%PROTOCOL%",
];

/// How filter state is read.
const STATE: [&str; 5] = ["", ":PLAIN", ":TYPED", ":FIELD:k", ":FIELD:nothing"];

fn headers() -> Vec<Vec<u8>> {
    vec![
        header(&[]),
        header(&[(5, b"five"), (100, b"own"), (7, b"seven")]),
        header(&[(5, b"\xfffirst"), (5, b"\xffsecond"), (200, b"own")]),
        b"PROXY TCP4 10.1.2.3 10.9.9.9 1111 2222\r\n".to_vec(),
    ]
}

fn templates(texts: &[&str], first: usize) -> Value {
    let tlvs = texts.iter().zip(first..).map(|(text, kind)| {
        json!({
            "type": kind,
            "format_string": {"text_format_source": {"inline_string": text}},
        })
    });
    tlvs.collect()
}

/// Keeps TLVs of type 5 as `k`, and of type 6 as `other`.
fn filter(location: &str) -> Value {
    let rule = |kind: u8, key: &str| {
        let pair = json!({"metadata_namespace": "own", "key": key});
        json!({"tlv_type": kind, "on_tlv_present": pair})
    };
    let filter = typed(
        "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        json!({
            "rules": [rule(5, "k"), rule(6, "other")],
            "tlv_location": location,
            "pass_through_tlvs": {"match_type": "INCLUDE_ALL"},
        }),
    );
    json!([{"name": "filter", "typed_config": filter}])
}

fn log(path: &Path, who: &str, commands: &[String]) -> Value {
    let mut fields = json!({"who": who});
    for command in commands {
        fields[command] = format!("<%{command}%>").into();
        fields[format!("{command} alone")] = format!("%{command}%").into();
    }
    let file = json!({"path": path, "log_format": {"json_format": fields}});
    let file = typed("extensions.access_loggers.file.v3.FileAccessLog", file);
    json!([{"name": "file", "typed_config": file}])
}

fn state(how: &str) -> String {
    format!("FILTER_STATE(envoy.network.proxy_protocol.tlv{how})")
}

fn target(back: u16) -> Value {
    let config = json!({
        "version": "V2",
        "pass_through_tlvs": {"match_type": "INCLUDE_ALL"},
        "added_tlvs": templates(&BY_CLUSTER, 200),
    });
    let raw = typed(
        "extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        json!({}),
    );
    let transport = json!({
        "config": config, "transport_socket": {"name": "raw", "typed_config": raw},
    });
    let transport = typed(
        "extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        transport,
    );
    let mut cluster = cluster("target", back);
    cluster["transport_socket"] = json!({"name": "proxy", "typed_config": transport});
    cluster
}

/// A listener of each case, one that speaks HTTP, and one that is only asked whether it is open.
fn configuration(ports: &[ReservedPort], back: u16, file: &Path) -> String {
    let mut listeners = Vec::new();
    for ((location, merge), port) in CASES.iter().zip(ports) {
        let commands = STATE.map(state);
        let proxy = json!({
            "stat_prefix": "t",
            "cluster": "target",
            "access_log": log(file, &format!("{location} {merge}"), &commands),
            "proxy_protocol_tlvs": templates(&BY_PROXY, 100),
            "proxy_protocol_tlv_merge_policy": merge,
        });
        let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
        let mut listener = listener(port.number(), &proxy, None);
        listener["listener_filters"] = filter(location);
        listeners.push(listener);
    }
    let route = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    let commands = [
        state(":FIELD:k"),
        state(":FIELD:other"),
        "DYNAMIC_METADATA(own:k)".to_owned(),
    ];
    let more = json!({"access_log": log(file, "http", &commands)});
    let http = manager(&route, &more);
    let mut http = listener(ports[CASES.len()].number(), &http, None);
    http["access_log"] = log(file, "listener", &commands);
    http["listener_filters"] = filter("FILTER_STATE");
    listeners.push(http);
    let unlogged = json!({"stat_prefix": "t", "cluster": "target"});
    let unlogged = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", unlogged);
    listeners.push(listener(ports[CASES.len() + 1].number(), &unlogged, None));
    bootstrap(&listeners, &[target(back)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tlvs_are_written_and_kept_alike() {
    if !envoy_is_there() {
        return;
    }
    let back = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let number = back.local_addr().expect("it is bound").port();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("access.log");
    let ports = free_ports(CASES.len() + 2);
    let bootstrap = configuration(&ports, number, &file);
    let look = || async {
        let mut told = Vec::new();
        for (case, port) in CASES.iter().zip(&ports) {
            for (place, header) in headers().iter().enumerate() {
                let passed = passed(&back, port, header).await;
                told.push(format!("{case:?} {place}: {}", passed.escape_ascii()));
            }
        }
        for header in [header(&[(5, b"five"), (6, b"six")]), header(&[])] {
            let stream = TcpStream::connect(ports[CASES.len()].addr()).await;
            let mut stream = stream.expect("it listens");
            let request = [&header, REQUEST].concat();
            stream.write_all(&request).await.expect("it reads");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
        }
        let count = CASES.len() * headers().len() + 2 * 2;
        told.extend(entries(&file, count).await);
        std::fs::remove_file(&file).expect("it is there"); // the next proxy makes its own
        told
    };
    let ready = std::slice::from_ref(&ports[CASES.len() + 1]);
    let weir = Box::pin(of_both_alike(&bootstrap, ready, look)).await;
    for text in [
        "<10.1.2.3:1111>",
        "to 127.0.0.1:",
        "\"k\":\"!second\"",
        "six",
    ] {
        let is_told = weir.iter().any(|told| told.contains(text));
        assert!(is_told, "{text}: {weir:#?}");
    }
}
