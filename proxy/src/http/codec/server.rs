//! A downstream connection, driven to its end.
//!
//! The driver polls the codec first and its `control` second, so that a connection which is told
//! to stop has done all the work that was possible before.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use http::Request;
use http::Response;
use tokio::io::AsyncReadExt;

use crate::config::cluster::Http2Options;
use crate::config::listener::Codec;
use crate::http::codec::Error;
use crate::http::codec::Held;
use crate::http::codec::Incoming;
use crate::http::codec::IoFacts;
use crate::http::codec::Switch;
use crate::http::codec::io::ServerIo;
use crate::http::http1;
use crate::http::http1::decode::DecodeLimits;
use crate::http::http1::server::Closing;
use crate::http::http2::server::Serving;
use crate::net::NetStream;

/// What HTTP/2 connections begin with (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for the bytes read to find the protocol: a typical request head, so that one read does.
const FIRST_READ_BYTES: usize = 1024;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What a driver's `control` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// As gracefully, but an idle connection of HTTP/1 takes one more request, whose answer says that
    /// it is the last.
    AfterAnswer,
    /// Finish what runs, take nothing new.
    Gracefully,
    /// Say goodbye, if what is spoken is not HTTP any more.
    LastWord,
    /// Drop the connection.
    Now,
}

/// Limits of a downstream connection.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// Largest head, bytes.
    pub head_bytes_max: usize,
    /// Most header fields.
    pub header_count_max: usize,
    /// HTTP/2 settings.
    pub http2: Http2Options,
    /// Content of HTTP/1 read at once, bytes.
    pub read_bytes_max: usize,
}

/// Finds the protocol by the first bytes, which are returned to be replayed.
///
/// # Errors
/// The connection ended or failed before a byte came.
pub async fn sniff(stream: &mut NetStream, codec: Codec) -> io::Result<(Protocol, Vec<u8>)> {
    match codec {
        Codec::Http1 => return Ok((Protocol::Http1, Vec::new())),
        Codec::Http2 => return Ok((Protocol::Http2, Vec::new())),
        Codec::Auto => {}
    }
    let mut first = Vec::with_capacity(FIRST_READ_BYTES);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let len = first.len().min(HTTP2_PREFACE.len());
        if first.get(..len) != HTTP2_PREFACE.get(..len) {
            return Ok((Protocol::Http1, first));
        }
        if len == HTTP2_PREFACE.len() {
            return Ok((Protocol::Http2, first));
        }
    }
}

/// Serves one connection until it ends. `control` is polled after each step; see [`Stop`].
///
/// # Errors
/// The connection broke, or broke a rule of HTTP.
pub async fn serve<F, Fut, B, C>(
    (stream, first): (NetStream, Vec<u8>),
    protocol: Protocol,
    options: &ServerOptions,
    facts: Rc<IoFacts>,
    service: F,
    control: C,
) -> Result<(), Error>
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<B>> + 'static,
    B: Held + Switch + 'static,
    C: FnMut(&mut Context<'_>) -> Poll<Stop>,
{
    match protocol {
        Protocol::Http1 => {
            let closing = Rc::new(Cell::new(Closing::No));
            let told = Rc::clone(&closing);
            let limits = decode_limits(options);
            let limits = (limits, options.read_bytes_max);
            let connection = http1::server::serve((stream, first), limits, facts, service, closing);
            let tell = |_: Pin<&mut _>, stop, _: &mut Context<'_>| told.set(closing_of(stop));
            drive(pin!(connection), control, tell).await
        }
        Protocol::Http2 => {
            let io = ServerIo::new(stream, first, facts);
            // Apart, so that a connection of HTTP/1 has no room for it.
            let mut connection = Box::pin(Serving::new(io, options, service));
            let tell = |connection: Pin<&mut Serving<F>>, stop, cx: &mut Context<'_>| match stop {
                Stop::Now => connection.leave(cx),
                Stop::AfterAnswer | Stop::Gracefully | Stop::LastWord => connection.shut_down(),
            };
            drive(connection.as_mut(), control, tell).await
        }
    }
}

async fn drive<T, E, C>(
    mut connection: Pin<&mut T>,
    mut control: C,
    tell: impl Fn(Pin<&mut T>, Stop, &mut Context<'_>),
) -> Result<(), Error>
where
    T: Future<Output = Result<(), E>>,
    Error: From<E>,
    C: FnMut(&mut Context<'_>) -> Poll<Stop>,
{
    let mut told = None;
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(Error::from));
            }
            match control(cx) {
                Poll::Ready(Stop::Now) => {
                    tell(connection.as_mut(), Stop::Now, cx);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(stop) if told != Some(stop) => {
                    told = Some(stop);
                    tell(connection.as_mut(), stop, cx);
                }
                Poll::Ready(_) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

fn closing_of(stop: Stop) -> Closing {
    match stop {
        Stop::AfterAnswer => Closing::AfterAnswer,
        Stop::Gracefully | Stop::Now => Closing::Now,
        Stop::LastWord => Closing::LastWord,
    }
}

fn decode_limits(options: &ServerOptions) -> DecodeLimits {
    DecodeLimits {
        head_bytes_max: options.head_bytes_max,
        fields_max: options.header_count_max,
        ..DecodeLimits::default()
    }
}
