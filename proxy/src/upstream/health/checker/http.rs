//! Asking with a request, of HTTP/1.1 or HTTP/2.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Uri;
use http::Version;
use http::header::CONTENT_LENGTH;
use http::header::HOST;
use http::header::USER_AGENT;
use http::uri::Authority;
use http::uri::PathAndQuery;
use http::uri::Scheme;

use super::Peer;
use super::client;
use super::client::Client;
use super::contains;
use crate::config::access_log::Command;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::health::HttpProbe;
use crate::config::health::Probe;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;
use crate::http::headers::Values;
use crate::telemetry::access_log;
use crate::telemetry::access_log::ExchangeRecord;
use crate::upstream::Host;
use crate::upstream::health::session::Failure;

/// Who asks.
pub(super) const ASKER: HeaderValue = HeaderValue::from_static("Weir/HC");

/// The answer asks not to be counted any more.
const FAIL: &str = "x-envoy-immediate-health-check-fail";

/// The answer asks that others be preferred.
const DEGRADED: &str = "x-envoy-degraded";

/// Who answers.
const ANSWERER: &str = "x-envoy-upstream-healthchecked-cluster";

#[derive(Debug)]
pub(in crate::upstream::health) struct Http {
    peer: Peer,
    client: Option<Client>,
}

impl Http {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, client: None }
    }

    /// Whether the host is degraded.
    pub(super) async fn ask(&mut self) -> Result<bool, Failure> {
        let kept = self.client.take().filter(Client::is_ready);
        let kept = kept.filter(|_| self.peer.is_good());
        let config = std::sync::Arc::clone(&self.peer.plan.config);
        let Probe::Http(probe) = &config.probe else {
            return Err(Failure::Network); // it is one, or this would not have been made
        };
        let mut client = match kept {
            Some(client) => client,
            None => Client::connect(&self.peer, probe.is_http2).await?,
        };
        let response = client.send(self.request(probe)).await?;
        let (head, body) = response.into_parts();
        let wanted = if probe.receive.is_empty() {
            0
        } else {
            probe.response_bytes_max
        };
        let (found, _) = client::read(body, wanted).await?;
        if self.peer.keeps() {
            self.client = Some(client);
        }
        judge(probe, head.status.as_u16(), &head.headers, &found)
    }

    fn request(&self, probe: &HttpProbe) -> Request<RequestBody> {
        let authority = self.peer.authority(&probe.host);
        let authority = HeaderValue::from_str(authority);
        let authority = authority.unwrap_or(HeaderValue::from_static(""));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, authority);
        headers.insert(USER_AGENT, ASKER);
        edit(&self.peer, &mut headers);
        let mut body = RequestBody::empty();
        if !probe.body.is_empty() {
            headers.insert(CONTENT_LENGTH, probe.body.len().into());
            body = RequestBody::of(Incoming::fixed(Bytes::copy_from_slice(&probe.body)));
        }
        let mut request = Request::new(body);
        request.method_mut().clone_from(&probe.method);
        let target = (&probe.path, probe.is_http2);
        address(&self.peer, &mut request, headers, target);
        request
    }
}

/// Changes the headers as is configured.
pub(super) fn edit(peer: &Peer, headers: &mut HeaderMap) {
    let edits = &peer.plan.edits;
    if !edits.is_empty() {
        edits.apply(headers, &Facts(&peer.host));
    }
}

/// Puts headers, authority and target where the protocol wants them.
pub(super) fn address(
    peer: &Peer,
    request: &mut Request<RequestBody>,
    mut headers: HeaderMap,
    (path, is_http2): (&PathAndQuery, bool),
) {
    *request.uri_mut() = Uri::from(path.clone());
    if is_http2 {
        let said = headers.remove(HOST);
        let said = said.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        // A cluster's name may be none.
        let authority = said.or_else(|| Authority::try_from(&*peer.host.label).ok());
        let scheme = if peer.transport.is_secure() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        let uri = Uri::builder().scheme(scheme).path_and_query(path.clone());
        if let Some(Ok(uri)) = authority.map(|authority| uri.authority(authority).build()) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = Version::HTTP_2;
    }
    *request.headers_mut() = headers;
}

fn judge(
    probe: &HttpProbe,
    status: u16,
    headers: &HeaderMap,
    found: &[u8],
) -> Result<bool, Failure> {
    let is_among = |ranges: &[(u16, u16)]| {
        let mut ranges = ranges.iter();
        ranges.any(|(start, end)| (*start..*end).contains(&status))
    };
    let fails = |is_retriable, excludes| {
        Err(Failure::Answer {
            status: Some(status),
            is_retriable,
            excludes,
        })
    };
    let excludes = headers.contains_key(FAIL);
    if !contains(found, &probe.receive) {
        return fails(false, excludes);
    }
    if !is_among(&probe.expected) {
        return fails(is_among(&probe.retriable), excludes);
    }
    if let Some(wanted) = &probe.service_name {
        let name = headers.get(ANSWERER);
        if !wanted.matches(name.map_or(&[][..], HeaderValue::as_bytes)) {
            return fails(false, false);
        }
    }
    Ok(headers.contains_key(DEGRADED))
}

/// What a `%COMMAND%` may say of a check: little, as there is no client.
struct Facts<'a>(&'a Host);

impl Values for Facts<'_> {
    fn value(&self, command: &Command, out: &mut Vec<u8>) {
        let template = Template {
            parts: vec![TemplatePart::Command(command.clone(), None)],
        };
        #[expect(clippy::disallowed_methods, reason = "%START_TIME% is the time of day")]
        let now = SystemTime::now();
        let record = ExchangeRecord {
            upstream_host: Some(&self.0.address),
            ..ExchangeRecord::new(now)
        };
        access_log::eval(&template, &record, out);
    }
}
