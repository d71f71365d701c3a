//! A leaf is replaced under load: nobody fails, new connections see the new one at once, old ones go
//! on (security case T8).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy::telemetry::stats::Group;
use proxy::telemetry::stats::Reading;
use tokio::time::Instant;

use super::authority::Authority;
use super::authority::Leaf;
use super::caller::Caller;
use super::site;
use crate::identity::free_ports;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::until;

/// Rotations while the load goes on, at least.
const ROTATIONS: u32 = 12;

/// Rotations until one is quick enough; on an idle machine the first is.
const ROTATIONS_MAX: u32 = 200;

/// Connections at a time; each asks once and is made anew.
const CALLERS: usize = 3;

/// From the commit to the first handshake with the new leaf, with the connection that sees it. The
/// quickest of all is held to it: on a busy machine the others measure the machine.
const SWAP_MAX: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_a_leaf_is_rotated_under_load_by_sotw_ads() {
    Box::pin(rotate("GRPC", &site::ads())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_a_leaf_is_rotated_under_load_by_delta_ads() {
    Box::pin(rotate("DELTA_GRPC", &site::ads())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_a_leaf_is_rotated_under_load_by_a_stream_of_its_own() {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let source = serde_json::json!({
            "resource_api_version": "V3",
            "api_config_source": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
            },
        });
        Box::pin(rotate("GRPC", &source)).await;
    }
}

async fn rotate(api_type: &str, source: &serde_json::Value) {
    let root = Authority::new("root");
    let control_plane = ControlPlane::start().await;
    let port = free_ports(1).remove(0);
    let commit = |leaf: &Leaf| {
        let tls = site::downstream(site::named("leaf", source), None);
        let listener = site::answering("l", port.number(), &tls);
        control_plane.commit("weir", &[listener, leaf.secret("leaf")]);
    };
    let mut leaf = root.issue("leaf 0");
    commit(&leaf);
    let weir = Weir::start(&site::dynamic("weir", api_type, control_plane.address)).await;
    let caller = Caller::trusting(&[&root]);
    let mut old = caller.call(port.addr()).await.expect("a handshake");
    assert_eq!(old.leaf(), leaf.der);
    let load = Load::start(&caller, port.addr());
    let mut quickest = Duration::MAX;
    for number in 1..=ROTATIONS_MAX {
        if number > ROTATIONS && quickest < SWAP_MAX {
            break;
        }
        leaf = root.issue(&format!("leaf {number}"));
        let began = Instant::now();
        commit(&leaf);
        let seen = until(|| async {
            let seen = caller.leaf(port.addr()).await;
            let seen = seen.map_err(|error| error.to_string())?;
            (seen == leaf.der)
                .then_some(())
                .ok_or_else(|| "old".to_owned())
        });
        seen.await.expect("the new leaf is shown");
        quickest = quickest.min(began.elapsed());
        old.ask().await.expect("the first connection goes on");
    }
    let (asked, failed) = load.stop().await;
    let counted = until(|| async {
        let current = gauge(&weir, port.number(), "connections_with_current_secrets");
        let older = gauge(&weir, port.number(), "connections_with_older_secrets");
        let found = (current, older);
        // The first connection is all there is.
        (found == (0, 1))
            .then_some(())
            .ok_or_else(|| format!("{found:?}"))
    });
    counted
        .await
        .expect("connections are counted by their secrets");
    assert_eq!(failed, Vec::<String>::new(), "of {asked}");
    assert!(asked > u64::from(ROTATIONS), "{asked}");
    assert!(quickest < SWAP_MAX, "{quickest:?}");
    weir.stop().await;
}

/// A number of the TLS of the listener on this port.
fn gauge(weir: &Weir, port: u16, name: &str) -> i64 {
    let stats = weir
        .live()
        .registry
        .listener_tls(&format!("127.0.0.1_{port}"));
    let mut fields = stats.fields().iter();
    let place = fields.position(|field| field.name == format!("ssl.{name}"));
    match place.and_then(|place| stats.read(place)) {
        Some(Reading::Gauge(value)) => value,
        _ => -1,
    }
}

/// Clients that ask again and again, each time on a new connection.
struct Load {
    is_over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(caller: &Caller, target: SocketAddr) -> Self {
        let (is_over, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..CALLERS).map(|_| {
            let (caller, is_over, asked) =
                (caller.clone(), Arc::clone(&is_over), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut failed = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = caller.leaf(target).await {
                        failed.push(error.to_string());
                    }
                }
                failed
            })
        });
        Self {
            tasks: tasks.collect(),
            is_over,
            asked,
        }
    }

    /// How many were asked, and what failed.
    async fn stop(self) -> (u64, Vec<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for task in self.tasks {
            failed.extend(task.await.expect("no panic"));
        }
        (self.asked.load(Ordering::Relaxed), failed)
    }
}
