//! Attempts that avoid the priorities of earlier ones (`retry_priority`), by the rules of Envoy's
//! `previous_priorities`: what the others can take is dealt out among them, and once none of them can take
//! anything all are tried again.
//!
//! Policies that hash choose by the hash alone, as Envoy's do; `PICK_FIRST` stays with its host.

use std::cell::RefCell;

use super::Level;
use super::priority::Source;
use crate::upstream::host::Member;

/// What earlier attempts of a request have tried.
#[derive(Debug)]
pub struct Tried {
    /// After so many attempts it is looked anew at which priorities they were at.
    every: u32,
    hosts: RefCell<Vec<u64>>,
    /// Priorities that are avoided.
    avoided: RefCell<Vec<u32>>,
}

impl Tried {
    /// Nothing yet. `every` is at least 1.
    pub fn new(every: u32) -> Self {
        Self {
            every: every.max(1),
            hosts: RefCell::default(),
            avoided: RefCell::default(),
        }
    }

    /// An attempt is made at this host.
    pub fn note(&self, host: u64) {
        self.hosts.borrow_mut().push(host);
    }

    /// Looks which priorities the hosts are of, if that is due. Goes through all members, for attempts that
    /// are rare.
    pub(in crate::upstream) fn look(&self, members: &[Member]) {
        let hosts = self.hosts.borrow();
        if !self.counts() || !hosts.len().is_multiple_of(self.every as usize) {
            return;
        }
        let of_tried = members
            .iter()
            .filter(|member| hosts.contains(&member.host.id));
        let mut avoided = self.avoided.borrow_mut();
        for member in of_tried {
            if !avoided.contains(&member.priority) {
                avoided.push(member.priority);
            }
        }
    }

    /// Whether there were enough attempts.
    fn counts(&self) -> bool {
        self.hosts.borrow().len() >= self.every as usize
    }

    fn avoids(&self, priority: u32) -> bool {
        self.avoided.borrow().contains(&priority)
    }

    fn forget(&self) {
        self.hosts.borrow_mut().clear();
        self.avoided.borrow_mut().clear();
    }
}

/// What each priority can take, for requests that avoid some. Exists only where there are several.
#[derive(Debug)]
pub(super) struct Detours(Vec<Capacity>);

/// Of one priority.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    /// Its number.
    pub(super) priority: u32,
    /// Percent that its healthy members can take, and then its degraded ones.
    pub(super) percent: [u32; 2],
}

/// In the order in which the load is dealt out.
const SOURCES: [Source; 2] = [Source::Healthy, Source::Degraded];

impl Detours {
    pub(super) fn new(capacities: Vec<Capacity>) -> Self {
        Self(capacities)
    }

    /// Who takes an attempt after those that were tried; none if it goes the usual way.
    pub(super) fn choose<'l>(
        &self,
        tried: &Tried,
        levels: &'l [Level],
        random: u64,
    ) -> Option<&'l Level> {
        if !tried.counts() {
            return None;
        }
        let mut total = self.total(tried);
        if total == 0 {
            tried.forget();
            total = self.total(tried);
        }
        let (place, source) = self.deal(tried, total, random % 100)?;
        let is_it = |level: &&Level| {
            level.place == place && (level.source == source || level.source == Source::All)
        };
        levels.iter().find(is_it)
    }

    /// Percent of the load that those not avoided can take, at most 100.
    fn total(&self, tried: &Tried) -> u64 {
        let sum: u64 = self.open(tried).map(|(.., percent)| percent).sum();
        sum.min(100)
    }

    /// What can be taken: first by the healthy of each priority, then by the degraded.
    fn open(&self, tried: &Tried) -> impl Iterator<Item = (usize, Source, u64)> {
        SOURCES
            .into_iter()
            .enumerate()
            .flat_map(move |(kind, source)| {
                let priorities = self.0.iter().enumerate();
                priorities
                    .filter(|(_, capacity)| !tried.avoids(capacity.priority))
                    .map(move |(place, capacity)| {
                        (place, source, u64::from(capacity.percent[kind]))
                    })
            })
    }

    /// Deals out the load, round by round as rounding leaves some over, and says who has this percent of it.
    fn deal(&self, tried: &Tried, total: u64, percent: u64) -> Option<(usize, Source)> {
        if total == 0 {
            return None;
        }
        let mut shares: Vec<(usize, Source, u64)> = self.open(tried).collect();
        let mut left = 100;
        let parts: Vec<u64> = shares.iter().map(|share| share.2 * 100 / total).collect();
        shares.iter_mut().for_each(|share| share.2 = 0);
        while left > 0 {
            for (share, part) in shares.iter_mut().zip(&parts) {
                let part = left.min(*part);
                share.2 += part;
                left -= part;
            }
        }
        let mut up_to = 0;
        let has_it = |share: &&(usize, Source, u64)| {
            up_to += share.2;
            percent < up_to
        };
        let (place, source, _) = shares.iter().find(has_it)?;
        Some((*place, *source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detours(percents: &[[u32; 2]]) -> Detours {
        let capacity = |(priority, percent): (u32, &[u32; 2])| Capacity {
            priority,
            percent: *percent,
        };
        Detours::new((0..).zip(percents).map(capacity).collect())
    }

    /// Who takes how many percent when these priorities are avoided.
    fn shares(percents: &[[u32; 2]], avoided: &[u32]) -> Vec<(usize, Source, usize)> {
        let tried = Tried::new(1);
        tried.avoided.borrow_mut().extend(avoided);
        let detours = detours(percents);
        let total = detours.total(&tried);
        let mut shares: Vec<(usize, Source, usize)> = Vec::new();
        for percent in 0..100 {
            let Some((place, source)) = detours.deal(&tried, total, percent) else {
                return shares;
            };
            match shares.last_mut() {
                Some(last) if (last.0, last.1) == (place, source) => last.2 += 1,
                _ => shares.push((place, source, 1)),
            }
        }
        shares
    }

    use Source::{Degraded, Healthy};

    #[test]
    fn the_load_is_dealt_out_among_the_others() {
        let full = [[100, 0], [100, 0], [100, 0]];
        assert_eq!(shares(&full, &[]), [(0, Healthy, 100)]);
        assert_eq!(shares(&full, &[0]), [(1, Healthy, 100)]);
        assert_eq!(shares(&full, &[1, 0]), [(2, Healthy, 100)]);
        assert_eq!(shares(&full, &[0, 1, 2]), []);
        assert_eq!(shares(&[[100, 0], [35, 0]], &[0]), [(1, Healthy, 100)]);
        // The degraded are last, whatever their priority.
        let degraded = [[100, 0], [0, 100], [100, 0]];
        assert_eq!(shares(&degraded, &[0]), [(2, Healthy, 100)]);
        assert_eq!(shares(&degraded, &[0, 2]), [(1, Degraded, 100)]);
        let part = [[100, 0], [28, 14], [14, 0]];
        assert_eq!(
            shares(&part, &[0]),
            [(1, Healthy, 50), (2, Healthy, 25), (1, Degraded, 25)]
        );
        let thirds = [[33, 0], [33, 0], [33, 0]];
        let dealt = [(0, Healthy, 34), (1, Healthy, 33), (2, Healthy, 33)];
        assert_eq!(shares(&thirds, &[]), dealt);
    }
}
