//! One bootstrap, 1,000 requests, two proxies, equal outcomes.
//!
//! Envoy goes first, then Weir on the same ports with the same text. Every difference is a failure
//! unless `known` names it and says why it is wanted.
//!
//! | file | holds |
//! |---|---|
//! | `bootstrap.yaml` | what both are given |
//! | `request` | the seeded generator |
//! | `outcome` | what came of a request, as far as it is compared |
//! | `known` | the differences we want |

mod known;
mod outcome;
mod request;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Envoy;
use bench::peer::template;
use bench::ports::ReservedPort;
use http::StatusCode;
use tokio::net::TcpStream;

use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::seed;
use crate::setting::until;
use outcome::Outcome;
use request::Generator;
use request::Request;

const REQUESTS: usize = 1000;

/// Origins by the name of their cluster.
const ORIGINS: [&str; 4] = ["blue", "green", "red", "two"];

/// Examples shown of each kind of difference.
const EXAMPLES: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bootstrap_means_the_same_to_envoy_and_to_weir() {
    if !envoy_is_there() {
        return;
    }
    let seed = seed(7);
    let origins = ORIGINS.map(origin);
    let [plain, edge, redirect, reject, dead] =
        [(); 5].map(|()| ReservedPort::new().expect("a free port"));
    let mut values = vec![
        ("plain", plain.number().to_string()),
        ("edge", edge.number().to_string()),
        ("redirect", redirect.number().to_string()),
        ("reject", reject.number().to_string()),
        ("dead", dead.number().to_string()),
    ];
    values.extend(
        ORIGINS
            .iter()
            .zip(&origins)
            .map(|(name, origin)| (*name, origin.addr().port().to_string())),
    );
    let bootstrap = template::render(include_str!("bootstrap.yaml"), &values);
    let bootstrap = bootstrap.expect("every name has a value");
    let mut generator = Generator::new(seed);
    let requests: Vec<Request> = (0..REQUESTS).map(|_| generator.next()).collect();

    let targets = [plain, edge, redirect, reject].map(|port| port.addr());
    let envoy = Envoy::start(&bootstrap)
        .await
        .expect("Envoy takes the bootstrap");
    let wanted = outcomes(&requests, targets).await;
    drop(envoy);
    let weir = Weir::start(&bootstrap).await;
    // Weir is ready a moment before its listeners are open.
    for target in targets {
        let open = until(|| async {
            let connected = TcpStream::connect(target).await;
            connected.map(drop).map_err(|error| error.to_string())
        });
        open.await.expect("the listener opens");
    }
    let found = outcomes(&requests, targets).await;
    weir.stop().await;

    check_breadth(&wanted);
    let differences = Differences::between(&requests, &wanted, &found);
    assert!(
        differences.0.is_empty(),
        "seed {seed}:\n{}",
        differences.text()
    );
}

fn origin(name: &'static str) -> Origin {
    let origin = Origin::start(name).expect("a free port");
    origin.script(|seen| {
        let mut reply = Reply::echo();
        if seen.method == "HEAD" {
            let echo = serde_json::to_string(seen).expect("it is plain data");
            reply = Reply::status(StatusCode::OK);
            reply
                .headers
                .insert(outcome::ECHO, echo.try_into().expect("it is ASCII"));
        }
        let reply = reply
            .with_header("x-gone", "1")
            .with_header("x-origin", "theirs")
            .with_header("x-stays", "1");
        match seen.header("x-want") {
            Some("hop") => reply
                .with_header("keep-alive", "timeout=5")
                .with_header("x-hop", "1"),
            Some("server") => reply.with_header("server", "origin"),
            Some("envoy") => reply.with_header("x-envoy-upstream-service-time", "77"),
            Some("id") => reply.with_header("x-request-id", "theirs"),
            _ => reply,
        }
    });
    origin
}

async fn outcomes(requests: &[Request], targets: [SocketAddr; 4]) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(requests.len());
    for request in requests {
        outcomes.push(outcome::of(request, targets).await);
    }
    outcomes
}

/// A generator that only makes requests nobody routes would find no difference.
fn check_breadth(outcomes: &[Outcome]) {
    let mut statuses = BTreeMap::new();
    for outcome in outcomes {
        *statuses.entry(outcome.status()).or_insert(0) += 1;
    }
    for status in [200, 204, 301, 302, 303, 307, 308, 400, 404, 418, 503] {
        assert!(
            statuses.contains_key(&status),
            "no {status} in {statuses:?}"
        );
    }
    assert!(statuses[&200] * 2 > outcomes.len(), "{statuses:?}");
}

/// Unexplained differences by kind.
struct Differences(BTreeMap<String, Vec<String>>);

impl Differences {
    fn between(requests: &[Request], wanted: &[Outcome], found: &[Outcome]) -> Self {
        let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (request, (wanted, found)) in requests.iter().zip(wanted.iter().zip(found)) {
            for difference in wanted.differences(found) {
                if known::reason(request, &difference).is_none() {
                    let example = format!("    {difference:?}\n    {request:?}");
                    kinds.entry(difference.kind()).or_default().push(example);
                }
            }
        }
        Self(kinds)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (kind, examples) in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{kind}, {} times, such as", examples.len());
            for example in examples.iter().take(EXAMPLES) {
                let _ = writeln!(text, "{example}");
            }
        }
        text
    }
}
