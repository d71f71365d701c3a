//! Weir's data plane: an L4/L7 proxy configured by Envoy's v3 API.
//!
//! The rooms stand on floors and may only use what is below them; `ARCHITECTURE.md` has the map.

pub mod admin;
pub mod apply;
pub mod bootstrap;
pub mod command;
pub mod config;
pub mod downstream;
pub mod drain;
pub mod error;
pub mod given_state;
pub mod http;
pub mod listener;
pub mod memory;
pub mod net;
pub mod overload;
pub mod server;
pub mod tcp;
pub mod telemetry;
pub mod timer;
pub mod tls;
pub mod upstream;
pub mod worker;
pub mod xds;
