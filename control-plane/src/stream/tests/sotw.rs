//! State of the world.

use super::*;

#[test]
fn s2_only_the_first_request_carries_the_node() {
    let mut script = Script::sotw();
    script.want(CLUSTER, &[], "");
    for type_url in [LISTENER, ROUTE] {
        let request = wire::DiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names: owned(&["a"]),
            ..Default::default()
        };
        script.session.handle_sotw(script.now, &request).unwrap();
    }
    assert_eq!(script.session.node().unwrap().id, "client");
}

#[test]
fn s4_a_node_id_is_needed_unless_switched_off() {
    for (needs_node_id, expected) in [(true, Err(Rejection::MissingNodeId)), (false, Ok(()))] {
        let policy = Policy {
            needs_node_id,
            ..Policy::default()
        };
        let mut script = Script::with(Variant::Sotw, Scope::Aggregated, policy);
        let request = wire::DiscoveryRequest {
            type_url: CLUSTER.to_owned(),
            ..Default::default()
        };
        assert_eq!(script.session.handle_sotw(script.now, &request), expected);
    }
}

#[test]
fn s5_type_url_is_needed_on_ads_and_implied_elsewhere() {
    let table = [
        (Scope::Aggregated, "", Err(Rejection::MissingType)),
        (Scope::Single(CLUSTER), "", Ok(())),
        (Scope::Single(CLUSTER), CLUSTER, Ok(())),
        (Scope::Single(CLUSTER), LISTENER, Err(Rejection::WrongType)),
    ];
    for (scope, type_url, expected) in table {
        let mut script = Script::with(Variant::Sotw, scope, Policy::default());
        let request = wire::DiscoveryRequest {
            node: Some(node()),
            type_url: type_url.to_owned(),
            ..Default::default()
        };
        assert_eq!(script.session.handle_sotw(script.now, &request), expected);
    }
}

#[test]
fn b6_types_are_independent() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "c", "1");
    script.put(ROUTE, "r", "1");
    script.want(CLUSTER, &[], "");
    script.want(ROUTE, &["r"], "");
    assert_eq!(script.nacked(&[], "no"), seen(CLUSTER, &["c"], &[]));
    assert_eq!(script.acked(&["r"]), seen(ROUTE, &["r"], &[]));
    assert_eq!(script.state(CLUSTER), SyncState::Error);
    assert_eq!(script.state(ROUTE), SyncState::Synced);
}

#[test]
fn s22_a_refusal_is_told_by_its_error_alone() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "c", "1");
    script.want(CLUSTER, &[], "");
    let batch = script.batch().unwrap();
    // Refuses while naming the current version, as a client does whose names changed.
    script.want_full(CLUSTER, &[], &batch.nonce, &batch.version, Some("no"));
    assert_eq!(script.state(CLUSTER), SyncState::Error);
    let mut script = Script::sotw();
    script.put(CLUSTER, "c", "1");
    script.want(CLUSTER, &[], "");
    let batch = script.batch().unwrap();
    script.want_full(CLUSTER, &[], &batch.nonce, "something else", None);
    assert_eq!(script.state(CLUSTER), SyncState::Synced);
}

#[test]
fn s23_never_resends_a_refused_version() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "c", "1");
    script.want(CLUSTER, &[], "");
    assert_eq!(script.nacked(&[], "no"), seen(CLUSTER, &["c"], &[]));
    script.assert_silent();
    script.put(CLUSTER, "c", "2");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["c"], &[]));
    assert_eq!(script.state(CLUSTER), SyncState::Synced);
}

#[test]
fn s23_a_complete_set_carries_the_last_good_version_of_what_was_refused() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "a", "good");
    script.want(CLUSTER, &[], "");
    script.acked(&[]);
    let good = script
        .snapshot
        .set(CLUSTER)
        .unwrap()
        .find("a")
        .unwrap()
        .version();
    script.put(CLUSTER, "a", "bad");
    script.nacked(&[], "cluster a: bad");
    script.put(CLUSTER, "b", "1");
    let batch = script.batch().unwrap();
    let sent: Vec<_> = batch.items.iter().map(|i| &**i.resource.name()).collect();
    assert_eq!(sent, ["a", "b"]);
    assert_eq!(batch.items[0].resource.version(), good);
}

#[test]
fn s23_an_unnamed_refusal_is_released_when_any_suspect_changes() {
    let mut script = Script::sotw();
    script.change(
        vec![resource(CLUSTER, "a", "1"), resource(CLUSTER, "b", "1")],
        &[],
    );
    script.want(CLUSTER, &[], "");
    script.nacked(&[], "something is wrong");
    script.put(CLUSTER, "z", "1");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["z"], &[]));
    script.put(CLUSTER, "b", "2");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["a", "b", "z"], &[]));
    assert_eq!(script.state(CLUSTER), SyncState::Synced);
}

#[test]
fn s23_changing_there_and_back_unseen_is_no_change() {
    let mut script = Script::sotw();
    script.change(
        vec![resource(CLUSTER, "a", "1"), resource(CLUSTER, "b", "1")],
        &[],
    );
    script.want(CLUSTER, &[], "");
    script.nacked(&[], "something is wrong");
    script.put(CLUSTER, "a", "2");
    script.put(CLUSTER, "a", "1");
    script.assert_silent();
}

#[test]
fn s24_a_stale_nonce_still_changes_the_subscription() {
    for type_url in [CLUSTER, ENDPOINT] {
        let mut script = Script::sotw();
        for name in ["a", "b", "c"] {
            script.put(type_url, name, "1");
        }
        script.want(type_url, &["a"], "");
        let (_, first) = script.receive();
        script.want(type_url, &["a", "b"], &first);
        let (second, nonce) = script.receive();
        assert!(second.unwrap().items.contains(&"b".to_owned()));
        // Asks while the second response is on its way.
        script.want(type_url, &["a", "c"], &first);
        script.want(type_url, &["a", "c"], &nonce);
        let (third, _) = script.receive();
        let third = third.unwrap().items;
        assert!(third.contains(&"c".to_owned()) && !third.contains(&"b".to_owned()));
    }
}

#[test]
fn s24_a_stale_nonce_acknowledges_nothing() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "a", "1");
    script.want(CLUSTER, &[], "");
    script.receive();
    script.want(CLUSTER, &[], "no such nonce");
    assert_eq!(script.state(CLUSTER), SyncState::Stale);
}

#[test]
fn s25_only_the_last_of_a_burst_is_answered() {
    let mut script = Script::sotw();
    for name in ["a", "b", "c", "d", "e"] {
        script.put(ENDPOINT, name, "1");
        script.want(ENDPOINT, &[name], "");
    }
    assert_eq!(script.acked(&["e"]), seen(ENDPOINT, &["e"], &[]));
    script.assert_silent();
}

#[test]
fn s26_unrelated_changes_are_silent() {
    let mut script = Script::sotw();
    script.put(ENDPOINT, "a", "1");
    script.want(ENDPOINT, &["a"], "");
    script.acked(&["a"]);
    script.put(ENDPOINT, "b", "1");
    script.put(CLUSTER, "b", "1");
    script.publish();
    script.assert_silent();
}

#[test]
fn s27_listeners_and_clusters_come_complete_the_others_in_part() {
    for (type_url, expected) in [
        (LISTENER, vec!["a", "b"]),
        (CLUSTER, vec!["a", "b"]),
        (ROUTE, vec!["b"]),
        (ENDPOINT, vec!["b"]),
        (SECRET, vec!["b"]),
    ] {
        let mut script = Script::sotw();
        script.change(
            vec![resource(type_url, "a", "1"), resource(type_url, "b", "1")],
            &[],
        );
        script.want(type_url, &["a", "b"], "");
        assert_eq!(script.acked(&["a", "b"]), seen(type_url, &["a", "b"], &[]));
        script.put(type_url, "b", "2");
        assert_eq!(
            script.acked(&["a", "b"]),
            seen(type_url, &expected, &[]),
            "{type_url}"
        );
    }
}

#[test]
fn s27_absence_deletes_listeners_and_says_nothing_elsewhere() {
    for (type_url, expected) in [
        (LISTENER, seen(LISTENER, &["a"], &[])),
        (ROUTE, None),
        (ENDPOINT, None),
        (SECRET, None),
    ] {
        let mut script = Script::sotw();
        script.change(
            vec![resource(type_url, "a", "1"), resource(type_url, "b", "1")],
            &[],
        );
        script.want(type_url, &["a", "b"], "");
        script.acked(&["a", "b"]);
        script.remove(type_url, "b");
        assert_eq!(script.acked(&["a", "b"]), expected, "{type_url}");
        script.assert_silent();
    }
}

#[test]
fn s28_a_name_given_up_and_asked_again_is_sent_again() {
    for (type_url, expected) in [(ENDPOINT, vec!["b"]), (CLUSTER, vec!["a", "b"])] {
        let mut script = Script::sotw();
        script.change(
            vec![resource(type_url, "a", "1"), resource(type_url, "b", "1")],
            &[],
        );
        script.want(type_url, &["a", "b"], "");
        script.acked(&["a", "b"]);
        script.want(type_url, &["a"], "");
        script.assert_silent();
        script.want(type_url, &["a", "b"], "");
        assert_eq!(script.acked(&["a", "b"]), seen(type_url, &expected, &[]));
    }
}

#[test]
fn s29_a_name_is_remembered_until_it_exists() {
    for (type_url, at_once) in [
        (ENDPOINT, None),
        // The empty complete set says at once that it does not exist.
        (CLUSTER, seen(CLUSTER, &[], &[])),
    ] {
        let mut script = Script::sotw();
        script.want(type_url, &["a"], "");
        assert_eq!(script.acked(&["a"]), at_once);
        script.put(type_url, "a", "1");
        assert_eq!(script.acked(&["a"]), seen(type_url, &["a"], &[]));
    }
}

#[test]
fn s33_a_known_version_is_not_resent_to_a_pure_wildcard() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "a", "1");
    script.want(CLUSTER, &[], "");
    let version = script.batch().unwrap().version;

    script.reconnect();
    script.want_full(CLUSTER, &[], "", &version, None);
    script.assert_silent();
    script.put(CLUSTER, "a", "2");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["a"], &[]));

    script.reconnect();
    script.want_full(CLUSTER, &[], "", &version, None);
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["a"], &[]));
}

#[test]
fn s33_a_subscription_with_names_may_have_grown_and_is_resent() {
    for (type_url, names) in [
        (CLUSTER, vec!["a"]),
        (CLUSTER, vec!["*", "a"]),
        (ENDPOINT, vec!["a"]),
    ] {
        let mut script = Script::sotw();
        script.put(type_url, "a", "1");
        script.want(type_url, &names, "");
        let version = script.batch().unwrap().version;
        script.reconnect();
        script.want_full(type_url, &names, "", &version, None);
        assert_eq!(script.acked(&names), seen(type_url, &["a"], &[]));
    }
}

/// Found by `model::sotw_converges`: the client had given the wildcard up before the answer came.
#[test]
fn s33_an_explicit_wildcard_may_be_new_and_is_resent() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "a", "1");
    script.want(CLUSTER, &["*"], "");
    let version = script.batch().unwrap().version;
    script.reconnect();
    script.want_full(CLUSTER, &["*"], "", &version, None);
    assert_eq!(script.acked(&["*"]), seen(CLUSTER, &["a"], &[]));
    script.assert_silent();
}

#[test]
fn s33_nonces_die_with_the_stream() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "a", "1");
    script.want(CLUSTER, &[], "");
    let (_, nonce) = script.receive();
    script.reconnect();
    script.want_full(CLUSTER, &[], &nonce, "", Some("no"));
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["a"], &[]));
}

#[test]
fn b40_an_explicit_wildcard_mixes_with_names() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "a", "1");
    script.want(CLUSTER, &["*", "outside"], "");
    assert_eq!(script.acked(&["*", "outside"]), seen(CLUSTER, &["a"], &[]));
    script.put(CLUSTER, "outside", "1");
    assert_eq!(
        script.acked(&["*", "outside"]),
        seen(CLUSTER, &["a", "outside"], &[])
    );
}

#[test]
fn b42_wildcard_sequence_of_the_protocol_document() {
    let mut script = Script::sotw();
    for name in ["A", "B"] {
        script.put(CLUSTER, name, "1");
    }
    script.want(CLUSTER, &[], "");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["A", "B"], &[]));
    script.want(CLUSTER, &["*", "A"], "");
    assert_eq!(script.acked(&["*", "A"]), seen(CLUSTER, &["A", "B"], &[]));
    script.want(CLUSTER, &["A"], "");
    script.put(CLUSTER, "B", "2");
    script.assert_silent();
    script.want(CLUSTER, &[], "");
    script.put(CLUSTER, "A", "2");
    script.assert_silent();
}

#[test]
fn s43_an_empty_first_request_means_all_only_where_the_type_says_so() {
    let custom = "type.googleapis.com/own.Type";
    for (type_url, is_wildcard) in [
        (LISTENER, true),
        (CLUSTER, true),
        (custom, true),
        (ROUTE, false),
        (ENDPOINT, false),
        (SECRET, false),
        (EXTENSION, false),
        (types::VIRTUAL_HOST, false),
        (types::RUNTIME, false),
    ] {
        let mut sotw = Script::sotw();
        sotw.put(type_url, "a", "1");
        sotw.want(type_url, &[], "");
        assert_eq!(sotw.receive().0.is_some(), is_wildcard, "{type_url}");
        let mut delta = Script::delta();
        delta.put(type_url, "a", "1");
        delta.ask(type_url, &[], &[]);
        assert_eq!(delta.receive().0.is_some(), is_wildcard, "{type_url}");
    }
}

#[test]
fn nothing_is_said_before_there_is_a_snapshot() {
    let mut session = Session::new(Variant::Sotw, Scope::Aggregated, Policy::default());
    let request = wire::DiscoveryRequest {
        node: Some(node()),
        type_url: CLUSTER.to_owned(),
        ..Default::default()
    };
    session.handle_sotw(Moment::ZERO, &request).unwrap();
    assert!(session.next_batch(Moment::ZERO).is_none());
}

#[test]
fn an_empty_set_answers_a_wildcard() {
    let mut script = Script::sotw();
    script.want(CLUSTER, &[], "");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &[], &[]));
    script.assert_silent();
}

#[test]
fn one_response_of_a_type_waits_for_the_answer_to_the_one_before() {
    let mut script = Script::sotw();
    script.put(ENDPOINT, "a", "1");
    script.want(ENDPOINT, &["a"], "");
    let (_, nonce) = script.receive();
    script.put(ENDPOINT, "a", "2");
    script.put(ENDPOINT, "a", "3");
    assert_eq!(script.receive().0, None);
    script.want(ENDPOINT, &["a"], &nonce);
    assert_eq!(script.acked(&["a"]), seen(ENDPOINT, &["a"], &[]));
    script.assert_silent();
}

#[test]
fn a_client_that_never_acknowledges_still_gets_changes_after_a_while() {
    let mut script = Script::sotw();
    script.put(ENDPOINT, "a", "1");
    script.want(ENDPOINT, &["a"], "");
    script.receive();
    script.put(ENDPOINT, "a", "2");
    let deadline = script.session.deadline(script.now).unwrap();
    assert_eq!(deadline, script.now + Limits::default().ack_timeout);
    script.now = deadline;
    assert_eq!(script.receive().0, seen(ENDPOINT, &["a"], &[]));
}

#[test]
fn s23_after_a_reconnect_a_refusal_deletes_nothing() {
    let mut script = Script::sotw();
    script.change(
        vec![resource(CLUSTER, "a", "good"), resource(CLUSTER, "b", "1")],
        &[],
    );
    script.want(CLUSTER, &[], "");
    let version = script.batch().unwrap().version;
    script.put(CLUSTER, "a", "bad");
    script.reconnect();
    script.want_full(CLUSTER, &[], "", &version, None);
    script.nacked(&[], "cluster a: bad");
    // A complete set without "a" would delete the good one the client still runs.
    script.put(CLUSTER, "c", "1");
    script.assert_silent();
    script.put(CLUSTER, "a", "better");
    assert_eq!(script.acked(&[]), seen(CLUSTER, &["a", "b", "c"], &[]));
}

/// Found by `model::sotw_converges`: the first answer hid that the second is a refusal.
#[test]
fn s23_an_acknowledgment_accepts_nothing_that_was_given_up() {
    let mut script = Script::sotw();
    script.put(LISTENER, "c", "bad");
    script.want(LISTENER, &["c"], "");
    let (_, first) = script.receive();
    script.want(LISTENER, &["a", "c"], "");
    let (again, second) = script.receive();
    assert_eq!(again, seen(LISTENER, &["c"], &[]));
    // The client looks past "c" in the first response, and asks anew before it reads the second.
    script.want(LISTENER, &["a"], "");
    script.want(LISTENER, &["a"], &first);
    script.want(LISTENER, &["a", "c"], &first);
    script.want_full(LISTENER, &["a", "c"], &second, "", Some("###"));
    assert_eq!(script.acked(&["a", "c"]), seen(LISTENER, &[], &[]));
    script.assert_silent();
}
