//! One accepted connection, step by step: its facts, its filter chain, the chain's transport socket,
//! the chain's filter.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use crate::config::filter_state::StateValue;
use crate::config::overload::Action;
use crate::config::overload::ShedPoint;
use crate::downstream::Downstream;
use crate::drain::DrainGuard;
use crate::http::connection_manager;
use crate::listener::ActiveChain;
use crate::listener::ActiveFilter;
use crate::listener::ActiveListener;
use crate::listener::active::Chains;
use crate::listener::balance::Seat;
use crate::listener::budget::ChainLimit;
use crate::listener::budget::ChainPlace;
use crate::listener::budget::Full;
use crate::listener::budget::Place;
use crate::listener::entry;
use crate::listener::entry::Entry;
use crate::listener::inspect;
use crate::listener::territory;
use crate::listener::transport;
use crate::net::NetStream;
use crate::net::descriptors;
use crate::overload::held::OfConnection;
use crate::tcp;
use crate::telemetry::stats::ListenerStats;
use crate::worker::ConnectionGuard;
use crate::worker::WorkerContext;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Serves the connection as a task of this worker; refuses it at once above the limit. One that was
/// still waiting when its listener stopped gets its first answer, and no more.
pub(super) fn spawn(
    worker: &Rc<WorkerContext>,
    listener: &Arc<ActiveListener>,
    (stream, seat): (NetStream, Option<Seat>),
    is_stopping: bool,
) {
    let chains = listener.chains();
    let loads = worker.loads();
    if !chains.config.ignores_overload
        && (loads.hits(Action::RejectConnections) || loads.sheds(ShedPoint::Accept))
    {
        chains.stats.downstream_cx_overload_reject().inc();
        return;
    }
    let Some(places) = admit(listener, &chains, &stream) else {
        return;
    };
    let (worker, listener) = (Rc::clone(worker), Arc::clone(listener));
    let all = worker.guard(); // now: a worker may be asked whether it is done before the task runs
    tokio::task::spawn_local(async move {
        let _seat = seat;
        serve(worker, listener, (stream, places), (all, is_stopping)).await;
    });
}

/// Its places among the open connections, if there are some, and enough descriptors.
fn admit(listener: &ActiveListener, chains: &Chains, stream: &NetStream) -> Option<[Place; 2]> {
    let ignores_process = chains.config.ignores_process_limit;
    let places = if descriptors::are_scarce(stream) {
        Err(Full::Process)
    } else {
        listener.budgets.take(ignores_process)
    };
    match places {
        Ok(places) => return Some(places),
        Err(Full::Listener) => chains.stats.downstream_cx_overflow().inc(),
        Err(Full::Process) => chains.stats.downstream_global_cx_overflow().inc(),
    }
    None
}

/// From the socket to the end of the connection: listener filters, chain, its transport, its filter.
async fn serve(
    worker: Rc<WorkerContext>,
    mut listener: Arc<ActiveListener>,
    (stream, mut taken): (NetStream, [Place; 2]),
    (mut all, is_stopping): (DrainGuard, bool),
) {
    let mut downstream = facts(&stream);
    let mut entry = Entry::new(&listener.chains().loggers, &downstream);
    let mut inspected = inspected(&mut all, &listener, stream, &mut downstream).await;
    if let Some(other) = listener.wanted_by(&downstream)
        && let Some(stream) = inspected.take()
    {
        let [_process, place] = &mut taken;
        *place = other.budgets.listener.take_anyway(); // it was let in already
        listener = other;
        entry.hand_over(); // the other's logs tell of it
        entry = Entry::new(&listener.chains().loggers, &downstream);
        let again = self::inspected(&mut all, &listener, stream, &mut downstream);
        inspected = Box::pin(again).await; // apart, because it is rare
    }
    entry.learn(&downstream);
    let Some(stream) = inspected else {
        return;
    };
    let chains = listener.chains();
    let stats = Arc::clone(&chains.stats);
    let Some(chain) = chains.find(&downstream).cloned() else {
        stats.no_filter_chain_match().inc();
        entry.has_no_chain();
        return;
    };
    drop(chains);
    let mut drain = worker.drain_guard(chain.id, all, is_stopping || listener.is_closed());
    let counted = Counted::enter(stats);
    let Some(_places) = places(&chain, &mut drain).await else {
        return;
    };
    give(&chain.config.state.at_first, &mut downstream);
    let mut ticket = None;
    let learned = (&mut downstream, &mut ticket);
    let around = (&*counted.0, worker.loads());
    let stream = match transport::accept(&chain, around, stream, learned).await {
        Ok(stream) => stream,
        Err(refused) => return refuse(&chain, downstream, &refused, entry),
    };
    give(&chain.config.state.after_handshake, &mut downstream);
    entry.learn(&downstream);
    enter(&worker, &chain, &downstream, &mut drain);
    match &chain.filter {
        ActiveFilter::Http(manager) => {
            let manager = Arc::clone(manager);
            let client = (downstream, territory::of(&listener, &chain));
            let held = OfConnection::new(
                Arc::clone(&listener.budgets.held),
                Arc::clone(&counted.0),
                (
                    worker.loads().held_max(),
                    manager.allowance.ignores_overload,
                ),
            );
            drop(chain);
            // Apart, so that a stream of TCP has no room for it.
            let serving = connection_manager::serve(worker, manager, (client, held), stream, drain);
            entry.carried(Box::pin(serving).await);
        }
        ActiveFilter::Tcp(manager) => {
            let manager = (Arc::clone(manager), entry.hand_over());
            drop(chain);
            tcp::serve(worker, manager, downstream, stream, drain).await;
        }
    }
}

/// Gives it the filter state of its chain.
fn give(values: &[StateValue], downstream: &mut Downstream) {
    if values.is_empty() {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "a text may have the time of day")]
    let now = SystemTime::now();
    let mut state = std::mem::take(&mut downstream.found_mut().state);
    state.give(values, &tcp::of_client(downstream, now));
    downstream.found_mut().state = state;
}

/// Tells the logs of one whose transport failed: the stream's own, if it would have been one.
fn refuse(
    chain: &ActiveChain,
    downstream: Downstream,
    transport::Refused { failure, after }: &transport::Refused,
    mut entry: Entry,
) {
    match &chain.filter {
        ActiveFilter::Http(_) => entry.failed(failure),
        ActiveFilter::Tcp(manager) => {
            let manager = (Arc::clone(manager), entry.hand_over());
            let refused = tcp::Refused {
                reason: failure.reason(),
                details: entry::termination_details(failure),
                after: *after,
            };
            tcp::refuse(manager, downstream, refused);
        }
    }
}

/// A client that was verified gets a signal of its own.
fn enter(
    worker: &WorkerContext,
    chain: &ActiveChain,
    downstream: &Downstream,
    drain: &mut ConnectionGuard,
) {
    let Some(facts) = &downstream.tls else {
        return;
    };
    if drain.chain.is_draining() {
        drain.chain = worker.peers.enter_late(chain, facts);
    } else if let Some(own) = worker.peers.enter(chain, facts) {
        drain.chain = own;
    }
}

/// The stream after the listener filters; a worker that drains waits for no client to say more.
async fn inspected(
    all: &mut DrainGuard,
    listener: &ActiveListener,
    stream: NetStream,
    downstream: &mut Downstream,
) -> Option<NetStream> {
    if listener.chains().config.listener_filters.is_empty() {
        return Some(stream); // the usual case, without a detour over the heap
    }
    let inspected = Box::pin(inspect::run(listener, stream, downstream));
    tokio::select! {
        biased;
        stream = inspected => stream,
        () = all.draining() => None,
    }
}

/// A place at each limit of the chain; who gets none is held for a while, unless it is asked to go.
async fn places(chain: &ActiveChain, drain: &mut ConnectionGuard) -> Option<Vec<ChainPlace>> {
    let places: Result<Vec<_>, _> = chain.limits.iter().map(ChainLimit::take).collect();
    match places {
        Ok(places) => return Some(places),
        Err(None) => {}
        Err(Some(delay)) => {
            tokio::select! {
                () = Box::pin(tokio::time::sleep(delay)) => {} // rare, and a timer is large
                () = drain.chain.draining() => {}
            }
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::exchange;

    /// Bytes of every open connection, from socket to filter; what its stream of TCP needs is in it. A
    /// change is recorded here, in a commit that says why.
    const CONNECTION_BYTES: usize = 1968;

    /// Bytes of an HTTP connection besides; for HTTP/1 with the room of one exchange.
    const HTTP_BYTES: usize = 2728;

    /// Bytes of an exchange while it waits: in the above for HTTP/1, in a task for HTTP/2. The
    /// exchange itself is apart: it goes on in the body of the response.
    const EXCHANGE_BYTES: usize = 1192;

    /// Stands for an argument where only the type of a future matters.
    fn any<T>() -> T {
        unreachable!("no such future is ever made")
    }

    fn size_of_future<F>(_: impl FnOnce() -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn futures_of_connections_and_exchanges_are_as_large_as_recorded() {
        let connection = size_of_future(|| serve(any(), any(), any(), any()));
        let http = size_of_future(|| connection_manager::serve(any(), any(), any(), any(), any()));
        let exchange = size_of_future(|| exchange::run(any(), any()));
        let recorded = (CONNECTION_BYTES, HTTP_BYTES, EXCHANGE_BYTES);
        assert_eq!((connection, http, exchange), recorded);
    }
}
