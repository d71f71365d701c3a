//! Everything the demo shows, each answer checked.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::MissedTickBehavior;
use tokio::time::timeout;

use super::APP;
use super::BACKEND;
use super::Mesh;
use super::visitor;
use crate::client::get;
use crate::demo::steps::Steps;
use crate::demo::steps::expect;

/// Between two requests while certificates are replaced.
const PACE: Duration = Duration::from_millis(10);

/// Requests between two looks at the certificate.
const LOOK_EVERY: u32 = 25;

/// Requests after both certificates were replaced: some for each of the new ones.
const AFTER: u32 = 100;

/// Longest wait for both to be replaced: longer than either lives.
const REPLACED_TIMEOUT: Duration = Duration::from_secs(90);

/// Walks; true if every answer was right.
pub(super) async fn walk(mesh: &Mesh) -> bool {
    let mut steps = Steps::default();
    steps
        .step(
            "a request goes through, and the backend sees who sent it",
            async { ask(mesh).await.map(drop) },
        )
        .await;
    steps
        .step("the sidecar of the backend shows its identity", async {
            let shown = visitor::shown(mesh.backend).await?;
            let is_right = shown.identity == mesh.place.identity(BACKEND);
            expect(is_right, || format!("{shown:?}"))
        })
        .await;
    steps
        .step(
            "a client without TLS is refused",
            refuses_plain(mesh.backend),
        )
        .await;
    steps
        .step("a client without a certificate is refused", async {
            let reason = visitor::refusal(mesh.backend, None).await?;
            expect(reason.contains("CertificateRequired"), || reason)
        })
        .await;
    steps
        .step(
            "a certificate of another authority is refused, whatever its name",
            async {
                let forged = mesh.place.forged(APP)?;
                visitor::refusal(mesh.backend, Some(forged)).await.map(drop)
            },
        )
        .await;
    println!("...   certificates live for a minute and are replaced after about half of it");
    let mut seen = None;
    steps
        .step(
            "both sidecars get new certificates, and no request fails",
            async {
                seen = Some(replaced(mesh).await?);
                Ok(())
            },
        )
        .await;
    if let Some(seen) = seen {
        println!("{seen}");
    }
    steps.report()
}

/// What was seen while certificates were replaced.
struct Seen {
    /// Serial numbers the sidecar of the backend showed, before and after.
    backend: [String; 2],
    /// Digests of the certificates of the other one, as the backend sees them.
    app: [String; 2],
    requests: u32,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backend,
            app,
            requests,
        } = self;
        writeln!(f, "      backend  serial {} -> {}", backend[0], backend[1])?;
        let [before, after] = app;
        writeln!(f, "      app      digest {before:.16} -> {after:.16}")?;
        write!(f, "      {requests} requests meanwhile, 0 failed")
    }
}

/// Sends requests until both certificates are others, and some more; every single one must succeed.
async fn replaced(mesh: &Mesh) -> Result<Seen, String> {
    let mut seen = Seen {
        backend: [(); 2].map(|()| String::new()),
        app: [(); 2].map(|()| String::new()),
        requests: 0,
    };
    let watching = watch(mesh, &mut seen);
    match timeout(REPLACED_TIMEOUT, watching).await {
        Ok(watched) => watched?,
        Err(_) => return Err(format!("not within {REPLACED_TIMEOUT:?}:\n{seen}")),
    }
    Ok(seen)
}

async fn watch(mesh: &Mesh, seen: &mut Seen) -> Result<(), String> {
    let serial = visitor::shown(mesh.backend).await?.serial;
    seen.backend = [serial.clone(), serial];
    let digest = ask(mesh).await?;
    seen.app = [digest.clone(), digest];
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = AFTER;
    while left > 0 {
        pace.tick().await;
        let digest = ask(mesh).await;
        seen.app[1] = digest.map_err(|error| format!("request {}: {error}", seen.requests))?;
        seen.requests += 1;
        if seen.requests.is_multiple_of(LOOK_EVERY) {
            seen.backend[1] = visitor::shown(mesh.backend).await?.serial;
        }
        let is_replaced = |both: &[String; 2]| both[0] != both[1];
        if is_replaced(&seen.backend) && is_replaced(&seen.app) {
            left -= 1;
        }
    }
    Ok(())
}

/// A request through both sidecars; returns the digest of the certificate it came with.
async fn ask(mesh: &Mesh) -> Result<String, String> {
    let (status, body) = get(mesh.app, "/hello").await?;
    expect(status == 200, || format!("{status} {body}"))?;
    let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{body}: {error}"))?;
    let client = answer.get("client").and_then(Value::as_str).unwrap_or("");
    let part = |name: &str| {
        let mut parts = client.split(';');
        parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    };
    let by = Some(mesh.place.identity(BACKEND));
    let from = Some(mesh.place.identity(APP));
    match part("Hash") {
        Some(hash) if part("By") == by.as_deref() && part("URI") == from.as_deref() => {
            Ok(hash.to_owned())
        }
        _ => Err(format!("x-forwarded-client-cert: {client:?}")),
    }
}

async fn refuses_plain(address: SocketAddr) -> Result<(), String> {
    match get(address, "/hello").await {
        Ok((status, body)) => Err(format!("{status} {body}")),
        Err(error) => expect(!error.contains("no answer in time"), || error),
    }
}
