//! The xDS client: from the control plane's wire to consistent [`config::Change`]s.
//!
//! Only this room names `xds_proto`. It changes no live state itself: what it finds goes out through
//! one bounded channel to `apply`.
//!
//! ```text
//! control plane ──► client ──► session ──► decode ──► stage ──► Change ──► apply
//!  (gRPC, I/O)       shell     ACK, names             warming
//! files ──────────► file ─────────────────► decode ──►  ▲
//! resolver ─────────────────────────────────────────────┘
//! ```
//!
//! | room | does | I/O |
//! |---|---|---|
//! | `session` | subscriptions, nonces, ACK and NACK, timers; SotW and delta | no |
//! | `decode` | wire to model, every field accounted for | no |
//! | `stage` | warming; yields the next `Snapshot` | no |
//! | `last_good` | what was received, on disk, for a start without a control plane | yes |
//! | `store` | what was received, for dumps and for telling what changed | no |
//! | `client` | the gRPC stream, backoff, rotation | yes |
//! | `file` | `path_config_source` | yes |
//! | `identity` | has a key of our own signed | yes |
//! | `driver` | owns all of them | yes |
//! | `wire` | `decode` and the file loader behind the traits of the others | yes |
//!
//! [`config::Change`]: crate::config::Change

pub mod client;
pub mod decode;
pub mod driver;
pub mod file;
mod identity;
pub mod last_good;
pub mod resource;
pub mod session;
pub mod stage;
pub mod status;
pub mod store;
pub mod wire;
