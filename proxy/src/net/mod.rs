//! Sockets: binding, accepting, connecting. The only room where `unsafe` may be allowed; today
//! nothing here needs it.
//!
//! | file | holds |
//! |---|---|
//! | `descriptors` | how many the process has, and a reserve of them |
//! | `listen` | bound sockets, one per worker |
//! | `pipe` | pipes for `splice(2)` |
//! | `proxy_protocol` | headers that name the client |
//! | `stream` | a connected socket, TCP or Unix, with or without TLS |
//! | `tls` | TLS records over a socket; who is trusted is decided in the room `tls` |

pub mod descriptors;
pub mod listen;
pub mod pipe;
pub mod proxy_protocol;
pub mod stream;
pub mod tls;

pub use listen::Acceptor;
pub use listen::BoundSocket;
pub use listen::How;
pub use pipe::Pipe;
pub use stream::NetStream;
pub use tls::TlsStream;
