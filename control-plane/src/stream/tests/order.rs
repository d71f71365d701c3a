//! The order between types.

use super::*;

const BOTH: [Variant; 2] = [Variant::Sotw, Variant::Delta];

/// Asks for everything of `type_url` that `names` lists, in either variant; `None` is wildcard.
fn subscribe(script: &mut Script, type_url: &str, names: &[&str]) {
    match script.session.variant() {
        Variant::Delta => script.ask(type_url, names, &[]),
        Variant::Sotw => script.want(type_url, names, ""),
    }
}

/// Receives and acknowledges until silent; the short types in order.
fn drain(script: &mut Script, names: &[(&str, &[&str])]) -> Vec<String> {
    let mut order = Vec::new();
    loop {
        let (seen, nonce) = script.receive();
        let Some(seen) = seen else { return order };
        answer(script, &seen.type_url, &nonce, names);
        order.push(format!(
            "{}{}",
            short(&seen.type_url),
            if seen.removed.is_empty() { "" } else { "-" }
        ));
        assert!(order.len() < 50, "never comes to rest");
    }
}

fn answer(script: &mut Script, type_url: &str, nonce: &str, names: &[(&str, &[&str])]) {
    let wanted = names
        .iter()
        .find(|(t, _)| *t == type_url)
        .map_or(&[][..], |(_, n)| *n);
    match script.session.variant() {
        Variant::Delta => script.ask_full(type_url, &[], &[], &[], nonce, None),
        Variant::Sotw => script.want(type_url, wanted, nonce),
    }
}

fn short(type_url: &str) -> &'static str {
    match type_url {
        CLUSTER => "CDS",
        ENDPOINT => "EDS",
        LISTENER => "LDS",
        ROUTE => "RDS",
        SECRET => "SDS",
        _ => "?",
    }
}

const NAMES: [(&str, &[&str]); 3] = [(ENDPOINT, &["a", "b"]), (ROUTE, &["r"]), (SECRET, &["s"])];

fn full(variant: Variant) -> Script {
    let mut script = Script::new(variant);
    script.change(
        vec![
            resource(ROUTE, "r", "to a"),
            resource(LISTENER, "l", "1"),
            resource(SECRET, "s", "1"),
            resource(ENDPOINT, "a", "1"),
            eds_cluster("a", "1"),
        ],
        &[],
    );
    // In the least helpful order.
    subscribe(&mut script, ROUTE, &["r"]);
    subscribe(&mut script, LISTENER, &[]);
    subscribe(&mut script, SECRET, &["s"]);
    subscribe(&mut script, ENDPOINT, &["a", "b"]);
    subscribe(&mut script, CLUSTER, &[]);
    script
}

#[test]
fn s70_additions_go_in_dependency_order() {
    let mut sotw = full(Variant::Sotw);
    assert_eq!(
        drain(&mut sotw, &NAMES),
        ["CDS", "EDS", "SDS", "LDS", "RDS"]
    );
    let mut delta = full(Variant::Delta);
    // The absent assignment "b" is answered along with "a".
    assert_eq!(
        drain(&mut delta, &NAMES),
        ["CDS", "EDS-", "SDS", "LDS", "RDS"]
    );
}

#[test]
fn s70_a_stale_cluster_goes_last_after_the_route_is_confirmed() {
    for variant in BOTH {
        let mut script = full(variant);
        drain(&mut script, &NAMES);
        script.change(
            vec![
                eds_cluster("b", "1"),
                resource(ENDPOINT, "b", "1"),
                resource(ROUTE, "r", "to b"),
            ],
            &[(CLUSTER, "a"), (ENDPOINT, "a")],
        );
        let (added, nonce) = script.receive();
        let added = added.unwrap();
        assert_eq!((short(&added.type_url), added.removed.len()), ("CDS", 0));
        match variant {
            Variant::Sotw => assert_eq!(added.items, ["a", "b"], "the stale one stays for now"),
            Variant::Delta => assert_eq!(added.items, ["b"]),
        }
        answer(&mut script, CLUSTER, &nonce, &NAMES);
        let (endpoints, nonce) = script.receive();
        assert_eq!(endpoints, seen(ENDPOINT, &["b"], &[]));
        answer(&mut script, ENDPOINT, &nonce, &NAMES);
        let (routes, nonce) = script.receive();
        assert_eq!(routes, seen(ROUTE, &["r"], &[]));
        assert_eq!(
            script.receive().0,
            None,
            "nothing is removed before the route is confirmed"
        );
        answer(&mut script, ROUTE, &nonce, &NAMES);
        let rest = drain(&mut script, &NAMES);
        match variant {
            Variant::Sotw => assert_eq!(rest, ["CDS"]),
            Variant::Delta => assert_eq!(rest, ["CDS-", "EDS-"]),
        }
    }
}

#[test]
fn s70_a_route_that_is_never_confirmed_delays_removal_for_a_while_only() {
    for (variant, refuse) in [
        (Variant::Sotw, false),
        (Variant::Sotw, true),
        (Variant::Delta, false),
        (Variant::Delta, true),
    ] {
        let mut script = full(variant);
        drain(&mut script, &NAMES);
        let start = script.now;
        script.change(vec![resource(ROUTE, "r", "to nowhere")], &[(CLUSTER, "a")]);
        if refuse {
            script.nacked(&["r"], "no");
        } else {
            script.receive();
        }
        assert_eq!(script.receive().0, None);
        let deadline = script.session.deadline(script.now).unwrap();
        assert_eq!(deadline, start + Limits::default().removal_timeout);
        script.now = deadline;
        let (removed, _) = script.receive();
        assert_eq!(short(&removed.unwrap().type_url), "CDS");
    }
}

#[test]
fn s70_without_routes_on_the_stream_removal_waits_a_moment() {
    for variant in BOTH {
        let policy = Policy::default();
        let mut script = Script::with(variant, Scope::Single(CLUSTER), policy);
        script.put(CLUSTER, "a", "1");
        subscribe(&mut script, CLUSTER, &[]);
        drain(&mut script, &NAMES);
        script.remove(CLUSTER, "a");
        assert_eq!(script.receive().0, None);
        script.wait(Limits::default().removal_delay);
        assert_eq!(drain(&mut script, &NAMES).len(), 1);
    }
}

#[test]
fn s70_a_cluster_that_comes_back_in_time_is_never_removed() {
    for variant in BOTH {
        let mut script = full(variant);
        drain(&mut script, &NAMES);
        let policy = Policy::default();
        script.put(ROUTE, "r", "held up");
        let (_, nonce) = script.receive();
        script.remove(CLUSTER, "a");
        assert_eq!(script.receive().0, None);
        script.change(vec![eds_cluster("a", "1")], &[]);
        answer(&mut script, ROUTE, &nonce, &NAMES);
        script.wait(policy.limits.removal_timeout);
        assert_eq!(script.receive().0, None);
    }
}

#[test]
fn s70_a_route_does_not_overtake_the_cluster_it_names() {
    for variant in BOTH {
        let mut script = full(variant);
        drain(&mut script, &NAMES);
        script.change(vec![eds_cluster("a", "2")], &[]);
        let (_, nonce) = script.receive();
        script.receive(); // its endpoints, again
        // The client is still busy with the cluster when the next commit arrives.
        script.change(
            vec![eds_cluster("b", "1"), resource(ROUTE, "r", "to b")],
            &[],
        );
        assert_eq!(script.receive().0, None);
        answer(&mut script, CLUSTER, &nonce, &NAMES);
        let order = drain(&mut script, &NAMES);
        assert_eq!(order, ["CDS", "RDS"]);
    }
}

/// Found by `model::sotw_converges`: the route was held back until somebody mended the cluster.
#[test]
fn s70_a_route_does_not_wait_for_clusters_that_cannot_be_sent() {
    let mut script = Script::sotw();
    script.put(CLUSTER, "a", "bad");
    script.want(CLUSTER, &[], "");
    script.nacked(&[], "###");
    script.reconnect();
    script.want_full(CLUSTER, &[], "", "partly", None);
    script.want(ROUTE, &["r"], "");
    assert_eq!(script.nacked(&[], "###"), seen(CLUSTER, &["a"], &[]));
    script.assert_silent();
    script.put(CLUSTER, "b", "1");
    // What the client had as "a" before this stream is unknown, so no complete set can be made.
    script.put(ROUTE, "r", "1");
    assert_eq!(script.acked(&["r"]), seen(ROUTE, &["r"], &[]));
    script.assert_silent();
    // Once "a" is mended the order between the types is kept again.
    script.change(
        vec![resource(ROUTE, "r", "2"), resource(CLUSTER, "a", "1")],
        &[],
    );
    assert_eq!(drain(&mut script, &NAMES), ["CDS", "RDS"]);
    script.assert_silent();
}

#[test]
fn s71_endpoints_do_not_wait_for_the_cluster_acknowledgment() {
    for variant in BOTH {
        let mut script = Script::new(variant);
        script.change(
            vec![eds_cluster("a", "1"), resource(ENDPOINT, "a", "1")],
            &[],
        );
        subscribe(&mut script, CLUSTER, &[]);
        let (clusters, cds_nonce) = script.receive();
        assert_eq!(clusters, seen(CLUSTER, &["a"], &[]));
        subscribe(&mut script, ENDPOINT, &["a"]);
        let (endpoints, eds_nonce) = script.receive();
        assert_eq!(endpoints, seen(ENDPOINT, &["a"], &[]));
        answer(&mut script, ENDPOINT, &eds_nonce, &NAMES);
        answer(&mut script, CLUSTER, &cds_nonce, &NAMES);
        script.assert_silent();
    }
}

#[test]
fn s72_endpoints_follow_a_cluster_change_although_they_did_not_change() {
    for variant in BOTH {
        let mut script = full(variant);
        drain(&mut script, &NAMES);
        script.change(vec![eds_cluster("a", "2")], &[]);
        assert_eq!(drain(&mut script, &NAMES), ["CDS", "EDS"]);
        script.assert_silent();
    }
}

#[test]
fn s72_the_assignment_is_sent_once_when_both_change() {
    for variant in BOTH {
        let mut script = full(variant);
        drain(&mut script, &NAMES);
        script.change(
            vec![eds_cluster("a", "2"), resource(ENDPOINT, "a", "2")],
            &[],
        );
        assert_eq!(drain(&mut script, &NAMES), ["CDS", "EDS"]);
    }
}

#[test]
fn s72_a_refused_assignment_does_not_follow() {
    for variant in BOTH {
        let mut script = full(variant);
        drain(&mut script, &NAMES);
        script.put(ENDPOINT, "a", "bad");
        script.nacked(&["a", "b"], "no");
        script.change(vec![eds_cluster("a", "2")], &[]);
        assert_eq!(drain(&mut script, &NAMES), ["CDS"]);
    }
}
