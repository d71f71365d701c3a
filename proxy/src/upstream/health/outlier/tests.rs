//! Who is ejected, and for how long, as Envoy decides it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Report;
use super::Streaks;
use super::Sums;
use super::Tally;
use super::detector::Detector;
use super::detector::Then;
use super::detector::Verdict;
use super::monitor::Sum;
use crate::config::health::FailurePercentage;
use crate::config::health::OutlierDetection;
use crate::config::health::Rule;
use crate::config::health::SuccessRate;
use crate::upstream::health::timeline::Kind;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> OutlierDetection {
    let rule = |count, enforcing| Rule { count, enforcing };
    OutlierDetection {
        interval: SECOND * 10,
        base_ejection_time: SECOND * 30,
        max_ejection_time: SECOND * 60,
        max_ejection_time_jitter: Duration::ZERO,
        max_ejection_percent: 50,
        always_ejects_one: false,
        splits_local_origin: false,
        check_unejects: true,
        consecutive_5xx: rule(3, 100),
        consecutive_gateway: rule(2, 100),
        consecutive_local_origin: rule(2, 100),
        success_rate: SuccessRate {
            hosts_min: 3,
            requests_min: 10,
            stdev_factor: 1900,
            enforcing: 100,
            enforcing_local_origin: 100,
        },
        failure_percentage: FailurePercentage {
            threshold: 85,
            hosts_min: 3,
            requests_min: 10,
            enforcing: 0,
            enforcing_local_origin: 0,
        },
        detects_degraded: true,
        errors: None,
    }
}

/// The bits of the kinds that reach their count.
fn tripped(config: &OutlierDetection, reports: &[Report]) -> Vec<u8> {
    let (streaks, tally) = (Streaks::default(), Tally::default());
    let take = |report: &Report| {
        streaks.take(config, &tally, *report, None);
        streaks.take_tripped()
    };
    reports.iter().map(take).collect()
}

#[test]
fn failures_in_a_row_are_told_once() {
    use Report::Answered;
    let five = [500, 500, 500, 500].map(Answered);
    assert_eq!(tripped(&config(), &five), [0, 0, 1, 0]);
    let broken = [500, 500, 200, 500, 500].map(Answered);
    assert_eq!(tripped(&config(), &broken), [0; 5]);
    // 500 ends a row of gateway failures, and is one of 5xx like them.
    let mixed = [503, 500, 503, 504].map(Answered);
    assert_eq!(tripped(&config(), &mixed), [0, 0, 1, 2]);
}

#[test]
fn a_host_that_is_not_reached_counts_as_503_or_apart() {
    let reports = [Report::Unreached, Report::TimedOut];
    assert_eq!(tripped(&config(), &reports), [0, 2]);
    let split = OutlierDetection {
        splits_local_origin: true,
        ..config()
    };
    assert_eq!(tripped(&split, &reports), [0, 4]);
    let reached = [Report::Unreached, Report::Connected, Report::Unreached];
    assert_eq!(tripped(&split, &reached), [0; 3]);
    assert_eq!(tripped(&config(), &reached), [0, 0, 2]);
}

#[test]
fn failed_requests_are_kept_with_their_ids() {
    let (streaks, tally) = (Streaks::default(), Tally::default());
    let take = |status, id: &str| {
        streaks.take(
            &config(),
            &tally,
            Report::Answered(status),
            Some(id.as_bytes()),
        );
    };
    take(500, "a");
    take(200, "b");
    take(503, &"c".repeat(100));
    let because = || streaks.take_failed((&config(), Kind::SuccessRate), (Instant::now(), SECOND));
    let failed = because();
    let ids = failed.iter().map(|request| request.id.as_deref());
    let long = "c".repeat(64);
    assert_eq!(ids.collect::<Vec<_>>(), [Some("a"), Some(&*long)]);
    assert!(because().is_empty());
    for at in 0..100 {
        take(500, &at.to_string());
    }
    let failed = because();
    assert_eq!(failed.len(), 16);
    assert_eq!(failed[15].id.as_deref(), Some("99"));
}

#[test]
fn an_ejection_names_the_requests_that_were_its_reason_and_no_others() {
    use Report::Answered;
    use Report::Unreached;
    let check = |config: &OutlierDetection, reports: &[Report], kind, age, wanted: &[&str]| {
        let (streaks, tally) = (Streaks::default(), Tally::default());
        for (place, report) in reports.iter().enumerate() {
            let id = place.to_string();
            streaks.take(config, &tally, *report, Some(id.as_bytes()));
        }
        let failed = streaks.take_failed((config, kind), (Instant::now() + SECOND, age));
        let ids = failed.iter().filter_map(|request| request.id.as_deref());
        assert_eq!(ids.collect::<Vec<_>>(), wanted, "{reports:?} {kind:?}");
    };
    let plain = config();
    let broken = [500, 500, 200, 503, 500, 504].map(Answered);
    check(
        &plain,
        &broken,
        Kind::Consecutive5xx,
        SECOND,
        &["3", "4", "5"],
    );
    let gateway = [503, 500, 502, 504].map(Answered);
    check(
        &plain,
        &gateway,
        Kind::ConsecutiveGateway,
        SECOND,
        &["2", "3"],
    );
    let mixed = [Answered(500), Unreached, Answered(500), Unreached];
    check(
        &plain,
        &mixed,
        Kind::Consecutive5xx,
        SECOND,
        &["1", "2", "3"],
    );
    let split = OutlierDetection {
        splits_local_origin: true,
        ..config()
    };
    check(
        &split,
        &mixed,
        Kind::ConsecutiveLocalOrigin,
        SECOND,
        &["1", "3"],
    );
    check(
        &split,
        &mixed,
        Kind::FailurePercentageLocalOrigin,
        SECOND * 2,
        &["1", "3"],
    );
    check(
        &split,
        &mixed,
        Kind::FailurePercentage,
        SECOND * 2,
        &["0", "2"],
    );
    check(&plain, &mixed, Kind::SuccessRate, SECOND / 2, &[]);
}

/// A detector and what its hosts have done.
struct Ward {
    detector: Detector,
    config: OutlierDetection,
    done: HashMap<u64, Sums>,
    now: Duration,
    rng: fastrand::Rng,
}

impl Ward {
    fn new(hosts: u64, config: OutlierDetection) -> Self {
        let mut detector = Detector::new();
        detector.meet((0..hosts).map(|host| (host, Sums::default())));
        Self {
            detector,
            config,
            done: HashMap::new(),
            now: Duration::ZERO,
            rng: fastrand::Rng::with_seed(1),
        }
    }

    fn trip(&mut self, host: u64) -> Option<Then> {
        let outlier = (host, Kind::Consecutive5xx);
        let verdict = self
            .detector
            .trip(&self.config, outlier, self.now, &mut self.rng)?;
        match verdict {
            Verdict::Detected { then, .. } => Some(then),
            other => panic!("{other:?}"),
        }
    }

    fn serve(&mut self, host: u64, total: u64, good: u64) {
        let sums = self.done.entry(host).or_default();
        let Sum {
            total: before,
            good: before_good,
        } = sums.external;
        sums.external = Sum {
            total: before + total,
            good: before_good + good,
        };
    }

    /// After so many more seconds; who is found, and who returns.
    fn look(&mut self, seconds: u32) -> (Vec<(u64, Kind, Then)>, Vec<u64>) {
        self.now += SECOND * seconds;
        let of = |host| self.done.get(&host).copied().unwrap_or_default();
        let verdicts = self
            .detector
            .look(&self.config, of, self.now, &mut self.rng);
        let (mut found, mut returned) = (Vec::new(), Vec::new());
        for verdict in verdicts {
            match verdict {
                Verdict::Detected { host, kind, then } => found.push((host, kind, then)),
                Verdict::Returned { host, .. } | Verdict::Recovered { host, .. } => {
                    returned.push(host);
                }
                Verdict::Degraded { .. } => unreachable!("nobody says so"),
            }
        }
        (found, returned)
    }
}

#[test]
fn no_more_than_so_many_are_ejected() {
    let mut ward = Ward::new(4, config());
    let found = [0, 0, 1, 2].map(|host| ward.trip(host));
    let ejected = Some(Then::Ejected(1));
    assert_eq!(found, [ejected, None, ejected, Some(Then::Spared)]);
    let mut tight = Ward::new(
        4,
        OutlierDetection {
            max_ejection_percent: 10,
            ..config()
        },
    );
    assert_eq!(tight.trip(0), Some(Then::Spared));
    tight.config.always_ejects_one = true;
    assert_eq!(
        [0, 1].map(|host| tight.trip(host)),
        [ejected, Some(Then::Spared)]
    );
}

#[test]
fn a_rule_may_only_be_noted() {
    let mut ward = Ward::new(2, config());
    ward.config.consecutive_5xx.enforcing = 0;
    assert_eq!(ward.trip(0), Some(Then::Noted));
    assert_eq!(ward.detector.ejected(), 0);
}

#[test]
fn ejections_last_longer_each_time_and_are_forgiven() {
    let mut ward = Ward::new(2, config());
    assert_eq!(ward.trip(0), Some(Then::Ejected(1)));
    assert_eq!(ward.look(29).1, [0_u64; 0]);
    assert_eq!(ward.look(1).1, [0]);
    // At once again: twice as long.
    assert_eq!(ward.trip(0), Some(Then::Ejected(2)));
    assert_eq!(ward.look(59).1, [0_u64; 0]);
    assert_eq!(ward.look(1).1, [0]);
    // And not longer than the longest.
    assert_eq!(ward.trip(0), Some(Then::Ejected(3)));
    assert_eq!(ward.look(60).1, [0]);
    // Each interval without another takes one back.
    for _ in 0..3 {
        ward.look(10);
    }
    assert_eq!(ward.trip(0), Some(Then::Ejected(4)));
    assert_eq!(ward.look(30).1, [0]);
}

#[test]
fn an_ejection_is_longer_by_a_random_part_and_enforced_as_often_as_is_wanted() {
    let lasts = |seed| {
        let mut ward = Ward::new(2, config());
        ward.config.max_ejection_time_jitter = SECOND * 10;
        ward.rng = fastrand::Rng::with_seed(seed);
        ward.trip(0);
        (0..=40_u64).find(|_| !ward.look(1).1.is_empty())
    };
    let all: std::collections::BTreeSet<_> = (0..50).map(lasts).collect();
    // The first look is a second after it began.
    let is_within = |end: &Option<u64>| end.is_some_and(|end| (29..=39).contains(&end));
    assert!(all.len() > 5 && all.iter().all(is_within), "{all:?}");

    let mut ward = Ward::new(2000, config());
    ward.config.max_ejection_percent = 100;
    ward.config.consecutive_5xx.enforcing = 30;
    let then: Vec<_> = (0..2000).map(|host| ward.trip(host)).collect();
    let ejected = then.iter().filter(|then| **then == Some(Then::Ejected(1)));
    assert!((500..700).contains(&ejected.count()));
}

#[test]
fn a_check_may_end_an_ejection() {
    let mut ward = Ward::new(2, config());
    ward.trip(0);
    let after = SECOND * 5;
    let verdict = ward.detector.restore(0, after);
    assert_eq!(verdict, Some(Verdict::Returned { host: 0, after }));
    assert_eq!(ward.detector.restore(0, after), None);
    assert_eq!(ward.detector.ejected(), 0);
}

#[test]
fn who_is_worse_than_the_others_is_found() {
    let mut ward = Ward::new(5, config());
    for host in 0..5 {
        ward.serve(host, 100, if host == 4 { 50 } else { 100 });
    }
    // Mean 90, deviation 20: below 52 is an outlier.
    let found = (4, Kind::SuccessRate, Then::Ejected(1));
    assert_eq!(ward.look(10).0, [found]);
    assert_eq!(ward.detector.success_rate(0), Some(100.0));
    // Nothing new happened.
    assert_eq!(ward.look(10).0, []);
    assert_eq!(ward.detector.success_rate(0), None);
}

#[test]
fn too_few_hosts_or_requests_are_not_judged() {
    let mut few = Ward::new(2, config());
    few.serve(0, 100, 100);
    few.serve(1, 100, 0);
    assert_eq!(few.look(10).0, []);
    let mut seldom = Ward::new(5, config());
    for host in 0..5 {
        seldom.serve(host, 9, if host == 4 { 0 } else { 9 });
    }
    assert_eq!(seldom.look(10).0, []);
}

#[test]
fn who_fails_too_often_is_found_too() {
    let mut ward = Ward::new(4, config());
    ward.config.success_rate.enforcing = 0;
    ward.config.failure_percentage.enforcing = 100;
    for host in 0..4 {
        ward.serve(host, 100, if host == 0 { 15 } else { 16 });
    }
    let found = (0, Kind::FailurePercentage, Then::Ejected(1));
    assert_eq!(ward.look(10).0, [found]);
}

#[test]
fn hosts_come_and_go() {
    let mut ward = Ward::new(4, config());
    ward.trip(0);
    ward.trip(1);
    // What a host did before it was met is nobody's business.
    let before = Sums {
        external: Sum { total: 50, good: 0 },
        local: Sum::default(),
    };
    ward.detector
        .meet([(1, Sums::default()), (7, before)].into_iter());
    assert_eq!(ward.detector.ejected(), 1);
    ward.done.insert(7, before);
    assert_eq!(ward.look(10).0, []);
}

#[test]
fn who_is_degraded_is_so_for_longer_each_time_whoever_else_is() {
    let mut ward = Ward::new(2, config());
    ward.config.max_ejection_percent = 0;
    let degrade = |ward: &mut Ward, host| {
        let verdict = ward
            .detector
            .degrade(&ward.config, host, ward.now, &mut ward.rng);
        match verdict {
            Some(Verdict::Degraded { count, .. }) => Some(count),
            None => None,
            other => panic!("{other:?}"),
        }
    };
    let said = [0, 0, 1].map(|host| degrade(&mut ward, host));
    assert_eq!(said, [Some(1), None, Some(1)]);
    assert_eq!(ward.detector.ejected(), 0);
    assert_eq!(ward.look(29).1, [0_u64; 0]);
    assert_eq!(ward.look(1).1, [0, 1]);
    assert_eq!(degrade(&mut ward, 0), Some(2));
    assert_eq!(ward.look(59).1, [0_u64; 0]);
    assert_eq!(ward.look(1).1, [0]);
}
