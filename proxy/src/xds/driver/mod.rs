//! Owns session, stage, store, link and files, and turns their events into [`Change`]s.
//!
//! One task on the control runtime. It never waits for the consumer of its changes: while that is
//! busy, changes add up in the stage and come out as one.

mod core;
mod feed;
mod joining;
mod keeper;
mod link;
mod servers;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tonic::Status;
use xds_proto::pb::envoy::config::core::v3::Node;

use self::core::Core;
use self::core::Tools;
use self::feed::Feeds;
use self::joining::Joining;
use self::keeper::Keeper;
use self::link::Link;
use self::link::LinkEvent;
use self::servers::Servers;
use super::client::BACKOFF_BASE;
use super::client::BACKOFF_MAX;
use super::client::Server;
use super::client::Service;
use super::file::Directories;
use super::file::FileUpdate;
use super::file::FileWatch;
use super::file::Loader;
use super::file::PathSource;
use super::last_good::State;
use super::last_good::node_of;
use super::resource::CheckAnswer;
use super::resource::CheckQuery;
use super::resource::Decoder;
use super::resource::DnsAnswer;
use super::resource::DnsQuery;
use super::resource::ResourceType;
use super::session;
use super::session::Session;
use super::session::Variant;
use super::stage;
use super::stage::Stage;
use super::stage::StaticResources;
use super::status::XdsStatus;
use crate::config::Change;
use crate::config::Name;
use crate::config::grpc::Metadata;
use crate::config::identity::Identity;

/// File readings not yet taken in; there are at most two files.
const FILE_UPDATES_MAX: usize = 2;

/// What this client can do beyond the basics, as servers spell it (S-34, S-82).
const CLIENT_FEATURES: [&str; 3] = [
    "xds.config.resource-in-sotw",
    "xds.config.supports-resource-in-sotw",
    "xds.config.supports-resource-ttl",
];

/// How configuration is found; what the bootstrap says about it.
#[derive(Clone, Debug)]
pub struct XdsConfig {
    /// Who we are.
    pub node: Node,
    /// The control plane, if there is one.
    pub ads: Option<AdsConfig>,
    /// Where clusters come from besides the bootstrap.
    pub cds: Source,
    /// Where listeners come from besides the bootstrap.
    pub lds: Source,
    /// Longest wait for the first answer of any source; none waits for ever (Envoy's 0; its default
    /// is 15 s).
    pub initial_fetch_timeout: Option<Duration>,
    /// A certificate of our own, if one is wanted; its signer is a cluster of the bootstrap.
    pub identity: Option<Arc<Identity>>,
    /// What stands in the bootstrap, the clusters among it that streams use.
    pub statics: StaticResources,
}

/// A stream of discovery, such as the aggregated one (`ads_config` and the cluster it names).
#[derive(Clone, Debug)]
pub struct AdsConfig {
    /// Which service is asked.
    pub service: Service,
    /// Clusters of the bootstrap whose members are asked, tried in turn.
    pub clusters: Vec<Name>,
    /// Where they are; found by the driver if there are clusters.
    pub servers: Vec<Server>,
    /// HTTP/2 `:authority`; Envoy uses the name of the cluster.
    pub authority: String,
    /// What each stream is opened with.
    pub metadata: Metadata,
    /// SotW (`GRPC`) or delta (`DELTA_GRPC`).
    pub variant: Variant,
    /// `set_node_on_first_message_only`.
    pub node_on_first_message_only: bool,
    /// First bound of the reconnect backoff.
    pub backoff_base: Duration,
    /// Last bound of the reconnect backoff.
    pub backoff_max: Duration,
}

impl Default for AdsConfig {
    fn default() -> Self {
        Self {
            service: Service::default(),
            clusters: Vec::new(),
            servers: Vec::new(),
            authority: String::new(),
            metadata: Metadata::default(),
            variant: Variant::default(),
            node_on_first_message_only: false,
            backoff_base: BACKOFF_BASE,
            backoff_max: BACKOFF_MAX,
        }
    }
}

/// A `ConfigSource`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The aggregated stream.
    Ads,
    /// A file.
    File(PathSource),
    /// There is none.
    #[default]
    None,
}

/// What the driver is connected to.
pub struct Ports {
    /// Where changes go; a small bound is enough.
    pub changes: mpsc::Sender<Change>,
    /// What the resolver is to resolve, always the whole list.
    pub dns_queries: watch::Sender<Vec<DnsQuery>>,
    /// What it found.
    pub dns_answers: mpsc::Receiver<DnsAnswer>,
    /// Whose members are to be checked, always the whole list.
    pub check_queries: watch::Sender<Vec<CheckQuery>>,
    /// Whose were.
    pub check_answers: mpsc::Receiver<CheckAnswer>,
    /// Makes values of bytes.
    pub decoder: Arc<dyn Decoder>,
    /// The bootstrap's resources, whenever it was read again.
    pub statics: mpsc::Receiver<StaticResources>,
    /// Reads files.
    pub loader: Arc<dyn Loader>,
    /// What is kept on disk, if it is.
    pub state: Option<State>,
    /// Shown to others.
    pub status: Arc<XdsStatus>,
    /// For jitter.
    pub rng: fastrand::Rng,
    /// Wall clock, for "last updated".
    pub clock: fn() -> SystemTime,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// Runs until the receiver of the changes is gone. Dropping the future ends everything it started.
pub async fn run(config: XdsConfig, ports: Ports) {
    Box::pin(Driver::new(config, ports).run()).await;
}

struct Driver {
    epoch: Instant,
    core: Core,
    link: Link,
    changes: mpsc::Sender<Change>,
    dns_queries: watch::Sender<Vec<DnsQuery>>,
    dns_answers: mpsc::Receiver<DnsAnswer>,
    check_queries: watch::Sender<Vec<CheckQuery>>,
    check_answers: mpsc::Receiver<CheckAnswer>,
    statics: mpsc::Receiver<StaticResources>,
    files: mpsc::Receiver<FileUpdate>,
    feeds: Feeds,
    servers: Servers,
    joining: Option<Joining>,
    /// Those of the aggregated stream.
    ads_clusters: Vec<Name>,
    keeper: Keeper,
    /// Whose configuration is kept.
    node: (String, String),
    /// Those of the files that secrets were read from.
    directories: Directories,
    /// Dropped with the driver, which ends them.
    _watches: Vec<FileWatch>,
}

fn watch_files(
    sources: [(ResourceType, Source); 2],
    loader: &Arc<dyn Loader>,
    updates: &mpsc::Sender<FileUpdate>,
) -> Vec<FileWatch> {
    let watch = |(resource_type, source)| match source {
        Source::File(path) => Some(FileWatch::start(
            resource_type,
            path,
            Arc::clone(loader),
            updates.clone(),
        )),
        Source::Ads | Source::None => None,
    };
    sources.into_iter().filter_map(watch).collect()
}

impl Driver {
    fn new(config: XdsConfig, ports: Ports) -> Self {
        let ads_types = ads_types(&config);
        let options = stage::Options {
            has_cds: config.cds != Source::None,
            has_lds: config.lds != Source::None,
            initial_fetch_timeout: config.initial_fetch_timeout,
        };
        let servers = Servers::new(&config.statics.clusters);
        let mut rng = ports.rng;
        let joining = config.identity.map(|identity| {
            let clusters = &config.statics.clusters;
            Joining::start(identity, (&servers, clusters), rng.fork(), ports.clock)
        });
        let mut stage = Stage::new(options, config.statics, Duration::ZERO);
        if let Some(joining) = &joining {
            stage.make_own(joining.identity.keys());
        }
        let mut ads = config.ads.unwrap_or_default();
        if !ads.clusters.is_empty() {
            ads.servers = servers.of(&ads.clusters);
        }
        let node = with_features(config.node);
        let owner = node_of(&node);
        let session = Session::new(session::Options {
            variant: ads.variant,
            node: node.clone(),
            node_on_first_message_only: ads.node_on_first_message_only,
        });
        let (updates, files) = mpsc::channel(FILE_UPDATES_MAX);
        let sources = [
            (ResourceType::Cluster, config.cds),
            (ResourceType::Listener, config.lds),
        ];
        let watches = watch_files(sources, &ports.loader, &updates);
        let feeds = Feeds::new(feed::Parts {
            node,
            servers: servers.clone(),
            decoder: Arc::clone(&ports.decoder),
            loader: ports.loader,
            rng: rng.fork(),
        });
        let tools = Tools {
            decoder: ports.decoder,
            status: ports.status,
            clock: ports.clock,
        };
        Self {
            epoch: Instant::now(),
            core: Core::new(session, stage, ads_types, servers.names(), tools),
            feeds,
            servers,
            joining,
            ads_clusters: ads.clusters.clone(),
            keeper: Keeper::new(ports.state),
            node: owner,
            directories: Directories::default(),
            link: Link::new(ads, rng),
            changes: ports.changes,
            dns_queries: ports.dns_queries,
            dns_answers: ports.dns_answers,
            check_queries: ports.check_queries,
            check_answers: ports.check_answers,
            statics: ports.statics,
            files,
            _watches: watches,
        }
    }

    async fn run(mut self) {
        self.core.after_stage();
        let changes = self.changes.clone();
        loop {
            let now = self.epoch.elapsed();
            self.keep(now);
            self.link.flush(&mut self.core.session, now);
            self.publish_queries();
            self.publish_checks();
            self.ask_for_secrets();
            self.refresh_servers();
            let deadline = self.core.next_deadline(now);
            let deadline = deadline
                .into_iter()
                .chain(self.keeper.next_deadline(now))
                .min();
            let is_reading = self.core.session.is_reading();
            tokio::select! {
                event = self.link.next_event(is_reading) => self.on_link(event),
                permit = changes.reserve(), if self.core.stage.has_change() => {
                    let Ok(permit) = permit else { return };
                    if let Some(change) = self.core.stage.next_change() {
                        permit.send(change);
                    }
                    self.core.after_stage(); // ready means that all of it was handed over
                }
                () = changes.closed() => return,
                Some(answer) = self.dns_answers.recv() => {
                    self.core.on_dns_answer(answer, self.epoch.elapsed());
                }
                Some(answer) = self.check_answers.recv() => {
                    self.core.on_checked(&answer, self.epoch.elapsed());
                }
                Some(statics) = self.statics.recv() => {
                    self.on_statics(statics);
                }
                Some(news) = self.feeds.next() => {
                    self.core.on_news(news, self.epoch.elapsed());
                }
                Some(news) = joining::next(self.joining.as_mut()) => {
                    let identity = self.joining.as_ref().map(|one| Arc::clone(&one.identity));
                    if let Some(identity) = identity {
                        self.core.on_own(&identity, news, self.epoch.elapsed());
                    }
                }
                changed = self.directories.next() => {
                    self.core.on_changed_directories(&changed, self.epoch.elapsed());
                }
                Some(update) = self.files.recv() => {
                    self.core.on_file(update, self.epoch.elapsed());
                }
                () = at(self.epoch, deadline) => self.core.on_tick(self.epoch.elapsed()),
            }
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Closed(status) => {
                self.keeper.on_failed();
                let target = self.link.target();
                let (retry_in, is_orderly) = self.link.close(&status);
                if is_orderly {
                    self.core.on_ended(&target, retry_in);
                } else {
                    self.core.on_failed(&target, &status, retry_in);
                }
            }
            LinkEvent::Opened => self.core.on_opened(&self.link.target()),
            LinkEvent::Response(response) => {
                let now = self.epoch.elapsed();
                self.core.on_response(response, now);
                self.keeper.on_response(now);
            }
            LinkEvent::Woken => {}
        }
    }

    /// Streams to servers that are elsewhere now go there.
    fn on_statics(&mut self, statics: StaticResources) {
        self.servers.replace(&statics.clusters);
        if let Some(joining) = &mut self.joining {
            joining.replace(&self.servers, &statics.clusters);
        }
        self.core.set_servers(self.servers.names());
        self.core.on_statics(statics, self.epoch.elapsed());
        self.refresh_servers();
        if !self.ads_clusters.is_empty() {
            let target = self.link.target();
            let servers = self.servers.of(&self.ads_clusters);
            if self.link.replace_servers(servers) {
                self.core.on_moved(&target);
            }
        }
        self.feeds.replace_servers(&self.servers);
    }

    /// Uses what is on disk if nobody answers, and keeps what has come.
    fn keep(&mut self, now: Duration) {
        if let Some(saved) = self.keeper.take_due(now) {
            self.core.restore(saved, now);
            if self.core.session.is_connected() {
                // It was asked as by one who has nothing; now it is told what there is.
                let silent = Status::deadline_exceeded("no answer in time");
                self.on_link(LinkEvent::Closed(silent));
            }
        }
        if let Some(writer) = self.keeper.due_writer(now, self.core.is_whole()) {
            writer.save(self.core.kept(self.node.clone()));
        }
    }

    /// Connections from now on are made with the secrets there are.
    fn refresh_servers(&self) {
        self.servers.refresh(&self.core.stage);
        if let Some(joining) = &self.joining {
            joining.refresh(&self.core.stage);
        }
    }

    fn ask_for_secrets(&mut self) {
        if self.core.take_new_secrets() {
            self.feeds.want(self.core.wanted_secrets());
            self.directories.watch(self.core.secret_directories());
        }
    }

    /// What was checked is part of a change, which goes first: until then the list is as it was.
    fn publish_checks(&mut self) {
        if self.core.stage.has_change() {
            return;
        }
        if let Some(checks) = self.core.stage.take_new_checks() {
            self.check_queries.send_replace(checks);
        }
    }

    fn publish_queries(&mut self) {
        if !self.core.take_new_queries() {
            return;
        }
        let queries = self.core.stage.dns_queries();
        self.dns_queries.send_if_modified(|old| {
            let is_new = *old != queries;
            *old = queries;
            is_new
        });
    }
}

/// The types to ask the control plane for. Assignments and route tables always come from there.
fn ads_types(config: &XdsConfig) -> Vec<ResourceType> {
    if config.ads.is_none() {
        return Vec::new();
    }
    let is_asked = |t: &ResourceType| match t {
        ResourceType::Cluster => config.cds == Source::Ads,
        ResourceType::Listener => config.lds == Source::Ads,
        ResourceType::Endpoints | ResourceType::RouteConfig | ResourceType::Secret => true,
    };
    ResourceType::ALL.into_iter().filter(is_asked).collect()
}

fn with_features(mut node: Node) -> Node {
    for feature in CLIENT_FEATURES {
        if !node.client_features.iter().any(|f| f == feature) {
            node.client_features.push(feature.to_owned());
        }
    }
    node
}

async fn at(epoch: Instant, deadline: Option<Duration>) {
    match deadline.and_then(|d| epoch.checked_add(d)) {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
