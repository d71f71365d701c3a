//! What the admin server asks.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use xds_proto::pb::google::protobuf::Any;

use super::Asked;
use super::Live;
use super::Statics;
use super::views;
use crate::admin::ClusterView;
use crate::admin::ConfigView;
use crate::admin::DepartingView;
use crate::admin::Inspect;
use crate::admin::ListenerView;
use crate::admin::Readiness;
use crate::admin::ResourceState;
use crate::admin::ResourceView;
use crate::admin::Resources;
use crate::admin::ServerInfo;
use crate::admin::ServerState;
use crate::admin::TlsContextView;
use crate::config::endpoint::Address;
use crate::server::certificates;
use crate::server::clock;
use crate::upstream::ClusterHandle;
use crate::xds::resource::ResourceType;

/// [`Live`] as the admin server wants to see it.
#[derive(Debug)]
pub(in crate::server) struct Inspector(pub(in crate::server) Arc<Live>);

impl Inspector {
    fn views(&self, is_wanted: impl Fn(&ClusterHandle) -> bool) -> Vec<ClusterView> {
        let applied = self
            .0
            .applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = applied.clusters.iter().filter(|cluster| is_wanted(cluster));
        wanted
            .map(|cluster| views::cluster_view(cluster, !self.0.is_static(cluster.name())))
            .collect()
    }
}

impl Inspect for Inspector {
    fn readiness(&self) -> Readiness {
        let facts = self.0.xds.facts();
        let state = if self.0.draining.load(Ordering::Relaxed) {
            ServerState::Draining
        } else if self.0.is_caught_up() {
            ServerState::Live
        } else {
            ServerState::Initializing
        };
        let stale = facts.stale_since.map(|since| {
            let kept = if facts.is_restored {
                " and was read from disk"
            } else {
                ""
            };
            let seconds = views::age(since).as_secs();
            format!("no control plane: the configuration is stale for {seconds} s{kept}")
        });
        Readiness {
            state,
            waiting_for: facts.waiting_for.into_iter().chain(stale).collect(),
        }
    }

    fn server_info(&self) -> ServerInfo {
        ServerInfo {
            uptime: self.0.started.elapsed(),
            command_line_options: self.0.command_line.clone(),
            node: self.0.node.clone(),
        }
    }

    fn clusters(&self) -> Vec<ClusterView> {
        self.views(|_| true)
    }

    fn clusters_of_metrics(&self) -> Vec<ClusterView> {
        self.views(|cluster| {
            let measures = cluster.load().config.load_balancing.measures_latency();
            measures || cluster.dropped().is_some()
        })
    }

    fn listeners(&self) -> Vec<ListenerView> {
        let applied = self
            .0
            .applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let views = applied.listeners.iter().map(|listener| ListenerView {
            name: listener.name.to_string(),
            addresses: listener.addresses.clone(),
        });
        views.collect()
    }

    fn tls_contexts(&self) -> Vec<TlsContextView> {
        let applied = self
            .0
            .applied
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (listeners, clusters) = (applied.listeners.clone(), applied.clusters.clone());
        drop(applied); // reading certificates takes its time
        let now = clock();
        let contexts = certificates::contexts(&listeners, &clusters);
        contexts
            .iter()
            .map(|context| certificates::view(context, now))
            .collect()
    }

    fn config(&self) -> ConfigView {
        let statics = self.0.statics();
        ConfigView {
            bootstrap: Some((statics.bootstrap.clone(), statics.read)),
            clusters: self.resources(ResourceType::Cluster, &statics.clusters, statics.read),
            endpoints: self.resources(ResourceType::Endpoints, &[], statics.read),
            listeners: self.resources(ResourceType::Listener, &statics.listeners, statics.read),
            routes: self.resources(ResourceType::RouteConfig, &[], statics.read),
            secrets: self.secrets(&statics),
        }
    }

    fn departing(&self) -> Vec<DepartingView> {
        self.0.departing()
    }

    fn drain_endpoint(
        &self,
        cluster: &str,
        address: &Address,
        drain: bool,
    ) -> Result<Vec<DepartingView>, String> {
        let handle = self.0.cluster(cluster);
        let handle = handle.ok_or_else(|| format!("there is no cluster {cluster:?}"))?;
        handle.set_drained(address, drain)?;
        let mut views = self.0.departing();
        views.retain(|view| view.cluster == cluster && view.address == *address);
        Ok(views)
    }

    fn drain_listeners(&self, graceful: bool) {
        self.0.set_draining();
        self.0.ask(if graceful {
            Asked::DrainGracefully
        } else {
            Asked::Drain
        });
    }

    fn quit(&self) {
        self.0.ask(Asked::Quit);
    }

    fn reopen_logs(&self) {
        self.0.logs.reopen();
    }
}

impl Inspector {
    /// Those of every source.
    fn secrets(&self, statics: &Statics) -> Resources {
        let secret = ResourceType::Secret;
        let mut all = self.resources(secret, &statics.secrets, statics.read);
        self.0.xds.with_secrets(|stores| {
            let known = stores.values().flat_map(|store| store.resources(secret));
            let views = known.map(|(name, stored)| views::stored_view(secret, name, stored));
            all.resources.extend(views);
        });
        all
    }

    fn resources(
        &self,
        resource_type: ResourceType,
        statics: &[(String, Any)],
        read: SystemTime,
    ) -> Resources {
        let fixed = statics.iter().map(|(name, raw)| ResourceView {
            name: name.clone(),
            state: ResourceState::Static,
            version_info: String::new(),
            last_updated: Some(read),
            resource: Some(raw.clone()),
            error: None,
        });
        let mut resources: Vec<ResourceView> = fixed.collect();
        self.0.xds.with_store(|store| {
            let known = store.resources(resource_type);
            resources.extend(
                known.map(|(name, stored)| views::stored_view(resource_type, name, stored)),
            );
        });
        let version = self
            .0
            .xds
            .facts()
            .types
            .get(&resource_type)
            .map(|status| status.version.clone());
        Resources {
            version_info: version.unwrap_or_default(),
            resources,
        }
    }
}
