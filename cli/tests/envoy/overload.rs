//! What is refused because of overload: Envoy and Weir on the same bootstrap, which gives both less
//! memory than they have.

use bench::client;
use bench::origin::Origin;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use serde_json::json;

use crate::identity::bootstrap;
use crate::identity::cluster;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::envoy_is_there;
use crate::setting::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_refused_alike() {
    if !envoy_is_there() {
        return;
    }
    let origin = Origin::start("origin").expect("a free port");
    let ports = free_ports(2);
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]);
    let listener = |port: u16, is_apart: bool| {
        json!({
            "name": port.to_string(),
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "bypass_overload_manager": is_apart,
            "filter_chains": [{"filters": [{
                "name": "http", "typed_config": manager(&routes, &json!({})),
            }]}],
        })
    };
    let listeners = [(&ports[0], false), (&ports[1], true)];
    let listeners = listeners.map(|(port, is_apart)| listener(port.number(), is_apart));
    let heap = typed(
        "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        json!({"max_heap_size_bytes": 1024}),
    );
    let trigger = |level| json!([{"name": "heap", "threshold": {"value": level}}]);
    let overload = json!({
        "refresh_interval": "0.05s",
        "resource_monitors": [{"name": "heap", "typed_config": heap}],
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": trigger(0.5)},
            {"name": "envoy.overload_actions.disable_http_keepalive", "triggers": trigger(0.6)},
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": trigger(0.7)},
        ],
    });
    let statics = bootstrap(&listeners, &[cluster("c", origin.addr().port())]);
    let text = format!("{statics}overload_manager: {overload}\n");
    let [busy, apart] = [0, 1].map(|place: usize| ports[place].addr());
    let ask = async |address| {
        let request = Request::get("/")
            .body(Empty::<Bytes>::new())
            .expect("valid");
        let answer = client::http1(address, request).await.expect("an answer");
        let is_last = answer
            .headers
            .get("connection")
            .is_some_and(|value| value == "close");
        (answer.status.as_u16(), is_last)
    };
    let look = || async {
        // The first look of either may come after its first request.
        let refused = until(|| async {
            let answer = ask(busy).await;
            (answer.0 == 503)
                .then_some(())
                .ok_or_else(|| format!("{answer:?}"))
        });
        refused.await.expect("it is refused");
        (ask(busy).await, ask(apart).await)
    };
    let (envoy, weir) = Box::pin(of_both(&text, &ports, look)).await;
    assert_eq!(envoy, weir);
    assert_eq!(weir, ((503, true), (200, false)));
}
