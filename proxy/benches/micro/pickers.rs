//! A balancer of each kind, for what they cost (`pick`) and for what they allocate (`tests/picks.rs`).

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue};
use proxy::config::Endpoints;
use proxy::config::endpoint::{
    Address, Endpoint, HealthStatus, Locality, LocalityEndpoints, Traits,
};
use proxy::config::latency::{LatencyWeighted, PeakEwma, Selector};
use proxy::config::load_balancing::{
    HashFunction, Hashing, LbPolicy, LeastRequest, LoadBalancing, Maglev, NameSource, PickFirst,
    RingHash, Selection, SlowStart,
};
use proxy::config::load_report::ReportWeighted;
use proxy::config::subset::{Criteria, Fallback, Pair, Selector as SubsetSelector, Subsets};
use proxy::config::zone::Home;
use proxy::telemetry::stats::{BalancerStats, Registry};
use proxy::upstream::HostSet;
use proxy::upstream::host::Beside;
use proxy::upstream::load_balancer::{Asked, Factors, Named, Partial};
use proxy::upstream::transport::Transports;
use proxy::upstream::zone::Zone;

/// Zones that members are in, a tenth of them unfit.
const ZONES: usize = 3;

/// Headers of a request that has many.
const HEADERS: usize = 20;

/// One balancer and what requests ask of it.
pub(crate) struct Picker {
    pub(crate) name: &'static str,
    set: HostSet,
    criteria: Option<Criteria>,
    host: Option<Box<str>>,
    headers: HeaderMap,
    cursor: u64,
    /// Else proxies that are spread over zones would be gone.
    _zone: Option<Arc<Zone>>,
}

impl Picker {
    /// Whether there was a host for the next request.
    pub(crate) fn pick(&mut self, random: &mut Rng) -> bool {
        let named = self.host.as_deref();
        let asked = Asked {
            hash: Some(random.u64(..)),
            criteria: self.criteria.as_ref(),
            host: named.map(|address| Named {
                address,
                is_strict: true,
            }),
            headers: Some(&self.headers),
            ..Asked::default()
        };
        let picked = self.set.pick_for(&mut self.cursor, random.u64(..), asked);
        picked.is_some()
    }
}

/// One of each kind over so many hosts.
pub(crate) fn all(hosts: usize) -> Vec<Picker> {
    let mut all: Vec<Picker> = policies()
        .into_iter()
        .map(|(name, policy)| with(name, of(policy), hosts))
        .collect();
    all.push(told(hosts));
    all.extend(arranged(hosts));
    all.extend(asked(hosts));
    all
}

fn of(policy: LbPolicy) -> LoadBalancing {
    LoadBalancing {
        policy,
        ..LoadBalancing::default()
    }
}

fn policies() -> [(&'static str, LbPolicy); 14] {
    let least = |selection| {
        LbPolicy::LeastRequest(LeastRequest {
            selection,
            bias: 1.0,
        })
    };
    let latency = LatencyWeighted::default();
    let smooth = LatencyWeighted {
        selector: Selector::Smooth,
        ..latency
    };
    let plain = LatencyWeighted {
        guards: None,
        reads_reports: false,
        ..smooth
    };
    let hashing = |balance_factor| Hashing {
        balance_factor,
        ..Hashing::default()
    };
    let ring = |factor| {
        LbPolicy::RingHash(RingHash {
            function: HashFunction::Xx,
            size_min: 1 << 16,
            size_max: 1 << 23,
            hashing: hashing(factor),
        })
    };
    let maglev = |factor| {
        LbPolicy::Maglev(Maglev {
            table_size: 65_537,
            hashing: hashing(factor),
        })
    };
    [
        ("round_robin", LbPolicy::RoundRobin),
        ("random", LbPolicy::Random),
        ("least_request", least(Selection::Choices(2))),
        ("least_request_of_all", least(Selection::FullScan)),
        ("latency", LbPolicy::Latency(latency)),
        ("latency_smooth", LbPolicy::Latency(smooth)),
        ("latency_plain", LbPolicy::Latency(plain)),
        ("pick_first", LbPolicy::PickFirst(PickFirst::default())),
        ("peak_ewma", LbPolicy::PeakEwma(PeakEwma::default())),
        ("reported", LbPolicy::Reported(ReportWeighted::default())),
        ("ring_hash", ring(None)),
        ("ring_hash_bounded", ring(Some(110))),
        ("maglev", maglev(None)),
        ("maglev_bounded", maglev(Some(110))),
    ]
}

/// By latency, where what hosts say of themselves counts.
fn told(hosts: usize) -> Picker {
    let policy = LbPolicy::Latency(LatencyWeighted::default());
    let picker = with("latency_told", of(policy), hosts);
    picker.set.set_factors(&Factors {
        of_members: vec![1.0; hosts],
        explored: Vec::new(),
        partial: Some(Partial {
            proxies: 8.0,
            usual: 2.0,
        }),
    });
    picker
}

/// Policies over members that are arranged in some way.
fn arranged(hosts: usize) -> [Picker; 4] {
    let shadow = LoadBalancing {
        shadow: Some(Box::new(of(LbPolicy::Latency(LatencyWeighted::default())))),
        ..LoadBalancing::default()
    };
    let slow = SlowStart {
        window: Duration::from_secs(60),
        aggression: 2.0,
        weight_min: 0.1,
    };
    let slow_start = LoadBalancing {
        slow_start: Some(slow),
        ..LoadBalancing::default()
    };
    let by_locality = LoadBalancing {
        by_locality: true,
        ..LoadBalancing::default()
    };
    let zone = Arc::new(Zone::new(Home {
        locality: Some(locality(0)),
        cluster: "local".into(),
    }));
    // As many proxies in the first zone as in the others, which have two thirds of the members.
    let proxies = endpoints(4, |place| if place < 2 { 0 } else { place - 1 });
    let local = HostSet::new(
        &LoadBalancing::default(),
        &proxies,
        &Transports::default(),
        None,
    );
    zone.update(local.members(), &proxies);
    [
        with("round_robin_and_shadow", shadow, hosts),
        with("slow_start", slow_start, hosts),
        with("locality_weighted", by_locality, hosts),
        Picker {
            _zone: Some(Arc::clone(&zone)),
            ..in_zone("zone_aware", LoadBalancing::default(), hosts, Some(&zone))
        },
    ]
}

/// Members that requests ask for: a tenth of them, or one.
fn asked(hosts: usize) -> [Picker; 5] {
    let selector = SubsetSelector {
        keys: Box::new(["v".into(), "w".into()]),
        ..SubsetSelector::default()
    };
    let subsets = Subsets {
        selectors: vec![selector],
        fallback: Fallback::Any,
        ..Subsets::default()
    };
    let divided = LoadBalancing {
        subsets: Some(Arc::new(subsets)),
        ..LoadBalancing::default()
    };
    let criteria = |value: &str| {
        let pair = |name: &str| Pair::new(name.into(), value.into());
        Some(Criteria {
            pairs: Box::new([pair("v"), pair("w")]),
            fallbacks: None,
        })
    };
    let header = HeaderName::from_static("x-member");
    let overridden = LoadBalancing {
        override_sources: vec![NameSource::Header(header.clone())],
        ..LoadBalancing::default()
    };
    let last = |picker: &Picker| -> Box<str> {
        let members = picker.set.members();
        members
            .last()
            .map_or_else(|| "".into(), |last| last.host.label.clone())
    };
    let mut session = with("session", LoadBalancing::default(), hosts);
    session.host = Some(last(&session));
    let mut named = with("override_host", overridden.clone(), hosts);
    let member = HeaderValue::from_str(&last(&named)).expect("an address");
    named.headers.insert(header.clone(), member.clone());
    let mut among_many = with("override_host_among_many", overridden, hosts);
    for number in 0..HEADERS {
        let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).expect("a name");
        among_many.headers.insert(name, member.clone());
    }
    among_many.headers.insert(header, member);
    [
        Picker {
            criteria: criteria("3"),
            ..with("subset", divided.clone(), hosts)
        },
        Picker {
            criteria: criteria("none"),
            ..with("subset_fallback", divided, hosts)
        },
        session,
        named,
        among_many,
    ]
}

fn with(name: &'static str, config: LoadBalancing, hosts: usize) -> Picker {
    in_zone(name, config, hosts, None)
}

fn in_zone(
    name: &'static str,
    config: LoadBalancing,
    hosts: usize,
    zone: Option<&Arc<Zone>>,
) -> Picker {
    let registry = Registry::new(1);
    let stats = Arc::new(BalancerStats {
        subsets: Some(registry.cluster_subsets("c")),
        zones: Some(registry.cluster_zones("c")),
        ..BalancerStats::plain(registry.cluster("c"), 1)
    });
    let beside = Beside {
        zone,
        stats: Some(&stats),
        ..Beside::default()
    };
    let endpoints = endpoints(hosts, |place| place % ZONES);
    let set = HostSet::with_care(&config, &endpoints, &Transports::default(), beside);
    // So that bounds of load are reached.
    for member in set.members().iter().step_by(2) {
        let counts = member.host.new_counts();
        (0..4).for_each(|_| counts.begin_request());
    }
    Picker {
        name,
        set,
        criteria: None,
        host: None,
        headers: HeaderMap::new(),
        cursor: 0,
        _zone: None,
    }
}

fn locality(zone: usize) -> Locality {
    Locality {
        zone: zone.to_string().into(),
        ..Locality::default()
    }
}

/// So many members, each in the zone of its place.
fn endpoints(hosts: usize, zone: impl Fn(usize) -> usize) -> Endpoints {
    let mut localities: Vec<LocalityEndpoints> = (0..ZONES)
        .map(|zone| LocalityEndpoints {
            locality: locality(zone),
            weight: Some(1),
            ..LocalityEndpoints::default()
        })
        .collect();
    for place in 0..hosts {
        let port = u16::try_from(place + 1).expect("few hosts");
        let value: Box<[Box<str>]> = Box::new([(place % 10).to_string().into()]);
        let traits = Traits::from([("v".into(), value.clone()), ("w".into(), value)]);
        let health = match place % 10 {
            9 => HealthStatus::Unhealthy,
            _ => HealthStatus::Healthy,
        };
        localities[zone(place)].endpoints.push(Endpoint {
            address: Address::Socket(([127, 0, 0, 1], port).into()),
            hostname: "".into(),
            weight: 1,
            health,
            labels: None,
            hash_key: None,
            traits: Some(Arc::new(traits)),
            check: None,
        });
    }
    Endpoints {
        localities,
        overprovisioning_factor: 140,
        ..Endpoints::default()
    }
}
