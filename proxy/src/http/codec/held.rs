//! Bytes of a body that wait for whoever is to take them.

use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;

use crate::http::codec::Error;

/// A body that is told when its bytes have to wait.
pub trait Held: Body<Data = Bytes, Error = Error> + Unpin {
    /// So many bytes that were read from it wait, and what it has not read waits behind them. Ready once
    /// they are given up, or have waited for too long. It goes on when the next frame is read.
    fn poll_waiting(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<Error> {
        let (_, _) = (bytes, cx);
        Poll::Pending
    }

    /// Whether its stream is to be reset instead of answered.
    fn is_given_up(&self) -> bool {
        false
    }
}
