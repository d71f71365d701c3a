//! Another trust domain is believed once its bundle was added, and no more once it was removed: by a
//! real Envoy and by our proxy, both on the secret `ALL`. Its authority vouches for its own identities
//! and for nobody else's.

use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use bench::peer::Envoy;
use bench::ports::ReservedPort;
use serde_json::json;

use crate::client::Answer;
use crate::envoy::ControlPlane;
use crate::envoy::bootstrap;
use crate::envoy::is_hello;
use crate::envoy::listener;
use crate::envoy::until;
use crate::support::Place;
use crate::support::is_missing;
use crate::support::is_there;

const CART: &str = "spiffe://mesh.example/cart";
const EDGE: &str = "spiffe://mesh.example/edge";
const THEIRS: &str = "spiffe://other.example/cart";

/// Our proxy as a process, ended with this value.
struct Weir(Child);

impl Weir {
    fn start(place: &Place, bootstrap: &str) -> Self {
        place.write("weir.yaml", bootstrap);
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["proxy", "-c", "weir.yaml", "--workers", "1"]);
        let command = command.current_dir(place.path()).stdin(Stdio::null());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What stands before the control plane, and a client of each kind: `cart` is of the own domain,
/// `theirs` of the other, and `forged` says it is of the own one, by the word of the other.
struct World {
    place: Place,
    front: ReservedPort,
    _control_plane: ControlPlane,
}

impl World {
    fn new() -> Self {
        let place = Place::with_authority();
        let front = ReservedPort::new().unwrap();
        place.ok(&format!("ca issue --dir ca {CART} --out cart"));
        place.ok("ca init --dir other --trust-domain other.example");
        place.ok(&format!("ca issue --dir other {THEIRS} --out theirs"));
        forge(&place);
        std::fs::create_dir(place.file("resources")).unwrap();
        let listener = listener(front.number(), "ALL");
        place.write("resources/all.json", listener.to_string());
        let user = format!("uid:{}={EDGE}", rustix::process::getuid().as_raw());
        let flags = ["--listen", "unix:xds.sock", "--local-user", &user];
        let _control_plane = ControlPlane::start(&place, &flags);
        Self {
            place,
            front,
            _control_plane,
        }
    }

    fn bootstrap(&self) -> String {
        let pipe = json!({"pipe": {"path": self.place.file("xds.sock")}});
        bootstrap("DELTA_GRPC", &pipe, "")
    }

    async fn until(&self, client: &str, wanted: impl Fn(&Result<Answer, String>) -> bool) {
        let front = self.front.addr();
        // What was wanted was seen; there is nothing more to say of it.
        let _ = until(front, &self.place, Some(client), wanted).await;
    }

    async fn follows_a_federation(&self, bundle: &str) {
        let place = &self.place;
        self.until("cart", is_hello).await;
        self.until("theirs", Result::is_err).await;
        place.ok(&format!("ca trust add --dir ca other.example {bundle}"));
        let list = place.ok("ca trust list --dir ca");
        assert!(list.starts_with("other.example  1 roots until "), "{list}");
        self.until("theirs", is_hello).await;
        self.until("cart", is_hello).await;
        self.until("forged", Result::is_err).await;
        place.ok("ca trust remove --dir ca other.example");
        self.until("theirs", Result::is_err).await;
        self.until("cart", is_hello).await;
        let audit = place.read("ca/audit.log");
        let lines = audit.lines().filter(|line| line.contains("\"trust\""));
        assert_eq!(lines.count(), 2, "{audit}");
    }
}

/// Their authority signs one of our identities, which only the rules of SPIFFE forbid.
fn forge(place: &Place) {
    let theirs = place.read("theirs.pem");
    let intermediate = theirs.split_inclusive("-----END CERTIFICATE-----\n");
    place.write("int.pem", intermediate.last().unwrap());
    place.openssl_ok("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout forged.key -subj /O=x -out f.csr");
    place.write("f.ext", format!("subjectAltName=URI:{CART}\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\nbasicConstraints=critical,CA:FALSE\nauthorityKeyIdentifier=keyid\n"));
    place.openssl_ok("x509 -req -in f.csr -CA int.pem -CAkey other/intermediate-2.key -days 1 -extfile f.ext -out f.pem");
    place.write("forged.pem", place.read("f.pem") + &place.read("int.pem"));
}

fn roots(place: &Place) -> String {
    let bundle = place.json("ca bundle --dir other");
    bundle["roots"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_believes_another_trust_domain_while_it_is_told_to() {
    if is_missing("Envoy", Envoy::locate().is_ok()) || !is_there("openssl", "version") {
        return;
    }
    let world = World::new();
    world.place.write("bundle.pem", roots(&world.place));
    let envoy = Envoy::start(&world.bootstrap()).await.unwrap();
    world.follows_a_federation("bundle.pem").await;
    drop(envoy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_proxy_believes_another_trust_domain_while_it_is_told_to() {
    if !is_there("openssl", "version") {
        return;
    }
    let world = World::new();
    let pem = roots(&world.place);
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let keys = json!({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": [body]}]});
    world.place.write("bundle.json", keys.to_string());
    let weir = Weir::start(&world.place, &world.bootstrap());
    world.follows_a_federation("bundle.json").await;
    // Lists of the own domain count beside those who have none.
    world.place.ok(&format!("ca revoke --dir ca --name {CART}"));
    world.until("cart", Result::is_err).await;
    drop(weir);
}
