//! How the localities of a priority share its load (`locality_weighted_lb_config`), as in Envoy: each
//! by its weight, less what it cannot take because too few of its members are usable.

use std::collections::BTreeMap;

use super::alias::Alias;
use super::consistent;
use super::priority::Source;
use super::priority::Tally;
use crate::config::Endpoints;
use crate::config::endpoint::Locality;
use crate::upstream::host::Member;

/// Shares are rounded to this part of the largest.
const PARTS: f64 = 1_000_000_000.0;

/// A locality of one priority.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    weight: u32,
    /// Members, usable or not.
    count: usize,
    /// Who is used, as places in the member list.
    pub(super) members: Vec<usize>,
}

/// The localities of a priority, in an order of their own: that of the configuration does not matter.
pub(super) fn groups(
    endpoints: &Endpoints,
    members: &[Member],
    tally: &Tally,
    source: Source,
) -> Vec<Group> {
    let mut groups = BTreeMap::<&Locality, Group>::new();
    let locality_of = |place: &usize| {
        let member = members.get(*place)?;
        endpoints.localities.get(member.locality)
    };
    for locality in tally.all.iter().filter_map(locality_of) {
        let group = groups.entry(&locality.locality).or_default();
        group.count += 1;
        group.weight = locality.weight.unwrap_or(group.weight);
    }
    for place in tally.members(source) {
        let group = locality_of(place).and_then(|locality| groups.get_mut(&locality.locality));
        if let Some(group) = group {
            group.members.push(*place);
        }
    }
    groups.into_values().collect()
}

/// Who of each locality is used, that of `home` first if it has members, then in an order of their own.
pub(super) fn by_zone<'e>(
    endpoints: &'e Endpoints,
    members: &[Member],
    (tally, source): (&Tally, Source),
    home: Option<&Locality>,
) -> Vec<(&'e Locality, Vec<usize>)> {
    let locality_of = |place: &usize| {
        let member = members.get(*place)?;
        let found = endpoints.localities.get(member.locality)?;
        Some(&found.locality)
    };
    let mut zones = BTreeMap::<(bool, &Locality), Vec<usize>>::new();
    let key = |locality| (Some(locality) != home, locality);
    for locality in tally.all.iter().filter_map(locality_of) {
        zones.entry(key(locality)).or_default();
    }
    for place in tally.members(source) {
        if let Some(locality) = locality_of(place) {
            zones.entry(key(locality)).or_default().push(*place);
        }
    }
    let zones = zones.into_iter();
    zones
        .map(|((_, locality), places)| (locality, places))
        .collect()
}

/// Draws one of those that have anything to take, which are kept; `None` if there is none.
pub(super) fn table(groups: &mut Vec<Group>, factor: u32) -> Option<Alias> {
    groups.retain(|group| group.weight > 0 && !group.members.is_empty());
    let capacities: Vec<f64> = groups.iter().map(|group| group.capacity(factor)).collect();
    let largest = capacities.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within 1 and PARTS"
    )]
    let part = |capacity: &f64| (capacity / largest * PARTS).max(1.0) as u32;
    Some(Alias::new(&capacities.iter().map(part).collect::<Vec<_>>()))
}

/// Members with the share of 1 that each has, for policies that hash: these know no capacity.
pub(super) fn shares(groups: &[Group], weight: impl Fn(usize) -> u32) -> Vec<(usize, f64)> {
    let weights: Vec<u32> = groups.iter().map(|group| group.weight).collect();
    let mut shares = Vec::new();
    for (group, whole) in groups.iter().zip(consistent::shares(&weights, 1.0)) {
        if group.weight == 0 {
            continue;
        }
        let members = group.members.iter().copied();
        let weights: Vec<u32> = members.clone().map(&weight).collect();
        shares.extend(members.zip(consistent::shares(&weights, whole)));
    }
    shares
}

impl Group {
    /// Its weight, less what its members cannot take.
    #[expect(clippy::cast_precision_loss, reason = "members are few")]
    fn capacity(&self, factor: u32) -> f64 {
        let usable = self.members.len() as f64 / self.count.max(1) as f64;
        f64::from(self.weight) * (f64::from(factor) / 100.0 * usable).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::load_balancer::draws::Draws;

    fn group(weight: u32, usable: usize, count: usize) -> Group {
        Group {
            weight,
            count,
            members: (0..usable).collect(),
        }
    }

    #[test]
    fn weights_are_shares_less_what_is_not_usable() {
        // 1 of 2 usable times 1.4 is 0.7 of the weight; 3 of 4 is all of it.
        let mut groups = vec![
            group(1, 1, 2),
            group(2, 3, 4),
            group(0, 9, 9),
            group(7, 0, 3),
        ];
        let table = table(&mut groups, 140).expect("two take load");
        assert_eq!(groups.len(), 2);
        let mut draws = Draws::new(1);
        let first = (0..100_000).filter(|_| table.draw(&mut draws) == 0).count();
        let share = first as f64 / 100_000.0;
        assert!((share - 0.7 / 2.7).abs() < 0.01, "{share}");
    }

    #[test]
    fn nobody_usable_is_nobody() {
        assert!(table(&mut vec![group(1, 0, 1), group(0, 1, 1)], 140).is_none());
    }

    #[test]
    fn members_share_what_their_locality_has() {
        let groups = [group(1, 2, 2), group(3, 1, 1), group(0, 5, 5)];
        assert_eq!(shares(&groups, |_| 1), [(0, 0.125), (1, 0.125), (0, 0.75)]);
        assert_eq!(shares(&[group(0, 1, 1)], |_| 1), []);
    }
}
