//! A mistake in a resource is told with its place, the rest applies, and what was good before keeps
//! serving.

use std::fmt::Write;
use std::process::Output;

use control_plane::subscription::Variant;
use control_plane::types;
use xds_proto::any::pack;
use xds_proto::any::unpack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_proto::pb::envoy::config::route::v3::RouteConfiguration;
use xds_proto::pb::envoy::config::route::v3::route::Action;
use xds_proto::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use xds_proto::pb::envoy::config::route::v3::route_match::PathSpecifier;
use xds_proto::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use xds_proto::pb::envoy::r#type::matcher::v3::RegexMatcher;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::google::protobuf::Duration;
use xds_proto::pb::google::protobuf::UInt32Value;

use crate::support::child::weir;
use crate::support::hostile::Hostile;
use crate::support::resources;
use crate::support::servers::ControlPlane;
use crate::support::servers::Proxy;
use crate::support::traffic::Traffic;
use crate::support::until;
use crate::support::world::World;

/// A mistake made in a valid set, its type, and what the refusal says.
type Mistake = (
    &'static str,
    &'static str,
    fn(&mut Vec<Any>),
    &'static [&'static str],
);

const MISTAKES: [Mistake; 8] = [
    (
        "a domain twice",
        types::ROUTE,
        |set| {
            change_table(set, |table| {
                let host = table.virtual_hosts[0].clone();
                table
                    .virtual_hosts
                    .push(xds_proto::pb::envoy::config::route::v3::VirtualHost {
                        name: "other".to_owned(),
                        ..host
                    });
            });
        },
        &["main", "virtual_hosts[1]", "*"],
    ),
    (
        "a virtual host twice",
        types::ROUTE,
        |set| {
            change_table(set, |table| {
                let mut host = table.virtual_hosts[0].clone();
                host.domains = vec!["other.example".to_owned()];
                table.virtual_hosts.push(host);
            });
        },
        &["main", "virtual_hosts", "\"all\" is used twice"],
    ),
    (
        "a bad regex",
        types::ROUTE,
        |set| {
            change_table(set, |table| {
                let rule = table.virtual_hosts[0].routes[0]
                    .r#match
                    .as_mut()
                    .expect("a match");
                let regex = RegexMatcher {
                    regex: "a(b".to_owned(),
                    ..Default::default()
                };
                rule.path_specifier = Some(PathSpecifier::SafeRegex(regex));
            });
        },
        &["main", "virtual_hosts[0].routes[0].match.safe_regex"],
    ),
    (
        "weights without a sum",
        types::ROUTE,
        |set| {
            change_table(set, |table| {
                let Some(Action::Route(action)) = &mut table.virtual_hosts[0].routes[0].action
                else {
                    return;
                };
                let zero = ClusterWeight {
                    name: "nowhere".to_owned(),
                    weight: Some(UInt32Value { value: 0 }),
                    ..Default::default()
                };
                let weights = xds_proto::pb::envoy::config::route::v3::WeightedCluster {
                    clusters: vec![zero],
                    ..Default::default()
                };
                action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(weights));
            });
        },
        &["main", "virtual_hosts[0].routes[0].route.weighted_clusters"],
    ),
    (
        "a negative timeout",
        types::CLUSTER,
        |set| {
            change(set, |cluster: &mut Cluster| {
                cluster.connect_timeout = Some(Duration {
                    seconds: -1,
                    nanos: 0,
                });
            });
        },
        &["connect_timeout"],
    ),
    (
        "a protocol that is none",
        types::CLUSTER,
        |set| {
            set.push(Any {
        type_url: types::CLUSTER.to_owned(),
        value: pack(&Cluster {
            name: "strange".to_owned(),
            cluster_discovery_type: Some(
                xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType::Type(99),
            ),
            ..Default::default()
        }).value,
    });
        },
        &["strange", "type"],
    ),
    (
        "port 0",
        types::ENDPOINT,
        |set| {
            change(set, |assignment: &mut ClusterLoadAssignment| {
                let any_port = [(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), 1)];
                *assignment = resources::assignment(&assignment.cluster_name, &any_port);
            });
        },
        &["endpoints[0].lb_endpoints[0]", "port_value"],
    ),
    (
        "port 0 to listen on",
        types::LISTENER,
        |set| {
            let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
            set.push(resources::listener("strange", addr, "main", "strange"));
        },
        &["strange", "address", "port_value"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_delta_names_the_field_and_traffic_goes_on() {
    Box::pin(refusals(Variant::Delta)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_sotw_names_the_field_and_traffic_goes_on() {
    Box::pin(refusals(Variant::Sotw)).await;
}

async fn refusals(variant: Variant) {
    let mut world = World::new(41, false);
    for _ in 0..3 {
        world.step();
    }
    let control_plane = ControlPlane::start().await;
    let commit = |set: &[Any]| {
        control_plane
            .handle
            .commit("", set)
            .expect("it can be served")
    };
    commit(&world.resources());
    let proxy = Proxy::by_ads(control_plane.addr, variant).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    for (what, kind, mistake, told) in MISTAKES {
        let mut set = world.resources();
        mistake(&mut set);
        commit(&set);
        let refusal = until(what, async || {
            let clients = control_plane.handle.clients();
            let report = clients
                .first()?
                .types
                .iter()
                .find(|report| &*report.type_url == kind)?;
            let message = &report.report.refusal.as_ref()?.message;
            // Until it arrives the report still shows the refusal before.
            told.iter()
                .all(|part| message.contains(part))
                .then(|| message.clone())
        })
        .await;
        for part in told {
            assert!(
                refusal.contains(part),
                "{what}: {part:?} is missing in {refusal:?}"
            );
        }
        // The mistake away, something else changed: as if nothing had been.
        let generation = world.mark();
        commit(&world.resources());
        traffic.sees(generation).await;
    }
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, &tally.told), (0, &Vec::new()));
    proxy.stop().await;
    control_plane.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_good_resources_of_a_refused_response_apply() {
    let mut world = World::new(42, false);
    let hostile = Hostile::start(42).await;
    hostile.publish(&world.resources()).await;
    let proxy = Proxy::by_ads(hostile.addr, Variant::Sotw).await;
    proxy.listens("main").await;
    let mut traffic = Traffic::start(world.addr(), world.paths());
    for _ in 0..10 {
        world.step();
        let generation = world.mark();
        let mut set = world.resources();
        // Sent again and again although it is refused each time.
        set.push(pack(&Cluster {
            name: "strange".to_owned(),
            connect_timeout: Some(Duration {
                seconds: -1,
                nanos: 0,
            }),
            ..Default::default()
        }));
        hostile.publish(&set).await;
        traffic.sees(generation).await;
    }
    let refusals = hostile.refusals();
    let is_told = |text: &String| text.contains("strange") && text.contains("connect_timeout");
    assert!(
        (1..=20).contains(&refusals.len()) && refusals.iter().all(is_told),
        "{refusals:?}"
    );
    let tally = traffic.stop().await;
    assert_eq!((tally.failed, &tally.told), (0, &Vec::new()));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_served_is_refused_whole_and_what_is_missing_is_told() {
    let world = World::new(43, false);
    let control_plane = ControlPlane::start().await;
    let good = world.resources();
    control_plane.handle.commit("", &good).expect("valid");
    let mut twice = good.clone();
    twice.push(good[0].clone());
    let error = control_plane
        .handle
        .commit("", &twice)
        .expect_err("one name twice")
        .to_string();
    assert!(error.contains("defined twice"), "{error}");
    let served: usize = control_plane
        .handle
        .store()
        .snapshots()
        .iter()
        .flat_map(|snapshot| {
            snapshot
                .types()
                .map(|(_, set)| set.len())
                .collect::<Vec<_>>()
        })
        .sum();
    assert_eq!(served, good.len());
    let mut dangling = good;
    change_table(&mut dangling, |table| {
        let Some(Action::Route(action)) = &mut table.virtual_hosts[0].routes[0].action else {
            return;
        };
        action.cluster_specifier = Some(ClusterSpecifier::Cluster("nowhere".to_owned()));
    });
    let committed = control_plane
        .handle
        .commit("", &dangling)
        .expect("it may come later");
    let told: String = committed.dangling.iter().map(ToString::to_string).collect();
    assert!(told.contains("nowhere") && told.contains("main"), "{told}");
    control_plane.stop().await;
}

/// A file with one mistake: what is wrong, the file, and what the message says besides its path.
const FILES: [(&str, &str, &[&str]); 9] = [
    (
        "an unknown field",
        "resources:\n- '@type': {C}\n  name: a\n  conect_timeout: 1s\n",
        &[":4:3", "conect_timeout", "connect_timeout"],
    ),
    (
        "a wrong type",
        "resources:\n- '@type': {C}\n  name: [a]\n",
        &[":3:9", "name"],
    ),
    (
        "a wrong duration",
        "resources:\n- '@type': {C}\n  name: a\n  connect_timeout: soon\n",
        &[":4:20", "connect_timeout"],
    ),
    (
        "an unknown enum value",
        "resources:\n- '@type': {C}\n  name: a\n  type: STATICK\n",
        &[":4:9", "type", "STATIC"],
    ),
    (
        "an unknown type",
        "resources:\n- '@type': type.googleapis.com/envoy.config.cluster.v3.Custer\n  name: a\n",
        &[":2:", "Custer"],
    ),
    (
        "broken YAML",
        "resources:\n- '@type': {C}\n  name: 'a\n",
        &[":"],
    ),
    (
        "port 0",
        "resources:\n- '@type': {E}\n  cluster_name: a\n  endpoints:\n  - lb_endpoints:\n    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n",
        &["port_value", "endpoints[0].lb_endpoints[0]"],
    ),
    (
        "a bad regex",
        "resources:\n- '@type': {R}\n  name: a\n  virtual_hosts:\n  - name: a\n    domains: ['*']\n    routes:\n    - match: {safe_regex: {regex: 'a(b'}}\n      route: {cluster: a}\n",
        &["safe_regex", "virtual_hosts[0].routes[0].match"],
    ),
    (
        "a name twice",
        "resources:\n- '@type': {E}\n  cluster_name: a\n- '@type': {E}\n  cluster_name: a\n",
        &[":4:3", "resources[1]", "a second", "named `a`"],
    ),
];

#[tokio::test]
async fn a_mistake_in_a_file_is_told_with_line_column_and_field() {
    let directory = tempfile::tempdir().expect("a directory");
    for (at, (what, text, told)) in FILES.into_iter().enumerate() {
        let file = directory.path().join(format!("{at}.yaml"));
        let text = text
            .replace("{C}", types::CLUSTER)
            .replace("{E}", types::ENDPOINT)
            .replace("{R}", types::ROUTE);
        std::fs::write(&file, text).expect("a writable directory");
        let output = weir().arg("check").arg(&file).output().expect("it runs");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        let place = file.display().to_string();
        for part in [&*place].iter().chain(told) {
            assert!(said.contains(part), "{what}: {part:?} is missing in {said}");
        }
    }
}

/// A bootstrap with a mistake does not start, and says where.
#[tokio::test]
async fn a_mistake_in_a_bootstrap_is_told_and_nothing_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bootstrap.yaml");
    std::fs::write(&file, "node: {id: a}\nstatic_resource: {}\n").expect("a writable directory");
    let output = weir()
        .arg("proxy")
        .arg("-c")
        .arg(&file)
        .output()
        .expect("it runs");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("bootstrap.yaml:2:1") && said.contains("static_resources"),
        "{said}"
    );
}

fn said(output: &Output) -> String {
    let mut all = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = write!(all, "{}", String::from_utf8_lossy(&output.stderr)); // a string takes everything
    all
}

/// Changes the first resource of its type.
fn change<M: prost::Message + prost::Name + Default>(set: &mut [Any], edit: impl FnOnce(&mut M)) {
    let found = set.iter_mut().find(|any| any.type_url == M::type_url());
    let any = found.expect("the set has one");
    let mut message: M = unpack(any).expect("it was packed by the same type");
    edit(&mut message);
    *any = pack(&message);
}

fn change_table(set: &mut [Any], edit: impl FnOnce(&mut RouteConfiguration)) {
    change(set, edit);
}
