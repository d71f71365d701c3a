//! What the policy promises, on short runs with one seed; the whole table is `weir-simulator`.

use crate::policy::Kind;
use crate::scenario::{SCENARIOS, Scenario};
use crate::world::{Outcome, World};

fn scenario(name: &str) -> Scenario {
    let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
    *found.expect("it is in the table")
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
    sum(&outcome.first_host) / sum(&outcome.per_second)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let [first, second] = [(); 2].map(|()| run("S1-50", Kind::Weir));
    assert_eq!(first.requests, second.requests);
    assert!(p99(&first).total_cmp(&p99(&second)).is_eq());
    assert!(
        run("S1-50", Kind::Oracle).requests > 10_000,
        "the oracle serves"
    );
}

#[test]
fn among_equal_hosts_it_stays_near_the_oracle() {
    let (weir, oracle) = (run("S1-80", Kind::Weir), run("S1-80", Kind::Oracle));
    assert!(
        p99(&weir) < 1.05 * p99(&oracle),
        "{} {}",
        p99(&weir),
        p99(&oracle)
    );
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
    let oracle = run("S2", Kind::Oracle);
    let excess = |outcome: &Outcome| p99(outcome) / p99(&oracle) - 1.0;
    let peak = run("S2", Kind::PeakEwma);
    assert!(
        excess(&weir) < excess(&peak) / 2.0,
        "{} {}",
        excess(&weir),
        excess(&peak)
    );
}

#[test]
fn a_host_that_fails_at_once_gets_next_to_nothing() {
    let failed = |kind| {
        let outcome = run("S6", kind);
        outcome.failed as f64 / outcome.requests as f64
    };
    let weir = failed(Kind::Weir);
    assert!(weir < 0.005, "{weir}");
    assert!(failed(Kind::Plain) > 0.1, "the formula alone falls for it");
}

#[test]
fn long_streams_are_no_load() {
    let (weir, least) = (run("S11", Kind::Weir), run("S11", Kind::LeastRequest));
    assert!(p99(&weir) < p99(&least), "{} {}", p99(&weir), p99(&least));
}
