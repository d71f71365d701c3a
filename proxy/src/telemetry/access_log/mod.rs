//! One entry per connection and per exchange: what an entry says, and how it reaches its sink.
//!
//! Formatting happens on the worker, into the worker's own buffer; writing happens on one thread for
//! the whole process. A worker never waits for a disk: when the writer is behind, whole buffers are
//! dropped and their entries counted.
//!
//! | file | holds |
//! |---|---|
//! | `record` | the facts of a finished exchange |
//! | `command` | what a `%COMMAND%` gives for a record |
//! | `format` | templates and entries, text and JSON |
//! | `escape` | peers' bytes made safe for a line of text or a JSON string |
//! | `time` | `%START_TIME(...)%` and its like |
//! | `tls` | what a `%COMMAND%` about TLS gives |
//! | `logger` | the worker's half: buffers |
//! | `writer` | the writer's half: one thread, files, reopening |

mod command;
mod escape;
mod format;
mod logger;
mod record;
#[cfg(test)]
mod tests;
mod time;
mod tls;
mod writer;

pub use format::DEFAULT_FORMAT;
pub use format::eval;
pub use format::format;
pub use format::plain;
pub use logger::Logger;
pub use logger::flush_aged;
pub use logger::flush_all;
pub use record::ExchangeRecord;
pub use record::Occasion;
pub use record::RequestFacts;
pub use time::rfc3339;
pub use writer::AccessLogWriter;
