//! Streams that are passed on as they are: `tcp_proxy`.
//!
//! | file | holds |
//! |---|---|
//! | `announce` | TLVs that are added to the client's |
//! | `proxy` | one connection, from its cluster to its log entry |
//! | `live` | the filter as it lives: clusters resolved, logs open |
//! | `session` | what is known of a connection; counted and logged once |
//! | `measure` | what balancing by latency learns from it |
//! | `relay` | both directions, with their deadlines |
//! | `direction` | one direction: spliced or copied, half-closed at its end |

mod announce;
mod direction;
mod live;
mod measure;
mod proxy;
mod relay;
mod session;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;

pub(crate) use direction::Broken;
pub(crate) use direction::Direction;
pub use direction::End;
pub(crate) use direction::Watch;
pub use live::TcpManager;
pub use proxy::refuse;
pub use proxy::serve;
pub use session::Refused;
pub(crate) use session::of_client;
