//! A new connection to a host, counted.

use std::io;
use std::sync::Arc;

use crate::config;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::net::NetStream;
use crate::telemetry::stats::ClusterStats;
use crate::upstream::Host;
use crate::upstream::HostCounts;

/// A connection that could not be made.
#[derive(Debug)]
pub struct ConnectFailure {
    /// Refused, or too slow.
    pub reason: Reason,
    /// What the system says, if it said anything.
    pub error: Option<io::Error>,
}

impl ConnectFailure {
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, with Envoy's underscores for spaces.
    pub fn text(&self) -> Box<str> {
        let error = match &self.error {
            // Without the number in brackets behind it.
            Some(error) => error.to_string(),
            None => return "connection_timeout".into(),
        };
        let words = error.split(" (os error").next().unwrap_or_default();
        format!("delayed_connect_error:_{}", words.replace(' ', "_")).into()
    }
}

impl From<ConnectFailure> for ProxyError {
    fn from(failure: ConnectFailure) -> Self {
        failure.reason.into()
    }
}

/// Connects to `host` within the cluster's time.
///
/// # Errors
/// The host refused, or was too slow.
///
/// # Cancel safety
/// A connection being made is dropped.
pub async fn connect(
    config: &config::Cluster,
    stats: &ClusterStats,
    host: &Host,
    counts: &HostCounts,
) -> Result<NetStream, ConnectFailure> {
    stats.upstream_cx_total().inc();
    counts.cx_total.inc();
    let connecting = NetStream::connect(&host.address);
    let failure = match tokio::time::timeout(config.connect_timeout, connecting).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => ConnectFailure {
            reason: Reason::ConnectFailed,
            error: Some(error),
        },
        Err(_) => {
            stats.upstream_cx_connect_timeout().inc();
            ConnectFailure {
                reason: Reason::ConnectTimeout,
                error: None,
            }
        }
    };
    counts.cx_connect_fail.inc();
    stats.upstream_cx_connect_fail().inc();
    Err(failure)
}

/// Counts a connection while it is open.
#[derive(Debug)]
pub struct Open {
    stats: Arc<ClusterStats>,
    counts: Arc<HostCounts>,
}

impl Open {
    /// One more from now on.
    pub fn enter(stats: &Arc<ClusterStats>, counts: &Arc<HostCounts>) -> Self {
        stats.upstream_cx_active().inc();
        counts.cx_active.inc();
        Self {
            stats: Arc::clone(stats),
            counts: Arc::clone(counts),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stats.upstream_cx_active().dec();
        self.counts.cx_active.dec();
        self.stats.upstream_cx_destroy().inc();
    }
}
