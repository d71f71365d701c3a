//! What a proxy writes into its state directory, and what it says of it, as whoever runs it sees that: the
//! directory is named by `WEIR_STATE_DIR`, keys do not get there, and the log says why something is refused.

use std::path::Path;
use std::process::Command;

use bench::certificates::Certificates;
use bench::ports::ReservedPort;
use bench::process::Process;
use control_plane::subscription::Variant;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use xds_proto::Pool;
use xds_proto::pb::google::protobuf::Any;

use crate::support::bootstrap;
use crate::support::child::weir;
use crate::support::servers::ControlPlane;
use crate::support::until;

fn messages(resources: &Value) -> Vec<Any> {
    let text = json!({ "resources": resources }).to_string();
    let file = xds_proto::load::resources(&Pool::new(), Path::new("generated.json"), &text);
    let errors = |errors: Vec<_>| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join("\n")
    };
    let file = file.map_err(errors).expect("they are sound");
    file.resources.into_iter().map(|one| one.any).collect()
}

fn typed(kind: &str, mut message: Value) -> Value {
    message["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
    message
}

/// A listener that ends TLS with this context.
fn listener(name: &str, port: &ReservedPort, common: Value) -> Value {
    let context = json!({ "common_tls_context": common });
    let context = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        context,
    );
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    let reply = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200}});
    let host = json!({"name": "all", "domains": ["*"], "routes": [reply]});
    let manager = json!({
        "stat_prefix": name,
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {"virtual_hosts": [host]},
    });
    let kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let message = json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port.number()}},
        "filter_chains": [{
            "filters": [{"name": "http", "typed_config": typed(kind, manager)}],
            "transport_socket": {"name": "tls", "typed_config": context},
        }],
    });
    typed("config.listener.v3.Listener", message)
}

/// `weir proxy` as a child.
struct Run {
    process: Process,
    _directory: TempDir,
}

impl Run {
    fn start(control_plane: &str, state: Option<&Path>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("bootstrap.yaml"), control_plane)
            .expect("a writable directory");
        let mut command: Command = weir();
        command.current_dir(directory.path());
        command.env_remove("WEIR_STATE_DIR");
        if let Some(state) = state {
            command.env("WEIR_STATE_DIR", state);
        }
        command.args(["proxy", "-c", "bootstrap.yaml", "--workers", "1"]);
        let process = Process::start("weir", command, None).expect("it was built");
        Self {
            process,
            _directory: directory,
        }
    }

    /// Waits until it has said this.
    async fn says(&self, what: &str) -> String {
        until(what, async || {
            let said = self.process.whole_output();
            said.contains(what).then_some(said)
        })
        .await
    }

    async fn listens(&mut self, port: &ReservedPort) {
        let listening = self
            .process
            .wait_for_port(port.addr(), crate::support::PATIENCE);
        listening.await.expect("it serves");
    }

    async fn stop(self) {
        self.process.stop().await.expect("it runs");
    }
}

/// A secret, and listeners that name it, have it themselves, or have it in files.
fn resources(ports: &[ReservedPort; 3], (chain, key): (&str, &str), folder: &Path) -> Value {
    let certificate = json!({
        "certificate_chain": {"inline_string": chain},
        "private_key": {"inline_string": key},
    });
    let secret = json!({"name": "own", "tls_certificate": certificate});
    let named = json!({"tls_certificate_sds_secret_configs": [
        {"name": "own", "sds_config": {"ads": {}, "resource_api_version": "V3"}},
    ]});
    let files = json!({"tls_certificates": [{
        "certificate_chain": {"filename": folder.join("server.pem")},
        "private_key": {"filename": folder.join("server.key")},
    }]});
    json!([
        typed("extensions.transport_sockets.tls.v3.Secret", secret),
        listener("named", &ports[0], named),
        listener(
            "inline",
            &ports[1],
            json!({"tls_certificates": [certificate]})
        ),
        listener("files", &ports[2], files),
    ])
}

const KEPT: &str = "last-good";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_not_kept_and_reasons_are_told() {
    let folder = tempfile::tempdir().expect("a directory");
    let certificates = Certificates::new().expect("keys can be made");
    certificates
        .write_to(folder.path())
        .expect("a writable directory");
    let read =
        |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("it was written");
    let (chain, key) = (read("server.pem"), read("server.key"));
    let ports = [(); 3].map(|()| ReservedPort::new().expect("a free port"));
    let all = resources(&ports, (&chain, &key), folder.path());
    let control_plane = ControlPlane::start().await;
    control_plane
        .handle
        .commit("", &messages(&all))
        .expect("valid");
    let text = bootstrap::ads(control_plane.addr, Variant::Delta);
    let state = folder.path().join("state");

    let mut run = Run::start(&text, Some(&state));
    for port in &ports {
        run.listens(port).await;
    }
    let file = state.join(KEPT);
    until("something kept", async || file.exists().then_some(())).await;
    run.says("it holds a private key and is not kept on disk")
        .await;
    run.stop().await;
    let bytes = std::fs::read(&file).expect("it is kept");
    let has = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    let secret = key.lines().nth(1).expect("a key has lines");
    assert!(!has(secret) && !has("PRIVATE KEY"));
    assert!(has("named") && has("files") && !has("inline"));
    control_plane.stop().await;

    // What is kept is served, as far as it can be without what is not.
    let mut run = Run::start(&text, Some(&state));
    run.listens(&ports[2]).await;
    run.says("no control plane answers; serving the configuration kept on disk")
        .await;
    run.stop().await;

    // Without a directory nothing is kept, and nothing is served.
    let run = Run::start(&text, None);
    run.says("control plane").await;
    assert!(!run.process.whole_output().contains("kept"));
    run.stop().await;

    let mut broken = bytes.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    std::fs::write(&file, broken).expect("it can be written");
    let run = Run::start(&text, Some(&state));
    let said = run
        .says("the kept configuration is refused; starting as without it")
        .await;
    assert!(said.contains("corrupt") && said.contains(KEPT), "{said}");
    run.stop().await;
}
