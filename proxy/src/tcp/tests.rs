//! Streams through the proxy, socket to socket.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::TcpManager;
use crate::config::Cluster;
use crate::config::Endpoints;
use crate::config::Secrets;
use crate::config::added_tlv::AddedTlv;
use crate::config::added_tlv::TlvMerge;
use crate::config::added_tlv::TlvValue;
use crate::config::cluster::Discovery;
use crate::config::cluster::ProxyHeader;
use crate::config::cluster::UpstreamTransport;
use crate::config::endpoint::Address;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::LocalityEndpoints;
use crate::config::filter_chain::Allowance;
use crate::config::listener_filter::KeptTlvs;
use crate::config::tcp_proxy::ConnectWhen;
use crate::config::tcp_proxy::LogTimes;
use crate::config::tcp_proxy::TcpProxy;
use crate::config::tcp_proxy::WeightedCluster;
use crate::downstream::Downstream;
use crate::downstream::Found;
use crate::downstream::Tlv;
use crate::net::NetStream;
use crate::net::proxy_protocol;
use crate::net::proxy_protocol::Version;
use crate::telemetry::access_log::Logger;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::Reading;
use crate::telemetry::stats::Registry;
use crate::upstream::ClusterHandle;
use crate::upstream::transport::Transports;
use crate::worker::WorkerContext;
use crate::xds::stage::fixtures;

/// Everything of one test: an origin, the proxy before it, and its registry.
pub(super) struct World {
    registry: Registry,
    pub(super) origin: TcpListener,
    front: TcpListener,
    pub(super) worker: Rc<WorkerContext>,
    pub(super) manager: Arc<TcpManager>,
}

pub(super) fn config() -> TcpProxy {
    TcpProxy {
        stat_prefix: "t".into(),
        clusters: vec![WeightedCluster {
            name: "c".into(),
            weight: 1,
            criteria: None,
        }],
        idle_timeout: None,
        max_duration: None,
        max_duration_jitter: 0.0,
        connect_when: ConnectWhen::Accepted,
        connect_attempts_max: 1,
        hash_source: None,
        backoff: None,
        access_logs: Vec::new(),
        log_times: LogTimes::default(),
        added_tlvs: Vec::new(),
        tlv_merge: TlvMerge::default(),
    }
}

pub(super) async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl World {
    async fn new(config: TcpProxy) -> Self {
        let origin = listen().await;
        let address = origin.local_addr().unwrap();
        Self::towards(config, origin, Address::Socket(address)).await
    }

    async fn towards(config: TcpProxy, origin: TcpListener, address: Address) -> Self {
        let cluster = fixtures::cluster("c", fixtures::eds("c"), 2000);
        Self::with_cluster(config, origin, address, cluster).await
    }

    pub(super) async fn with_cluster(
        config: TcpProxy,
        origin: TcpListener,
        address: Address,
        cluster: Arc<Cluster>,
    ) -> Self {
        let registry = Registry::new(1);
        let endpoints = Endpoints {
            localities: vec![LocalityEndpoints {
                endpoints: vec![Endpoint {
                    address,
                    hostname: "".into(),
                    weight: 1,
                    health: HealthStatus::Unknown,
                    labels: None,
                    hash_key: None,
                    traits: None,
                    check: None,
                }],
                ..LocalityEndpoints::default()
            }],
            overprovisioning_factor: 140,
            ..Endpoints::default()
        };
        let transports = Arc::new(Transports::new(&cluster, &Secrets::new(), || {
            registry.cluster_tls("c")
        }));
        let stats = registry.cluster("c");
        let cluster = ClusterHandle::new(cluster, transports, Arc::new(endpoints), stats, 1);
        let stats = registry.tcp("t");
        let manager = TcpManager::new(
            Arc::new(config),
            |_| Some(cluster.clone()),
            (stats, vec![]),
            Allowance::default(),
        );
        Self {
            registry,
            origin,
            front: listen().await,
            worker: Rc::new(WorkerContext::default()),
            manager: Arc::new(manager),
        }
    }

    /// A client's end, and the task that serves it.
    pub(super) async fn connect(&self) -> (TcpStream, JoinHandle<()>) {
        self.connect_to(None).await
    }

    /// The same, redirected to us from this address.
    async fn connect_to(&self, wanted: Option<SocketAddr>) -> (TcpStream, JoinHandle<()>) {
        let client = TcpStream::connect(self.front.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, self.front.accept());
        let (stream, peer) = accepted.unwrap();
        let downstream = Downstream {
            connection_id: 1,
            direct_peer: Some(peer),
            peer: Some(peer),
            local: wanted.or_else(|| stream.local_addr().ok()),
            tls: None,
            found: Some(Box::new(Found {
                local_is_restored: wanted.is_some(),
                tlvs: vec![Tlv {
                    kind: 0xe0,
                    value: b"id".as_slice().into(),
                }],
                ..Found::default()
            })),
        };
        let guard = self.worker.drain_guard(1, self.worker.guard(), false);
        let (worker, manager) = (Rc::clone(&self.worker), Arc::clone(&self.manager));
        let serving = super::serve(
            worker,
            (manager, None),
            downstream,
            NetStream::Tcp(stream),
            guard,
        );
        (client.unwrap(), tokio::task::spawn_local(serving))
    }

    /// A client's end, the origin's end, and the task between them.
    async fn pair(&self) -> (TcpStream, TcpStream, JoinHandle<()>) {
        let (client, task) = self.connect().await;
        let (origin, _) = self.origin.accept().await.unwrap();
        (client, origin, task)
    }

    fn counter(&self, name: &str) -> u64 {
        let stats = self.registry.tcp("t");
        let place = stats.fields().iter().position(|field| field.name == name);
        match stats.read(place.unwrap()) {
            Some(Reading::Counter(value)) => value,
            other => unreachable!("{other:?}"),
        }
    }
}

pub(super) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    runtime.unwrap().block_on(test)
}

/// Bytes that are never the same twice in a row, and the same for the same place.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len)
        .map(|place| u8::try_from((place * 31 + place / 251) % 251).unwrap())
        .collect()
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), bytes: usize) {
    const STEP: usize = 100_000;
    for from in (0..bytes).step_by(STEP) {
        let part = pattern(from, STEP.min(bytes - from));
        stream.write_all(&part).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

async fn expect(stream: &mut (impl AsyncReadExt + Unpin), bytes: usize) {
    let mut buffer = vec![0; 100_000];
    let mut seen = 0;
    loop {
        let len = stream.read(&mut buffer).await.unwrap();
        if len == 0 {
            break;
        }
        assert!(buffer[..len] == pattern(seen, len), "at {seen}");
        seen += len;
    }
    assert_eq!(seen, bytes);
}

#[test]
fn bulk_comes_through_exactly_and_is_spliced() {
    const BYTES: usize = 20_000_000;
    run(async {
        let world = World::new(config()).await;
        let (mut client, mut origin, task) = world.pair().await;
        let (mut client_reads, mut client_writes) = client.split();
        let (mut origin_reads, mut origin_writes) = origin.split();
        tokio::join!(
            send(&mut client_writes, BYTES),
            expect(&mut origin_reads, BYTES),
            send(&mut origin_writes, BYTES),
            expect(&mut client_reads, BYTES),
        );
        task.await.unwrap();
        let spliced = world.counter("spliced_bytes_total");
        let copied = world.counter("copied_bytes_total");
        assert_eq!(spliced + copied, 2 * BYTES as u64);
        assert!(spliced * 10 >= (spliced + copied) * 9, "{spliced} {copied}");
    });
}

#[test]
fn each_end_is_passed_on_by_itself() {
    run(async {
        let world = World::new(config()).await;
        let (mut client, mut origin, task) = world.pair().await;
        send(&mut client, 5).await;
        expect(&mut origin, 5).await;
        send(&mut origin, 7).await; // long after the client's end
        expect(&mut client, 7).await;
        task.await.unwrap();
        assert_eq!(world.counter("downstream_cx_rx_bytes_total"), 5);
        assert_eq!(world.counter("downstream_cx_tx_bytes_total"), 7);
    });
}

fn reset(stream: TcpStream) {
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(&stream, linger).unwrap();
}

#[test]
fn a_reset_stays_a_reset_both_ways() {
    run(async {
        let world = World::new(config()).await;
        for from_client in [true, false] {
            let (mut client, mut origin, task) = world.pair().await;
            client.write_all(b"x").await.unwrap();
            origin.read_exact(&mut [0]).await.unwrap(); // the proxy is in between by now
            let (broken, mut other) = if from_client {
                (client, origin)
            } else {
                (origin, client)
            };
            reset(broken);
            let error = other.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            task.await.unwrap();
        }
    });
}

#[test]
fn a_slow_reader_stops_the_other_side() {
    run(async {
        let world = World::new(config()).await;
        let (mut client, mut origin, task) = world.pair().await;
        let mut written = 0;
        let chunk = vec![7; 64 * 1024];
        // Nothing more goes in once every buffer on the way is full; nobody reads.
        while let Ok(write) =
            tokio::time::timeout(Duration::from_millis(300), client.write(&chunk)).await
        {
            written += write.unwrap();
            assert!(written < 64 << 20, "nobody stops the client");
        }
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        origin.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), written);
        drop(origin);
        task.await.unwrap();
    });
}

#[test]
fn the_upstream_is_told_who_the_client_is() {
    run(async {
        let added = Tlv {
            kind: 2,
            value: b"a.example".as_slice().into(),
        };
        for version in [Version::V1, Version::V2] {
            let cluster = Cluster {
                transport: UpstreamTransport {
                    proxy_protocol: Some(ProxyHeader {
                        version,
                        passed_tlvs: KeptTlvs::All,
                        added_tlvs: vec![AddedTlv {
                            kind: added.kind,
                            value: TlvValue::Bytes(added.value.clone()),
                        }],
                    }),
                    tls: None,
                },
                ..Cluster::clone(&fixtures::cluster("c", fixtures::eds("c"), 2000))
            };
            let origin = listen().await;
            let address = Address::Socket(origin.local_addr().unwrap());
            let world = World::with_cluster(config(), origin, address, Arc::new(cluster)).await;
            let (mut client, mut origin, task) = world.pair().await;
            client.write_all(b"hello").await.unwrap();
            client.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            origin.read_to_end(&mut bytes).await.unwrap();
            let proxy_protocol::Reading::Header(header) = proxy_protocol::read(&bytes) else {
                unreachable!("{bytes:?}")
            };
            assert_eq!(&bytes[header.length..], b"hello");
            let (source, destination) = header.addresses.unwrap();
            assert_eq!(source, client.local_addr().unwrap());
            assert_eq!(destination, client.peer_addr().unwrap());
            if version == Version::V2 {
                let tlvs: Vec<_> = header.tlvs(&bytes).collect();
                assert_eq!(tlvs, [(2, &b"a.example"[..]), (0xe0, b"id")]);
            }
            drop(origin);
            task.await.unwrap();
        }
    });
}

#[test]
fn a_redirected_client_gets_where_it_wanted() {
    run(async {
        let origin = listen().await;
        let wanted = origin.local_addr().unwrap();
        let cluster = fixtures::cluster("c", Discovery::OriginalDst, 2000);
        let nowhere = Address::Pipe("/nowhere".into());
        let world = World::with_cluster(config(), origin, nowhere, cluster).await;
        let (mut client, task) = world.connect_to(Some(wanted)).await;
        let (mut origin, _) = world.origin.accept().await.unwrap();
        send(&mut client, 5).await;
        expect(&mut origin, 5).await;
        drop((client, origin));
        task.await.unwrap();
        // Who was not redirected did not want to go anywhere else.
        let (mut client, task) = world.connect().await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        task.await.unwrap();
    });
}

#[test]
fn nobody_there_ends_the_connection() {
    run(async {
        let gone = listen().await.local_addr().unwrap();
        let config = TcpProxy {
            connect_attempts_max: 3,
            ..config()
        };
        let world = World::towards(config, listen().await, Address::Socket(gone)).await;
        let (mut client, task) = world.connect().await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        task.await.unwrap();
        let stats = world.registry.cluster("c");
        let read = |name| {
            let place = stats.fields().iter().position(|field| field.name == name);
            stats.read(place.unwrap())
        };
        assert_eq!(read("upstream_cx_connect_fail"), Some(Reading::Counter(3)));
        let exceeded = read("upstream_cx_connect_attempts_exceeded");
        assert_eq!(exceeded, Some(Reading::Counter(1)));
    });
}

#[test]
fn silence_and_age_end_a_connection() {
    run(async {
        for idle in [true, false] {
            let limit = Some(Duration::from_millis(50));
            let config = TcpProxy {
                idle_timeout: limit.filter(|_| idle),
                max_duration: limit.filter(|_| !idle),
                ..config()
            };
            let world = World::new(config).await;
            let (mut client, mut origin, task) = world.pair().await;
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(origin.read(&mut [0]).await.unwrap(), 0);
            task.await.unwrap();
            assert_eq!(world.counter("idle_timeout"), u64::from(idle));
            let old = world.counter("max_downstream_connection_duration");
            assert_eq!(old, u64::from(!idle));
        }
    });
}

#[test]
fn short_connections_leave_nothing_behind() {
    run(async {
        let world = World::new(config()).await;
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut before = 0;
        for round in 0..300 {
            let (mut client, mut origin, task) = world.pair().await;
            send(&mut client, 40_000).await;
            expect(&mut origin, 40_000).await;
            drop((client, origin));
            task.await.unwrap();
            if round == 10 {
                before = descriptors(); // the spare pipe is there by now
            }
        }
        // Other tests of this process open some too.
        assert!(descriptors() < before + 150, "{before} {}", descriptors());
    });
}

#[test]
fn the_connection_is_small() {
    fn size_of<F: Future>(
        _: impl FnOnce(
            Rc<WorkerContext>,
            (Arc<TcpManager>, Option<Arc<Vec<Logger>>>),
            Downstream,
            NetStream,
            crate::worker::ConnectionGuard,
        ) -> F,
    ) -> usize {
        std::mem::size_of::<F>()
    }
    assert!(size_of(super::serve) <= 1536, "{}", size_of(super::serve));
}
