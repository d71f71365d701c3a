//! The first message of a gRPC response, or the status that comes instead of one: until then nothing
//! was sent that a client could not get again.
//!
//! Only the response to a request that is complete is held back: a client that still sends may wait
//! for the head. Envoy does not look at trailers.

use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::Response;
use http::response::Parts;
use http_body::Body;
use http_body::Frame;

use crate::error::Reason;
use crate::http::codec::Error;
use crate::http::codec::Incoming;
use crate::http::exchange::Exchange;
use crate::http::exchange::retry::Outcome;
use crate::http::exchange::retry::Retrying;

impl Retrying {
    /// Whether a response has to be looked into.
    pub(in crate::http::exchange) fn minds_more_than(&self, response: &Response<Incoming>) -> bool {
        let is_complete = self.body.as_ref().is_none_or(|body| body.is_complete());
        let head = response.headers();
        is_complete
            && self.state.waits_for_trailers()
            && !response.body().is_end_stream()
            && !head.contains_key("grpc-status")
            && !self.state.minds_head(response.status(), head)
    }
}

/// The outcome, with the first frame looked at where it matters.
pub(super) async fn peek(exchange: &mut Exchange, outcome: Outcome) -> Outcome {
    let is_grpc = exchange.is_grpc;
    let retrying = exchange.retrying.as_ref().filter(|_| is_grpc);
    let response = match (outcome, retrying) {
        (Ok(response), Some(retrying)) if retrying.minds_more_than(&response) => response,
        (outcome, _) => return outcome,
    };
    let (parts, mut body) = response.into_parts();
    let first = {
        let first = pin!(first_frame(&mut body));
        exchange.deadlines.bound(first).await
    };
    match first {
        Ok(first) => exchange.peeked((parts, body), first),
        Err(reason) => Err(failed(exchange, reason).into()),
    }
}

impl Exchange {
    /// The response with what was read of it put back.
    pub(in crate::http::exchange) fn peeked(
        &mut self,
        (parts, body): (Parts, Incoming),
        first: Option<Result<Frame<Bytes>, Error>>,
    ) -> Outcome {
        match first {
            None => Ok(Response::from_parts(parts, body)),
            Some(Ok(frame)) => Ok(Response::from_parts(parts, body.put_back(frame))),
            Some(Err(error)) => {
                let reason = self.reason_of(&error);
                Err(failed(self, reason).into())
            }
        }
    }
}

fn failed(exchange: &mut Exchange, reason: Reason) -> Reason {
    exchange.lease = None;
    if let Some(retrying) = &mut exchange.retrying {
        retrying.note_sent();
    }
    reason
}

async fn first_frame(body: &mut Incoming) -> Option<Result<Frame<Bytes>, Error>> {
    std::future::poll_fn(|cx| poll_first_frame(body, cx)).await
}

/// The first frame with something in it: an empty piece of data is no message.
pub(in crate::http::exchange) fn poll_first_frame(
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
    loop {
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
        if !matches!(&frame, Some(Ok(frame)) if is_empty(frame)) {
            return Poll::Ready(frame);
        }
    }
}
