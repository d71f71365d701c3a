//! The only writer of live state: takes a [`Change`] and reconciles what runs with it, make before
//! break. Clusters come first, then routes, then listeners; removals go the other way round.
//!
//! It runs on the control side, one change at a time. Workers see each part through one swap.
//!
//! | file | holds |
//! |---|---|
//! | `clusters` | live clusters by name |
//! | `routes` | live route tables by RDS name |
//! | `listeners` | bound listeners by name |

mod clusters;
mod listeners;
mod routes;
#[cfg(test)]
mod secret_tests;

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::Change;
use crate::config::ConnectionLimits;
use crate::config::Snapshot;
use crate::config::zone::Home;
use crate::listener::ActiveListener;
use crate::overload::held::Order;
use crate::telemetry::access_log::AccessLogWriter;
use crate::telemetry::stats::Registry;
use crate::upstream::ClusterHandle;
use crate::upstream::departure::Departures;
use crate::upstream::health::Monitor;
use crate::upstream::transport::Transport;
use crate::upstream::zone::Zone;
use crate::worker::Command;
use crate::worker::WorkerHandle;
use crate::xds::resource::CheckQuery;
use clusters::Clusters;
use listeners::Listeners;
use listeners::Outcome;
use routes::Tables;

/// Something that could not be made live; the last good state of it stays.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A listener's address cannot be bound.
    #[error("listener {listener}: cannot bind {address}: {source}")]
    Bind {
        /// The listener.
        listener: String,
        /// What was to be bound.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Live state, and those who use it.
#[derive(Debug)]
pub struct Applier {
    workers: Vec<WorkerHandle>,
    clusters: Clusters,
    tables: Tables,
    listeners: Listeners,
    /// No listener is opened any more.
    has_stopped: bool,
}

impl Applier {
    /// Nothing is live yet.
    pub fn new(
        workers: Vec<WorkerHandle>,
        registry: Arc<Registry>,
        logs: Arc<AccessLogWriter>,
        limits: ConnectionLimits,
        monitor: Monitor,
    ) -> Self {
        Self {
            clusters: Clusters::new(Arc::clone(&registry), workers.len(), monitor),
            tables: Tables::default(),
            listeners: Listeners::new(
                registry,
                logs,
                limits,
                workers.iter().map(WorkerHandle::inbox).collect(),
            ),
            workers,
            has_stopped: false,
        }
    }

    /// Hosts that leave are told from now on.
    #[must_use]
    pub fn telling(mut self, departures: Arc<Departures>) -> Self {
        self.clusters.tell(departures);
        self
    }

    /// Clusters know from now on where the proxy is, if it was said.
    #[must_use]
    pub fn at_home(mut self, home: Option<&Home>) -> Self {
        if let Some(home) = home {
            self.clusters.stand_in(Arc::new(Zone::new(home.clone())));
        }
        self
    }

    /// Workers give up streams that hold much.
    pub async fn reset_streams(&self, order: &Order) {
        for worker in &self.workers {
            worker.send(Command::ResetStreams(order.clone())).await;
        }
    }

    /// Has workers look anew for how long they wait.
    pub async fn retime(&self) {
        for worker in &self.workers {
            worker.send(Command::Retime).await;
        }
    }

    /// Workers give back what memory they can.
    pub async fn shrink(&self) {
        for worker in &self.workers {
            worker.send(Command::Shrink).await;
        }
    }

    /// Workers look which hosts have left.
    pub async fn follow_hosts(&self) {
        for worker in &self.workers {
            worker.send(Command::FollowHosts).await;
        }
    }

    /// Makes a change live.
    ///
    /// # Errors
    /// What could not be made live; all the rest is.
    pub async fn apply(&mut self, change: Change) -> Result<(), Vec<ApplyError>> {
        match change {
            Change::Endpoints { cluster, endpoints } => {
                self.clusters.set_endpoints(&cluster, &endpoints);
                Ok(())
            }
            Change::Secrets(secrets) => {
                let trusting = self.clusters.set_secrets(&secrets);
                self.verify_servers(trusting).await;
                for chain in self.listeners.set_secrets(&secrets) {
                    for worker in &self.workers {
                        worker.send(Command::VerifyAgain(Arc::clone(&chain))).await;
                    }
                }
                Ok(())
            }
            Change::Snapshot(snapshot) => self.apply_snapshot(&snapshot).await,
        }
    }

    async fn apply_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), Vec<ApplyError>> {
        let trusting = self.clusters.add(snapshot);
        self.verify_servers(trusting).await;
        self.tables.update(snapshot, &self.clusters);
        let outcome = if self.has_stopped {
            Outcome::default()
        } else {
            let workers = self.workers.len();
            self.listeners
                .update(snapshot, &self.tables, &self.clusters, workers)
        };
        for (worker, commands) in outcome.commands {
            if let Some(worker) = self.workers.get(worker) {
                for command in commands {
                    worker.send(command).await;
                }
            }
        }
        self.tables.remove(snapshot);
        self.clusters.remove(snapshot);
        if outcome.errors.is_empty() {
            Ok(())
        } else {
            Err(outcome.errors)
        }
    }

    /// Has the members of these clusters checked before they become live.
    pub fn warm(&mut self, queries: &[CheckQuery]) {
        self.clusters.warm(queries);
    }

    async fn verify_servers(&self, trusting: Vec<Arc<Transport>>) {
        for transport in trusting {
            for worker in &self.workers {
                worker
                    .send(Command::VerifyServers(Arc::clone(&transport)))
                    .await;
            }
        }
    }

    /// Live clusters, by name.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterHandle> {
        self.clusters.iter()
    }

    /// Clusters whose weights follow latency.
    pub fn following(&self) -> &[ClusterHandle] {
        self.clusters.following()
    }

    /// Bound listeners, by name.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<ActiveListener>> {
        self.listeners.iter()
    }

    /// Asks every connection to finish, and those that still come to take one answer only.
    pub async fn ask_all(&self) {
        for worker in &self.workers {
            worker.send(Command::AskAll).await;
        }
    }

    /// Closes every listening socket for good, and asks every connection to finish.
    pub async fn stop_listening(&mut self) {
        drop(self.begin_drain().await);
    }

    /// Closes every listening socket and asks every connection to finish; done when all are gone.
    pub async fn drain(&mut self) {
        // Twice: while one worker still accepts, one that is done may be handed a connection. It has
        // it before it is asked again.
        for _ in 0..2 {
            for receiver in self.begin_drain().await {
                let _ = receiver.await; // a worker that is gone has no connections
            }
        }
    }

    /// Lets those say goodbye that can, before the rest is cut.
    pub async fn say_goodbye(&self) {
        for worker in &self.workers {
            worker.send(Command::SayGoodbye).await;
        }
    }

    async fn begin_drain(&mut self) -> Vec<oneshot::Receiver<()>> {
        self.has_stopped = true;
        let mut done = Vec::new();
        for worker in &self.workers {
            let (sender, receiver) = oneshot::channel();
            worker.send(Command::DrainAll(sender)).await;
            done.push(receiver);
        }
        done
    }

    /// Ends the workers.
    pub fn stop(self) {
        self.workers.into_iter().for_each(WorkerHandle::stop);
        self.clusters.stop();
    }
}
