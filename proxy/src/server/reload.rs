//! The bootstrap read again, on SIGHUP: what stands in it is made live like a push; what only a start
//! can change is named.
//!
//! It reads no file. A bootstrap with a mistake never comes here, so what runs stays.

use std::sync::Arc;

use tokio::sync::mpsc;
use xds_proto::pb::envoy::config::core::v3::Node;

use super::inspect::Live;
use super::sources;
use crate::bootstrap::Admin;
use crate::bootstrap::Bootstrap;
use crate::bootstrap::Dynamic;
use crate::config::ConnectionLimits;
use crate::config::identity::Identity;
use crate::config::overload::Overload;
use crate::config::zone::Home;
use crate::xds::stage::StaticResources;

/// Takes in bootstraps while the proxy runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloader {
    live: Arc<Live>,
    statics: mpsc::Sender<StaticResources>,
    started: Arc<Started>,
}

/// What a start made of the bootstrap, for good.
#[derive(Debug)]
struct Started {
    node: Node,
    admin: Option<Admin>,
    dynamic: Dynamic,
    limits: ConnectionLimits,
    identity: Option<Arc<Identity>>,
    overload: Option<Overload>,
    home: Option<Home>,
}

impl Reloader {
    pub(super) fn new(
        bootstrap: &Bootstrap,
        live: Arc<Live>,
        statics: mpsc::Sender<StaticResources>,
    ) -> Self {
        live.registry
            .server()
            .config_last_reload_successful()
            .set(1);
        Self {
            live,
            statics,
            started: Arc::new(Started::new(bootstrap)),
        }
    }

    /// Makes the listeners and clusters of `bootstrap` live, and returns the fields that differ from
    /// what the proxy was started with and take effect only at the next start.
    pub async fn reload(&self, bootstrap: &Bootstrap) -> Vec<&'static str> {
        self.live.replace_statics(bootstrap);
        // Closed only while the proxy stops, when nothing is to change any more.
        let _ = self.statics.send(sources::statics(bootstrap)).await;
        self.set_successful(true);
        self.started.differences(bootstrap)
    }

    /// A bootstrap was refused, and what runs stays.
    pub fn refused(&self) {
        self.set_successful(false);
    }

    fn set_successful(&self, is: bool) {
        let stats = self.live.registry.server();
        stats.config_last_reload_successful().set(i64::from(is));
    }
}

impl Started {
    fn new(bootstrap: &Bootstrap) -> Self {
        let dynamic = bootstrap.dynamic.clone();
        Self {
            node: bootstrap.node.clone(),
            admin: bootstrap.admin.clone(),
            dynamic,
            limits: bootstrap.connection_limits.clone(),
            identity: bootstrap.identity.clone(),
            overload: bootstrap.overload.clone(),
            home: bootstrap.home.clone(),
        }
    }

    fn differences(&self, bootstrap: &Bootstrap) -> Vec<&'static str> {
        let now = Self::new(bootstrap);
        [
            ("node", now.node != self.node),
            ("admin", now.admin != self.admin),
            ("dynamic_resources", now.dynamic != self.dynamic),
            ("layered_runtime", now.limits != self.limits),
            ("bootstrap_extensions", now.identity != self.identity),
            ("overload_manager", now.overload != self.overload),
            ("cluster_manager", now.home != self.home),
        ]
        .into_iter()
        .filter_map(|(field, differs)| differs.then_some(field))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "
  - {name: NAME, connect_timeout: 1s, http2_protocol_options: {}, load_assignment: {cluster_name: NAME, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: PORT}}}}]}]}}";

    const ADS: &str = "
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: cp}}]}
  cds_config: {ads: {}, resource_api_version: V3}";

    fn bootstrap(id: &str, dynamic: &str, ports: (u16, u16)) -> Bootstrap {
        let cluster = |name: &str, port: u16| {
            let text = CLUSTER.replace("NAME", name);
            text.replace("PORT", &port.to_string())
        };
        let (cp, other) = (cluster("cp", ports.0), cluster("other", ports.1));
        let text = format!(
            "node: {{id: {id}, cluster: c}}\ndynamic_resources:{dynamic}\nstatic_resources:\n  clusters:{cp}{other}\n"
        );
        let loaded = crate::bootstrap::load("b.yaml".as_ref(), &text);
        loaded.unwrap_or_else(|errors| unreachable!("{}", errors[0]))
    }

    #[test]
    fn what_only_a_start_can_change_is_named() {
        let started = Started::new(&bootstrap("a", ADS, (1, 2)));
        let check = |new: Bootstrap, expected: &[&str]| {
            assert_eq!(started.differences(&new), expected);
        };
        check(bootstrap("a", ADS, (1, 2)), &[]);
        check(bootstrap("a", ADS, (1, 3)), &[]);
        check(bootstrap("b", ADS, (1, 2)), &["node"]);
        check(bootstrap("a", " {}", (9, 2)), &["dynamic_resources"]);
        check(bootstrap("a", ADS, (9, 2)), &[]);
    }
}
