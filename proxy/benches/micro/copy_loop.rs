//! What does a relayed byte cost, in small pieces that are copied and in bulk that is spliced?

use std::rc::Rc;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use proxy::config::Secrets;
use proxy::config::added_tlv::TlvMerge;
use proxy::config::filter_chain::Allowance;
use proxy::config::tcp_proxy::{ConnectWhen, LogTimes, TcpProxy, WeightedCluster};
use proxy::downstream::Downstream;
use proxy::net::NetStream;
use proxy::tcp::TcpManager;
use proxy::telemetry::stats::Registry;
use proxy::upstream::ClusterHandle;
use proxy::upstream::transport::Transports;
use proxy::worker::WorkerContext;
use proxy::xds::decode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalRuntime;

use crate::resources;

/// There and, after all of it has arrived, one byte back.
const SIZES: [usize; 3] = [64, 16 * 1024, 1024 * 1024];

pub(crate) fn measure(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    let mut group = criterion.benchmark_group("copy_loop");
    for size in SIZES {
        let (mut client, mut origin) = runtime.block_on(relayed(&runtime));
        let sent = vec![b'a'; size];
        let mut received = vec![0; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("bytes", size), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let there = client.write_all(&sent);
                    let arrived = origin.read_exact(&mut received);
                    let (there, arrived) = tokio::join!(there, arrived);
                    there.expect("the relay runs");
                    arrived.expect("the relay runs");
                    origin.write_all(b"b").await.expect("the relay runs");
                    client.read_u8().await.expect("the relay runs")
                })
            });
        });
    }
    group.finish();
}

/// Both ends of a connection through the TCP proxy.
async fn relayed(runtime: &LocalRuntime) -> (TcpStream, TcpStream) {
    let behind = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let front = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = behind.local_addr().expect("bound").port();
    let manager = Arc::new(manager(port));
    let client = TcpStream::connect(front.local_addr().expect("bound"));
    let (client, accepted) = tokio::join!(client, front.accept());
    let (stream, peer) = accepted.expect("loopback");
    let downstream = Downstream {
        connection_id: 1,
        direct_peer: Some(peer),
        peer: Some(peer),
        local: None,
        tls: None,
        found: None,
    };
    let worker = Rc::new(WorkerContext::default());
    let guard = worker.drain_guard(1, worker.guard(), false);
    let serving = proxy::tcp::serve(
        worker,
        (manager, None),
        downstream,
        NetStream::Tcp(stream),
        guard,
    );
    // It ends with the runtime.
    drop(runtime.spawn_local(serving));
    let (origin, _) = behind.accept().await.expect("loopback");
    (client.expect("loopback"), origin)
}

fn manager(port: u16) -> TcpManager {
    let registry = Registry::new(1);
    let cluster = Arc::new(
        decode::cluster(&resources::cluster(0))
            .expect("a cluster")
            .value,
    );
    let members = resources::endpoints(0, port.into(), 1);
    let (name, members) = decode::endpoints(&members).expect("a member").value;
    let transports = Arc::new(Transports::new(&cluster, &Secrets::new(), || {
        registry.cluster_tls(&name)
    }));
    let stats = registry.cluster(&name);
    let cluster = ClusterHandle::new(cluster, transports, Arc::new(members), stats, 1);
    let config = TcpProxy {
        stat_prefix: "relay".into(),
        clusters: vec![WeightedCluster {
            name,
            weight: 1,
            criteria: None,
        }],
        hash_source: None,
        idle_timeout: None,
        max_duration: None,
        max_duration_jitter: 0.0,
        connect_when: ConnectWhen::default(),
        connect_attempts_max: 1,
        backoff: None,
        access_logs: Vec::new(),
        log_times: LogTimes::default(),
        added_tlvs: Vec::new(),
        tlv_merge: TlvMerge::default(),
    };
    let stats = registry.tcp("relay");
    TcpManager::new(
        Arc::new(config),
        |_| Some(cluster.clone()),
        (stats, Vec::new()),
        Allowance::default(),
    )
}
