//! How much load each priority takes, as Envoy computes it: a priority is as healthy as its share of
//! healthy members times the overprovisioning factor; what it cannot take spills to the next, then to
//! degraded members. When too few are usable everywhere, a priority takes all its members (panic),
//! and when all priorities do, the load goes by how many they have.

use std::collections::BTreeMap;

use crate::config::Endpoints;
use crate::upstream::host::Fitness;
use crate::upstream::host::Member;

/// Factor that counts when none is given.
const OVERPROVISIONING_FACTOR: u32 = 140;

/// Who of a priority takes load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Everybody, in a panic.
    All,
    /// The degraded.
    Degraded,
    /// The healthy.
    Healthy,
}

/// A part of the load and who takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Percent of all requests, at least 1; together they are 100.
    pub(super) load: u32,
    /// Place in the list of priorities.
    pub(super) level: usize,
    /// Who takes it.
    pub(super) source: Source,
}

/// The members of one priority, as places in the member list.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) all: Vec<usize>,
    pub(super) degraded: Vec<usize>,
    pub(super) healthy: Vec<usize>,
    /// So many of all do not count.
    pub(super) excluded: usize,
    /// Of the members instead of their number, if weights count (`weighted_priority_health`).
    weights: Option<Weights>,
}

/// Sums of weights.
#[derive(Debug, Default)]
struct Weights {
    degraded: u64,
    excluded: u64,
    healthy: u64,
    all: u64,
}

impl Tally {
    /// These members.
    pub(super) fn members(&self, source: Source) -> &[usize] {
        match source {
            Source::All => &self.all,
            Source::Degraded => &self.degraded,
            Source::Healthy => &self.healthy,
        }
    }

    fn is_panicking(&self, panic_percent: u32) -> bool {
        let usable = self.healthy.len() + self.degraded.len();
        // Where nobody counts, nobody is fit.
        (usable * 100) < self.counted().max(1) * panic_percent as usize
    }

    /// How many count.
    fn counted(&self) -> usize {
        self.all.len().saturating_sub(self.excluded)
    }
}

impl Weights {
    fn counted(&self) -> u64 {
        self.all.saturating_sub(self.excluded)
    }

    fn add(&mut self, member: &Member) {
        let weight = u64::from(member.weight);
        self.all += weight;
        match member.fitness() {
            Fitness::Fit => self.healthy += weight,
            Fitness::Degraded => self.degraded += weight,
            Fitness::Unfit => {}
        }
        if member.flags.is_excluded() {
            self.excluded += weight;
        }
    }
}

/// The priorities that have members, the most preferred first. `by_weight`: a priority is as healthy
/// as its healthy members' part of the weight.
pub(super) fn tallies(members: &[Member], by_weight: bool) -> Vec<Tally> {
    let mut tallies = BTreeMap::<u32, Tally>::new();
    for (index, member) in members.iter().enumerate() {
        let tally = tallies.entry(member.priority).or_default();
        tally.all.push(index);
        match member.fitness() {
            Fitness::Fit => tally.healthy.push(index),
            Fitness::Degraded => tally.degraded.push(index),
            Fitness::Unfit => {}
        }
        tally.excluded += usize::from(member.flags.is_excluded());
        if by_weight {
            tally.weights.get_or_insert_default().add(member);
        }
    }
    tallies.into_values().collect()
}

/// Percent of its share that a member is trusted to take.
pub(super) fn factor(endpoints: &Endpoints) -> u32 {
    match endpoints.overprovisioning_factor {
        0 => OVERPROVISIONING_FACTOR,
        factor => factor,
    }
}

/// Splits the load; empty if there is no member, or nobody usable and no panic.
pub(super) fn split(tallies: &[Tally], factor: u32, panic_percent: u32) -> Vec<Share> {
    let capacities = |source| -> Vec<u32> {
        let capacity = |tally: &Tally| capacity(tally, source, factor);
        tallies.iter().map(capacity).collect()
    };
    let (healthy, degraded) = (capacities(Source::Healthy), capacities(Source::Degraded));
    let sum = healthy
        .iter()
        .chain(&degraded)
        .map(|one| u64::from(*one))
        .sum::<u64>()
        .min(100);
    let panics = |tally: &Tally| sum < 100 && tally.is_panicking(panic_percent);
    if tallies.iter().all(panics) {
        return by_size(tallies);
    }
    if sum == 0 {
        return Vec::new();
    }
    let mut left = 100;
    let mut shares = distribute(&healthy, Source::Healthy, sum, &mut left);
    shares.extend(distribute(&degraded, Source::Degraded, sum, &mut left));
    if let Some(first) = shares.first_mut() {
        first.load += left; // what rounding left over
    }
    for share in &mut shares {
        if tallies.get(share.level).is_some_and(panics) {
            share.source = Source::All;
        }
    }
    shares
}

/// Shares without load: of those that take none as long as no request avoids others, in the order of
/// [`split`]'s.
pub(super) fn spares(
    tallies: &[Tally],
    factor: u32,
    (panic_percent, shares): (u32, &[Share]),
) -> Vec<Share> {
    let sum: u64 = percents(tallies, factor)
        .into_iter()
        .flatten()
        .map(u64::from)
        .sum();
    let mut spares = Vec::new();
    for source in [Source::Healthy, Source::Degraded] {
        for (level, tally) in tallies.iter().enumerate() {
            let is_there = |share: &Share| {
                share.level == level && (share.source == source || share.source == Source::All)
            };
            if capacity(tally, source, factor) == 0 || shares.iter().chain(&spares).any(is_there) {
                continue;
            }
            let panics = sum < 100 && tally.is_panicking(panic_percent);
            spares.push(Share {
                load: 0,
                level,
                source: if panics { Source::All } else { source },
            });
        }
    }
    spares
}

/// Percent of the load that the healthy and the degraded of each priority can take.
pub(super) fn percents(tallies: &[Tally], factor: u32) -> Vec<[u32; 2]> {
    let both =
        |tally| [Source::Healthy, Source::Degraded].map(|source| capacity(tally, source, factor));
    tallies.iter().map(both).collect()
}

fn capacity(tally: &Tally, source: Source, factor: u32) -> u32 {
    let (usable, counted) = match (&tally.weights, source) {
        (None, source) => (tally.members(source).len() as u64, tally.counted() as u64),
        (Some(weights), Source::Healthy) => (weights.healthy, weights.counted()),
        (Some(weights), Source::Degraded) => (weights.degraded, weights.counted()),
        (Some(weights), Source::All) => (weights.all, weights.counted()),
    };
    let percent = u64::from(factor).saturating_mul(usable) / counted.max(1);
    u32::try_from(percent).unwrap_or(u32::MAX).min(100)
}

fn distribute(capacities: &[u32], source: Source, sum: u64, left: &mut u32) -> Vec<Share> {
    let mut shares = Vec::new();
    for (level, capacity) in capacities.iter().enumerate() {
        let load = u64::from(*capacity) * 100 / sum;
        let load = u32::try_from(load).unwrap_or(100).min(*left);
        *left -= load;
        if load > 0 {
            shares.push(Share {
                load,
                level,
                source,
            });
        }
    }
    shares
}

/// Everybody panics: every priority takes load, as many members as it has.
fn by_size(tallies: &[Tally]) -> Vec<Share> {
    let all: usize = tallies.iter().map(|tally| tally.all.len()).sum();
    let mut left = 100;
    let mut shares = Vec::new();
    for (level, tally) in tallies.iter().enumerate() {
        let load = u32::try_from(100 * tally.all.len() / all.max(1)).unwrap_or(0);
        left -= load;
        shares.push(Share {
            load,
            level,
            source: Source::All,
        });
    }
    if let Some(first) = shares.first_mut() {
        first.load += left;
    }
    shares.retain(|share| share.load > 0);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Priorities as (healthy, degraded, unhealthy).
    fn tallies(levels: &[(usize, usize, usize)]) -> Vec<Tally> {
        let tally = |(healthy, degraded, unhealthy): &(usize, usize, usize)| Tally {
            all: (0..healthy + degraded + unhealthy).collect(),
            healthy: (0..*healthy).collect(),
            degraded: (*healthy..healthy + degraded).collect(),
            excluded: 0,
            weights: None,
        };
        levels.iter().map(tally).collect()
    }

    fn check(levels: &[(usize, usize, usize)], panic: u32, expected: &[(u32, usize, Source)]) {
        let shares = split(&tallies(levels), 140, panic);
        let found: Vec<_> = shares.iter().map(|s| (s.load, s.level, s.source)).collect();
        assert_eq!(found, expected, "{levels:?}");
    }

    use Source::{All, Degraded, Healthy};

    #[test]
    fn spills_what_the_first_priority_cannot_take() {
        check(&[(10, 0, 0), (10, 0, 0)], 50, &[(100, 0, Healthy)]);
        check(
            &[(5, 0, 5), (10, 0, 0)],
            50,
            &[(70, 0, Healthy), (30, 1, Healthy)],
        );
        check(&[(0, 0, 10), (10, 0, 0)], 50, &[(100, 1, Healthy)]);
    }

    #[test]
    fn degraded_members_take_what_the_healthy_cannot() {
        check(&[(5, 5, 0)], 50, &[(70, 0, Healthy), (30, 0, Degraded)]);
        check(&[(0, 3, 0)], 50, &[(100, 0, Degraded)]);
        // Envoy's own example: 16 / 28 / 14 and 28 / 14 / 0 percent.
        let tallies = tallies(&[(10, 20, 70), (20, 10, 70), (10, 0, 90)]);
        let loads: Vec<u32> = split(&tallies, 100, 0)
            .iter()
            .map(|share| share.load)
            .collect();
        assert_eq!(loads, [16, 28, 14, 28, 14]);
    }

    #[test]
    fn too_few_usable_members_make_it_use_all() {
        check(&[(1, 0, 9)], 50, &[(100, 0, All)]);
        check(&[(6, 0, 4)], 50, &[(100, 0, Healthy)]);
        check(&[(0, 0, 3)], 50, &[(100, 0, All)]);
        // The first panics, the second does not.
        check(
            &[(1, 0, 9), (6, 0, 4)],
            50,
            &[(15, 0, All), (85, 1, Healthy)],
        );
        check(
            &[(1, 0, 9), (5, 0, 5)],
            50,
            &[(17, 0, All), (83, 1, Healthy)],
        );
        // Both do: the load goes by size.
        check(&[(1, 0, 9), (4, 0, 26)], 50, &[(25, 0, All), (75, 1, All)]);
    }

    #[test]
    fn the_threshold_can_be_another_or_none() {
        check(&[(1, 0, 9)], 10, &[(100, 0, Healthy)]);
        check(&[(1, 0, 9)], 11, &[(100, 0, All)]);
        check(&[(0, 0, 3)], 0, &[]);
        check(&[(6, 0, 4)], 100, &[(100, 0, All)]);
        check(&[(8, 0, 2)], 100, &[(100, 0, Healthy)]);
    }

    #[test]
    fn weights_count_instead_of_numbers_if_they_are_to() {
        let mut tallies = tallies(&[(1, 1, 2), (4, 0, 0)]);
        let weights = |healthy, degraded, excluded, all| Weights {
            degraded,
            excluded,
            healthy,
            all,
        };
        tallies[0].weights = Some(weights(3, 1, 0, 10));
        tallies[1].weights = Some(weights(4, 0, 0, 4));
        let loads = |tallies: &[Tally]| -> Vec<_> {
            let shares = split(tallies, 100, 0);
            shares.iter().map(|s| (s.load, s.level, s.source)).collect()
        };
        assert_eq!(loads(&tallies), [(30, 0, Healthy), (70, 1, Healthy)]);
        tallies[0].weights = Some(weights(3, 1, 6, 10));
        assert_eq!(loads(&tallies)[0], (75, 0, Healthy));
        tallies[0].weights = Some(weights(u64::MAX, 1, 0, u64::MAX));
        assert_eq!(loads(&tallies), [(1, 0, Healthy), (99, 1, Healthy)]);
        tallies[0].weights = None;
        assert_eq!(loads(&tallies)[0], (25, 0, Healthy));
    }

    #[test]
    fn who_takes_nothing_is_ready_for_those_who_avoid_others() {
        let spares = |levels: &[(usize, usize, usize)], panic| -> Vec<_> {
            let tallies = tallies(levels);
            let shares = split(&tallies, 140, panic);
            let spares = spares(&tallies, 140, (panic, &shares));
            spares.iter().map(|s| (s.load, s.level, s.source)).collect()
        };
        let full = [(10, 0, 0), (8, 2, 0), (0, 3, 0)];
        let wanted = [(0, 1, Healthy), (0, 1, Degraded), (0, 2, Degraded)];
        assert_eq!(spares(&full, 50), wanted);
        // Those in a panic take all they have.
        assert_eq!(spares(&[(1, 0, 9), (4, 0, 26)], 50), []);
        assert_eq!(spares(&[(0, 0, 3), (0, 0, 3)], 0), []);
    }

    #[test]
    fn nobody_is_nobody() {
        check(&[], 50, &[]);
    }
}
