//! The composition root: what is started, in which order, and how it stops.
//!
//! ```text
//! control thread(s)                               worker threads
//!   xds::run ──Change──► apply ──Command──────────► accept, serve
//!   dns ◄──queries──┘      ▲ reads                  each its own runtime,
//!   admin ─────────────────┘                        sockets and pools
//! ```
//!
//! Start: workers, configuration, admin; listeners open as configuration arrives. Stop: readiness
//! turns red, listening sockets close, connections finish or are cut at the drain timeout.
//!
//! | file | holds |
//! |---|---|
//! | `certificates` | which certificates are in use, and how long they last |
//! | `inspect` | what the admin server reads |
//! | `reload` | the bootstrap read again: what changes without a restart |
//! | `sources` | from a bootstrap to what the xDS driver needs |

mod certificates;
mod inspect;
mod reload;
mod sources;

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::admin;
use crate::admin::Admin;
use crate::admin::AdminListener;
use crate::admin::BuildInfo;
use crate::apply::Applier;
use crate::bootstrap::Bootstrap;
use crate::config::Change;
use crate::config::limits;
use crate::overload::Manager;
use crate::overload::watchdog;
use crate::telemetry::access_log::AccessLogWriter;
use crate::telemetry::log::LogControl;
use crate::telemetry::stats::Registry;
use crate::upstream::dns;
use crate::upstream::health::Monitor;
use crate::worker::WorkerHandle;
use crate::worker::WorkerOptions;
use crate::xds;
use crate::xds::last_good::Directory;
use crate::xds::last_good::State;
use crate::xds::last_good::Writer;
use crate::xds::last_good::node_of;
use crate::xds::resource::CheckAnswer;
use crate::xds::resource::CheckQuery;
use crate::xds::stage::StaticResources;
use certificates::CertificateWatch;
use inspect::Asked;
use inspect::Inspector;
pub use inspect::Live;
pub use reload::Reloader;

/// Changes waiting for `apply`: the driver folds later ones together, so few are enough.
const CHANGES_MAX: usize = 16;

/// How often a proxy that is not ready looks whether it is; configuration may be complete without
/// anything to apply.
const READY_LOOK: Duration = Duration::from_millis(5);

/// How often the xDS client's counters are brought to the statistics: scrapes are rarer.
const RECORD: Duration = Duration::from_secs(1);

/// How often clusters whose weights follow latency are looked after: the shortest period they may have.
const FEEDBACK: Duration = Duration::from_millis(50);

/// How long nothing must change before memory is given back: an update is rarely alone.
const QUIET: Duration = Duration::from_secs(1);

/// Between two times memory is given back while it is short: each walks all of what was freed.
const SHRINK: Duration = Duration::from_secs(1);

/// DNS answers waiting for the driver.
const DNS_ANSWERS_MAX: usize = 64;

/// Clusters that were checked, waiting for the driver.
const CHECK_ANSWERS_MAX: usize = 64;

/// How the proxy is run, besides what the bootstrap says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Data-plane threads.
    pub workers: usize,
    /// Between the end of readiness and the end of accepting, so that load balancers notice.
    pub drain_delay: Duration,
    /// For connections to finish after that; then they are cut.
    pub drain_timeout: Duration,
    /// For what runs on a listener, filter chain or host that goes; then it is cut.
    pub drain_time: Duration,
    /// Changing the level of the diagnostic log, for `/logging`.
    pub log: Option<Arc<dyn LogControl>>,
    /// Where the last good configuration is kept; nowhere if there is none.
    pub state_dir: Option<PathBuf>,
    /// Shown by `/server_info`.
    pub command_line: serde_json::Value,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            drain_time: limits::DRAIN_TIME,
            log: None,
            state_dir: None,
            command_line: serde_json::Value::Object(serde_json::Map::new()),
        }
    }
}

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The admin interface's address.
    #[error("cannot bind the admin interface to {address}: {source}")]
    Admin {
        /// What was to be bound.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// A thread could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// A running proxy.
#[derive(Debug)]
pub struct Server {
    live: Arc<Live>,
    applier: Applier,
    changes: mpsc::Receiver<Change>,
    check_queries: watch::Receiver<Vec<CheckQuery>>,
    logs: Arc<AccessLogWriter>,
    options: Options,
    asked: watch::Receiver<Asked>,
    /// When the listening sockets are closed, if they are drained gracefully.
    close_at: Option<Instant>,
    reloader: Reloader,
    certificates: CertificateWatch,
    /// What looks for overload, and how often.
    overload: Option<(Manager, Duration)>,
    shrunk_at: Option<Instant>,
    tasks: tokio::task::JoinSet<()>,
}

impl Server {
    /// Starts workers, configuration and admin on the current runtime. Traffic flows once
    /// [`run`](Self::run) is polled.
    ///
    /// # Errors
    /// Nothing is left running then.
    pub async fn start(bootstrap: Bootstrap, options: Options) -> Result<Self, StartError> {
        let registry = Arc::new(Registry::new(options.workers));
        let shared = WorkerOptions {
            drain_time: options.drain_time,
            loads: Arc::default(),
        };
        let workers = (0..options.workers)
            .map(|index| WorkerHandle::start(index, shared.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        let beats: Vec<_> = workers.iter().map(WorkerHandle::beat).collect();
        watchdog::start(&beats, Arc::clone(registry.server()))?;
        let overload = bootstrap.overload.as_ref();
        let overload = overload.map(|config| {
            let manager = Manager::new(config, Arc::clone(&shared.loads), &registry);
            (manager, config.refresh_interval)
        });
        let logs = Arc::new(AccessLogWriter::start(Arc::clone(registry.access_log()))?);
        let (asks, asked) = watch::channel(Asked::Nothing);
        let live = Arc::new(Live::new(
            &bootstrap,
            &options,
            (Arc::clone(&registry), Arc::clone(&logs)),
            asks,
        ));
        for list in [Live::breakers, Live::outcomes] {
            let known = Arc::downgrade(&live); // which holds the registry
            registry.add_source(Box::new(move || {
                let live = known.upgrade();
                live.map_or_else(
                    || inspect::groups_of_clusters(Vec::new()),
                    |live| list(&live),
                )
            }));
        }
        let mut tasks = tokio::task::JoinSet::new();
        start_admin(&bootstrap, &live, &options, &mut tasks).await?;
        let state = open_state(&bootstrap, &options, &registry).await?;
        let (check_answers, checked) = mpsc::channel(CHECK_ANSWERS_MAX);
        let Started {
            changes,
            check_queries,
            statics,
        } = start_xds(&bootstrap, &live, (state, checked), &mut tasks);
        let reloader = Reloader::new(&bootstrap, Arc::clone(&live), statics);
        let limits = bootstrap.connection_limits;
        let monitor = Monitor::new(check_answers);
        let applier = Applier::new(workers, registry, Arc::clone(&logs), limits, monitor)
            .telling(Arc::clone(&live.departures))
            .at_home(bootstrap.home.as_ref());
        Ok(Self {
            live,
            applier,
            changes,
            check_queries,
            logs,
            options,
            asked,
            close_at: None,
            reloader,
            certificates: CertificateWatch::default(),
            overload,
            shrunk_at: None,
            tasks,
        })
    }

    /// What the proxy is doing, for whoever embeds it.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Takes in the bootstrap again, while [`run`](Self::run) is polled.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until `shutdown` is done or the admin interface asks to quit, then drains. A second
    /// `shutdown` cannot be told; drop the future to stop at once.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut look = tokio::time::interval(READY_LOOK);
        let mut record = tokio::time::interval(RECORD);
        let mut feedback = tokio::time::interval(FEEDBACK);
        feedback.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let every = self.overload.as_ref().map_or(RECORD, |(_, every)| *every);
        let mut overload = tokio::time::interval(every);
        overload.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        let mut quiet = pin!(tokio::time::sleep(QUIET));
        let mut is_tidy = false;
        loop {
            self.live.catch_up(|| self.changes.is_empty());
            tokio::select! {
                () = &mut shutdown => break,
                Ok(()) = self.asked.changed() => {
                    if self.is_asked_to_quit().await {
                        break;
                    }
                }
                () = reached(self.close_at) => {
                    self.close_at = None;
                    self.applier.stop_listening().await;
                }
                () = self.live.departures.rung() => self.applier.follow_hosts().await,
                _ = record.tick() => self.record(),
                _ = overload.tick(), if self.overload.is_some() => self.look_for_overload().await,
                _ = feedback.tick(), if !self.applier.following().is_empty() => {
                    let now = began.elapsed();
                    self.applier.following().iter().for_each(|cluster| cluster.feed_back(now));
                }
                _ = look.tick(), if !self.live.is_caught_up() => {}
                () = &mut quiet, if !is_tidy => {
                    crate::memory::collect();
                    crate::memory::forget_text();
                    is_tidy = true;
                }
                Ok(()) = self.check_queries.changed() => self.warm().await,
                change = self.changes.recv() => match change {
                    Some(change) => {
                        self.apply(change).await;
                        quiet.as_mut().reset(Instant::now() + QUIET);
                        is_tidy = false;
                    }
                    None => std::future::pending().await,
                },
            }
        }
        self.stop().await;
    }

    /// Clusters that were checked are in changes that were sent before the list without them.
    async fn warm(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            self.apply(change).await;
        }
        let queries = self.check_queries.borrow_and_update().clone();
        self.applier.warm(&queries);
    }

    async fn look_for_overload(&mut self) {
        let Some((manager, _)) = &mut self.overload else {
            return;
        };
        let shrinks = manager.look();
        if let Some(order) = manager.resets() {
            self.applier.reset_streams(&order).await;
        }
        if manager.has_retimed() {
            self.applier.retime().await;
        }
        if shrinks && self.shrunk_at.is_none_or(|at| at.elapsed() >= SHRINK) {
            self.shrunk_at = Some(Instant::now());
            self.applier.shrink().await;
            crate::memory::collect();
        }
    }

    /// What the admin interface asks for; true if it is the end.
    async fn is_asked_to_quit(&mut self) -> bool {
        let asked = *self.asked.borrow_and_update();
        match asked {
            Asked::Nothing => {}
            Asked::Drain => {
                self.close_at = None;
                self.applier.stop_listening().await;
            }
            Asked::DrainGracefully => {
                self.applier.ask_all().await;
                self.close_at = Some(Instant::now() + self.options.drain_time);
            }
            Asked::Quit => return true,
        }
        false
    }

    fn record(&mut self) {
        self.live.record_xds();
        self.live.departures.record();
        if self.certificates.is_stale() {
            let listeners: Vec<_> = self.applier.listeners().cloned().collect();
            let clusters: Vec<_> = self.applier.clusters().cloned().collect();
            let contexts = certificates::contexts(&listeners, &clusters);
            self.certificates.take(&contexts, &self.live.registry);
        }
        self.certificates.record(clock());
        certificates::count_connections(self.applier.listeners());
    }

    async fn apply(&mut self, change: Change) {
        if !matches!(change, Change::Endpoints { .. }) {
            self.certificates.mark_stale();
        }
        if let Err(errors) = self.applier.apply(change).await {
            for error in errors {
                tracing::error!(%error, "not applied, what was good before stays");
            }
        }
        self.live.publish(&self.applier);
    }

    /// Waits until all connections have ended, but no longer than the drain timeout: its last moments are for
    /// those that can say goodbye.
    async fn drain_connections(&mut self) {
        let whole = self.options.drain_timeout;
        let last = limits::LAST_WORD.min(whole / 2);
        if tokio::time::timeout(whole - last, self.applier.drain())
            .await
            .is_ok()
        {
            return;
        }
        self.applier.say_goodbye().await;
        if tokio::time::timeout(last, self.applier.drain())
            .await
            .is_err()
        {
            tracing::warn!("connections are still open at the drain timeout and are cut");
        }
    }

    async fn stop(mut self) {
        self.live.set_draining();
        tracing::info!(timeout = ?self.options.drain_timeout, "draining");
        tokio::time::sleep(self.options.drain_delay).await;
        self.drain_connections().await;
        self.tasks.shutdown().await;
        // Threads end when their work does; waiting for them must not hold up this runtime.
        let (applier, logs) = (self.applier, self.logs);
        let ended = tokio::task::spawn_blocking(move || {
            applier.stop();
            if let Some(logs) = Arc::into_inner(logs) {
                logs.stop(); // writes what the workers left
            }
        });
        if ended.await.is_err() {
            tracing::error!("a thread panicked while stopping");
        }
        tracing::info!("stopped");
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What comes from the configuration, and goes there.
struct Started {
    changes: mpsc::Receiver<Change>,
    check_queries: watch::Receiver<Vec<CheckQuery>>,
    statics: mpsc::Sender<StaticResources>,
}

async fn start_admin(
    bootstrap: &Bootstrap,
    live: &Arc<Live>,
    options: &Options,
    tasks: &mut tokio::task::JoinSet<()>,
) -> Result<(), StartError> {
    let Some(configured) = &bootstrap.admin else {
        return Ok(());
    };
    let bound = AdminListener::bind(&configured.address).await;
    let listener = bound.map_err(|source| StartError::Admin {
        address: format!("{:?}", configured.address),
        source,
    })?;
    live.set_admin_address(listener.local_addr());
    let admin = Admin {
        inspect: Arc::new(Inspector(Arc::clone(live))),
        registry: Arc::clone(&live.registry),
        log: options.log.clone(),
        build: BuildInfo {
            version: env!("CARGO_PKG_VERSION"),
            revision: "",
        },
    };
    tasks.spawn(admin::serve(listener, admin, std::future::pending()));
    Ok(())
}

/// Reads what was kept, and starts the thread that keeps what comes; only for who has a control plane.
async fn open_state(
    bootstrap: &Bootstrap,
    options: &Options,
    registry: &Registry,
) -> io::Result<Option<State>> {
    let Some(path) = options.state_dir.clone() else {
        return Ok(None);
    };
    if bootstrap.dynamic.ads.is_none() {
        tracing::warn!("--state-dir has no effect: the bootstrap has no ads_config");
        return Ok(None);
    }
    let directory = Directory::new(path);
    let writer = Writer::start(directory.clone(), Arc::clone(registry.control_plane()))?;
    let node = node_of(&bootstrap.node);
    let read = tokio::task::spawn_blocking(move || directory.read(&node)).await;
    let saved = read.unwrap_or_default(); // it does not panic
    Ok(Some(State { saved, writer }))
}

fn start_xds(
    bootstrap: &Bootstrap,
    live: &Arc<Live>,
    (state, check_answers): (Option<State>, mpsc::Receiver<CheckAnswer>),
    tasks: &mut tokio::task::JoinSet<()>,
) -> Started {
    let (changes, receiver) = mpsc::channel(CHANGES_MAX);
    let (statics, statics_read) = mpsc::channel(1); // whoever reads a bootstrap can wait
    let (dns_queries, dns_wanted) = watch::channel(Vec::new());
    let (check_queries, checks_wanted) = watch::channel(Vec::new());
    let (dns_results, dns_answers) = mpsc::channel(DNS_ANSWERS_MAX);
    tasks.spawn(dns::run(dns_wanted, dns_results));
    let ports = xds::driver::Ports {
        changes,
        dns_queries,
        dns_answers,
        check_queries,
        check_answers,
        statics: statics_read,
        state,
        decoder: Arc::new(xds::wire::WireDecoder),
        loader: Arc::new(xds::wire::FileLoader),
        status: Arc::clone(&live.xds),
        rng: fastrand::Rng::new(),
        clock,
    };
    tasks.spawn(xds::driver::run(sources::xds_config(bootstrap), ports));
    Started {
        changes: receiver,
        check_queries: checks_wanted,
        statics,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the composition root reads the clock for everybody"
)]
fn clock() -> SystemTime {
    SystemTime::now()
}
