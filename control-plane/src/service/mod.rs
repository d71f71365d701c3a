//! The gRPC services: one driver behind every path of discovery, ADS or per type, both variants; and
//! that of the CA.
//!
//! | file | holds |
//! |---|---|
//! | `balancing` | policies, changed while clusters run |
//! | `caller` | who is on the other end |
//! | `certificates` | keys that their owners made |
//! | `driver` | one stream of discovery |
//!
//! The responses are our own messages (see [`crate::wire`]), so the services are written here
//! instead of implementing the generated traits, which would copy every payload. `Fetch*` is not
//! implemented, and says so.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::Service;
use tonic::codegen::StdError;
use tonic::codegen::http;
use tonic::server::Grpc;
use tonic::server::NamedService;
use tonic::server::StreamingService;
use tonic::service::Routes;
use tonic_prost::ProstCodec;

use crate::ca::access::Caller;
use crate::source::secrets::Secrets;
use crate::status::Registry;
use crate::store::Store;
use crate::stream::Policy;
use crate::stream::Scope;
use crate::types;

mod balancing;
mod caller;
mod certificates;
mod driver;

pub(crate) use balancing::Balancing;
use certificates::Certificates;
use driver::Delta;
use driver::Driver;
use driver::Protocol;
use driver::Responses;
use driver::Sotw;

/// What all streams share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    /// Secrets for one client alone, if there is a CA.
    pub(crate) secrets: Option<Secrets>,
    pub(crate) policy: Policy,
    /// `control_plane.identifier` in every response.
    pub(crate) identifier: Arc<str>,
    /// Streams still to be opened.
    pub(crate) streams: Arc<Semaphore>,
    /// Turns true when the server stops; ends every stream.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What is known of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) remote: Option<SocketAddr>,
    /// Whether a private key may go over it: it is encrypted, or stays on this machine.
    pub(crate) is_private: bool,
    /// Who the transport says it is.
    pub(crate) caller: Caller,
}

impl Info {
    /// Of a transport that says nothing.
    pub(crate) const UNKNOWN: Self = Self {
        remote: None,
        is_private: false,
        caller: Caller::Anonymous,
    };
}

/// All discovery services, and that of the CA if there is one.
pub(crate) fn routes(shared: Shared) -> Routes {
    let shared = Arc::new(shared);
    let routes = Routes::default();
    let routes = match shared.secrets.clone() {
        Some(secrets) => routes.add_service(Certificates::new(secrets)),
        None => routes,
    };
    routes
        .add_service(Discovery::<Ads>::new(&shared))
        .add_service(Discovery::<Cds>::new(&shared))
        .add_service(Discovery::<Eds>::new(&shared))
        .add_service(Discovery::<Lds>::new(&shared))
        .add_service(Discovery::<Rds>::new(&shared))
        .add_service(Discovery::<Srds>::new(&shared))
        .add_service(Discovery::<Vhds>::new(&shared))
        .add_service(Discovery::<Sds>::new(&shared))
        .add_service(Discovery::<Rtds>::new(&shared))
        .add_service(Discovery::<Ecds>::new(&shared))
}

/// One gRPC service of the API.
trait Api: 'static {
    const NAME: &'static str;
    const SCOPE: Scope;
    /// Method names; VHDS has no state-of-the-world form.
    const SOTW: Option<&'static str>;
    const DELTA: &'static str;
}

macro_rules! api {
    ($name:ident, $service:literal, $scope:expr, $sotw:expr, $delta:literal) => {
        struct $name;

        impl Api for $name {
            const NAME: &'static str = $service;
            const SCOPE: Scope = $scope;
            const SOTW: Option<&'static str> = $sotw;
            const DELTA: &'static str = $delta;
        }
    };
}

api!(
    Ads,
    "envoy.service.discovery.v3.AggregatedDiscoveryService",
    Scope::Aggregated,
    Some("StreamAggregatedResources"),
    "DeltaAggregatedResources"
);
api!(
    Cds,
    "envoy.service.cluster.v3.ClusterDiscoveryService",
    Scope::Single(types::CLUSTER),
    Some("StreamClusters"),
    "DeltaClusters"
);
api!(
    Eds,
    "envoy.service.endpoint.v3.EndpointDiscoveryService",
    Scope::Single(types::ENDPOINT),
    Some("StreamEndpoints"),
    "DeltaEndpoints"
);
api!(
    Lds,
    "envoy.service.listener.v3.ListenerDiscoveryService",
    Scope::Single(types::LISTENER),
    Some("StreamListeners"),
    "DeltaListeners"
);
api!(
    Rds,
    "envoy.service.route.v3.RouteDiscoveryService",
    Scope::Single(types::ROUTE),
    Some("StreamRoutes"),
    "DeltaRoutes"
);
api!(
    Srds,
    "envoy.service.route.v3.ScopedRoutesDiscoveryService",
    Scope::Single(types::SCOPED_ROUTE),
    Some("StreamScopedRoutes"),
    "DeltaScopedRoutes"
);
api!(
    Vhds,
    "envoy.service.route.v3.VirtualHostDiscoveryService",
    Scope::Single(types::VIRTUAL_HOST),
    None,
    "DeltaVirtualHosts"
);
api!(
    Sds,
    "envoy.service.secret.v3.SecretDiscoveryService",
    Scope::Single(types::SECRET),
    Some("StreamSecrets"),
    "DeltaSecrets"
);
api!(
    Rtds,
    "envoy.service.runtime.v3.RuntimeDiscoveryService",
    Scope::Single(types::RUNTIME),
    Some("StreamRuntime"),
    "DeltaRuntime"
);
api!(
    Ecds,
    "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
    Scope::Single(types::EXTENSION),
    Some("StreamExtensionConfigs"),
    "DeltaExtensionConfigs"
);

/// The tower service of one [`Api`].
struct Discovery<A> {
    shared: Arc<Shared>,
    api: PhantomData<fn() -> A>,
}

impl<A> Discovery<A> {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            api: PhantomData,
        }
    }
}

impl<A> Clone for Discovery<A> {
    fn clone(&self) -> Self {
        Self::new(&self.shared)
    }
}

impl<A> fmt::Debug for Discovery<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

impl<A: Api> NamedService for Discovery<A> {
    const NAME: &'static str = A::NAME;
}

impl<A, B> Service<http::Request<B>> for Discovery<A>
where
    A: Api,
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let method = request.uri().path().rsplit('/').next().unwrap_or("");
        if Some(method) == A::SOTW {
            Box::pin(serve::<Sotw, B>(shared, A::SCOPE, request))
        } else if method == A::DELTA {
            Box::pin(serve::<Delta, B>(shared, A::SCOPE, request))
        } else {
            let status = Status::unimplemented("only the streaming methods are served");
            Box::pin(async move { Ok(status.into_http()) })
        }
    }
}

async fn serve<P, B>(
    shared: Arc<Shared>,
    scope: Scope,
    request: http::Request<B>,
) -> Result<http::Response<Body>, Infallible>
where
    P: Protocol,
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    let limits = &shared.policy.limits;
    let decoding_max = Some(limits.request_bytes_max);
    let mut grpc = Grpc::new(ProstCodec::<P::Response, P::Request>::default())
        .apply_max_message_size_config(decoding_max, None);
    let open = Open {
        shared,
        scope,
        protocol: PhantomData::<fn() -> P>,
    };
    Ok(grpc.streaming(open, request).await)
}

/// Opens one stream.
struct Open<P> {
    shared: Arc<Shared>,
    scope: Scope,
    protocol: PhantomData<fn() -> P>,
}

impl<P: Protocol> StreamingService<P::Request> for Open<P> {
    type Response = P::Response;
    type ResponseStream = Responses<P>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<P::Request>>) -> Self::Future {
        let permit = self.permit();
        let (shared, scope) = (Arc::clone(&self.shared), self.scope);
        Box::pin(async move {
            let driver = Driver::<P>::new(shared, scope, permit?, request);
            Ok(tonic::Response::new(Responses::new(driver)))
        })
    }
}

impl<P> Open<P> {
    fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.shared.streams).try_acquire_owned();
        permit.map_err(|_| Status::resource_exhausted("too many streams on this server"))
    }
}
