//! A new connection to a host, counted.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::config;
use crate::config::cluster::ProxyHeader;
use crate::downstream::Downstream;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::net::NetStream;
use crate::net::proxy_protocol;
use crate::net::proxy_protocol::Version;
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

/// Connects to `host` within the cluster's time; `client` is who it is for, if it is for one.
///
/// # Errors
/// The host refused, or was too slow.
///
/// # Cancel safety
/// A connection being made is dropped.
pub async fn connect(
    config: &config::Cluster,
    stats: &ClusterStats,
    (host, counts): (&Host, &HostCounts),
    client: Option<&Downstream>,
) -> Result<NetStream, ConnectFailure> {
    stats.upstream_cx_total().inc();
    counts.cx_total.inc();
    let connecting = async {
        let mut stream = NetStream::connect(&host.address).await?;
        if let Some(header) = &config.proxy_protocol {
            stream.write_all(&introduction(header, client)).await?;
        }
        Ok(stream)
    };
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

/// Who the client is, as a PROXY protocol header; of a connection for several it says nothing.
fn introduction(header: &ProxyHeader, client: Option<&Downstream>) -> Vec<u8> {
    let addresses = client.and_then(|client| client.peer.zip(client.local));
    match header.version {
        Version::V1 => proxy_protocol::write_v1(addresses),
        Version::V2 => {
            let own = client.map_or(&[][..], |client| &client.found().tlvs);
            let passed = own.iter().filter(|tlv| header.passed_tlvs.keeps(tlv.kind));
            proxy_protocol::write_v2(addresses, header.added_tlvs.iter().chain(passed))
        }
    }
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
