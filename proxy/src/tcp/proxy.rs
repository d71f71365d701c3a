//! One connection: its cluster, its upstream connection, the bytes between them, its end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::config;
use crate::config::circuit_breakers::Priority;
use crate::config::hash_policy::HashSource;
use crate::config::overload::ShedPoint;
use crate::config::tcp_proxy::ConnectWhen;
use crate::downstream::Downstream;
use crate::error::Reason;
use crate::net::NetStream;
use crate::tcp::TcpManager;
use crate::tcp::measure::Connecting;
use crate::tcp::measure::FirstByte;
use crate::tcp::measure::RoundTrip;
use crate::tcp::relay::Ended;
use crate::tcp::relay::Patience;
use crate::tcp::relay::Relay;
use crate::tcp::relay::Ties;
use crate::tcp::session::Refused;
use crate::tcp::session::Session;
use crate::telemetry::ResponseFlag;
use crate::telemetry::access_log::Logger;
use crate::telemetry::access_log::Occasion;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::connect;
use crate::upstream::connect::ConnectFailure;
use crate::upstream::connect::Connected;
use crate::upstream::connect::Open;
use crate::upstream::connect::Purpose;
use crate::upstream::health::outlier::Report;
use crate::upstream::in_flight::ActiveRequest;
use crate::upstream::load_balancer::Asked;
use crate::upstream::text_hash::TextHash;
use crate::worker::ConnectionGuard;
use crate::worker::WorkerContext;

/// A connection to an upstream, counted, and what can end it.
type Upstream = (Connected, Counted, Ties);

/// Counts and logs a connection whose client's transport failed.
pub fn refuse(
    manager: (Arc<TcpManager>, Option<Arc<Vec<Logger>>>),
    downstream: Downstream,
    refused: Refused,
) {
    Session::new(manager, downstream).refuse(refused);
}

/// Serves a connection to its end; its listener's logs get the last entry, too.
pub async fn serve(
    worker: Rc<WorkerContext>,
    manager: (Arc<TcpManager>, Option<Arc<Vec<Logger>>>),
    downstream: Downstream,
    mut stream: NetStream,
    mut drain: ConnectionGuard,
) {
    let mut session = Session::new(manager, downstream);
    if session.manager.config.log_times.on_start {
        session.log(Occasion::TcpConnectionStart);
    }
    if let ConnectWhen::Data { early_bytes_max } = session.manager.config.connect_when {
        // Apart, because it is rare.
        Box::pin(hear(&mut session, &mut stream, &mut drain, early_bytes_max)).await;
        if session.early.is_empty() {
            return;
        }
    }
    let chosen = session.manager.choose(fastrand::u64(..));
    let Some((cluster, criteria)) = chosen else {
        session.manager.stats.downstream_cx_no_route().inc();
        session.flag(ResponseFlag::NoClusterFound);
        return;
    };
    session.cluster = Some(cluster.clone());
    session.announce();
    session.criteria = criteria;
    let connected = Box::pin(connect_upstream(&worker, &mut session, &cluster)).await;
    let Some((
        Connected {
            stream: upstream,
            tls,
            vintage: _, // never shared
        },
        counted,
        ties,
    )) = connected
    else {
        return;
    };
    session.upstream_local = upstream.local_address();
    let patience = patience(&session, worker.drain_time());
    let early = std::mem::take(&mut session.early);
    session.upstream_tls = tls;
    let buffer_bytes = session.manager.allowance.buffer_bytes;
    let buffer_bytes = buffer_bytes.min(cluster.load().config.buffer_bytes);
    let both = Relay::new((stream, early), (upstream, ties), patience, buffer_bytes);
    session.relay = Some((both, counted));
    if session.manager.config.log_times.on_connected {
        session.log(Occasion::TcpUpstreamConnected);
    }
    relay(&mut session, &mut drain).await;
}

fn patience(session: &Session, drain: Duration) -> Patience {
    let config = &session.manager.config;
    Patience {
        idle: config.idle_timeout,
        end: config.max_duration.map(|max| {
            session.born + max.mul_f64(1.0 + config.max_duration_jitter * fastrand::f64())
        }),
        log_interval: config.log_times.interval,
        drain,
    }
}

/// Reads what the client says first, or as much of it as is wanted; nothing if it ends, or its time is
/// over, before it says anything.
async fn hear(
    session: &mut Session,
    stream: &mut NetStream,
    drain: &mut ConnectionGuard,
    bytes_max: usize,
) {
    let Patience { idle, end, .. } = patience(session, Duration::ZERO); // it is asked below
    let idle = idle.map(|idle| session.born + idle);
    let over = async {
        match [idle, end].into_iter().flatten().min() {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let mut early = Vec::new();
    let mut limited = stream.take(u64::try_from(bytes_max).unwrap_or(u64::MAX));
    tokio::select! {
        biased;
        () = drain.chain.draining() => {}
        _ = limited.read_buf(&mut early) => {} // after an error there is nothing
        () = over => timed_out(session, idle.is_none_or(|idle| end.is_some_and(|end| end <= idle))),
    }
    session.early = early;
}

fn timed_out(session: &mut Session, is_old: bool) {
    let stats = &session.manager.stats;
    if is_old {
        stats.max_downstream_connection_duration().inc();
        session.flag(ResponseFlag::DurationTimeout);
    } else {
        stats.idle_timeout().inc();
    }
}

/// Tries one host after another, as often as is allowed.
async fn connect_upstream(
    worker: &WorkerContext,
    session: &mut Session,
    cluster: &ClusterHandle,
) -> Option<Upstream> {
    let config = Arc::clone(&session.manager.config);
    let hash = hash(session, cluster);
    loop {
        let asked = Asked {
            hash,
            criteria: session.criteria.as_deref(),
            metadata: &session.downstream.found().metadata,
            attempts_before: session.attempts,
            ..Asked::default()
        };
        let picked = worker.pools.pick(cluster, &session.downstream, asked);
        let Some(host) = picked.host else {
            cluster.stats().upstream_cx_none_healthy().inc();
            session.flag(ResponseFlag::NoHealthyUpstream);
            return None;
        };
        session.attempts += 1;
        session.host = Some(Arc::clone(&host));
        let towards = (cluster, &picked.config, &host);
        match attempt(worker, towards, &session.downstream).await {
            // It left while we connected, and nothing was sent.
            Ok((connected, ..))
                if connected.vintage.is_obsolete(&host)
                    && session.attempts < config.connect_attempts_max =>
            {
                continue;
            }
            Ok(connected) => {
                session
                    .flags
                    .remove(ResponseFlag::UpstreamConnectionFailure);
                session.failure = None;
                return Some(connected);
            }
            Err(failure) if failure.reason == Reason::Overflow => {
                session.flag(ResponseFlag::UpstreamOverflow);
                session.host = None; // nothing was tried
                session.attempts -= 1;
                return None;
            }
            Err(failure) => {
                session.flag(ResponseFlag::UpstreamConnectionFailure);
                // Of one that was only slow Envoy says nothing in the log of a stream.
                let is_slow = failure.reason == Reason::ConnectTimeout;
                session.failure = (!is_slow).then(|| failure.text());
            }
        }
        if session.attempts >= config.connect_attempts_max {
            cluster
                .stats()
                .upstream_cx_connect_attempts_exceeded()
                .inc();
            session.flag(ResponseFlag::UpstreamRetryLimitExceeded);
            return None;
        }
        if let Some(backoff) = config.backoff {
            let pause = backoff.pause(session.attempts + 1, fastrand::f64());
            tokio::time::sleep(pause).await;
        }
    }
}

/// The hash of the stream, if the proxy or the cluster's policy wants one. Of what such a policy may name
/// it has its client's address, and filter state.
fn hash(session: &Session, cluster: &ClusterHandle) -> Option<u64> {
    let current = cluster.load();
    let balancing = &current.config.load_balancing;
    let hashing = balancing.policy.hashing();
    let hashing = hashing.or_else(|| balancing.shadow_hashing())?;
    let downstream = &session.downstream;
    let of = |source: &HashSource| match source {
        HashSource::FilterState(key) => downstream.found().state.hash(key),
        HashSource::SourceIp => downstream.peer.map(|peer| TextHash::of(&peer.ip())),
        HashSource::Cookie { .. } | HashSource::Header { .. } | HashSource::QueryParameter(_) => {
            None
        }
    };
    if hashing.policies.is_empty() {
        return session.manager.config.hash_source.as_ref().and_then(of);
    }
    let mut hash: Option<u64> = None;
    for policy in &hashing.policies {
        if let Some(part) = of(&policy.source) {
            hash = Some(hash.map_or(0, |hash| hash.rotate_left(1)) ^ part);
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    hash
}

async fn attempt(
    worker: &WorkerContext,
    (cluster, config, host): (&ClusterHandle, &Arc<config::Cluster>, &Arc<Host>),
    client: &Downstream,
) -> Result<Upstream, ConnectFailure> {
    let (stats, breakers) = (cluster.stats(), cluster.breakers());
    let priority = Priority::Default; // streams have no other
    // As with Envoy a stream does not wait: what it would wait for is given back by other streams only.
    let permit = breakers.try_connection(host, priority);
    let permit = permit.map_err(|_| {
        breakers.count_full();
        ConnectFailure::overflow()
    })?;
    let pending = breakers.try_pend(priority);
    let _pending = pending.ok_or_else(ConnectFailure::overflow)?;
    if worker.loads().sheds(ShedPoint::NewConnection) {
        return Err(ConnectFailure::overflow());
    }
    let counts = worker.pools.counts(config, cluster, host);
    let purpose = Purpose {
        client: Some(client),
        ..Purpose::default()
    };
    // Before anything is waited for, or what happens meanwhile is missed.
    let unfit = worker.pools.unfit(config, cluster, host);
    let connecting = Connecting::begin(config, &counts);
    let connected = connect::connect(config, stats, (host, &counts), purpose).await;
    let report = connected
        .as_ref()
        .map_or_else(|failure| Report::of(failure.reason), |_| Report::Served);
    host.report(&counts, report, None);
    let (connected, begun) = connected?;
    stats.upstream_rq_total().inc();
    counts.rq_total.inc();
    let counted = Counted {
        round_trip: connecting.round_trip(),
        first_byte: connecting.stands(),
        _open: Open::enter(begun, &counts, permit).with_stream(breakers.enter_stream(priority)),
        _active: ActiveRequest::enter(&counts),
    };
    let tenure = worker.pools.servers.tenure(host, connected.tls.as_ref());
    let asked = (worker.pools.servers).enter(host, connected.tls.as_ref(), tenure);
    let until = (connected.vintage, tenure);
    let departure = worker.pools.user(config, cluster, host, until);
    let ties = Ties::new(departure, asked, unfit);
    Ok((connected, counted, ties))
}

/// What is counted of an upstream connection while it is open.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) first_byte: FirstByte,
    round_trip: RoundTrip,
    _open: Open,
    _active: ActiveRequest,
}

/// Passes bytes on to the end, and tells each side what became of the other.
async fn relay(session: &mut Session, drain: &mut ConnectionGuard) {
    loop {
        let Some((relay, counted)) = &mut session.relay else {
            return;
        };
        let ended = relay.run(&mut counted.first_byte, drain).await;
        if !matches!(ended, Ended::LogDue) {
            counted.round_trip.take(|| relay.upstream.round_trip());
        }
        match ended {
            Ended::LogDue => {
                session.count();
                session.log(Occasion::TcpPeriodic);
                continue;
            }
            Ended::Both => {}
            Ended::DownstreamBroken => relay.upstream.reset_on_close(),
            Ended::UpstreamBroken => {
                counted.first_byte.broken();
                relay.downstream.reset_on_close();
                session.flag(ResponseFlag::UpstreamRemoteReset);
            }
            Ended::Idle => timed_out(session, false),
            Ended::TooOld => timed_out(session, true),
            Ended::Drained => {}
            Ended::CertificateOver | Ended::HostUnfit => {
                session.flag(ResponseFlag::UpstreamConnectionTermination);
            }
            Ended::HostLeft => {
                if let Some(cluster) = &session.cluster {
                    cluster.stats().upstream_rq_drain_cut().inc();
                }
                session.flag(ResponseFlag::UpstreamConnectionTermination);
            }
        }
        return;
    }
}
