//! Connections and sessions whose trust is withdrawn: by a revocation list, by another root, by time.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;

use super::authority::Authority;
use super::authority::Leaf;
use super::authority::revoking;
use super::authority::secret;
use super::authority::trust;
use super::caller::Call;
use super::caller::Caller;
use super::site;
use crate::identity::free_ports;
use crate::setting::ControlPlane;
use crate::setting::Weir;
use crate::setting::until;

/// How long a certificate lives that is to end during the test. Connections are asked to go nine seconds
/// before: the half of what is left, or less, as the drain time is halved.
const BRIEF: Duration = Duration::from_secs(20);

pub(super) fn now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "certificates end by the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).expect("after 1970")
}

/// A proxy whose clients need a certificate.
struct World {
    root: Authority,
    server: Leaf,
    control_plane: ControlPlane,
    port: ReservedPort,
    weir: Weir,
}

impl World {
    async fn start() -> Self {
        let root = Authority::new("root");
        let server = root.issue("server");
        let control_plane = ControlPlane::start().await;
        let port = free_ports(1).remove(0);
        let all = resources(&port, &server, trust("roots", &[&root]));
        control_plane.commit("weir", &all);
        let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
        Self {
            root,
            server,
            control_plane,
            port,
            weir,
        }
    }

    fn trust(&self, secret: Value) {
        let all = resources(&self.port, &self.server, secret);
        self.control_plane.commit("weir", &all);
    }

    /// A connection of a client with this certificate, which has asked once.
    async fn call(&self, leaf: &Leaf) -> std::io::Result<Call> {
        let caller = Caller::showing(leaf, &[&self.root]);
        let mut call = caller.call(self.port.addr()).await?;
        call.ask().await?;
        Ok(call)
    }
}

fn resources(port: &ReservedPort, server: &Leaf, trust: Value) -> Vec<Value> {
    let ads = site::ads();
    let (leaf, roots) = (site::named("leaf", &ads), site::named("roots", &ads));
    let tls = site::downstream(leaf, Some(roots));
    let listener = site::answering("l", port.number(), &tls);
    vec![listener, server.secret("leaf"), trust]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_who_is_revoked_or_of_a_root_that_is_gone_is_asked_to_go() {
    let world = World::start().await;
    let (good, bad) = (
        world.root.numbered("good", 1),
        world.root.numbered("bad", 2),
    );
    let mut of_good = world.call(&good).await.expect("it is let in");
    let mut of_bad = world.call(&bad).await.expect("it is let in");
    let list = world.root.revoking(2);
    world.trust(revoking("roots", &[&world.root], Some(list)));
    of_bad.ended().await.expect("who is revoked has to go");
    of_good.ask().await.expect("the other one stays");
    world.call(&good).await.expect("it is let in");
    assert!(world.call(&bad).await.is_err(), "it is let in no more");
    let other = Authority::new("other");
    world.trust(trust("roots", &[&other]));
    of_good
        .ended()
        .await
        .expect("nobody vouches for it any more");
    world.weir.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t09_who_has_a_certificate_that_ends_is_asked_to_go() {
    let world = World::start().await;
    let end = now() + BRIEF;
    let brief = world.root.ending("brief", end);
    let mut of_brief = world.call(&brief).await.expect("it is let in");
    let mut of_other = world
        .call(&world.root.issue("other"))
        .await
        .expect("it is let in");
    of_brief.ask().await.expect("there is time");
    of_brief.ended().await.expect("its certificate ends");
    assert!(now() < end, "it went too late");
    of_other.ask().await.expect("the other one stays");
    world.call(&brief).await.expect("it is let in still");
    let gone = until(|| async {
        let gone = world.call(&brief).await.is_err();
        gone.then_some(()).ok_or_else(|| "let in".to_owned())
    });
    gone.await.expect("its certificate has ended");
    assert!(world.call(&brief).await.is_err(), "it is let in no more");
    world.weir.stop().await;
}

/// Clients that show nothing: what ends is the certificate they were shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t09_connections_go_when_the_certificate_ends_that_they_began_with() {
    let root = Authority::new("root");
    let control_plane = ControlPlane::start().await;
    let port = free_ports(1).remove(0);
    let commit = |leaf: &Leaf| {
        let tls = site::downstream(site::named("leaf", &site::ads()), None);
        let listener = site::answering("l", port.number(), &tls);
        control_plane.commit("weir", &[listener, leaf.secret("leaf")]);
    };
    let end = now() + BRIEF;
    commit(&root.ending("brief", end));
    let weir = Weir::start(&site::dynamic("weir", "DELTA_GRPC", control_plane.address)).await;
    let caller = Caller::trusting(&[&root]);
    let mut of_brief = caller.call(port.addr()).await.expect("a handshake");
    of_brief.ask().await.expect("it is answered");
    let lasting = root.issue("lasting");
    commit(&lasting);
    let seen = until(|| async {
        let seen = caller.leaf(port.addr()).await;
        let seen = seen.map_err(|error| error.to_string())?;
        (seen == lasting.der)
            .then_some(())
            .ok_or_else(|| "old".to_owned())
    });
    seen.await.expect("the new leaf is shown");
    let mut of_lasting = caller.call(port.addr()).await.expect("a handshake");
    of_lasting.ask().await.expect("it is answered");
    of_brief.ended().await.expect("its certificate ends");
    assert!(now() < end, "it went too late");
    of_lasting.ask().await.expect("the other one stays");
    weir.stop().await;
}

/// Keys for tickets, told apart by one byte.
fn keys(marks: &[u8]) -> Value {
    let keys = marks.iter().map(|mark| {
        let key = char::from(*mark).to_string().repeat(80);
        json!({"inline_string": key})
    });
    let keys: Vec<Value> = keys.collect();
    secret("keys", json!({"session_ticket_keys": {"keys": keys}}))
}

/// Keys come by a name, and what they seal is void when trust or the keys change (security case T4).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t04_sessions_live_as_long_as_their_keys_and_trust() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let control_plane = ControlPlane::start().await;
    let port = free_ports(1).remove(0);
    let server = root.issue("server");
    let commit = |keys: Value, roots: &[&Authority]| {
        let ads = site::ads();
        let mut tls = site::downstream(site::named("leaf", &ads), None);
        let context = &mut tls["typed_config"];
        context["session_ticket_keys_sds_secret_config"] = site::named("keys", &ads);
        context["common_tls_context"]["validation_context_sds_secret_config"] =
            site::named("roots", &ads);
        let listener = site::answering("l", port.number(), &tls);
        let all = [listener, server.secret("leaf"), trust("roots", roots), keys];
        control_plane.commit("weir", &all);
    };
    commit(keys(b"a"), &[&root]);
    let weir = Weir::start(&site::dynamic("weir", "GRPC", control_plane.address)).await;
    let caller = Caller::resuming(&[&root]);
    let call = || async {
        let mut call = caller.call(port.addr()).await.map_err(|e| e.to_string())?;
        call.ask().await.map_err(|e| e.to_string())?;
        Ok::<bool, String>(call.is_resumed())
    };
    assert_eq!(call().await, Ok(false));
    assert_eq!(call().await, Ok(true));
    // The new key seals, the old one still opens: whichever is there by now.
    commit(keys(b"ba"), &[&root]);
    assert_eq!(call().await, Ok(true));
    let until_void = || {
        until(|| async {
            let is_resumed = call().await?;
            (!is_resumed)
                .then_some(())
                .ok_or_else(|| "resumed".to_owned())
        })
    };
    commit(keys(b"c"), &[&root]);
    until_void().await.expect("its keys are gone");
    assert_eq!(call().await, Ok(true));
    commit(keys(b"c"), &[&root, &other]);
    until_void().await.expect("trust is another");
    weir.stop().await;
}
