//! Asking for a certificate of our own: to whom, and with which TLS.

use std::future::pending;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::servers;
use super::servers::Servers;
use crate::config::Cluster;
use crate::config::identity::Identity;
use crate::xds::client::Server;
use crate::xds::identity::Asking;
use crate::xds::identity::News;
use crate::xds::identity::Parts;
use crate::xds::stage::Stage;

/// What is running for it.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) identity: Arc<Identity>,
    cluster: Option<Arc<Cluster>>,
    servers: watch::Sender<Vec<Server>>,
    asking: Asking,
}

impl Joining {
    pub(super) fn start(
        identity: Arc<Identity>,
        (servers, clusters): (&Servers, &[Arc<Cluster>]),
        rng: fastrand::Rng,
        clock: fn() -> SystemTime,
    ) -> Self {
        let (sender, receiver) = watch::channel(Vec::new());
        let asking = Asking::start(Parts {
            identity: Arc::clone(&identity),
            servers: receiver,
            rng,
            clock,
        });
        let mut joining = Self {
            identity,
            cluster: None,
            servers: sender,
            asking,
        };
        joining.replace(servers, clusters);
        joining
    }

    /// The bootstrap's clusters are these now.
    pub(super) fn replace(&mut self, servers: &Servers, clusters: &[Arc<Cluster>]) {
        let mut clusters = clusters.iter();
        let signer = clusters.find(|one| one.name == self.identity.signer);
        if signer == self.cluster.as_ref() {
            return;
        }
        self.cluster = signer.cloned();
        let keys = self.identity.certificate_keys();
        let reached = signer.map(|cluster| servers.joining(cluster, &keys));
        self.servers.send_replace(reached.unwrap_or_default());
    }

    /// Connections from now on are made with the secrets there are.
    pub(super) fn refresh(&self, stage: &Stage) {
        let servers = self.servers.borrow();
        // All of a cluster have the same.
        let security = servers.first().and_then(|one| one.security.as_ref());
        if let Some(security) = security {
            servers::refresh(security, stage);
        }
    }
}

/// What became of a question, if anybody asks.
pub(super) async fn next(joining: Option<&mut Joining>) -> Option<News> {
    match joining {
        Some(joining) => joining.asking.next().await,
        None => pending().await,
    }
}
