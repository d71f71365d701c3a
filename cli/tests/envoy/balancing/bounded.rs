//! Hashing that spares members with too many requests (`hash_balance_factor`): requests that are
//! held, one after another, go to the same members.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use bench::origin::Origin;
use bench::origin::Reply;
use serde_json::Value;
use serde_json::json;

use super::client::Client;
use super::cluster;
use super::listener;
use super::typed_policy;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::of_both;
use crate::setting::envoy_is_there;
use crate::setting::until;

/// Requests held in each cluster.
const REQUESTS: usize = 60;

/// Weights of the members.
const WEIGHTS: [u32; 5] = [1, 2, 3, 4, 10];

/// More than members: one key alone would fill one member first.
const KEYS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_requests_go_to_the_same_members() {
    if !envoy_is_there() {
        return;
    }
    let origins: Vec<Origin> = (0..WEIGHTS.len())
        .map(|place| Origin::start(&place.to_string()).expect("a free port"))
        .collect();
    for origin in &origins {
        origin.reply(Reply::body("hello"));
    }
    let clusters = clusters(&origins);
    let names = clusters.iter().map(|cluster| cluster["name"].as_str());
    let names: Vec<&str> = names.flatten().collect();
    let routes: Value = names
        .iter()
        .map(|name| {
            let policy = json!([{"header": {"header_name": "x-key"}}]);
            json!({
                "match": {"prefix": format!("/{name}")},
                "route": {"cluster": name, "hash_policy": policy, "timeout": "0s"},
            })
        })
        .collect();
    let ports = free_ports(1);
    let listener = listener(ports[0].number(), &manager(&routes, &json!({})));
    let bootstrap = bootstrap(&[listener], &clusters);
    let target = ports[0].addr();
    let look = || held(&origins, &names, target);
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    let mut spread = 0;
    for (name, (wanted, found)) in names.iter().zip(wanted.iter().zip(&found)) {
        assert_eq!(wanted, found, "{name}");
        // Without a bound there would be no more of them than keys.
        let members: BTreeSet<&usize> = wanted.iter().collect();
        spread += usize::from(members.len() > KEYS);
    }
    assert!(spread > 2, "members were hardly ever full: {wanted:?}");
}

/// Who got each request, by cluster.
async fn held(origins: &[Origin], names: &[&str], target: SocketAddr) -> Vec<Vec<usize>> {
    origins.iter().for_each(Origin::pause);
    let mut clients = Vec::new();
    let mut all = Vec::new();
    for name in names {
        let mut got = Vec::new();
        for number in 0..REQUESTS {
            let before: Vec<usize> = origins.iter().map(|origin| origin.seen().len()).collect();
            let mut client = Client::connect(target, (Ipv4Addr::LOCALHOST, 0)).await;
            let key = [("x-key", (number % KEYS).to_string())];
            client.ask(&format!("/{name}/{number}"), &key).await;
            clients.push(client);
            let who = || {
                let mut now = origins.iter().zip(&before);
                now.position(|(origin, before)| origin.seen().len() > *before)
            };
            let arrived =
                until(|| async { who().map(drop).ok_or_else(|| "it is nowhere".to_owned()) });
            arrived.await.expect("the request arrives");
            got.extend(who());
        }
        all.push(got);
    }
    origins.iter().for_each(Origin::resume);
    for mut client in clients {
        client.answer().await;
    }
    all
}

fn clusters(origins: &[Origin]) -> Vec<Value> {
    let member = |(origin, weight): (&Origin, u32)| {
        let port = origin.addr().port();
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        json!({"endpoint": {"address": address}, "load_balancing_weight": weight})
    };
    let weighted: Value = origins.iter().zip(WEIGHTS).map(member).collect();
    let equal: Value = origins.iter().map(|origin| member((origin, 1))).collect();
    let of = |members: &Value| json!([{"lb_endpoints": members}]);
    let factor = |factor: u32| json!({"hash_balance_factor": factor});
    let common = |percent: u32| json!({"consistent_hashing_lb_config": factor(percent)});
    let legacy =
        |policy: &str, percent| json!({"lb_policy": policy, "common_lb_config": common(percent)});
    let ring = |config| typed_policy("ring_hash", "RingHash", config);
    let maglev = |config| typed_policy("maglev", "Maglev", config);
    vec![
        cluster("ring-100", &of(&equal), &legacy("RING_HASH", 100)),
        cluster("ring-150", &of(&weighted), &legacy("RING_HASH", 150)),
        cluster("ring-typed", &of(&weighted), &ring(common(120))),
        cluster("ring-deprecated", &of(&weighted), &ring(factor(101))),
        cluster("table-100", &of(&weighted), &legacy("MAGLEV", 100)),
        cluster("table-typed", &of(&equal), &maglev(common(130))),
    ]
}
