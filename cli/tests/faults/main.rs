//! One system call of a proxy fails, does less than it could, or meets an end: whichever it is, of
//! whatever exchange, nothing is left of it.
//!
//! The binary `weir` runs with a library (`shim.c`) that breaks the k-th call of its workers on
//! sockets. A fixed set of transcripts is played for every k until there is no k-th call. After each
//! the proxy must be as it was: no panic, nothing open or counted that is over, and every answer the
//! right one or none; what was begun is what has ended, by each count. No origin may be in the middle of
//! a request, and a plain request over each connection of each pool tells that none was put back half
//! used. In the end the log must have, for each play, one line per request, and what was counted.
//!
//! | file | holds |
//! |---|---|
//! | `http1` | a client that writes by hand, and reads what belongs to what |
//! | `http2` | a client of HTTP/2 |
//! | `ledger` | what was counted and what was written, play by play |
//! | `origin` | what stands behind the proxy |
//! | `script` | what a client asks for and what it may get |
//! | `settled` | what must hold afterwards |
//! | `shim` | the library |
//! | `sweep` | every transcript, every kind of break, every call |
//! | `transcripts` | the transcripts |
//! | `world` | the proxy between its clients and origins |
//!
//! `WEIR_FULL=1` breaks every call, `WEIR_FULL=2/4` every call of the second quarter of the transcripts;
//! otherwise it is a fixed part of them. Where the kernel has no
//! seccomp or there is no C compiler, the sweep says so on the standard error and passes; with
//! `WEIR_REQUIRE_PEERS=1` it fails.

mod http1;
mod http2;
mod ledger;
mod origin;
mod script;
mod settled;
mod shim;
mod sweep;
mod transcripts;
mod world;

use std::future::Future;
use std::time::Duration;

/// Only a failure waits so long. Both cores may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether it came in time.
async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, future).await.ok()
}
