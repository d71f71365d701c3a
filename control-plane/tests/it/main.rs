//! The server over real sockets on the loopback interface, driven by the generated clients.

#![expect(
    clippy::large_futures,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests are not recognized as tests"
)]

mod files;
mod grpc;
mod peer;
mod secrets;
