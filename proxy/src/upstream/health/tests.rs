//! The thresholds and waits of one host, as Envoy has them.

use std::time::Duration;

use super::flags::HealthFlags;
use super::session::Failure;
use super::session::Outcome;
use super::session::Session;
use super::session::Transition;
use super::session::due;
use super::session::first_wait;
use super::session::wait;
use crate::config::health::EventLog;
use crate::config::health::HealthCheck;
use crate::config::health::Probe;
use crate::config::health::TcpProbe;

const NEW: HealthFlags = HealthFlags::FAILED_CHECK.with(HealthFlags::UNCHECKED);
const FAILED: HealthFlags = HealthFlags::FAILED_CHECK;
const FINE: HealthFlags = HealthFlags::NONE;
const GOOD: Outcome = Outcome::Good { is_degraded: false };
const NETWORK: Outcome = Outcome::Bad(Failure::Network);
const TIMEOUT: Outcome = Outcome::Bad(Failure::Timeout);

pub(super) fn config() -> HealthCheck {
    let seconds = Duration::from_secs;
    HealthCheck {
        timeout: seconds(1),
        interval: seconds(10),
        initial_jitter: Duration::ZERO,
        interval_jitter: Duration::ZERO,
        interval_jitter_percent: 0,
        unhealthy_threshold: 3,
        healthy_threshold: 2,
        no_traffic_interval: seconds(60),
        no_traffic_healthy_interval: seconds(61),
        unhealthy_interval: seconds(20),
        unhealthy_edge_interval: seconds(21),
        healthy_edge_interval: seconds(11),
        reuses_connection: true,
        port: None,
        transport_labels: None,
        alpn: None,
        log: EventLog::default(),
        probe: Probe::Tcp(TcpProbe::default()),
    }
}

fn answer(is_retriable: bool, excludes: bool) -> Outcome {
    Outcome::Bad(Failure::Answer {
        status: Some(503),
        is_retriable,
        excludes,
    })
}

/// A host as it is, the checks it gets, and what is said of it after each.
fn check(mut flags: HealthFlags, steps: &[(Outcome, HealthFlags, Transition)]) {
    let (mut session, config) = (Session::default(), config());
    for (at, (outcome, wanted, transition)) in steps.iter().enumerate() {
        let found = session.take(*outcome, flags, &config);
        assert_eq!(found, (*wanted, *transition), "step {at} of {steps:?}");
        flags = found.0;
    }
}

use Transition::Changed;
use Transition::Pending;
use Transition::Unchanged;

#[test]
fn a_new_host_needs_one_success() {
    check(NEW, &[(GOOD, FINE, Changed), (GOOD, FINE, Unchanged)]);
    check(
        NEW,
        &[
            (NETWORK, FAILED, Unchanged),
            (GOOD, FAILED, Pending),
            (GOOD, FINE, Changed),
        ],
    );
}

#[test]
fn a_host_counts_from_its_first_check_on() {
    let pending = NEW | HealthFlags::PENDING;
    check(pending, &[(NETWORK, FAILED, Changed)]);
    check(pending, &[(GOOD, FINE, Changed)]);
}

#[test]
fn failures_of_the_network_count_towards_a_threshold() {
    check(
        FINE,
        &[
            (NETWORK, FINE, Pending),
            (TIMEOUT, FINE, Pending),
            (GOOD, FINE, Unchanged),
            (NETWORK, FINE, Pending),
            (NETWORK, FINE, Pending),
            (TIMEOUT, FAILED | HealthFlags::TIMED_OUT, Changed),
            (NETWORK, FAILED, Unchanged),
            (TIMEOUT, FAILED | HealthFlags::TIMED_OUT, Unchanged),
        ],
    );
}

#[test]
fn an_answer_fails_at_once_unless_it_may_be_repeated() {
    check(FINE, &[(answer(false, false), FAILED, Changed)]);
    check(
        FINE,
        &[
            (answer(true, false), FINE, Pending),
            (NETWORK, FINE, Pending),
            (answer(true, false), FAILED, Changed),
        ],
    );
    check(
        FINE,
        &[(
            Outcome::Bad(Failure::Passive),
            FAILED | HealthFlags::EXCLUDED,
            Changed,
        )],
    );
}

#[test]
fn successes_must_be_in_a_row() {
    check(
        FAILED,
        &[
            (GOOD, FAILED, Pending),
            (NETWORK, FAILED, Unchanged),
            (GOOD, FAILED, Pending),
            (GOOD, FINE, Changed),
        ],
    );
}

#[test]
fn who_excludes_itself_counts_again_with_its_first_success() {
    let excluded = FAILED | HealthFlags::EXCLUDED;
    check(
        FINE,
        &[
            (answer(false, true), excluded, Changed),
            (GOOD, excluded, Pending),
            (GOOD, FINE, Changed),
        ],
    );
}

#[test]
fn degraded_is_said_by_good_answers() {
    let degraded = Outcome::Good { is_degraded: true };
    let is_degraded = HealthFlags::DEGRADED;
    check(
        FINE,
        &[
            (degraded, is_degraded, Changed),
            (degraded, is_degraded, Unchanged),
            (NETWORK, is_degraded, Pending),
            (GOOD, FINE, Changed),
        ],
    );
    check(NEW, &[(degraded, is_degraded, Changed)]);
}

#[test]
fn waits_go_by_how_the_check_went() {
    let config = config();
    let seconds = |went_well, transition, had_traffic| {
        wait(&config, (went_well, transition), had_traffic, 7).as_secs()
    };
    for (went_well, transition, quiet, busy) in [
        (true, Unchanged, 61, 10),
        (true, Changed, 61, 10),
        (true, Pending, 60, 11),
        (false, Unchanged, 60, 20),
        (false, Changed, 60, 20),
        (false, Pending, 60, 21),
    ] {
        let found = (
            seconds(went_well, transition, false),
            seconds(went_well, transition, true),
        );
        assert_eq!(found, (quiet, busy), "{went_well} {transition:?}");
    }
}

#[test]
fn jitter_makes_waits_longer_and_never_none() {
    let jittered = HealthCheck {
        initial_jitter: Duration::from_millis(100),
        interval_jitter: Duration::from_millis(1000),
        interval_jitter_percent: 10,
        ..config()
    };
    let mut longest = Duration::ZERO;
    for seed in 0..1000 {
        let random = fastrand::Rng::with_seed(seed).u64(..);
        let found = wait(&jittered, (true, Unchanged), true, random);
        assert!((10_000..12_000).contains(&found.as_millis()), "{found:?}");
        longest = longest.max(found);
        let first = first_wait(&jittered, random);
        assert!((1..100).contains(&first.as_millis()), "{first:?}");
    }
    assert!(longest > Duration::from_millis(11_500), "{longest:?}");
    assert_eq!(first_wait(&config(), 9), Duration::ZERO);
}

#[test]
fn checks_of_many_hosts_are_made_together() {
    let ms = Duration::from_millis;
    // A short wait is kept as it is.
    assert_eq!(due(ms(3), ms(999)), ms(1002));
    // What is due within a round is due at its end.
    for now in [1, 5, 80] {
        assert_eq!(due(ms(now), ms(10_000)), ms(10_080), "{now}");
    }
    assert_eq!(due(ms(81), ms(10_000)), ms(10_160));
    assert_eq!(due(ms(1), ms(1_000)), ms(1_010));
    // A jitter changes the round they are in, and not where rounds begin.
    for jitter in 0..1_000 {
        let due = due(ms(7), ms(10_000 + jitter));
        assert_eq!(due.as_millis() % 80, 0, "{jitter}");
        assert!(due.saturating_sub(ms(10_007 + jitter)) < ms(80), "{jitter}");
    }
    assert_eq!(due(ms(1), Duration::MAX), Duration::MAX);
}
