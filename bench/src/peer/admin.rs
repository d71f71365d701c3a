//! The admin interface that Envoy defines and Weir shares: `/ready`, `/stats`, `/config_dump`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Between two looks at a statistic somebody waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Why the admin interface did not say what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection.
    #[error("cannot reach the admin interface: {0}")]
    Connect(#[from] std::io::Error),
    /// No whole answer.
    #[error("the admin interface broke off: {0}")]
    Http(#[from] hyper::Error),
    /// The path is not valid.
    #[error("{0:?} is no path")]
    Path(String),
    /// An answer that is no success.
    #[error("the admin interface answered {status} to {path}")]
    Status {
        /// What was asked.
        path: String,
        /// Its status.
        status: u16,
    },
    /// An answer that is no JSON.
    #[error("the admin interface did not answer JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A statistic that did not get there.
    #[error("{name} was {last:?} after {waited:?}")]
    Stat {
        /// Its name.
        name: String,
        /// Its last value.
        last: Option<u64>,
        /// How long was waited.
        waited: Duration,
    },
}

/// A client of one admin interface.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    addr: SocketAddr,
}

impl Admin {
    /// A client of the interface at `addr`.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Status and body of a GET.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String), AdminError> {
        self.ask(Method::GET, path).await
    }

    /// Status and body of a POST without a body, as Envoy's changing paths want it.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn post(&self, path: &str) -> Result<(u16, String), AdminError> {
        self.ask(Method::POST, path).await
    }

    /// Whether `/ready` answers 200.
    pub async fn is_ready(&self) -> bool {
        matches!(self.get("/ready").await, Ok((200, _)))
    }

    /// Every counter and gauge of `/stats`; histograms and text are left out.
    ///
    /// # Errors
    /// When there is no successful answer.
    pub async fn stats(&self) -> Result<BTreeMap<String, u64>, AdminError> {
        let text = self.success("/stats").await?;
        let numbers = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        });
        Ok(numbers.collect())
    }

    /// One counter or gauge; `None` when there is none of that name.
    ///
    /// # Errors
    /// When there is no successful answer.
    pub async fn stat(&self, name: &str) -> Result<Option<u64>, AdminError> {
        Ok(self.stats().await?.remove(name))
    }

    /// Waits until the statistic `name` satisfies `wanted`, and returns its value.
    ///
    /// # Errors
    /// [`AdminError::Stat`] when `limit` passes first.
    pub async fn wait_for_stat(
        &self,
        name: &str,
        limit: Duration,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<u64, AdminError> {
        let began = Instant::now();
        loop {
            let last = self.stat(name).await?;
            match last {
                Some(value) if wanted(value) => return Ok(value),
                _ if began.elapsed() > limit => {
                    return Err(AdminError::Stat {
                        name: name.to_owned(),
                        last,
                        waited: limit,
                    });
                }
                _ => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// `/config_dump`, endpoints included.
    ///
    /// # Errors
    /// When there is no successful answer or it is no JSON.
    pub async fn config_dump(&self) -> Result<serde_json::Value, AdminError> {
        let text = self.success("/config_dump?include_eds").await?;
        Ok(serde_json::from_str(&text)?)
    }

    async fn success(&self, path: &str) -> Result<String, AdminError> {
        match self.get(path).await? {
            (200, text) => Ok(text),
            (status, _) => Err(AdminError::Status {
                path: path.to_owned(),
                status,
            }),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<(u16, String), AdminError> {
        let stream = TcpStream::connect(self.addr).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.addr.to_string())
            .body(Empty::<Bytes>::new())
            .map_err(|_| AdminError::Path(path.to_owned()))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            // Ends the connection, and with it the other half of the join.
            drop(sender);
            Ok::<_, hyper::Error>((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let (answer, _ended) = tokio::join!(exchange, connection);
        Ok(answer?)
    }
}
