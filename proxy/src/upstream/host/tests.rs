use std::collections::HashSet;

use super::*;
use crate::config::Endpoints;
use crate::config::endpoint::Endpoint;
use crate::config::endpoint::HealthStatus;
use crate::config::endpoint::LocalityEndpoints;
use crate::config::load_balancing::Hashing;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LoadBalancing;
use crate::config::load_balancing::Maglev;
use crate::config::load_balancing::PickFirst;
use crate::upstream::departure::Cause;
use crate::upstream::transport::Transports;

fn endpoints(ports: &[u16]) -> Endpoints {
    let endpoints = ports.iter().map(|port| Endpoint {
        address: Address::Socket(([127, 0, 0, 1], *port).into()),
        hostname: "".into(),
        weight: 1,
        health: HealthStatus::Unknown,
        labels: None,
        hash_key: None,
        traits: None,
        check: None,
    });
    let locality = LocalityEndpoints {
        endpoints: endpoints.collect(),
        ..Default::default()
    };
    Endpoints {
        localities: vec![locality],
        overprovisioning_factor: 140,
        ..Endpoints::default()
    }
}

#[test]
fn hosts_survive_an_update_and_the_gone_are_marked() {
    let transports = Transports::default();
    let old = HostSet::new(
        &LoadBalancing::default(),
        &endpoints(&[1, 2]),
        &transports,
        None,
    );
    let new = HostSet::new(
        &LoadBalancing::default(),
        &endpoints(&[2, 3]),
        &transports,
        Some(&old),
    );
    old.retire(Some(&new), None);
    assert!(Arc::ptr_eq(&old.members()[1].host, &new.members()[0].host));
    assert!(old.members()[0].host.is_removed());
    assert!(!old.members()[1].host.is_removed());
}

#[test]
fn who_leaves_is_told_and_who_is_only_made_anew_is_not() {
    let config = LoadBalancing::default();
    let transports = Transports::default();
    let set = |ports: &[u16], draining: &[u16], previous| {
        let mut endpoints = endpoints(ports);
        for endpoint in &mut endpoints.localities[0].endpoints {
            let is =
                |port: &u16| endpoint.address == Address::Socket(([127, 0, 0, 1], *port).into());
            if draining.iter().any(is) {
                endpoint.health = HealthStatus::Draining;
            }
        }
        HostSet::new(&config, &endpoints, &transports, previous)
    };
    let first = set(&[1, 2, 3], &[], None);
    let second = set(&[2, 3], &[3], Some(&first));
    let moves = first.retire(Some(&second), None);
    let left: Vec<_> = moves
        .left
        .iter()
        .map(|(host, cause)| (&*host.label, *cause))
        .collect();
    assert_eq!(
        left,
        [
            ("127.0.0.1:1", Cause::Removed),
            ("127.0.0.1:3", Cause::Draining)
        ]
    );
    let eras = |set: &HostSet| {
        set.members()
            .iter()
            .map(|m| m.host.era())
            .collect::<Vec<_>>()
    };
    assert_eq!((eras(&first), moves.returned.len()), (vec![1, 0, 1], 0));
    let third = set(&[2, 3], &[], Some(&second));
    let moves = second.retire(Some(&third), None);
    assert_eq!((moves.left.len(), moves.returned.len()), (0, 1));
    let anew = set(&[2], &[], None);
    let moves = third.retire(Some(&anew), None);
    assert_eq!(eras(&third), [1, 2], "neither is used again");
    assert_eq!(moves.left.len(), 1, "but only one has left");
}

#[test]
fn an_empty_set_picks_nobody() {
    assert!(
        HostSet::new(
            &LoadBalancing::default(),
            &endpoints(&[]),
            &Transports::default(),
            None
        )
        .pick(&mut 0, 0, None)
        .is_none()
    );
}

#[test]
fn one_host_is_stayed_with_in_an_order_that_changes_of_members_keep() {
    let config = |shuffles| LoadBalancing {
        policy: LbPolicy::PickFirst(PickFirst { shuffles }),
        ..LoadBalancing::default()
    };
    let transports = Transports::default();
    let pick = |set: &HostSet| set.pick(&mut 0, 9, None).map(|host| host.id);
    let plain = HostSet::new(&config(false), &endpoints(&[1, 2, 3]), &transports, None);
    assert_eq!(pick(&plain), Some(plain.members()[0].host.id));
    plain.members()[0].host.reach.fail();
    let next = HostSet::new(
        &config(false),
        &endpoints(&[3, 1, 2]),
        &transports,
        Some(&plain),
    );
    assert_eq!(pick(&plain), Some(plain.members()[1].host.id));
    assert_ne!(pick(&next), pick(&plain), "it was made before");
    let next = HostSet::new(
        &config(false),
        &endpoints(&[3, 1, 2]),
        &transports,
        Some(&plain),
    );
    assert_eq!(pick(&next), pick(&plain));
    let ports: Vec<u16> = (1..=40).collect();
    let shuffled = HostSet::new(&config(true), &endpoints(&ports), &transports, None);
    let again = HostSet::new(
        &config(true),
        &endpoints(&ports),
        &transports,
        Some(&shuffled),
    );
    assert_eq!(pick(&shuffled), pick(&again));
    let others = (0..20).map(|_| {
        let set = HostSet::new(&config(true), &endpoints(&ports), &transports, None);
        let first = pick(&set);
        set.members().iter().position(|m| Some(m.host.id) == first)
    });
    let others: HashSet<_> = others.collect();
    assert!(others.len() > 5, "{others:?}");
}

/// Those of one policy are those of another.
#[test]
fn hosts_and_what_they_answer_stay_when_the_load_is_bounded_by_it() {
    let hashing = Hashing {
        balance_factor: Some(150),
        ..Hashing::default()
    };
    let table_size = 101;
    let bounded = LoadBalancing {
        policy: LbPolicy::Maglev(Maglev {
            table_size,
            hashing,
        }),
        ..LoadBalancing::default()
    };
    let transports = Transports::default();
    let plain = LoadBalancing::default();
    let old = HostSet::new(&plain, &endpoints(&[1, 2]), &transports, None);
    let pick = |set: &HostSet| set.pick(&mut 0, 0, Some(7)).map(|host| host.id);
    let first = HostSet::new(&bounded, &endpoints(&[1, 2]), &transports, Some(&old));
    let chosen = pick(&first).expect("a host");
    for member in first.members().iter().filter(|each| each.host.id == chosen) {
        let counts = member.host.new_counts();
        (0..9).for_each(|_| counts.begin_request());
    }
    let second = HostSet::new(&bounded, &endpoints(&[1, 2]), &transports, Some(&old));
    assert!(
        [&first, &second]
            .map(pick)
            .iter()
            .all(|other| *other != Some(chosen))
    );
}
