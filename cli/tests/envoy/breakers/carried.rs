//! A breaker of ours in the metadata of a cluster: an Envoy that gets the cluster serves it.

use bench::client;
use bench::origin::Origin;
use bench::origin::Reply;
use bench::peer::Envoy;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;
use serde_json::json;

use crate::follow::Way;
use crate::follow::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::setting::ControlPlane;
use crate::setting::envoy_is_there;
use crate::setting::until;

fn named(kind: &str, mut resource: Value) -> Value {
    resource["@type"] = format!("type.googleapis.com/envoy.config.{kind}").into();
    resource
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_does_not_mind_it() {
    if !envoy_is_there() {
        return;
    }
    let origin = Origin::start("origin").expect("a free port");
    origin.reply(Reply::body("fine"));
    let ports = free_ports(1);
    let mut cluster = cluster("watched", origin.addr().port());
    cluster["metadata"] = json!({"typed_filter_metadata": {"weir.circuit_breaking.v1": {
        "@type": "type.googleapis.com/weir.circuit_breaking.v1.OutcomeBreaker",
        "error_count": 3,
    }}});
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "watched"}}]);
    let listener = json!({
        "name": "main",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": ports[0].number()}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager(&routes, &json!({}))}]}],
    });
    let control_plane = ControlPlane::start().await;
    let resources = [
        named("cluster.v3.Cluster", cluster),
        named("listener.v3.Listener", listener),
    ];
    control_plane.commit("watched", &resources);
    let way = Way {
        seed: 0,
        api_type: "DELTA_GRPC",
        aggregated: true,
    };
    let bootstrap = bootstrap("watched", way, control_plane.address);
    let _envoy = Envoy::start(&bootstrap)
        .await
        .expect("Envoy takes the bootstrap");
    let serves = until(|| async {
        let request = Request::get("/")
            .body(Empty::<Bytes>::new())
            .expect("valid");
        match client::http1(ports[0].addr(), request).await {
            Ok(answer) if answer.text() == "fine" => Ok(()),
            Ok(answer) => Err(answer.text()),
            Err(error) => Err(error.to_string()),
        }
    });
    serves.await.expect("Envoy serves the cluster");
}
