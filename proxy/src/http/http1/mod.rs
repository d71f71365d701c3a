//! HTTP/1.0 and HTTP/1.1, both sides.
//!
//! An exchange is one task: the downstream's connection reads the request, and the same task writes
//! it upstream and reads the answer, so that no request crosses a channel. Bytes of bodies are moved,
//! not copied. While a connection is idle it holds no buffer; what is read goes through a scratch
//! buffer of the worker.
//!
//! | file | holds |
//! |---|---|
//! | `client` | an upstream connection: request out, response in |
//! | `decode/` | framing, strictly; sans-IO |
//! | `encode` | heads as they are written |
//! | `head` | a checked head, cut into fields |
//! | `input` | the worker's read buffers |
//! | `outgoing` | bytes on their way to a socket |
//! | `reader` | messages as they arrive, on either side |
//! | `server` | a downstream connection, from its first request to its last |
//! | `spare` | the worker's spare header maps |
//! | `transfer` | a body as it is written, on either side |

pub(in crate::http) mod client;
pub mod decode;
mod encode;
mod head;
mod input;
mod outgoing;
mod reader;
pub(in crate::http) mod server;
pub(in crate::http) mod spare;
mod transfer;

#[cfg(test)]
mod tests;
