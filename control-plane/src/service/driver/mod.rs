//! Runs one stream: reads requests, follows the store, writes responses.
//!
//! It is pulled: a response is computed when the transport can take one, from the state of that
//! moment. There is no queue, so a client that does not read costs what its session costs and
//! skips states it never saw.
//!
//! Does not decide anything; see [`crate::stream`].

use std::future::Future;
use std::future::pending;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::Streaming;
use tonic::codegen::tokio_stream::Stream;
use tracing::debug;
use tracing::info;
use tracing::warn;

use super::Info;
use super::Shared;
use super::caller::token_of;
use crate::limits::REQUESTS_PER_TURN_MAX;
use crate::snapshot::Snapshot;
use crate::snapshot::short_type;
use crate::source::secrets::Personal;
use crate::status::ClientStatus;
use crate::status::Entry;
use crate::stream;
use crate::stream::Rejection;
use crate::stream::Scope;
use crate::stream::Session;
use crate::subscription::Batch;
use crate::subscription::Moment;
use crate::subscription::Variant;
use crate::types::SECRET;
use crate::wire;

mod own;

use own::changed_own;

/// One of the two variants, as messages.
pub(super) trait Protocol: Send + 'static {
    type Request: Message + Default + Send + 'static;
    type Response: Message + Send + 'static;
    const VARIANT: Variant;
    fn node(request: &Self::Request) -> Option<&wire::Node>;
    fn refusal(request: &Self::Request) -> Option<(&str, &wire::Status)>;
    fn handle(session: &mut Session, now: Moment, request: &Self::Request)
    -> Result<(), Rejection>;
    fn response(batch: Batch, identifier: &str) -> Self::Response;
}

pub(super) struct Sotw;
pub(super) struct Delta;

impl Protocol for Sotw {
    type Request = wire::DiscoveryRequest;
    type Response = wire::DiscoveryResponse;
    const VARIANT: Variant = Variant::Sotw;

    fn node(request: &Self::Request) -> Option<&wire::Node> {
        request.node.as_ref()
    }

    fn refusal(request: &Self::Request) -> Option<(&str, &wire::Status)> {
        request
            .error_detail
            .as_ref()
            .map(|error| (&*request.type_url, error))
    }

    fn handle(
        session: &mut Session,
        now: Moment,
        request: &Self::Request,
    ) -> Result<(), Rejection> {
        session.handle_sotw(now, request)
    }

    fn response(batch: Batch, identifier: &str) -> Self::Response {
        stream::to_sotw(batch, identifier)
    }
}

impl Protocol for Delta {
    type Request = wire::DeltaDiscoveryRequest;
    type Response = wire::DeltaDiscoveryResponse;
    const VARIANT: Variant = Variant::Delta;

    fn node(request: &Self::Request) -> Option<&wire::Node> {
        request.node.as_ref()
    }

    fn refusal(request: &Self::Request) -> Option<(&str, &wire::Status)> {
        request
            .error_detail
            .as_ref()
            .map(|error| (&*request.type_url, error))
    }

    fn handle(
        session: &mut Session,
        now: Moment,
        request: &Self::Request,
    ) -> Result<(), Rejection> {
        session.handle_delta(now, request)
    }

    fn response(batch: Batch, identifier: &str) -> Self::Response {
        stream::to_delta(batch, identifier)
    }
}

/// The state of one running stream.
pub(super) struct Driver<P: Protocol> {
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    requests: Streaming<P::Request>,
    session: Session,
    started_at: Instant,
    info: Info,
    /// The header `authorization` of the stream.
    token: Option<String>,
    joined: Option<Joined>,
    /// The client may ask for other secrets than before.
    is_wish_new: bool,
    _permit: OwnedSemaphorePermit,
}

/// What is known once the first request named the node.
struct Joined {
    group: Arc<str>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    entry: Entry,
    /// Secrets for this client alone, if there is a CA.
    personal: Option<Personal>,
}

/// Something that may give the session a reason to speak.
enum Event<R> {
    Request(Option<R>),
    Snapshot,
    Stop,
    Timer,
}

impl<P: Protocol> Driver<P> {
    pub(super) fn new(
        shared: Arc<Shared>,
        scope: Scope,
        permit: OwnedSemaphorePermit,
        request: tonic::Request<Streaming<P::Request>>,
    ) -> Self {
        Self {
            stop: shared.stop.clone(),
            session: Session::new(P::VARIANT, scope, shared.policy.clone()),
            started_at: Instant::now(),
            info: request.extensions().get().cloned().unwrap_or(Info::UNKNOWN),
            token: token_of(request.metadata()),
            requests: request.into_inner(),
            joined: None,
            is_wish_new: false,
            shared,
            _permit: permit,
        }
    }

    /// The next response; `None` ends the stream in peace.
    async fn next(&mut self) -> Option<Result<P::Response, Status>> {
        match self.step().await {
            Ok(Some(batch)) => Some(Ok(P::response(batch, &self.shared.identifier))),
            Ok(None) => None,
            Err(status) => {
                let node = self.session.node().map_or("", |node| &*node.id);
                let (peer, reason) = (self.info.remote, status.message());
                debug!(node, ?peer, code = ?status.code(), reason, "stream ended");
                Some(Err(status))
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Batch>, Status> {
        if self.joined.is_none() && !self.join().await? {
            return Ok(None);
        }
        loop {
            if !self.read_waiting_requests().await? {
                return Ok(None);
            }
            self.settle_own().await?;
            let batch = self.session.next_batch(self.now());
            self.report();
            if batch.is_some() {
                return Ok(batch);
            }
            match self.event().await? {
                Event::Request(Some(request)) => self.handle_request(&request)?,
                Event::Request(None) => return Ok(None),
                Event::Snapshot => self.follow_store(),
                Event::Stop => return Err(Status::unavailable("server is shutting down")),
                Event::Timer => {}
            }
        }
    }

    /// Waits for the first request and for something to serve. Returns false if the client left.
    async fn join(&mut self) -> Result<bool, Status> {
        let first = tokio::select! {
            first = self.requests.message() => first?,
            () = stopped(&mut self.stop) => None,
        };
        let Some(request) = first else {
            return Ok(false);
        };
        let node = self
            .session
            .handle_node(P::node(&request))
            .map_err(to_status)?
            .clone();
        let personal = self.personal().await?;
        let store = &self.shared.store;
        let group = store.group_of(&node.id, &node.cluster);
        let mut snapshots = store.watch(&group);
        // Silence until something was loaded: an empty answer would delete what the client has.
        let snapshot = tokio::select! {
            snapshot = snapshots.wait_for(Option::is_some) => snapshot.ok().and_then(|s| s.clone()),
            () = stopped(&mut self.stop) => None,
        };
        let Some(snapshot) = snapshot else {
            return Ok(false);
        };
        self.session.handle_snapshot(self.now(), &snapshot);
        info!(node = node.id, group = &*group, peer = ?self.info.remote, variant = ?P::VARIANT, "client connected");
        let entry = self.shared.registry.add(ClientStatus {
            id: 0,
            peer: self.info.remote,
            node_id: node.id,
            node_cluster: node.cluster,
            user_agent: node.user_agent_name,
            group: Arc::clone(&group),
            variant: P::VARIANT,
            types: Vec::new(),
        });
        self.joined = Some(Joined {
            group,
            snapshots,
            entry,
            personal,
        });
        self.follow_store();
        self.handle_request(&request)?;
        Ok(true)
    }

    /// Takes what has arrived, so that the newest of a burst decides (S-25). Returns false if the
    /// client left.
    async fn read_waiting_requests(&mut self) -> Result<bool, Status> {
        for _ in 0..REQUESTS_PER_TURN_MAX {
            let requests = &mut self.requests;
            let waiting = poll_fn(|cx| match Pin::new(&mut *requests).poll_next(cx) {
                Poll::Ready(request) => Poll::Ready(Some(request)),
                Poll::Pending => Poll::Ready(None),
            });
            match waiting.await {
                None => break,
                Some(None) => return Ok(false),
                Some(Some(request)) => self.handle_request(&request?)?,
            }
        }
        if self
            .joined
            .as_ref()
            .is_some_and(|joined| joined.snapshots.has_changed().unwrap_or(true))
        {
            self.follow_store();
        }
        Ok(true)
    }

    async fn event(&mut self) -> Result<Event<P::Request>, Status> {
        let deadline = self
            .session
            .deadline(self.now())
            .map(|at| self.started_at + at);
        let (snapshots, personal) = match &mut self.joined {
            Some(joined) => (Some(&mut joined.snapshots), joined.personal.as_mut()),
            None => (None, None),
        };
        tokio::select! {
            () = stopped(&mut self.stop) => Ok(Event::Stop),
            request = self.requests.message() => Ok(Event::Request(request?)),
            () = changed(snapshots) => Ok(Event::Snapshot),
            () = changed_own(personal) => Ok(Event::Snapshot),
            () = sleep_until(deadline) => Ok(Event::Timer),
        }
    }

    fn handle_request(&mut self, request: &P::Request) -> Result<(), Status> {
        if let Some((type_url, error)) = P::refusal(request) {
            let node = self.session.node().map_or("", |node| &*node.id);
            let (kind, code) = (short_type(type_url), error.code);
            warn!(
                node,
                kind,
                code,
                error = error.message,
                "client refused an update"
            );
        }
        let now = self.now();
        self.is_wish_new = true;
        P::handle(&mut self.session, now, request).map_err(to_status)
    }

    /// Takes over the newest snapshot, of another group if the client now belongs to one.
    fn follow_store(&mut self) {
        let now = self.now();
        let Some(joined) = &mut self.joined else {
            return;
        };
        // A name may have come to the shared set, or gone from it.
        self.is_wish_new = true;
        let (id, cluster) = self
            .session
            .node()
            .map_or(("", ""), |node| (&*node.id, &*node.cluster));
        let group = self.shared.store.group_of(id, cluster);
        if group != joined.group || joined.snapshots.has_changed().is_err() {
            joined.snapshots = self.shared.store.watch(&group);
            joined.group = group;
        }
        let snapshot = joined.snapshots.borrow_and_update().clone();
        let own = joined
            .personal
            .as_mut()
            .map(Personal::own)
            .unwrap_or_default();
        if let Some(mut snapshot) = snapshot {
            if !own.resources.is_empty() {
                snapshot = Arc::new(snapshot.overlaid(SECRET, &own.resources));
            }
            self.session.handle_snapshot(now, &snapshot);
        }
    }

    fn report(&self) {
        if let Some(joined) = &self.joined {
            joined
                .entry
                .update(&joined.group, self.session.reports().collect());
        }
    }

    fn now(&self) -> Moment {
        self.started_at.elapsed()
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A lost sender means that the server is gone, which is as good as stopped.
    drop(stop.wait_for(|is_stopped| *is_stopped).await);
}

async fn changed(snapshots: Option<&mut watch::Receiver<Option<Arc<Snapshot>>>>) {
    match snapshots {
        // A closed channel is news too: the group is gone.
        Some(snapshots) => drop(snapshots.changed().await),
        None => pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

fn to_status(rejection: Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::DynamicParameters => Status::unimplemented(text),
        Rejection::MissingNodeId | Rejection::MissingType | Rejection::WrongType => {
            Status::invalid_argument(text)
        }
        Rejection::TooManyNames(_) | Rejection::TooManyTypes => Status::resource_exhausted(text),
    }
}

type Step<P> = (Driver<P>, Option<Result<<P as Protocol>::Response, Status>>);

/// The driver as the stream tonic pulls.
pub(super) struct Responses<P: Protocol> {
    running: Option<Pin<Box<dyn Future<Output = Step<P>> + Send>>>,
}

impl<P: Protocol> Responses<P> {
    pub(super) fn new(driver: Driver<P>) -> Self {
        Self {
            running: Some(Box::pin(advance(driver))),
        }
    }
}

async fn advance<P: Protocol>(mut driver: Driver<P>) -> Step<P> {
    let response = driver.next().await;
    (driver, response)
}

impl<P: Protocol> Stream for Responses<P> {
    type Item = Result<P::Response, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(running) = &mut self.running else {
            return Poll::Ready(None);
        };
        let Poll::Ready((driver, response)) = running.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.running = match response {
            Some(Ok(_)) => Some(Box::pin(advance(driver))),
            Some(Err(_)) | None => None,
        };
        Poll::Ready(response)
    }
}
