//! What becomes of streams to a member that is found unfit.

use std::net::SocketAddr;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Both;
use super::cluster;
use super::member::Fault;
use super::member::Member;
use super::member::UP;
use crate::identity::typed;
use crate::setting::PATIENCE;
use crate::setting::envoy_is_there;

fn listener(port: u16) -> Value {
    let proxy = json!({"stat_prefix": "t", "cluster": "asked"});
    let proxy = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy);
    json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "filter", "typed_config": proxy}]}],
    })
}

/// A stream on which the member has answered.
async fn stream(target: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(target).await.expect("it listens");
    ping(&mut stream).await;
    stream
}

async fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.expect("it is open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await;
        let read = read.expect("an answer in time").expect("an answer");
        assert_ne!(read, 0, "it was closed");
    }
}

async fn is_closed(stream: &mut TcpStream) {
    let mut nothing = Vec::new();
    let read = stream.read_to_end(&mut nothing); // however it ends
    let _ = timeout(PATIENCE, read).await.expect("it is closed in time");
    assert_eq!(nothing, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_their_member_is_found_unfit_if_that_is_wanted() {
    if !envoy_is_there() {
        return;
    }
    for closes in [false, true] {
        let mut member = Member::start(UP);
        let more = json!({
            "close_connections_on_host_health_failure": closes,
            "common_lb_config": {"healthy_panic_threshold": {"value": 100.0}},
            "health_checks": [{
                "timeout": "2s", "interval": "0.05s", "no_traffic_interval": "0.05s",
                "unhealthy_threshold": 2, "healthy_threshold": 2,
                "http_health_check": {"path": "/fit"},
            }],
        });
        let port = member.port();
        let both = Both::start(listener, &[cluster("asked", &[port], &more)]).await;
        both.say("start", "asked", &[(port, "healthy")]).await;
        let [envoy, weir] = both.ports.each_ref().map(|port| port.addr());
        let mut streams = [stream(envoy).await, stream(weir).await];
        member.set(Fault::Answers(500, ""));
        both.say("unfit", "asked", &[(port, "/failed_active_hc")])
            .await;
        for stream in &mut streams {
            if closes {
                is_closed(stream).await;
            } else {
                ping(stream).await;
            }
        }
        // One that is made while nobody is fit has had no failure yet, and stays.
        for target in [envoy, weir] {
            let mut late = stream(target).await;
            ping(&mut late).await;
        }
        both.stop().await;
    }
}
