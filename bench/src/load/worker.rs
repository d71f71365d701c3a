//! The tasks of a load: one worker per connection or stream, and in open loop one dispatcher.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::counters::Recorder;
use super::request::Http2Request;
use super::timer::PreciseTimer;
use super::{LoadError, Plan, Protocol, http1, http2, tcp};
use crate::wire::Transport;

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

/// What every worker of a load shares.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) target: SocketAddr,
    pub(super) transport: Transport,
    /// In open loop, where due requests come from.
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) recorder: Arc<Recorder>,
    /// No new connections, please.
    pub(super) retires: Arc<AtomicBool>,
}

/// Connects as the plan says and spawns its workers.
pub(super) async fn spawn(
    plan: &Plan,
    job: &Job,
    tasks: &mut JoinSet<()>,
) -> Result<(), LoadError> {
    match plan.protocol {
        Protocol::Http1 | Protocol::Http1Close => spawn_http1(plan, job, tasks).await,
        Protocol::Http2 { streams } => {
            let request = plan.request.http2()?;
            spawn_streams(plan, job, streams, &request, tasks).await
        }
        Protocol::GrpcUnary { streams } | Protocol::GrpcStream { streams, .. } => {
            let request = plan.request.grpc()?;
            spawn_streams(plan, job, streams, &request, tasks).await
        }
        Protocol::TcpEcho | Protocol::TcpDownload { .. } => spawn_tcp(plan, job, tasks).await,
    }
}

async fn spawn_http1(plan: &Plan, job: &Job, tasks: &mut JoinSet<()>) -> Result<(), LoadError> {
    let keep_alive = plan.protocol == Protocol::Http1;
    let request = plan.request.http1(!keep_alive);
    for _ in 0..plan.connections {
        let connection = match keep_alive {
            true => Some(job.open_http1().await.map_err(refused(plan))?),
            false => None,
        };
        let worker = Http1Worker {
            job: job.clone(),
            request: request.clone(),
            keep_alive,
            connection,
        };
        tasks.spawn(worker.run());
    }
    Ok(())
}

async fn spawn_streams(
    plan: &Plan,
    job: &Job,
    streams: usize,
    request: &Http2Request,
    tasks: &mut JoinSet<()>,
) -> Result<(), LoadError> {
    let request = Arc::new(request.clone());
    for _ in 0..plan.connections {
        let sender = http2::Sender::open(plan.target, &plan.transport, tasks).await?;
        job.recorder.connected();
        for _ in 0..streams {
            let worker = StreamWorker {
                job: job.clone(),
                sender: sender.clone(),
                request: Arc::clone(&request),
            };
            match plan.protocol {
                Protocol::GrpcStream { messages, .. } => tasks.spawn(worker.run_messages(messages)),
                Protocol::GrpcUnary { .. } => tasks.spawn(worker.run(true)),
                _ => tasks.spawn(worker.run(false)),
            };
        }
    }
    Ok(())
}

async fn spawn_tcp(plan: &Plan, job: &Job, tasks: &mut JoinSet<()>) -> Result<(), LoadError> {
    for _ in 0..plan.connections {
        let opened = tcp::Connection::open(plan.target, &plan.transport).await;
        let connection = opened.map_err(refused(plan))?;
        job.recorder.connected();
        let (job, message) = (job.clone(), plan.request.body.clone());
        tasks.spawn(run_tcp(job, connection, plan.protocol, message));
    }
    Ok(())
}

fn refused(plan: &Plan) -> impl Fn(io::Error) -> LoadError {
    let target = plan.target;
    move |error| LoadError::Connect {
        target,
        reason: error.to_string(),
    }
}

impl Job {
    /// The start of the next request: now, or when the schedule wants it.
    async fn next_start(&self) -> Instant {
        match &self.queue {
            None => Instant::now(),
            Some(queue) => queue.pop().await,
        }
    }

    fn retires(&self) -> bool {
        self.retires.load(Ordering::Relaxed)
    }

    /// Counts what came of a request; whether it was answered.
    fn record(&self, start: Instant, answer: &io::Result<Answer>) -> bool {
        match answer {
            Ok(answer) => {
                let latency = start.elapsed();
                self.recorder
                    .answered(answer.status, answer.body_bytes, latency);
            }
            Err(error) => self.recorder.failed(|| format!("no whole answer: {error}")),
        }
        answer.is_ok()
    }

    async fn open_http1(&self) -> io::Result<http1::Connection> {
        let connection = http1::Connection::open(self.target, &self.transport).await?;
        self.recorder.connected();
        Ok(connection)
    }
}

/// Repeats a request over HTTP/1.1, reconnecting when it must.
struct Http1Worker {
    job: Job,
    request: Bytes,
    keep_alive: bool,
    connection: Option<http1::Connection>,
}

impl Http1Worker {
    async fn run(mut self) {
        let mut failures = 0;
        while failures < FAILURES_MAX {
            if self.job.retires() && self.connection.is_none() {
                return;
            }
            let start = self.job.next_start().await;
            if self.job.retires() && self.has_no_connection() {
                self.job.recorder.did_not_send();
                return;
            }
            let answer = self.exchange().await;
            if self.job.record(start, &answer) {
                failures = 0;
            } else {
                self.connection = None;
                failures += 1;
            }
        }
    }

    fn has_no_connection(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_none_or(http1::Connection::has_ended)
    }

    async fn exchange(&mut self) -> io::Result<Answer> {
        if self.connection.is_none() {
            let connection = self.job.open_http1().await?;
            if connection.is_resumed() {
                self.job.recorder.resumed();
            }
            self.connection = Some(connection);
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

/// Repeats a request, a call or a stream over a shared HTTP/2 connection.
struct StreamWorker {
    job: Job,
    sender: http2::Sender,
    request: Arc<Http2Request>,
}

impl StreamWorker {
    async fn run(mut self, is_grpc: bool) {
        let mut failures = 0;
        while failures < FAILURES_MAX && !self.sender.is_closed() {
            let start = self.job.next_start().await;
            let answer = match is_grpc {
                true => self.sender.call(&self.request).await,
                false => self.sender.exchange(&self.request).await,
            };
            if let Err(error) = &answer
                && self.job.retires()
                && http2::Sender::is_goodbye(error)
            {
                self.job.recorder.did_not_send();
                return;
            }
            failures = match self.job.record(start, &answer) {
                true => 0,
                false => failures + 1,
            };
        }
    }

    async fn run_messages(mut self, messages: u32) {
        let mut failures = 0;
        while failures < FAILURES_MAX && !self.sender.is_closed() {
            match self.one_stream(messages).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    self.job
                        .recorder
                        .failed(|| format!("the stream broke: {error}"));
                    failures += 1;
                }
            }
        }
    }

    async fn one_stream(&mut self, messages: u32) -> io::Result<()> {
        let message = self.request.message();
        let mut start = self.job.next_start().await;
        let opened = self.sender.open_stream(&self.request, message.clone());
        let mut stream = opened.await?;
        for sent in 1..=messages {
            let answer = stream.receive().await?;
            self.job.record(start, &Ok(answer));
            if sent < messages {
                start = self.job.next_start().await;
                stream.send(message.clone()).await?;
            }
        }
        stream.end().await
    }
}

async fn run_tcp(job: Job, mut connection: tcp::Connection, protocol: Protocol, message: Bytes) {
    loop {
        let start = job.next_start().await;
        let answer = match protocol {
            Protocol::TcpDownload { unit } => connection.download(unit).await,
            _ => connection.echo(&message).await,
        };
        // A raw connection that broke has no next message.
        if !job.record(start, &answer) {
            return;
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
        if Arc::strong_count(&queue) == 1 {
            return; // the last worker has gone
        }
        recorder.fell_due(1);
        if !queue.push(due) {
            recorder.overran(1);
        }
    }
}
