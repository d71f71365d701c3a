//! What the policy promises, on short runs with one seed; the whole table is `weir-simulator`.

use std::time::Duration;

use crate::cell::Cell;
use crate::policy::Kind;
use crate::scenario::{SCENARIOS, Scenario};
use crate::verdict::verdicts;
use crate::world::{Outcome, World};

/// Scenarios whose promises do not hang on the seed, and in which nothing changes.
const KEPT: [&str; 2] = ["S1-80", "S6"];

fn scenario(name: &str) -> Scenario {
    let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
    *found.expect("it is in the table")
}

/// The first seconds of it, for what shows at once.
fn beginning(name: &str) -> Scenario {
    Scenario {
        length: Duration::from_secs(20),
        ..scenario(name)
    }
}

fn run(name: &str, kind: Kind) -> Outcome {
    World::new(scenario(name), kind, 1).run()
}

fn p99(outcome: &Outcome) -> f64 {
    outcome.latency.value_at_quantile(0.99) as f64
}

/// The first host's part of the requests of these seconds.
fn share(outcome: &Outcome, seconds: std::ops::Range<usize>) -> f64 {
    let sum = |counts: &[u64]| counts[seconds.clone()].iter().sum::<u64>() as f64;
    sum(&outcome.watched) / sum(&outcome.per_second)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for kind in [
        Kind::C3,
        Kind::EnvoyEwma,
        Kind::Linkerd,
        Kind::Orca,
        Kind::Prequal,
        Kind::Weir,
    ] {
        let [first, second] = [(); 2].map(|()| World::new(beginning("S10-few"), kind, 1).run());
        assert!(first.requests > 500, "{}: {}", kind.name(), first.requests);
        assert_eq!(first.latency, second.latency, "{}", kind.name());
        assert_eq!(first.watched, second.watched, "{}", kind.name());
    }
}

#[test]
fn promises_that_are_kept_stay_kept() {
    let kinds = [Kind::Oracle, Kind::LeastRequest, Kind::PeakEwma, Kind::Weir];
    for scenario in KEPT.map(beginning).into_iter().chain([scenario("S2")]) {
        let name = scenario.name;
        let cells = kinds.map(|kind| Cell::of(&scenario, kind, 1));
        let verdicts = verdicts(&scenario, &cells);
        assert!(verdicts.len() > 1, "{name}: {verdicts:?}");
        let mut missed = verdicts.iter().filter(|verdict| !verdict.met);
        assert!(missed.next().is_none(), "{name}: {verdicts:#?}");
    }
}

#[test]
fn a_slow_host_keeps_little_and_is_back_in_ten_seconds() {
    let weir = run("S2", Kind::Weir);
    // Slow from second 20 to second 50.
    assert!(
        (0.08..0.12).contains(&share(&weir, 10..20)),
        "{}",
        share(&weir, 10..20)
    );
    assert!(share(&weir, 25..50) < 0.02, "{}", share(&weir, 25..50));
    assert!(share(&weir, 58..60) > 0.08, "{}", share(&weir, 58..60));
    let per_second = (25..50).map(|at| share(&weir, at..at + 1));
    let most = per_second.fold(0.0, f64::max);
    assert!(most < 0.03, "it does not swing back and forth: {most}");
}

#[test]
fn a_host_that_fails_at_once_gets_next_to_nothing() {
    let failed = |kind| {
        let outcome = run("S6", kind);
        outcome.failed as f64 / outcome.requests as f64
    };
    assert!(failed(Kind::Plain) > 0.1, "the formula alone falls for it");
}

#[test]
fn long_streams_are_no_load() {
    let (weir, least) = (run("S11", Kind::Weir), run("S11", Kind::LeastRequest));
    assert!(p99(&weir) < p99(&least), "{} {}", p99(&weir), p99(&least));
}
