//! A stock Envoy is a workload of the mesh: it joins the control plane over mutual TLS, serves with
//! the certificate it gets as `default`, and believes whom `ROOTCA` says, through rotation and
//! revocation.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use bench::peer::Envoy;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::client::Answer;
use crate::client::get;
use crate::support::Place;
use crate::support::is_missing;

pub(crate) const CART: &str = "spiffe://mesh.example/cart";
pub(crate) const EDGE: &str = "spiffe://mesh.example/edge";
pub(crate) const SERVER: &str = "spiffe://mesh.example/control-plane";

/// Longest wait for anything; a busy machine needs a part of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A started control plane, ended with this value.
pub(crate) struct ControlPlane(Child);

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ControlPlane {
    pub(crate) fn start(place: &Place, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["control-plane", "--ca", "ca"]).args(flags);
        if !flags.contains(&"--resources") {
            command.args(["--resources", "resources"]);
        }
        command.current_dir(place.path());
        let command = command.stdin(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

/// What the listener serves with; who gets in is what this secret says.
pub(crate) fn listener(port: u16, trust: &str) -> Value {
    let ads = json!({"resource_api_version": "V3", "ads": {}});
    let typed = |name: &str, more: Value| {
        let mut typed = more;
        typed["@type"] = format!("type.googleapis.com/envoy.{name}").into();
        typed
    };
    let tls = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": ads}],
            "validation_context_sds_secret_config": {"name": trust, "sds_config": ads},
        },
    });
    let tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        tls,
    );
    let answer = json!({"status": 200, "body": {"inline_string": "hello"}});
    let routes = json!([{"match": {"prefix": "/"}, "direct_response": answer}]);
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    let manager = json!({
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": router}],
    });
    let kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let listener = json!({
        "name": "front",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{
            "transport_socket": {"name": "tls", "typed_config": tls},
            "filters": [{"name": "http", "typed_config": typed(kind, manager)}],
        }],
    });
    json!({"resources": [typed("config.listener.v3.Listener", listener)]})
}

/// How Envoy joins the control plane over TLS.
pub(crate) fn tls_of_edge(place: &Place) -> String {
    let file = |name: &str| json!({"filename": place.file(name)});
    let context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificates": [{
                "certificate_chain": file("edge.pem"),
                "private_key": file("edge.key"),
            }],
            "validation_context": {
                "trusted_ca": file("roots.pem"),
                "match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"exact": SERVER}},
                ],
            },
        },
    });
    format!("    transport_socket: {{name: tls, typed_config: {context}}}\n")
}

/// JSON in block style as far as it goes, because a section is added to it behind.
pub(crate) fn bootstrap(api_type: &str, address: &Value, tls: &str) -> String {
    format!(
        "\
node: {{id: edge-1, cluster: edge}}
dynamic_resources:
  ads_config:
    api_type: {api_type}
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: control-plane}}}}]
  lds_config: {{resource_api_version: V3, ads: {{}}}}
static_resources:
  clusters:
  - name: control-plane
    type: STATIC
{tls}    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: control-plane
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {address}}}
"
    )
}

/// Asks until the answer is as wanted.
pub(crate) async fn until(
    front: SocketAddr,
    place: &Place,
    client: Option<&str>,
    wanted: impl Fn(&Result<Answer, String>) -> bool,
) -> Result<Answer, String> {
    let began = Instant::now();
    loop {
        let answer = get(front, place, client);
        if wanted(&answer) || began.elapsed() > PATIENCE {
            assert!(wanted(&answer), "after {PATIENCE:?}: {answer:?}");
            return answer;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn is_hello(answer: &Result<Answer, String>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.body == "hello")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_lives_on_our_secrets_over_sotw_ads() {
    live("GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_lives_on_our_secrets_over_delta_ads() {
    live("DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_is_known_by_its_user_on_a_unix_socket() {
    if is_missing("Envoy", Envoy::locate().is_ok()) {
        return;
    }
    let place = Place::with_authority();
    let front = ReservedPort::new().unwrap();
    place.ok(&format!("ca issue --dir ca {CART} --out cart"));
    std::fs::create_dir(place.file("resources")).unwrap();
    place.write(
        "resources/all.json",
        listener(front.number(), "ROOTCA").to_string(),
    );
    // Left over by somebody who was killed.
    drop(UnixListener::bind(place.file("xds.sock")).unwrap());
    let user = format!("uid:{}={EDGE}", rustix::process::getuid().as_raw());
    let flags = ["--listen", "unix:xds.sock", "--local-user", &user];
    let _control_plane = ControlPlane::start(&place, &flags);
    let pipe = json!({"pipe": {"path": place.file("xds.sock")}});
    let envoy = Envoy::start(&bootstrap("GRPC", &pipe, "")).await.unwrap();
    let answer = until(front.addr(), &place, Some("cart"), is_hello)
        .await
        .unwrap();
    assert_eq!(answer.identity.as_deref(), Some(EDGE));
    drop(envoy);
}

async fn live(api_type: &str) {
    if is_missing("Envoy", Envoy::locate().is_ok()) {
        return;
    }
    let stage = Stage::set(api_type).await;
    let first = stage.until(Some("old"), is_hello).await.unwrap();
    assert_eq!(first.identity.as_deref(), Some(EDGE));
    stage.knows_strangers().await;
    stage.follows_a_root_that_signs_at_once().await;
    stage.follows_revocation(&first).await;
    let stats = stage.envoy.admin().stats().await.unwrap();
    for (name, count) in stats
        .iter()
        .filter(|(name, _)| name.ends_with("update_rejected"))
    {
        assert_eq!(*count, 0, "{name}");
    }
}

/// Envoy at work as `edge`, and a client `old`.
struct Stage {
    place: Place,
    front: ReservedPort,
    envoy: Envoy,
    _control_plane: ControlPlane,
    _xds: ReservedPort,
}

impl Stage {
    async fn set(api_type: &str) -> Self {
        let place = Place::with_authority();
        let [front, xds] = [(); 2].map(|()| ReservedPort::new().unwrap());
        place.ok(&format!("ca issue --dir ca {EDGE} --out edge"));
        place.ok(&format!("ca issue --dir ca {CART} --out old"));
        let bundle = place.json("ca bundle --dir ca");
        place.write("roots.pem", bundle["roots"].as_str().unwrap());
        std::fs::create_dir(place.file("resources")).unwrap();
        place.write(
            "resources/all.json",
            listener(front.number(), "ROOTCA").to_string(),
        );
        let listen = xds.addr().to_string();
        let mut flags = vec!["--listen", &listen, "--tls-identity", SERVER];
        flags.push("--require-client-certificate");
        let control_plane = ControlPlane::start(&place, &flags);
        let socket = json!({"address": "127.0.0.1", "port_value": xds.number()});
        let address = json!({"socket_address": socket});
        let bootstrap = bootstrap(api_type, &address, &tls_of_edge(&place));
        let envoy = Envoy::start(&bootstrap).await.unwrap();
        Self {
            place,
            front,
            envoy,
            _control_plane: control_plane,
            _xds: xds,
        }
    }

    async fn until(
        &self,
        client: Option<&str>,
        wanted: impl Fn(&Result<Answer, String>) -> bool,
    ) -> Result<Answer, String> {
        until(self.front.addr(), &self.place, client, wanted).await
    }

    async fn knows_strangers(&self) {
        let place = &self.place;
        let shown = place.ok(&format!("cert show {} --ca roots.pem", self.front.addr()));
        assert!(
            shown.contains(EDGE) && shown.contains("the chain holds"),
            "{shown}"
        );
        self.until(None, Result::is_err).await.unwrap_err();
        place.ok("ca init --dir evil --trust-domain mesh.example");
        place.ok(&format!("ca issue --dir evil {CART} --out evil"));
        self.until(Some("evil"), Result::is_err).await.unwrap_err();
    }

    /// The hard case, in which nobody was told before.
    async fn follows_a_root_that_signs_at_once(&self) {
        self.place.ok("ca rotate --dir ca root --after 0s");
        self.place
            .ok(&format!("ca issue --dir ca {CART} --out new"));
        self.until(Some("new"), is_hello).await.unwrap();
        self.until(Some("old"), is_hello).await.unwrap();
    }

    async fn follows_revocation(&self, first: &Answer) {
        let place = &self.place;
        let list = place.json("ca list --dir ca");
        let leaves = list["certificates"].as_array().unwrap();
        let old = leaves.iter().find(|leaf| leaf["name"] == CART);
        let old = old.unwrap()["serial"].as_str().unwrap();
        place.ok(&format!("ca revoke --dir ca --serial {old}"));
        self.until(Some("old"), Result::is_err).await.unwrap_err();
        self.until(Some("new"), is_hello).await.unwrap();
        // What Envoy serves with was stolen: it gets another one.
        let mut of_edge = leaves.iter().filter(|leaf| leaf["name"] == EDGE);
        assert!(of_edge.any(|leaf| leaf["serial"] == first.serial.as_str()));
        place.ok(&format!("ca revoke --dir ca --serial {}", first.serial));
        let is_other = |answer: &Result<Answer, String>| {
            let other = answer.as_ref();
            other.is_ok_and(|answer| answer.serial != first.serial)
        };
        self.until(Some("new"), is_other).await.unwrap();
    }
}
