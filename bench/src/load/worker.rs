//! The tasks of a load: one worker per connection or stream, and in open loop one dispatcher.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::counters::Recorder;
use super::request::Http2Request;
use super::timer::PreciseTimer;
use super::{LoadError, Plan, Protocol, http1, http2};

/// Requests that may wait for a free connection: 10 s of the fastest rate seen here. Beyond that
/// the proxy is simply not keeping up.
const WAITING_MAX: usize = 1_000_000;

/// Attempts in a row without an answer after which a worker gives up.
const FAILURES_MAX: u32 = 100;

/// What came back for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body_bytes: u64,
    /// The connection ends with this answer.
    pub(super) close: bool,
}

/// Requests that are due and not yet taken by a worker.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: Mutex<VecDeque<Instant>>,
    arrived: Notify,
}

impl Queue {
    /// Adds a request; false when too many wait.
    fn push(&self, due: Instant) -> bool {
        let mut waiting = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            return false;
        }
        waiting.push_back(due);
        drop(waiting);
        self.arrived.notify_one();
        true
    }

    /// Takes the oldest request, waiting for one.
    async fn pop(&self) -> Instant {
        loop {
            let oldest = self
                .due
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            if let Some(due) = oldest {
                return due;
            }
            self.arrived.notified().await;
        }
    }
}

/// The start of the next request: now, or when the schedule wants it.
async fn next_start(queue: Option<&Queue>) -> Instant {
    match queue {
        None => Instant::now(),
        Some(queue) => queue.pop().await,
    }
}

/// Connects as the plan says and spawns its workers.
pub(super) async fn spawn(
    plan: &Plan,
    queue: Option<Arc<Queue>>,
    recorder: &Arc<Recorder>,
    tasks: &mut JoinSet<()>,
) -> Result<(), LoadError> {
    match plan.protocol {
        Protocol::Http1 | Protocol::Http1Close => {
            let keep_alive = plan.protocol == Protocol::Http1;
            let request = plan.request.http1(!keep_alive);
            for _ in 0..plan.connections {
                let connection = match keep_alive {
                    true => Some(open(plan.target, recorder).await.map_err(|error| {
                        LoadError::Connect {
                            target: plan.target,
                            reason: error.to_string(),
                        }
                    })?),
                    false => None,
                };
                let worker = Http1Worker {
                    target: plan.target,
                    request: request.clone(),
                    keep_alive,
                    connection,
                    recorder: Arc::clone(recorder),
                };
                tasks.spawn(worker.run(queue.clone()));
            }
        }
        Protocol::Http2 { streams } => {
            let request = Arc::new(plan.request.http2()?);
            for _ in 0..plan.connections {
                let sender = http2::Sender::open(plan.target, tasks).await?;
                recorder.connected();
                for _ in 0..streams {
                    let (request, recorder) = (Arc::clone(&request), Arc::clone(recorder));
                    tasks.spawn(run_stream(sender.clone(), request, queue.clone(), recorder));
                }
            }
        }
    }
    Ok(())
}

async fn open(target: SocketAddr, recorder: &Recorder) -> io::Result<http1::Connection> {
    let connection = http1::Connection::open(target).await?;
    recorder.connected();
    Ok(connection)
}

/// Repeats a request over HTTP/1.1, reconnecting when it must.
struct Http1Worker {
    target: SocketAddr,
    request: Bytes,
    keep_alive: bool,
    connection: Option<http1::Connection>,
    recorder: Arc<Recorder>,
}

impl Http1Worker {
    async fn run(mut self, queue: Option<Arc<Queue>>) {
        let mut failures = 0;
        while failures < FAILURES_MAX {
            let start = next_start(queue.as_deref()).await;
            match self.exchange().await {
                Ok(answer) => {
                    self.recorder
                        .answered(answer.status, answer.body_bytes, start.elapsed());
                    failures = 0;
                }
                Err(error) => {
                    self.connection = None;
                    self.recorder.failed(|| format!("no whole answer: {error}"));
                    failures += 1;
                }
            }
        }
    }

    async fn exchange(&mut self) -> io::Result<Answer> {
        if self.connection.is_none() {
            self.connection = Some(open(self.target, &self.recorder).await?);
        }
        let connection = self
            .connection
            .as_mut()
            .ok_or(io::ErrorKind::NotConnected)?;
        let answer = connection.exchange(&self.request).await?;
        if answer.close || !self.keep_alive {
            self.connection = None;
        }
        Ok(answer)
    }
}

async fn run_stream(
    mut sender: http2::Sender,
    request: Arc<Http2Request>,
    queue: Option<Arc<Queue>>,
    recorder: Arc<Recorder>,
) {
    let mut failures = 0;
    while failures < FAILURES_MAX && !sender.is_closed() {
        let start = next_start(queue.as_deref()).await;
        match sender.exchange(&request).await {
            Ok(answer) => {
                recorder.answered(answer.status, answer.body_bytes, start.elapsed());
                failures = 0;
            }
            Err(error) => {
                recorder.failed(|| format!("no whole answer: {error}"));
                failures += 1;
            }
        }
    }
}

/// Puts each request into the queue when it is due, several at once after a late wake-up.
pub(super) async fn dispatch(
    arrivals: Arrivals,
    timer: PreciseTimer,
    queue: Arc<Queue>,
    recorder: Arc<Recorder>,
) {
    let began = Instant::now();
    for after in arrivals {
        let due = began + after;
        if timer.sleep_until(due).await.is_err() {
            return;
        }
        recorder.fell_due(1);
        if !queue.push(due) {
            recorder.overran(1);
        }
    }
}
