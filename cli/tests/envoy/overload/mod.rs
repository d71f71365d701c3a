//! What is refused, and what is reset, because of overload: Envoy and Weir on the same bootstrap, which
//! gives both less memory than they have, or says how much is left.

mod points;
mod timeouts;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use bench::client;
use bench::origin::Origin;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use http_body_util::Full;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_refused_alike() {
    if !envoy_is_there() {
        return;
    }
    let origin = Origin::start("origin").expect("a free port");
    let ports = free_ports(2);
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]);
    let listener = |port: u16, is_apart: bool| {
        json!({
            "name": port.to_string(),
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "bypass_overload_manager": is_apart,
            "filter_chains": [{"filters": [{
                "name": "http", "typed_config": manager(&routes, &json!({})),
            }]}],
        })
    };
    let listeners = [(&ports[0], false), (&ports[1], true)];
    let listeners = listeners.map(|(port, is_apart)| listener(port.number(), is_apart));
    let heap = typed(
        "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        json!({"max_heap_size_bytes": 1024}),
    );
    let trigger = |level| json!([{"name": "heap", "threshold": {"value": level}}]);
    let overload = json!({
        "refresh_interval": "0.05s",
        "resource_monitors": [{"name": "heap", "typed_config": heap}],
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": trigger(0.5)},
            {"name": "envoy.overload_actions.disable_http_keepalive", "triggers": trigger(0.6)},
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": trigger(0.7)},
        ],
    });
    let statics = bootstrap(&listeners, &[cluster("c", origin.addr().port())]);
    let text = format!("{statics}overload_manager: {overload}\n");
    let [busy, apart] = [0, 1].map(|place: usize| ports[place].addr());
    let ask = async |address| {
        let request = Request::get("/")
            .body(Empty::<Bytes>::new())
            .expect("valid");
        let answer = client::http1(address, request).await.expect("an answer");
        let is_last = answer
            .headers
            .get("connection")
            .is_some_and(|value| value == "close");
        (answer.status.as_u16(), is_last)
    };
    let look = || async {
        // The first look of either may come after its first request.
        let refused = until(|| async {
            let answer = ask(busy).await;
            (answer.0 == 503)
                .then_some(())
                .ok_or_else(|| format!("{answer:?}"))
        });
        refused.await.expect("it is refused");
        (ask(busy).await, ask(apart).await)
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    assert_eq!(envoy, weir);
    assert_eq!(weir, ((503, true), (200, false)));
}

/// Reads whatever comes and never answers, so that what was sent is kept for another attempt. Counts
/// what it read.
async fn silent() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::<AtomicUsize>::default();
    let all = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                let mut read = vec![0; 64 * 1024];
                while let Ok(len @ 1..) = stream.read(&mut read).await {
                    all.fetch_add(len, Ordering::SeqCst);
                }
            });
        }
    });
    (port, count)
}

/// Sizes of the bodies that are kept: one that is too small to be tracked, and three of which each is in
/// another class.
const HELD: [usize; 4] = [1024, 40 * 1024, 160 * 1024, 800 * 1024];

/// Pressure, and which of the streams are left. The first class begins with 4 KiB; each eighth of the
/// pressure has one class more reset, the last one first.
const STEPS: [(&str, [bool; 4]); 3] = [
    ("0.05", [true, true, true, false]),
    ("0.3", [true, true, false, false]),
    ("0.6", [true, false, false, false]),
];

/// Envoy reads the file when another one takes its name.
pub(crate) fn inject(directory: &Path, pressure: &str) {
    let new = directory.join("new");
    std::fs::write(&new, pressure).expect("a writable directory");
    std::fs::rename(new, directory.join("pressure")).expect("the same directory");
}

/// A manager that looks at that file often, by the name "file".
fn watching(directory: &Path) -> Value {
    let file = directory.join("pressure");
    let injected = typed(
        "extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
        json!({"filename": file}),
    );
    json!({
        "refresh_interval": "0.05s",
        "resource_monitors": [{"name": "file", "typed_config": injected}],
    })
}

/// The same, which reduces these timers as far as the file says, by a trigger of this kind.
pub(crate) fn reducing(directory: &Path, timers: &Value, kind: &Value) -> Value {
    let config = typed(
        "config.overload.v3.ScaleTimersOverloadActionConfig",
        json!({"timer_scale_factors": timers}),
    );
    let mut trigger = kind.clone();
    trigger["name"] = "file".into();
    let mut manager = watching(directory);
    manager["actions"] = json!([{
        "name": "envoy.overload_actions.reduce_timeouts",
        "triggers": [trigger],
        "typed_config": config,
    }]);
    manager
}

fn resets(directory: &Path) -> Value {
    let scaled = json!({"scaling_threshold": 0.0, "saturation_threshold": 1.0});
    let mut manager = watching(directory);
    manager["buffer_factory_config"] = json!({"minimum_account_to_track_power_of_two": 12});
    manager["actions"] = json!([{
        "name": "envoy.overload_actions.reset_high_memory_stream",
        "triggers": [{"name": "file", "scaled": scaled}],
    }]);
    manager
}

/// A listener whose requests are kept until they are answered.
fn keeping(port: u16, log: &Path) -> Value {
    let policy = json!({"retry_on": "5xx", "num_retries": 1});
    let route = json!({"cluster": "c", "timeout": "60s", "retry_policy": policy});
    let routes = json!([{"match": {"prefix": "/"}, "route": route}]);
    let format = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
    let file = json!({
        "path": log,
        "log_format": {"text_format_source": {"inline_string": format}},
    });
    let file = typed("extensions.access_loggers.file.v3.FileAccessLog", file);
    let log = json!({"access_log": [{"name": "file", "typed_config": file}]});
    let filter = manager(&routes, &log);
    json!({
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": filter}]}],
    })
}

/// Sends a body of each size, each on a connection of its own.
fn send(address: std::net::SocketAddr) -> Vec<JoinHandle<String>> {
    let one = |size: usize| {
        let request = Request::post(format!("/{size}"))
            .body(Full::new(Bytes::from(vec![0; size])))
            .expect("valid");
        tokio::spawn(async move {
            let answer = client::http2(address, request).await;
            answer.map_or_else(
                |error| error.to_string(),
                |answer| answer.status.to_string(),
            )
        })
    };
    HELD.map(one).into()
}

fn are_open<T>(streams: &[JoinHandle<T>]) -> Vec<bool> {
    let open = streams.iter().map(|stream| !stream.is_finished());
    open.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_hold_much_are_reset_alike() {
    if !envoy_is_there() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let log = directory.join("log");
    let (origin, read) = silent().await;
    let ports = free_ports(1);
    let listener = keeping(ports[0].number(), &log);
    let statics = bootstrap(&[listener], &[cluster("c", origin)]);
    let text = format!("{statics}overload_manager: {}\n", resets(directory));
    let look = || async {
        let before = read.load(Ordering::SeqCst);
        let mut streams = send(ports[0].addr());
        let whole = until(|| async {
            let come = read.load(Ordering::SeqCst) - before;
            let is_whole = come >= HELD.iter().sum();
            is_whole
                .then_some(())
                .ok_or_else(|| format!("{come} bytes"))
        });
        whole.await.expect("the origin reads all");
        let mut seen = Vec::new();
        for (pressure, left) in STEPS {
            inject(directory, pressure);
            let reset = until(|| async {
                let open = are_open(&streams);
                (open == left)
                    .then_some(())
                    .ok_or_else(|| format!("{open:?}"))
            });
            let reset = reset.await;
            seen.push((pressure, reset));
        }
        let smallest = streams.swap_remove(0);
        smallest.abort();
        let mut told = Vec::new();
        for stream in streams {
            told.push(stream.await.expect("no panic"));
        }
        let lines = || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        let logged = until(|| async {
            let is_whole = lines().len() == HELD.len();
            is_whole
                .then_some(())
                .ok_or_else(|| format!("{:?}", lines()))
        });
        logged.await.expect("all are logged");
        let mut lines = lines();
        lines.retain(|line| !line.starts_with("/1024 ")); // that one was left by the test
        std::fs::remove_file(&log).expect("it is there"); // the next proxy makes its own
        inject(directory, "0");
        (seen, told, lines)
    };
    inject(directory, "0");
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    assert!(envoy.0.iter().all(|(_, reset)| reset.is_ok()), "{envoy:?}");
    assert_eq!(envoy, weir);
}
