//! What stands behind a proxy: four origins for four purposes.
//!
//! - [`FixedOrigin`]: the fast one. Prebuilt HTTP/1.1, HTTP/2 and gRPC answers, for load.
//! - [`TcpOrigin`]: the same below HTTP.
//! - [`Origin`]: the programmable one. Echo, delay, status, trailers, streams, for tests.
//! - [`Recorder`]: the suspicious one. Keeps the raw bytes each connection received.
//!
//! All listen on 127.0.0.1, run as tasks of the calling tokio runtime, and end when dropped.

mod fixed;
mod gate;
mod grpc;
mod programmable;
mod recorder;
mod reply;
mod tcp;

pub use self::fixed::{FixedOptions, FixedOrigin};
pub use self::programmable::{Origin, Seen};
pub use self::recorder::Recorder;
pub use self::reply::{Reply, ReplyContent};
pub use self::tcp::{TcpBehavior, TcpOrigin};

#[cfg(test)]
mod tests;
