//! The writer's half: one thread that appends chunks to files and streams.
//!
//! It owns every file, so reopening for log rotation needs no lock with the data path. It does not
//! order chunks of different workers: entries of one worker are in order, and whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TryRecvError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::access_log::AccessLog;
use crate::config::access_log::Sink;
use crate::telemetry::access_log::logger::CHUNK_BYTES;
use crate::telemetry::access_log::logger::Logger;
use crate::telemetry::stats::AccessLogStats;

/// Chunks waiting for the writer: 4 MiB, which a disk that is worth the name takes in a moment.
const QUEUE_CHUNKS: usize = 64;

/// Empty buffers kept for workers: one on its way for each of a few.
const SPARE_MAX: usize = 8;

/// How long the end of the process waits for a sink that takes nothing, for example a pipe whose
/// reader sleeps: what a service manager grants before it kills is longer.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Every access log of the process, and the thread that writes them.
#[derive(Debug)]
pub struct AccessLogWriter {
    queue: SyncSender<Message>,
    spare: Arc<Spare>,
    stats: Arc<AccessLogStats>,
    sinks: Mutex<BTreeMap<Sink, Weak<Lease>>>,
    /// Whether the thread is to end once the queue is empty.
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Disconnects when the thread ends.
    ended: Mutex<Receiver<()>>,
}

impl AccessLogWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn start(stats: Arc<AccessLogStats>) -> io::Result<Self> {
        let (queue, messages) = mpsc::sync_channel(QUEUE_CHUNKS);
        let (end, ended) = mpsc::sync_channel(0);
        let spare = Arc::new(Spare::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn({
                let spare = Arc::clone(&spare);
                let stopping = Arc::clone(&stopping);
                move || {
                    let _end: SyncSender<()> = end;
                    write_all(&messages, &stopping, &spare);
                }
            })?;
        Ok(Self {
            queue,
            spare,
            stats,
            sinks: Mutex::default(),
            stopping,
            thread: Some(thread),
            ended: Mutex::new(ended),
        })
    }

    /// Opens the sink, or shares it with other loggers of the same sink.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn logger(&self, config: &AccessLog) -> io::Result<Logger> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let open = sinks.get(&config.sink).and_then(Weak::upgrade);
        let lease = match open {
            Some(lease) => lease,
            None => {
                let lease = Arc::new(self.open(&config.sink)?);
                sinks.retain(|_, lease| lease.strong_count() > 0);
                sinks.insert(config.sink.clone(), Arc::downgrade(&lease));
                lease
            }
        };
        Ok(Logger::new(config.format.clone(), lease))
    }

    /// Opens every file anew, after a rotation has moved it away; waits for a place in the queue.
    pub fn reopen(&self) {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        for lease in sinks.values().filter_map(Weak::upgrade) {
            let sink = Arc::clone(&lease.sink);
            // Refused only if the thread is gone, and then there is nothing to reopen for.
            let _ = self.queue.send(Message::Reopen(sink));
        }
    }

    /// Writes what workers have handed over, and ends the thread; workers flush before this. A sink
    /// that hangs is waited for no longer than five seconds.
    pub fn stop(mut self) {
        self.finish();
    }

    fn open(&self, sink: &Sink) -> io::Result<Lease> {
        let output = match sink {
            Sink::File(path) => Output::File(open(path)?),
            Sink::Stderr => Output::Stderr,
            Sink::Stdout => Output::Stdout,
        };
        let state = SinkState {
            sink: sink.clone(),
            output: Mutex::new(output),
            queue: self.queue.clone(),
            spare: Arc::clone(&self.spare),
            stats: Arc::clone(&self.stats),
        };
        Ok(Lease {
            sink: Arc::new(state),
        })
    }

    fn finish(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.stopping.store(true, Ordering::Release);
        // To wake it; if the queue is full it is not asleep.
        let _ = self.queue.try_send(Message::Stop);
        if self
            .ended
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(STOP_WAIT)
            == Err(RecvTimeoutError::Disconnected)
        {
            // A panic of the thread has already been reported by its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for AccessLogWriter {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Message {
    Reopen(Arc<SinkState>),
    Stop,
    Write(Chunk),
}

/// Whole entries for one sink.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) sink: Arc<SinkState>,
    pub(super) bytes: Vec<u8>,
}

/// One open sink; buffers keep it until they are empty.
#[derive(Debug)]
pub(super) struct SinkState {
    sink: Sink,
    /// Locked by the writer thread alone.
    output: Mutex<Output>,
    pub(super) queue: SyncSender<Message>,
    pub(super) spare: Arc<Spare>,
    pub(super) stats: Arc<AccessLogStats>,
}

/// Held by loggers: when the last is gone, workers let go of the sink.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) sink: Arc<SinkState>,
}

/// Empty buffers on their way back to workers.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// One of them, or a new one: a worker does not wait.
    pub(super) fn take(&self) -> Vec<u8> {
        let spare = self.0.try_lock().ok().and_then(|mut spare| spare.pop());
        spare.unwrap_or_default()
    }

    fn put(&self, mut bytes: Vec<u8>) {
        // A single huge entry must not keep its memory for ever.
        if bytes.capacity() > 2 * CHUNK_BYTES {
            return;
        }
        bytes.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(bytes);
        }
    }
}

#[derive(Debug)]
enum Output {
    File(File),
    Stderr,
    Stdout,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Stderr => io::stderr().lock().write_all(bytes),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
        }
    }
}

fn write_all(messages: &Receiver<Message>, stopping: &AtomicBool, spare: &Spare) {
    while let Some(message) = next(messages, stopping) {
        match message {
            Message::Reopen(sink) => reopen(&sink),
            Message::Stop => {}
            Message::Write(Chunk { sink, bytes }) => {
                write(&sink, &bytes);
                spare.put(bytes);
            }
        }
    }
}

/// Waits for a message; none if the queue is empty for good.
fn next(messages: &Receiver<Message>, stopping: &AtomicBool) -> Option<Message> {
    match messages.try_recv() {
        Ok(message) => Some(message),
        Err(TryRecvError::Disconnected) => None,
        Err(TryRecvError::Empty) if stopping.load(Ordering::Acquire) => None,
        Err(TryRecvError::Empty) => messages.recv().ok(),
    }
}

fn write(sink: &SinkState, bytes: &[u8]) {
    let mut output = sink.output.lock().unwrap_or_else(PoisonError::into_inner);
    match output.write(bytes) {
        Ok(()) => sink.stats.bytes_written().add(bytes.len() as u64),
        // Counted, not logged: a full disk would fill the other log too.
        Err(_) => sink.stats.write_failed().inc(),
    }
}

fn reopen(sink: &SinkState) {
    let Sink::File(path) = &sink.sink else {
        return;
    };
    match open(path) {
        Ok(file) => {
            let mut output = sink.output.lock().unwrap_or_else(PoisonError::into_inner);
            *output = Output::File(file);
        }
        // Entries keep going to the old file.
        Err(error) => {
            sink.stats.reopen_failed().inc();
            tracing::warn!(path = %path.display(), %error, "access log not reopened");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
