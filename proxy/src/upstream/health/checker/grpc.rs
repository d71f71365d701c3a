//! Asking with `grpc.health.v1.Health/Check`. Its two messages have one field each, so they are written
//! and read here by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::header::HOST;
use http::header::TE;
use http::header::USER_AGENT;
use http::uri::PathAndQuery;

use super::Peer;
use super::client;
use super::client::Client;
use super::http::ASKER;
use super::http::address;
use super::http::edit;
use crate::config::health::GrpcProbe;
use crate::config::health::Probe;
use crate::http::codec::Incoming;
use crate::http::codec::RequestBody;
use crate::upstream::health::session::Failure;

const PATH: &str = "/grpc.health.v1.Health/Check";
const STATUS: &str = "grpc-status";
const TIMEOUT: &str = "grpc-timeout";

/// `HealthCheckResponse.SERVING`.
const SERVING: u64 = 1;

/// Bytes of an answer that are looked at: the message has two.
const ANSWER_BYTES_MAX: usize = 1024;

#[derive(Debug)]
pub(in crate::upstream::health) struct Grpc {
    peer: Peer,
    client: Option<Client>,
}

impl Grpc {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, client: None }
    }

    pub(super) async fn ask(&mut self) -> Result<bool, Failure> {
        let kept = self.client.take().filter(Client::is_ready);
        let kept = kept.filter(|_| self.peer.is_good());
        let config = Arc::clone(&self.peer.plan.config);
        let Probe::Grpc(probe) = &config.probe else {
            return Err(Failure::Network); // it is one, or this would not have been made
        };
        let mut client = match kept {
            Some(client) => client,
            None => Client::connect(&self.peer, true).await?,
        };
        let response = client.send(self.request(probe, config.timeout)).await?;
        let (head, body) = response.into_parts();
        let (found, trailers) = client::read(body, ANSWER_BYTES_MAX).await?;
        if self.peer.keeps() {
            self.client = Some(client);
        }
        let trailers = trailers.as_ref().unwrap_or(&head.headers);
        let is_ok = trailers.get(STATUS).is_some_and(|status| status == "0");
        if head.status == StatusCode::OK && is_ok && status(&found) == Some(SERVING) {
            return Ok(false);
        }
        Err(Failure::Answer {
            status: (head.status != StatusCode::OK).then(|| head.status.as_u16()),
            is_retriable: false,
            excludes: false,
        })
    }

    fn request(&self, probe: &GrpcProbe, timeout: Duration) -> Request<RequestBody> {
        let authority = self.peer.authority(&probe.authority);
        let authority = HeaderValue::from_str(authority);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, authority.unwrap_or(HeaderValue::from_static("")));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, ASKER);
        edit(&self.peer, &mut headers);
        // At most eight digits are allowed.
        let ms = timeout.as_millis().min(99_999_999).to_string() + "m";
        if let Ok(ms) = HeaderValue::from_str(&ms) {
            headers.insert(TIMEOUT, ms);
        }
        let body = Incoming::fixed(question(&probe.service));
        let mut request = Request::new(RequestBody::of(body));
        *request.method_mut() = Method::POST;
        let target = (&PathAndQuery::from_static(PATH), true);
        address(&self.peer, &mut request, headers, target);
        request
    }
}

/// `HealthCheckRequest` in its gRPC frame.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a); // field 1, a string
        let mut length = service.len();
        let low = |length: usize| u8::try_from(length & 0x7f).unwrap_or_default();
        while length >= 0x80 {
            message.push(low(length) | 0x80);
            length >>= 7;
        }
        message.push(low(length));
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.append(&mut message);
    frame.into()
}

/// The status in a `HealthCheckResponse` that stands alone in its gRPC frame; zero is left out there.
fn status(frame: &[u8]) -> Option<u64> {
    let ([flag, length @ ..], message) = frame.split_first_chunk::<5>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if *flag != 0 || length != message.len() {
        return None;
    }
    match message {
        [] => Some(0),
        [0x08, value @ ..] => match value {
            [small] if *small < 0x80 => Some(u64::from(*small)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_the_schemas() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn the_answer_is_read_or_refused() {
        let framed = |message: &[u8]| {
            let length = u32::try_from(message.len()).expect("short");
            let frame = [&[0], &length.to_be_bytes()[..], message].concat();
            status(&frame)
        };
        assert_eq!(framed(&[0x08, 1]), Some(SERVING));
        assert_eq!(framed(&[0x08, 2]), Some(2));
        assert_eq!(framed(&[]), Some(0));
        for broken in [&[0x08][..], &[0x08, 0x81], &[0x10, 1], &[0x08, 1, 0x08, 1]] {
            assert_eq!(framed(broken), None, "{broken:?}");
        }
        for broken in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 9, 8, 1],
        ] {
            assert_eq!(status(broken), None, "{broken:?}");
        }
    }
}
