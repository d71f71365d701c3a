//! The I/O shell of one stream of discovery: connects, writes requests, reads responses.
//!
//! It decides nothing about their content. One task per attempt; dropping the [`Stream`] ends it.
//! Reading stops while the owner does not take the last response, which HTTP/2 flow control passes
//! on to the server.
//!
//! | file | holds |
//! |---|---|
//! | `backoff` | when to try again |
//! | `metadata` | what a stream is opened with |
//! | `security` | TLS to a server |
//! | `target` | a server, and how to connect to it |

mod backoff;
mod metadata;
mod security;
mod target;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::Streaming;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use xds_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryRequest;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds_proto::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;

use crate::config::grpc::Metadata;
use crate::config::limits::XDS_MESSAGE_BYTES_MAX;
use crate::xds::session::Request;
use crate::xds::session::Response;
use crate::xds::session::Variant;

pub use backoff::BACKOFF_BASE;
pub use backoff::BACKOFF_MAX;
pub use backoff::Backoff;
pub(super) use metadata::map as metadata_map;
pub use security::Security;
pub use target::Server;
pub use target::Target;

/// Until a TCP connection to the control plane stands: Envoy's cluster default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Silence after which an HTTP/2 PING is sent. A control plane that vanished without a word is
/// noticed within this and the next; servers commonly allow one PING per 20 s or more.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Until the PING must be answered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/2 window of the stream: a push of many clusters fits a few round trips, and memory stays
/// far below the limit of one message.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Requests handed to the connection and not yet written. The session keeps the rest.
const REQUESTS_MAX: usize = 4;

/// Which service a stream belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// ADS: all types on one stream.
    #[default]
    Aggregated,
    /// SDS.
    Secrets,
}

/// What happened on the stream.
#[derive(Debug)]
pub(super) enum Event {
    /// It is over; an OK status is an orderly end.
    Closed(Status),
    /// A connection stands; requests are welcome.
    Opened,
    /// The server sent this.
    Response(Response),
}

/// What a stream is opened with.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) server: Server,
    /// What HTTP/2 calls the server; Envoy uses the name of the cluster.
    pub(super) authority: &'a str,
    pub(super) metadata: &'a Metadata,
    pub(super) service: Service,
    pub(super) variant: Variant,
}

/// One attempt at one stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Stream {
    /// Starts connecting.
    pub(super) fn open(call: Call<'_>) -> Self {
        let (requests, from_owner) = mpsc::channel(REQUESTS_MAX);
        let (to_owner, events) = mpsc::channel(1);
        let metadata = metadata::map(call.metadata);
        let kind = (call.service, call.variant);
        let connecting = connect(call.server, call.authority);
        let task = tokio::spawn(async move {
            let channel = connecting.await;
            let conversed = match channel {
                Ok(channel) => converse(channel, kind, (metadata, from_owner), &to_owner).await,
                Err(status) => Err(status),
            };
            let status = match conversed {
                Ok(()) => Status::ok("closed by the server"),
                Err(status) => explain(status),
            };
            // An owner that is gone does not want to know.
            let _ = to_owner.send(Event::Closed(status)).await;
        });
        Self {
            requests,
            events,
            task,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects to a server. `authority` is what HTTP/2 calls it.
pub(super) fn connect(
    server: Server,
    authority: &str,
) -> impl Future<Output = Result<Channel, Status>> + use<> {
    let endpoint = endpoint(authority, server.security.is_some());
    let connector = target::Connector {
        server,
        authority: authority.into(),
    };
    async move {
        let channel = endpoint.connect_with_connector(connector).await;
        channel.map_err(|e| Status::unavailable(with_causes(&e)))
    }
}

fn endpoint(authority: &str, is_secure: bool) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .unwrap_or_else(|_| Endpoint::from_static("http://xds"))
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    // TLS is the connector's; what is left to say is the scheme of the requests.
    match format!("https://{authority}").parse() {
        Ok(origin) if is_secure => endpoint.origin(origin),
        _ => endpoint,
    }
}

async fn converse(
    channel: Channel,
    kind: (Service, Variant),
    (metadata, requests): (MetadataMap, mpsc::Receiver<Request>),
    events: &mpsc::Sender<Event>,
) -> Result<(), Status> {
    if events.send(Event::Opened).await.is_err() {
        return Ok(());
    }
    let requests = ReceiverStream::new(requests);
    let aggregated = || {
        AggregatedDiscoveryServiceClient::new(channel.clone())
            .max_decoding_message_size(XDS_MESSAGE_BYTES_MAX)
    };
    let secrets = || {
        SecretDiscoveryServiceClient::new(channel.clone())
            .max_decoding_message_size(XDS_MESSAGE_BYTES_MAX)
    };
    match kind {
        (Service::Aggregated, Variant::Delta) => {
            let opening = with(metadata, delta(requests));
            let responses = aggregated().delta_aggregated_resources(opening).await?;
            relay(responses, Response::Delta, events).await
        }
        (Service::Aggregated, Variant::Sotw) => {
            let opening = with(metadata, sotw(requests));
            let responses = aggregated().stream_aggregated_resources(opening).await?;
            relay(responses, Response::Sotw, events).await
        }
        (Service::Secrets, Variant::Delta) => {
            let opening = with(metadata, delta(requests));
            let responses = secrets().delta_secrets(opening).await?;
            relay(responses, Response::Delta, events).await
        }
        (Service::Secrets, Variant::Sotw) => {
            let opening = with(metadata, sotw(requests));
            let responses = secrets().stream_secrets(opening).await?;
            relay(responses, Response::Sotw, events).await
        }
    }
}

fn with<S>(metadata: MetadataMap, requests: S) -> tonic::Request<S> {
    tonic::Request::from_parts(metadata, tonic::Extensions::new(), requests)
}

fn delta(
    requests: ReceiverStream<Request>,
) -> impl tokio_stream::Stream<Item = DeltaDiscoveryRequest> {
    requests.filter_map(|r| match r {
        Request::Delta(r) => Some(*r),
        Request::Sotw(_) => None,
    })
}

fn sotw(requests: ReceiverStream<Request>) -> impl tokio_stream::Stream<Item = DiscoveryRequest> {
    requests.filter_map(|r| match r {
        Request::Sotw(r) => Some(*r),
        Request::Delta(_) => None,
    })
}

/// Hands over responses until the stream ends or nobody wants them.
async fn relay<R>(
    responses: tonic::Response<Streaming<R>>,
    wrap: impl Fn(Box<R>) -> Response,
    events: &mpsc::Sender<Event>,
) -> Result<(), Status> {
    let mut responses = responses.into_inner();
    while let Some(response) = responses.message().await? {
        let event = Event::Response(wrap(Box::new(response)));
        if events.send(event).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The status of a broken connection says only "h2 protocol error"; its causes say why.
fn explain(status: Status) -> Status {
    match std::error::Error::source(&status) {
        Some(cause) => {
            let message = format!("{}: {}", status.message(), with_causes(cause));
            Status::new(status.code(), message)
        }
        None => status,
    }
}

/// tonic's transport error says only "transport error"; its causes say why.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        // What is wrapped often says the same again.
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}
