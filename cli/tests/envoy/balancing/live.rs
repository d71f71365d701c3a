//! A stock Envoy on our control plane: a policy of ours that stands first is passed over for the standard
//! one behind it, and what is changed at the control plane while it runs it follows as Weir does.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bench::peer::Envoy;
use bench::ports::ReservedPort;
use control_plane::balancing::Change;
use control_plane::stream::SyncState;
use control_plane::types::CLUSTER;
use serde_json::Value;
use serde_json::json;
use xds_proto::any::pack;
use xds_proto::any::unpack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::weir::load_balancing::v1::LatencyWeightedRoundRobin;

use super::client::Client;
use super::cluster;
use super::listener;
use super::member;
use super::origins;
use crate::follow;
use crate::follow::Way;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// Asked with one key, and with as many others.
const ASKED: usize = 24;

const WAY: Way = Way {
    seed: 0,
    api_type: "DELTA_GRPC",
    aggregated: true,
};

fn list(policies: &[Any]) -> LoadBalancingPolicy {
    let policy = |any: &Any| Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: "p".to_owned(),
            typed_config: Some(any.clone()),
        }),
    };
    LoadBalancingPolicy {
        policies: policies.iter().map(policy).collect(),
    }
}

fn latency() -> Any {
    pack(&LatencyWeightedRoundRobin::default())
}

/// Who answers: requests with one key, and with others.
async fn answers(at: SocketAddr) -> [BTreeMap<String, usize>; 2] {
    let mut client = Client::connect(at, (Ipv4Addr::LOCALHOST, 0)).await;
    let mut counts = [BTreeMap::new(), BTreeMap::new()];
    for number in 0..ASKED {
        for (counts, key) in counts
            .iter_mut()
            .zip(["same".to_owned(), number.to_string()])
        {
            let origin = client.get("/", &[("x-key", key)]).await.origin();
            *counts.entry(origin).or_default() += 1;
        }
    }
    counts
}

/// Waits until like requests meet, or until they do not any more.
async fn hashes(at: SocketAddr, wanted: bool) {
    let settled = until(|| async move {
        let [same, others] = answers(at).await;
        let all_answered = same
            .keys()
            .chain(others.keys())
            .all(|origin| origin != "503");
        let spreads = others.len() > 1 && (same.len() == 1) == wanted;
        let is_right = all_answered && spreads;
        is_right
            .then_some(())
            .ok_or_else(|| format!("{at}: {same:?}, {others:?}"))
    });
    settled.await.expect("the policy arrives");
}

/// Waits until both clients have acknowledged the clusters as they are now. (Envoy itself cannot print a
/// policy that it does not know: its `/config_dump` answers 500.)
async fn is_taken(control_plane: &ControlPlane) {
    let settled = until(|| async {
        let clients = control_plane.handle.clients();
        let types = clients.iter().flat_map(|client| &client.types);
        let clusters = types.filter(|each| &*each.type_url == CLUSTER);
        let states: Vec<SyncState> = clusters.map(|each| each.state).collect();
        let is_right = states == [SyncState::Synced; 2];
        is_right.then_some(()).ok_or_else(|| format!("{states:?}"))
    });
    settled.await.expect("the cluster is acknowledged");
}

/// The names of the policies of cluster `c`, as it is served.
fn policies(control_plane: &ControlPlane) -> Vec<String> {
    let watch = control_plane.handle.store().watch("envoy");
    let snapshot = watch.borrow().clone().expect("committed");
    let set = snapshot.set(CLUSTER).expect("clusters");
    let resource = set.find("c").expect("ours");
    let any: Any = prost::Message::decode(resource.any().clone()).expect("an Any");
    let cluster: Cluster = unpack(&any).expect("a cluster");
    let policies = cluster.load_balancing_policy.unwrap_or_default().policies;
    let url = |policy: &Policy| {
        let config = policy.typed_extension_config.as_ref();
        let any = config.and_then(|config| config.typed_config.as_ref());
        let url = any.map_or("", |any| &any.type_url);
        url.rsplit('.').next().unwrap_or_default().to_owned()
    };
    policies.iter().map(url).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_envoy_falls_through_and_follows_what_is_changed() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let members: Value = origins.iter().map(|origin| member(origin, 1)).collect();
    let ours = cluster("c", &json!([{"lb_endpoints": members}]), &json!({}));
    let route = json!([{"match": {"prefix": "/"}, "route": {
        "cluster": "c", "hash_policy": [{"header": {"header_name": "x-key"}}],
    }}]);
    let ports: Vec<ReservedPort> = free_ports(2);
    let control_plane = ControlPlane::start().await;
    for (group, port) in ["envoy", "weir"].into_iter().zip(&ports) {
        let listener = listener(port.number(), &manager(&route, &json!({})));
        control_plane.commit(
            group,
            &[
                with_type("listener.v3.Listener", listener),
                with_type("cluster.v3.Cluster", ours.clone()),
            ],
        );
    }
    let address = control_plane.address;
    let weir = Weir::start(&follow::bootstrap("weir", WAY, address)).await;
    let envoy = Envoy::start(&follow::bootstrap("envoy", WAY, address)).await;
    let envoy = envoy.expect("Envoy starts and gets ready");
    let [at_envoy, at_weir] = [ports[0].addr(), ports[1].addr()];
    hashes(at_envoy, false).await;
    hashes(at_weir, false).await;

    let store = control_plane.handle.store();
    let change = |change: Change| store.change_policy("c", 0, &change).expect("it can be");
    // Whoever does not know the first one hashes.
    change(Change::Policy(list(&[latency(), pack(&Maglev::default())])));
    assert_eq!(
        policies(&control_plane),
        &["LatencyWeightedRoundRobin", "Maglev"] as &[&str]
    );
    is_taken(&control_plane).await;
    hashes(at_envoy, true).await;
    hashes(at_weir, false).await;
    change(Change::Shadow(list(&[pack(&Maglev::default())])));
    assert_eq!(
        policies(&control_plane),
        &["Shadow", "LatencyWeightedRoundRobin", "Maglev"] as &[&str]
    );
    is_taken(&control_plane).await;
    hashes(at_envoy, true).await;
    hashes(at_weir, false).await;
    change(Change::Policy(list(&[pack(&Maglev::default())])));
    assert_eq!(policies(&control_plane), &["Shadow", "Maglev"] as &[&str]);
    is_taken(&control_plane).await;
    hashes(at_envoy, true).await;
    hashes(at_weir, true).await;
    change(Change::Unset);
    assert_eq!(policies(&control_plane), &[] as &[&str]);
    is_taken(&control_plane).await;
    hashes(at_envoy, false).await;
    hashes(at_weir, false).await;

    let stats = envoy.admin().stats().await.expect("statistics");
    let refused = stats.get("cluster_manager.cds.update_rejected");
    assert_eq!(refused.copied().unwrap_or_default(), 0);
    for client in control_plane.handle.clients() {
        let is_refused = client
            .types
            .iter()
            .any(|each| each.state == SyncState::Error);
        assert!(!is_refused, "{client:?}");
    }
    weir.stop().await;
}

fn with_type(name: &str, mut resource: Value) -> Value {
    resource["@type"] = format!("type.googleapis.com/envoy.config.{name}").into();
    resource
}
