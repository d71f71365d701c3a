//! The client's address passes through chains of real proxies by the PROXY protocol: HAProxy tells
//! Weir, Weir tells HAProxy or nginx, in both versions; nginx tells Weir in the one it knows.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use bench::peer::Haproxy;
use bench::peer::Nginx;
use bench::peer::PeerError;
use bench::peer::StartOptions;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::servers::Proxy;
use crate::support::soon;
use crate::support::until;

/// Where Debian puts what nginx needs for streams.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// What a peer says it was asked by.
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_is_known_through_three_proxies() {
    let [haproxy_port, nginx_port] = [(); 2].map(|()| ReservedPort::new().expect("a free port"));
    let options = StartOptions::default();
    let config = haproxy_back(haproxy_port.number());
    let haproxy = Haproxy::start(&config, haproxy_port.addr(), &options).await;
    let config = nginx_back(nginx_port.number());
    let nginx = Nginx::start(&config, nginx_port.addr(), &options).await;
    let (Some(_haproxy), Some(_nginx)) = (present(haproxy), present(nginx)) else {
        return;
    };
    for back in [&haproxy_port, &nginx_port] {
        for (sent, told) in [("v1", "V1"), ("v1", "V2"), ("v2", "V1"), ("v2", "V2")] {
            let weir_port = ReservedPort::new().expect("a free port");
            let weir = Proxy::start(&bootstrap(weir_port.number(), back.number(), told)).await;
            weir.listens("l").await;
            let front_port = ReservedPort::new().expect("a free port");
            let config = haproxy_front(front_port.number(), weir_port.number(), sent);
            let front = Haproxy::start(&config, front_port.addr(), &options).await;
            let _front = present(front).expect("it is installed");
            let (client, said) = ask(front_port.addr()).await;
            let wanted = format!("{} {}", client.ip(), client.port());
            assert!(said.ends_with(&wanted), "{sent} {told}: {wanted}: {said}");
            weir.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_tells_who_the_client_is() {
    if !Path::new(NGINX_STREAM).exists() {
        let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "nginx has no module for streams");
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: nginx has no module for streams"
        );
        return;
    }
    let [back_port, weir_port, front_port] =
        [(); 3].map(|()| ReservedPort::new().expect("a free port"));
    let options = StartOptions::default();
    let config = nginx_back(back_port.number());
    let back = Nginx::start(&config, back_port.addr(), &options).await;
    let Some(_back) = present(back) else {
        return;
    };
    for told in ["V1", "V2"] {
        let weir = Proxy::start(&bootstrap(weir_port.number(), back_port.number(), told)).await;
        weir.listens("l").await;
        let config = nginx_front(front_port.number(), weir_port.number());
        let front = Nginx::start(&config, front_port.addr(), &options).await;
        let _front = present(front).expect("it is installed");
        let (client, said) = ask(front_port.addr()).await;
        let wanted = format!("{} {}", client.ip(), client.port());
        assert!(said.ends_with(&wanted), "{told}: {wanted}: {said}");
        weir.stop().await;
    }
}

/// HAProxy gives each connection an id, Weir reads it into its log and passes it on, and the HAProxy
/// behind reads it, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_passes_through_and_is_logged() {
    let [back_port, weir_port, front_port] =
        [(); 3].map(|()| ReservedPort::new().expect("a free port"));
    let options = StartOptions::default();
    let config = haproxy_back(back_port.number());
    let config = config.replace("%[src_port]", "%[src_port] %[fc_pp_unique_id]");
    let back = Haproxy::start(&config, back_port.addr(), &options).await;
    let Some(_back) = present(back) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("access.log");
    let bootstrap = bootstrap(weir_port.number(), back_port.number(), "V2");
    let weir = Proxy::start(&with_id(&bootstrap, &file)).await;
    weir.listens("l").await;
    let config = haproxy_front(front_port.number(), weir_port.number(), "v2");
    let config = config.replace(
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options unique-id,crc32c",
    ) + " unique-id-format id-%cp\n";
    let front = Haproxy::start(&config, front_port.addr(), &options).await;
    let _front = present(front).expect("it is installed");
    let (client, said) = ask(front_port.addr()).await;
    let wanted = format!("{} {} id-{}", client.ip(), client.port(), client.port());
    assert!(said.ends_with(&wanted), "{wanted}: {said}");
    let logged = format!("id-{}", client.port());
    until("the entry", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().any(|line| line == logged).then_some(())
    })
    .await;
    weir.stop().await;
}

/// The same with the id, which is a TLV of type 5, as dynamic metadata in the log, and passed on.
fn with_id(bootstrap: &str, file: &Path) -> String {
    let mut bootstrap: Value = serde_json::from_str(bootstrap).expect("it is ours");
    let passed = json!({"match_type": "INCLUDE", "tlv_type": [5]});
    let cluster = &mut bootstrap["static_resources"]["clusters"][0];
    cluster["transport_socket"]["typed_config"]["config"]["pass_through_tlvs"] = passed.clone();
    let listener = &mut bootstrap["static_resources"]["listeners"][0];
    let header = &mut listener["listener_filters"][0]["typed_config"];
    header["pass_through_tlvs"] = passed;
    header["rules"] = json!([{"tlv_type": 5, "on_tlv_present": {"key": "id"}}]);
    let id = "%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:id)%\n";
    let log = json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": file,
        "log_format": {"text_format_source": {"inline_string": id}},
    });
    listener["access_log"] = json!([{"name": "file", "typed_config": log}]);
    bootstrap.to_string()
}

/// Says, past the capture of output, what is missing.
fn present<T>(started: Result<T, PeerError>) -> Option<T> {
    match started {
        Ok(peer) => Some(peer),
        Err(PeerError::Missing { name, .. }) => {
            let required = std::env::var("WEIR_REQUIRE_PEERS").is_ok_and(|value| value == "1");
            assert!(!required, "{name} is not installed");
            let _ = writeln!(std::io::stderr(), "SKIPPED: {name} is not installed");
            None
        }
        Err(error) => {
            assert!(matches!(error, PeerError::Missing { .. }), "{error}");
            None
        }
    }
}

async fn ask(front: SocketAddr) -> (SocketAddr, String) {
    let mut stream = TcpStream::connect(front).await.expect("it listens");
    let client = stream.local_addr().expect("it is connected");
    stream.write_all(QUESTION).await.expect("it reads");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    soon("an answer", read).await.expect("a whole answer");
    (client, answer.trim_end().to_owned())
}

fn haproxy_back(port: u16) -> String {
    format!(
        "global\n nbthread 1\ndefaults\n mode http\n timeout client 9s\n timeout connect 9s\n timeout server 9s\n\
         frontend in\n bind 127.0.0.1:{port} accept-proxy\n \
         http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port]\"\n"
    )
}

fn haproxy_front(port: u16, weir: u16, version: &str) -> String {
    let send = if version == "v1" {
        "send-proxy"
    } else {
        "send-proxy-v2"
    };
    format!(
        "global\n nbthread 1\ndefaults\n mode tcp\n timeout client 9s\n timeout connect 9s\n timeout server 9s\n\
         listen in\n bind 127.0.0.1:{port}\n server weir 127.0.0.1:{weir} {send}\n"
    )
}

fn nginx_back(port: u16) -> String {
    format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log stderr error; user root;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n access_log off; client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c;\n \
         uwsgi_temp_path d; scgi_temp_path e;\n server {{\n  listen 127.0.0.1:{port} proxy_protocol;\n  \
         location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_port\"; }}\n }}\n}}\n"
    )
}

/// Sends version 1, the only one it knew for long.
fn nginx_front(port: u16, weir: u16) -> String {
    format!(
        "load_module {NGINX_STREAM};\n\
         daemon off; worker_processes 1; pid nginx.pid; error_log stderr error; user root;\n\
         events {{ worker_connections 64; }}\n\
         stream {{\n server {{\n  listen 127.0.0.1:{port};\n  proxy_pass 127.0.0.1:{weir};\n  \
         proxy_protocol on;\n }}\n}}\n"
    )
}

fn bootstrap(port: u16, back: u16, version: &str) -> String {
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let typed =
        |name: &str| json!({"@type": format!("type.googleapis.com/envoy.extensions.{name}")});
    let mut proxy = typed("filters.network.tcp_proxy.v3.TcpProxy");
    proxy["stat_prefix"] = "t".into();
    proxy["cluster"] = "back".into();
    let mut transport = typed("transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport");
    transport["config"] = json!({"version": version});
    let raw = typed("transport_sockets.raw_buffer.v3.RawBuffer");
    transport["transport_socket"] = json!({"name": "raw", "typed_config": raw});
    let header = typed("filters.listener.proxy_protocol.v3.ProxyProtocol");
    let listener = json!({
        "name": "l",
        "address": address(port),
        "listener_filters": [{"name": "p", "typed_config": header}],
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    });
    let cluster = json!({
        "name": "back",
        "transport_socket": {"name": "p", "typed_config": transport},
        "load_assignment": {
            "cluster_name": "back",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(back)}}]}],
        },
    });
    json!({"static_resources": {"listeners": [listener], "clusters": [cluster]}}).to_string()
}
