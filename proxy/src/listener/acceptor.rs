//! The accept loop of one worker on one listener.
//!
//! An accept that fails never ends the loop and never makes it spin.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::overload::Action;
use crate::listener::ActiveListener;
use crate::listener::balance;
use crate::listener::connection;
use crate::net::Acceptor;
use crate::worker::WorkerContext;

/// Wait after an accept failed for want of descriptors or memory: long enough for some to be freed,
/// short against a client's patience.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until told to stop; connections that wait then are still served.
pub async fn run(
    worker: Rc<WorkerContext>,
    listener: Arc<ActiveListener>,
    acceptor: Acceptor,
    stop: oneshot::Receiver<()>,
) {
    let _guard = worker.guard(); // a worker that accepts is not done
    tokio::select! {
        () = accept(&worker, &listener, &acceptor) => {}
        _ = stop => {} // also when the worker is gone
    }
    match acceptor.close() {
        Ok(waiting) => {
            waiting
                .into_iter()
                .for_each(|stream| connection::spawn(&worker, &listener, (stream, None), true));
        }
        Err(error) => tracing::warn!(listener = %listener.name, %error, "cannot close in order"),
    }
}

async fn accept(worker: &Rc<WorkerContext>, listener: &Arc<ActiveListener>, acceptor: &Acceptor) {
    let batch_max = listener.chains().config.accepts_per_event.max(1);
    let (mut batch, mut has_failed) = (0, false);
    loop {
        while worker.loads().is_full(Action::StopAcceptingConnections)
            && !listener.chains().config.ignores_overload
        {
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        }
        match acceptor.accept().await {
            Ok(stream) => {
                has_failed = false;
                balance::begin(worker, listener, stream);
                batch += 1;
                if batch >= batch_max {
                    batch = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                listener.chains().stats.downstream_cx_accept_fail().inc();
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(listener = %listener.name, %error, "cannot accept; trying again");
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Errors that belong to the connection that was about to be accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    )
}
