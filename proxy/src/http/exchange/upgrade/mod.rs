//! Requests that go on as another protocol (RFC 9110 section 7.8), from the question to the last byte.
//!
//! Nothing the client sends after its head goes upstream before the upstream has agreed; whatever else is
//! answered, neither connection, or stream, is used again.
//!
//! | file | holds |
//! |---|---|
//! | `switched` | what follows a 101 |

mod switched;

use std::pin::pin;

use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header::SEC_WEBSOCKET_ACCEPT;
use http::header::SEC_WEBSOCKET_KEY;
use http::header::UPGRADE;
use http::request::Parts;

use crate::config::route::Action;
use crate::config::upgrade;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::http::codec::AsksUpgrade;
use crate::http::codec::Incoming;
use crate::http::codec::Protocol;
use crate::http::exchange::Exchange;
use crate::http::exchange::forward;
use crate::http::headers;
use crate::http::router::Match;
use crate::upstream::ClusterHandle;
use crate::upstream::pool::Lease;
pub(super) use switched::Switched;
pub(super) use switched::is_counted_reset;

/// What nobody is given: the request is answered as if it had not asked (as Envoy).
const NEVER: &[u8] = b"h2c";

/// A request that asks for another protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upgrading {
    is_websocket: bool,
    /// It may, and is counted.
    pub(super) is_allowed: bool,
    /// It has no key, as those of HTTP/2 have none: servers of HTTP/1.1 get one of ours (RFC 6455 section 4.2.1).
    lacks_key: bool,
}

impl Upgrading {
    /// What the codec has found in a head.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        parts.extensions.get::<AsksUpgrade>()?;
        let kind = parts.headers.get(UPGRADE)?.as_bytes();
        let websocket = headers::WEBSOCKET.as_bytes();
        (!kind.eq_ignore_ascii_case(NEVER)).then(|| Self {
            is_websocket: kind.eq_ignore_ascii_case(websocket),
            is_allowed: false,
            lacks_key: !parts.headers.contains_key(SEC_WEBSOCKET_KEY),
        })
    }
}

/// Sends the request as others are, or by an extended CONNECT. An answer with 101 must have read a key of ours,
/// which is nobody else's business.
pub(super) async fn send(
    exchange: &mut Exchange,
) -> Result<Option<Response<Incoming>>, ProxyError> {
    let accept = exchange.write_key();
    let mut answer = match &exchange.lease {
        Some(Lease::Http2(_)) => extend(exchange).await?,
        Some(Lease::Http1(_)) | None => forward::send(exchange).await?,
    };
    if let (Some(accept), Some(response)) = (accept, &mut answer)
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
        && response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT) != Some(accept)
    {
        let failed = exchange.take_sent(Err(Reason::UpstreamProtocol), false);
        return failed.map_err(Into::into);
    }
    Ok(answer)
}

/// Sends the request by an extended CONNECT.
async fn extend(exchange: &mut Exchange) -> Result<Option<Response<Incoming>>, ProxyError> {
    let reused = exchange.lease.as_ref().is_some_and(Lease::is_reused);
    exchange.copy_head();
    let (Some(request), Some(Lease::Http2(lease))) = (exchange.request.take(), &mut exchange.lease)
    else {
        return Err(Reason::UpstreamClosed.into()); // it was sent, and nothing came back
    };
    let answer = pin!(lease.extend(request));
    let sent = exchange.deadlines.bound(answer).await;
    exchange.take_sent(sent, reused).map_err(Into::into)
}

impl Exchange {
    /// Whether it asks for another protocol.
    pub(super) fn is_upgrade(&self) -> bool {
        self.upgrading.is_some()
    }

    /// Lets it go on as another protocol if it may. A request with a body may not: the other protocol would
    /// begin somewhere behind it.
    pub(super) fn allow_upgrade(
        &mut self,
        found: Option<&Match<'_, ClusterHandle>>,
        headers: &HeaderMap,
    ) -> Result<(), Reason> {
        let manager = &self.connection.manager;
        let Some(upgrading) = &mut self.upgrading else {
            return Ok(());
        };
        let kind = headers.get(UPGRADE).map_or(&[][..], |kind| kind.as_bytes());
        let of_route = match found.map(|found| &found.route.action) {
            Some(Action::Forward(forward)) => &*forward.upgrades,
            _ => &[],
        };
        if !upgrade::is_allowed(of_route, &manager.config.upgrades, kind)
            || self.deadlines.progress.is_some()
        {
            manager.stats.downstream_rq_ws_on_non_ws_route().inc();
            return Err(Reason::UpgradeRefused);
        }
        upgrading.is_allowed = true;
        manager.stats.downstream_cx_upgrades_total().inc();
        manager.stats.downstream_cx_upgrades_active().inc();
        Ok(())
    }

    /// Another answer than 101 is over: what was offered to go on as something else is used for nothing more.
    pub(super) fn leave_offered(&self, lease: &Lease) {
        if let (Lease::Http2(_), Some(cluster)) = (lease, &self.cluster) {
            cluster.stats().upstream_rq_tx_reset().inc(); // we have not said our end
        }
    }

    /// Gives the attempt a key of ours if its server is to see one and its client has none; what accepts it.
    /// An attempt before may have had another one.
    fn write_key(&mut self) -> Option<HeaderValue> {
        let upgrading = self.upgrading?;
        let is_ours = upgrading.is_websocket && upgrading.lacks_key;
        if !is_ours || self.connection.protocol == Protocol::Http1 {
            return None;
        }
        let headers = self.request.as_mut()?.headers_mut();
        if let Some(Lease::Http2(_)) = self.lease {
            headers.remove(SEC_WEBSOCKET_KEY);
            return None;
        }
        let key = headers::websocket_key(fastrand::u128(..));
        let accept = headers::websocket_accept(&key);
        headers.insert(SEC_WEBSOCKET_KEY, key);
        Some(accept)
    }
}
