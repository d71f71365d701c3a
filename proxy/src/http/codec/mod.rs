//! Both protocols on both sides, behind one door: HTTP/1 is `http1`'s, HTTP/2 hyper's, and this is the
//! only place that names hyper.
//!
//! | file | holds |
//! |---|---|
//! | `body` | bodies as they arrive and as they are sent upstream |
//! | `client` | an upstream HTTP/2 connection: handshake and sender |
//! | `error` | what went wrong, in words of ours |
//! | `io` | the downstream socket: replayed first bytes, facts for the deadlines |
//! | `server` | a downstream connection, driven to its end |

mod body;
mod client;
mod error;
mod io;
mod server;

pub use super::http1::client::Http1Sender;
pub use body::Incoming;
pub use body::Progress;
pub use body::RequestBody;
pub use client::Http2Sender;
pub use client::Sent;
pub use client::Unsent;
pub use client::connect_http2;
pub use error::Error;
pub use error::ErrorKind;
pub use io::IoFacts;
pub use server::Protocol;
pub use server::ServerOptions;
pub use server::Stop;
pub use server::serve;
pub use server::sniff;
