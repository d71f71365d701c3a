//! The clusters of the bootstrap that can be asked, and how each is reached.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Cluster;
use crate::config::Name;
use crate::config::Secrets;
use crate::config::cluster::Discovery;
use crate::config::endpoint::Address;
use crate::config::secret::SecretKey;
use crate::xds::client::Security;
use crate::xds::client::Server;
use crate::xds::client::Target;
use crate::xds::stage::Stage;

/// Them, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Servers(BTreeMap<Name, Reached>);

#[derive(Clone, Debug)]
struct Reached {
    servers: Vec<Server>,
    security: Option<Arc<Security>>,
}

impl Servers {
    pub(super) fn new(clusters: &[Arc<Cluster>]) -> Self {
        let mut servers = Self::default();
        servers.replace(clusters);
        servers
    }

    /// The bootstrap's clusters are these now. TLS that is the same goes on with what it has.
    pub(super) fn replace(&mut self, clusters: &[Arc<Cluster>]) {
        let old = std::mem::take(&mut self.0);
        let usable = clusters.iter().filter(|cluster| cluster.can_be_asked());
        for cluster in usable {
            let before = old.get(&cluster.name);
            let before = before.and_then(|reached| reached.security.as_ref());
            let security = match before.filter(|security| security.is_of(cluster)) {
                Some(same) => Some(Arc::clone(same)),
                None => Security::new(cluster),
            };
            let targets = targets(cluster).into_iter();
            let servers = targets.map(|(target, hostname)| Server {
                target,
                hostname,
                security: security.clone(),
            });
            let servers = servers.collect();
            let reached = Reached { servers, security };
            self.0.insert(Arc::clone(&cluster.name), reached);
        }
    }

    /// How a cluster is reached for a certificate: without the one of these names while it is not there.
    pub(super) fn joining(&self, cluster: &Cluster, certificates: &[SecretKey]) -> Vec<Server> {
        let reached = self.0.get(&cluster.name);
        let reached = reached.map(|one| &one.servers[..]).unwrap_or_default();
        let security = Security::without(cluster, certificates);
        let joining = reached.iter().map(|server| Server {
            security: security.clone(),
            ..server.clone()
        });
        joining.collect()
    }

    /// Those of several clusters, in their order.
    pub(super) fn of(&self, names: &[Name]) -> Vec<Server> {
        let reached = names.iter().filter_map(|name| self.0.get(name));
        reached
            .flat_map(|reached| reached.servers.iter().cloned())
            .collect()
    }

    pub(super) fn names(&self) -> BTreeSet<Name> {
        self.0.keys().cloned().collect()
    }

    /// Brings the TLS of all up to the secrets there are.
    pub(super) fn refresh(&self, stage: &Stage) {
        let all = self.0.values();
        for security in all.filter_map(|reached| reached.security.as_ref()) {
            refresh(security, stage);
        }
    }
}

/// Brings TLS up to the secrets there are.
pub(super) fn refresh(security: &Security, stage: &Stage) {
    let mut keys = security.keys().peekable();
    if keys.peek().is_none() {
        return;
    }
    let there = keys.filter_map(|key| Some((key.clone(), stage.secret(key)?.clone())));
    let secrets: Secrets = there.collect();
    security.refresh(&secrets);
}

/// Where the members of a cluster are, each with its host's name.
fn targets(cluster: &Cluster) -> Vec<(Target, Name)> {
    match &cluster.discovery {
        // The bootstrap refuses EDS (B-12), and nobody is redirected to a control plane.
        Discovery::Eds { .. } | Discovery::OriginalDst => Vec::new(),
        Discovery::Static(endpoints) => {
            let members = endpoints
                .localities
                .iter()
                .flat_map(|locality| &locality.endpoints);
            let targets = members.map(|one| (target(&one.address), Arc::clone(&one.hostname)));
            targets.collect()
        }
        Discovery::StrictDns(dns) => {
            let targets = dns.targets.iter().map(|one| {
                let target = Target::Tcp {
                    host: one.host.to_string(),
                    port: one.port,
                };
                (target, Arc::clone(&one.hostname))
            });
            targets.collect()
        }
    }
}

fn target(address: &Address) -> Target {
    match address {
        Address::Pipe(path) => Target::Unix(path.clone()),
        Address::Socket(address) => Target::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        },
    }
}
