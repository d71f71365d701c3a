//! Weights of localities inside a subset (`scale_locality_weight`).

use std::collections::HashMap;

use crate::config::Endpoints;
use crate::config::endpoint::Locality;
use crate::config::endpoint::LocalityEndpoints;
use crate::upstream::host::Member;
use crate::upstream::load_balancer::Ingredients;

/// Weights of localities go by the part of their members that is among these. Several entries of one
/// locality are one.
pub(super) fn scaled(of: Ingredients<'_>, members: &[Member]) -> Endpoints {
    type Key<'e> = (u32, &'e Locality);
    let count = |members: &[Member]| {
        let mut counts = HashMap::<Key<'_>, u64>::new();
        for member in members {
            if let Some(place) = of.endpoints.localities.get(member.locality) {
                *counts.entry((place.priority, &place.locality)).or_default() += 1;
            }
        }
        counts
    };
    let (all, own) = (count(of.members), count(members));
    let localities = of.endpoints.localities.iter().map(|place| {
        let key = (place.priority, &place.locality);
        let of_counts = |counts: &HashMap<Key<'_>, u64>| counts.get(&key).copied().unwrap_or(0);
        let (all, own) = (of_counts(&all), of_counts(&own));
        let scale = |weight: u32| {
            let product = u64::from(weight) * own;
            let rounded = (product + all / 2).checked_div(all).unwrap_or(0);
            u32::try_from(rounded).unwrap_or(u32::MAX)
        };
        LocalityEndpoints {
            locality: place.locality.clone(),
            priority: place.priority,
            weight: place.weight.map(scale),
            ..LocalityEndpoints::default()
        }
    });
    Endpoints {
        localities: localities.collect(),
        overprovisioning_factor: of.endpoints.overprovisioning_factor,
        weighted_priority_health: of.endpoints.weighted_priority_health,
        ..Endpoints::default()
    }
}
