//! HTTP: from a connection's bytes to an exchange with an upstream and back.
//!
//! | file | holds |
//! |---|---|
//! | `codec` | the door to both protocols; the only place that names hyper |
//! | `connection_manager` | one downstream connection: protocol choice, deadlines, drain |
//! | `exchange` | one request and its response, all control flow of the path |
//! | `http1` | HTTP/1 on both sides, framing by the letter |
//! | `headers` | what forwarding does to header maps |
//! | `local_reply` | answers made here |
//! | `logged` | which headers the access logs name |
//! | `path` | the canonical form of a path |
//! | `router` | which route a request takes |

pub mod codec;
pub mod connection_manager;
pub mod exchange;
pub mod headers;
pub mod http1;
pub mod local_reply;
pub mod logged;
pub mod path;
pub mod router;
