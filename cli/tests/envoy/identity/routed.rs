//! Routes that ask for the client's certificate.

use serde_json::Value;
use serde_json::json;

use super::bootstrap;
use super::certificates::CLIENTS;
use super::certificates::Certificates;
use super::client;
use super::free_ports;
use super::listener;
use super::manager;
use super::of_both;
use crate::setting::envoy_is_there;

/// Of `presented` and `validated`.
const WANTED: [Option<bool>; 3] = [None, Some(false), Some(true)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_ask_for_the_certificate_alike() {
    if !envoy_is_there() {
        return;
    }
    let certificates = Certificates::new();
    let ports = free_ports(3);
    let manager = manager(&routes(), &json!({}));
    let mut lenient = listener(ports[1].number(), &manager, Some(&certificates));
    let context = &mut lenient["filter_chains"][0]["transport_socket"]["typed_config"];
    context["common_tls_context"]["validation_context"]["trust_chain_verification"] =
        json!("ACCEPT_UNTRUSTED");
    let listeners = [
        listener(ports[0].number(), &manager, Some(&certificates)),
        lenient,
        listener(ports[2].number(), &manager, None),
    ];
    let look = || async {
        let mut answers = Vec::new();
        for (place, port) in ports.iter().enumerate() {
            for name in [None, Some("stranger")]
                .into_iter()
                .chain(CLIENTS.map(Some))
            {
                let tls = certificates.client(name);
                let tls = (place != 2).then_some(&tls);
                for path in paths() {
                    let answer = client::get(port.addr(), tls, &path, &[]).await;
                    let answer = answer.as_deref().map(client::body).unwrap_or_default();
                    let answer = String::from_utf8_lossy(answer).into_owned();
                    answers.push(format!("{place} {name:?} {path}: {answer}"));
                }
            }
        }
        answers
    };
    let bootstrap = bootstrap(&listeners, &[]);
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    assert_eq!(wanted, found);
    for answer in ["yes", "no"] {
        assert!(wanted.iter().any(|line| line.ends_with(answer)), "{answer}");
    }
    // A stranger is refused where everybody is verified, and goes unverified elsewhere.
    assert!(wanted.contains(&"0 Some(\"stranger\") /1/0: ".to_owned()));
    assert!(wanted.contains(&"1 Some(\"stranger\") /2/1: yes".to_owned()));
}

fn paths() -> impl Iterator<Item = String> {
    let all = (0..WANTED.len()).flat_map(|a| (0..WANTED.len()).map(move |b| (a, b)));
    all.map(|(presented, validated)| format!("/{presented}/{validated}"))
}

/// One path for each pair of conditions; what no condition holds for is answered by the last route.
fn routes() -> Value {
    let mut routes = Vec::new();
    for (a, presented) in WANTED.iter().enumerate() {
        for (b, validated) in WANTED.iter().enumerate() {
            let mut options = json!({});
            if let Some(presented) = presented {
                options["presented"] = json!(presented);
            }
            if let Some(validated) = validated {
                options["validated"] = json!(validated);
            }
            routes.push(json!({
                "match": {"path": format!("/{a}/{b}"), "tls_context": options},
                "direct_response": {"status": 200, "body": {"inline_string": "yes"}},
            }));
        }
    }
    routes.push(json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "no"}},
    }));
    routes.into()
}
