//! Connections that made one request each and then stay open and silent.

use std::net::SocketAddr;

use tokio::task::JoinSet;

use super::{LoadError, Protocol, RequestShape, http1, http2};

/// Idle connections to a proxy; dropped together.
#[derive(Debug, Default)]
pub struct Held {
    http1: Vec<http1::Connection>,
    http2: Vec<http2::Sender>,
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
        request: &RequestShape,
        count: usize,
    ) -> Result<Self, LoadError> {
        let mut held = Self::default();
        for _ in 0..count {
            held.add(target, protocol, request).await?;
        }
        Ok(held)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.http1.len() + self.http2.len()
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
        request: &RequestShape,
    ) -> Result<(), LoadError> {
        let broken = |reason: String| LoadError::Connect { target, reason };
        let answer = if let Protocol::Http2 { .. } = protocol {
            let mut sender = http2::Sender::open(target, &mut self.drivers).await?;
            let answer = sender.exchange(&request.http2()?).await;
            self.http2.push(sender);
            answer.map_err(|error| broken(error.to_string()))?
        } else {
            let opened = http1::Connection::open(target).await;
            let mut connection = opened.map_err(|error| broken(error.to_string()))?;
            let bytes = request.http1(protocol == Protocol::Http1Close);
            let answer = connection.exchange(&bytes).await;
            self.http1.push(connection);
            answer.map_err(|error| broken(error.to_string()))?
        };
        match answer.status {
            400.. => Err(broken(format!("answered with status {}", answer.status))),
            _ => Ok(()),
        }
    }
}
