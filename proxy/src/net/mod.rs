//! Sockets: binding, accepting, connecting. `unsafe` is in `socket_option` alone.
//!
//! | file | holds |
//! |---|---|
//! | `descriptors` | how many the process has, and a reserve of them |
//! | `listen` | bound sockets, one per worker |
//! | `pipe` | pipes for `splice(2)` |
//! | `proxy_protocol` | headers that name the client |
//! | `socket_option` | any option of a socket, by numbers |
//! | `stream` | a connected socket, TCP or Unix, with or without TLS |
//! | `tls` | TLS records over a socket; who is trusted is decided in the room `tls` |

pub mod descriptors;
pub mod listen;
pub mod pipe;
pub mod proxy_protocol;
mod socket_option;
pub mod stream;
pub mod tls;

pub use listen::Acceptor;
pub use listen::BoundSocket;
pub use listen::How;
pub use pipe::Pipe;
pub use stream::NetStream;
pub use stream::PlainSocket;
pub use tls::TlsStream;
