//! Extended CONNECT (RFC 8441): streams that go on as another protocol. Exchanges know of requests of HTTP/1.1
//! that ask for an upgrade, and of answers with 101; a client's request is brought into that form, and one to a
//! server out of it.
//!
//! | file | holds |
//! |---|---|
//! | `from_client` | a client that asks |
//! | `stream` | what its stream, or one to a server, goes on as |
//! | `to_server` | a server that is asked |

pub(super) mod from_client;
pub(in crate::http) mod stream;
pub(super) mod to_server;

#[cfg(test)]
mod tests;
