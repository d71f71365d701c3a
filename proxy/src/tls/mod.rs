//! Who we are and whom we trust: live TLS contexts made from the model, handshakes on both sides,
//! and what is known of a peer afterwards.
//!
//! Only rustls with aws-lc-rs is used. What must hold: a peer that the configuration wants verified
//! is verified in every handshake, the resumed ones included; a context that cannot be built is
//! refused when it is configured, never softened when it runs.
//!
//! | file | holds |
//! |---|---|
//! | `provider` | versions, cipher suites and curves as rustls wants them |
//! | `credential` | a certificate with its key, and the names it is chosen by |
//! | `selector` | which certificate answers a ClientHello |
//! | `ticket` | session tickets that only their own context opens |
//! | `verifier` | whether a peer's certificate is good |
//! | `server` `client` | contexts, and the handshake of each side |
//! | `own` `signing_request` | keys that are made here, and certificates for them |
//! | `live` | contexts that follow their secrets |
//! | `failure` | why a handshake failed, as statistics and logs tell it |
//! | `count` | handshakes in the statistics |

pub mod client;
pub mod count;
pub(crate) mod credential;
pub mod failure;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod live;
pub mod own;
mod provider;
mod selector;
pub mod server;
pub mod signing_request;
mod ticket;
pub(crate) mod verifier;

#[cfg(test)]
mod tests;

pub use client::ClientContext;
pub use failure::Failure;
pub use server::ServerContext;
