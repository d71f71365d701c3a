//! A client of any of the four variants, and a server to talk to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use control_plane::Handle;
use control_plane::Server;
use control_plane::server::Builder;
use control_plane::types;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::Streaming;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::Channel;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;
use xds_proto::pb::envoy::config::core::v3::Node;
use xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_proto::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use xds_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryRequest;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds_proto::pb::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
use xds_proto::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::rpc;

/// A running server; stops and is joined by [`Running::stop`].
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(builder: Builder) -> Self {
        let server = builder.build();
        let handle = server.handle();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            server
                .serve(listener, async { drop(stopped.await) })
                .await
                .unwrap();
        });
        Self {
            address,
            handle,
            stop,
            task,
        }
    }

    pub(crate) async fn default() -> Self {
        Self::start(Server::builder()).await
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        within(self.task).await.unwrap();
    }

    /// Waits until the status of the connected clients satisfies `wanted`.
    pub(crate) async fn until(
        &self,
        wanted: impl Fn(&[control_plane::status::ClientStatus]) -> bool,
    ) {
        let mut changes = self.handle.registry().changes();
        within(async {
            while !wanted(&self.handle.clients()) {
                changes.changed().await.unwrap();
            }
        })
        .await;
    }
}

/// Fails the test instead of hanging it.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    SotwAds,
    DeltaAds,
    SotwSeparate,
    DeltaSeparate,
}

pub(crate) const VARIANTS: [Variant; 4] = [
    Variant::SotwAds,
    Variant::DeltaAds,
    Variant::SotwSeparate,
    Variant::DeltaSeparate,
];

/// Connects over TLS, as a client with or without a certificate.
#[derive(Clone)]
pub(crate) struct Tls(pub(crate) Arc<rustls::ClientConfig>);

impl Service<Uri> for Tls {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = TlsConnector::from(Arc::clone(&self.0));
        Box::pin(async move {
            let address = uri.authority().unwrap().as_str();
            let stream = TcpStream::connect(address).await?;
            let name = "control-plane.test".try_into().unwrap();
            Ok(TokioIo::new(connector.connect(name, stream).await?))
        })
    }
}

enum Stream {
    Sotw(mpsc::Sender<DiscoveryRequest>, Streaming<DiscoveryResponse>),
    Delta(
        mpsc::Sender<DeltaDiscoveryRequest>,
        Streaming<DeltaDiscoveryResponse>,
    ),
}

/// What any variant's response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) type_url: String,
    pub(crate) names: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) nonce: String,
    pub(crate) version: String,
    pub(crate) identifier: String,
    pub(crate) resources: Vec<Any>,
}

pub(crate) struct Peer {
    variant: Variant,
    node: Node,
    address: SocketAddr,
    token: Option<String>,
    tls: Option<Tls>,
    /// Once connected; it connects again when it must.
    channel: Option<Channel>,
    streams: HashMap<String, Stream>,
}

impl Peer {
    pub(crate) fn new(variant: Variant, address: SocketAddr) -> Self {
        let node = Node {
            id: "peer".to_owned(),
            cluster: "web".to_owned(),
            ..Default::default()
        };
        Self {
            variant,
            node,
            address,
            token: None,
            tls: None,
            channel: None,
            streams: HashMap::new(),
        }
    }

    /// Opens streams with this join token.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Connects over TLS.
    pub(crate) fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    async fn connect(&self) -> Result<Channel, Status> {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        let connected = match &self.tls {
            None => within(endpoint.connect()).await,
            Some(tls) => within(endpoint.connect_with_connector(tls.clone())).await,
        };
        connected.map_err(|error| Status::unavailable(format!("{error:?}")))
    }

    fn opening<T>(&self, requests: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(requests);
        if let Some(token) = &self.token {
            let header = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", header);
        }
        request
    }

    pub(crate) fn named(mut self, id: &str, cluster: &str) -> Self {
        (self.node.id, self.node.cluster) = (id.to_owned(), cluster.to_owned());
        self
    }

    fn is_sotw(&self) -> bool {
        matches!(self.variant, Variant::SotwAds | Variant::SotwSeparate)
    }

    fn key(&self, type_url: &str) -> String {
        match self.variant {
            Variant::SotwAds | Variant::DeltaAds => String::new(),
            Variant::SotwSeparate | Variant::DeltaSeparate => type_url.to_owned(),
        }
    }

    async fn open(&mut self, type_url: &str) -> Result<(), Status> {
        let key = self.key(type_url);
        if self.streams.contains_key(&key) {
            return Ok(());
        }
        let channel = match &self.channel {
            Some(channel) => channel.clone(),
            None => self.connect().await?,
        };
        self.channel = Some(channel.clone());
        let stream = if self.is_sotw() {
            let (sender, requests) = mpsc::channel(16);
            let requests = self.opening(ReceiverStream::new(requests));
            let streaming = match (self.variant, type_url) {
                (Variant::SotwAds, _) => {
                    AggregatedDiscoveryServiceClient::new(channel)
                        .stream_aggregated_resources(requests)
                        .await
                }
                (_, types::CLUSTER) => {
                    ClusterDiscoveryServiceClient::new(channel)
                        .stream_clusters(requests)
                        .await
                }
                (_, types::SECRET) => {
                    SecretDiscoveryServiceClient::new(channel)
                        .stream_secrets(requests)
                        .await
                }
                _ => {
                    EndpointDiscoveryServiceClient::new(channel)
                        .stream_endpoints(requests)
                        .await
                }
            };
            Stream::Sotw(sender, streaming?.into_inner())
        } else {
            let (sender, requests) = mpsc::channel(16);
            let requests = self.opening(ReceiverStream::new(requests));
            let streaming = match (self.variant, type_url) {
                (Variant::DeltaAds, _) => {
                    AggregatedDiscoveryServiceClient::new(channel)
                        .delta_aggregated_resources(requests)
                        .await
                }
                (_, types::CLUSTER) => {
                    ClusterDiscoveryServiceClient::new(channel)
                        .delta_clusters(requests)
                        .await
                }
                (_, types::SECRET) => {
                    SecretDiscoveryServiceClient::new(channel)
                        .delta_secrets(requests)
                        .await
                }
                _ => {
                    EndpointDiscoveryServiceClient::new(channel)
                        .delta_endpoints(requests)
                        .await
                }
            };
            Stream::Delta(sender, streaming?.into_inner())
        };
        self.streams.insert(key, stream);
        Ok(())
    }

    /// Opens another stream on the same connection, and subscribes.
    pub(crate) async fn subscribe_again(
        &mut self,
        type_url: &str,
        names: &[&str],
    ) -> Result<(), Status> {
        self.streams.remove(&self.key(type_url));
        self.subscribe(type_url, names).await
    }

    /// Opens the stream if needed and subscribes.
    pub(crate) async fn subscribe(&mut self, type_url: &str, names: &[&str]) -> Result<(), Status> {
        self.open(type_url).await?;
        self.request(type_url, names, "", None).await;
        Ok(())
    }

    async fn request(&self, type_url: &str, names: &[&str], nonce: &str, error: Option<&str>) {
        let key = self.key(type_url);
        let names = names.iter().map(|&n| n.to_owned()).collect();
        let error_detail = error.map(|message| rpc::Status {
            code: 13,
            message: message.to_owned(),
            details: Vec::new(),
        });
        let (type_url, response_nonce) = (type_url.to_owned(), nonce.to_owned());
        let node = Some(self.node.clone());
        match &self.streams[&key] {
            Stream::Sotw(sender, _) => sender
                .send(DiscoveryRequest {
                    type_url,
                    node,
                    resource_names: names,
                    response_nonce,
                    error_detail,
                    ..Default::default()
                })
                .await
                .unwrap(),
            Stream::Delta(sender, _) => sender
                .send(DeltaDiscoveryRequest {
                    type_url,
                    node,
                    resource_names_subscribe: names,
                    response_nonce,
                    error_detail,
                    ..Default::default()
                })
                .await
                .unwrap(),
        }
    }

    /// The next response on the stream that carries `type_url`.
    pub(crate) async fn receive(&mut self, type_url: &str) -> Result<Option<Response>, Status> {
        let key = self.key(type_url);
        match self.streams.get_mut(&key).unwrap() {
            Stream::Sotw(_, responses) => {
                let response = within(responses.message()).await?;
                Ok(response.map(|r| Response {
                    names: r.resources.iter().map(name_of).collect(),
                    removed: Vec::new(),
                    resources: r.resources,
                    type_url: r.type_url,
                    nonce: r.nonce,
                    version: r.version_info,
                    identifier: r.control_plane.unwrap_or_default().identifier,
                }))
            }
            Stream::Delta(_, responses) => {
                let response = within(responses.message()).await?;
                Ok(response.map(|r| Response {
                    names: r.resources.iter().map(|r| r.name.clone()).collect(),
                    removed: r.removed_resources,
                    version: r.system_version_info,
                    resources: r.resources.into_iter().filter_map(|r| r.resource).collect(),
                    type_url: r.type_url,
                    nonce: r.nonce,
                    identifier: r.control_plane.unwrap_or_default().identifier,
                }))
            }
        }
    }

    /// Receives and acknowledges, repeating the names in SotW.
    pub(crate) async fn accept(&mut self, type_url: &str, names: &[&str]) -> Response {
        let response = self.receive(type_url).await.unwrap().expect("a response");
        self.reply(&response, names, None).await;
        response
    }

    /// Receives and refuses.
    pub(crate) async fn refuse(&mut self, type_url: &str, names: &[&str], error: &str) -> Response {
        let response = self.receive(type_url).await.unwrap().expect("a response");
        self.reply(&response, names, Some(error)).await;
        response
    }

    async fn reply(&self, response: &Response, names: &[&str], error: Option<&str>) {
        let names = if self.is_sotw() { names } else { &[] };
        self.request(&response.type_url.clone(), names, &response.nonce, error)
            .await;
    }

    /// Sends a request built by hand on the aggregated SotW stream.
    pub(crate) async fn send_raw(&mut self, request: DiscoveryRequest) {
        self.open("").await.unwrap();
        let Some(Stream::Sotw(sender, _)) = self.streams.get("") else {
            panic!("not an aggregated SotW peer")
        };
        sender.send(request).await.unwrap();
    }
}

fn name_of(any: &Any) -> String {
    match any.type_url.as_str() {
        types::CLUSTER => Cluster::decode(any.value.as_slice()).unwrap().name,
        types::ENDPOINT => {
            ClusterLoadAssignment::decode(any.value.as_slice())
                .unwrap()
                .cluster_name
        }
        types::SECRET => Secret::decode(any.value.as_slice()).unwrap().name,
        other => panic!("unexpected type {other}"),
    }
}

pub(crate) fn cluster(name: &str, body: &str) -> Any {
    let message = Cluster {
        name: name.to_owned(),
        alt_stat_name: body.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(3)),
        ..Default::default()
    };
    Any {
        type_url: types::CLUSTER.to_owned(),
        value: message.encode_to_vec(),
    }
}

pub(crate) fn assignment(name: &str) -> Any {
    let message = ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        ..Default::default()
    };
    Any {
        type_url: types::ENDPOINT.to_owned(),
        value: message.encode_to_vec(),
    }
}
