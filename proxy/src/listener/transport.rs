//! The step between socket and filter: the transport socket of the chosen chain.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Secrets;
use crate::config::filter_chain::TransportSocket;
use crate::config::limits;
use crate::config::overload::Timeout;
use crate::config::tls::CommonTls;
use crate::config::tls::DownstreamTls;
use crate::downstream::Downstream;
use crate::listener::ActiveChain;
use crate::net::NetStream;
use crate::net::tls::Facts;
use crate::overload::Loads;
use crate::telemetry::stats::ListenerStats;
use crate::telemetry::stats::TlsStats;
use crate::tls;
use crate::tls::Failure;
use crate::tls::ServerContext;
use crate::tls::failure::Kind;
use crate::tls::live::Following;
use crate::tls::live::Ticket;

/// Of a client that came before the secrets, in Envoy's words.
const NOT_READY: &str = "Secret is not supplied by SDS";

/// A chain's transport, ready for use.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Plain bytes.
    Raw,
    /// TLS.
    Tls(Tls),
}

/// TLS of a chain. A context that cannot be made ready lets nobody in.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<DownstreamTls>,
    context: Following<ServerContext>,
    stats: Arc<TlsStats>,
}

/// A client that did not get through.
#[derive(Debug)]
pub(super) struct Refused {
    /// Why.
    pub(super) failure: Failure,
    /// How long it was tried.
    pub(super) after: Duration,
}

impl Transport {
    /// Makes ready what is configured.
    pub(super) fn new(
        config: &TransportSocket,
        secrets: &Secrets,
        stats: impl FnOnce() -> Arc<TlsStats>,
    ) -> Self {
        match config {
            TransportSocket::Raw => Self::Raw,
            TransportSocket::Tls(tls) => Self::Tls(Tls {
                config: Arc::clone(tls),
                context: Following::new(&tls.common.secrets, secrets, || make(tls, secrets)),
                stats: stats(),
            }),
        }
    }

    /// Takes in changed secrets: handshakes from now on use them. Says whether whom we trust may have
    /// changed. Called by `apply`.
    pub(crate) fn refresh(&self, secrets: &Secrets) -> bool {
        let Self::Tls(tls) = self else { return false };
        let names = &tls.config.common.secrets;
        let old = tls.context.load();
        let make = || make(&tls.config, secrets);
        if !tls.context.refresh(names, secrets, make) {
            return false;
        }
        tls.stats.context_update_by_sds().inc();
        old.secret(names.validation.as_ref())
            != tls.context.load().secret(names.validation.as_ref())
    }

    /// Its counters, with the connections made with the secrets of now and with older ones.
    pub(crate) fn connections(&self) -> Option<(&Arc<TlsStats>, (usize, usize))> {
        let Self::Tls(tls) = self else { return None };
        Some((&tls.stats, tls.context.connections()))
    }

    /// Its TLS with the secrets in use, if it has TLS that can be used.
    pub(crate) fn resolved(&self) -> Option<CommonTls> {
        let Self::Tls(tls) = self else { return None };
        let current = tls.context.load();
        current.context.as_ref().ok()?;
        tls.config.common.resolve(&current.all_secrets()).ok()
    }

    /// Whether a client that was let in would be let in now, as far as that can be told.
    pub(super) fn trusts(&self, facts: &Facts) -> bool {
        let Self::Tls(tls) = self else { return true };
        let current = tls.context.load();
        let context = current.context.as_ref();
        context.map_or(true, |context| context.trusts(facts))
    }

    /// Whether it depends on the server name which certificate is shown; none without TLS.
    pub(super) fn minds_name(&self) -> Option<bool> {
        let Self::Tls(tls) = self else { return None };
        let current = tls.context.load();
        current.context.as_ref().ok().map(ServerContext::minds_name)
    }

    /// Whether a client that asked for this host would be shown another certificate than it was.
    pub(super) fn shows_another(&self, host: &str, facts: &Facts) -> bool {
        let Self::Tls(tls) = self else { return false };
        let current = tls.context.load();
        let context = current.context.as_ref();
        context.is_ok_and(|context| context.shows_another(host, facts))
    }

    /// Whether a certificate may have ended.
    pub(super) fn allows_expired(&self) -> bool {
        let Self::Tls(tls) = self else { return true };
        let current = tls.context.load();
        let context = current.context.as_ref();
        context.is_ok_and(ServerContext::allows_expired)
    }
}

fn make(config: &DownstreamTls, secrets: &Secrets) -> Result<ServerContext, String> {
    ServerContext::new(&config.resolve(secrets)?)
}

/// The stream as the chain's filter reads it, unless the client failed to get there. What the
/// transport learns of the client is added to `downstream`; `ticket` is held as long as the stream
/// is open.
pub(super) async fn accept(
    chain: &ActiveChain,
    (stats, loads): (&ListenerStats, &Loads),
    stream: NetStream,
    (downstream, ticket): (&mut Downstream, &mut Option<Arc<Ticket>>),
) -> Result<NetStream, Box<Refused>> {
    let Transport::Tls(tls) = &chain.transport else {
        return Ok(stream);
    };
    let connection = downstream.connection_id;
    let patience = patience(chain, loads);
    let handshake = Box::pin(handshake((tls, patience), stats, stream, connection));
    let (stream, facts, held) = handshake.await?;
    downstream.tls = Some(Arc::new(facts));
    *ticket = Some(held);
    Ok(stream)
}

/// How long a handshake that begins now may take. Our own limit is never reduced, as in Envoy.
fn patience(chain: &ActiveChain, loads: &Loads) -> Duration {
    let Some(configured) = chain.config.transport_timeout else {
        return limits::TLS_HANDSHAKE_TIMEOUT;
    };
    if chain.config.allowance.ignores_overload {
        return configured;
    }
    loads.reduced(Timeout::TransportConnect, configured)
}

/// With the secrets of now, whatever they become meanwhile.
async fn handshake(
    (tls, patience): (&Tls, Duration),
    stats: &ListenerStats,
    stream: NetStream,
    connection: u64,
) -> Result<(NetStream, Facts, Arc<Ticket>), Box<Refused>> {
    let began = Instant::now();
    let refused = |failure| {
        let after = began.elapsed();
        Box::new(Refused { failure, after })
    };
    let deadline = began + patience;
    let current = tls.context.load();
    let Ok(context) = &current.context else {
        stats.downstream_context_secrets_not_ready().inc();
        return Err(refused(Failure::connection(NOT_READY)));
    };
    match context.accept(stream, Vec::new(), deadline).await {
        Ok((stream, facts)) => {
            tls::count::handshake(&tls.stats, &facts);
            Ok((stream, facts, Arc::clone(&current.ticket)))
        }
        Err(failure) => {
            tls::count::failure(&tls.stats, failure.kind);
            if failure.kind == Kind::Timeout {
                let timeouts = stats.downstream_cx_transport_socket_connect_timeout();
                timeouts.inc();
            }
            tracing::debug!(connection, %failure, "no handshake");
            Err(refused(failure))
        }
    }
}
