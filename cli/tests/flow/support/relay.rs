//! An ADS server between proxy and control plane that passes on and records what was sent.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use tonic::transport::Channel;
use xds_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryRequest;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use xds_proto::pb::google::protobuf::Any;

/// One response, as the proxy got it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) type_url: String,
    pub(crate) resources: Vec<Any>,
    pub(crate) removed: Vec<String>,
}

/// The running relay.
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    records: Records,
    task: JoinHandle<()>,
}

type Records = Arc<Mutex<Vec<Record>>>;

impl Relay {
    /// In front of the control plane at `target`, which may come and go.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let records = Records::default();
        let service = Service {
            target,
            records: Arc::clone(&records),
        };
        let server = tonic::transport::Server::builder()
            .add_service(AggregatedDiscoveryServiceServer::new(service));
        let task = tokio::spawn(async move {
            let served = server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await;
            served.expect("it serves until it is aborted");
        });
        Self {
            addr,
            records,
            task,
        }
    }

    /// What was sent since the last call.
    pub(crate) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service {
    target: SocketAddr,
    records: Records,
}

impl Service {
    async fn client(&self) -> Result<AggregatedDiscoveryServiceClient<Channel>, Status> {
        let client =
            AggregatedDiscoveryServiceClient::connect(format!("http://{}", self.target)).await;
        client.map_err(|error| Status::unavailable(error.to_string()))
    }

    fn recorded<T: Send + 'static>(
        &self,
        responses: Streaming<T>,
        read: fn(&T) -> Record,
    ) -> Responses<T> {
        let records = Arc::clone(&self.records);
        Box::pin(responses.map(move |response| {
            if let Ok(response) = &response {
                records
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(read(response));
            }
            response
        }))
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let requests = request.into_inner().map_while(Result::ok);
        let responses = self
            .client()
            .await?
            .stream_aggregated_resources(requests)
            .await?;
        Ok(Response::new(self.recorded(
            responses.into_inner(),
            |response| Record {
                type_url: response.type_url.clone(),
                resources: response.resources.clone(),
                removed: Vec::new(),
            },
        )))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let requests = request.into_inner().map_while(Result::ok);
        let responses = self
            .client()
            .await?
            .delta_aggregated_resources(requests)
            .await?;
        Ok(Response::new(self.recorded(
            responses.into_inner(),
            |response| {
                Record {
                    type_url: response.type_url.clone(),
                    resources: response
                        .resources
                        .iter()
                        .filter_map(|wrapped| wrapped.resource.clone())
                        .collect(),
                    removed: response.removed_resources.clone(),
                }
            },
        )))
    }
}
