//! HTTP: from a connection's bytes to an exchange with an upstream and back.
//!
//! | file | holds |
//! |---|---|
//! | `codec` | the door to both protocols |
//! | `connection_manager` | one downstream connection: protocol choice, deadlines, drain |
//! | `date` | the `Date` header, made once a second |
//! | `exchange` | one request and its response, all control flow of the path |
//! | `hash` | the hash of a request, which members are chosen by |
//! | `http1` | HTTP/1 on both sides, framing by the letter |
//! | `http2` | HTTP/2 on both sides, over h2 |
//! | `headers` | what forwarding does to header maps |
//! | `local_reply` | answers made here |
//! | `logged` | which headers the access logs name |
//! | `path` | the canonical form of a path |
//! | `router` | which route a request takes |
//! | `tunnel` | bytes of another protocol, after a 101 |

pub mod codec;
pub mod connection_manager;
mod date;
pub mod exchange;
pub mod hash;
pub mod headers;
pub mod http1;
mod http2;
pub mod local_reply;
pub mod logged;
pub mod path;
pub mod router;
pub mod session;
mod tunnel;
