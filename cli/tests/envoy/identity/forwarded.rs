//! `x-forwarded-client-cert` as the origin gets it: every mode, several details, with and without a
//! client certificate, with and without one that came.

use std::net::SocketAddr;
use std::sync::Arc;

use bench::origin::Origin;
use bench::origin::Seen;
use bench::ports::ReservedPort;
use rustls::ClientConfig;
use serde_json::Value;
use serde_json::json;

use super::bootstrap;
use super::certificates::CLIENTS;
use super::certificates::Certificates;
use super::client;
use super::cluster;
use super::free_ports;
use super::listener;
use super::manager;
use super::of_both;
use crate::setting::envoy_is_there;

const NAME: &str = "x-forwarded-client-cert";

const MODES: [&str; 5] = [
    "SANITIZE",
    "FORWARD_ONLY",
    "APPEND_FORWARD",
    "SANITIZE_SET",
    "ALWAYS_FORWARD_ONLY",
];

/// What comes with a request.
const CAME: [&[&str]; 8] = [
    &[],
    &[""],
    &["By=spiffe://x;Hash=0"],
    &["By=x", "By=y,By=z"],
    &["By=x", ""],
    &[r#"[{"by":["x"]}]"#],
    &[r#"[{"by":["x"]}]"#, r#"[{"by":["y"]} ]"#],
    &["[x"],
];

fn details() -> Vec<Value> {
    let all = json!({
        "subject": true, "cert": true, "chain": true, "dns": true, "uri": true, "issuer": true,
    });
    let mut all_json = all.clone();
    all_json["format"] = json!("JSON");
    vec![
        Value::Null,
        json!({"subject": true}),
        json!({"subject": false, "cert": true}),
        json!({"uri": true, "dns": true}),
        json!({"format": "JSON"}),
        all,
        all_json,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_is_told_of_the_client_alike() {
    if !envoy_is_there() {
        return;
    }
    let certificates = Certificates::new();
    let origin = Origin::start("origin").expect("a free port");
    let mut managers = Vec::new();
    for mode in MODES {
        for details in details() {
            let mut more = json!({"forward_client_cert_details": mode});
            if !details.is_null() {
                more["set_current_client_cert_details"] = details;
            }
            managers.push(more);
        }
    }
    let ports = free_ports(2 * managers.len());
    let (secure, plain) = ports.split_at(managers.len());
    let route = json!([{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]);
    let listen = |ports: &[ReservedPort], tls: Option<&Certificates>| -> Vec<Value> {
        let pairs = ports.iter().zip(&managers);
        pairs
            .map(|(port, more)| listener(port.number(), &manager(&route, more), tls))
            .collect()
    };
    let listeners = [listen(secure, Some(&certificates)), listen(plain, None)].concat();
    let bootstrap = bootstrap(&listeners, &[cluster("origin", origin.addr().port())]);

    let clients = [None].into_iter().chain(CLIENTS.map(Some));
    let clients: Vec<_> = clients
        .map(|name| (name, certificates.client(name)))
        .collect();
    let look = || async {
        let mut told = Vec::new();
        for (port, more) in secure.iter().zip(&managers) {
            for (name, tls) in &clients {
                let case = format!("{more} {name:?}");
                told.extend(ask_all(&case, port, Some(tls)).await);
            }
        }
        for (port, more) in plain.iter().zip(&managers) {
            told.extend(ask_all(&format!("{more} without TLS"), port, None).await);
        }
        told
    };
    let (wanted, found) = of_both(&bootstrap, &ports, look).await;
    check_breadth(&wanted);
    let differences: Vec<_> = wanted.iter().zip(&found).filter(|(a, b)| a != b).collect();
    assert!(
        differences.is_empty(),
        "{} of {} differ, such as {:#?}",
        differences.len(),
        wanted.len(),
        differences.first()
    );
}

/// What the origin is told in each case, asked for at the same time.
async fn ask_all(
    case: &str,
    port: &ReservedPort,
    tls: Option<&Arc<ClientConfig>>,
) -> Vec<(String, String)> {
    let asked = CAME.map(|came| {
        let asked = ask(port.addr(), tls.cloned(), came);
        (format!("{case} {came:?}"), tokio::spawn(asked))
    });
    let mut told = Vec::new();
    for (case, asked) in asked {
        told.push((case, asked.await.expect("no panic")));
    }
    told
}

/// All values the origin got, as the one that they mean.
async fn ask(target: SocketAddr, tls: Option<Arc<ClientConfig>>, came: &[&str]) -> String {
    let came: Vec<_> = came.iter().map(|value| (NAME, *value)).collect();
    let answer = client::get(target, tls.as_ref(), "/", &came).await;
    let answer = answer.expect("a whole answer");
    let seen: Seen = serde_json::from_slice(client::body(&answer)).expect("an echo");
    let told = seen.headers.iter().filter(|(name, _)| name == NAME);
    let values: Vec<&str> = told.map(|(_, value)| &**value).collect();
    match values.as_slice() {
        [] => "no header".to_owned(),
        values => {
            let values = values.iter().filter(|value| !value.is_empty());
            format!("{:?}", values.copied().collect::<Vec<_>>().join(","))
        }
    }
}

/// A matrix in which nothing is ever told would find no difference.
fn check_breadth(told: &[(String, String)]) {
    let parts = [
        "no header",
        "Hash=",
        "Cert=",
        "Chain=",
        "Subject=",
        "URI=spiffe",
        "DNS=one",
        "Issuer=",
        "},{\\\"by\\\"",
        "By=z,By=spiffe://us/one",
    ];
    for part in parts {
        let is_told = told.iter().any(|(_, value)| value.contains(part));
        assert!(is_told, "nobody is told {part}");
    }
}
