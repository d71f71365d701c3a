//! The measuring instruments: origins, load generators, real peers, and the arithmetic that turns
//! runs into claims.
//!
//! Used twice: by the binary `weir-bench`, which compares proxies, and as a development dependency
//! by integration tests that need an origin or a real Envoy beside Weir. It never names Weir's own
//! crates: Weir is one more process under test.
//!
//! | module | holds |
//! |---|---|
//! | [`ports`] | loopback ports reserved for peers that want a number in a file |
//! | [`process`], [`usage`] | child processes that die with their owner; what they cost |
//! | [`peer`] | Envoy, HAProxy, nginx and Weir as started processes |
//! | [`origin`] | what stands behind a proxy |
//! | [`load`], [`client`] | what stands in front of it: many requests measured, or one looked at |
//! | [`certificates`] | an authority for one measurement; [`Transport`] says who uses it |
//! | [`relay`] | the floor: the least code that moves a request between two sockets |
//! | [`stats`] | paired log-ratios and bootstrap intervals |
//! | [`plot`] | line charts as SVG |
//! | [`pattern`] | checkable bytes of any length |
//!
//! Everything stays on 127.0.0.1.

pub mod certificates;
pub mod client;
pub mod load;
pub mod origin;
pub mod pattern;
pub mod peer;
pub mod plot;
pub mod ports;
pub mod process;
pub mod relay;
pub mod stats;
pub mod usage;

mod grpc;
mod message;
mod socket;
mod tickets;
mod wire;

pub use self::wire::{TlsClient, TlsServer, Transport};
