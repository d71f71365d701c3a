//! One connection: its cluster, its upstream connection, the bytes between them, its end.

use std::rc::Rc;
use std::sync::Arc;

use crate::config;
use crate::config::hash_policy::HashSource;
use crate::downstream::Downstream;
use crate::net::NetStream;
use crate::tcp::TcpManager;
use crate::tcp::relay::Ended;
use crate::tcp::relay::Patience;
use crate::tcp::relay::Relay;
use crate::tcp::session::Session;
use crate::telemetry::ResponseFlag;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::connect;
use crate::upstream::connect::Connected;
use crate::upstream::connect::Open;
use crate::upstream::connect::Purpose;
use crate::upstream::in_flight::ActiveRequest;
use crate::upstream::text_hash::TextHash;
use crate::worker::ConnectionGuard;
use crate::worker::WorkerContext;

/// Serves a connection to its end.
pub async fn serve(
    worker: Rc<WorkerContext>,
    manager: Arc<TcpManager>,
    downstream: Downstream,
    stream: NetStream,
    mut drain: ConnectionGuard,
) {
    let mut session = Session::new(manager, downstream);
    if session.manager.config.log_times.on_start {
        session.log();
    }
    let Some(cluster) = session.manager.choose(fastrand::u64(..)) else {
        session.manager.stats.downstream_cx_no_route().inc();
        session.flag(ResponseFlag::NoClusterFound);
        return;
    };
    session.cluster = Some(cluster.clone());
    let connected = Box::pin(connect_upstream(&worker, &mut session, &cluster)).await;
    let Some((
        Connected {
            stream: upstream,
            tls,
            generation: _, // never shared
        },
        open,
    )) = connected
    else {
        return;
    };
    session.upstream_local = upstream.local_address();
    session.upstream_tls = tls;
    let patience = patience(&session);
    session.relay = Some((Relay::new(stream, upstream, patience), open));
    if session.manager.config.log_times.on_connected {
        session.log();
    }
    relay(&mut session, &mut drain).await;
}

fn patience(session: &Session) -> Patience {
    let config = &session.manager.config;
    Patience {
        idle: config.idle_timeout,
        end: config.max_duration.map(|max| {
            session.born + max.mul_f64(1.0 + config.max_duration_jitter * fastrand::f64())
        }),
        log_interval: config.log_times.interval,
    }
}

/// Tries one host after another, as often as is allowed.
async fn connect_upstream(
    worker: &WorkerContext,
    session: &mut Session,
    cluster: &ClusterHandle,
) -> Option<(Connected, (Open, ActiveRequest))> {
    let config = Arc::clone(&session.manager.config);
    let hash = hash(session, cluster);
    loop {
        let (cluster_config, host) = worker.pools.pick(cluster, &session.downstream, hash);
        let Some(host) = host else {
            cluster.stats().upstream_cx_none_healthy().inc();
            session.flag(ResponseFlag::NoHealthyUpstream);
            return None;
        };
        session.attempts += 1;
        session.host = Some(Arc::clone(&host));
        let towards = (cluster, &cluster_config, &host);
        match attempt(worker, towards, &session.downstream).await {
            Ok(connected) => {
                session
                    .flags
                    .remove(ResponseFlag::UpstreamConnectionFailure);
                session.failure = None;
                return Some(connected);
            }
            Err(failure) => {
                session.flag(ResponseFlag::UpstreamConnectionFailure);
                session.failure = Some(failure);
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

/// The hash of the client, if the proxy or the cluster's policy wants one. Of what such a policy may
/// name a stream has only its client's address.
fn hash(session: &Session, cluster: &ClusterHandle) -> Option<u64> {
    let current = cluster.load();
    let hashing = current.config.load_balancing.policy.hashing()?;
    let client = TextHash::of(&session.downstream.peer?.ip());
    if hashing.policies.is_empty() {
        return session.manager.config.hashes_source_ip.then_some(client);
    }
    let mut hash: Option<u64> = None;
    for policy in &hashing.policies {
        if policy.source == HashSource::SourceIp {
            hash = Some(hash.map_or(0, |hash| hash.rotate_left(1)) ^ client);
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
) -> Result<(Connected, (Open, ActiveRequest)), Box<str>> {
    let stats = cluster.stats();
    let counts = worker.pools.counts(config, stats, host);
    let purpose = Purpose {
        client: Some(client),
        ..Purpose::default()
    };
    match connect::connect(config, stats, (host, &counts), purpose).await {
        Ok(connected) => {
            stats.upstream_rq_total().inc();
            let open = Open::enter(stats, &counts);
            Ok((connected, (open, ActiveRequest::enter(&counts))))
        }
        Err(failure) => Err(failure.text()),
    }
}

/// Passes bytes on to the end, and tells each side what became of the other.
async fn relay(session: &mut Session, drain: &mut ConnectionGuard) {
    loop {
        let Some((relay, _)) = &mut session.relay else {
            return;
        };
        match relay.run(drain).await {
            Ended::LogDue => {
                session.count();
                session.log();
                continue;
            }
            Ended::Both => {}
            Ended::DownstreamBroken => relay.upstream.reset_on_close(),
            Ended::UpstreamBroken => {
                relay.downstream.reset_on_close();
                session.flag(ResponseFlag::UpstreamRemoteReset);
            }
            Ended::Idle => session.manager.stats.idle_timeout().inc(),
            Ended::TooOld => {
                let stats = &session.manager.stats;
                stats.max_downstream_connection_duration().inc();
                session.flag(ResponseFlag::DurationTimeout);
            }
            Ended::Drained => {}
        }
        return;
    }
}
