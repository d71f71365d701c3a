//! The worker's half: entries are formatted into a buffer that belongs to this thread and sink, and
//! handed to the writer when it is full or old.
//!
//! Invariants: a worker never waits here; an entry is in one buffer whole; once buffers have gone
//! round, an entry allocates nothing. A thread that logs rarely must call [`flush_aged`] from a
//! timer, or its last entries appear when it ends.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::access_log::Format;
use crate::telemetry::access_log::format::format;
use crate::telemetry::access_log::record::ExchangeRecord;
use crate::telemetry::access_log::writer::Chunk;
use crate::telemetry::access_log::writer::Lease;
use crate::telemetry::access_log::writer::Message;
use crate::telemetry::access_log::writer::SinkState;

/// A buffer this full is handed over: some hundred entries, so that a write costs each little.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// A buffer this old is handed over: whoever follows the log sees an entry within two seconds.
const AGE_MAX: Duration = Duration::from_secs(1);

thread_local! {
    static BUFFERS: RefCell<Buffers> = const { RefCell::new(Buffers(Vec::new())) };
}

/// One configured access log: entries of one format to one sink. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logger {
    format: Arc<Format>,
    lease: Arc<Lease>,
}

impl Logger {
    pub(super) fn new(format: Format, lease: Arc<Lease>) -> Self {
        let format = Arc::new(format);
        Self { format, lease }
    }

    /// Logs one entry; never waits.
    pub fn log(&self, record: &ExchangeRecord<'_>) {
        // While the thread is being torn down, or from inside a formatter, there is no buffer.
        let _ = BUFFERS.try_with(|buffers| {
            if let Ok(mut buffers) = buffers.try_borrow_mut() {
                let buffer = buffers.of(&self.lease);
                format(&self.format, record, &mut buffer.bytes);
                buffer.entries += 1;
                if buffer.bytes.len() >= CHUNK_BYTES {
                    buffer.hand_over();
                }
            }
        });
    }
}

/// Hands over this thread's buffers that are older than a second; for a worker's periodic tick,
/// which should come at least once a second.
pub fn flush_aged(now: Instant) {
    let _ = BUFFERS.try_with(|buffers| {
        if let Ok(mut buffers) = buffers.try_borrow_mut() {
            buffers.flush_aged(now);
        }
    });
}

/// Hands over all of this thread's buffers; for the end of a worker.
pub fn flush_all() {
    let _ = BUFFERS.try_with(|buffers| {
        if let Ok(mut buffers) = buffers.try_borrow_mut() {
            buffers.0.iter_mut().for_each(Buffer::hand_over);
            buffers.forget_unused();
        }
    });
}

/// This thread's buffers; a handful, so they are looked for one by one.
struct Buffers(Vec<Buffer>);

struct Buffer {
    sink: Arc<SinkState>,
    lease: Weak<Lease>,
    bytes: Vec<u8>,
    entries: u64,
    /// When a tick first saw it with something in it.
    since: Option<Instant>,
}

impl Buffers {
    fn of(&mut self, lease: &Arc<Lease>) -> &mut Buffer {
        let ours = |buffer: &Buffer| Arc::ptr_eq(&buffer.sink, &lease.sink);
        let at = self.0.iter().position(ours).unwrap_or_else(|| {
            self.0.push(Buffer {
                sink: Arc::clone(&lease.sink),
                lease: Arc::downgrade(lease),
                bytes: Vec::new(),
                entries: 0,
                since: None,
            });
            self.0.len() - 1
        });
        self.0.get_mut(at).expect("found or pushed just now")
    }

    fn flush_aged(&mut self, now: Instant) {
        for buffer in self.0.iter_mut().filter(|buffer| buffer.entries > 0) {
            let since = *buffer.since.get_or_insert(now);
            if now.duration_since(since) >= AGE_MAX || buffer.lease.strong_count() == 0 {
                buffer.hand_over();
            }
        }
        self.forget_unused();
    }

    /// Lets go of sinks that no logger writes to any more.
    fn forget_unused(&mut self) {
        self.0
            .retain(|buffer| buffer.entries > 0 || buffer.lease.strong_count() > 0);
    }
}

impl Buffer {
    fn hand_over(&mut self) {
        if self.entries == 0 {
            return;
        }
        self.since = None;
        let entries = mem::take(&mut self.entries);
        let stats = &self.sink.stats;
        stats.entries_total().add(entries);
        let chunk = Chunk {
            sink: Arc::clone(&self.sink),
            bytes: mem::replace(&mut self.bytes, self.sink.spare.take()),
        };
        if let Err(refused) = self.sink.queue.try_send(Message::Write(chunk)) {
            stats.entries_dropped().add(entries);
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = refused;
            if let Message::Write(chunk) = message {
                self.bytes = chunk.bytes;
                self.bytes.clear();
            }
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.hand_over();
    }
}
