//! Requests that are sent again: as often, after the same outcomes, with the same answer, flags and
//! headers as with Envoy.
//!
//! | file | holds |
//! |---|---|
//! | `beside` | another attempt beside a slow one |
//! | `cases` | conditions and outcomes |
//! | `limit` | how many retries there are at once |
//! | `memory` | what bodies take that are kept |
//! | `origin` | an origin that does with each attempt what its script says |
//! | `priorities` | which priorities another attempt avoids |
//! | `storm` | how much retries add when every member fails |
//! | `targets` | which members another attempt avoids |
//! | `window` | a budget that is a share of what has begun |

mod beside;
mod cases;
mod limit;
mod memory;
mod origin;
mod priorities;
mod storm;
mod targets;
mod window;

use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;
use cases::Case;
use origin::Origin;

/// What became of one request.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    case: &'static str,
    /// Status, how many attempts the client was told of, status of gRPC, body.
    answer: String,
    /// What the origin saw of each attempt.
    attempts: Vec<String>,
    /// Flags, attempts, details.
    log: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_is_tried_again() {
    if !envoy_is_there() {
        return;
    }
    let (wanted, found) = Box::pin(both(cases::alike(), &json!({}))).await;
    compare(&wanted, &found);
}

/// Of clients that are trusted, headers say how they want to be tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_is_tried_again_because_clients_ask() {
    if !envoy_is_there() {
        return;
    }
    let trusted = json!({
        "use_remote_address": true,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
    });
    let (wanted, found) = Box::pin(both(cases::asked(), &trusted)).await;
    compare(&wanted, &found);
}

/// What the proxy before this one expects is heard where that is wanted, and passed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_sender_expects_is_respected_alike() {
    if !envoy_is_there() {
        return;
    }
    let router = typed(
        "extensions.filters.http.router.v3.Router",
        json!({"respect_expected_rq_timeout": true}),
    );
    let trusted = json!({
        "use_remote_address": true,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
        "http_filters": [{"name": "router", "typed_config": router}],
    });
    let (wanted, found) = Box::pin(both(cases::expected(), &trusted)).await;
    assert_eq!(wanted, found);
    let timed_out = found.iter().filter(|told| told.answer.starts_with("504"));
    assert_eq!(timed_out.count(), 3, "{found:#?}");
}

fn compare(wanted: &[Told], found: &[Told]) {
    let pairs = wanted
        .iter()
        .zip(found)
        .filter(|(wanted, found)| wanted != found);
    let pairs: Vec<String> = pairs
        .map(|(wanted, found)| format!("Envoy {wanted:#?}\nWeir {found:#?}"))
        .collect();
    assert!(pairs.is_empty(), "{}", pairs.join("\n\n"));
    for told in found {
        assert!(!told.log.is_empty(), "{told:?}");
    }
    // Otherwise nothing would have been seen.
    let again = found.iter().filter(|told| told.attempts.len() > 1);
    assert!(again.count() > found.len() / 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_in_trailers_is_tried_again_if_no_message_came() {
    if !envoy_is_there() {
        return;
    }
    let (envoy, weir) = Box::pin(both(cases::trailers(), &json!({}))).await;
    let attempts = |told: &[Told]| -> Vec<(&'static str, usize)> {
        told.iter()
            .map(|told| (told.case, told.attempts.len()))
            .collect()
    };
    assert!(
        envoy.iter().all(|told| told.attempts.len() == 1),
        "{envoy:#?}"
    );
    let wanted = [
        ("trailers", 2),
        ("trailers-http1", 2),
        ("trailers-of-another-status", 1),
        ("trailers-after-a-message", 1),
    ];
    assert_eq!(attempts(&weir), wanted, "{weir:#?}");
}

/// What became of a request for each case, with Envoy and with Weir.
async fn both(cases: Vec<Case>, more: &Value) -> (Vec<Told>, Vec<Told>) {
    let mut origins = Vec::new();
    for case in &cases {
        origins.push(Origin::start(case.steps).await);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("log");
    let ports = free_ports(2);
    let (port, dead) = (&ports[0], &ports[1]);
    let clusters = cases.iter().zip(&origins);
    let clusters: Vec<Value> = clusters
        .map(|(case, origin)| case.cluster(origin.address.port(), dead.number()))
        .collect();
    let listener = listener(port.number(), (&cases, more), &file);
    let run = AtomicU32::new(0);
    let look = || async {
        let run = run.fetch_add(1, Ordering::Relaxed);
        let mut all = Vec::new();
        for (case, origin) in cases.iter().zip(&origins) {
            all.push(tell(case, origin, (port, run)).await);
        }
        // Logs are written now and then.
        for told in &mut all {
            told.log = logged(&file, &told.path(run)).await;
        }
        all
    };
    of_both(&bootstrap(&[listener], &clusters), &ports[..1], look).await
}

fn listener(port: u16, (cases, more): (&[Case], &Value), file: &Path) -> Value {
    let format =
        "%REQ(:PATH)% %RESPONSE_FLAGS% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %RESPONSE_CODE_DETAILS%\n";
    let log = json!({
        "path": file,
        "log_format": {"text_format_source": {"inline_string": format}},
    });
    let log = typed("extensions.access_loggers.file.v3.FileAccessLog", log);
    let routes: Value = cases.iter().map(Case::route).collect();
    let host = json!({
        "name": "all",
        "domains": ["*"],
        "routes": routes,
        "include_request_attempt_count": true,
        "include_attempt_count_in_response": true,
        "include_is_timeout_retry_header": true,
        "retry_policy": cases::of_host(),
    });
    let mut more = more.clone();
    more["access_log"] = json!([{"name": "file", "typed_config": log}]);
    more["route_config"] = json!({"virtual_hosts": [host]});
    json!({
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "per_connection_buffer_limit_bytes": cases::CONNECTION_BUFFER_BYTES,
        "filter_chains": [{"filters": [{
            "name": "http",
            "typed_config": manager(&json!([]), &more),
        }]}],
    })
}

impl Told {
    fn path(&self, run: u32) -> String {
        format!("/{}/{run}", self.case)
    }
}

async fn tell(case: &Case, origin: &Origin, (port, run): (&ReservedPort, u32)) -> Told {
    let mut told = Told {
        case: case.name,
        answer: String::new(),
        attempts: Vec::new(),
        log: String::new(),
    };
    told.answer = ask(port, &case.request(&told.path(run))).await;
    told.attempts = origin.take_seen();
    told
}

/// What is logged of a request, its flags in one order.
async fn logged(file: &Path, path: &str) -> String {
    let mut entry = String::new();
    let found = until(|| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(path)?.strip_prefix(' '));
        let found = line.map(|line| entry = shortened(line).to_owned());
        std::future::ready(found.ok_or_else(|| format!("nothing of {path}")))
    });
    found.await.expect("the request is logged");
    let (flags, rest) = entry.split_once(' ').expect("several fields");
    let mut flags: Vec<&str> = flags.split(',').collect();
    flags.sort_unstable();
    format!("{} {rest}", flags.join(","))
}

/// Without the system's own words for a failed connection.
fn shortened(text: &str) -> &str {
    let ends = ["|", ", transport failure", "}"];
    let ends = ends.iter().filter_map(|end| text.find(end));
    let end = ends.min().unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

async fn ask(port: &ReservedPort, request: &str) -> String {
    let mut stream = TcpStream::connect(port.addr()).await.expect("it listens");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("it is open");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer).await;
    read.expect("an answer that is text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let field = |name: &str| {
        let mut lines = head.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or("-").to_owned()
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    let (attempts, grpc) = (field("x-envoy-attempt-count"), field("grpc-status"));
    format!("{status} {attempts} {grpc} {}", shortened(body))
}
