//! Limits, counts and those who wait; the gate itself is tested under threads where it stands.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::config::circuit_breakers::RetryBudget;
use crate::config::endpoint::Address;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::Reading;
use crate::telemetry::stats::Registry;
use crate::upstream::transport::Transport;

fn breakers(default: Thresholds) -> Arc<Breakers> {
    let config = CircuitBreakers {
        default,
        ..CircuitBreakers::default()
    };
    let stats = Registry::new(1).cluster("c");
    Arc::new(Breakers::new(config, stats, 1))
}

fn host() -> Arc<Host> {
    let address = Address::Socket(([127, 0, 0, 1], 1).into());
    let transport = Arc::<Transport>::default();
    Arc::new(Host::new(address, "".into(), transport))
}

#[test]
fn retries_are_limited_by_priority_and_given_back() {
    let breakers = breakers(Thresholds {
        retries_max: 1,
        ..Thresholds::default()
    });
    let first = breakers.try_retry(Priority::Default);
    assert!(first.is_some() && breakers.try_retry(Priority::Default).is_none());
    let high: Vec<_> = (0..4).map(|_| breakers.try_retry(Priority::High)).collect();
    assert_eq!(high.iter().flatten().count(), 3, "a limit of its own");
    drop(first);
    assert!(breakers.try_retry(Priority::Default).is_some());
}

#[test]
fn a_budget_is_a_share_of_requests_and_those_that_wait() {
    let budget = RetryBudget {
        percent: 50.0,
        retries_min: 1,
        window: None,
    };
    let breakers = breakers(Thresholds {
        retry_budget: Some(budget),
        retries_max: 0,
        ..Thresholds::default()
    });
    let count = || {
        let permits = std::iter::from_fn(|| breakers.try_retry(Priority::Default));
        let mut held = Vec::new();
        held.extend(permits.take(100)); // all at once
        held.len()
    };
    assert_eq!(count(), 1);
    let waiting: Vec<_> = (0..3)
        .map(|_| breakers.try_pend(Priority::Default))
        .collect();
    for _ in 0..3 {
        assert!(breakers.enter_request(Priority::Default));
    }
    assert_eq!((waiting.iter().flatten().count(), count()), (3, 3));
    drop(waiting);
    assert_eq!(count(), 1, "a share of three is less than two");
}

/// Retries are among the requests that they are a share of; an Envoy lets in as many.
#[test]
fn a_budget_of_a_fifth_adds_a_quarter() {
    for (percent, retries) in [(20.0, 20), (50.0, 80)] {
        let budget = RetryBudget {
            percent,
            retries_min: 0,
            window: None,
        };
        let breakers = breakers(Thresholds {
            retry_budget: Some(budget),
            ..Thresholds::default()
        });
        for _ in 0..80 {
            assert!(breakers.enter_request(Priority::Default));
        }
        let mut held = Vec::new();
        loop {
            assert!(breakers.enter_request(Priority::Default));
            // It has failed and is still there.
            let permit = breakers.try_retry(Priority::Default);
            breakers.leave_request(Priority::Default);
            let Some(permit) = permit else {
                break;
            };
            assert!(breakers.enter_request(Priority::Default));
            held.push(permit);
        }
        assert_eq!(held.len(), retries, "{percent}");
    }
}

#[test]
fn a_change_of_limits_keeps_the_counts() {
    let breakers = breakers(Thresholds::default());
    let all: Vec<_> = (0..3)
        .map(|_| breakers.try_retry(Priority::Default))
        .collect();
    assert!(all.iter().all(Option::is_some));
    let mut config = CircuitBreakers::default();
    config.default.retries_max = 4;
    breakers.configure(config);
    let fourth = breakers.try_retry(Priority::Default);
    assert!(fourth.is_some() && breakers.try_retry(Priority::Default).is_none());
}

#[test]
fn connections_are_limited_by_the_cluster_and_by_the_member() {
    let breakers = breakers(Thresholds {
        connections_max: 3,
        host_connections_max: Some(2),
        ..Thresholds::default()
    });
    let (one, two) = (host(), host());
    let connect = |host| breakers.try_connection(host, Priority::Default);
    let first = connect(&one).expect("room");
    let _second = connect(&one).expect("room");
    assert_eq!(connect(&one).err(), Some(Full::Host));
    let _third = connect(&two).expect("room");
    assert_eq!(connect(&two).err(), Some(Full::Cluster));
    drop(first);
    let standing = breakers.standing(Priority::Default, Resource::Connections);
    assert_eq!(
        (standing.inside, standing.max, standing.remaining),
        (2, 3, 1)
    );
    assert!(connect(&two).is_ok());
}

#[test]
fn gauges_have_envoys_names_and_read_the_counts() {
    let breakers = breakers(Thresholds {
        requests_max: 1,
        retry_budget: Some(RetryBudget::default()),
        tracks_remaining: true,
        ..Thresholds::default()
    });
    let read = |name: &str| {
        let mut places = breakers.fields().iter();
        let place = places.position(|field| field.name == format!("circuit_breakers.{name}"));
        breakers.read(place.expect("a name of Envoy's"))
    };
    let gauge = |value| Some(Reading::Gauge(value));
    assert_eq!(read("default.rq_open"), gauge(0));
    assert_eq!(read("default.remaining_rq"), gauge(1));
    assert!(breakers.enter_request(Priority::Default));
    assert!(!breakers.enter_request(Priority::Default));
    assert_eq!(read("default.rq_open"), gauge(1));
    assert_eq!(read("default.remaining_rq"), gauge(0));
    assert_eq!(read("default.remaining_cx"), gauge(1024));
    assert_eq!(read("default.remaining_retries"), gauge(0), "a budget");
    assert_eq!(read("high.rq_open"), gauge(0));
    assert_eq!(read("high.remaining_rq"), None, "nobody asked for it");
    assert!(breakers.read(16).is_none());
}

#[test]
fn streams_count_as_requests_and_are_not_refused() {
    let breakers = breakers(Thresholds {
        requests_max: 1,
        ..Thresholds::default()
    });
    let streams = [0, 1].map(|_| breakers.enter_stream(Priority::Default));
    assert!(!breakers.enter_request(Priority::Default));
    drop(streams);
    assert!(breakers.enter_request(Priority::Default));
}

/// What the tasks of [`waiting_crowd`] share.
struct Crowd {
    breakers: Arc<Breakers>,
    host: Arc<Host>,
    held: AtomicU32,
    most: AtomicU32,
    served: AtomicU32,
}

impl Crowd {
    /// Waits for a connection as a pool does, and holds it for a moment.
    async fn one(self: Arc<Self>) {
        let permit = loop {
            let waiters = self
                .breakers
                .waiters(Full::Cluster, (&self.host, Priority::Default));
            let _waiting = waiters.enter();
            let mut left = std::pin::pin!(waiters.left());
            left.as_mut().enable();
            match self.breakers.try_connection(&self.host, Priority::Default) {
                Ok(permit) => break permit,
                Err(_) => left.await,
            }
        };
        let held = self.held.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(held, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.held.fetch_sub(1, Ordering::SeqCst);
        drop(permit);
        self.served.fetch_add(1, Ordering::SeqCst);
    }
}

/// Tasks on several threads: the most that had a connection at once, and how many had one at all.
fn waiting_crowd(max: u32, threads: u32, each: u32) -> (u32, u32) {
    let crowd = Arc::new(Crowd {
        breakers: breakers(Thresholds {
            connections_max: max,
            ..Thresholds::default()
        }),
        host: host(),
        held: AtomicU32::new(0),
        most: AtomicU32::new(0),
        served: AtomicU32::new(0),
    });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                runtime.expect("a runtime").block_on(async {
                    let mut tasks = tokio::task::JoinSet::new();
                    for _ in 0..each {
                        tasks.spawn(Arc::clone(&crowd).one());
                    }
                    tasks.join_all().await;
                });
            });
        }
    });
    let most = crowd.most.load(Ordering::SeqCst);
    (most, crowd.served.load(Ordering::SeqCst))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nobody_who_waits_is_forgotten(max in 1_u32..5, threads in 1_u32..5, each in 1_u32..40) {
        let (most, served) = waiting_crowd(max, threads, each);
        prop_assert!(most <= max);
        prop_assert_eq!(served, threads * each);
    }
}
