//! The first step of a connection: listener filters find out what they can before a chain is chosen.
//!
//! They look at the first bytes where they are, in the socket's own buffer, so that nothing has to
//! be replayed; only a PROXY protocol header is taken out. All of them together have one deadline.
//!
//! | file | holds |
//! |---|---|
//! | `client_hello` | a strict reader of what a TLS client sends first |
//! | `first_line` | a strict reader of what an HTTP client sends first |
//! | `filters` | the filters themselves |

pub mod client_hello;
mod filters;
pub mod first_line;

use std::io;
use std::sync::Arc;

use crate::config::listener_filter::ListenerFilterKind;
use crate::downstream::Downstream;
use crate::listener::ActiveListener;
use crate::net::NetStream;
use crate::telemetry::stats::GaugeGuard;
use crate::telemetry::stats::ListenerStats;

/// Why a connection goes no further.
#[derive(Debug)]
pub(super) enum Refused {
    /// The client left before it said enough.
    Left,
    /// A filter does not want it.
    Filter,
}

impl From<io::Error> for Refused {
    fn from(_error: io::Error) -> Self {
        Self::Left
    }
}

/// Runs the filters; none if the connection is to be closed.
pub(super) async fn run(
    listener: &ActiveListener,
    stream: NetStream,
    downstream: &mut Downstream,
) -> Option<NetStream> {
    let chains = listener.chains();
    let config = &chains.config;
    if config.listener_filters.is_empty() {
        return Some(stream);
    }
    let stats = &chains.stats;
    let _waiting = GaugeGuard::new(Arc::clone(stats), ListenerStats::downstream_pre_cx_active);
    let all = run_all(listener, &stream, downstream);
    let result = match config.listener_filters_timeout {
        Some(patience) => tokio::time::timeout(patience, all).await,
        None => Ok(all.await),
    };
    match result {
        Ok(Ok(())) => Some(stream),
        Ok(Err(Refused::Left)) => {
            stats.downstream_listener_filter_remote_close().inc();
            None
        }
        Ok(Err(Refused::Filter)) => {
            stats.downstream_listener_filter_error().inc();
            None
        }
        Err(_elapsed) => {
            stats.downstream_pre_cx_timeout().inc();
            let goes_on = config.continue_on_listener_filters_timeout;
            goes_on.then(|| stream.look_again().ok()).flatten()
        }
    }
}

async fn run_all(
    listener: &ActiveListener,
    stream: &NetStream,
    downstream: &mut Downstream,
) -> Result<(), Refused> {
    let chains = listener.chains();
    let stats = &listener.inspector_stats;
    for filter in &chains.config.listener_filters {
        let port = downstream.local.map(|local| local.port());
        if filter
            .disabled
            .as_ref()
            .is_some_and(|disabled| disabled.holds(port))
        {
            continue;
        }
        match &filter.kind {
            ListenerFilterKind::OriginalDst => filters::original_dst(stream, downstream),
            ListenerFilterKind::ProxyProtocol(config) => {
                filters::proxy_protocol(config, stream, downstream, &stats.proxy_protocol).await?;
            }
            ListenerFilterKind::TlsInspector(config) => {
                filters::tls(*config, stream, downstream, &stats.tls).await?;
            }
            ListenerFilterKind::HttpInspector => {
                filters::http(stream, downstream, &stats.http).await?;
            }
        }
    }
    Ok(())
}
