//! One attempt after another: a host, a connection, the request, the head of the response.
//!
//! A request is sent again by itself only if it cannot have reached the upstream: it was put on a
//! connection that had been idle, and the codec gave it back unwritten. Every other attempt is a
//! policy's (`retry`).

use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::Version;
use http::header::CONTENT_LENGTH;
use http::header::COOKIE;
use http::header::HOST;
use http::header::TRANSFER_ENCODING;
use http::header::UPGRADE;
use http::uri::PathAndQuery;
use http_body::Body;
use tokio::time::Instant;

use crate::config;
use crate::config::cluster::UpstreamProtocol;
use crate::config::route::Action;
use crate::config::route::HostRewrite;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Incoming;
use crate::http::codec::Protocol;
use crate::http::codec::RequestBody;
use crate::http::codec::Sent;
use crate::http::exchange::Exchange;
use crate::http::exchange::hedge;
use crate::http::exchange::prepare::Authority;
use crate::http::exchange::retry;
use crate::http::exchange::retry::Retrying;
use crate::http::exchange::upgrade;
use crate::http::exchange::watch::Refused;
use crate::http::headers;
use crate::http::headers::lookup;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::Picked;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::load_balancer::Asked;
use crate::upstream::load_balancer::Named;
use crate::upstream::pool::Lease;
use crate::upstream::pool::Wanted;

/// Connections tried for one attempt. An idle one may have been closed under our hands, and the next
/// one too; the third is almost surely new.
pub(super) const CONNECTIONS_MAX: u32 = 3;

/// Sends the request kept in the exchange and returns the head of the response.
pub(super) async fn forward(
    exchange: &mut Exchange,
    mut cluster: ClusterHandle,
    authority: Authority,
) -> Result<Response<Incoming>, ProxyError> {
    if exchange.hedges() {
        return Box::pin(hedge::forward(exchange, cluster, authority)).await; // boxed, as it is rare
    }
    'connection: loop {
        exchange.begin_connection();
        // Not a function of its own: its future would be inside this one.
        let outcome = 'attempt: {
            let Picked {
                config,
                outcomes,
                host,
            } = exchange.pick(&cluster);
            let Some(host) = host else {
                break 'attempt Err(Reason::NoHealthyUpstream.into());
            };
            if let Some(outcomes) = outcomes {
                match exchange.admit(&cluster, outcomes, &host) {
                    Ok(()) => {}
                    Err(Refused::Elsewhere(fallback)) => {
                        cluster = fallback;
                        continue 'connection;
                    }
                    Err(Refused::OtherMember) => continue 'connection,
                    Err(Refused::With(reason)) => break 'attempt Err(reason.into()),
                }
            }
            let wanted = exchange.wanted(&config, &host, &authority);
            exchange.begin_at(&host);
            // The lease is never kept here: it is large, and would be part of every future.
            let began = match exchange.take_idle(&host, &wanted) {
                Ok(true) => exchange.attempt_began(),
                Ok(false) => match connect(exchange, (&cluster, &config, &host), wanted).await {
                    Ok(lease) => {
                        exchange.lease = Some(lease);
                        Instant::now()
                    }
                    Err(error) => break 'attempt Err(error),
                },
                Err(overflow) => break 'attempt Err(overflow.into()),
            };
            if exchange.connections < CONNECTIONS_MAX && exchange.has_obsolete_lease(&host) {
                exchange.lease = None;
                continue 'connection; // it left while we connected
            }
            exchange.begin_upstream(&cluster, began);
            exchange.begin_sample(&config, began);
            exchange.begin_report();
            exchange.shape(&host, &authority);
            let sent = match exchange.is_upgrade() {
                true => Box::pin(upgrade::send(exchange)).await, // boxed, as it is rare
                false => send(exchange).await,
            };
            match sent {
                Ok(None) => continue 'connection,
                Ok(Some(response)) => Ok(response),
                Err(error) => Err(error),
            }
        };
        exchange.connections = 0;
        if exchange.retrying.is_none() || exchange.accepts(&cluster, &outcome) {
            return outcome;
        }
        // Boxed, as it is rare.
        let settled = Box::pin(retry::settle(exchange, &cluster, outcome));
        if let ControlFlow::Break(outcome) = settled.await {
            return outcome;
        }
    }
}

/// A new connection. Boxed, as it is rare and its future is large.
async fn connect(
    exchange: &mut Exchange,
    (cluster, config, host): (&ClusterHandle, &Arc<config::Cluster>, &Arc<Host>),
    wanted: Wanted,
) -> Result<Lease, ProxyError> {
    let connection = Rc::clone(&exchange.connection);
    let pools = &connection.worker.pools;
    let how = (wanted, &connection.downstream);
    let mut connecting = Box::pin(pools.connect(config, cluster, host, how));
    exchange
        .deadlines
        .bound(connecting.as_mut())
        .await?
        .map_err(|failure| {
            exchange
                .not_connected((cluster, config, host), &failure)
                .into()
        })
}

/// Sends the request; `None` if nothing of it was written and another connection may be tried.
pub(super) async fn send(
    exchange: &mut Exchange,
) -> Result<Option<Response<Incoming>>, ProxyError> {
    exchange.copy_head();
    let (Some(request), Some(lease)) = (exchange.request.take(), &mut exchange.lease) else {
        return Err(Reason::UpstreamClosed.into()); // it was sent, and nothing came back
    };
    let reused = lease.is_reused();
    let sent = match lease {
        Lease::Http1(lease) => {
            let retrying = exchange.retrying.as_ref();
            let is_kept = retrying.is_some_and(Retrying::reuses_head);
            let slot = is_kept.then_some(&mut exchange.kept_head);
            let answer = pin!(lease.send(request, slot));
            exchange.deadlines.bound(answer).await
        }
        Lease::Http2(lease) => {
            let answer = pin!(lease.send(request));
            exchange.deadlines.bound(answer).await
        }
    };
    exchange.take_sent(sent, reused).map_err(Into::into)
}

/// Puts scheme, authority and target where the protocol wants them.
fn address(
    request: &mut Request<RequestBody>,
    protocol: Protocol,
    (scheme, authority): (&'static str, HeaderValue),
) {
    let uri = request.uri();
    let target = |uri: &Uri| {
        let target = uri.path_and_query().cloned();
        target.unwrap_or_else(|| PathAndQuery::from_static("/"))
    };
    match protocol {
        Protocol::Http1 => {
            // Of a client of HTTP/1 it mostly is so already.
            if uri.authority().is_some() || uri.path_and_query().is_none() {
                *request.uri_mut() = Uri::from(target(uri));
            }
            *request.version_mut() = Version::HTTP_11;
            let headers = request.headers_mut();
            if headers.get(HOST) != Some(&authority) {
                headers.insert(HOST, authority);
            }
        }
        Protocol::Http2 => {
            // Of a client of HTTP/2 it mostly is so already.
            let is_right = uri.scheme_str() == Some(scheme)
                && uri
                    .authority()
                    .is_some_and(|own| *own.as_str() == authority)
                && uri.path_and_query().is_some();
            if !is_right {
                let uri = Uri::builder()
                    .scheme(scheme)
                    .authority(authority.as_bytes())
                    .path_and_query(target(uri));
                if let Ok(uri) = uri.build() {
                    *request.uri_mut() = uri;
                }
            }
            *request.version_mut() = Version::HTTP_2;
            lookup::remove(request.headers_mut(), &HOST);
        }
    }
}

/// A client names it, so it is checked like one that comes as `Host`.
fn can_be_authority(value: &HeaderValue) -> bool {
    value
        .to_str()
        .is_ok_and(|text| !text.is_empty() && headers::validate_authority(text))
}

/// HTTP/2 may cut a cookie into fields that only it may join again (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if !lookup::has(headers, &COOKIE) {
        return;
    }
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // Joining valid values gives a valid one.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Says how long the body is where the protocol needs it said. HTTP/1.1 would take a GET without
/// either field for one without a body, and some servers refuse a POST without (RFC 9110 section
/// 8.6); the methods that expect no body are Envoy's.
fn frame(request: &mut Request<RequestBody>, protocol: Protocol) {
    let has_body = !request.body().is_end_stream();
    let expects_none = matches!(
        *request.method(),
        Method::CONNECT | Method::DELETE | Method::GET | Method::HEAD | Method::TRACE
    );
    let headers = request.headers_mut();
    lookup::remove(headers, &TRANSFER_ENCODING); // of an attempt over another protocol
    if protocol == Protocol::Http2 || lookup::has(headers, &CONTENT_LENGTH) {
        return;
    }
    if has_body {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else if !expects_none {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

impl Exchange {
    /// The request is sent now: a copy of its head is kept if it may be needed and is not given back.
    pub(super) fn copy_head(&mut self) {
        if let (Some(retrying), Some(request), Some(Lease::Http2(_))) =
            (&mut self.retrying, &self.request, &self.lease)
        {
            retrying.copy_head(request, &mut self.kept_head);
        }
    }

    /// No connection could be made for an attempt: what is told of it.
    pub(super) fn not_connected(
        &mut self,
        towards: (&ClusterHandle, &Arc<config::Cluster>, &Arc<Host>),
        failure: &ConnectFailure,
    ) -> Reason {
        self.upstream_failure = Some(failure.text()).filter(|text| !text.is_empty());
        if failure.reason != Reason::Overflow {
            self.report_unreached(towards);
        } else if !failure.met_host {
            self.host = None; // as if none had been chosen
        }
        failure.reason
    }

    /// What became of a request that was put on a connection; none if nothing of it was written and
    /// another connection may be tried.
    pub(super) fn take_sent(
        &mut self,
        sent: Result<Sent, Reason>,
        reused: bool,
    ) -> Result<Option<Response<Incoming>>, Reason> {
        let failed = match sent {
            Ok(Ok(response))
                if response.status() != StatusCode::SWITCHING_PROTOCOLS
                    || (self.is_upgrade() && response.headers().contains_key(UPGRADE)) =>
            {
                return Ok(Some(response));
            }
            Ok(Ok(_)) => Reason::UpstreamProtocol, // nobody asked for it, or it does not say what it is
            Ok(Err(unsent)) => {
                self.request = unsent.request;
                if self.request.is_some() && reused && self.connections < CONNECTIONS_MAX {
                    self.lease = None;
                    self.judged = None; // it never saw the request
                    return Ok(None);
                }
                self.reason_of(&unsent.error)
            }
            Err(reason) => reason,
        };
        self.lease = None;
        if self.request.is_none()
            && let Some(retrying) = &mut self.retrying
        {
            retrying.note_sent();
        }
        Err(failed)
    }

    /// What a connection for this request must be.
    pub(super) fn wanted(
        &self,
        config: &config::Cluster,
        host: &Host,
        authority: &Authority,
    ) -> Wanted {
        let protocol = match config.protocol {
            UpstreamProtocol::Alpn if self.is_upgrade() => Some(Protocol::Http1),
            UpstreamProtocol::Alpn => None,
            UpstreamProtocol::Http1 => Some(Protocol::Http1),
            UpstreamProtocol::Http2 => Some(Protocol::Http2),
            UpstreamProtocol::SameAsDownstream => Some(self.connection.protocol),
        };
        let request_host = host
            .transport
            .minds_host()
            .then(|| self.request_host(config, host, authority));
        Wanted {
            protocol,
            request_host,
            priority: self.priority,
        }
    }

    /// The host of the request as it goes upstream, but not as the chosen member would have it: that
    /// is what `auto_host_sni` is for.
    fn request_host(
        &self,
        config: &config::Cluster,
        host: &Host,
        authority: &Authority,
    ) -> Rc<str> {
        let none = HeaderMap::new();
        let headers = self.request.as_ref().map_or(&none, Request::headers);
        let header = config.auto_names.header.as_ref();
        let said = header.and_then(|name| headers.get(name));
        let said = said.filter(|value| !value.is_empty());
        let value = said.cloned().unwrap_or_else(|| match self.host_rewrite() {
            HostRewrite::Auto => authority.value().clone(),
            _ => self.authority_for(host, authority, headers),
        });
        let text = value.to_str().unwrap_or_default();
        let host = headers::host_without_port(text);
        let host = host.strip_prefix('[').unwrap_or(host);
        host.strip_suffix(']')
            .unwrap_or(host)
            .to_ascii_lowercase()
            .into()
    }

    fn host_rewrite(&self) -> &HostRewrite {
        let route = self.route.as_ref();
        let found = route.and_then(|(table, place)| table.at(*place));
        match found.map(|found| &found.route.action) {
            Some(Action::Forward(forward)) => &forward.host_rewrite,
            _ => &HostRewrite::Keep,
        }
    }

    pub(super) fn pick(&self, cluster: &ClusterHandle) -> Picked {
        let client = &self.connection.downstream;
        let pools = &self.connection.worker.pools;
        let asked = Asked {
            hash: self.hashed.hash,
            criteria: self.criteria.as_deref(),
            host: self.named_host(),
            headers: self.request.as_ref().map(Request::headers),
            metadata: &[], // a request has none, as in Envoy
            attempts_before: self.attempts.saturating_sub(1),
            tried: (self.retrying.as_ref()).and_then(|retrying| retrying.tried_priorities()),
        };
        let pick = || pools.pick(cluster, client, asked);
        match &self.retrying {
            None => pick(),
            Some(retrying) => retrying.choose((cluster, self.attempts <= 1), pick),
        }
    }

    /// Who the session names, for the first attempt only, as in Envoy.
    fn named_host(&self) -> Option<Named<'_>> {
        let session = self.session.as_ref().filter(|_| self.attempts <= 1)?;
        Some(Named {
            address: session.address.as_deref()?,
            is_strict: session.is_strict(),
        })
    }

    /// Takes an open connection that is what is wanted; false if there is none.
    pub(super) fn take_idle(&mut self, host: &Host, wanted: &Wanted) -> Result<bool, Reason> {
        self.lease = self.connection.worker.pools.idle(host, wanted)?;
        Ok(self.lease.is_some())
    }

    /// Whether the host left since its connection was made.
    pub(super) fn has_obsolete_lease(&self, host: &Host) -> bool {
        (self.lease.as_ref()).is_some_and(|lease| lease.is_obsolete(host))
    }

    /// The body of a request that is sent once.
    pub(super) fn body_once(&self, body: Incoming) -> RequestBody {
        match &self.deadlines.progress {
            Some(progress) => RequestBody::relay(body, Rc::clone(progress)),
            None => RequestBody::empty(),
        }
    }

    /// Brings the request into the form of the upstream's protocol.
    pub(super) fn shape(&mut self, host: &Host, authority: &Authority) {
        let protocol = self.lease.as_ref().map(Lease::protocol);
        let headers = self.request.as_ref().map(Request::headers);
        let target = headers.map(|headers| self.authority_for(host, authority, headers));
        // In its place: it is large.
        let (Some(request), Some(target), Some(protocol)) = (&mut self.request, target, protocol)
        else {
            return;
        };
        if target != *authority.value() && !self.connection.manager.suppress_envoy_headers {
            headers::set_original_host(request.headers_mut(), authority.value());
        }
        address(request, protocol, (self.scheme, target));
        if self.connection.protocol == Protocol::Http2 {
            join_cookies(request.headers_mut());
        }
        frame(request, protocol);
    }

    /// The authority that goes upstream; `headers` are those that go with it.
    fn authority_for(&self, host: &Host, original: &Authority, headers: &HeaderMap) -> HeaderValue {
        match self.host_rewrite() {
            HostRewrite::Auto if !host.hostname.is_empty() => {
                HeaderValue::from_str(&host.hostname).unwrap_or_else(|_| original.value().clone())
            }
            _ => self.authority_before(original, headers).clone(),
        }
    }

    /// The same while no host is chosen.
    pub(super) fn authority_before<'a>(
        &'a self,
        original: &'a Authority,
        headers: &'a HeaderMap,
    ) -> &'a HeaderValue {
        match self.host_rewrite() {
            HostRewrite::Header(name) => headers
                .get(name)
                .filter(|value| can_be_authority(value))
                .unwrap_or_else(|| original.value()),
            HostRewrite::Auto | HostRewrite::Keep => original.value(),
            HostRewrite::Literal(value) => value,
        }
    }

    /// Since when an attempt lasts that begins now: nothing was waited for before the first.
    pub(super) fn attempt_began(&self) -> Instant {
        match (self.attempts, self.connections) {
            (0 | 1, 0 | 1) => self.deadlines.started,
            _ => Instant::now(),
        }
    }

    /// A connection is looked for: the first for an attempt, or another because that was dead.
    pub(super) fn begin_connection(&mut self) {
        self.attempts += u32::from(self.connections == 0);
        self.connections += 1;
    }

    /// None was looked for after all.
    pub(super) fn undo_connection(&mut self) {
        self.connections -= 1;
        self.attempts -= u32::from(self.connections == 0);
    }

    pub(super) fn begin_at(&mut self, host: &Arc<Host>) {
        self.host = Some(Arc::clone(host));
        if let Some(retrying) = &mut self.retrying {
            retrying.note_host(host);
        }
    }

    /// The attempt has a connection since `began`. The upstream request is counted as active until the exchange ends.
    pub(super) fn begin_upstream(&mut self, cluster: &ClusterHandle, began: Instant) {
        self.end_attempt(true);
        self.deadlines.begin_attempt(began);
        let Some(lease) = &self.lease else {
            return;
        };
        let counts = lease.counts();
        counts.rq_total.inc();
        counts.begin_request();
        self.counts = Some(counts);
        self.deadlines.departure = Some(lease.user());
        self.upstream_local = lease.local_address();
        let tls = lease.tls().filter(|_| self.log.is_some());
        self.upstream_tls = tls.map(Arc::clone);
        if !std::mem::replace(&mut self.was_sent, true) {
            cluster.stats().upstream_rq_active().inc();
        }
        cluster.stats().upstream_rq_total().inc();
    }

    /// Why sending failed, and on whose side.
    pub(super) fn reason_of(&self, error: &Error) -> Reason {
        if self.deadlines.is_given_up() {
            return Reason::HeldTooMuch;
        }
        if self
            .deadlines
            .progress
            .as_ref()
            .is_some_and(|progress| progress.failed.get())
        {
            // A client that broke the framing is still there to be told.
            let violation = self.connection.violation();
            return violation.map_or(Reason::DownstreamGone, |violation| {
                Reason::DownstreamProtocol(violation.details())
            });
        }
        match error.kind() {
            ErrorKind::Canceled | ErrorKind::Closed | ErrorKind::Timeout => Reason::UpstreamClosed,
            ErrorKind::Protocol => Reason::UpstreamProtocol,
            ErrorKind::Refused => Reason::UpstreamRefused,
            ErrorKind::Reset => Reason::UpstreamReset,
            ErrorKind::User => Reason::DownstreamGone,
        }
    }
}
