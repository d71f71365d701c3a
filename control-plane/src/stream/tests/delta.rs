//! Delta.

use super::*;

fn version(script: &Script, type_url: &str, name: &str) -> String {
    script
        .snapshot
        .set(type_url)
        .unwrap()
        .find(name)
        .unwrap()
        .version()
        .to_string()
}

#[test]
fn b42_wildcard_sequence_of_the_protocol_document() {
    let mut script = Script::delta();
    for name in ["A", "B"] {
        script.put(CLUSTER, name, "1");
    }
    script.ask(CLUSTER, &[], &[]);
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["A", "B"], &[]));
    script.ask(CLUSTER, &["A"], &[]);
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["A"], &[]));
    script.ask(CLUSTER, &[], &["*"]);
    script.put(CLUSTER, "B", "2");
    script.assert_silent();
    script.put(CLUSTER, "A", "2");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["A"], &[]));
    script.ask(CLUSTER, &[], &["A"]);
    script.put(CLUSTER, "A", "3");
    script.assert_silent();
}

#[test]
fn s44_unsubscribing_a_name_the_wildcard_holds_is_answered() {
    for (exists, expected) in [
        (true, seen(CLUSTER, &["X"], &[])),
        (false, seen(CLUSTER, &[], &["X"])),
    ] {
        let mut script = Script::delta();
        if exists {
            script.put(CLUSTER, "X", "1");
        }
        script.ask(CLUSTER, &["*", "X"], &[]);
        script.acked(&[]);
        script.ask(CLUSTER, &[], &["X"]);
        assert_eq!(script.acked(&[]), expected);
        script.assert_silent();
    }
}

#[test]
fn b50_a_refusal_may_subscribe() {
    let mut script = Script::delta();
    script.change(
        vec![resource(ENDPOINT, "a", "1"), resource(ENDPOINT, "b", "1")],
        &[],
    );
    script.ask(ENDPOINT, &["a"], &[]);
    let (_, nonce) = script.receive();
    script.ask_full(ENDPOINT, &["b"], &[], &[], &nonce, Some("no"));
    assert_eq!(script.state(ENDPOINT), SyncState::Error);
    assert_eq!(script.acked(&[]), seen(ENDPOINT, &["b"], &[]));
    script.assert_silent();
}

#[test]
fn b50_a_stale_nonce_still_changes_the_subscription() {
    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "1");
    script.ask_full(ENDPOINT, &["a"], &[], &[], "not one of ours", None);
    assert_eq!(script.acked(&[]), seen(ENDPOINT, &["a"], &[]));
    script.ask_full(ENDPOINT, &[], &["a"], &[], "not one of ours", Some("no"));
    script.put(ENDPOINT, "a", "2");
    script.assert_silent();
}

#[test]
fn s23_never_resends_a_refused_version() {
    let mut script = Script::delta();
    script.change(
        vec![resource(CLUSTER, "a", "1"), resource(CLUSTER, "b", "1")],
        &[],
    );
    script.ask(CLUSTER, &[], &[]);
    script.nacked(&[], "no");
    script.assert_silent();
    script.put(CLUSTER, "z", "1");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["z"], &[]));
    script.put(CLUSTER, "a", "2");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["a", "b"], &[]));
    assert_eq!(script.state(CLUSTER), SyncState::Synced);
}

#[test]
fn s23_a_refusal_that_names_the_culprit_parks_it_alone() {
    let mut script = Script::delta();
    script.change(
        vec![resource(CLUSTER, "a", "1"), resource(CLUSTER, "b", "1")],
        &[],
    );
    script.ask(CLUSTER, &[], &[]);
    script.nacked(&[], "Error adding/updating cluster(s) b: bad port");
    script.put(CLUSTER, "a", "2");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["a"], &[]));
    assert_eq!(script.state(CLUSTER), SyncState::Error);
    script.put(CLUSTER, "b", "2");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["b"], &[]));
    assert_eq!(script.state(CLUSTER), SyncState::Synced);
}

#[test]
fn s23_asking_again_for_what_was_refused_gets_the_last_good_version() {
    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "good");
    script.ask(ENDPOINT, &["a"], &[]);
    script.acked(&[]);
    let good = version(&script, ENDPOINT, "a");
    script.put(ENDPOINT, "a", "bad");
    script.nacked(&[], "no");
    script.ask(ENDPOINT, &["a"], &[]);
    let batch = script.batch().unwrap();
    assert_eq!(batch.items[0].resource.version().to_string(), good);

    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "bad");
    script.ask(ENDPOINT, &["a"], &[]);
    script.nacked(&[], "no");
    script.ask(ENDPOINT, &["a"], &[]);
    assert_eq!(script.acked(&[]), seen(ENDPOINT, &[], &["a"]));
    script.assert_silent();
}

#[test]
fn s51_every_subscribed_name_is_answered_even_a_known_one() {
    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "1");
    for _ in 0..2 {
        script.ask(ENDPOINT, &["a"], &[]);
        assert_eq!(script.acked(&[]), seen(ENDPOINT, &["a"], &[]));
    }
    script.assert_silent();
}

#[test]
fn s51_a_subscription_does_not_wait_for_an_acknowledgment() {
    let mut script = Script::delta();
    script.change(
        vec![resource(ENDPOINT, "a", "1"), resource(ENDPOINT, "b", "1")],
        &[],
    );
    script.ask(ENDPOINT, &["a"], &[]);
    script.receive();
    script.ask(ENDPOINT, &["b"], &[]);
    assert_eq!(script.receive().0, seen(ENDPOINT, &["b"], &[]));
}

#[test]
fn s52_an_absent_name_is_answered_at_once_and_remembered() {
    for type_url in [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EXTENSION] {
        let mut script = Script::delta();
        script.ask(type_url, &["a"], &[]);
        assert_eq!(script.acked(&[]), seen(type_url, &[], &["a"]), "{type_url}");
        script.assert_silent();
        script.put(type_url, "a", "1");
        assert_eq!(script.acked(&[]), seen(type_url, &["a"], &[]), "{type_url}");
    }
}

#[test]
fn s53_unsubscribing_is_not_answered() {
    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "1");
    script.ask(ENDPOINT, &["a"], &[]);
    script.acked(&[]);
    script.ask(ENDPOINT, &[], &["a", "never heard of"]);
    script.assert_silent();
}

#[test]
fn c57_remove_and_add_in_one_request_subscribes() {
    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "1");
    script.ask(ENDPOINT, &["a"], &[]);
    script.acked(&[]);
    script.ask(ENDPOINT, &["a"], &["a"]);
    assert_eq!(script.acked(&[]), seen(ENDPOINT, &["a"], &[]));
    script.put(ENDPOINT, "a", "2");
    assert_eq!(script.acked(&[]), seen(ENDPOINT, &["a"], &[]));
}

#[test]
fn s55_a_reconnect_gets_only_the_difference() {
    for subscribe in [vec!["same", "changed", "gone"], vec!["*"], vec![]] {
        let type_url = LISTENER;
        let mut script = Script::delta();
        script.change(
            vec![
                resource(type_url, "same", "1"),
                resource(type_url, "changed", "1"),
                resource(type_url, "gone", "1"),
            ],
            &[],
        );
        let held = ["same", "changed", "gone"].map(|n| (n, version(&script, type_url, n)));
        let held: Vec<_> = held.iter().map(|(n, v)| (*n, v.as_str())).collect();
        script.put(type_url, "changed", "2");
        script.remove(type_url, "gone");
        script.reconnect();
        script.ask_full(type_url, &subscribe, &[], &held, "", None);
        assert_eq!(script.acked(&[]), seen(type_url, &["changed"], &["gone"]));
        script.assert_silent();
    }
}

#[test]
fn s55_versions_of_another_server_mean_resend_but_removals_are_computed() {
    for foreign in ["", "2024-01-01/5"] {
        let mut script = Script::delta();
        script.put(LISTENER, "a", "1");
        script.ask_full(
            LISTENER,
            &[],
            &[],
            &[("a", foreign), ("gone", foreign)],
            "",
            None,
        );
        assert_eq!(script.acked(&[]), seen(LISTENER, &["a"], &["gone"]));
    }
}

#[test]
fn s56_a_move_between_replicas_resends_nothing() {
    let mut one = Script::delta();
    let mut two = Script::delta();
    for script in [&mut one, &mut two] {
        for n in 0..10 {
            script.put(CLUSTER, &format!("c{n}"), "1");
        }
    }
    two.epoch += 7;
    let names: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
    let held = names
        .iter()
        .map(|name| (name, version(&one, CLUSTER, name)));
    let held: Vec<_> = held.collect();
    let held: Vec<_> = held.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    two.ask_full(CLUSTER, &[], &[], &held, "", None);
    two.assert_silent();
}

#[test]
fn s56_held_versions_count_in_the_first_request_of_a_type_only() {
    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "1");
    let current = version(&script, ENDPOINT, "a");
    script.ask(ENDPOINT, &[], &[]);
    script.ask_full(ENDPOINT, &["a"], &[], &[("a", &current)], "", None);
    assert_eq!(script.acked(&[]), seen(ENDPOINT, &["a"], &[]));
}

#[test]
fn b59_system_version_is_the_servers_alone() {
    let mut script = Script::delta();
    script.put(CLUSTER, "a", "1");
    script.ask(CLUSTER, &[], &[]);
    assert!(!script.batch().unwrap().version.is_empty());
}

#[test]
fn s61_a_big_update_is_split_and_every_part_has_its_nonce() {
    let limits = Limits {
        response_bytes_max: 10_000,
        ..Limits::default()
    };
    let policy = Policy {
        limits,
        ..Policy::default()
    };
    let mut script = Script::with(Variant::Delta, Scope::Aggregated, policy);
    let body = "x".repeat(1_000);
    script.change(
        (0..50)
            .map(|n| resource(CLUSTER, &format!("{n:02}"), &body))
            .collect(),
        &[],
    );
    script.ask(CLUSTER, &[], &[]);
    let (mut names, mut nonces) = (Vec::new(), Vec::new());
    while let Some(batch) = script.batch() {
        let size: usize = batch.items.iter().map(|i| i.resource.wrapped().len()).sum();
        assert!(size <= 10_000);
        names.extend(batch.items.iter().map(|i| i.resource.name().to_string()));
        nonces.push(batch.nonce);
    }
    assert_eq!(names.len(), 50);
    assert!(nonces.len() >= 5);
    // All at once, and in any order.
    for nonce in nonces.iter().rev() {
        script.ask_full(CLUSTER, &[], &[], &[], nonce, None);
    }
    assert_eq!(script.state(CLUSTER), SyncState::Synced);
    // A change is split the same way, without waiting in between.
    let body = "y".repeat(1_000);
    script.change(
        (0..50)
            .map(|n| resource(CLUSTER, &format!("{n:02}"), &body))
            .collect(),
        &[],
    );
    let parts = std::iter::from_fn(|| script.batch()).map(|b| b.items.len());
    assert_eq!(parts.sum::<usize>(), 50);
}

#[test]
fn s61_a_resource_beyond_the_limit_travels_alone() {
    let limits = Limits {
        response_bytes_max: 100,
        ..Limits::default()
    };
    let policy = Policy {
        limits,
        ..Policy::default()
    };
    let mut script = Script::with(Variant::Delta, Scope::Aggregated, policy);
    script.put(CLUSTER, "big", &"x".repeat(1_000));
    script.ask(CLUSTER, &[], &[]);
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["big"], &[]));
}

#[test]
fn b103_a_locator_is_a_name_and_parameters_are_refused() {
    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "1");
    let mut request = wire::DeltaDiscoveryRequest {
        node: Some(node()),
        type_url: ENDPOINT.to_owned(),
        resource_locators_subscribe: vec![wire::ResourceLocator {
            name: "a".to_owned(),
            dynamic_parameters: Vec::new(),
        }],
        ..Default::default()
    };
    script.session.handle_delta(script.now, &request).unwrap();
    assert_eq!(script.acked(&[]), seen(ENDPOINT, &["a"], &[]));
    request.resource_locators_subscribe[0]
        .dynamic_parameters
        .push(bytes::Bytes::new());
    assert_eq!(
        script.session.handle_delta(script.now, &request),
        Err(Rejection::DynamicParameters)
    );
}

#[test]
fn an_extension_in_use_is_never_removed() {
    let mut script = Script::delta();
    script.put(EXTENSION, "a", "1");
    script.ask(EXTENSION, &["a"], &[]);
    script.acked(&[]);
    script.remove(EXTENSION, "a");
    script.assert_silent();
}

#[test]
fn another_group_is_just_another_set() {
    let mut script = Script::delta();
    script.change(
        vec![resource(LISTENER, "a", "1"), resource(LISTENER, "b", "1")],
        &[],
    );
    script.ask(LISTENER, &[], &[]);
    script.acked(&[]);
    let other = Snapshot::empty(Arc::from("g"), 9);
    let set = [resource(LISTENER, "a", "1"), resource(LISTENER, "c", "1")].map(Arc::new);
    let other = Arc::new(other.next(&set, 1).unwrap());
    script.session.handle_snapshot(script.now, &other);
    assert_eq!(script.acked(&[]), seen(LISTENER, &["c"], &["b"]));
}

#[test]
fn s23_a_refusal_that_comes_late_counts_for_the_repetition_on_its_way() {
    let mut script = Script::delta();
    script.put(ENDPOINT, "a", "bad");
    script.ask(ENDPOINT, &["a"], &[]);
    let (_, first) = script.receive();
    script.ask(ENDPOINT, &["a"], &[]);
    script.receive();
    script.ask(ENDPOINT, &["a"], &[]);
    script.ask_full(ENDPOINT, &[], &[], &[], &first, Some("no"));
    assert_eq!(script.receive().0, seen(ENDPOINT, &[], &["a"]));
}

#[test]
fn s23_a_cure_that_crossed_the_refusal_frees_the_others() {
    let mut script = Script::delta();
    script.change(
        vec![resource(CLUSTER, "a", "1"), resource(CLUSTER, "b", "bad")],
        &[],
    );
    script.ask(CLUSTER, &[], &[]);
    let (_, first) = script.receive();
    script.put(CLUSTER, "b", "good");
    script.ask_full(CLUSTER, &[], &[], &[], &first, Some("no"));
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["a", "b"], &[]));
}
