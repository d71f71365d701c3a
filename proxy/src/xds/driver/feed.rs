//! Sources of secrets besides the aggregated stream: each a task of its own, with a session like the
//! one towards a control plane.
//!
//! A task ends when nobody names a secret of its source any more.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;
use xds_proto::pb::envoy::config::core::v3::Node;

use super::AdsConfig;
use super::at;
use super::core::as_response;
use super::core::file_session;
use super::link::Link;
use super::link::LinkEvent;
use super::servers::Servers;
use crate::config::Name;
use crate::config::secret::SecretFile;
use crate::config::secret::SecretKind;
use crate::config::secret::SecretServer;
use crate::config::secret::SecretSource;
use crate::xds::client::BACKOFF_BASE;
use crate::xds::client::BACKOFF_MAX;
use crate::xds::client::Service;
use crate::xds::file::FileContent;
use crate::xds::file::FileWatch;
use crate::xds::file::Loader;
use crate::xds::file::PathSource;
use crate::xds::resource::Decoded;
use crate::xds::resource::Decoder;
use crate::xds::resource::Refusal;
use crate::xds::resource::Resource;
use crate::xds::resource::ResourceType;
use crate::xds::session;
use crate::xds::session::Accept;
use crate::xds::session::Interest;
use crate::xds::session::Lapse;
use crate::xds::session::Session;
use crate::xds::session::Update;
use crate::xds::session::Variant;

/// News not yet taken in; a feed waits then.
const NEWS_MAX: usize = 16;

/// Readings of a file not yet taken in.
const READINGS_MAX: usize = 1;

/// The secrets that are wanted of a source, and what each must be.
pub(super) type Wanted = BTreeMap<Name, SecretKind>;

/// What a source of secrets has to say.
#[derive(Debug)]
pub(super) struct FeedNews {
    pub(super) source: SecretSource,
    pub(super) kind: NewsKind,
}

#[derive(Debug)]
pub(super) enum NewsKind {
    /// The source cannot be reached or read.
    Failed(String),
    /// Time has passed over something.
    Lapsed(Lapse),
    /// A response, or a reading of the file.
    Update(Update<Decoded>),
}

/// What every feed is made with.
pub(super) struct Parts {
    pub(super) node: Node,
    /// What a stream may use.
    pub(super) servers: Servers,
    pub(super) decoder: Arc<dyn Decoder>,
    pub(super) loader: Arc<dyn Loader>,
    pub(super) rng: fastrand::Rng,
}

/// All sources that are asked for something.
pub(super) struct Feeds {
    parts: Parts,
    running: BTreeMap<SecretSource, Feed>,
    to_driver: mpsc::Sender<FeedNews>,
    news: mpsc::Receiver<FeedNews>,
}

struct Feed {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feeds {
    pub(super) fn new(parts: Parts) -> Self {
        let (to_driver, news) = mpsc::channel(NEWS_MAX);
        Self {
            parts,
            running: BTreeMap::new(),
            to_driver,
            news,
        }
    }

    /// Asks every source for what is wanted of it, and ends those that are asked for nothing.
    pub(super) fn want(&mut self, wanted: BTreeMap<SecretSource, Wanted>) {
        self.running.retain(|source, _| wanted.contains_key(source));
        for (source, names) in wanted {
            if let Some(feed) = self.running.get(&source) {
                feed.wanted.send_if_modified(|old| {
                    let is_new = *old != names;
                    *old = names;
                    is_new
                });
                continue;
            }
            if let Some(feed) = self.start(&source, names) {
                self.running.insert(source, feed);
            }
        }
    }

    /// Streams to servers that are elsewhere now begin again there; what they brought stays.
    pub(super) fn replace_servers(&mut self, servers: &Servers) {
        let old = std::mem::replace(&mut self.parts.servers, servers.clone());
        let moved = self.running.keys().filter(|source| match source {
            SecretSource::Grpc(one) => old.of(&one.clusters) != servers.of(&one.clusters),
            SecretSource::Ads | SecretSource::Bootstrap | SecretSource::File(_) => false,
        });
        let moved: Vec<SecretSource> = moved.cloned().collect();
        for source in moved {
            let Some(feed) = self.running.remove(&source) else {
                continue;
            };
            let names = feed.wanted.borrow().clone();
            if let Some(feed) = self.start(&source, names) {
                self.running.insert(source, feed);
            }
        }
    }

    /// The next news of any source. Some may be of a source that is no longer asked.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Option<FeedNews> {
        self.news.recv().await
    }

    fn start(&mut self, source: &SecretSource, names: Wanted) -> Option<Feed> {
        let (wanted, receiver) = watch::channel(names);
        let teller = Teller {
            source: source.clone(),
            to_driver: self.to_driver.clone(),
        };
        let decoder = Arc::clone(&self.parts.decoder);
        let task = match source {
            SecretSource::Ads | SecretSource::Bootstrap => return None,
            SecretSource::File(file) => {
                let loader = Arc::clone(&self.parts.loader);
                tokio::spawn(follow_file(
                    Arc::clone(file),
                    loader,
                    decoder,
                    receiver,
                    teller,
                ))
            }
            SecretSource::Grpc(server) => {
                let link = Link::new(self.parts.stream(server), self.parts.rng.fork());
                let session = self.parts.session(server);
                tokio::spawn(follow_server(link, session, decoder, receiver, teller))
            }
        };
        Some(Feed { wanted, task })
    }
}

impl Parts {
    fn stream(&self, server: &SecretServer) -> AdsConfig {
        let settings = &server.settings;
        let authority = settings.authority.as_ref();
        let authority = authority.or_else(|| server.clusters.first());
        AdsConfig {
            service: Service::Secrets,
            clusters: server.clusters.clone(),
            servers: self.servers.of(&server.clusters),
            authority: authority.map(ToString::to_string).unwrap_or_default(),
            metadata: settings.metadata.clone(),
            variant: variant(server),
            node_on_first_message_only: server.set_node_on_first_message_only,
            backoff_base: settings.backoff.0.unwrap_or(BACKOFF_BASE),
            backoff_max: settings.backoff.1.unwrap_or(BACKOFF_MAX),
        }
    }

    fn session(&self, server: &SecretServer) -> Session {
        Session::new(session::Options {
            variant: variant(server),
            node: self.node.clone(),
            node_on_first_message_only: server.set_node_on_first_message_only,
        })
    }
}

fn variant(server: &SecretServer) -> Variant {
    if server.delta {
        Variant::Delta
    } else {
        Variant::Sotw
    }
}

struct Teller {
    source: SecretSource,
    to_driver: mpsc::Sender<FeedNews>,
}

impl Teller {
    async fn tell(&self, kind: NewsKind) {
        let source = self.source.clone();
        // A driver that is gone has ended this task.
        let _ = self.to_driver.send(FeedNews { source, kind }).await;
    }
}

/// Decodes a secret, which must be of the kind that is wanted.
fn judge(
    decoder: &dyn Decoder,
    wanted: &Wanted,
    resource_type: ResourceType,
    body: &Bytes,
) -> Result<(Name, Decoded), Refusal> {
    let decoded = decoder.decode(resource_type, body)?;
    let name = decoded.name.clone();
    if let Resource::Secret(read) = &decoded.resource
        && let Some(wanted) = wanted.get(&name)
        && read.secret.kind() != *wanted
    {
        let found = read.secret.kind();
        let detail = format!("{found}: is used where a {wanted} is needed");
        return Err(Refusal { name, detail });
    }
    Ok((name, decoded))
}

/// Everything in the file is taken in, as nothing else tells what in it has changed.
async fn follow_file(
    file: Arc<SecretFile>,
    loader: Arc<dyn Loader>,
    decoder: Arc<dyn Decoder>,
    wanted: watch::Receiver<Wanted>,
    teller: Teller,
) {
    let source = PathSource {
        path: file.path.clone(),
        watched_directory: file.watched_directory.clone(),
    };
    let (updates, mut readings) = mpsc::channel(READINGS_MAX);
    let _watch = FileWatch::start(ResourceType::Secret, source, loader, updates);
    let mut session = file_session(ResourceType::Secret);
    while let Some(reading) = readings.recv().await {
        let content: FileContent = match reading.result {
            Ok(content) => content,
            Err(detail) => {
                let path = file.path.display();
                let detail = format!("{path}: {detail}");
                teller.tell(NewsKind::Failed(detail)).await;
                continue;
            }
        };
        let response = as_response(ResourceType::Secret, content);
        let update = {
            let wanted = wanted.borrow().clone();
            let accept: &mut Accept<'_, Decoded> =
                &mut |t, body| judge(&*decoder, &wanted, t, body);
            session.on_response(response, Duration::ZERO, accept)
        };
        // Nobody is there to hear the answer.
        while session.next_request(Duration::MAX).is_some() {}
        if let Some(update) = update {
            teller.tell(NewsKind::Update(update)).await;
        }
    }
}

async fn follow_server(
    mut link: Link,
    mut session: Session,
    decoder: Arc<dyn Decoder>,
    mut wanted: watch::Receiver<Wanted>,
    teller: Teller,
) {
    let epoch = Instant::now();
    let interest = |wanted: &Wanted| Interest::names(wanted.keys().cloned());
    let mut names = wanted.borrow_and_update().clone();
    session.subscribe(ResourceType::Secret, interest(&names));
    loop {
        let now = epoch.elapsed();
        link.flush(&mut session, now);
        let deadline = session.next_deadline(now);
        let is_reading = session.is_reading();
        tokio::select! {
            event = link.next_event(is_reading) => match event {
                LinkEvent::Closed(status) => {
                    session.on_stream_closed();
                    if let Some(failure) = close(&mut link, &status) {
                        teller.tell(NewsKind::Failed(failure)).await;
                    }
                }
                LinkEvent::Opened => session.on_stream_open(),
                LinkEvent::Response(response) => {
                    let update = {
                        let accept: &mut Accept<'_, Decoded> =
                            &mut |t, body| judge(&*decoder, &names, t, body);
                        session.on_response(response, epoch.elapsed(), accept)
                    };
                    if let Some(update) = update {
                        teller.tell(NewsKind::Update(update)).await;
                    }
                }
                LinkEvent::Woken => {}
            },
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                names = wanted.borrow_and_update().clone();
                session.subscribe(ResourceType::Secret, interest(&names));
            }
            () = at(epoch, deadline) => {
                for lapse in session.on_tick(epoch.elapsed()) {
                    teller.tell(NewsKind::Lapsed(lapse)).await;
                }
            }
        }
    }
}

/// Ends the stream; what went wrong, if it was not an orderly end.
fn close(link: &mut Link, status: &Status) -> Option<String> {
    let target = link.target();
    let (retry_in, is_orderly) = link.close(status);
    let (code, message) = (status.code(), status.message());
    (!is_orderly).then(|| format!("{target}: {code:?}: {message}, tried again in {retry_in:?}"))
}

/// The names of the sources that are asked, for [`Feeds::want`].
pub(super) fn wanted_of(
    sources: BTreeSet<SecretSource>,
    wanted: impl Fn(&SecretSource) -> Wanted,
) -> BTreeMap<SecretSource, Wanted> {
    let others = sources
        .into_iter()
        .filter(|source| matches!(source, SecretSource::File(_) | SecretSource::Grpc(_)));
    others
        .map(|source| {
            let names = wanted(&source);
            (source, names)
        })
        .collect()
}
