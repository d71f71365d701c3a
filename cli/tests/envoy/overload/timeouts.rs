//! Timeouts that are reduced: how long a silent connection stays, and a stream on which nothing moves.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;

use super::inject;
use super::silent;
use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::setting::envoy_is_there;

/// As configured.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is left of it in full force; of half a force there is the middle, which is far away.
const LEAST: Duration = Duration::from_secs(1);

fn listener(port: u16, age: bool) -> Value {
    let routes = json!([
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}},
        {"match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "0s"}},
    ]);
    let seconds = format!("{}s", TIMEOUT.as_secs());
    // An Envoy whose connection of HTTP/1 is to end waits for so long.
    let mut options = json!({"stream_idle_timeout": seconds, "drain_timeout": "0.1s"});
    let limit = if age {
        "max_connection_duration"
    } else {
        "idle_timeout"
    };
    options["common_http_protocol_options"] = json!({limit: seconds});
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{
            "name": "http", "typed_config": manager(&routes, &options),
        }]}],
    })
}

fn reducing(directory: &Path) -> Value {
    let timers = [
        "HTTP_DOWNSTREAM_CONNECTION_IDLE",
        "HTTP_DOWNSTREAM_CONNECTION_MAX",
        "HTTP_DOWNSTREAM_STREAM_IDLE",
    ];
    let least = format!("{}s", LEAST.as_secs());
    let timers = timers.map(|timer| json!({"timer": timer, "min_timeout": least}));
    let scaled = json!({"scaling_threshold": 0.5, "saturation_threshold": 1.0});
    super::reducing(directory, &json!(timers), &json!({"scaled": scaled}))
}

/// Sends a request for `path` on a new connection.
async fn begin(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it is open");
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("it is sent");
    stream
}

/// What comes until nothing comes for so long: a status, and whether that was the end.
async fn next(stream: &mut TcpStream, patience: Duration) -> (String, bool) {
    let mut come = Vec::new();
    let until = Instant::now() + patience;
    let mut has_ended = false;
    while let Ok(read) = timeout(
        until.saturating_duration_since(Instant::now()),
        stream.read_buf(&mut come),
    )
    .await
    {
        if !matches!(read, Ok(1..)) {
            has_ended = true;
            break;
        }
    }
    let text = String::from_utf8_lossy(&come).into_owned();
    let status = text.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, has_ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeouts_are_reduced_alike_while_they_run() {
    if !envoy_is_there() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    inject(directory, "0");
    let ports = free_ports(2);
    let listeners = [(&ports[0], false), (&ports[1], true)];
    let listeners = listeners.map(|(port, age)| listener(port.number(), age));
    let statics = bootstrap(&listeners, &[cluster("c", silent().await.0)]);
    let text = format!("{statics}overload_manager: {}\n", reducing(directory));
    let look = || async {
        inject(directory, "0");
        let [idle, aged] = [0, 1].map(|place: usize| ports[place].addr());
        let mut idle_connection = begin(idle, "/direct").await;
        let mut silent_stream = begin(idle, "/").await;
        let mut old_connection = begin(aged, "/direct").await;
        let all = [
            &mut idle_connection,
            &mut silent_stream,
            &mut old_connection,
        ];
        let mut seen = Vec::new();
        for stream in all {
            seen.push(next(stream, LEAST / 4).await);
        }
        // In half a force each may stay for 15 s, in full force for 1 s, which then is over.
        for (pressure, patience) in [("0.75", LEAST), ("1", LEAST * 2)] {
            inject(directory, pressure);
            let all = [
                &mut idle_connection,
                &mut silent_stream,
                &mut old_connection,
            ];
            for stream in all {
                seen.push(next(stream, patience).await);
            }
        }
        inject(directory, "0");
        seen
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    assert_eq!(envoy, weir);
    let stays = (String::new(), false);
    let answered = ("200".to_owned(), false);
    let first = [answered.clone(), stays.clone(), answered];
    assert_eq!(weir[..3], first);
    assert_eq!(weir[3..6], [(); 3].map(|()| stays.clone()));
    assert!(
        weir[6..].iter().all(|(_, has_ended)| *has_ended),
        "{weir:?}"
    );
}
