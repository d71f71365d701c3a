//! Envoy and Weir take certificates and trust from our control plane and verify each other, both ways,
//! while their root is replaced: no request fails.
//!
//! ```text
//! client ──► Weir ══ mutual TLS ══► Envoy ──► origin
//! client ──► Envoy ══ mutual TLS ══► Weir ──► origin
//! ```

use std::net::SocketAddr;

use bench::client;
use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Envoy;
use bench::ports::ReservedPort;
use bytes::Bytes;
use control_plane::stream::SyncState;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;

use super::authority::Authority;
use super::authority::Leaf;
use super::authority::trust;
use super::site;
use crate::identity::free_ports;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// The proxies, which are also the groups of the control plane.
const GROUPS: [&str; 2] = ["envoy", "weir"];

/// Requests in each direction after each step.
const REQUESTS: u32 = 20;

/// Ports of one proxy: for clients, and for the other proxy.
struct Ports {
    plain: ReservedPort,
    tls: ReservedPort,
}

/// What both proxies get.
struct Step<'a> {
    name: &'static str,
    roots: Vec<&'a Authority>,
    /// Of each group.
    leaves: [&'a Leaf; 2],
    /// Makes the cluster another one, so that Envoy, too, uses no connection it already has.
    connect_timeout: &'static str,
}

fn resources(
    own: &Ports,
    other: &Ports,
    origin: SocketAddr,
    step: &Step<'_>,
    of: usize,
) -> Vec<Value> {
    let ads = site::ads();
    let (leaf, roots) = (site::named("leaf", &ads), site::named("roots", &ads));
    let server = site::downstream(leaf.clone(), Some(roots.clone()));
    let client = site::upstream(leaf, roots);
    let mut cluster = site::cluster("other", other.tls.number(), Some(&client));
    cluster["connect_timeout"] = step.connect_timeout.into();
    vec![
        site::forwarding("plain", own.plain.number(), None, "other"),
        site::forwarding("tls", own.tls.number(), Some(&server), "origin"),
        cluster,
        site::cluster("origin", origin.port(), None),
        step.leaves[of].secret("leaf"),
        trust("roots", &step.roots),
    ]
}

/// One request through both proxies, on a new connection.
async fn ask(target: SocketAddr) -> Result<(), String> {
    let request = Request::get("/")
        .body(Empty::<Bytes>::new())
        .expect("a path");
    match client::http1(target, request).await {
        Ok(answer) if answer.status == 200 && answer.text() == "origin" => Ok(()),
        Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
        Err(error) => Err(error.to_string()),
    }
}

/// Both have acknowledged everything.
fn in_sync(control_plane: &ControlPlane) -> Result<(), String> {
    let clients = control_plane.handle.clients();
    for group in GROUPS {
        if !clients.iter().any(|client| &*client.group == group) {
            return Err(format!("nobody of {group} is connected"));
        }
    }
    let mut types = clients.iter().flat_map(|client| &client.types);
    match types.find(|one| one.state != SyncState::Synced || one.report.refusal.is_some()) {
        Some(open) => Err(format!("{open:?}")),
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_and_weir_verify_each_other_through_a_change_of_root() {
    if !envoy_is_there() {
        return;
    }
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let first = [old.issue("envoy"), old.issue("weir")];
    let second = [new.issue("envoy"), new.issue("weir")];
    let step = |name, roots, envoy, weir| Step {
        name,
        roots,
        leaves: [envoy, weir],
        connect_timeout: "5s",
    };
    let steps = [
        step("old root", vec![&old], &first[0], &first[1]),
        step("both roots", vec![&old, &new], &first[0], &first[1]),
        step("new leaf of Envoy", vec![&old, &new], &second[0], &first[1]),
        step("new leaf of Weir", vec![&old, &new], &second[0], &second[1]),
        step("new root", vec![&new], &second[0], &second[1]),
    ];
    let world = World::start(&steps[0]).await;
    let mut made = 0;
    for step in &steps {
        world.commit(step).await;
        for (proxy, name) in world.ports.iter().zip(GROUPS) {
            for _ in 0..REQUESTS {
                let answer = ask(proxy.plain.addr()).await;
                answer.unwrap_or_else(|error| failed(step.name, &format!("by {name}: {error}")));
            }
        }
        // Weir reuses its connections, but none that it made with older secrets.
        let before = std::mem::replace(&mut made, world.handshakes().await);
        let expected = u64::from(step.name != "new leaf of Envoy");
        assert_eq!(made - before, expected, "{}", step.name);
    }
    // Whoever still has a leaf of the old root is let in no more, by neither.
    let stranger = Step {
        connect_timeout: "4s",
        ..step("a leaf of the old root", vec![&new], &first[0], &first[1])
    };
    world.commit(&stranger).await;
    for proxy in &world.ports {
        let refused = until(|| async {
            match ask(proxy.plain.addr()).await {
                Ok(()) => Err("let in".to_owned()),
                Err(_) => Ok(()),
            }
        });
        refused.await.expect("a stranger is not let in");
    }
    world.weir.stop().await;
}

/// Both proxies, with what stands behind and above them.
struct World {
    control_plane: ControlPlane,
    envoy: Envoy,
    weir: Weir,
    /// Of each group.
    ports: [Ports; 2],
    origin: Origin,
}

impl World {
    async fn start(step: &Step<'_>) -> Self {
        let origin = Origin::start("origin").expect("a free port");
        origin.reply(Reply::body("origin"));
        let control_plane = ControlPlane::start().await;
        let mut free = free_ports(4);
        let mut take = || free.pop().expect("there are four");
        let ports = [(); 2].map(|()| Ports {
            plain: take(),
            tls: take(),
        });
        commit(&control_plane, &ports, &origin, step);
        let bootstrap = |group| site::dynamic(group, "DELTA_GRPC", control_plane.address);
        let envoy = Envoy::start(&bootstrap("envoy")).await;
        let weir = Weir::start(&bootstrap("weir")).await;
        Self {
            envoy: envoy.expect("Envoy starts"),
            weir,
            control_plane,
            ports,
            origin,
        }
    }

    /// Until both have acknowledged it.
    async fn commit(&self, step: &Step<'_>) {
        commit(&self.control_plane, &self.ports, &self.origin, step);
        let synced = until(|| async { in_sync(&self.control_plane) }).await;
        synced.unwrap_or_else(|error| failed(step.name, &error));
    }

    /// How many Envoy has made with Weir as its client.
    async fn handshakes(&self) -> u64 {
        let name = format!(
            "listener.127.0.0.1_{}.ssl.handshake",
            self.ports[0].tls.number()
        );
        let counted = self.envoy.admin().stat(&name).await.expect("statistics");
        counted.unwrap_or_else(|| failed("statistics", &name))
    }
}

fn commit(control_plane: &ControlPlane, ports: &[Ports; 2], origin: &Origin, step: &Step<'_>) {
    for (of, group) in GROUPS.into_iter().enumerate() {
        let all = resources(&ports[of], &ports[1 - of], origin.addr(), step, of);
        control_plane.commit(group, &all);
    }
}

#[expect(clippy::panic, reason = "the failure of a test, with all that helps")]
fn failed(step: &str, error: &str) -> ! {
    panic!("{step}: {error}")
}
