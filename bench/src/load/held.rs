//! Connections that made one request each and then stay open, silent unless asked for more.

use std::io;
use std::net::SocketAddr;

use tokio::task::JoinSet;

use super::{LoadError, Protocol, RequestShape, http1, http2, tcp};
use crate::wire::Transport;

/// Idle connections to a proxy; dropped together.
#[derive(Debug, Default)]
pub struct Held {
    http1: Vec<http1::Connection>,
    http2: Vec<http2::Sender>,
    tcp: Vec<tcp::Connection>,
    drivers: JoinSet<()>,
}

impl Held {
    /// Opens `count` connections one after the other and makes one request on each.
    ///
    /// # Errors
    /// When one of them is refused, breaks, or is answered with a status of 400 or above.
    pub async fn open(
        target: SocketAddr,
        protocol: Protocol,
        transport: &Transport,
        request: &RequestShape,
        count: usize,
    ) -> Result<Self, LoadError> {
        let mut held = Self::default();
        for _ in 0..count {
            held.add(target, protocol, transport, request).await?;
        }
        Ok(held)
    }

    /// Makes the request so many times more on each connection, one after the other.
    ///
    /// # Errors
    /// When one of them breaks.
    pub async fn repeat(&mut self, request: &RequestShape, times: usize) -> io::Result<()> {
        let invalid = |error: LoadError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let bytes = request.http1(false);
        let http2 = request.http2().map_err(invalid)?;
        for _ in 0..times {
            for connection in &mut self.http1 {
                connection.exchange(&bytes).await?;
            }
            for sender in &mut self.http2 {
                sender.exchange(&http2).await?;
            }
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.http1.len() + self.http2.len() + self.tcp.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn add(
        &mut self,
        target: SocketAddr,
        protocol: Protocol,
        transport: &Transport,
        request: &RequestShape,
    ) -> Result<(), LoadError> {
        let broken = |error: io::Error| LoadError::Connect {
            target,
            reason: error.to_string(),
        };
        let answer = match protocol {
            Protocol::Http1 | Protocol::Http1Close => {
                let opened = http1::Connection::open(target, transport).await;
                let mut connection = opened.map_err(broken)?;
                let bytes = request.http1(protocol == Protocol::Http1Close);
                let answer = connection.exchange(&bytes).await;
                self.http1.push(connection);
                answer.map_err(broken)?
            }
            Protocol::Http2 { .. } | Protocol::GrpcUnary { .. } | Protocol::GrpcStream { .. } => {
                let opened = http2::Sender::open(target, transport, &mut self.drivers);
                let mut sender = opened.await?;
                let answer = match protocol {
                    Protocol::Http2 { .. } => sender.exchange(&request.http2()?).await,
                    _ => sender.call(&request.grpc()?).await,
                };
                self.http2.push(sender);
                answer.map_err(broken)?
            }
            Protocol::TcpEcho | Protocol::TcpDownload { .. } => {
                let opened = tcp::Connection::open(target, transport).await;
                let mut connection = opened.map_err(broken)?;
                let answer = connection.first_answer(protocol, &request.body).await;
                self.tcp.push(connection);
                answer.map_err(broken)?
            }
        };
        match answer.status {
            400.. => Err(broken(io::Error::other(format!(
                "answered with status {}",
                answer.status
            )))),
            _ => Ok(()),
        }
    }
}
