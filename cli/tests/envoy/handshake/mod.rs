//! Whom a handshake lets in, with which certificate and protocol: Envoy and Weir decide the same.
//!
//! `openssl s_client` knocks at three listeners that require a client's certificate, ask for one, or
//! do not, in every version, with every kind of name, protocol and certificate. Each cell is a client
//! of its own, and what it saw of both must be equal.
//!
//! | file | holds |
//! |---|---|
//! | `authority` | the certificates of both ends |
//! | `client` | one `openssl s_client` |
//! | `late` | who does not get through in time |
//! | `paths` | ways from a leaf to the root |
//! | `presenter` | a client that shows any chain |
//! | `session` | resumed sessions and second handshakes |
//! | `spiffe` | whom trust domains let in |

mod authority;
mod client;
mod late;
mod paths;
mod presenter;
mod session;
mod spiffe;

use std::sync::Arc;
use std::sync::Mutex;

use bench::origin::Recorder;
use serde_json::Value;
use serde_json::json;

use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::openssl_is_there;
use authority::Files;
use client::Cell;
use client::Verdict;

/// Clients that run at once: some wait for the server while others compute.
const CLIENTS: usize = 4;

/// What a listener asks of its clients.
#[derive(Clone, Copy, Debug)]
enum Policy {
    Ignores,
    Asks,
    Requires,
}

const POLICIES: [Policy; 3] = [Policy::Ignores, Policy::Asks, Policy::Requires];

/// What is spoken over a connection that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Http,
    /// Anything: it is passed on.
    Tcp,
}

fn listener(port: u16, policy: Policy, files: &Files) -> Value {
    listener_over(Over::Http, port, policy, files)
}

fn filter(over: Over) -> Value {
    match over {
        Over::Http => {
            let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]);
            manager(&routes, &json!({}))
        }
        Over::Tcp => {
            let proxy = json!({"stat_prefix": "tcp", "cluster": "origin"});
            typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy)
        }
    }
}

fn listener_over(over: Over, port: u16, policy: Policy, files: &Files) -> Value {
    let mut common = json!({
        "tls_certificates": files.servers(),
        "alpn_protocols": ["h2", "http/1.1"],
    });
    if !matches!(policy, Policy::Ignores) {
        common["validation_context"] = json!({"trusted_ca": {"filename": files.path("ca.pem")}});
    }
    // With names to match, Envoy requires a certificate, whatever is said of that; so do we.
    if matches!(policy, Policy::Requires) {
        common["validation_context"]["match_typed_subject_alt_names"] =
            json!([{"san_type": "DNS", "matcher": {"exact": authority::CLIENT}}]);
    }
    let requires = matches!(policy, Policy::Requires);
    let context = json!({"common_tls_context": common, "require_client_certificate": requires});
    let context = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        context,
    );
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        // Without it Envoy sees no name to choose a certificate by.
        "listener_filters": [{
            "name": "tls_inspector",
            "typed_config": typed("extensions.filters.listener.tls_inspector.v3.TlsInspector", json!({})),
        }],
        "filter_chains": [{
            "filters": [{"name": "http", "typed_config": filter(over)}],
            "transport_socket": {"name": "tls", "typed_config": context},
        }],
    })
}

/// Every cell, knocked at by a few clients at once; in the order of the cells.
async fn knock(cells: Arc<Vec<Cell>>) -> Vec<Verdict> {
    let left = Arc::new(Mutex::new((0..cells.len()).rev().collect::<Vec<_>>()));
    let workers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (cells, left) = (Arc::clone(&cells), Arc::clone(&left));
            tokio::task::spawn_blocking(move || {
                let mut found = Vec::new();
                loop {
                    let next = left.lock().expect("no panic").pop();
                    let Some(index) = next else { return found };
                    found.push((index, client::knock(&cells[index])));
                }
            })
        })
        .collect();
    let mut found = Vec::new();
    for worker in workers {
        found.extend(worker.await.expect("no panic"));
    }
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, verdict)| verdict).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t05_handshakes_end_alike_in_every_cell() {
    if !envoy_is_there() || !openssl_is_there() {
        return;
    }
    let files = Files::new();
    let origin = Recorder::start().expect("a free port");
    let kinds: Vec<(Policy, Over)> = POLICIES
        .into_iter()
        .flat_map(|policy| [(policy, Over::Http), (policy, Over::Tcp)])
        .collect();
    let ports = free_ports(kinds.len());
    let listeners: Vec<_> = kinds
        .iter()
        .zip(&ports)
        .map(|((policy, over), port)| listener_over(*over, port.number(), *policy, &files))
        .collect();
    let cells: Vec<Cell> = kinds
        .iter()
        .zip(&ports)
        .flat_map(|((policy, over), port)| {
            let listener = (format!("{policy:?}"), *over, port.number());
            client::cells(&listener, &files)
        })
        .collect();
    let cells = Arc::new(cells);
    let clusters = [cluster("origin", origin.addr().port())];
    let (envoy, weir) = of_both(&bootstrap(&listeners, &clusters), &ports, || {
        knock(Arc::clone(&cells))
    })
    .await;
    let different: Vec<String> = cells
        .iter()
        .zip(envoy.iter().zip(&weir))
        .filter(|(_, (envoy, weir))| envoy != weir)
        .map(|(cell, (envoy, weir))| format!("{cell}\n  Envoy {envoy:?}\n  Weir  {weir:?}"))
        .collect();
    let count = (different.len(), cells.len());
    assert!(
        different.is_empty(),
        "{count:?} differ:\n{}",
        different.join("\n")
    );
    check_that_it_says_something(&cells, &weir);
    check_that_all_are_judged_alike(&cells, &weir);
}

/// Security case T5: the same client is let in or not, whatever is spoken afterwards.
fn check_that_all_are_judged_alike(cells: &[Cell], verdicts: &[Verdict]) {
    let over = |over| {
        let cells = cells.iter().zip(verdicts);
        cells.filter(move |(cell, _)| cell.over == over)
    };
    assert_eq!(over(Over::Http).count(), over(Over::Tcp).count());
    for ((cell, http), (_, tcp)) in over(Over::Http).zip(over(Over::Tcp)) {
        assert_eq!(http, tcp, "{cell}, and over TCP");
    }
}

/// Equal verdicts are worth something only if clients are let in and kept out as they should be.
fn check_that_it_says_something(cells: &[Cell], verdicts: &[Verdict]) {
    for (cell, verdict) in cells.iter().zip(verdicts) {
        if let Some(answered) = cell.must_be_answered() {
            assert_eq!(verdict.is_answered, answered, "{cell}: {verdict:?}");
        }
    }
    for name in authority::SERVERS {
        let shown = verdicts
            .iter()
            .any(|verdict| verdict.certificate.contains(name));
        assert!(shown, "nobody was shown {name}");
    }
}
