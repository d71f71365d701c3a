//! The response, and the body that carries the exchange to its end.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::Version;
use http::header::CONNECTION;
use http::header::CONTENT_TYPE;
use http::header::RETRY_AFTER;
use http::header::SET_COOKIE;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use tokio::time::Instant;

use crate::config::route::Action;
use crate::error::ProxyError;
use crate::error::Reason;
use crate::error::Side;
use crate::http::codec::Error;
use crate::http::codec::ErrorKind;
use crate::http::codec::Held;
use crate::http::codec::Incoming;
use crate::http::codec::Peer;
use crate::http::codec::Protocol;
use crate::http::codec::Switch;
use crate::http::exchange::Exchange;
use crate::http::exchange::finish;
use crate::http::exchange::prepare;
use crate::http::exchange::retry;
use crate::http::exchange::upgrade::Switched;
use crate::http::headers;
use crate::http::local_reply;
use crate::http::local_reply::LocalReply;
use crate::overload::held::Direction;

/// Seconds until somebody who was refused may come again: overload is looked for about that often.
const RETRY_AFTER_OVERLOAD: &str = "1";

/// A response body. The exchange ends when it does, or when it is dropped.
#[derive(Debug)]
pub struct ExchangeBody {
    content: Content,
    exchange: Box<Exchange>,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Made here; `None` once sent.
    Local(Option<Bytes>),
    /// From the upstream.
    Relayed(Incoming),
    /// None: the stream is reset.
    GivenUp,
    /// Another protocol, both ways. Boxed, as it is rare.
    Switched(Box<Switched>),
}

impl Exchange {
    /// Sends on the upstream's response.
    pub(super) fn relay(
        mut self: Box<Self>,
        response: Response<Incoming>,
    ) -> Response<ExchangeBody> {
        let (mut parts, body) = response.into_parts();
        let now = Instant::now();
        self.deadlines.answered.set(Some(now));
        self.deadlines.touch(now);
        self.sample_head(&parts, now);
        self.details = "via_upstream";
        parts.version = Version::HTTP_11; // the codec writes what the connection speaks
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let manager = std::sync::Arc::clone(&self.connection.manager);
        headers::sanitize_response(
            &mut parts.headers,
            &manager.response_policy,
            self.request_id.as_ref(),
            switches,
        );
        if !manager.suppress_envoy_headers && !self.is_upgrade() {
            headers::set_upstream_service_time(&mut parts.headers, now - self.deadlines.started);
        }
        self.status = parts.status.as_u16();
        self.tell_attempts(&mut parts.headers);
        if !self.hashed.cookies_are_last {
            self.set_cookies(&mut parts.headers);
        }
        self.edit_response(&mut parts);
        self.set_cookies(&mut parts.headers);
        self.tell_session(&mut parts.headers);
        finish::remember_response(&mut self, &parts);
        if !switches {
            self.refuse_upgrade(&mut parts.headers);
        }
        if body.is_end_stream() {
            self.end();
        }
        let content = match switches {
            true => self.switch(body),
            false => Content::Relayed(body),
        };
        let body = ExchangeBody {
            content,
            exchange: self,
        };
        Response::from_parts(parts, body)
    }

    /// Answers with a reply of the route's own.
    pub(super) fn reply(mut self: Box<Self>, reply: LocalReply) -> Response<ExchangeBody> {
        let (mut parts, bytes) = reply.response.into_parts();
        self.details = reply.details;
        let manager = std::sync::Arc::clone(&self.connection.manager);
        headers::sanitize_response(
            &mut parts.headers,
            &manager.response_policy,
            self.request_id.as_ref(),
            false,
        );
        self.status = parts.status.as_u16();
        self.tell_attempts(&mut parts.headers);
        self.edit_response(&mut parts);
        self.tell_session(&mut parts.headers);
        if self.is_grpc {
            // A gRPC client understands nothing else, whatever the route sets.
            parts
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        if self.connection.is_shed() {
            // Made at once, so that the connection had no time to see that it ends.
            let close = HeaderValue::from_static("close");
            parts.headers.insert(CONNECTION, close);
        }
        self.refuse_upgrade(&mut parts.headers);
        finish::remember_response(&mut self, &parts);
        self.complete = true;
        // HTTP/2 has nobody else who would keep the body of an answer to HEAD back.
        let content =
            Content::Local(Some(bytes).filter(|bytes| !bytes.is_empty() && !self.is_head));
        Response::from_parts(
            parts,
            ExchangeBody {
                content,
                exchange: self,
            },
        )
    }

    /// Answers with the local reply for an error.
    pub(super) fn fail(mut self: Box<Self>, error: ProxyError) -> Response<ExchangeBody> {
        if error.reason == Reason::HeldTooMuch {
            return self.give_up();
        }
        self.watch_failure(error.reason);
        let telling = error.reason.telling();
        if let Some(flag) = telling.flag {
            self.flags.insert(flag);
        }
        // Over HTTP/2 a request that breaks a rule ends its stream; the others have done nothing.
        if error.reason.ends_connection() && self.connection.protocol == Protocol::Http1 {
            self.connection.close();
        }
        if matches!(error.reason, Reason::BreakerOpen(_))
            && let Some(reply) = self.fallback_answer(telling.details)
        {
            return self.reply(reply);
        }
        let text = match self.attempts {
            0 | 1 => Bytes::from_static(telling.text.as_bytes()),
            _ => retry::text_of_latest(telling.text).into(),
        };
        let mut reply = local_reply::error(self.status_of(error), &telling, text, self.is_grpc);
        // What is not of an attempt does not speak of attempts.
        self.response_tells_attempts &=
            error.side == Side::Upstream || error.reason == Reason::NoHealthyUpstream;
        if error.reason == Reason::DurationTimeout {
            self.count_too_long();
            if self.is_grpc {
                let deadline_exceeded = HeaderValue::from_static("4");
                let headers = reply.response.headers_mut();
                headers.insert("grpc-status", deadline_exceeded);
            }
        }
        let is_overloaded = matches!(error.reason, Reason::BreakerOpen(_) | Reason::Overflow);
        if is_overloaded && !self.connection.manager.suppress_envoy_headers {
            headers::set_overloaded(reply.response.headers_mut());
        }
        if let Reason::Dropped { all } = error.reason
            && !self.connection.manager.suppress_envoy_headers
        {
            headers::set_dropped(reply.response.headers_mut(), all);
        }
        if error.reason == Reason::Overloaded {
            let headers = reply.response.headers_mut();
            let seconds = HeaderValue::from_static(RETRY_AFTER_OVERLOAD);
            headers.insert(RETRY_AFTER, seconds);
        }
        self.reply(reply)
    }

    /// Gives no answer: the stream is reset, which over HTTP/1 ends its connection.
    fn give_up(mut self: Box<Self>) -> Response<ExchangeBody> {
        let telling = Reason::HeldTooMuch.telling();
        if let Some(flag) = telling.flag {
            self.flags.insert(flag);
        }
        self.details = telling.details;
        self.lease = None;
        Response::new(ExchangeBody {
            content: Content::GivenUp,
            exchange: self,
        })
    }

    /// Another answer than 101: what the client has sent meanwhile may be of the protocol it offered.
    fn refuse_upgrade(&self, headers: &mut HeaderMap) {
        if self.is_upgrade() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// All of it took longer than it may.
    fn count_too_long(&self) {
        let stats = &self.connection.manager.stats;
        stats.downstream_rq_max_duration_reached().inc();
    }

    /// Tells the client how many attempts there were, if there was a member for one.
    fn tell_attempts(&self, headers: &mut HeaderMap) {
        if self.response_tells_attempts && (self.host.is_some() || self.attempts > 1) {
            headers.insert(retry::ATTEMPT_COUNT, HeaderValue::from(self.attempts));
        }
    }

    /// Gives the client the cookies that were made for it, once.
    fn set_cookies(&mut self, headers: &mut HeaderMap) {
        for cookie in std::mem::take(&mut self.hashed.cookies) {
            headers.append(SET_COOKIE, cookie);
        }
    }

    /// Tells the client which member it was, even of one that could not be reached.
    fn tell_session(&self, headers: &mut HeaderMap) {
        if let (Some(session), Some(host)) = (&self.session, &self.host) {
            session.tell(&host.label, headers, prepare::since_1970);
        }
    }

    fn edit_response(&self, parts: &mut http::response::Parts) {
        if let Some((table, place)) = &self.route
            && let Some(found) = table.at(*place)
            && !found.keeps_response_headers()
        {
            let facts = finish::Facts::of_response(self, parts);
            found.edit_response(&mut parts.headers, &facts);
        }
    }

    /// Ready when the client has taken nothing of the response for too long. Once that is complete, a
    /// connection of HTTP/1 looks after its client itself.
    fn poll_untaken(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.connection.watch(!self.complete);
        match (self.connection.protocol, self.complete) {
            (Protocol::Http1, false) => self.deadlines.poll_passed(cx),
            (Protocol::Http1, true) => Poll::Pending,
            (Protocol::Http2, false) => {
                let flush = self.flush_timeout();
                self.deadlines.poll_untaken(flush, cx)
            }
            (Protocol::Http2, true) => {
                let idle = self.connection.manager.config.stream_idle_timeout;
                let flush = self.flush_timeout().unwrap_or(idle);
                self.deadlines.poll_unflushed(flush, cx)
            }
        }
    }

    /// The route's or the manager's, if one of them says it.
    fn flush_timeout(&self) -> Option<Option<Duration>> {
        let found = (self.route.as_ref()).and_then(|(table, place)| table.at(*place));
        let of_route = match found.map(|found| &found.route.action) {
            Some(Action::Forward(forward)) => forward.flush_timeout,
            _ => None,
        };
        of_route.or(self.connection.manager.config.stream_flush_timeout)
    }

    /// The response was read to its end.
    fn end(&mut self) {
        self.complete = true;
        match self.lease.take() {
            Some(lease) if self.is_upgrade() => self.leave_offered(&lease),
            Some(lease) => lease.finish(),
            None => {}
        }
    }

    /// The response broke off after its head had been sent; only closing can tell the client.
    fn break_off(&mut self, reason: Reason) {
        if let Some(flag) = reason.telling().flag {
            self.flags.insert(flag);
        }
        self.details = reason.telling().details;
        if reason == Reason::DurationTimeout {
            self.count_too_long();
        }
        self.lease = None;
        self.connection
            .manager
            .stats
            .rq_reset_after_downstream_response_started()
            .inc();
    }
}

impl ExchangeBody {
    fn relayed(
        &mut self,
        frame: Option<Result<Frame<Bytes>, Error>>,
    ) -> Option<Result<Frame<Bytes>, Error>> {
        match frame {
            Some(Ok(frame)) => {
                if !self.is_end_stream() {
                    self.exchange.deadlines.touch(Instant::now()); // after the last one nobody waits
                }
                if let Some(data) = frame.data_ref() {
                    self.exchange.sent += data.len() as u64;
                    if !data.is_empty() {
                        self.exchange.sample_message();
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    finish::remember_trailers(&mut self.exchange, trailers);
                    self.exchange.sample_trailers(trailers);
                    self.exchange.read_load_report(trailers);
                }
                if self.is_end_stream() {
                    self.exchange.end();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let reason = self.exchange.reason_of(&error);
                self.exchange.break_off(reason);
                Some(Err(error))
            }
            None => {
                self.exchange.end();
                None
            }
        }
    }
}

impl Body for ExchangeBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if let Some(account) = this.exchange.deadlines.account() {
            account.go_on(Direction::Response);
        }
        let body = match &mut this.content {
            Content::Local(bytes) => {
                let bytes = bytes.take();
                this.exchange.sent += bytes.as_ref().map_or(0, Bytes::len) as u64;
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Content::Relayed(body) => body,
            Content::GivenUp => return Poll::Ready(Some(Err(ErrorKind::Canceled.into()))),
            Content::Switched(_) => return Poll::Ready(None), // it has no body
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(this.relayed(frame)),
            Poll::Pending => {
                let reason = std::task::ready!(this.exchange.deadlines.poll_passed(cx));
                this.exchange.break_off(reason);
                if matches!(reason, Reason::HostLeft | Reason::CertificateEnded)
                    && this.exchange.is_grpc
                {
                    this.content = Content::Local(None);
                    let trailers = local_reply::grpc_trailers(&reason.telling());
                    finish::remember_trailers(&mut this.exchange, &trailers);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Poll::Ready(Some(Err(ErrorKind::Timeout.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::GivenUp => false,
            Content::Local(bytes) => bytes.is_none(),
            Content::Relayed(body) => body.is_end_stream(),
            Content::Switched(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Local(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::Relayed(body) => body.size_hint(),
            Content::GivenUp => SizeHint::new(),
            Content::Switched(_) => SizeHint::with_exact(0),
        }
    }
}

impl Held for ExchangeBody {
    fn poll_waiting(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<Error> {
        let exchange = &*self.exchange;
        let account = exchange.deadlines.open_account(&exchange.connection.held);
        if account.waiting(Direction::Response) != bytes {
            exchange.deadlines.touch(Instant::now()); // something moved
        }
        let content = &mut self.content;
        let unread = || match content {
            Content::Relayed(body) => body.unread(),
            Content::GivenUp | Content::Local(_) | Content::Switched(_) => None,
        };
        let given_up = account.poll_waiting(Direction::Response, bytes, unread, cx);
        if given_up.is_ready() {
            self.exchange.break_off(Reason::HeldTooMuch);
            return Poll::Ready(ErrorKind::Canceled.into());
        }
        let reason = std::task::ready!(self.exchange.poll_untaken(cx));
        self.exchange.break_off(reason);
        Poll::Ready(ErrorKind::Timeout.into())
    }

    fn is_given_up(&self) -> bool {
        matches!(self.content, Content::GivenUp)
    }
}

impl Switch for ExchangeBody {
    fn begin(&mut self, early: Vec<u8>) {
        if let Content::Switched(switched) = &mut self.content {
            switched.begin(early);
        }
    }

    fn poll_switched(
        &mut self,
        client: &mut dyn Peer,
        is_last_word: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match &mut self.content {
            Content::Switched(switched) => {
                switched.poll(&mut self.exchange, client, is_last_word, cx)
            }
            Content::GivenUp | Content::Local(_) | Content::Relayed(_) => Poll::Ready(()),
        }
    }

    fn moved(&self) -> (u64, u64) {
        match &self.content {
            Content::Switched(switched) => switched.moved(),
            Content::GivenUp | Content::Local(_) | Content::Relayed(_) => (0, 0),
        }
    }
}
