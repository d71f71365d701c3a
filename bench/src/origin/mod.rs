//! What stands behind a proxy: three origins for three purposes.
//!
//! - [`FixedOrigin`]: the fast one. Prebuilt HTTP/1.1 and HTTP/2 answers, for load.
//! - [`Origin`]: the programmable one. Echo, delay, status, trailers, streams, for tests.
//! - [`Recorder`]: the suspicious one. Keeps the raw bytes each connection received.
//!
//! All listen on 127.0.0.1, run as tasks of the calling tokio runtime, and end when dropped.

mod fixed;
mod gate;
mod programmable;
mod recorder;
mod reply;

pub use self::fixed::{FixedOptions, FixedOrigin};
pub use self::programmable::{Origin, Seen};
pub use self::recorder::Recorder;
pub use self::reply::{Reply, ReplyContent};

#[cfg(test)]
mod tests;
