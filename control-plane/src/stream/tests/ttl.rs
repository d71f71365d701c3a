//! Expiry and heartbeats.

use super::*;

fn script(variant: Variant, features: &[&str]) -> Script {
    let mut script = Script::new(variant);
    let expiring = resource(ENDPOINT, "a", "1").with_ttl(Duration::from_secs(10));
    script.change(vec![expiring, resource(ENDPOINT, "b", "1")], &[]);
    let node = wire::Node {
        client_features: owned(features),
        ..node()
    };
    script.session.handle_node(Some(&node)).unwrap();
    match variant {
        Variant::Delta => script.ask(ENDPOINT, &["a", "b"], &[]),
        Variant::Sotw => script.want(ENDPOINT, &["a", "b"], ""),
    }
    script
}

const TTL: &str = "xds.config.supports-resource-ttl";

#[test]
fn s82_expiry_needs_the_features() {
    for (variant, features, expected) in [
        (Variant::Delta, vec![], false),
        (Variant::Delta, vec![TTL], true),
        (Variant::Sotw, vec![TTL], false),
        (Variant::Sotw, vec!["xds.config.resource-in-sotw"], false),
        // S-34: three spellings.
        (
            Variant::Sotw,
            vec![TTL, "xds.config.supports-resource-in-sotw"],
            true,
        ),
        (
            Variant::Sotw,
            vec![TTL, "xds.config.resource-in-sotw"],
            true,
        ),
        (
            Variant::Sotw,
            vec![TTL, "envoy.config.resource-in-sotw"],
            true,
        ),
    ] {
        let mut script = script(variant, &features);
        let batch = script.batch().unwrap();
        let with_ttl = batch.items.iter().map(|i| i.has_ttl).collect::<Vec<_>>();
        assert_eq!(with_ttl, [expected, false], "{features:?}");
        assert_eq!(script.session.deadline(script.now).is_some(), expected);
    }
}

#[test]
fn b81_heartbeats_renew_without_a_body_and_with_the_last_version() {
    let mut script = script(Variant::Delta, &[TTL]);
    let sent = script.batch().unwrap();
    script.ask_full(ENDPOINT, &[], &[], &[], &sent.nonce, None);
    for _ in 0..3 {
        script.now = script.session.deadline(script.now).unwrap();
        let beat = script.batch().unwrap();
        assert_eq!((beat.items.len(), beat.items[0].is_heartbeat), (1, true));
        assert_eq!(beat.version, sent.version);
        script.ask_full(ENDPOINT, &[], &[], &[], &beat.nonce, None);
        assert!(script.batch().is_none());
    }
}

#[test]
fn s82_an_update_within_the_interval_spares_the_heartbeat() {
    let mut script = script(Variant::Delta, &[TTL]);
    script.acked(&[]);
    let first = script.session.deadline(script.now).unwrap();
    script.wait(Duration::from_secs(3));
    let update = resource(ENDPOINT, "a", "2").with_ttl(Duration::from_secs(10));
    script.change(vec![update], &[]);
    script.acked(&[]);
    assert_eq!(
        script.session.deadline(script.now),
        Some(first + Duration::from_secs(3))
    );
}

#[test]
fn s80_a_delivery_without_ttl_ends_the_heartbeats() {
    let mut script = script(Variant::Delta, &[TTL]);
    script.acked(&[]);
    script.put(ENDPOINT, "a", "1");
    let batch = script.batch().unwrap();
    assert!(!batch.items[0].has_ttl);
    script.ask_full(ENDPOINT, &[], &[], &[], &batch.nonce, None);
    script.assert_silent();
}

#[test]
fn s34_a_sotw_heartbeat_is_wrapped() {
    use xds_proto::pb::envoy::service::discovery::v3 as pb;
    let mut script = script(Variant::Sotw, &[TTL, "xds.config.resource-in-sotw"]);
    let response = to_sotw(script.batch().unwrap(), "weir");
    let response = pb::DiscoveryResponse::decode(response.encode_to_vec().as_slice()).unwrap();
    let types: Vec<_> = response
        .resources
        .iter()
        .map(|any| &*any.type_url)
        .collect();
    assert_eq!(types, [wire::RESOURCE_TYPE_URL, ENDPOINT]);
    let wrapped = pb::Resource::decode(response.resources[0].value.as_slice()).unwrap();
    assert_eq!(
        (
            wrapped.name.as_str(),
            wrapped.resource.unwrap().type_url.as_str()
        ),
        ("a", ENDPOINT)
    );
    assert_eq!(wrapped.ttl.unwrap().seconds, 10);
}
