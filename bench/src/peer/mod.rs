//! Real proxies as started processes: where their programs are, how they start, when they are ready.
//!
//! Each takes its configuration as text, writes it into a directory of its own, and ends when
//! dropped. Nothing here decides what is configured: tests bring their own text, the comparison
//! renders `bench/peers`.
//!
//! - [`Envoy`] and [`Weir`] read the same bootstrap and have the same [`Admin`] interface.
//! - [`Haproxy`] and [`Nginx`] are only started.

mod admin;
mod envoy;
mod haproxy;
mod locate;
mod nginx;
pub mod template;
mod weir;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use self::admin::{Admin, AdminError};
pub use self::envoy::Envoy;
pub use self::haproxy::Haproxy;
pub use self::nginx::Nginx;
pub use self::weir::Weir;

use crate::process::ProcessError;

/// How long a peer may take until it answers; Envoy with 10,000 clusters needs seconds.
pub const READY_LIMIT: Duration = Duration::from_secs(30);

/// Why a peer is not there.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Its program is not installed.
    #[error("{name} is not installed: {hint}")]
    Missing {
        /// Which peer.
        name: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// It did not start, or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its configuration could not be written.
    #[error("cannot write the configuration: {0}")]
    Config(#[from] io::Error),
}

/// How a peer is started.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// The one core it may use.
    pub core: Option<usize>,
    /// The program, in place of the usual places.
    pub program: Option<PathBuf>,
    /// What is started in its place with it as an argument, such as `strace` (Weir only).
    pub wrapper: Vec<OsString>,
    /// Arguments after ours, such as `--service-node` for Envoy.
    pub arguments: Vec<OsString>,
}

#[cfg(test)]
mod tests;
