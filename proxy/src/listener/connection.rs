//! One accepted connection, step by step: its facts, its filter chain, the chain's transport socket,
//! the chain's filter.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::config::limits;
use crate::downstream::Downstream;
use crate::http::connection_manager;
use crate::listener::ActiveFilter;
use crate::listener::ActiveListener;
use crate::listener::inspect;
use crate::listener::transport;
use crate::net::NetStream;
use crate::tcp;
use crate::telemetry::stats::ListenerStats;
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
    let (worker, listener) = (Rc::clone(worker), Arc::clone(listener));
    tokio::task::spawn_local(async move {
        let _open = open;
        serve(worker, &listener, stream, is_stopping).await;
    });
}

/// From the socket to the end of the connection: listener filters, chain, its transport, its filter.
async fn serve(
    worker: Rc<WorkerContext>,
    listener: &ActiveListener,
    stream: NetStream,
    is_stopping: bool,
) {
    let mut downstream = facts(&stream);
    let Some(stream) = inspected(&worker, listener, stream, &mut downstream).await else {
        return;
    };
    let Some(chain) = listener.chains().find(&downstream).cloned() else {
        listener.stats.no_filter_chain_match().inc();
        return;
    };
    let drain = worker.drain_guard(chain.id, is_stopping || listener.is_closed());
    let _counted = Counted::enter(Arc::clone(&listener.stats));
    let Some(stream) = transport::accept(&chain, &listener.stats, stream, &mut downstream).await
    else {
        return;
    };
    match &chain.filter {
        ActiveFilter::Http(manager) => {
            let manager = Arc::clone(manager);
            drop(chain);
            connection_manager::serve(worker, manager, downstream, stream, drain).await;
        }
        ActiveFilter::Tcp(manager) => {
            let manager = Arc::clone(manager);
            drop(chain);
            tcp::serve(worker, manager, downstream, stream, drain).await;
        }
    }
}

/// The stream after the listener filters; a worker that drains waits for no client to say more.
async fn inspected(
    worker: &WorkerContext,
    listener: &ActiveListener,
    stream: NetStream,
    downstream: &mut Downstream,
) -> Option<NetStream> {
    if listener.chains().config.listener_filters.is_empty() {
        return Some(stream); // the usual case, without a detour over the heap
    }
    let mut guard = worker.guard();
    let inspected = Box::pin(inspect::run(listener, stream, downstream));
    tokio::select! {
        biased;
        stream = inspected => stream,
        () = guard.draining() => None,
    }
}

fn facts(stream: &NetStream) -> Downstream {
    let peer = stream.peer_address();
    Downstream {
        connection_id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        direct_peer: peer,
        peer,
        local: stream.local_address(),
        found: None,
        tls: None,
    }
}

/// Counts the connection at its listener while it is open.
struct Counted(Arc<ListenerStats>);

impl Counted {
    fn enter(stats: Arc<ListenerStats>) -> Self {
        stats.downstream_cx_total().inc();
        stats.downstream_cx_active().inc();
        Self(stats)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.downstream_cx_active().dec();
        self.0.downstream_cx_destroy().inc();
    }
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
