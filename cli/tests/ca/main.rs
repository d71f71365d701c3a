//! `weir ca` and `weir cert` as programs, beside openssl, and killed at every system call.
//!
//! | file | holds |
//! |---|---|
//! | `support` | the programs |
//! | `client` | one request over mutual TLS |
//! | `channel` | our proxy and our control plane over mutual TLS |
//! | `envoy` | a real Envoy that lives on our secrets |
//! | `agree` | what openssl says about our certificates, lists and requests |
//! | `federation` | Envoy and our proxy believe another trust domain |
//! | `full_disk` | a disk without room is told, and loses nothing |
//! | `killed` | kill -9 at every system call that touches the directory |
//! | `memory` | what is left of keys in memory |
//! | `signed` | keys that their owners make |
//! | `show` | what a person sees |
//!
//! Without openssl, strace or Envoy these tests say so on the standard error and pass; with
//! `WEIR_REQUIRE_PEERS=1` they fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are not recognized as tests"
)]

mod agree;
mod channel;
mod client;
mod envoy;
mod federation;
mod full_disk;
mod killed;
mod memory;
mod show;
mod signed;
mod support;
