//! The step between socket and filter: the transport socket of the chosen chain.

use std::sync::Arc;

use tokio::time::Instant;

use crate::config::filter_chain::TransportSocket;
use crate::config::limits;
use crate::downstream::Downstream;
use crate::listener::ActiveChain;
use crate::net::NetStream;
use crate::telemetry::stats::ListenerStats;
use crate::telemetry::stats::TlsStats;
use crate::tls;
use crate::tls::ServerContext;
use crate::tls::failure::Kind;

/// A chain's transport, ready for use.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Plain bytes.
    Raw,
    /// TLS. A context that cannot be made ready lets nobody in.
    Tls(Result<ServerContext, String>, Arc<TlsStats>),
}

impl Transport {
    /// Makes ready what is configured.
    pub(super) fn new(config: &TransportSocket, stats: impl FnOnce() -> Arc<TlsStats>) -> Self {
        match config {
            TransportSocket::Raw => Self::Raw,
            TransportSocket::Tls(tls) => {
                let context = ServerContext::new(tls);
                if let Err(error) = &context {
                    tracing::error!(%error, "a chain's TLS cannot be used, it refuses all clients");
                }
                Self::Tls(context, stats())
            }
        }
    }
}

/// The stream as the chain's filter reads it; none if the client failed to get there. What the
/// transport learns of the client is added to `downstream`.
pub(super) async fn accept(
    chain: &ActiveChain,
    stats: &ListenerStats,
    stream: NetStream,
    downstream: &mut Downstream,
) -> Option<NetStream> {
    match &chain.transport {
        Transport::Raw => Some(stream),
        Transport::Tls(Err(_), _) => None,
        Transport::Tls(Ok(context), tls_stats) => {
            let timeout = chain.config.transport_timeout;
            let deadline = Instant::now() + timeout.unwrap_or(limits::TLS_HANDSHAKE_TIMEOUT);
            let handshake = Box::pin(context.accept(stream, Vec::new(), deadline));
            match handshake.await {
                Ok((stream, facts)) => {
                    tls::count::handshake(tls_stats, &facts);
                    downstream.tls = Some(Arc::new(facts));
                    Some(stream)
                }
                Err(failure) => {
                    tls::count::failure(tls_stats, failure.kind);
                    if failure.kind == Kind::Timeout {
                        let timeouts = stats.downstream_cx_transport_socket_connect_timeout();
                        timeouts.inc();
                    }
                    tracing::debug!(connection = downstream.connection_id, %failure, "no handshake");
                    None
                }
            }
        }
    }
}
