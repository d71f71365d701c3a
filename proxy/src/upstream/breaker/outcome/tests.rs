//! Breakers under time that is told.

use super::*;
use crate::config::outcome_breaker::SlowRequests;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn breaker(config: OutcomeBreaker) -> Arc<Breaker> {
    Arc::new(Breaker::new(Arc::new(config)))
}

fn by_percent() -> OutcomeBreaker {
    OutcomeBreaker {
        error_percent: Some(50.0),
        requests_min: 10,
        probes: 2,
        ..OutcomeBreaker::default()
    }
}

/// A request that comes at this time.
pub(super) fn admit(breaker: &Arc<Breaker>, at: Duration) -> Result<Ticket, Cause> {
    Arc::clone(breaker).admit(breaker.born + at)
}

/// One request that takes so long; whether it passed.
fn ask(breaker: &Arc<Breaker>, at: Duration, took: Duration, failed: bool) -> Result<(), Cause> {
    admit(breaker, at).map(|ticket| ticket.end(failed, || took, at + took))
}

#[test]
fn too_few_requests_say_nothing_and_then_it_opens() {
    let breaker = breaker(by_percent());
    for at in 0..9 {
        assert_eq!(ask(&breaker, ms(at), ms(1), true), Ok(()));
    }
    assert_eq!(breaker.report(ms(9)).state, State::Closed);
    assert_eq!(
        ask(&breaker, ms(9), ms(1), false),
        Ok(()),
        "the tenth passes"
    );
    assert_eq!(
        ask(&breaker, ms(10), ms(1), false),
        Err(Cause::ErrorPercent)
    );
    let report = breaker.report(ms(10));
    assert_eq!((report.seen.requests, report.seen.failed), (10, 9));
    assert_eq!((report.opened, report.refused), (1, 1));
}

#[test]
fn a_share_below_the_limit_and_old_failures_do_not_open_it() {
    let breaker = breaker(by_percent());
    for at in 0..200 {
        let failed = at % 5 > 2;
        assert_eq!(ask(&breaker, ms(at * 10), ms(1), failed), Ok(()));
    }
    // Failures of before the window, and none since.
    for at in 0..9 {
        assert_eq!(ask(&breaker, ms(20_000 + at), ms(1), true), Ok(()));
    }
    for at in 0..9 {
        assert_eq!(ask(&breaker, ms(40_000 + at), ms(1), false), Ok(()));
    }
    assert_eq!(ask(&breaker, ms(40_010), ms(1), true), Ok(()));
    assert_eq!(breaker.report(ms(40_010)).state, State::Closed);
}

#[test]
fn slow_requests_and_counts_of_failures_open_it_too() {
    let slow = breaker(OutcomeBreaker {
        slow: Some(SlowRequests {
            slower_than: ms(100),
            percent: 30.0,
        }),
        requests_min: 10,
        ..OutcomeBreaker::default()
    });
    for at in 0..10 {
        let took = if at < 3 { ms(101) } else { ms(100) };
        assert_eq!(ask(&slow, ms(at), took, false), Ok(()));
    }
    assert_eq!(ask(&slow, ms(200), ms(1), false), Err(Cause::SlowRequests));
    let count = breaker(OutcomeBreaker {
        error_count: Some(3),
        ..OutcomeBreaker::default()
    });
    for at in 0..3 {
        assert_eq!(ask(&count, ms(at), ms(1), true), Ok(()));
    }
    assert_eq!(ask(&count, ms(9), ms(1), true), Err(Cause::ErrorCount));
}

/// One that opened at 100 ms and refuses for 5 s.
fn opened() -> Arc<Breaker> {
    let breaker = breaker(by_percent());
    for _ in 0..10 {
        assert_eq!(ask(&breaker, ms(99), ms(1), true), Ok(()));
    }
    breaker
}

#[test]
fn after_its_time_so_many_may_try_and_if_all_went_well_it_closes() {
    let breaker = opened();
    assert!(admit(&breaker, ms(5099)).is_err());
    let (one, two) = (admit(&breaker, ms(5100)), admit(&breaker, ms(5101)));
    assert!(one.is_ok() && two.is_ok());
    assert!(admit(&breaker, ms(5102)).is_err(), "one too many");
    one.expect("passed").end(false, || ms(1), ms(5200));
    assert!(matches!(
        breaker.report(ms(5200)).state,
        State::HalfOpen { good: 1, .. }
    ));
    two.expect("passed").end(false, || ms(1), ms(5300));
    let report = breaker.report(ms(5300));
    assert_eq!(
        (report.state, report.counts),
        (State::Closed, Counts::default())
    );
    assert_eq!(
        ask(&breaker, ms(5301), ms(1), true),
        Ok(()),
        "what was before is forgotten"
    );
    assert_eq!(breaker.report(ms(5302)).state, State::Closed);
}

#[test]
fn one_that_tried_and_failed_opens_it_again() {
    let breaker = opened();
    let one = admit(&breaker, ms(5100)).expect("it may try");
    let two = admit(&breaker, ms(5100)).expect("so may it");
    one.end(true, || ms(1), ms(5150));
    assert_eq!(admit(&breaker, ms(5151)).err(), Some(Cause::Probe));
    two.end(false, || ms(1), ms(5160)); // of an era that is over
    assert!(matches!(breaker.report(ms(5160)).state, State::Open { until } if until == ms(10_150)));
    assert_eq!(breaker.report(ms(5160)).opened, 2);
}

#[test]
fn who_gives_up_makes_room_and_who_says_nothing_is_replaced() {
    let breaker = opened();
    let one = admit(&breaker, ms(5100)).expect("it may try");
    let _silent = admit(&breaker, ms(5100)).expect("so may it");
    assert!(admit(&breaker, ms(5100)).is_err());
    drop(one);
    let three = admit(&breaker, ms(5200)).expect("in its place");
    assert!(admit(&breaker, ms(10_099)).is_err());
    let again = [0, 1].map(|_| admit(&breaker, ms(10_100)).expect("a new round"));
    three.end(true, || ms(1), ms(10_101)); // too late to matter
    for ticket in again {
        ticket.end(false, || ms(1), ms(10_200));
    }
    assert_eq!(breaker.report(ms(10_200)).state, State::Closed);
}

#[test]
fn what_began_before_it_opened_does_not_count_afterwards() {
    let breaker = breaker(by_percent());
    let late = admit(&breaker, ms(0)).expect("closed");
    for _ in 0..10 {
        assert_eq!(ask(&breaker, ms(99), ms(1), true), Ok(()));
    }
    let probes = [0, 1].map(|_| admit(&breaker, ms(5100)).expect("it may try"));
    for ticket in probes {
        ticket.end(false, || ms(1), ms(5101));
    }
    late.end(true, || ms(1), ms(5102));
    assert_eq!(breaker.report(ms(5102)).counts, Counts::default());
}
