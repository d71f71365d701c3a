//! A driver with a toy decoder, and a control plane whose every message the test writes.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::Server;
use xds_proto::pb::envoy::config::core::v3::Node;
use xds_proto::pb::envoy::service::discovery::v3 as discovery;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use xds_proto::pb::google::protobuf::Any;

use crate::config::Change;
use crate::config::Snapshot;
use crate::xds::client::Target;
use crate::xds::driver::AdsConfig;
use crate::xds::driver::Ports;
use crate::xds::driver::Source;
use crate::xds::driver::XdsConfig;
use crate::xds::driver::run;
use crate::xds::file::FileContent;
use crate::xds::file::Loader;
use crate::xds::resource::Decoded;
use crate::xds::resource::Decoder;
use crate::xds::resource::DnsAnswer;
use crate::xds::resource::DnsQuery;
use crate::xds::resource::Refusal;
use crate::xds::resource::Resource;
use crate::xds::resource::ResourceType;
use crate::xds::session::Variant;
use crate::xds::stage::StaticResources;
use crate::xds::stage::fixtures;
use crate::xds::status::XdsStatus;

/// Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Fails the test instead of hanging it.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Bodies are words: a name, what it names, and perhaps `bad`.
pub(super) struct Words;

impl Decoder for Words {
    fn decode(&self, resource_type: ResourceType, body: &[u8]) -> Result<Decoded, Refusal> {
        let text = String::from_utf8_lossy(body);
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        if rest.contains(&"bad") || name.is_empty() {
            return Err(Refusal {
                name: name.into(),
                detail: "some.field: bad".to_owned(),
            });
        }
        let first = rest.first().copied().unwrap_or_default();
        let resource = match resource_type {
            ResourceType::Cluster => {
                Resource::Cluster(fixtures::cluster(name, fixtures::eds(first), 1))
            }
            ResourceType::Endpoints => {
                Resource::Endpoints(Arc::new(fixtures::endpoints(first.parse().unwrap_or(1))))
            }
            ResourceType::Listener => {
                Resource::Listener(fixtures::listener(name, fixtures::rds(first)))
            }
            ResourceType::RouteConfig => Resource::RouteConfig(fixtures::routes(name, &rest)),
            ResourceType::Secret => Resource::Secret(fixtures::secret(first)),
        };
        Ok(Decoded {
            name: name.into(),
            resource,
            warnings: Vec::new(),
        })
    }
}

/// One resource per line.
struct Lines;

impl Loader for Lines {
    fn load(&self, _: ResourceType, path: &Path) -> Result<FileContent, String> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        Ok(FileContent {
            version: "file".to_owned(),
            bodies: text.lines().map(|l| l.to_owned().into()).collect(),
        })
    }
}

/// A running driver.
pub(super) struct Client {
    pub(super) changes: mpsc::Receiver<Change>,
    pub(super) status: Arc<XdsStatus>,
    pub(super) task: JoinHandle<()>,
    pub(super) statics: mpsc::Sender<StaticResources>,
    pub(super) _queries: watch::Receiver<Vec<DnsQuery>>,
    pub(super) _answers: mpsc::Sender<DnsAnswer>,
}

pub(super) fn config(variant: Variant, servers: Vec<Target>) -> XdsConfig {
    XdsConfig {
        node: Node {
            id: "me".to_owned(),
            ..Default::default()
        },
        ads: Some(AdsConfig {
            servers: servers.into_iter().map(Into::into).collect(),
            authority: "xds_cluster".to_owned(),
            variant,
            node_on_first_message_only: true,
            backoff_base: Duration::from_millis(2),
            backoff_max: Duration::from_millis(10),
            ..AdsConfig::default()
        }),
        cds: Source::Ads,
        lds: Source::Ads,
        initial_fetch_timeout: Some(Duration::from_secs(15)),
        identity: None,
        statics: StaticResources::default(),
    }
}

impl Client {
    pub(super) fn start(config: XdsConfig) -> Self {
        Self::start_at(config, || SystemTime::UNIX_EPOCH)
    }

    /// The same where the wall clock matters.
    pub(super) fn start_at(config: XdsConfig, clock: fn() -> SystemTime) -> Self {
        let (changes_tx, changes) = mpsc::channel(1);
        let (queries_tx, _queries) = watch::channel(Vec::new());
        let (_answers, answers_rx) = mpsc::channel(1);
        let status = Arc::new(XdsStatus::default());
        let (statics, statics_rx) = mpsc::channel(1);
        let ports = Ports {
            changes: changes_tx,
            dns_queries: queries_tx,
            dns_answers: answers_rx,
            check_queries: watch::Sender::default(),
            check_answers: mpsc::channel(1).1,
            decoder: Arc::new(Words),
            statics: statics_rx,
            state: None,
            loader: Arc::new(Lines),
            status: Arc::clone(&status),
            rng: fastrand::Rng::with_seed(1),
            clock,
        };
        Self {
            changes,
            status,
            task: tokio::spawn(run(config, ports)),
            statics,
            _queries,
            _answers,
        }
    }

    /// The next change, which must be a snapshot.
    pub(super) async fn snapshot(&mut self) -> Arc<Snapshot> {
        match soon("a snapshot", self.changes.recv()).await {
            Some(Change::Snapshot(s)) => s,
            other => panic!("no snapshot: {other:?}"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One stream, seen from the server.
pub(super) struct Conversation<Q, R> {
    requests: Streaming<Q>,
    responses: mpsc::Sender<Result<R, Status>>,
}

pub(super) type Sotw = Conversation<discovery::DiscoveryRequest, discovery::DiscoveryResponse>;
pub(super) type Delta =
    Conversation<discovery::DeltaDiscoveryRequest, discovery::DeltaDiscoveryResponse>;

impl<Q, R> Conversation<Q, R> {
    /// The next request.
    pub(super) async fn request(&mut self) -> Q {
        let request = soon("a request", self.requests.message()).await;
        request.expect("no error").expect("no end")
    }

    /// The client has gone.
    pub(super) async fn end(&mut self) {
        match soon("the end", self.requests.message()).await {
            Ok(None) | Err(_) => {}
            Ok(Some(_)) => panic!("one more request"),
        }
    }

    pub(super) async fn fail(self, status: Status) {
        let _ = self.responses.send(Err(status)).await;
    }

    async fn respond(&self, response: R) {
        let sent = self.responses.send(Ok(response)).await;
        sent.expect("the stream lives");
    }
}

impl Sotw {
    pub(super) async fn send(&self, t: ResourceType, version: &str, bodies: &[&str]) {
        let any = |b: &&str| Any {
            type_url: t.type_url().to_owned(),
            value: b.as_bytes().to_vec(),
        };
        self.respond(discovery::DiscoveryResponse {
            version_info: version.to_owned(),
            nonce: format!("nonce-{version}"),
            type_url: t.type_url().to_owned(),
            resources: bodies.iter().map(any).collect(),
            ..Default::default()
        })
        .await;
    }

    /// The next request must be of this type.
    pub(super) async fn expect(&mut self, t: ResourceType) -> discovery::DiscoveryRequest {
        let request = self.request().await;
        assert_eq!(request.type_url, t.type_url(), "{request:?}");
        request
    }

    /// The next request must be an ACK of this version.
    pub(super) async fn expect_ack(&mut self, t: ResourceType, version: &str) {
        let request = self.expect(t).await;
        assert_eq!(request.error_detail, None);
        assert_eq!(request.version_info, version);
        assert_eq!(request.response_nonce, format!("nonce-{version}"));
    }
}

impl Delta {
    pub(super) async fn send(&self, t: ResourceType, nonce: &str, bodies: &[&str]) {
        let wrap = |b: &&str| discovery::Resource {
            name: b.split(' ').next().unwrap_or_default().to_owned(),
            version: nonce.to_owned(),
            resource: Some(Any {
                type_url: t.type_url().to_owned(),
                value: b.as_bytes().to_vec(),
            }),
            ..Default::default()
        };
        self.respond(discovery::DeltaDiscoveryResponse {
            nonce: nonce.to_owned(),
            type_url: t.type_url().to_owned(),
            resources: bodies.iter().map(wrap).collect(),
            ..Default::default()
        })
        .await;
    }

    /// The next request must be of this type.
    pub(super) async fn expect(&mut self, t: ResourceType) -> discovery::DeltaDiscoveryRequest {
        let request = self.request().await;
        assert_eq!(request.type_url, t.type_url(), "{request:?}");
        request
    }
}

/// A control plane; each stream is handed to the test.
pub(super) struct ControlPlane {
    pub(super) target: Target,
    sotw: mpsc::Receiver<Sotw>,
    delta: mpsc::Receiver<Delta>,
    task: JoinHandle<()>,
}

impl ControlPlane {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap());
        Self::serve(target, TcpListenerStream::new(listener))
    }

    #[cfg(unix)]
    pub(super) fn start_unix(path: &Path) -> Self {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let target = Target::Unix(path.to_owned());
        Self::serve(
            target,
            tokio_stream::wrappers::UnixListenerStream::new(listener),
        )
    }

    fn serve<I, Io>(target: Target, incoming: I) -> Self
    where
        I: Stream<Item = std::io::Result<Io>> + Send + 'static,
        Io: tokio::io::AsyncRead
            + tokio::io::AsyncWrite
            + tonic::transport::server::Connected
            + Unpin
            + Send
            + 'static,
    {
        let (sotw_tx, sotw) = mpsc::channel(4);
        let (delta_tx, delta) = mpsc::channel(4);
        let service = AggregatedDiscoveryServiceServer::new(Service { sotw_tx, delta_tx });
        let task = tokio::spawn(async move {
            let _ = Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await;
        });
        Self {
            target,
            sotw,
            delta,
            task,
        }
    }

    pub(super) async fn sotw(&mut self) -> Sotw {
        soon("a stream", self.sotw.recv()).await.unwrap()
    }

    pub(super) async fn delta(&mut self) -> Delta {
        soon("a stream", self.delta.recv()).await.unwrap()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn target(address: SocketAddr) -> Target {
    Target::Tcp {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

struct Service {
    sotw_tx: mpsc::Sender<Sotw>,
    delta_tx: mpsc::Sender<Delta>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream =
        ReceiverStream<Result<discovery::DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream =
        ReceiverStream<Result<discovery::DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<discovery::DiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (responses, rx) = mpsc::channel(8);
        let requests = request.into_inner();
        let _ = self
            .sotw_tx
            .send(Conversation {
                requests,
                responses,
            })
            .await;
        Ok(tonic::Response::new(ReceiverStream::new(rx)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: tonic::Request<Streaming<discovery::DeltaDiscoveryRequest>>,
    ) -> Result<tonic::Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, rx) = mpsc::channel(8);
        let requests = request.into_inner();
        let _ = self
            .delta_tx
            .send(Conversation {
                requests,
                responses,
            })
            .await;
        Ok(tonic::Response::new(ReceiverStream::new(rx)))
    }
}
