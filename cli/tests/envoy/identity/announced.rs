//! TLVs of PROXY protocol headers: what is passed on and what is added, byte for byte, and what access
//! logs can read.

use std::net::Ipv4Addr;
use std::path::Path;

use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::bootstrap;
use super::cluster;
use super::free_ports;
use super::listener;
use super::manager;
use super::of_both_alike;
use super::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// What is behind the header.
const END: &[u8] = b"END";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// What is read of it in logs.
const METADATA: [&str; 7] = [
    "envoy.filters.listener.proxy_protocol",
    "envoy.filters.listener.proxy_protocol:text",
    "envoy.filters.listener.proxy_protocol:text:deeper",
    "envoy.filters.listener.proxy_protocol:late",
    "own:binary",
    "own",
    "nobody:nothing",
];

/// A header of version 2 with these TLVs.
pub(crate) fn header(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&Ipv4Addr::new(10, 1, 2, 3).octets());
    body.extend_from_slice(&Ipv4Addr::new(10, 9, 9, 9).octets());
    body.extend_from_slice(&[4, 87, 8, 174]); // two ports
    for (kind, value) in tlvs {
        let length = u16::try_from(value.len()).expect("it fits");
        body.push(*kind);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value);
    }
    let length = u16::try_from(body.len()).expect("it fits");
    let start = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, 0x11]].concat();
    [start, length.to_be_bytes().to_vec(), body].concat()
}

/// Headers that are sent to each listener.
fn headers() -> Vec<Vec<u8>> {
    let large = [b'x'; 30_000];
    vec![
        header(&[]),
        header(&[(5, b"five"), (6, b"six"), (6, b"again"), (1, b"one")]),
        header(&[(2, b"te\xff\xfext \xe2\x82."), (2, b"later"), (3, b"")]),
        header(&[(0xEA, b"\0\x01\xff"), (0xEB, b"other"), (5, b"")]),
        header(&[(5, &large), (6, &large), (7, b"small")]),
        b"PROXY TCP4 10.1.2.3 10.9.9.9 1111 2222\r\n".to_vec(),
    ]
}

fn passes(kinds: Option<&[u8]>) -> Value {
    match kinds {
        None => json!({"match_type": "INCLUDE_ALL"}),
        Some(kinds) => json!({"match_type": "INCLUDE", "tlv_type": kinds}),
    }
}

/// What listener and cluster pass on, and what the cluster adds, each as base64.
type Case = (Option<Value>, Option<Value>, Value);

fn cases() -> Vec<Case> {
    let all = || Some(passes(None));
    let large = "eHh4".repeat(10_000);
    vec![
        (all(), all(), json!([])),
        (
            all(),
            all(),
            json!([{"type": 5, "value": "b3du"}, {"type": 5, "value": "b3du"}]),
        ),
        (all(), Some(passes(Some(&[6, 0xEA]))), json!([])),
        (
            Some(passes(Some(&[1, 3, 6]))),
            all(),
            json!([{"type": 9, "value": "b3du"}]),
        ),
        (None, all(), json!([{"type": 9, "value": "b3du"}])),
        (all(), None, json!([])),
        (all(), all(), json!([{"type": 9, "value": large}])),
    ]
}

fn pair(namespace: &str, key: &str, encoding: &str) -> Value {
    json!({"metadata_namespace": namespace, "key": key, "value_string_encoding": encoding})
}

fn filter(passed: Option<&Value>) -> Value {
    let mut filter = json!({"rules": [
        {"tlv_type": 2, "on_tlv_present": pair("unused", "unused", "BASE64")},
        {"tlv_type": 2, "on_tlv_present": pair("", "text", "UNSPECIFIED")},
        {"tlv_type": 3, "on_tlv_present": pair("", "late", "SANITIZED_UTF8")},
        {"tlv_type": 5, "on_tlv_present": pair("", "late", "SANITIZED_UTF8")},
        {"tlv_type": 0xEA, "on_tlv_present": pair("own", "binary", "BASE64")},
        {"tlv_type": 0xEB, "on_tlv_present": pair("own", "other", "BASE64")},
    ]});
    if let Some(passed) = passed {
        filter["pass_through_tlvs"] = passed.clone();
    }
    let filter = typed(
        "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        filter,
    );
    json!([{"name": "filter", "typed_config": filter}])
}

/// One log of JSON, one of text.
fn logs(path: &Path, who: &str) -> Value {
    let mut fields = json!({"who": who});
    let mut text = format!("{{\"who\": \"{who} as text\", \"told\": '");
    for name in METADATA {
        let command = format!("%DYNAMIC_METADATA({name})%");
        text.push_str(&format!("<{command}>"));
        fields[name] = command.into();
    }
    text.push_str("<%DYNAMIC_METADATA(own:binary):2%>'}\n");
    let formats = [
        json!({"json_format": fields}),
        json!({"text_format_source": {"inline_string": text}}),
    ];
    let logs = formats.into_iter().map(|format| {
        let file = json!({"path": path, "log_format": format});
        let file = typed("extensions.access_loggers.file.v3.FileAccessLog", file);
        json!({"name": "file", "typed_config": file})
    });
    logs.collect()
}

fn announcing(name: &str, port: u16, (_, passed, added): &Case) -> Value {
    let mut config = json!({"version": "V2", "added_tlvs": added});
    if let Some(passed) = passed {
        config["pass_through_tlvs"] = passed.clone();
    }
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
    let mut cluster = cluster(name, port);
    cluster["transport_socket"] = json!({"name": "proxy", "typed_config": transport});
    cluster
}

/// A listener and a cluster of each case, and one listener that speaks HTTP.
fn configuration(ports: &[ReservedPort], back: u16, file: &Path) -> String {
    let cases = cases();
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for (place, (case, port)) in cases.iter().zip(ports).enumerate() {
        let name = format!("case {place}");
        // The whole matrix of what is passed need not be logged.
        let logs = if place == 0 {
            logs(file, "tcp")
        } else {
            json!([])
        };
        let proxy = json!({"stat_prefix": "t", "cluster": name, "access_log": logs});
        let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
        let mut listener = listener(port.number(), &proxy, None);
        listener["listener_filters"] = filter(case.0.as_ref());
        listeners.push(listener);
        clusters.push(announcing(&name, back, case));
    }
    let route = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
    let manager = manager(&route, &json!({"access_log": logs(file, "http")}));
    let mut http = listener(ports[cases.len()].number(), &manager, None);
    http["access_log"] = logs(file, "listener");
    http["listener_filters"] = filter(None);
    listeners.push(http);
    let unlogged = json!({"stat_prefix": "t", "cluster": "case 0"});
    let unlogged = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", unlogged);
    listeners.push(listener(ports[cases.len() + 1].number(), &unlogged, None));
    bootstrap(&listeners, &clusters)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tlvs_are_passed_added_and_logged_alike() {
    if !envoy_is_there() {
        return;
    }
    let back = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let number = back.local_addr().expect("it is bound").port();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("access.log");
    let count = cases().len();
    // Whether they are open is found out at the last one, which is not logged.
    let ports = free_ports(count + 2);
    let bootstrap = configuration(&ports, number, &file);
    let look = || async {
        let mut told = Vec::new();
        for (place, port) in ports.iter().take(count).enumerate() {
            for header in headers() {
                let passed = passed(&back, port, &header).await;
                let end = passed.len().min(200);
                told.push(format!(
                    "case {place}: {} {:?}",
                    passed.len(),
                    &passed[..end]
                ));
            }
        }
        for header in headers() {
            let mut stream = TcpStream::connect(ports[count].addr())
                .await
                .expect("it listens");
            let request = [&header, REQUEST].concat();
            stream.write_all(&request).await.expect("it reads");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
        }
        told.extend(entries(&file, headers().len() * 2 * 3).await);
        std::fs::remove_file(&file).expect("it is there"); // the next proxy makes its own
        told
    };
    let ready = std::slice::from_ref(&ports[count + 1]);
    let weir = Box::pin(of_both_alike(&bootstrap, ready, look)).await;
    let wanted = ["AAH/", "te!!xt !!.", "{\"late\":\"five\"}"];
    for text in wanted {
        assert!(
            weir.iter().any(|told| told.contains(text)),
            "{text}: {weir:#?}"
        );
    }
}

/// What reaches the upstream of a client with this header.
pub(super) async fn passed(back: &TcpListener, port: &ReservedPort, header: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
    let bytes = [header, END].concat();
    stream.write_all(&bytes).await.expect("it reads");
    loop {
        let (mut accepted, _) = back.accept().await.expect("it comes");
        let mut passed = Vec::new();
        while !passed.ends_with(END) {
            if accepted.read_buf(&mut passed).await.expect("it passes") == 0 {
                break; // of the one that only looked whether the listener is open
            }
        }
        if passed.ends_with(END) {
            return passed;
        }
    }
}

/// The entries, sorted, once there are as many.
pub(super) async fn entries(file: &Path, count: usize) -> Vec<String> {
    let read = || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let whole = text.split_inclusive('\n');
        let whole = whole.filter(|line| line.ends_with('\n'));
        // Members of objects have no order.
        let sorted = |line: &str| {
            let json: Result<Value, _> = serde_json::from_str(line);
            json.map_or_else(|_| line.to_owned(), |json| json.to_string())
        };
        whole.map(sorted).collect::<Vec<_>>()
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
