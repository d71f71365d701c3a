//! Every configuration of `peers/` does what its rows want, with every peer that is installed.

use std::time::Duration;

use super::contestant::Contestant;
use bench::origin::{FixedOptions, FixedOrigin};

use super::match_up::MatchUp;
use super::scenario::{Kind, Scenario, Setup};
use super::scenarios::SCENARIOS;
use super::traffic::{Stage, Timing};
use super::{Effort, chosen};

fn stage(scenario: &Scenario) -> Stage<'_> {
    let core = bench::process::cores().expect("an affinity")[0];
    let timing = Timing {
        warm_up: Duration::from_millis(20),
        window: Duration::from_millis(50),
        rest: Duration::ZERO,
    };
    Stage {
        accept_disturbed: true,
        ..Stage::new(scenario, core, timing, None).expect("loopback and a directory")
    }
}

/// A row for each setup, with few clusters and routes: these tests are about the files.
fn rows() -> Vec<Scenario> {
    let mut rows: Vec<Scenario> = Vec::new();
    for scenario in SCENARIOS {
        let mut row = *scenario;
        match &mut row.kind {
            Kind::Rest(clusters) => *clusters = 3,
            Kind::Traffic(traffic) => traffic.routes = traffic.routes.min(3),
            Kind::Idle(..) | Kind::Start | Kind::EndpointChange(_) => {}
        }
        let is_new =
            |one: &Scenario| one.setup() != row.setup() || one.protocol() != row.protocol();
        if row.setup() != Setup::Endpoints && rows.iter().all(is_new) {
            rows.push(row);
        }
    }
    rows
}

async fn check(contestant: Contestant) {
    if contestant.version(None).is_none() {
        assert!(
            std::env::var_os("WEIR_REQUIRE_PEERS").is_none(),
            "{} is not installed: run bench/peers/install",
            contestant.name()
        );
        return;
    }
    // What one does not have at all is a hole in its column, not a failure.
    let has = |row: &Scenario| super::configs::template(contestant, row.setup()).is_ok();
    for row in rows().into_iter().filter(has) {
        let answered = stage(&row).start(contestant).await;
        assert!(
            answered.is_ok(),
            "{} {}: {answered:?}",
            contestant.name(),
            row.name
        );
    }
}

#[test]
fn every_setup_has_a_row() {
    for setup in Setup::ALL {
        let found = SCENARIOS.iter().any(|scenario| scenario.setup() == setup);
        assert!(found, "{setup:?}");
    }
}

#[test]
fn names_are_unique_and_goals_look_back() {
    for (at, scenario) in SCENARIOS.iter().enumerate() {
        let earlier = &SCENARIOS[..at];
        assert!(earlier.iter().all(|one| one.name != scenario.name));
        for goal in scenario.goals {
            if let super::scenario::Against::Scenario(name) = goal.against {
                assert!(earlier.iter().any(|one| one.name == name), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn envoy_answers_in_every_setup() {
    check(Contestant::Envoy).await;
}

#[tokio::test]
async fn haproxy_answers_in_every_setup() {
    check(Contestant::Haproxy).await;
}

#[tokio::test]
async fn nginx_answers_in_every_setup() {
    check(Contestant::Nginx).await;
}

/// The generator measures itself first; an origin that answers nothing in the window ends it all.
#[tokio::test]
async fn an_origin_that_is_too_slow_is_told() {
    let row = rows().into_iter().next().expect("there are rows");
    let Kind::Traffic(traffic) = row.kind else {
        unreachable!("the first row has traffic");
    };
    let origin = FixedOrigin::start(&FixedOptions::default()).expect("loopback");
    origin.pause();
    let mut stage = stage(&row);
    stage.backdrop.direct = Some(origin);
    let told = stage
        .direct(&traffic)
        .await
        .expect_err("it answers nothing");
    assert!(
        told.contains("the origin gave no answer within 50ms: it is too slow"),
        "{told}"
    );
}

#[test]
fn an_unknown_scenario_is_named() {
    let error = chosen(&["http1-small".to_owned(), "http9".to_owned()]);
    assert!(error.is_err_and(|sentence| sentence.contains("http9")));
    assert!(chosen(&[]).is_ok_and(|all| all.len() > 10));
}

#[test]
fn a_block_reads_the_same_from_both_ends() {
    let scenarios = chosen(&["http1-small".to_owned()]).expect("it exists");
    let match_up = MatchUp {
        scenario: scenarios[0],
        contestants: &Contestant::ALL,
        effort: Effort::new(false),
    };
    let order = match_up.order(3);
    let mut opposite = order.clone();
    opposite.reverse();
    assert_eq!(order, opposite);
    assert_eq!(order.len(), 2 * Contestant::ALL.len());
    assert_ne!(match_up.order(1), match_up.order(2));
    let halves = MatchUp {
        effort: Effort::new(true),
        ..match_up
    };
    opposite = halves.order(3);
    opposite.reverse();
    assert_eq!(halves.order(2), opposite);
    assert_eq!(opposite.len(), Contestant::ALL.len());
}
