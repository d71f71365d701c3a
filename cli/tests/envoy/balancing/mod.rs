//! Which member takes a request: Envoy and Weir choose alike, and where a hash decides, the same.
//!
//! | file | holds |
//! |---|---|
//! | `bounded` | hashing that spares members with too many requests |
//! | `client` | a connection that is kept, from an address of choice |
//! | `counters` | what balancers count |
//! | `dropped` | requests that the control plane wants dropped |
//! | `first` | one host as long as it can be reached |
//! | `joined` | headers on several lines |
//! | `led` | streams that their PROXY protocol header leads |
//! | `live` | policies of ours on a stock Envoy, and changed while it runs |
//! | `localities` | shares of localities and members |
//! | `policies` | what of a request is hashed |
//! | `reports` | members say how busy they are |
//! | `sessions` | members that requests name |
//! | `slow_start` | a new member takes less at first |
//! | `state` | filter state that is hashed |
//! | `streams` | clients of a TCP proxy |
//! | `subsets` | members that have what a route asks for |
//! | `tables` | rings and tables of every kind, thousands of keys |
//! | `zones` | requests that stay in the zone of the proxy |

mod bounded;
mod client;
mod counters;
mod dropped;
mod first;
mod joined;
mod led;
mod live;
mod localities;
mod policies;
mod reports;
mod sessions;
mod slow_start;
mod state;
mod streams;
mod subsets;
mod tables;
mod zones;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Debug;

use bench::origin::FixedOptions;
use bench::origin::FixedOrigin;
use serde_json::Value;
use serde_json::json;

use crate::identity::typed;

/// The field by which an origin says who it is.
const ORIGIN: &str = "x-origin";

/// Origins; one has 64 % of the weight.
const WEIGHTS: [u32; 7] = [1, 2, 3, 5, 8, 13, 57];

/// One origin for each weight.
fn origins() -> Vec<FixedOrigin> {
    let origin = |place: usize| {
        FixedOrigin::start(&FixedOptions {
            headers: vec![(ORIGIN.to_owned(), place.to_string())],
            ..FixedOptions::default()
        })
    };
    let origins = (0..WEIGHTS.len()).map(|place| origin(place).expect("a free port"));
    origins.collect()
}

/// A member with its weight.
fn member(origin: &FixedOrigin, weight: u32) -> Value {
    let port = origin.addr().port();
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({"endpoint": {"address": address}, "load_balancing_weight": weight})
}

/// All origins with their weights.
fn members(origins: &[FixedOrigin]) -> Value {
    let members = origins.iter().zip(WEIGHTS);
    members
        .map(|(origin, weight)| member(origin, weight))
        .collect()
}

/// A cluster of these localities, with `more`.
fn cluster(name: &str, localities: &Value, more: &Value) -> Value {
    let mut cluster = json!({
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": localities},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        cluster[name] = value.clone();
    }
    cluster
}

/// A cluster's policy in the typed form.
fn typed_policy(package: &str, name: &str, config: Value) -> Value {
    let name = format!("extensions.load_balancing_policies.{package}.v3.{name}");
    let policy = json!({"name": package, "typed_config": typed(&name, config)});
    json!({"load_balancing_policy": {"policies": [{"typed_extension_config": policy}]}})
}

/// A listener of one chain with this filter.
fn listener(port: u16, filter: &Value) -> Value {
    json!({
        "name": port.to_string(),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "filter", "typed_config": filter}]}],
    })
}

/// How often each origin answered.
type Counts = BTreeMap<String, u32>;

/// How different two samples of one size are.
fn chi_square(wanted: &Counts, found: &Counts) -> f64 {
    let who: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let of = |counts: &Counts, who| f64::from(counts.get(who).copied().unwrap_or(0));
    let part = |who| {
        let (wanted, found) = (of(wanted, who), of(found, who));
        (wanted - found).powi(2) / (wanted + found)
    };
    who.into_iter().map(part).sum()
}

/// What of two lists is not the same, by kind: how often, and one example.
fn differences<T: Debug + PartialEq>(
    wanted: &[T],
    found: &[T],
    kind: impl Fn(&T) -> Option<&str>,
) -> String {
    let mut kinds = BTreeMap::<&str, (usize, String)>::new();
    for (wanted, found) in wanted.iter().zip(found) {
        if let Some(kind) = kind(wanted).filter(|_| wanted != found) {
            let example = || (0, format!("{wanted:?}\n    {found:?}"));
            kinds.entry(kind).or_insert_with(example).0 += 1;
        }
    }
    let text = |(kind, (count, example)): (&str, (usize, String))| {
        format!("{kind}, {count} times, such as\n    {example}\n")
    };
    kinds.into_iter().map(text).collect()
}
