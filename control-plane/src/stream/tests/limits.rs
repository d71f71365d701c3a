//! Hostile requests.

use proptest::prelude::*;

use super::*;

fn tiny() -> Policy {
    let limits = Limits {
        names_max: 8,
        name_bytes_max: 64,
        ..Limits::default()
    };
    Policy {
        needs_node_id: false,
        limits,
    }
}

#[test]
fn names_are_bounded_in_number_and_size() {
    let many: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let long = vec!["x".repeat(40), "y".repeat(40)];
    for names in [many, long] {
        for variant in [Variant::Sotw, Variant::Delta] {
            let mut script = Script::with(variant, Scope::Aggregated, tiny());
            let result = match variant {
                Variant::Sotw => script.session.handle_sotw(
                    script.now,
                    &wire::DiscoveryRequest {
                        type_url: ENDPOINT.to_owned(),
                        resource_names: names.clone(),
                        ..Default::default()
                    },
                ),
                Variant::Delta => script.session.handle_delta(
                    script.now,
                    &wire::DeltaDiscoveryRequest {
                        type_url: ENDPOINT.to_owned(),
                        resource_names_subscribe: names.clone(),
                        ..Default::default()
                    },
                ),
            };
            assert_eq!(result, Err(Rejection::TooManyNames(TooManyNames)));
        }
    }
}

#[test]
fn giving_names_up_makes_room() {
    let mut script = Script::with(Variant::Sotw, Scope::Aggregated, tiny());
    for round in 0..100 {
        let names: Vec<String> = (0..8).map(|n| format!("{round}-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        script.want(ENDPOINT, &names, "");
    }
}

#[test]
fn types_are_bounded() {
    let mut script = Script::with(Variant::Sotw, Scope::Aggregated, tiny());
    for n in 0..TYPES_PER_STREAM_MAX {
        script.want(&format!("t{n}"), &[], "");
    }
    let request = wire::DiscoveryRequest {
        type_url: "more".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        script.session.handle_sotw(script.now, &request),
        Err(Rejection::TooManyTypes)
    );
}

#[test]
fn a_client_that_never_answers_costs_a_bounded_memory() {
    use crate::limits::IN_FLIGHT_MAX;
    let mut script = Script::delta();
    script.ask(CLUSTER, &[], &[]);
    for round in 0..100 {
        script.put(CLUSTER, "a", &round.to_string());
        script.wait(Limits::default().ack_timeout);
        assert!(script.batch().is_some());
    }
    let text = format!("{:?}", script.session);
    assert_eq!(text.matches("InFlight").count(), IN_FLIGHT_MAX);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        Just(String::new()),
        Just("a".to_owned()),
        "[a-e]{1,2}",
        "\\PC{0,12}",
    ]
}

fn type_url() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET]).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

fn nonce() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[0-9a-f]{1,2}", "\\PC{0,8}"]
}

fn error() -> impl Strategy<Value = Option<wire::Status>> {
    let message = prop_oneof!["[a-e ]{0,20}", "\\PC{0,40}"];
    prop::option::of((any::<i32>(), message))
        .prop_map(|e| e.map(|(code, message)| wire::Status { code, message }))
}

#[derive(Debug, Clone)]
enum Event {
    Request {
        type_url: String,
        names: Vec<String>,
        other: Vec<String>,
        nonce: String,
        error: Option<wire::Status>,
    },
    Put(&'static str, String, u8),
    Remove(&'static str, String),
    Poll,
    Wait(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let kind = || prop::sample::select(vec![CLUSTER, ENDPOINT, LISTENER, ROUTE]);
    prop_oneof![
        6 => (type_url(), prop::collection::vec(name(), 0..6), prop::collection::vec(name(), 0..6), nonce(), error())
            .prop_map(|(type_url, names, other, nonce, error)| Event::Request { type_url, names, other, nonce, error }),
        2 => (kind(), "[a-e]", any::<u8>()).prop_map(|(t, n, b)| Event::Put(t, n, b)),
        1 => (kind(), "[a-e]").prop_map(|(t, n)| Event::Remove(t, n)),
        4 => Just(Event::Poll),
        1 => any::<u16>().prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever a client says, the session survives, stays within its bounds and comes to rest.
    #[test]
    fn random_requests_never_panic_and_stay_bounded(
        is_delta in any::<bool>(),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let variant = if is_delta { Variant::Delta } else { Variant::Sotw };
        let mut script = Script::with(variant, Scope::Aggregated, tiny());
        for event in events {
            match event {
                Event::Request { type_url, names, other, nonce, error } => {
                    let result = if is_delta {
                        script.session.handle_delta(script.now, &wire::DeltaDiscoveryRequest {
                            type_url,
                            initial_resource_versions: other.iter().map(|name| wire::StringEntry {
                                key: name.clone(),
                                value: nonce.clone(),
                            }).collect(),
                            resource_names_subscribe: names,
                            resource_names_unsubscribe: other,
                            response_nonce: nonce,
                            error_detail: error,
                            ..Default::default()
                        })
                    } else {
                        script.session.handle_sotw(script.now, &wire::DiscoveryRequest {
                            type_url,
                            resource_names: names,
                            response_nonce: nonce,
                            error_detail: error,
                            ..Default::default()
                        })
                    };
                    if result.is_err() && !matches!(result, Err(Rejection::MissingType)) {
                        return Ok(());
                    }
                }
                Event::Put(type_url, name, body) => script.put(type_url, &name, &body.to_string()),
                Event::Remove(type_url, name) => script.remove(type_url, &name),
                Event::Poll => drop(script.batch()),
                Event::Wait(ms) => script.wait(Duration::from_millis(ms.into())),
            }
            for report in script.session.reports() {
                prop_assert!(report.names <= 8);
            }
        }
        let mut responses = 0;
        while script.batch().is_some() {
            responses += 1;
            prop_assert!(responses < 200, "never comes to rest");
        }
    }
}
