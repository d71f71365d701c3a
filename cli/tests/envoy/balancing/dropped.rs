//! Requests that the control plane wants dropped (`drop_overloads`): the same answers, and as many.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bench::origin::FixedOrigin;
use bench::peer::Admin;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;

use super::client::Client;
use super::cluster;
use super::listener;
use super::member;
use super::origins;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::identity::typed;
use crate::setting::Weir;
use crate::setting::envoy_is_there;

/// Requests to each cluster.
const REQUESTS: u32 = 400;

/// Shares may differ by so much: four times what chance does to a share of a half.
const TOLERANCE: f64 = 0.14;

/// What is told of an answer: everything but its date.
type Told = Vec<String>;

#[expect(clippy::too_many_lines, reason = "one bootstrap and one look at both")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_dropped_alike() {
    if !envoy_is_there() {
        return;
    }
    let origins = origins();
    let localities = json!([{"lb_endpoints": [member(&origins[0], 1)]}]);
    let dropping = |name: &str, numerator: u32, denominator: &str| {
        let part = json!({"numerator": numerator, "denominator": denominator});
        let drop = json!([{"category": "c", "drop_percentage": part}]);
        let mut cluster = cluster(name, &localities, &json!({}));
        cluster["load_assignment"]["policy"] = json!({ "drop_overloads": drop });
        cluster
    };
    let clusters = [
        dropping("all", 100, "HUNDRED"),
        dropping("half", 5_000, "TEN_THOUSAND"),
        dropping("few", 30_000, "MILLION"),
        dropping("none", 0, "HUNDRED"),
    ];
    let names = ["all", "half", "few", "none"];
    let route = |name: &&str| {
        let told = json!([
            {"header": {"key": "x-flags", "value": "%RESPONSE_FLAGS%"}},
            {"header": {"key": "x-details", "value": "%RESPONSE_CODE_DETAILS%"}},
        ]);
        json!({
            "match": {"prefix": format!("/{name}")}, "route": {"cluster": name},
            "response_headers_to_add": told,
        })
    };
    let routes: Value = names.iter().map(route).collect();
    let quiet = typed(
        "extensions.filters.http.router.v3.Router",
        json!({"suppress_envoy_headers": true}),
    );
    let quiet = json!({"http_filters": [{"name": "router", "typed_config": quiet}]});
    let stream = json!({"stat_prefix": "tcp", "cluster": "all"});
    let stream = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", stream);
    let ports = free_ports(3);
    let filters = [
        manager(&routes, &json!({})),
        manager(&routes, &quiet),
        stream,
    ];
    let listeners = ports.iter().zip(&filters);
    let listeners: Vec<Value> = listeners
        .map(|(port, filter)| listener(port.number(), filter))
        .collect();
    let bootstrap = bootstrap(&listeners, &clusters);
    let look = || async {
        let mut seen = Vec::new();
        let mut shares = BTreeMap::new();
        for port in &ports[..2] {
            let mut client = Client::connect(port.addr(), (Ipv4Addr::LOCALHOST, 0)).await;
            for name in names {
                let mut kinds = BTreeMap::<Told, u32>::new();
                for _ in 0..REQUESTS {
                    let head = client.get(&format!("/{name}"), &[]).await;
                    *kinds.entry(head.told()).or_default() += 1;
                }
                let dropped = |(told, count): (&Told, &u32)| {
                    let is = told.iter().any(|line| line.contains("503"));
                    is.then_some(*count)
                };
                let dropped: u32 = kinds.iter().filter_map(dropped).sum();
                shares.insert((port.number(), name), f64::from(dropped));
                seen.push((name, kinds.into_keys().collect::<Vec<_>>()));
            }
            let grpc = [("content-type", "application/grpc".to_owned())];
            seen.push(("grpc", vec![client.get("/all", &grpc).await.told()]));
        }
        // Streams are not requests.
        let mut client = Client::connect(ports[2].addr(), (Ipv4Addr::LOCALHOST, 0)).await;
        let told = vec![client.get("/all", &[]).await.told()];
        seen.push(("stream", told));
        (seen, shares)
    };
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    assert_eq!(wanted.0, found.0);
    for (which, share) in &wanted.1 {
        let difference = (share - found.1[which]).abs() / f64::from(REQUESTS);
        assert!(
            difference < TOLERANCE,
            "{which:?}: {:?} {:?}",
            wanted.1,
            found.1
        );
    }
    Box::pin(categories_are_counted(&origins, &ports[0])).await;
    let at = |name| wanted.1[&(ports[0].number(), name)];
    assert!(at("half") > 120.0 && at("few") > 0.0 && at("none") < 1.0);
}

/// Envoy takes one category and tells it in load reports only; here there may be several, and each is counted.
async fn categories_are_counted(origins: &[FixedOrigin], port: &ReservedPort) {
    let drop = |category: &str, numerator: u32| json!({"category": category, "drop_percentage": {"numerator": numerator}});
    let localities = json!([{"lb_endpoints": [member(&origins[0], 1)]}]);
    let mut cluster = cluster("several", &localities, &json!({}));
    let drops = json!([drop("lottery", 50), drop("rest", 100)]);
    cluster["load_assignment"]["policy"] = json!({ "drop_overloads": drops });
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "several"}}]);
    let listener = listener(port.number(), &manager(&routes, &json!({})));
    let admin = json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
    let bootstrap = bootstrap(&[listener], &[cluster]);
    let weir = Weir::start(&format!("{bootstrap}admin: {admin}\n")).await;
    let mut client = Client::connect(port.addr(), (Ipv4Addr::LOCALHOST, 0)).await;
    for _ in 0..REQUESTS {
        client.get("/", &[]).await;
    }
    let admin = Admin::new(weir.live().admin_address().expect("it was asked for"));
    let (_, text) = admin.get("/stats/prometheus").await.expect("it answers");
    let counted = |category: &str| -> u32 {
        let name = format!(
            "weir_cluster_rq_drop_overload{{envoy_cluster_name=\"several\",category=\"{category}\"}} "
        );
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(&name));
        let value = lines.next().expect("a counter for each category");
        value.parse().expect("a number")
    };
    let (lottery, rest) = (counted("lottery"), counted("rest"));
    assert_eq!(lottery + rest, REQUESTS);
    assert!(lottery > 120 && rest > 120, "{lottery} {rest}");
    let (_, lines) = admin.get("/clusters").await.expect("it answers");
    assert!(
        lines.contains(&format!("several::drop_overload::rest::{rest}\n")),
        "{lines}"
    );
    let (_, json) = admin
        .get("/clusters?format=json")
        .await
        .expect("it answers");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let told = &json["cluster_statuses"][0]["weir_dropped"];
    let found = told.as_array().into_iter().flatten();
    let mut found = found.filter(|one| one["category"] == "lottery");
    assert_eq!(
        found.next().map(|one| &one["requests"]),
        Some(&json!(lottery))
    );
    weir.stop().await;
}
