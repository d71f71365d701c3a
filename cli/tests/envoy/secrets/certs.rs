//! `/certs` of Envoy and Weir on one bootstrap: the same entries in the same shape.

use bench::peer::Envoy;
use bench::ports::ReservedPort;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;
use serde_json::json;

use super::authority::Authority;
use super::authority::trust;
use super::site;
use crate::identity::free_ports;
use crate::identity::open;
use crate::setting::Weir;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// The entries in an order of their own, as neither proxy promises one.
fn sorted(text: &str) -> Vec<String> {
    let certs: Value = serde_json::from_str(text).expect("it is JSON");
    let members: Vec<&String> = certs.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["certificates"]);
    let list = certs["certificates"].as_array().expect("a list");
    let mut entries: Vec<String> = list.iter().map(Value::to_string).collect();
    entries.sort();
    entries
}

async fn of_weir(admin: &ReservedPort, path: &str) -> Result<String, String> {
    let request = Request::get(path)
        .body(Empty::<Bytes>::new())
        .expect("a path");
    let answer = bench::client::http1(admin.addr(), request).await;
    answer
        .map(|answer| answer.text())
        .map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certs_are_shown_alike() {
    if !envoy_is_there() {
        return;
    }
    let root = Authority::new("root");
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let of_file = root.issue("file");
    std::fs::write(path("a.pem"), &of_file.chain).expect("a file");
    std::fs::write(path("a.key"), &of_file.key).expect("a file");
    std::fs::write(path("ca.pem"), root.pem()).expect("a file");
    let mut ports = free_ports(3);
    let admin = ports.pop().expect("there are three");
    let by_name = site::downstream(json!({"name": "leaf"}), Some(json!({"name": "roots"})));
    let mut by_file = site::downstream(json!({"name": "leaf"}), None);
    by_file["typed_config"]["common_tls_context"] = json!({
        "tls_certificates": [{
            "certificate_chain": {"filename": path("a.pem")},
            "private_key": {"filename": path("a.key")},
        }],
        "validation_context": {"trusted_ca": {"filename": path("ca.pem")}},
    });
    let untyped = |mut resource: Value| {
        resource
            .as_object_mut()
            .map(|members| members.remove("@type"));
        resource
    };
    let listeners = [
        untyped(site::answering("a", ports[0].number(), &by_name)),
        untyped(site::answering("b", ports[1].number(), &by_file)),
    ];
    let upstream = site::upstream(json!({"name": "leaf"}), json!({"name": "roots"}));
    let clusters = [untyped(site::cluster("c", 1, Some(&upstream)))];
    let secrets = [
        untyped(root.issue("leaf").secret("leaf")),
        untyped(trust("roots", &[&root])),
    ];
    let statics = json!({"listeners": listeners, "clusters": clusters, "secrets": secrets});
    let bootstrap = format!("static_resources: {statics}\n");
    let envoy = Envoy::start(&bootstrap)
        .await
        .expect("Envoy takes the bootstrap");
    let (status, wanted) = envoy.admin().get("/certs").await.expect("an answer");
    assert_eq!(status, 200);
    drop(envoy);
    let address = json!({"address": {"socket_address": {
        "address": "127.0.0.1", "port_value": admin.number()}}});
    let weir = Weir::start(&format!("admin: {address}\n{bootstrap}")).await;
    open(&ports).await;
    let found = of_weir(&admin, "/certs").await.expect("an answer");
    assert_eq!(sorted(&found), sorted(&wanted));
    assert_eq!(sorted(&found).len(), 3);
    let counted = until(|| async {
        let stats = of_weir(&admin, "/stats?filter=ssl.certificate").await?;
        let names =
            ["leaf", "roots"].map(|name| format!("ssl.certificate.{name}.seconds_to_expiration: "));
        let is_counted = names.iter().all(|name| stats.contains(name));
        is_counted.then_some(()).ok_or(stats)
    });
    counted.await.expect("how long they last is counted");
    let dump = of_weir(&admin, "/config_dump").await.expect("an answer");
    assert!(
        dump.contains("static_secrets") && !dump.contains("PRIVATE KEY"),
        "{dump}"
    );
    weir.stop().await;
}
