//! Our proxy joins our control plane over mutual TLS, as Envoy does; a new certificate is for new
//! streams, and streams go where the bootstrap says when it is read again.

use std::path::Path;
use std::process::Command;

use bench::ports::ReservedPort;
use bench::process::Process;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::client::Answer;
use crate::envoy::CART;
use crate::envoy::ControlPlane;
use crate::envoy::EDGE;
use crate::envoy::PATIENCE;
use crate::envoy::SERVER;
use crate::envoy::bootstrap;
use crate::envoy::is_hello;
use crate::envoy::listener;
use crate::envoy::tls_of_edge;
use crate::envoy::until;
use crate::support::Place;

/// `weir proxy` on a bootstrap of the place.
pub(crate) struct Proxy(pub(crate) Process);

impl Proxy {
    pub(crate) fn start(place: &Place, bootstrap: &str) -> Self {
        place.write("bootstrap.yaml", bootstrap);
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["proxy", "-c", "bootstrap.yaml", "--workers", "1"]);
        command.current_dir(place.path());
        Self(Process::start("weir", command, None).unwrap())
    }

    /// Reads another bootstrap.
    fn reload(&self, place: &Place, bootstrap: &str) {
        place.write("bootstrap.yaml", bootstrap);
        self.0.signal(Signal::HUP).unwrap();
    }

    /// How often it said this.
    pub(crate) fn count(&self, text: &str) -> usize {
        let output = self.0.whole_output();
        output.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until it has said this so often.
    pub(crate) async fn said(&self, text: &str, times: usize) {
        let began = Instant::now();
        while self.count(text) < times {
            let output = self.0.whole_output();
            assert!(began.elapsed() < PATIENCE, "no {text:?} in\n{output}");
            sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

/// A place with an authority, its roots, leafs of `edge` and `cart`, and `resources/`.
pub(crate) fn place(front: &ReservedPort) -> Place {
    let place = Place::with_authority();
    place.ok(&format!("ca issue --dir ca {EDGE} --out edge"));
    place.ok(&format!("ca issue --dir ca {CART} --out cart"));
    let bundle = place.json("ca bundle --dir ca");
    place.write("roots.pem", bundle["roots"].as_str().unwrap());
    std::fs::create_dir(place.file("resources")).unwrap();
    place.write(
        "resources/all.json",
        listener(front.number(), "ROOTCA").to_string(),
    );
    place
}

pub(crate) fn control_plane(place: &Place, xds: &ReservedPort, more: &[&str]) -> ControlPlane {
    let listen = xds.addr().to_string();
    let mut flags = vec!["--listen", &listen, "--tls-identity", SERVER];
    flags.extend(more);
    ControlPlane::start(place, &flags)
}

pub(crate) fn socket(port: &ReservedPort) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port.number()}})
}

fn shows(identity: &str) -> impl Fn(&Result<Answer, String>) -> bool {
    let identity = Some(identity.to_owned());
    move |answer| answer.as_ref().is_ok_and(|one| one.identity == identity)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weir_joins_as_envoy_does() {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        let [front, xds] = [(); 2].map(|()| ReservedPort::new().unwrap());
        let place = place(&front);
        let _control_plane = control_plane(&place, &xds, &["--require-client-certificate"]);
        let text = bootstrap(api_type, &socket(&xds), &tls_of_edge(&place));
        let proxy = Proxy::start(&place, &text);
        let answer = until(front.addr(), &place, Some("cart"), is_hello).await;
        assert_eq!(answer.unwrap().identity.as_deref(), Some(EDGE));
        drop(proxy);

        // Somebody else answers there: nothing is asked of him.
        let foreign = text.replace(SERVER, "spiffe://mesh.example/other");
        let proxy = Proxy::start(&place, &foreign);
        proxy.said("TLS_error", 1).await;
        assert_eq!(proxy.count("connected to the control plane"), 0);
    }
}

/// A secret in a file, put there at once.
fn publish(place: &Place, name: &str, kind: &str, secret: &Value) {
    let mut secret = json!({"name": name, kind: secret});
    secret["@type"] = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".into();
    place.write("new.json", json!({"resources": [secret]}).to_string());
    std::fs::rename(place.file("new.json"), place.file(&format!("{name}.json"))).unwrap();
}

fn publish_leaf(place: &Place, of: &str) {
    let text = |file: String| json!({"inline_string": place.read(&file)});
    let leaf = json!({
        "certificate_chain": text(format!("{of}.pem")),
        "private_key": text(format!("{of}.key")),
    });
    publish(place, "own", "tls_certificate", &leaf);
}

/// TLS whose certificate and trust come by files.
fn tls_by_files(directory: &Path) -> String {
    let named = |name: &str| {
        let path = directory.join(format!("{name}.json"));
        json!({"name": name, "sds_config": {"path_config_source": {"path": path}}})
    };
    let context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [named("own")],
            "validation_context_sds_secret_config": named("trust"),
        },
    });
    format!("    transport_socket: {{name: tls, typed_config: {context}}}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_for_new_streams() {
    let [front, xds] = [(); 2].map(|()| ReservedPort::new().unwrap());
    let place = place(&front);
    let flags = ["--require-client-certificate"];
    let first = control_plane(&place, &xds, &flags);
    publish_leaf(&place, "edge");
    let text = bootstrap("GRPC", &socket(&xds), &tls_by_files(place.path()));
    let proxy = Proxy::start(&place, &text);
    proxy.said("TLS cannot be used", 1).await; // its roots are not there yet
    let trust = json!({"trusted_ca": {"inline_string": place.read("roots.pem")}});
    publish(&place, "trust", "validation_context", &trust);
    let client = Some("cart");
    let answer = until(front.addr(), &place, client, shows(EDGE)).await;
    answer.unwrap();

    let accepted = r#""accepted","resource_type":"SDS""#;
    let before = proxy.count(accepted);
    publish_leaf(&place, "cart");
    proxy.said(accepted, before + 1).await;
    let answer = until(front.addr(), &place, client, shows(EDGE)).await;
    answer.unwrap();
    assert_eq!(proxy.count("connected to the control plane"), 1, "it stays");

    drop(first);
    let _second = control_plane(&place, &xds, &flags);
    let answer = until(front.addr(), &place, client, shows(CART)).await;
    answer.unwrap();
    assert_eq!(proxy.count("connected to the control plane"), 2);
}

/// Everything at one control plane: a listener by the aggregated stream, and one of its own whose
/// secrets come by streams of their own.
fn everything(place: &Place, xds: &ReservedPort, side: u16) -> String {
    let text = bootstrap("DELTA_GRPC", &socket(xds), &tls_of_edge(place));
    let mut own = listener(side, "ROOTCA")["resources"][0].clone();
    own["name"] = "side".into();
    own.as_object_mut().unwrap().remove("@type");
    let service = json!({
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
    });
    let ads = r#""ads":{}"#;
    let own = own.to_string();
    assert_eq!(own.matches(ads).count(), 2);
    let own = own.replace(ads, &format!(r#""api_config_source":{service}"#));
    text.replace(
        "  clusters:\n",
        &format!("  listeners: [{own}]\n  clusters:\n"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_where_the_bootstrap_says() {
    let [front, side] = [(); 2].map(|()| ReservedPort::new().unwrap());
    let [here, there] = [(); 2].map(|()| ReservedPort::new().unwrap());
    let place = place(&front);
    let flags = ["--require-client-certificate"];
    let _here = control_plane(&place, &here, &flags);
    let proxy = Proxy::start(&place, &everything(&place, &here, side.number()));
    let client = Some("cart");
    until(front.addr(), &place, client, is_hello).await.unwrap();
    let first = until(side.addr(), &place, client, is_hello).await.unwrap();

    let moved = listener(front.number(), "ROOTCA").to_string();
    let moved = moved.replace("hello", "moved");
    std::fs::create_dir(place.file("others")).unwrap();
    place.write("others/all.json", moved);
    let _there = control_plane(&place, &there, &[flags[0], "--resources", "others"]);
    proxy.reload(&place, &everything(&place, &there, side.number()));
    let is_moved = |answer: &Result<Answer, String>| {
        answer.as_ref().is_ok_and(|answer| answer.body == "moved")
    };
    until(front.addr(), &place, client, is_moved).await.unwrap();
    // The other control plane gives another leaf of the same name.
    let is_new = |answer: &Result<Answer, String>| {
        let answer = answer.as_ref();
        answer.is_ok_and(|answer| answer.serial != first.serial)
    };
    until(side.addr(), &place, client, is_new).await.unwrap();
    assert_eq!(proxy.count("takes effect only at the next start"), 0);
}
