//! What stands in front of a proxy: a load generator in closed or open loop.
//!
//! - **Closed loop** ([`Pace::Closed`]): every connection sends its next request as soon as the
//!   answer to the last one is complete. Finds the rate at saturation. Its latencies say little: a
//!   stalled proxy is simply asked less often.
//! - **Open loop** ([`Pace::Open`]): requests are due at Poisson-distributed times whether or not
//!   earlier ones were answered, and latency counts from the time a request was *due*. A stall
//!   of the proxy therefore shows in every request that fell due during it.
//!
//! HTTP/1.1 is written by hand (one write, one read, no parsing beyond framing), so that the
//! generator is not what limits a run; HTTP/2 is hyper's, with gRPC's framing laid over it; raw TCP
//! passes messages to and fro or only downloads. TLS is rustls.
//!
//! Runs as tasks of the calling tokio runtime and ends when dropped. It does not judge answers
//! beyond their status and framing.

mod arrivals;
mod counters;
mod held;
mod http1;
mod http2;
mod request;
mod tcp;
mod timer;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::arrivals::Arrivals;
pub use self::counters::Counters;
pub use self::held::Held;
pub use self::request::RequestShape;
pub use crate::wire::Transport;

use self::counters::Recorder;
use self::worker::{Job, Queue};

/// What to send, to whom, how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The proxy.
    pub target: SocketAddr,
    /// How requests are carried.
    pub protocol: Protocol,
    /// In clear or over TLS.
    pub transport: Transport,
    /// The request, always the same.
    pub request: RequestShape,
    /// Connections held open.
    pub connections: usize,
    /// Closed or open loop.
    pub pace: Pace,
}

/// How requests are carried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1, one connection for all requests of a worker.
    Http1,
    /// HTTP/1.1, a new connection for each request.
    Http1Close,
    /// Cleartext HTTP/2 with prior knowledge and so many concurrent streams per connection.
    Http2 {
        /// Streams kept busy on each connection.
        streams: usize,
    },
    /// gRPC calls with one message each way; the request's body is the message.
    GrpcUnary {
        /// Calls kept busy on each connection.
        streams: usize,
    },
    /// gRPC streams both ways; each message answered by the other side counts as a request.
    GrpcStream {
        /// Streams kept busy on each connection.
        streams: usize,
        /// Messages after which a stream ends and the next begins.
        messages: u32,
    },
    /// The request's body, which the other side sends back.
    TcpEcho,
    /// Whatever the other side sends; each `unit` bytes received count as a request.
    TcpDownload {
        /// Bytes of one request.
        unit: usize,
    },
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as answers come.
    Closed,
    /// At a mean rate with exponentially distributed gaps.
    Open {
        /// Requests per second.
        rate: f64,
        /// Seed of the gaps: the same seed gives the same times.
        seed: u64,
    },
}

/// Why a load could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The proxy refused or dropped a connection.
    #[error("cannot connect to {target}: {reason}")]
    Connect {
        /// The proxy.
        target: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// The plan asks for nothing that can be done.
    #[error("{0}")]
    Plan(&'static str),
    /// The system refused a timer.
    #[error("cannot make a timer: {0}")]
    Timer(std::io::Error),
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    recorder: Arc<Recorder>,
    retires: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// What happened between two moments.
#[derive(Clone, Debug)]
pub struct Window {
    /// Differences of the counters.
    pub counters: Counters,
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
    /// Length of the window.
    pub elapsed: Duration,
}

impl Window {
    /// Answered requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.counters.completed as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency in microseconds at a quantile between 0 and 1.
    #[must_use]
    pub fn latency_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

impl Load {
    /// Opens every connection, then begins to send.
    ///
    /// # Errors
    /// When the plan is empty or the target cannot be reached.
    pub async fn start(plan: Plan) -> Result<Self, LoadError> {
        if plan.connections == 0 {
            return Err(LoadError::Plan("a load needs at least one connection"));
        }
        let is_open = matches!(plan.pace, Pace::Open { .. });
        if is_open && matches!(plan.protocol, Protocol::TcpDownload { .. }) {
            return Err(LoadError::Plan("a download has no requests to pace"));
        }
        let recorder = Arc::new(Recorder::default());
        let mut tasks = JoinSet::new();
        let queue = Arc::new(Queue::default());
        let pace = match plan.pace {
            Pace::Closed => None,
            Pace::Open { .. } => Some(Arc::clone(&queue)),
        };
        let retires = Arc::new(AtomicBool::new(false));
        let job = Job {
            target: plan.target,
            transport: plan.transport.clone(),
            queue: pace,
            recorder: Arc::clone(&recorder),
            retires: Arc::clone(&retires),
        };
        worker::spawn(&plan, &job, &mut tasks).await?;
        if let Pace::Open { rate, seed } = plan.pace {
            if !(rate.is_finite() && rate > 0.0) {
                return Err(LoadError::Plan("the rate of an open loop must be positive"));
            }
            let timer = timer::PreciseTimer::new().map_err(LoadError::Timer)?;
            let arrivals = Arrivals::new(rate, seed);
            tasks.spawn(worker::dispatch(
                arrivals,
                timer,
                queue,
                Arc::clone(&recorder),
            ));
        }
        Ok(Self {
            recorder,
            retires,
            tasks,
        })
    }

    /// Makes no new connection from now on: each worker ends when its connection does, as a client that
    /// is told to go would, and the load ends with the last of them. Only plans of HTTP with kept
    /// connections know of it.
    pub fn retire(&self) {
        self.retires.store(true, Ordering::Relaxed);
    }

    /// The counters since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.recorder.counters()
    }

    /// The latencies since the last call, in nanoseconds.
    #[must_use]
    pub fn take_latency(&self) -> Histogram<u64> {
        self.recorder.take_latency()
    }

    /// The first failure, in words.
    #[must_use]
    pub fn first_failure(&self) -> Option<String> {
        self.recorder.first_failure()
    }

    /// Whether a worker is still sending.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        !self.tasks.is_empty()
    }

    /// Watches for `length` and reports what happened meanwhile.
    pub async fn window(&self, length: Duration) -> Window {
        let _before = self.take_latency();
        let before = self.counters();
        let began = Instant::now();
        tokio::time::sleep(length).await;
        Window {
            counters: self.counters().since(&before),
            latency: self.take_latency(),
            elapsed: began.elapsed(),
        }
    }

    /// Ends every connection and waits until the tasks are gone.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
