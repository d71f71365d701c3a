//! A table after Maglev (NSDI 2016, section 3.4), the same as Envoy's: members take turns to fill it,
//! each in an order of its own, and those of little weight let turns pass.

use xxhash_rust::xxh64::xxh64;

use super::consistent::Weighted;
use super::places::Places;

/// The table.
#[derive(Debug)]
pub(super) struct Maglev(Places);

/// One who fills the table.
struct Filler {
    place: u32,
    offset: u64,
    skip: u64,
    share: f64,
    /// How far it has come in its order.
    next: u64,
    /// It has a turn when so much share has come together.
    due: f64,
}

/// Nobody is here yet.
const FREE: u32 = u32::MAX;

impl Maglev {
    /// Fills a table of `size`, a prime number.
    pub(super) fn new(size: u64, members: &[Weighted<'_>]) -> Self {
        let mut fillers = fillers(size, members);
        if fillers.is_empty() {
            return Self(Places::new(&[]));
        }
        let most = members
            .iter()
            .map(|member| member.share)
            .fold(0.0, f64::max);
        let mut table = vec![FREE; usize::try_from(size).unwrap_or(0)];
        let mut free = table.len();
        for turn in 1_u32.. {
            if free == 0 {
                break;
            }
            for filler in &mut fillers {
                if f64::from(turn) * filler.share < filler.due || free == 0 {
                    continue;
                }
                filler.due += most;
                filler.fill(&mut table);
                free -= 1;
            }
        }
        Self(Places::new(&table))
    }

    /// Who is responsible for `hash`.
    pub(super) fn pick(&self, hash: u64) -> Option<usize> {
        let at = hash.checked_rem(self.0.len() as u64)?;
        self.0.get(usize::try_from(at).ok()?)
    }
}

impl Filler {
    /// Takes the first free place in its order; there must be one.
    fn fill(&mut self, table: &mut [u32]) {
        // A prime size and a skip below it: every place comes once in so many steps.
        for _ in 0..table.len() {
            let at = (self.offset + self.skip * self.next) % table.len() as u64;
            self.next += 1;
            let found = usize::try_from(at).ok().and_then(|at| table.get_mut(at));
            if let Some(found) = found.filter(|found| **found == FREE) {
                *found = self.place;
                return;
            }
        }
    }
}

/// In the order of their keys: a table must not depend on the order of the configuration.
fn fillers(size: u64, members: &[Weighted<'_>]) -> Vec<Filler> {
    let mut sorted: Vec<(u32, &Weighted<'_>)> = (0..).zip(members).collect();
    sorted.sort_by_key(|(_, member)| member.key);
    let filler = |(place, member): (u32, &Weighted<'_>)| Filler {
        place,
        offset: xxh64(member.key.as_bytes(), 0) % size.max(1),
        skip: xxh64(member.key.as_bytes(), 1) % size.saturating_sub(1).max(1) + 1,
        share: member.share,
        next: 0,
        due: 0.0,
    };
    sorted.into_iter().map(filler).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::load_balancer::consistent::shares;

    const SIZE: u64 = 65_537;

    fn table(size: u64, members: &[(&str, u32)]) -> Maglev {
        let weights: Vec<u32> = members.iter().map(|(_, weight)| *weight).collect();
        let members: Vec<Weighted<'_>> = members
            .iter()
            .zip(shares(&weights, 1.0))
            .map(|((key, _), share)| Weighted { key, share })
            .collect();
        Maglev::new(size, &members)
    }

    fn counts(table: &Maglev, hosts: usize) -> Vec<u32> {
        let mut counts = vec![0; hosts];
        for hash in 0..table.0.len() as u64 {
            counts[table.pick(hash).unwrap()] += 1;
        }
        counts
    }

    fn keys(count: usize) -> Vec<String> {
        (1..=count)
            .map(|number| format!("10.0.0.{number}:80"))
            .collect()
    }

    #[test]
    fn weights_are_shares_of_the_table() {
        let table = table(SIZE, &[("a", 1), ("b", 2), ("c", 5)]);
        for (count, weight) in counts(&table, 3).into_iter().zip([1.0, 2.0, 5.0]) {
            let expected = SIZE as f64 * weight / 8.0;
            assert!(
                (f64::from(count) - expected).abs() < 2.0,
                "{count}, {expected}"
            );
        }
    }

    #[test]
    fn one_who_goes_takes_little_else_along() {
        let keys = keys(20);
        let members: Vec<(&str, u32)> = keys.iter().map(|key| (&**key, 1)).collect();
        let (before, after) = (table(SIZE, &members), table(SIZE, &members[..19]));
        let moved = (0..SIZE)
            .filter(|hash| before.pick(*hash) != after.pick(*hash))
            .count();
        // A twentieth goes in any case.
        let share = moved as f64 / SIZE as f64;
        assert!(share <= 1.0 / 20.0 + 0.02, "{share}");
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(table(SIZE, &[]).pick(7), None);
    }

    proptest! {
        #[test]
        fn every_place_is_taken_by_somebody(
            size in prop::sample::select(vec![2_u64, 3, 5, 7, 101, 997]),
            weights in prop::collection::vec(1_u32..1000, 1..20),
        ) {
            let keys = keys(weights.len());
            let members: Vec<(&str, u32)> =
                keys.iter().map(String::as_str).zip(weights).collect();
            let table = table(size, &members);
            prop_assert_eq!(table.0.len() as u64, size);
            let total: u32 = counts(&table, members.len()).into_iter().sum();
            prop_assert_eq!(u64::from(total), size);
        }

        #[test]
        fn the_order_of_members_makes_no_difference(hash: u64) {
            let forth = table(101, &[("a", 1), ("b", 2), ("c", 1)]);
            let back = table(101, &[("c", 1), ("b", 2), ("a", 1)]);
            prop_assert_eq!(forth.pick(hash), back.pick(hash).map(|place| 2 - place));
        }
    }
}
