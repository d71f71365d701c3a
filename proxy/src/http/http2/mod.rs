//! HTTP/2 on both sides, over the h2 crate: it owns frames, HPACK, windows and the limits against
//! floods; what is here turns its streams into exchanges and back.
//!
//! There is no channel between an exchange and its stream and no task for a response: an exchange
//! waits for the head and reads the body on the stream itself. Only a request body that is not there
//! at once gets a task of its own, since it must go on while nobody reads the response. Other
//! protocols' names for connections and hops are not written (RFC 9113 section 8.2.2).
//!
//! | file | holds |
//! |---|---|
//! | `client` | an upstream connection: handshake, sender, the wait for an answer |
//! | `extended` | streams that go on as another protocol |
//! | `incoming` | a body as it arrives |
//! | `keepalive` | PING, and what no answer to it means |
//! | `pump` | a body as it is sent |
//! | `server` | a downstream connection, and what answers one stream |
//! | `settings` | whether a server has said what it allows |

pub(in crate::http) mod client;
pub(in crate::http) mod extended;
pub(in crate::http) mod incoming;
mod keepalive;
mod pump;
pub(in crate::http) mod server;
pub(in crate::http) mod settings;

#[cfg(test)]
mod tests;
