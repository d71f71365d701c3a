//! Both protocols on both sides, behind one door: what the path above knows of `http1` and `http2`.
//!
//! | file | holds |
//! |---|---|
//! | `body` | bodies as they arrive and as they are sent upstream |
//! | `error` | what went wrong, in words of ours |
//! | `frames` | where the bytes of an HTTP/2 client stand |
//! | `held` | bytes that wait for whoever is to take them |
//! | `io` | the downstream socket: replayed first bytes, facts for the deadlines |
//! | `linger` | the end: reading on after the last byte was sent |
//! | `replay` | request bodies that can be sent again |
//! | `sent` | what became of a request |
//! | `server` | a downstream connection, driven to its end |
//! | `switch` | what a connection goes on as after a 101 |
//! | `unfit` | servers that say they fail their health checks |

mod body;
mod error;
mod frames;
mod held;
mod io;
mod linger;
mod replay;
mod sent;
mod server;
mod switch;
pub(in crate::http) mod unfit;

pub use super::http1::client::Http1Sender;
pub(super) use super::http1::spare::give_back;
pub use super::http2::client::Http2Sender;
pub use super::http2::client::connect_http2;
pub use super::http2::extended::stream::Http2Stream;
pub use super::http2::settings::Settings as Http2Settings;
pub use body::Incoming;
pub use body::Progress;
pub use body::RequestBody;
pub use error::Error;
pub use error::ErrorKind;
pub use held::Held;
pub use io::IoFacts;
pub(super) use io::ServerIo;
pub(super) use linger::Linger;
pub use replay::Reading;
pub use replay::Replay;
pub use sent::Sent;
pub use sent::Unsent;
pub use server::Protocol;
pub use server::ServerOptions;
pub use server::Stop;
pub use server::serve;
pub use server::sniff;
pub use switch::AsksUpgrade;
pub use switch::Fate;
pub use switch::Peer;
pub use switch::Switch;
