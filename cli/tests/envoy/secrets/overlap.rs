//! Leafs are replaced one after the other and the root once, with an overlap, while clients with
//! certificates call without a pause: nobody fails, new handshakes show the new leaf (security case T8).
//!
//! A few rotations; with `WEIR_FULL=1` one each second for a minute, as the issue has it.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::authority::Authority;
use super::authority::Leaf;
use super::authority::trust;
use super::caller::Caller;
use super::site;
use crate::identity::free_ports;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::until;

/// Connections at a time; each asks once and is made anew.
const CALLERS: usize = 3;

/// From the commit to a whole connection that sees the new leaf. The quickest is held to it: on a busy
/// machine the others measure the machine.
const SWAP_MAX: Duration = Duration::from_millis(100);

/// Rotations until one is quick enough; on an idle machine the first is.
const ROTATIONS_MAX: u32 = 200;

/// How many rotations of the leaf, and how far apart.
fn plan() -> (u32, Duration) {
    if std::env::var_os("WEIR_FULL").is_some() {
        (60, Duration::from_secs(1))
    } else {
        (9, Duration::ZERO)
    }
}

/// A proxy that demands certificates, and clients that have some.
struct World {
    control_plane: ControlPlane,
    port: SocketAddr,
    load: Load,
}

impl World {
    fn commit(&self, leaf: &Leaf, roots: &[&Authority]) {
        self.control_plane
            .commit("weir", &resources(self.port.port(), leaf, roots));
    }

    /// Gives the proxy another leaf, and returns how long it took until a new connection saw it.
    async fn rotate(&self, leaf: &Leaf, roots: &[&Authority]) -> Duration {
        let began = Instant::now();
        self.commit(leaf, roots);
        let seen = until(|| async {
            let seen = self.load.caller().leaf(self.port).await;
            let seen = seen.map_err(|error| error.to_string())?;
            let is_new = seen == leaf.der;
            is_new.then_some(()).ok_or_else(|| "old".to_owned())
        });
        seen.await.expect("the new leaf is shown");
        began.elapsed()
    }
}

fn resources(port: u16, leaf: &Leaf, roots: &[&Authority]) -> Vec<serde_json::Value> {
    let ads = site::ads();
    let trusted = Some(site::named("roots", &ads));
    let tls = site::downstream(site::named("leaf", &ads), trusted);
    let listener = site::answering("l", port, &tls);
    vec![listener, leaf.secret("leaf"), trust("roots", roots)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_leafs_and_a_root_with_overlap_are_rotated_under_load() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = [&old, &new];
    let control_plane = ControlPlane::start().await;
    let port = free_ports(1).remove(0);
    let first = resources(port.number(), &old.issue("first"), &[&old]);
    control_plane.commit("weir", &first);
    let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
    let client = Caller::showing(&old.issue("client"), &[&old]);
    let world = World {
        control_plane,
        port: port.addr(),
        load: Load::start(client, port.addr()),
    };
    let (rotations, pause) = plan();
    let mut quickest = Duration::MAX;
    let mut due = Instant::now();
    for number in 0..rotations {
        tokio::time::sleep_until(due).await;
        due += pause;
        // A third each: the old root, both, and the new one alone.
        let (issuer, roots) = match number * 3 / rotations {
            0 => (&old, &both[..1]),
            1 => (&old, &both[..]),
            _ => (&new, &both[1..]),
        };
        if number * 3 == rotations {
            // Everybody hears of the new root before anybody has a leaf of it.
            let client = Caller::showing(&old.issue("client"), &both);
            world.load.change(client).await;
        } else if number * 3 == rotations * 2 {
            // Leafs of the new root come while the old one is still believed.
            world.rotate(&new.issue("between"), &both).await;
            let client = Caller::showing(&new.issue("client"), &both[1..]);
            world.load.change(client).await;
        }
        let leaf = issuer.issue(&format!("leaf {number}"));
        quickest = quickest.min(world.rotate(&leaf, roots).await);
    }
    for number in rotations..ROTATIONS_MAX {
        if quickest < SWAP_MAX {
            break;
        }
        let leaf = new.issue(&format!("leaf {number}"));
        quickest = quickest.min(world.rotate(&leaf, &both[1..]).await);
    }
    let (asked, failed) = world.load.stop().await;
    assert_eq!(failed, Vec::<String>::new(), "of {asked}");
    assert!(asked > u64::from(rotations), "{asked}");
    assert!(quickest < SWAP_MAX, "{quickest:?}");
    let _ = writeln!(
        std::io::stderr(),
        "{asked} connections, {rotations} leafs, the quickest seen after {quickest:?}"
    );
    weir.stop().await;
}

/// Clients that ask again and again, each time on a new connection.
struct Load {
    caller: Arc<Mutex<Caller>>,
    is_over: Arc<AtomicBool>,
    tasks: Vec<(Arc<AtomicU64>, JoinHandle<Vec<String>>)>,
}

impl Load {
    fn start(caller: Caller, target: SocketAddr) -> Self {
        let (caller, is_over) = (Arc::new(Mutex::new(caller)), Arc::<AtomicBool>::default());
        let tasks = (0..CALLERS).map(|_| {
            let asked = Arc::<AtomicU64>::default();
            let shared = (
                Arc::clone(&caller),
                Arc::clone(&is_over),
                Arc::clone(&asked),
            );
            (asked, tokio::spawn(ask_on(shared, target)))
        });
        Self {
            tasks: tasks.collect(),
            caller,
            is_over,
        }
    }

    fn caller(&self) -> Caller {
        now(&self.caller)
    }

    /// Lets all of them be somebody else, and waits until nobody is who it was.
    async fn change(&self, caller: Caller) {
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = caller;
        for (asked, _) in &self.tasks {
            // The one under way may have begun before.
            let wanted = asked.load(Ordering::Relaxed) + 2;
            let changed = until(|| async {
                let is_other = asked.load(Ordering::Relaxed) >= wanted;
                is_other.then_some(()).ok_or_else(|| "the same".to_owned())
            });
            changed.await.expect("clients go on");
        }
    }

    /// How many were asked, and what failed.
    async fn stop(self) -> (u64, Vec<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        let (mut all, mut failed) = (0, Vec::new());
        for (asked, task) in self.tasks {
            failed.extend(task.await.expect("no panic"));
            all += asked.load(Ordering::Relaxed);
        }
        (all, failed)
    }
}

fn now(caller: &Mutex<Caller>) -> Caller {
    let caller = caller.lock().unwrap_or_else(PoisonError::into_inner);
    caller.clone()
}

async fn ask_on(
    (caller, is_over, asked): (Arc<Mutex<Caller>>, Arc<AtomicBool>, Arc<AtomicU64>),
    target: SocketAddr,
) -> Vec<String> {
    let mut failed = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let caller = now(&caller);
        if let Err(error) = caller.leaf(target).await {
            failed.push(error.to_string());
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
    failed
}
