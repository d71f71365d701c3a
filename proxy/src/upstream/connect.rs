//! A new connection to a host, counted.

use std::io;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config;
use crate::downstream::Downstream;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::net::NetStream;
use crate::net::tls::Facts;
use crate::telemetry::stats::ClusterStats;
use crate::tls::client::Target;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::breaker::ConnectionPermit;
use crate::upstream::breaker::StreamPermit;
use crate::upstream::transport::TransportFailure;

/// What a connection is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Purpose<'a> {
    /// Who it is for, if it is for one.
    pub client: Option<&'a Downstream>,
    /// The host of the request, if it makes a difference to TLS.
    pub request_host: Option<&'a str>,
    /// Offered in TLS if the cluster's context offers nothing.
    pub alpn: &'static [&'static [u8]],
}

/// A connection that stands.
#[derive(Debug)]
pub struct Connected {
    /// Ready to be spoken on.
    pub stream: NetStream,
    /// What is known of its TLS.
    pub tls: Option<Arc<Facts>>,
    /// What it was made under.
    pub vintage: Vintage,
}

/// A connection that was begun; when this is dropped it has ended, whether it was ever open or not.
#[derive(Debug)]
pub struct Begun(Arc<ClusterStats>);

impl Begun {
    fn new(stats: &Arc<ClusterStats>) -> Self {
        stats.upstream_cx_total().inc();
        Self(Arc::clone(stats))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.upstream_cx_destroy().inc();
    }
}

/// What a connection was made under; one of another vintage than now gets nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vintage {
    /// The generation of the secrets.
    secrets: u32,
    /// The era of the host.
    era: u32,
    /// How often the host was found unfit.
    falls: u32,
}

impl Vintage {
    /// That of a connection made now.
    pub fn now(host: &Host) -> Self {
        Self {
            secrets: host.transport.generation(),
            era: host.era(),
            falls: host.falls(),
        }
    }

    /// The generation of the secrets.
    pub fn secrets(self) -> u32 {
        self.secrets
    }

    /// The same with the secrets of another.
    pub fn with_secrets_of(self, other: Self) -> Self {
        Self {
            secrets: other.secrets,
            ..self
        }
    }

    /// The era of the host.
    pub fn era(self) -> u32 {
        self.era
    }

    /// Whether `host` has left since.
    pub fn is_obsolete(self, host: &Host) -> bool {
        self.era != host.era()
    }
}

/// A connection that could not be made.
#[derive(Debug)]
pub struct ConnectFailure {
    /// Refused, too slow, or one too many.
    pub reason: Reason,
    /// What there is to say.
    text: Box<str>,
    /// Whether a connection to the host was there, or was tried.
    pub met_host: bool,
}

impl ConnectFailure {
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`, with Envoy's underscores for spaces.
    pub fn text(&self) -> Box<str> {
        self.text.replace(' ', "_").into()
    }

    /// What happened, if it did so before anything was sent on the connection.
    pub(super) fn new(text: &str) -> Self {
        Self {
            reason: Reason::ConnectFailed,
            text: text.into(),
            met_host: true,
        }
    }

    /// A limit is reached, and nothing was tried.
    pub fn overflow() -> Self {
        Self {
            met_host: false,
            ..Self::too_many_requests()
        }
    }

    /// A limit is reached, though there is a connection.
    pub(super) fn too_many_requests() -> Self {
        Self {
            reason: Reason::Overflow,
            text: "".into(),
            met_host: true,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        let error = error.to_string();
        // Without the number in brackets behind it.
        let words = error.split(" (os error").next().unwrap_or_default();
        Self::new(&format!("delayed_connect_error: {words}"))
    }
}

impl From<ConnectFailure> for ProxyError {
    fn from(failure: ConnectFailure) -> Self {
        failure.reason.into()
    }
}

/// Connects to `host` within the cluster's time, its transport included.
///
/// # Errors
/// The host refused, or was too slow.
///
/// # Cancel safety
/// A connection being made is dropped.
pub async fn connect(
    config: &config::Cluster,
    stats: &Arc<ClusterStats>,
    (host, counts): (&Host, &HostCounts),
    purpose: Purpose<'_>,
) -> Result<(Connected, Begun), ConnectFailure> {
    let begun = Begun::new(stats);
    counts.cx_total.inc();
    let deadline = Instant::now() + config.connect_timeout;
    let connecting = Box::pin(establish(host, purpose));
    let failure = match tokio::time::timeout_at(deadline, connecting).await {
        Ok(Ok(connected)) => {
            host.reach.succeed();
            return Ok((connected, begun));
        }
        Ok(Err(TransportFailure::Io(error))) => ConnectFailure::of_io(&error),
        Ok(Err(TransportFailure::NotReady)) => {
            stats.upstream_context_secrets_not_ready().inc();
            ConnectFailure::new("TLS_error: Secret is not supplied by SDS") // as Envoy
        }
        Ok(Err(TransportFailure::Tls(failure))) => ConnectFailure::new(&failure.to_string()),
        Err(_) => {
            stats.upstream_cx_connect_timeout().inc();
            ConnectFailure {
                reason: Reason::ConnectTimeout,
                text: "connection_timeout".into(),
                met_host: true,
            }
        }
    };
    host.reach.fail();
    counts.cx_connect_fail.inc();
    stats.upstream_cx_connect_fail().inc();
    Err(failure)
}

async fn establish(host: &Host, purpose: Purpose<'_>) -> Result<Connected, TransportFailure> {
    let (era, falls) = (host.era(), host.falls()); // before anything is waited for
    let stream = NetStream::connect(&host.address).await?;
    let target = Target {
        address: &host.address,
        hostname: &host.hostname,
        request_host: purpose.request_host,
        alpn: purpose.alpn,
        alpn_instead: None,
    };
    let transport = &host.transport;
    let made = transport.establish(stream, target, purpose.client).await?;
    Ok(Connected {
        stream: made.stream,
        tls: made.tls.map(Arc::new),
        vintage: Vintage {
            secrets: made.generation,
            era,
            falls,
        },
    })
}

/// Counts a connection while it is open. Behind a pointer, because leases of connections are moved
/// with every request.
#[derive(Debug)]
pub struct Open(Box<Counted>);

#[derive(Debug)]
struct Counted {
    begun: Begun,
    counts: Arc<HostCounts>,
    _permit: ConnectionPermit,
    stream: Option<StreamPermit>,
}

impl Open {
    /// One more from now on.
    pub fn enter(begun: Begun, counts: &Arc<HostCounts>, permit: ConnectionPermit) -> Self {
        begun.0.upstream_cx_active().inc();
        counts.cx_active.inc();
        Self(Box::new(Counted {
            begun,
            counts: Arc::clone(counts),
            _permit: permit,
            stream: None,
        }))
    }

    /// The same, and what is sent on it is one stream of bytes.
    #[must_use]
    pub fn with_stream(mut self, permit: StreamPermit) -> Self {
        self.0.stream = Some(permit);
        self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.begun.0.upstream_cx_active().dec();
        self.0.counts.cx_active.dec();
    }
}
