//! One accepted connection: counted, given its chain, served, counted again.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::config::limits;
use crate::downstream::Downstream;
use crate::http::connection_manager;
use crate::listener::ActiveListener;
use crate::net::NetStream;
use crate::worker::WorkerContext;

/// Connections open in the whole process.
static OPEN: AtomicUsize = AtomicUsize::new(0);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Serves the connection as a task of this worker; refuses it at once above the limit. One that was
/// still waiting when its listener stopped gets its first answer, and no more.
pub fn spawn(
    worker: &Rc<WorkerContext>,
    listener: &Arc<ActiveListener>,
    stream: NetStream,
    is_stopping: bool,
) {
    let Some(open) = Open::enter() else {
        listener.stats.downstream_cx_overflow().inc();
        return;
    };
    let Some(chain) = listener.chains().find().cloned() else {
        listener.stats.no_filter_chain_match().inc();
        return;
    };
    let downstream = Downstream {
        connection_id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        peer: stream.peer_address(),
        local: stream.local_address(),
    };
    let drain = worker.drain_guard(chain.id, is_stopping);
    let (worker, listener) = (Rc::clone(worker), Arc::clone(listener));
    tokio::task::spawn_local(async move {
        let _open = open;
        listener.stats.downstream_cx_total().inc();
        listener.stats.downstream_cx_active().inc();
        connection_manager::serve(worker, Arc::clone(&chain.http), downstream, stream, drain).await;
        listener.stats.downstream_cx_active().dec();
        listener.stats.downstream_cx_destroy().inc();
    });
}

/// One of the process's open connections.
#[derive(Debug)]
struct Open;

impl Open {
    fn enter() -> Option<Self> {
        if OPEN.fetch_add(1, Ordering::Relaxed) >= limits::DOWNSTREAM_CONNECTIONS_MAX {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
