//! Sets, their log and the checks.

use xds_proto::pb::google::protobuf::Any;

use super::*;

fn resource(name: &str, body: &str) -> Arc<Resource> {
    let any = Any {
        type_url: "t".to_owned(),
        value: body.as_bytes().to_vec(),
    };
    Arc::new(Resource::named(&any, name).unwrap())
}

fn snapshots(sets: &[&[(&str, &str)]]) -> Vec<Snapshot> {
    let mut current = Snapshot::empty(Arc::from(""), 1);
    let mut all = vec![current.clone()];
    for (epoch, set) in (1..).zip(sets) {
        let resources: Vec<_> = set
            .iter()
            .map(|(name, body)| resource(name, body))
            .collect();
        current = current.next(&resources, epoch).unwrap();
        all.push(current.clone());
    }
    all
}

fn changed(new: &Snapshot, old: &Snapshot) -> Vec<String> {
    let none = Arc::new(TypeSet::default());
    let set = |s: &Snapshot| Arc::clone(s.set("t").unwrap_or(&none));
    set(new)
        .changed_since(&set(old))
        .iter()
        .map(|name| (**name).to_owned())
        .collect()
}

#[test]
fn the_log_tells_additions_changes_and_removals() {
    let s = snapshots(&[
        &[("a", "1"), ("b", "1")],
        &[("a", "2"), ("b", "1")],
        &[("b", "1"), ("c", "1")],
    ]);
    assert_eq!(changed(&s[1], &s[0]), ["a", "b"]);
    assert_eq!(changed(&s[2], &s[1]), ["a"]);
    assert_eq!(changed(&s[3], &s[2]), ["a", "c"]);
    assert_eq!(changed(&s[3], &s[1]), ["a", "c"]);
    assert_eq!(changed(&s[3], &s[3]), Vec::<String>::new());
}

#[test]
fn a_change_taken_back_is_no_change() {
    let s = snapshots(&[&[("a", "1")], &[("a", "2")], &[("a", "1")]]);
    assert_eq!(changed(&s[3], &s[1]), Vec::<String>::new());
}

#[test]
fn an_unchanged_set_is_shared() {
    let s = snapshots(&[&[("a", "1")], &[("a", "1")]]);
    assert!(Arc::ptr_eq(s[1].set("t").unwrap(), s[2].set("t").unwrap()));
    assert_eq!(s[2].epoch(), 1);
}

#[test]
fn a_client_beyond_the_log_still_learns_everything() {
    let mut current = Snapshot::empty(Arc::from(""), 1)
        .next(&[resource("keep", "1")], 1)
        .unwrap();
    let old = current.clone();
    for epoch in 2..(CHANGE_LOG_MAX as u64 + 10) {
        let set = [
            resource("keep", "1"),
            resource("moving", &epoch.to_string()),
        ];
        current = current.next(&set, epoch).unwrap();
    }
    let set = current.set("t").unwrap();
    assert!(set.log.len() <= CHANGE_LOG_MAX && set.log_floor > 1);
    assert_eq!(changed(&current, &old), ["moving"]);
}

#[test]
fn a_name_written_twice_is_an_error() {
    let empty = Snapshot::empty(Arc::from("edge"), 1);
    let any = Any {
        type_url: "t".to_owned(),
        value: vec![1],
    };
    let at = |origin| Arc::new(Resource::named(&any, "a").unwrap().with_origin(origin));
    let error = empty
        .next(&[at("x.yaml:1"), at("y.yaml:9")], 1)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "t \"a\" is defined twice for group \"edge\": x.yaml:1 and y.yaml:9"
    );
}

#[test]
fn dangling_references_are_named() {
    use prost::Message;
    use xds_proto::pb::envoy::config::cluster::v3::Cluster;
    use xds_proto::pb::envoy::config::cluster::v3::cluster::ClusterDiscoveryType;

    use crate::types;

    let cluster = Cluster {
        name: "web".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(3)),
        ..Default::default()
    };
    let any = Any {
        type_url: types::CLUSTER.to_owned(),
        value: cluster.encode_to_vec(),
    };
    let resource = Arc::new(Resource::new(&any).unwrap().with_origin("a.yaml:3"));
    let snapshot = Snapshot::empty(Arc::from(""), 1)
        .next(&[resource], 1)
        .unwrap();
    let found: Vec<_> = snapshot
        .dangling()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        ["a.yaml:3: Cluster \"web\" names ClusterLoadAssignment \"web\", which is missing"]
    );
}
