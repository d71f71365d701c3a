//! Idle connections that wait for the proxy to end them.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::site::Site;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: bench.test\r\n\r\n";

/// One task for each connection.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    tasks: JoinSet<f64>,
}

impl Watchers {
    /// Opens one whose certificates, of both ends, end at `ends`, and asks once on it: a proxy does not
    /// wait for long for a first request.
    pub(super) async fn add(&mut self, site: &Site, ends: SystemTime) -> Result<(), String> {
        let mut stream = site.connect().await?;
        let sent = stream.write_all(REQUEST).await;
        sent.map_err(|error| error.to_string())?;
        self.tasks.spawn(async move {
            let mut answer = Vec::new();
            // However it ends.
            let _ = stream.read_to_end(&mut answer).await;
            seconds_since(ends)
        });
        Ok(())
    }

    /// Seconds by which each outlived its certificates; infinitely many for one that is still open
    /// after `limit`.
    pub(super) async fn ended(mut self, limit: Duration) -> Vec<f64> {
        let mut seconds = Vec::new();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                seconds.push(ended.unwrap_or(f64::INFINITY));
            }
        };
        let _ = timeout(limit, all).await;
        seconds.resize(seconds.len() + self.tasks.len(), f64::INFINITY);
        seconds
    }
}

#[expect(clippy::disallowed_methods, reason = "a validity is wall time")]
fn seconds_since(moment: SystemTime) -> f64 {
    match SystemTime::now().duration_since(moment) {
        Ok(late) => late.as_secs_f64(),
        Err(early) => -early.duration().as_secs_f64(),
    }
}

/// The leaf that the other side has shown.
pub(super) fn leaf_of(stream: &TlsStream<TcpStream>) -> Result<CertificateDer<'static>, String> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let leaf = chain.first().ok_or("the proxy showed no certificate")?;
    Ok(leaf.clone().into_owned())
}
