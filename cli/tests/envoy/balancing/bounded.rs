//! Hashing that spares members with too many requests (`hash_balance_factor`), by requests that are held, one
//! after another. Both choose the same members first, and keep to the same bound: whoever has room by it is not
//! passed over, and whoever has none gets nothing. Who is chosen instead is up to each.

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

/// Fewer than members: the others get nothing but what these have no room for.
const KEYS: usize = 3;

/// Clusters with the bounds of their members, in percent, and whether members have weights.
const CLUSTERS: [(&str, u32, bool); 6] = [
    ("ring-100", 100, false),
    ("ring-150", 150, true),
    ("ring-typed", 120, true),
    ("ring-deprecated", 101, true),
    ("table-100", 100, true),
    ("table-typed", 130, false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_requests_go_where_their_hash_says_within_the_same_bound() {
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
    let names = CLUSTERS.map(|(name, ..)| name);
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
    let look = || ask(&origins, &names, target);
    let (wanted, found) = Box::pin(of_both(&bootstrap, &ports, look)).await;
    let mut passed_over = 0;
    for (cluster, (envoys, ours)) in CLUSTERS.iter().zip(wanted.iter().zip(&found)) {
        assert_eq!(envoys.first, ours.first, "{cluster:?}");
        for got in [envoys, ours] {
            passed_over += count_passed_over(*cluster, got);
        }
    }
    assert!(passed_over > REQUESTS, "members were hardly ever full");
}

/// Who got requests of a cluster.
#[derive(Default)]
struct Got {
    /// For each key, while nothing else was on its way.
    first: Vec<usize>,
    /// Held, one after another, the keys in turn.
    held: Vec<usize>,
}

/// Of how many held requests the first choice had no room.
fn count_passed_over((name, factor, is_weighted): (&str, u32, bool), got: &Got) -> usize {
    let weight = |place: usize| u64::from(if is_weighted { WEIGHTS[place] } else { 1 });
    let sum: u64 = (0..WEIGHTS.len()).map(weight).sum();
    let mut in_flight = [0; WEIGHTS.len()];
    let mut passed_over = 0;
    for (number, (chosen, total)) in got.held.iter().zip(1_u64..).enumerate() {
        let slots = (total * u64::from(factor)).div_ceil(100);
        let has_room = |place: usize| {
            let bound = (slots * weight(place)).div_ceil(sum).max(1);
            in_flight[place] <= bound
        };
        let first = got.first[number % KEYS];
        let is_passed_over = *chosen != first;
        assert_eq!(
            is_passed_over,
            !has_room(first),
            "{name}, {number}: {:?}",
            got.held
        );
        assert!(has_room(*chosen), "{name}, {number}: {:?}", got.held);
        passed_over += usize::from(is_passed_over);
        in_flight[*chosen] += 1;
    }
    passed_over
}

/// Who got each request, by cluster.
async fn ask(origins: &[Origin], names: &[&str], target: SocketAddr) -> Vec<Got> {
    let mut all = Vec::new();
    for name in names {
        let mut got = Got::default();
        for number in 0..KEYS {
            let (place, mut client) = ask_one(origins, (name, number), target).await;
            client.answer().await;
            got.first.push(place);
        }
        all.push(got);
    }
    origins.iter().for_each(Origin::pause);
    let mut clients = Vec::new();
    for (name, got) in names.iter().zip(&mut all) {
        for number in 0..REQUESTS {
            let (place, client) = ask_one(origins, (name, number), target).await;
            clients.push(client);
            got.held.push(place);
        }
    }
    origins.iter().for_each(Origin::resume);
    for mut client in clients {
        client.answer().await;
    }
    all
}

/// Who gets the next request, and who waits for its answer.
async fn ask_one(
    origins: &[Origin],
    (name, number): (&str, usize),
    target: SocketAddr,
) -> (usize, Client) {
    let before: Vec<usize> = origins.iter().map(|origin| origin.seen().len()).collect();
    let mut client = Client::connect(target, (Ipv4Addr::LOCALHOST, 0)).await;
    let key = [("x-key", (number % KEYS).to_string())];
    client.ask(&format!("/{name}/{number}"), &key).await;
    let who = || {
        let mut now = origins.iter().zip(&before);
        now.position(|(origin, before)| origin.seen().len() > *before)
    };
    let arrived = until(|| async { who().map(drop).ok_or_else(|| "it is nowhere".to_owned()) });
    arrived.await.expect("the request arrives");
    (who().expect("it arrived"), client)
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
    let all = CLUSTERS.map(|(name, percent, is_weighted)| {
        let members = if is_weighted { &weighted } else { &equal };
        let policy = match name {
            "ring-100" | "ring-150" => legacy("RING_HASH", percent),
            "ring-typed" => ring(common(percent)),
            "ring-deprecated" => ring(factor(percent)),
            "table-100" => legacy("MAGLEV", percent),
            _ => maglev(common(percent)),
        };
        cluster(name, &of(members), &policy)
    });
    all.to_vec()
}
