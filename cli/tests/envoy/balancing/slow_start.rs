//! A member that comes by EDS takes less than the others while it is new, and as much after it.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use bench::origin::FixedOrigin;
use bench::peer::Envoy;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use super::client::Client;
use super::listener;
use super::member;
use super::origins;
use crate::follow::Way;
use crate::follow::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::open;
use crate::identity::typed;
use crate::setting::ControlPlane;
use crate::setting::PATIENCE;
use crate::setting::Weir;
use crate::setting::envoy_is_there;

/// How long a member is new.
const WINDOW: Duration = Duration::from_secs(3);

/// With this aggression a member has a tenth of its weight for longer than this.
const AGGRESSION: f64 = 0.1;
const FLAT: Duration = Duration::from_millis(2300);

const NAMES: [&str; 2] = ["turns", "least"];

/// Requests to each cluster when nobody is new.
const REQUESTS: u32 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_member_is_spared_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let control_plane = ControlPlane::start().await;
    let ports = free_ports(2);
    let way = Way {
        seed: 0,
        api_type: "GRPC",
        aggregated: true,
    };
    for (group, port) in ["envoy", "weir"].iter().zip(&ports) {
        let commit = |members: &[FixedOrigin]| {
            control_plane.commit(group, &resources(port.number(), members));
        };
        commit(&origins[..2]);
        let text = bootstrap(group, way, control_plane.address);
        let (envoy, weir) = if *group == "envoy" {
            let envoy = Envoy::start(&text).await;
            (Some(envoy.expect("Envoy gets ready")), None)
        } else {
            (None, Some(Weir::start(&text).await))
        };
        open(std::slice::from_ref(port)).await;
        check(port.addr(), || commit(&origins[..3]), group).await;
        drop(envoy);
        if let Some(weir) = weir {
            weir.stop().await;
        }
    }
}

/// Once the first members are new no more, `add` brings another.
async fn check(target: SocketAddr, add: impl FnOnce(), group: &str) {
    let mut client = Client::connect(target, (Ipv4Addr::LOCALHOST, 0)).await;
    let began = Instant::now();
    while began.elapsed() < WINDOW {
        client.get("/turns", &[]).await;
    }
    add();
    let mut shares = [Share::default(); NAMES.len()];
    let mut known = None;
    while known.is_none_or(|known: Instant| known.elapsed() < FLAT) {
        for (name, share) in NAMES.iter().zip(&mut shares) {
            let is_new = client.get(&format!("/{name}"), &[]).await.origin() == "2";
            if known.is_some() {
                share.add(is_new);
            }
            if is_new {
                known.get_or_insert_with(Instant::now);
            }
        }
        let late = began.elapsed();
        assert!(late < PATIENCE, "{group}: the member never came");
    }
    for (name, share) in NAMES.iter().zip(shares) {
        // A tenth of a weight beside two whole ones.
        share.check((0.01, 0.1), &format!("{group}, {name}, new"));
    }
    while known.is_some_and(|known| known.elapsed() < WINDOW) {
        client.get("/turns", &[]).await;
    }
    for name in NAMES {
        let mut share = Share::default();
        for _ in 0..REQUESTS {
            share.add(client.get(&format!("/{name}"), &[]).await.origin() == "2");
        }
        share.check((0.24, 0.43), &format!("{group}, {name}, not new"));
    }
}

/// How many requests the new member got.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    new: u32,
    all: u32,
}

impl Share {
    fn add(&mut self, is_new: bool) {
        self.new += u32::from(is_new);
        self.all += 1;
    }

    fn check(self, (least, most): (f64, f64), place: &str) {
        let share = f64::from(self.new) / f64::from(self.all);
        assert!(share > least && share < most, "{place}: {self:?}");
    }
}

fn resources(port: u16, members: &[FixedOrigin]) -> Vec<Value> {
    let config = json!({"slow_start_config": {
        "slow_start_window": format!("{}s", WINDOW.as_secs()),
        "aggression": {"default_value": AGGRESSION, "runtime_key": "none"},
    }});
    let source = json!({"resource_api_version": "V3", "ads": {}});
    let mut resources = Vec::new();
    let mut routes = Vec::new();
    for name in NAMES {
        let mut cluster = json!({
            "name": name, "type": "EDS", "eds_cluster_config": {"eds_config": source},
        });
        if name == "turns" {
            cluster["round_robin_lb_config"] = config.clone();
        } else {
            cluster["lb_policy"] = json!("LEAST_REQUEST");
            cluster["least_request_lb_config"] = config.clone();
        }
        resources.push(typed("config.cluster.v3.Cluster", cluster));
        let members: Value = members.iter().map(|origin| member(origin, 1)).collect();
        let members = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": members}]});
        resources.push(typed("config.endpoint.v3.ClusterLoadAssignment", members));
        routes.push(json!({"match": {"path": format!("/{name}")}, "route": {"cluster": name}}));
    }
    let listener = listener(port, &manager(&routes.into(), &json!({})));
    resources.push(typed("config.listener.v3.Listener", listener));
    resources
}
