//! An ADS server that sends the types in any order: routes before their clusters, clusters gone
//! before the routes that name them, members late or twice.
//!
//! It keeps what the protocol demands of a server (whole sets of clusters and listeners in SotW,
//! answers within the subscription) and nothing of what it recommends.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use control_plane::Resource;
use control_plane::types;
use fastrand::Rng;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::Streaming;
use xds_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_proto::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryRequest;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use xds_proto::pb::envoy::service::discovery::v3::Resource as Wrapped;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use xds_proto::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use xds_proto::pb::google::protobuf::Any;

/// Responses on their way to the client.
const RESPONSES_MAX: usize = 8;

const TYPES: [&str; 4] = [
    types::CLUSTER,
    types::ENDPOINT,
    types::LISTENER,
    types::ROUTE,
];

/// The running server.
pub(crate) struct Hostile {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// How many publications there were.
    published: watch::Sender<usize>,
}

struct State {
    rng: Rng,
    types: BTreeMap<&'static str, Names>,
    /// The type of each publication, oldest first.
    log: Vec<&'static str>,
    refusals: Vec<String>,
}

/// Version and content by name.
type Names = BTreeMap<String, (String, Any)>;

impl Hostile {
    /// The same order for the same seed.
    pub(crate) async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let state = State {
            rng: Rng::with_seed(seed),
            types: BTreeMap::new(),
            log: Vec::new(),
            refusals: Vec::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            published: watch::Sender::new(0),
        });
        let service = AggregatedDiscoveryServiceServer::new(Service(Arc::clone(&shared)));
        let server = tonic::transport::Server::builder().add_service(service);
        let task = tokio::spawn(async move {
            let served = server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await;
            served.expect("it serves until it is aborted");
        });
        Self { addr, shared, task }
    }

    /// Makes `resources` everything there is, one type after the other in random order.
    pub(crate) async fn publish(&self, resources: &[Any]) {
        let mut sets: BTreeMap<&'static str, Names> = TYPES.map(|kind| (kind, Names::new())).into();
        for any in resources {
            let resource = Resource::new(any).expect("a valid resource");
            let set = sets
                .get_mut(&**resource.type_url())
                .expect("one of the four types");
            set.insert(
                resource.name().to_string(),
                (resource.version().to_string(), any.clone()),
            );
        }
        let mut order: Vec<(&'static str, Names)> = sets.into_iter().collect();
        self.lock().rng.shuffle(&mut order);
        for (kind, set) in order {
            let pauses = {
                let mut state = self.lock();
                state.types.insert(kind, set);
                state.log.push(kind);
                if state.rng.u32(0..8) == 0 {
                    state.log.push(kind); // once more, for nothing
                }
                state.rng.usize(0..20)
            };
            self.shared.published.send_modify(|count| *count += 1);
            for _ in 0..pauses {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What clients refused.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.lock().refusals.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one stream knows of its client.
#[derive(Default)]
struct Client {
    /// How much of the log it was told.
    told: usize,
    /// Subscribed names by type; clusters and listeners are always all wanted.
    names: BTreeMap<&'static str, BTreeSet<String>>,
    /// Versions sent, by type and name.
    has: BTreeMap<(&'static str, String), String>,
    nonce: u64,
}

/// What to send about one type.
struct News {
    kind: &'static str,
    upserts: Vec<(String, String, Any)>,
    removed: Vec<String>,
}

impl Client {
    fn wants(&self, kind: &str, name: &str) -> bool {
        kind == types::CLUSTER
            || kind == types::LISTENER
            || self
                .names
                .get(kind)
                .is_some_and(|names| names.contains(name))
    }

    /// Everything the client wants of a type, for SotW.
    fn whole(&self, state: &State, kind: &'static str) -> News {
        let set = state.types.get(kind).into_iter().flatten();
        let wanted = set.filter(|(name, _)| self.wants(kind, name));
        let upserts =
            wanted.map(|(name, (version, any))| (name.clone(), version.clone(), any.clone()));
        News {
            kind,
            upserts: upserts.collect(),
            removed: Vec::new(),
        }
    }

    /// What differs from what it has, for delta.
    fn difference(&mut self, state: &State, kind: &'static str) -> News {
        let mut news = self.whole(state, kind);
        let set = state.types.get(kind);
        let held = self.has.keys().filter(|(of, _)| *of == kind);
        let gone = held.filter(|(_, name)| set.is_none_or(|set| !set.contains_key(name)));
        news.removed = gone.map(|(_, name)| name.clone()).collect();
        for name in &news.removed {
            self.has.remove(&(kind, name.clone()));
        }
        news.upserts.retain(|(name, version, _)| {
            self.has
                .insert((kind, name.clone()), version.clone())
                .as_ref()
                != Some(version)
        });
        news
    }
}

/// The two variants of the protocol.
trait Dialect: Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;

    /// Takes a request in; the type if its subscription grew.
    fn take(client: &mut Client, state: &mut State, request: Self::Request)
    -> Option<&'static str>;
    fn news(client: &mut Client, state: &State, kind: &'static str) -> Option<News>;
    fn response(client: &mut Client, news: News) -> Self::Response;
}

struct Sotw;

struct Delta;

fn known(url: &str) -> Option<&'static str> {
    TYPES.into_iter().find(|kind| *kind == url)
}

fn note_refusal(state: &mut State, url: &str, detail: Option<String>) {
    state
        .refusals
        .extend(detail.map(|detail| format!("{url}: {detail}")));
}

impl Dialect for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn take(
        client: &mut Client,
        state: &mut State,
        request: DiscoveryRequest,
    ) -> Option<&'static str> {
        note_refusal(
            state,
            &request.type_url,
            request.error_detail.map(|status| status.message),
        );
        let kind = known(&request.type_url)?;
        let is_first = !client.names.contains_key(kind);
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        let before = client.names.insert(kind, names.clone()).unwrap_or_default();
        (is_first || !names.is_subset(&before)).then_some(kind)
    }

    fn news(client: &mut Client, state: &State, kind: &'static str) -> Option<News> {
        // Nothing at all may be said before the client has asked, or before there is anything.
        let is_known = client.names.contains_key(kind) && state.types.contains_key(kind);
        is_known.then(|| client.whole(state, kind))
    }

    fn response(client: &mut Client, news: News) -> DiscoveryResponse {
        client.nonce += 1;
        DiscoveryResponse {
            version_info: client.nonce.to_string(),
            nonce: client.nonce.to_string(),
            type_url: news.kind.to_owned(),
            resources: news.upserts.into_iter().map(|(_, _, any)| any).collect(),
            ..Default::default()
        }
    }
}

impl Dialect for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn take(
        client: &mut Client,
        state: &mut State,
        request: DeltaDiscoveryRequest,
    ) -> Option<&'static str> {
        note_refusal(
            state,
            &request.type_url,
            request.error_detail.map(|status| status.message),
        );
        let kind = known(&request.type_url)?;
        let is_first = !client.names.contains_key(kind);
        let names = client.names.entry(kind).or_default();
        for name in request.resource_names_unsubscribe {
            names.remove(&name);
            client.has.remove(&(kind, name));
        }
        let has_grown = !request.resource_names_subscribe.is_empty();
        for name in request.resource_names_subscribe {
            client.has.remove(&(kind, name.clone())); // whoever asks again is told again
            names.insert(name);
        }
        (is_first || has_grown).then_some(kind)
    }

    fn news(client: &mut Client, state: &State, kind: &'static str) -> Option<News> {
        let is_known = client.names.contains_key(kind) && state.types.contains_key(kind);
        let news = is_known.then(|| client.difference(state, kind))?;
        (!news.upserts.is_empty() || !news.removed.is_empty()).then_some(news)
    }

    fn response(client: &mut Client, news: News) -> DeltaDiscoveryResponse {
        client.nonce += 1;
        let wrap = |(name, version, any)| Wrapped {
            name,
            version,
            resource: Some(any),
            ..Default::default()
        };
        DeltaDiscoveryResponse {
            nonce: client.nonce.to_string(),
            type_url: news.kind.to_owned(),
            resources: news.upserts.into_iter().map(wrap).collect(),
            removed_resources: news.removed,
            ..Default::default()
        }
    }
}

struct Service(Arc<Shared>);

type Responses<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(converse::<Sotw>(&self.0, request.into_inner()))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(converse::<Delta>(&self.0, request.into_inner()))
    }
}

fn converse<D: Dialect>(
    shared: &Arc<Shared>,
    requests: Streaming<D::Request>,
) -> Response<Responses<D::Response>> {
    let (responses, receiver) = mpsc::channel(RESPONSES_MAX);
    tokio::spawn(talk::<D>(Arc::clone(shared), requests, responses));
    Response::new(ReceiverStream::new(receiver))
}

async fn talk<D: Dialect>(
    shared: Arc<Shared>,
    mut requests: Streaming<D::Request>,
    responses: mpsc::Sender<Result<D::Response, Status>>,
) {
    let mut client = Client::default();
    let mut published = shared.published.subscribe();
    loop {
        let asked = tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => D::take(&mut client, &mut shared.lock(), request),
                Ok(None) | Err(_) => return,
            },
            _ = published.changed() => None,
        };
        loop {
            let response = next::<D>(&mut client, &shared.lock(), asked);
            let Some(response) = response else { break };
            if responses.send(Ok(response)).await.is_err() {
                return;
            }
            if asked.is_some() {
                break;
            }
        }
    }
}

/// The answer to what was asked, or else the next publication that says something to this client.
fn next<D: Dialect>(
    client: &mut Client,
    state: &State,
    asked: Option<&'static str>,
) -> Option<D::Response> {
    if let Some(kind) = asked {
        return D::news(client, state, kind).map(|news| D::response(client, news));
    }
    while let Some(kind) = state.log.get(client.told) {
        client.told += 1;
        if let Some(news) = D::news(client, state, kind) {
            return Some(D::response(client, news));
        }
    }
    None
}
